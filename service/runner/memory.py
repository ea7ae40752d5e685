"""A runner that folds nothing: tests of engines and stores use it. The input's bytes say what to do.

`{"seconds": 0.2, "verdict": "pass", "crash": "runner_crashed", "error": "corrupt_model", "bytes": 1000,
"health": "never_updated", "recalibrated": "pass"}`, all optional; anything that is no JSON object counts as
`{}`. The artifact depends on the bytes of the input alone. `recalibrated`: the verdict of a second artifact,
which is made where there is calibration data.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from pathlib import Path
from typing import Any

from folding.errors import CorruptModel
from folding.progress import Event
from folding.report import (
    ArtifactReport,
    GraphReport,
    Health,
    HealthCode,
    Inspection,
    NormReport,
    OrtFormat,
    Recalibrated,
    Report,
    SourceReport,
    Verdict,
)
from folding.report.headline import headline
from service.runner.base import Crash, JobOutcome, JobSpec, OnEvent, Status


class MemoryRunner:
    """Pretends, in the worker's own thread."""

    def start(self) -> None:
        """Nothing to warm."""

    def level(self) -> str:
        """There is no sandbox, and nothing that would need one."""
        return "none"

    def close(self) -> None:
        """Nothing to close."""

    def run(self, spec: JobSpec, *, on_event: OnEvent, cancel: threading.Event) -> JobOutcome:
        """Do what the input says."""
        began = time.monotonic()
        data = spec.input.read_bytes()
        orders = _orders(data)
        on_event(Event("read", 0.0))
        if cancel.wait(float(orders.get("seconds", 0.0))):
            return JobOutcome(Status.CANCELLED)
        if "crash" in orders:
            return JobOutcome(Status.CRASHED, crash=Crash(orders["crash"]))
        if "error" in orders:
            error = CorruptModel("The input says so.", code=str(orders["error"]), stage="read")
            return JobOutcome(Status.ERROR, error=error.to_dict())
        on_event(Event("verify", 1.0))
        report = spec.out_dir / "report.json"
        if spec.kind == "inspect":
            report.write_text(Inspection(format="memory", framework="none").to_json())
            size = report.stat().st_size
            return JobOutcome(Status.DONE, report=report, read_bytes=len(data), written_bytes=size)
        artifact = _artifact(spec.out_dir / "model.onnx", data, int(orders.get("bytes", 1000)))
        made = _report(artifact, orders, spec)
        second = _second(made, orders, spec, data)
        runtime_form = _ort_format(made, spec, data)
        report.write_text(made.to_json())
        written = report.stat().st_size + artifact.stat().st_size
        return JobOutcome(
            Status.DONE, report=report, artifact=artifact, recalibrated=second, ort_format=runtime_form,
            wall_seconds=time.monotonic() - began, read_bytes=len(data), written_bytes=written,
        )  # fmt: skip


def _orders(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data[:65536])
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _artifact(path: Path, data: bytes, size: int) -> Path:
    seed = hashlib.sha256(data).digest()
    path.write_bytes((seed * (size // len(seed) + 1))[:size])
    return path


def _second(report: Report, orders: dict[str, Any], spec: JobSpec, data: bytes) -> Path | None:
    """The recalibrated artifact, where it is asked for and the input orders one with a verdict."""
    if not spec.recalibrated or "recalibrated" not in orders:
        return None
    path = _artifact(spec.out_dir / "recalibrated.onnx", b"recalibrated" + data, 500)
    healthy = orders | {"health": "ok", "verdict": orders["recalibrated"]}
    fixed = _report(path, healthy, spec)
    assert fixed.artifact is not None
    report.recalibrated = Recalibrated(
        file=path.name, artifact=fixed.artifact, verdict=fixed.verdict, headline=fixed.headline
    )
    return path


def _ort_format(report: Report, spec: JobSpec, data: bytes) -> Path | None:
    """The artifact in ORT format, where the options ask for it."""
    if not spec.options.get("ort_format"):
        return None
    path = _artifact(spec.out_dir / "model.ort", b"ort" + data, 300)
    report.ort_format = OrtFormat(
        artifact=ArtifactReport(digest="", bytes=path.stat().st_size), required_operators="ai.onnx;18;Conv\n"
    )
    return path


def _report(artifact: Path, orders: dict[str, Any], spec: JobSpec) -> Report:
    size = artifact.stat().st_size
    code = HealthCode(orders.get("health", "ok"))
    found = Health(code=code, severity="ok" if code is HealthCode.OK else "warning", evidence="As ordered.")
    report = Report(
        verdict=Verdict(orders.get("verdict", "pass")),
        source=SourceReport(format="memory", framework="none"),
        graph=GraphReport(opset=18, nodes_before=2, nodes_after=1, batch_norms_before=1, batch_norms_after=0),
        artifact=ArtifactReport(digest="", bytes=size),
        options=spec.options,
        batch_norms=[NormReport(name="norm", spelling="memory", decision="folded", health=[found])],
    )
    report.headline = headline(report)
    return report
