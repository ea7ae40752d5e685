"""The client itself: jobs, events, reports, releases."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from folding import errors as E  # noqa: N812
from folding.options import FoldOptions
from folding.progress import Event
from service.client.transfer import Sent, Transfers, packed, release_of
from service.client.views import Job, Release, ServerEvent
from service.client.wire import raise_problem, unreachable


class Client(Transfers):
    """Everything that the HTTP interface offers. Errors are those of `folding.errors`."""

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
        candidate: str | None = None,
    ) -> Job:
        """Upload what the service does not have yet, and queue the job. Folders travel as an archive.

        `candidate`: digest of the uploaded ONNX file that a job of kind `verify` compares with `src`.
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
        if candidate is not None:
            body["candidate"] = candidate
        key = idempotency_key or f"client-{os.urandom(16).hex()}"
        answer = self._call("POST", "/v1/jobs", json=body, headers={"idempotency-key": key})
        return Job.model_validate(answer.json())

    def verify(
        self,
        src: Path,
        artifact: Path,
        options: FoldOptions | None = None,
        *,
        probe: Path | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Upload both, and queue the comparison of the ONNX file `artifact` with the model `src`.

        The job ends `succeeded` where the verdict is pass, else `rejected`; its report says why.
        """
        candidate = self.upload(artifact)
        return self.submit(
            src, options, probe=probe, idempotency_key=idempotency_key, kind="verify", candidate=candidate
        )

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
                        raise_problem(answer)
                    for event in _parse_events(answer.iter_lines()):
                        after, failures = event.seq, 0
                        yield event
                        if deadline is not None and time.monotonic() > deadline:
                            return
            except (httpx.TransportError, E.TemporaryFailure) as error:
                failures += 1
                if failures > self._retries:
                    if isinstance(error, httpx.TransportError):
                        raise unreachable(error) from error
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

    def attestation(self, digest: str) -> dict[str, Any]:
        """The signed provenance of an artifact."""
        return dict(self._call("GET", f"/v1/artifacts/{digest}/attestation").json())

    def releases(self) -> list[Release]:
        """All of them."""
        return [Release.model_validate(item) for item in self._call("GET", "/v1/releases").json()["releases"]]

    def release_history(self, name: str, channel: str) -> list[dict[str, Any]]:
        """Every move, newest first."""
        return list(self._call("GET", f"/v1/releases/{name}/{channel}/history").json()["history"])

    def set_release(
        self, name: str, channel: str, digest: str, *, note: str = "", if_match: str | None = None,
        accept_unhealthy: bool = False,
    ) -> Release:  # fmt: skip
        """Point the channel. Without `if_match` only a new channel is made.

        accept_unhealthy: release an artifact of unhealthy statistics as well.
        """
        headers = {"if-match": if_match} if if_match is not None else {"if-none-match": "*"}
        body = {"digest": digest, "note": note, "accept_unhealthy": accept_unhealthy}
        return release_of(self._call("PUT", f"/v1/releases/{name}/{channel}", json=body, headers=headers))


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
