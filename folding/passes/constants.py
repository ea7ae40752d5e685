"""Constant folding: a node whose inputs are all constants becomes an initializer.

Given:  y = Op(c1, c2, ...)        c's initializers that nobody can override
Result: y an initializer of the same name
Growth is bounded: a result larger than `SMALL` and than what it was made of stays a node.
Chains of float arithmetic are carried in float64 and rounded once, where they end.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from folding.ir.edit import initializer, open_graphs, remove_if_unused
from folding.ir.evaluate import NotEvaluatedError, compute, view_of
from folding.ir.query import STANDARD, attribute, graph_of, has_references, is_op, only_user, opset, tensor
from folding.ir.shapes import inferred_dims
from folding.ir.types import Array

# Moves elements without changing them (Cast: without changing what they mean).
MOVEMENT = frozenset({"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast",
                      "CastLike", "Expand", "ConstantOfShape", "Slice", "Split", "Concat", "Gather",
                      "Tile", "Pad"})  # fmt: skip
# Elementwise over floats, where float64 inside and one cast out beats a rounding per node.
ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Neg", "Sqrt", "Reciprocal", "Pow", "Abs", "Exp", "Log",
                        "Sum", "Min", "Max", "Mean", "MatMul", "Clip", "Relu", "Sigmoid", "Tanh", "Softplus",
                        "ReduceSumSquare", "ReduceL1", "ReduceL2"})  # fmt: skip
# Computed in the type of the operands: what shapes, conditions and indices are made of.
LOGIC = frozenset({"Range", "Floor", "Ceil", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual",
                   "And", "Or", "Xor", "Not", "Where", "Mod", "ReduceSum", "ReduceProd", "ReduceMin",
                   "ReduceMax", "ReduceMean"})  # fmt: skip
FOLDED = MOVEMENT | ARITHMETIC | LOGIC
SMALL = 1 << 18  # bytes: a bias or a table may appear out of nothing, an activation may not
_EXACT = "bnfold.float64"  # (tensor, its value before it was rounded to its type)


def lift_constants(model: ir.Model) -> bool:
    """Constant nodes become initializers of their own graph, under the same name."""
    changed = False
    for graph in open_graphs(model):
        for node in graph:
            if is_op(node, "Constant") and not has_references(node):
                content = _content(node)
                if content is not None:
                    changed |= become_initializer(node.outputs[0], content)
    return changed


def _content(node: ir.Node) -> ir.TensorProtocol | None:
    """The tensor of a Constant node; None for text and for sparse tensors."""
    if "value" in node.attributes:
        return node.attributes["value"].as_tensor()
    for name, kind in (("value_float", np.float32), ("value_floats", np.float32),
                       ("value_int", np.int64), ("value_ints", np.int64)):  # fmt: skip
        if name in node.attributes:
            return ir.Tensor(np.array(attribute(node, name), kind))
    return None


def fold_structure(model: ir.Model) -> bool:
    """Before norms are searched: shapes, indices and moved weights, but no arithmetic over parameters."""
    return _fold(model, _is_structural)


def fold_all(model: ir.Model) -> bool:
    """After the fold: everything that is constant."""
    return _fold(model, lambda node: True)


def _is_structural(node: ir.Node) -> bool:
    if node.op_type in MOVEMENT:
        return True
    found = [tensor(value) for value in node.inputs if value is not None]
    return not any(t is not None and t.dtype.is_floating_point() for t in found)


def _fold(model: ir.Model, wanted: Callable[[ir.Node], bool]) -> bool:
    changed = False
    for graph in open_graphs(model):
        for node in graph:
            if node.domain not in STANDARD or node.op_type == "Constant":
                continue
            if node.op_type in ("Shape", "Size"):
                changed |= _known_shape(node)
            elif node.op_type in FOLDED and not has_references(node) and wanted(node):
                changed |= _evaluate(node)
    return changed


def _known_shape(node: ir.Node) -> bool:
    """Shape and Size of a value whose dimensions are all numbers."""
    known = inferred_dims(node.inputs[0])
    if known is None:
        return False
    if node.op_type == "Shape":
        known = known[slice(attribute(node, "start", 0), attribute(node, "end"))]
    if any(dim is None for dim in known):
        return False
    numbers = np.array(known, np.int64)
    data = numbers if node.op_type == "Shape" else np.array(numbers.prod(), np.int64)
    return become_initializer(node.outputs[0], ir.Tensor(data))


def _evaluate(node: ir.Node) -> bool:
    tensors = [tensor(value) for value in node.inputs]
    if any(t is None and value is not None for t, value in zip(tensors, node.inputs, strict=True)):
        return False
    if any(t is not None and t.dtype == ir.DataType.STRING for t in tensors):
        return False
    budget = max(SMALL, sum(t.nbytes for t in tensors if t is not None))
    if _declared_bytes(node) > budget:
        return False
    inputs = [_input(node, value) for value in node.inputs]
    try:  # an element has at least 4 bits, so no result above the budget is ever made
        results = compute(view_of(node, inputs, opset=opset(node), limit=2 * budget))
    except NotEvaluatedError:
        return False  # the runtime will say what it thinks of it
    stored = [_rounded(node, value, result) for value, result in zip(node.outputs, results, strict=False)]
    if sum(s.nbytes for s in stored) > budget:
        return False
    name = _inherited_name(node)
    changed = False
    for value, result, data in zip(node.outputs, results, stored, strict=False):
        content = ir.Tensor(np.asarray(data, order="C"))
        if result.dtype == np.float64 and data.dtype != np.float64:
            value.meta[_EXACT] = (content, result)
        changed |= become_initializer(value, content, name)
    return changed


def _declared_bytes(node: ir.Node) -> int:
    """Bytes of the results as shape inference knows them, so that nothing huge is ever made."""
    total = 0
    for value in node.outputs:
        known = inferred_dims(value)
        if known is not None and all(dim is not None for dim in known) and value.dtype is not None:
            size = 1
            for dim in known:
                size *= dim or 0
            total += size * max(value.dtype.bitwidth, 8) // 8
    return total


def _input(node: ir.Node, value: ir.Value | None) -> Array | None:
    """The operand; in float64 where that spares a rounding and the operator computes or moves floats."""
    if value is None:
        return None
    found = tensor(value)
    assert found is not None
    if node.op_type not in ARITHMETIC | MOVEMENT - {"Cast", "CastLike"}:
        return found.numpy()
    rounded_from, exact = value.meta.get(_EXACT, (None, None))
    if rounded_from is found:
        return exact  # type: ignore[no-any-return]
    data = found.numpy()
    widen = node.op_type in ARITHMETIC and _is_narrow_float(found.dtype) and data.size <= SMALL
    return data.astype(np.float64) if widen else data


def _is_narrow_float(dtype: ir.DataType) -> bool:
    return dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def _rounded(node: ir.Node, value: ir.Value, result: Array) -> Array:
    """The result in the type that the node's output has."""
    if value.dtype is not None and value.dtype != ir.DataType.STRING:
        return result.astype(value.dtype.numpy(), copy=False)
    first = tensor(node.inputs[0])
    if result.dtype == np.float64 and first is not None and node.op_type in ARITHMETIC | MOVEMENT:
        return result.astype(first.dtype.numpy(), copy=False)
    return result


def _inherited_name(node: ir.Node) -> str | None:
    """A moved parameter keeps its own name while nothing else uses the original."""
    if node.op_type not in ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Cast"):
        return None
    source = node.inputs[0]
    if source is None or not source.is_initializer() or source.graph is not node.graph:
        return None
    return source.name if only_user(source) is node else None


def become_initializer(value: ir.Value, content: ir.TensorProtocol, name: str | None = None) -> bool:
    """Replace a node's output by an initializer with the same readers (and name, if none is given).

    A graph output stays a node: runtimes take a constant output, the onnx checker of old versions does not.
    """
    node = value.producer()
    assert node is not None
    if value.is_graph_output() or not value.uses():
        return False
    graph = graph_of(node)
    wanted = value.name or "constant"
    value.name = f"{wanted}__folded"
    new = initializer(graph, f"{wanted}__constant", content)
    if _EXACT in value.meta:
        new.meta[_EXACT] = value.meta[_EXACT]
    value.replace_all_uses_with(new)
    source = node.inputs[0] if node.inputs else None
    remove_if_unused(node)
    if name is not None and source is not None and not source.uses() and not source.is_graph_output():
        graph.initializers.pop(name)
        wanted = name
    if wanted not in graph.initializers:
        new.name = wanted
    return True
