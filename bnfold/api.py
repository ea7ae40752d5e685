"""The three functions of the library, for models on disk and in memory."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bnfold.arguments import Arrays, arrays_of, listener_of, options_of
from bnfold.models import Model, as_path
from bnfold.results import Folded, Inspected, move, name_recalibrated, printable
from folding.artifact_files import ort_format_of
from folding.errors import UsageError
from folding.options import FoldOptions
from folding.progress import Listener
from folding.report import Report, Verdict, Verification
from folding.temporary_folder import temporary_folder

MAX_BYTES = 2**31  # a protobuf message, and so an ONNX file without weights beside it, is never larger


def fold(
    src: Model,
    dst: str | os.PathLike[str] | None = None,
    options: FoldOptions | None = None,
    *,
    calibration: Arrays | None = None,
    probe: Arrays | None = None,
    progress: bool | Listener | None = None,
    write_rejected: bool = False,
    **overrides: Any,
) -> Folded:
    """Fold the batch norms of a model, export ONNX, and show the two equivalent.

    The model is read in this process: for files that you do not trust use the command or the service, which
    read them in a sandbox.

    Args:
        src: a path in any supported format, the bytes of such a file, an onnx.ModelProto, an onnx_ir.Model,
            a keras.Model, or a tf.Module with a traced function.
        dst: where the artifact goes when its verdict is `pass`. None keeps it in the result only.
        options: options of the fold; `overrides` are further ones by name, for instance `opset=17`.
        calibration: arrays by input name, the first axis is the batch; they diagnose the moving statistics
            or, with `recalibrate=True`, replace them.
        probe: inputs by name on which the source and the artifact are compared as well.
        progress: True for a bar, False for none, a callable for events; None shows a bar on a terminal and in
            a notebook.
        write_rejected: write the artifact to `dst` whatever the verdict is.

    Returns: the result; `bool(result)` is whether the verdict is `pass`.
    Raises: BnfoldError subclasses; UsageError for a wrong option or argument.
    """
    from folding import pipeline

    chosen = options_of(options, overrides)
    with tempfile.TemporaryDirectory(prefix="bnfold-") as folder, listener_of(progress) as listener:
        path = as_path(src, Path(folder))
        with _beside(dst, Path(folder)) as made:
            report = pipeline.fold(
                path, made, chosen, calibration=arrays_of(calibration, "calibration"),
                probe=arrays_of(probe, "probe"), listener=listener,
                recalibrated=made.with_name("bnfold-recalibrated.onnx"),
            )  # fmt: skip
            whole = not made.with_name(made.name + ".data").exists()
            data = made.read_bytes() if whole and made.stat().st_size < MAX_BYTES else None
            kept = dst is not None and (report.verdict is Verdict.PASS or write_rejected)
            written = move(made, Path(dst)) if kept and dst is not None else None
            second = _recalibrated(report, made, dst)
            runtime_form = _ort_format(report, made, written)
    return Folded(printable(report), data, written, second, runtime_form)


def _ort_format(report: Report, made: Path, written: Path | None) -> bytes | None:
    """The artifact in ORT format, and its file beside `written`, where it was asked for."""
    if report.ort_format is None:
        return None
    path = ort_format_of(made)
    data = path.read_bytes()
    if written is not None:
        move(path, ort_format_of(written))
    return data


def _recalibrated(report: Report, made: Path, dst: str | os.PathLike[str] | None) -> bytes | None:
    """The second artifact's bytes, and its file beside `dst`, where one was made and proved."""
    held, path = report.recalibrated, made.with_name("bnfold-recalibrated.onnx")
    if held is None:
        return None
    whole = not path.with_name(path.name + ".data").exists() and path.stat().st_size < MAX_BYTES
    data = path.read_bytes() if whole else None
    target = name_recalibrated(report, dst)
    if target is not None and held.verdict is Verdict.PASS:
        move(path, target)
    return data if held.verdict is Verdict.PASS else None


def inspect(src: Model, options: FoldOptions | None = None, **overrides: Any) -> Inspected:
    """Return every batch norm of a model with its statistics and health; nothing is converted.

    Args: as of `fold`.
    Raises: BnfoldError subclasses.
    """
    from folding import pipeline

    chosen = options_of(options, overrides)
    with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
        inspection, arrays = pipeline.inspect(as_path(src, Path(folder)), chosen)
    return Inspected(inspection, arrays)


def verify(
    a: Model,
    b: Model,
    options: FoldOptions | None = None,
    *,
    probe: Arrays | None = None,
    certificate: bool = False,
    progress: bool | Listener | None = None,
    **overrides: Any,
) -> Verification:
    """Compare `b`, an ONNX model, with `a`, a model in any format.

    certificate: also check the fold in closed form, from the two models alone. The rest: as of `fold`.
    Returns: the comparison; `bool(result)` is whether the two are equivalent.
    Raises: BnfoldError subclasses when one of them cannot be read, or the probe does not fit.
    """
    from folding import pipeline

    chosen = options_of(options, overrides)
    with tempfile.TemporaryDirectory(prefix="bnfold-") as folder, listener_of(progress) as listener:
        source, artifact = Path(folder) / "a", Path(folder) / "b"
        source.mkdir()
        artifact.mkdir()
        return pipeline.verify(
            as_path(a, source, "the model `a`"),
            as_path(b, artifact, "the model `b`"),
            chosen,
            probe=arrays_of(probe, "probe"),
            certificate=certificate,
            listener=listener,
        )


@contextlib.contextmanager
def _beside(dst: str | os.PathLike[str] | None, scratch: Path) -> Iterator[Path]:
    """Yield a path for the artifact on the file system of `dst`, so that moving it into place is one rename.

    Raises: UsageError when the folder of `dst` is not there.
    """
    if dst is None:
        yield scratch / "artifact.onnx"
        return
    target = Path(dst)
    if not target.parent.is_dir():
        raise UsageError(f"There is no folder {str(target.parent)!r} to write the artifact to.")
    if target.is_dir():
        raise UsageError(f"{str(target)!r} is a folder, not a file for the artifact.")
    with temporary_folder(target.parent) as folder:
        yield folder / target.name
