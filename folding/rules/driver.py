"""From sites to decisions: move, split, write, and say what became of each batch norm."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir import edit
from folding.norms.base import BatchNorm
from folding.rules import apply_patch, parallel_branches
from folding.rules import certificate as cert
from folding.rules.absorbers.linear import Linear
from folding.rules.affine import Affine
from folding.rules.base import Decision, FoldResult, Skip, SkipReason
from folding.rules.engine import AffineSite, PropagationPlan, Propagator
from folding.rules.interface import Absorbed, Context, Side
from folding.rules.outcome import decision, direction, staying
from folding.rules.writing import emit_affine, residual_affines

# Measured on ONNX Runtime's CPU provider with the bench's networks `resnet50v2`, `preactivation` and `dense`,
# all gammas positive: with the Adds they take 1.05 to 1.08 times as long.
_ONE_FOR_ONE = "an Add would stay in the place of the norm, which was measured and is no faster"


class Fold:
    """One run over one model."""

    def __init__(
        self, ctx: Context, propagator: Propagator, sites: list[AffineSite], refused: dict[BatchNorm, Skip],
        norms: list[BatchNorm],
    ) -> None:  # fmt: skip
        self.ctx = ctx
        self.propagator = propagator
        self.sites = sites
        self.refused = refused
        self.norms = norms
        self.by_norm = {site.norm: site for site in sites if site.norm is not None}
        self.fold_sites: list[ir.Value] = []
        self.linears: dict[Linear, None] = {}
        self.roundings: dict[Linear, cert.Rounding | Skip] = {}
        self.notes: list[str] = []
        self.merges = 0

    def run(self) -> FoldResult:
        """See the engine's four steps."""
        self._unite_equals()
        for site in self.sites:
            if _is_gone(site):
                continue
            if site.affine.has_scale or site.affine.has_shift:
                self._whole(site, Side.INTO_PRODUCER)
            else:
                self._remove(site, PropagationPlan(), Side.INTO_PRODUCER)
                site.direction = "removed"
        for site in reversed(self.sites):
            if not _is_gone(site):
                self._whole(site, Side.INTO_CONSUMER)
        for site in self.sites:
            if not _is_gone(site):
                self._halves(site)
        self._merge_parallel()
        self._write()
        for site in self.sites:
            if not _is_gone(site) and self._can_be_shorter(site):
                residual_affines.restate(self.ctx, site)
        decisions = tuple(self._decision(norm) for norm in self.norms)
        names = dict.fromkeys(value.name for value in self.fold_sites if value.name and _in_graph(value))
        stays = {n: last for n in self.norms if n in self.by_norm and (last := staying(self.by_norm[n]))}
        return FoldResult(
            decisions,
            tuple(names),
            tuple(self.notes),
            {norm: last.output for norm, last in stays.items()},
            unsettled=self.merges + self.propagator.writer.added > 0
            or any(site.merged_sites and not _is_gone(site) for site in self.sites),
        )

    def _unite_equals(self) -> None:
        """Sites that do the same to one value are one: as two they would keep each other in place."""
        first: dict[tuple[object, ...], AffineSite] = {}
        for site in self.sites:
            affine = site.affine
            key = (site.input, affine.scale.shape, affine.scale.tobytes(), affine.shift.tobytes())
            twin = first.setdefault(key, site)
            if twin is site or twin.output.graph is not site.output.graph:
                continue
            edit.replace_value(site.output, twin.output)
            site.absorbers.append(Absorbed(twin, Side.INTO_PRODUCER, affine.scale, affine.shift, affine))
            site.direction, site.gone = "merged", True
            edit.prune(list(site.nodes))

    def _can_be_shorter(self, site: AffineSite) -> bool:
        if not site.rewritten and len(site.nodes) <= emit_affine.count(self.ctx, site.affine):
            return False
        return site.merged or emit_affine.representable(site.affine, site.output.dtype)

    def _plan_for(self, site: AffineSite, side: Side, affine: Affine) -> PropagationPlan | Skip:
        return (
            self.propagator.into_producer(site, affine)
            if side == Side.INTO_PRODUCER
            else self.propagator.into_consumer(site, affine)
        )

    def _whole(self, site: AffineSite, side: Side) -> None:
        plan = self._plan_for(site, side, site.affine)
        if isinstance(plan, PropagationPlan) and self._lengthens(site, plan, side):
            plan = Skip(
                SkipReason.NO_LINEAR_NEIGHBOUR, "merged with the affines there, more nodes would stay"
            )
        if isinstance(plan, Skip):
            site.skips.append(plan)
            return
        self._commit(site, plan, side)
        self._remove(site, plan, side)

    def _lengthens(self, site: AffineSite, plan: PropagationPlan, side: Side) -> bool:
        """Whether the affines that the site merges into would grow by more nodes than it takes itself."""
        grown = 0
        for move in plan.absorbed:
            host = move.absorber
            if isinstance(host, AffineSite):
                first, last = (host.affine, move.affine)[:: 1 if side == Side.INTO_PRODUCER else -1]
                merged = emit_affine.count(self.ctx, first.then(last))
                grown += merged - emit_affine.count(self.ctx, host.affine)
        return grown > emit_affine.count(self.ctx, site.affine)

    def _commit(self, site: AffineSite, plan: PropagationPlan, side: Side) -> None:
        for move in plan.absorbed:
            if isinstance(move.absorber, Linear):
                move.absorber.absorb(side, move.scale, move.shift)
                self.linears[move.absorber] = None
            else:
                assert isinstance(move.absorber, AffineSite)
                move.absorber.absorb(move.affine, side)
                move.absorber.merged_sites.append(site)
        for passed in plan.patches:
            if passed.patch is not None:
                apply_patch.apply(passed.patch, self.ctx)
        site.absorbers += plan.absorbed
        site.direction = direction(site, plan, side)

    def _remove(self, site: AffineSite, plan: PropagationPlan, side: Side) -> None:
        """Take the site's nodes out; values between it and its absorbers changed meaning, hence names."""
        source, target = site.input, site.output
        self.propagator.forget(source)  # it takes over the readers of the target
        between = [value for value in plan.changed if value is not source]
        for value in between:
            self._rename(value)
        if side == Side.INTO_PRODUCER:
            self.fold_sites.append(source)
            named = target.is_graph_output()
            edit.replace_value(target, source)
            if not named and source.producer() is not None:
                edit.take_name(target, source)
        else:
            for move in plan.absorbed:
                if isinstance(move.absorber, Linear):
                    self.fold_sites.append(move.absorber.output)
            target.replace_all_uses_with(source)
        site.gone = True
        edit.prune(list(site.nodes))

    def _rename(self, value: ir.Value) -> None:
        if not value.is_graph_output() and value.name and not value.name.endswith("/affine"):
            value.name = self.ctx.unique(f"{value.name}/affine")

    # -- halves -------------------------------------------------------------------------------------

    def _halves(self, site: AffineSite) -> None:
        """y = s*x + t = s*(x + t/s). Where the whole cannot leave, one half may, or each its own way."""
        affine = site.affine
        if not (affine.has_scale and affine.has_shift):
            return
        if np.all((affine.scale != 0.0) | (affine.shift == 0.0)):
            scale = np.where(affine.scale == 0.0, 1.0, affine.scale)
            early = Affine(np.ones_like(affine.scale), affine.shift / scale).compressed()
            if self._half(site, Side.INTO_CONSUMER, affine.scale_only(), early, Side.INTO_PRODUCER):
                return
        self._half(site, Side.INTO_PRODUCER, affine.scale_only(), affine.shift_only(), Side.INTO_CONSUMER)

    def _half(self, site: AffineSite, side: Side, half: Affine, rest: Affine, other: Side) -> bool:
        """Let `half` leave by `side` and the rest by the `other`, if that is worth it."""
        if not emit_affine.representable(rest, site.output.dtype):
            return False
        plan = self._plan_for(site, side, half)
        if isinstance(plan, Skip) or not all(isinstance(m.absorber, Linear) for m in plan.absorbed):
            return False  # half a norm moved into another that stays would be no node fewer
        padded = site.skips[side == Side.INTO_CONSUMER].reason is SkipReason.PADDED_SHIFT
        shorter = emit_affine.count(self.ctx, site.affine) > 1
        if not (padded or shorter or isinstance(self._plan_for(site, other, rest), PropagationPlan)):
            where = "producers" if side == Side.INTO_PRODUCER else "consumers"
            site.tried = f"its scale alone could go into its {where}; {_ONE_FOR_ONE}"
            return False
        self._leave(site, plan, side, rest)
        self._whole(site, other)
        return True

    def _leave(self, site: AffineSite, plan: PropagationPlan, side: Side, rest: Affine) -> None:
        self._commit(site, plan, side)
        for value in plan.changed:
            if value is not site.input or side == Side.INTO_PRODUCER:
                self._rename(value)
        site.affine = rest
        site.rewritten = site.merged = True

    def _merge_parallel(self) -> None:
        """Branches of one value that are added up become one convolution, after all have absorbed theirs."""
        search = parallel_branches.ParallelBranches(self.ctx, self.propagator.writer, self.sites)
        for made in search.merges():
            self.merges += 1
            for value in (made.host.output, *made.inner):
                self._rename(value)
            rounding = parallel_branches.apply(self.ctx, made)
            for site in made.sites:
                affine, host = site.affine, made.host
                site.absorbers.append(Absorbed(host, Side.INTO_PRODUCER, affine.scale, affine.shift, affine))
                site.direction, site.gone = "merged", True
            for linear in (made.host, *made.convs):
                self.roundings[linear] = rounding
                linear.name = made.host.name

    # -- writing ------------------------------------------------------------------------------------

    def _write(self) -> None:
        writer = self.propagator.writer
        writer.again = self.merges > 0
        done = self.roundings  # parallel branches are written already
        living = [  # dead code was pruned
            linear for linear in self.linears if linear.node.graph is not None and linear not in done
        ]
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


def _in_graph(value: ir.Value) -> bool:
    node = value.producer()
    return node is None or node.graph is not None


def _is_gone(site: AffineSite) -> bool:
    """Taken out, or pruned with a neighbour whose constants it computed (Neg(moving_mean) of a norm)."""
    return site.gone or all(node.graph is None for node in site.nodes)
