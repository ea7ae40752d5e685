"""TimeDistributed of Keras 3, traced as one call over all steps instead of one call for each step.

Given:  y = stack([layer(x[:, 0]), layer(x[:, 1]), ...], axis=1)
Result: y = reshape(layer(reshape(x, (batch * steps, ...))), (batch, steps, ...))

A layer treats each example by itself in inference, so that both are the same numbers. The model itself, which
is the reference, goes on calling the layer step by step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def merged_steps(model: Any) -> Iterator[None]:
    """While it is open, the model's TimeDistributed layers are called in the merged form."""
    changed = []
    for layer in _layers(model):
        if type(layer).__name__ == "TimeDistributed" and type(layer).__module__.startswith("keras."):
            layer.call = _merged(layer, layer.call)
            changed.append(layer)
    try:
        yield
    finally:
        for layer in changed:
            del layer.__dict__["call"]


def _layers(model: Any) -> list[Any]:
    flatten = getattr(model, "_flatten_layers", None)
    return list(flatten()) if flatten is not None else []


def _merged(layer: Any, original: Any) -> Any:
    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        shape = getattr(inputs, "shape", None)
        if mask is not None or shape is None or any(d is None for d in shape[1:]):
            return original(inputs, training=training, mask=mask)
        from keras import ops

        keywords = {"training": training} if layer.layer._call_has_training_arg else {}
        result = layer.layer.call(ops.reshape(inputs, (-1, *shape[2:])), **keywords)
        if not hasattr(result, "shape") or any(d is None for d in result.shape[1:]):
            return original(inputs, training=training, mask=mask)
        return ops.reshape(result, (-1, shape[1], *result.shape[1:]))

    return call
