"""SpaceToBatchND and BatchToSpaceND whose paddings or crops are computed at run time, spelled out.

tf2onnx takes any FloorMod in the paddings of a convolution for TensorFlow's own computation of them.

Given:  y = BatchToSpaceND(x, block, crops)        x (prod(block) * n, d..., rest...)
Result: r = Reshape(x, (block..., n, d..., rest...));  t = Transpose(r), each d before its block
        y = Slice(Reshape(t, (n, d1 * block1, ..., rest...)), crops)
"""

from __future__ import annotations

import numpy as np

from folding.sources.tensorflow.graph.tf_graph import Node, TfGraph, data_inputs, dtype_of

OPS = frozenset({"SpaceToBatchND", "BatchToSpaceND"})
_INT32 = 3


def spell(graph: TfGraph, node: Node, block: list[int], rank: int) -> None:
    """Rewrite one node in place. block: its constant block shape. rank: dimensions of its input."""
    maker = _Maker(graph, node)
    (_space_to_batch if node.op == "SpaceToBatchND" else _batch_to_space)(maker, node, block, rank)


class _Maker:
    """Adds nodes below the name of the one that is spelled out."""

    def __init__(self, graph: TfGraph, node: Node) -> None:
        self.graph, self.name, self.dtype = graph, node.name, dtype_of(node)
        self.wide = int(node.attr["Tpaddings" if node.op == "SpaceToBatchND" else "Tcrops"].type) or _INT32

    def numbers(self, values: object) -> str:
        added = self.graph.add("Const", f"{self.name}/numbers").name
        self.graph.set_constant(added, np.asarray(values, np.int32))
        return str(added)

    def integers(self, op: str, *inputs: str) -> str:
        return str(self.graph.add(op, f"{self.name}/{op}", inputs, T=_INT32).name)

    def joined(self, *parts: str) -> str:
        added = self.graph.add(
            "ConcatV2", f"{self.name}/joined", [*parts, self.numbers(0)], T=_INT32, Tidx=_INT32
        )
        added.attr["N"].i = len(parts)
        return str(added.name)

    def part(self, ref: str, begin: list[int], size: list[int]) -> str:
        inputs = [ref, self.numbers(begin), self.numbers(size)]
        return str(self.graph.add("Slice", f"{self.name}/part", inputs, T=_INT32, Index=_INT32).name)

    def flat(self, ref: str) -> str:
        inputs = [ref, self.numbers([-1])]
        return str(self.graph.add("Reshape", f"{self.name}/flat", inputs, T=_INT32, Tshape=_INT32).name)

    def small(self, ref: str) -> str:
        if self.wide == _INT32:
            return ref
        return str(self.graph.add("Cast", f"{self.name}/small", [ref], SrcT=self.wide, DstT=_INT32).name)

    def shape(self, ref: str) -> str:
        return str(self.graph.add("Shape", f"{self.name}/shape", [ref], T=self.dtype, out_type=_INT32).name)

    def reshaped(self, ref: str, shape: str) -> str:
        return str(
            self.graph.add("Reshape", f"{self.name}/reshaped", [ref, shape], T=self.dtype, Tshape=_INT32).name
        )

    def turned(self, ref: str, order: list[int]) -> str:
        inputs = [ref, self.numbers(order)]
        return str(
            self.graph.add("Transpose", f"{self.name}/turned", inputs, T=self.dtype, Tperm=_INT32).name
        )

    def finish(self, node: Node, op: str, inputs: list[str], **kinds: int) -> None:
        node.op = op
        del node.input[:]
        node.input.extend(inputs)
        node.attr.clear()
        node.attr["T"].type = self.dtype
        for key, kind in kinds.items():
            node.attr[key].type = kind


def _batch_to_space(m: _Maker, node: Node, block: list[int], rank: int) -> None:
    x, _, crops = data_inputs(node)
    count, rest = len(block), rank - 1 - len(block)
    shape, blocks = m.shape(x), m.numbers(block)
    n = m.integers("FloorDiv", m.part(shape, [0], [1]), m.numbers([int(np.prod(block))]))
    inner, tail = m.part(shape, [1], [count]), m.part(shape, [1 + count], [rest])
    apart = m.reshaped(x, m.joined(blocks, n, inner, tail))
    order = [count]
    for index in range(count):
        order += [count + 1 + index, index]
    merged = m.integers("Mul", inner, blocks)
    whole = m.reshaped(
        m.turned(apart, [*order, *range(2 * count + 1, 2 * count + 1 + rest)]), m.joined(n, merged, tail)
    )
    crops = m.small(crops)
    starts, ends = m.flat(m.part(crops, [0, 0], [count, 1])), m.flat(m.part(crops, [0, 1], [count, 1]))
    size = m.integers("Sub", m.integers("Sub", merged, starts), ends)
    begin = m.joined(m.numbers([0]), starts, m.numbers([0] * rest))
    m.finish(node, "Slice", [whole, begin, m.joined(n, size, tail)], Index=_INT32)


def _space_to_batch(m: _Maker, node: Node, block: list[int], rank: int) -> None:
    x, _, paddings = data_inputs(node)
    count, rest = len(block), rank - 1 - len(block)
    parts = [m.numbers([[0, 0]]), m.small(paddings)] + ([m.numbers([[0, 0]] * rest)] if rest else [])
    inputs = [x, m.joined(*parts)]
    padded = str(m.graph.add("Pad", f"{m.name}/padded", inputs, T=m.dtype, Tpaddings=_INT32).name)
    shape, blocks = m.shape(padded), m.numbers(block)
    n, tail = m.part(shape, [0], [1]), m.part(shape, [1 + count], [rest])
    inner = m.integers("FloorDiv", m.part(shape, [1], [count]), blocks)
    mixed = [n]
    for index in range(count):
        mixed += [m.part(inner, [index], [1]), m.numbers([block[index]])]
    apart = m.reshaped(padded, m.joined(*mixed, tail))
    order = [2 + 2 * index for index in range(count)] + [0] + [1 + 2 * index for index in range(count)]
    turned = m.turned(apart, [*order, *range(2 * count + 1, 2 * count + 1 + rest)])
    many = m.integers("Mul", n, m.numbers([int(np.prod(block))]))
    m.finish(node, "Reshape", [turned, m.joined(many, inner, tail)], Tshape=_INT32)
