"""Options that several commands share, declared once with the help text that people read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def place(text: str) -> Any:
    """Return the address or the path that somebody typed."""
    from service.addresses.address import parse

    return parse(text) or Path(text)


Source = Annotated[
    Any,  # Path | Address
    typer.Argument(
        metavar="SRC",
        parser=place,
        help="The model: a file, a folder, an archive, a checkpoint prefix, or an address (https://, s3://, "
        "gs://, az://, hf://, oci://; #sha256:... pins it). Recognised by content.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]

Calibrate = Annotated[
    Path | None,
    typer.Option(
        "--calibrate",
        metavar="DATA.npz",
        help="Arrays by input name. Shows where moving statistics disagree with this data.",
        rich_help_panel="Statistics",
    ),
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
