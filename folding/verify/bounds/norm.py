"""Bounds of normalizations.

BatchNormalization, s = gamma / sqrt(var + eps), either way of computing it:
    |s| e_x + (gamma_8 + 4 r) (|s| (|x| + e_x + |mean|) + |beta|)     r: relative error of each parameter
Layer, instance and group normalization, t = sqrt(var(x) + eps), d = e + mean(e):
    (d + |z| rms(d)) / (t - rms(d)), z = (x - mean) / t: both parts are 1-Lipschitz in the norms used.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from folding.verify.bounds.base import Application, Array, Rule


def batch_normalization(a: Application) -> Array | None:
    """Return the module's first formula; None in training mode."""
    if a.get("training_mode", 0) or len(a.results) > 1:
        return None
    x = a.x
    shape = (-1, *[1] * (x.value.ndim - 2)) if x.value.ndim > 1 else (-1,)
    parameters = [a.operand(i) for i in (1, 2, 3, 4)]
    if any(p.error.ndim or p.error for p in parameters):
        return None
    scale, beta, mean, variance = (p.value.reshape(shape) for p in parameters)
    s = np.abs(scale) / np.sqrt(variance + float(np.float32(a.get("epsilon", 1e-5))))
    rate = a.arithmetic.gamma(8) + 4 * max(p.relative for p in parameters)
    e = x.total()
    return np.asarray(s * e + rate * (s * (np.abs(x.value) + e + np.abs(mean)) + np.abs(beta)))


def over(axes: Callable[[Application], tuple[int, ...]]) -> Rule:
    """Return the rule of a normalization of x over `axes`, followed by scale and bias."""

    def rule(a: Application) -> Array | None:
        return normalized(a, a.x.value, axes(a)) if len(a.results) == 1 else None

    return rule


def normalized(a: Application, x: Array, axes: tuple[int, ...]) -> Array:
    """Return the module's second formula, with scale and bias applied."""
    e = np.broadcast_to(a.x.total(), a.x.value.shape).reshape(x.shape)
    n = int(np.prod([x.shape[i] for i in axes]))
    mean = x.mean(axes, keepdims=True)
    t = np.sqrt(x.var(axes, keepdims=True) + float(np.float32(a.get("epsilon", 1e-5))))
    z = (x - mean) / t
    d = e + e.mean(axes, keepdims=True)
    spread = np.sqrt(np.mean(np.square(d), axes, keepdims=True))
    room = t - spread
    error = np.where(room > 0, (d + np.abs(z) * spread) / np.where(room > 0, room, 1), np.inf)
    g = a.arithmetic.gamma(n + 10)
    # The worst way to compute a variance, mean(x^2) - mean^2, has the relative error gamma_n mean(x^2) / t^2.
    error = error + g * ((np.abs(x) + np.abs(mean)) / t + np.abs(z) * (x**2).mean(axes, keepdims=True) / t**2)
    return with_parameters(a, np.asarray(error), np.abs(z))


def with_parameters(a: Application, error: Array, size: Array) -> Array:
    """Return |scale| e + d_scale (|z| + e) + d_bias, plus two roundings."""
    scale, bias = a.optional(1), a.optional(2)
    error, size = error.reshape(a.y.shape), size.reshape(a.y.shape)
    if scale is not None:
        w, d = shaped(a, scale.value), shaped(a, np.broadcast_to(scale.total(), scale.value.shape))
        error = (np.abs(w) + d) * error + d * size
    if bias is not None:
        error = error + shaped(a, np.broadcast_to(bias.total(), bias.value.shape))
        error = error + 2 * a.u * np.abs(shaped(a, bias.value))
    return np.asarray(error + 3 * a.u * (np.abs(a.y) + error))


def shaped(a: Application, parameter: Array) -> Array:
    """Return a parameter laid along axis 1 (instance, group), or along the last axes (layer)."""
    if a.op_type == "LayerNormalization":
        return parameter
    return parameter.reshape(-1, *[1] * (a.y.ndim - 2))


def trailing(a: Application) -> tuple[int, ...]:
    """Return the axes from `axis` on."""
    rank = a.x.value.ndim
    return tuple(range(int(a.get("axis", -1)) % rank, rank))


def spatial(a: Application) -> tuple[int, ...]:
    """Return all axes behind the channels."""
    return tuple(range(2, a.x.value.ndim))


RULES: dict[str, Rule] = {
    "BatchNormalization": batch_normalization,
    "LayerNormalization": over(trailing),
    "InstanceNormalization": over(spatial),
}
