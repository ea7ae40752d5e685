"""Inputs and outputs of a graph: as the user, the signature or the graph itself names them."""

from __future__ import annotations

from collections.abc import Iterable

from folding.errors import UsageError
from folding.options import FoldOptions
from folding.report import TensorInfo
from folding.sources.tensorflow.graph.program import Port, Program
from folding.sources.tensorflow.graph.tf_graph import INPUT_OPS, TfGraph, full, shape_of, split
from folding.sources.tensorflow.infer import input_pipelines
from folding.sources.tensorflow.infer.input_pipelines import Fed, placeholders
from folding.sources.tensorflow.infer.outputs import candidates, infer_outputs
from folding.sources.tensorflow.rewrite.legalize import output_dtype


def complete_ports(
    program: Program,
    options: FoldOptions,
    *,
    inputs: list[Port] | None = None,
    outputs: list[Port] | None = None,
) -> None:
    """Set the program's ports, and say where an input pipeline was cut. Raises as `choose` does."""
    graph = program.graph
    fed = input_pipelines.expose(graph)
    asked = _asked_outputs(graph, options, outputs or []) or outputs
    if asked is None or not asked:
        asked, guessed = infer_outputs(graph, program.labels, options)
        program.assumptions += guessed
    program.inputs = _inputs(graph, options, inputs, asked, fed)
    program.outputs = asked
    program.assumptions += input_pipelines.assumptions(fed, program.inputs)


def choose(
    graph: TfGraph,
    options: FoldOptions,
    *,
    inputs: list[Port] | None = None,
    outputs: list[Port] | None = None,
    fed: Iterable[Fed] = (),
) -> tuple[list[Port], list[Port]]:
    """Ports of the conversion. `inputs`, `outputs`: a signature's, under its names. `fed`: of pipelines.

    Raises:
        UsageError: `unknown_output`, `unknown_input`.
        AmbiguousModel: `ambiguous_outputs`; details carry the candidates.
    """
    outputs = _asked_outputs(graph, options, outputs or []) or outputs or infer_outputs(graph)[0]
    return _inputs(graph, options, inputs, outputs, fed), outputs


def _inputs(
    graph: TfGraph, options: FoldOptions, inputs: list[Port] | None, outputs: list[Port], fed: Iterable[Fed]
) -> list[Port]:
    """What the outputs need: a signature's inputs, those asked for, placeholders and cut pipelines."""
    delivered = {split(each.port.tensor)[0]: each.port for each in fed}
    asked = _asked_inputs(graph, options, [*(inputs or []), *delivered.values()])
    cut = {split(port.tensor)[0] for port in asked}
    needed = graph.ancestors([port.tensor for port in outputs], control=True)
    used = [name for name in delivered if name in needed]
    if inputs is None:
        names = [name for name in placeholders(graph) if graph.nodes[name].op != "PlaceholderWithDefault"]
    else:
        names = used
        # what only fed the parser is no input of what lies behind it
        inputs = [port for port in inputs if not used or split(port.tensor)[0] in needed]
    found = [
        delivered.get(name, Port(f"{name}:0", f"{name}:0"))
        for name in names
        if name in needed and name not in cut and not _shadowed(graph, name, outputs, cut)
    ]
    known = {port.tensor: port for port in asked}
    merged = [known.pop(port.tensor, port) for port in [*(inputs or []), *found]]
    return [*merged, *known.values()]


def _shadowed(graph: TfGraph, name: str, outputs: list[Port], cut: set[str]) -> bool:
    """Is the placeholder needed only behind a point where the user cuts the graph?"""
    if not cut:
        return False
    seen: set[str] = set()
    stack = [split(port.tensor)[0] for port in outputs]
    while stack:
        current = stack.pop()
        if current in seen or current not in graph.nodes or current in cut:
            continue
        seen.add(current)
        stack.extend(split(ref)[0] for ref in graph.nodes[current].input)
    return name not in seen


def _asked_outputs(graph: TfGraph, options: FoldOptions, known: list[Port]) -> list[Port]:
    by_name = {port.name: port for port in known}
    ports = []
    for name in options.outputs:
        port = by_name.get(name)
        if port is None:
            node, index = split(name)
            if node not in graph.nodes or name.startswith("^"):
                raise UsageError(
                    f"The model has no output {name!r}.",
                    code="unknown_output",
                    layer=name,
                    hint="bnfold inspect lists what it has; candidates are in the details.",
                    details={"candidates": [*by_name, *(full(c) for c in candidates(graph))][:40]},
                )
            port = Port(f"{node}:{index}", f"{node}:{index}")
        ports.append(port)
    return ports


def _asked_inputs(graph: TfGraph, options: FoldOptions, known: list[Port]) -> list[Port]:
    by_name = {port.name: port for port in known} | {port.tensor: port for port in known}
    ports = []
    for name, shape in options.inputs.items():
        dims = tuple(shape) if shape else None
        port = by_name.get(name) or by_name.get(full(name))
        if port is None:
            node, index = split(name)
            if node not in graph.nodes:
                raise UsageError(
                    f"The model has no input {name!r}.",
                    code="unknown_input",
                    layer=name,
                    hint="bnfold inspect lists what it has; candidates are in the details.",
                    details={"candidates": [*by_name, *(f"{p}:0" for p in placeholders(graph))][:40]},
                )
            port = Port(f"{node}:{index}", f"{node}:{index}")
        _fits(graph, port, dims)
        ports.append(Port(port.tensor, port.name, dims))
    return ports


def _fits(graph: TfGraph, port: Port, dims: tuple[int | str | None, ...] | None) -> None:
    node = graph.nodes[split(port.tensor)[0]]
    declared = shape_of(node) if node.op in INPUT_OPS else None
    if dims is None or declared is None:
        return
    wrong = len(dims) != len(declared) or any(
        isinstance(a, int) and b is not None and a != b for a, b in zip(dims, declared, strict=False)
    )
    if wrong:
        raise UsageError(
            f"Input {port.name!r} is declared as {declared}; {list(dims)} does not fit.",
            code="input_shape",
            layer=port.name,
        )


def info(graph: TfGraph, port: Port) -> TensorInfo:
    """dtype and declared shape of a port."""
    from tensorflow.python.framework import dtypes

    name, index = split(port.tensor)
    node = graph.nodes[name]
    kind = output_dtype(graph, node, index)
    shape = list(port.shape) if port.shape is not None else shape_of(node) if node.op in INPUT_OPS else None
    return TensorInfo(name=port.name, dtype=dtypes.as_dtype(kind).name, shape=shape)
