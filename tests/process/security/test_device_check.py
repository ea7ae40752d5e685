"""Which layer or library keeps a device away is found out in real runners; no device is needed for that."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from folding.errors import TemporaryFailure
from service.cli import doctor
from service.runner import device_check
from service.runner.base import Crash, JobSpec, Status
from service.runner.device_check import DeviceState, check_device
from service.runner.jail import landlock, seccomp
from service.runner.local import wants_device
from service.runner.memory import MemoryRunner
from service.runner.pools import PoolRunner
from tests.process.security.conftest import configured
from tests.support.deployment import eventually

needs_sandbox = pytest.mark.skipif(
    landlock.abi() < 3 or not seccomp.supported(), reason="needs Landlock of ABI 3, and seccomp"
)


def checked(tmp_path: Path, provider: str) -> DeviceState:
    return check_device(configured(tmp_path), provider, "tests.process.security.fake_device")


@needs_sandbox
@pytest.mark.parametrize(
    ("provider", "layers", "words"),
    [
        ("works", (), ""),
        ("needs_files", ("landlock",), "the sandbox keeps it from the device (landlock)"),
        ("needs_sockets", ("seccomp",), "the sandbox keeps it from the device (seccomp)"),
        ("needs_library", (), "without the sandbox as well: needs_library: libcublasLt.so.99"),
        ("dies", (), "without the sandbox as well: the process ended"),
    ],
)
def test_the_reason_names_the_layer_or_the_library(
    tmp_path: Path, provider: str, layers: tuple[str, ...], words: str
) -> None:
    state = checked(tmp_path, provider)
    assert state.ok is (provider == "works")
    assert state.layers == layers
    assert words in state.detail


@needs_sandbox
def test_the_real_test_runs_in_a_real_runner(tmp_path: Path) -> None:
    """The CPU stands for a device that works: one session, inside the sandbox of CUDA runners."""
    assert check_device(configured(tmp_path), "cpu") == DeviceState(True)


def test_a_machine_without_the_provider_says_so(tmp_path: Path) -> None:
    from folding.ort import runtime

    if "CUDAExecutionProvider" in runtime().get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    state = check_device(configured(tmp_path, layers=()), "cuda")
    assert not state.ok
    assert "no CUDAExecutionProvider" in state.detail


def test_doctor_tells_what_a_session_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from folding.ort import runtime

    monkeypatch.setattr(
        runtime(), "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    for state, wanted in ((DeviceState(True), "ok"), (DeviceState(False, "cuInit returned 304"), "warn")):
        monkeypatch.setattr(device_check, "check_device", lambda config, found=state: found)
        check = doctor.check_cuda()
        assert check is not None
        assert (check.state, state.detail in check.found) == (wanted, True)
    assert "cuda: installed" in doctor.check_providers().found


class _Refusing(MemoryRunner):
    def start(self) -> None:
        raise TemporaryFailure("No sandbox here.", code="sandbox_unavailable")


def _spec(tmp_path: Path, pool: str) -> JobSpec:
    (tmp_path / "in").write_text("{}")
    return JobSpec("j", "inspect", tmp_path / "in", tmp_path, pool=pool)


def test_a_pool_that_cannot_is_not_offered_until_it_can(tmp_path: Path) -> None:
    states = [DeviceState(False, "libcudnn.so.9 is missing"), DeviceState(False, "still"), DeviceState(True)]
    runner = PoolRunner(
        {"cpu": MemoryRunner(), "cuda": MemoryRunner()}, {"cuda": lambda: states.pop(0)}, again_seconds=0.05
    )
    runner.start()
    assert runner.offered() == ["cpu"]
    assert "missing" in runner.problems()["cuda"] or states == []
    refused = runner.run(_spec(tmp_path, "cuda"), on_event=lambda e: None, cancel=threading.Event())
    if refused.status is not Status.DONE:
        assert refused.crash is Crash.START
    eventually(lambda: runner.offered() == ["cpu", "cuda"], 20, "it works in the end")
    assert runner.problems() == {}
    done = runner.run(_spec(tmp_path, "cuda"), on_event=lambda e: None, cancel=threading.Event())
    assert done.status is Status.DONE
    runner.close()


def test_a_device_pool_that_cannot_start_leaves_the_others(tmp_path: Path) -> None:
    runner = PoolRunner({"cpu": MemoryRunner(), "cuda": _Refusing()}, {"cuda": lambda: DeviceState(True)})
    runner.start()
    assert runner.offered() == ["cpu"]
    assert runner.problems() == {"cuda": "No sandbox here."}
    runner.close()
    with pytest.raises(TemporaryFailure):
        PoolRunner({"cpu": _Refusing()}, {}).start()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"providers": ["cpu"]}, False),
        ({"providers": ["cpu", "cuda"]}, True),
        ({"providers": ["cpu"], "require": ["CUDAExecutionProvider"]}, True),
        ({"providers": ["tensorrt"]}, True),
        ({}, False),
    ],
)
def test_the_command_opens_the_sandbox_for_jobs_that_name_a_device(
    options: dict[str, list[str]], wanted: bool
) -> None:
    assert wants_device(options) is wanted
