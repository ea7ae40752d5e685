"""The part of a report that draws its graphs."""

from __future__ import annotations

import json

from folding.report import GraphMap
from service.web.graph import sugiyama


def graph_part(report: bytes) -> str:
    """Return both graphs, their layout, and of each batch norm what the drawing shows (no histograms)."""
    found = json.loads(report)
    wanted = ("name", "channels", "epsilon", "decision", "direction", "reason", "into", "certificate")
    norms = [{name: norm.get(name) for name in wanted} for norm in found.get("batch_norms", [])]
    graphs = found.get("graph_map")
    layout = sugiyama.layout(GraphMap.model_validate(graphs)).to_json() if graphs else None
    return json.dumps({"graph_map": graphs, "layout": layout, "batch_norms": norms}, separators=(",", ":"))
