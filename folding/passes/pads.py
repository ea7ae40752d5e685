"""Pad nodes that a convolution or pooling can do itself.

Given:  y = Pad(x, zeros over space); z = Conv(y) | AveragePool(y) | MaxPool(y)
Result: z = Conv(x, pads + zeros) | AveragePool(x, ..., count_include_pad=1) | MaxPool(x, ...) where right
MaxPool pads with -inf, not with zero: the zeros may go into it only where x is never negative (and where the
window is wider than the padding, so that each window holds an element), or where the padding itself is -inf.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from folding.ir.edit import remove_if_unused
from folding.ir.non_negative import never_negative
from folding.ir.query import attribute, ints, is_op, scalar
from folding.ir.shapes import inferred_dims, inferred_rank
from folding.passes.base import Peephole


def _spatial(pad: ir.Node) -> list[int] | None:
    """Begin and end padding of the spatial axes, when batch and channels have none and nothing is cut off."""
    if attribute(pad, "mode", "constant") != "constant":
        return None
    count = inferred_rank(pad.inputs[0]) or inferred_rank(pad.outputs[0])
    pads = attribute(pad, "pads") or (ints(pad.inputs[1]) if len(pad.inputs) > 1 else None)
    if pads is None or count is None:
        return None
    if len(pad.inputs) > 3 and pad.inputs[3] is not None:
        axes = ints(pad.inputs[3])
        if axes is None:
            return None
        full = [0] * (2 * count)
        for index, axis in enumerate(axes):
            full[axis % count], full[count + axis % count] = pads[index], pads[len(axes) + index]
        pads = full
    if len(pads) != 2 * count or count < 3 or any([*pads[:2], *pads[count : count + 2]]) or min(pads) < 0:
        return None
    return pads[2:count] + pads[count + 2 :]


def _fill(pad: ir.Node) -> float | None:
    """The padding value; None when it is not a constant."""
    if "value" in pad.attributes:
        return pad.attributes["value"].as_float()
    if len(pad.inputs) < 3 or pad.inputs[2] is None:
        return 0.0
    return scalar(pad.inputs[2])


def _own_pads(node: ir.Node, count: int) -> list[int] | None:
    """Explicit padding of a convolution or pooling; None when it is chosen by auto_pad."""
    if attribute(node, "auto_pad", "NOTSET") == "VALID":
        return [0] * count
    if attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return None
    return attribute(node, "pads") or [0] * count


def _absorb(node: ir.Node, pads: list[int]) -> bool:
    """Move the padding of input 0 into the node's own `pads`."""
    value = node.inputs[0]
    assert value is not None
    pad = value.producer()
    assert pad is not None
    node.replace_input_with(0, pad.inputs[0])
    node.attributes["pads"] = ir.AttrInt64s("pads", pads)
    node.attributes.pop("auto_pad", None)
    remove_if_unused(pad)
    return True


def _padding(node: ir.Node) -> tuple[ir.Node, list[int], list[int]] | None:
    """(Pad before the node, its spatial padding, the node's own), where both are explicit."""
    value = node.inputs[0]
    pad = value.producer() if value is not None else None
    if pad is None or not is_op(pad, "Pad"):
        return None
    outer = _spatial(pad)
    own = _own_pads(node, len(outer)) if outer is not None else None
    if outer is None or own is None or len(own) != len(outer):
        return None
    return pad, outer, own


def _conv(node: ir.Node) -> bool:
    found = _padding(node)
    if found is None or _fill(found[0]) != 0.0:
        return False
    return _absorb(node, [a + b for a, b in zip(found[1], found[2], strict=True)])


def _average_pool(node: ir.Node) -> bool:
    found = _padding(node)
    if found is None or _fill(found[0]) != 0.0 or attribute(node, "ceil_mode", 0):
        return False
    _, outer, own = found
    kernel = attribute(node, "kernel_shape")
    if any(own) and not attribute(node, "count_include_pad", 0):
        return False
    pads = [a + b for a, b in zip(outer, own, strict=True)]
    if not _narrower(pads, kernel):
        return False
    node.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
    return _absorb(node, pads)


def _max_pool(node: ir.Node) -> bool:
    found = _padding(node)
    if found is None or len(node.outputs) > 1 or attribute(node, "ceil_mode", 0):
        return False
    pad, outer, own = found
    fill = _fill(pad)
    kernel = attribute(node, "kernel_shape")
    pads = [a + b for a, b in zip(outer, own, strict=True)]
    if not _narrower(pads, kernel) or any(step != 1 for step in attribute(node, "dilations", [1])):
        return False
    if fill == -math.inf or (
        fill == 0.0 and never_negative(pad.inputs[0]) and _windows_touch(pad, pads, kernel)
    ):
        return _absorb(node, pads)
    return False


def _narrower(pads: list[int], kernel: list[int]) -> bool:
    """Runtimes refuse padding as wide as the window."""
    half = len(kernel)
    return all(pads[i] < kernel[i] and pads[half + i] < kernel[i] for i in range(half))


def _windows_touch(pad: ir.Node, pads: list[int], kernel: list[int]) -> bool:
    """Each window holds an element of x: padding narrower than the window on both sides sees to it."""
    known = inferred_dims(pad.inputs[0])
    return known is not None and _narrower(pads, kernel)


RULES: tuple[tuple[str, Peephole], ...] = (
    ("Conv", _conv),
    ("AveragePool", _average_pool),
    ("MaxPool", _max_pool),
)
