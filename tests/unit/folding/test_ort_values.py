"""Element types that NumPy lacks, sequences, and scalars: into the runtime and back."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from folding.ort import SHAPES, OrtSession

KINDS = [
    (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
    (TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
    (TensorProto.FLOAT8E4M3FNUZ, ml_dtypes.float8_e4m3fnuz),
    (TensorProto.FLOAT8E5M2, ml_dtypes.float8_e5m2),
    (TensorProto.FLOAT8E5M2FNUZ, ml_dtypes.float8_e5m2fnuz),
    (TensorProto.INT4, ml_dtypes.int4),
    (TensorProto.UINT4, ml_dtypes.uint4),
    (TensorProto.INT2, ml_dtypes.int2),
    (TensorProto.UINT2, ml_dtypes.uint2),
]


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_narrow_types_are_fed_and_read(kind: int, dtype: type) -> None:
    """An odd number of elements, so that 4-bit integers end within a byte."""
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["y"], ["z"], to=kind),
    ]
    outputs = [info("y", TensorProto.FLOAT, [3, 3]), info("z", kind, [3, 3])]
    graph = helper.make_graph(nodes, "g", [info("x", kind, [3, 3])], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=11)
    lows = {ml_dtypes.uint4: 0, ml_dtypes.uint2: 0, ml_dtypes.int2: -2}
    low = lows.get(dtype, -4)
    values = low + np.arange(9).reshape(3, 3) % (4 if "int2" in dtype.__name__ else 9)
    found = OrtSession(model.SerializeToString()).run({"x": values.astype(dtype)})
    assert (found["y"] == values).all()
    assert (found["z"] == values).all()


def test_a_sequence_keeps_the_shapes_of_its_elements() -> None:
    info = helper.make_tensor_value_info
    sequence = helper.make_value_info(
        "s", helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    )
    node = helper.make_node("SplitToSequence", ["x", "sizes"], ["s"], axis=1)
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [2], [1, 3])
    graph = helper.make_graph([node], "g", [info("x", TensorProto.FLOAT, [2, 4])], [sequence], [sizes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = OrtSession(model.SerializeToString())
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    found = session.run({"x": x})
    assert found["s"].tolist() == [0, 4, 1, 2, 3, 5, 6, 7]
    assert found["s" + SHAPES].tolist() == [2, 2, 1, 2, 2, 3]
    assert "s" not in session.tensors


def test_a_scalar_of_numpy_is_fed_as_an_array() -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "g",
        [info("x", TensorProto.FLOAT, [])],
        [info("y", TensorProto.FLOAT, [])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert OrtSession(model.SerializeToString()).run({"x": np.float32(2)})["y"] == -2
