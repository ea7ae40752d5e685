"""Edges of our operators that no ONNX operator model shows: sizes, ties, types, rationals."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper

from folding.ir.evaluate import Mode, NotEvaluatedError, TooLargeError, compute, to_rationals, view_of
from folding.norms.constants import Constants


def run(
    op: str, *inputs: Any, opset: int = 21, evaluated: Mode = Mode.EXACT, outputs: int = 1, **attributes: Any
) -> Any:
    node = helper.make_node(
        op, [f"i{n}" for n in range(len(inputs))], [f"o{n}" for n in range(outputs)], **attributes
    )
    arrays = [None if array is None else np.asarray(array) for array in inputs]
    found = compute(view_of(node, arrays, opset=opset, mode=evaluated))
    return found[0] if outputs == 1 else found


def by_runtime(
    op: str, inputs: list[np.ndarray | None], opset: int, outputs: int = 1, **attributes: Any
) -> list[Any]:
    names = [f"i{n}" if array is not None else "" for n, array in enumerate(inputs)]
    node = helper.make_node(op, names, [f"o{n}" for n in range(outputs)], **attributes)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, inputs, strict=True)
        if array is not None
    ]
    graph = helper.make_graph([node], "g", infos, [onnx.ValueInfoProto(name=name) for name in node.output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {n: a for n, a in zip(names, inputs, strict=True) if a is not None}))


HUGE = np.array([1 << 20, 1 << 20], np.int64)
HOSTILE = {
    "Expand": ([np.zeros((1, 1), np.float32), HUGE], {}),
    "Tile": ([np.zeros((1, 1), np.float32), HUGE], {}),
    "ConstantOfShape": ([HUGE], {}),
    "Range": ([np.int64(0), np.int64(1 << 40), np.int64(1)], {}),
    "Pad": ([np.zeros((1, 1), np.float32), np.array([0, 0, 1 << 20, 1 << 20])], {}),
    "OneHot": ([np.zeros(4, np.int64), np.int64(1 << 40), np.array([0.0, 1.0], np.float32)], {}),
    "Add": ([np.zeros((1 << 20, 1), np.int8), np.zeros((1, 1 << 20), np.int8)], {}),
    "MatMul": ([np.zeros((1 << 20, 1), np.int8), np.zeros((1, 1 << 20), np.int8)], {}),
    "Gather": ([np.zeros((1, 1 << 20), np.int8), np.zeros(1 << 20, np.int64)], {}),
    "Resize": ([np.zeros((1, 1), np.float32), None, None, HUGE], {}),
}


@pytest.mark.parametrize("op", list(HOSTILE))
def test_a_result_beyond_the_limit_is_never_made(op: str) -> None:
    inputs, attributes = HOSTILE[op]
    with pytest.raises(TooLargeError):
        run(op, *inputs, **attributes)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Reshape", [np.zeros(6), np.array([4, -1])], {}),
        ("Reshape", [np.zeros(6), np.array([-2, 3])], {}),
        ("Slice", [np.zeros(6), [0], [3], [0], [0]], {}),
        ("Slice", [np.zeros(6), [0], [3], [7]], {}),
        ("Gather", [np.zeros(6), np.array(6)], {}),
        ("Concat", [np.zeros((2, 3)), np.zeros((3, 2))], {"axis": 0}),
        ("Div", [np.array([1]), np.array([0])], {}),
        ("Cast", [np.array([3e9])], {"to": onnx.TensorProto.INT32}),
        ("Cast", [np.array([np.nan])], {"to": onnx.TensorProto.INT64}),
        ("ArgMax", [np.array([1.0, np.nan])], {}),
        ("TopK", [np.array([1.0, np.nan]), np.array([1])], {}),
        ("MaxPool", [np.full((1, 1, 2), np.nan)], {"kernel_shape": [2]}),
        ("DequantizeLinear", [np.zeros((2, 3), np.int8), np.ones(4, np.float32)], {}),
        ("QLinearMatMul", [np.zeros((2, 2), np.uint8)] * 2, {}),
        ("StringSplit", [np.array(["a b"], object)], {}),
        ("NoSuchOperator", [np.zeros(2)], {}),
        ("Add", [np.zeros(2), np.zeros(3)], {}),
        ("Conv", [np.zeros((1, 1, 3)), np.zeros((1, 1, 5))], {}),
        ("Conv", [np.zeros((1, 1, 3)), np.zeros((1, 1, 3))], {"strides": [0]}),
        ("ReduceSum", [np.zeros(2), np.array([5])], {}),
    ],
)  # fmt: skip
def test_what_has_no_answer_is_not_evaluated(op: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    with pytest.raises(NotEvaluatedError):
        run(op, *inputs, **attributes)


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [(-9, 9, 1), (9, -9, -1), (-9, -10, -1), (-3, 0, -2), (4, -6, -1), (2, -(1 << 62), -1), (0, 1 << 62, 3)],
)
def test_slices_are_clamped_as_the_runtime_does(start: int, end: int, step: int) -> None:
    inputs = [np.arange(5.0), np.array([start]), np.array([end]), np.array([0]), np.array([step])]
    np.testing.assert_array_equal(run("Slice", *inputs), by_runtime("Slice", inputs, 21)[0])


@pytest.mark.parametrize("storage", [0, 1])
def test_pool_indices_with_pads(storage: int) -> None:
    x = np.random.default_rng(storage).integers(0, 3, (2, 3, 5, 6)).astype(np.float32)  # many ties
    attributes = {
        "kernel_shape": [3, 2], "pads": [1, 1, 1, 0], "strides": [2, 1], "dilations": [1, 2],
        "storage_order": storage, "ceil_mode": 1,
    }  # fmt: skip
    mine = run("MaxPool", x, outputs=2, opset=12, **attributes)
    for one, other in zip(mine, by_runtime("MaxPool", [x], 12, 2, **attributes), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_ties_of_arg_max(op: str, last: int) -> None:
    x = np.random.default_rng(last).integers(0, 3, (4, 5, 6)).astype(np.float32)
    mine = run(op, x, opset=13, axis=-2, keepdims=0, select_last_index=last)
    theirs = by_runtime(op, [x], 13, axis=-2, keepdims=0, select_last_index=last)[0]
    np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("opset", [10, 13, 19, 21])
@pytest.mark.parametrize("form", ["tensor", "axis", "blocks"])
def test_dequantize_of_every_version(opset: int, form: str) -> None:
    rng = np.random.default_rng(opset)
    x = rng.integers(-128, 128, (4, 6)).astype(np.int8)
    shape, attributes = {
        "tensor": ((), {}),
        "axis": ((4,), {"axis": 0}),
        "blocks": ((4, 2), {"axis": 1, "block_size": 3}),
    }[form]
    if opset < {"tensor": 10, "axis": 13, "blocks": 21}[form]:
        pytest.skip(f"opset {opset} has no quantization by {form}")
    scale = rng.uniform(0.1, 2, shape).astype(np.float32)
    zero = rng.integers(-5, 5, shape).astype(np.int8)
    theirs = by_runtime("DequantizeLinear", [x, scale, zero], opset, **attributes)[0]
    np.testing.assert_array_equal(run("DequantizeLinear", x, scale, zero, opset=opset, **attributes), theirs)
    back = run("QuantizeLinear", theirs, scale, zero, opset=opset, **attributes)
    np.testing.assert_array_equal(
        back, by_runtime("QuantizeLinear", [theirs, scale, zero], opset, **attributes)[0]
    )


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_recurrent_layers_with_everything(op: str, direction: str) -> None:
    rng = np.random.default_rng(len(direction))
    gates, d, size, hidden = {"RNN": 1, "GRU": 3, "LSTM": 4}[op], 1 + (direction == "bidirectional"), 3, 4

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.5, shape).astype(np.float32)

    inputs: list[np.ndarray | None] = [
        draw(5, 2, size), draw(d, gates * hidden, size), draw(d, gates * hidden, hidden),
        draw(d, 2 * gates * hidden), np.array([5, 3], np.int32), draw(d, 2, hidden),
    ]  # fmt: skip
    inputs += [draw(d, 2, hidden), draw(d, 3 * hidden)] if op == "LSTM" else []
    activations = {
        "RNN": ["LeakyRelu"],
        "GRU": ["HardSigmoid", "Tanh"],
        "LSTM": ["Sigmoid", "Softsign", "Affine"],
    }[op]
    numbers = {"RNN": ([0.3], []), "GRU": ([0.3], [0.4]), "LSTM": ([0.7], [0.1])}[op]
    attributes = {"hidden_size": hidden, "direction": direction, "activations": activations * d}
    attributes |= {"activation_alpha": numbers[0] * d}
    attributes |= {"activation_beta": numbers[1] * d} if numbers[1] else {}
    attributes |= {"linear_before_reset": 1} if op == "GRU" else {}
    count = 3 if op == "LSTM" else 2
    mine = run(op, *inputs, opset=14, outputs=count, **attributes)
    for one, other in zip(mine, by_runtime(op, inputs, 14, count, **attributes), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("transform", ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"])
def test_resize(mode: str, transform: str) -> None:
    x = np.random.default_rng(3).normal(size=(1, 2, 5, 4)).astype(np.float32)
    sizes = np.array([1, 2, 8, 3])
    attributes = {"mode": mode, "coordinate_transformation_mode": transform}
    mine = run("Resize", x, None, None, sizes, opset=19, **attributes)
    theirs = by_runtime("Resize", [x, None, None, sizes], 19, **attributes)[0]
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_integers_keep_their_type_and_wrap() -> None:
    top = np.array([2**31 - 1], np.int32)
    assert run("Add", top, np.ones(1, np.int32)).tolist() == [-(2**31)]
    assert run("ReduceSum", np.full(4, 100, np.int8)).dtype == np.int8
    assert run("Div", np.array([-7, 7, -7]), np.array([2, -2, -2])).tolist() == [-3, -3, 3]
    assert run("Div", np.array([(1 << 62) + 1]), np.array([1])).tolist() == [(1 << 62) + 1]
    assert run("Pow", np.array([3, -2]), np.array([4, 3])).tolist() == [81, -8]


def test_rationals_stay_exact() -> None:
    third = to_rationals(np.array([[1.0, 2.0], [4.0, 8.0]])) / 3
    assert run("MatMul", third, third).tolist() == [[Fraction(1), Fraction(2)], [Fraction(4), Fraction(8)]]
    assert run("ReduceMean", third).reshape(-1)[0] == Fraction(5, 4)
    assert run("Sqrt", to_rationals(np.array([2.25]))).tolist() == [Fraction(3, 2)]
    with pytest.raises(NotEvaluatedError, match="not rational"):
        run("Sqrt", third)
    with pytest.raises(NotEvaluatedError):
        run("Exp", third)
    y = run("Conv", third.reshape(1, 1, 4), third.reshape(1, 1, 4))
    assert y.tolist() == [[[Fraction(85, 9)]]]


def test_both_kinds_of_nodes_give_the_same() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    proto = helper.make_node("Transpose", ["x"], ["y"], perm=[2, 0, 1])
    node = ir.serde.deserialize_node(proto)
    mine, theirs = (
        compute(view)[0] for view in (view_of(node, [x], opset=21), view_of(proto, [x], opset=21))
    )
    np.testing.assert_array_equal(mine, theirs)


EXPRESSIONS = {
    "too large": "e = Expand(a, huge)",
    "tiled": "e = Tile(a, huge)",
    "filled": "e = ConstantOfShape(huge)",
    "computed": "s = Mul(huge, huge) e = ConstantOfShape(s)",
    "misfit": "e = Reshape(a, huge)",
    "beyond": "e = Gather(a, huge)",
    "division": "e = Div(huge, zero)",
}


@pytest.mark.parametrize("name", list(EXPRESSIONS))
def test_an_expression_without_an_answer_is_no_constant(name: str, tmp_path: Path) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y)'
    text = f"{head} {{ {EXPRESSIONS[name]} y = Relu(x) }}"
    proto = onnx.parser.parse_model(text)
    for key, array in {"a": np.ones((1, 1), np.float32), "huge": HUGE, "zero": np.zeros(2, np.int64)}.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, key))
    model = ir.serde.deserialize_model(proto)
    value = next(out for node in model.graph for out in node.outputs if out.name == "e")
    assert not Constants(model).is_const(value)
