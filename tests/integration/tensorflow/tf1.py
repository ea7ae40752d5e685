"""Every artifact of the TensorFlow 1 fixtures, run through the whole pipeline: one row each.

Shared by the table test and by `scripts/tf1_programs.py`, which writes docs/reference/tf1-programs.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.paths import TF1_PROGRAMS

# expect.json calls some findings by longer names than the report does
HEALTH = {
    "batch_stats_at_inference": "batch_statistics_at_inference",
    "stale_statistics": "ok",  # `lagging` needs calibration data; see test_calibrate.py
    "nan_statistics": "non_finite",
    "inf_statistics": "non_finite",
}
BY_NAME = ("saved_model", "keras_h5")  # formats whose ports have names of their own
ROLES = ("moving_mean", "moving_variance", "gamma", "beta")


@dataclass(frozen=True)
class Case:
    """One artifact of one fixture."""

    fixture: str
    kind: str
    path: str
    options: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)

    @property
    def id(self) -> str:
        return f"{self.fixture}/{self.path}"


@dataclass
class Row:
    """What became of it."""

    case: Case
    outcome: str  # the verdict, or the error's code
    route: str = ""
    folded: int = 0
    kept: list[str] = field(default_factory=list)
    health: dict[str, list[str]] = field(default_factory=dict)
    decisions: dict[str, str] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    tolerance: float = 0.0
    report: Any = None
    layers: list[str] = field(default_factory=list)


@cache
def expected(fixture: str) -> dict[str, Any]:
    return json.loads((TF1_PROGRAMS / fixture / "expect.json").read_text())


def probe(fixture: str) -> dict[str, np.ndarray]:
    with np.load(TF1_PROGRAMS / fixture / "probe.npz") as held:
        return {name: held[name] for name in held.files}


def cases() -> Iterator[Case]:
    for folder in sorted(TF1_PROGRAMS.iterdir()):
        if (folder / "expect.json").is_file():
            for artifact in expected(folder.name)["artifacts"]:
                yield Case(folder.name, artifact["kind"], artifact["path"])


def run(case: Case, folder: Path) -> Row:
    """Fold the artifact, run the result, and compare it with what TensorFlow 1 answered."""
    from folding import pipeline
    from folding.errors import BnfoldError
    from folding.options import FoldOptions

    facts = expected(case.fixture)
    names = [] if case.kind in BY_NAME else [output["name"] for output in facts["outputs"]]
    options = FoldOptions(outputs=names, **case.options)
    target = folder / "folded.onnx"
    try:
        report = pipeline.fold(TF1_PROGRAMS / case.fixture / case.path, target, options)
    except BnfoldError as error:
        layers = [row["name"] for row in error.details.get("layers", [])]
        return Row(case, error.error_code, layers=layers or list(error.details.get("missing", [])))
    row = Row(case, report.verdict.value, report.source.route.split(" ")[0], report=report)
    row.folded = sum(norm.decision == "folded" for norm in report.batch_norms)
    row.kept = [f"{n.name}: {n.reason}" for n in report.batch_norms if n.decision != "folded"]
    row.health = {norm.name: [h.code.value for h in norm.health] for norm in report.batch_norms}
    row.decisions = {norm.name: norm.decision for norm in report.batch_norms}
    row.errors = _errors(case, target)
    row.tolerance = max(
        (o.tolerance.atol + o.tolerance.rtol for r in report.verification for o in r.outputs), default=0.0
    )
    return row


def _errors(case: Case, artifact: Path) -> dict[str, float]:
    """Largest difference of each output from the probe's, relative to the output's own scale."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(artifact), settings, providers=["CPUExecutionProvider"])
    facts, data = expected(case.fixture), probe(case.fixture)
    feeds = _feeds([value.name for value in session.get_inputs()], facts, data)
    found = {}
    for value, result in zip(session.get_outputs(), session.run(None, feeds), strict=True):
        want = data[_probe_of(value.name, facts)]
        scale = max(1.0, float(np.max(np.abs(want))))
        found[value.name] = float(np.max(np.abs(result - want))) / scale
    return found


def _feeds(names: list[str], facts: dict[str, Any], data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    feeds = {}
    for name in names:
        for given in facts["inputs"]:
            if name in (given["name"], given["probe"], given["name"].split(":")[0]):
                feeds[name] = data[given["probe"]]
    if not feeds and len(names) == 1:
        feeds[names[0]] = data[facts["inputs"][0]["probe"]]
    return feeds


def _probe_of(name: str, facts: dict[str, Any]) -> str:
    for output in facts["outputs"]:
        if name in (output["name"], output["probe"], output["name"].split("/")[0]):
            return str(output["probe"])
    return str(facts["outputs"][0]["probe"])
