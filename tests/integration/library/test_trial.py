"""Inputs that end the runtime's process: tried in a child, so that the caller lives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

import folding
from folding.report import Verdict
from folding.verify.model import load
from folding.verify.probes.trial import ProcessDiedError, TrialSession, finish, guarded

TEXT = """<ir_version: 9, opset_import: ["" : 17]>
g (float[1,128,1] x, int64 step, int64 length) => (float[1,?,?,2] y) { y = STFT(x, step, , length) }"""


def stft(path: Path, text: str = TEXT) -> Path:
    onnx.save_model(parser.parse_model(text), str(path))
    return path


def feeds(length: int) -> dict[str, np.ndarray]:
    x = np.linspace(-1, 1, 128, dtype=np.float32).reshape(1, 128, 1)
    return {"x": x, "step": np.array(8), "length": np.array(length)}


def test_a_frame_of_no_samples_ends_the_child_and_not_the_caller(tmp_path: Path) -> None:
    session = guarded(load(stft(tmp_path / "m.onnx")).session())
    assert isinstance(session, TrialSession)
    try:
        with pytest.raises(ProcessDiedError, match="ended its process"):
            session.run(feeds(0))
        assert session.run(feeds(16))["y"].shape == (1, 15, 9, 2)
    finally:
        finish(session)


def test_a_length_that_the_graph_computes_is_tried_in_the_child(tmp_path: Path) -> None:
    """What the length is made of cannot be read off the graph: some probe makes it 0, and is left out."""
    text = TEXT.replace("y = STFT(x, step, , length)", "n = Mul(length, length) y = STFT(x, step, , n)")
    path = stft(tmp_path / "m.onnx", text)
    report = folding.fold(path, tmp_path / "a.onnx")
    assert report.verdict is Verdict.PASS, report.summary


def test_other_graphs_are_run_at_once(tmp_path: Path) -> None:
    text = '<ir_version: 9, opset_import: ["" : 17]> g (float[3] x) => (float[3] y) { y = Relu(x) }'
    assert not isinstance(guarded(load(stft(tmp_path / "m.onnx", text)).session()), TrialSession)
