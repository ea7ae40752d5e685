"""What feeds a graph: placeholders, and input pipelines whose outputs stand in for them.

Given:  e = ParseExample(serialized, ..., dense_keys=["age"]);  y = f(e:0)
Result: age = Placeholder[shape of the feature];  y = f(age)

So for iterators, queues, parsers of tf.Example and decoders of images and sound, also those mapped over a
batch: ONNX has none of them, and the model proper begins behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from folding.report import Assumption
from folding.sources.tensorflow.graph.constant_eval import evaluate
from folding.sources.tensorflow.graph.program import Port
from folding.sources.tensorflow.graph.tf_graph import (
    INPUT_OPS,
    Node,
    TfGraph,
    data_inputs,
    join,
    shape_attr,
    shape_list,
    split,
)

SIDE_SCOPE = re.compile(
    r"(^|/)(gradients(_\d+)?|save(_\d+)?|report_uninitialized_variables|init(_\d+)?|train_op|"
    r"(Adam|GradientDescent|Momentum|RMSProp|Adagrad|SGD|Ftrl|Adadelta)(_\d+)?|"
    r"Regularizer|Initializer|report_uninitialized)(/|$)"
)
_ITERATORS = frozenset({"IteratorGetNext", "IteratorGetNextSync"})
_QUEUES = re.compile(r"^QueueDequeue(Many|UpTo)?(V2)?$")
_DECODERS = frozenset({"DecodeJpeg", "DecodePng", "DecodeGif", "DecodeBmp", "DecodeImage",
                       "DecodeAndCropJpeg", "DecodeRaw", "DecodePaddedRaw", "DecodeWav"})  # fmt: skip
_STACKS = {"TensorArrayGatherV3": ("element_shape", "dtype"), "TensorListStack": ("", "element_dtype")}
_UINT8, _STRING = 4, 7
_PARSERS = frozenset({"ParseExample", "ParseExampleV2", "ParseSingleExample"})


@dataclass(frozen=True)
class Fed:
    """An output of a pipeline that became a placeholder: `port` names it, `origin` is the node before."""

    port: Port
    origin: str
    what: str


def placeholders(graph: TfGraph) -> list[str]:
    """Placeholders that belong to the model: not the saver's, not the queue's."""
    return [
        name for name, node in graph.nodes.items()
        if node.op in INPUT_OPS and not SIDE_SCOPE.search(name) and not name.startswith("saver_filename")
        and not re.search(r"(^|/)(filename|Const)$", name)
    ]  # fmt: skip


def expose(graph: TfGraph) -> list[Fed]:
    """Turn what pipelines deliver into placeholders. The graph is changed; what nobody reads stays."""
    feeding = [node for node in graph.nodes.values() if _kind(node)] + _decoded(graph)
    readers = graph.consumers() if feeding else {}
    found, alias = [], {}
    for node in feeding:
        if node.op in _DECODERS and looped(graph, node.name):
            continue
        for index, (name, dtype, dims) in enumerate(_outputs(graph, node)):
            if join(node.name, index) in readers:
                new = graph.add("Placeholder", name.split(":")[0], dtype=dtype)
                new.attr["shape"].CopyFrom(shape_attr(dims))
                alias[join(node.name, index)] = new.name
                found.append(Fed(Port(f"{new.name}:0", name), node.name, _KINDS[_kind(node) or "decoded"]))
    graph.rewire(alias)
    return found


def assumptions(found: list[Fed], inputs: list[Port]) -> list[Assumption]:
    """One row per pipeline that an input of the model came from."""
    used = {port.tensor for port in inputs}
    rows: dict[str, list[str]] = {}
    for fed in found:
        if fed.port.tensor in used:
            rows.setdefault(fed.origin, []).append(fed.port.name)
    kinds = {fed.origin: fed.what for fed in found}
    return [
        Assumption(
            what=origin,
            value=f"inputs {', '.join(names)}",
            why=f"{kinds[origin]} has no ONNX form: the model begins at what it delivers",
            override="--input NAME=SHAPE, to begin elsewhere",
        )
        for origin, names in rows.items()
    ]


_T = TypeVar("_T")
_KINDS = {
    "iterator": "an iterator over a data set",
    "queue": "a queue of training examples",
    "parser": "parsing of tf.Example messages",
    "decoder": "decoding of images, sound or raw bytes",
    "decoded": "decoding, mapped over a batch,",
}
_Output = tuple[str, int, list[int | None] | None]  # name, dtype enum, shape


def _kind(node: Node) -> str:
    if node.op in _ITERATORS:
        return "iterator"
    if _QUEUES.match(node.op):
        return "queue"
    if node.op in _DECODERS:
        return "decoder"
    return "parser" if node.op in _PARSERS else ""


def _decoded(graph: TfGraph) -> list[Node]:
    """What collects the results of a decoder that is mapped over a batch."""

    bodies = {
        name for name, body in graph.library.items() if any(node.op in _DECODERS for node in body.node_def)
    }
    sources = {
        name for name, node in graph.nodes.items()
        if (node.op in _DECODERS and looped(graph, name))
        or ("body" in node.attr and node.attr["body"].func.name in bodies)
    }  # fmt: skip
    stacks = [node for node in graph.nodes.values() if node.op in _STACKS] if sources else []
    return [
        node for node in stacks
        if node.attr[_STACKS[node.op][1]].type != _STRING
        and sources & graph.ancestors([node.name], control=False)
    ]  # fmt: skip


def looped(graph: TfGraph, name: str) -> bool:
    """Does the node lie in the body of a TensorFlow 1 loop?"""
    stack, seen = [name], {name}
    while stack:
        for ref in graph.nodes[stack.pop()].input:
            source = split(ref)[0]
            node = graph.nodes.get(source)
            if node is None or source in seen or node.op == "Exit":
                continue
            if node.op == "Enter":
                return True
            seen.add(source)
            stack.append(source)
    return False


def _outputs(graph: TfGraph, node: Node) -> Iterator[_Output]:
    kind = _kind(node)
    if kind == "iterator":
        shapes = [shape_list(shape) for shape in node.attr["output_shapes"].list.shape]
        for index, dtype in enumerate(node.attr["output_types"].list.type):
            yield f"{node.name}:{index}", dtype, _at(shapes, index)
    elif kind == "queue":
        yield from _dequeued(graph, node)
    elif kind == "parser":
        yield from _parsed(graph, node)
    elif kind == "decoder":
        yield f"{node.name}:0", *_pixels(node)
    elif node.op in _STACKS:
        yield f"{node.name}:0", *_stacked(graph, node)


def _pixels(node: Node) -> tuple[int, list[int | None] | None]:
    dtype = node.attr["out_type"].type or node.attr["dtype"].type or (1 if node.op == "DecodeWav" else _UINT8)
    if "channels" not in node.attr or node.op in ("DecodeImage", "DecodeWav"):
        return dtype, None
    return dtype, [None, None, node.attr["channels"].i or None]


def _stacked(graph: TfGraph, node: Node) -> tuple[int, list[int | None] | None]:
    shape, kind = _STACKS[node.op]
    dims: list[int | None] | None
    if shape:
        dims = shape_list(node.attr[shape].shape)
    else:
        value = evaluate(graph, data_inputs(node)[1])
        known = value is not None and value.ndim == 1
        dims = [None if dim < 0 else int(dim) for dim in value] if known and value is not None else None
    return node.attr[kind].type, None if dims is None else [None, *dims]


def _dequeued(graph: TfGraph, node: Node) -> Iterator[_Output]:
    queue = graph.nodes.get(split(data_inputs(node)[0])[0])
    shapes = [] if queue is None else [shape_list(shape) for shape in queue.attr["shapes"].list.shape]
    many = "Many" in node.op or "UpTo" in node.op
    for index, dtype in enumerate(node.attr["component_types"].list.type):
        dims = _at(shapes, index)
        yield f"{node.name}:{index}", dtype, [None, *dims] if many and dims is not None else dims


def _parsed(graph: TfGraph, node: Node) -> Iterator[_Output]:
    """Sparse features come first, three tensors each; names are the features' keys."""
    sparse, dense = _keys(graph, node)
    single = node.op == "ParseSingleExample"
    types = list(node.attr["sparse_types"].list.type)
    rank = 1 if single else 2
    parts: tuple[tuple[str, list[int | None]], ...] = (
        ("indices", [None, rank]), ("values", [None]), ("shape", [rank])
    )  # fmt: skip
    for part, whole in parts:
        for index, key in enumerate(sparse):
            dtype = _at(types, index) or 1
            yield f"{key}/{part}", dtype if part == "values" else 9, whole  # 9: DT_INT64
    shapes = [shape_list(shape) for shape in node.attr["dense_shapes"].list.shape]
    for index, key in enumerate(dense):
        inner = _at(shapes, index)
        dims = inner if inner is None or single else [None, *inner]
        yield key, _at(list(node.attr["Tdense"].list.type), index) or 1, dims


def _keys(graph: TfGraph, node: Node) -> tuple[list[str], list[str]]:
    """Keys of the sparse and of the dense features; numbered where the graph does not hold them."""
    sparse = node.attr["num_sparse" if "num_sparse" in node.attr else "Nsparse"].i
    dense = len(node.attr["Tdense"].list.type)
    if node.op == "ParseSingleExample":
        held = [[s.decode("utf-8", "replace") for s in node.attr[key].list.s] for key in
                ("sparse_keys", "dense_keys")]  # fmt: skip
        return held[0], held[1]
    inputs = data_inputs(node)
    if node.op == "ParseExampleV2":
        return _texts(graph, inputs[2], sparse), _texts(graph, inputs[3], dense)
    names = [_texts(graph, ref, 1)[0] for ref in inputs[2 : 2 + sparse + dense]]
    return names[:sparse], names[sparse:]


def _texts(graph: TfGraph, ref: str, count: int) -> list[str]:
    value = evaluate(graph, ref)
    items = [] if value is None else value.reshape(-1).tolist()
    texts = [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in items]
    return texts if len(texts) == count else [f"{split(ref)[0]}_{index}" for index in range(count)]


def _at(items: Sequence[_T], index: int) -> _T | None:
    return items[index] if index < len(items) else None
