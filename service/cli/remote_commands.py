"""What `submit`, `status`, `pull` and `release` do, through the typed client."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from folding.errors import BnfoldError, UsageError, VerificationFailed
from folding.progress_bar import STAGES
from folding.report import Report
from service.cli import describe, failures, parse
from service.cli.fold import (
    check_calibration,
    name_recalibrated,
    output_files,
    output_folder,
    write_renderings,
)
from service.cli.invocation import fold_options
from service.cli.output import Output
from service.cli.text import clean
from service.client import Client, Job, Release

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.addresses.address import Address


def submit(
    src: Path | Address,
    url: str,
    key: str | None,
    wait: bool,
    out: Path | None,
    renderings: dict[str, Path | None],
    idempotency_key: str | None,
    calibration: Path | None,
    probe: Path | None,
    timeout: float,
    as_json: bool,
    quiet: bool,
    given: dict[str, Any],
) -> int:
    """Upload, queue and, when asked, wait; then the verdict decides."""
    output = Output(as_json, quiet)
    options = fold_options(given)
    check_calibration(options, calibration)
    if not wait and (out or any(renderings.values())):
        raise UsageError("-o and reports need the verdict", hint="add --wait")
    if out is not None:
        output_folder(out)
    output_files({form.upper(): path for form, path in renderings.items()})
    for data, option in ((calibration, "--calibrate"), (probe, "--probe")):
        parse.arrays(data and parse.existing(data), option)
    with Client(url, key) as client:
        with parse.model(src) as model, output.transfer("sending", None) as sent:
            job = client.submit(
                model,
                options,
                calibration=calibration,
                probe=probe,
                idempotency_key=idempotency_key,
                sent=_progress(sent),
            )
        output.note(f"job {job.id} is {job.state}")
        if not wait:
            output.say(job.id)
            output.document(job.model_dump(mode="json"))
            return failures.OK
        return _follow(client, job, out, renderings, timeout, output)


def _progress(sent: Callable[[int], None]) -> Callable[[int, int], None]:
    return lambda done, total: sent(done)


def _follow(
    client: Client,
    job: Job,
    out: Path | None,
    renderings: dict[str, Path | None],
    timeout: float,
    output: Output,
) -> int:
    """Watch the job to its end and hand over what there is; Ctrl-C cancels it on the service too."""
    try:
        with output.progress(STAGES) as listener:
            job = client.wait(job.id, timeout=timeout, listener=None if output.silent else listener)
    except KeyboardInterrupt:
        client.cancel(job.id)
        raise
    if job.state in ("succeeded", "rejected"):
        report = Report.model_validate_json(client.report(job.id))
        second = name_recalibrated(report, out) if out is not None else None
        write_renderings(report, renderings)
        describe.report(report, output)
        if second is not None and job.recalibrated is not None:
            _fetch(client, job.recalibrated.digest, second, output)
    if job.state == "succeeded" and out is not None and job.artifact is not None:
        _fetch(client, job.artifact.digest, out, output)
    output.document(job.model_dump(mode="json"))
    return _exit_code(job, output)


def _exit_code(job: Job, output: Output) -> int:
    """0 for a published artifact; else what the job's end means, said once."""
    try:
        job.raise_for_state()
    except BnfoldError as error:
        if output.json:
            return error.exit_code
        raise
    return failures.OK


def status(
    job_id: str | None,
    wait: bool,
    cancel: bool,
    url: str,
    key: str | None,
    timeout: float,
    as_json: bool,
    quiet: bool,
) -> int:
    """One job, or the latest."""
    output = Output(as_json, quiet)
    with Client(url, key) as client:
        if job_id is None:
            if wait or cancel:
                raise UsageError("--wait and --cancel need a JOB", hint="`bnfold status` lists the jobs")
            return _list(client.jobs(limit=20), output)
        job = client.cancel(job_id) if cancel else client.job(job_id)
        if wait and not job.done:
            with output.progress(STAGES) as listener:
                job = client.wait(job_id, timeout=timeout, listener=None if output.silent else listener)
    output.document(job.model_dump(mode="json"))
    _print(job, output)
    if not job.done:
        return failures.OK
    return failures.OK if cancel else _exit_code(job, output)


def _list(jobs: list[Job], output: Output) -> int:
    output.document([job.model_dump(mode="json") for job in jobs])
    if not jobs:
        output.say("no jobs")
    rows = [
        [j.id, j.filename, j.state, j.stage or "-", j.verdict or "-", _health(j.headline), j.created_at]
        for j in jobs
    ]
    output.table(["job", "model", "state", "stage", "verdict", "health", "created"], rows)
    return failures.OK


def _print(job: Job, output: Output) -> None:
    stage = f" ({clean(job.stage)})" if job.stage and not job.done else ""
    output.say(f"{job.id}  {clean(job.filename)}  {job.state}{stage}")
    if job.verdict:
        output.say(f"  verdict   {job.verdict}")
    if job.headline:
        output.say(f"  headline  {job.headline['title']}")
    if job.artifact is not None:
        output.say(f"  artifact  {job.artifact.digest}")
    if job.recalibrated is not None:
        output.say(f"  recalibrated  {job.recalibrated.digest} ({job.recalibrated.verdict})")


def pull(
    ref: str,
    out: Path,
    verify_key: Path | None,
    report: Path | None,
    rejected: bool,
    url: str,
    key: str | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Fetch by job, digest or release; with a key, only what that key vouches for."""
    output = Output(as_json, quiet)
    output_folder(out)
    output_files({"report": report})
    public = None
    if verify_key is not None:
        from service import provenance

        public = provenance.read_public_key(parse.existing(verify_key, "key"))
    with Client(url, key) as client:
        digest, job = client.resolve(ref)
        if job is not None and not rejected:
            job.raise_for_state()  # its bytes may be published by another job; this one did not prove them
        if public is not None:
            from service import provenance

            statement = provenance.verify(client.attestation(digest), public, digest=digest)
            output.note(f"signed by {provenance.key_id(public)}")
        if report is not None:
            if job is None:
                raise UsageError("--report needs a job as REF", hint="`bnfold status` lists the jobs")
            text = client.report(job.id)
            if public is not None:
                provenance.verify_report(statement, text)
            report.write_text(text, encoding="utf-8")
        _fetch(client, digest, out, output, rejected)
    output.document({"digest": digest, "path": str(out), "verified_by": verify_key and str(verify_key)})
    if rejected and job is not None and job.state == "rejected":
        raise VerificationFailed("the artifact is quarantined: its verdict is not pass")
    return failures.OK


def pull_bundle(
    ref: str, out: Path, kind: str, name: str, url: str, key: str | None, as_json: bool, quiet: bool
) -> int:
    """Fetch a bundle of an artifact as a zip."""
    output = Output(as_json, quiet)
    output_folder(out)
    with Client(url, key) as client:
        digest, job = client.resolve(ref)
        if job is not None:
            job.raise_for_state()
        client.bundle(digest, out, name, kind)
    output.document({"digest": digest, "path": str(out), "kind": kind})
    output.say(f"written: {out}  {digest}")
    return failures.OK


def _fetch(client: Client, digest: str, out: Path, output: Output, rejected: bool = False) -> None:
    with output.transfer("fetching", None) as received:
        client.pull(digest, out, allow_quarantined=rejected, received=_progress(received))
    output.say(f"written: {out}  {digest}")


def release(
    ref: str | None,
    target: str | None,
    history: bool,
    accept_unhealthy: bool,
    url: str,
    key: str | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Show or move a release."""
    output = Output(as_json, quiet)
    with Client(url, key) as client:
        if ref is None:
            return _releases(client.releases(), output)
        name, slash, channel = ref.partition("/")
        if not slash or not name or not channel:
            raise UsageError(f"{ref!r} is no release", hint="write NAME/CHANNEL, e.g. resnet/production")
        if history:
            moves = client.release_history(name, channel)
            output.document(moves)
            rows = [[m["version"], m["digest"], m["at"], m["actor"], m["note"]] for m in moves]
            output.table(["version", "digest", "at", "by", "note"], rows)
            return failures.OK
        found = (
            _move(client, name, channel, target, accept_unhealthy)
            if target
            else client.release(name, channel)
        )
    output.document(found.model_dump(mode="json"))
    output.say(f"{found.name}/{found.channel} -> {found.digest} (version {found.version})")
    if found.headline:
        output.say(f"  {found.headline['title']}")
    return failures.OK


def _move(client: Client, name: str, channel: str, target: str, accept_unhealthy: bool) -> Release:
    """Point the channel; moving one needs the state that was read, so that nobody's change is lost."""
    digest, _ = client.resolve(target)
    known = [r for r in client.releases() if (r.name, r.channel) == (name, channel)]
    etag = client.release(name, channel).etag if known else None
    return client.set_release(name, channel, digest, if_match=etag, accept_unhealthy=accept_unhealthy)


def _health(headline: dict[str, Any] | None) -> str:
    """The state of a headline in a word; `-` where there is none."""
    return str(headline["state"]).replace("_", " ") if headline else "-"


def _releases(found: list[Release], output: Output) -> int:
    output.document([item.model_dump(mode="json") for item in found])
    if not found:
        output.say("no releases")
    rows = [[f"{r.name}/{r.channel}", r.version, _health(r.headline), r.digest, r.updated_at] for r in found]
    output.table(["release", "version", "health", "digest", "updated"], rows)
    return failures.OK
