"""A GraphDef as a dictionary of nodes, and the few questions that the surgery asks of it.

References are TensorFlow's own strings: `node` (= output 0), `node:2`, `^node` (control).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from folding.sources.gates.function_calls import reachable_functions

Node = Any  # tensorflow.NodeDef; its class exists only once TensorFlow is imported

VARIABLE_OPS = frozenset({"Variable", "VariableV2", "VarHandleOp", "AutoReloadVariable", "TemporaryVariable"})
INPUT_OPS = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"})
CALL_OPS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
RANDOM_OPS = frozenset({"RandomUniform", "StatelessRandomUniform", "StatelessRandomUniformV2"})


def split(ref: str) -> tuple[str, int]:
    """`(node, output index)`; control references give index -1."""
    if ref.startswith("^"):
        return ref[1:], -1
    name, _, index = ref.rpartition(":")
    if name and index.isdigit():
        return name, int(index)
    return ref, 0


def join(name: str, index: int) -> str:
    """The shortest reference to an output."""
    return name if index == 0 else f"{name}:{index}"


def canonical(ref: str) -> str:
    """`x:0` and `x` are one tensor; the short form wins."""
    return ref if ref.startswith("^") else join(*split(ref))


def full(ref: str) -> str:
    """`x` -> `x:0`, the name that TensorFlow shows for the tensor."""
    name, index = split(ref)
    return f"{name}:{index}"


def data_inputs(node: Node) -> list[str]:
    """Inputs without control edges, in order."""
    return [ref for ref in node.input if not ref.startswith("^")]


def control_inputs(node: Node) -> list[str]:
    """Names of nodes that must run first."""
    return [ref[1:] for ref in node.input if ref.startswith("^")]


class TfGraph:
    """Nodes by name (in file order), functions by name. The nodes are owned: surgery changes them."""

    def __init__(self, graph_def: Any) -> None:
        self.nodes: dict[str, Node] = {node.name: node for node in graph_def.node}
        self.library: dict[str, Any] = {f.signature.name: f for f in graph_def.library.function}
        self.versions = graph_def.versions
        self._owner = graph_def  # keeps the nodes' arena alive

    def copy(self) -> TfGraph:
        """A graph with nodes of its own."""
        return TfGraph(self.to_graph_def())

    def to_graph_def(self, names: Iterable[str] | None = None) -> Any:
        """A new GraphDef of all nodes, or of those named."""
        from tensorflow.core.framework import graph_pb2

        result = graph_pb2.GraphDef()
        nodes = self.nodes.values() if names is None else [self.nodes[name] for name in names]
        result.node.extend(nodes)
        result.versions.CopyFrom(self.versions)
        result.library.function.extend(self.library.values())
        return result

    def add(self, op: str, name: str, inputs: Iterable[str] = (), **attrs: Any) -> Node:
        """Add a node; its name is made unique. Attributes are AttrValue or plain dtype enums (int)."""
        from tensorflow.core.framework import node_def_pb2

        node = node_def_pb2.NodeDef(name=self.unique(name), op=op)
        node.input.extend(inputs)
        for key, value in attrs.items():
            if isinstance(value, int):
                node.attr[key].type = value
            else:
                node.attr[key].CopyFrom(value)
        self.nodes[node.name] = node
        return node

    def unique(self, name: str) -> str:
        """`name`, or `name_1`, `name_2`, ... whichever is free."""
        if name not in self.nodes:
            return name
        count = 1
        while f"{name}_{count}" in self.nodes:
            count += 1
        return f"{name}_{count}"

    def set_constant(self, name: str, value: np.ndarray) -> Node:
        """Turn the node (whatever it was) into a Const; it keeps its name and loses its inputs."""
        from tensorflow.python.framework import tensor_util

        old = self.nodes[name]
        del old.input[:]
        old.op = "Const"
        old.attr.clear()
        tensor = tensor_util.make_tensor_proto(value)
        old.attr["dtype"].type = tensor.dtype
        old.attr["value"].tensor.CopyFrom(tensor)
        return old

    def consumers(self) -> dict[str, list[Node]]:
        """Nodes by the canonical data reference that they read (a snapshot)."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes.values():
            for ref in data_inputs(node):
                readers.setdefault(canonical(ref), []).append(node)
        return readers

    def ancestors(self, refs: Iterable[str], *, control: bool) -> set[str]:
        """Names of the nodes that `refs` need, themselves included; along control edges too if asked."""
        seen: set[str] = set()
        stack = [split(ref)[0] for ref in refs]
        while stack:
            name = stack.pop()
            if name in seen or name not in self.nodes:
                continue
            seen.add(name)
            for ref in self.nodes[name].input:
                if control or not ref.startswith("^"):
                    stack.append(split(ref)[0])
        return seen

    def keep(self, names: set[str]) -> None:
        """Drop every node that is not named."""
        self.nodes = {name: node for name, node in self.nodes.items() if name in names}

    def prune_library(self) -> None:
        """Drop the functions that no node calls, directly or through others."""
        kept = reachable_functions(self.nodes.values(), self.library)
        self.library = {name: function for name, function in self.library.items() if name in kept}

    def rewire(self, alias: dict[str, str]) -> Callable[[str], str]:
        """Replace references by `alias` (canonical -> reference), transitively. Returns the resolver."""
        resolve = resolver(alias)
        if alias:
            for node in self.nodes.values():
                for position, ref in enumerate(node.input):
                    if not ref.startswith("^") and canonical(ref) in alias:
                        node.input[position] = resolve(ref)
        return resolve

    def in_order(self) -> Iterator[Node]:
        """Nodes so that inputs come first; cycles (while loops) are cut where they are met."""
        done: set[str] = set()
        for root in list(self.nodes):
            stack: list[tuple[str, bool]] = [(root, False)]
            while stack:
                name, ready = stack.pop()
                if ready:
                    yield self.nodes[name]
                    continue
                if name in done or name not in self.nodes:
                    continue
                done.add(name)
                stack.append((name, True))
                stack.extend((split(ref)[0], False) for ref in self.nodes[name].input)


def resolver(alias: dict[str, str]) -> Callable[[str], str]:
    """Follow aliases to the end; a cycle stops where it began."""

    def resolve(ref: str) -> str:
        seen: set[str] = set()
        current = canonical(ref)
        while current in alias and current not in seen:
            seen.add(current)
            current = canonical(alias[current])
        return current

    return resolve


def dtype_of(node: Node) -> int:
    """The element type (DataType enum) of a variable, placeholder, constant or arithmetic node; 0 unknown."""
    for key in ("dtype", "T", "DstT", "out_type"):
        if key in node.attr and node.attr[key].type:
            return int(node.attr[key].type) % 100  # ref types are base + 100
    return 0


def shape_of(node: Node) -> list[int | None] | None:
    """The `shape` attribute: None for an unknown rank, None entries for unknown dimensions."""
    if "shape" not in node.attr:
        return None
    return shape_list(node.attr["shape"].shape)


def shape_list(shape: Any) -> list[int | None] | None:
    """TensorShapeProto as a list."""
    if shape.unknown_rank:
        return None
    return [None if dim.size < 0 else int(dim.size) for dim in shape.dim]


def shape_attr(dims: Iterable[int | None] | None) -> Any:
    """An AttrValue that holds a TensorShapeProto."""
    from tensorflow.core.framework import attr_value_pb2

    value = attr_value_pb2.AttrValue()
    if dims is None:
        value.shape.unknown_rank = True
        return value
    value.shape.SetInParent()
    for dim in dims:
        value.shape.dim.add().size = -1 if dim is None else dim
    return value


def const_value(node: Node) -> np.ndarray | None:
    """The array of a Const node, or None for other nodes."""
    if node.op != "Const":
        return None
    from tensorflow.python.framework import tensor_util

    return np.asarray(tensor_util.MakeNdarray(node.attr["value"].tensor))


def numpy_dtype(dtype: int) -> np.dtype[Any]:
    """The numpy type of a DataType enum."""
    from tensorflow.python.framework import dtypes

    kind: np.dtype[Any] = np.dtype(dtypes.as_dtype(dtype).as_numpy_dtype)
    return kind
