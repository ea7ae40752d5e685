"""From a program as saved to a weightless inference graph, before TensorFlow imports anything.

    cut at the ports -> inline calls -> settle mode flags -> resolve conditionals -> dropout off
    -> references and variables to values -> drop control edges, stale attributes and dead nodes
    -> 2015's ops respelled -> large constants detached

Two graphs come out: `graph`, with its conditionals resolved, is converted; `readable`, in which only the
flags
were set, is what TensorFlow itself runs as the reference. They share names.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from folding.errors import AmbiguousModel, CorruptModel, UnhealthyModel
from folding.options import FoldOptions
from folding.report import Assumption
from folding.sources.tensorflow.graph import validate
from folding.sources.tensorflow.graph.constant_eval import evaluate
from folding.sources.tensorflow.graph.program import Port, Program, Slot
from folding.sources.tensorflow.graph.tf_graph import (
    VARIABLE_OPS,
    TfGraph,
    canonical,
    const_value,
    data_inputs,
    dtype_of,
    numpy_dtype,
    shape_attr,
    shape_of,
    split,
)
from folding.sources.tensorflow.graph.weights import read_slot
from folding.sources.tensorflow.infer.mode_flags import Modes
from folding.sources.tensorflow.norms import find_batch_norms
from folding.sources.tensorflow.norms.variable_names import by_name
from folding.sources.tensorflow.rewrite import controlflow, fixed_training_mode, legalize
from folding.sources.tensorflow.rewrite.detach_variables import declared, dereference, detach
from folding.sources.tensorflow.rewrite.dropout import turn_dropout_off
from folding.sources.tensorflow.rewrite.inline import Inliner, branch

LARGE = 4096  # elements: a constant from here on is a weight, not a parameter of the structure
_FLOATS = frozenset({1, 2, 14, 19})
_STALE = ("_output_shapes", "_class", "_gradient_op_type", "_XlaMustCompile", "_xla_inferred_shapes",
          "_grappler_do_not_remove", "_ONNX_OUTPUT")  # fmt: skip


@dataclass
class Prepared:
    """The weightless inference graph.

    inputs, outputs: ports whose `tensor` is right in both graphs.
    slots: placeholder node -> where its value lies. constants: detached constants by node.
    missing: variables that the weights do not hold, with the value that initialization would give.
    """

    graph: TfGraph
    readable: TfGraph
    inputs: list[Port]
    outputs: list[Port]
    slots: dict[str, Slot] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    missing: dict[str, np.ndarray] = field(default_factory=dict)
    assumptions: list[Assumption] = field(default_factory=list)
    modes: dict[str, np.ndarray] = field(default_factory=dict)
    norms: list[find_batch_norms.Found] = field(default_factory=list)
    used_feeds: set[str] = field(default_factory=set)


def prepare(program: Program, options: FoldOptions) -> Prepared:
    """Run the surgery. `program.graph` is consumed.

    Raises:
        AmbiguousModel: an input that is neither a port nor a mode flag.
        CorruptModel: the graph contradicts itself or its weights.
        UnhealthyModel: `missing_from_checkpoint`, unless `missing_stats` is `init`.
    """
    graph = program.graph
    _strip(graph)
    aliases = {split(port.tensor)[0]: port.name for port in program.inputs}
    inputs = _cut(graph, program.inputs)
    roots = _own_outputs(graph, program.outputs)
    graph.keep(graph.ancestors(roots, control=True))
    validate.check(graph)
    modes = Modes(
        options,
        reserved=frozenset(split(p.tensor)[0] for p in inputs if _asked(p, options)),
        aliases=aliases,
        stored=lambda name: _stored(program, name),
    )
    readable = _settle(graph, roots, modes)
    validate.check(graph)
    wired = []
    if program.full is not None and fixed_training_mode.asked(options.feeds):
        wired = fixed_training_mode.switch(graph, program.full)
        fixed_training_mode.switch(readable, program.full)
        modes.used_feeds.update({fixed_training_mode.FEED} if wired else ())
    dropped = set(modes.values)
    inputs = [port for port in inputs if split(port.tensor)[0] not in dropped]
    _default_placeholders(graph, roots, inputs, modes)
    for name, value in modes.values.items():
        if name in readable.nodes:
            readable.set_constant(name, value)
    slots, shapes, absent = _bind_slots(program, graph, roots)
    for each, final in ((readable, False), (graph, True)):
        _to_values(each, roots, shapes, final=final)
        _default_identities(each, roots, inputs)
    found = find_batch_norms.find(graph)
    missing = _initial_values(program, found, absent, shapes, options) if absent else {}
    used = graph.ancestors(roots, control=False)
    notes = _unused(inputs, used, modes)
    inputs = [port for port in inputs if split(port.tensor)[0] in used]
    _no_strangers(graph, used, inputs, set(slots) | set(missing))
    readable.keep(readable.ancestors(roots, control=True))
    graph.keep(used)
    controlflow.drop_lost_control(graph)
    outputs = [Port(ref, port.name, port.shape) for ref, port in zip(roots, program.outputs, strict=True)]
    roles = {leaf for hit in found for leaf in hit.roles.values()}
    constants = _detach_constants(graph, readable, roles)
    return Prepared(
        graph,
        readable,
        inputs,
        outputs,
        slots={name: slot for name, slot in slots.items() if name in graph.nodes},
        constants=constants,
        missing={name: value for name, value in missing.items() if name in graph.nodes},
        assumptions=[*modes.assumptions, *wired, *notes],
        modes=modes.values,
        norms=found,
        used_feeds=modes.used_feeds,
    )


def _asked(port: Port, options: FoldOptions) -> bool:
    return any(name in options.inputs for name in (port.name, port.tensor, split(port.tensor)[0]))


def _strip(graph: TfGraph) -> None:
    """Attributes that only mislead a later TensorFlow, and placements on devices that are not here."""
    bodies = [node for function in graph.library.values() for node in function.node_def]
    for node in [*graph.nodes.values(), *bodies]:
        variable = node.op in VARIABLE_OPS and "shape" not in node.attr
        for key in _STALE:
            if key in node.attr and not (variable and key == "_output_shapes"):
                del node.attr[key]
        node.device = ""


def _cut(graph: TfGraph, ports: list[Port]) -> list[Port]:
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


def _own_outputs(graph: TfGraph, ports: list[Port]) -> list[str]:
    """Each output gets an Identity of its own, which keeps its name through all that follows."""
    roots: list[str] = []
    for position, port in enumerate(ports):
        name, index = split(port.tensor)
        dtype = legalize.output_dtype(graph, graph.nodes[name], index)
        roots.append(
            graph.add("Identity", f"bnfold_output_{position}", [canonical(port.tensor)], T=dtype).name
        )
    return roots


def _settle(graph: TfGraph, roots: list[str], modes: Modes) -> TfGraph:
    """Inline, set flags and resolve until nothing changes. Returns the copy from before resolution."""
    inliner = Inliner(graph)
    inliner.run(roots)
    modes.settle(graph, roots)
    readable = graph.copy()
    changed = True
    while changed:
        changed = _resolve_functional(graph, roots, inliner)
        changed = inliner.run(roots) or changed
        changed = modes.settle(graph, roots) or changed
    turn_dropout_off(graph, graph.ancestors(roots, control=True))
    controlflow.merge_indices(graph)
    resolve = graph.rewire({**controlflow.resolve_switches(graph)})
    roots[:] = [resolve(root) for root in roots]
    for alias in (controlflow.resolve_selects(graph), controlflow.resolve_blends(graph, modes.values)):
        resolve = graph.rewire(alias)
        roots[:] = [resolve(root) for root in roots]
    turn_dropout_off(graph, graph.ancestors(roots, control=True))  # a rate may have been a conditional
    return readable


def _resolve_functional(graph: TfGraph, roots: list[str], inliner: Inliner) -> bool:
    changed = False
    for name in list(graph.ancestors(roots, control=True)):
        node = graph.nodes[name]
        if node.op not in ("If", "StatelessIf", "Case", "StatelessCase"):
            continue
        predicate = evaluate(graph, node.input[0])
        if predicate is not None and (taken := branch(node, predicate)):
            inliner.inline(node, *taken)
            changed = True
    if changed:
        graph.rewire(inliner.alias)
        roots[:] = [inliner.resolve(root) for root in roots]
    return changed


def _default_placeholders(graph: TfGraph, roots: list[str], inputs: list[Port], modes: Modes) -> None:
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


def _default_identities(graph: TfGraph, roots: list[str], inputs: list[Port]) -> None:
    """A placeholder with a default that is no port reads its default."""
    alias = {
        name: node.input[0]
        for name, node in graph.nodes.items()
        if node.op == "PlaceholderWithDefault" and node.input
    }
    resolve = graph.rewire(alias)
    roots[:] = [resolve(root) for root in roots]


def _stored(program: Program, name: str) -> np.ndarray | None:
    slot = program.slots.get(name, Slot(name))
    return read_slot(program.weights, slot) if program.weights.has(slot.key) else None


def _bind_slots(
    program: Program, graph: TfGraph, roots: list[str]
) -> tuple[dict[str, Slot], dict[str, tuple[int, list[int | None] | None]], list[str]]:
    """Where each needed variable's value lies; its dtype and shape; names of those that are missing."""
    slots: dict[str, Slot] = {}
    shapes: dict[str, tuple[int, list[int | None] | None]] = {}
    absent: list[str] = []
    for name in sorted(graph.ancestors(roots, control=False)):
        node = graph.nodes[name]
        if node.op not in VARIABLE_OPS or name in shapes:
            continue
        slot = program.slots.get(name, Slot(_own_key(node)))
        dtype, shape = declared(node)
        if not program.weights.has(slot.key):
            absent.append(name)
            shapes[name] = (dtype, shape)
            continue
        slots[name] = slot
        shapes[name] = _agree(program, name, slot, dtype, shape)
    return slots, shapes, absent


def _own_key(node: object) -> str:
    name: str = node.name  # type: ignore[attr-defined]
    shared = node.attr["shared_name"].s.decode() if "shared_name" in node.attr else ""  # type: ignore[attr-defined]
    return shared or name


def _agree(
    program: Program, name: str, slot: Slot, dtype: int, shape: list[int | None] | None
) -> tuple[int, list[int | None] | None]:
    """The checkpoint's own dtype and shape, which must not contradict the graph's."""
    held_dtype, held = program.weights.describe(slot.key)
    if slot.slice_spec:
        return dtype, shape
    fits = shape is None or (
        len(shape) == len(held) and all(a is None or a == b for a, b in zip(shape, held, strict=True))
    )
    if not fits or (dtype and dtype != held_dtype):
        raise CorruptModel(
            f"The graph declares {name!r} as {_typename(dtype)}{shape}, the checkpoint holds "
            f"{_typename(held_dtype)}{list(held)}.",
            code="checkpoint_mismatch",
            layer=name,
            hint="The graph and the weights are from different models; give the pair that was "
            "saved together.",
        )
    return held_dtype, list(held)


def _typename(dtype: int) -> str:
    return str(numpy_dtype(dtype)) if dtype else "?"


def _initial_values(
    program: Program,
    found: list[find_batch_norms.Found],
    absent: list[str],
    shapes: dict[str, tuple[int, list[int | None] | None]],
    options: FoldOptions,
) -> dict[str, np.ndarray]:
    """Initial values for missing moving statistics, when the user asked for them."""
    parts = {leaf: role for hit in found for role, leaf in hit.roles.items() if role.startswith("moving")}
    kinds = {name: parts.get(name) or by_name(name) for name in absent}
    weights = sorted(name for name, kind in kinds.items() if kind is None)
    if weights:
        held = ", ".join(list(program.weights.names())[:4]) or "nothing"
        raise CorruptModel(
            f"The checkpoint does not hold {len(weights)} variable(s) that the graph needs: "
            f"{', '.join(weights[:6])}. It holds {held}, ...",
            code="missing_variables",
            layer=weights[0],
            hint="The graph and the weights are from different models, or the Saver left these out.",
            details={"missing": weights},
        )
    if options.missing_stats == "error":
        raise UnhealthyModel(
            f"The checkpoint does not hold the moving statistics {', '.join(sorted(kinds))}.",
            code="missing_from_checkpoint",
            layer=min(kinds),
            hint="Save again with Saver() of all variables (not of tf.trainable_variables()), or use the "
            "SavedModel or frozen graph of the live session; or go on with the initial values 0 and 1 by "
            "--missing-stats init, best with --calibrate DATA.npz --recalibrate.",
            details={"missing": sorted(kinds), "codes": ["missing_from_checkpoint"]},
        )
    values = {}
    for name, kind in kinds.items():
        dtype, shape = shapes[name]
        if shape is None or None in shape:
            raise CorruptModel(f"The shape of the missing variable {name!r} is unknown.", layer=name)
        fill = 1 if kind == "moving_variance" else 0
        values[name] = np.full([d for d in shape if d is not None], fill, numpy_dtype(dtype))
    return values


def _to_values(
    graph: TfGraph,
    roots: list[str],
    shapes: dict[str, tuple[int, list[int | None] | None]],
    *,
    final: bool,
) -> None:
    controlflow.drop_control_edges(graph, keep_pivots=True)
    graph.keep(graph.ancestors(roots, control=True))
    dereference(graph)
    detach(graph, {name: kind for name, kind in shapes.items() if name in graph.nodes})
    legalize.respell(graph, arithmetic=not final)


def _unused(inputs: list[Port], used: set[str], modes: Modes) -> list[Assumption]:
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


def _no_strangers(graph: TfGraph, used: set[str], inputs: list[Port], weights: set[str]) -> None:
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


def _detach_constants(graph: TfGraph, readable: TfGraph, roles: set[str]) -> dict[str, np.ndarray]:
    """Weights that freezing had put into the graph: placeholders again, their arrays kept aside."""
    detached: dict[str, np.ndarray] = {}
    for name, node in list(graph.nodes.items()):
        if node.op != "Const" or dtype_of(node) not in _FLOATS:
            continue
        dims = [dim.size for dim in node.attr["value"].tensor.tensor_shape.dim]
        large = int(np.prod(dims, dtype=np.int64)) >= LARGE
        if dims and (large or name in roles or _read_like_a_variable(graph, name)):
            value = const_value(node)
            if value is None:
                continue
            detached[name] = value
            for each in (graph, readable):
                if name in each.nodes:
                    to_placeholder(each, name, value)
    return detached


def _read_like_a_variable(graph: TfGraph, name: str) -> bool:
    reader = graph.nodes.get(f"{name}/read")
    if reader is None:
        reader = next((graph.nodes[n] for n in (f"{name}/ReadVariableOp",) if n in graph.nodes), None)
    return reader is not None and reader.op == "Identity" and name in data_inputs(reader)


def to_placeholder(graph: TfGraph, name: str, value: np.ndarray) -> None:
    """The node becomes an input of the value's shape; the value is kept elsewhere."""
    node = graph.nodes[name]
    dtype = dtype_of(node)
    del node.input[:]
    node.op = "Placeholder"
    node.attr.clear()
    node.attr["dtype"].type = dtype
    node.attr["shape"].CopyFrom(shape_attr(list(value.shape)))
