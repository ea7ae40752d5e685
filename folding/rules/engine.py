"""The engine: decide for the whole graph, then write once.

    1  into_producer, in graph order: a site whose affine cannot leave becomes an absorber itself, so that
       later ones merge into it
    2  into_consumer, against graph order, for what stayed
    3  halves: scale one way and shift the other; else one half leaves and the other stays as one node
    4  write: absorbers' weights, then what stays, in the fewest nodes

Journeys are all-or-nothing: a work list of (value, affine), every one of which must be taken. Refusals that
do not depend on the affine are remembered per value, so a refused region is searched once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from folding.norms.base import BatchNorm
from folding.rules import emit_affine
from folding.rules.absorbers import constant
from folding.rules.absorbers.linear import Linear
from folding.rules.affine import Affine
from folding.rules.base import Direction, Skip, SkipReason
from folding.rules.interface import Absorbed, Context, Passed, Rule, label
from folding.rules.transparent.branches import carried
from folding.rules.transparent.select import Census, alone_among_slices, census
from folding.rules.transparent.shape_only import blind
from folding.rules.write import Writer

_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv",
                         "QLinearMatMul", "ConvInteger", "MatMulInteger"})  # fmt: skip
_MAX_JOURNEY = 20_000  # values visited for one affine; beyond that it stays where it is


@dataclass(eq=False)
class Site:
    """One affine in the graph: a batch norm, or an anonymous Mul/Add/Sub/Div/Neg.

    `doors`: the (node, index) pairs through which its nodes read the input.
    """

    output: ir.Value
    nodes: tuple[ir.Node, ...]
    doors: tuple[tuple[ir.Node, int], ...]
    affine: Affine
    name: str
    norm: BatchNorm | None = None
    absorbers: list[Absorbed] = field(default_factory=list)
    direction: Direction | None = None
    skips: list[Skip] = field(default_factory=list)
    guests: list[Site] = field(default_factory=list)
    rewritten: bool = False  # its nodes should be stated anew
    merged: bool = False  # its nodes must be stated anew: they no longer say its affine
    gone: bool = False

    @property
    def input(self) -> ir.Value:
        """The value that it reads now."""
        node, index = self.doors[0]
        value = node.inputs[index]
        assert value is not None
        return value

    def absorb(self, affine: Affine, side: str) -> None:
        """Merge another affine, after or before this one."""
        self.affine = self.affine.then(affine) if side == "out" else affine.then(self.affine)
        self.rewritten = self.merged = True


@dataclass(eq=False)
class Journey:
    """All that one affine would do if it left: who takes it, who is patched, which values change meaning."""

    absorbed: list[Absorbed] = field(default_factory=list)
    patches: list[Passed] = field(default_factory=list)
    changed: list[ir.Value] = field(default_factory=list)


class Search:
    """Journeys of affines over one graph."""

    def __init__(self, ctx: Context, rules: dict[str, Rule], sites: list[Site]) -> None:
        self.ctx = ctx
        self.rules = rules
        self.writer = Writer(ctx)
        self.by_output = {site.output: site for site in sites}
        self.by_node = {node: site for site in sites for node in site.nodes}
        self._refused: dict[tuple[ir.Value, str], Skip] = {}
        self._counted: dict[ir.Value, dict[tuple[int, tuple[int, ...]], Census | None]] = {}

    def _host(self, move: Absorbed | Passed | Skip, side: str) -> Absorbed | Passed | Skip:
        """A last look at an absorber: would its numbers stay within the range of their type?"""
        if not isinstance(move, Absorbed):
            return move
        host = move.absorber
        if isinstance(host, Linear):
            return self.writer.preview(host, side, move.scale, move.shift) or move
        assert isinstance(host, Site)
        merged = host.affine.then(move.affine) if side == "out" else move.affine.then(host.affine)
        if emit_affine.representable(merged, host.output.dtype):
            return move
        return Skip(
            SkipReason.WOULD_OVERFLOW, f"merged with `{host.name}` it would leave the range of its type"
        )

    def into_producer(self, site: Site, affine: Affine) -> Journey | Skip:
        """Who can make `site.input` come out as affine(site.input)."""
        journey = Journey()
        parents: dict[ir.Value, ir.Value | None] = {site.input: None}
        work: list[tuple[ir.Value, Affine, frozenset[ir.Node]]] = [
            (site.input, affine, frozenset(site.nodes))
        ]
        while work:
            value, wanted, users = work.pop()
            step = self._host(self._producer_step(value, wanted, users), "out")
            if isinstance(step, Skip):
                return self._refuse(step, value, parents, "out")
            journey.changed.append(value)
            if isinstance(step, Absorbed):
                journey.absorbed.append(step)
                continue
            journey.patches.append(step)
            node = value.producer()
            assert node is not None
            if len({source for source, _ in step.onward}) < len(step.onward):
                return Skip(SkipReason.SHARED_PRODUCER_OUTPUT, f"{label(node)} reads one value twice")
            for source, onward in step.onward:
                parents.setdefault(source, value)
                work.append((source, onward, frozenset([node])))
            if len(parents) > _MAX_JOURNEY:
                return Skip(SkipReason.NO_LINEAR_NEIGHBOUR, f"no end after {_MAX_JOURNEY} values")
        return journey

    def _producer_step(
        self, value: ir.Value, wanted: Affine, users: frozenset[ir.Node]
    ) -> Absorbed | Passed | Skip:
        if (value, "out") in self._refused:
            return self._refused[value, "out"]
        place = constant.reader(value, users, self.ctx)
        if place is not None and place[0] not in self.by_node:
            return constant.absorb(value, *place, wanted, self.ctx)
        guard = self._alone(value, wanted, users)
        if guard is not None:
            return guard
        host = self.by_output.get(value)
        if host is not None and not host.gone:
            return Absorbed(host, "out", wanted.scale, wanted.shift, wanted)
        node = value.producer()
        if node is None:
            return self._no_producer(value)
        rule = self._rule(node)
        if rule is None:
            return _not_linear(node, "produced by")
        index = value.index()
        return rule.into_producer(node, index or 0, wanted, self.ctx)

    def _alone(self, value: ir.Value, wanted: Affine, users: frozenset[ir.Node]) -> Skip | None:
        """Whether only `users` read the value: anybody else would see it changed."""
        if value.is_graph_output() and not carried(value, users):
            return Skip(SkipReason.GRAPH_OUTPUT, f"`{value.name}` is itself an output of the graph")
        count = self._census(value, wanted)
        counted = count is not None and alone_among_slices(count, users, wanted)
        for node, index in count.others if counted and count is not None else value.uses():
            if node not in users and not blind(node, index):
                return Skip(
                    SkipReason.SHARED_PRODUCER_OUTPUT, f"`{value.name}` is also read by {label(node)}"
                )
        return None

    def _census(self, value: ir.Value, wanted: Affine) -> Census | None:
        """The readers of a value that is cut into slices, counted once: a value may have thousands."""
        if len(value.uses()) < 2 or len(wanted.varying()) != 1:
            return None
        known = self._counted.setdefault(value, {})
        key = (wanted.varying()[0], wanted.scale.shape)
        if key not in known:
            known[key] = census(value, wanted, self.ctx)
        return known[key]

    def forget(self, value: ir.Value) -> None:
        """It has other readers now."""
        self._counted.pop(value, None)

    def _no_producer(self, value: ir.Value) -> Skip:
        if value.is_graph_input() and value.graph is not self.ctx.model.graph:
            return Skip(
                SkipReason.CONTROL_FLOW_BOUNDARY, f"`{value.name}` enters a loop or branch body at run time"
            )
        return Skip(SkipReason.NO_LINEAR_NEIGHBOUR, f"`{value.name}` is an input of the graph", True)

    def into_consumer(self, site: Site, affine: Affine) -> Journey | Skip:
        """Who reads `site.output`, directly or further on, and can apply the affine to what it reads."""
        journey = Journey()
        parents: dict[ir.Value, ir.Value | None] = {site.output: None}
        work: list[tuple[ir.Value, Affine]] = [(site.output, affine)]
        while work:
            value, offered = work.pop()
            if value is not site.output:
                journey.changed.append(value)
            if (value, "in") in self._refused:
                return self._refuse(self._refused[value, "in"], value, parents, "in")
            if value.is_graph_output():
                skip = Skip(SkipReason.GRAPH_OUTPUT, f"`{value.name}` is an output of the graph", True)
                return self._refuse(skip, value, parents, "in")
            for use in value.uses():
                step = self._host(self._consumer_step(use.node, use.idx, offered), "in")
                if isinstance(step, Skip):
                    return self._refuse(step, value, parents, "in")
                if isinstance(step, Absorbed):
                    journey.absorbed.append(step)
                    continue
                journey.patches.append(step)
                for target, onward in step.onward:
                    parents.setdefault(target, value)
                    work.append((target, onward))
            if len(parents) > _MAX_JOURNEY:
                return Skip(SkipReason.NO_LINEAR_NEIGHBOUR, f"no end after {_MAX_JOURNEY} values")
        return journey

    def _consumer_step(self, node: ir.Node, index: int, offered: Affine) -> Absorbed | Passed | Skip:
        host = self.by_node.get(node)
        if host is not None and not host.gone:
            if (node, index) not in host.doors or len(host.doors) != 1:
                return _not_linear(node, "read by")
            return Absorbed(host, "in", offered.scale, offered.shift, offered)
        rule = self._rule(node)
        if rule is None:
            return _not_linear(node, "read by")
        return rule.into_consumer(node, index, offered, self.ctx)

    def _rule(self, node: ir.Node) -> Rule | None:
        return self.rules.get(node.op_type) if node.domain in ("", "ai.onnx") else None

    def _refuse(
        self, skip: Skip, value: ir.Value, parents: dict[ir.Value, ir.Value | None], side: str
    ) -> Skip:
        """Remember a refusal that no affine could avoid, for the value and all that led to it."""
        if skip.always:
            at: ir.Value | None = value
            while at is not None and (at, side) not in self._refused:
                self._refused[at, side] = skip
                at = parents[at]
        return skip


def _not_linear(node: ir.Node, how: str) -> Skip:
    if node.op_type in _QUANTIZERS:
        return Skip(SkipReason.QUANTIZED_ACTIVATION, f"{how} {label(node)}: rounding stands between", True)
    return Skip(SkipReason.NO_LINEAR_NEIGHBOUR, f"{how} {label(node)}, which takes no affine", True)
