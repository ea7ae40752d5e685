"""A real service for tests that talk to one: `bnfold serve` on a free port, with a fresh data folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

# Seconds until a service must answer: long, since a busy machine is no failure.
PATIENCE = 300.0


@dataclass(frozen=True)
class Live:
    """Where it answers, and where it keeps things."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])


@contextmanager
def live_service(
    folder: Path,
    port: int = 0,
    command: list[str] | None = None,
    environment: dict[str, str] | None = None,
    **settings: str,
) -> Iterator[Live]:
    """Start, wait until it is ready, and end it with everything that it started.

    command: what serves, for instance of another environment; the checkout's own by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {k: v for k, v in (environment or os.environ).items() if not k.startswith("BNFOLD_")}
    # Importing TensorFlow for every service, and again after every job, would take most of the tests' time.
    settings = {"warm_formats": "onnx"} | settings
    environment |= {f"BNFOLD_{name.upper()}": value for name, value in settings.items()}
    log = folder / "service.log"
    command = command or [sys.executable, "-c", "from service.cli import main; main()", "serve"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--data-dir", str(folder / "data")],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
        )
        try:
            url = _address(process, log)
            _ready(url, log)
            yield Live(url, folder, process)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for line in log.read_text().splitlines():
            if line.startswith("bnfold serves on "):
                return line.split()[-1]
        assert process.poll() is None, f"the service ended at once:\n{log.read_text()}"
        time.sleep(0.05)
    raise AssertionError(f"no address:\n{log.read_text()}")


def _ready(url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if httpx.get(f"{url}/readyz", trust_env=False, timeout=10).status_code == 200:
            return
        time.sleep(0.1)
    raise AssertionError(f"not ready:\n{log.read_text()}")
