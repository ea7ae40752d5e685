"""What is around a command: its streams, and the signals that end it from outside.

Ctrl-C, SIGTERM of a CI system and SIGHUP of a closed terminal all end it the same way: the job is cancelled,
what it had written is removed, exit code 5. A signal that comes while that happens is ignored, for a
half-removed folder helps nobody; a third ends the process at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import TextIO

INTERRUPTED = 130  # what the option parser makes of Ctrl-C
# These have an end of their own, which is a good one.
SERVERS = ("serve", "worker")


def catch_signals(argv: list[str]) -> None:
    """Signals become KeyboardInterrupt; not for servers, and not outside the main thread."""
    if argv[:1] in [[name] for name in SERVERS] or threading.current_thread() is not threading.main_thread():
        return
    seen: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) == 1:
            raise KeyboardInterrupt
        if len(seen) > 2:
            os._exit(5)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and jobs in a script's background
            signal.signal(number, stop)


def skip_plugins(argv: list[str]) -> None:
    """Keep pydantic from looking for plugins, unless this is a server or its setting says otherwise.

    To find some it reads the metadata of every installed package, which is a tenth of a short command.
    """
    if argv[:1] not in [[name] for name in SERVERS]:
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def open_streams() -> None:
    """Streams that exist and take every character.

    A closed one (`>&-`, some service managers) is none at all in Python, and a name of a model that the
    terminal's encoding lacks must not end the command.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for the whole run
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def emit(text: str, stream: TextIO) -> None:
    """Print a line. Where the reader of a pipe has left, the work goes on and its exit code still tells."""
    try:
        print(text, file=stream)
        stream.flush()
    except BrokenPipeError:
        drop(stream)


def drop(stream: TextIO) -> None:
    """Send what is still to be written nowhere; Python would complain again while flushing at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
