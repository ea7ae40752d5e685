"""A report or an inspection in words and tables."""

from __future__ import annotations

from typing import Any

from folding.report import (
    Assumption,
    HeadlineState,
    HealthCode,
    Inspection,
    NormReport,
    Report,
    Verdict,
    Verification,
    VerificationRow,
    figures,
)
from folding.report.headline import headline, inspection_headline
from folding.report.render import words
from service.cli import text
from service.cli.output import Output

HEADLINE_STYLE = {
    HeadlineState.HEALTHY: "bold green",
    HeadlineState.UNHEALTHY: "bold yellow",
    HeadlineState.NOT_EQUIVALENT: "bold red",
    HeadlineState.NOT_SHOWN: "bold",
}
VERDICT_STYLE = {Verdict.PASS: "bold green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "bold yellow"}


def report(report: Report, output: Output) -> None:
    """The headline first, then health, fold map, verification, hazards."""
    said = headline(report)
    output.say(f"verdict: {report.verdict.value}: {text.clean(said.title)}", style=HEADLINE_STYLE[said.state])
    if said.detail:
        output.say(f"  {text.clean(said.detail)}")
    if said.remedy:
        output.say(f"  what to do: {text.clean(said.remedy)}")
    _source(report, output)
    _findings(report.batch_norms, output)
    _diagnosis(report, output)
    _fold_map(report, output)
    _calibration(report.calibration or {}, output)
    verification_rows(report.verification, output)
    if report.first_divergence:
        output.say(f"  first divergence: {text.clean(report.first_divergence)}")
    for hazard in report.hazards:
        output.say(f"hazard {text.clean(hazard.code)}: {text.clean(hazard.detail)}", style="yellow")
        if hazard.workaround:
            output.say(f"  way around: {text.clean(hazard.workaround)}")
    _closing(report, output)


def _source(report: Report, output: Output) -> None:
    source = report.source
    output.heading("Source")
    output.say(f"  {text.clean(source.format)} ({text.clean(source.framework)})")
    output.say(f"  inputs   {_tensors(source.inputs)}")
    output.say(f"  outputs  {_tensors(source.outputs)}")
    if source.route and source.route != "structure-first":
        output.say(f"  route    {text.clean(source.route)}")
    for assumption in source.assumptions:
        output.say(f"  assumed  {assumption_words(assumption)}")
    for note in source.notes:
        output.say(f"  note     {text.clean(note)}")


def assumption_words(assumption: Assumption) -> str:
    """What was assumed, why, and how to override it."""
    words = f"{assumption.what} = {assumption.value}: {assumption.why}"
    return text.clean(f"{words} (override: {assumption.override})" if assumption.override else words)


def _tensors(tensors: list[Any]) -> str:
    return ", ".join(f"{text.clean(t.name)} {t.dtype} {text.shape(t.shape)}" for t in tensors) or "(none)"


def _findings(norms: list[NormReport], output: Output) -> None:
    """Health in words, one line for each finding that is not `ok`, then what to do about it, once."""
    told: set[tuple[str, str]] = set()
    for norm in norms:
        for finding in norm.health:
            if finding.code is HealthCode.OK:
                continue
            output.say(
                f"{finding.severity} {finding.code.value}: {text.clean(f'{norm.name}: {finding.evidence}')}",
                style="red" if finding.severity == "error" else "yellow",
            )
            if finding.remedy and (finding.code.value, finding.remedy) not in told:
                told.add((finding.code.value, finding.remedy))
                output.say(f"  what to do: {text.clean(finding.remedy)}")


def _fold_map(report: Report, output: Output) -> None:
    output.heading("Batch norms")
    if not report.batch_norms:
        output.say("  none found: nothing to fold")
        return
    output.table(
        ["name", "channels", "health", "decision", "where", "rounding"],
        [_fold_row(norm) for norm in report.batch_norms],
    )
    graph = report.graph
    kept = [norm for norm in report.batch_norms if norm.decision == "kept"]
    output.say(
        f"  {len(report.batch_norms) - len(kept)} of {len(report.batch_norms)} folded; "
        f"{graph.nodes_before} nodes became {graph.nodes_after} "
        f"(opset {graph.opset}, {figures.size(graph.bytes)})"
    )
    for norm in kept:
        output.say(
            f"  kept {text.clean(norm.name)}: {text.clean(norm.reason)} {text.clean(norm.detail)}".rstrip()
        )


def _diagnosis(report: Report, output: Output) -> None:
    """Why training and inference differ, and the lines to change."""
    for each in report.diagnosis:
        output.heading(f"Right in training, wrong at inference: {text.clean(each.title)}")
        output.say(f"  layers: {text.clean(words.some(each.layers))}")
        output.say(f"  measured: {text.clean(each.measured)}")
        output.say(f"  meaning: {text.clean(each.meaning)}")
        for change in each.changes:
            output.say(f"  change {text.clean(change.where)}:")
            for mark, code in (("-", change.before), ("+", change.after)):
                for line in code.splitlines():
                    output.say(f"    {mark} {text.clean(line)}")
    if report.recalibrated is not None:
        output.say(f"  {text.clean(words.recalibrated(report.recalibrated))}")


def _calibration(found: dict[str, Any], output: Output) -> None:
    """Old against measured statistics, and what the difference does to the outputs."""
    layers = [layer for layer in found.get("layers", []) if layer.get("measured")]
    if not layers:
        return
    output.heading(f"Calibration on {found.get('samples', '?')} samples")
    rows = [
        [layer["name"], text.number(layer.get("mean_shift"), 3), _ratio(layer.get("variance_ratio"))]
        for layer in layers
    ]
    output.table(["name", "mean off by (standard deviations)", "variance, measured over stored"], rows)
    replaced = "were replaced" if found.get("applied") else "are as they were; --recalibrate replaces them"
    output.say(f"  the statistics {replaced}")
    for name, change in found.get("outputs", {}).items():
        moved = text.number(change.get("relative_rms"), 3)
        output.say(f"  measured statistics move {text.clean(name)} by {moved} of its spread")


def _ratio(pair: Any) -> str:
    return " .. ".join(text.number(value, 3) for value in pair) if isinstance(pair, list) else "-"


def _fold_row(norm: NormReport) -> list[str]:
    where = ", ".join(norm.into) if norm.into else (norm.reason or norm.direction or "-")
    rounding = text.number(norm.certificate.max_relative_rounding, 2) if norm.certificate else "-"
    return [norm.name, text.number(norm.channels), health_words(norm), norm.decision, where, rounding]


def health_words(norm: NormReport) -> str:
    """All codes of a batch norm in one cell."""
    return ", ".join(finding.code.value for finding in norm.health) or "-"


def verification_rows(rows: list[VerificationRow], output: Output) -> None:
    """The comparisons, the worst output of each."""
    if not rows:
        return
    output.heading("Verification")
    output.table(
        ["reference", "provider", "level", "status", "max error", "relative", "allowed"],
        [_verification_row(row) for row in words.gathered(rows)],
    )


def _verification_row(row: VerificationRow) -> list[str]:
    status = row.status
    worst = max(row.outputs, key=lambda o: (not o.passed, o.max_rel), default=None)
    if worst is None:
        figures = ["-", "-", text.clean(row.detail) or "-"]
    else:
        allowed = f"{text.number(worst.tolerance.atol, 2)} + {text.number(worst.tolerance.rtol, 2)}|y|"
        figures = [text.number(worst.max_abs, 2), text.number(worst.max_rel, 2), allowed]
    return [row.reference, row.provider, row.optimization_level, status, *figures]


def _closing(report: Report, output: Output) -> None:
    total = sum(report.timings.values())
    slowest = sorted(report.timings.items(), key=lambda item: -item[1])[:3]
    parts = ", ".join(f"{name} {figures.seconds(value)}" for name, value in slowest)
    output.say()
    output.say(f"took {figures.seconds(total)} ({parts}); sandbox: {text.clean(report.sandbox)}")


def inspection(found: Inspection, output: Output) -> None:
    """What `bnfold inspect` prints: health in the first line, then the source."""
    said = inspection_headline(found.batch_norms)
    output.say(text.clean(said.title), style=HEADLINE_STYLE[said.state])
    output.say(f"{text.clean(found.format)} ({text.clean(found.framework)})", style="bold")
    if found.digest:
        output.say(f"  digest     {found.digest}")
    if found.variables is not None:
        numbers = f" ({figures.count(found.parameters)} numbers)" if found.parameters is not None else ""
        output.say(f"  variables  {figures.count(found.variables)}{numbers}")
    for label, tensors, candidates in (
        ("inputs", found.inputs, found.input_candidates),
        ("outputs", found.outputs, found.output_candidates),
    ):
        if tensors:
            output.say(f"  {label:<9}  {_tensors(tensors)}")
        elif candidates:
            output.say(f"  {label:<9}  not settled; candidates: {_tensors(candidates)}")
    for name, signature in found.signatures.items():
        inputs, outputs = _tensors(signature.get("inputs", [])), _tensors(signature.get("outputs", []))
        output.say(f"  signature  {text.clean(name)}: {inputs} -> {outputs}")
    for assumption in found.assumptions:
        output.say(f"  assumed    {assumption_words(assumption)}")
    for note in found.notes:
        output.say(f"  note       {text.clean(note)}")
    _statistics(found.batch_norms, output)
    output.say()
    _findings(found.batch_norms, output)


def _statistics(norms: list[NormReport], output: Output) -> None:
    output.heading("Batch norms")
    if not norms:
        output.say("  none found")
        return
    output.table(
        ["name", "channels", "epsilon", "mean", "variance", "gamma", "beta", "amplification", "health"],
        [_statistics_row(norm) for norm in norms],
    )


def _statistics_row(norm: NormReport) -> list[str]:
    ranges = [_range(norm.stats.get(role)) for role in ("moving_mean", "moving_variance", "gamma", "beta")]
    figures = [text.number(norm.channels), text.number(norm.epsilon), *ranges, _range(norm.amplification)]
    return [norm.name, *figures, health_words(norm)]


def _range(stats: Any) -> str:
    if stats is None or stats.min is None or stats.max is None:
        return "-"
    return f"{text.number(stats.min, 3)} .. {text.number(stats.max, 3)}"


def verification(found: Verification, output: Output) -> None:
    """What `bnfold verify` prints."""
    told = {Verdict.PASS: "pass: B computes what A computes, within the tolerance",
             Verdict.FAIL: "fail: B differs from A",
             Verdict.INCONCLUSIVE: "inconclusive: equivalence could not be shown"}  # fmt: skip
    output.say(f"verdict: {told[found.verdict]}", style=VERDICT_STYLE[found.verdict])
    if found.summary:
        output.say(f"  {text.clean(found.summary)}")
    verification_rows(found.rows, output)
    if found.first_divergence:
        output.say(f"  first divergence: {text.clean(found.first_divergence)}")
    for hazard in found.hazards:
        output.say(f"hazard {text.clean(hazard.code)}: {text.clean(hazard.detail)}", style="yellow")
        if hazard.workaround:
            output.say(f"  way around: {text.clean(hazard.workaround)}")
