"""What reports show of a graph's inputs and outputs."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from folding.report.tensor_info import tensor_info


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(ir.DataType.FLOAT, "float32"), (ir.DataType.DOUBLE, "float64"), (ir.DataType.INT64, "int64"),
     (ir.DataType.BFLOAT16, "bfloat16"), (ir.DataType.STRING, "string")],
)  # fmt: skip
def test_dtypes_have_the_names_that_numpy_gives_them(dtype: ir.DataType, name: str) -> None:
    value = ir.Value(name="x", type=ir.TensorType(dtype), shape=ir.Shape(["N", None, 3, "unk__12"]))
    info = tensor_info(value)
    assert info.dtype == name
    assert info.shape == ["N", None, 3, None]


def test_unknown_rank_is_unknown() -> None:
    assert tensor_info(ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT))).shape is None
