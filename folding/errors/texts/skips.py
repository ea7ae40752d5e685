"""Reasons for keeping a batch norm as it is. Models are written as assignments, one node each; `bn(x)` is a batch norm."""

# Prose in tables: long lines and implicit concatenation read better here than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

from typing import Final

from folding.errors.texts.base import Text

SKIPS: Final[dict[str, Text]] = {
    "batch_statistics": Text(
        "Normalizes with the batch's own statistics",
        "Mean and variance are computed at run time, so there is no constant affine to fold.",
        "Export in inference mode, or recalibrate from data to get constant statistics.",
        "m = ReduceMean(x, axes=[0, 2, 3]); d = Sub(x, m); y = Div(d, Sqrt(ReduceMean(d * d) + eps))",
    ),
    "training_mode": Text(
        "BatchNormalization in training mode",
        "The node has training_mode=1: it normalizes with batch statistics and updates its moving ones.",
        "Export the model in inference mode (`model.eval()`, `training=False`).",
        "c = Conv(x, w); y, mean, var = BatchNormalization<training_mode=1>(c, g, b, m, v)",
    ),
    "runtime_parameters": Text(
        "The parameters are computed at run time",
        "Scale, shift, mean or variance depend on the graph's inputs, so they are no constants.",
        "Nothing, if that is intended (conditional normalization). Otherwise freeze the variables before export.",
        "s = MatMul(style, a); y = BatchNormalization(Conv(x, w), s, b, m, v), where `style` is an input.",
    ),
    "overridable_initializer": Text(
        "The parameters can be overridden by the caller",
        "The initializers are also graph inputs, so a caller may feed other values; folding would take that away.",
        "If nobody feeds them, use `--freeze-inputs`.",
        "The graph inputs are x, w and gamma, and gamma has an initializer as its default.",
    ),
    "no_linear_neighbour": Text(
        "No linear layer to fold into",
        "Neither before nor after the norm is there a Conv, Gemm, MatMul or other layer that can absorb it exactly.",
        "Nothing: what is left is one BatchNormalization or one Mul and Add, which is the least.",
        "p = MaxPool(x); n = bn(p); y = Softmax(n)",
    ),
    "shared_producer_output": Text(
        "The layer before it is also used elsewhere",
        "Another consumer reads the un-normalized value, so changing the weights would change that branch too.",
        "Nothing: duplicating the layer would cost more than the norm does.",
        "c = Conv(x, w); n = bn(c); y = Add(Relu(n), Sigmoid(c)): the second branch reads c as it is.",
    ),
    "graph_output": Text(
        "The un-normalized value is a graph output",
        "The model returns the value before the norm as well, so the layer's weights may not change.",
        "If that output is not needed, leave it out with `--output`.",
        "c = Conv(x, w); y = bn(c), and the graph returns both c and y.",
    ),
    "shared_weights": Text(
        "The weights are shared with a layer that disagrees",
        "Several layers use the same weights under different norms, and copies would not pay.",
        "Nothing: the sharing is part of the model.",
        "y1 = bn1(Conv(x1, w)); y2 = bn2(Conv(x2, w)), with one w for both.",
    ),
    "runtime_weights": Text(
        "The weights are computed at run time",
        "The layer's kernel is no constant, so nothing can be multiplied into it beforehand.",
        "Freeze the weights before export if they are meant to be constant.",
        "c = Conv(x, k), where k = MatMul(condition, experts) depends on an input; y = bn(c)",
    ),
    "channel_axis_lost": Text(
        "The channel axis does not survive the way to the layer",
        "Between norm and layer a Reshape or a similar node mixes channels with other axes.",
        "Nothing, unless the model can be exported without that Reshape.",
        "c = Conv(x, w) of shape (N, 8, 4, 4); r = Reshape(c, [0, -1, 2]); y = bn(r)",
    ),
    "nonlinearity_between": Text(
        "A nonlinearity stands between",
        "An activation or another non-affine node separates the norm from the layer that could absorb it.",
        "Nothing: an exact fold does not exist.",
        "c = Conv(x, w); s = Sigmoid(c); y = bn(s)",
    ),
    "negative_scale": Text(
        "A negative scale cannot pass the node between",
        "ReLU and MaxPool commute with positive scales only, and at least one channel's scale is not positive.",
        "Nothing: folding would change the result.",
        "c = Conv(x, w); r = Relu(c); y = bn(r) with gamma = [1.1, -0.3]: Relu(-0.3 c) is not -0.3 Relu(c).",
    ),
    "padded_shift": Text(
        "The shift does not pass the zero padding",
        "A padded convolution reads zeros at the border, where the shift is not present; only the scale folds.",
        "Nothing: the shift stays as one Add or a border map.",
        "n = bn(x) with a shift of 0.5; y = Conv<pads=[1,1,1,1]>(n, w): the border is 0, not 0.5.",
    ),
    "would_overflow": Text(
        "Folded weights would overflow",
        "In the weights' dtype some folded values would be infinite.",
        "Export in a wider dtype (float32 instead of float16), or retrain with bounded amplification.",
        "float16 weights of 300 and a scale of 400: 120,000 is above 65,504.",
    ),
    "would_underflow": Text(
        "Folded weights would underflow",
        "In the weights' dtype folded values would vanish to zero although they are not.",
        "Export in a wider dtype (float32 instead of float16).",
        "float16 weights of 1e-4 and a scale of 1e-5: 1e-9 is below 6e-8 and becomes 0.",
    ),
    "unknown_shape": Text(
        "A shape is not known",
        "The rank or the channel count between norm and layer is not known statically, so exactness cannot be shown.",
        "Give shapes with `--input NAME=SHAPE`.",
        "n = bn(x), where x has no declared rank; y = MatMul(n, w)",
    ),
    "control_flow_boundary": Text(
        "A control-flow border lies between",
        "Norm and layer are in different bodies (If, Loop, Scan), and the body may run any number of times.",
        "Fix the mode with `--feed` if the condition is a constant in practice.",
        "c = Conv(x, w); y = If(flag, then: bn(c), else: c)",
    ),
    "quantized_weights": Text(
        "The quantized weights have no scale to take it",
        "A fold would need one quantization scale for each channel along this axis; the weights have one for all, or "
        "along another axis.",
        "Fold before quantizing, or quantize per output channel (opset 13 or newer).",
        "w = DequantizeLinear(q, scale=0.02), one scale for all channels; y = bn(Conv(x, w))",
    ),
    "quantized_activation": Text(
        "A quantization stands between",
        "Between norm and layer the activation is rounded to integers, and an affine does not commute with rounding.",
        "Fold before quantizing.",
        "c = Conv(x, w); d = DequantizeLinear(QuantizeLinear(c, 0.1), 0.1); y = bn(d)",
    ),
    "quantized_negative_scale": Text(
        "Quantized weights cannot take a negative scale",
        "Per-channel quantization scales are positive; flipping the stored integers would leave their range.",
        "Fold before quantizing.",
        "w = DequantizeLinear(q, scales, axis=0), q[3] holds -128; gamma[3] = -0.4, and 128 does not fit int8.",
    ),
    "per_activation": Text(
        "Statistics for every element, not for every channel",
        "The norm has its own mean and variance at each position (`spatial=0` of old opsets), so no channel affine "
        "describes it and the layer before it cannot take it.",
        "Nothing: re-train with per-channel statistics if the norm shall vanish.",
        "BatchNormalization<spatial=0> of opset 6 over (N, 8, 4, 4): mean has the shape (8, 4, 4).",
    ),
    "not_in_graph": Text(
        "The layer has no trace in the inference graph",
        "The checkpoint holds the layer's variables, but nothing that leads to the outputs uses them.",
        "Nothing, if the layer belongs to training or to another output; else name that output with `--output`.",
        "The checkpoint has aux/bn/moving_mean of an auxiliary classifier; the outputs do not depend on it.",
    ),
    "unhealthy": Text(
        "The statistics are unhealthy",
        "The layer was left as it is because its statistics are not fit to be folded.",
        "See the health findings of the layer.",
        "moving_variance holds nan: the fold would write nan into the weights.",
    ),
}
