"""The canary tells the truth at every level that this machine can offer; the jail lets nothing through."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from service.runner.base import Status
from service.runner.children.launch import start_child
from service.runner.jail import bubblewrap, canary, landlock, seccomp
from service.runner.jail.canary import Trap, level_of
from service.runner.jail.sandbox import LAYERS
from service.runner.process import ProcessRunner
from tests.process.security.conftest import configured, run_act

needs_landlock = pytest.mark.skipif(
    landlock.abi() < 3, reason="this kernel has no Landlock of ABI 3 or newer"
)
needs_seccomp = pytest.mark.skipif(not seccomp.supported(), reason="no system call numbers for this machine")


def started(
    tmp_path: Path, layers: tuple[str, ...], *, wrapped: bool = False
) -> tuple[str, dict[str, str | None]]:
    child = start_child(configured(tmp_path, layers=layers), wrapped=wrapped, modules=())
    try:
        return child.level, child.canary
    finally:
        child.close()


def grouped_by_session() -> bool:
    enabled = Path("/proc/sys/kernel/sched_autogroup_enabled")
    return enabled.exists() and enabled.read_text().strip() == "1"


def escaped(results: dict[str, str | None]) -> set[str]:
    return {name for name, what in results.items() if what is not None}


def test_there_are_at_least_20_acts() -> None:
    assert len({**canary.FILES, **canary.PROCESSES, **canary.LIMITS}) >= 20


@needs_landlock
@needs_seccomp
def test_strong_lets_nothing_through(tmp_path: Path) -> None:
    level, results = started(tmp_path, LAYERS)
    assert (level, escaped(results)) == ("strong", {"namespaces"})


@needs_landlock
@needs_seccomp
def test_full_has_namespaces_of_its_own(tmp_path: Path) -> None:
    if not bubblewrap.available():
        pytest.skip("bubblewrap is not installed")
    try:
        level, results = started(tmp_path, LAYERS, wrapped=True)
    except Exception as error:  # noqa: BLE001
        pytest.skip(f"bubblewrap does not work here: {error}")
    assert (level, escaped(results)) == ("full", set())


@needs_landlock
def test_without_seccomp_it_is_partial(tmp_path: Path) -> None:
    level, results = started(tmp_path, ("rlimits", "privileges", "landlock"))
    assert level == "partial"
    assert not escaped(results) & set(canary.FILES)
    assert {"fork", "exec"} <= escaped(results)


@needs_seccomp
def test_without_landlock_it_is_partial(tmp_path: Path) -> None:
    level, results = started(tmp_path, ("rlimits", "privileges", "seccomp"))
    assert level == "partial"
    assert not escaped(results) & set(canary.PROCESSES)
    assert {"read_outside", "create_outside"} <= escaped(results)


def test_limits_alone_are_none(tmp_path: Path) -> None:
    assert started(tmp_path, ("rlimits",))[0] == "none"


def test_without_limits_it_is_none(tmp_path: Path) -> None:
    level, results = started(tmp_path, ("privileges", "landlock", "seccomp"))
    assert level == "none"
    assert "take_memory" in escaped(results)


def test_nothing_at_all_is_none(tmp_path: Path) -> None:
    level, results = started(tmp_path, ())
    assert level == "none"
    assert len(escaped(results)) > 20


def test_evidence_on_the_parents_side_lowers_the_level() -> None:
    clean: dict[str, str | None] = dict.fromkeys({**canary.FILES, **canary.PROCESSES, **canary.LIMITS})
    assert level_of({**clean, "namespaces": None}, []) == "full"
    assert level_of(clean, ["a tcp connection came in"]) != "full"
    assert level_of({}, []) == "none"


@needs_landlock
@needs_seccomp
@pytest.mark.parametrize("wrapped", [False, True])
def test_nothing_escapes_later_either(tmp_path: Path, wrapped: bool) -> None:
    """The same acts from inside a job, after the imports, against a trap of its own."""
    if wrapped and not bubblewrap.available():
        pytest.skip("bubblewrap is not installed")
    runner = ProcessRunner(configured(tmp_path / "scratch", bubblewrap=wrapped))
    runner.start()
    with Trap.set_up() as trap:
        probe = tmp_path / "facts.json"
        probe.write_text(json.dumps(trap.facts()))
        outcome = run_act(runner, tmp_path, "try_everything", probe=probe)
        assert outcome.status is Status.DONE, outcome
        assert outcome.artifact is not None
        results = json.loads(outcome.artifact.read_text())
        assert escaped(results) - {"namespaces"} == set()
        assert trap.sprung() == []
    runner.close()


@needs_seccomp
def test_no_environment_gets_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    child = start_child(configured(tmp_path), wrapped=False, modules=())
    try:
        held = Path(f"/proc/{child.process.pid}/environ")
        if os.access(held, os.R_OK):
            assert b"do-not-tell" not in held.read_bytes()
        from service.runner.config import environment

        assert "AWS_SECRET_ACCESS_KEY" not in environment(child.folder, cuda=False)
    finally:
        child.close()


@pytest.mark.skipif(not grouped_by_session(), reason="this kernel does not share processors out by session")
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_runner_steps_back_for_the_service(tmp_path: Path, wrapped: bool) -> None:
    """Its session too: niceness counts only within one where the kernel shares out by session."""
    if wrapped and not bubblewrap.available():
        pytest.skip("bubblewrap is not installed")
    # Empty for a process of no session but the machine's first, as one that continuous integration starts.
    own = Path("/proc/self/autogroup").read_text(), os.getpriority(os.PRIO_PROCESS, 0)
    child = start_child(configured(tmp_path, nice=7), wrapped=wrapped, modules=())
    try:
        for pid in child.pids():
            assert Path(f"/proc/{pid}/autogroup").read_text().split()[-2:] == ["nice", "7"]
        assert os.getpriority(os.PRIO_PROCESS, child.pids()[-1]) == min(19, own[1] + 7)
        assert (Path("/proc/self/autogroup").read_text(), os.getpriority(os.PRIO_PROCESS, 0)) == own
    finally:
        child.close()
