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


def branches(path: Path, channels: int = 4) -> Path:
    """Three branches of convolution, batch norm and relu side by side, of one, two and three of them; joined."""
    rng = np.random.default_rng(3)
    nodes, weights, ends = [], [], []

    def add(array: np.ndarray, name: str) -> str:
        weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    for branch in range(3):
        value = "image"
        for step in range(branch + 1):
            name = f"branch{branch}/{step}"
            stats = [
                add(values, f"{name}/{role}")
                for role, values in (
                    ("gamma", rng.normal(1, 0.2, channels)), ("beta", rng.normal(0, 0.1, channels)),
                    ("mean", rng.normal(0, 0.2, channels)), ("variance", rng.gamma(4, 0.25, channels)),
                )
            ]  # fmt: skip
            kernel = add(rng.normal(size=(channels, channels, 1, 1)) / channels**0.5, f"{name}/kernel")
            nodes += [
                helper.make_node("Conv", [value, kernel], [f"{name}/conv:0"], name=f"{name}/conv"),
                helper.make_node("BatchNormalization", [f"{name}/conv:0", *stats], [f"{name}/bn:0"], name=f"{name}/bn"),
                helper.make_node("Relu", [f"{name}/bn:0"], [f"{name}/relu:0"], name=f"{name}/relu"),
            ]  # fmt: skip
            value = f"{name}/relu:0"
        ends.append(value)
    nodes.append(helper.make_node("Concat", ends, ["joined"], name="join", axis=1))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", channels, 6, 6])
    out = helper.make_tensor_value_info("joined", TensorProto.FLOAT, ["N", 3 * channels, 6, 6])
    graph = helper.make_graph(nodes, "branches", [image], [out], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path
