"""Names of the files that lie beside an artifact."""

from __future__ import annotations

from pathlib import Path


def ort_format_of(artifact: Path) -> Path:
    """Return where the same model in ONNX Runtime's own format lies.

    >>> ort_format_of(Path("out/model.onnx")).as_posix()
    'out/model.ort'
    """
    return artifact.with_name(artifact.name.removesuffix(".onnx") + ".ort")
