"""Typed client of the service: submit, follow, wait, pull, release. The command line uses nothing else.

with Client("http://127.0.0.1:8750", key=None) as client:
    job = client.submit(Path("model.h5"))
    job = client.wait(job.id)
    client.pull(job.artifact.digest, Path("model.onnx"))
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import httpx
from pydantic import BaseModel, ConfigDict

from folding import errors as E  # noqa: N812
from folding.options import FoldOptions
from folding.progress import Event

CHUNK = 1 << 20
RESUMABLE = 64 << 20  # larger uploads go by tus and survive an interruption
FINAL = frozenset({"succeeded", "rejected", "failed", "cancelled"})
_AGAIN = frozenset({408, 425, 429, 502, 503, 504, 507})
Sent = Callable[[int, int], None]


class _View(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Blob(_View):
    """Digest and size."""

    digest: str
    bytes: int


class Job(_View):
    """A job as the service tells it."""

    id: str
    kind: str
    state: str
    filename: str = ""
    model: str | None = None
    input: str
    options: dict[str, Any] = {}
    attempt: int = 0
    stage: str | None = None
    progress: float | None = None
    message: str | None = None
    verdict: str | None = None
    sandbox: str | None = None
    cached_from: str | None = None
    error: dict[str, Any] | None = None
    artifact: Blob | None = None
    created_at: str = ""
    started_at: str | None = None
    finished_at: str | None = None

    @property
    def done(self) -> bool:
        """True in a final state."""
        return self.state in FINAL

    def raise_for_state(self) -> None:
        """Raise what the job's end means: ModelError…, VerificationFailed, Cancelled; nothing on success."""
        if self.state == "cancelled":
            raise E.Cancelled("The job was cancelled.", details={"job": self.id})
        if self.state == "rejected":
            raise E.VerificationFailed(f"The verdict is {self.verdict}; the artifact is quarantined.",
                                       details={"job": self.id})  # fmt: skip
        if self.state == "failed":
            raise E.BnfoldError.from_dict(self.error or {})


class Release(_View):
    """Where a channel points; `etag` goes into `if_match`."""

    name: str
    channel: str
    version: int
    digest: str
    updated_at: str = ""
    etag: str = ""


@dataclass(frozen=True)
class ServerEvent:
    """One event of a job's stream."""

    seq: int
    type: str
    data: dict[str, Any]


class Client:
    """One connection pool. Thread-safe as httpx is. Errors are those of `folding.errors`."""

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 60.0, retries: int = 5) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Timeout(timeout, connect=10.0)
        # Proxies of the environment are for the internet, and would see every loopback call.
        self._http = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=limits, trust_env=False)
        self._retries = retries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # -- submitting ------------------------------------------------------------------------------

    def submit(
        self,
        src: Path,
        options: FoldOptions | None = None,
        *,
        calibration: Path | None = None,
        probe: Path | None = None,
        idempotency_key: str | None = None,
        kind: str = "fold",
        fresh: bool = False,
        sent: Sent | None = None,
    ) -> Job:
        """Upload what the service does not have yet, and queue the job. Folders travel as an archive.

        Without `idempotency_key` one is made, so that a repeated request (a lost answer) makes no second job.
        """
        with packed(src) as file:
            digest = self.upload(file, sent)
        body: dict[str, Any] = {
            "input": digest,
            "filename": src.name or "model",
            "kind": kind,
            "fresh": fresh,
        }
        body["options"] = (options or FoldOptions()).model_dump(mode="json", exclude_defaults=True)
        for role, path in (("calibration", calibration), ("probe", probe)):
            if path is not None:
                body[role] = self.upload(path)
        key = idempotency_key or f"client-{os.urandom(16).hex()}"
        answer = self._call("POST", "/v1/jobs", json=body, headers={"idempotency-key": key})
        return Job.model_validate(answer.json())

    def upload(self, path: Path, sent: Sent | None = None) -> str:
        """Make sure that the service has the file's bytes; their digest."""
        digest, size = _digest(path), path.stat().st_size
        if self._http_head(f"/v1/blobs/{digest}"):
            return digest
        if size > RESUMABLE:
            return self._upload_resumable(path, digest, size, sent)

        def body() -> Iterator[bytes]:
            with path.open("rb") as file:
                yield from _told(_pieces(file), size, sent)

        headers = {"content-length": str(size), "content-type": "application/octet-stream"}
        self._call("PUT", f"/v1/blobs/{digest}", make_body=body, headers=headers)
        return digest

    def _upload_resumable(self, path: Path, digest: str, size: int, sent: Sent | None) -> str:
        created = self._call(
            "POST", "/v1/uploads", headers={"tus-resumable": "1.0.0", "upload-length": str(size)}
        )
        place, offset, failures = created.headers["location"], 0, 0
        while offset < size:
            headers = {
                "tus-resumable": "1.0.0",
                "upload-offset": str(offset),
                "content-type": "application/offset+octet-stream",
                "content-length": str(size - offset),
            }
            try:
                with path.open("rb") as file:
                    file.seek(offset)
                    body = _told(_pieces(file), size, sent, offset)
                    answer = self._http.patch(place, content=body, headers=headers)
                _raise(answer)
            except (httpx.TransportError, E.TemporaryFailure):
                failures += 1
                if failures > self._retries:
                    raise
                time.sleep(min(5.0, 0.2 * 2**failures))
            head = self._call("HEAD", place, headers={"tus-resumable": "1.0.0"})
            reached = int(head.headers["upload-offset"])
            failures = 0 if reached > offset else failures
            offset = reached
        found = self._call("HEAD", place).headers.get("bnfold-digest", "")
        if found != digest:
            raise E.TemporaryFailure(f"The service received {found or 'no digest'}, expected {digest}.")
        return digest

    # -- looking ---------------------------------------------------------------------------------

    def job(self, job_id: str, *, wait: float = 0.0) -> Job:
        """One job; with `wait`, at its end or after that many seconds."""
        timeout = httpx.Timeout(wait + 30.0, connect=10.0)
        answer = self._call(
            "GET", f"/v1/jobs/{job_id}", params={"wait": wait} if wait else None, timeout=timeout
        )
        return Job.model_validate(answer.json())

    def jobs(self, *, limit: int = 20, **filters: str) -> list[Job]:
        """The newest, filtered by state, kind, model or verdict."""
        found = self._call("GET", "/v1/jobs", params={"limit": limit, **filters}).json()
        return [Job.model_validate(item) for item in found["jobs"]]

    def wait(
        self, job_id: str, *, timeout: float = 3600.0, listener: Callable[[Event], None] | None = None
    ) -> Job:
        """Until the job has ended. With a listener, its progress is followed meanwhile. Raises TimedOut."""
        deadline = time.monotonic() + timeout
        if listener is not None:
            for event in self.events(job_id, deadline=deadline):
                if event.type == "progress":
                    data = event.data
                    listener(Event(data["stage"], data.get("fraction"), data.get("message", "")))
        while True:
            left = deadline - time.monotonic()
            job = self.job(job_id, wait=min(30.0, max(0.0, left)))
            if job.done:
                return job
            if left <= 0:
                raise E.TimedOut(f"The job is {job.state} after {timeout:g} s.", details={"job": job_id})

    def events(self, job_id: str, *, after: int = 0, deadline: float | None = None) -> Iterator[ServerEvent]:
        """The job's events to its end; a broken stream is taken up where it broke."""
        failures = 0
        while deadline is None or time.monotonic() < deadline:
            headers = {"accept": "text/event-stream", "last-event-id": str(after)}
            timeout = httpx.Timeout(30.0, connect=10.0)
            try:
                with self._http.stream(
                    "GET", f"/v1/jobs/{job_id}/events", headers=headers, timeout=timeout
                ) as answer:
                    if answer.status_code == 204:
                        return
                    if answer.status_code >= 400:
                        answer.read()
                        _raise(answer)
                    for event in _parse_events(answer.iter_lines()):
                        after, failures = event.seq, 0
                        yield event
                        if deadline is not None and time.monotonic() > deadline:
                            return
            except (httpx.TransportError, E.TemporaryFailure):
                failures += 1
                if failures > self._retries:
                    raise
                time.sleep(min(5.0, 0.2 * 2**failures))

    def cancel(self, job_id: str) -> Job:
        """Ask it to stop."""
        return Job.model_validate(self._call("POST", f"/v1/jobs/{job_id}:cancel").json())

    def retry(self, job_id: str) -> Job:
        """Run a failed, cancelled or rejected job again."""
        return Job.model_validate(self._call("POST", f"/v1/jobs/{job_id}:retry").json())

    def delete(self, job_id: str) -> None:
        """Remove a finished job."""
        self._call("DELETE", f"/v1/jobs/{job_id}")

    def report(self, job_id: str, accept: str = "application/json") -> str:
        """The report in the form that the media type names."""
        return self._call("GET", f"/v1/jobs/{job_id}/report", headers={"accept": accept}).text

    def capabilities(self) -> dict[str, Any]:
        """What the deployment can do."""
        return dict(self._call("GET", "/v1/capabilities").json())

    def ready(self) -> dict[str, Any]:
        """`/readyz`, also when it says no."""
        answer = self._http.get("/readyz")
        return dict(answer.json())

    # -- fetching --------------------------------------------------------------------------------

    def resolve(self, ref: str) -> tuple[str, Job | None]:
        """Digest of a job id, a digest, or `name/channel`; and the job, where a job was named."""
        if ref.startswith("sha256:"):
            return ref, None
        if "/" in ref:
            name, _, channel = ref.partition("/")
            return self.release(name, channel).digest, None
        job = self.job(ref)
        if job.artifact is None:
            job.raise_for_state()
            raise E.UsageError(f"Job {ref} is {job.state} and has no artifact.")
        return job.artifact.digest, job

    def pull(
        self, ref: str, out: Path, *, allow_quarantined: bool = False, received: Sent | None = None
    ) -> str:
        """Fetch an artifact: resumed where it broke off, checked by digest, put in place atomically."""
        digest, _ = self.resolve(ref)
        part = out.with_name(f".{out.name}.{digest[7:23]}.part")
        failures = 0
        while True:
            try:
                self._fetch(digest, part, allow_quarantined, received)
                break
            except (httpx.TransportError, E.TemporaryFailure):
                failures += 1
                if failures > self._retries:
                    raise
                time.sleep(min(5.0, 0.2 * 2**failures))
        found = _digest(part)
        if found != digest:
            part.unlink()
            raise E.TemporaryFailure(
                f"What came has digest {found}, expected {digest}.",
                code="digest_mismatch",
                hint="Pull again.",
            )
        os.replace(part, out)
        folder = os.open(out.parent or Path("."), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return digest

    def _fetch(self, digest: str, part: Path, allow_quarantined: bool, received: Sent | None) -> None:
        have = part.stat().st_size if part.exists() else 0
        headers = {"accept-encoding": "identity"}
        if have:
            headers |= {"range": f"bytes={have}-", "if-range": f'"{digest}"'}
        params = {"allow_quarantined": "true"} if allow_quarantined else None
        with self._http.stream("GET", f"/v1/artifacts/{digest}", headers=headers, params=params) as answer:
            if answer.status_code == 416:  # the part is whole already, or longer than it may be
                return
            if answer.status_code >= 400:
                answer.read()
                _raise(answer)
            resumed = answer.status_code == 206
            done = have if resumed else 0
            total = done + int(answer.headers.get("content-length", 0))
            with part.open("ab" if resumed else "wb") as file:
                for piece in answer.iter_raw(CHUNK):
                    file.write(piece)
                    done += len(piece)
                    if received is not None:
                        received(done, total)
                file.flush()
                os.fsync(file.fileno())
            if done < total:
                raise E.TemporaryFailure(f"The download ended at {done} of {total} bytes.")

    def attestation(self, digest: str) -> dict[str, Any]:
        """The signed provenance of an artifact."""
        return dict(self._call("GET", f"/v1/artifacts/{digest}/attestation").json())

    def bundle(self, digest: str, out: Path, name: str = "model") -> None:
        """The Triton model repository, as a zip."""
        with self._http.stream("GET", f"/v1/artifacts/{digest}/bundle", params={"name": name}) as answer:
            if answer.status_code >= 400:
                answer.read()
                _raise(answer)
            part = out.with_name(f".{out.name}.part")
            with part.open("wb") as file:
                for piece in answer.iter_bytes(CHUNK):
                    file.write(piece)
            os.replace(part, out)

    # -- releases --------------------------------------------------------------------------------

    def release(self, name: str, channel: str) -> Release:
        """Where the channel points."""
        return _release(self._call("GET", f"/v1/releases/{name}/{channel}"))

    def releases(self) -> list[Release]:
        """All of them."""
        return [Release.model_validate(item) for item in self._call("GET", "/v1/releases").json()["releases"]]

    def release_history(self, name: str, channel: str) -> list[dict[str, Any]]:
        """Every move, newest first."""
        return list(self._call("GET", f"/v1/releases/{name}/{channel}/history").json()["history"])

    def set_release(
        self, name: str, channel: str, digest: str, *, note: str = "", if_match: str | None = None
    ) -> Release:
        """Point the channel. Without `if_match` only a new channel is made."""
        headers = {"if-match": if_match} if if_match is not None else {"if-none-match": "*"}
        body = {"digest": digest, "note": note}
        return _release(self._call("PUT", f"/v1/releases/{name}/{channel}", json=body, headers=headers))

    # -- plumbing --------------------------------------------------------------------------------

    def _http_head(self, path: str) -> bool:
        answer = self._again(lambda: self._http.head(path))
        if answer.status_code in (404, 403):
            return False
        _raise(answer)
        return True

    def _call(
        self, method: str, path: str, *, make_body: Callable[[], Iterator[bytes]] | None = None, **rest: Any
    ) -> httpx.Response:
        if rest.get("params") is None:
            rest.pop("params", None)

        def once() -> httpx.Response:
            body: dict[str, Any] = {"content": make_body()} if make_body is not None else {}
            return self._http.request(method, path, **body, **rest)

        answer = self._again(once)
        _raise(answer)
        return answer

    def _again(self, act: Callable[[], httpx.Response]) -> httpx.Response:
        """Retry what may pass: every request of ours is idempotent (by digest, by key, or by nature)."""
        for failures in range(self._retries + 1):
            try:
                answer = act()
            except httpx.TransportError as error:
                if failures == self._retries:
                    raise E.TemporaryFailure(
                        f"The service does not answer ({type(error).__name__}).",
                        code="unreachable",
                        hint="Is it running, and is the URL right? `bnfold serve` starts one.",
                    ) from error
                time.sleep(min(5.0, 0.1 * 2**failures))
                continue
            if answer.status_code not in _AGAIN or failures == self._retries:
                return answer
            time.sleep(min(30.0, float(answer.headers.get("retry-after", 0.2 * 2**failures))))
        raise AssertionError("unreachable")


def _raise(answer: httpx.Response) -> None:
    """The error that a problem stands for."""
    if answer.status_code < 400:
        return
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    code = str(problem.get("code", "http_error"))
    raise _class_of(answer.status_code, code)(
        str(problem.get("detail") or f"The service answered {answer.status_code}."),
        code=code,
        hint=problem.get("hint"),
        stage=problem.get("stage"),
        layer=problem.get("layer"),
        details=(problem.get("details") or {}) | {"status": answer.status_code},
    )


def _class_of(status: int, code: str) -> type[E.BnfoldError]:
    if code in ("verification_failed", "quarantined"):
        return E.VerificationFailed
    if code in ("cancelled", "timed_out"):
        return E.Cancelled if code == "cancelled" else E.TimedOut
    if status in _AGAIN or status >= 500:
        return E.TemporaryFailure
    return E.UsageError


def _release(answer: httpx.Response) -> Release:
    return Release.model_validate(answer.json() | {"etag": answer.headers.get("etag", "")})


def _parse_events(lines: Iterator[str]) -> Iterator[ServerEvent]:
    seq, kind, data = 0, "message", ""
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            seq = int(value)
        elif name == "event":
            kind = value
        elif name == "data":
            data += value
        elif not line and data:
            yield ServerEvent(seq, kind, json.loads(data))
            kind, data = "message", ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(CHUNK):
        yield piece


def _told(pieces: Iterator[bytes], total: int, sent: Sent | None, done: int = 0) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        done += len(piece)
        if sent is not None:
            sent(done, total)


@contextmanager
def packed(src: Path) -> Iterator[Path]:
    """The file itself, or a folder as one tar, always the same bytes for the same files."""
    if src.is_file():
        yield src
        return
    if not src.is_dir():
        raise E.UsageError(f"{src} does not exist.")
    with tempfile.TemporaryDirectory(prefix="bnfold-pack-") as folder:
        target = Path(folder) / "model.tar"
        with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(path for path in src.rglob("*") if path.is_file()):
                entry = tarfile.TarInfo(path.relative_to(src).as_posix())
                entry.size = path.stat().st_size
                with path.open("rb") as file:
                    archive.addfile(entry, file)
        yield target


def header_digest(value: str) -> str:
    """`sha256:<hex>` of a Repr-Digest header."""
    encoded = value.partition("sha-256=:")[2].partition(":")[0]
    return f"sha256:{base64.b64decode(encoded).hex()}"
