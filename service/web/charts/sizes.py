"""Size before and after the fold: bytes, nodes, batch norms."""

from __future__ import annotations

from markupsafe import Markup

from folding.report import Report, figures
from service.web.charts.chart import Chart, bar, text

WIDTH, LEFT, ROW = 720, 120, 64
ROOM = WIDTH - LEFT - 120


def rows(report: Report) -> list[tuple[str, float, float, str, str]]:
    """Return (what, before, after, both in words); the file only where the size of the source is known."""
    source_bytes = report.source.bytes
    graph = report.graph
    written = report.artifact.bytes if report.artifact is not None else graph.bytes
    found = []
    if source_bytes and written:
        words = figures.size(source_bytes), figures.size(written)
        found.append(("File", float(source_bytes), float(written), *words))
    for what, before, after in (
        ("Nodes", graph.nodes_before, graph.nodes_after),
        ("Batch norms", graph.batch_norms_before, graph.batch_norms_after),
    ):
        if before or after:
            found.append((what, float(before), float(after), figures.count(before), figures.count(after)))
    return found


def chart(report: Report) -> Chart | None:
    """Return a pair of bars for each quantity, each pair on a scale of its own."""
    found = rows(report)
    if not found:
        return None
    body = []
    for index, (what, before, after, first, second) in enumerate(found):
        y, top = 10 + index * ROW, max(before, after) or 1.0
        body.append(text(LEFT - 10, y + 26, what, "end", "value"))
        for kind, value, words, at in (("before", before, first, y), ("after", after, second, y + 22)):
            body.append(bar(kind, LEFT, at, ROOM * value / top, 18, f"{what}, {kind}: {words}"))
            body.append(text(LEFT + ROOM * value / top + 6, at + 13, f"{words} {kind}", "start"))
    told = "; ".join(f"{what}: {first} before, {second} after" for what, _, _, first, second in found)
    return Chart("size", "Size before and after", told, WIDTH, 10 + ROW * len(found), Markup("".join(body)))
