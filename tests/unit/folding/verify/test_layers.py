"""Layer by layer: segments on the source's own inputs, whatever names and layouts the artifact uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from folding.ir.types import Feeds
from folding.rules import transparent as transparent_rules
from folding.rules.registry import TRANSPARENT
from folding.verify.compare.cuts import alignment
from folding.verify.compare.layers import LayerCheck, Layers
from folding.verify.compare.measured import judge
from folding.verify.compare.reusable_names import PASSED, reusable
from folding.verify.model import load
from folding.verify.noise.ulp_noise import neighbours
from tests.unit.folding.verify import nets
from tests.unit.folding.verify.models import array, write


def run(a: Path, b: Path, sites: tuple[str, ...] = (), feeds: Feeds | None = None) -> LayerCheck:
    source = load(a)
    rng = np.random.default_rng(0)
    layers = Layers(source, load(b), sites, feeds or {"x": array(1, 3, 12, 12)})
    return layers.check(rng, [neighbours(source.weights, rng) for _ in range(2)])


def conv_pair(folder: Path, artifact: str, gain: float = 1.0) -> tuple[Path, Path]:
    """conv -> batch norm -> relu -> conv, and an artifact in other words. `gain` spoils one channel."""
    w1, w2 = array(8, 3, 3, 3, scale=0.3), array(5, 8, 1, 1, scale=0.3)
    gamma, beta, mean, var = (array(8, salt=i) for i in range(4))
    var = np.abs(var) + 0.2
    a = write(folder / "a.onnx", """g (float[N,3,12,12] x) => (float[N,5,10,10] y) {
        c = Conv(x, w1) n = BatchNormalization(c, gamma, beta, mean, var) r = Relu(n) y = Conv(r, w2) }""",
        w1=w1, w2=w2, gamma=gamma, beta=beta, mean=mean, var=var)  # fmt: skip
    scale = gamma.astype(float) / np.sqrt(var.astype(float) + float(np.float32(1e-5)))
    folded = (w1 * scale[:, None, None, None]).astype("f")
    folded[2] *= np.float32(gain)
    bias = (beta - mean * scale).astype("f")
    b = write(folder / "b.onnx", artifact, w1=folded, b1=bias, w2=w2)
    return a, b


SHORT = "g (float[N,3,12,12] x) => (float[N,8,10,10] y) { c = Conv(x, w) y = Relu(c) }"
PLAIN = "g (float[N,3,12,12] x) => (float[N,5,10,10] y) { n = Conv(x, w1, b1) r = Relu(n) y = Conv(r, w2) }"
REUSED = "g (float[N,3,12,12] x) => (float[N,5,10,10] y) { c = Conv(x, w1, b1) r = Relu(c) y = Conv(r, w2) }"
STRANGE = "g (float[N,3,12,12] x) => (float[N,5,10,10] y) { k = Conv(x, w1, b1) l = Relu(k) y = Conv(l, w2) }"
CHANNELS_LAST = """g (float[N,3,12,12] x) => (float[N,5,10,10] y) {
    k = Conv(x, w1, b1) n = Transpose<perm=[0,2,3,1]>(k) r = Relu(n)
    t = Transpose<perm=[0,3,1,2]>(r) y = Conv(t, w2) }"""


@pytest.mark.parametrize(
    ("artifact", "cuts"), [(PLAIN, 3), (REUSED, 2), (STRANGE, 1), (CHANNELS_LAST, 3)],
    ids=["same names", "name reused for another value", "no shared names", "another layout"],
)  # fmt: skip
def test_right_and_wrong_in_every_guise(artifact: str, cuts: int, tmp_path: Path) -> None:
    right = run(*conv_pair(tmp_path, artifact))
    assert not right.failed
    assert right.cuts == cuts
    wrong = run(*conv_pair(tmp_path, artifact, gain=1.001))
    assert wrong.failed
    # an activation of the same name that reads a value of the same name stands for the same in both
    assert wrong.first_divergence == ("r" if artifact is PLAIN else wrong.failed[0])


def test_a_name_reused_for_a_near_value_is_dropped_once(tmp_path: Path) -> None:
    """Statistics that were never updated: nearly the identity, so `c` means nearly the same."""
    w = array(8, 3, 3, 3, scale=0.3)
    ones, zeros = np.ones(8, np.float32), np.zeros(8, np.float32)
    a = write(tmp_path / "a.onnx", """g (float[N,3,12,12] x) => (float[N,8,10,10] y) {
        c = Conv(x, w) n = BatchNormalization<epsilon=0.001>(c, g, z, z, g) y = Relu(n) }""",
        w=w, g=ones, z=zeros)  # fmt: skip
    scale = 1 / np.sqrt(1 + float(np.float32(0.001)))
    b = write(tmp_path / "b.onnx", SHORT,
              w=(w * scale).astype("f"))  # fmt: skip
    check = run(a, b)
    assert check.dropped == ["c"]
    assert not check.failed
    spoilt = (w * scale).astype("f")
    spoilt[1] *= np.float32(1.001)
    c = write(tmp_path / "c.onnx", SHORT,
              w=spoilt)  # fmt: skip
    assert run(a, c).failed == ["y"]


def test_the_first_divergence_is_the_layer_that_is_wrong_not_those_behind(tmp_path: Path) -> None:
    pair = nets.build("deep", tmp_path, 2, {7: "corrupt_channel"})
    check = run(pair.unfolded, pair.folded, pair.sites)
    assert check.failed[0] == pair.sites[7]
    assert len(check.failed) == 1
    assert [row.value for row in check.drift].index(pair.sites[7]) > 5


def test_alignment_finds_layouts_and_refuses_the_rest() -> None:
    value = array(2, 5, 5, 5)
    assert alignment(value, value) == (0, 1, 2, 3)
    assert alignment(value, value.transpose(0, 2, 3, 1)) == (0, 2, 3, 1)
    assert alignment(value, value.transpose(0, 3, 1, 2)) == (0, 3, 1, 2)
    assert alignment(value, value.transpose(0, 1, 3, 2)) is None
    assert alignment(value, 1.1 * value) is None
    assert alignment(value, value[..., :4]) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_finite_on_one_side_only_fails(bad: float) -> None:
    value = array(1, 4, 6, 6)
    spoilt = value.copy()
    spoilt[0, 1, 2, 3] = bad
    noise = [value * np.float32(1 + 1e-7)]
    assert not judge("v", value, spoilt, noise, False).passed
    assert judge("v", spoilt, spoilt, [spoilt], False).passed


def test_quantized_models_may_round_a_few_elements_the_other_way(tmp_path: Path) -> None:
    text = """g (float[N,3,12,12] x) => (float[N,8,10,10] y) {{
        c = Conv(x, w{bias}) {norm} q = QuantizeLinear(n, s, z) y = DequantizeLinear(q, s, z) }}"""
    w = array(8, 3, 3, 3, scale=0.3)
    gamma, beta, mean, var = (array(8, salt=i) for i in range(4))
    var = np.abs(var) + 0.2
    quant = {"s": np.float32(0.05), "z": np.int8(0)}
    norm = "n = BatchNormalization(c, gamma, beta, mean, var)"
    a = write(tmp_path / "a.onnx", text.format(bias="", norm=norm),
              w=w, gamma=gamma, beta=beta, mean=mean, var=var, **quant)  # fmt: skip
    scale = gamma.astype(float) / np.sqrt(var.astype(float) + float(np.float32(1e-5)))
    folded = {"w": (w * scale[:, None, None, None]).astype("f"), "b": (beta - mean * scale).astype("f")}
    b = write(tmp_path / "b.onnx", text.format(bias=", b", norm="n = Identity(c)"), **folded, **quant)
    feeds = {"x": array(4, 3, 12, 12)}
    assert not run(a, b, feeds=feeds).failed
    folded["w"][3] *= np.float32(1.05)
    c = write(tmp_path / "c.onnx", text.format(bias=", b", norm="n = Identity(c)"), **folded, **quant)
    assert run(a, c, feeds=feeds).failed


def test_only_values_on_the_way_of_an_affine_may_be_other_values(tmp_path: Path) -> None:
    text = """g (float[N,3,12,12] x) => (float[N,5,10,10] y) {
        v = Add(var, eps) s = Sqrt(v) c = Conv(x, w1) r = Relu(c) n = Div(r, s)
        h = HardSwish(n) d = Conv(h, w2) y = Sigmoid(d) }"""
    path = write(tmp_path / "m.onnx", text, w1=array(8, 3, 3, 3), w2=array(5, 8, 1, 1),
                 var=np.ones((8, 1, 1), np.float32), eps=np.float32(1e-3))  # fmt: skip
    assert reusable(load(path)) & {"c", "r", "n", "h", "d", "y"} == {"c", "r", "n"}


def test_every_operator_that_a_rule_passes_lies_on_the_way() -> None:
    transparent = {type(rule).__module__ for rule in TRANSPARENT}
    assert transparent == {
        f"folding.rules.transparent.{path.stem}"
        for path in Path(transparent_rules.__file__).parent.glob("*.py")
        if "Propagated(" in path.read_text() and path.stem not in ("__init__", "shape_only")
    }
    assert {op for rule in TRANSPARENT for op in rule.ops} == PASSED
    assert {"Abs", "Mul", "Div", "ReduceMax", "ReduceSum", "If"} <= PASSED


@pytest.mark.parametrize("op", ["Abs", "ReduceMax<keepdims=1>", "Mul"])
def test_values_past_such_an_operator_may_be_other_values(op: str, tmp_path: Path) -> None:
    call = f"{op}(c, q)" if op == "Mul" else f"{op}(c)"
    text = f"""g (float[N,3,12,12] x) => (float y) {{
        c = Conv(x, w) q = Conv(x, w) p = {call} n = Mul(p, s) y = Sigmoid(n) }}"""
    path = write(tmp_path / "m.onnx", text, w=array(8, 3, 3, 3), s=array(8, 1, 1))
    assert {"c", "p", "n"} <= reusable(load(path))
    assert "y" not in reusable(load(path))


def test_a_fault_away_from_any_affine_is_not_taken_for_a_reused_name(tmp_path: Path) -> None:
    text = (
        "g (float[N,3,12,12] x) => (float[N,5] y) { c = Conv(x, w) r = Sigmoid(c) p = GlobalAveragePool(r) "
    )
    text += "f = Flatten(p) y = MatMul(f, k) }"
    w, k = array(64, 3, 3, 3, scale=0.1), array(64, 5, scale=0.05)
    a = write(tmp_path / "a.onnx", text, w=w, k=k)
    spoilt = w.copy()
    spoilt[40] *= np.float32(1.001)
    b = write(tmp_path / "b.onnx", text, w=spoilt, k=k)
    check = run(a, b)
    assert check.failed == ["c"]
    assert not check.dropped


def test_elements_near_zero_do_not_loosen_the_limits_of_the_others(tmp_path: Path) -> None:
    """Rows of a sequence: each slice is one element, and some of them cancel to almost nothing."""
    text = "g (float[N,24,16] x) => (float[N,24,8] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, k) }"
    w, k = array(16, 256, scale=0.25), array(256, 8, scale=0.1)
    a = write(tmp_path / "a.onnx", text, w=w, k=k)
    spoilt = w.copy()
    spoilt[:, 176] *= np.float32(1.001)
    b = write(tmp_path / "b.onnx", text, w=spoilt, k=k)
    assert run(a, b, feeds={"x": array(1, 24, 16)}).failed[0] == "h"
    assert not run(a, a, feeds={"x": array(1, 24, 16)}).failed
