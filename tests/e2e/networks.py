"""Models for the browser tests, made from ONNX operators."""

# ruff: noqa: E501

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def residual(path: Path, blocks: int, *, channels: int = 4, prefix: str = "", bytes_more: int = 0) -> Path:
    """x + relu(batch_norm(conv(x))), `blocks` times; values stay alive however deep it is."""
    rng = np.random.default_rng(blocks)
    nodes, weights, value = [], [], f"{prefix}image"

    def add(array: np.ndarray, name: str) -> str:
        weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    for i in range(blocks):
        conv, norm, relu, total = (f"{prefix}block{i}/{part}" for part in ("conv", "bn", "relu", "add"))
        kernel = add(
            rng.normal(size=(channels, channels, 1, 1)) / (channels * blocks) ** 0.5, f"{conv}/kernel"
        )
        stats = [
            add(rng.normal(1, 0.2, channels), f"{norm}/gamma"), add(rng.normal(0, 0.1, channels), f"{norm}/beta"),
            add(rng.normal(0, 0.2, channels), f"{norm}/mean"), add(rng.gamma(4, 0.25, channels), f"{norm}/variance"),
        ]  # fmt: skip
        nodes += [
            helper.make_node("Conv", [value, kernel], [f"{conv}:0"], name=conv),
            helper.make_node("BatchNormalization", [f"{conv}:0", *stats], [f"{norm}:0"], name=norm),
            helper.make_node("Relu", [f"{norm}:0"], [f"{relu}:0"], name=relu),
            helper.make_node("Add", [value, f"{relu}:0"], [f"{total}:0"], name=total),
        ]
        value = f"{total}:0"
    if bytes_more:
        table = add(rng.normal(size=(bytes_more // 4 // channels, channels)), f"{prefix}table")
        nodes += [
            helper.make_node("GlobalAveragePool", [value], [f"{prefix}pool"], name=f"{prefix}pool"),
            helper.make_node("Flatten", [f"{prefix}pool"], [f"{prefix}flat"], name=f"{prefix}flat"),
            helper.make_node(
                "Gemm", [f"{prefix}flat", table], [f"{prefix}logits"], name=f"{prefix}dense", transB=1
            ),
        ]
        value = f"{prefix}logits"
        out = helper.make_tensor_value_info(value, TensorProto.FLOAT, ["N", bytes_more // 4 // channels])
    else:
        out = helper.make_tensor_value_info(value, TensorProto.FLOAT, ["N", channels, 6, 6])
    image = helper.make_tensor_value_info(f"{prefix}image", TensorProto.FLOAT, ["N", channels, 6, 6])
    graph = helper.make_graph(nodes, "residual", [image], [out], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path
