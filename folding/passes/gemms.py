"""Dense layers in the form that runtimes run fastest.

Given:  y = MatMul(x (M, K), w (K, N)) + b (N,)      Result: y = Gemm(x, w, b)
Given:  y = Gemm(Transpose(x), w, b)                 Result: y = Gemm(x, w, b, transA=1)
Given:  y = Gemm(x, w) + b                           Result: y = Gemm(x, w, b)
"""

from __future__ import annotations

import onnx_ir as ir

from folding.ir.edit import insert, remove_if_unused, replace
from folding.ir.query import attribute, is_op, only_user, opset
from folding.ir.shapes import inferred_dims, inferred_rank
from folding.passes.base import Peephole

_UNIDIRECTIONAL = 7  # opset from which Gemm's C broadcasts as numpy does


def _add(node: ir.Node) -> bool:
    """Add after a rank-2 MatMul, or after a Gemm without C."""
    for position in (0, 1):
        value, bias = node.inputs[position], node.inputs[1 - position]
        producer = value.producer() if value is not None else None
        if producer is None or value is None or bias is None or only_user(value) is not node:
            continue
        if producer.graph is not node.graph or not _fits(bias, value, node):
            continue
        if (
            is_op(producer, "MatMul")
            and inferred_rank(producer.inputs[0]) == 2
            and inferred_rank(producer.inputs[1]) == 2
        ):
            return _fuse(node, [*producer.inputs, bias], {}, producer)
        if is_op(producer, "Gemm") and (len(producer.inputs) < 3 or producer.inputs[2] is None):
            kept = {
                k: attribute(producer, k) for k in ("alpha", "transA", "transB") if k in producer.attributes
            }
            return _fuse(node, [*producer.inputs[:2], bias], kept, producer)
    return False


def _fits(bias: ir.Value, product: ir.Value, node: ir.Node) -> bool:
    """Gemm's C broadcasts to (M, N) and never enlarges it."""
    known, wide = inferred_dims(bias), inferred_dims(product)
    if known is None or wide is None or len(wide) != 2 or len(known) > 2 or opset(node) < _UNIDIRECTIONAL:
        return False
    if product.dtype is None or product.dtype not in (
        ir.DataType.FLOAT,
        ir.DataType.DOUBLE,
        ir.DataType.FLOAT16,
    ):
        return False
    aligned = [*([1] * (2 - len(known))), *known]
    return all(k == 1 or (k is not None and k == w) for k, w in zip(aligned, wide, strict=True))


def _fuse(node: ir.Node, inputs: list[ir.Value | None], attributes: dict[str, object], gone: ir.Node) -> bool:
    result = node.outputs[0]
    new = insert(
        node, "Gemm", inputs, attributes, like=result, shape=result.shape, name=f"{result.name}_gemm"
    )
    producer = new.producer()
    assert producer is not None
    producer.name = gone.name
    return replace(result, new)


def _transposed_operand(node: ir.Node) -> bool:
    """A Transpose of a matrix before Gemm is one of its flags."""
    for position, flag in ((0, "transA"), (1, "transB")):
        value = node.inputs[position]
        producer = value.producer() if value is not None else None
        if producer is not None and is_op(producer, "Transpose") and inferred_rank(value) == 2:
            if attribute(producer, "perm", [1, 0]) != [1, 0]:
                continue
            node.replace_input_with(position, producer.inputs[0])
            node.attributes[flag] = ir.AttrInt64(flag, 1 - int(attribute(node, flag, 0)))
            remove_if_unused(producer)
            return True
    return False


RULES: tuple[tuple[str, Peephole], ...] = (
    ("Add", _add),
    ("Gemm", _transposed_operand),
)
