"""A small builder of ONNX graphs in the shape of raw framework exports, with live random statistics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18


class Net:
    """One graph in the making. Values are names; `channels` knows the channel count of each.

    raw: as torch's dynamo exporter leaves it before its optimizer: a convolution without bias gets one
    computed at run time, Expand(CastLike(0, x), Shape(C)).
    half: inputs, outputs and constants in float16 (the 0 that is cast stays float32).
    """

    def __init__(self, seed: int, *, raw: bool = False, half: bool = False, opset: int = OPSET) -> None:
        self.rng = np.random.default_rng(seed)
        self.raw = raw
        self.kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.channels: dict[str, int] = {}

    def input(self, shape: Sequence[int | str], axis: int = 1, name: str = "input") -> str:
        self.inputs.append(helper.make_tensor_value_info(name, self.kind, list(shape)))
        self.channels[name] = int(shape[axis])
        return name

    def const(self, array: np.ndarray, hint: str) -> str:
        name = f"{hint}_{len(self.weights)}"
        if self.kind == TensorProto.FLOAT16 and array.dtype == np.float32 and hint != "zero":
            array = array.astype(np.float16)
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def op(self, kind: str, *inputs: str, channels: int | None = None, **attributes: object) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"node_{name}", **attributes))
        known = channels if channels is not None else next(
            (self.channels[i] for i in inputs if i in self.channels), None
        )  # fmt: skip
        if known is not None:
            self.channels[name] = known
        return name

    def weight(self, *shape: int) -> np.ndarray:
        """Scaled so that activations keep their size through ReLU."""
        fan_in = int(np.prod(shape[1:])) or 1
        return (self.rng.standard_normal(shape) * np.sqrt(2.0 / fan_in)).astype(np.float32)

    def conv(self, x: str, out: int, kernel: int | Sequence[int] = 1, *, stride: int = 1,
             groups: int = 1, rank: int = 2, bias: bool = False, dilation: int = 1) -> str:  # fmt: skip
        size = [kernel] * rank if isinstance(kernel, int) else list(kernel)
        pads = [dilation * (k // 2) for k in size]
        inputs = [x, self.const(self.weight(out, self.channels[x] // groups, *size), "weight")]
        if bias:
            inputs.append(self.const(self.small(out), "bias"))
        elif self.raw:
            inputs.append(self.runtime_bias(x, out))
        return self.op("Conv", *inputs, channels=out, kernel_shape=size, strides=[stride] * len(size),
                       pads=pads * 2, group=groups, dilations=[dilation] * len(size))  # fmt: skip

    def runtime_bias(self, x: str, out: int) -> str:
        zero = self.op("CastLike", self.const(np.float32(0), "zero"), x)
        bias = self.op("Expand", zero, self.const(np.array([out], np.int64), "shape"))
        self.channels.pop(bias, None)
        return bias

    def conv_transpose(self, x: str, out: int, kernel: int = 2, *, stride: int = 2) -> str:
        weight = self.const(self.weight(self.channels[x], out, kernel, kernel), "weight")
        return self.op("ConvTranspose", x, weight, self.const(self.small(out), "bias"), channels=out,
                       kernel_shape=[kernel] * 2, strides=[stride] * 2)  # fmt: skip

    def small(self, size: int) -> np.ndarray:
        return (self.rng.standard_normal(size) * 0.1).astype(np.float32)

    def bn(self, x: str, epsilon: float = 1e-5) -> str:
        """Live statistics: no mean is 0, no variance 1, and one gamma in eight is negative."""
        c = self.channels[x]
        gamma = self.rng.uniform(0.5, 1.5, c) * np.where(self.rng.random(c) < 0.125, -1, 1)
        arrays = (gamma, self.small(c), self.rng.standard_normal(c) * 0.3, self.rng.uniform(0.3, 2.0, c))
        names = [self.const(a.astype(np.float32), h) for a, h in
                 zip(arrays, ("gamma", "beta", "moving_mean", "moving_variance"), strict=True)]  # fmt: skip
        return self.op("BatchNormalization", x, *names, epsilon=epsilon, momentum=0.9)

    def act(self, x: str, kind: str = "Relu") -> str:
        if kind == "Relu6":
            return self.op("Clip", x, self.const(np.float32(0), "low"), self.const(np.float32(6), "high"))
        if kind == "Silu":
            return self.op("Mul", x, self.op("Sigmoid", x))
        if kind == "HardSwish":  # x * relu6(x + 3) / 6
            three, six = self.const(np.float32(3), "three"), self.const(np.float32(6), "six")
            clipped = self.act(self.op("Add", x, three), "Relu6")
            return self.op("Div", self.op("Mul", x, clipped), six)
        return self.op(kind, x)

    def conv_bn_act(
        self, x: str, out: int, kernel: int | Sequence[int] = 1, act: str = "Relu", **kw: int
    ) -> str:
        y = self.bn(self.conv(x, out, kernel, **kw))
        return self.act(y, act) if act else y

    def head(self, x: str, classes: int = 100) -> str:
        """Global average pooling, flatten, dense: as torchvision models end."""
        c = self.channels[x]
        y = self.op("GlobalAveragePool", x)
        return self.gemm(self.op("Flatten", y, axis=1), c, classes)

    def gemm(self, x: str, width: int, out: int) -> str:
        return self.op("Gemm", x, self.const(self.weight(out, width), "weight"),
                       self.const(self.small(out), "bias"), channels=out, transB=1)  # fmt: skip

    def dense(self, x: str, width: int, out: int) -> str:
        """MatMul + Add, as exporters write a linear layer over more than two axes."""
        y = self.op("MatMul", x, self.const(self.weight(out, width).T, "weight"), channels=out)
        return self.op("Add", y, self.const(self.small(out), "bias"))

    def save(self, path: Path, output: str, rank: int) -> Path:
        shape: list[int | str | None] = ["N"] + [None] * (rank - 1)
        graph = helper.make_graph(self.nodes, "main", self.inputs,
                                  [helper.make_tensor_value_info(output, self.kind, shape)],
                                  self.weights)  # fmt: skip
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="bench", ir_version=8)
        model = onnx.shape_inference.infer_shapes(model)
        onnx.save(model, path)
        return path
