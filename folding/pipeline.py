"""The whole way of one model. Each stage is one call into the package that owns it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from folding import export, graph_map, health, norms, passes, rules, sources, toolchain
from folding.norms.summary import norm_report
from folding.options import FoldOptions
from folding.progress import Listener, Progress, silent
from folding.report import GraphReport, Inspection, Report, Verdict, Verification
from folding.sources.base import Feeds

STAGES = ("read", "prepare", "find", "calibrate", "health", "fold", "clean", "export", "verify")


def fold(
    src: str | Path,
    dst: str | Path,
    options: FoldOptions | None = None,
    *,
    calibration: Feeds | None = None,
    probe: Feeds | None = None,
    listener: Listener = silent,
    workdir: Path | None = None,
) -> Report:
    """Fold the batch norms of the model at `src`, write ONNX to `dst`, and prove the two equivalent.

    Args:
        src: a file or folder in any supported format.
        dst: where the artifact goes; weights past 2 GiB go to `<dst>.data` beside it.
        calibration: arrays by input name, first axis the batch; diagnoses, or with
            `options.recalibrate` replaces, the moving statistics.
        probe: the user's own verification inputs by input name.

    Returns:
        The report. `report.verdict` tells whether the artifact may be published; it is written
        whatever the verdict, and keeping it away from readers is the caller's part.

    Raises:
        BnfoldError: subclasses per `folding.errors`.
    """
    options = options or FoldOptions()
    progress = Progress(listener)
    with tempfile.TemporaryDirectory(prefix="bnfold-", dir=workdir) as scratch:
        return _fold(Path(src), Path(dst), options, calibration, probe, progress, Path(scratch))


def _fold(
    src: Path,
    dst: Path,
    options: FoldOptions,
    calibration: Feeds | None,
    probe: Feeds | None,
    progress: Progress,
    scratch: Path,
) -> Report:
    with progress.stage("read"):
        imported = sources.load(src, options, scratch, progress)
    model = imported.model
    unfolded = imported.onnx_path
    nodes_before = model.graph.num_nodes()
    seen = graph_map.look(model.graph)
    if options.verify and unfolded is None:
        unfolded = export.write_plain(model, scratch / "unfolded.onnx")
    with progress.stage("prepare"):
        passes.prepare(model, options)
    with progress.stage("find"):
        found = norms.find(model, imported.hints)
    calibrated = None
    if calibration is not None:
        from folding import calibrate  # pulls in onnxruntime

        with progress.stage("calibrate"):
            calibrated = calibrate.run(imported, found, calibration, options, progress)
            found = calibrated.norms
        if calibrated.rewritten:  # the source computes something else now; the recalibrated graph is the measure
            if imported.reference is not None:
                imported.reference.close()
                imported.reference = None
            if options.verify:
                unfolded = export.write_plain(model, scratch / "recalibrated.onnx")
    with progress.stage("health"):
        findings = {id(norm): health.judge(norm, calibrated) for norm in found}
        health.gate(found, findings, options)
    norm_nodes = graph_map.norm_nodes(found)
    with progress.stage("fold"):
        result = rules.fold(model, found, options)
    with progress.stage("clean"):
        passes.clean(model, options)
    with progress.stage("export"):
        artifact = export.write(model, dst, options, imported.source)
    verification = Verification(verdict=Verdict.INCONCLUSIVE, summary="verification was switched off")
    if options.verify and unfolded is not None:
        from folding import verify  # pulls in onnxruntime

        with progress.stage("verify"):
            verification = verify.verify_fold(
                unfolded=unfolded,
                artifact=dst,
                reference=imported.reference,
                options=options,
                decisions=result.decisions,
                fold_sites=result.fold_sites,
                probe=probe,
                progress=progress,
            )
    if imported.reference is not None:
        imported.reference.close()
    return Report(
        verdict=verification.verdict,
        summary=verification.summary,
        source=imported.source,
        batch_norms=[norm_report(d, findings[id(d.norm)]) for d in result.decisions],
        graph=GraphReport(
            opset=model.graph.opset_imports[""],
            nodes_before=nodes_before,
            nodes_after=model.graph.num_nodes(),
            batch_norms_before=len(found),
            batch_norms_after=sum(not d.folded for d in result.decisions),
            parameters=export.parameter_count(model),
            bytes=artifact.bytes,
        ),
        graph_map=graph_map.build(seen, model.graph, result.decisions, norm_nodes),
        verification=verification.rows,
        probes=verification.probes,
        drift=verification.drift,
        first_divergence=verification.first_divergence,
        hazards=verification.hazards,
        calibration=calibrated.summary if calibrated is not None else None,
        latency=verification.latency,
        artifact=artifact,
        timings=progress.timings,
        toolchain=toolchain.versions(),
        options=options.model_dump(mode="json", exclude_defaults=True),
    )


def verify(
    a: str | Path,
    b: str | Path,
    options: FoldOptions | None = None,
    *,
    probe: Feeds | None = None,
    certificate: bool = False,
    listener: Listener = silent,
    workdir: Path | None = None,
) -> Verification:
    """Compare the ONNX file `b` with `a` (any format); `certificate`: check its fold in closed form.

    Raises: BnfoldError subclasses when `a` cannot be read or the probe does not fit.
    """
    from folding import verify as proof  # pulls in onnxruntime

    progress = Progress(listener)
    with progress.stage("verify"):
        compare = proof.recheck if certificate else proof.verify
        return compare(a, b, options, probe=probe, progress=progress, workdir=workdir)


def inspect(
    src: str | Path, options: FoldOptions | None = None, *, workdir: Path | None = None
) -> tuple[Inspection, dict[str, np.ndarray]]:
    """What is in the model, every batch norm with statistics and health, and the raw arrays by `layer/role`."""
    with tempfile.TemporaryDirectory(prefix="bnfold-", dir=workdir) as scratch:
        return sources.inspect(Path(src), options or FoldOptions(), Path(scratch))
