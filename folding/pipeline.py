"""The whole way of one model. Each stage is one call into the package that owns it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from folding import export, health, norms, ort_format, passes, rules, sources
from folding.errors import BnfoldError, InternalError, UnsupportedModel, root_error
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
from folding.report.norm_rows import norm_report, preprocessing_note, preprocessing_report
from folding.report.proved_report import proved_report
from folding.rules.base import FoldResult
from folding.sources import interface, preprocessing
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
    with tempfile.TemporaryDirectory(prefix="bnfold-", dir=workdir) as scratch:
        task = _Task(
            Path(src),
            Path(dst),
            options or FoldOptions(),
            Progress(listener),
            Path(scratch),
            calibration,
            probe,
        )
        try:
            report = _fold(task)
            if recalibrated is not None and _worth_recalibrating(report):
                report.recalibrated = _second(_fold(task.recalibrating(recalibrated)), recalibrated)
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
    return Recalibrated(
        file=path.name,
        artifact=fixed.artifact,
        verdict=fixed.verdict,
        summary=fixed.summary,
        headline=fixed.headline,
    )


@dataclass(frozen=True)
class _Task:
    """What one fold was asked to do, as it does not change on the way.

    scratch: a folder of its own. keep_branches: If nodes stay as they are, and the source is checked first.
    """

    src: Path
    dst: Path
    options: FoldOptions
    progress: Progress
    scratch: Path
    calibration: Feeds | None = None
    probe: Feeds | None = None
    keep_branches: bool = False

    def within(self, folder: str) -> _Task:
        """The same in a new folder inside the scratch folder."""
        scratch = self.scratch / folder
        scratch.mkdir()
        return replace(self, scratch=scratch)

    def recalibrating(self, dst: Path) -> _Task:
        """The same with the statistics of the calibration data, written to `dst`."""
        options = self.options.model_copy(update={"recalibrate": True, "ort_format": False})
        return replace(self.within("recalibrated"), dst=dst, options=options)


def _fold(task: _Task) -> Report:
    if task.options.verify:
        from folding.verify import providers

        providers.require_known([*task.options.providers, *task.options.require])
    try:
        return _attempt(task.within("first"))
    except UnsupportedModel as error:
        if error.error_code != "checker_refused":
            raise
    # A branch that never runs may hold what the checker refuses as soon as constants reach it.
    return _attempt(replace(task.within("second"), keep_branches=True))


def _attempt(task: _Task) -> Report:
    """The whole way once."""
    with task.progress.stage("read"), gc_pause.paused():
        imported = sources.load(task.src, task.options, task.scratch, task.progress)
        if task.keep_branches:
            export.check_source(imported.model)
            imported.source.notes.append(_KEPT_BRANCHES)
    try:
        return _Run(task, imported).report()
    except (MemoryError, OSError):
        raise
    except Exception as error:
        root = root_error(error)
        surprise = isinstance(root, InternalError) or not isinstance(root, BnfoldError)
        if surprise and imported.source.format == "onnx":
            _blame_source(task.within("again"))
        raise
    finally:
        if imported.reference is not None:
            imported.reference.close()


def _blame_source(task: _Task) -> None:
    """Check the source before a surprise is called a defect of ours: what the onnx checker would refuse of it
    may have led to anything."""
    export.check_source(sources.load(task.src, task.options, task.scratch, Progress()).model)


@dataclass
class _Run:
    """One model on its way from the IR to a report."""

    task: _Task
    imported: Imported

    def report(self) -> Report:
        """All stages after reading, in order."""
        task, model = self.task, self.imported.model
        options, stage = task.options, task.progress.stage
        interface.adapt(self.imported, options)
        preprocessing.prepend(self.imported, options)
        if options.artifact_inputs:
            self.imported.source.notes += passes.fix_input_shapes(model, options.artifact_inputs)
            self.imported.onnx_path = None  # the file has other sizes
        nodes_before = model.graph.num_nodes()
        seen = graph_map.look(model.graph)
        unfolded = self.imported.onnx_path
        if options.verify and unfolded is None:
            unfolded = export.write_plain(model, task.scratch / "unfolded.onnx")
        with gc_pause.paused():
            with stage("prepare"):
                passes.prepare(model, options, keep_branches=task.keep_branches)
            with stage("find"):
                found = norms.find(model, self.imported.hints)
            calibrated = None if task.calibration is None else self._calibrate(found, task.calibration)
            if calibrated is not None:
                found = calibrated.norms
                if calibrated.rewritten and options.verify:
                    unfolded = export.write_plain(model, task.scratch / "recalibrated.onnx")
            with stage("health"):
                findings = {id(norm): health.assess(norm, calibrated) for norm in found}
                health.gate(found, findings, options)
            norm_nodes = graph_map.norm_nodes(found)
            inputs = norms.input_affines.find(
                model, preprocessing.names(options), [node for norm in found for node in norm.nodes]
            )
            everything = rules.fold_and_clean(model, [*found, *inputs], options, task.progress)
            result, of_inputs = everything.without(inputs)
            self.imported.source.notes += map(preprocessing_note, of_inputs)
            with stage("export"):
                artifact = export.write(model, task.dst, options, self.imported.source)
                runtime_form = ort_format.write(task.dst) if options.ort_format else None
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
        proof = self._prove(unfolded, everything)
        report = proved_report(
            proof,
            options,
            source=self.imported.source,
            batch_norms=[norm_report(d, findings[id(d.norm)]) for d in result.decisions],
            graph=graph,
            graph_map=aligned,
            artifact=artifact,
            ort_format=runtime_form,
            calibration=calibrated.summary if calibrated is not None else None,
            timings=task.progress.timings,
        )
        report.preprocessing = [preprocessing_report(decision) for decision in of_inputs]
        report.diagnosis = diagnose(report.batch_norms, report.source.framework, report.calibration)
        return report

    def _calibrate(self, found: list[BatchNorm], data: Feeds) -> Calibrated:
        from folding import calibrate  # pulls in onnxruntime

        with self.task.progress.stage("calibrate"):
            calibrated = calibrate.run(self.imported, found, data, self.task.options, self.task.progress)
        if calibrated.rewritten and self.imported.reference is not None:
            # The source computes something else now: the recalibrated graph is the measure.
            self.imported.reference.close()
            self.imported.reference = None
        return calibrated

    def _prove(self, unfolded: Path | None, result: FoldResult) -> Verification:
        if not self.task.options.verify or unfolded is None:
            return Verification(verdict=Verdict.INCONCLUSIVE, summary="verification was switched off")
        from folding.verify.pipeline import verify_fold  # pulls in onnxruntime

        with self.task.progress.stage("verify"):
            return verify_fold(
                unfolded=unfolded,
                artifact=self.task.dst,
                reference=self.imported.reference,
                options=self.task.options,
                decisions=result.decisions,
                fold_sites=result.fold_sites,
                probe=self.task.probe,
                progress=self.task.progress,
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
