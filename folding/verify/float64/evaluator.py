"""Runs an ONNX graph node by node on float64 arrays."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from folding.sources.base import Feeds
from folding.verify.float64.kernels import KERNELS
from folding.verify.float64.node import Node
from folding.verify.model import Loaded, read_tensor

Array = np.ndarray
FLOAT_KINDS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
)


# What copies elements is widened behind it: a table of which a few rows are read is never wide as a whole.
COPIED = frozenset(("Gather",))


class Float64UnavailableError(Exception):
    """This model cannot be had in float64 here; the text says why."""


def widen(array: Array) -> Array:
    """Floats of any width as float64; everything else as it is."""
    if array.dtype.kind == "f" or array.dtype.name in ("bfloat16",):
        return array.astype(np.float64, copy=False)
    return array


def evaluate(
    loaded: Loaded,
    feeds: Feeds,
    *,
    weights: Feeds | None = None,
    forced: Feeds | None = None,
    extra: Iterable[str] = (),
    deadline: float | None = None,
) -> Feeds:
    """Outputs (and `extra` inner values) by name, floats in float64.

    weights: other weights than the file's. forced: inner values that consumers read instead of the computed
    ones (the computed ones are what is returned). deadline: on `time.perf_counter`.

    Raises: Float64UnavailableError.
    """
    proto = loaded.proto
    if proto.functions:
        from onnx import inliner

        proto = inliner.inline_local_functions(proto)
    opset = {entry.domain: entry.version for entry in proto.opset_import}.get("", 1)
    values = dict(weights or loaded.weights)
    for tensor in proto.graph.initializer:
        values[tensor.name] = read_tensor(tensor, loaded.folder)
    values.update(feeds)
    return run_nodes(proto.graph, values, opset, forced or {}, [*loaded.outputs, *extra], deadline)


def run_nodes(
    graph: onnx.GraphProto,
    values: Feeds,
    opset: int,
    forced: Feeds,
    wanted: list[str],
    deadline: float | None,
) -> Feeds:
    """Evaluate in order; a value is forgotten after its last use, and weights are wide only while in use."""
    last = {name: i for i, node in enumerate(graph.node) for name in node.input}
    keep, found = set(wanted), {name: widen(values[name]) for name in wanted if name in values}
    for i, proto in enumerate(graph.node):
        if deadline is not None and time.perf_counter() > deadline:
            raise Float64UnavailableError("it takes longer than its share of the time")
        for name, value in zip(proto.output, run_node(proto, values, opset), strict=False):
            if name in keep:
                found[name] = value
            values[name] = forced.get(name, value)
        for name in proto.input:
            if last.get(name) == i:
                values.pop(name, None)
    return found


def run_node(proto: onnx.NodeProto, values: Mapping[str, Array], opset: int) -> tuple[Array, ...]:
    """One node: our own kernel, else onnx's reference implementation."""
    if proto.domain not in ("", "ai.onnx"):
        raise Float64UnavailableError(f"no float64 evaluation of {proto.domain}.{proto.op_type}")
    copies = proto.op_type in COPIED
    inputs = {name: values[name] if copies else widen(values[name]) for name in proto.input if name}
    node = Node(proto, [inputs[name] if name else None for name in proto.input], opset)
    kernel = KERNELS.get(proto.op_type)
    try:
        with np.errstate(all="ignore"):
            result = kernel(node) if kernel is not None else None
            answers = result if isinstance(result, tuple) else (result,) if result is not None else None
            answers = answers or borrowed(proto, inputs, opset)
            answers = tuple(map(widen, answers)) if copies else answers
    except Float64UnavailableError:
        raise
    except Exception as exc:
        raise Float64UnavailableError(f"{proto.op_type} {proto.name!r}: {exc}") from exc
    for answer in answers:
        if answer.dtype.kind == "f" and answer.dtype != np.float64:
            raise Float64UnavailableError(f"{proto.op_type} computes in {answer.dtype} only")
    return answers


def borrowed(proto: onnx.NodeProto, values: Mapping[str, Array], opset: int) -> tuple[Array, ...]:
    """onnx's reference implementation of one node, on float64 inputs."""
    from onnx.reference import ReferenceEvaluator

    if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in proto.attribute):
        raise Float64UnavailableError(f"control flow ({proto.op_type}) is not evaluated in float64")
    names = [name for name in dict.fromkeys(proto.input) if name]
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(values[n].dtype), None)
        for n in names
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in proto.output if name]
    graph = helper.make_graph([proto], "one", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    answers = ReferenceEvaluator(model).run(None, {n: values[n] for n in names})
    return tuple(np.asarray(answer) for answer in answers)


def constant(value: Any) -> Array:
    """A Constant node's value."""
    return widen(np.asarray(numpy_helper.to_array(value)))
