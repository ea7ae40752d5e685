"""`bnfold check`: for hooks. Every model folds and verifies, or is at least healthy; nothing is kept."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from folding.errors import BnfoldError
from folding.options import FoldOptions
from folding.report import HeadlineState, Inspection, Report, Verdict
from folding.report.headline import headline, inspection_headline
from service.cli import failures, native, parse
from service.cli.output import Output
from service.cli.text import clean


@dataclass(frozen=True)
class Checked:
    """What was found out about one model. `state` is the headline's; empty where the model was refused."""

    exit_code: int
    words: str
    state: str = ""
    remedy: str = ""

    @property
    def mark(self) -> str:
        """`ok`, `WARN` for an equivalent artifact of unhealthy statistics, or `FAIL`."""
        if self.exit_code != failures.OK:
            return "FAIL"
        return "WARN" if self.state == HeadlineState.UNHEALTHY else "ok  "


def run(
    models: list[Path], health_only: bool, unsandboxed: bool, timeout: float, as_json: bool, quiet: bool
) -> int:
    """Check each model and go on after a failure; the worst exit code."""
    output = Output(as_json, quiet)
    results = []
    for path in models:
        try:
            found = _one(path, health_only, unsandboxed, timeout)
        except BnfoldError as error:
            found = Checked(error.exit_code, f"{error.message} [{error.error_code}]")
        results.append(
            {
                "model": str(path), "exit_code": found.exit_code, "found": found.words,
                "health": found.state, "remedy": found.remedy,
            }
        )  # fmt: skip
        output.say(f"{found.mark} {clean(path)}: {clean(found.words)}")
        if found.remedy:
            output.say(f"     what to do: {clean(found.remedy)}")
    output.document(results)
    return max((int(str(result["exit_code"])) for result in results), default=0)


def _one(path: Path, health_only: bool, unsandboxed: bool, timeout: float) -> Checked:
    with native.quiet(), parse.model(path) as model:
        if health_only:
            return _health(_inspect(model, unsandboxed, timeout))
        report = _fold(model, unsandboxed, timeout)
    said = headline(report)
    if report.verdict is not Verdict.PASS:
        return Checked(failures.NOT_VERIFIED, f"{said.title}. {said.detail}".strip(), said.state.value)
    folded = sum(norm.decision == "folded" for norm in report.batch_norms)
    words = f"{said.title} ({folded} of {len(report.batch_norms)} batch norms folded)"
    return Checked(failures.OK, words, said.state.value, said.remedy)


def _health(inspection: Inspection) -> Checked:
    """Unhealthy statistics fail `--health-only`, which asks for nothing else."""
    said = inspection_headline(inspection.batch_norms)
    sick = said.state is not HeadlineState.HEALTHY
    code = failures.MODEL if sick else failures.OK
    words = f"{said.title} [{said.code.value}]" if said.code else said.title
    return Checked(code, words, said.state.value, said.remedy)


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
