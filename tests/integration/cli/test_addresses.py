"""Models from addresses and artifacts to them: a web server, an S3-speaking server, a hub."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from folding.errors import TemporaryFailure, UsageError
from service.addresses.address import parse
from service.addresses.transfer import fetched, send
from service.cli.app import app
from tests.support.deployment import S3
from tests.support.networks import residual


class Files(http.server.BaseHTTPRequestHandler):
    """Serves and takes the bytes of `server.files`; some paths redirect or fail."""

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        files: dict[str, bytes] = self.server.files  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if path == "/moved.onnx":
            self._answer(302, location="/net.onnx")
        elif path == "/loop.onnx":
            self._answer(302, location="/loop.onnx")
        elif path == "/elsewhere.onnx":
            self._answer(302, location="file:///etc/passwd")
        elif path == "/busy.onnx":
            self._answer(503)
        elif path in files:
            digest = hashlib.sha256(files[path]).hexdigest()
            self._answer(200, files[path], etag=f'"{digest}"', x_repo_commit="a" * 40)
        else:
            self._answer(404, b"{}", x_error_code="EntryNotFound")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.files[self.path] = body  # type: ignore[attr-defined]
        self._answer(201)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return residual(tmp_path_factory.mktemp("model") / "net.onnx", 1).read_bytes()


@pytest.fixture
def web(model: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    server.files = {  # type: ignore[attr-defined]
        "/net.onnx": model, "/acme/tiny/resolve/main/onnx/net.onnx": model,
        "/acme/tiny/resolve/v2/net.onnx": model,
    }  # fmt: skip
    server.asked = []  # type: ignore[attr-defined]
    server.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def read(text: str) -> bytes:
    address = parse(text)
    assert address is not None
    with fetched(address) as path:
        return path.read_bytes()


def run(*arguments: str, exit_code: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments), standalone_mode=False)
    code = done.return_value if done.exception is None else done.exception
    assert code == exit_code, (code, done.output)
    return done.stdout


def test_fold_from_the_web_to_the_web(web: Any, model: bytes) -> None:
    source = f"{web.url}/moved.onnx#{digest_of(model)}"
    report = json.loads(
        run("fold", source, "-o", f"{web.url}/out/folded.onnx", "--json", "--allow-unsandboxed")
    )
    assert report["verdict"] == "pass"
    assert digest_of(web.files["/out/folded.onnx"]) == report["artifact"]["digest"]


def test_inspect_takes_addresses_too(web: Any) -> None:
    found = json.loads(run("inspect", f"{web.url}/net.onnx", "--json", "--allow-unsandboxed"))
    assert len(found["batch_norms"]) == 1


@pytest.mark.parametrize(
    ("path", "kind", "code"),
    [
        ("/none.onnx", UsageError, "address_unreadable"),
        ("/loop.onnx", UsageError, "address_unreadable"),
        ("/elsewhere.onnx", UsageError, "address_unreadable"),
        ("/busy.onnx", TemporaryFailure, None),
        ("/folder/", UsageError, "bad_address"),
        (f"/net.onnx#sha256:{'0' * 64}", UsageError, "digest_mismatch"),
    ],
)
def test_what_the_web_refuses(web: Any, path: str, kind: type[Exception], code: str | None) -> None:
    with pytest.raises(kind) as caught:
        read(web.url + path)
    if code:
        assert caught.value.error_code == code  # type: ignore[attr-defined]


def test_a_signed_query_is_sent_and_not_shown(web: Any, model: bytes) -> None:
    assert read(f"{web.url}/net.onnx?signature=secret") == model
    assert web.asked[-1] == "/net.onnx?signature=secret"
    with pytest.raises(UsageError) as caught:
        read(f"{web.url}/none.onnx?signature=secret")
    assert "secret" not in caught.value.message


def test_nobody_there() -> None:
    with pytest.raises(TemporaryFailure) as caught:
        read("http://127.0.0.1:9/net.onnx")
    assert caught.value.error_code == "address_unreachable"


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    name = f"addresses-{os.getpid()}-{abs(hash(request.node.name)) % 10**8}"
    s3.bucket(name)
    for variable, value in {
        "AWS_ENDPOINT_URL": s3.endpoint, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(variable, value)
    return name


def put(text: str, data: bytes, folder: Path) -> None:
    address = parse(text)
    assert address is not None
    (folder / "sent").write_bytes(data)
    send(folder / "sent", address)


def test_fold_in_a_bucket(bucket: str, model: bytes, tmp_path: Path) -> None:
    put(f"s3://{bucket}/in/net.onnx", model, tmp_path)
    out = f"s3://{bucket}/out/folded.onnx"
    report = json.loads(
        run(
            "fold",
            f"s3://{bucket}/in/net.onnx#{digest_of(model)}",
            "-o",
            out,
            "--json",
            "--allow-unsandboxed",
        )
    )
    assert digest_of(read(out)) == report["artifact"]["digest"]


def test_a_folder_of_a_bucket(bucket: str, tmp_path: Path) -> None:
    for name in ("saved_model.pb", "variables/variables.index"):
        put(f"s3://{bucket}/exported/{name}", name.encode(), tmp_path)
    address = parse(f"s3://{bucket}/exported/")
    assert address is not None
    with fetched(address) as folder:
        assert folder.name == "exported"
        assert (folder / "variables" / "variables.index").read_bytes() == b"variables/variables.index"
    with pytest.raises(UsageError, match="nothing at"):
        read(f"s3://{bucket}/nothing/")


def test_what_a_bucket_refuses(bucket: str) -> None:
    with pytest.raises(UsageError, match="nothing at"):
        read(f"s3://{bucket}/none.onnx")


def test_a_rejected_artifact_is_not_sent(web: Any) -> None:
    arguments = ("--no-verify", "--allow-unsandboxed")
    said = run("fold", f"{web.url}/net.onnx", "-o", f"{web.url}/out/no.onnx", *arguments, exit_code=3)
    assert "not sent" in said
    assert "/out/no.onnx" not in web.files


@pytest.mark.parametrize("address", ["hf://acme/tiny/onnx/net.onnx", "hf://acme/tiny@v2/net.onnx"])
def test_a_model_hub(
    web: Any, model: bytes, address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants", reason="the extra `hub` is not installed")
    monkeypatch.setattr(constants, "ENDPOINT", web.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", web.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert read(f"{address}#{digest_of(model)}") == model
    with pytest.raises(UsageError, match="404") as caught:
        read(address.replace("net.onnx", "none.onnx"))
    assert caught.value.error_code == "address_unreadable"
