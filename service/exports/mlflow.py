"""An artifact as an MLflow model of the `onnx` flavour, with report and digest beside it (extra `mlflow`)."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from pathlib import Path
from typing import Any

from folding.errors import UsageError


def unavailable() -> str | None:
    """Why it cannot be used here, or None when it can."""
    if importlib.util.find_spec("mlflow") is None:
        return "mlflow is not installed: pip install 'bnfold[mlflow]'"
    return None


def export(artifact: str | Path, out: str | Path, report: str | Path | None = None) -> Path:
    """Write the MLflow model folder.

    Args:
        artifact: the folded ONNX file.
        out: the folder to make; must not exist.
        report: the report's JSON, kept as an artifact of the model.

    Raises: UsageError when MLflow is missing, the artifact is, or `out` exists.
    """
    artifact, out = Path(artifact), Path(out)
    if (why := unavailable()) is not None:
        raise UsageError(why, hint="install the extra `mlflow`")
    if not artifact.is_file():
        raise UsageError(f"no such artifact: {artifact}")
    if out.exists():
        raise UsageError(f"{out} exists", hint="name a folder that does not")
    flavour: Any = importlib.import_module("mlflow.onnx")
    onnx: Any = importlib.import_module("onnx")
    digest = "sha256:" + hashlib.sha256(artifact.read_bytes()).hexdigest()
    model = onnx.load(str(artifact))
    flavour.save_model(model, str(out), metadata={"bnfold.artifact": digest})
    if report is not None:
        (out / "bnfold-report.json").write_bytes(Path(report).read_bytes())
    return out
