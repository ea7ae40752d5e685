"""What a traced function captured, as tensors of the SavedModel's main graph.

Given:  bound_inputs [3, 5];  object 3 is the variable that the bundle keeps as `w/.ATTRIBUTES/VARIABLE_VALUE`
Result: [the VarHandleOp that the restore function fills from that key, ...]

A variable's key is found by walking the object graphs of the SavedModel and of its bundle in step, by the
names of children. Constants and assets name their nodes; a table is known by the name under which it is
shared.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from folding.errors import CorruptModel, UnsupportedModel
from folding.sources.gates.limits import shown
from folding.sources.tensorflow.graph.program import Program, Slot, Weights
from folding.sources.tensorflow.graph.tf_graph import TfGraph, split
from folding.sources.tensorflow.rewrite.lookup_tables import TABLES, table_name

_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "VARIABLE_VALUE"
_STRING = 7  # DT_STRING


class Captures:
    """Resolves ids of captured objects."""

    def __init__(self, meta: Any, program: Program) -> None:
        """Reads the bundle's object graph. Raises CorruptModel `corrupt_checkpoint`."""
        self.objects = meta.object_graph_def
        self.assets = meta.asset_file_def
        self.graph = program.graph
        self.handles = {slot.key: name for name, slot in program.slots.items() if not slot.slice_spec}
        self.keys = _keys(self.objects, program.weights)
        self.tables: dict[str, list[str]] = {}
        for node in _tables(self.graph.nodes.values()):
            self.tables.setdefault(table_name(node), []).append(node.name)
        self._shared = cache(self._names)

    def tensor(self, index: int, function: str) -> str:
        """The node that holds the object's tensor.

        Raises:
            CorruptModel: `dangling_reference`, `missing_variables`.
            UnsupportedModel: `unsupported_resource`.
        """
        if not 0 <= index < len(self.objects.nodes):
            raise _dangling(function, f"the object {index}, of {len(self.objects.nodes)}")
        held = self.objects.nodes[index]
        kind = held.WhichOneof("kind")
        if kind == "variable":
            return self._variable(index, held.variable, function)
        if kind == "constant":
            return self._constant(held.constant.operation, function)
        if kind == "asset":
            return self._asset(held.asset.asset_file_def_index, function)
        if kind == "resource":
            return self._table(held, function)
        raise UnsupportedModel(
            f"The function {shown(function)!r} captures an object of the kind {kind!r}, not a tensor.",
            code="unsupported_resource",
            layer=shown(function),
            hint="Save the model with a function over tensors, variables, constants and lookup tables.",
        )

    def _variable(self, index: int, variable: Any, function: str) -> str:
        name = self.handles.get(self.keys.get(index, ""))
        if name is None:
            raise CorruptModel(
                f"The function {shown(function)!r} reads the variable {shown(variable.name)!r}, and the "
                "bundle does not say where its value lies.",
                code="missing_variables",
                layer=shown(variable.name),
                hint="Save the model again, with its variables.",
            )
        return name

    def _constant(self, name: str, function: str) -> str:
        node = self.graph.nodes.get(name)
        if node is None or node.op != "Const":
            raise _dangling(function, f"the constant {shown(name)!r}")
        return name

    def _asset(self, index: int, function: str) -> str:
        name = self.assets[index].tensor_info.name if 0 <= index < len(self.assets) else ""
        name = name.removesuffix(":0")
        node = self.graph.nodes.get(name)
        if node is None or node.op != "Const" or node.attr["dtype"].type != _STRING:
            raise _dangling(function, f"the asset {index}")
        return name

    def _table(self, held: Any, function: str) -> str:
        """By the shared name in the function that makes it: the main graph makes its table alike."""
        shared = {name for function in self._makers(held) for name in self._shared(function)}
        found = [node for name in shared for node in self.tables.get(name, ())]
        if len(shared) != 1 or len(found) != 1:
            raise UnsupportedModel(
                f"The function {shown(function)!r} captures a resource that is no lookup table of the graph.",
                code="unsupported_resource",
                layer=shown(function),
                hint="Lookup tables with constant contents are taken; other resources have no ONNX form.",
            )
        return found[0]

    def _makers(self, held: Any) -> set[str]:
        """Functions that create a resource."""
        made = [child.node_id for child in held.children if child.local_name == "_create_resource"]
        return {name for index in made for name in self.objects.nodes[index].function.concrete_functions}

    def _names(self, function: str) -> frozenset[str]:
        """Names of the tables that a function makes."""
        body = self.graph.library.get(function)
        return frozenset() if body is None else frozenset(map(table_name, _tables(body.node_def)))


def own_handles(meta: Any, program: Program) -> None:
    """Variables that the graph holds twice, as Keras 3 writes them: their own handles get the copies' slots.

    Given:  copy = VarHandleOp, filled from the key k, first set to the value of h;  k is an object called h
    Result: h is filled from k too
    """
    graph, slots = program.graph, program.slots
    if all(node.op != "VarHandleOp" or node.name in slots for node in graph.nodes.values()):
        return
    copies = {slot.key: name for name, slot in slots.items() if not slot.slice_spec}
    first = _first_values(graph)
    for index, key in _keys(meta.object_graph_def, program.weights).items():
        name = meta.object_graph_def.nodes[index].variable.name
        if name not in slots and key in copies and first.get(copies[key]) == name:
            slots[name] = Slot(key)


def _first_values(graph: TfGraph) -> dict[str, str]:
    """Handle -> the handle whose value it is set to in the graph itself."""
    found = {}
    for node in graph.nodes.values():
        reader = graph.nodes.get(split(node.input[1])[0]) if len(node.input) > 1 else None
        if node.op == "AssignVariableOp" and reader is not None and reader.op == "ReadVariableOp":
            source = graph.nodes.get(split(reader.input[0])[0]) if reader.input else None
            if source is not None and source.op == "VarHandleOp":
                found[split(node.input[0])[0]] = str(source.name)
    return found


def _tables(nodes: Any) -> list[Any]:
    return [node for node in nodes if node.op in TABLES]


def _dangling(function: str, what: str) -> CorruptModel:
    return CorruptModel(
        f"The function {shown(function)!r} captures {what}, which the SavedModel does not have.",
        code="dangling_reference",
        layer=shown(function),
        hint="The file was damaged, or cut after it was saved; export it again.",
    )


def _keys(objects: Any, weights: Weights) -> dict[int, str]:
    """Key of the bundle by id of the SavedModel's object."""
    if not objects.nodes or not weights.has(_OBJECTS):
        return {}
    tracked = _tracked(weights)
    keys: dict[int, str] = {}
    children = cache(lambda index: {each.local_name: each.node_id for each in tracked[index].children})
    seen = {0}
    stack = [(0, 0)]
    while stack:
        mine, theirs = stack.pop()
        for attribute in tracked[theirs].attributes:
            if attribute.name == _VALUE:
                keys[mine] = attribute.checkpoint_key
        for child in objects.nodes[mine].children:
            twin = children(theirs).get(child.local_name, -1)
            if child.node_id not in seen and 0 <= twin < len(tracked):
                seen.add(child.node_id)
                stack.append((child.node_id, twin))
    return keys


def _tracked(weights: Weights) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    message = trackable_object_graph_pb2.TrackableObjectGraph()
    held = weights.read(_OBJECTS)
    try:
        message.ParseFromString(held.item() if held.size == 1 else b"?")
    except (DecodeError, TypeError) as error:
        raise CorruptModel(
            "The bundle's object graph cannot be read.",
            code="corrupt_checkpoint",
            hint="Copy the variables/ folder again.",
        ) from error
    if not message.nodes:
        raise CorruptModel("The bundle's object graph has no objects.", code="corrupt_checkpoint")
    return message.nodes
