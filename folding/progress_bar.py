"""Draw progress events as one bar, on a terminal or in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from folding.progress import Event, Listener

STAGES = ("read", "prepare", "find", "calibrate", "health", "fold", "clean", "export", "verify")
STAGE_WORDS = {
    "read": "reading the model",
    "prepare": "preparing the graph",
    "find": "finding batch norms",
    "calibrate": "measuring on calibration data",
    "health": "judging the statistics",
    "fold": "folding",
    "clean": "cleaning the graph",
    "export": "writing the artifact",
    "verify": "verifying",
}


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook. Imports nothing that is not loaded."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


@contextmanager
def progress_bar(stages: Sequence[str] = STAGES) -> Iterator[Listener]:
    """Show a bar while the block runs; yield the listener that moves it. It disappears at the end."""
    with _notebook_bar(stages) if in_notebook() else _terminal_bar(stages) as listener:
        yield listener


@contextmanager
def _notebook_bar(stages: Sequence[str]) -> Iterator[Listener]:
    """A widget where ipywidgets are installed, else a line of text."""
    # Not `tqdm.auto`: without ipywidgets it warns, where the line of text does.
    if find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm
    else:
        from tqdm.std import tqdm

    order = {stage: position for position, stage in enumerate(stages)}
    form = "{desc:<30} {percentage:3.0f} %|{bar}| {elapsed}{postfix}"
    with tqdm(total=len(stages), desc="starting", bar_format=form, leave=False) as bar:

        def listen(event: Event) -> None:
            bar.n = order.get(event.stage, 0) + (event.fraction or 0.0)
            bar.set_description_str(STAGE_WORDS.get(event.stage, event.stage), refresh=False)
            bar.set_postfix_str(_printable(event.message))

        yield listen


@contextmanager
def _terminal_bar(stages: Sequence[str]) -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    order = {stage: position for position, stage in enumerate(stages)}
    columns = (
        TextColumn("{task.description:<30}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[message]}", style="dim"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=len(stages), message="")

        def listen(event: Event) -> None:
            done = order.get(event.stage, 0) + (event.fraction or 0.0)
            words = STAGE_WORDS.get(event.stage, event.stage)
            bar.update(task, completed=done, description=words, message=_printable(event.message))

        yield listen


def _printable(message: str) -> str:
    """Return a message that may hold names from the model: escape sequences must not reach the terminal."""
    return "".join(c if c.isprintable() else "?" for c in message)[:40]
