"""ONNX models, before the checker, shape inference or a runtime sees them.

The checker follows no calls and multiplies no dimensions: nested functions that expand to 10^9 nodes, a loop
of 2^40 trips and external data past the end of its file all pass it. This gate bounds them, refuses operator
sets that are not ours to run, and lets external data be only plain files of the upload.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np

from folding.errors import UnsupportedModel
from folding.ir import protobuf_wire
from folding.ir.topological import sort_nodes
from folding.sources.gates.function_calls import check_expansion
from folding.sources.gates.limits import LIMITS, Limits, corrupt, refuse, shown
from folding.sources.gates.onnx_text import check_text

_DOMAINS: Final = frozenset(
    ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", "ai.onnx.training",
     "com.microsoft", "com.microsoft.nchwc")
)  # fmt: skip
# Operators of ONNX Runtime's own that run Python or PyTorch, or load compiled code from a file.
_HARMFUL: Final = frozenset(
    ("PythonOp", "PythonOpGrad", "ATen", "ATenOp", "EPContext", "ExternalGradient", "YieldOp")
)
# TensorProto.DataType -> bits of one element in raw_data
_BITS: Final = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128,
    16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
# TensorProto.DataType -> where values are stored that are not raw, elements in one of them, values for one
_FIELDS: Final = {
    1: ("float_data", 1, 1), 14: ("float_data", 1, 2), 11: ("double_data", 1, 1), 15: ("double_data", 1, 2),
    7: ("int64_data", 1, 1), 12: ("uint64_data", 1, 1), 13: ("uint64_data", 1, 1), 8: ("string_data", 1, 1),
    **dict.fromkeys((2, 3, 4, 5, 6, 9, 10, 16, 17, 18, 19, 20, 24), ("int32_data", 1, 1)),
    **dict.fromkeys((21, 22, 23), ("int32_data", 2, 1)), **dict.fromkeys((25, 26), ("int32_data", 4, 1)),
}  # fmt: skip
# Operators whose result may be far larger than the constants that decide its size.
_MAKERS: Final = frozenset(
    ("ConstantOfShape", "Expand", "Tile", "Range", "OneHot", "Pad", "RandomNormal", "RandomUniform")
)
_EXTERNAL: Final = 1
_AGAIN: Final = "Export the model again."
Key = tuple[str, str, str]


@dataclass
class _Scope:
    """Constants visible in a graph body, and how often an enclosing constant loop runs it."""

    constants: dict[str, list[int]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    trips: int = 1
    depth: int = 0


def check_onnx(path: Path, root: Path | None = None, limits: Limits = LIMITS) -> None:
    """Check the model at `path`; its external data must lie below `root` (default: its own folder).

    Raises: UnsafeModel (codes `unsafe_*`), CorruptModel.
    """
    model, payloads = _parse(path)
    functions = {_key(f.domain, f.name, f): f for f in model.functions}
    if len(functions) != len(model.functions):
        corrupt("Two functions of the model have one name.")
    if len(functions) > limits.functions:
        refuse(
            "unsafe_graph_size",
            f"The model has {len(functions)} functions; at most {limits.functions} are read.",
            limit=limits.functions, hint=_AGAIN,
        )  # fmt: skip
    _check_domains(model, functions)
    _check_calls(model, functions)
    check = _Check(limits, functions, path.parent, root or path.parent, payloads)
    check.graph(model.graph, _Scope())
    for key, function in functions.items():
        check.nodes(function.node, _Scope(), where=key[1])
    calls = {key: check.calls_of(function.node) for key, function in functions.items()}
    own = {key: check.count_of(function.node) for key, function in functions.items()}
    text = {key: "::".join(part for part in key if part) for key in functions}
    check_expansion(
        {text[k]: [text[c] for c in called] for k, called in calls.items()},
        {text[k]: count for k, count in own.items()},
        [text[c] for c in check.calls_of(model.graph.node)],
        check.count_of(model.graph.node),
        limits,
    )


def _parse(path: Path) -> tuple[Any, dict[str, int]]:
    """The model without its large weights, and how many bytes each of those has."""
    import mmap

    import onnx
    from google.protobuf.message import DecodeError

    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            view = memoryview(data)
            try:
                detached = protobuf_wire.detach(view)
            finally:
                view.release()
        model = onnx.ModelProto()
        model.ParseFromString(detached.skeleton)
        check_text(model, detached.skeleton)
    except (protobuf_wire.WireError, DecodeError, ValueError, RecursionError) as error:
        corrupt(f"{shown(path.name)!r} is no complete ONNX model: {shown(error)}.", name=path.name)
    return model, {name: length for name, (_, length) in detached.payloads.items()}


def _key(domain: str, name: str, item: Any) -> Key:
    overload = getattr(item, "overload", "")
    return ("" if domain == "ai.onnx" else domain, name, overload)


def _check_domains(model: Any, functions: dict[Key, Any]) -> None:
    own = {domain for domain, _, _ in functions}
    for entry in [*model.opset_import, *(e for f in functions.values() for e in f.opset_import)]:
        if len(entry.domain) > LIMITS.name_bytes:
            refuse("unsafe_name", "An operator set has a very long name.", name=entry.domain, hint=_AGAIN)
    for node in _all_nodes([model.graph.node, *(f.node for f in functions.values())]):
        if node.domain not in _DOMAINS and node.domain not in own:
            raise UnsupportedModel(
                f"Node {shown(node.name)!r} ({shown(node.op_type)}) is of operator set "
                f"{shown(node.domain)!r}, which only a library from elsewhere could run.",
                code="unknown_op", stage="read", layer=shown(node.name or node.op_type),
                hint="Export with standard operators, or with the operator as a model-local function.",
            )  # fmt: skip
        if node.op_type in _HARMFUL and node.domain in ("com.microsoft", "org.pytorch.aten"):
            refuse(
                "unsafe_op",
                f"Node {shown(node.name)!r} is a {node.op_type}, which runs code from outside the model.",
                name=node.name or node.op_type, op=node.op_type, hint="Export with standard operators.",
            )  # fmt: skip


def _check_calls(model: Any, functions: dict[Key, Any]) -> None:
    """No call has more inputs or outputs than its function: the checker does not count them."""
    for node in _all_nodes([model.graph.node, *(f.node for f in functions.values())]):
        function = functions.get(_key(node.domain, node.op_type, node))
        if function is None:
            continue
        for role in ("input", "output"):
            given, known = len(getattr(node, role)), len(getattr(function, role))
            if given > known:
                corrupt(
                    f"Node {shown(node.name)!r} calls {shown(node.op_type)!r} with {given} {role}s; it has "
                    f"{known}.",
                    name=node.name or node.op_type,
                )


def _all_nodes(bodies: Iterable[Any]) -> Iterator[Any]:
    pending = [node for body in bodies for node in body]
    while pending:
        node = pending.pop()
        yield node
        for graph in _subgraphs(node):
            pending.extend(graph.node)


def _subgraphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


class _Check:
    def __init__(
        self, limits: Limits, functions: dict[Key, Any], folder: Path, root: Path, payloads: dict[str, int]
    ) -> None:
        self.limits, self.functions, self.folder, self.root = limits, functions, folder, root.resolve()
        self.payloads = payloads
        self.total = 0
        self.stored = 0  # elements that the model stores
        self.made = 0  # elements that its nodes make from constants

    # --- graphs ------------------------------------------------------------------------------------

    def graph(self, graph: Any, scope: _Scope) -> None:
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
        inner = _Scope(dict(scope.constants), dict(scope.sizes), scope.trips, scope.depth)
        names: set[str] = set()
        for tensor in graph.initializer:
            if tensor.name in names:
                corrupt(f"Two initializers are called {shown(tensor.name)!r}.", name=tensor.name)
            names.add(tensor.name)
            self.tensor(tensor, tensor.name, detached=scope.depth == 0)
            self._remember(tensor.name, tensor, inner)
        for sparse in graph.sparse_initializer:
            self._sparse(sparse)
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
        self._dims(value.name, dims, limit, positive=False)

    def _dims(self, name: str, dims: list[int], limit: int, *, positive: bool = True) -> int:
        if len(dims) > self.limits.tensor_rank:
            self._too_large(name, f"has rank {len(dims)}", self.limits.tensor_rank)
        if positive and any(d < 0 for d in dims):
            corrupt(f"{shown(name)!r} declares a negative dimension.", name=name)
        elements = math.prod(max(1, d) for d in dims)
        if elements > limit:
            self._too_large(name, f"declares {elements} elements", limit)
        return math.prod(max(0, d) for d in dims)

    def _too_large(self, name: str, what: str, limit: int) -> None:
        refuse(
            "unsafe_dimensions", f"{shown(name)!r} {what}; at most {limit} may be.", name=name, limit=limit,
            hint="Make the dimension dynamic, or use smaller ones.",
        )  # fmt: skip

    # --- tensors -----------------------------------------------------------------------------------

    def tensor(self, tensor: Any, name: str, *, detached: bool = False) -> None:
        """Declared dimensions against stored values."""
        elements = self._dims(name, list(tensor.dims), self.limits.tensor_elements)
        self._values(tensor, name, elements, detached=detached)
        self.stored += elements

    def _values(self, tensor: Any, name: str, elements: int, *, detached: bool) -> None:
        if tensor.data_location == _EXTERNAL or tensor.external_data:
            self._external(tensor, name, elements)
            return
        bits = _BITS.get(tensor.data_type, 0)
        raw = self.payloads.get(name, len(tensor.raw_data)) if detached else len(tensor.raw_data)
        if raw:
            if not bits:
                corrupt(f"{shown(name)!r} has raw data and no element type for it.", name=name)
            if raw != -(-elements * bits // 8):
                corrupt(f"{shown(name)!r} stores {raw} bytes for {elements} elements.", name=name)
            return
        field, each, values = _FIELDS.get(tensor.data_type, ("", 1, 1))
        if not field:
            corrupt(f"{shown(name)!r} is of no element type that is known.", name=name)
        stored, wanted = len(getattr(tensor, field)), -(-elements // each) * values
        if elements and stored != wanted:
            corrupt(
                f"{shown(name)!r} stores {stored} values in {field} for {elements} elements, not {wanted}.",
                name=name,
            )

    def _sparse(self, sparse: Any) -> None:
        name = sparse.values.name
        elements = self._dims(name, list(sparse.dims), self.limits.splat_elements)
        self.tensor(sparse.values, name)
        self.tensor(sparse.indices, name + " (indices)")
        if elements < 0:
            corrupt(f"{shown(name)!r} has no dense shape.", name=name)

    def _external(self, tensor: Any, name: str, elements: int) -> None:
        """A plain file of the upload, and a range inside it."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        file = self._external_file(location, name)
        try:
            offset, length = int(entries.get("offset", "0") or 0), int(entries.get("length", "-1") or -1)
        except ValueError:
            corrupt(f"{shown(name)!r} has an offset or length that is no number.", name=name)
        size = file.stat().st_size
        length = size - offset if length < 0 and "length" not in entries else length
        if offset < 0 or length < 0:
            refuse(
                "unsafe_external_data",
                f"{shown(name)!r} asks for {length} bytes at {offset} of {shown(location)!r}.", name=name,
                hint="Save the model again with its external data.",
            )  # fmt: skip
        if offset + length > size:
            corrupt(
                f"{shown(name)!r} lies at bytes {offset}..{offset + length} of {shown(location)!r}, which "
                f"has {size}: it is cut short, or belongs to another model.",
                name=name, code="external_data_out_of_range",
                hint="Copy the data file again, from the same save as the .onnx file, and compare the sizes.",
            )  # fmt: skip
        bits = _BITS.get(tensor.data_type, 0)
        if not bits or length < -(-elements * bits // 8):
            corrupt(
                f"{shown(name)!r} stores {length} bytes for {elements} elements.", name=name,
                code=None if "length" in entries else "external_data_out_of_range",
                hint="The data file is cut short, or belongs to another model.",
            )  # fmt: skip

    def _external_file(self, location: str, name: str) -> Path:
        parts = location.split("/")
        if not location or location.startswith("/") or ".." in parts or "\\" in location or "\0" in location:
            self._refuse_location(location, name, "is no plain relative path")
        if "*" in parts:  # onnxruntime's own notation for an address in memory
            self._refuse_location(location, name, "is no name of a file")
        path = self.folder / location
        for folder in path.relative_to(self.folder).parents:
            if folder != Path(".") and (self.folder / folder).is_symlink():
                self._refuse_location(location, name, "lies behind a link")
        try:
            info = os.lstat(path)
        except FileNotFoundError:
            self._missing(location, name)
        except (OSError, ValueError):
            self._refuse_location(location, name, "is not among the uploaded files")
        if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
            self._refuse_location(location, name, "is a link, or no regular file")
        if (
            not path.resolve().is_relative_to(self.root)
            or path.resolve() != path.parent.resolve() / path.name
        ):
            self._refuse_location(location, name, "lies outside the upload")
        return path

    def _missing(self, location: str, name: str) -> NoReturn:
        """Not an attack: a file that was left behind, or renamed."""
        corrupt(
            f"{shown(name)!r} is stored in {shown(location)!r}, which is not beside the model.",
            name=name, code="external_data_missing",
            hint=f"Put {shown(location)!r} beside the .onnx file, under just that name; to upload, send the "
            "folder or an archive of both.",
        )  # fmt: skip

    def _refuse_location(self, location: str, name: str, why: str) -> None:
        refuse(
            "unsafe_external_data", f"The external data {shown(location)!r} of {shown(name)!r} {why}.",
            name=name, location=shown(location),
            hint="Put the model and its data files into one folder or archive.",
        )  # fmt: skip

    # --- nodes -------------------------------------------------------------------------------------

    def nodes(self, nodes: Any, scope: _Scope, *, where: str) -> None:
        """Every node of a body, in topological order, so that constants are known before they are read."""
        self.total += len(nodes)
        if self.total > self.limits.nodes:
            refuse(
                "unsafe_graph_size", f"The model has more than {self.limits.nodes} nodes.", name=where,
                limit=self.limits.nodes, hint="Export the inference graph only.",
            )  # fmt: skip
        for node in sort_nodes(nodes) or nodes:
            self._node(node, scope)

    def _node(self, node: Any, scope: _Scope) -> None:
        label = node.name or (node.output[0] if node.output else node.op_type)
        for text in (node.name, node.op_type, *node.input, *node.output):
            if len(text) > self.limits.name_bytes:
                refuse("unsafe_name", f"A node has a name of {len(text)} bytes.", name=text, hint=_AGAIN)
        for attribute in node.attribute:
            self._attribute(attribute, label)
        if node.op_type == "Constant" and node.output:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    self._remember(node.output[0], attribute.t, scope)
                elif attribute.name in ("value_int", "value_ints"):
                    values = [attribute.i] if attribute.name == "value_int" else list(attribute.ints)
                    scope.constants[node.output[0]] = values[:64]
        trips = scope.trips * self._trips(node, scope, label)
        if trips > self.limits.loop_total_trips:
            self._refuse_trips(label, trips, self.limits.loop_total_trips)
        self._growth(node, scope, label)
        for graph in _subgraphs(node):
            inner = _Scope(scope.constants, scope.sizes, max(1, trips), scope.depth + 1)
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
            self.tensor(tensor, f"{label}.{attribute.name}")
        for sparse in [*([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
                       *attribute.sparse_tensors]:  # fmt: skip
            self._sparse(sparse)

    def _trips(self, node: Any, scope: _Scope, label: str) -> int:
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

    def _remember(self, name: str, tensor: Any, scope: _Scope) -> None:
        elements = math.prod(max(0, d) for d in tensor.dims)
        scope.sizes[name] = elements
        if elements <= 64 and tensor.data_location != _EXTERNAL and tensor.data_type in (6, 7):
            width = np.int32 if tensor.data_type == 6 else np.int64
            if tensor.raw_data:
                values = np.frombuffer(tensor.raw_data, width)[:elements].tolist()
            else:
                values = list(tensor.int32_data if tensor.data_type == 6 else tensor.int64_data)
            scope.constants[name] = values

    def _growth(self, node: Any, scope: _Scope, label: str) -> None:
        """Nodes that make much out of constants: the runtimes fold them while loading."""
        size = self._grown(node, scope)
        if size is None or not node.output:
            return
        limit = max(self.limits.computed_total, self.stored)  # what is stored may be handed on
        self.made += size if node.op_type in _MAKERS else 0
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

    def _grown(self, node: Any, scope: _Scope) -> int | None:
        inputs = list(node.input)
        constant = [scope.constants.get(name) for name in inputs]
        sizes = [scope.sizes.get(name) for name in inputs]
        op = node.op_type
        if op == "ConstantOfShape" and constant and constant[0] is not None:
            return math.prod(max(0, d) for d in constant[0])
        if op == "Expand" and len(inputs) > 1 and constant[1] is not None:
            return max(sizes[0] or 1, math.prod(max(1, d) for d in constant[1]))
        if op == "Tile" and len(inputs) > 1 and constant[1] is not None and sizes[0] is not None:
            return sizes[0] * math.prod(max(0, t) for t in constant[1])
        if op == "Range" and len(inputs) == 3 and all(constant):
            start, stop, step = (values[0] for values in constant if values)
            return abs((stop - start) // step) if step else None
        if op == "OneHot" and len(inputs) > 1 and constant[1] and sizes[0] is not None:
            return sizes[0] * max(0, constant[1][0])
        if op == "Pad" and len(inputs) > 1 and constant[1]:
            return max(0, *constant[1])
        if op in ("RandomNormal", "RandomUniform"):
            shape = [list(a.ints) for a in node.attribute if a.name == "shape"]
            return math.prod(max(0, d) for d in shape[0]) if shape else None
        if op in ("Concat", "Add", "Mul", "Sub", "Identity", "Reshape") and inputs and None not in sizes:
            held = [size for size in sizes if size is not None]
            return sum(held) if op == "Concat" else max(held)
        return None

    # --- calls -------------------------------------------------------------------------------------

    def calls_of(self, nodes: Any) -> list[Key]:
        """Model-local functions that the nodes, and the bodies inside them, call."""
        keys = (_key(node.domain, node.op_type, node) for node in _all_nodes([nodes]))
        return [key for key in keys if key in self.functions]

    def count_of(self, nodes: Any) -> int:
        """Nodes, those of bodies included."""
        return sum(1 for _ in _all_nodes([nodes]))
