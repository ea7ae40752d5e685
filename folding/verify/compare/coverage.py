"""For the report: what bounds decide, and whether the model itself amplifies rounding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from folding.report import (
    BoundCoverage,
    Conditioning,
    DriftRow,
    Hazard,
    OutputComparison,
    SegmentReport,
    VerificationRow,
)
from folding.verify.compare.layers import LayerCheck
from folding.verify.compare.segment_result import Segment

GROWS = 8.0  # a value whose relative difference is this many times that of all before it amplifies
LARGE = 2.0**14  # end-to-end differences above so many u of an output's scale want an explanation


def segment_reports(check: LayerCheck) -> list[SegmentReport]:
    """Return every segment of the fold step, then of the runtime step, in graph order."""
    order = {row.value: i for i, row in enumerate(check.drift)}
    found = [segment_report(s, "fold", check.measured.get(n)) for n, s in check.fold.items()]
    known = set(check.fold)
    found += [measured_report(o) for name, o in check.measured.items() if name not in known]
    found += [segment_report(s, "runtime", None) for s in check.runtime.values()]
    return sorted(found, key=lambda s: (s.step, order.get(s.value, len(order))))


def segment_report(
    segment: Segment, step: Literal["fold", "runtime"], measured: OutputComparison | None
) -> SegmentReport:
    """Return one segment in the report's form; `measured` judges it where no bound does."""
    return SegmentReport(
        value=segment.name,
        step=step,
        status=segment.status,
        passed=segment.passed if measured is None else measured.passed,
        difference=segment.difference if measured is None else measured.max_abs,
        bound=segment.bound if measured is None else measured.tolerance.atol,
        ratio=segment.ratio,
        scale=segment.scale,
        worst_index=list(segment.worst_index),
        elements=segment.elements,
        undecided=segment.undecided,
        detail=segment.why,
    )


def measured_report(comparison: OutputComparison) -> SegmentReport:
    """Return a segment that only noise judges."""
    limit = comparison.tolerance.atol
    return SegmentReport(
        value=comparison.name,
        step="fold",
        status="measured",
        passed=comparison.passed,
        difference=comparison.max_abs,
        bound=limit,
        ratio=comparison.max_abs / limit if limit else 0.0,
        scale=comparison.max_abs / comparison.max_rel if comparison.max_rel else 0.0,
        worst_index=comparison.worst_index,
        detail="not evaluated in float64",
    )


def coverage_of(check: LayerCheck) -> BoundCoverage:
    """Return the share of segments and elements of the fold step that bounds decide."""
    bounded = [s for s in check.fold.values() if s.passed is not None]
    return BoundCoverage(
        segments=check.cuts,
        bounded=len(bounded),
        elements=sum(s.elements for s in check.fold.values()),
        bounded_elements=sum(s.elements - s.undecided for s in bounded),
        undecided=sum(s.undecided for s in bounded),
        worst_ratio=max((s.ratio for s in bounded), default=0.0),
    )


def worst_passing(rows: Iterable[VerificationRow], u: float) -> OutputComparison | None:
    """Return the output that differs most although it passes; None where none differs by much."""
    outputs = [o for row in rows if row.judged for o in row.outputs if o.passed and o.max_rel > LARGE * u]
    return max(outputs, key=lambda o: o.max_rel, default=None)


def conditioning_of(
    rows: Iterable[VerificationRow], drift: Sequence[DriftRow], u: float
) -> list[Conditioning]:
    """Return the output that moves most although it passes, where that is much: the model's own conditioning.

    rows: judged end to end, all passing. drift: differences at inner values, in graph order. u: roundoff.
    """
    worst = worst_passing(rows, u)
    if worst is None:
        return []
    layer, factor = first_amplifier(drift, u)
    return [
        Conditioning(
            probe=worst.worst_probe, output=worst.name, difference=worst.max_rel, layer=layer, factor=factor
        )
    ]


def first_amplifier(drift: Sequence[DriftRow], u: float) -> tuple[str, float]:
    """Return the first value whose relative difference is GROWS times any before it, else the one that grows
    most; and the factor."""
    before, best = 4 * u, ("", 1.0)
    for row in drift:
        factor = row.max_rel / before
        if factor > best[1]:
            best = (row.value, factor)
        if factor >= GROWS:
            return row.value, factor
        before = max(before, row.max_rel)
    return best


def ill_conditioned(found: Conditioning) -> Hazard:
    """Return the finding in words."""
    where = f", first at {found.layer!r} (by a factor of {found.factor:.2g})" if found.layer else ""
    return Hazard(
        code="ill_conditioned",
        detail=(
            f"{found.output!r} differs by {found.difference:.2g} of its scale on probe {found.probe!r}, "
            f"as much as correct runs of the source do: the model amplifies rounding{where}"
        ),
        workaround="Compare outputs of this model with a wide tolerance: every layer agrees.",
    )
