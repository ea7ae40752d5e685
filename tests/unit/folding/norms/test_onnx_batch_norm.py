"""BatchNormalization of every opset: read as its own specification says, refused with its reason."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from folding import norms, rules
from folding.norms.base import BatchNorm
from folding.passes.dead_code import remove_dead_code
from folding.rules.base import SkipReason
from tests.unit.folding.rules.models import norm_arrays

N6 = norm_arrays(6)


def find(
    opset: int,
    outputs: tuple[str, ...] = ("y",),
    arrays: dict[str, np.ndarray] | None = None,
    ends: tuple[str, ...] | None = None,
    **attributes: object,
) -> tuple[BatchNorm, SkipReason | None]:
    """A model of one Conv and one BatchNormalization; the norm, and the reason why it stays."""
    held = {"w": np.ones((6, 2, 1, 1)), **(arrays or N6)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node(
            "BatchNormalization", ["c", "g", "b", "m", "v"], list(outputs), name="bn", **attributes
        ),
    ]
    shapes = {"y": [2, 6, 3, 3]}
    results = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes.get(name, [6]))
        for name in (outputs if ends is None else ends)
        if name
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2, 3, 3])], results,
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in held.items()],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    assert isinstance(proto, onnx.ModelProto)
    model = ir.from_proto(proto)
    (norm,) = norms.find(model)
    return norm, rules.fold(model, [norm]).decisions[0].reason


@pytest.mark.parametrize("opset", range(7, 25))
def test_inference_is_folded(opset: int) -> None:
    norm, reason = find(opset)
    assert reason is None
    assert norm.epsilon == float(np.float32(1e-5))
    assert norm.channel_axis == 1
    assert norm.spelling == "onnx.BatchNormalization"
    np.testing.assert_array_equal(norm.moving_mean, N6["m"].astype(np.float32))


@pytest.mark.parametrize("opset", [1, 6])
def test_inference_before_opset_7(opset: int) -> None:
    assert find(opset, is_test=1)[1] is None
    assert find(opset)[1] is None  # one output asked for: test mode, whatever is_test says


@pytest.mark.parametrize("opset", [14, 15, 18, 22, 24])
def test_training_mode(opset: int) -> None:
    assert find(opset, ("y", "m2", "v2"), training_mode=1)[1] is SkipReason.TRAINING_MODE
    assert find(opset, training_mode=0)[1] is None


@pytest.mark.parametrize("opset", [7, 9, 13])
def test_training_by_its_outputs(opset: int) -> None:
    """Before opset 14 the mode is told by how many outputs are read."""
    assert find(opset, ("y", "m2", "v2", "m3", "v3"))[1] is SkipReason.TRAINING_MODE


@pytest.mark.parametrize("opset", [7, 9, 13])
def test_outputs_that_nobody_reads_ask_for_training_too(opset: int) -> None:
    """Old torch exports name them `batch_norm_dead_output-...`; onnxruntime then normalizes by the batch."""
    norm, reason = find(opset, ("y", "m2", "v2", "m3", "v3"), ends=("y",))
    assert reason is SkipReason.TRAINING_MODE
    assert norm.affine is None
    graph = norm.nodes[0].graph
    assert isinstance(graph, ir.Graph)
    remove_dead_code(ir.Model(graph, ir_version=8))
    assert len(norm.nodes[0].outputs) == 5


@pytest.mark.parametrize("opset", [7, 8])
def test_per_activation(opset: int) -> None:
    """spatial=0 with parameters per channel and position."""
    arrays = {name: np.ones((6, 3, 3)) * (1 + array.reshape(6, 1, 1)) for name, array in N6.items()}
    norm, reason = find(opset, arrays=arrays, spatial=0)
    assert reason is SkipReason.PER_ACTIVATION
    assert norm.affine is None


def test_epsilon_and_formula() -> None:
    norm, _ = find(15, epsilon=0.01)
    single = {name: array.astype(np.float32).astype(np.float64) for name, array in N6.items()}
    scale = single["g"] / np.sqrt(single["v"] + float(np.float32(0.01)))
    assert norm.affine is not None
    np.testing.assert_allclose(norm.affine.scale, scale, rtol=1e-15)
    np.testing.assert_allclose(norm.affine.shift, single["b"] - single["m"] * scale, rtol=1e-13, atol=1e-15)


def test_absent_optional_outputs_do_not_count() -> None:
    assert find(9, ("y", "", "", "", ""))[1] is None
