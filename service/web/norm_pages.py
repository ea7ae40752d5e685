"""Batch norms of a long report, page by page: the pages never load all of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from folding.report import NormReport
from service.web.api_client import Api

PAGE = 300
# `?norms=all` shows at most this many; longer reports go on with `?norms=300`, `?norms=600`, ...
ALL = 900


@dataclass(frozen=True)
class NormPage:
    """What to show of a report that was cut, and what is true of all its batch norms."""

    total: int
    folded: int
    flagged: list[tuple[str, int]]
    rows: list[NormReport] | None  # None: those of the summary
    after: int = 0

    @property
    def more(self) -> str:
        """Value of `?norms=` that shows the next ones."""
        if self.total <= ALL:
            return "all"
        return str(PAGE if self.rows is None else self.after + len(self.rows))

    def shown_until(self, shown: list[NormReport]) -> int:
        """How many of them this page and those before it have shown."""
        return (0 if self.rows is None else self.after) + len(shown)


async def norm_page(api: Api, path: str, body: bytes | None, norms: str) -> NormPage | None:
    """The page `norms` of a job's report, None where the summary is the whole. Raises ApiError."""
    if body is None or b'"batch_norm_totals"' not in body:
        return None
    return await _load(api, path, json.loads(body).get("batch_norm_totals"), norms)


async def model_norms(api: Api, model: dict[str, Any], norms: str) -> NormPage | None:
    """The same for a model's inspection."""
    job = model.get("inspection_job") or {}
    path = f"/v1/jobs/{quote(str(job.get('id')), safe='')}"
    return await _load(api, path, model.get("batch_norm_totals"), norms)


async def _load(api: Api, path: str, totals: dict[str, Any] | None, norms: str) -> NormPage | None:
    if not totals:
        return None
    total, after = int(totals["total"]), int(norms) if norms.isdecimal() and len(norms) < 10 else 0
    flagged = [(str(code), int(count)) for code, count in totals["health"].items()]
    rows: list[NormReport] | None = None
    if norms == "all" and total <= ALL:
        rows = [row for start in range(0, total, PAGE) for row in await _rows(api, path, start)]
    elif norms.isdecimal():
        rows = await _rows(api, path, after)
    return NormPage(total, int(totals["folded"]), flagged, rows, after)


async def _rows(api: Api, path: str, after: int) -> list[NormReport]:
    found = await api.get(f"{path}/norms", after=after, limit=PAGE)
    return [NormReport.model_validate(norm) for norm in found["batch_norms"]]


def without_totals(report: dict[str, Any], page: NormPage | None) -> dict[str, Any]:
    """The summary as a report: its counts are no part of that."""
    if page is not None:
        report.pop("batch_norm_totals", None)
    return report
