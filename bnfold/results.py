"""Hold what `fold` and `inspect` return, printable in a terminal and in a notebook."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from folding import bundles
from folding.artifact_files import ort_format_of
from folding.bundles import local, packing
from folding.errors import UsageError, VerificationFailed
from folding.report import HeadlineState, Inspection, Report, Verdict, figures
from folding.report.headline import headline, inspection_headline
from folding.report.render import words
from folding.report.render.text import clean

if TYPE_CHECKING:
    import onnx


# The page's green, amber, red and grey.
COLOURS = {
    HeadlineState.HEALTHY: "#0a6650",
    HeadlineState.UNHEALTHY: "#7a5200",
    HeadlineState.NOT_EQUIVALENT: "#a92b1a",
    HeadlineState.NOT_SHOWN: "#536070",
}


@dataclass(frozen=True)
class Folded:
    """The outcome of one fold. True in a condition when the verdict is `pass`.

    report: everything that was found, folded, compared and written.
    artifact: the ONNX file's bytes; None when it was written to `path` only (weights past 2 GiB).
    path: where the artifact was written, None when no `dst` was given or the verdict is not `pass`.
    recalibrated: the bytes of a second artifact with the statistics of the calibration data, where these
        differ; `report.recalibrated` says more.
    ort_format: the bytes of the artifact in ONNX Runtime's own format, where the option asked for it.
    """

    report: Report
    artifact: bytes | None = field(default=None, repr=False)
    path: Path | None = None
    recalibrated: bytes | None = field(default=None, repr=False)
    ort_format: bytes | None = field(default=None, repr=False)

    @property
    def verdict(self) -> Verdict:
        """The word that gates the artifact."""
        return self.report.verdict

    def __bool__(self) -> bool:
        return self.report.verdict is Verdict.PASS

    def raise_for_verdict(self) -> Folded:
        """Return self when the verdict is `pass`. Raises: VerificationFailed otherwise."""
        if not self:
            said = headline(self.report)
            raise VerificationFailed(f"{said.title}. {said.detail}".strip(), hint=said.remedy)
        return self

    def save(self, dst: str | os.PathLike[str], *, rejected: bool = False) -> Path:
        """Write the artifact to `dst` and return its path.

        rejected: write it although its verdict is not `pass`.
        Raises: VerificationFailed for another verdict; UsageError when the bytes are not held.
        """
        if not rejected:
            self.raise_for_verdict()
        if self.artifact is None:
            raise UsageError(
                "The artifact is not held in memory: its weights are larger than 2 GiB.",
                hint="Give `dst` to fold().",
            )
        path = Path(dst)
        path.write_bytes(self.artifact)
        return path

    def model(self) -> onnx.ModelProto:
        """Return the artifact as an onnx.ModelProto, whatever its verdict.

        Raises: UsageError when neither bytes nor a file were kept.
        """
        import onnx

        if self.artifact is not None:
            return onnx.load_from_string(self.artifact)
        if self.path is None:
            raise UsageError("The artifact was not kept.", hint="Give `dst` to fold().")
        return onnx.load(self.path)

    def bundle(
        self,
        dst: str | os.PathLike[str],
        kind: str = "triton",
        name: str = "model",
        *,
        attestation: bytes | None = None,
        storage_uri: str = "",
    ) -> Path:
        """Pack the artifact for a deployer and return where the bundle is.

        dst: a new folder, or a file that ends in `.zip`. kind: `triton`, `kserve`, `ort` (fold with
        `ort_format=True`) or `folder` (model, report, model card, attestation). name: of the model.
        Raises: UsageError for a verdict other than `pass` or what the kind needs and is not there.
        """
        chosen = bundles.find(kind)
        with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
            made = self.path
            if made is None or not made.exists():
                made = self.save(Path(folder) / "model.onnx", rejected=True)
            if self.ort_format is not None and not ort_format_of(made).exists():
                ort_format_of(made).write_bytes(self.ort_format)
            contents = local.contents(made, self.report, name, attestation, storage_uri)
            return packing.write(chosen.members(contents), Path(dst))

    def __str__(self) -> str:
        return "\n".join(summary(self.report))

    def _repr_html_(self) -> str:
        return _as_html(self.report)


class PrintableReport(Report):
    """A report that prints ten lines instead of all its fields."""

    def __str__(self) -> str:
        return "\n".join(summary(self))

    def _repr_html_(self) -> str:
        return _as_html(self)


def printable(report: Report) -> PrintableReport:
    """Return the same report, printable. Nothing is copied or checked again."""
    return PrintableReport.model_construct(_fields_set=report.model_fields_set, **dict(report))


@dataclass(frozen=True)
class Inspected:
    """What is in a model. `statistics` holds the raw arrays as `<layer>/<role>`, each of shape (C,)."""

    inspection: Inspection
    statistics: Mapping[str, np.ndarray] = field(repr=False)

    def __str__(self) -> str:
        found = self.inspection
        lines = [
            inspection_headline(found.batch_norms).title,
            f"  format     {found.format} ({found.framework})",
            f"  inputs     {', '.join(map(words.tensor, found.inputs or found.input_candidates)) or '–'}",
            f"  outputs    {', '.join(map(words.tensor, found.outputs or found.output_candidates)) or '–'}",
        ]
        shown = found.batch_norms[:5]
        lines += [f"  {norm.name}: {', '.join(item.code.value for item in norm.health)}" for norm in shown]
        if len(found.batch_norms) > len(shown):
            lines.append(f"  and {len(found.batch_norms) - len(shown)} more batch norms")
        return "\n".join(map(clean, lines))


def summary(report: Report) -> list[str]:
    """Return the report in at most ten lines: headline, remedy, folds, differences, artifact."""
    said = headline(report)
    folded, total = words.folded(report)
    graph = report.graph
    lines = [f"{report.verdict.value}: {said.title}"]
    if said.detail:
        lines.append(f"  {said.detail}")
    if said.remedy:
        lines.append(f"  What to do: {said.remedy}")
    lines.append(f"  source     {report.source.format} ({report.source.framework})")
    if report.source.assumptions:
        taken = [f"{item.what} = {item.value}" for item in report.source.assumptions[:3]]
        more = len(report.source.assumptions) - len(taken)
        lines.append(f"  assumed    {'; '.join(taken)}" + (f"; and {more} more" if more else ""))
    lines.append(f"  folded     {folded} of {total} batch norms")
    sizes = f"{figures.count(graph.nodes_before)} before, {figures.count(graph.nodes_after)} after"
    lines.append(f"  nodes      {sizes}; opset {graph.opset}")
    passed = sum(row.status == "pass" for row in report.verification)
    lines.append(f"  compared   {passed} of {len(report.verification)} comparisons passed")
    if report.hazards:
        lines.append(f"  hazards    {', '.join(sorted({item.code for item in report.hazards}))}")
    if report.artifact is not None:
        lines.append(f"  artifact   {figures.size(report.artifact.bytes)}, {report.artifact.digest}")
    return [clean(line) for line in lines[:10]]


def _as_html(report: Report) -> str:
    from markupsafe import escape

    said = headline(report)
    colour = COLOURS[said.state]
    first, *rest = summary(report)
    body = escape("\n".join(rest))
    return (
        f'<div style="border-left: 4px solid {colour}; padding-left: 0.8em"><strong>{escape(first)}</strong>'
        f'<pre style="margin: 0.4em 0">{body}</pre></div>'
    )


def name_recalibrated(report: Report, dst: str | os.PathLike[str] | None) -> Path | None:
    """Name the second artifact in the report by where it goes, and return that; None without a `dst`."""
    assert report.recalibrated is not None
    target = None if dst is None else Path(dst).with_name(f"{Path(dst).stem}.recalibrated.onnx")
    report.recalibrated.file = "Folded.recalibrated" if target is None else target.name
    return target


def move(made: Path, dst: Path) -> Path:
    """Move an artifact, and the weights file beside it if there is one, to its place."""
    weights = made.with_name(made.name + ".data")
    if weights.exists():
        shutil.move(weights, dst.with_name(weights.name))
    return Path(shutil.move(made, dst))
