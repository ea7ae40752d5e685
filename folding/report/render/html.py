"""The report as one HTML page: no script, no network, light and dark, every name escaped by the template."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from folding.report import GraphMap, GraphSide, NormReport, Report, figures
from folding.report.headline import headline
from folding.report.render import charts, words

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
ROLES = ("moving_mean", "moving_variance", "gamma", "beta")
MOST_ROWS = 2000


@cache
def environment() -> jinja2.Environment:
    """Templates beside this file, autoescaped, strict about names."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(number=words.number, size=figures.size, seconds=figures.seconds, tensor=words.tensor)
    return made


@cache
def style() -> str:
    """The page's only style sheet."""
    return (TEMPLATES / "report.css").read_text(encoding="utf-8")


def content_security_policy() -> str:
    """What the page needs, for whoever serves it: one style sheet, known by its hash, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def render(report: Report) -> str:
    """The page."""
    return environment().get_template("report.html.jinja").render(view(report))


def view(report: Report) -> dict[str, Any]:
    """What the template lays out."""
    said = headline(report)
    done, total = words.folded(report)
    holds, certificates, share = words.certificates(report)
    graph = report.graph
    return {
        "report": report,
        "style": Markup(style()),
        "policy": content_security_policy(),
        "headline": said,
        "title": said.title,
        "mark": words.MARKS[said.state],
        "marks": words.STATUS_MARKS,
        "folded": done,
        "total": total,
        "findings": list(words.findings(report)),
        "norms": [norm_view(norm) for norm in report.batch_norms[:MOST_ROWS]],
        "left_out": max(0, total - MOST_ROWS),
        "kept": list(words.kept(report)),
        "rows": [(row, words.worst(row)) for row in words.gathered(report.verification)],
        "drift": charts.drift(report.drift, report.first_divergence),
        "nodes": charts.pair(
            graph.nodes_before,
            graph.nodes_after,
            (f"{graph.nodes_before} nodes", f"{graph.nodes_after} nodes"),
        ),
        "batch_norms": charts.pair(
            graph.batch_norms_before,
            graph.batch_norms_after,
            (f"{graph.batch_norms_before} batch norms", f"{graph.batch_norms_after} batch norms"),
        ),
        "holds": holds,
        "certificates": certificates,
        "share": share,
        "certified": [norm for norm in report.batch_norms if norm.certificate is not None],
        "side_by_side": list(side_by_side(report)),
        "graph_rows": 0 if report.graph_map is None else len(report.graph_map.rows),
        "latency": list(latency_rows(report)),
        "calibration": calibration_rows(report),
        "diagnosis": [(each, words.some(each.layers)) for each in report.diagnosis],
        "recalibrated": words.recalibrated(report.recalibrated) if report.recalibrated else "",
        "seconds_total": sum(report.timings.values()),
        "command": words.command(report),
    }


def norm_view(norm: NormReport) -> dict[str, Any]:
    """A row of the health table."""
    severities = [finding.severity for finding in norm.health]
    tone = "error" if "error" in severities else "warning" if "warning" in severities else "ok"
    pictures = [charts.histogram(norm.stats.get(role), f"{norm.name} {role}") for role in ROLES]
    pictures.append(charts.histogram(norm.amplification, f"{norm.name} gamma / sqrt(variance + epsilon)"))
    return {"norm": norm, "tone": tone, "pictures": pictures}


def side_by_side(report: Report) -> Iterator[dict[str, Any]]:
    """Yield the rows of both graphs, nodes that stand for each other in one, and what became of a norm."""
    graphs = report.graph_map
    if graphs is None:
        return
    told = {norm.name: norm for norm in report.batch_norms}
    at = {place: told[site.name] for site in graphs.sites if site.name in told for place in site.before}
    for before, after in graphs.rows[:MOST_ROWS]:
        norm = at.get(before)
        yield {
            "before": _cell(graphs, graphs.before, before),
            "after": _cell(graphs, graphs.after, after),
            "what": "" if norm is None else _fate(norm),
        }


def _cell(graphs: GraphMap, side: GraphSide, place: int) -> dict[str, str]:
    if place < 0:
        return {"op": "", "name": ""}
    return {"op": graphs.op_types[side.ops[place]], "name": side.names[place]}


def _fate(norm: NormReport) -> str:
    if norm.decision == "folded":
        return "folded" + (f" into {', '.join(norm.into)}" if norm.into else "")
    return f"kept: {norm.reason or norm.detail or 'no reason is known'}"


def latency_rows(report: Report) -> Iterator[dict[str, Any]]:
    """One row per provider and level."""
    for provider, levels in (report.latency or {}).items():
        for level, measured in levels.items() if isinstance(levels, dict) else ():
            before, after, speedup = (measured.get(k) for k in ("before", "after", "speedup"))
            if not (before and after and speedup):
                continue
            told = tuple(
                f"{figures.seconds(s['median'])} ({figures.seconds(s['low'])} – {figures.seconds(s['high'])})"
                for s in (before, after)
            )
            yield {
                "where": f"{provider}, {level}",
                "bars": charts.pair(before["median"], after["median"], (told[0], told[1])),
                "speedup": f"{speedup['ratio']:.2f}x (95 %: {speedup['low']:.2f} to {speedup['high']:.2f})",
                "runs": before["runs"],
            }


def calibration_rows(report: Report) -> list[tuple[str, str]]:
    """The calibration summary, flat."""
    return [(str(key), str(value)[:400]) for key, value in (report.calibration or {}).items()]
