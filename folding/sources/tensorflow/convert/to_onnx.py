"""Weightless graph -> ONNX, then the weights, bound by reference.

    Prepared -> grappler (constant folding) -> tf2onnx -> onnx_ir -> initializers from checkpoint or constants

tf2onnx sees the weights as inputs of known shape, so none of its deep copies carries any. Integer, boolean
and scalar variables are bound before: they may be shapes or counts, whose values it needs.
If it cannot convert that, the same graph goes through it with its weights inside: the stock route.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx_ir as ir

from folding.errors import BnfoldError, CorruptModel, UnsupportedModel
from folding.options import FoldOptions
from folding.sources.gates import operation_hints
from folding.sources.tensorflow.convert import (
    precompute_weights,
    spell_for_tf2onnx,
    tf2onnx_speed,
    transposed_conv,
)
from folding.sources.tensorflow.convert.bind_weights import bind
from folding.sources.tensorflow.convert.loop_shapes import drop_false_scalars
from folding.sources.tensorflow.convert.prepare_inference_graph import Prepared
from folding.sources.tensorflow.convert.tf2onnx_names import numbered_from_one, order_folded_constants
from folding.sources.tensorflow.graph import protobuf_io
from folding.sources.tensorflow.graph.program import Weights
from folding.sources.tensorflow.graph.runtime import quiet, tensorflow, tf2onnx
from folding.sources.tensorflow.graph.tf_graph import TfGraph, data_inputs, dtype_of, shape_of, split
from folding.sources.tensorflow.graph.weights import read_slot
from folding.sources.tensorflow.infer.input_pipelines import looped

DEFAULT_OPSET = 18  # the newest that tf2onnx writes; export moves on from there when asked
MINIMUM_OPSET = 13
_FLOW = frozenset(
    {"If", "StatelessIf", "While", "StatelessWhile", "Switch", "Merge", "Enter", "Einsum", "Case"}
)
_LOOPS = frozenset({"While", "StatelessWhile", "Enter"})
_ROOTS = frozenset({"Rsqrt", "Sqrt", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"})
_FLOATS = frozenset({1, 2, 14, 19})
_ONNX_INTEGERS = frozenset({6, 7})  # int32, int64
_ONNX_FLOATS = frozenset({1, 10, 11})  # float, float16, double
STRUCTURE_FIRST = "structure-first"


def convert(
    prepared: Prepared, weights: Weights, options: FoldOptions, tables: dict[str, Any]
) -> tuple[ir.Model, str]:
    """The ONNX model in the IR and the route that led there.

    Loops are given to the converter as they are first (it knows recurrent layers by them), then lowered
    to Switch and Merge, and last with every weight inside.

    Raises:
        UnsupportedModel: `unsupported_op` (with the ops' names) or `conversion_failed`.
    """
    spell_for_tf2onnx.spell(prepared, weights)
    precompute_weights.precompute(prepared, weights)
    flow = has_control_flow(prepared.graph)
    failures: list[Exception] = []
    # a batch norm in a loop keeps its weights apart; a recurrent layer is known by having them
    for loops in (False, True) if _normalizing_loops(prepared.graph) else (True,):
        inlined = bind_structure(prepared, weights, loops=loops)
        detached = sorted({*prepared.slots, *prepared.constants, *prepared.missing} - inlined)
        for lowered in (False, True) if flow else (False,):
            try:
                proto = _to_onnx(prepared, options, tables, detached, lowered=lowered, check=flow)
                return bind(proto, prepared, weights), STRUCTURE_FIRST
            except Exception as error:
                failures.append(error)
                if not flow and isinstance(error, BnfoldError):
                    raise
    embed_weights(prepared, weights)
    for lowered in (False, True) if flow else (False,):
        try:
            proto = _to_onnx(prepared, options, tables, [], lowered=lowered, check=flow)
            return bind(proto, prepared, weights), f"stock ({_reason(failures[0])})"
        except Exception as error:  # noqa: BLE001 - the first failure is the one to tell
            failures.append(error)
    named = next((error for error in failures if isinstance(error, BnfoldError)), None)
    if named is not None:
        raise named
    raise UnsupportedModel(
        f"tf2onnx cannot convert this model: {_reason(failures[-1])}",
        code="conversion_failed",
        hint="Name outputs that lie before the part it stumbles over (--output NAME).",
        details={"structure_first": _reason(failures[0])},
    ) from failures[-1]


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:240] if lines else ''}"


def bind_structure(prepared: Prepared, weights: Weights, *, loops: bool = True) -> set[str]:
    """Give scalars, integers, booleans and the weights of `loops` their values now. Returns their names.

    A recurrent layer is a loop whose weights tf2onnx must see to make an LSTM or GRU of it.
    """
    bound: set[str] = set()
    looped = _needed_values(prepared.graph, loops=loops)
    held = {**prepared.constants, **prepared.missing}
    for name in [*prepared.slots, *held]:
        node = prepared.graph.nodes[name]
        if dtype_of(node) in _FLOATS and shape_of(node) != [] and name not in looped:
            continue
        prepared.graph.set_constant(
            name, held[name] if name in held else read_slot(weights, prepared.slots[name])
        )
        bound.add(name)
    return bound


def embed_weights(prepared: Prepared, weights: Weights) -> None:
    """The stock route's graph: every weight a constant."""
    arrays: dict[str, np.ndarray] = {**prepared.constants, **prepared.missing}
    for name in [*prepared.slots, *arrays]:
        value = arrays[name] if name in arrays else read_slot(weights, prepared.slots[name])
        prepared.graph.set_constant(name, value)


def _to_onnx(
    prepared: Prepared,
    options: FoldOptions,
    tables: dict[str, Any],
    weights: list[str],
    *,
    lowered: bool = False,
    check: bool = False,
) -> Any:
    inference = prepared.graph.to_graph_def()
    protobuf_io.gate("graphdef", "check_inference", inference)
    if not lowered:
        _raised(inference)
    tf, package = tensorflow(), tf2onnx()
    opset = min(max(options.opset or DEFAULT_OPSET, MINIMUM_OPSET), DEFAULT_OPSET)
    inputs = [port.tensor for port in prepared.inputs] + [f"{name}:0" for name in weights]
    outputs = [port.tensor + ":0" for port in prepared.outputs]
    with quiet(), numbered_from_one(package):
        _importable(inference)  # grappler itself crashes over what the importer refuses
        with tf.Graph().as_default():
            graph_def = package.tf_loader.tf_optimize(inputs, outputs, inference)
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(graph_def, name="")
            with tf.compat.v1.Session(graph=graph), tf2onnx_speed.without_idle_work(package):
                onnx_graph = package.tfonnx.process_tf_graph(
                    graph,
                    opset=opset,
                    input_names=inputs,
                    output_names=outputs,
                    custom_rewriter=[select_by_where, floor_of_negative_integers, transposed_conv.write],
                    initialized_tables={name.encode(): held for name, held in tables.items()} or None,
                )
        if check:
            onnx_graph = package.optimizer.optimize_graph(onnx_graph, catch_errors=False)
        else:  # our own passes clean a flat graph as well, in a fifth of the time
            onnx_graph.delete_unused_nodes(onnx_graph.outputs)
        proto = onnx_graph.make_model("bnfold", producer_name="bnfold")
        order_folded_constants(proto.graph)
    no_unknown_ops(proto)
    if check:
        drop_false_scalars(proto)
        checked(proto)
    return proto


def select_by_where(graph: Any, ops: Any) -> Any:
    """Have tf2onnx convert every Select of floats to Where.

    Its `x * cond + y * (1 - cond)` is NaN where the side that is not taken is NaN or infinite. It asks
    constants whether they are, and weights are none here; of a computed side (Log of 0) it never asks.
    """
    for node in ops:
        if node.type in ("Select", "SelectV2") and graph.get_dtype(node.output[0]) in _ONNX_FLOATS:
            node.set_attr("handles_nan", True)
    return ops


def floor_of_negative_integers(graph: Any, ops: Any) -> Any:
    """Round quotients of integers down, as TensorFlow does: tf2onnx rounds them towards zero.

    ONNX's Mod takes the sign of the divisor, and (x - Mod(x, y)) / y has no rest to round.
    """
    for node in list(ops):
        if node.type not in ("FloorMod", "FloorDiv") or graph.get_dtype(node.output[0]) not in _ONNX_INTEGERS:
            continue
        if node.type == "FloorDiv":
            rest = graph.make_node("Mod", list(node.input), op_name_scope=node.name)
            whole = graph.make_node("Sub", [node.input[0], rest.output[0]], op_name_scope=node.name)
            graph.replace_inputs(node, [whole.output[0], node.input[1]])
        node.type = "Mod" if node.type == "FloorMod" else "Div"
        node.skip_conversion = True
    return graph.get_nodes()


def _importable(graph_def: Any) -> None:
    """Raises UnsupportedModel for unknown ops, CorruptModel for a graph that TensorFlow refuses."""
    tf = tensorflow()
    try:
        with tf.Graph().as_default():
            tf.import_graph_def(graph_def, name="")
    except (ValueError, TypeError, tf.errors.OpError) as error:
        told = " ".join(str(error).split())[:300]
        if unknown := re.search(r"Op type not registered '([^']+)'", told):
            op = unknown.group(1)
            layer = next((node.name for node in graph_def.node if node.op == op), "")
            raise UnsupportedModel(
                f"TensorFlow here has no op {op!r} ({layer}).",
                code="unsupported_op",
                layer=layer,
                hint="Ops of your own cannot be converted: name outputs that lie before (--output NAME).",
                details={"ops": [op]},
            ) from error
        raise CorruptModel(
            f"The graph contradicts itself: {told}",
            code="corrupt_model",
            hint="The graph was damaged, or cut after it was saved; export it again.",
        ) from error


def _needed_values(graph: TfGraph, *, loops: bool) -> set[str]:
    """Weights that a While or an Enter reads."""
    ops = _LOOPS if loops else frozenset()
    found: set[str] = set()
    for node in graph.nodes.values():
        if node.op in ops:
            for ref in data_inputs(node):
                name = split(ref)[0]
                while name in graph.nodes and graph.nodes[name].op == "Identity":
                    name = split(graph.nodes[name].input[0])[0]
                found.add(name)
    return found


def _normalizing_loops(graph: TfGraph) -> bool:
    """Does a loop body take a root, as batch norms do?"""
    bodies = {
        node.attr["body"].func.name for node in graph.nodes.values() if node.op in ("While", "StatelessWhile")
    }
    if any(
        node.op in _ROOTS for name in bodies & set(graph.library) for node in graph.library[name].node_def
    ):
        return True
    return any(looped(graph, node.name) for node in graph.nodes.values() if node.op in _ROOTS)


def has_control_flow(graph: TfGraph) -> bool:
    """Loops, conditionals, or an Einsum (which the converter's own optimizer is good at)."""
    return any(node.op in _FLOW for node in graph.nodes.values())


def checked(proto: Any) -> None:
    """Refuse a graph whose loop bodies contradict their declared types, as some conversions do."""
    import onnx

    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)


def _raised(graph_def: Any) -> Any:
    """The graph with its loops kept whole: without the attribute that makes grappler lower them."""
    for node in [*graph_def.node, *(n for f in graph_def.library.function for n in f.node_def)]:
        if "_lower_using_switch_merge" in node.attr:
            del node.attr["_lower_using_switch_merge"]
    return graph_def


def no_unknown_ops(proto: Any) -> None:
    import onnx

    unknown: dict[str, str] = {}
    stack = [proto.graph]
    while stack:
        graph = stack.pop()
        for node in graph.node:
            standard = node.domain in ("", "ai.onnx")
            if (standard and not onnx.defs.has(node.op_type)) or not (
                standard or node.domain in ("ai.onnx.ml", "com.microsoft")
            ):
                unknown.setdefault(node.op_type, node.name)
            for attribute in node.attribute:
                stack.extend([attribute.g] if attribute.HasField("g") else [])
                stack.extend(attribute.graphs)
    if unknown:
        raise UnsupportedModel(
            "No ONNX form is known for "
            f"{', '.join(f'{op} ({name})' for op, name in sorted(unknown.items())[:6])}.",
            code="unsupported_op",
            layer=next(iter(unknown.values())),
            hint=operation_hints.hint(unknown),
            details={"ops": sorted(unknown)},
        )
