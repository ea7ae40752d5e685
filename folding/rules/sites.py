"""Which affines there are: the batch norms that were found, and anonymous constant Mul/Add/Sub/Div/Neg."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.ir import shapes
from folding.norms import elementwise
from folding.norms.base import BatchNorm, ChannelAffine
from folding.rules.absorbers import matmul
from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.engine import AffineSite
from folding.rules.interface import Context

# A constant beside one of these is part of an activation or a norm that runtimes fuse as a whole: GELU, Swish
# and their like with scalars, a decomposed LayerNormalization with vectors.
_ACTIVATION = frozenset({"Erf", "Tanh", "Sigmoid", "Softmax", "Pow", "Exp", "Softplus", "ReduceMean", "Sqrt"})
_LAYER_NORM = frozenset({"Sqrt", "Reciprocal"})


def collect(ctx: Context, norms: list[BatchNorm]) -> tuple[list[AffineSite], dict[BatchNorm, Skip]]:
    """Sites in graph order, and the norms that are none with the reason."""
    order = {node: i for i, node in enumerate(ctx.model.graph.all_nodes())}
    refused: dict[BatchNorm, Skip] = {}
    sites: list[AffineSite] = []
    taken: set[ir.Node] = set()
    for norm in norms:
        taken.update(norm.nodes)
        made = _of_norm(ctx, norm)
        if isinstance(made, Skip):
            refused[norm] = made
        else:
            sites.append(made)
    sites += _anonymous(ctx, (node for node in order if node not in taken))
    sites.sort(key=lambda site: max(order.get(node, 0) for node in site.nodes))
    return sites, refused


def _of_norm(ctx: Context, norm: BatchNorm) -> AffineSite | Skip:
    if norm.affine is None or norm.input is None or norm.output is None:
        reason, detail = norm.why_not or ("not_in_graph", "it has no trace in the graph")
        return Skip(SkipReason(reason), detail)
    rank = ctx.rank(norm.input)
    if rank is None:
        rank = ctx.rank(norm.output)
    if rank is None:
        return Skip(SkipReason.UNKNOWN_SHAPE, f"the rank of `{norm.input.name}` is unknown")
    misfit = _misfit(norm.affine, rank, ctx.dims(norm.input))
    if misfit is not None:
        return Skip(SkipReason.CHANNEL_AXIS_LOST, misfit)
    affine = Affine.from_channels(norm.affine, rank)
    arrays = (norm.moving_mean, norm.moving_variance, norm.gamma, norm.beta)
    if not all(array is None or np.isfinite(array.astype(np.float64)).all() for array in arrays):
        return Skip(SkipReason.UNHEALTHY, "its statistics or parameters are not all finite")
    if not affine.finite:
        return Skip(SkipReason.UNHEALTHY, "its scale or shift is not finite: the variance is not positive")
    input_uses = tuple(use for use in norm.input.uses() if use.node in norm.nodes)
    if not input_uses:
        return Skip(SkipReason.NOT_IN_GRAPH, "nothing of it reads its input any more")
    return AffineSite(
        output=norm.output,
        nodes=norm.nodes,
        input_uses=tuple((use.node, use.idx) for use in input_uses),
        affine=affine,
        name=norm.name,
        norm=norm,
        rewritten=norm.restate or any(not g.is_stored(value) for value in _operands(norm)),
        merged=norm.restate,
    )


def _misfit(affine: ChannelAffine, rank: int, shape: Sequence[int | str | None] | None) -> str | None:
    """Why the statistics cannot belong to the value: no such axis, or one of another size."""
    if affine.axis is None:
        return None
    if not -rank <= affine.axis < rank:
        return f"its input has rank {rank}, so there is no channel axis {affine.axis}"
    size = shape[affine.axis] if shape is not None and len(shape) == rank else None
    if isinstance(size, int) and affine.scale.size not in (1, size):
        return f"it has statistics for {affine.scale.size} channels, its input has {size}"
    return None


def _operands(norm: BatchNorm) -> list[ir.Value]:
    """The constants that the norm's nodes read."""
    inner = {value for node in norm.nodes for value in node.outputs} | {norm.input}
    return [value for node in norm.nodes for value in node.inputs if value is not None and value not in inner]


def _anonymous(ctx: Context, nodes: Iterable[ir.Node]) -> list[AffineSite]:
    """Constant arithmetic that is no batch norm. A Mul and the Add behind it are one site."""
    found: dict[ir.Value, AffineSite] = {}
    for node in nodes:
        site = _single(ctx, node)
        if site is None:
            continue
        before = found.get(site.input)
        if before is not None and _pair(before, site):
            found.pop(site.input)
            site = _joined(before, site)
        found[site.output] = site
    return list(found.values())


def _single(ctx: Context, node: ir.Node) -> AffineSite | None:
    step = elementwise.step(node, ctx.constants)
    if step is None or matmul.biased_by(node, ctx) is not None or _part_of_activation(step):
        return None
    affine = Affine.of(*step.arrays(ctx.constants)).compressed()
    if not affine.finite:
        return None
    name = node.name or step.y.name or node.op_type
    computed = step.const is not None and not g.is_stored(step.const)
    return AffineSite(step.y, (node,), ((node, step.x_index),), affine, name, rewritten=computed)


def _pair(first: AffineSite, second: AffineSite) -> bool:
    """Mul then Add, with nobody else reading between: already the form that a restated affine would take."""
    if len(first.nodes) != 1 or not g.is_op(first.nodes[0], "Mul") or not g.is_op(second.nodes[0], "Add"):
        return False
    return len(first.output.uses()) == 1 and not first.output.is_graph_output()


def _joined(first: AffineSite, second: AffineSite) -> AffineSite:
    return AffineSite(
        second.output, first.nodes + second.nodes, first.input_uses, first.affine.then(second.affine),
        second.name, rewritten=first.rewritten or second.rewritten,
    )  # fmt: skip


def _part_of_activation(step: elementwise.Step) -> bool:
    """Leave what runtimes recognise as one operator."""
    producer = step.x.producer()
    near = [] if producer is None else [producer]
    if producer is not None and g.is_op(producer, "Mul", "Div", "Add"):
        near += _producers(producer)
    hops = [item for item in near if g.is_op(item, "Mul", "Div", "Add")]
    far = [node for item in hops for node in _producers(item)]
    if any(g.is_op(node, *_LAYER_NORM) for node in (*near, *far)):
        return True
    shape = [] if step.const is None else shapes.dims(step.const)
    scalar = shape is not None and all(size == 1 for size in shape)
    around = {node.op_type for node in near} | {use.node.op_type for use in step.y.uses()}
    behind = [node for item in hops if not _by_vector(item) for node in _producers(item)]
    around |= {node.op_type for node in behind if node.op_type in ("Erf", "Tanh")}
    return scalar and bool(around & _ACTIVATION)


def _by_vector(node: ir.Node) -> bool:
    """Whether a constant of several elements is an operand: no activation has one."""
    consts = [value.const_value for value in node.inputs if value is not None]
    return any(tensor is not None and tensor.size > 1 for tensor in consts)


def _producers(node: ir.Node) -> list[ir.Node]:
    found = [value.producer() for value in node.inputs if value is not None]
    return [item for item in found if item is not None]
