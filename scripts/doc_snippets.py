"""Write every Python block of the documentation into a file of its own, for the type checker.

    python -m scripts.doc_snippets FOLDER

A block that begins with an import stands alone. One that does not goes on where the blocks before it on its
page ended; without any it is a fragment of the reader's own program, and left out. Line numbers are those of
the page, so that an error names the place.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_BEGINS = re.compile(r"(?:#[^\n]*\n|\s*\n)*(?:import|from) ")


def pages() -> list[Path]:
    """Return the pages that readers copy from. Decisions are history."""
    return [
        ROOT / "README.md",
        *(p for p in sorted((ROOT / "docs").rglob("*.md")) if "decisions" not in p.parts),
    ]


def snippets(page: Path) -> list[str]:
    """Return the programs of a page, each padded to the lines that it has there."""
    text, programs = page.read_text(encoding="utf-8"), []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start(1))
        if not programs or _BEGINS.match(match[1]):
            programs.append("")
        programs[-1] += "\n" * (line - programs[-1].count("\n")) + match[1]
    return [program for program in programs if _BEGINS.match(program)]


def write(folder: Path) -> list[Path]:
    """Write the programs of all pages and return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for page in pages():
        name = re.sub(r"\W", "_", str(page.relative_to(ROOT).with_suffix("")))
        for number, program in enumerate(snippets(page)):
            made.append(folder / f"{name}_{number}.py")
            made[-1].write_text(program, encoding="utf-8")
    return made


if __name__ == "__main__":
    print("\n".join(map(str, write(Path(sys.argv[1])))))
