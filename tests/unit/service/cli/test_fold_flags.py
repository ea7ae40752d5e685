"""Flags come from `FoldOptions`: every option is one, in every command that folds."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from folding.options import FoldOptions, Group
from service.cli import fold_flags
from service.cli.app import app
from service.cli.fold_fields import FIELDS
from service.cli.invocation import fold_options

OPTIONS = sorted(set(FoldOptions.model_fields) - fold_flags.NOT_FLAGS)
GIVEN = {
    "inputs": "x=?,3", "outputs": "y", "feeds": "training=false", "signature": "serve", "tags": "serve",
    "step": "7", "missing_stats": "init", "opset": "17", "providers": "CPU",
    "require": "cuda", "rtol": "0.5", "atol": "0.25",
    "seed": "9", "artifact_inputs": "x=1,3", "rename_inputs": "x=a", "rename_outputs": "y=b",
    "input_mean": "x=1,2", "input_std": "x=255", "uint8_inputs": "x",
    "inputs_as_nchw": "x", "outputs_as_nchw": "y",
}  # fmt: skip


def command(only: tuple[str, ...] = ()) -> tuple[typer.Typer, list[dict[str, Any]]]:
    """An application of one command that keeps what it is given."""
    seen: list[dict[str, Any]] = []
    made = typer.Typer()

    @made.command()
    @fold_flags.fold_flags(only)
    def run(given: fold_flags.Given = fold_flags.FLAGS) -> int:
        seen.append(dict(given))
        return 0

    return made, seen


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_reaches_fold_options(name: str) -> None:
    made, seen = command()
    arguments = [FIELDS[name].flag, *([GIVEN[name]] if name in GIVEN else [])]
    assert CliRunner().invoke(made, arguments).exit_code == 0
    options = fold_options(seen[0])
    assert getattr(options, name) != getattr(FoldOptions(), name) or name == "providers"
    assert options.model_dump(exclude={name}) == FoldOptions().model_dump(exclude={name})


@pytest.mark.parametrize("path", ["fold", "submit"])
def test_commands_that_fold_have_every_flag(path: str) -> None:
    parameters = {p.name for p in typer.main.get_command(app).commands[path].params}  # type: ignore[attr-defined]
    assert set(OPTIONS) <= parameters


def test_a_command_may_take_some_of_them() -> None:
    made, seen = command(("seed",))
    assert CliRunner().invoke(made, ["--seed", "3"]).exit_code == 0
    assert seen == [{"seed": 3}]
    assert CliRunner().invoke(made, ["--opset", "17"]).exit_code == 2


def test_the_help_has_one_panel_for_each_group_of_options() -> None:
    assert {field.panel for field in FIELDS.values()} == {str(group) for group in Group}
    assert len({field.flag for field in FIELDS.values()}) == len(FIELDS)
