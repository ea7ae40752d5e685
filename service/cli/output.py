"""Where words go: results to stdout, progress and notes to stderr, colour and boxes only on a terminal."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from folding.progress import Event, Listener, ignore_progress
from folding.progress_bar import STAGE_WORDS, progress_bar
from service.cli.process import emit
from service.cli.text import clean

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Output:
    """How one command talks. `json`: one document on stdout and nothing else. `quiet`: errors only."""

    json: bool = False
    quiet: bool = False

    @property
    def silent(self) -> bool:
        return self.json or self.quiet

    def say(self, text: str = "", style: str | None = None) -> None:
        """A line of the result; between words a terminal breaks it, a pipe never."""
        if self.silent:
            return
        if not sys.stdout.isatty():
            emit(text, sys.stdout)
            return
        from rich.text import Text

        shown = text if "\n" in text else wrapped(text, self._console().width)
        self._console().print(Text(shown, style=style or ""), soft_wrap=True)

    def note(self, text: str) -> None:
        """A remark beside the result."""
        if not self.silent:
            emit(text, sys.stderr)

    def document(self, body: Any) -> None:
        """The machine-readable result, under --json only. Strings are taken as JSON already."""
        if self.json:
            emit(body if isinstance(body, str) else json.dumps(body, indent=2, default=str), sys.stdout)

    def heading(self, text: str) -> None:
        """The title of a section."""
        self.say()
        self.say(text, style="bold")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table: boxes on a terminal, aligned columns without any cut in a pipe."""
        if self.silent or not rows:
            return
        cells = [[clean(cell) for cell in row] for row in rows]
        if sys.stdout.isatty():
            self._rich_table(columns, cells)
            return
        widths = [max(len(r[i]) for r in [list(columns), *cells]) for i in range(len(columns))]
        for row in [[c.upper() for c in columns], *cells]:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            emit(line.rstrip(), sys.stdout)

    def _rich_table(self, columns: Sequence[str], cells: list[list[str]]) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
        least = sum(width if width <= FOLDS_FROM else FOLDS_FROM for width in widths) + 3 * len(columns)
        if least > self._console().width:
            self._records(columns, cells)
            return
        # Words and figures keep their line; names and free text fold when the terminal is narrow.
        table = Table(box=box.HORIZONTALS, show_edge=False, pad_edge=False, padding=(0, 1))
        for column, width in zip(columns, widths, strict=True):
            table.add_column(column, overflow="fold", no_wrap=width <= FOLDS_FROM)
        for row in cells:
            table.add_row(*(Text(cell, style=WORD_STYLES.get(cell, "")) for cell in row))
        self._console().print(table)

    def _records(self, columns: Sequence[str], cells: list[list[str]]) -> None:
        """Row by row, where the terminal is too narrow for a table: the first cell, the others under it."""
        for row in cells:
            self.say(row[0], style="bold")
            told = (
                f"{column} {cell}" for column, cell in zip(columns[1:], row[1:], strict=True) if cell != "-"
            )
            self.say("  " + ", ".join(told))

    def _console(self) -> Console:
        from rich.console import Console

        return Console(file=sys.stdout, highlight=False)

    @contextmanager
    def progress(self, stages: Sequence[str]) -> Iterator[Listener]:
        """A listener: a bar on a terminal, one line for each stage elsewhere, nothing when silent."""
        if self.silent:
            yield ignore_progress
        elif sys.stderr.isatty():
            with progress_bar(stages) as listener:
                yield listener
        else:
            yield _lines()

    @contextmanager
    def transfer(self, what: str, total: int | None) -> Iterator[Any]:
        """A callable that takes the number of bytes moved so far."""
        if self.silent or not sys.stderr.isatty():
            yield lambda done: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)


def wrapped(text: str, width: int) -> str:
    """Broken between words, continued under the text's own beginning; names and digests stay whole."""
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    lines = textwrap.wrap(
        text, max(width, 30), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines) or text


FOLDS_FROM = 14  # characters; wider columns give way first

# Colour never stands alone: the word itself is always there.
WORD_STYLES = {
    "pass": "green", "fail": "red bold", "inconclusive": "yellow", "unavailable": "yellow",
    "not_compared": "yellow",
    "folded": "green", "kept": "yellow", "ok": "green", "succeeded": "green", "failed": "red bold",
    "rejected": "red bold", "cancelled": "yellow", "warn": "yellow",
}  # fmt: skip


def _lines() -> Listener:
    """One line when a stage begins; the fractions between would only fill a log."""
    seen: set[str] = set()

    def listen(event: Event) -> None:
        if event.stage not in seen:
            seen.add(event.stage)
            words = STAGE_WORDS.get(event.stage, event.stage)
            emit(f"{words} ...", sys.stderr)

    return listen
