"""kill -9 at every durable system call: strace counts them and sends SIGKILL at the N-th."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from service.jobs import leases
from service.jobs.model import State
from service.jobs.requests import Submission
from service.jobs.worker import Worker
from service.runner.memory import MemoryRunner
from service.settings import Settings
from service.store import tables
from service.store.db import now
from service.wiring import Services, build
from tests.process.faults.actors import Acks, act, digest, payload
from tests.support.in_process import upload
from tests.support.paths import ROOT

# What makes things durable or visible: files of SQLite and the blob folder; over a network, what is sent.
# The long form takes each occurrence of each; pwrite64 is how SQLite writes its log and its pages.
FILES = ("fsync", "fdatasync", "rename", "write", "unlink", "ftruncate", "mkdir", "pwrite64", "openat")
NETWORK = ("sendto", "write", "writev", "recvfrom")
T, E = tables.jobs.c, tables.events.c


def reason_no_strace() -> str | None:
    """None when processes can be traced here."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return None if probe.returncode == 0 else "strace may not trace here"


@dataclass
class Sweep:
    """One engine and store; points are taken one after the other on the same stores."""

    folder: Path
    settings: dict[str, Any]
    kills: Counter[str] = field(default_factory=Counter)
    ready_seconds: list[float] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.services: Services = build(Settings(**self.settings))
        self.artifact = self._finished()
        self._actors = subprocess.Popen(
            [sys.executable, "-m", "tests.process.faults.actors"], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(self.folder / "actors.log").open("a"),
        )  # fmt: skip

    def close(self) -> None:
        """End the forking process."""
        assert self._actors.stdin is not None
        self._actors.stdin.close()
        self._actors.wait(10)
        self.services.close()

    def run(self, role: str, calls: tuple[str, ...], stride: int = 1, most: int = 10_000) -> None:
        """For each call: kill at its 1st, (1 + stride)-th, ... occurrence, `most` times or to its end."""
        for call in calls:
            number = 1
            while number <= stride * most and self.point(role, call, number):
                number += stride

    def point(self, role: str, call: str, number: int) -> bool:
        """One point, checked at once; False when the actor came to its end unharmed."""
        nonce = f"n{secrets.token_hex(6)}"
        acks, go = self.folder / f"{nonce}.acks", self.folder / f"{nonce}.go"
        Acks.fresh(acks)
        jobs = [self._queued(nonce, index) for index in range(2)] if role == "worker" else []
        order = {"role": role, "nonce": nonce, "acks": str(acks), "go": str(go), "settings": self.settings,
                 "artifact": self.artifact, "jobs": jobs}  # fmt: skip
        killed = self._trace(order, go, f"{call}:signal=SIGKILL:when={number}", call)
        if killed:
            self.kills[call] += 1
        elif number == 1:
            assert Acks.read(acks)[-1]["kind"] == "end", (self.folder / "actors.log").read_text()[-3000:]
        noted = Acks.read(acks)
        began = time.monotonic()
        fresh = build(Settings(**self.settings))  # a restart
        self.ready_seconds.append(time.monotonic() - began)
        try:
            check(fresh, nonce, noted, jobs, (role, call, number))
        finally:
            fresh.close()
        for path in (acks, go):
            path.unlink(missing_ok=True)
        self.seen += noted
        return killed

    def _trace(self, order: dict[str, Any], go: Path, inject: str, call: str) -> bool:
        assert self._actors.stdin is not None
        assert self._actors.stdout is not None
        self._actors.stdin.write(json.dumps(order) + "\n")
        self._actors.stdin.flush()
        pid = int(self._actors.stdout.readline())
        # The tracer leaves what a thread starts (`-b execve`): faults are the traced process's own.
        tracer = subprocess.Popen(
            [
                *("strace", "-f", "-q", "-b", "execve", "-o", "/dev/null"),
                *("-e", f"trace={call}", "-e", f"inject={inject}", "-p", str(pid)),
            ],
            stderr=subprocess.PIPE,
        )
        deadline = time.monotonic() + 10
        while _tracer_of(pid) == 0:
            assert time.monotonic() < deadline, "strace did not attach"
            time.sleep(0.002)
        go.touch()
        status = int(self._actors.stdout.readline())
        tracer.wait(10)
        if tracer.stderr is not None:
            tracer.stderr.close()
        return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

    def _queued(self, nonce: str, index: int, make: Callable[[str, int], bytes] = payload) -> str:
        name = upload(self.services, make(nonce, 100 + index))
        return self.services.jobs.submit(Submission("default", name)).job.id

    def _finished(self) -> str:
        job_id = self._queued("first", 0)
        drain(self.services, [job_id])
        return str(self.services.jobs.get("default", job_id).artifact_digest)


class FaultSweep(Sweep):
    """Errors of the machine instead of kills: the process lives, and must do its work once they are over."""

    def run_faults(self, role: str, faults: Iterable[tuple[str, str]], numbers: Iterable[int]) -> None:
        """Inject each (call, error) at each number of its occurrence in every thread."""
        for call, error in faults:
            for number in numbers:
                self.fault(role, call, error, number)

    def fault(self, role: str, call: str, error: str, number: int) -> None:
        """One point: nothing acknowledged is lost, no job is `internal`, and the process goes on."""
        nonce = f"n{secrets.token_hex(6)}"
        acks, go = self.folder / f"{nonce}.acks", self.folder / f"{nonce}.go"
        Acks.fresh(acks)
        make = act if role == "runner" else payload
        jobs = [self._queued(nonce, index, make) for index in range(3)] if role in _SERVING else []
        order = {"role": role, "nonce": nonce, "acks": str(acks), "go": str(go), "settings": self.settings,
                 "artifact": self.artifact, "jobs": jobs, "scratch": str(self.folder / nonce)}  # fmt: skip
        where = (role, call, number, error)
        killed = self._trace(order, go, f"{call}:error={error}:when={number}", call)
        noted = Acks.read(acks)
        log = (self.folder / "actors.log").read_text()[-3000:]
        assert not killed, (where, log)
        self._went_on(role, jobs, noted, where, log)
        check(self.services, nonce, [item for item in noted if item["kind"] not in _OWN], jobs, where)
        self.kills[f"{call}:{error}"] += 1
        for path in (acks, go):
            path.unlink(missing_ok=True)

    def _went_on(
        self, role: str, jobs: list[str], noted: list[dict[str, Any]], where: object, log: str
    ) -> None:
        kinds = [item["kind"] for item in noted]
        assert {"end"} & {*kinds}, (where, noted, log)
        if role not in _SERVING:
            assert "fault" not in kinds or "recovered" in kinds, (where, noted[-2:], log)
            told = " ".join(item.get("body") or "" for item in noted if item["kind"] == "fault")
            assert '"code":"internal"' not in told.replace(" ", ""), (where, told)
            return
        served = next(item for item in noted if item["kind"] == "served")
        assert served["left"] == [], (where, served, log)
        states = {job_id: self.services.jobs.get("default", job_id) for job_id in jobs}
        assert {job.state for job in states.values()} == {State.SUCCEEDED}, (where, states, log)


_OWN = ("fault", "recovered", "served")
_SERVING = ("serve", "runner")


def _tracer_of(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("TracerPid:"):
            return int(line.split()[1])
    return 0


def drain(services: Services, jobs: list[str]) -> None:
    """What a worker that comes after the dead one does: reap, then run what is queued."""
    with services.db.write() as connection:
        connection.execute(
            update(tables.jobs)
            .where(T.id.in_(jobs), T.lease_until.is_not(None))
            .values(lease_until=now() - 1)
        )
    leases.reap(services.db, services.queue, services.settings)
    second = Worker(
        services.db, services.blobs, MemoryRunner(), services.queue, services.settings, name="second"
    )
    for job_id in jobs:
        second.run(job_id)


def check(
    services: Services, nonce: str, noted: list[dict[str, Any]], jobs: list[str], where: object
) -> None:
    """R1, R2: nothing acknowledged is lost, nothing is there twice, `succeeded` means readable and right."""
    _whatever_succeeded_is_whole(services, jobs, where)
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for item in noted:
        by_kind.setdefault(item["kind"], []).append(item)
    inputs_are_there(services, by_kind, where)
    cancelled = {item["id"] for item in by_kind.get("cancelled", ())}
    mine = jobs + [item["id"] for item in by_kind.get("job", ())]
    drain(services, mine)
    for job_id in mine:
        job = services.jobs.get("default", job_id)
        wanted = {State.CANCELLED} if job_id in cancelled else {State.SUCCEEDED}
        if job_id not in jobs and not cancelled and len(by_kind.get("job", ())) == 3:
            wanted |= {State.CANCELLED}  # the cancellation was committed, its answer was not sent
        assert job.state in wanted, (where, job)
        assert endings(services, job_id) == 1, where
    _whatever_succeeded_is_whole(services, mine, where)
    _one_job_per_key(services, nonce, by_kind, where)


def inputs_are_there(services: Services, by_kind: dict[str, list[dict[str, Any]]], where: object) -> None:
    """Blobs, models, uploads and releases that were acknowledged."""
    for item in by_kind.get("blob", ()):
        services.verifier.check(item["digest"], now())
    for item in by_kind.get("model", ()):
        services.models.get("default", item["id"])
    for item in by_kind.get("upload", ()):
        row = services.uploads.get("default", item["where"].rsplit("/", 1)[1])
        assert row.offset >= item["offset"], where
        if item["digest"] is not None:
            assert row.digest == item["digest"], where
            services.verifier.check(row.digest, now())
    for item in by_kind.get("release", ()):
        assert services.releases.get("default", item["name"], "prod").version >= item["version"], where
        history = services.releases.history("default", item["name"], "prod")
        assert [entry.version for entry in history] == list(range(len(history), 0, -1)), where


def _whatever_succeeded_is_whole(services: Services, jobs: list[str], where: object) -> None:
    with services.db.read() as connection:
        query = select(T.artifact_digest, T.report_digest).where(T.id.in_(jobs), T.state == "succeeded")
        found = connection.execute(query).all()
    for row in found:
        for name in row:
            services.verifier.check(name, now())


def endings(services: Services, job_id: str) -> int:
    """Return how often the job has ended."""
    with services.db.read() as connection:
        rows = connection.execute(select(E.data).where(E.job_id == job_id, E.type == "state")).scalars()
        return sum(row["state"] in ("succeeded", "rejected", "failed", "cancelled") for row in rows)


def _one_job_per_key(
    services: Services, nonce: str, by_kind: dict[str, list[dict[str, Any]]], where: object
) -> None:
    """The client repeats what was not acknowledged, with the same key."""
    known = {item["key"]: item["id"] for item in by_kind.get("job", ()) if item["key"]}
    for index in range(2):
        data = payload(nonce, index)
        if f"{nonce}-{index}" not in known and not by_kind.get("blob"):
            continue
        upload(services, data)
        ask = Submission("default", digest(data), idempotency_key=f"{nonce}-{index}")
        again = services.jobs.submit(ask)
        if ask.idempotency_key in known:
            assert again.job.id == known[ask.idempotency_key], where
        with services.db.read() as connection:
            query = select(T.id).where(T.input_digest == digest(data), T.kind == "fold")
            assert len(connection.execute(query).all()) == 1, where


def combinations() -> Iterator[tuple[str, str]]:
    """(role, engine)."""
    for engine in ("embedded", "procrastinate"):
        for role in ("api", "worker"):
            yield role, engine
