"""Real parts for the service's tests: API and worker processes, PostgreSQL, an S3-speaking server.

Everything listens on loopback and ends with the test that started it. `reason_*` say why a part is missing.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.paths import ROOT

PG_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/local/bin", "/usr/bin", "/opt/homebrew/bin")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(check: Callable[[], Any], seconds: float = 20.0, what: str = "") -> Any:
    """The first true value of `check`, or AssertionError after that time."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or check}"
        time.sleep(0.05)


def pg_bin() -> Path | None:
    """Folder of initdb and postgres."""
    for place in PG_PLACES:
        for folder in sorted(Path("/").glob(place.lstrip("/")), reverse=True):
            if (folder / "initdb").exists() and (folder / "postgres").exists():
                return folder
    return None


def reason_no_postgres() -> str | None:
    """None when PostgreSQL can be started here."""
    return None if pg_bin() else "PostgreSQL is not installed (Debian: postgresql)"


def _other_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root; as root we start it as another user."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise AssertionError("no user to run PostgreSQL as")


@dataclass
class Postgres:
    """A real server on a fresh cluster."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="bnfold-pg-")))
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """initdb."""
        as_user = _other_user()
        if as_user:
            os.chown(self.folder, as_user["user"], as_user["group"])
        command = [
            pg_bin() / "initdb",
            "-D",
            self.folder / "data",
            "-U",
            "bnfold",
            "-A",
            "trust",
            "-E",
            "UTF8",
        ]
        subprocess.run(
            [*map(str, command), "--no-sync"], check=True, stdout=subprocess.DEVNULL, cwd="/", **as_user
        )

    def start(self) -> None:
        """Until it answers."""
        command = [
            str(pg_bin() / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port),
            "-h", "127.0.0.1", "-k", str(self.folder),
            "-c", "max_connections=200", "-c", "shared_buffers=64MB",
        ]  # fmt: skip
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **_other_user())
        eventually(self._answers, 30, "PostgreSQL answers")

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.Error:
            return False
        return True

    def url(self, database: str) -> str:
        """SQLAlchemy and libpq both take it."""
        return f"postgresql://bnfold@127.0.0.1:{self.port}/{database}"

    def database(self, name: str) -> str:
        """A fresh database; its URL."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def stop(self, how: int = signal.SIGINT) -> None:
        """SIGINT: fast shutdown; SIGQUIT: like a crash."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(180)  # its last fsync waits behind whatever else writes on this machine
            self.process = None

    def close(self) -> None:
        """Stop and remove."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class S3:
    """moto's server: it speaks S3's protocol over HTTP, multipart uploads, ranges and all."""

    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it answers."""
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self._answers, 30, "the S3 server answers")

    def _answers(self) -> bool:
        try:
            return httpx.get(self.endpoint, trust_env=False, timeout=2).status_code < 500
        except httpx.HTTPError:
            return False

    @property
    def endpoint(self) -> str:
        """URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    def bucket(self, name: str) -> dict[str, str]:
        """A fresh bucket; the settings that use it."""
        httpx.put(f"{self.endpoint}/{name}", trust_env=False).raise_for_status()
        return {
            "BNFOLD_BLOB_URL": f"s3://{name}/blobs",
            "BNFOLD_S3_ENDPOINT": self.endpoint,
            "BNFOLD_S3_ACCESS_KEY_ID": "test",
            "BNFOLD_S3_SECRET_ACCESS_KEY": "test",
        }

    def close(self) -> None:
        """Stop."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)


S3RVER_VERSION = "3.7.1"


def _s3rver() -> str | None:
    """The program of the npm package s3rver: on PATH, or in `.venv/s3rver`."""
    local = ROOT / ".venv" / "s3rver" / "node_modules" / ".bin" / "s3rver"
    return str(local) if local.exists() else shutil.which("s3rver")


def reason_no_s3rver() -> str | None:
    """None when the second S3-speaking server can be started here."""
    if _s3rver() is not None:
        return None
    return f"s3rver is not installed (npm install --prefix .venv/s3rver s3rver@{S3RVER_VERSION})"


class S3rver(S3):
    """A second server of that protocol, by other people, in another language."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def start(self) -> None:
        """Until it answers."""
        command = [str(_s3rver()), "-d", str(self.folder), "-p", str(self.port), "-a", "127.0.0.1", "-s"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self._answers, 30, "the S3 server answers")

    def bucket(self, name: str) -> dict[str, str]:
        """A bucket is a folder."""
        (self.folder / name).mkdir()
        keys = {"BNFOLD_S3_ACCESS_KEY_ID": "S3RVER", "BNFOLD_S3_SECRET_ACCESS_KEY": "S3RVER"}
        return {"BNFOLD_BLOB_URL": f"s3://{name}/blobs", "BNFOLD_S3_ENDPOINT": self.endpoint} | keys


@dataclass
class Deployment:
    """Processes of one deployment, started as an operator would start them."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)

    def environment(self, **more: str) -> dict[str, str]:
        """What every process of it gets."""
        base = {
            "BNFOLD_DATA_DIR": str(self.folder / "data"),
            "BNFOLD_RUNNER": "memory",
            "BNFOLD_LOG_LEVEL": "info",
            "BNFOLD_LEASE": "3",
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("BNFOLD_")}
        return inherited | base | self.env | more

    def spawn(
        self, module: str, *arguments: str, prefix: tuple[str, ...] = (), **more: str
    ) -> subprocess.Popen[bytes]:
        """`python -m module`; its log goes to the folder."""
        log = (self.folder / f"log-{len(self.processes)}.txt").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT, env=self.environment(**more), stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def api(self, *, wait: bool = True, port: int | None = None, **more: str) -> str:
        """An API process; its URL."""
        port = port or free_port()
        self.spawn("service.app", **({"BNFOLD_PORT": str(port)} | more))
        url = f"http://127.0.0.1:{port}"
        self.urls.append(url)
        if wait:
            self.ready(url)
        return url

    def worker(self, **more: str) -> subprocess.Popen[bytes]:
        """A worker process."""
        return self.spawn("service.engine.main", **more)

    def ready(self, url: str, seconds: float = 60.0) -> dict[str, Any]:
        """`/readyz` once it says yes."""

        def look() -> Any:
            try:
                answer = httpx.get(f"{url}/readyz", trust_env=False, timeout=5)
            except httpx.HTTPError:
                return None
            return answer.json() if answer.status_code == 200 else None

        return dict(eventually(look, seconds, f"{url} is ready: {self.logs()[-2000:]}"))

    def logs(self) -> str:
        """Everything that was logged."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("log-*.txt")))

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL, the process alone."""
        process.kill()
        process.wait(10)

    def stop(self) -> None:
        """Everything, the polite way first."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(25)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


@contextmanager
def deployment(folder: Path, **env: str) -> Iterator[Deployment]:
    """A deployment that ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Deployment(folder, env)
    try:
        yield made
    finally:
        made.stop()


def http(url: str, **more: Any) -> httpx.Client:
    """A client without proxies."""
    return httpx.Client(base_url=url, trust_env=False, timeout=60, **more)
