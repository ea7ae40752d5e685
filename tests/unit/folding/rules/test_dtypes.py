"""float16, bfloat16, float32, float64, mixtures, quantized weights: one rounding each, nothing lost to range."""

# Rows are tables, and tables read across.
# ruff: noqa: E501, ISC004
from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from folding.ir.types import Array
from folding.rules.base import SkipReason
from folding.rules.certificate import UNIT_ROUNDOFF
from tests.support.numbers import running_rng
from tests.unit.folding.rules.models import Folded, difference, fold, model, norm_arrays

BN = "BatchNormalization"
X = "T[2,6,5,5] x"
BODY = "c = Conv(x, w, k) y = BatchNormalization(c, g, b, m, v)"
N8, N6 = norm_arrays(8), norm_arrays(6)


def n(*shape: int) -> np.ndarray:
    return running_rng().normal(size=shape)


def stored(folded: Folded) -> dict[str, Array]:
    return {item.name: numpy_helper.to_array(item) for item in folded.after.graph.initializer}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_one_rounding_from_the_exact_fold(dtype: str) -> None:
    """The stored weights are the float64 ones, rounded once; the certificate says so."""
    arrays = {"w": n(8, 6, 3, 3), "k": n(8), **N8}
    folded = fold(model(X, BODY, arrays, dtype=dtype))
    given = {name: array.astype(dtype).astype(np.float64) for name, array in arrays.items()}
    scale = given["g"] / np.sqrt(given["v"] + float(np.float32(1e-5)))
    exact = given["w"] * scale[:, None, None, None]
    bias = scale * given["k"] + (given["b"] - given["m"] * scale)
    held = stored(folded)
    assert held["w"].dtype == dtype
    np.testing.assert_array_equal(held["w"], exact.astype(dtype))
    np.testing.assert_array_equal(held["k"], bias.astype(dtype))
    certificate = folded.result.decisions[0].certificate
    assert certificate is not None
    assert certificate.holds
    assert certificate.bound == UNIT_ROUNDOFF[dtype]
    assert certificate.max_relative_rounding <= certificate.bound


def test_bfloat16() -> None:
    arrays = {"w": n(8, 6, 3, 3), "k": n(8), **N8}
    nodes = [
        helper.make_node("Conv", ["x", "w", "k"], ["c"]),
        helper.make_node(BN, ["c", "g", "b", "m", "v"], ["y"]),
    ]
    kind = TensorProto.BFLOAT16
    tensors = [
        helper.make_tensor(name, kind, array.shape, array.astype(ml_dtypes.bfloat16).tobytes(), raw=True)
        for name, array in arrays.items()
    ]
    ends = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, shape in (("x", [2, 6, 5, 5]), ("y", [2, 8, 3, 3]))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    folded = fold(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10))
    assert folded.ops == ["Conv"]
    certificate = folded.result.decisions[0].certificate
    assert certificate is not None
    assert certificate.holds
    assert certificate.bound == 2.0**-8


def test_half_precision_weights_with_single_precision_statistics() -> None:
    """Two peers write an invalid model here: the folded weights must keep the weights' own type."""
    arrays = {"w": n(8, 6, 3, 3), "k": n(8), **{name: array.astype(np.float32) for name, array in N8.items()}}
    folded = fold(model(X, BODY, arrays, dtype="float16"))
    assert folded.ops == ["Conv"]
    assert {str(array.dtype) for array in stored(folded).values()} == {"float16"}


def test_through_a_cast() -> None:
    arrays = {"w": n(8, 6, 3, 3), **{name: array.astype(np.float32) for name, array in N8.items()}}
    body = "c = Conv(x, w) d = Cast<to=1>(c) y = BatchNormalization(d, g, b, m, v)"
    folded = fold(model(X, body, arrays, dtype="float16", outputs="float[2,8,3,3] y"))
    assert folded.ops == ["Conv", "Cast"]
    assert difference(folded) < 2.0**-9


def test_an_extreme_scale_does_not_cross_a_cast_into_a_narrow_type() -> None:
    tiny = {**N8, "g": np.full(8, 1e-4)}
    arrays = {"w": n(8, 6, 3, 3), **{name: array.astype(np.float32) for name, array in tiny.items()}}
    body = "c = Conv(x, w) d = Cast<to=1>(c) y = BatchNormalization(d, g, b, m, v)"
    folded = fold(model(X, body, arrays, dtype="float16", outputs="float[2,8,3,3] y"))
    assert folded.ops == ["Conv", "Cast", BN]
    assert folded.result.decisions[0].reason is SkipReason.WOULD_UNDERFLOW


def test_half_precision_with_a_tiny_variance_is_folded_exactly() -> None:
    """Peers compute 1/sqrt(variance + epsilon) in float16 and are off by 4e-2."""
    arrays = {"w": 0.1 * n(8, 6, 3, 3), "k": n(8), **N8, "m": 0.1 * n(8), "v": np.full(8, 1e-7)}
    folded = fold(model(X, BODY, arrays, dtype="float16"))
    assert folded.ops == ["Conv"]
    certificate = folded.result.decisions[0].certificate
    assert certificate is not None
    assert certificate.holds


RANGES = {
    "weights overflow": ({"w": 1e3 * n(8, 6, 3, 3), "v": np.full(8, 1e-7), "m": 0 * N8["m"]}, SkipReason.WOULD_OVERFLOW),
    "bias overflows": ({"w": n(8, 6, 3, 3), "v": np.full(8, 1e-7), "m": np.full(8, 6e4)}, SkipReason.WOULD_OVERFLOW),
    "weights underflow": ({"w": 1e-2 * n(8, 6, 3, 3), "v": np.full(8, 6e4), "g": np.full(8, 1e-3)}, SkipReason.WOULD_UNDERFLOW),
}  # fmt: skip


@pytest.mark.parametrize("name", list(RANGES))
def test_what_would_leave_the_range_stays(name: str) -> None:
    changed, reason = RANGES[name]
    folded = fold(model(X, BODY, {"k": n(8), **N8, **changed}, dtype="float16"))
    assert folded.ops == ["Conv", BN]
    assert folded.result.decisions[0].reason is reason
    assert folded.after.graph.initializer == folded.before.graph.initializer


def test_single_precision_range() -> None:
    arrays = {"w": 1e30 * n(8, 6, 3, 3), "k": n(8), **N8, "g": np.full(8, 1e20)}
    folded = fold(model(X, BODY, arrays, dtype="float32"))
    assert folded.ops == ["Conv", BN]
    assert folded.result.decisions[0].reason is SkipReason.WOULD_OVERFLOW


def test_many_small_scales_do_not_leave_the_range_together() -> None:
    """Each alone is harmless; what they come to in float64 no float32 holds."""
    body = (
        "c = Conv(x, w) "
        + " ".join(f"c{i} = Mul({f'c{i - 1}' if i else 'c'}, s)" for i in range(12))
        + " y = Add(c11, s)"
    )
    folded = fold(model(X, body, {"w": n(8, 6, 3, 3), "s": np.full((8, 1, 1), 1e-9)}, dtype="float32"))
    for item in stored(folded).values():
        assert np.isfinite(item).all()
    assert difference(folded) < 1e-6


def test_merging_does_not_leave_the_range() -> None:
    arrays = {"g": np.full(8, 2e3), "b": N8["b"], "m": N8["m"], "v": np.full(8, 1.0)}
    body = "c = BatchNormalization(x, g, b, m, v) y = BatchNormalization(c, g, b, m, v)"
    folded = fold(model("T[2,8,5,5] x", body, arrays, dtype="float16"))
    assert folded.ops == [BN, BN]


# -- quantized weights ------------------------------------------------------------------------------------

INT8 = running_rng().integers(-127, 128, (8, 6, 3, 3)).astype(np.int8)
UINT8 = (INT8.astype(np.int64) + 128).astype(np.uint8)
SINGLE = 2e-6  # float32 evaluation of the judge itself
DEQUANTIZE = "q = DequantizeLinear<axis=0>(w, ws, wz) c = Conv(x, q) y = BatchNormalization(c, g, b, m, v)"
PLUS = {**N8, "g": np.abs(N8["g"])}
QUANTIZED = {
    "per channel": (DEQUANTIZE, {"w": INT8, "ws": np.abs(n(8)), "wz": np.zeros(8, np.int8), **N8}),
    "per tensor": (
        "q = DequantizeLinear(w, ws) c = Conv(x, q) y = BatchNormalization(c, g, b, m, v)",
        {"w": INT8, "ws": np.array(0.02), **N8},
    ),
    "asymmetric, positive": (DEQUANTIZE, {"w": UINT8, "ws": np.abs(n(8)), "wz": np.full(8, 128, np.uint8), **PLUS}),
    "asymmetric, mirrored": (DEQUANTIZE, {"w": UINT8, "ws": np.abs(n(8)), "wz": np.full(8, 128, np.uint8), **N8}),
    "a channel switched off": (
        DEQUANTIZE, {"w": UINT8, "ws": np.abs(n(8)), "wz": np.full(8, 7, np.uint8), **PLUS, "g": PLUS["g"] * (np.arange(8) > 0)},
    ),
    "quantized bias": (
        "q = DequantizeLinear<axis=0>(w, ws) k = DequantizeLinear(kq, ks) c = Conv(x, q, k) y = BatchNormalization(c, g, b, m, v)",
        {"w": INT8, "ws": np.abs(n(8)), "kq": np.arange(8, dtype=np.int32), "ks": np.array(1e-3), **N8},
    ),
    "transposed convolution": (
        "q = DequantizeLinear<axis=1>(w, ws) c = ConvTranspose(x, q) y = BatchNormalization(c, g, b, m, v)",
        {"w": np.ascontiguousarray(INT8.swapaxes(0, 1)), "ws": np.abs(n(8)), **N8},
    ),
    "a depthwise norm before it": (
        "c = BatchNormalization(x, g, b, m, v) q = DequantizeLinear<axis=0>(w, ws) y = Conv<group=6>(c, q)",
        {"w": INT8[:6, :1].copy(), "ws": np.abs(n(6)), **N6},
    ),
    "quantized in the graph": (
        "i = QuantizeLinear<axis=0>(w, ws, wz) q = DequantizeLinear<axis=0>(i, ws, wz) c = Conv(x, q) "
        "y = BatchNormalization(c, g, b, m, v)",
        {"w": n(8, 6, 3, 3), "ws": np.full(8, 0.03), "wz": np.zeros(8, np.int8), **N8},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(QUANTIZED))
def test_quantized_weights_stay_quantized(name: str) -> None:
    body, arrays = QUANTIZED[name]
    folded = fold(model(X, body, arrays, dtype="float32", opset=19))
    assert sorted(folded.ops) in (["Conv", "DequantizeLinear"], ["ConvTranspose", "DequantizeLinear"])
    assert difference(folded) < SINGLE


def test_blocks_keep_their_scales_and_mirror_their_integers() -> None:
    body = "q = DequantizeLinear<axis=0, block_size=3>(w, ws) c = Gemm(x, q) y = BatchNormalization(c, g, b, m, v)"
    arrays = {"w": INT8[:, :, 0, 0].T.copy(), "ws": np.abs(n(2, 8)), **N8}
    folded = fold(model("T[4,6] x", body, arrays, dtype="float32", opset=21, ir_version=10))
    assert folded.ops == ["DequantizeLinear", "Gemm"]
    assert difference(folded) < SINGLE


def test_four_bits() -> None:
    body = "q = DequantizeLinear<axis=0>(w, ws) c = Conv(x, q) y = BatchNormalization(c, g, b, m, v)"
    int4 = running_rng().integers(-7, 8, (8, 6, 3, 3)).astype(ml_dtypes.int4)
    arrays = {"w": int4, "ws": np.abs(n(8)), **N8}
    folded = fold(model(X, body, arrays, dtype="float32", opset=21, ir_version=10))
    assert folded.ops == ["DequantizeLinear", "Conv"]
    assert difference(folded) < SINGLE


def test_gemm_with_quantized_weights() -> None:
    body = "q = DequantizeLinear<axis=1>(w, ws) c = Gemm(x, q) y = BatchNormalization(c, g, b, m, v)"
    arrays = {"w": INT8[:, :, 0, 0].T.copy(), "ws": np.abs(n(8)), **N8}
    folded = fold(model("T[4,6] x", body, arrays, dtype="float32", opset=19))
    assert folded.ops == ["DequantizeLinear", "Gemm"]
    assert difference(folded) < SINGLE


REFUSED = {
    "no room to mirror": (
        DEQUANTIZE, {"w": np.full((8, 6, 3, 3), -128, np.int8), "ws": np.abs(n(8)), "wz": np.zeros(8, np.int8), **N8},
        SkipReason.QUANTIZED_NEGATIVE_SCALE,
    ),
    "a scale per input channel": (
        "h = BatchNormalization(x, g, b, m, v) q = DequantizeLinear<axis=0>(w, ws) y = Conv(h, q)",
        {"w": INT8, "ws": np.abs(n(8)), **N6}, SkipReason.QUANTIZED_WEIGHTS,
    ),
    "quantized activations between": (
        "c = Conv(x, w) q = QuantizeLinear(c, s, z) d = DequantizeLinear(q, s, z) y = BatchNormalization(d, g, b, m, v)",
        {"w": n(8, 6, 3, 3), "s": np.array(0.1), "z": np.array(0, np.int8), **N8}, SkipReason.QUANTIZED_ACTIVATION,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_quantization_cannot_express_stays(name: str) -> None:
    body, arrays, reason = REFUSED[name]
    folded = fold(model(X, body, arrays, dtype="float32", opset=19, outputs="T[2,8,3,3] y"))
    assert BN in folded.ops
    assert folded.result.decisions[0].reason is reason
    assert difference(folded) == 0.0


def test_the_onnx_checker_agrees() -> None:
    body, arrays = QUANTIZED["per tensor"]
    onnx.checker.check_model(fold(model(X, body, arrays, dtype="float32", opset=19)).after, full_check=True)
