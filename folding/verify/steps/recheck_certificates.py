"""Certificates checked again, from the source and the artifact alone.

1. Segments: both graphs are evaluated in float64 between the values that they share, each segment on the
   source's own inputs and with the weights as stored. In exact arithmetic a fold is an identity there, so
   what is left is the rounding of the stored weights; the limit is that rounding, measured on the source.
   An affine identity that holds for one random input holds for all, but for a choice of probability 0.
2. Weights: the source is folded again, and each stored weight is held against the exact one in float64.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from folding.errors import BnfoldError
from folding.ir.types import Feeds
from folding.options import FoldOptions
from folding.progress import Progress
from folding.report import OutputComparison, ToleranceReport, Verdict, Verification, VerificationRow
from folding.sources.base import Imported
from folding.verify.compare.layers import LayerCheck, Layers
from folding.verify.model import Loaded, load
from folding.verify.noise.rounding_perturbation import perturbed_weights
from folding.verify.noise.ulp_noise import unit_roundoff
from folding.verify.probes import dynamic_shapes
from folding.verify.probes.generate import make
from folding.verify.probes.input_ranges import inputs_of
from folding.verify.steps.check_interface import interface
from folding.verify.steps.compare_layers import decided, shown

SEGMENTS = "closed form, float64 segments"
WEIGHTS = "closed form, stored weights"


def recheck(
    source: Path,
    artifact: Path,
    options: FoldOptions,
    probe: Feeds | None = None,
    progress: Progress | None = None,
    workdir: Path | None = None,
) -> Verification:
    """Check the certificates of `artifact` again. Raises: ModelError subclasses for an unreadable source."""
    from folding import export, sources

    progress = progress or Progress()
    with tempfile.TemporaryDirectory(prefix="bnfold-", dir=workdir) as scratch:
        imported = sources.load(source, options, Path(scratch), progress)
        if imported.reference is not None:
            imported.reference.close()
        unfolded = imported.onnx_path or export.write_plain(imported.model, Path(scratch) / "unfolded.onnx")
        again = Path(scratch) / "again.onnx"
        sites = fold_again(imported, options, again)
        rows = [segment_row(load(unfolded), load(artifact), sites, options, probe)]
        if again.exists():
            rows.append(weight_row(load(again), load(artifact)))
        return conclude_certificates(rows)


def fold_again(imported: Imported, options: FoldOptions, to: Path) -> tuple[str, ...]:
    """Fold the source once more; returns its fold sites. A source that cannot be folded leaves no file."""
    from folding import export, norms, passes, rules

    try:
        passes.prepare(imported.model, options)
        found = norms.find(imported.model, imported.hints)
        result = rules.fold_and_clean(imported.model, found, options)
        export.write(imported.model, to, options, imported.source)
    except BnfoldError:
        to.unlink(missing_ok=True)
        return ()
    return result.fold_sites


def segment_row(
    source: Loaded, artifact: Loaded, sites: Sequence[str], options: FoldOptions, probe: Feeds | None
) -> VerificationRow:
    """Every segment in float64, on a random input (or the user's)."""
    row = VerificationRow(reference=SEGMENTS, provider="float64", optimization_level="none", status="pass")
    if interface(source) != interface(artifact):
        row.status, row.detail = (
            "fail",
            f"inputs or outputs differ: {interface(source)}, {interface(artifact)}",
        )
        return row
    rng = np.random.default_rng([options.seed, 0x63657274])
    try:
        feeds = probe or random_feeds(source, options.seed)
        perturbed = [perturbed_weights(source, rng) for _ in range(2)]
        check = Layers(source, artifact, sites, feeds).check(rng, perturbed)
    except dynamic_shapes.NoSizesError as exc:
        row.status, row.detail = "unavailable", f"no input runs: {exc}"
        return row
    proved = [shown(segment, "one rounding of each constant") for segment in decided(check.fold)]
    found = [*proved, *check.measured.values()]
    bad = [o for o in found if not o.passed]
    row.outputs = bad[:50] + sorted((o for o in found if o.passed), key=lambda o: -o.max_rel)[:10]
    row.figures = {"segments": check.cuts, "bounded": len(proved), "reused_names": check.dropped}
    if bad:
        row.status, row.detail = "fail", f"first segment that is no identity: {check.first_divergence!r}"
    elif missing := not_evaluated(check):
        row.status, row.detail = "unavailable", f"no float64 evaluation: {missing}"
    else:
        row.detail = f"{len(found)} segments are identities up to the rounding of their weights"
    return row


def not_evaluated(check: LayerCheck) -> str | None:
    """Why a part of the graph has no float64 evaluation; None where every segment has one."""
    if not check.fold:
        return "; ".join(check.limits) or "nothing could be evaluated"
    unknown = [s for s in check.fold.values() if s.passed is None and not s.elements]
    return f"{unknown[0].name!r}: {unknown[0].why}" if unknown else None


def random_feeds(source: Loaded, seed: int) -> Feeds:
    """A generic input of a size that runs."""
    specs = inputs_of(source)
    sizes, _, _ = dynamic_shapes.choose_sizes(specs, source.session(), seed)
    return make(specs, {**sizes, "": max(1, sizes[""])}, seed, "certificate", "N(0, 1)", "normal").feeds


def weight_row(again: Loaded, artifact: Loaded) -> VerificationRow:
    """Stored weights against a fresh fold's, by name; both are one rounding away from the exact ones."""
    row = VerificationRow(reference=WEIGHTS, provider="float64", optimization_level="none", status="pass")
    shared = [name for name in again.weights if name in artifact.weights]
    worst, wrong = 0.0, []
    for name in shared:
        mine, theirs = np.asarray(again.weights[name]), np.asarray(artifact.weights[name])
        found = compare_weights(name, mine, theirs)
        worst = max(worst, found.max_rel)
        if not found.passed:
            wrong.append(found)
    row.outputs = wrong[:50]
    row.figures = {"weights": len(shared), "of": len(artifact.weights), "max_relative": worst}
    if wrong:
        row.status, row.detail = "fail", f"{len(wrong)} stored arrays differ from a fresh fold of the source"
    elif len(shared) < len(artifact.weights):
        row.judged = False
        row.detail = f"{len(artifact.weights) - len(shared)} arrays have no counterpart in a fresh fold"
    else:
        row.detail = f"{len(shared)} stored arrays equal a fresh fold's within one rounding"
    return row


def compare_weights(name: str, mine: np.ndarray, theirs: np.ndarray) -> OutputComparison:
    """Elementwise relative difference, at most one rounding on each side."""
    limit = 2.0 * unit_roundoff(mine.dtype)
    if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
        error, index = np.array([np.inf]), 0
    else:
        with np.errstate(all="ignore"):
            gap = np.abs(theirs.astype(np.float64) - mine.astype(np.float64))
            size = np.maximum(np.abs(mine.astype(np.float64)), np.finfo(mine.dtype).tiny)
            error = np.nan_to_num(np.where(gap == 0, 0.0, gap / size), nan=np.inf).ravel()
        index = int(np.argmax(error)) if error.size else 0
    largest = float(error.max(initial=0.0))
    where = [int(i) for i in np.unravel_index(index, mine.shape)] if mine.shape == theirs.shape else []
    why = "one rounding of the exact weight on either side: 2 u"
    return OutputComparison(
        name=name,
        max_abs=largest,
        max_rel=largest,
        worst_index=where,
        tolerance=ToleranceReport(rtol=limit, atol=0.0, why=why),
        passed=largest <= limit,
    )


def conclude_certificates(rows: list[VerificationRow]) -> Verification:
    """fail on any failed row; pass when the segments were checked; inconclusive otherwise."""
    failed = [row for row in rows if row.status == "fail" and row.judged]
    if failed:
        words = "; ".join(f"{row.reference}: {row.detail}" for row in failed)
        return Verification(
            verdict=Verdict.FAIL, summary=f"the certificate does not hold: {words}", rows=rows
        )
    if rows[0].status != "pass" or not any(output.passed for output in rows[0].outputs):
        return Verification(
            verdict=Verdict.INCONCLUSIVE, summary=rows[0].detail or "nothing was checked", rows=rows
        )
    words = "; ".join(row.detail for row in rows)
    return Verification(verdict=Verdict.PASS, summary=f"the certificate holds: {words}", rows=rows)
