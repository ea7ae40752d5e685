"""Contents of a bundle from files: an artifact as `bnfold fold` wrote it, and its report."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from folding.artifact_files import ort_format_of
from folding.bundles.base import Contents, Member
from folding.errors import UsageError
from folding.report import OrtFormat, Report, Verdict
from folding.report.headline import headline
from folding.report.render import render

CHUNK = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def contents(
    artifact: Path,
    report: Report,
    name: str = "model",
    attestation: bytes | None = None,
    storage_uri: str = "",
) -> Contents:
    """Return what a bundle of the artifact is made of.

    artifact: the ONNX file that the report is about, with its weights file and its ORT format beside it.
    attestation: the signed statement about it.
    Raises: UsageError for an invalid name, a verdict other than `pass`, or files that are not the report's.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name of a bundle.", hint="Use letters, digits, '.', '_' and '-'; at most 100."
        )
    if report.verdict is not Verdict.PASS or report.artifact is None:
        raise UsageError(
            f"The verdict of the report is {report.verdict.value}: only a proved artifact is packed.",
            code="quarantined",
            hint="The report says why; fold again when the reason is gone.",
        )
    _require_digest(artifact, report.artifact.digest)
    weights = artifact.with_name(artifact.name + ".data")
    model = [_file(artifact, "model.onnx")]
    model += [_file(weights, weights.name)] if weights.exists() else []  # its name stands inside the model
    return Contents(
        name=name,
        digest=report.artifact.digest,
        source=report.source,
        headline=report.headline or headline(report),
        model=tuple(model),
        report=Member.of("report.json", report.to_json().encode() + b"\n"),
        card=lambda: render(report, "card").encode(),
        attestation=lambda: attestation,
        ort=lambda: None if report.ort_format is None else _ort(artifact, report.ort_format),
        storage_uri=storage_uri,
    )


def _ort(artifact: Path, told: OrtFormat) -> tuple[Member, str]:
    path = ort_format_of(artifact)
    _require_digest(path, told.artifact.digest)
    return _file(path, "model.ort"), told.required_operators


def _require_digest(path: Path, digest: str) -> None:
    if not path.is_file():
        raise UsageError(f"{path} does not exist.")
    with path.open("rb") as file:
        found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    if found != digest:
        raise UsageError(
            f"{path.name} has the digest {found}; the report is about {digest}.",
            code="digest_mismatch",
            hint="Give the report that was written with this file.",
        )


def _file(path: Path, name: str) -> Member:
    def read() -> Iterator[bytes]:
        with path.open("rb") as file:
            while piece := file.read(CHUNK):
                yield piece

    return Member(name, path.stat().st_size, read)
