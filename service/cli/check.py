"""`bnfold check`: for hooks. Every model folds and verifies, or is at least healthy; nothing is kept."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from folding.errors import BnfoldError
from folding.options import FoldOptions
from folding.report import HealthCode, Inspection, NormReport, Report, Verdict
from service.cli import failures, native, parse
from service.cli.output import Output
from service.cli.text import clean


def run(
    models: list[Path], health_only: bool, unsandboxed: bool, timeout: float, as_json: bool, quiet: bool
) -> int:
    """Check each model and go on after a failure; the worst exit code."""
    output = Output(as_json, quiet)
    results = []
    for path in models:
        try:
            code, words = _one(path, health_only, unsandboxed, timeout)
        except BnfoldError as error:
            code, words = error.exit_code, f"{error.message} [{error.error_code}]"
        results.append({"model": str(path), "exit_code": code, "found": words})
        output.say(f"{'ok  ' if code == 0 else 'FAIL'} {clean(path)}: {clean(words)}")
    output.document(results)
    return max((int(str(result["exit_code"])) for result in results), default=0)


def _one(path: Path, health_only: bool, unsandboxed: bool, timeout: float) -> tuple[int, str]:
    with native.quiet(), parse.model(path) as model:
        if health_only:
            return _health(_inspect(model, unsandboxed, timeout).batch_norms)
        report = _fold(model, unsandboxed, timeout)
    if report.verdict is not Verdict.PASS:
        return failures.NOT_VERIFIED, f"verdict {report.verdict.value}: {report.summary}"
    folded = sum(norm.decision == "folded" for norm in report.batch_norms)
    return failures.OK, f"verdict pass, {folded} of {len(report.batch_norms)} batch norms folded"


def _health(norms: list[NormReport]) -> tuple[int, str]:
    sick = [
        f"{norm.name} {finding.code.value}"
        for norm in norms
        for finding in norm.health
        if finding.code is not HealthCode.OK
    ]
    if sick:
        more = f" and {len(sick) - 5} more" if len(sick) > 5 else ""
        return failures.MODEL, ", ".join(sick[:5]) + more
    return failures.OK, f"{len(norms)} batch norms, all healthy"


def _inspect(model: Path, unsandboxed: bool, timeout: float) -> Inspection:
    if unsandboxed:
        from folding import pipeline

        return pipeline.inspect(model)[0]
    return Inspection.model_validate(_job("inspect", model, timeout))


def _fold(model: Path, unsandboxed: bool, timeout: float) -> Report:
    if unsandboxed:
        from folding import pipeline

        with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
            return pipeline.fold(model, Path(folder) / "model.onnx")
    return Report.model_validate(_job("fold", model, timeout))


def _job(kind: str, model: Path, timeout: float) -> dict[str, Any]:
    from folding.progress import ignore_progress
    from service.cli import isolated

    with isolated.job(kind, model, FoldOptions(), ignore_progress, timeout=timeout) as result:
        return result.report
