"""ONNX models, before the checker, shape inference or a runtime sees them.

The checker follows no calls and multiplies no dimensions: nested functions that expand to 10^9 nodes, a loop
of 2^40 trips and external data past the end of its file all pass it. This gate bounds them, refuses operator
sets that are not ours to run, and lets external data be only plain files of the upload.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from folding.errors import UnsupportedModel
from folding.ir import protobuf_wire
from folding.sources.gates.function_calls import check_expansion
from folding.sources.gates.limits import LIMITS, Limits, corrupt, refuse, shown
from folding.sources.gates.onnx.constants import Scope
from folding.sources.gates.onnx.graph import GraphCheck
from folding.sources.gates.onnx.tensors import TensorCheck
from folding.sources.gates.onnx.text import check_text
from folding.sources.gates.onnx.walk import Key, all_nodes, calls_of, count_of, function_key

_DOMAINS: Final = frozenset(
    ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", "ai.onnx.training",
     "com.microsoft", "com.microsoft.nchwc")
)  # fmt: skip
# Operators of ONNX Runtime's own that run Python or PyTorch, or load compiled code from a file.
_HARMFUL: Final = frozenset(
    ("PythonOp", "PythonOpGrad", "ATen", "ATenOp", "EPContext", "ExternalGradient", "YieldOp")
)
_AGAIN: Final = "Export the model again."


def check_onnx(path: Path, root: Path | None = None, limits: Limits = LIMITS) -> None:
    """Check the model at `path`; its external data must lie below `root` (default: its own folder).

    Raises: UnsafeModel (codes `unsafe_*`), CorruptModel.
    """
    model, payloads = _parse(path)
    functions = {function_key(f.domain, f.name, f): f for f in model.functions}
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
    check = GraphCheck(limits, TensorCheck(limits, path.parent, root or path.parent, payloads))
    check.graph(model.graph, Scope())
    for key, function in functions.items():
        check.nodes(function.node, Scope(), where=key[1])
    calls = {key: calls_of(function.node, functions) for key, function in functions.items()}
    own = {key: count_of(function.node) for key, function in functions.items()}
    text = {key: "::".join(part for part in key if part) for key in functions}
    check_expansion(
        {text[k]: [text[c] for c in called] for k, called in calls.items()},
        {text[k]: count for k, count in own.items()},
        [text[c] for c in calls_of(model.graph.node, functions)],
        count_of(model.graph.node),
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


def _check_domains(model: Any, functions: dict[Key, Any]) -> None:
    own = {domain for domain, _, _ in functions}
    for entry in [*model.opset_import, *(e for f in functions.values() for e in f.opset_import)]:
        if len(entry.domain) > LIMITS.name_bytes:
            refuse("unsafe_name", "An operator set has a very long name.", name=entry.domain, hint=_AGAIN)
    for node in all_nodes([model.graph.node, *(f.node for f in functions.values())]):
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
    for node in all_nodes([model.graph.node, *(f.node for f in functions.values())]):
        function = functions.get(function_key(node.domain, node.op_type, node))
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
