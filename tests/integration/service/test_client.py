"""The typed client against a real service, also over a line that breaks."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from folding import errors as E  # noqa: N812
from folding.options import FoldOptions
from folding.progress import Event
from service.client import Client, packed, transfer
from tests.support.deployment import Deployment, deployment
from tests.support.in_process import orders


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployment(tmp_path_factory.mktemp("client")) as made:
        made.api()
        yield made


class Breaking:
    """A proxy that cuts each connection after so many bytes of the answer."""

    def __init__(self, url: str, after: int) -> None:
        place = urlsplit(url)
        self._target = (str(place.hostname), int(place.port or 80))
        self._after = after
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            far = socket.create_connection(self._target)
            threading.Thread(target=self._pump, args=(near, far, None), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, self._after), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, limit: int | None) -> None:
        passed = 0
        try:
            while data := source.recv(65536):
                target.sendall(data)
                passed += len(data)
                if limit is not None and passed > limit:
                    break
        except OSError:
            pass
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()


def model(folder: Path, **values: object) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(orders(**values))
    return path


def test_submit_wait_pull_release(deployed: Deployment, tmp_path: Path) -> None:
    with Client(deployed.urls[0]) as client:
        job = client.submit(model(tmp_path, bytes=50_000, seconds=0.1), FoldOptions(opset=17))
        seen: list[Event] = []
        job = client.wait(job.id, timeout=30, listener=seen.append)
        job.raise_for_state()
        assert {event.stage for event in seen} == {"read", "verify"}
        assert (job.filename, job.options, job.verdict) == ("net.onnx", {"opset": 17}, "pass")
        out = tmp_path / "out.onnx"
        assert job.artifact is not None
        assert client.pull(job.id, out) == job.artifact.digest
        assert f"sha256:{hashlib.sha256(out.read_bytes()).hexdigest()}" == job.artifact.digest
        assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "out.onnx"]
        made = client.set_release("net", "prod", job.artifact.digest)
        with pytest.raises(E.UsageError):
            client.set_release("net", "prod", job.artifact.digest)
        assert client.set_release("net", "prod", job.artifact.digest, if_match=made.etag).version == 2
        assert client.pull("net/prod", tmp_path / "again.onnx") == job.artifact.digest
        assert "verdict" in client.report(job.id)
        client.bundle(job.artifact.digest, tmp_path / "b.zip")


def test_verify_compares_two_files(deployed: Deployment, tmp_path: Path) -> None:
    """A comparison makes no artifact; its report names both files, and the same two are compared once."""
    other = tmp_path / "other.onnx"
    other.write_bytes(b"what another tool made")
    with Client(deployed.urls[0]) as client:
        for verdict, state in (("pass", "succeeded"), ("fail", "rejected")):
            source = model(tmp_path, verdict=verdict)
            job = client.wait(client.verify(source, other).id, timeout=30)
            assert (job.kind, job.state, job.verdict, job.artifact) == ("verify", state, verdict, None)
            report = json.loads(client.report(job.id))
            digests = [f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in (source, other)]
            assert [report["source"]["digest"], report["artifact"]["digest"]] == digests
            assert client.verify(source, other).cached_from == job.id
            assert [found.id for found in client.jobs(kind="verify", state=state)]
        with pytest.raises(E.UsageError, match="needs `candidate`"):
            client.submit(source, kind="verify")
        with pytest.raises(E.UsageError, match="take none"):
            client.submit(source, candidate=digests[1])


def test_pull_resumes_over_a_breaking_line(deployed: Deployment, tmp_path: Path) -> None:
    with Client(deployed.urls[0]) as client:
        job = client.wait(client.submit(model(tmp_path, bytes=9_000_000)).id, timeout=30)
    proxy = Breaking(deployed.urls[0], after=2_500_000)
    told: list[int] = []
    with Client(proxy.url) as client:
        client.pull(job.id, tmp_path / "out.onnx", received=lambda done, total: told.append(done))
    proxy.close()
    assert proxy.connections >= 4
    assert told == sorted(told), "no byte was fetched twice"
    assert (tmp_path / "out.onnx").stat().st_size == 9_000_000


def test_pull_refuses_wrong_bytes(deployed: Deployment, tmp_path: Path) -> None:
    with Client(deployed.urls[0]) as client:
        job = client.wait(client.submit(model(tmp_path, bytes=1000)).id, timeout=30)
        assert job.artifact is not None
        out = tmp_path / "out.onnx"
        part = out.with_name(f".out.onnx.{job.artifact.digest[7:23]}.part")
        part.write_bytes(b"x" * 500)  # somebody else's half
        with pytest.raises(E.TemporaryFailure) as caught:
            client.pull(job.id, out)
        assert caught.value.error_code == "digest_mismatch"
        assert not out.exists()
        client.pull(job.id, out)


def test_large_uploads_resume(deployed: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "RESUMABLE", 100_000)
    path = tmp_path / "big.bin"
    path.write_bytes(orders() + b" " * 700_000)
    with Client(deployed.urls[0]) as client:
        first = client.upload(path)
        assert client.upload(path) == first


def test_same_key_same_job(deployed: Deployment, tmp_path: Path) -> None:
    with Client(deployed.urls[0]) as client:
        path = model(tmp_path)
        ids = {client.submit(path, idempotency_key="k1").id for _ in range(3)}
        assert len(ids) == 1


def test_folders_travel_as_the_same_archive(tmp_path: Path) -> None:
    folder = tmp_path / "saved_model"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"pb")
    (folder / "variables" / "variables.index").write_bytes(b"i")
    with packed(folder) as one, packed(folder) as two:
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    ("values", "kind"),
    [({"verdict": "fail"}, E.VerificationFailed), ({"error": "corrupt_model"}, E.CorruptModel),
     ({"crash": "timed_out"}, E.TimedOut), ({"crash": "out_of_memory"}, E.TemporaryFailure)],
)  # fmt: skip
def test_ends_become_errors(
    deployed: Deployment, tmp_path: Path, values: dict[str, object], kind: type[E.BnfoldError]
) -> None:
    with Client(deployed.urls[0]) as client:
        job = client.wait(client.submit(model(tmp_path, **values)).id, timeout=30)
        with pytest.raises(kind):
            job.raise_for_state()


def test_service_that_is_not_there(tmp_path: Path) -> None:
    with Client("http://127.0.0.1:9", retries=1) as client, pytest.raises(E.TemporaryFailure) as caught:
        client.jobs()
    assert caught.value.error_code == "unreachable"


def test_a_digest_that_is_cut_short_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    with (
        Client("http://127.0.0.1:1", retries=0) as client,
        pytest.raises(E.UsageError, match="not a whole digest") as wrong,
    ):
        client.pull("sha256:abcd", tmp_path / "x.onnx")
    assert "64 hex digits" in (wrong.value.hint or "")


def test_a_download_from_a_service_that_is_not_there_is_no_defect(tmp_path: Path) -> None:
    with Client("http://127.0.0.1:1", retries=0) as client, pytest.raises(E.TemporaryFailure) as gone:
        client.pull("sha256:" + "0" * 64, tmp_path / "x.onnx")
    assert gone.value.error_code == "unreachable"
