"""The order of a verification: probes, references, candidates, layers, hazards, verdict."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from folding import export, sources
from folding.ir.types import Feeds
from folding.options import FoldOptions
from folding.progress import Progress
from folding.report import Verification, VerificationRow
from folding.rules.base import Decision
from folding.sources.base import Imported, LayeredReference, Reference
from folding.verify import providers
from folding.verify.arithmetic import arithmetic_of
from folding.verify.compare.rows import Answers, Candidate, row
from folding.verify.context import GraphPair, ProbeSet
from folding.verify.findings import Findings, reason
from folding.verify.model import load
from folding.verify.noise.measure import NoiseModel
from folding.verify.providers import latency
from folding.verify.providers.base import DEFAULTS
from folding.verify.providers.cpu import Cpu
from folding.verify.providers.failures import raises_device_lost
from folding.verify.steps.check_interface import check_interface, contradicted_shapes
from folding.verify.steps.check_sensitivity import probe_sensitivity
from folding.verify.steps.compare_devices import compare_devices
from folding.verify.steps.compare_layers import compare_layers
from folding.verify.steps.compare_source_layers import compare_source_layers
from folding.verify.steps.find_amplifier import drift_on_worst_probe
from folding.verify.steps.find_hazards import find_hazards
from folding.verify.steps.float64_reference import float64_answers
from folding.verify.steps.force_branches import force_branches
from folding.verify.steps.run_candidates import (
    CandidateRuns,
    float64_row,
    framework_answers,
    run_candidates,
)
from folding.verify.steps.select_probes import select_probes
from folding.verify.verdict import Outcome, conclude

UNFOLDED = "onnx-unfolded"
UNCERTIFIED = 8.0  # roundings of each constant that another fold may have made


def examine(
    unfolded: Path,
    artifact: Path,
    reference: Reference | None,
    options: FoldOptions,
    *,
    sites: Sequence[str] = (),
    probe: Feeds | None = None,
    progress: Progress | None = None,
    certificates: int = 0,
    faults: Sequence[str] = (),
) -> Verification:
    """Verify `artifact` against `unfolded` (and the framework) and conclude.

    certificates: how many were checked; faults: what is known to be wrong already.
    """
    source = load(unfolded)
    casts = 1.0 if sites or certificates else UNCERTIFIED
    pair = GraphPair(source, load(artifact, source.weights), options, progress or Progress(), sites, casts)
    known = Findings(faults=tuple(faults)) + check_interface(pair)
    if known.faults:
        return conclude(Outcome(certificates=certificates, findings=known))
    probes = select_probes(pair, probe)
    if not probes.probes:
        return conclude(Outcome(certificates=certificates, findings=known + probes.findings))
    known += contradicted_shapes(pair, probes)
    return conclude(run_stages(pair, probes, reference, known, certificates))


def run_stages(
    pair: GraphPair, probes: ProbeSet, reference: Reference | None, known: Findings, certificates: int
) -> Outcome:
    """Run every stage on probes that the source runs on, and collect what they return."""
    conversion = compare_source_layers(pair, probes, reference)
    deployed = deployed_answers(probes, reference)
    framework = framework_answers(probes, reference)  # first, because it holds the weights until then
    noise = NoiseModel(pair, probes)
    sensitivity = probe_sensitivity(pair.source, probes, noise)
    layers = compare_layers(pair, probes, noise)
    exact = float64_answers(pair, probes, noise, layers.check is not None and layers.check.proved)
    noise.note_float64(exact.distances)
    runs = run_candidates(pair, probes)
    references = {UNFOLDED: probes.answers}
    if reference is not None and framework.answers:
        references[reference.name] = framework.answers
    rows = candidate_rows(runs.candidates, references, exact.answers, noise)
    rows = reported_end_to_end(rows, reference, runs.candidates, deployed, noise)
    branches = force_branches(pair, probes, noise)
    devices = compare_devices(pair, probes, layers.check)
    noise.release()
    hazards = find_hazards(pair, probes, noise, runs.candidates)
    u = arithmetic_of(pair.artifact).u
    amplification = drift_on_worst_probe(pair, probes, rows, layers.check, u)
    speed = measure_latency(pair, probes, runs) if pair.options.latency else Latency()
    stages = (probes, framework, conversion, exact, runs, layers, branches, devices, hazards, speed)
    return Outcome(
        rows=unjudged(
            (*rows, *conversion.rows, *layers.rows, *devices.rows, *branches.rows), hazards.unjudged
        ),
        probes=probes,
        sensitivity=sensitivity,
        layers=layers.check,
        drift=(*(layers.check.drift if layers.check else ()), *devices.drift),
        hazards=hazards.hazards,
        latency=speed.figures,
        certificates=certificates,
        amplification=amplification,
        unit_roundoff=u,
        findings=known + noise.findings + Findings.total(stage.findings for stage in stages),
    )


def candidate_rows(
    candidates: Iterable[Candidate], references: dict[str, Answers], exact: Answers, noise: NoiseModel
) -> list[VerificationRow]:
    """One row for each candidate and reference; the float64 one also says whose error is larger."""
    rows = []
    for candidate in candidates:
        rows += [row(name, answers, candidate, noise) for name, answers in references.items()]
        if exact:
            rows.append(float64_row(noise, exact, candidate))
    return rows


def deployed_answers(probes: ProbeSet, reference: Reference | None) -> dict[str, Answers]:
    """What the source's own runtime answers where `reference` leaves its rounding out; nothing judges it."""
    if not isinstance(reference, LayeredReference) or reference.deployed is None:
        return {}
    found = framework_answers(probes, reference.deployed)
    return {reference.deployed.name: found.answers} if found.answers else {}


def reported_end_to_end(
    rows: list[VerificationRow],
    reference: Reference | None,
    candidates: Iterable[Candidate],
    deployed: dict[str, Answers],
    noise: NoiseModel,
) -> list[VerificationRow]:
    """Mark rows against a runtime that rounds to integers as reported, and add those of the deployed one."""
    names = set(deployed)
    if isinstance(reference, LayeredReference) and not reference.judged:
        names.add(reference.name)
    added = [row(name, answers, c, noise) for c in candidates for name, answers in deployed.items()]
    return [as_reported(r) if r.reference in names else r for r in [*rows, *added]]


def as_reported(found: VerificationRow) -> VerificationRow:
    """The row with figures that nothing judges."""
    return reported(found, "the source's runtime rounds to integers inside: end to end it is reported only")


def reported(found: VerificationRow, why: str) -> VerificationRow:
    """Return the row with figures that nothing judges, and no word that calls them a failure."""
    status = "reported" if found.status in ("pass", "fail") else found.status
    return found.model_copy(update={"judged": False, "status": status, "detail": found.detail or why})


def unjudged(
    rows: Iterable[VerificationRow], where: frozenset[tuple[str, str]]
) -> tuple[VerificationRow, ...]:
    """Return the rows; those of a (provider, level) in `where` are reported only."""
    return tuple(
        reported(r, "the source differs here too") if (r.provider, r.optimization_level) in where else r
        for r in rows
    )


@dataclass(frozen=True)
class Latency:
    """Before and after, by provider; None where it was not asked for."""

    figures: dict[str, Any] | None = None
    findings: Findings = field(default_factory=Findings)


@raises_device_lost
def verify_fold(
    *,
    unfolded: Path,
    artifact: Path,
    reference: Reference | None,
    options: FoldOptions,
    decisions: Sequence[Decision] = (),
    fold_sites: Sequence[str] = (),
    probe: Feeds | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Prove one fold.

    Args:
        unfolded: the graph before folding, as ONNX. artifact: the file that would be published.
        reference: the source framework's own inference, or None.
        decisions: with their certificates; one that does not hold fails the verdict.
        fold_sites: names of values at which the two graphs must agree.
        probe: the user's own inputs by name.

    Returns: the verification. `pass` only when every judged row passes and the evidence reacts.
    Raises: UsageError for a probe that does not fit the model.
    """
    checked = [d for d in decisions if d.folded and d.certificate is not None]
    return examine(
        unfolded,
        artifact,
        reference,
        options,
        sites=fold_sites,
        probe=probe,
        progress=progress,
        certificates=len(checked),
        faults=[
            f"the certificate of {d.norm.name!r} does not hold: {d.certificate.detail}"
            for d in checked
            if d.certificate is not None and not d.certificate.holds
        ],
    )


def verify_models(
    a: Path,
    b: Path,
    options: FoldOptions,
    *,
    probe: Feeds | None = None,
    progress: Progress | None = None,
    workdir: Path | None = None,
) -> Verification:
    """Compare any two models: `a` is the reference (any supported format), `b` an ONNX file.

    Where both come from one graph, shared value names are compared layer by layer as well.

    Raises: ModelError subclasses when `a` cannot be read.
    """
    progress = progress or Progress()
    with tempfile.TemporaryDirectory(prefix="bnfold-", dir=workdir) as scratch:
        imported = sources.load(a, options, Path(scratch), progress)
        return verify_imported(imported, b, options, Path(scratch), probe=probe, progress=progress)


def verify_imported(
    imported: Imported,
    b: Path,
    options: FoldOptions,
    scratch: Path,
    *,
    probe: Feeds | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Compare the ONNX file `b` with a model that was read already; its reference is closed afterwards.

    scratch: an existing folder, where the model is written unless it is an ONNX file itself.
    """
    path = imported.onnx_path or export.write_plain(imported.model, scratch / "a.onnx")
    try:
        return examine(path, b, imported.reference, options, probe=probe, progress=progress)
    finally:
        if imported.reference is not None:
            imported.reference.close()


def measure_latency(pair: GraphPair, probes: ProbeSet, runs: CandidateRuns) -> Latency:
    """Measure both graphs on each provider that is there, at the runtime's defaults.

    At several batch sizes where the batch is free, on the CPU with one thread and with two as well. The
    artifact runs in the session that was judged, but for numbers of threads; the source gets one of its own.
    """
    found: dict[str, Any] = {}
    skipped: list[str] = []
    for name in dict.fromkeys(pair.options.providers):
        provider = providers.find(name)
        variant = provider.variants()[0][0]
        artifact = runs.sessions.get((name, variant))
        if artifact is None:
            continue
        pair.progress.report("verify", 0.9, f"latency on {variant}")
        feeds = probes.first.feeds
        several = [*latency.batches(pair.source.inputs, feeds)]
        wanted = {DEFAULTS: feeds}
        if name != "cpu" and several:
            wanted = {f"{DEFAULTS} batch {rows}": made for rows, made in several}
        figures: dict[str, Any] = {}
        try:
            sides = [provider.open(pair.source.path, DEFAULTS, variant), artifact]
            for label, made in wanted.items():
                figures[label] = latency.compare(sides, made)
                batch = next((rows for rows, its in several if its is made), None)
                figures[label] |= {"batch": batch} if batch else {}
            if isinstance(provider, Cpu):
                del sides
                paths = pair.source.path, pair.artifact.path
                figures |= latency.grid(provider, DEFAULTS, *paths, several or [(None, feeds)])
        except Exception as exc:  # noqa: BLE001 - a side that does not run has no latency, and a row says so
            skipped.append(f"latency on {variant}: {reason(exc)}")
        if figures:
            found[variant] = figures
    return Latency(found, Findings(skipped=tuple(skipped)))
