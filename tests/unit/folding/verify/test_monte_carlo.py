"""Monte-Carlo arithmetic: results of operators move, and sums of many terms by what their order can do."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from folding.verify.model import load
from folding.verify.noise.monte_carlo import monte_carlo
from folding.verify.noise.tolerance import GUARD
from tests.unit.folding.verify.models import write

COUNT = 30_000
UNIT = 2.0**-24
REDUCTIONS = {
    "ReduceMean": "g (float[N,3,L] x) => (float[1,3,1] y) { y = ReduceMean(x, axes) }",
    "ReduceMean, axes computed": """g (float[N,3,L] x) => (float[1,3,1] y) {
        a = Abs(axes) y = ReduceMean(x, a) }""",
    "ReduceSum": "g (float[N,3,L] x) => (float[1,3,1] y) { y = ReduceSum(x, axes) }",
    "GlobalAveragePool": "g (float[N,3,L] x) => (float[N,3,1] y) { y = GlobalAveragePool(x) }",
}


def noise(path: Path, x: np.ndarray, runs: int = 6) -> np.ndarray:
    """The largest movement of each element of `y` over several runs, divided by the mean of |x|."""
    source = load(path)
    base = source.session().run({"x": x})["y"].astype(np.float64)
    moved = [
        monte_carlo(source, np.random.default_rng(seed)).session().run({"x": x})["y"] for seed in range(runs)
    ]
    return np.max([np.abs(run - base) for run in moved], axis=0).ravel()


@pytest.mark.parametrize("operator", REDUCTIONS)
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_sums_move_by_what_their_order_can_do(tmp_path: Path, operator: str, spread: float) -> None:
    """Equal terms, whose roundings add up, and terms of both signs, whose sum cancels."""
    rng = np.random.default_rng([3, int(spread)])
    centre = 1.7 * (1 - spread)
    x = np.float32(centre + spread * rng.normal(size=(1, 3, COUNT)))
    path = write(tmp_path / "a.onnx", REDUCTIONS[operator], axes=np.asarray([0, 2], np.int64))
    found = noise(path, x)
    count = 1 if operator == "ReduceSum" else COUNT
    one_by_one = np.cumsum(x, axis=2, dtype=np.float32)[:, :, -1].astype(np.float64).ravel()
    exact = x.astype(np.float64).sum(2).ravel()
    if "computed" in operator:  # then the plainest order is not known, but the runtime's own is
        own = load(path).session().run({"x": x})["y"].astype(np.float64).ravel() * count
        one_by_one = own if spread == 0 else one_by_one
    worst = np.abs(one_by_one - exact) / count
    assert (GUARD * found >= worst).all()
    # Not more than the two reaches: what is larger is no rounding.
    size = np.abs(x).astype(np.float64).sum(2).ravel() / count
    assert (found <= 2 * math.sqrt(COUNT) * UNIT * size + 1.1 * worst).all()


@pytest.mark.parametrize("operator", ["ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceSum", "ReduceMean"])
@pytest.mark.parametrize("kind", ["float", "double", "float16"])
@pytest.mark.parametrize("opset", [9, 12, 18])
def test_every_reduction_loads(tmp_path: Path, operator: str, kind: str, opset: int) -> None:
    """A graph that does not would leave the noise of every operator out."""
    given = "x, axes" if opset == 18 else "x"
    attribute = "" if opset == 18 else "<axes=[0,2]>"
    text = f"g ({kind}[N,3,L] x) => ({kind}[1,3,1] y) {{ y = {operator}{attribute}({given}) }}"
    tensors = {"axes": np.asarray([0, 2], np.int64)} if opset == 18 else {}
    path = write(tmp_path / "a.onnx", text, opset=opset, **tensors)
    x = np.ones((2, 3, 40), {"float": np.float32, "double": np.float64, "float16": np.float16}[kind])
    source = load(path)
    try:
        base = source.session().run({"x": x})["y"]
    except Exception as exc:  # noqa: BLE001 - a reduction that the runtime lacks has no noise either
        pytest.skip(f"the runtime does not run it: {exc}")
    moved = monte_carlo(source, np.random.default_rng(0)).session().run({"x": x})["y"]
    assert moved.dtype == base.dtype
    assert 0 < np.abs(moved - base).max() < 0.02 * np.abs(base).max()


def test_sums_of_few_terms_move_by_one_unit_or_two(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.onnx",
        "g (float[N,3,L] x) => (float[1,3,1] y) { y = ReduceMean(x, axes) }",
        axes=np.asarray([0, 2], np.int64),
    )
    found = noise(path, np.full((1, 3, 4), 1.7, np.float32))
    assert (found <= 5 * UNIT * 1.7).all()
    assert found.max() > 0
