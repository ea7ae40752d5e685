"""Bytes up and down: resumed where they broke off, checked by digest."""

from __future__ import annotations

import base64
import hashlib
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import httpx

from folding import errors as E  # noqa: N812
from service.client.views import Job, Release
from service.client.wire import HttpTransport, raise_problem, unreachable

CHUNK = 1 << 20
RESUMABLE = 64 << 20  # larger uploads go by tus and survive an interruption
Sent = Callable[[int, int], None]


class Transfers(HttpTransport):
    """Uploads and downloads."""

    def upload(self, path: Path, sent: Sent | None = None) -> str:
        """Make sure that the service has the file's bytes; their digest."""
        digest, size = _digest(path), path.stat().st_size
        if self._has(f"/v1/blobs/{digest}"):
            return digest
        if size > RESUMABLE:
            return self._upload_resumable(path, digest, size, sent)

        def body() -> Iterator[bytes]:
            with path.open("rb") as file:
                yield from _reporting(_chunks(file), size, sent)

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
                    body = _reporting(_chunks(file), size, sent, offset)
                    answer = self._http.patch(place, content=body, headers=headers)
                raise_problem(answer)
            except (httpx.TransportError, E.TemporaryFailure) as error:
                failures += 1
                if failures > self._retries:
                    if isinstance(error, httpx.TransportError):
                        raise unreachable(error) from error
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

    def resolve(self, ref: str) -> tuple[str, Job | None]:
        """Digest of a job id, a digest, or `name/channel`; and the job, where a job was named."""
        if ref.startswith("sha256:"):
            if len(ref) != 71 or set(ref[7:]) - set("0123456789abcdef"):
                raise E.UsageError(
                    f"{ref[:90]!r} is not a whole digest.",
                    hint="A digest is sha256: and 64 hex digits; `bnfold status JOB` shows it.",
                )
            return ref, None
        if "/" in ref:
            name, _, channel = ref.partition("/")
            return self.release(name, channel).digest, None
        job = self.job(ref)
        if job.artifact is None:
            job.raise_for_state()
            raise E.UsageError(f"Job {ref} is {job.state} and has no artifact.")
        return job.artifact.digest, job

    def job(self, job_id: str, *, wait: float = 0.0) -> Job:
        """One job; with `wait`, at its end or after that many seconds."""
        timeout = httpx.Timeout(wait + 30.0, connect=10.0)
        answer = self._call(
            "GET", f"/v1/jobs/{job_id}", params={"wait": wait} if wait else None, timeout=timeout
        )
        return Job.model_validate(answer.json())

    def release(self, name: str, channel: str) -> Release:
        """Where the channel points."""
        return release_of(self._call("GET", f"/v1/releases/{name}/{channel}"))

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
            except (httpx.TransportError, E.TemporaryFailure) as error:
                failures += 1
                if failures > self._retries:
                    if isinstance(error, httpx.TransportError):
                        raise unreachable(error) from error
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
                raise_problem(answer)
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

    def bundle(
        self, digest: str, out: Path, name: str = "model", kind: str = "triton", storage_uri: str = ""
    ) -> None:
        """Fetch a bundle as a zip; kinds are those of `folding.bundles`."""
        params = {"name": name, "kind": kind, "storage_uri": storage_uri}
        with self._http.stream("GET", f"/v1/artifacts/{digest}/bundle", params=params) as answer:
            if answer.status_code >= 400:
                answer.read()
                raise_problem(answer)
            part = out.with_name(f".{out.name}.part")
            with part.open("wb") as file:
                for piece in answer.iter_bytes(CHUNK):
                    file.write(piece)
            os.replace(part, out)


def release_of(answer: httpx.Response) -> Release:
    return Release.model_validate(answer.json() | {"etag": answer.headers.get("etag", "")})


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(CHUNK):
        yield piece


def _reporting(pieces: Iterator[bytes], total: int, sent: Sent | None, done: int = 0) -> Iterator[bytes]:
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
