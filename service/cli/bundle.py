"""`bnfold bundle`: pack a proved artifact as deployers want it."""

from __future__ import annotations

from pathlib import Path

from folding.bundles import find, local, packing
from folding.errors import UsageError
from folding.report import Report
from service.cli import failures, parse
from service.cli.output import Output


def run(
    artifact: Path,
    report: Path,
    out: Path,
    kind: str,
    name: str,
    attestation: Path | None,
    storage_uri: str,
    as_json: bool,
    quiet: bool,
) -> int:
    """Check the artifact against its report, then write the bundle."""
    output, chosen = Output(as_json, quiet), find(kind)
    told = _report(parse.existing(report, "report"))
    signed = parse.existing(attestation, "attestation").read_bytes() if attestation is not None else None
    parse.existing(artifact, "artifact")
    members = chosen.members(local.contents(artifact, told, name, signed, storage_uri))
    packing.write(members, out)
    output.document({"path": str(out), "kind": kind, "members": [member.path for member in members]})
    for member in members:
        output.note(member.path)
    output.say(f"written: {out}")
    return failures.OK


def _report(path: Path) -> Report:
    try:
        return Report.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise UsageError(
            f"{path} is no report of bnfold.", hint="bnfold fold --report REPORT.json writes one."
        ) from error
