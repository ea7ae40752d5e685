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
    """Do what the input file's first line says; the second may be the report to leave."""
    act, report, *_ = (*Path(job["input"]).read_text().split("\n"), "{}")
    channel.send(event={"stage": "read", "fraction": 0.5, "message": act})
    globals()[f"_{act}"](Path(job["folder"]), channel)
    (Path(job["folder"]) / "out" / "report.json").write_text(report)
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


def _deep_folders(folder: Path, channel: real.Sender) -> None:
    """Deeper than a path can be long, and than Python can recurse."""
    os.chdir(folder / "work")
    for _ in range(3000):
        os.mkdir("d" * 20)
        os.chdir("d" * 20)
    Path("hidden").write_bytes(b"x" * 4096)


def _deep_and_waiting(folder: Path, channel: real.Sender) -> None:
    _deep_folders(folder, channel)
    time.sleep(600)


def _hidden_bytes(folder: Path, channel: real.Sender) -> None:
    """In a folder that may be entered, and not listed."""
    os.mkdir(folder / "work" / "dark", 0o300)
    for index in range(400):
        (folder / "work" / "dark" / f"f{index}").write_bytes(b"x" * (1 << 20))
    time.sleep(600)


def _many_files(folder: Path, channel: real.Sender) -> None:
    for index in range(10_000_000):
        os.close(os.open(folder / "work" / f"f{index}", os.O_CREAT | os.O_WRONLY, 0))


def _reserve_disk(folder: Path, channel: real.Sender) -> None:
    """All that is left, in one call, without writing a byte."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    with (folder / "work" / "large").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free)
    time.sleep(600)


def _thread_bomb(folder: Path, channel: real.Sender) -> None:
    import threading

    threading.stack_size(1 << 15)
    while True:
        try:
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        except RuntimeError:  # the kernel's own limit came first
            time.sleep(600)


def _escape_group(folder: Path, channel: real.Sender) -> None:
    """A session of its own would not be killed with the group."""
    for call in (os.setsid, lambda: os.setpgid(0, 0)):
        try:
            call()
        except PermissionError:
            continue
        raise AssertionError("left the group")
    (folder / "out" / "model.onnx").write_bytes(b"held")


def _fifo_report(folder: Path, channel: real.Sender) -> None:
    os.mkfifo(folder / "out" / "model.onnx")


def _folder_report(folder: Path, channel: real.Sender) -> None:
    (folder / "out" / "report.json").mkdir()


def _large_report(folder: Path, channel: real.Sender) -> None:
    with (folder / "out" / "report.json").open("wb") as file:
        file.truncate(65 << 20)
    channel.send(done={})
    time.sleep(600)


def _large_error(folder: Path, channel: real.Sender) -> None:
    """Below the cap of a line, and still more than anybody wants in a row of a table."""
    details = {"a\0b": "\ud800", "deep": [[[[[[[[[["x"]]]]]]]]]], "long": "y" * (3 << 20)}
    error = {"class": "UnsafeModel", "code": "../../x", "message": "\ud800\0<script>" + "z" * 9000}
    channel.send(error={**error, "details": details})
    time.sleep(600)


def _deep_message(folder: Path, channel: real.Sender) -> None:
    os.write(int(sys.argv[1]), b'{"event": ' + b"[" * 60_000 + b"\n")


def _flood(folder: Path, channel: real.Sender) -> None:
    for index in range(20_000):
        channel.send(event={"stage": "x" * 1000, "fraction": index, "message": "y" * 1000})


def _endless_flood(folder: Path, channel: real.Sender) -> None:
    """Say more than anybody can take, for ever."""
    out = int(sys.argv[1])
    line = b'{"event": {"stage": "x", "fraction": 0.5, "message": ""}}\n' * 500
    while True:
        os.write(out, line)


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
    from service.runner.jail import canary

    facts = json.loads((folder / "in" / "_probe.npz").read_text()) | {"out": int(sys.argv[1])}
    (folder / "out" / "model.onnx").write_text(json.dumps(canary.run(facts, {})))
