"""A runner's work in tests: what a model does after it has taken the process over. Used as `entry`."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from service.runner import job as real


def run_job(job: dict[str, Any], channel: real.Sender) -> None:
    """Do what the input file says."""
    act = Path(job["input"]).read_text()
    channel.send(event={"stage": "read", "fraction": 0.5, "message": act})
    globals()[f"_{act}"](Path(job["folder"]), channel)
    (Path(job["folder"]) / "out" / "report.json").write_text("{}")
    channel.send(done={})


def _succeed(folder: Path, channel: real.Sender) -> None:
    (folder / "out" / "model.onnx").write_bytes(b"artifact")


def _segfault(folder: Path, channel: real.Sender) -> None:
    ctypes.string_at(0)


def _abort(folder: Path, channel: real.Sender) -> None:
    os.abort()


def _bad_alloc(folder: Path, channel: real.Sender) -> None:
    sys.stderr.write("terminate called after throwing an instance of 'std::bad_alloc'\n")
    sys.stderr.flush()
    os.abort()


def _kill_itself(folder: Path, channel: real.Sender) -> None:
    signal.raise_signal(signal.SIGKILL)


def _leave(folder: Path, channel: real.Sender) -> None:
    os._exit(0)


def _memory(folder: Path, channel: real.Sender) -> None:
    held = []
    while True:
        held.append(bytearray(os.urandom(1) * (16 << 20)))


def _map_memory(folder: Path, channel: real.Sender) -> None:
    bytearray(1 << 46)


def _sleep(folder: Path, channel: real.Sender) -> None:
    time.sleep(600)


def _spin(folder: Path, channel: real.Sender) -> None:
    while True:
        pass


def _threads(folder: Path, channel: real.Sender) -> None:
    import threading

    for _ in range(20):
        threading.Thread(target=_spin, args=(folder, channel), daemon=True).start()
    time.sleep(600)


def _fill_disk(folder: Path, channel: real.Sender) -> None:
    for index in range(10_000):
        (folder / "work" / f"f{index}").write_bytes(b"x" * (1 << 20))
        time.sleep(0.002)


def _link_artifact(folder: Path, channel: real.Sender) -> None:
    """Refused by the jail; with the jail off, refused by the parent."""
    (folder / "out" / "model.onnx").symlink_to("/etc/passwd")


def _folder_artifact(folder: Path, channel: real.Sender) -> None:
    (folder / "out" / "model.onnx").mkdir()


def _flood(folder: Path, channel: real.Sender) -> None:
    for index in range(20_000):
        channel.send(event={"stage": "x" * 1000, "fraction": index, "message": "y" * 1000})


def _nonsense(folder: Path, channel: real.Sender) -> None:
    out = int(sys.argv[1])
    for line in (b"no json\n", b"[]\n", b'{"event": 7}\n', b'{"event": {"stage": []}}\n', b'{"error": 5}\n'):
        os.write(out, line)
    time.sleep(600)


def _endless_line(folder: Path, channel: real.Sender) -> None:
    out = int(sys.argv[1])
    while True:
        os.write(out, b"x" * (1 << 16))


def _chatter(folder: Path, channel: real.Sender) -> None:
    for _ in range(20_000):
        sys.stderr.write("log " * 200 + "\n")


def _forged_error(folder: Path, channel: real.Sender) -> None:
    error = {"class": "Exception", "code": 5, "message": ["x"], "details": "no", "extra": 1}
    os.write(int(sys.argv[1]), json.dumps({"error": error}).encode() + b"\n")
    time.sleep(600)


def _error(folder: Path, channel: real.Sender) -> None:
    from folding.errors import UnsafeModel

    channel.send(error=UnsafeModel("no", code="unsafe_op").to_dict())
    time.sleep(600)


def _try_everything(folder: Path, channel: real.Sender) -> None:
    """The canary once more, at the time when a model would do it: after the imports."""
    from service.runner import canary

    facts = json.loads((folder / "in" / "_probe.npz").read_text())
    (folder / "out" / "model.onnx").write_text(json.dumps(canary.run(facts, {})))
