"""Cost is linear in the number of nodes, counted in Python calls: no clock, no noise."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import numpy as np
import onnx_ir as ir
import pytest

from folding import norms, rules
from tests.support.numbers import running_rng

SHAPE = ir.Shape([1, 4, 6, 6])


class Net:
    """Nodes one after another, with shapes, so that nothing has to be inferred."""

    def __init__(self) -> None:
        self.x = ir.val("x", dtype=ir.DataType.FLOAT, shape=SHAPE)
        self.nodes: list[ir.Node] = []
        self.held: list[ir.Value] = []

    def const(self, array: np.ndarray) -> ir.Value:
        name = f"k{len(self.held)}"
        value = ir.val(name, const_value=ir.tensor(array.astype(np.float32), name=name))
        value.dtype, value.shape = ir.DataType.FLOAT, ir.Shape(array.shape)
        self.held.append(value)
        return value

    def add(self, op: str, inputs: list[ir.Value], **attributes: object) -> ir.Value:
        node = ir.node(op, inputs, attributes=attributes or None)  # type: ignore[arg-type]
        node.outputs[0].name = f"v{len(self.nodes)}"
        node.outputs[0].dtype, node.outputs[0].shape = ir.DataType.FLOAT, SHAPE
        self.nodes.append(node)
        return node.outputs[0]

    def conv(self, x: ir.Value) -> ir.Value:
        return self.add("Conv", [x, self.const(running_rng().normal(size=(4, 4, 3, 3)))], pads=[1, 1, 1, 1])

    def norm(self, x: ir.Value) -> ir.Value:
        rng = running_rng()
        arrays = [*(rng.normal(size=4) for _ in range(3)), rng.uniform(0.5, 2, 4)]
        return self.add("BatchNormalization", [x, *map(self.const, arrays)])

    def model(self, outputs: list[ir.Value]) -> ir.Model:
        graph = ir.Graph(
            [self.x], outputs, nodes=self.nodes, initializers=self.held, opset_imports={"": 18}, name="g"
        )
        return ir.Model(graph, ir_version=9)


def pairs(count: int) -> ir.Model:
    """conv, norm, ReLU, over and over."""
    net = Net()
    value = net.x
    for _ in range(count):
        value = net.add("Relu", [net.norm(net.conv(value))])
    return net.model([value])


def stuck(count: int) -> ir.Model:
    """Norms that hang on a long row of transparent nodes, all of which everybody reads: none can leave."""
    net = Net()
    value, outputs = net.x, []
    for _ in range(count):
        value = net.add("Identity", [value])
        outputs.append(net.norm(value))
    return net.model([value, *outputs])


def forward(count: int) -> ir.Model:
    """A norm, a transparent node, a norm: each looks through all that follow, and the last one is refused."""
    net = Net()
    value, outputs = net.x, []
    for _ in range(count):
        value = net.add("Identity", [value])
        side = net.norm(value)
        outputs.append(net.add("Sigmoid", [net.add("Transpose", [side], perm=[0, 1, 3, 2])]))
    return net.model([value, *outputs])


def residual(count: int) -> ir.Model:
    """Sums of sums of convolutions: every norm asks for the whole tree below it."""
    net = Net()
    value = net.conv(net.x)
    for _ in range(count):
        value = net.add("Add", [value, net.conv(net.x)])
    return net.model([net.norm(value)])


def slices(count: int) -> ir.Model:
    """One wide value, cut into as many slices, each with a norm."""
    net = Net()
    wide = net.add("Conv", [net.x, net.const(running_rng().normal(size=(4 * count, 4, 1, 1)))])
    wide.shape = ir.Shape([1, 4 * count, 6, 6])
    outputs = []
    for i in range(count):
        ends = [
            ir.val(f"e{i}_{k}", const_value=ir.tensor(np.array([k], np.int64))) for k in (4 * i, 4 * i + 4, 1)
        ]
        for j, value in enumerate(ends):
            value.name, value.dtype, value.shape = f"e{i}_{j}", ir.DataType.INT64, ir.Shape([1])
        net.held += ends
        outputs.append(net.norm(net.add("Slice", [wide, *ends])))
    return net.model(outputs[:1])


def fan(count: int) -> ir.Model:
    """One norm in front of as many convolutions, and one behind each."""
    net = Net()
    value = net.norm(net.x)
    return net.model([net.norm(net.conv(value)) for _ in range(count)][:1])  # onnx_ir copies wide lists


def chain(count: int) -> ir.Model:
    """Constant arithmetic without end."""
    net = Net()
    value = net.conv(net.x)
    for _ in range(count):
        value = net.add("Mul", [value, net.const(running_rng().uniform(0.98, 1.02, (4, 1, 1)))])
        value = net.add("Add", [value, net.const(running_rng().normal(size=(4, 1, 1)))])
    return net.model([value])


def calls(model: ir.Model) -> int:
    """Python and C calls of finding and folding."""
    count = 0

    def seen(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        rules.fold(model, norms.find(model))
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "build", [pairs, stuck, forward, residual, slices, fan, chain], ids=lambda build: build.__name__
)
def test_four_times_the_nodes_cost_at_most_4_4_times_as_much(build: Callable[[int], ir.Model]) -> None:
    calls(build(10))  # imports and caches
    assert calls(build(400)) <= 4.4 * calls(build(100))


def test_a_long_row_of_transparent_nodes_needs_no_recursion() -> None:
    net = Net()
    value = net.conv(net.x)
    for _ in range(5000):
        value = net.add("Identity", [value])
    model = net.model([net.norm(value)])
    assert rules.fold(model, norms.find(model)).decisions[0].folded


def test_weights_are_not_read_for_a_norm_that_stays() -> None:
    """Large weights may be lazy: only what is rewritten is loaded."""
    read: list[str] = []

    def load() -> ir.Tensor:
        read.append("w")
        return ir.Tensor(np.ones((4, 4, 3, 3), np.float32))

    net = Net()
    weights = net.const(np.ones((4, 4, 3, 3)))
    weights.const_value = ir.LazyTensor(
        load, dtype=ir.DataType.FLOAT, shape=ir.Shape([4, 4, 3, 3]), name=weights.name
    )
    conv = net.add("Conv", [net.x, weights], pads=[1, 1, 1, 1])
    model = net.model([net.norm(conv), conv])
    assert not rules.fold(model, norms.find(model)).decisions[0].folded
    assert read == []
