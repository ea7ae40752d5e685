"""How a convolution's window meets the border: padding per axis, and which taps see real input where.

For one spatial axis, `valid[position, tap]` is 1 where the tap reads an element of the input and 0 where it
reads padding. A constant input then answers with sum over taps of W[tap] * valid[position, tap], axis by
axis; without padding every row of `valid` is all ones and the answer does not depend on the position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.ir.types import Float64Array
from folding.rules.interface import Context


@dataclass(frozen=True, eq=False)
class Window:
    """`valid` holds one (positions, taps) table per axis, None when a spatial size is unknown."""

    padded: bool
    valid: tuple[Float64Array, ...] | None

    @property
    def output_space(self) -> tuple[int, ...] | None:
        """Spatial sizes of the output, where static."""
        return None if self.valid is None else tuple(len(table) for table in self.valid)

    def spread(self, taps: Float64Array) -> Float64Array | None:
        """(C_out, *kernel) responses of single taps -> (1, C_out, *space) map."""
        if self.valid is None:
            return None
        result = taps
        for table in self.valid:
            # axis 1 is always the next kernel axis: tensordot appends the positions at the end
            result = np.tensordot(result, table, axes=([1], [1]))
        return np.asarray(result[np.newaxis])


def window_of(node: ir.Node, kernel: Sequence[int], ctx: Context, *, transposed: bool) -> Window:
    """Padding and border tables of a Conv or ConvTranspose."""
    n = len(kernel)
    strides = g.attr_ints(node, "strides") or [1] * n
    dilations = g.attr_ints(node, "dilations") or [1] * n
    auto = g.attr_str(node, "auto_pad", "NOTSET")
    shape = ctx.dims(node.inputs[0]) if node.inputs[0] is not None else None
    space = shape[2:] if shape is not None and len(shape) == n + 2 else [None] * n
    if transposed:
        return _transposed(node, kernel, strides, dilations, auto, space, ctx)
    begins, ends = padding(node, n, auto, kernel, strides, dilations, space)
    if auto in ("SAME_UPPER", "SAME_LOWER") and begins is None:
        padded = any(k > 1 for k in kernel)
    else:
        padded = any(begins or ()) or any(ends or ())
    if begins is None or ends is None or not all(isinstance(size, int) for size in space):
        return Window(padded, None)
    tables = [
        _conv_table(int(size), k, s, d, b, e)
        for size, k, s, d, b, e in zip(space, kernel, strides, dilations, begins, ends, strict=True)
    ]
    return Window(padded, tuple(tables))


def padding(
    node: ir.Node, n: int, auto: str, kernel: Sequence[int], strides: Sequence[int],
    dilations: Sequence[int], space: Sequence[int | str | None],
) -> tuple[list[int] | None, list[int] | None]:  # fmt: skip
    """Return the padding before and behind each of `n` axes; None where it depends on an unknown size."""
    if auto == "VALID":
        return [0] * n, [0] * n
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        begins, ends = [], []
        for size, k, s, d in zip(space, kernel, strides, dilations, strict=True):
            if s == 1:  # the same for every size
                total = (k - 1) * d
            elif isinstance(size, int):
                total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            else:
                return None, None
            small, large = total // 2, total - total // 2
            begins.append(small if auto == "SAME_UPPER" else large)
            ends.append(large if auto == "SAME_UPPER" else small)
        return begins, ends
    pads = g.attr_ints(node, "pads") or [0] * (2 * n)
    return pads[:n], pads[n:]


def _conv_table(size: int, kernel: int, stride: int, dilation: int, begin: int, end: int) -> Float64Array:
    positions = (size + begin + end - (kernel - 1) * dilation - 1) // stride + 1
    read = np.arange(max(positions, 0))[:, None] * stride - begin + np.arange(kernel)[None, :] * dilation
    return ((read >= 0) & (read < size)).astype(np.float64)


def _transposed(
    node: ir.Node, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], auto: str,
    space: Sequence[int | str | None], ctx: Context,
) -> Window:  # fmt: skip
    n = len(kernel)
    if _one_to_one(node, kernel, strides, auto):
        return Window(False, None)
    out = ctx.dims(node.outputs[0])
    known = out is not None and len(out) == n + 2
    if not known or not all(isinstance(dim, int) for dim in (*space, *(out or [])[2:])):
        return Window(True, None)
    assert out is not None
    begins = _transposed_begins(node, kernel, strides, dilations, auto, space, out[2:])
    if begins is None:
        return Window(True, None)
    tables = [
        _transposed_table(int(size), int(result), k, s, d, b)
        for size, result, k, s, d, b in zip(space, out[2:], kernel, strides, dilations, begins, strict=True)
    ]
    return Window(True, tuple(tables))


def _one_to_one(node: ir.Node, kernel: Sequence[int], strides: Sequence[int], auto: str) -> bool:
    """Whether each output position is one input position times the one tap."""
    sizes = [*kernel, *strides]
    offsets = [*(g.attr_ints(node, "pads") or []), *(g.attr_ints(node, "output_padding") or [])]
    return (
        all(size == 1 for size in sizes)
        and not any(offsets)
        and auto in ("NOTSET", "VALID")
        and g.attr_ints(node, "output_shape") is None
    )


def _transposed_begins(
    node: ir.Node, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], auto: str,
    space: Sequence[int | str | None], out: Sequence[int | str | None],
) -> list[int] | None:  # fmt: skip
    """How much is cut off in front. What is to be split in two halves is split only if it is even: onnx and
    its runtimes disagree about where the odd one goes."""
    n = len(kernel)
    extra = g.attr_ints(node, "output_padding") or [0] * n
    if auto in ("NOTSET", "VALID") and g.attr_ints(node, "output_shape") is None:
        return (g.attr_ints(node, "pads") or [0] * (2 * n))[:n]
    begins = []
    for size, result, k, s, d, e in zip(space, out, kernel, strides, dilations, extra, strict=True):
        assert isinstance(size, int)
        assert isinstance(result, int)
        total = (size - 1) * s + e + (k - 1) * d + 1 - result
        if total < 0 or total % 2:
            return None
        begins.append(total // 2)
    return begins


def _transposed_table(
    size: int, result: int, kernel: int, stride: int, dilation: int, begin: int
) -> Float64Array:
    """Tap k feeds position p when p + begin - k*dilation = i*stride for an input index i."""
    offset = np.arange(result)[:, None] + begin - np.arange(kernel)[None, :] * dilation
    index = offset // stride
    hit = (offset % stride == 0) & (index >= 0) & (index < size)
    return np.asarray(hit, dtype=np.float64)
