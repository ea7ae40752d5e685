"""RNN, GRU and LSTM: both directions, lengths, initial states, peepholes, every activation of the standard.

Given:  x (T, N, I), w (D, G*H, I), r (D, G*H, H), b (D, 2*G*H)
Result: y (T, D, N, H), y_h (D, N, H), y_c (D, N, H)
Gates of an LSTM: i, o, f, c. Gates of a GRU: z, r, h. `clip` and `input_forget` are not evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from folding.ir.evaluate.activations import hard_sigmoid, relu, sigmoid, softplus
from folding.ir.evaluate.arithmetic import Kernel
from folding.ir.evaluate.dtypes import is_rational
from folding.ir.evaluate.view import NodeView, NotEvaluatedError
from folding.ir.types import Array

Activation = Callable[[Array], Array]
ACTIVATIONS: dict[str, Activation] = {
    "relu": relu,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "softplus": softplus,
}
_WITH_NUMBERS: dict[str, tuple[tuple[float, ...], Callable[..., Array]]] = {
    "affine": ((1.0, 0.0), lambda x, a, b: a * x + b),
    "leakyrelu": ((0.01,), lambda x, a: np.where(x >= 0, x, a * x)),
    "hardsigmoid": ((0.2, 0.5), hard_sigmoid),
}
_DEFAULT = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@dataclass(frozen=True)
class Cell:
    """One direction's weights: w (G, H, I), r (G, H, H), wb and rb (G, H), p (3, H), and its activations."""

    w: Array
    r: Array
    wb: Array
    rb: Array
    p: Array | None
    f: tuple[Activation, ...]
    linear_before_reset: bool

    def gate(self, number: int, x: Array, h: Array) -> Array:
        """Return one gate before its activation, for x (N, I) and h (N, H)."""
        w, r = self.w[number], self.r[number]
        return np.asarray(x @ w.T + h @ r.T + self.wb[number] + self.rb[number])


def rnn_step(cell: Cell, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """h' = f(W x + R h + b)."""
    return cell.f[0](cell.gate(0, x, h)), c


def gru_step(cell: Cell, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """h' = (1 - z) g(...) + z h."""
    z, reset = cell.f[0](cell.gate(0, x, h)), cell.f[0](cell.gate(1, x, h))
    own = x @ cell.w[2].T + cell.wb[2]
    if cell.linear_before_reset:
        candidate = cell.f[1](own + reset * (h @ cell.r[2].T + cell.rb[2]))
    else:
        candidate = cell.f[1](own + (reset * h) @ cell.r[2].T + cell.rb[2])
    return np.asarray((1 - z) * candidate + z * h), c


def lstm_step(cell: Cell, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """c' = f c + i g(...); h' = o k(c')."""
    i, o, f, g = (cell.gate(number, x, h) for number in range(4))
    if cell.p is not None:
        i, f = i + cell.p[0] * c, f + cell.p[2] * c
    new = cell.f[0](f) * c + cell.f[0](i) * cell.f[1](g)
    o = o if cell.p is None else o + cell.p[1] * new
    return np.asarray(cell.f[0](o) * cell.f[2](new)), np.asarray(new)


_STEPS = {"RNN": rnn_step, "GRU": gru_step, "LSTM": lstm_step}


def recurrent(view: NodeView) -> tuple[Array, ...]:
    """All outputs, those that nobody reads too."""
    if view.get("clip") or view.flag("input_forget") or view.opset < 7:
        raise NotEvaluatedError(f"{view.op_type} with clip, input_forget or of an old opset")
    batch_first = view.flag("layout")
    x = view.x.swapaxes(0, 1) if batch_first else view.x
    direction = view.get("direction", "forward")
    backwards = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    hidden = view.input(2).shape[-1]
    dtype = np.result_type(x, view.input(1))
    lengths = view.optional(4)
    ends = np.full(x.shape[1], x.shape[0]) if lengths is None else np.asarray(lengths)
    if ends.shape != (x.shape[1],) or ends.min(initial=0) < 0 or ends.max(initial=0) > x.shape[0]:
        raise NotEvaluatedError(f"{view.op_type}: lengths do not fit")
    view.allow((x.shape[0], len(backwards), x.shape[1], hidden))
    outputs, states, memories = [], [], []
    for number, backward in enumerate(backwards):
        h, c = (_initial(view, index, number, x.shape[1], hidden, dtype, batch_first) for index in (5, 6))
        y, h, c = one_direction(view, _cell(view, number, len(backwards)), x, h, c, ends, backward)
        outputs.append(y)
        states.append(h)
        memories.append(c)
    y, last, memory = np.stack(outputs, 1), np.stack(states), np.stack(memories)
    if batch_first:
        y, last, memory = y.transpose(2, 0, 1, 3), last.swapaxes(0, 1), memory.swapaxes(0, 1)
    return (y, last, memory)[: 3 if view.op_type == "LSTM" else 2]


def one_direction(
    view: NodeView, cell: Cell, x: Array, h: Array, c: Array, ends: Array, backward: bool
) -> tuple[Array, Array, Array]:
    """Return y (T, N, H) and the last states (N, H) of one direction. Behind a sequence's end y is 0."""
    step = _STEPS[view.op_type]
    y = np.zeros((x.shape[0], *h.shape), h.dtype)
    for count in range(x.shape[0]):
        live = np.flatnonzero(count < ends)
        at = ends[live] - 1 - count if backward else np.full(live.size, count)
        new_h, new_c = step(cell, x[at, live], h[live], c[live])
        h, c = h.copy(), c.copy()
        h[live], c[live] = new_h, new_c
        y[at, live] = new_h
    return y, h, c


def _initial(
    view: NodeView, index: int, number: int, batch: int, hidden: int, dtype: np.dtype[Any], batch_first: bool
) -> Array:
    given = view.optional(index) if index == 5 or view.op_type == "LSTM" else None
    if given is None:
        return np.zeros((batch, hidden), dtype)
    found = given[:, number] if batch_first else given[number]
    if found.shape != (batch, hidden):
        raise NotEvaluatedError(f"{view.op_type}: an initial state of {given.shape}")
    return found


def _cell(view: NodeView, number: int, directions: int) -> Cell:
    gates, hidden = _GATES[view.op_type], view.input(2).shape[-1]
    w, r, bias = view.input(1)[number], view.input(2)[number], view.optional(3)
    b = np.zeros(2 * gates * hidden, w.dtype) if bias is None else bias[number]
    peepholes = view.optional(7) if view.op_type == "LSTM" else None
    wb, rb = b.reshape(2, gates, hidden)
    return Cell(
        w.reshape(gates, hidden, -1),
        r.reshape(gates, hidden, hidden),
        wb,
        rb,
        None if peepholes is None else peepholes[number].reshape(3, hidden),
        _activations(view, directions)[number],
        view.flag("linear_before_reset"),
    )


def _activations(view: NodeView, directions: int) -> list[tuple[Activation, ...]]:
    """Return each direction's activations. Numbers are stated for those that take some, in order."""
    default = _DEFAULT[view.op_type]
    names = [name.lower() for name in view.get("activations") or default * directions]
    if len(names) != len(default) * directions:
        raise NotEvaluatedError(f"{view.op_type}: {len(names)} activations")
    found: list[Activation] = []
    numbers = [list(view.get("activation_alpha") or []), list(view.get("activation_beta") or [])]
    for kind, stated in enumerate(numbers):
        takers = sum(len(_WITH_NUMBERS[name][0]) > kind for name in names if name in _WITH_NUMBERS)
        if stated and len(stated) != takers:
            raise NotEvaluatedError(f"{view.op_type}: {len(stated)} numbers for {takers} activations")
    for name in names:
        if name in ACTIVATIONS:
            found.append(ACTIVATIONS[name])
        elif name in _WITH_NUMBERS:
            default_numbers, function = _WITH_NUMBERS[name]
            own = [queue.pop(0) if queue else d for d, queue in zip(default_numbers, numbers, strict=False)]
            found.append(_with_numbers(view, function, own))
        else:
            raise NotEvaluatedError(f"{view.op_type} with {name}")
    return [tuple(found[i * len(default) : (i + 1) * len(default)]) for i in range(directions)]


def _with_numbers(view: NodeView, function: Callable[..., Array], numbers: list[float]) -> Activation:
    stored = [float(np.float32(number)) for number in numbers]
    chosen = [Fraction(number) for number in stored] if is_rational(view.x) else stored
    return lambda x: function(x, *chosen)


KERNELS: dict[str, Kernel] = {"GRU": recurrent, "LSTM": recurrent, "RNN": recurrent}
