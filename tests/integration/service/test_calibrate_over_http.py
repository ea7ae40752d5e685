"""Recalibration through the service: a checkpoint whose statistics were never updated, and data."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.client import Client
from tests.support.in_process import digest_of
from tests.support.live import live_service
from tests.support.paths import ROOT

EXAMPLE = ROOT / "examples" / "never_updated"


def _packed() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for path in sorted(EXAMPLE.glob("model.ckpt*")):
            archive.write(path, path.name)
    return held.getvalue()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with (
        live_service(tmp_path_factory.mktemp("service")) as live,
        httpx.Client(base_url=live.url, timeout=120, trust_env=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def jobs(service: httpx.Client) -> dict[bool, dict[str, Any]]:
    """The finished jobs, by whether the measured statistics were asked for."""
    return {recalibrate: _fold(service, recalibrate) for recalibrate in (True, False)}


def _fold(client: httpx.Client, recalibrate: bool) -> dict[str, Any]:
    answer = client.post(
        "/v1/fold",
        files={
            "model": ("checkpoint.zip", _packed()),
            "calibration": ("data.npz", (EXAMPLE / "calibration.npz").read_bytes()),
        },
        data={"options": json.dumps({"recalibrate": recalibrate})},
        headers={"prefer": "wait=100"},
    )
    assert answer.status_code in (200, 202), answer.text
    job = answer.headers["location"]
    while (found := client.get(job, params={"wait": 20}).json())["state"] in ("queued", "running"):
        pass  # a busy machine needs longer than one request may wait; the test's own limit ends it
    return dict(found)


def _report(client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    return dict(client.get(job["links"]["report"], headers={"accept": "application/json"}).json())


@pytest.mark.parametrize("recalibrate", [True, False])
def test_statistics_measured_again(
    service: httpx.Client, jobs: dict[bool, dict[str, Any]], recalibrate: bool
) -> None:
    report = _report(service, jobs[recalibrate])
    assert report["verdict"] == "pass"
    calibration = report["calibration"]
    assert calibration["applied"] is recalibrate
    assert [row["name"] for row in calibration["layers"]] == [norm["name"] for norm in report["batch_norms"]]
    for row, norm in zip(calibration["layers"], report["batch_norms"], strict=True):
        assert not any(row["stored_mean"])
        assert any(row["mean"])
        stored = row["mean"] if recalibrate else row["stored_mean"]  # what was folded
        assert norm["stats"]["moving_mean"]["max"] == max(stored)
        codes = {finding["code"] for finding in norm["health"]}
        assert codes == {"ok"} if recalibrate else "never_updated" in codes
    assert all(change["max_abs"] > 0 for change in calibration["outputs"].values())


def test_the_recalibrated_artifact_lies_beside_the_faithful_one(
    service: httpx.Client, jobs: dict[bool, dict[str, Any]], tmp_path: Path
) -> None:
    job, report = jobs[False], _report(service, jobs[False])
    second = job["recalibrated"]
    assert second["verdict"] == "pass"
    assert second["headline"]["state"] == "healthy"
    # a job that asks for the measured statistics makes the same bytes, and nothing beside them
    assert second["digest"] == jobs[True]["artifact"]["digest"] != job["artifact"]["digest"]
    assert jobs[True]["recalibrated"] is None
    assert report["recalibrated"]["artifact"] == {key: second[key] for key in ("digest", "bytes")}
    assert digest_of(service.get(job["links"]["recalibrated"]).content) == second["digest"]
    with Client(str(service.base_url)) as client:
        assert client.job(job["id"]).recalibrated is not None
        client.pull(second["digest"], tmp_path / "pulled.onnx")
    assert digest_of((tmp_path / "pulled.onnx").read_bytes()) == second["digest"]


def test_the_page_says_what_was_measured_what_it_means_and_which_line_to_change(
    service: httpx.Client, jobs: dict[bool, dict[str, Any]]
) -> None:
    job, report = jobs[False], _report(service, jobs[False])
    page = service.get(f"/jobs/{job['id']}").text
    assert report["diagnosis"]
    for finding in report["diagnosis"]:
        assert finding["changes"]
        for words in (finding["title"], "Measured:", "What it means:", finding["changes"][0]["where"]):
            assert words in page, f"{words!r} is missing on the page"
    for words in ("Right in training, wrong at inference", job["recalibrated"]["digest"],
                  'id="download-recalibrated"'):  # fmt: skip
        assert words in page, f"{words!r} is missing on the page"
