"""Short tables for terminals: one row per network, one column per tool."""

from __future__ import annotations

from collections.abc import Callable

from bench.measure import Figures

Cell = Callable[[Figures], str]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


COLUMNS: dict[str, Cell] = {
    "nodes left (batch norms); * has vendor operators": lambda f: (
        f"{_number(f.nodes, 'd')}{'*' if f.vendor else ''}" + (f" ({f.batch_norms})" if f.batch_norms else "")
    ),
    "error against float64": lambda f: _number(f.deviation, ".1e"),
    "seconds": lambda f: _number(f.seconds, ".2f"),
    "peak RSS, MB": lambda f: _number(f.rss_mb, ".0f"),
    "latency at the runtime's defaults, median ms": lambda f: _number(f.latency_ms, ".3f"),
    "best latency / bnfold's": lambda f: _number(f.latency_ratio, ".2f"),
    "bnfold's latency / theirs, measured again where they seemed faster: median [95 %]": lambda f: (
        "-" if f.duel is None else str(f.duel)
    ),
    "session load, ms": lambda f: _number(f.load_ms, ".0f"),
}


def render(results: dict[str, dict[str, Figures]]) -> str:
    """All tables, an explanation of each missing artifact below."""
    tools = list(next(iter(results.values()), {}))
    parts = []
    for title, cell in COLUMNS.items():
        rows = [[name, *(_cell(row, tool, cell) for tool in tools)] for name, row in results.items()]
        if any(entry != "-" for row in rows for entry in row[1:]):
            parts.append(f"{title}\n{grid(['', *tools], rows)}")
    notes = [f"{name}, {tool}: {found.error}" for name, row in results.items()
             for tool, found in row.items() if found.error]  # fmt: skip
    return "\n\n".join(parts + (["\n".join(notes)] if notes else []))


def _cell(row: dict[str, Figures], tool: str, cell: Cell) -> str:
    found = row.get(tool)
    return "-" if found is None else "failed" if found.error else cell(found)


def grid(head: list[str], rows: list[list[str]]) -> str:
    """Left-aligned names, right-aligned figures."""
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    lines = []
    for line in [head, *rows]:
        cells = [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
