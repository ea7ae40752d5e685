"""What must hold of an ONNX file's structure before anything else looks at it."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx_ir as ir

from folding.errors import CorruptModel, UnsupportedModel
from folding.ir import weightless
from folding.sources.onnx.canonical import function_nodes, nodes

# Domains whose operators are not in onnx's own registry but which ONNX Runtime brings along.
RUNTIME_DOMAINS = frozenset({"com.microsoft", "com.microsoft.nchwc", "ai.onnx.contrib"})
# TypeProto fields that hold something other than tensors, as a reader knows it
_UNREAD_TYPES = {"map_type": "a map", "opaque_type": "an opaque value"}


def check_structure(proto: onnx.ModelProto, tensors: dict[str, ir.TensorProtocol]) -> None:
    """Check that opsets, operators and types are known, and that the onnx checker accepts the structure.

    Raises: UnsupportedModel (`unknown_opset`, `unknown_op`, `unsupported_model`), CorruptModel
    (`invalid_onnx`).
    """
    if not proto.HasField("graph"):
        raise CorruptModel("The file holds no graph.", hint="Export the model again.")
    _check_opsets(proto)
    _check_operators(proto)
    _check_types(proto)
    structure = onnx.ModelProto()
    structure.CopyFrom(proto)
    kept = [t for t in structure.graph.initializer if t.name not in tensors]
    del structure.graph.initializer[:]
    structure.graph.initializer.extend(kept)
    weightless.give_shapes(structure)
    try:
        onnx.checker.check_model(weightless.as_inputs(structure, tensors))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:  # a name that is no text
        raise CorruptModel(
            f"The file is not a valid ONNX model: {str(error).splitlines()[0]}",
            code="invalid_onnx",
            hint="onnx.checker.check_model(path) says the same; export the model again.",
            details={"checker": str(error)[:2000]},
        ) from error


def _check_opsets(proto: onnx.ModelProto) -> None:
    known = onnx.defs.onnx_opset_version()
    for opset in proto.opset_import:
        if opset.domain in ("", "ai.onnx") and not 1 <= opset.version <= known:
            raise UnsupportedModel(
                f"The model uses opset {opset.version}; this installation knows 1 to {known}.",
                code="unknown_opset",
                hint="Export it with an older opset, or update the onnx package.",
            )


def _check_operators(proto: onnx.ModelProto) -> None:
    local = {(function.domain, function.name) for function in proto.functions}
    bodies = [(nodes(proto.graph), proto.opset_import)]
    bodies += [(function_nodes(f), f.opset_import) for f in proto.functions]
    unknown: dict[str, str] = {}
    for body, imports in bodies:
        opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in imports}
        for node in body:
            domain = "" if node.domain == "ai.onnx" else node.domain
            if (node.domain, node.op_type) in local or domain in RUNTIME_DOMAINS:
                continue
            if not onnx.defs.has(node.op_type, opsets.get(domain, 1), domain):
                unknown.setdefault(f"{domain}::{node.op_type}" if domain else node.op_type, node.name)
    if unknown:
        raise UnsupportedModel(
            f"The model uses operators that its opsets do not have: {', '.join(sorted(unknown))}.",
            code="unknown_op",
            hint="A custom operator needs its definition as a model-local function; a misspelt one needs "
            "another export.",
            layer=next(iter(unknown.values())) or None,
            details={"operators": sorted(unknown)},
        )


def _check_types(proto: onnx.ModelProto) -> None:
    """Refuse values that are neither tensors nor sequences or optionals of them."""
    for graph in _graphs(proto.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            kind = _unread(value.type)
            if kind is not None:
                raise UnsupportedModel(
                    f"Value {value.name!r} of the model is {_UNREAD_TYPES[kind]}; tensors, and sequences and "
                    "optionals of them, are what can be folded and verified.",
                    hint="Export the model without it. A classifier of skl2onnx: convert with the option "
                    "zipmap=False, so that the probabilities are a tensor.",
                    layer=value.name,
                    details={"type": kind},
                )


def _graphs(graph: onnx.GraphProto) -> Iterable[onnx.GraphProto]:
    yield graph
    for node in nodes(graph):
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def _unread(kind: onnx.TypeProto) -> str | None:
    """The TypeProto field somewhere inside a type that nothing here computes with."""
    found: str | None = kind.WhichOneof("value")
    if found in ("sequence_type", "optional_type"):
        return _unread(getattr(kind, found).elem_type)
    return found if found in _UNREAD_TYPES else None
