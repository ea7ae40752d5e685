"""Writes the generated pages of docs/reference from the code, or with --check says which are out of date.

    python scripts/reference_docs.py [--check]

Pages: options, cli, settings, report, api, error-codes, health-codes, skip-reasons. tests/unit/docs compares them,
so that an option, a setting, a code or a field without documentation fails the suite.
"""

# Prose in strings: long lines read better than wrapped ones.
# ruff: noqa: E501

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
NOTE = "<!-- Written by `make docs` from the code; changes here are lost. -->"


def cell(text: object) -> str:
    """Text for one cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(columns: list[str], rows: list[list[object]]) -> Iterator[str]:
    """A Markdown table."""
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield "| " + " | ".join(cell(value) for value in row) + " |"
    yield ""


def page(title: str, intro: str) -> list[str]:
    """The head of a page."""
    return [f"# {title}", "", NOTE, "", intro, ""]


def codes(kind: str, title: str, intro: str) -> str:
    """One table of the catalogue, a section for each code."""
    from folding.errors import catalogue

    lines = page(title, intro)
    for entry in (found for found in catalogue.entries() if found.kind == kind):
        example = [f"*Example:* {entry.example}", ""] if entry.example else []
        lines += [f"## `{entry.code}`", "", f"**{entry.title}.** {entry.meaning}", "", *example]
        lines += [f"*What to do:* {entry.remedy}", ""]
    return "\n".join(lines)


def error_codes() -> str:
    """docs/reference/error-codes.md"""
    intro = (
        "Every error carries one of these codes: in the `code` of problem+json answers, in the JSON of a failed "
        "command, and in brackets behind its message. `bnfold explain CODE` prints the same text."
    )
    return codes("error", "Error codes", intro)


def health_codes() -> str:
    """docs/reference/health-codes.md"""
    intro = (
        "What can be wrong with the statistics of a batch norm. Each finding in the report names the layer, the "
        "numbers it rests on, and the remedy. `non_finite` and `negative_variance` stop a job; the others warn, "
        "or stop it under `--strict`."
    )
    return codes("health", "Health codes", intro)


def skip_reasons() -> str:
    """docs/reference/skip-reasons.md"""
    intro = (
        "Every batch norm of a model is either folded or kept, and a kept one (or its kept half) has one of these "
        "reasons in the report. Nothing is kept silently."
    )
    return codes("skip", "Skip reasons", intro)


def options() -> str:
    """docs/reference/options.md"""
    from folding.options import FoldOptions

    lines = page(
        "Options of a fold",
        "The same options everywhere: `folding.FoldOptions` in Python, the JSON object `options` over HTTP, and the "
        "flags of `bnfold fold` and `bnfold submit`. Unknown names are refused.",
    )
    schema = FoldOptions.model_json_schema()
    rows: list[list[object]] = [
        [
            f"`{name}`",
            kind_of(field),
            f"`{json.dumps(default_of(FoldOptions, name))}`",
            field.get("description", ""),
        ]
        for name, field in schema["properties"].items()
    ]
    lines += table(["option", "type", "default", "meaning"], rows)
    return "\n".join(lines)


def default_of(model: Any, name: str) -> Any:
    """The default of a pydantic field, as JSON would have it."""
    value = model.model_fields[name].get_default(call_default_factory=True)
    return str(value) if isinstance(value, Path) else value


def kind_of(field: dict[str, Any]) -> str:
    """A JSON schema's type in words."""
    if "$ref" in field:
        return f"[{(name := field['$ref'].rsplit('/', 1)[-1])}](#{name.lower()})"
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    for union in ("anyOf", "oneOf"):
        if union in field:
            return " or ".join(dict.fromkeys(kind_of(part) for part in field[union]))
    if field.get("type") == "array":
        return f"list of {kind_of(field.get('items', {}))}"
    if field.get("type") == "object":
        inner = field.get("additionalProperties")
        return f"object of {kind_of(inner)}" if isinstance(inner, dict) and inner else "object"
    return str(field.get("type", "any"))


def report() -> str:
    """docs/reference/report.md"""
    from folding.report import Inspection, Report

    lines = page(
        "The report, `bnfold.report/1`",
        "What `bnfold fold --report` writes and `GET /v1/jobs/{id}/report` answers; `bnfold.inspection/1` is what "
        "`bnfold inspect --json` prints. Numbers that JSON cannot say are the strings `NaN`, `Infinity`, `-Infinity`. "
        "How to read it: [read the report](../how-to/read-the-report.md).",
    )
    definitions: dict[str, Any] = {}
    for model in (Report, Inspection):
        schema = model.model_json_schema(by_alias=True)
        definitions[model.__name__] = schema
        for name, definition in schema.get("$defs", {}).items():
            definitions.setdefault(name, definition)
    for name, definition in definitions.items():
        lines += [f"## {name}", "", cell(definition.get("description", "")), ""]
        if "enum" in definition:
            lines += [", ".join(f"`{value}`" for value in definition["enum"]), ""]
        elif definition.get("properties"):
            rows = [
                [f"`{field}`", kind_of(schema), described(schema, definitions)]
                for field, schema in definition["properties"].items()
            ]
            lines += table(["field", "type", "meaning"], rows)
    return "\n".join(lines)


def described(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A field's description; a plain reference takes that of what it refers to."""
    referred = definitions.get(field.get("$ref", "").rsplit("/", 1)[-1], {})
    return str(field.get("description") or referred.get("description") or "")


def settings() -> str:
    """docs/reference/settings.md"""
    from service.settings import Settings

    lines = page(
        "Settings of the service",
        "Read from the environment by `bnfold serve` and `bnfold worker`; flags of those commands win over them. "
        "Unknown `BNFOLD_` names in a settings file are refused.",
    )
    rows: list[list[object]] = []
    for name, field in Settings.model_fields.items():
        default = "" if name in ("slots", "pepper", "s3_secret_access_key") else default_of(Settings, name)
        shown = "half of the CPUs" if name == "slots" else f"`{json.dumps(default)}`"
        rows.append([f"`BNFOLD_{name.upper()}`", shown, field.description or ""])
    lines += table(["variable", "default", "meaning"], rows)
    return "\n".join(lines)


def cli() -> str:
    """docs/reference/cli.md"""
    import typer

    from service.cli.app import app

    lines = page(
        "The command line",
        "Exit codes: 0 verified; 2 usage; 3 verification failed or inconclusive; 4 unsupported, unsafe or unhealthy "
        "model; 5 cancelled or timed out; 75 temporary failure. Results go to stdout, progress and notes to stderr; "
        "`--json` gives one document, `--quiet` nothing but errors.",
    )
    for path, command in commands("bnfold", typer.main.get_command(app)):
        lines += [f"## `{path}`", "", *help_text(command), ""]
        rows = [
            [f"`{parameter_name(p)}`", getattr(p, "help", "") or ""]
            for p in command.params
            if p.name != "help"
        ]
        lines += table(["argument or option", "meaning"], rows)
    return "\n".join(lines)


def commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every leaf of the command tree with its words."""
    for name, child in getattr(command, "commands", {}).items():
        if hasattr(child, "commands"):
            yield from commands(f"{path} {name}", child)
        else:
            yield f"{path} {name}", child


def help_text(command: Any) -> list[str]:
    """The help in Markdown: paragraphs as they are, indented examples as code."""
    out: list[str] = []
    examples: list[str] = []
    for block in (command.help or "").split("\n\n"):
        text = block.strip("\n")
        if text.strip().startswith("[bold]Example"):
            continue
        if text.startswith(" "):
            examples.append(text.strip())
        else:
            out += [" ".join(text.split()), ""]
    if examples:
        out += ["```text", *examples, "```"]
    return out


def parameter_name(parameter: Any) -> str:
    """`--flag VALUE` or the metavar of an argument."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name).upper()
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    flag = getattr(parameter, "is_flag", False)
    return names if flag else f"{names} {parameter.metavar or 'VALUE'}"


def api() -> str:
    """docs/reference/api.md"""
    contract = json.loads((ROOT / "openapi" / "openapi.json").read_text())
    lines = page(
        "The HTTP interface",
        "From `openapi/openapi.json`, which the service also answers at `/openapi.json`. Errors are "
        "`application/problem+json` with a stable `type` and one of the [error codes](error-codes.md).",
    )
    rows: list[list[object]] = []
    for path, item in contract["paths"].items():
        for method, operation in item.items():
            if method not in ("get", "put", "post", "delete", "head", "patch", "options"):
                continue
            answers = ", ".join(code for code in operation.get("responses", {}))
            rows.append([f"`{method.upper()} {path}`", operation.get("summary", ""), answers])
    lines += table(["request", "what it does", "answers"], rows)
    return "\n".join(lines)


FIELDS_HEAD = '''"""The options of a fold as a command line needs them. Written by `make docs` from `folding.options.FoldOptions`."""

# ruff: noqa: E501
# fmt: off

from __future__ import annotations

from typing import Final, NamedTuple


class Field(NamedTuple):
    """One option: how its value is read, what it may be, and what it means."""

    flag: str
    panel: str
    kind: str
    help: str
    metavar: str = ""
    choices: tuple[str, ...] = ()


FIELDS: Final = {
'''


def fold_fields() -> str:
    """service/cli/fold_fields.py"""
    from folding.options import FoldOptions

    lines = [
        f"    {json.dumps(name)}: {_fold_field(name, field, FoldOptions.shown(name))},\n"
        for name, field in FoldOptions.model_fields.items()
    ]
    return FIELDS_HEAD + "".join(lines) + "}\n"


def _fold_field(name: str, field: Any, shown: Any) -> str:
    """The entry of one option, from the annotation of its field and from how it is shown."""
    annotation = field.annotation
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = [part for part in get_args(annotation) if part is not NoneType]
    choices = ""
    kind = "list" if get_origin(annotation) in (list, dict) else getattr(annotation, "__name__", "")
    if get_origin(annotation) is Literal:
        kind = "str"
        choices = f", choices=({', '.join(json.dumps(str(choice)) for choice in get_args(annotation))})"
    flag = shown.flag or "--" + name.replace("_", "-")
    texts = [flag, str(shown.group), kind, shown.flag_help or field.description or ""]
    metavar = f", metavar={json.dumps(shown.metavar)}" if shown.metavar else ""
    return f"Field({', '.join(json.dumps(text, ensure_ascii=False) for text in texts)}{metavar}{choices})"


PAGES: dict[str, Callable[[], str]] = {
    "../../service/cli/fold_fields.py": fold_fields,
    "error-codes.md": error_codes,
    "health-codes.md": health_codes,
    "skip-reasons.md": skip_reasons,
    "options.md": options,
    "report.md": report,
    "settings.md": settings,
    "cli.md": cli,
    "api.md": api,
}


def main(check: bool) -> int:
    """Write or compare every page; exit code."""
    stale = []
    for name, build in PAGES.items():
        path = FOLDER / name
        if name == "api.md" and not (ROOT / "openapi" / "openapi.json").exists():
            continue
        text = build().rstrip() + "\n"
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not check:
            path.write_text(text)
    if check and stale:
        print(f"out of date, run `make docs`: {', '.join(stale)}", file=sys.stderr)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
