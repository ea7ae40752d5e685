"""The model on the user's data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from folding import export
from folding.calibrate.data import chunks
from folding.errors import ModelError, UnsupportedModel
from folding.ir.types import Feeds
from folding.ort import OrtSession
from folding.progress import Progress


def outputs(
    model: ir.Model, data: Feeds, chunk: int, path: Path, progress: Progress, fraction: float
) -> dict[str, np.ndarray]:
    """The outputs for the first chunk: enough to see how far they move."""
    session = open_session(model, path)
    names = [value.name or "" for value in model.graph.outputs]
    progress.report("calibrate", fraction, "outputs before and after")
    first = next(chunks(data, chunk))
    return dict(zip(names, (np.asarray(result) for result in answers(session, names, first)), strict=True))


def open_session(model: ir.Model, path: Path) -> OrtSession:
    """A session without optimizations; its file is written to `path`. Raises UnsupportedModel."""
    export.write_plain(model, path)
    try:
        return OrtSession(path)
    except Exception as error:
        raise _failed(error) from error


def answers(session: OrtSession, names: list[str], feeds: Feeds) -> list[np.ndarray]:
    """The named values, in order. Raises UnsupportedModel."""
    try:
        found = session.run(feeds, names)
    except Exception as error:
        raise _failed(error) from error
    return [found[name] for name in names]


def _failed(error: Exception) -> ModelError:
    return UnsupportedModel(
        f"The model cannot be run on the calibration data: {str(error).splitlines()[0][:300]}",
        code="calibration_failed",
        stage="calibrate",
        hint="Check the data's shapes and dtypes against the model's inputs.",
    )
