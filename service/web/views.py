"""What the result page shows, taken from the report: plain records that templates only lay out."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property

from markupsafe import Markup, escape

from folding.errors import catalogue
from folding.report import (
    ArrayStats,
    Diagnosis,
    HeadlineState,
    HealthCode,
    NormReport,
    OutputComparison,
    Report,
    VerificationRow,
)
from folding.report.figures import count
from folding.report.headline import headline
from folding.report.render import words
from service.web.charts import error_by_layer, svg
from service.web.charts.chart import Chart
from service.web.norm_pages import NormPage
from service.web.rendering import formats

ROLES = (
    ("moving_mean", "mean"),
    ("moving_variance", "variance"),
    ("gamma", "gamma"),
    ("beta", "beta"),
)
# The page's colours: green, amber, red, grey.
TONES = {
    HeadlineState.HEALTHY: "pass",
    HeadlineState.UNHEALTHY: "unsure",
    HeadlineState.NOT_EQUIVALENT: "fail",
    HeadlineState.NOT_SHOWN: "unknown",
}
# Above this many batch norms the page shows the first ones and asks before it shows all.
PAGE = 300
NAMED = 5  # kept batch norms that are named before the table


@dataclass(frozen=True)
class Banner:
    """The verdict in words. `tone` picks colour and icon; the words alone say it too."""

    tone: str
    title: str
    summary: str
    remedy: str = ""


@dataclass(frozen=True)
class Figure:
    """One number under the banner."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Histogram:
    """One small picture: path and zero mark in a 96 x 24 box, range below, all of it in words for readers."""

    title: str
    path: str
    zero: float | None
    low: str
    high: str
    words: str
    broken: int = 0

    @cached_property
    def markup(self) -> Markup:
        """The picture. A page may hold ten thousand, which a template's macro is too slow for."""
        zero = (
            ""
            if self.zero is None
            else f'<line class="zero" x1="{self.zero}" x2="{self.zero}" y1="0" y2="24"/>'
        )
        broken = f'<strong class="broken">{self.broken} not finite</strong>' if self.broken else ""
        return Markup(
            f'<figure class="hist"><svg viewBox="0 0 96 24" preserveAspectRatio="none" role="img" '
            f'aria-label="{escape(self.words)}"><path d="{self.path}"/>{zero}</svg>'
            f"<figcaption><span>{escape(self.low)}</span><span>{escape(self.high)}</span></figcaption>{broken}</figure>"
        )


@dataclass(frozen=True)
class NormView:
    """One row of the health table and of the fold table."""

    norm: NormReport
    anchor: str
    tone: str
    findings: list[tuple[str, str, str, str]]
    pictures: list[Histogram | None]
    reason: tuple[str, str, str] | None


@dataclass(frozen=True)
class ResultView:
    """Everything on the page that is not the report itself."""

    banner: Banner
    figures: list[Figure]
    norms: list[NormView]
    flagged: list[tuple[str, int]]
    folded: int
    kept: int
    charts: list[Chart]
    rows: list[VerificationRow]
    diagnosis: list[tuple[Diagnosis, str]]
    recalibrated: str
    absent: list[str]
    hidden: int = 0
    total: int = 0
    more: str = "all"  # value of `?norms=` that shows more
    comparisons: int = 0  # rows of the table of comparisons
    tally: str = ""  # how they ended, in words
    page: bool = False  # a page of a long list was asked for
    kept_names: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def result(report: Report, *, everything: bool = False, page: NormPage | None = None) -> ResultView:
    """The view of one report; `everything` shows all batch norms of a report that is there as a whole.

    `page`: the report has only some of its batch norms, these are the ones to show.
    """
    if page is not None:
        return _paged(report, page)
    shown = report.batch_norms if everything else notable(report.batch_norms)
    folded = sum(norm.decision == "folded" for norm in report.batch_norms)
    return ResultView(
        banner=banner(report),
        figures=figures(report, folded),
        norms=[norm_view(norm, index) for index, norm in enumerate(shown)],
        flagged=flagged(report.batch_norms),
        folded=folded,
        kept=len(report.batch_norms) - folded,
        charts=error_by_layer.charts(report),
        rows=words.gathered(report.verification),
        diagnosis=[(each, words.some(each.layers)) for each in report.diagnosis],
        recalibrated=words.recalibrated(report.recalibrated) if report.recalibrated is not None else "",
        absent=compared_on(report),
        hidden=len(report.batch_norms) - len(shown),
        total=len(report.batch_norms),
        page=everything,
        comparisons=sum(len(row.outputs) or 1 for row in report.verification),
        tally=tally(report.verification),
        kept_names=[norm.name for norm in report.batch_norms if norm.decision == "kept"][:NAMED],
    )


def _paged(report: Report, page: NormPage) -> ResultView:
    shown = report.batch_norms if page.rows is None else page.rows
    return replace(
        result(report.model_copy(update={"batch_norms": shown}), everything=True),
        figures=figures(report, page.folded, page.total),
        flagged=page.flagged,
        folded=page.folded,
        kept=page.total - page.folded,
        hidden=page.total - page.shown_until(shown),
        total=page.total,
        more=page.more,
        page=page.rows is not None,
    )


def tally(rows: list[VerificationRow]) -> str:
    """Return how many comparisons ended how: `6 pass, 1 unavailable`."""
    counts = Counter(row.status for row in words.gathered(rows))
    return ", ".join(f"{count(number)} {formats.words(status)}" for status, number in counts.most_common())


def notable(norms: list[NormReport]) -> list[NormReport]:
    """The first `PAGE` in graph order, and of the rest those that somebody has to look at."""
    if len(norms) <= PAGE:
        return norms
    rest = (norm for norm in norms[PAGE:] if norm.decision == "kept" or _worrying(norm))
    return [*norms[:PAGE], *itertools.islice(rest, PAGE)]


def _worrying(norm: NormReport) -> bool:
    return any(item.severity != "ok" for item in norm.health)


def compared_on(report: Report) -> list[str]:
    """What the chart of layers does not show, and why: no graphics card, or nobody asked for one."""
    here = {row.provider for row in report.drift}
    absent = [row for row in words.gathered(report.verification) if row.status == "unavailable"]
    told = [f"{row.provider} was not compared: {row.detail}" for row in absent if row.provider not in here]
    if not any("cuda" in name for name in (*here, *(row.provider for row in report.verification))):
        told.append("CUDA was not asked for (provider cuda).")
    return told


def banner(report: Report) -> Banner:
    """Verdict and health in one sentence, with what to do about it."""
    said = headline(report)
    return Banner(TONES[said.state], said.title, said.detail, said.remedy)


def figures(report: Report, folded: int, total: int | None = None) -> list[Figure]:
    """The five numbers that people ask for first."""
    graph, total = report.graph, len(report.batch_norms) if total is None else total
    rows = [Figure("Batch norms folded", f"{folded} of {total}" if total else "none found")]
    worst = worst_output(report)
    if worst is not None:
        # Of the scale, as the summary says it and the chart draws it: one definition on the page.
        note = (
            f"of the output's scale; absolute {formats.number(worst.max_abs)}, allowed "
            f"{formats.number(worst.tolerance.atol)} + {formats.number(worst.tolerance.rtol)} × |y|"
        )
        rows.append(Figure("Largest difference", formats.number(worst.max_rel), note))
    rows.append(
        Figure(
            "Nodes",
            f"{count(graph.nodes_before)} → {count(graph.nodes_after)}",
            f"opset {graph.opset}",
        )
    )
    written = report.artifact.bytes if report.artifact is not None else graph.bytes
    source = f"source {formats.size(report.source.bytes)}; " if report.source.bytes else ""
    rows.append(Figure("Artifact", formats.size(written), f"{source}{count(graph.parameters)} parameters"))
    if report.timings:
        rows.append(Figure("Time", formats.duration(sum(report.timings.values())), "all stages"))
    return rows


def worst_output(report: Report) -> OutputComparison | None:
    """Of the judged comparisons the one that went farthest past its tolerance, else the farthest off.

    Rows that compare layer by layer count only when they failed: the figure is about the model's answer.
    """
    judged = [(row, output) for row in report.verification if row.judged for output in row.outputs]
    whole = [pair for pair in judged if "layer by layer" not in pair[0].reference or not pair[1].passed]
    pairs = whole or judged
    return max((o for _, o in pairs), key=lambda out: (not out.passed, _finite(out.max_rel)), default=None)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def flagged(norms: list[NormReport]) -> list[tuple[str, int]]:
    """Health codes other than ok, with the number of layers that have them."""
    codes = Counter(code for norm in norms for code in {item.code for item in norm.health} - {HealthCode.OK})
    return [(code.value, count) for code, count in codes.most_common()]


def refused(norms: list[NormReport]) -> list[str]:
    """Return the findings that end a fold of this model, unless an option says otherwise."""
    codes = (item.code.value for norm in norms for item in norm.health if item.severity == "error")
    return list(dict.fromkeys(codes))


def norm_view(norm: NormReport, index: int) -> NormView:
    """One batch norm with its pictures."""
    severities = [item.severity for item in norm.health]
    tone = "fail" if "error" in severities else "unsure" if "warning" in severities else "pass"
    findings: list[tuple[str, str, str, str]] = [
        (item.severity, item.code.value, item.evidence, item.remedy)
        for item in norm.health
        if item.code is not HealthCode.OK
    ]
    pictures = [histogram(label, norm.stats.get(role)) for role, label in ROLES]
    pictures.append(histogram("amplification", norm.amplification))
    return NormView(norm, f"norm-{index}", tone, findings, pictures, explained(norm.reason))


def histogram(title: str, stats: ArrayStats | None) -> Histogram | None:
    """The picture of one parameter; None where the layer has none."""
    if stats is None:
        return None
    low, high = formats.number(stats.min), formats.number(stats.max)
    text = f"{title}: {stats.size} values from {low} to {high}, mean {formats.number(stats.mean)}"
    if stats.non_finite:
        text += f", {stats.non_finite} not finite"
    return Histogram(
        title, svg.bars(stats.histogram), svg.zero_mark(stats), low, high, text, stats.non_finite
    )


def explained(code: str | None) -> tuple[str, str, str] | None:
    """Title, meaning and remedy of a code from the catalogue; the code itself where it is not in there."""
    if not code:
        return None
    for entry in catalogue.lookup(code):
        return entry.title, entry.meaning, entry.remedy
    return formats.words(code), "", ""
