"""The artifact once more in ONNX Runtime's own format (`.ort`), for builds of the runtime that read no ONNX.

    Given:  model.onnx, the artifact
    Result: model.ort beside it: the graph as the runtime optimizes it, and the operators that it needs

The runtime writes it, so the file holds what its optimizers made of the graph. It is therefore verified like
any other candidate (`folding.verify.steps.run_candidates`). It needs a runtime of the same or newer version.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from folding import ort
from folding.artifact_files import ort_format_of
from folding.errors import UnsupportedModel
from folding.report import ArtifactReport, OrtFormat


def write(artifact: Path) -> OrtFormat:
    """Write it beside the artifact.

    Raises: UnsupportedModel (`no_ort_format_possible`) where the runtime cannot load or write it.
    """
    target = ort_format_of(artifact)
    try:
        ort.save_ort_format(artifact, target)
        operators = ort.required_operators(target)
    except Exception as error:
        target.unlink(missing_ok=True)
        raise UnsupportedModel(
            f"ONNX Runtime cannot write the artifact in ORT format: {' '.join(str(error).split())[:300]}",
            code="no_ort_format_possible",
            hint="Fold without --ort-format; the ONNX artifact does not depend on it. A model in that format "
            "has at most 2 GiB and only operators that the runtime's CPU provider implements.",
            stage="export",
        ) from error
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = target.stat().st_size
    return OrtFormat(
        artifact=ArtifactReport(digest=f"sha256:{digest}", bytes=size), required_operators=operators
    )
