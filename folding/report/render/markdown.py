"""The report as Markdown for a pull request: verdict first, tables folded away, every name escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from folding.report import Report
from folding.report.headline import headline
from folding.report.render import words

MOST = 50
SPECIAL = "\\`*_{}[]<>()#+-!|~&@:"


def render(report: Report) -> str:
    """GitHub-flavoured Markdown."""
    parts = (head, diagnosis, health, fold, proof, hazards, foot)
    return "\n".join(line for part in parts for line in part(report)) + "\n"


def escape(text: object) -> str:
    """Text that Markdown shows as it is: punctuation escaped, control characters blank.

    A zero-width space behind @ and # keeps forges from reading mentions and references into names.
    """
    plain = "".join(c if c.isprintable() else " " for c in str(text))
    escaped = "".join("\\" + c if c in SPECIAL else c for c in plain)
    return escaped.replace("@", "@\u200b").replace("#", "#\u200b")


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """A table; cells are escaped."""
    titles = list(header)
    yield "| " + " | ".join(titles) + " |"
    yield "|" + " --- |" * len(titles)
    for row in rows:
        yield "| " + " | ".join(escape(cell) for cell in row) + " |"


def details(title: str, lines: Iterable[str]) -> Iterator[str]:
    """A section that opens on a click."""
    yield f"<details><summary>{title}</summary>"
    yield ""
    yield from lines
    yield ""
    yield "</details>"
    yield ""


def fenced(language: str, lines: Iterable[str]) -> list[str]:
    """Code in a fence that nothing in it can close."""
    held = list(lines)
    longest = max((len(run) for line in held for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence + language, *held, fence]


def head(report: Report) -> Iterator[str]:
    """Verdict and the figures that a reviewer looks for."""
    said = headline(report)
    yield f"## {words.MARKS[said.state]} bnfold: {escape(said.title)} (`{report.verdict.value}`)"
    yield ""
    for line in (said.detail, f"What to do: {said.remedy}" if said.remedy else ""):
        if line:
            yield escape(line)
            yield ""
    done, total = words.folded(report)
    graph, findings = report.graph, len(list(words.findings(report)))
    passed = sum(row.status == "pass" for row in report.verification)
    rows = [
        ("batch norms folded", f"{done} of {total}"),
        ("nodes", f"{graph.nodes_before} before, {graph.nodes_after} after"),
        ("findings about statistics", findings),
        ("comparisons passed", f"{passed} of {len(report.verification)}"),
        ("artifact", report.artifact.digest if report.artifact else "none"),
    ]
    yield from table(("", ""), rows)
    yield ""


def diagnosis(report: Report) -> Iterator[str]:
    """Why training and inference differ, and the lines to change: in the open."""
    if not report.diagnosis:
        return
    yield "### Right in training, wrong at inference"
    yield ""
    for each in report.diagnosis:
        yield f"**{escape(each.title)}** (`{each.code.value}`) in {escape(words.some(each.layers))}"
        yield ""
        yield f"- Measured: {escape(each.measured)}"
        yield f"- What it means: {escape(each.meaning)}"
        yield ""
        for change in each.changes:
            yield f"Change {escape(change.where)}:"
            yield ""
            old = (f"- {line}" for line in change.before.splitlines())
            new = (f"+ {line}" for line in change.after.splitlines())
            yield from fenced("diff", [*old, *new])
            yield ""
    if report.recalibrated is not None:
        yield f"{escape(words.recalibrated(report.recalibrated))}"
        yield ""


def health(report: Report) -> Iterator[str]:
    """Findings, in the open: they are what people act on."""
    found = list(words.findings(report))
    if not found:
        return
    yield "### Statistics"
    yield ""
    rows = ((n.name, h.severity, h.code.value, h.evidence, h.remedy) for n, h in found[:MOST])
    yield from table(("layer", "", "finding", "evidence", "remedy"), rows)
    yield ""


def fold(report: Report) -> Iterator[str]:
    """What stayed and why."""
    stayed = list(words.kept(report))
    if stayed:
        rows = ((n.name, n.decision, n.reason or "", n.detail) for n in stayed[:MOST])
        yield from details(
            f"Kept, whole or half: {len(stayed)}", table(("layer", "decision", "reason", "detail"), rows)
        )


def proof(report: Report) -> Iterator[str]:
    """The comparisons."""
    rows = (
        (r.status, r.reference, r.provider, r.optimization_level, words.row_words(r))
        for r in words.gathered(report.verification)
    )
    header = ("status", "reference", "provider", "level", "result")
    yield from details(f"Proof: {len(report.verification)} comparisons", table(header, rows))
    if report.first_divergence:
        yield f"First divergence: {escape(report.first_divergence)}"
        yield ""


def hazards(report: Report) -> Iterator[str]:
    """Runtime hazards."""
    if report.hazards:
        yield "### Runtime hazards"
        yield ""
        rows = ((h.code, h.detail, h.workaround) for h in report.hazards)
        yield from table(("hazard", "what happens", "way around"), rows)
        yield ""


def foot(report: Report) -> Iterator[str]:
    """How to repeat, in a fence that nothing in the command can close."""
    yield from details("How to repeat", fenced("sh", [words.command(report)]))
