"""Numbers of the whole deployment: counted with the rows, read at a scrape, one line of cost for each job."""

from __future__ import annotations

import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from folding.report import Inspection
from service.api import metrics
from service.jobs.model import Kind
from service.runner.base import Crash, JobOutcome, JobSpec, OnEvent, Status
from service.runner.memory import MemoryRunner
from service.store import tallies
from service.wiring import Services
from tests.support.in_process import open_services, orders, submit, worker
from tests.unit.service.web import sample


def scraped(services: Services) -> dict[str, float]:
    lines = metrics.render(services).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def test_what_ended_and_how(services: Services) -> None:
    data = orders()
    first, rejected = submit(services, data).job, submit(services, orders(verdict="fail")).job
    failed = submit(services, orders(error="model_error")).job
    for job in (first, rejected, failed):
        worker(services).run(job.id)
    assert submit(services, data).how == "hit"
    found = scraped(services)
    ended = 'bnfold_jobs_ended_total{code="",kind="fold",state="%s",verdict="%s"}'
    assert found[ended % ("succeeded", "pass")] == 2.0
    assert found[ended % ("rejected", "fail")] == 1.0
    assert sum(value for name, value in found.items() if 'state="failed"' in name and "ended" in name) <= 1.0
    assert found['bnfold_cache_hits_total{kind="fold"}'] == 1.0
    assert found['bnfold_transitions_total{cause="claim"}'] == 3.0


def test_queue_by_lane(services: Services) -> None:
    submit(services)
    submit(services, kind=Kind.INSPECT)
    submit(services, kind=Kind.INSPECT)
    found = scraped(services)
    assert found['bnfold_queue_depth{lane="fold",pool="cpu"}'] == 1.0
    assert found['bnfold_queue_depth{lane="inspect",pool="cpu"}'] == 2.0
    assert 0.0 <= found['bnfold_queue_age_seconds{lane="inspect",pool="cpu"}'] < 60.0


def test_findings_and_cost(services: Services, caplog: pytest.LogCaptureFixture) -> None:
    class Sick(MemoryRunner):
        def run(self, spec: JobSpec, *, on_event: OnEvent, cancel: object) -> JobOutcome:
            done = super().run(spec, on_event=on_event, cancel=cancel)  # type: ignore[arg-type]
            rows = [sample.norm(f"bn{i}", i, sick=i < 3) for i in range(5)]
            assert done.report is not None
            done.report.write_text(Inspection(format="onnx", framework="none", batch_norms=rows).to_json())
            return done

    job = submit(services, kind=Kind.INSPECT).job
    with caplog.at_level(logging.INFO, logger="bnfold.jobs"):
        worker(services, Sick()).run(job.id)
    found = scraped(services)
    assert found['bnfold_health_findings_total{code="never_updated"}'] == 3.0
    assert found['bnfold_jobs_cost_total{what="written_bytes"}'] > 0
    lines = [record for record in caplog.records if record.getMessage() == "job cost"]
    assert len(lines) == 1
    said = vars(lines[0])
    for name in ("job", "tenant", "kind", "state", "queue_seconds", "seconds", "cpu_seconds", "peak_bytes"):
        assert name in said, name


def test_a_failed_job_has_its_line_too(services: Services, caplog: pytest.LogCaptureFixture) -> None:
    job = submit(services).job
    path = services.blobs.path(job.input_digest)
    assert path is not None
    path.write_bytes(b"rot")
    with caplog.at_level(logging.INFO, logger="bnfold.jobs"):
        worker(services).run(job.id)
    said = [vars(record) for record in caplog.records if record.getMessage() == "job cost"]
    assert [(line["state"], line["code"]) for line in said] == [("failed", "corrupt_blob")]


def test_cost_is_the_sum_of_all_attempts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Attempts that crash cost as much as the one that ends the job, and a failed job costs too."""

    class Dying(MemoryRunner):
        def run(self, spec: JobSpec, *, on_event: OnEvent, cancel: object) -> JobOutcome:
            return JobOutcome(
                Status.CRASHED, crash=Crash.SIGNAL, cpu_seconds=1.5, wall_seconds=2.0, peak_rss=100,
                read_bytes=10, written_bytes=20,
            )  # fmt: skip

    services = open_services(tmp_path, max_crashes=2)
    job = submit(services).job
    with caplog.at_level(logging.INFO, logger="bnfold.jobs"):
        for _ in range(2):
            assert worker(services, Dying()).run(job.id)
    (said,) = [vars(record) for record in caplog.records if record.getMessage() == "job cost"]
    assert (said["state"], said["cpu_seconds"], said["peak_bytes"]) == ("failed", 3.0, 100)
    assert (said["read_bytes"], said["written_bytes"]) == (20, 40)
    found = scraped(services)
    assert found['bnfold_jobs_cost_total{what="cpu_milliseconds"}'] == 3000.0
    assert found['bnfold_jobs_cost_total{what="read_bytes"}'] == 20.0
    services.close()


def test_nothing_is_lost_between_writers(tmp_path: Path) -> None:
    services = open_services(tmp_path)

    def count(_: int) -> None:
        with services.db.write() as connection:
            tallies.add(services.db, connection, {("a", "x"): 2, ("b", "y/z"): 1, ("c", ""): 0})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(40)))
    assert tallies.read(services.db) == {("a", "x"): 80, ("b", "y/z"): 40}


def test_labels_are_bounded(services: Services) -> None:
    """A code has words of its own, never a model's: at most one line of labels for each."""
    for _ in range(5):
        worker(services).run(submit(services).job.id)
    text = metrics.render(services).decode()
    assert not re.search(r"job_[0-9a-z]{26}", text)
    assert json.dumps(text)
