"""The command as a process: help, exit codes, JSON on stdout alone, and never a traceback."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli import failures, run
from tests.support.paths import ROOT

COMMANDS = [
    "inspect", "fold", "verify", "check", "bundle", "serve", "worker", "submit", "status", "pull", "release",
    "doctor", "keys", "explain", "completion", "man",
]  # fmt: skip


def bnfold(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from service.cli import main; main()", *args],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "100", **environment},
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_and_gives_examples(command: str) -> None:
    done = bnfold(command, "--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 5
    subcommands = command == "keys"
    assert subcommands or "Example" in done.stdout, "a help page without an example"


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom service.cli import run\nrun(['--help'])\n"
        "heavy = {'numpy', 'onnx', 'tensorflow', 'onnxruntime', 'fastapi', 'pydantic', 'httpx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert done.stdout.splitlines()[-1] == "[]"
    # Processor time: what else runs on the machine counts little. 0.15 s when it is idle.
    assert seconds < 1.5, f"--help took {seconds:.2f} s of processor time"


def test_version() -> None:
    done = bnfold("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("bnfold 0")


USAGE = [
    ([], 2, "Usage"),
    (["fold"], 2, "Missing"),
    (["frobnicate"], 2, "frobnicate"),
    (["fold", "nothing.h5", "-o", "x.onnx"], 2, "no such model"),
    (["fold", "pyproject.toml", "-o", "no/such/folder/x.onnx"], 2, "no such folder"),
    (["fold", "pyproject.toml", "-o", "x.onnx", "--recalibrate"], 2, "needs data"),
    (["fold", "pyproject.toml", "-o", "x.onnx", "--opset", "3"], 2, "opset"),
    (["fold", "pyproject.toml", "-o", "x.onnx", "--feed", "nonsense"], 2, "NAME=VALUE"),
    (["fold", "pyproject.toml", "-o", "x.onnx", "--probe", "pyproject.toml"], 2, "npz"),
    (["verify", "pyproject.toml", "gone.onnx"], 2, "gone.onnx"),
    (["explain", "never_update"], 2, "never_updated"),
]


@pytest.mark.parametrize(
    ("args", "code", "words"), USAGE, ids=lambda v: " ".join(v) if isinstance(v, list) else None
)
def test_usage_errors(args: list[str], code: int, words: str) -> None:
    done = bnfold(*args)
    assert done.returncode == code, done.stderr
    assert words in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout


def test_errors_are_json_under_json() -> None:
    done = bnfold("fold", "nothing.h5", "-o", "x.onnx", "--json")
    body = json.loads(done.stdout)
    assert body["exit_code"] == done.returncode == 2
    assert body["error"]["code"] == "usage"
    assert body["error"]["hint"]


@pytest.mark.parametrize("flag", ["--json", "--quiet"])
def test_explain_output(flag: str) -> None:
    done = bnfold("explain", "lagging", flag)
    assert done.returncode == 0
    assert done.stderr == ""
    if flag == "--json":
        assert json.loads(done.stdout)[0]["code"] == "lagging"
    else:
        assert done.stdout == ""


def test_explain_lists_every_code() -> None:
    from folding.errors import catalogue

    done = bnfold("explain")
    listed = {line.split()[0] for line in done.stdout.splitlines()[1:]}
    assert listed == {entry.code for entry in catalogue.entries()}


def test_unknown_exceptions_become_messages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    try:
        raise ZeroDivisionError("a secret detail")
    except ZeroDivisionError as error:
        code = failures.explain(error, ["fold"])
    assert code == 75
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    log = next((tmp_path / "bnfold").glob("crash-*.log"))
    assert str(log) in shown
    assert "ZeroDivisionError" in log.read_text()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 5),
        (FileNotFoundError(2, "No such file", "x"), 2),
        (OSError(28, "No space", "x"), 75),
    ],
)
def test_exit_codes_of_python_errors(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failures.explain(error, []) == code
    assert "what to do" in capsys.readouterr().err or code == 5


def test_names_cannot_talk_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "\x1b]0;gotcha\x07\n\u202e"]) == 2
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_a_reader_that_leaves_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -c 'from service.cli import main; main()' explain | head -1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.startswith("CODE")


def test_completion_answers_with_commands() -> None:
    done = bnfold(_BNFOLD_COMPLETE="complete_bash", COMP_WORDS="bnfold ins", COMP_CWORD="1")
    assert "inspect" in done.stdout


def in_a_terminal(*args: str, columns: int = 100) -> str:
    """What a person sees in a terminal so wide."""
    import fcntl
    import pty
    import struct
    import termios

    main, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "service.cli", *args],
        stdout=child,
        stderr=child,
        env={**kept, "TERM": "xterm"},
    )
    os.close(child)
    shown = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:  # how a pseudo-terminal says that the other side has gone
            break
        if not piece:
            break
        shown += piece
    assert process.wait(timeout=60) == 0
    os.close(main)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "")


def test_a_terminal_gets_lines_drawn() -> None:
    """The same table in a terminal and in a pipe: the same words, drawn only for people."""
    shown = in_a_terminal("explain")
    assert "─" in shown
    assert "never_updated" in shown
    assert "─" not in bnfold("explain").stdout


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_a_narrow_terminal_loses_nothing(columns: int) -> None:
    checkpoint = str(ROOT / "examples" / "tf1_checkpoint")
    shown = in_a_terminal("inspect", checkpoint, columns=columns)
    words = shown.split()
    for name in ("batch_normalization", "batch_normalization_4", "channels", "amplification", "ok"):
        assert name in [word.rstrip(",") for word in words], f"{name} is cut or left out"
    assert "--feed is_training:0=VALUE" in " ".join(words)
    assert re.search(r"sha256:[0-9a-f]{64}\b", shown), "a digest is broken"


def test_native_chatter_is_kept_away(capfd: pytest.CaptureFixture[str]) -> None:
    from service.cli import native

    with native.quiet():
        os.write(2, b"I0000 oneDNN custom operations are on\n")
        print("ours", file=sys.stderr)
    os.write(2, b"afterwards\n")
    shown = capfd.readouterr().err
    assert "oneDNN" not in shown
    assert "afterwards" in shown
