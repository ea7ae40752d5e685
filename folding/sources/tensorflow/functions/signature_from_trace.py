"""SavedModels without a signature: a traced function of the object graph becomes one.

Given:  the root's `__call__`, traced as f(x), which captured the variable w;  w = VarHandleOp
Result: x = Placeholder;  c = StatefulPartitionedCall[f](x, w);  a signature `__call__`: x:0 -> output_0 = c:0

The object graph is read and never executed.
"""

from __future__ import annotations

import re
from typing import Any

from folding.errors import AmbiguousModel, CorruptModel
from folding.options import FoldOptions
from folding.report import Assumption, TensorInfo
from folding.sources.gates.limits import refuse, shown
from folding.sources.tensorflow.functions import function_traces
from folding.sources.tensorflow.functions.captures import Captures
from folding.sources.tensorflow.functions.function_traces import Trace
from folding.sources.tensorflow.functions.structures import Leaf, result_names
from folding.sources.tensorflow.graph import protobuf_io
from folding.sources.tensorflow.graph.program import Program
from folding.sources.tensorflow.graph.tf_graph import TfGraph, shape_attr

_PORTS = 4096  # recurrent models with a state for each layer have some hundred
_NODE_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/-]*")


def present(meta: Any, program: Program, options: FoldOptions) -> str | None:
    """Add a signature for a traced function to `meta` and to the program's graph; its key, or None.

    None where the file has signatures of its own, and no other was asked for, or no function that would do.

    Raises:
        AmbiguousModel: `ambiguous_signature`; details carry the candidates.
        UsageError: `unknown_signature`.
        CorruptModel: `missing_function`, `function_arity`, and what `Captures.tensor` raises.
    """
    own = [
        key for key, value in meta.signature_def.items() if value.outputs and not key.startswith("__saved")
    ]
    wanted = options.signature
    if wanted in own or (own and wanted is None):
        return None
    functions = dict(function_traces.functions(meta.object_graph_def))
    pool = (
        function_traces.pool(meta, functions)
        if wanted is None
        else function_traces.asked(meta, functions, wanted, own)
    )
    if not pool:
        return None
    program.signatures.update({trace.name: _row(trace) for trace in pool})
    left = function_traces.best(pool)
    if len(left) > 1:
        which = (
            "The SavedModel has no signature" if wanted is None else f"{shown(wanted)!r} has several traces"
        )
        raise AmbiguousModel(
            f"{which}, and {len(left)} traced functions could be meant: "
            f"{', '.join(trace.described() for trace in left[:6])}.",
            code="ambiguous_signature",
            hint="Name one with --signature.",
            details={"candidates": [shown(trace.name) for trace in left[: function_traces.LISTED]]},
        )
    (trace,) = left
    _add(meta, program, trace)
    protobuf_io.gate("graphdef", "check_graphdef", meta.graph_def, purpose="serving")
    if trace.name != wanted:
        program.assumptions.append(_assumption(trace, pool, wanted))
    return trace.name


def _assumption(trace: Trace, pool: list[Trace], wanted: str | None) -> Assumption:
    others = [shown(each.name) for each in pool if each is not trace][:6]
    values = ", ".join(f"{name}={value}" for name, value in trace.values.items())
    what = f"the best fit of {len(pool)} traces for inference" if others else "the only traced function"
    if trace.training == 2:
        what += "; it was traced in training mode, and in no other"
    return Assumption(
        what="signature",
        value=shown(f"{trace.name} ({values})" if values else trace.name),
        why=f"{'the SavedModel has no signature' if wanted is None else 'asked for'}; this is {what}",
        override=f"--signature NAME ({', '.join(others)})" if others else "--signature NAME",
    )


def _add(meta: Any, program: Program, trace: Trace) -> None:
    """Placeholders, the call and the signature, in the MetaGraph and in the program's graph alike."""
    concrete = meta.object_graph_def.concrete_functions[trace.function]
    body = program.graph.library.get(trace.function)
    if body is None:
        raise function_traces.missing(trace.name, trace.function)
    captured = list(concrete.bound_inputs)
    _fits(trace, body.signature, len(captured))
    captures = Captures(meta, program)
    signature = meta.signature_def[trace.name]
    signature.SetInParent()
    sources = []
    for leaf, argument in zip(trace.inputs, body.signature.input_arg, strict=False):
        node = _placeholder(meta, program.graph, leaf, argument.name)
        sources.append(node.name)
        info = signature.inputs[_free(signature.inputs, leaf.name or argument.name)]
        _describe(info, f"{node.name}:0", leaf)
    sources += [captures.tensor(index, trace.name) for index in captured]
    call = _new(meta, program.graph, "StatefulPartitionedCall", "StatefulPartitionedCall")
    call.input.extend(sources)
    call.attr["f"].func.name = trace.function
    call.attr["Tin"].list.type.extend(argument.type for argument in body.signature.input_arg)
    call.attr["Tout"].list.type.extend(argument.type for argument in body.signature.output_arg)
    for index, (name, leaf) in enumerate(zip(result_names(list(trace.outputs)), trace.outputs, strict=True)):
        info = signature.outputs[_free(signature.outputs, name)]
        _describe(info, f"{call.name}:{index}", leaf)


def _fits(trace: Trace, signature: Any, captured: int) -> None:
    """The description of a function must be of its body: as many tensors, and of the same types."""
    takes = [argument.type for argument in signature.input_arg]
    gives = [argument.type for argument in signature.output_arg]
    inputs, outputs = ([leaf.dtype for leaf in side] for side in (trace.inputs, trace.outputs))
    if len(inputs) + len(outputs) > _PORTS:
        refuse(
            "unsafe_graph_size", f"{shown(trace.name)!r} has more than {_PORTS} inputs and outputs.",
            limit=_PORTS, hint="Save the model with signatures.",
        )  # fmt: skip
    if len(inputs) + captured != len(takes) or takes[: len(inputs)] != inputs or gives != outputs:
        raise CorruptModel(
            f"{shown(trace.name)!r} is described with {len(inputs)} + {captured} inputs and {len(outputs)} "
            f"outputs; its function takes {len(takes)} and gives {len(gives)}, or other types.",
            code="function_arity",
            layer=shown(trace.name),
            hint="The file was damaged, or changed after it was saved; export it again.",
        )


def _placeholder(meta: Any, graph: TfGraph, leaf: Leaf, fallback: str) -> Any:
    name = next((each for each in (leaf.name, fallback) if _NODE_NAME.fullmatch(each)), "input")
    node = _new(meta, graph, "Placeholder", name)
    node.attr["dtype"].type = leaf.dtype
    node.attr["shape"].CopyFrom(shape_attr(leaf.shape))
    return node


def _new(meta: Any, graph: TfGraph, op: str, name: str) -> Any:
    node = meta.graph_def.node.add(op=op, name=graph.unique(name))
    graph.nodes[node.name] = node
    return node


def _free(taken: Any, name: str) -> str:
    count = 1
    while (f"{name}_{count}" if count > 1 else name) in taken:
        count += 1
    return f"{name}_{count}" if count > 1 else name


def _describe(info: Any, tensor: str, leaf: Leaf) -> None:
    info.name, info.dtype = tensor, leaf.dtype
    info.tensor_shape.CopyFrom(shape_attr(leaf.shape).shape)


def _row(trace: Trace) -> dict[str, list[TensorInfo]]:
    from tensorflow.python.framework import dtypes

    def info(name: str, leaf: Leaf) -> TensorInfo:
        shape = None if leaf.shape is None else list(leaf.shape)
        return TensorInfo(name=name, dtype=dtypes.as_dtype(leaf.dtype).name, shape=shape)

    return {
        "inputs": [info(leaf.name or str(index), leaf) for index, leaf in enumerate(trace.inputs)],
        "outputs": [
            info(name, leaf)
            for name, leaf in zip(result_names(list(trace.outputs)), trace.outputs, strict=True)
        ],
    }
