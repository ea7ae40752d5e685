"""Graphs for the tests of passes: from text, at random, and what ONNX Runtime says of them unoptimized."""

from __future__ import annotations

import os
from collections import Counter

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

Feeds = dict[str, np.ndarray]


def model(text: str, opset: int = 18, **weights: np.ndarray) -> ir.Model:
    """The IR of a graph in onnx's text form, `weights` as initializers."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]>\n{text}')
    for name, data in weights.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(data), name))
    onnx.checker.check_model(proto, full_check=True)
    return ir.serde.deserialize_model(proto)


def kinds(found: ir.Model) -> list[str]:
    """Operators of the main graph in order."""
    return [node.op_type for node in found.graph]


def counts(found: ir.Model) -> Counter[str]:
    """How many there are of each operator."""
    return Counter(kinds(found))


def copy(found: ir.Model) -> ir.Model:
    """An independent twin."""
    return ir.serde.deserialize_model(ir.serde.serialize_model(found))


def run(found: ir.Model, feeds: Feeds, level: str = "ORT_DISABLE_ALL") -> list[np.ndarray]:
    """Outputs of ONNX Runtime, by default with none of its own rewriting."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 4
    data = ir.serde.serialize_model(found).SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def feeds_for(found: ir.Model, seed: int = 0, batch: int = 2) -> Feeds:
    """Signed random inputs; dynamic dimensions take `batch`."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in found.graph.inputs:
        if value.name in found.graph.initializers:
            continue
        assert value.shape is not None
        assert value.dtype is not None
        shape = [dim if isinstance(dim, int) else batch for dim in value.shape]
        data = rng.standard_normal(shape) if value.dtype.is_floating_point() else rng.integers(0, 2, shape)
        feeds[value.name or ""] = data.astype(value.dtype.numpy())
    return feeds


def assert_same(before: ir.Model, after: ir.Model, *, tolerance: float = 2e-5, seed: int = 0) -> None:
    """Equal interfaces, equal outputs (relative to their scale), and a graph that the checker takes."""
    assert [v.name for v in before.graph.inputs] == [v.name for v in after.graph.inputs]
    assert [v.name for v in before.graph.outputs] == [v.name for v in after.graph.outputs]
    onnx.checker.check_model(ir.serde.serialize_model(after), full_check=True)
    feeds = feeds_for(before, seed)
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        for expected, found in zip(run(before, feeds), run(after, feeds, level), strict=True):
            assert expected.shape == found.shape
            assert expected.dtype == found.dtype
            scale = max(1e-3, float(np.abs(expected).max(initial=0))) if expected.dtype.kind == "f" else 1
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale, err_msg=level)


class RandomGraph:
    """A random graph in the manner of NHWC exporters: convolutions between Transposes, arithmetic around."""

    def __init__(self, seed: int, size: int = 14) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []
        self.values: list[tuple[str, tuple[int, ...]]] = [("x", (2, 4, 4, 4)), ("x2", (2, 4, 4, 4))]
        for _ in range(size):
            self.step()

    def const(self, data: np.ndarray) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(data, name))
        return name

    def add(self, kind: str, inputs: list[str], shape: tuple[int, ...], **attributes: object) -> None:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"n{len(self.nodes)}", **attributes))
        self.values.append((name, shape))

    def pick(self, rank: int = 4) -> tuple[str, tuple[int, ...]]:
        """A recent value, mostly."""
        found = [value for value in self.values if len(value[1]) == rank]
        index = len(found) - 1 - int(abs(self.rng.normal(0, 2)))
        return found[max(index, 0)]

    def step(self) -> None:
        choices = (self.transpose, self.transpose, self.transpose, self.conv, self.unary, self.affine,
                   self.affine, self.binary, self.concat, self.reduce, self.pad, self.slice, self.softmax,
                   self.split, self.squeeze_excite, self.pool, self.reshape, self.mean_out,
                   self.dense, self.resize)  # fmt: skip
        choices[self.rng.integers(len(choices))]()

    def transpose(self) -> None:
        name, shape = self.pick()
        perm = [(0, 2, 3, 1), (0, 3, 1, 2), (0, 3, 1, 2), (0, 2, 3, 1), (0, 2, 1, 3), (1, 0, 2, 3)][
            self.rng.integers(6)
        ]
        self.add("Transpose", [name], tuple(shape[axis] for axis in perm), perm=perm)

    def conv(self) -> None:
        name, shape = self.pick()
        weight = self.const(self.rng.standard_normal((4, shape[1], 1, 1)).astype(np.float32) * 0.5)
        self.add("Conv", [name, weight], (shape[0], 4, *shape[2:]))

    def unary(self) -> None:
        name, shape = self.pick()
        self.add(str(self.rng.choice(["Relu", "Sigmoid", "Tanh", "Neg", "Identity"])), [name], shape)

    def affine(self) -> None:
        """A constant vector on the last axis, or on one axis with full rank."""
        name, shape = self.pick()
        if self.rng.random() < 0.6:
            data = self.rng.standard_normal(shape[-1:])
        else:
            axis = int(self.rng.integers(4))
            data = self.rng.standard_normal([shape[i] if i == axis else 1 for i in range(4)])
        operands = [name, self.const(data.astype(np.float32))]
        if self.rng.random() < 0.3:
            operands.reverse()
        self.add(str(self.rng.choice(["Add", "Mul", "Sub"])), operands, shape)

    def binary(self) -> None:
        name, shape = self.pick()
        same = [other for other, known in self.values if known == shape]
        self.add(str(self.rng.choice(["Add", "Mul", "Max"])), [name, str(self.rng.choice(same))], shape)

    def concat(self) -> None:
        name, shape = self.pick()
        axis = int(self.rng.integers(4))
        if shape[axis] < 12:
            wide = tuple(2 * dim if i == axis else dim for i, dim in enumerate(shape))
            same = [other for other, known in self.values if known == shape]
            spelled = axis - 4 if self.rng.random() < 0.5 else axis
            self.add("Concat", [name, str(self.rng.choice(same))], wide, axis=spelled)

    def reduce(self) -> None:
        name, shape = self.pick()
        axes = sorted(self.rng.choice(4, 2, replace=False).tolist())
        kept = tuple(1 if i in axes else dim for i, dim in enumerate(shape))
        self.add("ReduceMean", [name, self.const(np.array(axes, np.int64))], kept, keepdims=1)

    def mean_out(self) -> None:
        name, shape = self.pick()
        axes = [[1, 2], [2, 3]][self.rng.integers(2)]
        left = tuple(dim for i, dim in enumerate(shape) if i not in axes)
        self.add("ReduceMean", [name, self.const(np.array(axes, np.int64))], left, keepdims=0)

    def pad(self) -> None:
        name, shape = self.pick()
        axis = int(self.rng.integers(4))
        if shape[axis] < 10:
            pads = np.zeros(8, np.int64)
            pads[axis], pads[4 + axis] = 1, self.rng.integers(2)
            wide = tuple(dim + int(pads[i] + pads[4 + i]) for i, dim in enumerate(shape))
            self.add("Pad", [name, self.const(pads)], wide)

    def slice(self) -> None:
        name, shape = self.pick()
        axis = int(self.rng.integers(4))
        if shape[axis] > 2:
            operands = [self.const(np.array([number], np.int64)) for number in (1, shape[axis], axis, 1)]
            left = tuple(dim - 1 if i == axis else dim for i, dim in enumerate(shape))
            self.add("Slice", [name, *operands], left)

    def softmax(self) -> None:
        name, shape = self.pick()
        self.add("Softmax", [name], shape, axis=int(self.rng.integers(-4, 4)))

    def split(self) -> None:
        name, shape = self.pick()
        axis = int(self.rng.integers(4))
        if shape[axis] % 2 == 0:
            half = tuple(dim // 2 if i == axis else dim for i, dim in enumerate(shape))
            names = [f"v{len(self.nodes)}a", f"v{len(self.nodes)}b"]
            self.nodes.append(helper.make_node("Split", [name], names, axis=axis, num_outputs=2))
            self.values += [(names[0], half), (names[1], half)]

    def squeeze_excite(self) -> None:
        name, shape = self.pick()
        axes = [[1, 2], [2, 3]][self.rng.integers(2)]
        self.add("ReduceMean", [name, self.const(np.array(axes, np.int64))],
                 tuple(1 if i in axes else dim for i, dim in enumerate(shape)), keepdims=1)  # fmt: skip
        self.add("Mul", [name, self.values[-1][0]], shape)

    def pool(self) -> None:
        name, shape = self.pick()
        if min(shape[2:]) >= 2:
            self.add(str(self.rng.choice(["MaxPool", "AveragePool"])), [name],
                     (*shape[:2], shape[2] - 1, shape[3] - 1), kernel_shape=[2, 2])  # fmt: skip

    def resize(self) -> None:
        name, shape = self.pick()
        axis = int(self.rng.integers(2, 4))
        if shape[axis] < 6:
            scales = np.ones(4, np.float32)
            scales[axis] = 2
            wide = tuple(2 * dim if i == axis else dim for i, dim in enumerate(shape))
            self.add("Resize", [name, "", self.const(scales)], wide, mode="nearest",
                     coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip

    def dense(self) -> None:
        """Flatten and multiply, or the way back."""
        name, shape = self.pick()
        width = int(np.prod(shape[1:]))
        if width <= 512:
            self.add("Flatten", [name], (shape[0], width))
            weight = self.const(self.rng.standard_normal((width, 24)).astype(np.float32) / 8)
            self.add("MatMul", [self.values[-1][0], weight], (shape[0], 24))
            if self.rng.random() < 0.5:
                wide = self.const(np.array([-1, 2, 3, 4], np.int64))
                self.add("Reshape", [self.values[-1][0], wide], (shape[0], 2, 3, 4))

    def reshape(self) -> None:
        name, shape = self.pick()
        if self.rng.random() < 0.5:
            flat = (shape[0], int(np.prod(shape[1:])))
            self.add("Reshape", [name, self.const(np.array([0, -1], np.int64))], flat)
        else:
            wide = (shape[0], shape[1], shape[2] * shape[3], 1)
            self.add("Reshape", [name, self.const(np.array(wide, np.int64))], wide)

    def build(self) -> ir.Model:
        """Outputs are whatever nobody reads, and one value in the middle."""
        read = {name for node in self.nodes for name in node.input}
        loose = [(n, s) for n, s in self.values[2:] if n not in read]
        middle = self.values[2 + int(self.rng.integers(max(len(self.values) - 2, 1)))]
        chosen = loose if middle in loose else [*loose, middle]
        inputs = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", *s[1:]]) for n, s in self.values[:2]
        ]
        if not all(self.values[i][1][0] == 2 for i in range(2)) or self.rng.random() < 0.5:
            inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in self.values[:2]]
        outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * len(s)) for n, s in chosen]
        graph = helper.make_graph(self.nodes, "random", inputs, outputs, self.weights)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        return ir.serde.deserialize_model(proto)
