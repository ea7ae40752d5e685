"""Manual pages in roff, made from the commands' own help; `man` and other readers of man(7) show them.

One page for each command, `bnfold-fold(1)` and so on, with the sections that man-pages(7) names. Text is
escaped: a line never begins with a control character of roff, hyphens stay hyphens.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from folding import toolchain
from folding.errors import UsageError
from service.cli.output import Output

EXITS = [
    ("0", "Verified; or what was asked for is done."),
    ("2", "Usage: an option or a file is not right."),
    ("3", "Verification failed or inconclusive. The artifact is not published."),
    ("4", "The model is unsupported, unsafe or unhealthy."),
    ("5", "Cancelled or timed out."),
    ("75", "Temporary failure; the same command may succeed later."),
]
ENVIRONMENT = [
    ("BNFOLD_URL, BNFOLD_KEY", "Address and API key of the service, for commands that talk to one."),
    ("BNFOLD_*", "Settings of the service, see docs/reference/settings.md."),
    ("BNFOLD_DEBUG", "Let the chatter of native libraries through."),
    ("NO_COLOR", "No colours on a terminal."),
]
_MARKUP = re.compile(r"\[/?(?:bold|italic|dim)\]")


def run(app: typer.Typer, words: list[str], to: Path | None, as_json: bool, quiet: bool) -> int:
    """Show one page, or write all."""
    output = Output(as_json, quiet)
    if to is not None:
        return _write(app, to, output)
    path = " ".join(["bnfold", *words])
    known = dict(commands(app))
    if path not in known:
        raise UsageError(f"no command {path!r}", hint="`bnfold --help` lists the commands")
    text = page(path, known[path])
    output.document({"name": path.replace(" ", "-"), "page": text})
    if sys.stdout.isatty() and not output.silent and shutil.which("man"):
        subprocess.run(["man", "-l", "-"], input=text, text=True, check=False)
    else:
        output.say(text.rstrip("\n"))
    return 0


def _write(app: typer.Typer, to: Path, output: Output) -> int:
    to.mkdir(parents=True, exist_ok=True)
    written = []
    for path, command in commands(app):
        target = to / f"{path.replace(' ', '-')}.1"
        target.write_text(page(path, command), encoding="utf-8")
        written.append(str(target))
        output.say(str(target))
    output.document({"written": written})
    return 0


def commands(app: typer.Typer) -> Iterator[tuple[str, Any]]:
    """Yield every command of `app` with its path, `bnfold` first."""
    pending = [("bnfold", typer.main.get_command(app))]
    while pending:
        path, command = pending.pop(0)
        yield path, command
        children = getattr(command, "commands", {})
        pending += [(f"{path} {name}", child) for name, child in children.items() if not child.hidden]


def page(path: str, command: Any) -> str:
    """The page of one command."""
    name = path.replace(" ", "-")
    summary, body, examples = split(command.help or "")
    version = toolchain.version()
    lines = [
        f'.TH "{name.upper()}" "1" "" "bnfold {version}" "bnfold manual"',
        ".SH NAME", f"{name} \\- {escape(summary.rstrip('.'))}",
        ".SH SYNOPSIS", *synopsis(path, command),
        ".SH DESCRIPTION", *paragraphs([summary, *body]),
    ]  # fmt: skip
    children = getattr(command, "commands", {})
    if children:
        lines.append(".SH COMMANDS")
        for child, what in children.items():
            lines += entry(f"{name}-{child}(1)", split(what.help or "")[0])
    lines += options(command)
    if examples:
        lines += [
            ".SH EXAMPLES",
            *(line for text in examples for line in (".PP", ".nf", escape(text), ".fi")),
        ]
    lines += [".SH EXIT STATUS", *(line for code, words in EXITS for line in entry(code, words))]
    lines += [".SH ENVIRONMENT", *(line for name_, words in ENVIRONMENT for line in entry(name_, words))]
    if path != "bnfold":
        lines += [".SH SEE ALSO", "bnfold(1), bnfold\\-explain(1)"]
    return "\n".join(lines) + "\n"


def split(text: str) -> tuple[str, list[str], list[str]]:
    """First sentence-paragraph, further paragraphs, examples."""
    plain = _MARKUP.sub("", text)
    told, _, shown = plain.partition("\nExamples\n")
    parts = [" ".join(part.split()) for part in told.split("\n\n") if part.strip()]
    examples = [line.strip() for line in shown.splitlines() if line.strip()]
    return (parts[0] if parts else "", parts[1:], examples)


def synopsis(path: str, command: Any) -> list[str]:
    """`bnfold fold [OPTIONS] SRC`, with required options spelled out."""
    words = [f"\\fB{escape(path)}\\fR"]
    optional = False
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            metavar = parameter.metavar or parameter.name.upper()
            words.append(escape(metavar if parameter.required or "[" in metavar else f"[{metavar}]"))
        elif parameter.required:
            words.append(f"\\fB{escape(parameter.opts[0])}\\fR {escape(metavar_of(parameter))}")
        else:
            optional = True
    if optional:
        words.insert(1, "[OPTIONS]")
    if getattr(command, "commands", {}):
        words.append("COMMAND [ARGS]...")
    return [" ".join(words)]


def options(command: Any) -> Iterator[str]:
    """Arguments, then options by panel, in their order."""
    panels: dict[str, list[Any]] = {}
    for parameter in command.params:
        kind = "ARGUMENTS" if parameter.param_type_name == "argument" else "OPTIONS"
        panel = getattr(parameter, "rich_help_panel", None)
        panels.setdefault(str(panel).upper() if panel else kind, []).append(parameter)
    for title, parameters in panels.items():
        yield f'.SH "{title}"'
        for parameter in parameters:
            yield from entry(_term(parameter), parameter.help or "", bold=True)


def _term(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    names = ", ".join(parameter.opts)
    return names if parameter.is_flag else f"{names} {metavar_of(parameter)}"


def metavar_of(parameter: Any) -> str:
    """What stands for the value of an option."""
    return str(parameter.metavar or "VALUE")


def entry(term: str, words: str, *, bold: bool = False) -> list[str]:
    """A term and what it means."""
    return [".TP", f"\\fB{escape(term)}\\fR" if bold else escape(term), escape(words) or "\\&"]


def paragraphs(parts: list[str]) -> Iterator[str]:
    """Each in lines of its own."""
    for part in parts:
        if part:
            yield ".PP"
            yield escape(part)


def escape(text: str) -> str:
    """As roff shows it literally."""
    plain = _MARKUP.sub("", text).replace("\\", "\\e").replace("-", "\\-").replace("`", "\\`")
    plain = plain.replace("'", "\\(aq").replace("~", "\\(ti").replace("^", "\\(ha")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain
