"""Bounds of products and sums of products: Conv, ConvTranspose, Gemm, MatMul, Einsum.

For y = sum_i w_i x_i + b of n terms, in any order of summation, with or without fused multiply-add
(Higham, (3.5) and lemma 3.3), with computed factors `w + dw`, `x + e`:

    |error| <= |w| . e + dw . (|x| + e) + db + gamma_n ((|w| + dw) . (|x| + e) + |b| + db)

Factors that are rounded before they are multiplied (TF32) add 2 f + f^2 to gamma_n. A convolution by a fast
algorithm multiplies gamma_n by the growth that its provider states. The absolute twin
`|w| . |x| + |b|` is the node's own kernel on absolute operands; all arithmetics share it.
"""

from __future__ import annotations

import math

import numpy as np

from folding.verify.bounds.base import Application, Array, Bounded, Rule


def terms(a: Application) -> int:
    """Return the number of terms of one element's sum, bias included."""
    x, w = a.operand(0).value, a.operand(1).value
    if a.op_type == "Conv":
        return int(math.prod(w.shape[1:])) + 1
    if a.op_type == "ConvTranspose":
        return int(math.prod(w.shape[2:])) * int(w.shape[0] // int(a.get("group", 1))) + 1
    if a.op_type == "Gemm":
        return int(x.shape[0 if a.get("transA", 0) else 1]) + 3  # alpha, beta and the sum with C
    if a.op_type == "MatMul":
        return int(x.shape[-1]) if x.ndim else 1
    return max(1, x.size)  # Einsum: no sum has more terms than the first operand has elements


def linear(a: Application) -> Array | None:
    """Return the bound of the module's formula."""
    x, w, bias = a.operand(0), a.operand(1), a.optional(2)
    if len(a.operands) > 3 or a.y.dtype.kind != "f":
        return None
    factors = a.arithmetic.factors
    g = growth(a) * a.arithmetic.gamma(terms(a)) + 2 * factors + factors**2
    cast = max(x.relative, w.relative, bias.relative if bias is not None else 0.0)
    if a.op_type in ("MatMul", "Einsum") and x.relative and w.relative:
        cast = x.relative + w.relative + x.relative * w.relative
    if a.op_type == "Gemm":
        cast = cast + a.arithmetic.attributes
    rate = cast + g * (1 + cast)
    error = rate * twin(a, x, w, bias)
    grown = (1 + cast) * (1 + g)
    if not exact_part(x):
        error = error + grown * absolute(a, full_error(x), np.abs(w.value))
    if not exact_part(w):
        error = error + grown * absolute(a, np.abs(x.value) + full_error(x), full_error(w))
    if bias is not None and not exact_part(bias):
        error = error + grown * bias_error(a, bias)
    return np.asarray(error)


def growth(a: Application) -> float:
    """Return the provider's factor for convolutions that fast algorithms take: dense, stride 1."""
    kernel = a.operand(1).value.shape[2:]
    fast = a.op_type == "Conv" and len(kernel) >= 2 and min(kernel) >= 3 and int(a.get("group", 1)) == 1
    steps = [*(a.get("strides", None) or [1]), *(a.get("dilations", None) or [1])]
    return a.arithmetic.convolution if fast and set(steps) == {1} else 1.0


def exact_part(operand: Bounded) -> bool:
    """Whether the part of the error that is not relative to the value is zero."""
    return operand.error.ndim == 0 and not operand.error


def full_error(operand: Bounded) -> Array:
    """Return the part of the error that is not relative to the value, in the value's shape."""
    return np.broadcast_to(operand.error, operand.value.shape)


def twin(a: Application, x: Bounded, w: Bounded, bias: Bounded | None) -> Array:
    """Return `|w| . |x| + |b|`, computed once for all arithmetics."""
    if "twin" not in a.shared:
        found = absolute(a, np.abs(x.value), np.abs(w.value))
        if bias is not None:
            found = found + bias_term(a, np.abs(bias.value))
        a.shared["twin"] = found
    return a.shared["twin"]


def absolute(a: Application, x: Array, w: Array) -> Array:
    """Return the product of absolute operands, without the bias."""
    if a.op_type == "Gemm":
        left = x.T if a.get("transA", 0) else x
        right = w.T if a.get("transB", 0) else w
        return np.asarray(abs(float(a.get("alpha", 1.0))) * (left @ right))
    return a.replaced((0, x), (1, w), (2, None))


def bias_term(a: Application, bias: Array) -> Array:
    """Return the absolute bias, shaped to be added to the product."""
    if a.op_type == "Gemm":
        return np.asarray(abs(float(a.get("beta", 1.0))) * bias)
    return bias.reshape(-1, *[1] * (a.y.ndim - 2))


def bias_error(a: Application, bias: Bounded) -> Array:
    """Return the error of the bias, shaped to be added to the product's."""
    return bias_term(a, full_error(bias))


RULES: dict[str, Rule] = dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"), linear)
