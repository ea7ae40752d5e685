"""TensorFlow graphs and function libraries, before TensorFlow sees them.

`check_graphdef` looks at a graph as its file tells it: sizes, names, declared shapes against stored bytes,
calls (which must form a shallow DAG whose inlining stays bounded), and operations that reach outside.
`check_inference` looks at what the surgery left, which is all that TensorFlow and tf2onnx are given: only
operations of `tf_ops.INFERENCE`, whatever the file's rest was.

Protobufs are taken as messages or as bytes; a message is any object with TensorFlow's field names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, Literal

from folding.errors import UnsupportedModel
from folding.sources.gates import operation_hints, tf_ops
from folding.sources.gates.function_calls import check_calls, reachable, reachable_functions
from folding.sources.gates.graph_growth import check_growth, initial_values
from folding.sources.gates.limits import LIMITS, Limits, corrupt, refuse, shown

Purpose = Literal["frozen", "serving", "training"]
_OWN: Final = "Re-export the model for inference without this operation (freeze it, or name earlier outputs)."

# DataType enum -> bytes of one element as stored in `tensor_content`
_BYTES: Final = {
    1: 4, 2: 8, 3: 4, 4: 1, 5: 2, 6: 1, 8: 8, 9: 8, 10: 1, 11: 1, 12: 1, 13: 4, 14: 2, 15: 2, 16: 2, 17: 2,
    18: 16, 19: 2, 22: 4, 23: 8, 24: 1, 25: 1,
}  # fmt: skip
_VALUES: Final = (
    "half_val", "float_val", "double_val", "int_val", "string_val", "scomplex_val", "int64_val", "bool_val",
    "dcomplex_val", "uint32_val", "uint64_val", "resource_handle_val", "variant_val",
)  # fmt: skip


def check_graphdef(graph: Any, limits: Limits = LIMITS, *, purpose: Purpose = "frozen") -> None:
    """Check a GraphDef (message or bytes). Raises UnsafeModel, CorruptModel.

    purpose: `frozen` allows no operation that reaches outside; `serving` also those of savers and lookup
    tables, `training` also input pipelines and summaries: both are cut off before anything runs.
    """
    if isinstance(graph, bytes | bytearray | memoryview):
        graph = _parse(bytes(graph))
    nodes = [*graph.node]
    library = _library(graph, limits)
    total = len(nodes) + sum(len(f.node_def) for f in library.values())
    if total > limits.nodes:
        refuse(
            "unsafe_graph_size", f"The graph has {total} nodes; at most {limits.nodes} are read.",
            limit=limits.nodes, hint="Export the inference graph only.",
        )  # fmt: skip
    seen: set[str] = set()
    for node in nodes:
        if node.name in seen:
            corrupt(f"Two nodes are called {shown(node.name)!r}.", name=node.name)
        seen.add(node.name)
    for where, body in _bodies(nodes, library):
        for node in body:
            _check_node(node, limits)
        spared = set() if purpose == "frozen" else initial_values(body)
        check_growth([node for node in body if node.name not in spared], where, limits)
    check_calls(nodes, library, limits)
    for node in nodes:
        _check_reach(node, "", purpose)
    if purpose == "frozen":
        check_functions(graph, purpose)


def check_functions(graph: Any, purpose: Purpose) -> None:
    """Check that no function which the graph's nodes reach reaches outside. Raises UnsafeModel `unsafe_op`.

    A SavedModel's library also holds what training and input pipelines ran. It is pruned to what the
    outputs reach first, as no other function is ever given to TensorFlow.
    """
    library = {f.signature.name: f for f in graph.library.function}
    for name in sorted(reachable_functions(graph.node, library)):
        for node in library[name].node_def:
            _check_reach(node, name, purpose)


def check_inference(graph: Any, limits: Limits = LIMITS) -> None:
    """Check the graph that TensorFlow is about to get.

    Raises: UnsafeModel; UnsupportedModel `unsupported_op`.
    """
    library = {f.signature.name: f for f in graph.library.function}
    unknown: dict[str, str] = {}
    check_growth([*graph.node], "", limits)
    for node in reachable(graph.node, library):
        if tf_ops.forbidden(node.op):
            _refuse_op(node, "")
        _check_signature(node)
        if node.op not in tf_ops.INFERENCE and node.op not in library:
            unknown.setdefault(node.op, node.name)
    if unknown:
        named = ", ".join(f"{shown(op)} ({shown(name)})" for op, name in sorted(unknown.items())[:6])
        raise UnsupportedModel(
            f"No ONNX form is known for {named}.",
            code="unsupported_op",
            layer=shown(next(iter(unknown.values()))),
            hint=operation_hints.hint(unknown),
            details={"ops": sorted(map(shown, unknown))[:100]},
        )


_KINDS: Final = {
    "type": "type", "int": "i", "float": "f", "bool": "b", "string": "s", "shape": "shape",
    "tensor": "tensor", "func": "func",
}  # fmt: skip


def _check_signature(node: Any) -> None:
    """A node against its operation's definition: grappler aborts the process over a missing attribute."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(node.op)
    if definition is None:
        return
    for attribute in definition.attr:
        held = node.attr[attribute.name].WhichOneof("value") if attribute.name in node.attr else None
        wanted = "list" if attribute.type.startswith("list(") else _KINDS.get(attribute.type, "")
        missing = held is None and not attribute.HasField("default_value")
        if missing or held not in (None, wanted, "placeholder"):
            corrupt(
                f"Node {shown(node.name)!r} ({shown(node.op)}) has no attribute {attribute.name!r} of kind "
                f"{attribute.type!r}.",
                name=node.name,
            )
    wanted_inputs = sum(_arity(node, argument) for argument in definition.input_arg)
    given = sum(not ref.startswith("^") for ref in node.input)
    if given != wanted_inputs:
        corrupt(
            f"Node {shown(node.name)!r} ({shown(node.op)}) has {given} inputs, not {wanted_inputs}.",
            name=node.name,
        )


def _arity(node: Any, argument: Any) -> int:
    if argument.number_attr:
        return int(node.attr[argument.number_attr].i)
    return len(node.attr[argument.type_list_attr].list.type) if argument.type_list_attr else 1


def _parse(data: bytes) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import graph_pb2

    graph = graph_pb2.GraphDef()
    try:
        graph.ParseFromString(data)
    except DecodeError as error:
        corrupt(f"The bytes are no GraphDef: {error}.")
    return graph


def _library(graph: Any, limits: Limits) -> dict[str, Any]:
    functions = [*graph.library.function]
    if len(functions) > limits.functions:
        refuse(
            "unsafe_graph_size",
            f"The graph has {len(functions)} functions; at most {limits.functions} are read.",
            limit=limits.functions,
            hint="Export the inference graph only.",
        )
    library = {f.signature.name: f for f in functions}
    if len(library) != len(functions):
        corrupt("Two functions of the library have one name.")
    return library


def _bodies(nodes: list[Any], library: dict[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    yield "", nodes
    for name, function in library.items():
        yield name, [*function.node_def]


# --- one node -------------------------------------------------------------------------------------


def _check_reach(node: Any, where: str, purpose: Purpose) -> None:
    if tf_ops.forbidden(node.op) and not _tolerated(node.op, purpose):
        _refuse_op(node, where)


def _check_node(node: Any, limits: Limits) -> None:
    for text in (node.name, node.op, node.device):
        if len(text) > limits.name_bytes:
            refuse(
                "unsafe_name", f"A node's name has {len(text)} characters; the limit is {limits.name_bytes}.",
                name=node.name, hint="Give the layer a shorter name.",
            )  # fmt: skip
    for key, value in node.attr.items():
        _check_attribute(node, key, value, limits)


def _tolerated(op: str, purpose: Purpose) -> bool:
    if purpose == "training":
        return op in tf_ops.TRAINING
    return purpose == "serving" and op in tf_ops.LOADING


def _refuse_op(node: Any, where: str) -> None:
    inside = f" in function {shown(where)!r}" if where else ""
    refuse(
        "unsafe_op",
        f"Node {shown(node.name)!r}{inside} is a {shown(node.op)}, which reaches outside the "
        "model (files, network, or code).",
        name=node.name,
        op=shown(node.op),
        hint=_OWN,
    )


def _check_attribute(node: Any, key: str, value: Any, limits: Limits) -> None:
    kind = value.WhichOneof("value")
    if kind == "shape":
        _check_dims(node, [dim.size for dim in value.shape.dim], limits)
    elif kind == "tensor":
        _check_tensor(node, value.tensor, limits)
    elif kind == "list":
        held = value.list
        count = max(map(len, (held.s, held.i, held.f, held.b, held.type, held.shape, held.tensor, held.func)))
        if count > limits.attribute_items:
            refuse(
                "unsafe_attribute", f"Attribute {shown(key)!r} of {shown(node.name)!r} has {count} items.",
                name=node.name, limit=limits.attribute_items, hint="Export the model again.",
            )  # fmt: skip
        for shape in held.shape:
            _check_dims(node, [dim.size for dim in shape.dim], limits)
        for tensor in held.tensor:
            _check_tensor(node, tensor, limits)


def _check_dims(node: Any, dims: list[int], limits: Limits) -> int:
    """Number of elements (unknown dimensions count once)."""
    if len(dims) > limits.tensor_rank:
        _refuse_dims(node, dims, f"has rank {len(dims)}", limits.tensor_rank)
    if any(dim < -1 for dim in dims):
        corrupt(f"Node {shown(node.name)!r} declares a negative dimension.", name=node.name)
    elements = math.prod(dim for dim in dims if dim >= 0)
    fixed = math.prod(max(1, dim) for dim in dims)
    if fixed > limits.tensor_elements:
        _refuse_dims(node, dims, f"has {fixed} elements", limits.tensor_elements)
    if node.op.startswith("Placeholder") and fixed > limits.input_elements:
        _refuse_dims(node, dims, f"is an input of {fixed} elements", limits.input_elements)
    return elements


def _refuse_dims(node: Any, dims: list[int], what: str, limit: int) -> None:
    refuse(
        "unsafe_dimensions",
        f"Node {shown(node.name)!r} {what}; at most {limit} may be.",
        name=node.name,
        dims=[int(dim) for dim in dims[:8]],
        limit=limit,
        hint="Make the dimension dynamic, or use smaller ones.",
    )


def _check_tensor(node: Any, tensor: Any, limits: Limits) -> None:
    """Stored bytes against declared shape; fewer values than elements is a splat, which gets inflated."""
    if tensor.tensor_shape.unknown_rank:
        corrupt(f"The constant {shown(node.name)!r} has no shape.", name=node.name)
    if any(dim.size < 0 for dim in tensor.tensor_shape.dim):
        corrupt(f"The constant {shown(node.name)!r} has a negative dimension.", name=node.name)
    elements = _check_dims(node, [dim.size for dim in tensor.tensor_shape.dim], limits)
    size = _BYTES.get(tensor.dtype % 100, 0)
    if tensor.tensor_content:
        stored = len(tensor.tensor_content) // size if size else elements
        if (size and stored * size != len(tensor.tensor_content)) or stored not in (elements, 1):
            corrupt(
                f"The constant {shown(node.name)!r} stores {len(tensor.tensor_content)} bytes for {elements} "
                "elements.",
                name=node.name,
            )
    else:
        stored = max(len(getattr(tensor, name)) for name in _VALUES)
    if elements > max(stored, limits.splat_elements):
        dims = [dim.size for dim in tensor.tensor_shape.dim]
        what = f"stores {stored} values for {elements} elements"
        _refuse_dims(node, dims, what, limits.splat_elements)
