"""The certificate tells a correct rounding from everything else."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from folding.ir.types import Array, Float64Array
from folding.report import Certificate
from folding.rules.certificate import UNIT_ROUNDOFF, cancelled, certificate, measure, merge
from tests.support.numbers import running_rng

DTYPES = {"float16": np.float16, "float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float64": np.float64}


def certify(exact: Float64Array, stored: Array, terms: Sequence[Float64Array] = ()) -> Certificate:
    """Certificate of one folded array: in float64, as the artifact holds it, and the terms of its sum."""
    rounding = measure(np.asarray(exact, dtype=np.float64), np.asarray(stored))
    if terms:
        rounding.cancellation = cancelled(exact, terms)
    return certificate(rounding)


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_one_rounding_holds(dtype: str) -> None:
    exact = running_rng().normal(size=(8, 100))
    found = certify(exact, exact.astype(DTYPES[dtype]))
    assert found.holds
    assert found.bound == UNIT_ROUNDOFF[dtype]
    assert 0 <= found.max_relative_rounding <= found.bound * (1 + 2.0**-14)


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_two_roundings_in_a_row_do_not_hold(dtype: str) -> None:
    """Scale rounded first, product rounded after: what a fold in the stored dtype does."""
    weights, scale = running_rng().normal(size=(8, 100)), running_rng().normal(size=(8, 1))
    kind = DTYPES[dtype]
    product = (weights.astype(kind) * scale.astype(kind)).astype(kind)
    assert not certify(weights.astype(kind).astype(np.float64) * scale, product).holds


@pytest.mark.parametrize("factor", [1 + 1e-3, -1.0, 0.0, 1 + 2.0**-20])
def test_one_wrong_element_is_seen(factor: float) -> None:
    exact = running_rng().normal(size=(64, 64))
    stored = exact.astype(np.float32)
    stored[3, 5] *= np.float32(factor)
    assert not certify(exact, stored).holds


def test_overflow_is_counted_and_does_not_hold() -> None:
    exact = np.array([[1e5, 1.0], [2.0, 3.0]])
    with np.errstate(over="ignore"):
        found = certify(exact, exact.astype(np.float16))
    assert found.overflow == 1
    assert not found.holds


def test_underflow_of_what_does_not_matter_holds() -> None:
    """One element of a channel vanishes beside others 1e9 times its size."""
    exact = np.array([[1.0, 1e-9], [1.0, 1.0]])
    found = certify(exact, exact.astype(np.float16))
    assert found.underflow == 1
    assert found.holds


def test_underflow_of_a_whole_channel_does_not_hold() -> None:
    exact = np.array([[1e-9, 1e-9], [1.0, 1.0]])
    assert not certify(exact, exact.astype(np.float16)).holds


def test_cancellation_is_counted() -> None:
    left, right = np.array([1.0, 1.0]), np.array([-1.0 + 1e-12, 1.0])
    exact = left + right
    found = certify(exact, exact.astype(np.float32), [left, right])
    assert found.cancellation == 1
    assert found.holds  # counted, not condemned: float64 has digits left for float32


def test_a_matrix_of_zeros_holds() -> None:
    assert certify(np.zeros((3, 3)), np.zeros((3, 3), np.float32)).holds


def test_merging_keeps_the_worst() -> None:
    exact = running_rng().normal(size=100)
    good, bad = certify(exact, exact.astype(np.float32)), certify(exact, (exact * 1.01).astype(np.float32))
    both = merge([good, bad])
    assert both is not None
    assert not both.holds
    assert both.max_relative_rounding == bad.max_relative_rounding
    assert merge([]) is None


@given(arrays.arrays(np.float64, (4, 7), elements=st.floats(-1e3, 1e3, allow_subnormal=False)))
def test_any_array_rounded_once_is_within_the_unit_roundoff(exact: np.ndarray) -> None:
    found = certify(exact, exact.astype(np.float32))
    assert found.overflow == 0
    assert found.max_relative_rounding <= found.bound
