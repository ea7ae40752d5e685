"""One spelling for what ONNX files may spell in several ways, before the checker and the IR see them.

domain `ai.onnx`                     the default domain, ``""``
no default domain imported           imported, in the newest opset that the file's IR version holds
nodes in no topological order        sorted, as ONNX Runtime does while loading
IR version below 4                   initializers are constants and no longer listed as inputs
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

from folding.errors import CorruptModel
from folding.ir.topological import sort_nodes

LEGACY_IR = 4  # below it, initializers have to be listed as inputs and are constants all the same
_DEFAULT = ("", "ai.onnx")
_NEWEST = 17  # for files that import no default domain: what runtimes of the last years know


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of nested graphs included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)
            for inner in attribute.graphs:
                yield from nodes(inner)


def function_nodes(function: onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """All nodes of a function's body."""
    body = onnx.GraphProto()
    body.node.extend(function.node)
    yield from nodes(body)


def spell_default_domain(proto: onnx.ModelProto) -> bool:
    """Write the default domain as ``""`` in imports and nodes; True when something was spelled otherwise.

    Raises: CorruptModel when the two spellings are imported in different versions.
    """
    changed = False
    for imports in (proto.opset_import, *(function.opset_import for function in proto.functions)):
        changed |= _join_imports(imports)
    for body in (proto.graph.node, *(function.node for function in proto.functions)):
        changed |= _spell_nodes(body)
    return changed


def _join_imports(imports: list[onnx.OperatorSetIdProto]) -> bool:
    versions = {entry.version for entry in imports if entry.domain in _DEFAULT}
    if len(versions) > 1:
        raise CorruptModel(
            f"The file imports the default operator set in versions {sorted(versions)}.",
            code="invalid_onnx",
            hint="Export the model again, with one version of the default operator set.",
        )
    if not any(entry.domain == "ai.onnx" for entry in imports):
        return False
    others = [entry for entry in imports if entry.domain not in _DEFAULT]
    del imports[:]
    imports.extend([onnx.helper.make_opsetid("", versions.pop()), *others])
    return True


def _spell_nodes(body: Iterable[onnx.NodeProto]) -> bool:
    changed = False
    for node in body:
        if node.domain == "ai.onnx":
            node.domain, changed = "", True
        for attribute in node.attribute:
            for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                changed |= _spell_nodes(graph.node)
    return changed


def import_default_domain(proto: onnx.ModelProto) -> bool:
    """Import the default domain where a file of other domains alone does not: what is folded may need it.

    True when the import is new. The version is one that the file's own IR version can hold.
    """
    if any(entry.domain == "" for entry in proto.opset_import):
        return False
    held = [row[2] for row in onnx.helper.VERSION_TABLE if row[1] <= max(proto.ir_version, LEGACY_IR)]
    version = max(number for number in held if number <= _NEWEST)
    proto.opset_import.append(onnx.helper.make_opsetid("", version))
    return True


def sort_graphs(proto: onnx.ModelProto) -> bool:
    """Bring the nodes of every graph into a topological order; True when one was in none.

    A graph with a cycle stays as it is: the checker has its own words for it.
    """
    changed = _sort(proto.graph.node)
    for function in proto.functions:
        changed |= _sort(function.node)
    return changed


def _sort(body: list[onnx.NodeProto]) -> bool:
    changed = False
    for node in body:
        for attribute in node.attribute:
            for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                changed |= _sort(graph.node)
    ordered = sort_nodes(body)
    if ordered is None:
        return changed
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del body[:]
    body.extend(copies)
    return True


def drop_legacy_inputs(proto: onnx.ModelProto) -> list[str]:
    """Below IR 4 every initializer has to be listed as an input, and is a constant; list them no more."""
    if proto.ir_version >= LEGACY_IR:
        return []
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    dropped = [value.name for value in proto.graph.input if value.name in constants]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    proto.ir_version = LEGACY_IR
    return dropped
