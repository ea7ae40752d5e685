"""Runners' side of device tests without a device: what a driver would miss in one layer of the sandbox."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

# Set by the test as the name of the provider.
NEEDS = {
    "works": lambda: None,
    "needs_files": lambda: Path("/etc/hostname").stat() and os.listdir("/etc"),
    "needs_sockets": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close(),
    "needs_library": lambda: _load("libcublasLt.so.99"),
}


def run_job(job: dict[str, Any], channel: Any) -> None:
    """Answer like `device_check.run_job`."""
    name = job["provider"]
    if name == "dies":
        os._exit(3)
    try:
        NEEDS[name]()
    except OSError as error:
        channel.send(tested={"detail": f"{name}: {error}"})
    else:
        channel.send(tested={"detail": ""})


def _load(name: str) -> None:
    import ctypes

    ctypes.CDLL(name)
