"""`completion` and `man`: what a shell and `man` want to know, made from the commands themselves."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from service.cli import flags as f


class Shell(StrEnum):
    """The shells that completion is written for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def register(app: typer.Typer) -> None:
    """Hang the commands into the tree."""
    for command in (completion, man):
        app.command()(command)


def completion(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(help="The shell.")],
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """Print the completion script of a shell: commands, options and codes at the Tab key.

    [bold]Examples[/bold]

      eval "$(bnfold completion bash)"                        for this shell; in ~/.bashrc for all

      bnfold completion zsh > ~/.zfunc/_bnfold                with fpath+=~/.zfunc before compinit

      bnfold completion fish > ~/.config/fish/completions/bnfold.fish
    """
    from service.cli import completion as scripts
    from service.cli.output import Output

    script = scripts.script(context.obj, shell.value)
    output = Output(as_json, quiet)
    output.say(script)
    output.document({"shell": shell.value, "script": script})
    return 0


def man(
    context: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND...]", help="The command; default: bnfold itself.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Write the pages of all commands there.")
    ] = None,
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """Show the manual page of a command, or write all of them for `man`.

    [bold]Examples[/bold]

      bnfold man fold

      bnfold man keys create

      bnfold man --to ~/.local/share/man/man1      then: man bnfold-fold
    """
    from service.cli import manual

    return manual.run(context.obj, command or [], to, as_json, quiet)
