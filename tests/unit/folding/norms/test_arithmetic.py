"""Batch norm as arithmetic: whatever the arrangement, the same arrays by role and the same affine."""

# Rows are tables, and tables read across.
# ruff: noqa: E501
from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from folding import norms
from folding.norms.base import BatchNorm
from tests.unit.folding.rules.models import model, norm_arrays

EPSILON = 1e-3
ARRAYS = {**norm_arrays(6), "eps": np.array(EPSILON), "half": np.array(0.5), "minus": np.array(-0.5)}
SCALE = ARRAYS["g"] / np.sqrt(ARRAYS["v"] + EPSILON)
SHIFT = ARRAYS["b"] - ARRAYS["m"] * SCALE

# Spellings over a last-axis constant: NHWC as TensorFlow has it, dense layers too.
FULL = {
    "tf.nn.batch_normalization": (
        "e = Add(v, eps) q = Sqrt(e) r = Reciprocal(q) i = Mul(r, g) p = Mul(x, i) k = Mul(m, i) s = Sub(b, k) y = Add(p, s)"
    ),
    "the other way round": (
        "e = Add(eps, v) q = Sqrt(e) r = Reciprocal(q) i = Mul(g, r) p = Mul(i, x) k = Mul(i, m) s = Sub(b, k) y = Add(s, p)"
    ),
    "hand-written": "c = Sub(x, m) e = Add(v, eps) q = Sqrt(e) d = Div(c, q) h = Mul(d, g) y = Add(h, b)",
    "hand-written with Pow": "c = Sub(x, m) e = Add(v, eps) q = Pow(e, half) d = Div(c, q) h = Mul(d, g) y = Add(h, b)",
    "hand-written with rsqrt": "c = Sub(x, m) e = Add(v, eps) q = Pow(e, minus) d = Mul(c, q) h = Mul(g, d) y = Add(b, h)",
    "gamma first": "c = Sub(x, m) h = Mul(c, g) e = Add(v, eps) q = Sqrt(e) d = Div(h, q) y = Add(d, b)",
    "negated mean": "n = Neg(m) c = Add(x, n) e = Add(v, eps) q = Sqrt(e) d = Div(c, q) h = Mul(d, g) y = Add(h, b)",
    "mean minus x": (
        "c = Sub(m, x) e = Add(v, eps) q = Sqrt(e) d = Div(c, q) h = Mul(d, g) y = Sub(b, h)"
    ),
    "one division": "e = Add(v, eps) q = Sqrt(e) i = Div(g, q) c = Sub(x, m) h = Mul(c, i) y = Add(h, b)",
}  # fmt: skip


def found(
    body: str, arrays: dict[str, np.ndarray], inputs: str = "T[2,3,3,6] x", dtype: str = "float64"
) -> list[BatchNorm]:
    used = {
        name: array
        for name, array in arrays.items()
        if f" {name}," in body or f" {name})" in body or f"({name}," in body or f"({name})" in body
    }
    return norms.find(ir.from_proto(model(inputs, body, used, dtype=dtype)))


@pytest.mark.parametrize("name", list(FULL))
def test_roles_and_affine(name: str) -> None:
    (norm,) = found(FULL[name], ARRAYS)
    assert norm.epsilon == pytest.approx(EPSILON)
    assert norm.channel_axis == 3
    for role, key in (("gamma", "g"), ("beta", "b"), ("moving_mean", "m"), ("moving_variance", "v")):
        np.testing.assert_array_equal(getattr(norm, role), ARRAYS[key])
        assert norm.variables[role] == key
    assert norm.affine is not None
    np.testing.assert_allclose(norm.affine.scale, SCALE, rtol=1e-14)
    np.testing.assert_allclose(norm.affine.shift, SHIFT, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", list(FULL))
@pytest.mark.parametrize("inputs", ["T[4,6] x", "T[2,5,6] x"])
def test_dense_layers(name: str, inputs: str) -> None:
    (norm,) = found(FULL[name], ARRAYS, inputs)
    assert norm.affine is not None
    np.testing.assert_allclose(norm.affine.scale, SCALE, rtol=1e-14)


def test_float32_statistics_are_computed_in_float64() -> None:
    (norm,) = found(FULL["tf.nn.batch_normalization"], ARRAYS, dtype="float32")
    single = {name: array.astype(np.float32).astype(np.float64) for name, array in ARRAYS.items()}
    scale = single["g"] / np.sqrt(single["v"] + single["eps"])
    assert norm.affine is not None
    np.testing.assert_allclose(norm.affine.scale, scale, rtol=1e-15)
    np.testing.assert_allclose(norm.affine.shift, single["b"] - single["m"] * scale, rtol=1e-13, atol=1e-15)


WITHOUT = {
    "no gamma": ("e = Add(v, eps) q = Sqrt(e) i = Reciprocal(q) p = Mul(x, i) k = Mul(m, i) s = Sub(b, k) y = Add(p, s)", "gamma"),
    "no beta": ("e = Add(v, eps) q = Sqrt(e) r = Reciprocal(q) i = Mul(r, g) p = Mul(x, i) k = Mul(m, i) s = Neg(k) y = Add(p, s)", "beta"),
    "hand-written, no gamma": ("c = Sub(x, m) e = Add(v, eps) q = Sqrt(e) d = Div(c, q) y = Add(d, b)", "gamma"),
    "hand-written, no beta": ("c = Sub(x, m) e = Add(v, eps) q = Sqrt(e) d = Div(c, q) y = Mul(d, g)", "beta"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(WITHOUT))
def test_absent_roles_stay_absent(name: str) -> None:
    body, absent = WITHOUT[name]
    (norm,) = found(body, ARRAYS)
    assert getattr(norm, absent) is None
    assert norm.moving_mean is not None
    assert norm.moving_variance is not None


def test_nchw_parameters_are_reshaped_on_the_way() -> None:
    body = (
        "gr = Reshape(g, sh) br = Reshape(b, sh) mr = Reshape(m, sh) vr = Reshape(v, sh) "
        "c = Sub(x, mr) e = Add(vr, eps) q = Sqrt(e) d = Div(c, q) h = Mul(d, gr) y = Add(h, br)"
    )
    (norm,) = found(body, {**ARRAYS, "sh": np.array([1, 6, 1, 1])}, "T[2,6,3,3] x")
    assert norm.channel_axis == 1
    np.testing.assert_array_equal(norm.moving_mean, ARRAYS["m"])
    assert norm.affine is not None
    np.testing.assert_allclose(norm.affine.shift, SHIFT, rtol=1e-12, atol=1e-14)


def test_a_bias_before_the_norm_is_no_part_of_it() -> None:
    body = "a = Add(x, k) c = Sub(a, m) e = Add(v, eps) q = Sqrt(e) d = Div(c, q) h = Mul(d, g) y = Add(h, b)"
    (norm,) = found(body, {**ARRAYS, "k": np.arange(6.0)})
    assert norm.variables["moving_mean"] == "m"
    assert len(norm.nodes) == 4
    assert norm.affine is not None
    np.testing.assert_allclose(norm.affine.shift, SHIFT, rtol=1e-12, atol=1e-14)


def test_two_norms_in_a_row_are_two() -> None:
    second = {f"o{name}": array for name, array in norm_arrays(6, seed=9).items()}
    body = (
        "c = Sub(x, m) e = Add(v, eps) q = Sqrt(e) d = Div(c, q) h = Mul(d, g) z = Add(h, b) "
        "oc = Sub(z, om) oe = Add(ov, eps) oq = Sqrt(oe) od = Div(oc, oq) oh = Mul(od, og) y = Add(oh, ob)"
    )
    first, last = found(body, {**ARRAYS, **second})
    assert first.variables["beta"] == "b"
    assert last.variables["moving_mean"] == "om"


def test_plain_mul_and_add_are_no_batch_norm() -> None:
    assert found("p = Mul(x, g) y = Add(p, b)", ARRAYS) == []


def test_layer_norm_is_no_batch_norm() -> None:
    body = (
        "u = ReduceMean(x, ax) c = Sub(x, u) s = Mul(c, c) w = ReduceMean(s, ax) e = Add(w, eps) q = Sqrt(e) "
        "d = Div(c, q) h = Mul(d, g) y = Add(h, b)"
    )
    assert found(body, {**ARRAYS, "ax": np.array([-1])}) == []
    assert found(body, {**ARRAYS, "ax": np.array([1, 2])}) == []  # instance norm


def test_instance_normalization_is_no_batch_norm() -> None:
    assert found("y = InstanceNormalization(x, g, b)", ARRAYS, "T[2,6,3,3] x") == []


def test_batch_moments_are_found_and_not_lowered() -> None:
    body = (
        "u = ReduceMean(x, ax) c = Sub(x, u) s = Mul(c, c) w = ReduceMean(s, ax) e = Add(w, eps) q = Sqrt(e) "
        "d = Div(c, q) h = Mul(d, g) y = Add(h, b)"
    )
    (norm,) = found(body, {**ARRAYS, "ax": np.array([0, 1, 2])})
    assert norm.why_not is not None
    assert norm.why_not[0] == "batch_statistics"
    assert norm.affine is None
    assert norm.epsilon == pytest.approx(EPSILON)
    assert norm.channel_axis == 3
    assert norm.variables == {"gamma": "g", "beta": "b"}
    assert norm.input is not None
    assert norm.input.name == "x"
    assert norm.output is not None
    assert norm.output.name == "y"


def test_negative_variance_is_found_for_health_to_judge() -> None:
    arrays = {**ARRAYS, "v": -np.ones(6)}
    (norm,) = found(FULL["hand-written"], arrays)
    np.testing.assert_array_equal(norm.moving_variance, -np.ones(6))
    assert norm.affine is not None
    assert not np.isfinite(norm.affine.scale).any()
