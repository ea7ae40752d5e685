"""One example for each code of a finding: the smallest case that shows it.

Models are written as assignments, one node each; `bn(x)` is a batch norm with constant parameters. Part of
`folding.errors.catalogue`, which refuses an example for a code that it does not have.
"""

# Prose in tables: long lines read better here than wrapped ones.
# ruff: noqa: E501

from __future__ import annotations

from typing import Final

HEALTH_EXAMPLES: Final[dict[str, str]] = {
    "ok": "moving_mean = [0.12, -0.40, 1.73], moving_variance = [0.95, 2.10, 0.31] after 10,000 steps.",
    "never_updated": "`sess.run(train_op)` without `tf.get_collection(tf.GraphKeys.UPDATE_OPS)`: moving_mean = [0, 0, 0], moving_variance = [1, 1, 1].",
    "missing_from_checkpoint": "`tf.train.Saver(var_list=tf.trainable_variables())` saves gamma and beta, and neither moving_mean nor moving_variance.",
    "batch_statistics_at_inference": "`tf.layers.batch_normalization(x, training=True)` in the graph that is served.",
    "degenerate_variance": "moving_variance = [1.2, 3e-13, 0.8] with epsilon = 1e-3: channel 1 was zero for every training image.",
    "non_finite": "moving_variance = [0.7, nan, 1.1] after a loss that became nan.",
    "negative_variance": "moving_variance = [0.7, -0.02, 1.1], computed as E[x*x] - E[x]*E[x] in float16.",
    "lagging": "momentum = 0.999 and 200 steps: moving_mean = 0.9 where the layer's inputs have the mean 4.9.",
}

SKIP_EXAMPLES: Final[dict[str, str]] = {
    "batch_statistics": "m = ReduceMean(x, axes=[0, 2, 3]); d = Sub(x, m); y = Div(d, Sqrt(ReduceMean(d * d) + eps))",
    "training_mode": "c = Conv(x, w); y, mean, var = BatchNormalization<training_mode=1>(c, g, b, m, v)",
    "runtime_parameters": "s = MatMul(style, a); y = BatchNormalization(Conv(x, w), s, b, m, v), where `style` is an input.",
    "overridable_initializer": "The graph inputs are x, w and gamma, and gamma has an initializer as its default.",
    "no_linear_neighbour": "p = MaxPool(x); n = bn(p); y = Softmax(n)",
    "shared_producer_output": "c = Conv(x, w); n = bn(c); y = Add(Relu(n), Sigmoid(c)): the second branch reads c as it is.",
    "graph_output": "c = Conv(x, w); y = bn(c), and the graph returns both c and y.",
    "shared_weights": "y1 = bn1(Conv(x1, w)); y2 = bn2(Conv(x2, w)), with one w for both.",
    "runtime_weights": "c = Conv(x, k), where k = MatMul(condition, experts) depends on an input; y = bn(c)",
    "channel_axis_lost": "c = Conv(x, w) of shape (N, 8, 4, 4); r = Reshape(c, [0, -1, 2]); y = bn(r)",
    "nonlinearity_between": "c = Conv(x, w); s = Sigmoid(c); y = bn(s)",
    "negative_scale": "c = Conv(x, w); r = Relu(c); y = bn(r) with gamma = [1.1, -0.3]: Relu(-0.3 c) is not -0.3 Relu(c).",
    "padded_shift": "n = bn(x) with a shift of 0.5; y = Conv<pads=[1,1,1,1]>(n, w): the border is 0, not 0.5.",
    "would_overflow": "float16 weights of 300 and a scale of 400: 120,000 is above 65,504.",
    "would_underflow": "float16 weights of 1e-4 and a scale of 1e-5: 1e-9 is below 6e-8 and becomes 0.",
    "unknown_shape": "n = bn(x), where x has no declared rank; y = MatMul(n, w)",
    "control_flow_boundary": "c = Conv(x, w); y = If(flag, then: bn(c), else: c)",
    "quantized_weights": "w = DequantizeLinear(q, scale=0.02), one scale for all channels; y = bn(Conv(x, w))",
    "quantized_activation": "c = Conv(x, w); d = DequantizeLinear(QuantizeLinear(c, 0.1), 0.1); y = bn(d)",
    "quantized_negative_scale": "w = DequantizeLinear(q, scales, axis=0), q[3] holds -128; gamma[3] = -0.4, and 128 does not fit int8.",
    "per_activation": "BatchNormalization<spatial=0> of opset 6 over (N, 8, 4, 4): mean has the shape (8, 4, 4).",
    "not_in_graph": "The checkpoint has aux/bn/moving_mean of an auxiliary classifier; the outputs do not depend on it.",
    "unhealthy": "moving_variance holds nan: the fold would write nan into the weights.",
}

HAZARD_EXAMPLES: Final[dict[str, str]] = {
    "pad_fusion_max_pool": "p = Pad(x, 1, value=0); y = MaxPool<kernel_shape=[3,3]>(p): a window of negative values gives 0, after the fusion it gives their maximum.",
    "matmul_bn_fusion_moved_axis": "c = MatMul(x, w); t = Transpose<perm=[0,2,1]>(c); y = bn(t)",
    "qdq_matmul_accuracy": "w = DequantizeLinear(q, s); y = MatMul(x, w): x is rounded to 8 bits as well.",
    "ill_conditioned": "y = Log(x + 1e-10) at silence (x = 0): a difference of 1e-10 before it is one of 0.7 behind it.",
    "weight_bias_quantization": "y = Conv(DequantizeLinear(QuantizeLinear(x)), DequantizeLinear(w), b): the runtime stores b as an integer.",
    "optimization_level": "y is 0.731 at ORT_DISABLE_ALL and 0.702 at ORT_ENABLE_ALL for the same input.",
}
