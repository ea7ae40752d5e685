"""Probes: dtypes, ranges deduced from the graph, sizes, reproducibility."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from folding.report import Verdict
from folding.verify.model import load
from folding.verify.noise import ulp_noise
from folding.verify.probes import budget
from folding.verify.probes.generate import FLOAT_KINDS, MOST_ROWS, generate
from folding.verify.probes.input_ranges import inputs_of
from tests.unit.folding.verify import nets
from tests.unit.folding.verify.models import array, check, write

SIZES = {"": 1, "*": 8, MOST_ROWS: 3}


def probes_of(path: Path) -> dict:
    specs = inputs_of(load(path))
    return {probe.name: probe for probe in generate(specs, SIZES, 0)}


def test_indices_stay_within_their_table(tmp_path: Path) -> None:
    text = """g (int64[N,5] ids) => (float[N,5,4] y) { f = Identity(ids) e = Gather(table, f) y = Relu(e) }"""
    path = write(tmp_path / "m.onnx", text, table=array(7, 4))
    (spec,) = inputs_of(load(path))
    assert (spec.low, spec.high) == (0, 6)
    values = np.concatenate([p.feeds["ids"].ravel() for p in probes_of(path).values()])
    assert values.min() == 0
    assert values.max() == 6
    found = check(path, path)
    assert found.verdict is Verdict.PASS


def test_one_hot_depth_bounds_its_indices(tmp_path: Path) -> None:
    text = "g (int64[N] ids) => (float[N,?] y) { y = OneHot(ids, depth, values) }"
    path = write(tmp_path / "m.onnx", text, depth=np.array([11]), values=np.array([0, 1], np.float32))
    (spec,) = inputs_of(load(path))
    assert spec.high == 10
    assert check(path, path).verdict is Verdict.PASS


def test_bool_uint8_and_string_inputs(tmp_path: Path) -> None:
    text = """g (bool[N,3] m, uint8[N,3] u, string[N,3] s) => (float[N,3] y) {
        k = Cast<to=1>(u) e = Equal(s, word) a = Where(m, k, zero) b = Cast<to=1>(e) y = Add(a, b) }"""
    path = write(tmp_path / "m.onnx", text, opset=19, word=np.array("a", object), zero=np.float32(0))
    kinds = {spec.name: spec.kind for spec in inputs_of(load(path))}
    assert kinds == {"m": "bool", "u": "int", "s": "string"}
    normal = probes_of(path)["mixed-batch"].feeds
    assert normal["m"].dtype == bool
    assert normal["u"].dtype == np.uint8
    found = check(path, path)
    assert found.verdict is Verdict.PASS, found.summary


def test_channels_of_a_dynamic_input_come_from_the_weight(tmp_path: Path) -> None:
    text = """g (float[N,H,W,C] x) => (float[N,?,?,6] y) {
        t = Transpose<perm=[0,3,1,2]>(x) c = Conv(t, w) y = Transpose<perm=[0,2,3,1]>(c) }"""
    path = write(tmp_path / "m.onnx", text, w=array(6, 5, 3, 3))
    (spec,) = inputs_of(load(path))
    assert spec.dims == ["N", "H", "W", 5]
    assert check(path, path).verdict is Verdict.PASS


def test_sizes_that_only_one_choice_fits_are_found(tmp_path: Path) -> None:
    """A flatten behind a dynamic image: only 64 x 64 runs."""
    text = """g (float[N,3,H,W] x) => (float[N,4] y) {
        p = AveragePool<kernel_shape=[8,8],strides=[8,8]>(x) f = Flatten(p) y = MatMul(f, w) }"""
    path = write(tmp_path / "m.onnx", text, w=array(192, 4))
    found = check(path, path)
    assert found.verdict is Verdict.PASS
    assert found.probes[0]["inputs"]["x"]["shape"] == [1, 3, 64, 64]


def test_a_size_that_is_never_found_is_inconclusive_and_says_what_to_give(tmp_path: Path) -> None:
    text = "g (float[N,K] x) => (float[N,82] y) { f = Relu(x) h = Pad(f, five) y = Add(h, w) }"
    path = write(tmp_path / "m.onnx", text, w=array(82), five=np.array([0, 0, 0, 5]))
    found = check(path, path)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "--input" in found.summary
    assert check(path, path, probe={"x": array(2, 77)}).verdict is Verdict.PASS


def test_every_probe_has_its_own_seed(tmp_path: Path) -> None:
    pair = nets.build("plain", tmp_path, 1)
    first, second = probes_of(pair.unfolded), probes_of(pair.unfolded)
    assert list(first) == [name for name, _, _ in FLOAT_KINDS]
    assert all(np.array_equal(first[n].feeds["x"], second[n].feeds["x"]) for n in first)
    assert first["normal"].feeds["x"].min() < 0 < first["normal"].feeds["x"].max()
    assert np.abs(first["extremes"].feeds["x"]).min() == 100
    rows = first["mixed-batch"].feeds["x"]
    assert len({round(float(row.std()), 1) for row in rows}) == 3


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_neighbour_is_one_unit_in_the_last_place_away(dtype: type) -> None:
    values = np.concatenate(
        [array(500).astype(dtype), np.zeros(3, dtype), np.array([np.finfo(dtype).max], dtype)]
    )
    moved = ulp_noise.neighbour(values, np.random.default_rng(0))
    assert moved.dtype == dtype
    assert (moved[500:503] == 0).all()
    assert np.isfinite(moved).all()
    steps = np.abs(moved[:500].astype(float) - values[:500].astype(float)) / np.abs(
        values[:500].astype(float)
    )
    assert (steps > 0).all()
    assert steps.max() <= np.finfo(dtype).eps


def test_effort_falls_with_cost_and_is_the_same_each_time(tmp_path: Path) -> None:
    plans = [budget.plan(seconds) for seconds in (0.001, 0.01, 0.05, 0.2, 5.0)]
    assert [p.probes for p in plans] == sorted((p.probes for p in plans), reverse=True)
    assert plans[-1].probes >= 3
    pair = nets.build("residual", tmp_path, 1)
    source = load(pair.unfolded)
    small, large = (budget.estimate(source, {"x": array(n, 3, 16, 16)}) for n in (1, 8))
    assert small is not None
    assert large is not None
    assert 0 < small < large
    assert budget.estimate(source, {"x": array(1, 3, 16, 16)}) == small


def test_many_outputs_and_discrete_ones(tmp_path: Path) -> None:
    text = """g (float[N,6] x) => (float[N,4] y, int64[N] k, bool[N,4] p) {
        y = MatMul(x, w) k = ArgMax<axis=1, keepdims=0>(y) p = Greater(y, zero) }"""
    a = write(tmp_path / "a.onnx", text, w=array(6, 4), zero=np.float32(0))
    assert check(a, a).verdict is Verdict.PASS
    b = write(tmp_path / "b.onnx", text.replace("ArgMax", "ArgMin"), w=array(6, 4), zero=np.float32(0))
    found = check(a, b)
    assert found.verdict is Verdict.FAIL
    wrong = {o.name for row in found.rows for o in row.outputs if not o.passed}
    assert wrong == {"k"}


@pytest.mark.parametrize(("axis", "modulus"), [(1, 2), (2, 2), (1, 3), (2, 4), (1, 5), (2, 7)])
def test_a_fault_at_sizes_that_are_no_multiple_of_a_small_number(
    tmp_path: Path, axis: int, modulus: int
) -> None:
    """Sizes are also tried that leave a remainder, and another one for each dimension."""
    right = write(tmp_path / "a.onnx", "g (float[N,H,W] x) => (float[N,H,W] y) { y = Relu(x) }")
    wrong = write(
        tmp_path / "b.onnx",
        """g (float[N,H,W] x) => (float[N,H,W] y) {
            r = Relu(x) s = Shape(x) d = Gather(s, axis) m = Mod(d, modulus) e = Equal(m, usual)
            o = Not(e) f = Cast<to=1>(o) y = Add(r, f) }""",
        axis=np.int64(axis), modulus=np.int64(modulus), usual=np.int64(16 % modulus),
    )  # fmt: skip
    assert check(right, right).verdict is Verdict.PASS
    assert check(right, wrong).verdict is Verdict.FAIL
