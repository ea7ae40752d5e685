"""Inputs and outputs: placeholders and identities of their own, and what no output depends on."""

from __future__ import annotations

from folding.errors import AmbiguousModel
from folding.options import FoldOptions
from folding.report import Assumption
from folding.sources.tensorflow.graph.constant_eval import evaluate
from folding.sources.tensorflow.graph.program import Port
from folding.sources.tensorflow.graph.tf_graph import (
    VARIABLE_OPS,
    TfGraph,
    canonical,
    shape_attr,
    shape_of,
    split,
)
from folding.sources.tensorflow.infer.mode_flags import Modes
from folding.sources.tensorflow.rewrite import legalize

_STALE = ("_output_shapes", "_class", "_gradient_op_type", "_XlaMustCompile", "_xla_inferred_shapes",
          "_grappler_do_not_remove", "_ONNX_OUTPUT")  # fmt: skip


def strip(graph: TfGraph) -> None:
    """Attributes that only mislead a later TensorFlow, and placements on devices that are not here."""
    bodies = [node for function in graph.library.values() for node in function.node_def]
    for node in [*graph.nodes.values(), *bodies]:
        variable = node.op in VARIABLE_OPS and "shape" not in node.attr
        for key in _STALE:
            if key in node.attr and not (variable and key == "_output_shapes"):
                del node.attr[key]
        node.device = ""


def cut(graph: TfGraph, ports: list[Port]) -> list[Port]:
    """Make a placeholder of every input port, whatever computed it before."""
    cut = []
    for port in ports:
        name, index = split(port.tensor)
        node = graph.nodes[name]
        shape = list(port.shape) if port.shape is not None else shape_of(node)
        dims = None if shape is None else [dim if isinstance(dim, int) else None for dim in shape]
        if node.op in ("Placeholder", "PlaceholderV2") and index == 0:
            if port.shape is not None:
                node.attr["shape"].CopyFrom(shape_attr(dims))
            node.op = "Placeholder"
        elif index == 0:
            dtype = legalize.output_dtype(graph, node, 0)
            del node.input[:]
            node.op = "Placeholder"
            node.attr.clear()
            node.attr["dtype"].type = dtype
            node.attr["shape"].CopyFrom(shape_attr(dims))
        else:
            new = graph.add("Placeholder", f"{name}_{index}", dtype=legalize.output_dtype(graph, node, index))
            new.attr["shape"].CopyFrom(shape_attr(dims))
            graph.rewire({canonical(port.tensor): new.name})
            name = new.name
        cut.append(Port(f"{name}:0", port.name, port.shape))
    return cut


def own_outputs(graph: TfGraph, ports: list[Port]) -> list[str]:
    """Each output gets an Identity of its own, which keeps its name through all that follows."""
    roots: list[str] = []
    for position, port in enumerate(ports):
        name, index = split(port.tensor)
        dtype = legalize.output_dtype(graph, graph.nodes[name], index)
        roots.append(
            graph.add("Identity", f"bnfold_output_{position}", [canonical(port.tensor)], T=dtype).name
        )
    return roots


def asked(port: Port, options: FoldOptions) -> bool:
    return any(name in options.inputs for name in (port.name, port.tensor, split(port.tensor)[0]))


def default_placeholders(graph: TfGraph, roots: list[str], inputs: list[Port], modes: Modes) -> None:
    ports = {split(port.tensor)[0] for port in inputs}
    for name in sorted(graph.ancestors(roots, control=False) - ports):
        node = graph.nodes[name]
        if node.op == "PlaceholderWithDefault":
            default = evaluate(graph, node.input[0])
            modes.assumptions.append(
                Assumption(
                    what=f"{name}:0",
                    value="its default" if default is None else str(default.tolist()),
                    why="the graph gives this input a default and no signature or option names it",
                    override=f"--input {name}:0 or --feed {name}:0=VALUE",
                )
            )


def default_identities(graph: TfGraph, roots: list[str], inputs: list[Port]) -> None:
    """A placeholder with a default that is no port reads its default."""
    alias = {
        name: node.input[0]
        for name, node in graph.nodes.items()
        if node.op == "PlaceholderWithDefault" and node.input
    }
    resolve = graph.rewire(alias)
    roots[:] = [resolve(root) for root in roots]


def unused(inputs: list[Port], used: set[str]) -> list[Assumption]:
    return [
        Assumption(
            what=port.name,
            value="dropped",
            why="no output depends on this input",
            override="name an output that does (--output)",
        )
        for port in inputs
        if split(port.tensor)[0] not in used
    ]


def no_strangers(graph: TfGraph, used: set[str], inputs: list[Port], weights: set[str]) -> None:
    known = {split(port.tensor)[0] for port in inputs} | weights
    strangers = sorted(n for n in used - known if graph.nodes[n].op in ("Placeholder", "PlaceholderV2"))
    if strangers:
        raise AmbiguousModel(
            f"The outputs need {', '.join(f'{n}:0' for n in strangers[:6])}, which is neither "
            "among the inputs nor a "
            "mode flag.",
            code="unbound_input",
            layer=strangers[0],
            hint="Name it with --input, or give it a constant value with --feed NAME=VALUE.",
            details={"candidates": [f"{name}:0" for name in strangers]},
        )
