"""What can be made from a stored report or inspection. Pure: JSON bytes in, bytes out, no store, no process.

| form | of | result |
|---|---|---|
| html, markdown, junit, text | report | the library's rendering |
| summary | both | the JSON without what grows with the model: at most `SHOWN` batch norms, no graphs |
| norms | both | an index, and one JSON line for each batch norm (see `norm_lines`) |
| card, card_recalibrated | report | the model card of the artifact, and of the recalibrated one |
| statement | report | the provenance statement, without the names of the job |
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from folding.report import Report
from folding.report.render import KINDS, render
from folding.report.render.card import recalibrated
from service import provenance

# Batch norms in a summary: the first ones, and as many of the rest that somebody has to look at.
SHOWN = 300
Document = dict[str, Any]


def make(form: str, data: bytes) -> bytes:
    """Return the form. Raises KeyError for an unknown form, ValueError for bytes that are no report."""
    if form in KINDS:
        return render(Report.model_validate_json(data), form).encode()
    return _MAKERS[form](data)


def summary(data: bytes) -> bytes:
    """Return the document cut to a bounded size, with `batch_norm_totals` where batch norms were left out."""
    found: Document = json.loads(data)
    found.pop("graph_map", None)
    norms = found.get("batch_norms") or []
    if len(norms) > SHOWN:
        found["batch_norm_totals"] = totals(norms)
        rest = [norm for norm in norms[SHOWN:] if is_notable(norm)]
        found["batch_norms"] = [*norms[:SHOWN], *rest[:SHOWN]]
    return _compact(found)


def is_notable(norm: Document) -> bool:
    """Return whether somebody has to look at it: it was kept, or its statistics are not healthy."""
    return norm.get("decision") == "kept" or any(
        item.get("severity") != "ok" for item in norm.get("health", [])
    )


def totals(norms: list[Document]) -> Document:
    """Return the counts over all batch norms that a summary cannot show any more."""
    codes = Counter(item["code"] for norm in norms for item in norm.get("health", []) if item["code"] != "ok")
    folded = sum(norm.get("decision") == "folded" for norm in norms)
    return {"total": len(norms), "folded": folded, "health": dict(codes.most_common())}


def norm_lines(data: bytes) -> bytes:
    """Return `<8 hex digits: bytes of the index>\\n<index>\\n<norm>\\n<norm>\\n...`.

    The index is a JSON list of where each line starts, counted from the end of the index, and where the last
    one ends: any range of batch norms is read without reading the others.
    """
    lines = [_compact(norm) + b"\n" for norm in json.loads(data).get("batch_norms") or []]
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    index = _compact(starts) + b"\n"
    return b"%08x\n" % len(index) + index + b"".join(lines)


def statement(data: bytes) -> bytes:
    """Return the provenance statement and how long the work took; invocation and time belong to the job."""
    report = Report.model_validate_json(data)
    return _compact({"statement": provenance.statement(report), "seconds": sum(report.timings.values())})


def card_recalibrated(data: bytes) -> bytes:
    """Return the model card of the second artifact."""
    return render(recalibrated(Report.model_validate_json(data)), "card").encode()


_MAKERS: dict[str, Callable[[bytes], bytes]] = {
    "summary": summary,
    "norms": norm_lines,
    "statement": statement,
    "card_recalibrated": card_recalibrated,
}


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
