"""How far LiteRT's integer kernels may lie from real arithmetic, in steps of the output's quantization.

    real = the operator on its quantized inputs in real arithmetic, clipped to the output's range
    |stored - real / scale - zero_point| <= STEPS[operator]

A kernel with exact 32-bit sums rescales by a 31-bit multiplier and rounds once, or twice where it shifts: at
most 1/2 + 1/4 of a step. The rest of each figure is for tables, fixed-point input scales (2^-20) and the
float32 arithmetic of the ONNX side. Movement has no rounding at all. An operator without a row has no bound:
it is reported as not compared, and the verdict is inconclusive.
"""

from __future__ import annotations

from typing import Final

_MOVED, _ROUNDED, _FIXED_POINT = 0.55, 1.0, 2.0

_MOVES = (
    "RESHAPE TRANSPOSE SLICE STRIDED_SLICE SQUEEZE EXPAND_DIMS SPLIT SPLIT_V PACK UNPACK GATHER "
    "GATHER_ND TILE RESIZE_NEAREST_NEIGHBOR DEPTH_TO_SPACE SPACE_TO_DEPTH BATCH_TO_SPACE_ND "
    "SPACE_TO_BATCH_ND PAD PADV2 MIRROR_PAD MAX_POOL_2D REDUCE_MAX REDUCE_MIN MAXIMUM MINIMUM "
    "REVERSE_V2 SELECT SELECT_V2 TOPK_V2 BROADCAST_TO CAST "
)
_ROUNDS = (
    "CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED TRANSPOSE_CONV BATCH_MATMUL ADD SUB MUL DIV "
    "SQUARED_DIFFERENCE AVERAGE_POOL_2D MEAN SUM CONCATENATION RELU RELU6 RELU_N1_TO_1 RELU_0_TO_1 "
    "LEAKY_RELU PRELU ABS NEG QUANTIZE "
)
# Tables of exponentials and logistic functions, and interpolation weights of ten bits.
_APPROXIMATES = (
    "SOFTMAX LOG_SOFTMAX LOGISTIC TANH HARD_SWISH ELU GELU EXP RSQRT SQRT L2_NORMALIZATION RESIZE_BILINEAR "
)

STEPS: Final[dict[str, float]] = {
    **dict.fromkeys(_MOVES.split(), _MOVED),
    **dict.fromkeys(_ROUNDS.split(), _ROUNDED),
    **dict.fromkeys(_APPROXIMATES.split(), _FIXED_POINT),
}
