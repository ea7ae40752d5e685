"""The report in plain words, for a terminal or a log: verdict first, then what to act on, then figures."""

from __future__ import annotations

from collections.abc import Iterator

from folding.report import Report, figures
from folding.report.headline import headline
from folding.report.render import words

MOST = 20


def render(report: Report) -> str:
    """Plain text, at most MOST lines of each kind, control characters shown as text."""
    lines = [clean(line) for part in (head, diagnosis, health, fold, proof, rest) for line in part(report)]
    return "\n".join(lines) + "\n"


def clean(line: str) -> str:
    """Names come from the model: escape sequences and newlines in them must not reach a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def head(report: Report) -> Iterator[str]:
    """Headline and source."""
    said = headline(report)
    yield f"{report.verdict.value.upper()}  {said.title}"
    if said.detail:
        yield f"  {said.detail}"
    if said.remedy:
        yield f"  what to do: {said.remedy}"
    yield f"  source: {report.source.format} ({report.source.framework}) {report.source.digest}".rstrip()
    for assumed in report.source.assumptions:
        yield f"  assumed: {assumed.what} = {assumed.value} ({assumed.why}) {assumed.override}".rstrip()


def diagnosis(report: Report) -> Iterator[str]:
    """Why training and inference differ, and the lines to change."""
    for each in report.diagnosis:
        yield f"Right in training, wrong at inference: {each.title} ({words.some(each.layers)})"
        yield f"  measured: {each.measured}"
        yield f"  meaning: {each.meaning}"
        for change in each.changes:
            yield f"  change {change.where}:"
            yield from (f"    - {line}" for line in change.before.splitlines())
            yield from (f"    + {line}" for line in change.after.splitlines())
    if report.recalibrated is not None:
        yield f"  {words.recalibrated(report.recalibrated)}"


def health(report: Report) -> Iterator[str]:
    """Findings with remedies."""
    found = list(words.findings(report))
    yield f"Statistics: {len(report.batch_norms)} batch norms, {len(found)} findings"
    for norm, finding in found[:MOST]:
        yield f"  {finding.severity}: {norm.name}: {finding.code.value}: {finding.evidence}"
        if finding.remedy:
            yield f"      {finding.remedy}"
    yield from more(len(found))


def fold(report: Report) -> Iterator[str]:
    """What was folded, what stayed and why."""
    done, total = words.folded(report)
    graph = report.graph
    yield f"Fold: {done} of {total} batch norms; {graph.nodes_before} nodes before, {graph.nodes_after} after"
    stayed = list(words.kept(report))
    for norm in stayed[:MOST]:
        yield f"  {norm.decision}: {norm.name}: {norm.reason or ''} {norm.detail}".rstrip()
    yield from more(len(stayed))
    holds, all_, share = words.certificates(report)
    if all_:
        yield f"  certificates: {holds} of {all_} hold; largest rounding {share:.2f} of its bound"


def proof(report: Report) -> Iterator[str]:
    """Rows and hazards."""
    yield f"Proof: {len(report.verification)} comparisons on {len(report.probes)} probes"
    for row in words.gathered(report.verification):
        where = f"{row.reference} / {row.provider} / {row.optimization_level}"
        yield f"  {row.status}: {where}: {words.row_words(row)}"
    if report.first_divergence:
        yield f"  first divergence: {report.first_divergence}"
    for hazard in report.hazards:
        yield f"  hazard {hazard.code}: {hazard.detail}"
        yield f"      {hazard.workaround}"


def rest(report: Report) -> Iterator[str]:
    """Artifact, time, how to repeat."""
    if report.artifact is not None:
        yield f"Artifact: {report.artifact.digest} ({figures.size(report.artifact.bytes)})"
    total = sum(report.timings.values())
    yield f"Time: {figures.seconds(total)}" if total else "Time: not measured"
    yield f"Again: {words.command(report)}"


def more(count: int) -> Iterator[str]:
    """How many were left out."""
    if count > MOST:
        yield f"  ... and {count - MOST} more"
