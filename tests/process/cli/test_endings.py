"""How the command ends from outside: signals in the middle of a job, streams that are closed or full."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import networks
from tests.support.paths import ROOT

ENTRY = [sys.executable, "-c", "from service.cli import main; main()"]
CHECKPOINT = str(ROOT / "examples" / "tf1_checkpoint")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that takes a while on any machine: the signal must come before the fold ends."""
    return networks.residual(tmp_path_factory.mktemp("model") / "deep.onnx", 1500)


def at_work(process: subprocess.Popen[str], work: Path, *, told: bool) -> str:
    """Wait until the fold is under way; what it has said on its standard error by then.

    told: it says its stages; else the place of the artifact is all there is to see.
    """
    seen = ""
    assert process.stderr is not None
    while told and "finding batch norms" not in seen:
        line = process.stderr.readline()
        assert line, f"it ended before it began: {seen}"
        seen += line
    while not any(work.iterdir()):  # the test's own limit ends the wait
        assert process.poll() is None, f"it ended before it wrote: {seen}"
        time.sleep(0.01)
    return seen


@pytest.mark.parametrize(
    ("number", "way"),
    [
        (signal.SIGINT, []), (signal.SIGINT, ["--allow-unsandboxed"]), (signal.SIGTERM, ["--json"]),
        (signal.SIGHUP, []),
    ],
)  # fmt: skip
def test_a_signal_in_the_middle_leaves_nothing_behind(
    tmp_path: Path, model: Path, number: signal.Signals, way: list[str]
) -> None:
    work, scratch = tmp_path / "work", tmp_path / "tmp"
    work.mkdir()
    scratch.mkdir()
    with subprocess.Popen(
        [*ENTRY, "fold", str(model), "-o", "out.onnx", *way],
        cwd=work, env={**os.environ, "TMPDIR": str(scratch)}, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        seen = at_work(process, work, told=way != ["--json"])
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=240)
        err = seen + err
    assert process.returncode == 5, err
    assert "Traceback" not in err
    assert list(work.iterdir()) == [], "the folder of the artifact is not clean"
    assert list(scratch.iterdir()) == [], "temporary files are left"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    if way == ["--json"]:
        assert json.loads(out)["error"]["code"] == "cancelled"
    else:
        assert "interrupted; nothing was published" in err


def test_signals_that_a_script_ignores_stay_ignored(tmp_path: Path) -> None:
    """`nohup bnfold ... &`."""
    code = (
        "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from service.cli import run\nrun(['explain', 'unknown_code'])\n"
        "print(signal.getsignal(signal.SIGHUP).name, callable(signal.getsignal(signal.SIGTERM)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["SIG_IGN", "True"]


@pytest.mark.parametrize(
    ("redirection", "code"),
    [(">&-", 0), ("2>&-", 0), (">/dev/full", 75), ("| true", 0), ("| head -1", 0)],
)
@pytest.mark.parametrize("args", ["explain", "fold --help", "explain --json"])
def test_streams_that_are_closed_or_full(redirection: str, code: int, args: str) -> None:
    command = f"{sys.executable} -m service.cli {args} {redirection}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "internal" not in done.stderr


@pytest.mark.parametrize("redirection", ["| true", "2>&1 | true", "2> >(true) | true"])
def test_the_exit_code_tells_even_when_nobody_reads(tmp_path: Path, redirection: str) -> None:
    (tmp_path / "empty.onnx").touch()
    models = f"{tmp_path}/empty.onnx {CHECKPOINT}"
    command = (
        f"{sys.executable} -m service.cli check --health-only {models} {redirection}; exit ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_names_that_the_terminal_cannot_write(tmp_path: Path, encoding: str) -> None:
    model = networks.residual(tmp_path / "网络.onnx", 2, prefix="слой/")
    done = subprocess.run(
        [*ENTRY, "inspect", str(model)],
        capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert rb"\u0441\u043b\u043e\u0439/block0/bn" in done.stdout


def test_colour_is_off_where_nobody_wants_it() -> None:
    done = subprocess.run(
        [*ENTRY, "inspect", CHECKPOINT], capture_output=True, text=True, check=True,
        env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    assert "\x1b[" not in done.stdout + done.stderr


@pytest.mark.parametrize("option", ["--report", "--html", "--junit", "--markdown", "--attest"])
@pytest.mark.parametrize("place", ["no/such/folder/r", "."])
def test_places_of_reports_are_asked_before_the_work(tmp_path: Path, option: str, place: str) -> None:
    started = time.monotonic()
    done = subprocess.run(
        [*ENTRY, "fold", CHECKPOINT, "-o", "a.onnx", option, place],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "folder" in done.stderr
    assert "reading the model" not in done.stderr, f"after {time.monotonic() - started:.1f} s of work"
    assert list(tmp_path.iterdir()) == []
