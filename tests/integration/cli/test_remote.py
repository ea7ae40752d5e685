"""`submit`, `status`, `pull`, `release` and `doctor` against a live service."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live import Live, live_service
from tests.support.paths import ROOT

MODEL = ROOT / "examples" / "tf1_checkpoint"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_service(tmp_path_factory.mktemp("remote")) as service:
        yield service


def bnfold(live: Live, *args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from service.cli import main; main()", *map(str, args), "--url", live.url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def job(live: Live) -> dict[str, object]:
    done = bnfold(live, "submit", MODEL / "model.ckpt", "--wait", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_submit_waits_and_fetches(live: Live, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    args = ("--report", tmp_path / "r.json", "--html", tmp_path / "r.html", "--junit", tmp_path / "r.xml")
    done = bnfold(live, "submit", MODEL, "--wait", "-o", out, *args)
    assert done.returncode == 0, done.stderr
    assert "verdict: pass" in done.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["artifact"]["digest"] == "sha256:" + hashlib.sha256(out.read_bytes()).hexdigest()
    assert (tmp_path / "r.html").stat().st_size > 1000


def test_the_checkpoint_keeps_its_name(job: dict[str, object]) -> None:
    assert job["filename"] == "model.ckpt"
    assert job["verdict"] == "pass"


def test_submit_without_waiting(live: Live) -> None:
    done = bnfold(live, "submit", MODEL, "--seed", "5")
    assert done.returncode == 0, done.stderr
    job_id = done.stdout.strip()
    waited = bnfold(live, "status", job_id, "--wait")
    assert waited.returncode == 0, waited.stderr
    assert "succeeded" in waited.stdout
    listed = bnfold(live, "status")
    assert job_id in listed.stdout


def test_failing_verdict_has_its_exit_code(live: Live, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    args = ("--provider", "cpu", "--provider", "tensorrt", "--require", "tensorrt")
    done = bnfold(live, "submit", MODEL, "--wait", "-o", out, *args)
    assert done.returncode == 3, done.stdout + done.stderr
    assert not out.exists()
    job_id = next(word for word in done.stderr.split() if word.startswith("job_"))
    refused = bnfold(live, "pull", job_id, "-o", out)
    assert refused.returncode == 3, refused.stderr
    assert not out.exists()
    insisted = bnfold(live, "pull", job_id, "-o", out, "--rejected")
    assert insisted.returncode == 3
    assert out.exists()


def test_model_errors_have_theirs(live: Live, tmp_path: Path) -> None:
    rubbish = tmp_path / "model.onnx"
    rubbish.write_text("this is no model")
    done = bnfold(live, "submit", rubbish, "--wait")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "what to do" in done.stderr
    as_json = bnfold(live, "submit", rubbish, "--wait", "--json")
    assert as_json.returncode == 4
    assert json.loads(as_json.stdout)["state"] == "failed"


def test_pull_by_job_digest_and_release(live: Live, job: dict[str, object], tmp_path: Path) -> None:
    artifact = job["artifact"]
    assert isinstance(artifact, dict)
    digest = str(artifact["digest"])
    made = bnfold(live, "release", "mobile/production", str(job["id"]))
    assert made.returncode == 0, made.stderr
    again = bnfold(live, "release", "mobile/production", digest)
    assert again.returncode == 0, again.stderr
    assert "mobile/production" in bnfold(live, "release").stdout
    history = json.loads(bnfold(live, "release", "mobile/production", "--history", "--json").stdout)
    assert {move["digest"] for move in history} == {digest}
    for index, ref in enumerate((str(job["id"]), digest, "mobile/production")):
        out = tmp_path / f"{index}.onnx"
        done = bnfold(live, "pull", ref, "-o", out)
        assert done.returncode == 0, done.stderr
        assert "sha256:" + hashlib.sha256(out.read_bytes()).hexdigest() == digest
    assert not list(tmp_path.glob(".*")), "leftovers of a download"


def test_pull_verifies_the_signature(live: Live, job: dict[str, object], tmp_path: Path) -> None:
    from service import provenance

    artifact = job["artifact"]
    assert isinstance(artifact, dict)
    signing = next((live.folder / "data").rglob("*.pub"), None)
    if signing is None:  # the key pair is made with the first statement
        import httpx

        url = f"{live.url}/v1/artifacts/{artifact['digest']}/attestation"
        assert httpx.get(url, trust_env=False).status_code == 200
        signing = next((live.folder / "data").rglob("*.pub"))
    good = bnfold(live, "pull", str(job["id"]), "-o", tmp_path / "good.onnx", "--verify-key", signing)
    assert good.returncode == 0, good.stderr
    assert "signed by sha256:" in good.stderr
    other = tmp_path / "other.pub"
    other.write_bytes(provenance.public_pem(provenance.local_key(tmp_path / "other.key").public_key()))
    bad = bnfold(live, "pull", str(job["id"]), "-o", tmp_path / "bad.onnx", "--verify-key", other)
    assert bad.returncode == 3, bad.stderr
    assert not (tmp_path / "bad.onnx").exists(), "bytes that nobody vouches for"


USAGE = [
    (("status", "job_nothing"), 2),
    (("status", "--cancel"), 2),
    (("release", "no-channel"), 2),
    (("release", "no/release"), 2),
    (("submit", "README.md", "-o", "x.onnx"), 2),
    (("pull", "sha256:" + "0" * 64, "-o", "x.onnx"), 2),
]


@pytest.mark.parametrize(("args", "code"), USAGE, ids=lambda v: " ".join(v) if isinstance(v, tuple) else None)
def test_usage(live: Live, args: tuple[str, ...], code: int) -> None:
    done = bnfold(live, *args)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_service_that_is_not_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from service.cli import main; main()", "status", "--url", "http://127.0.0.1:9"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 75
    assert "bnfold serve" in done.stderr


def test_doctor_asks_the_service(live: Live) -> None:
    done = bnfold(live, "doctor", "--json")
    body = json.loads(done.stdout)
    states = {check["name"]: check["state"] for check in body["checks"]}
    assert states["service"] == "ok"
    assert states["python"] == states["packages"] == "ok"
    assert done.returncode == (0 if body["ready"] else 75)
