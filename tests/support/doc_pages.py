"""The `sh` blocks of a Markdown page, with what the comment before each says about running it.

<!-- not run: REASON -->          skipped, with that reason
<!-- runs in the background -->   started and left running until the page ends
<!-- exit code N -->              must end with that code instead of 0
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

_BLOCK = re.compile(
    r"(?:<!--\s*(?P<note>[^>]*?)\s*-->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.S | re.M
)
_SHELL_WORDS = ("bnfold ", "curl ", "make ", "docker ", "kubectl ", "python ", "pip ", "$ ")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str
    note: str

    @property
    def not_run(self) -> str:
        """The reason for not running it; empty when it is run."""
        return self.note.removeprefix("not run:").strip() if self.note.startswith("not run:") else ""

    @property
    def background(self) -> bool:
        return self.note == "runs in the background"

    @property
    def exit_code(self) -> int:
        match = re.fullmatch(r"exit code (\d+)", self.note)
        return int(match[1]) if match else 0

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def markdown() -> list[Path]:
    """Every page of the documentation."""
    named = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md")]
    return [*named, *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """All fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        yield Block(str(page.relative_to(ROOT)), line, match["language"], match["text"], match["note"] or "")


def looks_like_a_command(block: Block) -> bool:
    """Whether a block of another language holds what a reader would paste into a shell."""
    return any(line.startswith(_SHELL_WORDS) for line in block.text.splitlines())
