"""What is known of a value's shape.

`dims` and `rank` read what the graph declares. `inferred_shape`, `inferred_dims` and `inferred_rank` differ
for graph outputs: an output declares what its author wrote, which may be more than is true and which no
runtime enforces, so that what inference found out about it counts alone. Clean-up passes ask these.
"""

from __future__ import annotations

import onnx_ir as ir

from folding.ir.query import attr_int, is_op

INFERRED = "bnfold.inferred_shape"
_SAME_SHAPE = ("BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization",
               "Relu", "LeakyRelu", "Identity")  # fmt: skip


def dims(value: ir.Value | None) -> list[int | str | None] | None:
    """Dimensions: int, symbol or None (unknown) each; None when the rank itself is unknown."""
    if value is None:
        return None
    shape: ir.ShapeProtocol | None = value.shape
    if shape is None and value.const_value is not None:
        shape = value.const_value.shape
    return None if shape is None else [dim if isinstance(dim, int) else dim.value for dim in shape]


def rank(value: ir.Value | None) -> int | None:
    """Number of dimensions, or None."""
    shape = dims(value)
    return None if shape is None else len(shape)


def inferred_shape(value: ir.Value | None) -> ir.Shape | None:
    """What inference knows of a value's shape, an output's declaration aside."""
    if value is None:
        return None
    if value.is_graph_output():
        return value.meta.get(INFERRED)
    return value.shape


def inferred_dims(value: ir.Value | None) -> list[int | None] | None:
    """The inferred shape with None for what is not a number; None when the rank is unknown."""
    shape = inferred_shape(value)
    return None if shape is None else [dim if isinstance(dim, int) else None for dim in shape]


def inferred_rank(value: ir.Value | None) -> int | None:
    """Number of axes, where inference knows it."""
    shape = inferred_shape(value)
    return None if shape is None else len(shape)


def same_shape(a: ir.Value | None, b: ir.Value | None) -> bool:
    """Both shapes known and equal, symbolic dimensions by name (nameless ones differ)."""
    one, two = inferred_shape(a), inferred_shape(b)
    if one is None or two is None or len(one) != len(two):
        return False
    return all(x == y and (isinstance(x, int) or x.value is not None) for x, y in zip(one, two, strict=True))


def keeps_shape(node: ir.Node) -> bool:
    """Whether output 0 has the shape of input 0, also where shape inference does not say so."""
    return is_op(node, *_SAME_SHAPE) and bool(node.inputs) and node.inputs[0] is not None


def dims_by_weights(node: ir.Node) -> list[int | str | None] | None:
    """What the weights of a Conv, ConvTranspose or Gemm tell of its output, whatever its input is."""
    if is_op(node, "Gemm"):
        return [None, None]
    if not is_op(node, "Conv", "ConvTranspose") or len(node.inputs) < 2:
        return None
    weight = dims(node.inputs[1])
    if weight is None or len(weight) < 3:
        return None
    out = weight[0] if node.op_type == "Conv" else weight[1]
    if isinstance(out, int) and node.op_type == "ConvTranspose":
        out *= attr_int(node, "group", 1)
    return [None, out, *[None] * (len(weight) - 2)]
