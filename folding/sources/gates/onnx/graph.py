"""Check the graphs of a model: declared values, nodes, attributes, loops, and sizes made of constants."""

from __future__ import annotations

from typing import Any, Final

from folding.ir.topological import sort_nodes
from folding.sources.gates.limits import Limits, corrupt, refuse, shown
from folding.sources.gates.onnx.constants import MAKERS, Scope, elements_made, remember
from folding.sources.gates.onnx.tensors import TensorCheck
from folding.sources.gates.onnx.walk import subgraphs

_AGAIN: Final = "Export the model again."
# Attributes that count a node's own inputs or outputs. Shape inference allocates by them before it compares.
_COUNTS: Final = {("Split", "num_outputs"): "output", ("Scan", "num_scan_inputs"): "input"}


class GraphCheck:
    """Check every graph of one model; `total` counts the nodes met so far."""

    def __init__(self, limits: Limits, tensors: TensorCheck) -> None:
        self.limits, self.tensors = limits, tensors
        self.total = 0
        self.made = 0  # elements that nodes make from constants

    def graph(self, graph: Any, scope: Scope) -> None:
        """A graph and everything in it."""
        if scope.depth > self.limits.subgraph_depth:
            refuse(
                "unsafe_subgraph_depth", f"Graph {shown(graph.name)!r} nests {scope.depth} bodies deep.",
                name=graph.name, limit=self.limits.subgraph_depth, hint="Flatten nested If and Loop bodies.",
            )  # fmt: skip
        for value in graph.input:
            self._declared(value, "input")
        for value in [*graph.output, *graph.value_info]:
            self._declared(value, "value")
        inner = Scope(dict(scope.constants), dict(scope.sizes), scope.trips, scope.depth)
        names: set[str] = set()
        for tensor in graph.initializer:
            if tensor.name in names:
                corrupt(f"Two initializers are called {shown(tensor.name)!r}.", name=tensor.name)
            names.add(tensor.name)
            self.tensors.tensor(tensor, tensor.name, detached=scope.depth == 0)
            remember(tensor.name, tensor, inner)
        for sparse in graph.sparse_initializer:
            self.tensors.sparse(sparse)
        self.nodes(graph.node, inner, where=graph.name)

    def _declared(self, value: Any, role: str) -> None:
        if len(value.name) > self.limits.name_bytes:
            refuse(
                "unsafe_name",
                f"An {role} has a name of {len(value.name)} bytes.",
                name=value.name,
                hint=_AGAIN,
            )
        if not value.type.HasField("tensor_type"):
            return
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim if d.HasField("dim_value")]
        if any(dim < -1 for dim in dims):  # -1 is how some exporters write a dynamic dimension
            corrupt(f"The {role} {shown(value.name)!r} declares a negative dimension.", name=value.name)
        limit = self.limits.input_elements if role == "input" else self.limits.tensor_elements
        self.tensors.dims(value.name, dims, limit, positive=False)

    def nodes(self, nodes: Any, scope: Scope, *, where: str) -> None:
        """Every node of a body, in topological order, so that constants are known before they are read."""
        self.total += len(nodes)
        if self.total > self.limits.nodes:
            refuse(
                "unsafe_graph_size", f"The model has more than {self.limits.nodes} nodes.", name=where,
                limit=self.limits.nodes, hint="Export the inference graph only.",
            )  # fmt: skip
        for node in sort_nodes(nodes) or nodes:
            self._node(node, scope)

    def _node(self, node: Any, scope: Scope) -> None:
        label = node.name or (node.output[0] if node.output else node.op_type)
        for text in (node.name, node.op_type, *node.input, *node.output):
            if len(text) > self.limits.name_bytes:
                refuse("unsafe_name", f"A node has a name of {len(text)} bytes.", name=text, hint=_AGAIN)
        for attribute in node.attribute:
            self._attribute(attribute, label)
            self._count(node, attribute, label)
        if node.op_type == "Constant" and node.output:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    remember(node.output[0], attribute.t, scope)
                elif attribute.name in ("value_int", "value_ints"):
                    values = [attribute.i] if attribute.name == "value_int" else list(attribute.ints)
                    scope.constants[node.output[0]] = values[:64]
        trips = scope.trips * self._trips(node, scope, label)
        if trips > self.limits.loop_total_trips:
            self._refuse_trips(label, trips, self.limits.loop_total_trips)
        self._growth(node, scope, label)
        for graph in subgraphs(node):
            inner = Scope(scope.constants, scope.sizes, max(1, trips), scope.depth + 1)
            self.graph(graph, inner)

    def _attribute(self, attribute: Any, label: str) -> None:
        count = max(map(len, (attribute.floats, attribute.ints, attribute.strings)))
        if count > 64 * self.limits.attribute_items:
            refuse(
                "unsafe_attribute",
                f"Attribute {shown(attribute.name)!r} of {shown(label)!r} has {count} items.", name=label,
                limit=64 * self.limits.attribute_items, hint=_AGAIN,
            )  # fmt: skip
        for tensor in [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]:
            self.tensors.tensor(tensor, f"{label}.{attribute.name}")
        for sparse in [*([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
                       *attribute.sparse_tensors]:  # fmt: skip
            self.tensors.sparse(sparse)

    def _count(self, node: Any, attribute: Any, label: str) -> None:
        side = _COUNTS.get((node.op_type, attribute.name))
        if side is None or attribute.ref_attr_name:
            return
        if not 0 < attribute.i <= len(getattr(node, side)):
            corrupt(
                f"Node {shown(label)!r} ({node.op_type}) has {len(getattr(node, side))} {side}s, and its "
                f"{attribute.name} is {attribute.i}.",
                name=label, code="malformed_model", hint=_AGAIN,
            )  # fmt: skip

    def _trips(self, node: Any, scope: Scope, label: str) -> int:
        if node.op_type != "Loop" or not node.input or not node.input[0]:
            return 1
        values = scope.constants.get(node.input[0])
        if not values:
            return 1
        if values[0] > self.limits.loop_trips:
            self._refuse_trips(label, values[0], self.limits.loop_trips)
        return max(1, values[0])

    def _refuse_trips(self, label: str, trips: int, limit: int) -> None:
        refuse(
            "unsafe_loop", f"Loop {shown(label)!r} runs {trips} times; at most {limit} may be.", name=label,
            limit=limit, hint="Take the trip count from an input, or use a smaller one.",
        )  # fmt: skip

    def _growth(self, node: Any, scope: Scope, label: str) -> None:
        """Nodes that make much out of constants: the runtimes fold them while loading."""
        size = elements_made(node, scope)
        if size is None or not node.output:
            return
        limit = max(self.limits.computed_total, self.tensors.stored)  # what is stored may be handed on
        self.made += size if node.op_type in MAKERS else 0
        if max(size, self.made) > limit:
            together = "" if size > limit else f", {self.made} together with the nodes before it"
            refuse(
                "unsafe_expansion",
                f"Node {shown(label)!r} ({shown(node.op_type)}) makes {size} elements out of constants"
                f"{together}.",
                name=label, limit=limit,
                hint="Compute the value from the input's shape, or use a smaller size.",
            )  # fmt: skip
        scope.sizes[node.output[0]] = size
