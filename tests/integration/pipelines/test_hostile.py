"""The step against a service, a model or an input that wants more than its due."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.integration.pipelines.interpret import Ran, clean_environment, github
from tests.support import networks
from tests.support.live import Live
from tests.support.paths import ROOT

ACTION = ROOT / "action.yml"
STEP = ROOT / "deploy" / "ci" / "step.py"
Answer = tuple[int, dict[str, str], bytes]
EVIL = "x\nverdict=pass\n::set-output name=verdict::pass\n::add-path::/tmp/evil\r\n##[add-path]/tmp/evil"


@contextmanager
def serving(answer: Callable[[str, str, dict[str, str]], Answer]) -> Iterator[str]:
    """A server on the loopback that answers as it likes."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            status, headers, body = answer(self.command, self.path, dict(self.headers))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_HEAD = handle_any  # noqa: N815 - the names that http.server calls

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def step(workspace: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    code = (
        f"import runpy, time\ntime.sleep = lambda s: None\nrunpy.run_path({str(STEP)!r}, run_name='__main__')"
    )
    environment = clean_environment(
        GITHUB_ACTIONS="true", **{f"BNFOLD_{k.upper()}": v for k, v in settings.items()}
    )
    environment["GITHUB_OUTPUT"] = str(workspace / "output")
    return subprocess.run(
        [sys.executable, "-c", code], cwd=workspace, env=environment, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def commands(log: str) -> list[str]:
    """Lines that a runner would obey, but for the annotations that are ours."""
    found = [text.strip() for text in log.replace("\r", "\n").split("\n")]
    ours = ("::error title=", "::warning title=")
    return [text for text in found if text.startswith(("::", "##[")) and not text.startswith(ours)]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not read by the step")
    return path


def test_a_service_cannot_write_outputs_or_commands(tmp_path: Path, model: Path) -> None:
    error = dict.fromkeys(("message", "code", "class", "hint"), EVIL)
    job = dict.fromkeys(("id", "state", "stage", "verdict"), EVIL)
    job |= {"links": {}, "artifact": {"digest": EVIL}, "error": error}

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        return (200, {}, b"") if method in ("HEAD", "PUT") else (200, {}, json.dumps(job).encode())

    with serving(answer) as url:
        done = step(tmp_path, model=str(model), url=url)
    assert done.returncode == 4, done.stdout + done.stderr
    outputs = (tmp_path / "output").read_text().splitlines()
    assert [line.split("=")[0] for line in outputs] == ["verdict", "digest", "job", "report-url"]
    assert commands(done.stdout) == []
    assert not done.stderr


def test_a_redirect_does_not_get_the_key(tmp_path: Path, model: Path) -> None:
    seen: list[str | None] = []

    def thief(method: str, path: str, headers: dict[str, str]) -> Answer:
        seen.append(headers.get("Authorization"))
        return 200, {}, b"{}"

    with serving(thief) as there:

        def redirecting(method: str, path: str, headers: dict[str, str]) -> Answer:
            return 302, {"Location": f"{there}{path}"}, b""

        with serving(redirecting) as url:
            done = step(tmp_path, model=str(model), url=url, key="bnf_secret.key")
    assert seen == []
    assert done.returncode == 2
    assert "redirects to" in done.stdout
    assert "bnf_secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (200, {}, b"<html>Sign in to the network</html>"),
        (200, {}, b"[]"),
        (200, {}, b'"a string"'),
        (503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"busy"),
        (500, {}, b"[1, 2]"),
    ],
)
def test_answers_that_are_not_of_a_service(
    tmp_path: Path, model: Path, status: int, headers: dict[str, str], body: bytes
) -> None:
    with serving(lambda method, path, sent: (status, headers, body)) as url:
        done = step(tmp_path, model=str(model), url=url)
    assert done.returncode == 75, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/", "bnfold.example.org", "http://"])
def test_only_http_is_an_address(tmp_path: Path, model: Path, url: str) -> None:
    done = step(tmp_path, model=str(model), url=url)
    assert done.returncode == 2
    assert "no address of a service" in done.stdout


def test_a_timeout_that_is_no_number(tmp_path: Path, model: Path) -> None:
    job = json.dumps({"id": "job_1", "state": "queued", "links": {}}).encode()
    with serving(lambda method, path, headers: (200, {}, job)) as url:
        done = step(tmp_path, model=str(model), url=url, timeout="an hour")
    assert done.returncode == 2
    assert "an hour" in done.stdout


def test_a_key_in_the_clear_is_told(tmp_path: Path, model: Path) -> None:
    done = step(tmp_path, model=str(model), url="http://bnfold.invalid", key="bnf_secret.key")
    assert "::warning title=bnfold::the key goes over the network in the clear" in done.stdout
    assert "bnf_secret" not in done.stdout


def test_names_of_a_model_stay_text(live: Live, tmp_path: Path) -> None:
    """Layers called like commands: in the log, in annotations and in the summary."""
    (tmp_path / "$(touch pwned);`touch pwned`").mkdir()
    prefix = f"{EVIL} @everyone <img src=x onerror=alert(1)> [link](javascript:alert(1)) "
    path = networks.residual(tmp_path / "$(touch pwned);`touch pwned`" / "m;$IFS'\".onnx", 2, prefix=prefix)
    ran: Ran = github(
        ACTION, tmp_path, model=str(path.relative_to(tmp_path)), url=live.url, reports="r $(touch pwned)"
    )
    assert ran.outputs["verdict"] == "pass", ran.log
    own, *others = commands(ran.log)
    assert own.startswith("::notice title=bnfold::Equivalent; both batch norms look healthy. ")
    assert others == []
    assert not (tmp_path / "pwned").exists()
    assert not re.search(r"(?<!\\)(<img|\]\()", ran.summary), "markup that is not escaped"
    assert (tmp_path / "r $(touch pwned)" / "report.html").exists()
