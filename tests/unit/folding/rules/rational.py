"""Prove a fold by polynomial identity testing: both graphs in rational arithmetic, equal without a tolerance.

Given:  a graph and what became of it
Result: the same graph with numbers for which the fold itself does not round (whole numbers, deviations that
        are powers of two), folded again by the same rules; both evaluated at random points, exactly

What a fold changes is polynomial in constants and inputs, so two graphs that agree at random points of a
large set are equal, but for a probability of at most degree / size of the set (Schwartz 1980, Zippel 1979).
A function that is no polynomial is replaced by one that gives each number another of its own, at random: an
identity that holds for it uses nothing of the function but its name. Piecewise linear ones stay as they are.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import onnx
from onnx import inliner, numpy_helper

from folding.ir.evaluate import Mode, NotEvaluatedError, is_float, linear, recurrent, to_rationals
from folding.ir.evaluate.graph import run_node

if TYPE_CHECKING:
    from tests.unit.folding.rules.models import Folded

# Elementwise functions of one operand that rules may move nothing past, and evaluate nothing of.
UNKNOWN = frozenset({
    "Sigmoid", "Tanh", "Exp", "Log", "Erf", "Softplus", "Softsign", "Elu", "Selu", "Celu", "Gelu", "Mish",
    "Sin", "Cos", "HardSwish", "Swish", "ThresholdedRelu",
})  # fmt: skip
RANGE = 1 << 20
POINTS = 1 << 20  # of inputs
EPSILON = 0.25  # of every norm: a float32 number that a variance of that type can be short of a square
SIZES = ("Resize", "Upsample", "Dropout", "OneHot", "RoiAlign")  # whose constants are not arithmetic
# Multiplications beyond which a row is proved by `make sweeps` only (test_rational.py sets the variable).
QUICK = float(os.environ.get("BNFOLD_EXACT_LIMIT", "1e5"))
# Folds without a rational form, and why. Every other fold that a test looks at is proved.
UNPROVED = {
    "float16 ends": "whole numbers of float16 end at 2048",
    "rounds": "QuantizeLinear rounds",
    "own statistics": "a norm in training mode computes a root of what it reads",
    "numbers decide": "with other numbers the rules decide otherwise",
    "given root": "the norm of weights is a root",
}

NUMBERS_DECIDE = ("test_many_small_scales", "test_slopes_that_cannot_be_turned_over")


def prove(folded: Folded, given: dict[str, np.ndarray], seed: int) -> None:
    """Fold whole numbers in the same way and compare both graphs exactly. Raises: AssertionError."""
    if cost(folded.before, given) > QUICK:
        return
    failures = []
    for divided in (False, True):
        failure = _failure(folded, given, np.random.default_rng([seed, divided]), divided)
        if not failure:
            return
        failures.append(failure)
    assert set(failures) & UNPROVED.keys(), f"not proved: {failures}"


def _failure(
    folded: Folded, given: dict[str, np.ndarray], rng: np.random.Generator, divided: bool
) -> str | None:
    """Return why this fold is not proved; None where it is."""
    try:
        again = folded.again(whole_numbers(folded.before, rng, divided=divided))
        if again.ops != folded.ops:
            listed = any(name in os.environ.get("PYTEST_CURRENT_TEST", "") for name in NUMBERS_DECIDE)
            return "numbers decide" if listed else f"{again.ops} instead of {folded.ops}"
        wrong = differences(again.before, again.after, points(given, rng))
    except NotProvedError as exc:
        return str(exc)
    return f"{wrong} elements of the outputs differ" if any(wrong) else None


def cost(proto: onnx.ModelProto, given: dict[str, np.ndarray]) -> float:
    """Return about how many products an exact evaluation takes."""
    weights = sum(np.prod(t.dims) for t in proto.graph.initializer if len(t.dims) > 1)
    return float(weights * sum(array.size for array in given.values()))


class NotProvedError(Exception):
    """These graphs have no rational evaluation here; the text says why."""


def whole_numbers(
    proto: onnx.ModelProto, rng: np.random.Generator, *, divided: bool = False
) -> onnx.ModelProto:
    """Return the model with constants for which a fold does not round.

    divided: for folds that divide by scales or weights, which are powers of two then.
    Signs stay, and so do zeros, ones and which numbers are equal: rules look at them.
    """
    made = onnx.ModelProto()
    made.CopyFrom(inliner.inline_local_functions(proto) if proto.functions else proto)
    for node in _nodes(made.graph):
        if node.op_type == "BatchNormalization":
            keep = [attribute for attribute in node.attribute if attribute.name != "epsilon"]
            del node.attribute[:]
            node.attribute.extend([*keep, onnx.helper.make_attribute("epsilon", EPSILON)])
    roles = dict(_roles(made.graph))
    for tensor in _tensors(made.graph):
        array = numpy_helper.to_array(tensor)
        if not is_float(array.dtype) or array.size == 0 or roles.setdefault(tensor.name, "weight") == "kept":
            continue
        if array.dtype == np.float16:
            raise NotProvedError("float16 ends")
        fresh = _drawn(array, roles[tensor.name], rng, divided)
        tensor.CopyFrom(numpy_helper.from_array(fresh.astype(array.dtype), tensor.name))
    return made


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes, those of bodies included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield initializers, those of bodies included."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _tensors(attribute.g)


def _roles(graph: onnx.GraphProto) -> Iterator[tuple[str, str]]:
    """Yield (constant, role) of those that are no plain weights."""
    for node in _nodes(graph):
        if node.op_type == "BatchNormalization":
            yield from zip(node.input[1:5], ("gamma", "shift", "shift", "variance"), strict=True)
        elif node.op_type in ("Div", "DequantizeLinear"):
            yield node.input[1], "power"
        elif node.op_type in SIZES:
            yield from ((name, "kept") for name in node.input[1:])


def _drawn(array: np.ndarray, kind: str, rng: np.random.Generator, divided: bool) -> np.ndarray:
    """Draw numbers of an array's shape, one for each of its distinct magnitudes.

    Those of float32 are small: what a fold adds up of them must end within 24 bits.
    """
    weight, shift, power = (1 << 8, 1 << 10, 8) if array.dtype == np.float64 else (8, 32, 2)
    sizes, where = np.unique(np.abs(array), return_inverse=True)
    if kind == "variance":
        drawn = 4.0 ** rng.integers(0, 4, len(sizes)) - EPSILON
    elif kind == "power" or (divided and kind != "shift"):
        drawn = 2.0 ** rng.integers(-power, power + 1, len(sizes))
    elif kind == "gamma":  # divided by deviations up to 8
        drawn = 8.0 * rng.integers(1, weight, len(sizes))
    else:
        drawn = rng.integers(1, shift if kind == "shift" else weight, len(sizes)).astype(np.float64)
    fixed = (sizes == 0) | ((sizes == 1) & (kind != "gamma"))
    drawn = np.where(fixed & (kind != "variance"), sizes, drawn)
    return np.asarray(drawn[where].reshape(array.shape) * np.where(array < 0, -1.0, 1.0))


def points(given: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return random whole numbers for float inputs; other inputs stay."""
    found = {}
    for name, array in given.items():
        if is_float(array.dtype):
            found[name] = _exact(rng.integers(-POINTS, POINTS, array.shape))
        else:
            found[name] = array
    return found


def _exact(array: np.ndarray) -> np.ndarray:
    """Return the numbers as Python integers where they are whole, else as fractions."""
    result = np.empty(array.size, dtype=object)
    result[:] = [f.numerator if f.denominator == 1 else f for f in to_rationals(array).reshape(-1)]
    return result.reshape(array.shape)


def evaluate(
    graph: onnx.GraphProto,
    given: dict[str, np.ndarray],
    opset: int,
    outer: dict[str, np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Return the outputs of a graph, exactly. Raises: NotProvedError."""
    values = {**(outer or {}), **given}
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        values[tensor.name] = _exact(array) if is_float(array.dtype) else array
    for node in graph.node:
        for name, answer in zip(node.output, _answers(node, values, opset), strict=False):
            values[name] = answer
    return [values[output.name] for output in graph.output]


def _answers(node: onnx.NodeProto, values: dict[str, np.ndarray], opset: int) -> list[np.ndarray]:
    operands = [values[name] for name in node.input if name]
    training = any(a.name == "training_mode" and a.i for a in node.attribute)
    if node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") or training:
        raise NotProvedError("own statistics" if training else "rounds")
    if node.op_type == "Loop":
        return _loop(node, values, opset)
    if node.op_type == "If":
        wanted = "then_branch" if bool(operands[0].reshape(-1)[0]) else "else_branch"
        return evaluate(next(a.g for a in node.attribute if a.name == wanted), {}, opset, values)
    rational = any(o.dtype == object for o in operands)
    if rational and node.op_type in ("GridSample", "RoiAlign"):
        return [_sampled(node, operands)]
    if rational and node.op_type in UNKNOWN:
        told = sorted(a.SerializeToString(deterministic=True).hex() for a in node.attribute)
        return [_unknown(f"{node.op_type} {told}")(operands[0])]
    if rational and node.op_type in ("Cast", "CastLike") and not _to_whole(node):
        return operands[:1]
    if rational and node.op_type == "Einsum":
        return [np.asarray(np.einsum(node.attribute[0].s.decode(), *operands), dtype=object)]
    gates = {name: _unknown(name) for name in recurrent.ACTIVATIONS}
    try:
        with patch.dict(recurrent.ACTIVATIONS, gates), ExitStack() as stack:
            if node.op_type != "BatchNormalization":  # whose deviations are rational
                stack.enter_context(patch.object(linear, "square_root", _unknown("root")))
            return list(run_node(node, values, opset, Mode.EXACT))
    except NotEvaluatedError as exc:
        if "the root of" in str(exc) and node.op_type != "BatchNormalization":
            raise NotProvedError("given root") from exc
        raise NotProvedError(str(exc)) from exc


def _loop(node: onnx.NodeProto, values: dict[str, np.ndarray], opset: int) -> list[np.ndarray]:
    """Return the results of a Loop with a known number of turns: states, then what was stacked."""
    body = next(a.g for a in node.attribute if a.name == "body")
    turns, states = int(values[node.input[0]].reshape(-1)[0]), [values[name] for name in node.input[2:]]
    scans: list[list[np.ndarray]] = [[] for _ in body.output[1 + len(states) :]]
    for turn in range(turns):
        names = [value.name for value in body.input]
        found = evaluate(
            body, dict(zip(names, [np.array(turn), np.array(True), *states], strict=True)), opset, values
        )
        states, stacked = found[1 : 1 + len(states)], found[1 + len(states) :]
        for scan, value in zip(scans, stacked, strict=True):
            scan.append(value)
    return [*states, *(np.stack(scan) for scan in scans)]


def _sampled(node: onnx.NodeProto, operands: list[np.ndarray]) -> np.ndarray:
    """Return samples of x (N, C, *space): the same random weights for each channel.

    They sum to one where the operator's do, which is all that rules know of it: inside, at the border or by
    reflection. Elsewhere samples are zeros in part, and the weights sum to anything.
    """
    x, places = operands[0], operands[1]
    told = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    rng = np.random.default_rng(
        zlib.crc32(repr((node.op_type, sorted(told.items()), places.tolist())).encode())
    )
    flat = x.reshape(*x.shape[:2], -1)
    if node.op_type == "RoiAlign":
        chosen, space = [int(i) for i in operands[2]], (told["output_height"], told["output_width"])
    else:
        chosen, space = list(range(x.shape[0])), places.shape[1:-1]
    weights = _exact(rng.integers(-9, 9, (len(chosen), flat.shape[2], int(np.prod(space)))))
    if told.get("padding_mode", b"zeros") != b"zeros":
        weights[:, 0] = 1 - weights[:, 1:].sum(axis=1)
    samples = [flat[batch] @ weights[i] for i, batch in enumerate(chosen)]
    return np.stack(samples).reshape(len(chosen), x.shape[1], *space)


def _to_whole(node: onnx.NodeProto) -> bool:
    """Return whether a Cast is to whole numbers or booleans."""
    kind = next((a.i for a in node.attribute if a.name == "to"), onnx.TensorProto.FLOAT)
    return not is_float(onnx.helper.tensor_dtype_to_np_dtype(kind))


def _unknown(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of single numbers of which nothing is known but that it is one."""
    seed = zlib.crc32(name.encode())
    one = np.frompyfunc(lambda x: zlib.crc32(str(Fraction(x)).encode(), seed) % RANGE + 1, 1, 1)
    return lambda x: np.asarray(one(x), dtype=object)


def differences(before: onnx.ModelProto, after: onnx.ModelProto, given: dict[str, np.ndarray]) -> list[int]:
    """Return for each output how many of its elements differ."""
    opset = next(entry.version for entry in before.opset_import if entry.domain == "")
    found = []
    for a, b in zip(*(evaluate(proto.graph, given, opset) for proto in (before, after)), strict=True):
        assert a.shape == b.shape
        found.append(int(np.count_nonzero(a != b)))
    return found
