"""Exact forms that could take a norm which stays, against the norm: `python -m bench.exact_forms`.

Each row is a block of a network, twice: with the norm as it stays, and in another form of the same function.
Both run in one process on ONNX Runtime's CPU provider with one thread, in alternating pairs. A form is taken
by the rules only where it is faster than the norm; the decision record 0032 has the figures.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from bench.table import grid

SIZES = ((16, 56), (64, 28), (128, 14))  # channels, side
ROUNDS = 40
Arrays = dict[str, np.ndarray]
Nodes = list[onnx.NodeProto]


@dataclass(frozen=True)
class Block:
    """Two graphs that compute the same: nodes and constants of each."""

    name: str
    stays: tuple[Nodes, Arrays]
    other: tuple[Nodes, Arrays]


def conv(x: str, y: str, weight: str, bias: str = "", *, pad: int = 1, group: int = 1) -> onnx.NodeProto:
    """Return a Conv that keeps the size."""
    inputs = [x, weight, bias] if bias else [x, weight]
    return helper.make_node("Conv", inputs, [y], pads=[pad] * 4, group=group)


def op(kind: str, inputs: Sequence[str], output: str, **attributes: object) -> onnx.NodeProto:
    """Return a node with one output."""
    return helper.make_node(kind, list(inputs), [output], **attributes)


def pool(x: str, y: str) -> onnx.NodeProto:
    """Return a MaxPool of 2 x 2."""
    return op("MaxPool", [x], y, kernel_shape=[2, 2], strides=[2, 2])


def norm(channels: int, rng: np.random.Generator, negative: float) -> tuple[Arrays, np.ndarray, np.ndarray]:
    """Return statistics with a share of negative gammas, and the scale and shift that they make."""
    sign = np.where(rng.random(channels) < negative, -1.0, 1.0)
    sign[0] = -1.0 if negative else 1.0
    made = {
        "g": sign * rng.uniform(0.5, 1.5, channels), "b": 0.1 * rng.normal(size=channels),
        "m": 0.3 * rng.normal(size=channels), "v": rng.uniform(0.3, 2.0, channels),
    }  # fmt: skip
    scale = made["g"] / np.sqrt(made["v"] + 1e-5)
    return made, scale, made["b"] - made["m"] * scale


def lines(vector: np.ndarray) -> np.ndarray:
    """Return (C,) as (C, 1, 1)."""
    return vector.reshape(-1, 1, 1)


def negative_scales(channels: int, rng: np.random.Generator) -> Iterator[Block]:
    """Yield Conv, ReLU, norm with negative scales, MaxPool, Conv in the forms that are exact."""
    known, s, t = norm(channels, rng, 0.125)
    w, w2 = _kernel(channels, rng), _kernel(channels, rng)
    bn = op("BatchNormalization", ["r", "g", "b", "m", "v"], "n")
    start, end = (
        [conv("x", "c", "w"), op("Relu", ["c"], "r")],
        [op("Add", ["p", "t"], "q"), conv("q", "y", "w2")],
    )
    stays = [*start, bn, pool("n", "p"), conv("p", "y", "w2")], {"w": w, "w2": w2, **known}
    scaled = w * lines(np.abs(s))[..., None]
    signs = {"w": scaled, "w2": w2, "sign": lines(np.sign(s)), "t": lines(t)}
    yield Block(
        "negative scales: sizes into the Conv, a Mul by signs, an Add", stays,
        ([*start, op("Mul", ["r", "sign"], "n"), pool("n", "p"), *end], signs),
    )  # fmt: skip
    order = np.concatenate([np.where(s > 0)[0], np.where(s <= 0)[0]])
    sizes = np.array([np.sum(s > 0), np.sum(s <= 0)], np.int64)
    split = [
        *start, helper.make_node("Split", ["r", "sizes"], ["r1", "r2"], axis=1), pool("r1", "p1"),
        op("Neg", ["r2"], "r3"), pool("r3", "p2"), op("Concat", ["p1", "p2"], "p", axis=1), *end,
    ]  # fmt: skip
    arrays = {"w": scaled[order], "w2": w2[:, order], "sizes": sizes, "t": lines(t[order])}
    yield Block("negative scales: channels in two groups by sign", stays, (split, arrays))


def shared_producers(channels: int, rng: np.random.Generator) -> Iterator[Block]:
    """Yield a value that a norm and a residual sum both read, in the forms that are exact."""
    known, s, t = norm(channels, rng, 0.0)
    bn = op("BatchNormalization", ["c", "g", "b", "m", "v"], "n")
    w2 = _kernel(channels, rng)
    rest = [op("Relu", ["n"], "r"), conv("r", "d", "w2"), op("Add", ["d", "c"], "y")]
    for kernel, group, what in ((3, 1, "3x3"), (1, 1, "1x1"), (3, channels, "depthwise 3x3")):
        w = (
            rng.normal(size=(channels, channels // group, kernel, kernel))
            / kernel
            / (channels // group) ** 0.5
        )
        first = conv("x", "c", "w", pad=kernel // 2, group=group)
        stays = [first, bn, *rest], {"w": w, "w2": w2, **known}
        copy = conv("x", "n", "wn", "bn", pad=kernel // 2, group=group)
        arrays = {"w": w, "w2": w2, "wn": w * lines(s)[..., None], "bn": t}
        yield Block(
            f"shared: a copy of the {what} Conv takes the norm", stays, ([first, copy, *rest], arrays)
        )
        shift = {"w": w, "w2": w2 * s[None, :, None, None], "t": lines(t / s)}
        add = [first, op("Add", ["c", "t"], "n"), *rest]
        yield Block(f"shared: scale into the next Conv, an Add behind the {what} Conv", stays, (add, shift))


def _kernel(channels: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(channels, channels, 3, 3)) * np.sqrt(2 / (9 * channels))


def opened(nodes: Nodes, arrays: Arrays, shape: Sequence[int]) -> ort.InferenceSession:
    """Return a session at the runtime's defaults, one thread."""
    kinds = {name: a.astype(np.float32) if a.dtype.kind == "f" else a for name, a in arrays.items()}
    used = {name for node in nodes for name in node.input}
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(a, name) for name, a in kinds.items() if name in used]
    graph = helper.make_graph(nodes, "block", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def duel(block: Block, shape: Sequence[int], rounds: int) -> tuple[float, float, float, float]:
    """Return the best milliseconds of both, the median ratio of pairs, and the difference of the answers."""
    feeds = {"x": np.random.default_rng(0).normal(size=shape).astype(np.float32)}
    pair = [opened(*block.stays, shape), opened(*block.other, shape)]
    answers = [ready.run(None, feeds)[0] for ready in pair]
    difference = float(np.abs(answers[0] - answers[1]).max() / np.abs(answers[0]).max())
    taken: list[list[float]] = [[], []]
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            start = time.perf_counter()
            pair[which].run(None, feeds)
            taken[which].append(1e3 * (time.perf_counter() - start))
    ratio = statistics.median(b / a for a, b in zip(*taken, strict=True))
    return min(taken[0]), min(taken[1]), ratio, difference


def main() -> int:
    """See the module. Return 1 where two forms do not agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    makers: tuple[Callable[[int, np.random.Generator], Iterator[Block]], ...] = (
        negative_scales,
        shared_producers,
    )
    rows, worst = [], 0.0
    for make in makers:
        for channels, side in SIZES:
            shape = (1, channels, side, side)
            for block in make(channels, np.random.default_rng(channels)):
                before, after, ratio, difference = duel(block, shape, asked.rounds)
                worst = max(worst, difference)
                rows.append([block.name, f"{channels}x{side}x{side}", f"{before:.3f}", f"{after:.3f}",
                             f"{after / before:.2f}", f"{ratio:.2f}"])  # fmt: skip
    print(grid(["form", "shape", "norm ms", "form ms", "of best", "of pairs"], rows))
    return int(worst > 1e-4)


if __name__ == "__main__":
    raise SystemExit(main())
