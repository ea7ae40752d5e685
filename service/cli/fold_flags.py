"""Flags of a fold, made from `FoldOptions`: a new option is a flag of every command without a change here.

Help is printed without loading the options' model: `make docs` writes what is needed of it into
`service/cli/fold_fields.py`, and a test compares the two.

Name, type, default and help come from the field. `SPELLINGS` holds what a command line writes otherwise: a
flag that is repeated has a singular name, and shapes and values have a form of their own (`cli.parse`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer

from service.cli.fold_fields import FIELDS, Field

# The parameter of a command in whose place the flags stand, and its default: nothing was given.
Given = Mapping[str, Any]
FLAGS: Final[Given] = MappingProxyType({})

NOT_FLAGS: Final = frozenset({"verify"})  # `--no-verify` of `fold` says it


@dataclass(frozen=True)
class Spelling:
    """How a command line writes an option, where that is not what the field itself says."""

    flag: str
    metavar: str
    help: str | None = None


SPELLINGS: Final = {
    "inputs": Spelling("--input", "NAME=SHAPE", "Graph input and its shape, e.g. images:0=?,224,224,3."),
    "rename_inputs": Spelling("--rename-input", "OLD=NEW", "New name of an input of the artifact."),
    "rename_outputs": Spelling("--rename-output", "OLD=NEW", "New name of an output of the artifact."),
    "inputs_as_nchw": Spelling(
        "--inputs-as-nchw", "NAME", "Channels-last input that the artifact takes channels-first."
    ),
    "outputs_as_nchw": Spelling(
        "--outputs-as-nchw", "NAME", "Channels-last output that the artifact gives channels-first."
    ),
    "artifact_inputs": Spelling(
        "--artifact-input", "NAME=SHAPE", "Fixed shape of an input of the artifact, e.g. images=1,3,224,224."
    ),
    "outputs": Spelling("--output", "NAME", "Graph output by name. Default: inferred."),
    "feeds": Spelling(
        "--feed", "NAME=VALUE", "Constant for an input such as is_training; overrides every assumption."
    ),
    "tags": Spelling("--tag", "TAG", "SavedModel tag. Default: serve."),
    "providers": Spelling(
        "--provider", "NAME", "Execution provider to verify on: cpu, cuda, ... Default: cpu."
    ),
    "require": Spelling("--require", "NAME", "Provider without which the verdict is inconclusive."),
}

# Panels of the help text. What is not listed stands under "More".
PANELS: Final = {
    "Reading the model": (
        "inputs", "outputs", "feeds", "signature", "tags", "step", "use_ema", "freeze_inputs",
    ),
    "Statistics": ("missing_stats", "recalibrate", "strict"),
    "The artifact": (
        "opset", "artifact_inputs", "rename_inputs", "rename_outputs", "inputs_as_nchw", "outputs_as_nchw",
    ),
    "Verification": ("providers", "require", "rtol", "atol", "seed", "latency"),
}  # fmt: skip
_PANEL = {name: panel for panel, names in PANELS.items() for name in names}

_TYPES: Final[dict[str, Any]] = {
    "bool": bool | None,
    "int": int | None,
    "float": float | None,
    "str": str | None,
    "list": list[str] | None,
}

# What a command that converts nothing can use.
READING: Final = (*PANELS["Reading the model"][:-1], "missing_stats")
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
    spelling = SPELLINGS.get(name, Spelling("--" + name.replace("_", "-"), "|".join(field.choices)))
    words = (spelling.help or field.help) + (" Repeatable." if field.kind == "list" else "")
    option = typer.Option(
        spelling.flag, metavar=spelling.metavar or None, help=words, rich_help_panel=_PANEL.get(name, "More")
    )
    annotated: Any = Annotated  # made at run time: nothing for a type checker
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotated[_TYPES[field.kind], option]
    )
