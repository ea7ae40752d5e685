"""Every way in which a job's process can end, with real processes: the class is right and nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from folding.progress import Event
from service.runner import process
from service.runner.base import Crash, JobLimits, Status
from service.runner.process import ProcessRunner
from tests.process.security.conftest import MIB, Run, configured, run_act


def processes_of(runner: ProcessRunner) -> set[int]:
    """Processes that run as children of the pool (their command names the module)."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, ValueError):
                continue
            if b"service.runner.child" in command and parent == os.getpid():
                found.add(int(entry.name))
    return found


def test_success_moves_the_artifact_out(run: Run, tmp_path: Path) -> None:
    outcome = run("succeed")
    assert outcome.status is Status.DONE
    assert outcome.artifact == tmp_path / "out" / "model.onnx"
    assert outcome.artifact.read_bytes() == b"artifact"
    assert outcome.report is not None


@pytest.mark.parametrize(
    ("act", "crash"),
    [
        ("segfault", Crash.SIGNAL),
        ("abort", Crash.SIGNAL),
        ("leave", Crash.SIGNAL),
        ("bad_alloc", Crash.MEMORY),
        ("kill_itself", Crash.MEMORY),
        ("memory", Crash.MEMORY),
        ("map_memory", Crash.MEMORY),
    ],
)
def test_crash_class(run: Run, act: str, crash: Crash) -> None:
    outcome = run(act)
    assert (outcome.status, outcome.crash) == (Status.CRASHED, crash)


@pytest.mark.parametrize("act", ["sleep", "spin", "threads"])
def test_wall_clock_ends_it_within_5_seconds_of_the_limit(run: Run, act: str) -> None:
    began = time.monotonic()
    outcome = run(act, limits=JobLimits(wall_seconds=1.0))
    assert (outcome.status, outcome.crash) == (Status.CRASHED, Crash.TIMEOUT)
    assert time.monotonic() - began < 1.0 + 5.0


def test_cpu_seconds_end_it(run: Run) -> None:
    """What the process used for its imports is not the job's."""
    outcome = run("spin", limits=JobLimits(wall_seconds=20, cpu_seconds=1))
    assert (outcome.status, outcome.crash) == (Status.CRASHED, Crash.TIMEOUT)
    assert 0.5 < outcome.cpu_seconds < 3.0, "what it cost is told, its imports are not"


def test_memory_stays_within_a_tenth_of_the_cap(run: Run) -> None:
    cap = 300 * MIB
    outcome = run("memory", limits=JobLimits(wall_seconds=20, memory_bytes=cap))
    assert outcome.crash is Crash.MEMORY
    assert outcome.peak_rss <= cap * 1.1


def test_disk_limit_is_the_jobs_own_fault(run: Run) -> None:
    outcome = run("fill_disk", limits=JobLimits(wall_seconds=30, disk_bytes=64 * MIB))
    assert outcome.status is Status.ERROR
    assert outcome.written_bytes > 60 * MIB
    assert outcome.error is not None
    assert outcome.error["code"] == "unsafe_disk_use"


@pytest.mark.parametrize("act", ["deep_and_waiting", "many_files", "thread_bomb"])
def test_what_no_conversion_does_ends_it(run: Run, act: str) -> None:
    began = time.monotonic()
    outcome = run(act, limits=JobLimits(wall_seconds=150, disk_bytes=1 << 30))
    assert (outcome.status, outcome.crash) == (Status.CRASHED, Crash.SANDBOX)
    assert time.monotonic() - began < 140


def test_folders_that_may_not_be_listed_hide_nothing(run: Run) -> None:
    outcome = run("hidden_bytes", limits=JobLimits(wall_seconds=60, disk_bytes=64 * MIB))
    assert outcome.crash is Crash.SANDBOX or (outcome.error or {}).get("code") == "unsafe_disk_use"


def test_the_disk_is_never_taken_whole(run: Run, tmp_path: Path) -> None:
    """Neither by a limit above what is free, nor in one call."""
    outcome = run("reserve_disk", limits=JobLimits(wall_seconds=5, disk_bytes=1 << 60))
    assert outcome.status in (Status.CRASHED, Status.ERROR)
    assert shutil.disk_usage(tmp_path).free > 0


def test_a_job_stays_in_its_group(run: Run, tmp_path: Path) -> None:
    assert run("escape_group").artifact is not None


@pytest.mark.parametrize("act", ["fifo_report", "folder_report", "large_report"])
def test_only_a_file_of_a_sensible_size_is_taken_out(run: Run, act: str) -> None:
    outcome = run(act)
    assert outcome.status is not Status.DONE
    assert outcome.artifact is None


def test_an_error_is_cut_to_what_can_be_kept(run: Run) -> None:
    outcome = run("large_error")
    assert outcome.status is Status.ERROR
    assert outcome.error is not None
    text = json.dumps(outcome.error, ensure_ascii=False)
    assert len(text.encode()) < 100_000  # also: no lone surrogate
    assert "\0" not in outcome.error["message"]
    assert outcome.error["code"] == "unsafe_model"


def test_a_message_of_brackets_is_passed_over(run: Run) -> None:
    assert run("deep_message").status is Status.DONE


def test_cancel_kills_it_at_once(run: Run) -> None:
    cancel = threading.Event()
    threading.Timer(0.5, cancel.set).start()
    began = time.monotonic()
    outcome = run("sleep", cancel=cancel)
    assert outcome.status is Status.CANCELLED
    assert time.monotonic() - began < 3.0


def test_a_listener_that_raises_ends_it(run: Run) -> None:
    def refuse(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("sleep", on_event=refuse)


def test_an_error_is_no_crash(run: Run) -> None:
    outcome = run("error")
    assert outcome.status is Status.ERROR
    assert outcome.error is not None
    assert outcome.error["code"] == "unsafe_op"


def test_a_forged_error_has_our_shape(run: Run) -> None:
    outcome = run("forged_error")
    assert outcome.status is Status.ERROR
    assert outcome.error is not None
    assert outcome.error["class"] == "InternalError"
    assert set(outcome.error) == {"class", "code", "message", "hint", "stage", "layer", "details"}


@pytest.mark.parametrize("act", ["flood", "chatter"])
def test_noise_does_no_harm(run: Run, act: str) -> None:
    assert run(act).status is Status.DONE


def test_a_flood_does_not_stop_the_clock(run: Run) -> None:
    """S6: a limit of 5 seconds became 26, because each word cost the parent a row in a table."""
    began = time.monotonic()
    outcome = run(
        "endless_flood", limits=JobLimits(wall_seconds=1.0), on_event=lambda event: time.sleep(0.01)
    )
    assert (outcome.status, outcome.crash) == (Status.CRASHED, Crash.TIMEOUT)
    assert outcome.wall_seconds < 1.0 + 5.0
    assert time.monotonic() - began < 60


def test_a_flood_can_be_cancelled(run: Run) -> None:
    cancel, asked = threading.Event(), []

    def listen(event: Event) -> None:
        time.sleep(0.01)
        if not cancel.is_set() and len(asked) < 50:
            asked.append(event)
            if len(asked) == 50:
                cancel.set()
                asked.append(event)
        elif cancel.is_set():
            asked.append(event)

    assert run("endless_flood", cancel=cancel, on_event=listen).status is Status.CANCELLED
    assert len(asked) < 60  # not one for each word that was on its way


def test_nonsense_is_an_error_without_words(run: Run) -> None:
    outcome = run("nonsense", limits=JobLimits(wall_seconds=60))
    assert outcome.status is Status.ERROR


def test_an_endless_line_ends_the_process(run: Run) -> None:
    outcome = run("endless_line")
    assert outcome.status is Status.CRASHED


def test_a_link_is_never_published(run: Run) -> None:
    outcome = run("link_artifact")
    assert outcome.status is not Status.DONE
    assert outcome.artifact is None


def test_a_link_is_refused_by_the_parent_too(tmp_path: Path) -> None:
    """The second line of defence, with the first one off."""
    scratch = tmp_path / "scratch"
    open_runner = ProcessRunner(configured(scratch, layers=("rlimits",), allow_unsandboxed=True))
    open_runner.start()
    try:
        assert open_runner.level() == "none"
        for act in ("link_artifact", "folder_artifact"):
            outcome = run_act(open_runner, tmp_path, act)
            assert outcome.status is Status.ERROR
            assert outcome.error is not None
            assert outcome.error["code"] == "sandbox_violation"
            assert outcome.artifact is None
    finally:
        open_runner.close()


def test_level_none_refuses_to_start(tmp_path: Path) -> None:
    open_runner = ProcessRunner(configured(tmp_path, layers=()))
    with pytest.raises(process.SandboxUnavailable, match="canary escaped"):
        open_runner.start()


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    own = ProcessRunner(configured(scratch))
    own.start()
    for act in ("succeed", "segfault", "sleep", "deep_folders", "hidden_bytes"):
        run_act(own, tmp_path, act, limits=JobLimits(wall_seconds=1))
    own.close()
    deadline = time.monotonic() + 60  # a process that was being warmed ends when it is warm
    while (own.making() or list(scratch.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(scratch.iterdir()) == []


def test_an_idle_process_that_died_is_replaced(tmp_path: Path) -> None:
    own = ProcessRunner(configured(tmp_path / "scratch"))
    own.start()
    while not own.idle():
        time.sleep(0.05)
    (waiting,) = own.idle()
    waiting.kill()
    waiting.process.wait()
    assert run_act(own, tmp_path, "succeed").status is Status.DONE
    own.close()


def test_the_runner_dies_with_its_parent(tmp_path: Path) -> None:
    """SIGKILL of the worker leaves no process behind."""
    import signal
    import subprocess
    import sys

    code = (
        "import sys, time, pathlib\n"
        "from tests.process.security.conftest import configured, run_act\n"
        "from service.runner.process import ProcessRunner\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "runner = ProcessRunner(configured(folder / 'scratch'))\n"
        "runner.start()\n"
        "run_act(runner, folder, 'spin', on_event=lambda e: print(flush=True))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()
    children = Path(f"/proc/{parent.pid}/task").glob("*/children")
    pids = [int(pid) for each in children for pid in each.read_text().split()]
    assert pids
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while any(_runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in pids)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
