"""Results of runtimes that depend on how they optimize."""

# Prose in tables: long lines and implicit concatenation read better here than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

from typing import Final

from folding.errors.texts.base import Text

HAZARDS: Final[dict[str, Text]] = {
    "ill_conditioned": Text(
        "The model itself amplifies rounding",
        "Every layer of the artifact agrees with the source up to rounding, but some layer of the model amplifies rounding "
        "so much (a logarithm of almost zero, a division by a small difference) that two correct runs of the source differ "
        "visibly. The finding names the input, the first such layer and the factor. It is no fault of the fold.",
        "Compare outputs of this model with a wide tolerance, or keep inputs away from where it shows (silence, say).",
        "y = Log(x + 1e-10) at silence (x = 0): a difference of 1e-10 before it is one of 0.7 behind it.",
    ),
    "pad_fusion_max_pool": Text(
        "Zeros before a max pool become minus infinity",
        "ONNX Runtime's Pad_Fusion (basic level and above) merges a Pad with zeros into the MaxPool behind it, which pads "
        "with -inf. Every window at the border that holds only negative values then gives another result. Exports of "
        "ResNet50V2 have this pattern and are off by 14 % at the runtime's defaults.",
        "The artifact is written so that the fusion cannot match. For the source itself, open the session with "
        '`disabled_optimizers=["PadFusion", "Pad_Fusion"]`.',
        "p = Pad(x, 1, value=0); y = MaxPool<kernel_shape=[3,3]>(p): a window of negative values gives 0, after the fusion it gives their maximum.",
    ),
    "matmul_bn_fusion_moved_axis": Text(
        "A batch norm is merged along the wrong axis",
        "ONNX Runtime's MatMul_BatchNormalization_Fusion merges a BatchNormalization into a MatMul even when a Transpose "
        "or Reshape between them has moved the channel axis, and scales the wrong axis of the weight.",
        "The artifact keeps no batch norm in that place. For the source itself, open the session with "
        '`disabled_optimizers=["MatMul_BatchNormalization_Fusion"]`.',
        "c = MatMul(x, w); t = Transpose<perm=[0,2,1]>(c); y = bn(t)",
    ),
    "qdq_matmul_accuracy": Text(
        "Quantized weights make the runtime round activations too",
        "A MatMul whose weights are dequantized in the graph is fused by ONNX Runtime (QDQSelectorActionTransformer, extended "
        "level and above) into one that rounds its activations to 8 bits by default: answers move by about 1 % although only "
        "the weights were quantized. Where the source moves the same way, the artifact is not judged at that level.",
        'Open the session with `add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")` to compute in '
        "float32, or accept the loss for the speed.",
        "w = DequantizeLinear(q, s); y = MatMul(x, w): x is rounded to 8 bits as well.",
    ),
    "weight_bias_quantization": Text(
        "Float parameters between quantizers are rounded to integers",
        "A Conv or Gemm with float weights or a float bias between a DequantizeLinear and a QuantizeLinear gets them "
        "quantized by ONNX Runtime (WeightBiasQuantization, basic level and above): results move by a step of the "
        "quantizer. Where the source moves the same way, the artifact is not judged at that level.",
        'Open the session with `disabled_optimizers=["WeightBiasQuantization"]`, or accept the step.',
        "y = Conv(DequantizeLinear(QuantizeLinear(x)), DequantizeLinear(w), b): the runtime stores b as an integer.",
    ),
    "optimization_level": Text(
        "The runtime's optimization levels disagree",
        "The same file gives different answers with graph optimizations off and on, beyond the float noise of the model. "
        "The report names the lowest level that differs and, where one can be switched off alone, the optimizer.",
        "Deploy with the session option that the report gives, and report the model to the runtime's makers. The verdict "
        "stays `fail` as long as the artifact is wrong at the runtime's defaults.",
        "y is 0.731 at ORT_DISABLE_ALL and 0.702 at ORT_ENABLE_ALL for the same input.",
    ),
}
