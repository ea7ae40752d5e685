"""The proof in rational arithmetic sees what is wrong; `test_exact_rules` takes every row of the tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.unit.folding.rules.models import Folded, feeds, fold, model, norm_arrays
from tests.unit.folding.rules.rational import prove


def folded() -> Folded:
    rng = np.random.default_rng(0)
    body = "c = Conv<pads=[1,1,1,1]>(x, w) h = BatchNormalization(c, g, b, m, v) y = Sigmoid(h)"
    return fold(model("T[1,2,4,4] x", body, {"w": rng.normal(size=(3, 2, 3, 3)), **norm_arrays(3)}))


def test_a_fold_is_proved() -> None:
    found = folded()
    prove(found, feeds(found.before), 0)


@pytest.mark.parametrize("change", ["one weight", "one sign", "epsilon"])
def test_a_fold_that_is_off_by_the_smallest_step_is_not(change: str) -> None:
    """Faults that no tolerance would see: one unit in the last place of one weight."""
    found = folded()

    def spoiled(proto: onnx.ModelProto) -> Folded:
        again = found.again(proto)
        for tensor in again.after.graph.initializer:
            array = np.array(numpy_helper.to_array(tensor))
            if array.ndim == (1 if change == "epsilon" else 4):
                at = (0,) * array.ndim
                array[at] = -array[at] if change == "one sign" else np.nextafter(array[at], np.inf)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        return again

    with pytest.raises(AssertionError, match="differ"):
        prove(replace(found, again=spoiled), feeds(found.before), 0)


def test_a_function_that_was_exchanged_is_seen() -> None:
    found = folded()

    def exchanged(proto: onnx.ModelProto) -> Folded:
        again = found.again(proto)
        next(n for n in again.after.graph.node if n.op_type == "Sigmoid").op_type = "Tanh"
        return again

    with pytest.raises(AssertionError, match="differ"):
        prove(replace(found, again=exchanged), feeds(found.before), 0)
