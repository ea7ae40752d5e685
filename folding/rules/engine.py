"""The engine: decide for the whole graph, then write once.

    1  into_producer, in graph order: a site whose affine cannot leave becomes an absorber itself, so that
       later ones merge into it
    2  into_consumer, against graph order, for what stayed
    3  halves: scale one way and shift the other; else one half leaves and the other stays as one node
    4  write: absorbers' weights, then what stays, in the fewest nodes

Plans are all-or-nothing: a work list of (value, affine), every one of which must be taken. Refusals that
do not depend on the affine are remembered per value, so a refused region is searched once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from folding.norms.base import BatchNorm
from folding.rules import joins
from folding.rules.absorbers import constant
from folding.rules.absorbers.linear import Linear
from folding.rules.affine import Affine
from folding.rules.base import Direction, Skip, SkipReason
from folding.rules.interface import Absorbed, Context, Propagated, Rule, Side, label
from folding.rules.transparent.branches import forwarded_by_if
from folding.rules.transparent.select import SliceCoverage, alone_among_slices, slice_coverage
from folding.rules.transparent.shape_only import reads_shape_only
from folding.rules.writing import emit_affine
from folding.rules.writing.write import Writer

_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv",
                         "QLinearMatMul", "ConvInteger", "MatMulInteger"})  # fmt: skip
Arrival = tuple[ir.Node, int, Affine]
_MAX_VISITED_VALUES = 20_000  # values visited for one affine; beyond that it stays where it is


@dataclass(eq=False)
class AffineSite:
    """One affine in the graph: a batch norm, or an anonymous Mul/Add/Sub/Div/Neg.

    `input_uses`: the (node, index) pairs through which its nodes read the input.
    """

    output: ir.Value
    nodes: tuple[ir.Node, ...]
    input_uses: tuple[tuple[ir.Node, int], ...]
    affine: Affine
    name: str
    norm: BatchNorm | None = None
    absorbers: list[Absorbed] = field(default_factory=list)
    direction: Direction | None = None
    skips: list[Skip] = field(default_factory=list)
    tried: str = ""  # what could be done and is not worth it
    merged_sites: list[AffineSite] = field(default_factory=list)
    rewritten: bool = False  # its nodes should be stated anew
    merged: bool = False  # its nodes must be stated anew: they no longer say its affine
    gone: bool = False

    @property
    def input(self) -> ir.Value:
        """The value that it reads now."""
        node, index = self.input_uses[0]
        value = node.inputs[index]
        assert value is not None
        return value

    def absorb(self, affine: Affine, side: Side) -> None:
        """Merge another affine, after or before this one."""
        self.affine = self.affine.then(affine) if side == Side.INTO_PRODUCER else affine.then(self.affine)
        self.rewritten = self.merged = True


@dataclass(eq=False)
class PropagationPlan:
    """All that one affine would do if it left: who takes it, who is patched, which values change meaning."""

    absorbed: list[Absorbed] = field(default_factory=list)
    patches: list[Propagated] = field(default_factory=list)
    changed: list[ir.Value] = field(default_factory=list)


class Propagator:
    """Plans of affines over one graph."""

    def __init__(self, ctx: Context, rules: dict[str, Rule], sites: list[AffineSite]) -> None:
        self.ctx = ctx
        self.rules = rules
        self.writer = Writer(ctx)
        self.by_output = {site.output: site for site in sites}
        self.by_node = {node: site for site in sites for node in site.nodes}
        self._refused: dict[tuple[ir.Value, str], Skip] = {}
        self._counted: dict[ir.Value, dict[tuple[int, tuple[int, ...]], SliceCoverage | None]] = {}

    def _check_range(self, move: Absorbed | Propagated | Skip, side: Side) -> Absorbed | Propagated | Skip:
        """A last look at an absorber: would its numbers stay within the range of their type?"""
        if not isinstance(move, Absorbed):
            return move
        host = move.absorber
        if isinstance(host, Linear):
            return self.writer.preview(host, side, move.scale, move.shift) or move
        assert isinstance(host, AffineSite)
        merged = (
            host.affine.then(move.affine) if side == Side.INTO_PRODUCER else move.affine.then(host.affine)
        )
        if emit_affine.representable(merged, host.output.dtype):
            return move
        return Skip(
            SkipReason.WOULD_OVERFLOW, f"merged with `{host.name}` it would leave the range of its type"
        )

    def into_producer(self, site: AffineSite, affine: Affine) -> PropagationPlan | Skip:
        """Who can make `site.input` come out as affine(site.input)."""
        plan = PropagationPlan()
        parents: dict[ir.Value, ir.Value | None] = {site.input: None}
        work: list[tuple[ir.Value, Affine, frozenset[ir.Node]]] = [
            (site.input, affine, frozenset(site.nodes))
        ]
        waiting: dict[ir.Value, tuple[Affine, frozenset[ir.Node], Skip]] = {}
        while work:
            value, wanted, users = work.pop()
            before = waiting.pop(value, None)
            if before is not None and not joins.same(before[0], wanted):
                return before[2]
            users = users if before is None else users | before[1]
            step = self._check_range(self._producer_step(value, wanted, users), Side.INTO_PRODUCER)
            if isinstance(step, Skip):
                if _comes_again(step, value, users, parents):
                    waiting[value] = (wanted, users, step)
                    continue
                return self._refuse(step, value, parents, Side.INTO_PRODUCER)
            plan.changed.append(value)
            if isinstance(step, Absorbed):
                plan.absorbed.append(step)
                continue
            plan.patches.append(step)
            node = value.producer()
            assert node is not None
            if len({source for source, _ in step.onward}) < len(step.onward):
                return Skip(SkipReason.SHARED_PRODUCER_OUTPUT, f"{label(node)} reads one value twice")
            for source, onward in step.onward:
                parents.setdefault(source, value)
                work.append((source, onward, frozenset([node])))
            if len(parents) > _MAX_VISITED_VALUES:
                return Skip(SkipReason.NO_LINEAR_NEIGHBOUR, f"no end after {_MAX_VISITED_VALUES} values")
        return next((skip for _, _, skip in waiting.values()), plan)

    def _producer_step(
        self, value: ir.Value, wanted: Affine, users: frozenset[ir.Node]
    ) -> Absorbed | Propagated | Skip:
        if (value, Side.INTO_PRODUCER) in self._refused:
            return self._refused[value, Side.INTO_PRODUCER]
        place = constant.reader(value, users, self.ctx)
        if place is not None and place[0] not in self.by_node:
            return constant.absorb(value, *place, wanted, self.ctx)
        guard = self._alone(value, wanted, users)
        if guard is not None:
            return guard
        host = self.by_output.get(value)
        if host is not None and not host.gone:
            return Absorbed(host, Side.INTO_PRODUCER, wanted.scale, wanted.shift, wanted)
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
        if value.is_graph_output() and not forwarded_by_if(value, users):
            return Skip(SkipReason.GRAPH_OUTPUT, f"`{value.name}` is itself an output of the graph")
        count = self._slice_coverage(value, wanted)
        counted = count is not None and alone_among_slices(count, users, wanted)
        for node, index in count.others if counted and count is not None else value.uses():
            if node not in users and not reads_shape_only(node, index):
                return Skip(
                    SkipReason.SHARED_PRODUCER_OUTPUT, f"`{value.name}` is also read by {label(node)}"
                )
        return None

    def _slice_coverage(self, value: ir.Value, wanted: Affine) -> SliceCoverage | None:
        """The readers of a value that is cut into slices, counted once: a value may have thousands."""
        if len(value.uses()) < 2 or len(wanted.varying()) != 1:
            return None
        known = self._counted.setdefault(value, {})
        key = (wanted.varying()[0], wanted.scale.shape)
        if key not in known:
            known[key] = slice_coverage(value, wanted, self.ctx)
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

    def into_consumer(self, site: AffineSite, affine: Affine) -> PropagationPlan | Skip:
        """Who reads `site.output`, directly or further on, and can apply the affine to what it reads."""
        plan = PropagationPlan()
        parents: dict[ir.Value, ir.Value | None] = {site.output: None}
        work: list[tuple[ir.Value, Affine]] = [(site.output, affine)]
        joining = joins.Joins(self.ctx)
        while work or joining.arrived:
            arrivals = list(joining.rest()) if not work else []
            if work:
                value, offered = work.pop()
                if value is not site.output:
                    plan.changed.append(value)
                stop = self._end_of_way(value)
                if stop is not None:
                    return self._refuse(stop, value, parents, Side.INTO_CONSUMER)
                arrivals = self._join([(use.node, use.idx, offered) for use in value.uses()], joining, work)
            for node, index, offered in arrivals:
                step = self._check_range(self._consumer_step(node, index, offered), Side.INTO_CONSUMER)
                source = node.inputs[index]
                assert source is not None
                if isinstance(step, Skip):
                    return self._refuse(step, source, parents, Side.INTO_CONSUMER)
                if isinstance(step, Absorbed):
                    plan.absorbed.append(step)
                    continue
                plan.patches.append(step)
                for target, onward in step.onward:
                    parents.setdefault(target, source)
                    work.append((target, onward))
            for target, _ in work:
                parents.setdefault(target, None)
            if len(parents) > _MAX_VISITED_VALUES:
                return Skip(SkipReason.NO_LINEAR_NEIGHBOUR, f"no end after {_MAX_VISITED_VALUES} values")
        return plan

    def _end_of_way(self, value: ir.Value) -> Skip | None:
        """Whether nothing can pass this value towards its readers."""
        if value.is_graph_output():
            return Skip(SkipReason.GRAPH_OUTPUT, f"`{value.name}` is an output of the graph", True)
        return self._refused.get((value, Side.INTO_CONSUMER))

    def _join(
        self, arrivals: list[Arrival], joining: joins.Joins, work: list[tuple[ir.Value, Affine]]
    ) -> list[Arrival]:
        """Let arrivals wait at nodes that pass the affine once all their inputs bring it; the others."""
        rest: list[Arrival] = []
        for node, index, offered in arrivals:
            host = self.by_node.get(node)
            if (host is not None and not host.gone) or not joining.waits(node, index, offered):
                rest.append((node, index, offered))
                continue
            joined = joining.arrive(node, index, offered)
            if joined is not None:
                work.append((node.outputs[0], joined))
        return rest

    def _consumer_step(self, node: ir.Node, index: int, offered: Affine) -> Absorbed | Propagated | Skip:
        host = self.by_node.get(node)
        if host is not None and not host.gone:
            if (node, index) not in host.input_uses or len(host.input_uses) != 1:
                return _not_linear(node, "read by")
            return Absorbed(host, Side.INTO_CONSUMER, offered.scale, offered.shift, offered)
        rule = self._rule(node)
        if rule is None:
            return _not_linear(node, "read by")
        return rule.into_consumer(node, index, offered, self.ctx)

    def _rule(self, node: ir.Node) -> Rule | None:
        return self.rules.get(node.op_type) if node.domain in ("", "ai.onnx") else None

    def _refuse(
        self, skip: Skip, value: ir.Value, parents: dict[ir.Value, ir.Value | None], side: Side
    ) -> Skip:
        """Remember a refusal that no affine could avoid, for the value and all that led to it."""
        if skip.always:
            at: ir.Value | None = value
            while at is not None and (at, side) not in self._refused:
                self._refused[at, side] = skip
                at = parents[at]
        return skip


def _comes_again(
    skip: Skip, value: ir.Value, users: frozenset[ir.Node], parents: dict[ir.Value, ir.Value | None]
) -> bool:
    """Whether every other reader of a value lies on the plan's own way, so that it will ask for it too."""
    if skip.reason is not SkipReason.SHARED_PRODUCER_OUTPUT or value.is_graph_output():
        return False
    others = {use.node for use in value.uses() if not reads_shape_only(use.node, use.idx)} - users
    return bool(others) and all(any(output in parents for output in node.outputs) for node in others)


def _not_linear(node: ir.Node, how: str) -> Skip:
    if node.op_type in _QUANTIZERS:
        return Skip(SkipReason.QUANTIZED_ACTIVATION, f"{how} {label(node)}: rounding stands between", True)
    return Skip(SkipReason.NO_LINEAR_NEIGHBOUR, f"{how} {label(node)}, which takes no affine", True)
