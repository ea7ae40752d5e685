"""Orders of the list of jobs: a column each, and the value of it that a page token keeps."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import ColumnElement, func

from service.jobs.model import Job
from service.store import tables

J = tables.jobs.c
Sort = Literal["newest", "oldest", "name", "size"]
# column, and whether it falls; ids decide between equal values
SORTS: dict[Sort, tuple[ColumnElement[Any], bool]] = {
    "newest": (J.created_at, True),
    "oldest": (J.created_at, False),
    "name": (func.coalesce(J.label, J.filename), False),
    "size": (func.coalesce(J.artifact_bytes, 0), True),
}


def sort_value(job: Job, sort: Sort) -> float | str:
    """Return the value of the order's column: where the next page starts."""
    if sort == "name":
        return job.label or job.filename
    return job.artifact_bytes or 0 if sort == "size" else job.created_at
