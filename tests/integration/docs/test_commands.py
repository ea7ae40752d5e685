"""Every command that the documentation shows is run: each page from its top, as a reader would."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.doc_pages import Block, blocks, looks_like_a_command, markdown
from tests.support.live import Live, live_service
from tests.support.paths import ROOT

ADDRESS = "http://127.0.0.1:8750"
LANGUAGES = {"sh", "text", "python", "yaml", "json", "xml", "toml", "promql", "mermaid", "ini", "dockerfile"}
# `make test` inside the suite would start itself; the rest of README's two commands is run below.
NOT_HERE = {"make test": "it is what runs this test"}
# These write nothing: a line that succeeded on one page is not run again on the next.
READS = re.compile(r"bnfold (inspect|explain|doctor)( [^ -]\S*)?")
_succeeded: set[str] = set()
PAGES = [page for page in markdown() if any(b.language == "sh" for b in blocks(page))]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_service(tmp_path_factory.mktemp("docs")) as service:
        yield service


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    """A folder like a fresh clone, as far as the pages use it."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("deploy", "docker-compose.yml", "Makefile", "pyproject.toml", "constraints", "scripts"):
        source = ROOT / name
        if source.exists():
            (tmp_path / name).symlink_to(source)
    return tmp_path


def environment(url: str, folder: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BNFOLD_")}
    kept["PATH"] = f"{Path(sys.executable).parent}:{kept['PATH']}"
    state = {"XDG_STATE_HOME": str(folder / ".state"), "XDG_CONFIG_HOME": str(folder / ".config")}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "ORT_DISABLE_TELEMETRY": "1", "CUDA_VISIBLE_DEVICES": ""}
    return kept | state | quiet | {"BNFOLD_URL": url, "BNFOLD_WARM_FORMATS": "onnx"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands(page: Path, reader: Path, live: Live, request: pytest.FixtureRequest) -> None:
    ran, left, started = 0, [], []
    url = live.url
    try:
        for block in blocks(page):
            if block.language != "sh":
                continue
            if block.not_run:
                left.append(f"{block}: {block.not_run}")
                continue
            if block.background:
                url = f"http://127.0.0.1:{free_port()}"
                started.append(start(block, reader, url))
                continue
            run(block, reader, url)
            ran += 1
    finally:
        for process in started:
            stop(process)
    for reason in left:
        print(f"not run: {reason}")
    if not ran:
        pytest.skip("; ".join(left))


def run(block: Block, folder: Path, url: str) -> None:
    """One block as a script of its own; the first failing command ends it."""
    known = NOT_HERE.keys() | _succeeded
    lines = [line for line in block.text.splitlines() if line.strip() not in known]
    text = "\n".join(lines)
    text = text.replace("make demo", f"{sys.executable} {ROOT}/examples/demo.py")
    script = text.replace(ADDRESS, url)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment(url, folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == block.exit_code, f"{block}\n{script}\n--- {done.returncode}\n{done.stdout}"
    _succeeded.update(line.strip() for line in lines if READS.fullmatch(line.strip()))


def start(block: Block, folder: Path, url: str) -> subprocess.Popen[bytes]:
    """A block that serves; its default port is made a free one."""
    env = environment(url, folder) | {"BNFOLD_PORT": url.rsplit(":", 1)[1]}
    process = subprocess.Popen(["bash", "-c", f"exec {block.text.strip()}"], cwd=folder, env=env)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{block} ended at once"
        try:
            if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return process
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    stop(process)
    raise AssertionError(f"{block} was not ready within a minute")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("page", markdown(), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_command_hides_from_this_test(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block}: language {block.language!r}"
        if block.language != "sh" and "reference" not in block.page:
            assert not looks_like_a_command(block), f"{block} shows a command: make it a `sh` block"
        if block.note.startswith("not run"):
            assert len(block.not_run) > 10, f"{block}: say why it is not run"


def test_readme_names_the_test_command() -> None:
    assert "make test" in (ROOT / "README.md").read_text()
    assert "make test" in (ROOT / ".ci" / "run").read_text()
