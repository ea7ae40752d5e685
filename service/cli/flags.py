"""Options that several commands share, declared once with the help text that people read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[
    Path,
    typer.Argument(
        metavar="SRC",
        help="The model: a file, a folder, an archive, or a checkpoint prefix. Recognised by content.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]

Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=SHAPE",
        help="Graph input and its shape, e.g. images:0=?,224,224,3. Repeatable.",
        rich_help_panel="Reading the model",
    ),
]
Outputs = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        metavar="NAME",
        help="Graph output by name. Repeatable. Default: inferred.",
        rich_help_panel="Reading the model",
    ),
]
Feeds = Annotated[
    list[str] | None,
    typer.Option(
        "--feed",
        metavar="NAME=VALUE",
        help="Constant for an input such as is_training; overrides every assumption. Repeatable.",
        rich_help_panel="Reading the model",
    ),
]
Signature = Annotated[
    str | None,
    typer.Option(
        help="SavedModel signature or traced function. Default: serving_default.",
        rich_help_panel="Reading the model",
    ),
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", help="SavedModel tag. Repeatable.", rich_help_panel="Reading the model"),
]
Step = Annotated[
    int | None,
    typer.Option(
        help="Checkpoint step where a folder holds several. Default: the newest.",
        rich_help_panel="Reading the model",
    ),
]
UseEma = Annotated[
    bool | None,
    typer.Option(
        "--use-ema",
        help="Take ExponentialMovingAverage shadows for the weights.",
        rich_help_panel="Reading the model",
    ),
]
FreezeInputs = Annotated[
    bool | None,
    typer.Option(
        "--freeze-inputs",
        help="Turn initializers that are also graph inputs into constants, and fold them.",
        rich_help_panel="Reading the model",
    ),
]
MissingStats = Annotated[
    str | None,
    typer.Option(
        "--missing-stats",
        metavar="error|init",
        help="Moving statistics absent from the checkpoint: stop, or take 0 and 1.",
        rich_help_panel="Statistics",
    ),
]
Calibrate = Annotated[
    Path | None,
    typer.Option(
        "--calibrate",
        metavar="DATA.npz",
        help="Arrays by input name. Shows where moving statistics disagree with this data.",
        rich_help_panel="Statistics",
    ),
]
Recalibrate = Annotated[
    bool | None,
    typer.Option(
        "--recalibrate",
        help="Replace moving statistics by those measured on the --calibrate data.",
        rich_help_panel="Statistics",
    ),
]
Strict = Annotated[
    bool | None,
    typer.Option("--strict", help="Health warnings stop the job.", rich_help_panel="Statistics"),
]
Opset = Annotated[
    int | None,
    typer.Option(help="ONNX opset of the artifact.", rich_help_panel="The artifact"),
]
Probe = Annotated[
    Path | None,
    typer.Option(
        "--probe",
        metavar="DATA.npz",
        help="Your own verification inputs, by input name.",
        rich_help_panel="Verification",
    ),
]
Providers = Annotated[
    list[str] | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        help="Execution provider to verify on: cpu, cuda, ... Repeatable. Default: cpu.",
        rich_help_panel="Verification",
    ),
]
Require = Annotated[
    list[str] | None,
    typer.Option(
        "--require",
        metavar="NAME",
        help="Provider without which the verdict is inconclusive. Repeatable.",
        rich_help_panel="Verification",
    ),
]
Rtol = Annotated[
    float | None,
    typer.Option(
        "--rtol", help="Relative tolerance instead of the derived one.", rich_help_panel="Verification"
    ),
]
Atol = Annotated[
    float | None,
    typer.Option(
        "--atol", help="Absolute tolerance instead of the derived one.", rich_help_panel="Verification"
    ),
]
Seed = Annotated[
    int | None, typer.Option(help="Seed of the generated probes.", rich_help_panel="Verification")
]
Latency = Annotated[
    bool | None,
    typer.Option("--latency", help="Measure latency before and after.", rich_help_panel="Verification"),
]
Unsandboxed = Annotated[
    bool,
    typer.Option(
        "--allow-unsandboxed",
        help="Run in this process, without the sandbox. Only for models that you trust.",
        rich_help_panel="Running",
    ),
]
Timeout = Annotated[
    float,
    typer.Option(min=0.0, help="Wall-clock limit of the job in seconds.", rich_help_panel="Running"),
]
ReportJson = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="R.json", help="Write the whole report as JSON.", rich_help_panel="Reports"
    ),
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html", metavar="R.html", help="Write it as one self-contained page.", rich_help_panel="Reports"
    ),
]
Junit = Annotated[
    Path | None,
    typer.Option("--junit", metavar="R.xml", help="Write it as JUnit for CI.", rich_help_panel="Reports"),
]
Markdown = Annotated[
    Path | None,
    typer.Option(
        "--markdown", metavar="R.md", help="Write it as Markdown for a review.", rich_help_panel="Reports"
    ),
]
Url = Annotated[
    str,
    typer.Option("--url", envvar="BNFOLD_URL", help="Address of the service.", rich_help_panel="Service"),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar="BNFOLD_KEY",
        help="API key; better given by the environment.",
        show_default=False,
        rich_help_panel="Service",
    ),
]

DEFAULT_URL = "http://127.0.0.1:8750"
