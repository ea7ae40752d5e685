"""Which libraries a waiting process holds, and which job gets which process."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import onnx
import pytest

from folding.progress import Event
from service.runner.base import JobSpec, Status
from service.runner.config import RunnerConfig
from service.runner.process import ProcessRunner, is_onnx
from tests.support import networks


def spec(path: Path, folder: Path) -> JobSpec:
    return JobSpec("job", "inspect", path, folder)


@pytest.mark.parametrize(
    ("start", "expected"),
    [(b"\x08\x0a\x12", True), (b"\x08\x03", True), (b"\x08\x01\x12", False), (b"\x0a\x10", False),
     (b"PK\x03\x04", False), (b"\x89HDF", False), (b"\x08", False), (b"", False)],
    ids=["onnx", "onnx 3", "saved model", "graph", "archive", "hdf5", "short", "empty"],
)  # fmt: skip
def test_the_first_bytes_choose_the_process(tmp_path: Path, start: bytes, expected: bool) -> None:
    (tmp_path / "model").write_bytes(start)
    assert is_onnx(spec(tmp_path / "model", tmp_path)) is expected
    assert not is_onnx(spec(tmp_path / "missing", tmp_path))


def libraries(process: int) -> set[str]:
    """Return which of two heavy libraries a process has mapped."""
    maps = Path(f"/proc/{process}/maps").read_text()
    return {name for name in ("tensorflow", "onnxruntime") if f"/{name}/" in maps}


def test_an_onnx_job_takes_no_process_that_holds_tensorflow(tmp_path: Path) -> None:
    own = ProcessRunner(RunnerConfig(scratch=tmp_path / "scratch", bubblewrap=False, allow_unsandboxed=True))
    own.start()
    try:
        deadline = time.monotonic() + 300
        while len(own.idle()) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        before = {child.process.pid: libraries(child.process.pid) for child in own.idle()}
        assert sorted(map(sorted, before.values())) == [["onnxruntime"], ["onnxruntime", "tensorflow"]]
        model = networks.residual(tmp_path / "model.onnx", 2)
        assert onnx.load(model).ir_version > 2
        events: list[Event] = []
        folder = tmp_path / "out"
        folder.mkdir()
        outcome = own.run(spec(model, folder), on_event=events.append, cancel=threading.Event())
        assert outcome.status is Status.DONE, outcome.error
        kept = {child.process.pid for child in own.idle()}
        heavy = next(pid for pid, found in before.items() if "tensorflow" in found)
        light = next(pid for pid, found in before.items() if "tensorflow" not in found)
        assert heavy in kept
        assert light not in kept
    finally:
        own.close()
