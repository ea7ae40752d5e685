"""Lookup tables with constant contents, read off the graph and its vocabulary files: nothing is run.

Given:  t = HashTableV2[shared_name=n];  LookupTableImportV2 / InitializeTableV2(t, keys, values)
    or  InitializeTableFromTextFileV2(t, "vocabulary.txt")[key_index, value_index]
Result: {n: (keys, values)}
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from folding.errors import CorruptModel, UnsupportedModel
from folding.sources.gates import operation_hints
from folding.sources.tensorflow.graph.constant_eval import evaluate
from folding.sources.tensorflow.graph.tf_graph import Node, TfGraph, const_value, data_inputs, dtype_of, split
from folding.sources.tensorflow.rewrite.inline import Inliner

Tables = dict[str, tuple[np.ndarray, np.ndarray]]
_IMPORTS = frozenset({"InitializeTableV2", "InitializeTable", "LookupTableImportV2", "LookupTableImport"})
_FILES = frozenset({"InitializeTableFromTextFileV2", "InitializeTableFromTextFile"})
TABLES = frozenset({"HashTableV2", "HashTable", "MutableHashTableV2", "MutableHashTable"})
_LOOKUPS = re.compile(r"^LookupTable(Find|Size|Export)(V2)?$")
_WHOLE_LINE, _LINE_NUMBER = -2, -1  # TextFileIndex of tf.lookup
_MAX_LINES = 10_000_000
_TEXT, _INT64 = 7, 9  # DT_STRING, DT_INT64


def read(graph: TfGraph, files: Iterable[Path] = ()) -> Tables:
    """Keys and values by the table's shared name. files: vocabularies that came with the model."""
    vocabularies = {path.name: path for path in files}
    view = _initializers(graph)
    found: Tables = {}
    for node in view.nodes.values():
        if node.op not in _IMPORTS and node.op not in _FILES:
            continue
        inputs = data_inputs(node)
        handle = _handle(view, inputs[0])
        if handle is None:
            continue
        contents = (
            _constants(view, inputs)
            if node.op in _IMPORTS
            else _from_file(_path(graph, view, inputs[1]), node, handle, vocabularies)
        )
        if contents is not None:
            found[table_name(handle)] = contents
    return found


def demand(graph: TfGraph, tables: Tables) -> None:
    """Raises UnsupportedModel `missing_table` for a table that is looked up and has no known contents."""
    for node in graph.nodes.values():
        handle = _handle(graph, data_inputs(node)[0]) if _LOOKUPS.match(node.op) else None
        if handle is None:
            continue
        _convertible(node, handle)
        if handle.op.startswith("Mutable") and table_name(handle) not in tables:
            raise UnsupportedModel(
                f"The lookup table {handle.name!r} is filled while the program runs ({handle.op}), so that "
                "the graph does not hold its contents.",
                code="missing_table",
                layer=node.name,
                hint=operation_hints.hint([handle.op]),
            )
        if table_name(handle) not in tables:
            raise UnsupportedModel(
                f"The contents of the lookup table {handle.name!r} are in none of the files: what fills it "
                "is not in this graph, or its vocabulary file is not in the upload.",
                code="missing_table",
                layer=node.name,
                hint="Give the SavedModel with its assets/ folder, or name outputs that lie before the "
                "lookup (--output NAME).",
            )


def _convertible(node: Node, handle: Node) -> None:
    """ONNX maps texts to integers, and integers to texts."""
    kinds = {handle.attr[key].type for key in ("key_dtype", "value_dtype") if key in handle.attr}
    if kinds and kinds != {_TEXT, _INT64}:
        raise UnsupportedModel(
            f"The lookup table {handle.name!r} maps neither texts to int64 nor int64 to texts; ONNX has no "
            "other.",
            code="unsupported_op",
            layer=node.name,
            hint="Look the values up before the model, and begin behind the table (--input NAME=SHAPE with "
            "the name of the lookup), or use texts as keys (tf.strings.as_string).",
            details={"ops": [node.op]},
        )


def name_assets(graph: TfGraph, assets: Iterable[Any]) -> None:
    """The nodes that hold paths of assets become constants: the files' names, as the MetaGraph lists them."""
    for asset in assets:
        node = graph.nodes.get(split(asset.tensor_info.name)[0])
        if node is not None and node.op in ("Const", "Placeholder") and dtype_of(node) == _TEXT:
            graph.set_constant(node.name, np.array(asset.filename.encode(), object))


def table_name(handle: Node) -> str:
    """The name under which a table is shared, or its node's."""
    shared = handle.attr["shared_name"].s.decode() if "shared_name" in handle.attr else ""
    return shared or str(handle.name)


def _initializers(graph: TfGraph) -> TfGraph:
    """The graph, with the calls of functions that fill tables written out in a copy."""
    filling = {
        name for name, body in graph.library.items()
        if any(node.op in _IMPORTS or node.op in _FILES for node in body.node_def)
    }  # fmt: skip
    calls = [
        name for name, node in graph.nodes.items()
        if node.op.endswith("PartitionedCall") and node.attr["f"].func.name in filling
    ]  # fmt: skip
    if not calls:
        return graph
    part = TfGraph(graph.to_graph_def(n for n in graph.nodes if n in graph.ancestors(calls, control=False)))
    Inliner(part).run(list(calls))
    return part


def _handle(graph: TfGraph, ref: str) -> Node | None:
    node = graph.nodes.get(split(ref)[0])
    while node is not None and node.op == "Identity":
        node = graph.nodes.get(split(node.input[0])[0])
    return node if node is not None and node.op in TABLES else None


def _constants(graph: TfGraph, inputs: list[str]) -> tuple[np.ndarray, np.ndarray] | None:
    arrays = []
    for ref in inputs[1:3]:
        node = graph.nodes.get(split(ref)[0])
        while node is not None and node.op in ("Identity", "Cast") and node.input:
            node = graph.nodes.get(split(node.input[0])[0])
        value = None if node is None else _range(graph, node) if node.op == "Range" else const_value(node)
        if value is None:
            return None
        arrays.append(value)
    return arrays[0], arrays[1]


def _range(graph: TfGraph, node: Node) -> np.ndarray | None:
    parts = [evaluate(graph, ref) for ref in data_inputs(node)]
    if any(part is None or part.size != 1 for part in parts):
        return None
    start, limit, delta = (part.reshape(()).item() for part in parts if part is not None)
    return np.arange(start, limit, delta) if delta and abs((limit - start) / delta) <= _MAX_LINES else None


def _path(graph: TfGraph, view: TfGraph, ref: str) -> np.ndarray | None:
    """A file's name: a constant, or (TensorFlow 2) a variable that the graph sets to one and then reads."""
    node = view.nodes.get(split(ref)[0])
    if node is None or node.op != "ReadVariableOp":
        return evaluate(view, ref)
    written = [
        each.input[1] for each in graph.nodes.values()
        if each.op == "AssignVariableOp" and len(each.input) > 1 and each.input[:1] == node.input[:1]
    ]  # fmt: skip
    return evaluate(graph, written[0]) if len(written) == 1 else None


def _from_file(
    name: np.ndarray | None, node: Node, handle: Node, vocabularies: dict[str, Path]
) -> tuple[np.ndarray, np.ndarray] | None:
    if name is None or name.size != 1:
        return None
    path = vocabularies.get(_basename(name.reshape(-1)[0]))
    if path is None:
        return None
    lines = path.read_bytes().splitlines()
    size = node.attr["vocab_size"].i
    lines = lines[:size] if size > 0 else lines
    if len(lines) > _MAX_LINES:
        raise UnsupportedModel(f"The vocabulary {path.name!r} has {len(lines)} lines.", code="missing_table")
    delimiter = node.attr["delimiter"].s or b"\t"
    columns = [
        _column(lines, int(node.attr[key].i), delimiter, handle.attr[kind].type, path.name)
        for key, kind in (("key_index", "key_dtype"), ("value_index", "value_dtype"))
    ]
    return columns[0], columns[1]


def _basename(text: object) -> str:
    decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return re.split(r"[/\\]", decoded)[-1]


def _column(lines: list[bytes], index: int, delimiter: bytes, dtype: int, name: str) -> np.ndarray:
    from folding.sources.tensorflow.graph.tf_graph import numpy_dtype

    if index == _LINE_NUMBER:
        return np.arange(len(lines), dtype=np.int64)
    try:
        items = lines if index == _WHOLE_LINE else [line.split(delimiter)[index] for line in lines]
        if dtype == _TEXT:
            return np.array(items, dtype=object)
        return np.array([float(item) for item in items]).astype(numpy_dtype(dtype or _INT64))
    except (IndexError, ValueError) as error:
        raise CorruptModel(
            f"The vocabulary {name!r} has lines without a valid column {index}.",
            code="corrupt_vocabulary",
            hint="Copy the model's assets/ folder again.",
        ) from error
