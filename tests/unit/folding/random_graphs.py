"""Random small graphs in float64: convolutions, norms, everything that an affine may pass, and what stops it.

A graph is a list of (kind, number) pairs, so that a failing one shrinks to few nodes. Every pair appends a
node, or nodes, that fit the values made so far; a pair that fits nothing appends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = tuple[int, ...]


@dataclass
class Builder:
    """A graph in the making: values with their shapes, newest last."""

    values: list[tuple[str, Shape]] = field(default_factory=lambda: [("x", (2, 4, 5, 6))])
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    count: int = 0

    def array(self, array: np.ndarray) -> str:
        """A new initializer."""
        name = f"k{len(self.arrays)}"
        self.arrays[name] = array
        return name

    def add(self, op: str, inputs: list[str], shape: Shape, **attributes: object) -> None:
        """A new node with one output."""
        self.count += 1
        name = f"v{self.count}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.values.append((name, shape))
        self.read.update(inputs)


Maker = Callable[[Builder, str, Shape, np.random.Generator], None]


def conv(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    if len(shape) < 3 or min(shape[2:]) < 3:
        return
    space, group = len(shape) - 2, int(rng.choice([g for g in (1, 2, shape[1]) if shape[1] % g == 0]))
    outs, kernel = group * int(rng.integers(1, 4)), int(rng.choice([1, 3]))
    pad = int(rng.integers(0, 2)) if kernel == 3 else 0
    inputs = [x, b.array(rng.normal(size=(outs, shape[1] // group, *[kernel] * space)))]
    if rng.random() < 0.5:
        inputs.append(b.array(rng.normal(size=outs)))
    size = tuple(dim + 2 * pad - kernel + 1 for dim in shape[2:])
    b.add("Conv", inputs, (shape[0], outs, *size), group=group, pads=[pad] * 2 * space)


def norm(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    if len(shape) < 2:
        return
    c = shape[1]
    sign = np.where(rng.random(c) < 0.3, -1.0, 1.0) if rng.random() < 0.4 else np.ones(c)
    arrays = [sign * rng.uniform(0.5, 1.5, c), rng.normal(size=c), rng.normal(size=c), rng.uniform(0.3, 2, c)]
    b.add("BatchNormalization", [x, *map(b.array, arrays)], shape)


def arithmetic(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    op = str(rng.choice(["Mul", "Add", "Sub", "Div"]))
    const_shape = [1] * len(shape)
    for axis in range(len(shape)):
        if rng.random() < (0.7 if axis == 1 else 0.15):
            const_shape[axis] = shape[axis]
    const = rng.uniform(0.5, 1.5, const_shape) * (1 if rng.random() < 0.7 else -1)
    while const.ndim and const.shape[0] == 1 and rng.random() < 0.5:
        const = const[0]
    k = b.array(np.asarray(const))
    b.add(op, [x, k] if op == "Div" or rng.random() < 0.6 else [k, x], shape)


def pointwise(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    b.add(str(rng.choice(["Relu", "LeakyRelu", "Identity", "Sigmoid", "Neg", "Tanh"])), [x], shape)


def pool(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    if len(shape) != 4 or min(shape[2:]) < 2:
        return
    op, pad = str(rng.choice(["MaxPool", "AveragePool"])), int(rng.integers(0, 2))
    size = tuple(dim + 2 * pad - 1 for dim in shape[2:])
    extra = {"count_include_pad": int(rng.integers(0, 2))} if op == "AveragePool" else {}
    b.add(op, [x], (*shape[:2], *size), kernel_shape=[2, 2], pads=[pad] * 4, **extra)


def global_pool(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    if len(shape) == 4:
        b.add(str(rng.choice(["GlobalAveragePool", "GlobalMaxPool"])), [x], (*shape[:2], 1, 1))


def transpose(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    perm = [int(axis) for axis in rng.permutation(len(shape))]
    b.add("Transpose", [x], tuple(shape[axis] for axis in perm), perm=perm)


def reshape(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    cut = int(rng.integers(0, len(shape)))
    if len(shape) > 2 and rng.random() < 0.5:
        target = (*shape[:cut], int(np.prod(shape[cut : cut + 2])), *shape[cut + 2 :])
    elif shape[cut] % 2 == 0 and len(shape) < 6:
        target = (*shape[:cut], 2, shape[cut] // 2, *shape[cut + 1 :])
    else:
        target = (shape[0], int(np.prod(shape[1:])))
    b.add("Reshape", [x, b.array(np.array(target, np.int64))], target)


def matmul(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    if len(shape) < 2:
        return
    outs = int(rng.integers(1, 5))
    if rng.random() < 0.7:
        b.add("MatMul", [x, b.array(rng.normal(size=(shape[-1], outs)))], (*shape[:-1], outs))
    else:
        weights = b.array(rng.normal(size=(outs, shape[-2])))
        b.add("MatMul", [weights, x], (*shape[:-2], outs, shape[-1]))


def gemm(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    if len(shape) != 2:
        return
    trans, outs = int(rng.integers(0, 2)), int(rng.integers(1, 5))
    inputs = [x, b.array(rng.normal(size=(outs, shape[1]) if trans else (shape[1], outs)))]
    if rng.random() < 0.6:
        inputs.append(b.array(rng.normal(size=outs)))
    b.add("Gemm", inputs, (shape[0], outs), transB=trans, alpha=0.5, beta=2.0)


def join(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    others = [name for name, other in b.values if other == shape]
    other = str(rng.choice(others))
    op = str(rng.choice(["Add", "Sub", "Concat", "Mul", "Sum"]))
    if op == "Concat":
        b.add(op, [x, other], (shape[0], 2 * shape[1], *shape[2:]), axis=1) if len(shape) > 1 else None
    else:
        b.add(op, [x, other], shape)


def cut(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    axis = int(rng.integers(0, len(shape)))
    if shape[axis] < 2:
        return
    start = int(rng.integers(0, shape[axis] - 1))
    parts = [b.array(np.array([item], np.int64)) for item in (start, shape[axis], axis)]
    b.add("Slice", [x, *parts], (*shape[:axis], shape[axis] - start, *shape[axis + 1 :]))


def pad(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    if len(shape) == 4:
        pads = b.array(np.array([0, 0, 1, 0, 0, 0, 0, 1], np.int64))
        b.add(
            "Pad",
            [x, pads],
            (*shape[:2], shape[2] + 1, shape[3] + 1),
            mode=str(rng.choice(["constant", "edge"])),
        )


def mean(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    if len(shape) > 1:
        axis, op = int(rng.integers(0, len(shape))), str(rng.choice(["ReduceMean", "ReduceMax", "ReduceSum"]))
        axes = b.array(np.array([axis], np.int64))
        b.add(op, [x, axes], (*shape[:axis], *shape[axis + 1 :]), keepdims=0)


def conv_transpose(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    if len(shape) != 4:
        return
    group = int(rng.choice([g for g in (1, 2) if shape[1] % g == 0]))
    outs, stride = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    weights = b.array(rng.normal(size=(shape[1], outs, 2, 2)))
    size = tuple((dim - 1) * stride + 2 for dim in shape[2:])
    b.add("ConvTranspose", [x, weights], (shape[0], outs * group, *size), group=group, strides=[stride] * 2)


def split(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    if len(shape) < 2 or shape[1] % 2:
        return
    half = (shape[0], shape[1] // 2, *shape[2:])
    names = [f"v{b.count + 1}a", f"v{b.count + 1}b"]
    b.count += 1
    b.nodes.append(helper.make_node("Split", [x], names, axis=1, num_outputs=2))
    b.read.add(x)
    b.values += [(name, half) for name in names]


def gather(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    axis = int(rng.integers(0, len(shape)))
    picked = (
        rng.integers(-shape[axis], shape[axis], size=int(rng.integers(1, 4)))
        if rng.random() < 0.7
        else np.array(0)
    )
    target = (*shape[:axis], *picked.shape, *shape[axis + 1 :])
    b.add("Gather", [x, b.array(picked.astype(np.int64))], target, axis=axis)


def depth_space(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    if len(shape) != 4:
        return
    n, c, h, w = shape
    if c % 4 == 0:
        mode = str(rng.choice(["DCR", "CRD"]))
        b.add("DepthToSpace", [x], (n, c // 4, 2 * h, 2 * w), blocksize=2, mode=mode)
    elif h % 2 == 0 and w % 2 == 0:
        b.add("SpaceToDepth", [x], (n, 4 * c, h // 2, w // 2), blocksize=2)


def resize(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    if len(shape) == 4:
        sizes = b.array(np.array([*shape[:2], shape[2] + 1, 2 * shape[3]], np.int64))
        mode = str(rng.choice(["nearest", "linear"]))
        b.add("Resize", [x, "", "", sizes], (*shape[:2], shape[2] + 1, 2 * shape[3]), mode=mode)


def other_norm(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    # LayerNormalization is left out: onnx's evaluator computes it in float32 and could not judge it
    if len(shape) >= 3:
        arrays = [b.array(rng.normal(size=shape[1])) for _ in range(2)]
        b.add("InstanceNormalization", [x, *arrays], shape)


def squeeze(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    ones = [axis for axis, dim in enumerate(shape) if dim == 1]
    if ones and len(shape) > 2:
        axes = b.array(np.array([ones[0]], np.int64))
        b.add("Squeeze", [x, axes], (*shape[: ones[0]], *shape[ones[0] + 1 :]))
    elif len(shape) < 5:
        axis = int(rng.integers(0, len(shape) + 1))
        b.add("Unsqueeze", [x, b.array(np.array([axis], np.int64))], (*shape[:axis], 1, *shape[axis:]))


def expand(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    target = (*([2] if len(shape) < 4 else []), *(3 if dim == 1 else dim for dim in shape))
    b.add("Expand", [x, b.array(np.array(target, np.int64))], target)


def slope(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    if len(shape) == 4:
        b.add("PRelu", [x, b.array(rng.uniform(-1, 1, (shape[1], 1, 1)))], shape)


def optional_outputs(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    """A mask or indices that nobody reads."""
    second = f"spare{b.count}"
    if len(shape) == 4 and rng.random() < 0.5:
        b.add("MaxPool", [x], shape, kernel_shape=[1, 1])
    else:
        b.add("Dropout", [x], shape)
    b.nodes[-1].output.append(second)


def branches(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    """Convolutions of one value that are added up, perhaps with a norm of it or itself."""
    if len(shape) != 4 or min(shape[2:]) < 3:
        return
    outs = shape[1] if rng.random() < 0.7 else 3
    out = (shape[0], outs, *shape[2:])
    for kernel in (3, 1):
        weights = b.array(rng.normal(size=(outs, shape[1], kernel, kernel)))
        b.add("Conv", [x, weights], out, pads=[kernel // 2] * 4)
        if rng.random() < 0.5:
            norm(b, b.values[-1][0], out, rng)
        if kernel == 3:
            first = b.values[-1][0]
    b.add("Add", [first, b.values[-1][0]], out)
    if outs == shape[1] and rng.random() < 0.7:
        total = b.values[-1][0]
        if rng.random() < 0.7:
            norm(b, x, shape, rng)
            b.add("Add", [b.values[-1][0], total], out)
        else:
            b.add("Add", [total, x], out)


def circular(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    """The last element before the first, along one axis."""
    axis = int(rng.integers(0, len(shape)))
    edge = (*shape[:axis], 1, *shape[axis + 1 :])
    parts = [b.array(np.array([item], np.int64)) for item in (-1, 1 << 40, axis)]
    b.add("Slice", [x, *parts], edge)
    order = [b.values[-1][0], x] if rng.random() < 0.5 else [x, b.values[-1][0]]
    b.add("Concat", order, (*shape[:axis], shape[axis] + 1, *shape[axis + 1 :]), axis=axis)


def einsum(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    """Channels of one axis to others, which may be two, and stand anywhere."""
    if not 2 <= len(shape) <= 4:
        return
    letters = "abcd"[: len(shape)]
    axis = int(rng.integers(0, len(shape)))
    sizes = {"y": 2, "z": 3}
    free = "yz"[: int(rng.integers(1, 3))]
    kept = [letter for letter in letters if letter != letters[axis]] + list(free)
    out = [kept[i] for i in rng.permutation(len(kept))]
    known = dict(zip(letters, shape, strict=True)) | sizes
    inner = [(letters[axis] + free)[i] for i in rng.permutation(len(free) + 1)]
    weights = b.array(rng.normal(size=[known[letter] for letter in inner]))
    equation = f"{letters},{''.join(inner)}->{''.join(out)}"
    b.add("Einsum", [x, weights], tuple(known[letter] for letter in out), equation=equation)


def choice(b: Builder, x: str, shape: Shape, rng: np.random.Generator) -> None:
    """Two cuts of one value that meet again."""
    axis = int(rng.integers(0, len(shape)))
    if shape[axis] < 2:
        return
    small = (*shape[:axis], shape[axis] - 1, *shape[axis + 1 :])
    cuts = []
    for start, stop in ((0, shape[axis] - 1), (1, shape[axis])):
        b.add("Slice", [x, *(b.array(np.array([i], np.int64)) for i in (start, stop, axis))], small)
        cuts.append(b.values[-1][0])
    b.add(str(rng.choice(["Max", "Min", "Add", "Sub", "Sum"])), cuts, small)


MAKERS: tuple[Maker, ...] = (
    conv, norm, arithmetic, conv, norm, pointwise, pool, global_pool, transpose, reshape, matmul, gemm, join,
    cut, pad, mean, norm, arithmetic, conv, conv_transpose, split, gather, depth_space, resize, other_norm,
    squeeze, expand, slope, norm, optional_outputs, branches, circular, einsum, choice,
)  # fmt: skip


def build(plan: list[tuple[int, int]], opset: int = 18) -> onnx.ModelProto:
    """The graph that the plan says; its outputs are all values that no node reads, and one that some do."""
    b = Builder()
    for kind, number in plan:
        rng = np.random.default_rng(number)
        pick = min(int(rng.geometric(0.6)), len(b.values))  # mostly the newest value, sometimes an older one
        x, shape = b.values[-pick]
        if shape and np.prod(shape) <= 2000:
            MAKERS[kind % len(MAKERS)](b, x, shape, rng)
    if not b.nodes:
        b.add("Identity", ["x"], b.values[0][1])
    loose = [(name, shape) for name, shape in b.values[1:] if name not in b.read]
    if plan and plan[0][1] % 5 == 0 and len(b.values) > 3:
        loose.append(b.values[len(b.values) // 2])  # an inner value that is an output as well
    outputs = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, s) for n, s in dict(loose).items()]
    graph = helper.make_graph(
        b.nodes, "g", [helper.make_tensor_value_info("x", TensorProto.DOUBLE, b.values[0][1])], outputs,
        [numpy_helper.from_array(np.ascontiguousarray(a), n) if a.ndim else numpy_helper.from_array(a, n)
         for n, a in b.arrays.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def vaguer(proto: onnx.ModelProto, how: int) -> onnx.ModelProto:
    """The same model with an interface that says less: symbols, nameless dimensions, no shape at all."""
    if how % 4 == 0:
        return proto
    for position, value in enumerate((*proto.graph.input, *proto.graph.output)):
        shape = value.type.tensor_type.shape
        for axis, dim in enumerate(shape.dim):
            if axis == 0 or how % 4 > 1:
                dim.ClearField("dim_value")
                if (axis + position) % 2:
                    dim.dim_param = f"d{position}_{axis}"
        if how % 4 == 3 and position:
            value.type.tensor_type.ClearField("shape")
    return proto
