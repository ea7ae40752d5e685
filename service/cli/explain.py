"""`bnfold explain CODE`."""

from __future__ import annotations

from dataclasses import asdict

from folding.errors import UsageError, catalogue
from service.cli.output import Output


def run(code: str | None, as_json: bool, quiet: bool) -> int:
    """Print one entry in full, or all of them in a table."""
    output = Output(as_json, quiet)
    found = catalogue.lookup(code) if code else catalogue.entries()
    if not found:
        near = catalogue.similar(code or "")
        hint = f"did you mean {' or '.join(near)}?" if near else "`bnfold explain` lists all codes"
        raise UsageError(f"unknown code {code!r}", hint=hint, details={"candidates": near})
    output.document([asdict(entry) for entry in found])
    if code is None:
        output.table(["code", "kind", "title"], [[e.code, e.kind, e.title] for e in found])
        return 0
    for entry in found:
        _print(entry, output)
    return 0


def _print(entry: catalogue.Entry, output: Output) -> None:
    import shutil
    import textwrap

    width = min(shutil.get_terminal_size((100, 24)).columns, 100)
    output.say(f"{entry.code} ({entry.kind}): {entry.title}", style="bold")
    example = [f"Example: {entry.example}"] if entry.example else []
    for paragraph in (entry.meaning, *example, f"What to do: {entry.remedy}"):
        output.say(textwrap.fill(paragraph, width, initial_indent="  ", subsequent_indent="  "))
