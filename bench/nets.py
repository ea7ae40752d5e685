"""The networks of the bench: each family of architecture once, raw, with batch norms that matter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.builder import Net

Feed = tuple[int, ...]


def _bottleneck(net: Net, x: str, width: int, stride: int) -> str:
    y = net.conv_bn_act(x, width, 1)
    y = net.conv_bn_act(y, width, 3, stride=stride)
    y = net.conv_bn_act(y, width * 4, 1, act="")
    if stride != 1 or net.channels[x] != width * 4:
        x = net.conv_bn_act(x, width * 4, 1, act="", stride=stride)
    return net.act(net.op("Add", y, x))


def resnet50(path: Path, *, raw: bool = False) -> Feed:
    """Residual, 95 MB; the layers of the paper's 50-layer network."""
    net = Net(1, raw=raw)
    x = net.conv_bn_act(net.input(["N", 3, 224, 224]), 64, 7, stride=2)
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            x = _bottleneck(net, x, width, stride if block == 0 else 1)
    net.save(path, net.head(x, 1000), 2)
    return (1, 3, 224, 224)


def resnet50_raw(path: Path) -> Feed:
    """The same, as torch's dynamo exporter leaves it: every convolution's bias computed at run time."""
    return resnet50(path, raw=True)


def preactivation(path: Path) -> Feed:
    """Pre-activation residual: BN before the convolution, shortcut untouched."""
    net = Net(2)
    x = net.conv(net.input(["N", 3, 64, 64]), 32, 3)
    for width, stride in ((32, 1), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
        y = net.act(net.bn(x))
        shortcut = net.conv(y, width, 1, stride=stride) if stride != 1 or width != net.channels[x] else x
        y = net.conv(y, width, 3, stride=stride)
        y = net.conv(net.act(net.bn(y)), width, 3)
        x = net.op("Add", y, shortcut)
    net.save(path, net.head(net.act(net.bn(x))), 2)
    return (1, 3, 64, 64)


def resnet50v2(path: Path) -> Feed:
    """Residual, pre-activation bottlenecks as Keras has them: biases, and a norm that two branches read."""
    net = Net(12)
    x = net.conv(net.input(["N", 3, 128, 128]), 32, 7, stride=2, bias=True)
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for width, blocks, last in ((32, 3, 2), (64, 4, 2), (128, 6, 2), (256, 3, 1)):
        for block in range(blocks):
            stride = last if block == blocks - 1 else 1
            ready = net.act(net.bn(x))
            y = net.conv_bn_act(net.conv_bn_act(ready, width, 1), width, 3, stride=stride)
            y = net.conv(y, 4 * width, 1, bias=True)
            if block == 0:
                x = net.conv(ready, 4 * width, 1, bias=True)
            if stride != 1:
                x = net.op("MaxPool", x, kernel_shape=[1, 1], strides=[stride] * 2)
            x = net.op("Add", x, y)
    net.save(path, net.head(net.act(net.bn(x))), 2)
    return (1, 3, 128, 128)


def repvgg(path: Path) -> Feed:
    """RepVGG while it is trained: 3x3, 1x1 and identity, each with its norm, added up."""
    net = Net(13)
    x = net.input(["N", 3, 96, 96])
    for width, blocks in ((32, 1), (48, 2), (96, 4), (192, 3)):
        for block in range(blocks):
            stride = 2 if block == 0 else 1
            y = net.op("Add", net.bn(net.conv(x, width, 3, stride=stride)),
                       net.bn(net.conv(x, width, 1, stride=stride)))  # fmt: skip
            x = net.act(y if block == 0 else net.op("Add", y, net.bn(x)))
    net.save(path, net.head(x), 2)
    return (1, 3, 96, 96)


def half(path: Path) -> Feed:
    """Inverted residuals in float16, as torch's dynamo exporter leaves them: biases cast at run time."""
    return inverted_residual(path, raw=True, half=True)


def dense(path: Path) -> Feed:
    """Densely connected: BN over concatenations, transitions with average pooling."""
    net = Net(3)
    x = net.conv_bn_act(net.input(["N", 3, 64, 64]), 32, 3, stride=2)
    for block in range(3):
        for _ in range(4):
            y = net.conv(net.act(net.bn(x)), 64, 1)
            y = net.conv(net.act(net.bn(y)), 16, 3)
            x = net.op("Concat", x, y, axis=1, channels=net.channels[x] + 16)
        if block < 2:
            x = net.conv(net.act(net.bn(x)), net.channels[x] // 2, 1)
            x = net.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    net.save(path, net.head(net.act(net.bn(x))), 2)
    return (1, 3, 64, 64)


def inverted_residual(
    path: Path, act: str = "Relu6", *, raw: bool = False, squeeze: bool = False, half: bool = False
) -> Feed:
    """Inverted residuals with depthwise convolutions; with `squeeze`, squeeze-and-excite."""
    net = Net(4, raw=raw, half=half)
    x = net.conv_bn_act(net.input(["N", 3, 128, 128]), 32, 3, act=act, stride=2)
    for out, repeat, stride in ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 3, 2), (96, 2, 1)):
        for index in range(repeat):
            step = stride if index == 0 else 1
            wide = net.channels[x] * 4
            y = net.conv_bn_act(x, wide, 1, act=act)
            y = net.conv_bn_act(y, wide, 3, act=act, stride=step, groups=wide)
            y = _excite(net, y) if squeeze else y
            y = net.conv_bn_act(y, out, 1, act="")
            x = net.op("Add", x, y) if step == 1 and net.channels[x] == out else y
    net.save(path, net.head(net.conv_bn_act(x, 320, 1, act=act)), 2)
    return (1, 3, 128, 128)


def _excite(net: Net, x: str) -> str:
    c = net.channels[x]
    y = net.op("ReduceMean", x, net.const(np.array([2, 3], np.int64), "axes"), keepdims=1)
    y = net.act(net.conv(y, c // 4, 1, bias=True))
    return net.op("Mul", x, net.op("Sigmoid", net.conv(y, c, 1, bias=True)))


def hard_swish(path: Path) -> Feed:
    """MobileNetV3's kind: hard swish written out, squeeze-and-excite."""
    return inverted_residual(path, "HardSwish", squeeze=True)


def efficient(path: Path) -> Feed:
    """EfficientNet's kind, raw: SiLU, squeeze-and-excite, run-time biases."""
    return inverted_residual(path, "Silu", raw=True, squeeze=True)


def inception(path: Path) -> Feed:
    """Branches of several kernels, joined by Concat."""
    net = Net(5)
    x = net.conv_bn_act(net.input(["N", 3, 96, 96]), 32, 3, stride=2)
    for width in (32, 48, 64):
        pooled = net.op(
            "AveragePool", x, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4, count_include_pad=0
        )
        branches = (
            net.conv_bn_act(x, width, 1),
            net.conv_bn_act(net.conv_bn_act(x, width // 2, 1), width, 5),
            net.conv_bn_act(net.conv_bn_act(net.conv_bn_act(x, width, 1), width, (1, 7)), width, (7, 1)),
            net.conv_bn_act(pooled, width // 2, 1),
        )
        total = sum(net.channels[b] for b in branches)
        x = net.op("Concat", *branches, axis=1, channels=total)
        x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    net.save(path, net.head(x), 2)
    return (1, 3, 96, 96)


def unet(path: Path) -> Feed:
    """Encoder and decoder with skips, ConvTranspose and BN after it."""
    net = Net(6)
    x = net.input(["N", 3, 96, 96])
    skips = []
    for width in (16, 32, 64):
        x = net.conv_bn_act(net.conv_bn_act(x, width, 3), width, 3)
        skips.append(x)
        x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.conv_bn_act(net.conv_bn_act(x, 128, 3), 128, 3)
    for width, skip in zip((64, 32, 16), reversed(skips), strict=True):
        x = net.act(net.bn(net.conv_transpose(x, width)))
        x = net.op("Concat", x, skip, axis=1, channels=2 * width)
        x = net.conv_bn_act(net.conv_bn_act(x, width, 3), width, 3)
    net.save(path, net.op("Sigmoid", net.conv(x, 4, 1, bias=True)), 4)
    return (1, 3, 96, 96)


def one_dimensional(path: Path) -> Feed:
    """Dilated residual convolutions over time."""
    net = Net(7)
    x = net.conv_bn_act(net.input(["N", 8, 1024]), 48, 7, rank=1)
    for dilation in (1, 2, 4, 8, 16):
        y = net.conv_bn_act(x, 48, 3, rank=1, dilation=dilation)
        y = net.conv_bn_act(y, 48, 1, act="", rank=1)
        x = net.act(net.op("Add", y, x))
    net.save(path, net.head(x), 2)
    return (1, 8, 1024)


def three_dimensional(path: Path) -> Feed:
    """Residual convolutions over volumes."""
    net = Net(8)
    x = net.conv_bn_act(net.input(["N", 1, 32, 32, 32]), 16, 3, rank=3, stride=2)
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        y = net.conv_bn_act(x, width, 3, rank=3, stride=stride)
        y = net.conv_bn_act(y, width, 3, act="", rank=3)
        x = net.conv_bn_act(x, width, 1, act="", rank=3, stride=stride) if stride != 1 else x
        x = net.act(net.op("Add", y, x))
    net.save(path, net.head(x), 2)
    return (1, 1, 32, 32, 32)


def transformer(path: Path) -> Feed:
    """Self-attention blocks normalized by BN over the features of (N, T, C), axes swapped for it."""
    net = Net(9)
    width, heads, steps = 64, 4, 48
    x = net.dense(net.input(["N", steps, 16], axis=2), 16, width)
    for _ in range(3):
        x = _token_bn(net, net.op("Add", x, _attention(net, x, width, heads, steps)))
        y = net.dense(net.act(net.dense(x, width, 4 * width)), 4 * width, width)
        x = _token_bn(net, net.op("Add", x, y))
    y = net.op("ReduceMean", x, net.const(np.array([1], np.int64), "axes"), keepdims=0)
    net.save(path, net.gemm(y, width, 10), 2)
    return (1, steps, 16)


def _token_bn(net: Net, x: str) -> str:
    y = net.bn(net.op("Transpose", x, perm=[0, 2, 1]))
    return net.op("Transpose", y, perm=[0, 2, 1])


def _attention(net: Net, x: str, width: int, heads: int, steps: int) -> str:
    shape = net.const(np.array([-1, steps, heads, width // heads], np.int64), "shape")
    q, k, v = (net.op("Reshape", net.dense(x, width, width), shape) for _ in range(3))
    q, v = (net.op("Transpose", value, perm=[0, 2, 1, 3]) for value in (q, v))
    scores = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 2, 3, 1]))
    scores = net.op("Mul", scores, net.const(np.float32((width // heads) ** -0.5), "scale"))
    mixed = net.op("Transpose", net.op("MatMul", net.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    joined = net.op("Reshape", mixed, net.const(np.array([-1, steps, width], np.int64), "shape"))
    return net.dense(joined, width, width)


def mlp(path: Path) -> Feed:
    """Dense layers both ways, Gemm and MatMul + Add, each with BN and dropout."""
    net = Net(10)
    x = net.input(["N", 64])
    for index, width in enumerate((256, 256, 128, 64)):
        source = net.channels[x]
        y = net.gemm(x, source, width) if index % 2 == 0 else net.dense(x, source, width)
        x = net.op("Dropout", net.act(net.bn(y)))
    net.save(path, net.gemm(x, net.channels[x], 10), 2)
    return (1, 64)


def chain(path: Path, pairs: int) -> Feed:
    """`pairs` times conv + BN: how the cost grows with depth."""
    net = Net(11)
    x = net.input(["N", 16, 16, 16])
    for _ in range(pairs):
        x = net.conv_bn_act(x, 16, 3)
    net.save(path, x, 4)
    return (1, 16, 16, 16)


NETS: dict[str, Callable[[Path], Feed]] = {
    "resnet50": resnet50,
    "resnet50_raw": resnet50_raw,
    "preactivation": preactivation,
    "resnet50v2": resnet50v2,
    "repvgg": repvgg,
    "half": half,
    "dense": dense,
    "inverted_residual": inverted_residual,
    "hard_swish": hard_swish,
    "efficient": efficient,
    "inception": inception,
    "unet": unet,
    "one_dimensional": one_dimensional,
    "three_dimensional": three_dimensional,
    "transformer": transformer,
    "mlp": mlp,
}
