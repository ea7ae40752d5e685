"""How reports show an input or an output of a graph."""

from __future__ import annotations

import onnx_ir as ir

from folding.report.records import TensorInfo

_NUMPY_NAMES = {ir.DataType.FLOAT: "float32", ir.DataType.DOUBLE: "float64"}


def tensor_info(value: ir.Value) -> TensorInfo:
    """Name, dtype (as NumPy calls it) and shape of a graph input or output, as reports show them."""
    dtype = str(value.type or "unknown")
    if value.dtype is not None:
        dtype = _NUMPY_NAMES.get(value.dtype, value.dtype.name.lower())
    shape = None if value.shape is None else [_dimension(dim) for dim in value.shape]
    return TensorInfo(name=value.name or "", dtype=dtype, shape=shape)


def _dimension(dim: int | ir.SymbolicDim) -> int | str | None:
    """A size, a name, or None; tf2onnx's `unk__7` names nothing that its reader could know."""
    if isinstance(dim, int):
        return dim
    return None if dim.value is None or dim.value.startswith("unk__") else dim.value
