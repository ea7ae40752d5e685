"""`python -m bench.capacity`: how long jobs wait, by a discrete-event model of workers and a day of arrivals.

    free slots > 0: the oldest waiting job starts; it holds its slot for overhead + service seconds

`--check` runs the same arrivals through four real workers on PostgreSQL and prints both side by side;
`--picture FILE` draws waiting against the number of workers. One kind of event and one resource: a heap is
enough, and a simulation library would be one more dependency for forty lines.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.table import grid

DAY = 86_400.0
_WORKERS = 4
TABLE = Path(__file__).parent.parent / "tests" / "real" / "files.tsv"


@dataclass(frozen=True)
class Job:
    """When it comes and how long it is served."""

    arrives: float
    seconds: float


def simulate(jobs: Sequence[Job], slots: int, overhead: float = 0.0) -> list[float]:
    """Return how long each job waits, in the order of arrival; slots are alike, jobs go in order."""
    free = [0.0] * slots
    waits = []
    for job in jobs:
        start = max(job.arrives, heapq.heappop(free))
        waits.append(start - job.arrives)
        heapq.heappush(free, start + overhead + job.seconds)
    return waits


def day(jobs: int, seed: int, peak: float = 3.0) -> list[Job]:
    """Return a day of arrivals: office hours bring `peak` times as many as the night does."""
    chance = random.Random(seed)
    low = jobs / DAY * 2 / (1 + peak)
    found, at = [], 0.0
    while at < DAY:
        at += chance.expovariate(low * peak)
        rate = low * (1 + (peak - 1) * (1 - math.cos(2 * math.pi * at / DAY)) / 2)
        if chance.random() < rate / (low * peak):
            found.append(Job(at, chance.choice(measured())))
    return found


@cache
def measured() -> tuple[float, ...]:
    """Return processor seconds of a fold of each trained model of `tests/real/files.tsv`."""
    head, *lines = TABLE.read_text().splitlines()
    column = head.lstrip("# ").split("\t").index("seconds")
    return tuple(float(line.split("\t")[column]) for line in lines if line and not line.startswith("#"))


def mean_service() -> float:
    """Return the mean of `measured`."""
    return sum(measured()) / len(measured())


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def table(jobs: int, overhead: float) -> tuple[list[list[str]], list[tuple[float, float]]]:
    """Rows and points (load at the peak, p95 of waiting) for growing numbers of slots."""
    arrivals = day(jobs, 1)
    busy = jobs / DAY * (mean_service() + overhead)
    rows, points = [], []
    for load in (1.05, 0.95, 0.9, 0.8, 0.7, 0.6):
        slots = max(1, round(busy * 1.5 / load))  # the peak hour brings one and a half times the mean
        waits = simulate(arrivals, slots, overhead)
        figures = [percentile(waits, share) for share in (0.5, 0.95, 0.99)]
        rows.append([f"{slots} slots", f"{load:.0%}", *(f"{value:.1f} s" for value in figures)])
        points.append((load, figures[1]))
    return rows, points


def picture(points: Sequence[tuple[float, float]], path: Path) -> None:
    """Draw waiting (p95, logarithmic) against the load of the busiest hour."""

    def x(load: float) -> float:
        return 60 + (load - 0.55) / 0.55 * 500

    def y(wait: float) -> float:
        return 250 - math.log10(max(wait, 0.1) * 10) / 5 * 220

    line = " ".join(f"{x(load):.0f},{y(wait):.0f}" for load, wait in points)
    marks = "".join(
        f'<text x="{x(load / 100):.0f}" y="270" text-anchor="middle">{load} %</text>'
        for load in range(60, 111, 10)
    ) + "".join(
        f'<text x="52" y="{y(wait) + 4:.0f}" text-anchor="end">{name}</text>'
        f'<line x1="60" x2="560" y1="{y(wait):.0f}" y2="{y(wait):.0f}" stroke="#ccc"/>'
        for name, wait in (("0.1 s", 0.1), ("1 s", 1.0), ("10 s", 10.0), ("100 s", 100.0), ("1000 s", 1000.0))
    )  # fmt: skip
    dots = "".join(
        f'<circle cx="{x(load):.0f}" cy="{y(wait):.0f}" r="4" fill="#06c"/>' for load, wait in points
    )
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 300"'
        ' font-family="sans-serif" font-size="12">'
        '<rect width="600" height="300" fill="#fff"/>'
        f'{marks}<polyline points="{line}" fill="none" stroke="#06c" stroke-width="2"/>{dots}'
        '<text x="310" y="292" text-anchor="middle">load of the slots in the busiest hour</text>'
        '<text x="64" y="18">95th percentile of waiting, a million jobs a day</text></svg>\n'
    )


def check(folder: Path, count: int, postgres: Any) -> list[list[str]]:
    """The same arrivals through four workers with one slot each, and through the model.

    Measured before: what a job adds to its service on a busy slot, and how long an idle one takes to pick a
    job up.
    """
    from bench.service import alive, seconds_of
    from tests.support.deployment import deployment, eventually, http

    chance = random.Random(4)
    env = {"BNFOLD_ENGINE": "procrastinate", "BNFOLD_SLOTS": "1",
           "BNFOLD_DATABASE_URL": postgres.database(f"capacity_{secrets.token_hex(3)}")}  # fmt: skip
    with deployment(folder, **env) as made:
        url = made.api(wait=False)
        eventually(lambda: alive(url), 120)
        for _ in range(_WORKERS):
            made.worker()
        eventually(lambda: made.logs().count("worker ready") >= _WORKERS, 120, "workers")
        with http(url) as client:
            alone = [_run(client, [Job(0.0, 0.1)])[1][0] for _ in range(9)]
            pick_up = percentile(
                [seconds_of(job["started_at"]) - seconds_of(job["created_at"]) for job in alone], 0.5
            )
            # All at once first: what a job costs beside its service, up to the start of the next one.
            batch = [Job(0.0, chance.uniform(0.3, 1.5)) for _ in range(count // 2)]
            took, _ = _run(client, batch)
            overhead = max(0.0, _WORKERS * took / len(batch) - sum(job.seconds for job in batch) / len(batch))
            rate, at, jobs = 0.75 * _WORKERS / (0.9 + overhead), 0.0, []
            for _ in range(count):
                at += chance.expovariate(rate)
                jobs.append(Job(at, chance.uniform(0.3, 1.5)))
            _, found = _run(client, jobs)
    waited = [seconds_of(job["started_at"]) - seconds_of(job["created_at"]) for job in found]
    arrived = [seconds_of(job["created_at"]) for job in found]
    same = [Job(at - arrived[0], job.seconds) for at, job in zip(arrived, jobs, strict=True)]
    rows = []
    for name, waits in (
        ("4 workers on PostgreSQL", waited),
        ("model", [wait + pick_up for wait in simulate(same, _WORKERS, overhead)]),
    ):
        figures = [sum(waits) / count, *(percentile(waits, share) for share in (0.5, 0.95))]
        rows.append(
            [
                name,
                *(f"{value:.2f} s" for value in figures),
                f"{overhead * 1e3:.0f} ms",
                f"{pick_up * 1e3:.0f} ms",
            ]
        )
    return rows


def _run(client: Any, jobs: list[Job]) -> tuple[float, list[dict[str, Any]]]:
    """Submit at the times given and wait for the end: seconds from the first start, jobs by arrival."""
    from bench.service import digest, orders, seconds_of
    from tests.support.deployment import eventually

    data = [orders(seconds=job.seconds, bytes=100) for job in jobs]
    for each in data:
        client.put(f"/v1/blobs/{digest(each)}", content=each)
    began, ids = time.monotonic(), []
    for job, each in zip(jobs, data, strict=True):
        time.sleep(max(0.0, began + job.arrives - time.monotonic()))
        ids.append(client.post("/v1/jobs", json={"input": digest(each)}).raise_for_status().json()["id"])
    ends = ("queued", "running")
    eventually(
        lambda: not any(client.get("/v1/jobs", params={"state": s, "limit": 1}).json()["jobs"] for s in ends),
        600, "drained",
    )  # fmt: skip
    found = [client.get(f"/v1/jobs/{job_id}").json() for job_id in ids]
    first = min(seconds_of(job["started_at"]) for job in found)
    return max(seconds_of(job["finished_at"]) for job in found) - first, found


def main(argv: list[str] | None = None) -> int:
    """Print the tables; 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000, help="a day (default: a million)")
    parser.add_argument("--overhead", type=float, default=0.15, help="seconds of each job beside its service")
    parser.add_argument("--check", type=int, metavar="JOBS", help="so many through four real workers")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args(argv)
    if options.check:
        _with_postgres(lambda postgres, folder: print(grid(
            ["", "mean wait", "p50", "p95", "overhead", "pick-up"], check(folder, options.check, postgres)
        )))  # fmt: skip
        return 0
    rows, points = table(options.jobs, options.overhead)
    print(f"{options.jobs} jobs a day, {mean_service():.1f} s of service in the mean")
    print(grid(["", "load at the peak", "wait p50", "p95", "p99"], rows))
    if options.picture:
        picture(points, options.picture)
    return 0


def _with_postgres(act: Callable[[Any, Path], None]) -> None:
    from tests.support.deployment import Postgres

    server = Postgres()
    try:
        server.create()
        server.start()
        act(server, Path(tempfile.mkdtemp(prefix="bnfold-capacity-")))
    finally:
        server.close()


if __name__ == "__main__":
    sys.exit(main())
