"""Nested graphs, functions, overridable inputs, opsets and hazards through prepare and clean."""

# ruff: noqa: E501, ISC004 - graphs are read along their lines

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from folding import passes
from folding.errors import UnsupportedModel
from folding.options import FoldOptions
from folding.passes.opsets import convert
from tests.support.numbers import running_rng
from tests.unit.folding.passes.graphs import assert_same, copy, counts, feeds_for, kinds, model, run


def floats(*shape: int) -> np.ndarray:
    return running_rng().standard_normal(shape).astype(np.float32)


def cleaned(source: ir.Model, **options: object) -> ir.Model:
    found = copy(source)
    passes.prepare(found, FoldOptions(**options))
    passes.clean(found, FoldOptions(**options))
    return found


BRANCHES = """main (float[N,4] x {more}) => (float[N,4] y) {{
    y = If (c) <
        then_branch = then () => (float[N,4] t) {{ a = Identity(x) b = Mul(a, w) t = Relu(b) }},
        else_branch = other () => (float[N,4] e) {{ e = Neg(x) }}
    >
}}"""


@pytest.mark.parametrize(("condition", "expected"), [(True, ["Mul", "Relu"]), (False, ["Neg"])])
def test_a_constant_condition_leaves_one_branch(condition: bool, expected: list[str]) -> None:
    source = model(BRANCHES.format(more=""), c=np.array(condition), w=floats(4))
    found = cleaned(source)
    assert kinds(found) == expected
    assert_same(source, found)


def test_a_dynamic_condition_keeps_both_and_cleans_inside() -> None:
    source = model(BRANCHES.format(more=", bool c"), w=floats(4))
    found = cleaned(source)
    assert kinds(found) == ["If"]
    inside = found.graph[0].attributes["then_branch"].as_graph()
    assert [node.op_type for node in inside] == ["Mul", "Relu"]
    assert_same(source, found)


def test_loop_bodies_are_cleaned_and_carried_values_stay() -> None:
    source = model("""main (float[2,4] x) => (float[2,4] y) {
        y = Loop (n, c, x) <
            body = step (int64 i, bool go, float[2,4] v) => (bool more, float[2,4] o) {
                more = Identity(go) a = Identity(v) b = Mul(a, one) d = Add(b, w) o = Relu(d) }
        >
    }""", n=np.array(3), c=np.array(True), w=floats(4), one=np.float32(1))  # fmt: skip
    found = cleaned(source)
    body = found.graph[0].attributes["body"].as_graph()
    assert [node.op_type for node in body] == ["Identity", "Add", "Relu"]
    assert_same(source, found)


def with_functions() -> ir.Model:
    """Two calls of one function, which calls another."""
    inner = helper.make_function("local", "Scale", ["a", "b"], ["c"], [helper.make_node("Mul", ["a", "b"], ["c"])],
                                 [helper.make_opsetid("", 18)])  # fmt: skip
    outer = helper.make_function(
        "local", "Block", ["x", "w"], ["y"],
        [helper.make_node("Scale", ["x", "w"], ["s"], domain="local"), helper.make_node("Relu", ["s"], ["y"])],
        [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)])  # fmt: skip
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Block", ["x", "w"], ["t"], domain="local"),
         helper.make_node("Block", ["t", "w"], ["y"], domain="local")],
        "g", [value("x", TensorProto.FLOAT, ["N", 4])], [value("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(floats(4), "w")])  # fmt: skip
    proto = helper.make_model(graph, functions=[inner, outer], ir_version=8, opset_imports=[
        helper.make_opsetid("", 18), helper.make_opsetid("local", 1)])  # fmt: skip
    return ir.serde.deserialize_model(proto)


def test_functions_are_inlined_at_every_call() -> None:
    source = with_functions()
    found = cleaned(source)
    assert kinds(found) == ["Mul", "Relu", "Mul", "Relu"]
    assert not found.functions
    assert "local" not in found.graph.opset_imports
    assert_same(source, found)


def test_functions_of_another_opset_stay() -> None:
    source = with_functions()
    for function in source.functions.values():
        function.opset_imports[""] = 17
    found = cleaned(source)
    assert kinds(found) == ["Block", "Block"]
    assert len(found.functions) == 2


def test_overridable_inputs_stay_until_frozen() -> None:
    source = model(
        "main (float[N,4] x, float[4] w) => (float[N,4] y) { a = Neg(w) y = Mul(x, a) }", w=floats(4)
    )
    assert kinds(cleaned(source)) == ["Neg", "Mul"]
    frozen = cleaned(source, freeze_inputs=True)
    assert kinds(frozen) == ["Mul"]
    assert [value.name for value in frozen.graph.inputs] == ["x"]
    feeds = feeds_for(frozen)
    np.testing.assert_array_equal(run(frozen, feeds)[0], run(source, feeds)[0])


def test_a_run_time_bias_becomes_a_constant() -> None:
    source = model("""main (float[N,3,6,6] x) => (float[N,?,?,?] y) {
        zero = Constant<value_float=0.0>() like = CastLike(zero, x) s = Constant<value_ints=[5]>()
        bias = Expand(like, s) y = Conv(x, w, bias) }""", w=floats(5, 3, 3, 3))  # fmt: skip
    found = cleaned(source)
    assert kinds(found) == ["Conv"]
    assert_same(source, found)


@pytest.mark.parametrize("opset", [8, 10, 11, 13, 18])
def test_zeros_before_max_pool_stay_out_of_it(opset: int) -> None:
    """ONNX Runtime's PadFusion would turn them into minus infinity."""
    pads = [0, 0, 1, 1, 0, 0, 1, 1]
    text = "main (float[N,4,6,6] x) => (float[N,?,?,?] y) { a = Pad%s y = MaxPool<kernel_shape=[3,3]>(a) }"
    if opset < 11:
        source = model(text % f"<pads={pads}>(x)", opset=opset)
    else:
        source = model(text % "(x, p)", opset=opset, p=np.array(pads))
    feeds = {name: -1 - np.abs(data) for name, data in feeds_for(source).items()}
    wrong = run(source, feeds, "ORT_ENABLE_ALL")[0]
    right = run(source, feeds)[0]
    assert not np.array_equal(wrong, right), "the runtime has mended PadFusion: drop the avoidance"
    found = cleaned(source)
    assert kinds(found) == ["Pad", "MaxPool"]
    np.testing.assert_array_equal(run(found, feeds, "ORT_ENABLE_ALL")[0], right)


def test_a_norm_behind_a_moved_product_is_not_fused_along_the_wrong_axis() -> None:
    """ONNX Runtime's MatMul + BatchNormalization fusion ignores what Reshape and Transpose did to the axes."""
    weights = {"g": floats(6), "b": floats(6), "m": floats(6), "v": floats(6) ** 2 + 1, "w": floats(6, 6)}
    source = model(
        """main (float[2,6,6] x) => (float[2,6,6] y) { a = MatMul(x, w)
        c = Transpose<perm=[0,2,1]>(a) d = BatchNormalization(c, g, b, m, v) y = Relu(d) }""",
        **weights,
    )
    found = cleaned(source)
    assert counts(found)["BatchNormalization"] == 0
    assert_same(source, found)


@pytest.mark.parametrize("target", [11, 13, 15, 17, 21])
@pytest.mark.parametrize("text", [
    "main (float[N,4,6,6] x) => (float[N,?,?,?] y) { a = ReduceMean<keepdims=1>(x, i) y = Add(a, x) }",
    "main (float[N,4,6,6] x) => (float[N,?,?,?] y) { p, q = Split<axis=1, num_outputs=2>(x) y = Add(p, q) }",
    "main (float[N,4,6,6] x) => (float[N,?,?,?] y) { a = Pad(x, k, , i) y = HardSwish(a) }",
    "main (float[N,4,6,6] x) => (float[N,?,?,?] y) { a = Unsqueeze(x, i) b = Squeeze(a, i) y = Clip(b, l) }",
    "main (float[N,4,6,6] x) => (float[N,?,?,?] y) { a = Softmax(x) b = BatchNormalization(a, g, g, g, g) "
    "y = Identity(b) }",
])  # fmt: skip
def test_opsets_down_and_up(text: str, target: int) -> None:
    source = model(text, i=np.array([1, 2]), k=np.array([1, 0, 2, 0]), l=np.float32(-0.5),
                   g=np.array([1, 2, 3, 4], np.float32))  # fmt: skip
    found = copy(source)
    convert(found, target)
    assert found.graph.opset_imports[""] == target
    assert_same(source, found)


def test_what_an_opset_does_not_have_is_named() -> None:
    found = model("main (float[N,4] x) => (float[N,4] y) { y = Mish(x) }")
    with pytest.raises(UnsupportedModel, match="Mish"):
        convert(found, 13)
    assert found.graph.opset_imports[""] == 18


def test_weights_are_never_copied_by_conversion() -> None:
    weight = floats(64, 64, 3, 3)
    found = model("main (float[N,64,6,6] x) => (float[N,?,?,?] y) { y = Conv(x, w) }", w=weight)
    tensor = found.graph.initializers["w"].const_value
    for target in (13, 21):
        convert(found, target)
        assert found.graph.initializers["w"].const_value is tensor
    onnx.checker.check_model(ir.serde.serialize_model(found), full_check=True)
