"""The process that runs one job: jail, canary, imports, one job, end. Started by `process`, never by hand.

Pipe protocol, one JSON object a line. In (fd 0): `{"jail", "warm", "canary", "entry"}`, later `{"job": ...}`;
end of file means that the parent is gone. Out (the fd in argv[1]): `{"ready": ...}`, any
number of `{"event": ...}`, then one of `{"done": {}}`, `{"error": ...}`, `{"memory": ...}`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from service.runner.jail import canary, sandbox

_LINE_BYTES = 1 << 20


class Channel:
    """The two ends of the pipe to the parent."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._pending = b""
        self._lock = threading.Lock()

    def send(self, **message: Any) -> None:
        """One line; a parent that is gone is noticed by the reader."""
        line = json.dumps(message, default=str).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._out, line) :]

    def receive(self) -> dict[str, Any] | None:
        """The next line, or None when the parent is gone."""
        while b"\n" not in self._pending:
            piece = os.read(0, _LINE_BYTES)
            if not piece:
                return None
            self._pending += piece
        line, self._pending = self._pending.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def exit_at_end(self) -> None:
        """From now on, leave as soon as the parent closes its end (or dies)."""

        def wait() -> None:
            while os.read(0, 4096):
                pass
            os._exit(1)

        threading.Thread(target=wait, name="parent-watch", daemon=True).start()


def main() -> None:
    """Entry: `python -m service.runner.child OUT_FD`."""
    channel = Channel(int(sys.argv[1]))
    start = channel.receive()
    if start is None:
        return
    spec = sandbox.JailSpec.from_dict(start["jail"])
    namespaces = canary.own_namespaces()
    layers = sandbox.enter(spec)
    os.chdir(Path(spec.folder) / "work")
    bait = start.get("canary")
    acts = canary.run({**bait, "out": int(sys.argv[1])}, namespaces) if bait else {}
    channel.send(ready={"layers": layers, "canary": acts, "pid": os.getpid()})
    from service.runner.warm import warm

    seconds = warm(start["warm"])
    channel.send(warm={"seconds": seconds})
    message = channel.receive()
    if message is None:
        return
    channel.exit_at_end()
    try:
        importlib.import_module(start["entry"]).run_job(message["job"], channel)
    except MemoryError:
        channel.send(memory={})
    sys.stdout.flush()
    os._exit(0)  # no destructor of a framework gets a word in


if __name__ == "__main__":
    main()
