"""Artifacts pushed to an OCI registry and read from it: the registry that Debian packages, as a process."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from folding.errors import TemporaryFailure, UsageError
from service.addresses.address import Address, parse
from service.addresses.transfer import fetched
from service.cli.app import app
from tests.support.deployment import eventually, free_port
from tests.support.networks import residual

PROGRAM = shutil.which("docker-registry")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no docker-registry here: run `make test-tools`")
CONFIG = """version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("registry"), free_port()
    (folder / "config.yml").write_text(CONFIG.format(folder=folder / "data", port=port))
    process = subprocess.Popen(
        [str(PROGRAM), "serve", str(folder / "config.yml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/v2/", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        eventually(answers, 30, "the registry answers")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def address(text: str) -> Address:
    found = parse(text)
    assert found is not None
    return found


def run(*arguments: str, exit_code: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments), standalone_mode=False)
    assert done.exception is None, done.exception
    assert done.return_value == exit_code, done.output
    return done.stdout


def manifest(registry: str, repository: str, tag: str) -> dict[str, object]:
    kind = {"accept": "application/vnd.oci.image.manifest.v1+json"}
    answer = httpx.get(f"http://{registry}/v2/{repository}/manifests/{tag}", headers=kind, trust_env=False)
    assert answer.status_code == 200, answer.text
    return dict(answer.json()) | {"digest": f"sha256:{hashlib.sha256(answer.content).hexdigest()}"}


def test_push_and_pull_with_report_and_statement(registry: str, tmp_path: Path) -> None:
    model = residual(tmp_path / "net.onnx", 1)
    target = f"oci://{registry}/models/net:v1"
    report = json.loads(run("fold", str(model), "-o", target, "--json", "--allow-unsandboxed"))
    assert report["verdict"] == "pass"
    made = manifest(registry, "models/net", "v1")
    layers = {layer["mediaType"]: layer["digest"] for layer in made["layers"]}  # type: ignore[attr-defined]
    assert layers["application/vnd.onnx.model"] == report["artifact"]["digest"]

    def blob(kind: str) -> bytes:
        place = f"http://{registry}/v2/models/net/blobs/{layers[kind]}"
        return httpx.get(place, trust_env=False, follow_redirects=True).content

    assert json.loads(blob("application/vnd.bnfold.report+json"))["artifact"] == report["artifact"]
    envelope = json.loads(blob("application/vnd.dsse.envelope.v1+json"))
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert report["artifact"]["digest"].removeprefix("sha256:") in json.dumps(
        json.loads(base64.b64decode(envelope["payload"]))
    )
    for source in (
        f"{target}#{report['artifact']['digest']}",
        f"oci://{registry}/models/net@{made['digest']}",
    ):
        with fetched(address(source)) as path:
            assert f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" == report["artifact"]["digest"]
    again = json.loads(run("inspect", target, "--json", "--allow-unsandboxed"))
    assert again["batch_norms"] == []


def test_what_a_registry_refuses(registry: str) -> None:
    for text, code in (
        (f"oci://{registry}/models/none:v1", "address_unreadable"),
        (f"oci://{registry}/models/net", "bad_address"),
    ):
        with pytest.raises(UsageError) as caught, fetched(address(text)):
            pass
        assert caught.value.error_code == code
    with pytest.raises(TemporaryFailure), fetched(address("oci://127.0.0.1:9/models/net:v1")):
        pass
