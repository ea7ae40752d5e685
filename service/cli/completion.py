"""Completion at the Tab key, by typer's public interface."""

from __future__ import annotations

import typer

VARIABLE = "_BNFOLD_COMPLETE"  # the environment variable by which a shell asks


def register_shells() -> None:
    """Let typer answer the shells that it knows.

    typer does so when it builds an application that has its options `--install-completion` and
    `--show-completion`. Ours has a command instead, so a small application is built for the effect.
    """
    small = typer.Typer(add_completion=True)
    small.command()(_nothing)
    typer.main.get_command(small)


def _nothing() -> None:
    """The one command of the small application."""


def script(app: typer.Typer, shell: str) -> str:
    """Return the completion script of a shell: `bash`, `zsh` or `fish`."""
    from typer.testing import CliRunner

    register_shells()
    asked = CliRunner().invoke(app, [], prog_name="bnfold", env={VARIABLE: f"source_{shell}"})
    return asked.stdout.strip()
