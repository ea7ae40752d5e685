"""What must hold of an ONNX file's structure before anything else looks at it."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from folding.errors import CorruptModel, UnsupportedModel
from folding.ir import weightless

# Domains whose operators are not in onnx's own registry but which ONNX Runtime brings along.
RUNTIME_DOMAINS = frozenset({"com.microsoft", "com.microsoft.nchwc", "ai.onnx.contrib"})
LEGACY_IR = 4  # below it, initializers have to be listed as inputs and are constants all the same


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of nested graphs included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)
            for inner in attribute.graphs:
                yield from nodes(inner)


def check(proto: onnx.ModelProto, tensors: dict[str, ir.TensorProtocol]) -> None:
    """Opsets and operators are known, and the onnx checker accepts the structure.

    Raises: UnsupportedModel (`unknown_opset`, `unknown_op`), CorruptModel (`invalid_onnx`).
    """
    if not proto.HasField("graph"):
        raise CorruptModel("The file holds no graph.", hint="Export the model again.")
    _check_opsets(proto)
    _check_operators(proto)
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
    bodies += [((n for n in _function_nodes(f)), f.opset_import) for f in proto.functions]
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


def _function_nodes(function: onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    body = onnx.GraphProto()
    body.node.extend(function.node)
    yield from nodes(body)


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
