"""`bnfold fold`: one model in, a proved artifact out, or a reason why not."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from folding.artifact_files import ort_format_of
from folding.errors import UsageError
from folding.progress import Listener
from folding.progress_bar import STAGES
from folding.temporary_folder import temporary_folder
from service.cli import failures, native, parse
from service.cli.invocation import Invocation

if TYPE_CHECKING:
    from folding.options import FoldOptions
    from folding.report import Report
    from service.addresses.address import Address

RECALIBRATED = "recalibrated.onnx"  # as the runner calls it


@dataclass(frozen=True)
class Asked:
    """What to fold, with which data, and the folder beside the artifact that takes what is being made."""

    src: Path
    out: Path
    options: FoldOptions
    calibration: Path | None
    probe: Path | None
    timeout: float
    folder: Path


def run(
    src: Path | Address,
    out: Path | Address,
    renderings: dict[str, Path | None],
    attest: Path | None,
    calibration: Path | None,
    probe: Path | None,
    invocation: Invocation,
) -> int:
    """Fold, publish by verdict, write the reports; the exit code follows the verdict."""
    output, options = invocation.output(), invocation.options()
    check_calibration(options, calibration)
    output_files({**{form.upper(): path for form, path in renderings.items()}, "attestation": attest})
    for data, option in ((calibration, "--calibrate"), (probe, "--probe")):
        parse.npz(data and parse.existing(data), option)  # a bad file is named before the long work
    work = _here if invocation.unsandboxed else _isolated
    with (
        outlet(out) as (local, deliver),
        native.quiet(),
        parse.model(src) as model,
        output.progress(STAGES) as listener,
    ):
        asked = Asked(model, local, options, calibration, probe, invocation.timeout, output_folder(local))
        with work(asked, listener) as (report, made, spare):
            published = publish(report, made, local)
            second = publish_recalibrated(report, spare, local)
            runtime_form = publish_ort_format(report, made, local)
        written = deliver(published, report)
        written_form = runtime_form and deliver(runtime_form, report)
        written_second = second and deliver(second, report)
    from service.cli import describe  # imported while the job ran

    write_renderings(report, renderings)
    if attest is not None:
        write_attestation(report, attest)
    describe.report(report, output)
    output.say(written)
    if written_form is not None:
        output.say(f"{written_form} (ORT format; bnfold bundle --kind ort packs it)")
    if written_second is not None:
        output.say(f"{written_second} (with the statistics of the calibration data)")
    output.document(report.to_json())
    return failures.OK if report.verdict == "pass" else failures.NOT_VERIFIED


@contextmanager
def outlet(out: Path | Address) -> Iterator[tuple[Path, Callable[[Path, Report], str]]]:
    """Yield where the artifact is made, and what sends it to its address and tells where that is."""
    if isinstance(out, Path):
        output_folder(out)
        yield out, lambda path, report: f"written: {path}"
        return
    from service.addresses import transfer

    with tempfile.TemporaryDirectory(prefix="bnfold-send-") as name:
        local = Path(name) / ("model.onnx" if out.scheme == "oci" else out.name)

        def deliver(path: Path, report: Report) -> str:
            if path.suffix == ".rejected":
                return f"not sent to {out.shown}: the artifact is not proved"
            if out.scheme == "oci":
                return _push(path, local, report, out)
            folder = out.path.rpartition("/")[0]
            for each in (path.with_name(path.name + ".data"), path):  # who finds the model finds its weights
                if each.exists():
                    digest = out.digest if each == local else ""
                    target = f"{folder}/{each.name}".lstrip("/") if each != local else out.path
                    transfer.send(each, replace(out, path=target, digest=digest))
            return f"sent: {out.shown if path == local else path.name + ' beside it'}"

        yield local, deliver


def _push(path: Path, local: Path, report: Report, out: Address) -> str:
    """Push the artifact to a registry under one manifest with its report and provenance statement."""
    from service.addresses import oci

    if path != local:
        return f"not sent: {path.name}; a tag holds one model"
    if path.with_name(path.name + ".data").exists():
        raise UsageError("an artifact past 2 GiB is not sent to a registry", hint="write it to a file")
    oci.Oci().send(path, out, oci.companions_of(report, path))
    return f"sent: {out.shown}"


def check_calibration(options: FoldOptions, calibration: Path | None) -> None:
    """--recalibrate means nothing without data."""
    if options.recalibrate and calibration is None:
        raise UsageError("--recalibrate needs data", hint="add --calibrate data.npz")


def output_folder(out: Path) -> Path:
    """The folder of the artifact, which must exist already: a typing error must not make new ones."""
    if out.is_dir():
        raise UsageError(f"{out} is a folder", hint=f"name a file in it: {out / 'NAME'}")
    folder = out.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"no such folder: {folder}", hint=f"mkdir -p {folder}")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write into {folder}", hint="choose another place")
    if out.exists() and not os.access(out, os.W_OK):
        raise UsageError(f"{out} is there and may not be written", hint="choose another name")
    return folder


def output_files(wanted: dict[str, Path | None]) -> None:
    """Places of the reports, asked before the long work: what cannot be written then is lost."""
    for what, path in wanted.items():
        if path is None:
            continue
        try:
            output_folder(path)
        except UsageError as error:
            raise UsageError(f"{what}: {error.message}", hint=error.hint) from None


@contextmanager
def _here(asked: Asked, listener: Listener) -> Iterator[tuple[Report, Path, Path]]:
    """In this process. The time limit is the sandbox's; here only Ctrl-C stops it."""
    from folding import pipeline

    with temporary_folder(asked.folder) as scratch:
        made, spare = scratch / asked.out.name, scratch / "second" / RECALIBRATED
        spare.parent.mkdir()
        report = pipeline.fold(
            asked.src,
            made,
            asked.options,
            calibration=parse.arrays(asked.calibration, "--calibrate"),
            probe=parse.arrays(asked.probe, "--probe"),
            recalibrated=spare,
            listener=listener,
        )
        yield report, made, spare


@contextmanager
def _isolated(asked: Asked, listener: Listener) -> Iterator[tuple[Report, Path, Path]]:
    from service.cli import isolated

    with isolated.job(
        "fold", asked.src, asked.options, listener, calibration=asked.calibration, probe=asked.probe,
        timeout=asked.timeout, scratch=asked.folder, recalibrated=True,
    ) as result:  # fmt: skip
        from folding.report import Report  # imported while the job ran

        made, spare = result.folder / "model.onnx", result.folder / RECALIBRATED
        yield Report.model_validate(result.report), made, spare


def publish(report: Report, made: Path, out: Path) -> Path:
    """Move the artifact to its place by its verdict, at once and with its weights file if it has one.

    An artifact that is not proved goes to `<out>.rejected`, where nothing that looks for .onnx finds it.
    """
    return _move(made, out if report.verdict == "pass" else out.with_name(out.name + ".rejected"))


def publish_ort_format(report: Report, made: Path, out: Path) -> Path | None:
    """Move the artifact in ORT format, `OUT.ort`, beside a proved artifact, where it was asked for."""
    if report.ort_format is None or report.verdict != "pass":
        return None
    return _move(ort_format_of(made), ort_format_of(out))


def publish_recalibrated(report: Report, made: Path, out: Path) -> Path | None:
    """Move the second artifact, `OUT.recalibrated.onnx`, beside the first, where one was made and proved."""
    target = name_recalibrated(report, out)
    return _move(made, target) if target is not None else None


def name_recalibrated(report: Report, out: Path) -> Path | None:
    """Return where the second artifact goes, and name it so in the report; None where none is proved."""
    held = report.recalibrated
    if held is None:
        return None
    held.file = f"{out.stem}.recalibrated{out.suffix}"
    return out.with_name(held.file) if held.verdict == "pass" else None


def _move(made: Path, target: Path) -> Path:
    """At once, on the disk, and with the weights file if there is one."""
    weights = made.with_name(made.name + ".data")
    if weights.exists():  # its name stands inside the model, so it keeps it
        os.replace(weights, target.with_name(weights.name))
    descriptor = os.open(made, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(made, target)
    return target


def write_renderings(report: Report, renderings: dict[str, Path | None]) -> None:
    """The report in each form that was asked for."""
    for form, path in renderings.items():
        if path is None:
            continue
        if form == "json":
            path.write_text(report.to_json() + "\n", encoding="utf-8")
        else:
            from folding.report.render import render

            path.write_text(render(report, form), encoding="utf-8")


def write_attestation(report: Report, path: Path) -> None:
    """A signed provenance statement beside the artifact; only a proved artifact gets one."""
    from service import provenance

    if report.verdict != "pass":
        raise UsageError("no attestation: the artifact is not proved", hint="see the report")
    envelope = provenance.sign(provenance.statement(report), provenance.local_key())
    path.write_text(provenance.to_json(envelope), encoding="utf-8")
