"""Trained models in, from every supported format. Formats are sniffed by content, never by name.

To add a format: one module with a `FORMAT`, one line in `FORMATS`; other packages name theirs in the
entry point group `bnfold.sources` (`folding.plug_ins`).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from folding import plug_ins
from folding.errors import BnfoldError, CorruptModel, UnknownFormat
from folding.options import FoldOptions
from folding.progress import Progress
from folding.report import Inspection
from folding.report.headline import inspection_headline
from folding.sources.base import Format, Imported, Upload
from folding.sources.unpack import open_upload

# Order matters where one format's files contain another's: a SavedModel holds a checkpoint, a checkpoint
# folder may hold a bare graph; ONNX and Keras files are unmistakable and come first.
ONNX = "folding.sources.onnx.importer"
FORMATS: tuple[str, ...] = (
    "folding.sources.tensorflow.keras_model",
    "folding.sources.tflite.importer",
    "folding.sources.tfjs.importer",
    ONNX,
    "folding.sources.tensorflow.saved_model",
    "folding.sources.tensorflow.checkpoint",
    "folding.sources.tensorflow.graphdef",
)


def formats(*, single: bool = False) -> Iterator[Format]:
    """Yield the format objects in the order in which they are asked, each imported when it is its turn.

    single: the upload is one file. Of one file ONNX and Keras are both sure, and ONNX imports the least.
    """
    for module in sorted(FORMATS, key=ONNX.__ne__) if single else FORMATS:
        yield importlib.import_module(module).FORMAT
    for name in plug_ins.found(plug_ins.SOURCES):
        yield plug_ins.load(plug_ins.SOURCES, name)


def load(src: Path, options: FoldOptions, workdir: Path, progress: Progress) -> Imported:
    """Read the model at `src`.

    Raises: UnknownFormat; ModelError subclasses for the model's faults; UsageError for the options'.
    """
    upload, kind = recognise(src, workdir)
    with _contradictions(kind):
        imported = kind.load(upload, options, workdir, progress)
    imported.source.bytes = sum((upload.root / name).stat().st_size for name in upload.files)
    return imported


def inspect(src: Path, options: FoldOptions, workdir: Path) -> tuple[Inspection, dict[str, np.ndarray]]:
    """What is in the model at `src`, and its raw statistics by `<layer>/<role>`; nothing is converted."""
    upload, kind = recognise(src, workdir)
    with _contradictions(kind):
        inspection, arrays = kind.inspect(upload, options, workdir)
    inspection.headline = inspection_headline(inspection.batch_norms)
    return inspection, arrays


@contextmanager
def _contradictions(kind: Format) -> Iterator[None]:
    """What Python and the frameworks raise over a structure that nobody exports becomes a named error.

    A file may declare any type, reference or count; not each combination has a check of its own. The cause
    stays attached, so that a defect of ours is still found in the log and in tests.
    """
    try:
        yield
    except (BnfoldError, MemoryError, RecursionError, OSError):
        raise
    except Exception as error:
        raise CorruptModel(
            f"The {kind.name} model contradicts itself ({type(error).__name__}: {_first_line(error)}).",
            code="malformed_model",
            hint="Export it again. If the framework that wrote it loads it, please report this as a defect.",
        ) from error


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:199] + "…"


def recognise(src: Path, workdir: Path) -> tuple[Upload, Format]:
    """Unpack and find the format. Raises UnknownFormat, naming what was there."""
    upload = open_upload(Path(src), workdir)
    for kind in formats(single=upload.files == (upload.path.name,)):
        if kind.sniff(upload):
            return upload, kind
    listed = ", ".join(upload.files[:5]) or upload.path.name
    raise UnknownFormat(
        f"None of the supported formats is among these files: {listed}.",
        hint="Supported: Keras .keras and .h5, SavedModel, TensorFlow checkpoint, GraphDef "
        "(.pb, .pbtxt), TensorFlow Lite, TensorFlow.js, ONNX"
        + "".join(f", {name} (plug-in)" for name in plug_ins.found(plug_ins.SOURCES))
        + ". "
        "Give the complete file or folder, or an archive of it.",
    )
