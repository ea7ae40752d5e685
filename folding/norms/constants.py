"""Constants: what they are, and what they evaluate to in float64.

A value is constant when it is an initializer that nobody can override, a Constant node's output, or an
operator applied to constants that `ir.evaluate` has an answer for: one that is too large, malformed or
different between runtimes is no constant. Statistics reach the graph through such sub-expressions
(`Reciprocal(Sqrt(Add(variance, epsilon)))`); they are evaluated in float64 whatever their stored dtype, so
a fold loses no digit that the source had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.ir import shapes
from folding.ir.evaluate import EXPRESSIONS, Mode, NotEvaluatedError, compute, view_of, widen
from folding.ir.types import Array

Env = Mapping[ir.Value, Array]
_MEMO_ELEMENTS = 1 << 16  # larger results are recomputed rather than held
_GROWTH = 4  # a result of more than `_SMALL` elements may be this many times larger than its inputs
_SMALL = 1 << 22
_REARRANGED = ("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze")


class Constants:
    """Answers about the constants of one model; memoized, to be thrown away when the graph changes."""

    def __init__(self, model: ir.Model, *, freeze_inputs: bool = False) -> None:
        self._ir_version = model.ir_version
        self._opset = g.opset(model)
        self._freeze = freeze_inputs
        self._inputs = {value for graph in g.all_graphs(model) for value in graph.inputs}
        self._known: dict[ir.Value, bool] = {}
        self._overridden: dict[ir.Value, ir.Value | None] = {}
        self._memo: dict[ir.Value, Array] = {}

    def overridable(self, value: ir.Value) -> bool:
        """An initializer that a caller may replace at run time: a graph input too, from IR version 4 on.

        Before IR version 4 every initializer had to be listed as an input, and runtimes treat those as
        constants (onnxruntime: `Graph::GetOverridableInitializers`).
        """
        listed = value in self._inputs
        return value.is_initializer() and listed and self._ir_version >= 4 and not self._freeze

    def is_const(self, value: ir.Value | None) -> bool:
        """Whether `evaluate` can tell the value. Linear in the size of the expression, memoized."""
        if value is None:
            return False
        if value not in self._known:
            self._decide(value)
        return self._known[value]

    def _decide(self, value: ir.Value) -> None:
        """Note for the value, and for what it is computed from, whether it is constant."""
        local: dict[ir.Value, Array] = {}
        stack = [value]
        while stack:
            top = stack[-1]
            if top in self._known:
                stack.pop()
                continue
            answer = self._leaf(top)
            if answer is None:
                node = top.producer()
                assert node is not None
                inputs = [item for item in node.inputs if item is not None]
                pending = [item for item in inputs if item not in self._known]
                if pending:
                    stack.extend(pending)
                    continue
                answer = all(self._known[item] for item in inputs) and self._computes(top, local)
            self._known[top] = answer
            stack.pop()

    def _computes(self, value: ir.Value, local: dict[ir.Value, Array]) -> bool:
        """Whether there is an answer; the operands are constants."""
        node = value.producer()
        try:
            if node is not None and node.op_type in _REARRANGED:
                self.array(value)
            else:
                self._walk(value, self._memo, local)
        except NotEvaluatedError:
            return False
        return True

    def _leaf(self, value: ir.Value) -> bool | None:
        """True/False where it can be told without looking at inputs, else None."""
        if value.is_initializer():
            return value.const_value is not None and not self.overridable(value)
        node = value.producer()
        if node is None or node.domain not in ("", "ai.onnx") or len(node.outputs) != 1:
            return False
        if node.op_type == "Constant":
            return constant_tensor(node) is not None
        if node.op_type in ("Shape", "Size"):
            shape = shapes.dims(node.inputs[0])
            return shape is not None and all(isinstance(dim, int) for dim in shape)
        return None if node.op_type in EXPRESSIONS and node.inputs else False

    def overridden_leaf(self, value: ir.Value | None) -> ir.Value | None:
        """The overridable initializer that keeps a would-be constant expression from being one. Memoized."""
        if value is None:
            return None
        stack = [value]
        while stack:
            top = stack[-1]
            if top in self._overridden:
                stack.pop()
                continue
            node = top.producer()
            inputs = [] if node is None or node.op_type not in EXPRESSIONS else node.inputs
            sources = [item for item in inputs if item is not None]
            pending = [item for item in sources if item not in self._overridden]
            if pending and not self.overridable(top):
                stack.extend(pending)
                continue
            found = (leaf for item in sources if (leaf := self._overridden[item]) is not None)
            self._overridden[top] = top if self.overridable(top) else next(found, None)
            stack.pop()
        return self._overridden[value]

    def leaves(self, value: ir.Value) -> list[ir.Value]:
        """Initializers and Constant outputs that the value is computed from, in order of first use."""
        found: dict[ir.Value, None] = {}
        stack, seen = [value], set()
        while stack:
            top = stack.pop()
            if top in seen:
                continue
            seen.add(top)
            node = top.producer()
            if node is None or node.op_type == "Constant":
                found[top] = None
            elif node.op_type not in ("Shape", "Size"):
                stack.extend(item for item in reversed(node.inputs) if item is not None)
        return list(found)

    def evaluate(self, value: ir.Value, env: Env | None = None) -> Array:
        """The value: float64 for floating types, its own dtype otherwise. `env` overrides leaves.

        Raises NotEvaluatedError where `is_const` is False.
        """
        return self._walk(value, dict(env) if env else self._memo, {})

    def ints(self, value: ir.Value) -> list[int]:
        """A constant list of integers."""
        return [int(number) for number in self.evaluate(value).reshape(-1)]

    def _walk(self, value: ir.Value, memo: dict[ir.Value, Array], local: dict[ir.Value, Array]) -> Array:
        def known(item: ir.Value) -> Array | None:
            return memo.get(item) if item in memo else local.get(item)

        stack = [value]
        while stack:
            top = stack[-1]
            if known(top) is not None:
                stack.pop()
                continue
            node = top.producer()
            if node is None or node.op_type == "Constant":
                result = widen(stored(top))
            elif node.op_type in ("Shape", "Size"):
                shape = np.array(shapes.dims(node.inputs[0]), dtype=np.int64)
                result = _part(node, shape) if node.op_type == "Shape" else np.asarray(np.prod(shape))
            else:
                inputs = [item for item in node.inputs if item is not None]
                pending = [item for item in inputs if known(item) is None]
                if pending:
                    stack.extend(pending)
                    continue
                args = [None if item is None else known(item) for item in node.inputs]
                result = self._compute(node, args, Mode.FLOAT64)
            target = memo if result.size <= _MEMO_ELEMENTS else local
            target[top] = result
            stack.pop()
        found = known(value)
        assert found is not None
        return found

    def array(self, value: ir.Value) -> Array:
        """The value in its own dtype when it is merely stored or rearranged, else float64. Never memoized."""
        node = value.producer()
        if node is None or node.op_type == "Constant":
            return stored(value)
        if node.op_type in _REARRANGED:
            first = node.inputs[0]
            assert first is not None
            rest = [None if item is None else self.evaluate(item) for item in node.inputs[1:]]
            return self._compute(node, [self.array(first), *rest], Mode.EXACT)
        return self.evaluate(value)

    def _compute(self, node: ir.Node, inputs: Sequence[Array | None], mode: Mode) -> Array:
        """The one output of a node. Raises NotEvaluatedError."""
        limit = max(_SMALL, _GROWTH * sum(array.size for array in inputs if array is not None))
        return compute(view_of(node, inputs, opset=self._opset, mode=mode, limit=limit))[0]

    def shape(self, value: ir.Value) -> tuple[int, ...] | None:
        """Shape of a constant without reading it where the graph tells it."""
        known = shapes.dims(value)
        if known is not None and all(isinstance(dim, int) for dim in known):
            return tuple(int(dim) for dim in known)  # type: ignore[arg-type]
        return tuple(self.array(value).shape) if self.is_const(value) else None


def _part(node: ir.Node, shape: Array) -> Array:
    """What a Shape node asks for of a shape."""
    return shape[g.attr_int(node, "start", 0) : g.attr_int(node, "end")]


def constant_tensor(node: ir.Node) -> ir.TensorProtocol | None:
    """The tensor of a Constant node, whatever the attribute it is spelled with; None for strings."""
    attr = node.attributes.get("value")
    if attr is not None:
        return None if attr.is_ref() else attr.as_tensor()
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32),
                        ("value_int", np.int64), ("value_ints", np.int64)):  # fmt: skip
        attr = node.attributes.get(name)
        if attr is not None and not attr.is_ref():
            return ir.tensor(np.array(attr.value, dtype=dtype))
    return None


EXACT = "exact"  # in a tensor's meta: answers what was rounded into it, while rounds of a fold go on


def stored(value: ir.Value) -> Array:
    """The array behind an initializer or a Constant node, in its own dtype, without a copy where possible.

    What an earlier round of the same fold wrote is answered in float64, as it was before it was rounded.
    """
    tensor = value.const_value
    if isinstance(tensor, ir.Tensor) and EXACT in tensor.meta:
        return np.asarray(tensor.meta[EXACT]())
    node = value.producer()
    if tensor is None and node is not None:
        tensor = constant_tensor(node)
    assert tensor is not None
    return np.asarray(tensor.numpy())
