"""The rules, in the order of the reference page. One operator belongs to one rule."""

from __future__ import annotations

from folding.rules.absorbers import conv, conv_transpose, gemm, matmul
from folding.rules.moves import Rule
from folding.rules.transparent import (
    addition,
    concat,
    pointwise,
    pooling,
    rectifier,
    reshape,
    transpose,
)

RULES: tuple[Rule, ...] = (
    conv.RULE,  # the usual producer of a batch norm
    conv_transpose.RULE,
    gemm.RULE,
    matmul.RULE,
    pointwise.RULE,  # from here on nodes that an affine passes
    transpose.RULE,
    reshape.RULE,
    addition.RULE,
    concat.CONCAT,
    concat.SPLIT,
    pooling.POOL,
    pooling.REDUCE_RULE,
    rectifier.RULE,
)
