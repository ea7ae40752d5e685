"""Models from ONNX text, and the shortest way to a verdict over two of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser

from folding.ir.types import Feeds
from folding.options import FoldOptions
from folding.report import Verification
from folding.sources.base import Reference
from folding.verify.pipeline import verify_fold


def array(*shape: int, scale: float = 1.0, salt: int = 0) -> np.ndarray:
    """Reproducible float32 numbers; another `salt` gives others of the same shape."""
    return (scale * np.random.default_rng([salt, len(shape), *shape]).standard_normal(shape)).astype(
        np.float32
    )


def write(path: Path, text: str, opset: int = 18, **tensors: np.ndarray) -> Path:
    """A checked model file from a graph in ONNX text form and its initializers."""
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]>\n{text}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items())
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def check(
    a: Path, b: Path, *, probe: Feeds | None = None, reference: Reference | None = None, **options: object
) -> Verification:
    """verify_fold without decisions."""
    return verify_fold(
        unfolded=a, artifact=b, reference=reference, options=FoldOptions(**options), probe=probe
    )
