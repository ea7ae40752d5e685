"""From sites to decisions: move, split, write, and say what became of each batch norm."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.norms.base import BatchNorm
from folding.rules import certificate as cert
from folding.rules import emit_affine, residual_affines
from folding.rules.absorbers.linear import Linear
from folding.rules.affine import Affine
from folding.rules.base import Decision, FoldResult, Skip, SkipReason
from folding.rules.engine import Journey, Search, Site
from folding.rules.interface import Absorbed, Context
from folding.rules.outcome import decision, direction


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
                residual_affines.restate(self.ctx, site)
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
        if not site.rewritten and len(site.nodes) <= emit_affine.count(self.ctx, site.affine):
            return False
        return site.merged or emit_affine.representable(site.affine, site.output.dtype)

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
        site.direction = direction(site, journey, side)

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
        if not emit_affine.representable(rest, site.output.dtype):
            return False
        journey = self._journey(site, side, half)
        if isinstance(journey, Skip) or not all(isinstance(m.absorber, Linear) for m in journey.absorbed):
            return False  # half a norm moved into another that stays would be no node fewer
        padded = site.skips[side == "in"].reason is SkipReason.PADDED_SHIFT
        shorter = emit_affine.count(self.ctx, site.affine) > 1
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
                residual_affines.spell_out(self.ctx, linear)

    # -- reporting ----------------------------------------------------------------------------------

    def _decision(self, norm: BatchNorm) -> Decision:
        if norm in self.refused:
            skip = self.refused[norm]
            return Decision(norm, folded=False, reason=skip.reason, detail=skip.detail)
        return decision(norm, self.by_norm[norm], self.roundings)


def _is_gone(site: Site) -> bool:
    """Taken out, or pruned with a neighbour whose constants it computed (Neg(moving_mean) of a norm)."""
    return site.gone or all(node.graph is None for node in site.nodes)
