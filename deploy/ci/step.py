"""A pipeline step: send a model to a bnfold service, wait, annotate, fetch the artifact, fail on the verdict.

Standard library only, so that a runner needs nothing but Python >= 3.9. Everything comes from BNFOLD_*
variables: MODEL (file or folder) and URL are needed; KEY, OPTIONS (JSON), OUT, CALIBRATION, PROBE, REPORTS
(folder for report.json, report.html, report.md, junit.xml), TIMEOUT (seconds) are not. Results go to
GITHUB_OUTPUT, GITHUB_STEP_SUMMARY and to the dotenv file BNFOLD_DOTENV where those are set.

Exit codes as of the command: 0 pass, 2 usage, 3 not proved, 4 model refused, 5 timed out, 75 try again.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import re
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

FORMS = {"report.json": "application/json", "report.html": "text/html", "report.md": "text/markdown",
         "junit.xml": "application/junit+xml"}  # fmt: skip
EXITS = {"UsageError": 2, "VerificationFailed": 3, "Cancelled": 5, "TimedOut": 5, "TemporaryFailure": 75,
         "InternalError": 75}  # fmt: skip
POLL = 20.0  # seconds that one request waits for the end
ATTEMPTS = 6
CHUNK = 1 << 20
NO_SERVICE = "is this the address of a bnfold service, or of something before it?"


class Stop(Exception):
    """The step ends here, with this exit code and these words; `status` is the HTTP status behind it."""

    def __init__(self, code: int, message: str, hint: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.code, self.hint, self.status = code, hint, status


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to wherever it points."""

    def redirect_request(self, *args: Any) -> None:
        return None


OPENER = urllib.request.build_opener(NoRedirects)


def line(text: object) -> str:
    """One line: names come from models and words from a service; both could hold a runner's commands."""
    return "".join(c if c.isprintable() else " " for c in str(text))


def say(text: object) -> None:
    """A line of the log, never a command to the runner."""
    words = line(text)
    print(f" {words}" if words.lstrip().startswith(("::", "##[")) else words, flush=True)


def setting(name: str, default: str = "") -> str:
    """BNFOLD_<name>, empty counting as not given."""
    return os.environ.get(f"BNFOLD_{name}", "").strip() or default


class Service:
    """The few requests that a step makes. Refused connections and 5xx are tried again."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The response, open. Raises: Stop with the problem's own words."""
        for attempt in range(ATTEMPTS):
            if hasattr(body, "seek"):
                body.seek(0)
            request = urllib.request.Request(
                self.url + path, data=body, method=method, headers={**self.headers, **headers}
            )
            try:
                return OPENER.open(request, timeout=POLL * 3)
            except urllib.error.HTTPError as error:
                if error.code not in (429, 502, 503, 504) or attempt == ATTEMPTS - 1:
                    raise refusal(error) from None
                wanted = error.headers.get("Retry-After") or ""
                pause = float(wanted) if wanted.isdecimal() else 2.0**attempt
            except OSError as error:
                if attempt == ATTEMPTS - 1:
                    raise Stop(75, f"{self.url} does not answer: {error}", "is the address right?") from None
                pause = 2.0**attempt
            time.sleep(min(pause, 30.0))
        raise AssertionError("unreachable")

    def json(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The same, decoded."""
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        with self.request(method, path, data, **headers) as answer:
            try:
                return json.load(answer)
            except ValueError:
                raise Stop(75, f"{self.url}{path} answers, but not with JSON", NO_SERVICE) from None

    def upload(self, path: Path) -> str:
        """Store a file's bytes unless they are there; their digest."""
        digest = digest_of(path)
        try:
            self.request("HEAD", f"/v1/blobs/{digest}").close()
        except Stop as stop:
            if stop.status != 404:
                raise
            with path.open("rb") as body:
                length = str(path.stat().st_size)
                headers = {"Content-Type": "application/octet-stream", "Content-Length": length}
                self.request("PUT", f"/v1/blobs/{digest}", body, **headers).close()
        return digest


def refusal(error: urllib.error.HTTPError) -> Stop:
    """A problem+json answer as the end of the step."""
    try:
        problem = json.load(error)
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    code = {401: 2, 403: 2, 404: 2, 429: 75, 503: 75, 507: 75}.get(error.code, 2 if error.code < 500 else 75)
    words, hint = problem.get("detail") or f"HTTP {error.code}", problem.get("hint") or ""
    if 300 <= error.code < 400:
        words, hint = f"the service redirects to {error.headers.get('Location')}", "give that address as url"
    return Stop(code, words, hint, error.code)


def digest_of(path: Path) -> str:
    """sha256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(CHUNK), b""):
            found.update(piece)
    return f"sha256:{found.hexdigest()}"


def packed(path: Path, folder: Path) -> Path:
    """A folder as a .tar.gz of its files alone, so that equal folders have equal digests."""
    out = folder / f"{path.resolve().name}.tar.gz"
    members = sorted(p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
    with out.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as zipped:
        tar = tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - one level less
        for member in members:
            info = tarfile.TarInfo(member.relative_to(path).as_posix())
            info.size = member.stat().st_size
            with member.open("rb") as file:
                tar.addfile(info, file)
        tar.close()
    return out


def submit(service: Service, model: Path) -> dict[str, Any]:
    """Upload what is missing and queue the job; equal input and options are answered from the cache."""
    with tempfile.TemporaryDirectory() as folder:
        source = packed(model, Path(folder)) if model.is_dir() else model
        body: dict[str, Any] = {"input": service.upload(source), "filename": source.name}
        for name in ("calibration", "probe"):
            data = setting(name.upper())
            if data:
                body[name] = service.upload(existing(data))
    body["options"] = options()
    job: dict[str, Any] = service.json("POST", "/v1/jobs", body)
    return job


def options() -> dict[str, Any]:
    """BNFOLD_OPTIONS."""
    try:
        found = json.loads(setting("OPTIONS", "{}"))
    except ValueError as error:
        raise Stop(2, f"options: not JSON ({error})") from None
    if not isinstance(found, dict):
        raise Stop(2, "options: not a JSON object", 'for example {"strict": true}')
    return found


def existing(text: str) -> Path:
    """The path, which must be there."""
    path = Path(text)
    if not path.exists():
        raise Stop(2, f"no such file: {text}")
    return path


def seconds(text: str) -> float:
    """BNFOLD_TIMEOUT."""
    try:
        return float(text)
    except ValueError:
        raise Stop(2, f"timeout: {text!r} is no number of seconds") from None


def wait(service: Service, job: dict[str, Any]) -> dict[str, Any]:
    """Until the job has ended, telling each stage once."""
    deadline = time.monotonic() + seconds(setting("TIMEOUT", "3600"))
    told = None
    while job["state"] in ("queued", "running", "stopping"):
        if time.monotonic() > deadline:
            raise Stop(5, f"job {job['id']} is still {job['state']}", "raise the timeout")
        if (now := (job["state"], job.get("stage"))) != told:
            told = now
            say(f"{job['state']} {job.get('stage') or ''}".rstrip())
        job = service.json("GET", f"/v1/jobs/{job['id']}?wait={POLL if told else 1:g}")
    return job


def fetch(service: Service, job: dict[str, Any], out: Path) -> None:
    """The artifact, checked against its digest before it gets its name."""
    partial = out.with_name(out.name + ".part")
    out.parent.mkdir(parents=True, exist_ok=True)
    with service.request("GET", job["links"]["artifact"]) as answer, partial.open("wb") as file:
        for piece in iter(lambda: answer.read(CHUNK), b""):
            file.write(piece)
    if digest_of(partial) != job["artifact"]["digest"]:
        partial.unlink()
        raise Stop(75, "the artifact was damaged on its way", "run the step again")
    partial.replace(out)


def reports(service: Service, job: dict[str, Any]) -> dict[str, Any]:
    """Every form of the report into the folder; the JSON one, read."""
    folder = Path(setting("REPORTS", tempfile.mkdtemp(prefix="bnfold-")))
    folder.mkdir(parents=True, exist_ok=True)
    for name, media in FORMS.items():
        with service.request("GET", f"/v1/jobs/{job['id']}/report", Accept=media) as answer:
            (folder / name).write_bytes(answer.read())
    append("GITHUB_STEP_SUMMARY", (folder / "report.md").read_text(encoding="utf-8") + "\n")
    found: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return found


def annotate(level: str, title: str, message: str) -> None:
    """A workflow command on GitHub, a plain line elsewhere. Names come from models: no line ends."""
    title, message = line(title), line(message)
    if os.environ.get("GITHUB_ACTIONS"):
        escaped = message.replace("%", "%25")
        label = re.sub(r"[%:,]", " ", title)
        print(f"::{level} title={label}::{escaped}")
    else:
        say(f"{level}: {title}: {message}")


def findings(report: dict[str, Any]) -> None:
    """The headline, health and hazards as annotations."""
    said = report.get("headline") or {}
    level = {"healthy": "notice", "unhealthy": "warning"}.get(said.get("state", ""), "error")
    if said:
        annotate(
            level, "bnfold", f"{said['title']}. {said.get('remedy') or said.get('detail') or ''}".strip()
        )
    for norm in report["batch_norms"]:
        for found in norm["health"]:
            if found["severity"] != "ok":
                text = f"{found['evidence']} {found['remedy']}"
                annotate(found["severity"], f"{norm['name']} {found['code']}", text)
    for hazard in report["hazards"]:
        annotate("warning", f"runtime hazard {hazard['code']}", f"{hazard['detail']} {hazard['workaround']}")


def append(variable: str, text: str) -> None:
    """Append to the file that a variable of the runner names, if it does."""
    path = os.environ.get(variable)
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)


def publish(service: Service, job: dict[str, Any]) -> None:
    """The outputs of the step, each in one line whatever the service answered."""
    values = {
        "verdict": job.get("verdict") or "none",
        "digest": (job.get("artifact") or {}).get("digest") or "",
        "job": job["id"],
        "report-url": f"{service.url}/v1/jobs/{job['id']}/report",
    }
    for name, value in ((name, line(value)) for name, value in values.items()):
        append("GITHUB_OUTPUT", f"{name}={value}\n")
        append("BNFOLD_DOTENV", f"BNFOLD_{name.upper().replace('-', '_')}={value}\n")
        say(f"{name}: {value}")


def outcome(job: dict[str, Any]) -> None:
    """Raises Stop unless the job succeeded, which takes the verdict pass."""
    state = job["state"]
    if state == "succeeded":
        return
    if state == "rejected":
        raise Stop(3, f"verdict {job['verdict']}: the artifact is quarantined", "the report says why")
    if state == "cancelled":
        raise Stop(5, "the job was cancelled")
    error = job.get("error") or {}
    words = f"{error.get('message', 'the job failed')} [{error.get('code', 'internal')}]"
    raise Stop(EXITS.get(error.get("class", ""), 4), words, error.get("hint") or "")


def address(url: str) -> str:
    """BNFOLD_URL: http or https, nothing that reads files; a key in the clear is worth a warning."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Stop(2, f"url: {url!r} is no address of a service", "for example https://bnfold.example.org")
    local = parts.hostname in ("localhost", "::1") or parts.hostname.startswith("127.")
    if setting("KEY") and parts.scheme == "http" and not local:
        annotate("warning", "bnfold", "the key goes over the network in the clear: use https")
    return url


def run() -> None:
    """The step."""
    if not setting("MODEL") or not setting("URL"):
        raise Stop(2, "BNFOLD_MODEL and BNFOLD_URL are needed")
    model = existing(setting("MODEL"))
    service = Service(address(setting("URL")), setting("KEY"))
    job = wait(service, submit(service, model))
    publish(service, job)
    if "report" in job["links"]:
        findings(reports(service, job))
    outcome(job)
    if setting("OUT"):
        fetch(service, job, Path(setting("OUT")))
        say(f"written: {setting('OUT')}")


def main() -> NoReturn:
    """Run, and turn the end into an annotation and an exit code."""
    try:
        run()
    except Stop as stop:
        annotate("error", "bnfold", f"{stop}{f' ({stop.hint})' if stop.hint else ''}")
        sys.exit(stop.code)
    except (KeyError, TypeError, ValueError, http.client.HTTPException) as error:
        annotate("error", "bnfold", f"an answer that is none of bnfold's: {error!r} ({NO_SERVICE})")
        sys.exit(75)
    except OSError as error:
        annotate("error", "bnfold", f"{error} (a file, or the connection in the middle of an answer)")
        sys.exit(75)
    sys.exit(0)


if __name__ == "__main__":
    main()
