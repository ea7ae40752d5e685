"""The command tree: signatures and help. Each command is one module, imported when it runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli import completion
from service.cli import flags as f
from service.cli.fold_flags import COMPARING, FLAGS, READING, Given, fold_flags

app = typer.Typer(
    name="bnfold",
    add_completion=False,  # `bnfold completion SHELL`, which asks nobody which shell it runs under
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Fold batch-norm moving statistics into models, export ONNX, and prove the result equivalent.

Exit codes: 0 verified; 2 usage; 3 verification failed or inconclusive; 4 unsupported, unsafe or
unhealthy model; 5 cancelled or timed out; 75 temporary failure.

[bold]Examples[/bold]

  bnfold inspect model.ckpt-1000            what is in it, and is it healthy?

  bnfold fold model.ckpt-1000 -o model.onnx fold, export, verify

  bnfold explain never_updated              what a code means and what to do

  bnfold serve                              the service with its web pages
""",
)


def _version(wanted: bool) -> None:
    if wanted:
        from folding import toolchain

        print(f"bnfold {toolchain.version()}")
        raise typer.Exit(0)


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the command as a whole."""
    context.obj = app  # for commands that describe all commands


@app.command()
@fold_flags(READING)
def inspect(
    src: f.Source,
    stats: Annotated[
        Path | None,
        typer.Option("--stats", metavar="OUT.npz", help="Write the raw statistics, keys layer/role."),
    ] = None,
    given: Given = FLAGS,
    allow_unsandboxed: f.Unsandboxed = False,
    timeout: f.Timeout = 3600.0,
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """Tell what is in a model: format, inputs and outputs, every batch norm with its statistics and health.

    Nothing is converted. A checkpoint without a graph is enough: the variables tell which layers there are.

    [bold]Examples[/bold]

      bnfold inspect model.ckpt-1000

      bnfold inspect exported/ --json

      bnfold inspect model.h5 --stats stats.npz     moving means and variances as numpy arrays
    """
    from service.cli import inspect as command
    from service.cli.invocation import Invocation

    return command.run(src, stats, Invocation(allow_unsandboxed, timeout, as_json, quiet, given))


@app.command()
@fold_flags()
def fold(
    src: f.Source,
    out: Annotated[
        Any,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT.onnx",
            parser=f.place,
            help="Where the artifact goes: a file, or an address (s3, gs, az, hf, oci; https by PUT).",
        ),
    ],
    report: f.ReportJson = None,
    html: f.Html = None,
    junit: f.Junit = None,
    markdown: f.Markdown = None,
    given: Given = FLAGS,
    calibrate: f.Calibrate = None,
    probe: f.Probe = None,
    no_verify: Annotated[
        bool,
        typer.Option("--no-verify", help="Write without proof: exit code 3.", rich_help_panel="Verification"),
    ] = False,
    attest: Annotated[
        Path | None,
        typer.Option("--attest", metavar="A.json", help="Write a signed provenance statement."),
    ] = None,
    allow_unsandboxed: f.Unsandboxed = False,
    timeout: f.Timeout = 3600.0,
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """Fold the batch norms of a model into its weights, write ONNX, and prove the two equivalent.

    The artifact appears at OUT only with the verdict pass (exit code 0). With any other verdict it is kept
    beside it as OUT.rejected, and the exit code is 3.

    [bold]Examples[/bold]

      bnfold fold model.ckpt-1000 -o model.onnx

      bnfold fold exported/ -o model.onnx --report report.json --html report.html

      bnfold fold frozen.pb -o model.onnx --input images:0=?,224,224,3 --feed is_training=false

      bnfold fold model.h5 -o model.onnx --calibrate data.npz --recalibrate

      bnfold fold model.onnx -o folded.onnx --provider cpu --provider cuda --require cuda

      bnfold fold s3://models/resnet.onnx#sha256:9f2c... -o s3://models/resnet.folded.onnx
    """
    from service.cli import fold as command
    from service.cli.invocation import Invocation

    renderings = {"json": report, "html": html, "junit": junit, "markdown": markdown}
    given = {**given, "verify": False if no_verify else None}
    invocation = Invocation(allow_unsandboxed, timeout, as_json, quiet, given)
    return command.run(src, out, renderings, attest, calibrate, probe, invocation)


@app.command()
@fold_flags(COMPARING)
def verify(
    a: Annotated[Path, typer.Argument(metavar="A", help="The reference model, in any supported format.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The candidate, an ONNX file.")],
    certificate: Annotated[
        bool,
        typer.Option("--certificate", help="Check the closed-form certificate of every fold site as well."),
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="V.json", help="Write the verification as JSON.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="V.html",
            help="Write a page: both graphs, and why each batch norm is left or gone.",
        ),
    ] = None,
    given: Given = FLAGS,
    probe: f.Probe = None,
    allow_unsandboxed: f.Unsandboxed = False,
    timeout: f.Timeout = 3600.0,
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """Compare two models: same inputs in, how far apart are the outputs, on which runtime, and is it too far?

    [bold]Examples[/bold]

      bnfold verify original.onnx folded.onnx

      bnfold verify saved_model/ folded.onnx --provider cuda --require cuda

      bnfold verify saved_model/ folded.onnx --certificate

      bnfold verify original.onnx simplified.onnx --html page.html
    """
    from service.cli import verify as command
    from service.cli.invocation import Invocation

    invocation = Invocation(allow_unsandboxed, timeout, as_json, quiet, given)
    return command.run(a, b, certificate, report, html, probe, invocation)


@app.command()
def check(
    models: Annotated[list[Path], typer.Argument(metavar="SRC...", help="Models, in any supported format.")],
    health_only: Annotated[
        bool, typer.Option("--health-only", help="Only judge the statistics; convert nothing.")
    ] = False,
    allow_unsandboxed: f.Unsandboxed = False,
    timeout: f.Timeout = 3600.0,
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """Check models and keep nothing: does each fold and verify, are its statistics healthy?

    One line for each model; the worst decides the exit code. Made for hooks, see .pre-commit-hooks.yaml.

    [bold]Examples[/bold]

      bnfold check models/*.onnx

      bnfold check --health-only model.ckpt-1000
    """
    from service.cli import check as command

    return command.run(models, health_only, allow_unsandboxed, timeout, as_json, quiet)


@app.command()
def bundle(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT.onnx", help="What `bnfold fold` wrote.")],
    report: Annotated[
        Path, typer.Option("--report", metavar="R.json", help="The report that was written with it.")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT", help="A new folder, or a zip where it ends in .zip.")
    ],
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND", help="triton, kserve, ort or folder.")
    ] = "triton",
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the model in the bundle.")
    ] = "model",
    attestation: Annotated[
        Path | None,
        typer.Option("--attestation", metavar="A.json", help="The statement that `--attest` wrote."),
    ] = None,
    storage_uri: Annotated[
        str, typer.Option("--storage-uri", metavar="URI", help="Where the files of a KServe bundle will lie.")
    ] = "",
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """Pack a proved artifact: for Triton, KServe, ONNX Runtime format, or as a folder with a model card.

    The artifact must be the one that the report is about, and its verdict pass.

    [bold]Examples[/bold]

      bnfold bundle model.onnx --report report.json -o repository --name resnet

      bnfold bundle model.onnx --report report.json -o resnet.zip --kind kserve --storage-uri s3://models/resnet
    """
    from service.cli import bundle as command

    return command.run(artifact, report, out, kind, name, attestation, storage_uri, as_json, quiet)


def _codes(incomplete: str) -> list[str]:
    from folding.errors import catalogue

    return [entry.code for entry in catalogue.entries() if entry.code.startswith(incomplete)]


@app.command()
def explain(
    code: Annotated[
        str | None,
        typer.Argument(metavar="[CODE]", help="A health, skip, hazard or error code.", autocompletion=_codes),
    ] = None,
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """Explain a code: what it means, why it matters, what to do. Without CODE: the list of all.

    [bold]Examples[/bold]

      bnfold explain never_updated

      bnfold explain
    """
    from service.cli import explain as command

    return command.run(code, as_json, quiet)


def _register() -> None:
    """Commands that talk to a service, run one, or serve a shell live in their own tree modules."""
    from service.cli import operate, remote, shell

    remote.register(app)
    operate.register(app)
    shell.register(app)


_register()
if completion.VARIABLE in os.environ:  # a shell asks at the Tab key
    completion.register_shells()
