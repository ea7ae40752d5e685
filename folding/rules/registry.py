"""The rules, in the order of the reference page. One operator belongs to one rule."""

from __future__ import annotations

from folding.rules.absorbers import conv, conv_transpose, einsum, gemm, matmul, norm_parameters, recurrent
from folding.rules.interface import Rule
from folding.rules.transparent import (
    addition,
    branches,
    concat,
    depth_space,
    grid_sample,
    pad,
    pointwise,
    pooling,
    product,
    rectifier,
    reshape,
    resize,
    select,
    shape_only,
    transpose,
)

ABSORBERS: tuple[Rule, ...] = (
    conv.RULE,  # the usual producer of a batch norm
    conv_transpose.RULE,
    gemm.RULE,
    matmul.RULE,
    einsum.RULE,
    recurrent.RULE,  # takes what comes before it only
    norm_parameters.RULE,  # takes what comes after it only
)
TRANSPARENT: tuple[Rule, ...] = (  # nodes that an affine passes
    pointwise.RULE,
    transpose.RULE,
    reshape.RULE,
    addition.RULE,
    concat.CONCAT,
    concat.SPLIT,
    pooling.POOL,
    pooling.REDUCE_RULE,
    rectifier.RULE,
    product.RULE,
    resize.RULE,
    resize.EXPAND,
    depth_space.RULE,
    grid_sample.RULE,
    pad.RULE,
    select.SLICE,
    select.GATHER,  # an absorber where its table is constant
    branches.RULE,
)
BLIND: tuple[Rule, ...] = (shape_only.RULE,)  # nothing goes on behind them
RULES: tuple[Rule, ...] = ABSORBERS + TRANSPARENT + BLIND
