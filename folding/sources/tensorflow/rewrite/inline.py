"""Function calls become the nodes of their bodies.

Given:  call = PartitionedCall[f=g](a, b);  g(x, y) = { s = AddV2(x, y); return s:z:0 }
Result: s = AddV2(a, b), and every reference to `call:0` reads `s:0`

Body nodes keep their own names where those are free, so that layers are called what their author called them.
Polymorphic attributes (`placeholder`) are taken from the call. Nothing is executed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from folding.errors import CorruptModel, UnsafeModel
from folding.sources.tensorflow.graph.tf_graph import (
    CALL_OPS,
    Node,
    TfGraph,
    control_inputs,
    data_inputs,
    join,
    split,
)

MAX_DEPTH = 64  # nested calls; real models stay below 20 (a Keras net of nets of nets)
MAX_NODES = 1_000_000  # nodes after inlining; the largest published nets have below 200,000


@dataclass
class Inliner:
    """Inlines calls of one graph and remembers what each call's outputs became."""

    graph: TfGraph
    alias: dict[str, str] = field(default_factory=dict)
    trace: dict[str, tuple[str, ...]] = field(default_factory=dict)  # node -> functions that it came from
    gone: set[str] = field(default_factory=set)  # names of calls: their aliases must stay unambiguous

    def function_of(self, node: Node) -> str | None:
        """Name of the function that a call node calls, or None for any other node."""
        if node.op in CALL_OPS:
            return str(node.attr["f"].func.name)
        return node.op if node.op in self.graph.library else None

    def inline(self, node: Node, function: str, inputs: list[str]) -> None:
        """Replace `node` by the body of `function` applied to `inputs`.

        Raises:
            UnsafeModel: `recursive_function`, `function_expansion`.
            CorruptModel: `missing_function`, `function_arity`.
        """
        body = self.graph.library.get(function)
        if body is None:
            raise CorruptModel(
                f"Node {node.name!r} calls the function {function!r}, which the library does not hold.",
                code="missing_function",
                layer=node.name,
            )
        path = self.trace.get(node.name, ())
        if function in path or len(path) >= MAX_DEPTH:
            raise UnsafeModel(
                f"The function {function!r} calls itself (through {' -> '.join([*path[-4:], function])}).",
                code="recursive_function",
                layer=node.name,
                hint="Recursive functions cannot be exported to ONNX; unroll the recursion.",
            )
        arguments = body.signature.input_arg
        if len(arguments) != len(inputs):
            raise CorruptModel(
                f"Node {node.name!r} passes {len(inputs)} inputs to {function!r}, which takes "
                f"{len(arguments)}.",
                code="function_arity",
                layer=node.name,
            )
        self.gone.add(node.name)
        scope = _Scope(self.graph, node, body, inputs, self.gone)
        del self.graph.nodes[node.name]
        added = scope.add_body()
        for name in added:
            self.trace[name] = (*path, function)
        if len(self.graph.nodes) > MAX_NODES:
            raise UnsafeModel(
                f"The model grows past {MAX_NODES} nodes when its functions are expanded.",
                code="function_expansion",
                layer=node.name,
            )
        for index, argument in enumerate(body.signature.output_arg):
            self.alias[join(node.name, index)] = scope.translate(body.ret[argument.name])

    def run(self, roots: list[str]) -> bool:
        """Inline every call that `roots` need, nested ones too. True if there was one."""
        changed = False
        while calls := list(self._calls(roots)):
            for node, function in calls:
                self.inline(node, function, data_inputs(node))
            self.graph.rewire(self.alias)
            self._drop_dangling_control({node.name for node, _ in calls})
            roots[:] = [self.resolve(root) for root in roots]
            changed = True
        return changed

    def resolve(self, ref: str) -> str:
        """What a reference reads now."""
        from folding.sources.tensorflow.graph.tf_graph import resolver

        return resolver(self.alias)(ref)

    def _calls(self, roots: list[str]) -> Iterator[tuple[Node, str]]:
        for name in self.graph.ancestors(roots, control=True):
            node = self.graph.nodes[name]
            if function := self.function_of(node):
                yield node, function

    def _drop_dangling_control(self, gone: set[str]) -> None:
        for node in self.graph.nodes.values():
            if any(ref[1:] in gone for ref in node.input if ref.startswith("^")):
                kept = [ref for ref in node.input if not (ref.startswith("^") and ref[1:] in gone)]
                del node.input[:]
                node.input.extend(kept)


class _Scope:
    """One expansion: names of the body inside the caller's graph."""

    def __init__(self, graph: TfGraph, call: Node, body: Any, inputs: list[str], gone: set[str]) -> None:
        self.graph = graph
        self.gone = gone
        self.call = call
        self.body = body
        self.arguments = {arg.name: ref for arg, ref in zip(body.signature.input_arg, inputs, strict=True)}
        self.names: dict[str, str] = {}
        self.members = {node.name: node for node in body.node_def}

    def add_body(self) -> list[str]:
        from tensorflow.core.framework import node_def_pb2

        for name in self.members:
            self.names[name] = self._name(name)
        control = [f"^{name}" for name in control_inputs(self.call)]
        for old in self.body.node_def:
            node = node_def_pb2.NodeDef()
            node.CopyFrom(old)
            node.name = self.names[old.name]
            inputs = [self.translate(ref) for ref in old.input]
            del node.input[:]
            node.input.extend(ref for ref in inputs if ref)
            if not data_inputs(node):
                node.input.extend(control)  # a constant of a branch is dead when the branch is
            self._bind_attributes(node)
            self.graph.nodes[node.name] = node
        return list(self.names.values())

    def _name(self, name: str) -> str:
        if name not in self.graph.nodes and name not in self.gone:
            return name
        return self.graph.unique(f"{self.call.name}/{name}")

    def _bind_attributes(self, node: Node) -> None:
        for key in list(node.attr):
            value = node.attr[key]
            if value.WhichOneof("value") == "placeholder" and value.placeholder in self.call.attr:
                value.CopyFrom(self.call.attr[value.placeholder])

    def translate(self, ref: str) -> str:
        """A body reference (`arg`, `node:out:0`, `^node`) in the caller's graph; '' for a lost one."""
        if ref.startswith("^"):
            name = ref[1:]
            return f"^{self.names[name]}" if name in self.names else ""
        parts = ref.split(":")
        if parts[0] in self.arguments and parts[0] not in self.names:
            return self.arguments[parts[0]]
        if parts[0] not in self.members:
            raise CorruptModel(
                f"The function {self.body.signature.name!r} reads {ref!r}, which it does not define.",
                code="dangling_reference",
                layer=self.call.name,
            )
        index = int(parts[2]) if len(parts) == 3 else 0
        if len(parts) == 2 and parts[1].isdigit():
            return join(self.names[parts[0]], int(parts[1]))
        offset = output_offset(self.graph, self.members[parts[0]], parts[1]) if len(parts) > 1 else 0
        return join(self.names[parts[0]], offset + index)


def output_offset(graph: TfGraph, node: Node, output: str) -> int:
    """Flat index of the first tensor of a node's named output."""
    if node.op in graph.library:
        names = [arg.name for arg in graph.library[node.op].signature.output_arg]
        return names.index(output) if output in names else 0
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(node.op)
    offset = 0
    for argument in definition.output_arg if definition is not None else ():
        if argument.name == output:
            return offset
        if argument.number_attr:
            offset += node.attr[argument.number_attr].i
        elif argument.type_list_attr:
            offset += len(node.attr[argument.type_list_attr].list.type)
        else:
            offset += 1
    return 0


def branch(node: Node, predicate: Any) -> tuple[str, list[str]] | None:
    """`(function, inputs)` that If/Case takes for a known predicate, or None where it cannot be told."""
    inputs = data_inputs(node)
    if node.op in ("If", "StatelessIf"):
        key = "then_branch" if _truth(predicate) else "else_branch"
        return str(node.attr[key].func.name), inputs[1:]
    if node.op in ("Case", "StatelessCase"):
        functions = node.attr["branches"].list.func
        index = int(predicate)
        index = index if 0 <= index < len(functions) else len(functions) - 1
        return str(functions[index].name), inputs[1:]
    return None


def _truth(value: Any) -> bool:
    # TensorFlow's If takes any tensor: a scalar's value, else "not empty"
    return bool(value.reshape(-1)[0]) if value.ndim == 0 or value.size == 1 else value.size > 0


def parent(ref: str) -> str:
    """Node name of a reference."""
    return split(ref)[0]
