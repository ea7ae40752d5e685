"""Recalibration through the service: a checkpoint whose statistics were never updated, and data."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.support.live import live_service
from tests.support.paths import ROOT

EXAMPLE = ROOT / "examples" / "never_updated"


def _packed() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for path in sorted(EXAMPLE.glob("model.ckpt*")):
            archive.write(path, path.name)
    return held.getvalue()


@pytest.mark.parametrize("recalibrate", [True, False])
def test_statistics_measured_again(recalibrate: bool, tmp_path: Path) -> None:
    with (
        live_service(tmp_path) as live,
        httpx.Client(base_url=live.url, timeout=120, trust_env=False) as client,
    ):
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
        while client.get(job, params={"wait": 20}).json()["state"] in ("queued", "running"):
            pass  # a busy machine needs longer than one request may wait; the test's own limit ends it
        report = client.get(f"{job}/report", headers={"accept": "application/json"}).json()
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
