"""Each small pass on text: what it makes of a graph, that outputs stay, that a second run finds nothing."""

# ruff: noqa: E501, ISC004 - a table of graphs is read along its rows

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from folding.ir.edit import index_names
from folding.ir.infer_shapes import infer_shapes
from folding.passes import activations, chains, gemms, hazards, identities, normalizations, pads, pools
from folding.passes.base import peepholes
from folding.passes.constants import fold_all, fold_structure, lift_constants
from folding.passes.dead_code import remove_dead_code
from folding.passes.duplicates import merge_initializers, merge_nodes
from tests.support.numbers import running_rng
from tests.unit.folding.passes.graphs import assert_same, copy, kinds, model


def floats(*shape: int) -> np.ndarray:
    return running_rng().standard_normal(shape).astype(np.float32)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def apply(step: Callable[[ir.Model], bool], found: ir.Model) -> bool:
    index_names(found)
    lift_constants(found)
    infer_shapes(found)
    changed = step(found)
    remove_dead_code(found)
    return changed


Step = Callable[[ir.Model], bool]


def check(step: Step, source: ir.Model, expected: str, finish: Step | None = None) -> None:
    """`expected` names the operators that are left, in order. `finish` keeps a runtime's faults away."""
    result = copy(source)
    apply(step, result)
    assert kinds(result) == expected.split()
    assert not apply(step, copy(result)), "a second run found something"
    if finish is not None:
        finish(result)
    assert_same(source, result)


X4 = "main (float[N,4,6,6] x) => (float[N,?,?,?] y)"
X2 = "main (float[N,8] x) => (float[N,?] y)"

IDENTITIES = {
    "identity": (X2 + "{ a = Identity(x) b = Relu(a) y = Identity(b) }", {}, "Relu"),
    "identity of the input is an output": (X2 + "{ y = Identity(x) }", {}, "Identity"),
    "dropout": (X2 + "{ a, m = Dropout(x) y = Relu(a) }", {}, "Relu"),
    "cast to the same": (X2 + "{ a = Cast<to=1>(x) y = Relu(a) }", {}, "Relu"),
    "cast to another": (X2 + "{ a = Cast<to=11>(x) b = Cast<to=1>(a) y = Relu(b) }", {}, "Cast Cast Relu"),
    "cast like a known type": (X2 + "{ a = CastLike(c, x) y = Add(x, a) }", {"c": np.arange(8.0)}, "Add"),
    "cast like its own type": (X2 + "{ a = CastLike(c, x) y = Add(x, a) }", {"c": floats(8)}, "Add"),
    "reshape to the same": (X4 + "{ a = Reshape(x, s) y = Relu(a) }", {"s": ints(0, 4, 6, 6)}, "Relu"),
    "reshape with -1": (X4 + "{ a = Reshape(x, s) y = Relu(a) }", {"s": ints(-1, 4, 6, 6)}, "Relu"),
    "reshape to another": (X4 + "{ a = Reshape(x, s) y = Relu(a) }", {"s": ints(-1, 4, 36, 1)}, "Reshape Relu"),
    "transpose that stays": (X4 + "{ a = Transpose<perm=[0,1,2,3]>(x) y = Relu(a) }", {}, "Relu"),
    "whole slice": (X2 + "{ a = Slice(x, s, e, d) y = Relu(a) }",
                    {"s": ints(0), "e": ints(8), "d": ints(1)}, "Relu"),
    "reversing slice": (X2 + "{ a = Slice(x, s, e, d, t) y = Relu(a) }",
                        {"s": ints(-1), "e": ints(-9), "d": ints(1), "t": ints(-1)}, "Slice Relu"),
    "concat of one": (X2 + "{ a = Concat<axis=1>(x) y = Relu(a) }", {}, "Relu"),
    "pad by nothing": (X2 + "{ a = Pad(x, p) y = Relu(a) }", {"p": ints(0, 0, 0, 0)}, "Relu"),
    "pool of one": (X4 + "{ a = MaxPool<kernel_shape=[1,1]>(x) y = Relu(a) }", {}, "Relu"),
    "strided pool of one": (X4 + "{ a = MaxPool<kernel_shape=[1,1],strides=[2,2]>(x) y = Relu(a) }", {},
                            "MaxPool Relu"),
    "times one": (X2 + "{ a = Mul(x, o) b = Add(z, a) c = Sub(b, z) d = Div(c, o) y = Relu(d) }",
                  {"o": number(1), "z": np.zeros(8, np.float32)}, "Relu"),
    "one minus x": (X2 + "{ a = Sub(z, x) y = Relu(a) }", {"z": number(0)}, "Sub Relu"),
    "zeros that broadcast": ("main (float[N,1] x) => (float[N,?] y) { a = Add(x, z) y = Relu(a) }",
                             {"z": np.zeros((1, 8), np.float32)}, "Add Relu"),
    "mean over ones": (X4 + "{ a = GlobalAveragePool(x) b = ReduceMean<keepdims=1>(a, s) y = Relu(b) }",
                       {"s": ints(2, 3)}, "GlobalAveragePool Relu"),
}  # fmt: skip

CHAINS = {
    "reshapes": (X4 + "{ a = Reshape(x, s) b = Reshape(a, t) y = Relu(b) }",
                 {"s": ints(0, 4, 36, 1), "t": ints(0, 2, 2, 36)}, "Reshape Relu"),
    "there and back": (X4 + "{ a = Reshape(x, s) b = Reshape(a, t) y = Relu(b) }",
                       {"s": ints(0, 4, 36), "t": ints(0, 4, 6, 6)}, "Relu"),
    "squeeze and flatten": ("main (float[N,4,1,1] x) => (float[N,?] y) "
                            "{ a = Squeeze(x, s) b = Unsqueeze(a, t) c = Flatten(b) y = Relu(c) }",
                            {"s": ints(2, 3), "t": ints(1)}, "Reshape Relu"),
    "computed shape": (X4 + "{ s = Shape(x) i = Constant<value_int=0>() n = Gather(s, i) u = Unsqueeze(n, z) "
                       "t = Concat<axis=0>(u, r) a = Reshape(x, t) y = Relu(a) }",
                       {"z": ints(0), "r": ints(4, 36, 1)}, "Reshape Relu"),
    "transposes": (X4 + "{ a = Transpose<perm=[0,2,3,1]>(x) b = Transpose<perm=[0,2,1,3]>(a) y = Relu(b) }",
                   {}, "Transpose Relu"),
    "transposes that cancel": (X4 + "{ a = Transpose<perm=[0,2,3,1]>(x) b = Transpose<perm=[0,3,1,2]>(a) "
                               "y = Relu(b) }", {}, "Relu"),
    "casts that widen": ("main (float16[N,4] x) => (float16[N,4] y) { a = Cast<to=1>(x) b = Cast<to=10>(a) "
                         "y = Relu(b) }", {}, "Relu"),
    "casts that lose": (X2 + "{ a = Cast<to=10>(x) b = Cast<to=1>(a) y = Relu(b) }", {}, "Cast Cast Relu"),
    "expand before add": ("main (float[1,8] x, float[3,8] z) => (float[3,8] y) { a = Expand(x, s) y = Add(a, z) }",
                          {"s": ints(3, 8)}, "Add"),
    "expand that matters": ("main (float[1,8] x, float[1,8] z) => (float[3,8] y) { a = Expand(x, s) y = Add(a, z) }",
                            {"s": ints(3, 8)}, "Expand Add"),
    "concats": (X2 + "{ a = Concat<axis=1>(x, x) b = Concat<axis=-1>(a, x) y = Relu(b) }", {}, "Concat Relu"),
    "concats on two axes": (X2 + "{ a = Concat<axis=1>(x, x) b = Concat<axis=0>(a, a) y = Relu(b) }", {},
                            "Concat Concat Relu"),
}  # fmt: skip

PADS = {
    "into conv": (X4 + "{ a = Pad(x, p) y = Conv<pads=[0,1,0,1]>(a, w) }",
                  {"p": ints(0, 0, 1, 2, 0, 0, 3, 0), "w": floats(5, 4, 3, 3)}, "Conv"),
    "into conv, VALID": (X4 + '{ a = Pad(x, p) y = Conv<auto_pad="VALID">(a, w) }',
                         {"p": ints(0, 0, 1, 1, 0, 0, 1, 1), "w": floats(5, 4, 3, 3)}, "Conv"),
    "SAME": (X4 + '{ a = Pad(x, p) y = Conv<auto_pad="SAME_UPPER">(a, w) }',
             {"p": ints(0, 0, 1, 1, 0, 0, 1, 1), "w": floats(5, 4, 3, 3)}, "Pad Conv"),
    "channels": (X4 + "{ a = Pad(x, p) y = Conv(a, w) }",
                 {"p": ints(0, 1, 0, 0, 0, 0, 0, 0), "w": floats(5, 5, 3, 3)}, "Pad Conv"),
    "cropping": (X4 + "{ a = Pad(x, p) y = Conv(a, w) }",
                 {"p": ints(0, 0, -1, 0, 0, 0, 0, 0), "w": floats(5, 4, 3, 3)}, "Pad Conv"),
    "not zero": (X4 + "{ a = Pad(x, p, v) y = Conv(a, w) }",
                 {"p": ints(0, 0, 1, 0, 0, 0, 0, 0), "v": number(1), "w": floats(5, 4, 3, 3)}, "Pad Conv"),
    "reflect": (X4 + '{ a = Pad<mode="reflect">(x, p) y = Conv(a, w) }',
                {"p": ints(0, 0, 1, 0, 0, 0, 0, 0), "w": floats(5, 4, 3, 3)}, "Pad Conv"),
    "by axes": (X4 + "{ a = Pad(x, p, , i) y = Conv(a, w) }",
                {"p": ints(1, 2, 1, 2), "i": ints(2, -1), "w": floats(5, 4, 3, 3)}, "Conv"),
    "into average pool": (X4 + "{ a = Pad(x, p) y = AveragePool<kernel_shape=[3,3]>(a) }",
                          {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}, "AveragePool"),
    "average pool that does not count its own": (
        X4 + "{ a = Pad(x, p) y = AveragePool<kernel_shape=[3,3],pads=[1,1,1,1]>(a) }",
        {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}, "Pad AveragePool"),
    "zeros into max pool": (X4 + "{ a = Pad(x, p) y = MaxPool<kernel_shape=[3,3]>(a) }",
                            {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}, "Pad MaxPool"),
    "zeros into max pool behind relu": (X4 + "{ r = Relu(x) a = Pad(r, p) y = MaxPool<kernel_shape=[3,3]>(a) }",
                                        {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}, "Relu MaxPool"),
    "minus infinity into max pool": (X4 + "{ a = Pad(x, p, v) y = MaxPool<kernel_shape=[3,3]>(a) }",
                                     {"p": ints(0, 0, 1, 1, 0, 0, 1, 1), "v": number(-np.inf)}, "MaxPool"),
    "wider than the window": (X4 + "{ r = Relu(x) a = Pad(r, p) y = MaxPool<kernel_shape=[2,2]>(a) }",
                              {"p": ints(0, 0, 2, 2, 0, 0, 2, 2)}, "Relu Pad MaxPool"),
}  # fmt: skip

GEMMS = {
    "matmul and add": (X2 + "{ a = MatMul(x, w) y = Add(a, b) }", {"w": floats(8, 3), "b": floats(3)}, "Gemm"),
    "bias on the left": (X2 + "{ a = MatMul(x, w) y = Add(b, a) }", {"w": floats(8, 3), "b": floats(1, 3)}, "Gemm"),
    "bias that enlarges": ("main (float[1,8] x) => (float[?,?] y) { a = MatMul(x, w) y = Add(a, b) }",
                           {"w": floats(8, 3), "b": floats(4, 3)}, "MatMul Add"),
    "three axes": ("main (float[N,5,8] x) => (float[N,?,?] y) { a = MatMul(x, w) y = Add(a, b) }",
                   {"w": floats(8, 3), "b": floats(3)}, "MatMul Add"),
    "two readers": ("main (float[N,8] x) => (float[N,?] y, float[N,?] z) { a = MatMul(x, w) y = Add(a, b) "
                    "z = Relu(a) }", {"w": floats(8, 3), "b": floats(3)}, "MatMul Add Relu"),
    "gemm without C": (X2 + "{ a = Gemm<alpha=2.0, transB=1>(x, w) y = Add(a, b) }",
                       {"w": floats(3, 8), "b": floats(3)}, "Gemm"),
    "transposed operand": ("main (float[8,N] x) => (float[N,?] y) { a = Transpose(x) y = Gemm(a, w, b) }",
                           {"w": floats(8, 3), "b": floats(3)}, "Gemm"),
}  # fmt: skip

ACTIVATIONS = {
    "relu of relu": (X2 + "{ a = Relu(x) b = Relu(a) y = Neg(b) }", {}, "Relu Neg"),
    "relu of clip": (X2 + "{ a = Clip(x, l, h) y = Relu(a) }", {"l": number(-1), "h": number(2)}, "Clip"),
    "clip of clip, disjoint": (X2 + "{ a = Clip(x, l, h) b = Clip(a, m) y = Neg(b) }",
                               {"l": number(-1), "h": number(0.2), "m": number(3)}, "Clip Clip Neg"),
    "max with zero": (X2 + "{ a = Max(x, z) y = Neg(a) }", {"z": number(0)}, "Relu Neg"),
    "min of max": (X2 + "{ a = Max(x, z) b = Min(s, a) y = Neg(b) }", {"z": number(0), "s": number(6)}, "Clip Neg"),
    "max with a vector": (X2 + "{ a = Max(x, z) y = Neg(a) }", {"z": floats(8)}, "Max Neg"),
    "hard swish, six outside": (X2 + "{ a = Add(x, t) b = Clip(a, z, s) c = Mul(x, b) y = Div(c, s) }",
                                {"t": number(3), "z": number(0), "s": number(6)}, "HardSwish"),
    "hard swish, sixth on the gate": (X2 + "{ a = Add(t, x) b = Clip(a, z, s) c = Mul(b, f) y = Mul(c, x) }",
                                      {"t": number(3), "z": number(0), "s": number(6), "f": number(1 / 6)},
                                      "HardSwish"),
    "hard swish of hard sigmoid": (X2 + "{ a = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(x, a) }", {},
                                   "HardSwish"),
    "another hard sigmoid": (X2 + "{ a = HardSigmoid<alpha=0.2, beta=0.5>(x) y = Mul(x, a) }", {},
                             "HardSigmoid Mul"),
    "gate of another value": ("main (float[N,8] x, float[N,8] u) => (float[N,8] y) "
                              "{ a = Add(x, t) b = Clip(a, z, s) c = Div(b, s) y = Mul(u, c) }",
                              {"t": number(3), "z": number(0), "s": number(6)}, "HardSigmoid Mul"),
}  # fmt: skip

POOLS = {
    "mean over space": (X4 + "{ y = ReduceMean<keepdims=1>(x, s) }", {"s": ints(2, 3)}, "GlobalAveragePool"),
    "negative axes": (X4 + "{ y = ReduceMean<keepdims=1>(x, s) }", {"s": ints(-1, -2)}, "GlobalAveragePool"),
    "mean over channels": (X4 + "{ y = ReduceMean<keepdims=1>(x, s) }", {"s": ints(1, 3)}, "ReduceMean"),
    "mean over one axis": ("main (float[N,4,6] x) => (float[N,?,?] y) { y = ReduceMean<keepdims=1>(x, s) }",
                           {"s": ints(2)}, "ReduceMean"),
    "max over space": (X4 + "{ y = ReduceMax<keepdims=1>(x, s) }", {"s": ints(2, 3)}, "GlobalMaxPool"),
    "mean, unsqueezed": (X4 + "{ a = ReduceMean<keepdims=0>(x, s) y = Unsqueeze(a, s) }", {"s": ints(2, 3)},
                         "GlobalAveragePool"),
    "mean, kept flat": ("main (float[N,4,6,6] x) => (float[N,?] y) { y = ReduceMean<keepdims=0>(x, s) }",
                        {"s": ints(2, 3)}, "ReduceMean"),
}  # fmt: skip

NORMS = {
    "between transposes": ("main (float[N,5,4] x) => (float[N,5,4] y) { a = Transpose<perm=[0,2,1]>(x) "
                           "b = BatchNormalization(a, g, h, m, v) c = Transpose<perm=[0,2,1]>(b) y = Relu(c) }",
                           {"g": floats(4), "h": floats(4), "m": floats(4), "v": floats(4) ** 2 + 1},
                           "Transpose Mul Add Transpose Relu"),
    "one side": ("main (float[N,5,4] x) => (float[N,4,5] y) { a = Transpose<perm=[0,2,1]>(x) "
                 "b = BatchNormalization(a, g, h, m, v) y = Relu(b) }",
                 {"g": floats(4), "h": floats(4), "m": floats(4), "v": floats(4) ** 2 + 1},
                 "Transpose BatchNormalization Relu"),
}  # fmt: skip

TABLES = {
    "identities": (identities.RULES, IDENTITIES),
    "chains": (chains.RULES, CHAINS),
    "pads": (pads.RULES, PADS),
    "gemms": (gemms.RULES, GEMMS),
    "activations": (activations.RULES, ACTIVATIONS),
    "pools": (pools.RULES, POOLS),
    "normalizations": (normalizations.RULES, NORMS),
}
ROWS = [(table, row) for table, (_, rows) in TABLES.items() for row in rows]


@pytest.mark.parametrize(("table", "row"), ROWS, ids=[f"{table}: {row}" for table, row in ROWS])
def test_rewrites(table: str, row: str) -> None:
    rules, rows = TABLES[table]
    text, weights, expected = rows[row]
    step = peepholes(rules)

    def until_stable(found: ir.Model) -> bool:
        changed = False
        while fold_structure(found) | step(found):
            changed = True
        return changed

    check(until_stable, model(text, **weights), expected, finish=hazards.avoid)


def test_constants_fold_in_float64_and_round_once() -> None:
    """1 + 2^-24 is 1 in float32: a chain that rounds at every node loses the 2^-24 and ends at 0."""
    text = "main (float[N,1] x) => (float[N,1] y) { a = Add(o, e) b = Sub(a, o) c = Mul(b, k) y = Mul(x, c) }"
    weights = {"o": floats(1) * 0 + 1, "e": floats(1) * 0 + 2**-24, "k": floats(1) * 0 + 2**24}
    found = model(text, **weights)
    apply(fold_all, found)
    assert kinds(found) == ["Mul"]
    (constant,) = (value for value in found.graph.initializers.values())
    assert constant.const_value is not None
    assert constant.const_value.numpy().item() == 1.0


def test_growth_is_bounded() -> None:
    text = "main (float[N,1] x) => (float[?,?] y) { a = Expand(o, s) y = Add(x, a) }"
    small, large = (model(text, o=number(1), s=ints(1, size)) for size in (100, 10_000_000))
    assert apply(fold_structure, small)
    assert not apply(fold_structure, large)
    assert kinds(large) == ["Expand", "Add"]


def test_structure_folding_leaves_parameter_arithmetic_to_the_norms() -> None:
    text = "main (float[N,4] x) => (float[N,4] y) { a = Add(v, e) b = Sqrt(a) y = Div(x, b) }"
    found = model(text, v=floats(4) ** 2, e=number(1e-3))
    assert not apply(fold_structure, found)
    assert apply(fold_all, found)
    assert kinds(found) == ["Div"]


def test_moved_parameters_keep_their_names() -> None:
    found = model("main (float[N,4,2] x) => (float[N,4,2] y) { a = Reshape(gamma, s) y = Mul(x, a) }",
                  gamma=floats(4), s=ints(4, 1))  # fmt: skip
    apply(fold_structure, found)
    assert list(found.graph.initializers) == ["gamma"]


def test_overridable_initializers_are_not_constants() -> None:
    found = model(
        "main (float[N,4] x, float[4] w) => (float[N,4] y) { a = Neg(w) y = Mul(x, a) }", w=floats(4)
    )
    assert not apply(fold_all, found)
    assert kinds(found) == ["Neg", "Mul"]


def test_common_subexpressions_and_equal_weights() -> None:
    text = "main (float[N,4] x) => (float[N,4] y) { a = Mul(x, w) b = Mul(x, v) y = Add(a, b) }"
    weight = floats(4)
    source = model(text, w=weight, v=weight.copy())

    def step(found: ir.Model) -> bool:
        return merge_initializers(found) | merge_nodes(found)

    check(step, source, "Mul Add")


def test_random_numbers_are_not_common() -> None:
    text = """main (float[2,4] x) => (float[2,4] y) {
        a = RandomNormalLike(x) b = RandomNormalLike(x) y = Sub(a, b) }"""
    found = model(text)
    assert not apply(merge_nodes, found)


def test_signed_zeros_and_nan_are_told_apart() -> None:
    text = "main (float[N,1] x) => (float[N,1] y) { a = Div(x, p) b = Div(x, n) y = Add(a, b) }"
    source = model(text, p=floats(1) * 0, n=-floats(1) * 0)
    same = (
        source.graph.initializers["p"].const_value.tobytes()
        == source.graph.initializers["n"].const_value.tobytes()
    )  # type: ignore[union-attr]
    assert apply(merge_initializers, source) == same
