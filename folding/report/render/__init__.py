"""A report for people and machines: `html`, `markdown`, `junit`, `text`, `card`. JSON is `Report.to_json`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from folding.errors import UsageError
from folding.report import Report

KINDS = ("html", "markdown", "junit", "text", "card")


def render(report: Report, kind: str) -> str:
    """The report in one form. Raises: UsageError for an unknown kind."""
    if kind == "json":
        return report.to_json()
    if kind not in KINDS:
        raise UsageError(f"no report form {kind!r}; there are json, {', '.join(KINDS)}")
    function: Callable[[Report], str] = import_module(f"folding.report.render.{kind}").render
    return function(report)
