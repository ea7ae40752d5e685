"""Arguments of operators get values that the operator accepts, and sizes that run are found."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import parser

from folding.verify.model import load
from folding.verify.probes.dynamic_shapes import choose_sizes
from folding.verify.probes.generate import MOST_ROWS, Probe, generate
from folding.verify.probes.input_ranges import inputs_of

# name -> opset, graph. Each stops with an error of the runtime for most values of its argument.
ACCEPTED: dict[str, tuple[int, str]] = {
    "gather": (13, "g (float[2,5] x, int64[3] i) => (float[?,?] y) { y = Gather<axis=1>(x, i) }"),
    "gather_elements": (
        13,
        "g (float[2,5] x, int64[2,3] i) => (float[2,3] y) { y = GatherElements<axis=1>(x, i) }",
    ),
    "gather_nd": (13, "g (float[2,3,4] x, int64[5,2] i) => (float[5,4] y) { y = GatherND(x, i) }"),
    "scatter_nd": (18, "g (float[3,4] x, int64[2,1] i, float[2,4] u) => (float[3,4] y) {y=ScatterND(x,i,u)}"),
    "loss": (
        13,
        "g (float[2,3,4] x, int64[2,4] t) => (float[?,?] y) { y = NegativeLogLikelihoodLoss(x, t) }",
    ),
    "behind_where": (
        13,
        """g (float[2,3] x, int64[2,1] t, bool[2,1] b) => (float[2,1] y) {
            z = Sub(t, t) w = Where(b, z, t) y = GatherElements<axis=1>(x, w) }""",
    ),
    "reduce": (18, "g (float[2,3,4] x, int64[2] a) => (float[?] y) { y = ReduceSum<keepdims=0>(x, a) }"),
    "squeeze": (13, "g (float[2,1,4] x, int64[1] a) => (float[2,4] y) { y = Squeeze(x, a) }"),
    "unsqueeze": (13, "g (float[2,4] x, int64[2] a) => (float[?,?,?,?] y) { y = Unsqueeze(x, a) }"),
    "cumsum": (14, "g (float[2,4] x, int32 a) => (float[2,4] y) { y = CumSum(x, a) }"),
    "reshape": (14, "g (float[2,3,4] x, int64[2] s) => (float[8,3] y) { y = Reshape(x, s) }"),
    "reshape_unknown": (14, "g (float[2,3,4] x, int64[3] s) => (float[?,?,?] y) { y = Reshape(x, s) }"),
    "expand": (13, "g (float[3,1] x, int64[3] s) => (float[?,?,?] y) { y = Expand(x, s) }"),
    "slice": (
        13,
        """g (float[20,10,5] x, int64[2] s, int64[2] e, int64[2] a, int64[2] t) => (float[?,?,?] y) {
            y = Slice(x, s, e, a, t) }""",
    ),
    "split": (18, "g (float[2,6] x, int64[2] s) => (float[2,2] y, float[2,4] z) {y,z = Split<axis=1>(x,s)}"),
    "top_k": (11, "g (float[3,4] x, int64[1] k) => (float[3,?] y, int64[3,?] i) { y, i = TopK(x, k) }"),
    "tile": (13, "g (float[2,3] x, int64[2] r) => (float[?,?] y) { y = Tile(x, r) }"),
    "reflect": (18, "g (float[1,3,4] x, int64[6] p) => (float[?,?,?] y) { y = Pad<mode=\"reflect\">(x, p) }"),
    "resize_scales": (
        18,
        """g (float[1,1,4,4] x, float[4] s) => (float[1,1,?,?] y) {
            y = Resize<mode="cubic",coordinate_transformation_mode="asymmetric">(x, , s) }""",
    ),
    "resize_sizes": (18, "g (float[1,1,4,4] x, int64[4] s) => (float[1,1,7,8] y) { y = Resize(x, , , s) }"),
    "divide": (14, "g (int32[3] x, int32[3] d) => (int32[3] y) { y = Div(x, d) }"),
    "lstm_lengths": (
        14,
        """g (float[4,2,3] x, float[1,8,3] w, float[1,8,2] r, int32[2] n) => (float[1,2,2] h) {
            q, h = LSTM<hidden_size=2>(x, w, r, , n) }""",
    ),
    "affine_grid": (20, "g (float[2,2,3] t, int64[4] s) => (float[2,5,6,2] y) { y = AffineGrid(t, s) }"),
    "columns": (18, "g (float[1,5,5] x, int64[2] i, int64[2] b) => (float[1,1,5,5] y) { y = Col2Im(x,i,b) }"),
    "dft": (20, "g (float[1,10,1] x, int64 n, int64 a) => (float[1,10,2] y) { y = DFT(x, n, a) }"),
    "suppression": (
        11,
        """g (float[1,6,4] b, float[1,1,6] s, int64[1] m, float[1] i, float[1] t) => (int64[?,3] y) {
            y = NonMaxSuppression(b, s, m, i, t) }""",
    ),
    "scalar": (13, "g (float[3] x, float low, float high) => (float[3] y) { y = Clip(x, low, high) }"),
    "narrow": (19, "g (bfloat16[3] x) => (float[3] y) { y = Cast<to=1>(x) }"),
    "four_bits": (21, "g (int4[3] x) => (float[3] y) { y = Cast<to=1>(x) }"),
}  # fmt: skip


def model(path: Path, opset: int, text: str) -> Path:
    onnx.save_model(parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{text}'), str(path))
    return path


def chosen_probes(path: Path) -> list[Probe]:
    loaded = load(path)
    specs = inputs_of(loaded)
    sizes, first, _ = choose_sizes(specs, loaded.session(), 0)
    return [first, *generate(specs, {**sizes, MOST_ROWS: 3}, 0)]


@pytest.mark.parametrize("name", ACCEPTED)
def test_arguments_hold_what_their_reader_accepts(name: str, tmp_path: Path) -> None:
    """Every probe runs, not only the one that was searched for."""
    path = model(tmp_path / "m.onnx", *ACCEPTED[name])
    session = load(path).session()
    for probe in chosen_probes(path):
        session.run(probe.feeds)


def test_a_frame_of_no_samples_is_never_proposed(tmp_path: Path) -> None:
    """A frame length of 0 ends the process: no probe may hold one, whatever its kind."""
    text = "g (float[1,128,1] x, int64 t, int64 n) => (float[1,?,?,2] y) { y = STFT(x, t, , n) }"
    for probe in chosen_probes(model(tmp_path / "m.onnx", 17, text)):
        assert 1 <= probe.feeds["n"] <= 128
        assert probe.feeds["t"] >= 1


def test_dimensions_that_need_sizes_of_their_own_are_found_one_by_one(tmp_path: Path) -> None:
    """A state of one row beside a signal that a reflection needs long, as voice models have it."""
    text = """g (float[N,T] x, float[2,B,8] state) => (float[?,?] y) {
        p = Pad<mode="reflect">(x, pads) u = Unsqueeze(p, one) c = Conv<strides=[16]>(u, w)
        r = ReduceMean<keepdims=0,axes=[2]>(c) s = ReduceSum<keepdims=0>(state, zero)
        y = Concat<axis=0>(r, s) }"""
    path = model(tmp_path / "m.onnx", 17, text)
    made = onnx.load_model(str(path))
    rng = np.random.default_rng(0)
    for name, value in {
        "pads": np.array([0, 0, 0, 40]), "one": np.array([1]), "zero": np.array([0]),
        "w": rng.standard_normal((8, 1, 65)).astype(np.float32),
    }.items():  # fmt: skip
        made.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    onnx.save_model(made, str(path))
    first = chosen_probes(path)[0]
    assert first.feeds["x"].shape[1] > 40


def test_a_size_that_the_graph_speaks_of_is_tried(tmp_path: Path) -> None:
    text = "g (float[N,K] x) => (float[N,?] y) { h = Reshape(x, s) y = ReduceMax(h) }"
    path = model(tmp_path / "m.onnx", 13, text)
    made = onnx.load_model(str(path))
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 77]), "s"))
    onnx.save_model(made, str(path))
    assert chosen_probes(path)[0].feeds["x"].shape == (1, 77)


def test_sequences_and_optional_inputs_are_fed(tmp_path: Path) -> None:
    text = """g (seq(float[2,3]) s, optional(float[2,3]) o) => (float[2,3] y) {
        a = SequenceAt(s, i) b = OptionalGetElement(o) y = Add(a, b) }"""
    path = model(tmp_path / "m.onnx", 18, text)
    made = onnx.load_model(str(path))
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1), "i"))
    onnx.save_model(made, str(path))
    assert {spec.name: spec.sequence for spec in inputs_of(load(path))} == {"s": True, "o": False}
    assert chosen_probes(path)[0].feeds["s"].dtype == object


def test_narrow_integers_are_drawn_from_their_whole_type(tmp_path: Path) -> None:
    probes = chosen_probes(model(tmp_path / "m.onnx", *ACCEPTED["four_bits"]))
    values = np.concatenate([probe.feeds["x"].astype(np.int64).ravel() for probe in probes])
    assert probes[0].feeds["x"].dtype == ml_dtypes.int4
    assert values.min() < 0 < values.max()


def test_a_symbol_of_the_batch_is_the_batch_wherever_it_stands(tmp_path: Path) -> None:
    """A recurrent state has the batch on its second axis: every probe runs, of one row and of three."""
    text = """g (float[batch,6] x, float[2,batch,6] state) => (float[?,?,?] y) {
        s = Add(x, state) y = Relu(s) }"""
    path = model(tmp_path / "m.onnx", 17, text)
    session = load(path).session()
    probes = chosen_probes(path)
    for probe in probes:
        assert probe.feeds["x"].shape[0] == probe.feeds["state"].shape[1]
        session.run(probe.feeds)
    assert {probe.feeds["x"].shape[0] for probe in probes} >= {1, 3}
