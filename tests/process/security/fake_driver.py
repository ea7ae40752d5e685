"""A runner's work in tests: load the fake CUDA driver, or misuse what is open for the real one."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from service.runner import job as real


def run_job(job: dict[str, Any], channel: real.Sender) -> None:
    """Call the driver in `{"library": ...}`, or misuse every opening; leave what came of it as artifact."""
    orders = json.loads(Path(job["input"]).read_text())
    if "library" in orders:
        code = ctypes.c_int(-1)
        step = ctypes.CDLL(orders["library"], use_errno=True).fake_cuInit(ctypes.byref(code))
        found: dict[str, Any] = {"step": step, "errno": errno.errorcode.get(code.value, code.value)}
    else:
        found = {name: _errno_of(act) for name, act in MISUSES.items()}
    out = Path(job["folder"]) / "out"
    (out / "model.onnx").write_text(json.dumps(found))
    (out / "report.json").write_text("{}")
    channel.send(done={})


def _errno_of(act: Callable[[], object]) -> str:
    try:
        act()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return "done"


def _socket(family: int = 1, kind: int = 1) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.socket(family, kind, 0))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "socket")
    return descriptor


def _unix(kind: int = socket.SOCK_STREAM) -> socket.socket:
    return socket.socket(socket.AF_UNIX, kind)


def _open(name: str, flags: int) -> None:
    os.close(os.open(name, flags))


MISUSES: Final[dict[str, Callable[[], object]]] = {
    "ipv4": lambda: _socket(socket.AF_INET, socket.SOCK_STREAM),
    "ipv6": lambda: _socket(10, socket.SOCK_DGRAM),
    "netlink": lambda: _socket(16, 3),
    "packet": lambda: _socket(17, 3),
    "vsock": lambda: _socket(40, 1),
    "datagrams": lambda: _socket(socket.AF_UNIX, socket.SOCK_DGRAM),
    "raw": lambda: _socket(socket.AF_UNIX, socket.SOCK_RAW),
    "pair": lambda: socket.socketpair(),
    "connect_path": lambda: _unix().connect("/run/docker.sock"),
    "connect_abstract": lambda: _unix().connect("\0somebody"),
    "bind_path": lambda: _unix().bind("meeting"),
    "attach_program": lambda: _unix().setsockopt(socket.SOL_SOCKET, 26, bytes(16)),
    "symlink": lambda: os.symlink("/etc/passwd", "soft"),
    "hard_link": lambda: os.link("/proc/self/status", "hard"),
    "own_memory": lambda: _open("/proc/self/mem", os.O_RDWR),
    "own_memory_by_thread": lambda: _open(f"/proc/self/task/{os.getpid()}/mem", os.O_RDWR),
    "own_user_map": lambda: _open(f"/proc/self/task/{os.getpid()}/uid_map", os.O_WRONLY),
    "parents_memory": lambda: _open(f"/proc/{os.getppid()}/mem", os.O_RDONLY),
    "parents_environment": lambda: _open(f"/proc/{os.getppid()}/environ", os.O_RDONLY),
    "parents_name": lambda: _open(f"/proc/{os.getppid()}/comm", os.O_WRONLY),
    "processes": lambda: os.listdir("/proc"),
    "run_a_program": lambda: os.execv("/usr/bin/nvidia-modprobe", ["nvidia-modprobe"]),
    "fork": os.fork,
    "kill": lambda: os.kill(os.getppid(), 0),
}
