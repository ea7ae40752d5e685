"""`submit`, `status`, `pull`, `release`: the commands that talk to a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli import flags as f
from service.cli.fold_flags import FLAGS, Given, fold_flags


def register(app: typer.Typer) -> None:
    """Hang the commands into the tree."""
    for command in (submit, status, pull, release):
        app.command()(command)


@fold_flags()
def submit(
    src: f.Source,
    url: f.Url = f.DEFAULT_URL,
    key: f.Key = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the verdict; it decides the exit code.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="OUT.onnx", help="With --wait: fetch the artifact.")
    ] = None,
    report: f.ReportJson = None,
    html: f.Html = None,
    junit: f.Junit = None,
    markdown: f.Markdown = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option("--idempotency-key", help="The same key never makes two jobs. Default: from content."),
    ] = None,
    given: Given = FLAGS,
    calibrate: f.Calibrate = None,
    probe: f.Probe = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait for the verdict; 5 is the exit code after that.")
    ] = 3600.0,
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """Send a model to a service. Bytes that it already has are not sent again.

    [bold]Examples[/bold]

      bnfold submit model.h5 --wait -o model.onnx --report report.json

      BNFOLD_URL=https://bnfold.example BNFOLD_KEY=... bnfold submit exported/ --wait --junit bnfold.xml
    """
    from service.cli import remote_commands

    renderings = {"json": report, "html": html, "junit": junit, "markdown": markdown}
    return remote_commands.submit(
        src, url, key, wait, out, renderings, idempotency_key, calibrate, probe, timeout, as_json, quiet,
        given=dict(given),
    )  # fmt: skip


def status(
    job: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help="A job; without it, the latest jobs.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the job has ended.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel the job.")] = False,
    url: f.Url = f.DEFAULT_URL,
    key: f.Key = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = 3600.0,
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """Tell how a job is doing, or list the latest ones. A finished job's verdict decides the exit code.

    [bold]Examples[/bold]

      bnfold status

      bnfold status job_01h... --wait
    """
    from service.cli import remote_commands

    return remote_commands.status(job, wait, cancel, url, key, timeout, as_json, quiet)


def pull(
    ref: Annotated[
        str,
        typer.Argument(
            metavar="REF", help="A job, an artifact digest sha256:..., or a release NAME/CHANNEL."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT.onnx", help="Where it goes.")],
    verify_key: Annotated[
        Path | None,
        typer.Option("--verify-key", metavar="KEY.pub", help="Require a provenance statement by this key."),
    ] = None,
    report: f.ReportJson = None,
    bundle: Annotated[
        str,
        typer.Option(
            "--bundle", metavar="KIND", help="Fetch a zip for triton, kserve, ort or folder instead."
        ),
    ] = "",
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the model in the bundle.")
    ] = "model",
    rejected: Annotated[
        bool, typer.Option("--rejected", help="Fetch a quarantined artifact all the same; exit code 3.")
    ] = False,
    url: f.Url = f.DEFAULT_URL,
    key: f.Key = None,
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """Fetch an artifact: resumed where it broke off, checked against its digest, put in place at once.

    [bold]Examples[/bold]

      bnfold pull resnet/production -o model.onnx

      bnfold pull sha256:9f2c... -o model.onnx --verify-key bnfold.pub

      bnfold pull resnet/production -o resnet.zip --bundle kserve --name resnet
    """
    from service.cli import remote_commands

    if bundle:
        return remote_commands.pull_bundle(ref, out, bundle, name, url, key, as_json, quiet)
    return remote_commands.pull(ref, out, verify_key, report, rejected, url, key, as_json, quiet)


def release(
    ref: Annotated[
        str | None, typer.Argument(metavar="[NAME/CHANNEL]", help="The release; without it, all of them.")
    ] = None,
    target: Annotated[
        str | None, typer.Argument(metavar="[JOB|DIGEST]", help="What it shall point to from now on.")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="What it pointed to before.")] = False,
    accept_unhealthy: Annotated[
        bool, typer.Option("--accept-unhealthy", help="Release it although its statistics are not healthy.")
    ] = False,
    url: f.Url = f.DEFAULT_URL,
    key: f.Key = None,
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """Create or move a release, or show where it points.

    [bold]Examples[/bold]

      bnfold release

      bnfold release resnet/production sha256:9f2c...

      bnfold release resnet/production --history
    """
    from service.cli import remote_commands

    return remote_commands.release(ref, target, history, accept_unhealthy, url, key, as_json, quiet)
