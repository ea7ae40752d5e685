"""Small networks as (unfolded, folded) pairs made with numpy alone, for judging the judge.

Each builder writes the same network twice: with BatchNormalization nodes, and with the affine taken into
the weights in float64 and cast once. `faults` spoil the second in the ways in which folds go wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray


@dataclass
class Norm:
    """Parameters of one batch norm."""

    gamma: Array
    beta: Array
    mean: Array
    variance: Array
    epsilon: float

    def affine(self, fault: str | None = None) -> tuple[Array, Array]:
        """scale, shift in float64; `fault` is how it may go wrong."""
        gamma, beta = self.gamma.astype(float), self.beta.astype(float)
        mean, variance = self.mean.astype(float), self.variance.astype(float)
        if fault == "swap_gamma_beta":
            gamma, beta = beta, gamma
        epsilon = 0.0 if fault == "drop_epsilon" else float(np.float32(self.epsilon))
        scale = gamma / np.sqrt(variance + epsilon)
        shift = beta - mean * scale
        if fault == "off_by_one":
            scale, shift = np.roll(scale, 1), np.roll(shift, 1)
        return scale, shift


@dataclass
class Net:
    """Two graphs under construction."""

    seed: int
    faults: dict[int, str] = field(default_factory=dict)
    nodes: tuple[list, list] = field(default_factory=lambda: ([], []))
    tensors: tuple[dict, dict] = field(default_factory=lambda: ({}, {}))
    sites: list[str] = field(default_factory=list)
    norms: int = 0
    count: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.fault_rng = np.random.default_rng([self.seed, 99])

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}_{self.count}"

    def both(self, op: str, inputs: list[str], **attributes: object) -> str:
        out = self.name(op.lower())
        for nodes in self.nodes:
            nodes.append(helper.make_node(op, inputs, [out], name=out, **attributes))
        return out

    def constant(self, array: Array) -> str:
        name = self.name("const")
        for tensors in self.tensors:
            tensors[name] = array
        return name

    def norm(self, channels: int) -> Norm:
        """Live statistics: gammas of both signs, variances over three decades."""
        r = self.rng
        gamma = r.uniform(0.3, 2.0, channels) * np.where(r.random(channels) < 0.2, -1, 1)
        return Norm(
            gamma.astype("f"),
            r.normal(0, 0.7, channels).astype("f"),
            r.normal(0, 1.0, channels).astype("f"),
            np.exp(r.uniform(-4, 2, channels)).astype("f"),
            float(r.choice([1e-3, 1e-5])),
        )

    def linear(
        self, op: str, x: str, weight: Array, axis: int, bias: bool = True, **attributes: object
    ) -> str:
        """op(x, weight) + batch norm. axis: output-channel axis of the weight."""
        channels = weight.shape[axis] * (attributes.get("group", 1) if op == "ConvTranspose" else 1)
        norm, site = self.norm(channels), self.norms
        b = self.rng.normal(0, 0.5, channels).astype("f") if bias else np.zeros(channels, "f")
        w_name, b_name, pre, out = (self.name(k) for k in ("w", "b", "pre", "bn"))
        source, folded = self.tensors
        source[w_name], source[b_name] = weight, b
        self.nodes[0].append(helper.make_node(op, [x, w_name, b_name], [pre], name=pre, **attributes))
        names = []
        for role in ("gamma", "beta", "mean", "variance"):
            names.append(f"{out}/{role}")
            source[names[-1]] = getattr(norm, role)
        self.nodes[0].append(
            helper.make_node("BatchNormalization", [pre, *names], [out], name=out, epsilon=norm.epsilon)
        )
        fault = self.faults.get(site)
        folded[w_name], folded[b_name] = fold(weight, b, norm, axis, fault, self.fault_rng)
        self.nodes[1].append(helper.make_node(op, [x, w_name, b_name], [out], name=pre, **attributes))
        self.sites.append(out)
        self.norms += 1
        return out

    def conv(
        self, x: str, cin: int, cout: int, k: int = 3, stride: int = 1, group: int = 1, dims: int = 2
    ) -> str:
        shape = (cout, cin // group, *[k] * dims)
        weight = self.rng.normal(0, np.prod(shape[1:]) ** -0.5, shape).astype("f")
        pads = [k // 2] * (2 * dims)
        return self.linear("Conv", x, weight, 0, pads=pads, strides=[stride] * dims, group=group)

    def deconv(self, x: str, cin: int, cout: int) -> str:
        weight = self.rng.normal(0, cin**-0.5, (cin, cout, 2, 2)).astype("f")
        return self.linear("ConvTranspose", x, weight, 1, strides=[2, 2])

    def dense(self, x: str, cin: int, cout: int) -> str:
        weight = self.rng.normal(0, cin**-0.5, (cin, cout)).astype("f")
        return self.linear("Gemm", x, weight, 1)

    def head(self, x: str, cin: int, cout: int, gain: float = 1.0) -> str:
        """Pooled logits, without a batch norm. gain: small where a softmax would saturate."""
        pooled = self.both("GlobalAveragePool", [x])
        flat = self.both("Flatten", [pooled])
        w = self.constant(self.rng.normal(0, gain * cin**-0.5, (cin, cout)).astype("f"))
        return self.both("Gemm", [flat, w, self.constant(np.zeros(cout, "f"))])

    def save(self, folder: Path, output: str, shape: list[int | str]) -> tuple[Path, Path]:
        """Write unfolded.onnx and folded.onnx."""
        paths = []
        for name, nodes, tensors in zip(("unfolded", "folded"), self.nodes, self.tensors, strict=True):
            graph = helper.make_graph(
                nodes,
                "net",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
                [numpy_helper.from_array(a, n) for n, a in tensors.items()],
            )
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
            model = onnx.shape_inference.infer_shapes(model)
            paths.append(folder / f"{name}.onnx")
            onnx.save(model, str(paths[-1]))
        return paths[0], paths[1]


def fold(
    weight: Array, bias: Array, norm: Norm, axis: int, fault: str | None, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Folded weight and bias, float32; with one fault."""
    scale, shift = norm.affine(fault)
    new_bias = bias.astype(float) * scale + shift
    if fault == "wrong_axis":
        other = next(i for i in range(weight.ndim) if i != axis and weight.shape[i] > 1)
        scale = np.resize(scale, weight.shape[other])
        axis = other
    wide = scale.reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
    new_weight = (weight.astype(float) * wide).astype("f")
    new_bias = new_bias.astype("f")
    if fault in ("corrupt_channel", "flip_sign"):
        channel = int(rng.integers(weight.shape[axis]))
        index = tuple(channel if i == axis else slice(None) for i in range(weight.ndim))
        new_weight[index] *= np.float32(1.001 if fault == "corrupt_channel" else -1)
        if fault == "corrupt_channel":
            new_bias[channel] *= np.float32(1.001)
    return new_weight, new_bias


def plain(net: Net, depth: int = 3, width: int = 8) -> str:
    x, cin = "x", 3
    for _ in range(depth):
        x = net.both("Relu", [net.conv(x, cin, width)])
        cin = width
    return net.head(x, cin, 5)


def residual(net: Net, blocks: int = 4, width: int = 16) -> str:
    x = net.both("Relu", [net.conv("x", 3, width)])
    for _ in range(blocks):
        y = net.both("Relu", [net.conv(x, width, width)])
        x = net.both("Relu", [net.both("Add", [net.conv(y, width, width), x])])
    return net.head(x, width, 10)


def deep(net: Net) -> str:
    return plain(net, 20, 16)


def mobile(net: Net) -> str:
    x, cin = net.both("Relu", [net.conv("x", 3, 12, stride=2)]), 12
    for cout in (16, 24, 24):
        y = net.both("Relu", [net.conv(x, cin, cin * 2, k=1)])
        y = net.both("Relu", [net.conv(y, cin * 2, cin * 2, group=cin * 2)])
        x, cin = net.conv(y, cin * 2, cout, k=1), cout
    return net.head(x, cin, 10)


def inception(net: Net) -> str:
    x, cin = "x", 3
    for _ in range(2):
        parts = [net.both("Relu", [net.conv(x, cin, 6, k=k)]) for k in (1, 3, 5)]
        x, cin = net.both("Concat", parts, axis=1), 18
    return net.head(x, cin, 7)


def dense_block(net: Net) -> str:
    x, cin = net.conv("x", 3, 8), 8
    for _ in range(4):
        x, cin = net.both("Concat", [x, net.both("Relu", [net.conv(x, cin, 6)])], axis=1), cin + 6
    return net.head(x, cin, 10)


def unet(net: Net) -> str:
    a = net.both("Relu", [net.conv("x", 3, 8)])
    b = net.both("Relu", [net.conv(a, 8, 16, stride=2)])
    up = net.both("Relu", [net.deconv(b, 16, 8)])
    return net.both("Sigmoid", [net.conv(net.both("Concat", [a, up], axis=1), 16, 2, k=1)])


def mlp(net: Net) -> str:
    x = net.both("Tanh", [net.dense("x", 12, 32)])
    x = net.both("Tanh", [net.dense(x, 32, 32)])
    return net.dense(x, 32, 3)


def wave(net: Net) -> str:
    x, cin = "x", 4
    for cout in (8, 16, 16):
        x, cin = net.both("LeakyRelu", [net.conv(x, cin, cout, dims=1)], alpha=0.1), cout
    return net.head(x, cin, 4)


def grouped(net: Net) -> str:
    x = net.both("Relu", [net.conv("x", 3, 16)])
    for _ in range(3):
        x = net.both("HardSwish", [net.conv(x, 16, 16, group=4)])
    return net.both("Softmax", [net.head(x, 16, 10, gain=0.02)], axis=-1)


NETWORKS: dict[str, tuple[Callable[[Net], str], list[int | str]]] = {
    "plain": (plain, ["N", 3, 16, 16]),
    "residual": (residual, ["N", 3, 16, 16]),
    "deep": (deep, ["N", 3, 12, 12]),
    "mobile": (mobile, ["N", 3, "H", "W"]),
    "inception": (inception, ["N", 3, 14, 14]),
    "dense_block": (dense_block, ["N", 3, 12, 12]),
    "unet": (unet, [1, 3, 16, 16]),
    "mlp": (mlp, ["N", 12]),
    "wave": (wave, ["N", 4, "T"]),
    "grouped": (grouped, ["N", 3, 12, 12]),
}
FAULTS = ("corrupt_channel", "swap_gamma_beta", "drop_epsilon", "wrong_axis", "off_by_one", "flip_sign")


@dataclass(frozen=True)
class Pair:
    """Two files and what they are."""

    unfolded: Path
    folded: Path
    sites: tuple[str, ...]
    norms: int


def build(kind: str, folder: Path, seed: int = 0, faults: dict[int, str] | None = None) -> Pair:
    """Write one pair."""
    maker, shape = NETWORKS[kind]
    net = Net(seed, faults or {})
    output = maker(net)
    unfolded, folded = net.save(folder, output, shape)
    return Pair(unfolded, folded, tuple(net.sites), net.norms)
