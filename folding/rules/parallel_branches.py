"""Parallel linear branches of one input that are added up: one convolution.

    W_i (C_out, C_in/group_i, *kernel_i), b_i (C_out,);  affine: scale, shift (C,), C = C_in = C_out
    a kernel is laid into the largest one where each of its taps reads the same place of the input:
    tap j of branch i reads place  j*dilation_i - pad_i  beside the window's start

Given:  y = Conv(x, W_1, b_1) + Conv(x, W_2, b_2) + (scale*x + shift)
Result: y = Conv(x, W_1 + laid_in(W_2) + diag(scale), b_1 + b_2 + shift)
        diag(scale) stands at the tap that reads the place itself

RepVGG's blocks (3x3, 1x1 and identity, each with its norm) are the usual case. All sums are made in float64,
with what each branch has absorbed, and rounded once. This runs after affines have been moved and before
weights are written, so nothing is absorbed by a branch afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from folding.ir import edit
from folding.ir import query as g
from folding.ir.types import Array, Float64Array
from folding.rules import certificate as cert
from folding.rules.absorbers import conv, quantized
from folding.rules.absorbers.linear import Linear
from folding.rules.absorbers.window import padding
from folding.rules.affine import Affine
from folding.rules.base import Skip
from folding.rules.engine import AffineSite
from folding.rules.interface import Context
from folding.rules.writing.bias import dtype_of, forget, refuse, store
from folding.rules.writing.emit_affine import constant
from folding.rules.writing.rounding import remember, rounded
from folding.rules.writing.write import Writer


@dataclass(frozen=True)
class Taps:
    """Where a convolution's window reads: per spatial axis first place, step and count of its taps.

    total: padding less the window's extent, which decides the output's size.
    """

    first: tuple[int, ...]
    step: tuple[int, ...]
    count: tuple[int, ...]
    strides: tuple[int, ...]
    total: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Summand:
    """A value in a sum, and the node that reads it there."""

    value: ir.Value
    reader: ir.Node


@dataclass(eq=False)
class Merge:
    """What one convolution takes over: other convolutions, sites, and plain copies of its input.

    weight, bias: the sums in float64, still to be rounded.
    """

    host: Linear
    convs: list[Linear]
    sites: list[AffineSite]
    leaves: list[Summand]  # those that go
    inner: list[ir.Value]  # partial sums, which come to hold other numbers
    weight: Float64Array
    bias: Float64Array


def taps_of(node: ir.Node, kernel: Sequence[int], space: Sequence[int | str | None]) -> Taps | None:
    """The window of a Conv; None where its padding depends on a size of `space` that is unknown."""
    n = len(kernel)
    dilations = g.attr_ints(node, "dilations") or [1] * n
    strides = g.attr_ints(node, "strides") or [1] * n
    auto = g.attr_str(node, "auto_pad", "NOTSET")
    begins, ends = padding(node, n, auto, kernel, strides, dilations, space)
    if begins is None or ends is None:
        return None
    pads = [*begins, *ends]
    total = [pads[i] + pads[n + i] - (kernel[i] - 1) * dilations[i] for i in range(n)]
    return Taps(
        tuple(-pad for pad in pads[:n]), tuple(dilations), tuple(kernel), tuple(strides), tuple(total)
    )


def position(host: Taps, place: Sequence[int]) -> tuple[int, ...] | None:
    """The host's tap that reads these places beside the window's start; None where none does."""
    found = []
    for first, step, count, wanted in zip(host.first, host.step, host.count, place, strict=True):
        index, rest = divmod(wanted - first, step)
        if rest or not 0 <= index < count:
            return None
        found.append(index)
    return tuple(found)


def lay_in(
    weight: Float64Array, taps: Taps, group: int, into: Float64Array, host: Taps, host_group: int
) -> bool:
    """Add a convolution's weights to those of another that reads the same input; False where they do not fit.

    Groups may be finer than the host's: rows are then laid at their own input channels.
    """
    if taps.strides != host.strides or taps.total != host.total or group % host_group:
        return False
    if weight.shape[0] != into.shape[0] or weight.shape[1] * group != into.shape[1] * host_group:
        return False
    places = list(np.ndindex(*taps.count))
    targets = [
        position(host, [f + s * i for f, s, i in zip(taps.first, taps.step, tap, strict=True)])
        for tap in places
    ]
    if any(target is None for target in targets):
        return False
    outs, ins = weight.shape[0], weight.shape[1]
    for row in range(outs):
        start = row // (outs // group) * ins - row // (outs // host_group) * into.shape[1]
        for tap, target in zip(places, targets, strict=True):
            assert target is not None
            to: Any = (row, slice(start, start + ins), *target)
            of: Any = (row, slice(None), *tap)
            into[to] += weight[of]
    return True


def identity_taps(host: Taps) -> Taps:
    """A window of one tap that reads its own place."""
    n = len(host.count)
    return Taps((0,) * n, (1,) * n, (1,) * n, (1,) * n, (0,) * n)


class ParallelBranches:
    """One search over the sums of a model."""

    def __init__(self, ctx: Context, writer: Writer, sites: Sequence[AffineSite]) -> None:
        self.ctx = ctx
        self.writer = writer
        self.by_output = {site.output: site for site in sites if not site.gone}

    def merges(self) -> Iterator[Merge]:
        """Find sums whose summands can become one; the graph may be rewritten between two of them."""
        for node in list(self.ctx.model.graph.all_nodes()):
            if node.graph is None or not _is_sum(node) or _feeds_sum(node):
                continue
            leaves, inner = _summands(node)
            by_input: dict[ir.Value, list[Summand]] = {}
            for leaf in leaves:
                source = self._source(leaf.value, node)
                if source is not None:
                    by_input.setdefault(source, []).append(leaf)
            for source, alike in by_input.items():
                found = self._merge(source, alike, inner) if len(alike) > 1 else None
                if found is not None:
                    yield found
                    break  # leaves are stale now

    def _source(self, leaf: ir.Value, root: ir.Node) -> ir.Value | None:
        """The value that a summand is a linear function of."""
        site, node = self.by_output.get(leaf), leaf.producer()
        if (site is None and not g.is_op(node, "Conv")) or (site is not None and not _alone(leaf)):
            return leaf
        if node is None or node.graph is not root.graph or not _alone(leaf):
            return None
        return node.inputs[0] if site is None else site.input

    def _merge(self, source: ir.Value, leaves: list[Summand], inner: list[ir.Value]) -> Merge | None:
        convs = [linear for leaf in leaves if (linear := self._conv(leaf.value)) is not None]
        if not convs:
            return None
        host = max(convs, key=lambda linear: (self._size(linear), -convs.index(linear)))
        window = self._window(host)
        if window is None:
            return None
        made = Merge(host, [], [], [], inner, *self._exact(host))
        for leaf in leaves:
            if leaf.value is not host.output:
                self._add(made, source, leaf, *window)
        return made if made.leaves and self._writable(made) else None

    def _conv(self, leaf: ir.Value) -> Linear | None:
        """A convolution whose numbers are all known and plain, with no shift of its input on the way."""
        node = leaf.producer()
        if node is None or leaf in self.by_output or not g.is_op(node, "Conv"):
            return None
        linear = conv.RULE.linear(node, self.ctx)
        if isinstance(linear, Skip) or quantized.dequantizer(linear) is not None:
            return None
        if linear.t_in is not None and np.any(linear.t_in):
            return None
        return None if linear.bias is not None and not self.ctx.constants.is_const(linear.bias) else linear

    def _size(self, linear: Linear) -> int:
        shape = self.ctx.constants.shape(linear.weight)
        return 0 if shape is None else int(np.prod(shape))

    def _window(self, linear: Linear) -> tuple[Taps, int] | None:
        shape = self.ctx.constants.shape(linear.weight)
        if shape is None:
            return None
        source = linear.node.inputs[0]
        dims = self.ctx.dims(source) if source is not None else None
        known = dims is not None and len(dims) == len(shape)
        space = dims[2:] if dims is not None and known else [None] * (len(shape) - 2)
        taps = taps_of(linear.node, shape[2:], space)
        return None if taps is None else (taps, int(g.attr_int(linear.node, "group", 1)))

    def _exact(self, linear: Linear) -> tuple[Float64Array, Float64Array]:
        """Weights and bias in float64, with all that the node absorbed."""
        weight = self.writer.original(linear.weight).astype(np.float64)
        if linear.s_out is not None:
            weight = weight * linear.out_factor(linear.s_out)
        if linear.s_in is not None:
            weight = weight * linear.in_factor(linear.s_in)
        bias = np.zeros(linear.out_size)
        if linear.bias is not None:
            bias = bias + self.ctx.constants.evaluate(linear.bias)
        if linear.s_out is not None:
            bias = bias * linear.s_out
        return weight, bias if linear.t_out is None else bias + linear.t_out

    def _add(self, made: Merge, source: ir.Value, leaf: Summand, taps: Taps, group: int) -> None:
        """Take one summand into the sums, if it fits."""
        own = leaf.value is source
        branch = None if own else self._conv(leaf.value)
        site = None if own else self.by_output.get(leaf.value)
        if branch is not None:
            fits = self._lay_branch(made, branch, taps, group)
            made.convs += [branch] * fits
        elif site is not None or (own and all(o.value is not source for o in made.leaves)):
            fits = self._lay_affine(made, None if site is None else site.affine, taps, group)
            made.sites += [site] * fits if site is not None else []
        else:
            return
        made.leaves += [leaf] * fits

    def _lay_branch(self, made: Merge, branch: Linear, taps: Taps, group: int) -> bool:
        window = self._window(branch)
        if window is None or branch.weight.dtype != made.host.weight.dtype:
            return False
        weight, bias = self._exact(branch)
        fits = lay_in(weight, *window, made.weight, taps, group)
        if fits:
            made.bias += bias
        return fits

    def _lay_affine(self, made: Merge, affine: Affine | None, taps: Taps, group: int) -> bool:
        """A norm of the input, or the input itself (None), on the diagonal."""
        size = made.host.in_size
        vectors = (np.ones(size), np.zeros(size)) if affine is None else affine.vector(1, size)
        if vectors is None or made.host.out_size != size:
            return False
        diagonal = vectors[0].reshape((size, 1) + (1,) * len(taps.count))
        fits = lay_in(diagonal, identity_taps(taps), size, made.weight, taps, group)
        if fits:
            made.bias += vectors[1]
        return fits

    def _writable(self, made: Merge) -> bool:
        dtype = dtype_of(made.host, np.zeros(0))
        return all(refuse(rounded(array, dtype)[1], "branches") is None for array in (made.weight, made.bias))


def apply(ctx: Context, made: Merge) -> cert.Rounding:
    """Write the sums into the host, and take the other summands out of the graph."""
    host, dtype = made.host, dtype_of(made.host, np.zeros(0))
    weight, rounding = rounded(made.weight, dtype)
    bias, more = rounded(made.bias, dtype)
    rounding.add(more)
    remember(_put(ctx, host, 1, weight), lambda: made.weight)
    remember(_put(ctx, host, 2, bias), lambda: made.bias)
    own = [leaf for leaf in made.leaves if not _alone(leaf.value)]  # the input, while its reader stands
    for leaf in [*own, *(leaf for leaf in made.leaves if leaf not in own)]:
        _drop_summand(leaf.value, leaf.reader if leaf in own else _reader(leaf.value))
        producer = leaf.value.producer()
        if producer is not None:
            edit.prune([producer])
    return rounding


def _put(ctx: Context, host: Linear, index: int, array: Array) -> ir.Value:
    old = g.input_at(host.node, index)
    if old is None:
        assert isinstance(host.node.graph, ir.Graph)
        dtype = ir.DataType.from_numpy(array.dtype)
        value = constant(ctx, host.node.graph, f"{host.name}/bias", array, dtype)
    else:
        value = store(ctx, old, array, host.node, exclusive=len(old.uses()) == 1)
    if index >= len(host.node.inputs):
        host.node.resize_inputs(index + 1)
    host.node.replace_input_with(index, value)
    if old is not None and old is not value:
        forget(old)
    return value


def _is_sum(node: ir.Node) -> bool:
    return (
        g.is_op(node, "Add", "Sum") and "axis" not in node.attributes and "broadcast" not in node.attributes
    )


def _alone(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()


def _feeds_sum(node: ir.Node) -> bool:
    """Whether the node is itself a summand of a larger sum in its graph, and nothing else."""
    if not _alone(node.outputs[0]):
        return False
    reader = _reader(node.outputs[0])
    return _is_sum(reader) and reader.graph is node.graph


def _reader(value: ir.Value) -> ir.Node:
    return next(use.node for use in value.uses())


def _summands(root: ir.Node) -> tuple[list[Summand], list[ir.Value]]:
    """Leaves of the tree of sums below a node, and the partial sums inside it."""
    leaves: list[Summand] = []
    inner: list[ir.Value] = []
    work = [root]
    while work:
        node = work.pop()
        for value in node.inputs:
            producer = None if value is None else value.producer()
            if value is None:
                continue
            if producer is not None and _is_sum(producer) and _alone(value) and producer.graph is node.graph:
                inner.append(value)
                work.append(producer)
            else:
                leaves.append(Summand(value, node))
    return leaves, inner


def _drop_summand(leaf: ir.Value, node: ir.Node) -> None:
    """Take one occurrence of a value out of a sum; a sum of one value is that value."""
    rest = [value for value in node.inputs if value is not None]
    rest.remove(leaf)
    if len(rest) > 1:
        for index, value in enumerate(rest):
            node.replace_input_with(index, value)
        node.resize_inputs(len(rest))
        return
    result, kept = node.outputs[0], rest[0]
    named = result.is_graph_output()
    edit.replace_value(result, kept)
    if not named and kept.producer() is not None and not kept.is_graph_output():
        edit.take_name(result, kept)
    edit.prune([node])
