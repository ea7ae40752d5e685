"""`bnfold verify` reads two files of strangers: in the jail, each behind its gate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from service.runner.base import JobLimits, JobOutcome, JobSpec, Status
from service.runner.config import RunnerConfig
from service.runner.local import LocalRunner
from tests.process.security import corpus_onnx, strategies


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(strategies.SOUND["onnx"]())
    return path


def verify(a: Path, b: Path, out: Path, *, probe: Path | None = None) -> JobOutcome:
    runner = LocalRunner(RunnerConfig(scratch=out))
    spec = JobSpec("v", "verify", a, out, second=b, probe=probe, limits=JobLimits(wall_seconds=120))
    return runner.run(spec, on_event=lambda event: None, cancel=threading.Event())


def test_two_models_of_one_name_in_private_folders(model: Path, tmp_path: Path) -> None:
    """Both are copied for a runner that is somebody else; neither takes the other's place."""
    second = tmp_path / "other" / "model.onnx"
    second.parent.mkdir(mode=0o700)
    second.write_bytes(model.read_bytes().replace(b"twice", b"thric"))
    out = tmp_path / "out"
    out.mkdir()
    outcome = verify(model, second, out)
    assert outcome.status is Status.DONE, outcome
    assert outcome.report is not None
    assert json.loads(outcome.report.read_text())["verdict"] == "pass"
    assert outcome.sandbox != "none"


def test_names_of_other_alphabets_in_a_private_folder(model: Path, tmp_path: Path) -> None:
    home = tmp_path / "privé"
    home.mkdir(mode=0o700)
    for name in ("modèle å.onnx", "モデル.onnx"):
        (home / name).write_bytes(model.read_bytes())
    out = tmp_path / "out"
    out.mkdir()
    outcome = verify(home / "modèle å.onnx", home / "モデル.onnx", out)
    assert outcome.status is Status.DONE, outcome


@pytest.mark.parametrize("side", ["reference", "candidate"])
def test_a_hostile_file_on_either_side(model: Path, tmp_path: Path, side: str) -> None:
    hostile = tmp_path / "hostile.onnx"
    hostile.write_bytes(corpus_onnx.loop_model(1 << 40).SerializeToString())
    out = tmp_path / "out"
    out.mkdir()
    outcome = verify(*((hostile, model) if side == "reference" else (model, hostile)), out)
    assert outcome.status is Status.ERROR
    assert outcome.error is not None
    assert outcome.error["code"] == "unsafe_loop"


def test_probe_data_is_read_in_the_jail(model: Path, tmp_path: Path) -> None:
    probe = tmp_path / "probe.npz"
    np.savez(probe, x=np.array([{}], dtype=object), allow_pickle=True)
    out = tmp_path / "out"
    out.mkdir()
    outcome = verify(model, model, out, probe=probe)
    assert outcome.status is Status.ERROR
    assert outcome.error is not None
    assert outcome.error["code"] == "usage"


@pytest.mark.parametrize("command", ["verify", "inspect", "fold"])
def test_the_command_itself_parses_nothing(model: Path, tmp_path: Path, command: str) -> None:
    """No library that reads models is loaded by the process that the user started."""
    more = {"verify": [str(model)], "inspect": [], "fold": ["-o", str(tmp_path / "o.onnx")]}[command]
    code = (
        "import sys\nfrom service.cli.app import app\n"
        f"try: app([{command!r}, {str(model)!r}, *{more!r}])\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'onnx', 'onnx_ir', 'onnxruntime', 'tensorflow', 'h5py', 'keras'} & set(sys.modules)\n"
        "assert not heavy, heavy\nassert not code, code\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr[-1500:]
