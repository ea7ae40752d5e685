"""What a transparent rule changes at its node when an affine passes: data, to be printed, checked, applied.

Given:  Pad(x, p, 0), y = s*Pad(x) + t           Result: SetConstantInput(pad, 2, "value", t)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import ml_dtypes
import numpy as np
import onnx_ir as ir

from folding.ir.types import Float64Array


@dataclass(frozen=True, eq=False)
class SetAttribute:
    """The node's float attribute gets another value."""

    node: ir.Node
    name: str
    value: float

    @property
    def dtype(self) -> ir.DataType:
        """Float attributes are stored as float32."""
        return ir.DataType.FLOAT

    def __str__(self) -> str:
        return f"{_label(self.node)}: attribute {self.name} = {self.value:g}"


@dataclass(frozen=True, eq=False)
class SetConstantInput:
    """The node's input at `index` becomes a constant of `dtype`, a scalar or an array.

    `name` is the constant's purpose.
    """

    node: ir.Node
    index: int
    name: str
    content: float | Float64Array
    dtype: ir.DataType

    @property
    def value(self) -> float:
        """The scalar, or the array's element of largest magnitude."""
        flat = np.asarray(self.content, np.float64).reshape(-1)
        return float(flat[np.abs(flat).argmax()]) if flat.size else 0.0

    def __str__(self) -> str:
        up_to = "=" if np.ndim(self.content) == 0 else "up to"
        return f"{_label(self.node)}: input {self.index} ({self.name}) {up_to} {self.value:g}"


Patch: TypeAlias = SetAttribute | SetConstantInput


def problem(patch: Patch) -> str | None:
    """Return why the patched node could not hold its new value; None where it can."""
    limit = float(ml_dtypes.finfo(patch.dtype.numpy()).max)  # type: ignore[no-untyped-call]
    if not np.isfinite(patch.value) or abs(patch.value) > limit:
        return f"{patch}: {patch.dtype.name} does not hold it"
    return None


def _label(node: ir.Node) -> str:
    name = node.name or (node.outputs[0].name if node.outputs else "") or "?"
    return f"{node.op_type} `{name}`"
