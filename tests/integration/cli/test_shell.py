"""Completion in the shells themselves, and manual pages as `man` reads them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli import manual
from service.cli.app import app
from tests.support.paths import ROOT

LINES = [
    ("bnfold fo", "fold"),
    ("bnfold fold --provid", "--provider"),
    ("bnfold explain never_u", "never_updated"),
    ("bnfold keys cre", "create"),
    ("bnfold fold mod", "model.onnx"),
]
ZSH = """
zmodload zsh/zpty
zpty -b shell zsh -f -i
zpty -w shell 'PS1=""; autoload -Uz compinit; compinit -u -D; eval "$(bnfold completion zsh)"; print RE""ADY'
expect() {
  local out all=""
  repeat 300 {
    while zpty -r -t shell out; do all+=$out; done
    [[ $all == *$1* ]] && { print -r -- "$all"; return }
    sleep 0.1
  }
  print -r -- "$all"
  exit 1
}
expect READY >/dev/null
zpty -n -w shell "$1"$'\\t'
expect "$2"
"""


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment with `bnfold` on the path and nothing of the user's."""
    tools = tmp_path / "bin"
    tools.mkdir()
    script = tools / "bnfold"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m service.cli "$@"\n')
    script.chmod(0o755)
    (tmp_path / "model.onnx").touch()
    root = str(ROOT)
    return {**os.environ, "HOME": str(tmp_path), "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": root}


def shell(name: str, *args: str, home: dict[str, str]) -> str:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run(
        [name, *args], env=home, cwd=home["HOME"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_bash_completes(home: dict[str, str]) -> None:
    # File names come from bash itself (-o default) when nothing else fits.
    code = 'eval "$(bnfold completion bash)"\n' + "".join(
        f"COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
        "_bnfold_completion bnfold; echo ${COMPREPLY[*]}\n"
        for line, _ in LINES[:-1]
    )  # fmt: skip
    shown = shell("bash", "--norc", "-c", code, home=home).splitlines()
    assert [word in line.split() for (_, word), line in zip(LINES[:-1], shown, strict=True)] == [True] * 4


def test_fish_completes(home: dict[str, str]) -> None:
    code = "bnfold completion fish | source\n" + "".join(f"complete -C '{line}'\n" for line, _ in LINES)
    shown = shell("fish", "--no-config", "-c", code, home=home)
    assert [word in shown for _, word in LINES] == [True] * 5, shown


@pytest.mark.parametrize(("line", "word"), [LINES[0], LINES[2], LINES[4]])
def test_zsh_completes(home: dict[str, str], line: str, word: str) -> None:
    assert word in shell("zsh", "-f", "-c", ZSH, "zsh", line, word, home=home)


def test_a_shell_that_nobody_knows(home: dict[str, str]) -> None:
    done = subprocess.run(
        ["bnfold", "completion", "csh"], env=home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "bash" in done.stderr


PATHS = [path for path, _ in manual.commands(app)]


@pytest.mark.parametrize("path", PATHS)
def test_a_manual_page_has_its_sections_and_no_trouble(path: str) -> None:
    text = manual.page(path, dict(manual.commands(app))[path])
    sections = [line[4:] for line in text.splitlines() if line.startswith(".SH ")]
    assert sections[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert "EXIT STATUS" in sections
    if path not in ("bnfold keys", "bnfold"):
        assert "EXAMPLES" in sections or path.startswith("bnfold keys"), path
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed: the page was not set")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww"], input=text, capture_output=True, text=True, check=True
    )
    assert done.stderr == "", "roff complains"
    assert "[bold]" not in done.stdout


def test_all_pages_are_written(home: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        ["bnfold", "man", "--to", "man1", "--json"],
        env=home,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(json.loads(done.stdout)["written"]) == len(PATHS)
    assert (tmp_path / "man1" / "bnfold-keys-create.1").read_text().startswith('.TH "BNFOLD-KEYS-CREATE" "1"')


def test_a_page_that_is_not_there(home: dict[str, str]) -> None:
    done = subprocess.run(["bnfold", "man", "nothing"], env=home, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no command 'bnfold nothing'" in done.stderr
