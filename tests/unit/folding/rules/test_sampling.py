"""GridSample and RoiAlign: what passes where weights sum to one, and what stays where samples count zeros."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from folding.rules.base import SkipReason
from tests.unit.folding.rules.models import difference, fold, model, norm_arrays

EXACT = 1e-11
SAMPLED = 1e-6  # onnx's evaluator makes the weights of its samples in float32
X = "T[2,3,6,5] x, T[2,4,7,2] p"
MODES, INSIDE = ("linear", "nearest", "cubic"), ("border", "reflection")
NORM = "BatchNormalization({}, g, b, m, v)"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    return np.random.default_rng(sum(map(ord, request.node.name)))


@pytest.mark.parametrize(
    ("mode", "padding", "aligned"), list(product(MODES, INSIDE, (0, 1)))
)  # fmt: skip
def test_a_norm_passes_samples_inside(
    mode: str, padding: str, aligned: int, rng: np.random.Generator
) -> None:
    sample = f'GridSample<mode="{mode}", padding_mode="{padding}", align_corners={aligned}>'
    body = f"a = Conv(x, w) c = {sample}(a, p) y = {NORM.format('c')}"
    folded = fold(model(X, body, {"w": rng.normal(size=(4, 3, 1, 1)), **norm_arrays(4)}, opset=20))
    assert folded.ops == ["Conv", "GridSample"]
    assert difference(folded) < SAMPLED


def test_a_norm_passes_into_what_reads_the_samples(rng: np.random.Generator) -> None:
    body = f'n = {NORM.format("x")} c = GridSample<padding_mode="border">(n, p) y = Conv(c, w)'
    folded = fold(model(X, body, {"w": rng.normal(size=(4, 3, 3, 3)), **norm_arrays(3)}, opset=20))
    assert folded.ops == ["GridSample", "Conv"]
    assert difference(folded) < SAMPLED


def test_samples_outside_are_zeros(rng: np.random.Generator) -> None:
    arrays = {"w": rng.normal(size=(4, 3, 1, 1)), **norm_arrays(4), "s": rng.normal(size=(4, 1, 1))}
    body = "a = Conv(x, w) c = GridSample(a, p) y = "
    kept = fold(model(X, body + NORM.format("c"), {k: v for k, v in arrays.items() if k != "s"}, opset=20))
    assert kept.result.decisions[0].reason is SkipReason.PADDED_SHIFT
    scaled = fold(model(X, body + "Mul(c, s)", {"w": arrays["w"], "s": arrays["s"]}, opset=20))
    assert scaled.ops == ["Conv", "GridSample"]
    assert difference(kept) < EXACT
    assert difference(scaled) < EXACT


def test_the_grid_is_no_data(rng: np.random.Generator) -> None:
    body = 'q = Mul(p, h) y = GridSample<padding_mode="border">(x, q)'
    folded = fold(model(X, body, {"h": np.array(0.5)}, opset=20))
    assert folded.ops == ["Mul", "GridSample"]


ROIS = {"r": np.array([[0.0, 0.0, 4.0, 4.0], [1.0, 1.0, 3.0, 2.0]]), "i": np.array([0, 1])}


@pytest.mark.parametrize(
    ("mode", "ops"), [("avg", ["Conv", "RoiAlign"]), ("max", ["Conv", "RoiAlign", "Mul"])]
)
def test_regions(mode: str, ops: list[str], rng: np.random.Generator) -> None:
    body = (
        f'a = Conv(x, w) c = RoiAlign<mode="{mode}", output_height=2, output_width=2>(a, r, i) y = Mul(c, s)'
    )
    arrays = {"w": rng.normal(size=(4, 3, 1, 1)), "s": rng.normal(size=(4, 1, 1)), **ROIS}
    folded = fold(model("T[2,3,6,5] x", body, arrays))
    assert folded.ops == ops
    if mode == "avg":
        assert difference(folded) < EXACT
