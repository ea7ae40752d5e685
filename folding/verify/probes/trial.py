"""Try inputs in a process of its own where an operator is known to end the process on some of them.

ONNX Runtime divides by a frame length of 0, for instance: SIGFPE, and whoever called the library is gone. The
child loads the same file, runs the same inputs, and says that it lived. Where no process can be started (the
service's jobs may not, and are expendable) the inputs are run without.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

from folding.ir.types import Feeds
from folding.ort import OrtSession
from folding.verify.model import FedSession

RISKY = frozenset(("STFT",))
SECONDS = 60.0
LIVED, READY = b"lived\n", b"ready\n"


class ProcessDiedError(Exception):
    """The runtime ended its process, or did not come back, on these inputs."""


class TrialSession(FedSession):
    """A session that runs each set of inputs in a child first."""

    def __init__(self, session: FedSession) -> None:
        self._inner, self.loaded = session, session.loaded
        self._child: subprocess.Popen[bytes] | None = None
        self._possible = True

    def run(self, feeds: Feeds, weights: Feeds | None = None, forced: Feeds | None = None) -> Feeds:
        """Return the session's answer. Raises: ProcessDiedError; the runtime's own errors."""
        if weights is None and forced is None:
            self._try(feeds)
        return self._inner.run(feeds, weights, forced)

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for stream in (self._child.stdin, self._child.stdout):
                if stream is not None:
                    stream.close()
            self._child = None

    def _try(self, feeds: Feeds) -> None:
        if self._child is None and self._possible:
            self._child = start(self.loaded.path)
            self._possible = self._child is not None
        if self._child is None or self._child.stdin is None or self._child.stdout is None:
            return
        with contextlib.suppress(BrokenPipeError):
            pickle.dump(feeds, self._child.stdin)
            self._child.stdin.flush()
        if line(self._child.stdout, SECONDS) == LIVED:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(5)
        code = self._child.poll()
        self.close()
        how = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else "without a word"
        raise ProcessDiedError(f"ONNX Runtime ended its process {how} on these inputs")


def guarded(session: FedSession) -> FedSession:
    """Return the session, behind a trial where the graph holds an operator that may end the process."""
    return TrialSession(session) if session.loaded.op_types() & RISKY else session


def finish(session: FedSession) -> None:
    """End what `guarded` started."""
    if isinstance(session, TrialSession):
        session.close()


def start(path: Path) -> subprocess.Popen[bytes] | None:
    """Start a child that has loaded the file; None where that cannot be."""
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "folding.verify.probes.trial", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
    except OSError:
        return None
    if child.stdout is None or line(child.stdout, SECONDS) != READY:
        child.kill()
        child.wait()
        return None
    return child


def line(stream: IO[bytes] | None, seconds: float) -> bytes:
    """Read one line; empty where none comes in time."""
    if stream is None:
        return b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return stream.readline() if selector.select(seconds) else b""


def serve(path: Path) -> None:
    """Run the inputs that come on standard input, one set after the other."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    session = OrtSession(path)
    answers.write(READY)
    while True:
        try:
            feeds = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        with contextlib.suppress(Exception):
            session.run(feeds)
        answers.write(LIVED)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
