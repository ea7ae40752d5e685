"""What stays is written as nodes: the fewest that say it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir import edit
from folding.rules.absorbers.linear import Linear
from folding.rules.affine import Affine
from folding.rules.engine import AffineSite
from folding.rules.interface import Context
from folding.rules.writing import emit_affine


def spell_out(ctx: Context, linear: Linear) -> None:
    """The weights could not take it after all: the affines stay as nodes beside them."""
    name = linear.name
    if linear.x_index == linear.weight_index:  # a constant: it stays, and the node reads it through these
        assert linear.s_out is not None
        assert linear.t_out is not None
        affine = _along(linear.s_out, linear.t_out, linear.out_axis, ctx.rank(linear.weight))
        value = emit_affine.emit(ctx, linear.weight, affine, name, linear.node, before=True)
        linear.node.replace_input_with(linear.weight_index, value)
        return
    if linear.s_in is not None and linear.t_in is not None:
        x = linear.node.inputs[linear.x_index]
        assert x is not None
        affine = _along(linear.s_in, linear.t_in, linear.in_axis, ctx.rank(x), linear.in_shape)
        value = emit_affine.emit(ctx, x, affine, f"{name}/input", linear.node, before=True)
        linear.node.replace_input_with(linear.x_index, value)
    if linear.s_out is not None and linear.t_out is not None:
        output = linear.output
        affine = _along(linear.s_out, linear.t_out, linear.out_axis, ctx.rank(output), linear.out_shape)
        _append_after(ctx, output, affine, f"{name}/output")


def _append_after(ctx: Context, value: ir.Value, affine: Affine, name: str) -> None:
    node = value.producer()
    assert node is not None
    users = list(value.uses())
    result = emit_affine.emit(ctx, value, affine, name, node, before=False)
    if result is value:
        return
    for user, index in users:
        user.replace_input_with(index, result)
    if value.is_graph_output():
        assert value.graph is not None
        for i, item in enumerate(value.graph.outputs):
            if item is value:
                value.graph.outputs[i] = result
    kept, value.name = value.name, ctx.unique(f"{value.name}/raw")
    result.name = kept


def restate(ctx: Context, site: AffineSite) -> None:
    """Replace the nodes of a site that stays by the fewest that say its present affine; its output moves."""
    source, target = site.input, site.output
    last = target.producer()
    assert last is not None
    if isinstance(last.graph, ir.Graph):
        result = emit_affine.emit(ctx, source, site.affine, site.name, last, before=True)
        named = target.is_graph_output()
        edit.replace_value(target, result)
        if not named and result is not source:
            edit.take_name(target, result)
        edit.prune(list(site.nodes))
        site.output = result


def _along(
    scale: np.ndarray, shift: np.ndarray, axis: int, rank: int | None, whole: tuple[int, ...] | None = None
) -> Affine:
    """Flat vectors along one axis, or over `whole` where channels are several."""
    shape = [1] * (rank or axis + 1)
    shape[axis] = -1
    return Affine.of(scale.reshape(whole or shape), shift.reshape(whole or shape))
