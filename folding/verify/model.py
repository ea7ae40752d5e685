"""An ONNX file with its weights detached: variants of the graph that take weights and inner values as inputs.

Feeding weights instead of storing them makes a session over a 100 MB model open in milliseconds, shares
one copy of the arrays between all of them, and lets a run use other weights (noise, mutants) at no cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from folding.ir.types import Feeds
from folding.ort import OrtSession
from folding.sources.onnx import weights as onnx_weights

# Consumers that want a constant, or whose parameters are not weights: theirs stay in the graph.
CONSTANT_CONSUMERS = frozenset(
    {
        "Resize",
        "Upsample",
        "Pad",
        "Range",
        "OneHot",
        "Tile",
        "TopK",
        "Expand",
        "Reshape",
        "Slice",
        "Clip",
        "QuantizeLinear",
        "DequantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "Dropout",
        "NonMaxSuppression",
        "If",
        "Loop",
        "Scan",
        "SequenceMap",
        "RoiAlign",
    }
)
FLOATS: dict[int, type[np.floating[Any]]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
}
FORCED = "/forced"
FREE_INITIALIZERS = 4  # the IR version from which an initializer need not be listed as an input


@dataclass
class Loaded:
    """A model's structure and its floating-point weights.

    proto: the graph; the detached initializers are gone from it and appear in `weights` only.
    weights: name -> array as stored (views where possible).
    folder: where external data that stayed in the graph lies.
    """

    proto: onnx.ModelProto
    weights: Feeds
    folder: Path
    path: Path
    produced: dict[str, onnx.NodeProto] = field(default_factory=dict)

    @property
    def inputs(self) -> list[onnx.ValueInfoProto]:
        """Graph inputs that a caller must feed (initializers that are also inputs are not among them)."""
        stored = {t.name for t in self.proto.graph.initializer} | set(self.weights)
        return [v for v in self.proto.graph.input if v.name not in stored]

    @property
    def outputs(self) -> list[str]:
        """Graph outputs, in order."""
        return [v.name for v in self.proto.graph.output]

    def op_types(self) -> set[str]:
        """Operator types anywhere in the model, bodies and functions included."""
        nodes = list(all_nodes(self.proto.graph))
        for function in self.proto.functions:
            nodes.extend(function.node)
        return {node.op_type for node in nodes}

    def session(
        self, extra_outputs: Sequence[str] = (), forced: Mapping[str, np.dtype[Any]] | None = None
    ) -> FedSession:
        """A DISABLE_ALL session that takes the weights as inputs.

        extra_outputs: inner values to return as well.
        forced: inner values (with their dtypes) that their consumers read from an input called
            `<name>/forced` instead; the value itself is still computed, so each segment between forced
            values runs on its own.
        """
        return FedSession(self, extra_outputs, forced or {})


class FedSession:
    """Runs a `Loaded` graph with its own weights or with others."""

    def __init__(
        self, loaded: Loaded, extra_outputs: Sequence[str], forced: Mapping[str, np.dtype[Any]]
    ) -> None:
        self.loaded = loaded
        model = variant(loaded, extra_outputs, forced)
        self._session = OrtSession(model.SerializeToString(), folder=loaded.folder, lean=True)
        own = set(loaded.outputs)
        # Inner values that no array can hold are not asked for; an output like that is the caller's to know.
        self._names = [n for n in self._session.output_names if n in own or n in self._session.tensors]

    def run(self, feeds: Feeds, weights: Feeds | None = None, forced: Feeds | None = None) -> Feeds:
        """Outputs and extra outputs by name."""
        inner = {name + FORCED: value for name, value in (forced or {}).items()}
        return self._session.run({**(weights or self.loaded.weights), **inner, **feeds}, self._names)


def load(path: Path, known: Feeds | None = None) -> Loaded:
    """Read a file: each weight is copied once, out of a map; external ones stay mapped.

    known: weights that are held already; one of the same name, type and bytes is not copied again.

    Raises: CorruptModel, UnsafeModel for a file that is no model, or whose weights are not where it says.
    """
    proto, tensors = onnx_weights.read(path, path.parent)
    onnx_weights.densify(proto)
    graph = proto.graph
    if proto.ir_version < FREE_INITIALIZERS:
        forget_stored_inputs(graph)
    node_names(graph)
    keep = constant_operands(graph) | {v.name for v in graph.input} | {v.name for v in graph.output}
    weights: Feeds = {}
    kept: list[TensorProto] = []
    for tensor in graph.initializer:
        external = external_data_helper.uses_external_data(tensor)
        if tensor.data_type in FLOATS and tensor.name not in keep and len(tensor.dims) > 0:
            if external or tensor.name not in tensors:
                weights[tensor.name] = read_tensor(tensor, path.parent)
            else:  # a copy, because inside a message nothing is aligned
                stored, twin = tensors[tensor.name].numpy(), (known or {}).get(tensor.name)
                weights[tensor.name] = twin if twin is not None and same(twin, stored) else np.array(stored)
            continue
        if tensor.name in tensors and not external:
            tensor.raw_data = tensors[tensor.name].tobytes()
        kept.append(tensor)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return Loaded(proto, weights, path.parent, path, {o: n for n in graph.node for o in n.output if o})


def forget_stored_inputs(graph: onnx.GraphProto) -> None:
    """Take inputs that have a stored value off the list of inputs.

    Before IR version 4 every initializer had to be listed as an input too, and ONNX Runtime treats it as a
    constant: such a weight is a weight like any other.
    """
    stored = {tensor.name for tensor in graph.initializer}
    free = [value for value in graph.input if value.name not in stored]
    if len(free) < len(graph.input):
        del graph.input[:]
        graph.input.extend(free)


def same(a: np.ndarray, b: np.ndarray, block: int = 1 << 20) -> bool:
    """Whether two arrays are of one dtype and shape, and bit by bit the same."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    one, two = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (a, b))
    return all(
        np.array_equal(one[start : start + block], two[start : start + block])
        for start in range(0, one.size, block)
    )


def read_tensor(tensor: TensorProto, folder: Path) -> np.ndarray:
    """The array of an initializer, wherever its bytes are."""
    if not external_data_helper.uses_external_data(tensor):
        return np.asarray(numpy_helper.to_array(tensor))
    where = {entry.key: entry.value for entry in tensor.external_data}
    path = folder / where["location"]
    shape = tuple(tensor.dims)
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", int(where.get("offset", 0)), shape)


def variant(
    loaded: Loaded, extra_outputs: Sequence[str], forced: Mapping[str, np.dtype[Any]]
) -> onnx.ModelProto:
    """The graph with weights as inputs, inner values as outputs, and forced values cut."""
    model = onnx.ModelProto()
    model.CopyFrom(loaded.proto)
    model.ir_version = max(model.ir_version, FREE_INITIALIZERS)
    graph = model.graph
    for name, array in loaded.weights.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        graph.input.append(helper.make_tensor_value_info(name, kind, array.shape))
    present = {v.name for v in graph.output}
    for name in dict.fromkeys(extra_outputs):
        if name not in present:
            graph.output.append(onnx.ValueInfoProto(name=name))
    if forced:
        cut = set(forced)
        for name, dtype in forced.items():
            kind = helper.np_dtype_to_tensor_dtype(dtype)
            graph.input.append(helper.make_tensor_value_info(name + FORCED, kind, None))
        for node in graph.node:
            redirect(node, cut)
    return model


def redirect(node: onnx.NodeProto, cut: set[str]) -> None:
    """Make a node, and the bodies inside it, read forced values in place of the ones in `cut`."""
    for i, name in enumerate(node.input):
        if name in cut:
            node.input[i] = name + FORCED
    for body in bodies(node):
        own = {o for n in body.node for o in n.output} | {v.name for v in body.input}
        for inner in body.node:
            redirect(inner, cut - own)
        for out in body.output:
            if out.name in cut - own:
                out.name += FORCED


def node_names(graph: onnx.GraphProto) -> None:
    """Name each node after its first output where it has no name of its own, so that errors name it."""
    taken: set[str] = set()
    for node in all_nodes(graph):
        if not node.name or node.name in taken:
            node.name = next((name for name in node.output if name), node.name)
        taken.add(node.name)


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Sub-graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node of a graph and of the bodies inside it."""
    for node in graph.node:
        yield node
        for body in bodies(node):
            yield from all_nodes(body)


def constant_operands(graph: onnx.GraphProto) -> set[str]:
    """Names that must stay initializers: operands of nodes that want constants, or of nodes in bodies."""
    names: set[str] = set()
    for node in graph.node:
        if node.op_type in CONSTANT_CONSUMERS or node.domain not in ("", "ai.onnx"):
            names.update(node.input)
        for body in bodies(node):
            names.update(body_reads(body))
    return names


def body_reads(body: onnx.GraphProto) -> Iterator[str]:
    """Names that a body and its inner bodies read or return."""
    for node in all_nodes(body):
        yield from node.input
        for inner in bodies(node):
            yield from (v.name for v in inner.output)
    yield from (v.name for v in body.output)


def live_values(loaded: Loaded) -> set[str]:
    """Values of the main graph that depend on what some input holds (a Shape depends on its size only)."""
    live = {v.name for v in loaded.inputs}
    for node in loaded.proto.graph.node:
        reads = set(node.input)
        for body in bodies(node):
            reads.update(body_reads(body))
        if node.op_type != "Shape" and reads & live:
            live.update(node.output)
    return live


def depth(
    graph: onnx.GraphProto, of_interest: Iterable[str] = ("Conv", "ConvTranspose", "Gemm", "MatMul")
) -> int:
    """Longest chain of rounding-relevant layers from an input to an output (bodies count as one)."""
    kinds = set(of_interest) | {"LSTM", "GRU", "RNN", "BatchNormalization", "If", "Loop", "Scan"}
    level: dict[str, int] = {}
    deepest = 0
    for node in graph.node:
        here = max((level.get(name, 0) for name in node.input), default=0) + (node.op_type in kinds)
        deepest = max(deepest, here)
        for name in node.output:
            level[name] = here
    return deepest
