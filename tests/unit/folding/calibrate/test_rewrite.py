"""A recalibrated norm: what the fold takes is what the new nodes compute."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from folding.calibrate.measure import Moments
from folding.calibrate.rewrite import rewrite
from folding.norms.base import BatchNorm

CHANNELS = 64


@pytest.mark.parametrize("kind", [ir.DataType.FLOAT, ir.DataType.FLOAT16])
def test_the_affine_is_the_stored_constants(kind: ir.DataType) -> None:
    """Wider ones would put a second rounding between the recalibrated graph and its fold."""
    rng = np.random.default_rng(7)
    x = ir.Value(name="x", type=ir.TensorType(kind), shape=ir.Shape([None, CHANNELS, 4]))
    node = ir.node("Identity", [x])
    y = node.outputs[0]
    y.name, y.type, y.shape = "y", x.type, x.shape
    model = ir.Model(ir.Graph([x], [y], nodes=[node], opset_imports={"": 17}), ir_version=8)
    norm = BatchNorm(
        name="bn", spelling="batch_statistics", input=x, output=y, nodes=(node,), channel_axis=1,
        moving_mean=None, moving_variance=None, affine=None,
        gamma=rng.normal(size=CHANNELS), beta=rng.normal(size=CHANNELS), epsilon=1e-3,
    )  # fmt: skip
    found = Moments(9.0, rng.normal(size=CHANNELS), rng.uniform(0.1, 2, CHANNELS))
    (fresh,) = rewrite(model, [norm], {id(norm): found})
    scale, shift = (each.const_value.numpy().ravel() for each in model.graph.initializers.values())
    assert scale.dtype == shift.dtype == kind.numpy()
    assert fresh.affine is not None
    np.testing.assert_array_equal(fresh.affine.scale, scale.astype(np.float64))
    np.testing.assert_array_equal(fresh.affine.shift, shift.astype(np.float64))
