"""Names that batch-norm variables go by, for checkpoints whose graph does not tell."""

from __future__ import annotations

import re

MEAN = re.compile(
    r"(^|/|_)(moving|running|pop(ulation)?|global|ema|avg|bn\w*)_?mean(_?\d+)?$|(^|/)mean_?ema$|mean/(biased|local_step)$"
)
VARIANCE = re.compile(
    r"(^|/|_)(moving|running|pop(ulation)?|global|ema|avg|bn\w*)_?(variance|var|std|inv)(_?\d+)?$|(^|/)variance_?ema$"
)
SHADOW = re.compile(
    r"(^|/)(moments|batch_moments|sufficient_statistics)\w*/Squeeze(_1)?/ExponentialMovingAverage(_\d+)?$"
)


def by_name(name: str) -> str | None:
    """`moving_mean`, `moving_variance` or None, from a variable's name alone."""
    if shadow := SHADOW.search(name):
        return "moving_variance" if shadow.group(2) else "moving_mean"
    base = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    if VARIANCE.search(base):
        return "moving_variance"
    return "moving_mean" if MEAN.search(base) else None
