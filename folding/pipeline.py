"""The whole way of one model. Each stage is one call into the package that owns it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from folding import export, health, norms, passes, rules, sources
from folding.errors import BnfoldError, InternalError, UnsupportedModel
from folding.ir import gc_pause
from folding.ir.query import is_op
from folding.ir.types import Feeds
from folding.norms.base import BatchNorm
from folding.options import FoldOptions
from folding.progress import Listener, Progress, ignore_progress
from folding.report import (
    GraphReport,
    Inspection,
    Recalibrated,
    Report,
    Verdict,
    Verification,
    graph_map,
)
from folding.report.diagnosis import diagnose
from folding.report.norm_rows import norm_report
from folding.report.proved_report import proved_report
from folding.rules.base import FoldResult
from folding.sources import interface
from folding.sources.base import Imported

if TYPE_CHECKING:
    from folding.calibrate import Calibrated

_KEPT_BRANCHES = (
    "branches of If nodes and bodies of loops stay as they are: with constants in them, the onnx checker "
    "refuses the graph"
)


def fold(
    src: str | Path,
    dst: str | Path,
    options: FoldOptions | None = None,
    *,
    calibration: Feeds | None = None,
    probe: Feeds | None = None,
    recalibrated: Path | None = None,
    listener: Listener = ignore_progress,
    workdir: Path | None = None,
) -> Report:
    """Fold the batch norms of the model at `src`, write ONNX to `dst`, and prove the two equivalent.

    Args:
        src: a file or folder in any supported format.
        dst: where the artifact goes; weights past 2 GiB go to `<dst>.data` beside it.
        calibration: arrays by input name, first axis the batch; diagnoses, or with
            `options.recalibrate` replaces, the moving statistics.
        probe: the user's own verification inputs by input name.
        recalibrated: where a second artifact goes whose statistics are those of the calibration data, beside
            the faithful one. It is made where the data is given and the statistics are to blame for a
            difference of training and inference (`report.recalibrated`).

    Returns:
        The report. `report.verdict` tells whether the artifact may be published; it is written
        whatever the verdict, and keeping it away from readers is the caller's part.

    Raises:
        BnfoldError: subclasses per `folding.errors`.
    """
    options = options or FoldOptions()
    progress = Progress(listener)
    with tempfile.TemporaryDirectory(prefix="bnfold-", dir=workdir) as scratch:
        try:
            report = _fold(Path(src), Path(dst), options, calibration, probe, progress, Path(scratch))
            if recalibrated is not None and _worth_recalibrating(report):
                again = options.model_copy(update={"recalibrate": True})
                folder = Path(scratch) / "recalibrated"
                folder.mkdir()
                fixed = _fold(Path(src), recalibrated, again, calibration, probe, progress, folder)
                report.recalibrated = _second(fixed, recalibrated)
            return report
        except BnfoldError:
            raise
        except Exception as error:  # noqa: BLE001 - only to find the error of ours inside it
            raise root_error(error) from None


def _worth_recalibrating(report: Report) -> bool:
    """Data was given, the statistics are as stored, and they set inference apart from training."""
    calibration = report.calibration
    if calibration is None or calibration.get("applied"):
        return False
    return bool(report.diagnosis) and any(row.get("measured") for row in calibration["layers"])


def _second(fixed: Report, path: Path) -> Recalibrated | None:
    if fixed.artifact is None:
        return None
    return Recalibrated(file=path.name, artifact=fixed.artifact, verdict=fixed.verdict, summary=fixed.summary)


def root_error(error: BaseException) -> BaseException:
    """The error of ours at the root of a chain: weights are read late, by libraries that wrap errors."""
    cause: BaseException | None = error
    for _ in range(32):  # chains may bite their own tail
        if cause is None:
            break
        if isinstance(cause, BnfoldError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return error


def _fold(
    src: Path,
    dst: Path,
    options: FoldOptions,
    calibration: Feeds | None,
    probe: Feeds | None,
    progress: Progress,
    scratch: Path,
) -> Report:
    if options.verify:
        from folding.verify import providers

        providers.check([*options.providers, *options.require])
    try:
        return _attempt(src, dst, options, calibration, probe, progress, scratch / "first")
    except UnsupportedModel as error:
        if error.error_code != "checker_refused":
            raise
    # A branch that never runs may hold what the checker refuses as soon as constants reach it.
    return _attempt(src, dst, options, calibration, probe, progress, scratch / "second", keep_branches=True)


def _attempt(
    src: Path,
    dst: Path,
    options: FoldOptions,
    calibration: Feeds | None,
    probe: Feeds | None,
    progress: Progress,
    scratch: Path,
    *,
    keep_branches: bool = False,
) -> Report:
    """The whole way once. `keep_branches`: If nodes stay as they are, and the source is checked first."""
    scratch.mkdir()
    with progress.stage("read"), gc_pause.paused():
        imported = sources.load(src, options, scratch, progress)
        if keep_branches:
            export.check_source(imported.model)
            imported.source.notes.append(_KEPT_BRANCHES)
    run = _Run(imported, dst, options, progress, scratch, keep_branches)
    try:
        return run.report(calibration, probe)
    except (MemoryError, OSError):
        raise
    except Exception as error:
        root = root_error(error)
        surprise = isinstance(root, InternalError) or not isinstance(root, BnfoldError)
        if surprise and imported.source.format == "onnx":
            _blame_source(src, options, scratch)
        raise
    finally:
        if imported.reference is not None:
            imported.reference.close()


def _blame_source(src: Path, options: FoldOptions, scratch: Path) -> None:
    """Check the source before a surprise is called a defect of ours: what the onnx checker would refuse of it
    may have led to anything."""
    again = scratch / "again"
    again.mkdir()
    export.check_source(sources.load(src, options, again, Progress()).model)


@dataclass
class _Run:
    """One model on its way from the IR to a report."""

    imported: Imported
    dst: Path
    options: FoldOptions
    progress: Progress
    scratch: Path
    keep_branches: bool = False

    def report(self, calibration: Feeds | None, probe: Feeds | None) -> Report:
        """All stages after reading, in order."""
        model, options = self.imported.model, self.options
        interface.adapt(self.imported, options)
        if options.artifact_inputs:
            self.imported.source.notes += passes.fix_input_shapes(model, options.artifact_inputs)
            self.imported.onnx_path = None  # the file has other sizes
        nodes_before = model.graph.num_nodes()
        seen = graph_map.look(model.graph)
        unfolded = self.imported.onnx_path
        if options.verify and unfolded is None:
            unfolded = export.write_plain(model, self.scratch / "unfolded.onnx")
        with gc_pause.paused():
            with self.progress.stage("prepare"):
                passes.prepare(model, options, keep_branches=self.keep_branches)
            with self.progress.stage("find"):
                found = norms.find(model, self.imported.hints)
            calibrated = None if calibration is None else self._calibrate(found, calibration)
            if calibrated is not None:
                found = calibrated.norms
                if calibrated.rewritten and options.verify:
                    unfolded = export.write_plain(model, self.scratch / "recalibrated.onnx")
            with self.progress.stage("health"):
                findings = {id(norm): health.judge(norm, calibrated) for norm in found}
                health.gate(found, findings, options)
            norm_nodes = graph_map.norm_nodes(found)
            with self.progress.stage("fold"):
                result = rules.fold(model, found, options)
            with self.progress.stage("clean"):
                passes.clean(model, options)
            with self.progress.stage("export"):
                artifact = export.write(model, self.dst, options, self.imported.source)
            graph = GraphReport(
                opset=model.graph.opset_imports[""],
                nodes_before=nodes_before,
                nodes_after=model.graph.num_nodes(),
                batch_norms_before=len(found),
                batch_norms_after=_norms_left(model, result),
                parameters=export.parameter_count(model),
                bytes=artifact.bytes,
            )
            aligned = graph_map.build(seen, model.graph, result.decisions, norm_nodes)
        _release(model)
        proof = self._prove(unfolded, result, probe)
        report = proved_report(
            proof,
            options,
            source=self.imported.source,
            batch_norms=[norm_report(d, findings[id(d.norm)]) for d in result.decisions],
            graph=graph,
            graph_map=aligned,
            artifact=artifact,
            calibration=calibrated.summary if calibrated is not None else None,
            timings=self.progress.timings,
        )
        report.diagnosis = diagnose(report.batch_norms, report.source.framework, report.calibration)
        return report

    def _calibrate(self, found: list[BatchNorm], data: Feeds) -> Calibrated:
        from folding import calibrate  # pulls in onnxruntime

        with self.progress.stage("calibrate"):
            calibrated = calibrate.run(self.imported, found, data, self.options, self.progress)
        if calibrated.rewritten and self.imported.reference is not None:
            # The source computes something else now: the recalibrated graph is the measure.
            self.imported.reference.close()
            self.imported.reference = None
        return calibrated

    def _prove(self, unfolded: Path | None, result: FoldResult, probe: Feeds | None) -> Verification:
        if not self.options.verify or unfolded is None:
            return Verification(verdict=Verdict.INCONCLUSIVE, summary="verification was switched off")
        from folding.verify.pipeline import verify_fold  # pulls in onnxruntime

        with self.progress.stage("verify"):
            return verify_fold(
                unfolded=unfolded,
                artifact=self.dst,
                reference=self.imported.reference,
                options=self.options,
                decisions=result.decisions,
                fold_sites=result.fold_sites,
                probe=probe,
                progress=self.progress,
            )


def _norms_left(model: ir.Model, result: FoldResult) -> int:
    """Batch norms kept, and never fewer than the BatchNormalization nodes that the artifact holds: half a
    norm, or arithmetic that a fold left over, may be stated as one."""
    nodes = sum(is_op(node, "BatchNormalization") for node in model.graph.all_nodes())
    return max(nodes, sum(not decision.folded for decision in result.decisions))


def _release(model: ir.Model) -> None:
    """Let go of the weights: they are in the artifact now, and verification needs the memory."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            value.const_value = None


def verify(
    a: str | Path,
    b: str | Path,
    options: FoldOptions | None = None,
    *,
    probe: Feeds | None = None,
    certificate: bool = False,
    listener: Listener = ignore_progress,
    workdir: Path | None = None,
) -> Verification:
    """Compare the ONNX file `b` with `a` (any format); `certificate`: check its fold in closed form.

    Raises: BnfoldError subclasses when one of them cannot be read or the probe does not fit.
    """
    from folding.sources.gates.onnx import check_onnx
    from folding.verify.pipeline import verify_models  # pulls in onnxruntime
    from folding.verify.steps.recheck_certificates import recheck

    progress = Progress(listener)
    with progress.stage("verify"):
        check_onnx(Path(b))  # whoever made it: the runtimes trust what they load
        compare = recheck if certificate else verify_models
        return compare(
            Path(a), Path(b), options or FoldOptions(), probe=probe, progress=progress, workdir=workdir
        )


def inspect(
    src: str | Path, options: FoldOptions | None = None, *, workdir: Path | None = None
) -> tuple[Inspection, dict[str, np.ndarray]]:
    """What is in the model, each batch norm with its health, and the raw arrays by `layer/role`."""
    with tempfile.TemporaryDirectory(prefix="bnfold-", dir=workdir) as scratch:
        return sources.inspect(Path(src), options or FoldOptions(), Path(scratch))
