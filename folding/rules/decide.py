"""From sites to decisions: move, split, write, and say what became of each batch norm."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from folding import graph as g
from folding.norms.base import BatchNorm
from folding.rules import standalone
from folding.rules.absorbers.linear import Linear
from folding.rules.affine import Affine
from folding.rules.base import Decision, Direction, FoldResult, Skip, SkipReason
from folding.rules.engine import Journey, Search, Site
from folding.rules.moves import Absorbed, Context
from folding.verify import certificate as cert


class Fold:
    """One run over one model."""

    def __init__(
        self, ctx: Context, search: Search, sites: list[Site], refused: dict[BatchNorm, Skip],
        norms: list[BatchNorm],
    ) -> None:  # fmt: skip
        self.ctx = ctx
        self.search = search
        self.sites = sites
        self.refused = refused
        self.norms = norms
        self.by_norm = {site.norm: site for site in sites if site.norm is not None}
        self.fold_sites: list[ir.Value] = []
        self.linears: dict[Linear, None] = {}
        self.roundings: dict[Linear, cert.Rounding | Skip] = {}
        self.notes: list[str] = []

    def run(self) -> FoldResult:
        """See the engine's four steps."""
        self._unite_equals()
        for site in self.sites:
            if _is_gone(site):
                continue
            if site.affine.has_scale or site.affine.has_shift:
                self._whole(site, "out")
            else:
                self._remove(site, Journey(), "out")
                site.direction = "removed"
        for site in reversed(self.sites):
            if not _is_gone(site):
                self._whole(site, "in")
        for site in self.sites:
            if not _is_gone(site):
                self._halves(site)
        self._write()
        for site in self.sites:
            if not _is_gone(site) and self._can_be_shorter(site):
                self._restate(site)
        decisions = tuple(self._decision(norm) for norm in self.norms)
        names = dict.fromkeys(value.name for value in self.fold_sites if value.name)
        return FoldResult(decisions, tuple(names), tuple(self.notes))

    def _unite_equals(self) -> None:
        """Sites that do the same to one value are one: as two they would keep each other in place."""
        first: dict[tuple[object, ...], Site] = {}
        for site in self.sites:
            affine = site.affine
            key = (site.input, affine.scale.shape, affine.scale.tobytes(), affine.shift.tobytes())
            twin = first.setdefault(key, site)
            if twin is site or twin.output.graph is not site.output.graph:
                continue
            g.replace_value(site.output, twin.output)
            site.absorbers.append(Absorbed(twin, "out", affine.scale, affine.shift, affine))
            site.direction, site.gone = "merged", True
            g.prune(list(site.nodes))

    def _can_be_shorter(self, site: Site) -> bool:
        if not site.rewritten and len(site.nodes) <= standalone.count(self.ctx, site.affine):
            return False
        return site.merged or standalone.representable(site.affine, site.output.dtype)

    def _journey(self, site: Site, side: str, affine: Affine) -> Journey | Skip:
        return (
            self.search.into_producer(site, affine)
            if side == "out"
            else self.search.into_consumer(site, affine)
        )

    def _whole(self, site: Site, side: str) -> None:
        journey = self._journey(site, side, site.affine)
        if isinstance(journey, Skip):
            site.skips.append(journey)
            return
        self._commit(site, journey, side)
        self._remove(site, journey, side)

    def _commit(self, site: Site, journey: Journey, side: str) -> None:
        for move in journey.absorbed:
            if isinstance(move.absorber, Linear):
                move.absorber.absorb(side, move.scale, move.shift)
                self.linears[move.absorber] = None
            else:
                assert isinstance(move.absorber, Site)
                move.absorber.absorb(move.affine, side)
                move.absorber.guests.append(site)
        for passed in journey.patches:
            if passed.patch is not None:
                passed.patch()
        site.absorbers += journey.absorbed
        site.direction = _direction(site, journey, side)

    def _remove(self, site: Site, journey: Journey, side: str) -> None:
        """Take the site's nodes out; values between it and its absorbers changed meaning, hence names."""
        source, target = site.input, site.output
        self.search.forget(source)  # it takes over the readers of the target
        between = [value for value in journey.changed if value is not source]
        for value in between:
            self._rename(value)
        if side == "out":
            self.fold_sites.append(source)
            named = target.is_graph_output()
            g.replace_value(target, source)
            if not named and source.producer() is not None:
                g.take_name(target, source)
        else:
            for move in journey.absorbed:
                if isinstance(move.absorber, Linear):
                    self.fold_sites.append(move.absorber.output)
            target.replace_all_uses_with(source)
        site.gone = True
        g.prune(list(site.nodes))

    def _rename(self, value: ir.Value) -> None:
        if not value.is_graph_output() and value.name and not value.name.endswith("/affine"):
            value.name = self.ctx.unique(f"{value.name}/affine")

    # -- halves -------------------------------------------------------------------------------------

    def _halves(self, site: Site) -> None:
        """y = s*x + t = s*(x + t/s). Where the whole cannot leave, one half may, or each its own way."""
        affine = site.affine
        if not (affine.has_scale and affine.has_shift):
            return
        if np.all((affine.scale != 0.0) | (affine.shift == 0.0)):
            scale = np.where(affine.scale == 0.0, 1.0, affine.scale)
            early = Affine(np.ones_like(affine.scale), affine.shift / scale).compressed()
            if self._half(site, "in", affine.scale_only(), early, "out"):
                return
        self._half(site, "out", affine.scale_only(), affine.shift_only(), "in")

    def _half(self, site: Site, side: str, half: Affine, rest: Affine, other: str) -> bool:
        """Let `half` leave by `side` and the rest by the `other`, if that is worth it."""
        if not standalone.representable(rest, site.output.dtype):
            return False
        journey = self._journey(site, side, half)
        if isinstance(journey, Skip) or not all(isinstance(m.absorber, Linear) for m in journey.absorbed):
            return False  # half a norm moved into another that stays would be no node fewer
        padded = site.skips[side == "in"].reason is SkipReason.PADDED_SHIFT
        shorter = standalone.count(self.ctx, site.affine) > 1
        if not (padded or shorter or isinstance(self._journey(site, other, rest), Journey)):
            return False  # one Add for one BatchNormalization: runtimes fuse the latter better
        self._leave(site, journey, side, rest)
        self._whole(site, other)
        return True

    def _leave(self, site: Site, journey: Journey, side: str, rest: Affine) -> None:
        self._commit(site, journey, side)
        for value in journey.changed:
            if value is not site.input or side == "out":
                self._rename(value)
        site.affine = rest
        site.rewritten = site.merged = True

    # -- writing ------------------------------------------------------------------------------------

    def _write(self) -> None:
        writer = self.search.writer
        living = [linear for linear in self.linears if linear.node.graph is not None]  # dead code was pruned
        for linear in living:
            writer.expect(linear)
        for linear in living:
            outcome = writer.write(linear)
            self.roundings[linear] = outcome
            if isinstance(outcome, Skip):
                self._spell_out(linear)

    def _spell_out(self, linear: Linear) -> None:
        """The weights could not take it after all: the affines stay as nodes beside them."""
        name = linear.name
        if linear.x_index == linear.weight_index:  # a constant: it stays, and the node reads it through these
            assert linear.s_out is not None
            assert linear.t_out is not None
            affine = _along(linear.s_out, linear.t_out, linear.out_axis, self.ctx.rank(linear.weight))
            value = standalone.emit(self.ctx, linear.weight, affine, name, linear.node, before=True)
            linear.node.replace_input_with(linear.weight_index, value)
            return
        if linear.s_in is not None and linear.t_in is not None:
            x = linear.node.inputs[linear.x_index]
            assert x is not None
            affine = _along(linear.s_in, linear.t_in, linear.in_axis, self.ctx.rank(x))
            value = standalone.emit(self.ctx, x, affine, f"{name}/input", linear.node, before=True)
            linear.node.replace_input_with(linear.x_index, value)
        if linear.s_out is not None and linear.t_out is not None:
            output = linear.output
            affine = _along(linear.s_out, linear.t_out, linear.out_axis, self.ctx.rank(output))
            self._append_after(output, affine, f"{name}/output")

    def _append_after(self, value: ir.Value, affine: Affine, name: str) -> None:
        node = value.producer()
        assert node is not None
        users = list(value.uses())
        result = standalone.emit(self.ctx, value, affine, name, node, before=False)
        if result is value:
            return
        for user, index in users:
            user.replace_input_with(index, result)
        if value.is_graph_output():
            assert value.graph is not None
            for i, item in enumerate(value.graph.outputs):
                if item is value:
                    value.graph.outputs[i] = result
        kept, value.name = value.name, self.ctx.unique(f"{value.name}/raw")
        result.name = kept

    def _restate(self, site: Site) -> None:
        """Replace the nodes of a site that stays by the fewest that say its present affine."""
        source, target = site.input, site.output
        last = target.producer()
        assert last is not None
        if isinstance(last.graph, ir.Graph):
            result = standalone.emit(self.ctx, source, site.affine, site.name, last, before=True)
            named = target.is_graph_output()
            g.replace_value(target, result)
            if not named and result is not source:
                g.take_name(target, result)
            g.prune(list(site.nodes))

    # -- reporting ----------------------------------------------------------------------------------

    def _decision(self, norm: BatchNorm) -> Decision:
        if norm in self.refused:
            skip = self.refused[norm]
            return Decision(norm, folded=False, reason=skip.reason, detail=skip.detail)
        site = self.by_norm[norm]
        hosts = list(_final_absorbers(site))
        failed = [r for a in hosts if isinstance(r := self.roundings.get(a), Skip)]
        written = [a for a in hosts if isinstance(self.roundings.get(a), cert.Rounding)]
        into = tuple(dict.fromkeys(a.name for a in written))
        certificate = cert.merge(
            cert.certificate(r) for a in written if isinstance(r := self.roundings[a], cert.Rounding)
        )
        if failed:
            return Decision(norm, False, into, None, failed[0].reason, failed[0].detail, certificate)
        stays = _staying(site)
        if stays is None:
            return Decision(norm, True, into, site.direction, None, "", certificate)
        skip = _main_reason(stays)
        half = bool(site.absorbers)
        return Decision(
            norm, half, into, site.direction if half else None, skip.reason, skip.detail, certificate
        )


def _main_reason(site: Site) -> Skip:
    """What kept it from its producer; where that is merely no linear node, what kept it from its consumers.

    That the norm's own output is the graph's is no reason by itself: it would not matter with a producer.
    """
    if not site.skips:
        return Skip(SkipReason.NO_LINEAR_NEIGHBOUR, "")
    detail = "; ".join(
        f"{word} it: {skip.detail}" for word, skip in zip(("before", "after"), site.skips, strict=False)
    )
    plain = (SkipReason.NO_LINEAR_NEIGHBOUR, SkipReason.GRAPH_OUTPUT)
    reason = site.skips[0].reason
    if reason is SkipReason.NO_LINEAR_NEIGHBOUR and len(site.skips) > 1 and site.skips[1].reason not in plain:
        reason = site.skips[1].reason
    return Skip(reason, detail)


def _along(scale: np.ndarray, shift: np.ndarray, axis: int, rank: int | None) -> Affine:
    shape = [1] * (rank or axis + 1)
    shape[axis] = -1
    return Affine.of(scale.reshape(shape), shift.reshape(shape))


def _direction(site: Site, journey: Journey, side: str) -> Direction:
    own: Direction = "into_producer" if side == "out" else "into_consumer"
    if not journey.absorbed:
        own = "removed"
    elif all(isinstance(move.absorber, Site) for move in journey.absorbed):
        own = "merged"
    return own if site.direction in (None, own) else "both"


def _final_absorbers(site: Site) -> Iterable[Linear]:
    """Linears that took the site's affine, directly or by way of a site that it merged into."""
    work: list[Absorbed] = list(site.absorbers)
    seen: set[Site] = set()
    while work:
        host = work.pop().absorber
        if isinstance(host, Linear):
            yield host
        elif isinstance(host, Site) and host not in seen:
            seen.add(host)
            work.extend(host.absorbers)


def _staying(site: Site) -> Site | None:
    """The site, or one that it merged into, whose nodes are still in the graph."""
    work, seen = [site], {site}
    while work:
        item = work.pop()
        if not item.gone:
            return item
        for move in item.absorbers:
            host = move.absorber
            if isinstance(host, Site) and host not in seen:
                seen.add(host)
                work.append(host)
    return None


def _is_gone(site: Site) -> bool:
    """Taken out, or pruned with a neighbour whose constants it computed (Neg(moving_mean) of a norm)."""
    return site.gone or all(node.graph is None for node in site.nodes)
