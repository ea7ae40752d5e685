"""Flags of a fold, made from `FoldOptions`: a new option is a flag of every command without a change here.

Help is printed without loading the options' model: `make docs` writes what is needed of it into
`service/cli/fold_fields.py`, and a test compares the two.

Name, type, panel and help come from the field and its `Shown`; shapes and values have a form of their own on
a command line (`cli.parse`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer

from service.cli.fold_fields import FIELDS, Field

# The parameter of a command in whose place the flags stand, and its default: nothing was given.
Given = Mapping[str, Any]
FLAGS: Final[Given] = MappingProxyType({})

NOT_FLAGS: Final = frozenset({"verify"})  # `--no-verify` of `fold` says it


_TYPES: Final[dict[str, Any]] = {
    "bool": bool | None,
    "int": int | None,
    "float": float | None,
    "str": str | None,
    "list": list[str] | None,
}

# What a command that converts nothing can use.
READING: Final = ("inputs", "outputs", "feeds", "signature", "tags", "step", "use_ema", "missing_stats")
COMPARING: Final = ("inputs", "outputs", "feeds", "signature", "providers", "require", "rtol", "atol", "seed")


def fold_flags(only: tuple[str, ...] = ()) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Return a decorator: the parameter `given` of a command becomes one flag for each option of a fold.

    only: names of options; empty: all. The command receives what was given as a dict, None for what was not.
    """
    fields = {
        name: field for name, field in FIELDS.items() if name not in NOT_FLAGS and (not only or name in only)
    }

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        @wraps(command)
        def run(**values: Any) -> int:
            given = {name: values.pop(name) for name in fields}
            return command(**values, given=given)

        own = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in own.parameters.values():
            made = [_parameter(*item) for item in fields.items()]
            parameters += made if parameter.name == "given" else [parameter]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": int}
        return run

    return decorate


def _parameter(name: str, field: Field) -> inspect.Parameter:
    """Return the parameter that typer reads as this option's flag. Its default is None: not given."""
    words = field.help + (" Repeatable." if field.kind == "list" else "")
    metavar = field.metavar or "|".join(field.choices) or None
    option = typer.Option(field.flag, metavar=metavar, help=words, rich_help_panel=field.panel)
    annotated: Any = Annotated  # made at run time: nothing for a type checker
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotated[_TYPES[field.kind], option]
    )
