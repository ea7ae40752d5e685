"""The order of a verification: probes, references, candidates, layers, hazards, verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from folding.options import FoldOptions
from folding.progress import Progress
from folding.report import Verification
from folding.sources.base import Feeds, Reference
from folding.verify import float64, providers
from folding.verify.compare.rows import row
from folding.verify.context import SPARED, Study, measure_noise
from folding.verify.model import load
from folding.verify.providers import latency
from folding.verify.steps import find_hazards, force_branches
from folding.verify.steps.check_interface import match_outputs
from folding.verify.steps.check_sensitivity import probe_sensitivity
from folding.verify.steps.compare_layers import device_drift, layer_by_layer
from folding.verify.steps.run_candidates import float64_row, framework_answers, run_candidates
from folding.verify.steps.select_probes import prepare
from folding.verify.verdict import Evidence, conclude

UNFOLDED = "onnx-unfolded"


def examine(
    unfolded: Path,
    artifact: Path,
    reference: Reference | None,
    options: FoldOptions,
    *,
    sites: Sequence[str] = (),
    probe: Feeds | None = None,
    progress: Progress | None = None,
    evidence: Evidence | None = None,
) -> Verification:
    """Verify `artifact` against `unfolded` (and the framework) and conclude."""
    source = load(unfolded)
    study = Study(source, load(artifact, source.weights), options, progress or Progress(), sites)
    study.evidence = evidence or Evidence()
    study.names = match_outputs(study)
    if not study.evidence.faults and prepare(study, probe):
        framework = framework_answers(study, reference)  # first, because it holds the weights until then
        measure_noise(study)
        study.forget_perturbed(SPARED)
        probe_sensitivity(study)
        float64_rows = float64.reference(study)
        candidates = run_candidates(study)
        for candidate in candidates:
            study.rows.append(row(UNFOLDED, study.unfolded, candidate, study))
            if framework is not None and reference is not None:
                study.rows.append(row(reference.name, framework, candidate, study))
            if float64_rows is not None:
                study.rows.append(float64_row(study, float64_rows, candidate))
        layer_by_layer(study, exact=float64_rows is not None)
        force_branches.force(study)
        device_drift(study)
        study.forget_perturbed()
        study.hazards.extend(find_hazards.find(study, candidates))
        if options.latency:
            study.latency = measure_latency(study)
    return conclude(study)


def measure_latency(study: Study) -> dict[str, Any]:
    """Before and after, on each provider that is there, at the runtime's defaults."""
    found: dict[str, Any] = {}
    for name in study.options.providers:
        provider = providers.find(name)
        if provider.unavailable() is not None:
            continue
        variant = provider.variants()[0][0]
        study.progress.report("verify", 0.9, f"latency on {variant}")
        try:
            sides = (study.source.path, study.artifact.path)
            figures = latency.measure(provider, variant, "enable_all", *sides, study.probes[0].feeds)
            found[variant] = {"enable_all": figures}
        except Exception as exc:  # noqa: BLE001 - a side that does not run has no latency, and a row says so
            study.evidence.skipped.append(f"latency on {variant}: {str(exc).strip()[:200]}")
    return found
