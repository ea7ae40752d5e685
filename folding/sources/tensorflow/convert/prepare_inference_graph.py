"""From a program as saved to a weightless inference graph, before TensorFlow imports anything.

Two graphs come out: `graph`, with its conditionals resolved, is converted; `readable`, in which only the
flags were set, is what TensorFlow itself runs as the reference. They share names. `STEPS` is what happens,
in order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from folding.options import FoldOptions
from folding.report import Assumption
from folding.sources.tensorflow.convert.prepare_steps import conditionals, constants, ports, variables
from folding.sources.tensorflow.graph import protobuf_io, validate
from folding.sources.tensorflow.graph.program import Port, Program, Slot
from folding.sources.tensorflow.graph.tf_graph import TfGraph, split
from folding.sources.tensorflow.infer.mode_flags import Modes
from folding.sources.tensorflow.norms import find_batch_norms
from folding.sources.tensorflow.rewrite import (
    batch_mode,
    controlflow,
    fixed_training_mode,
    legalize,
    remove_dropout,
)
from folding.sources.tensorflow.rewrite.detach_variables import dereference, detach


@dataclass
class Prepared:
    """The weightless inference graph.

    inputs, outputs: ports whose `tensor` is right in both graphs.
    slots: placeholder node -> where its value lies. constants: detached constants by node.
    missing: variables that the weights do not hold, with the value that initialization would give.
    reference_slots: as `slots`, for `readable`, which may read more.
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
    norms: list[find_batch_norms.FoundNorm] = field(default_factory=list)
    used_feeds: set[str] = field(default_factory=set)
    reference_slots: dict[str, Slot] = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """What the steps hand on. The graphs are changed in place, everything else by `replace`.

    roots: references of the outputs in `graph`, in the program's order.
    declared, absent: dtype and shape of each variable needed; those that the weights do not hold.
    written: variables that the model changes while it runs.
    """

    program: Program
    options: FoldOptions
    graph: TfGraph
    readable: TfGraph
    modes: Modes
    inputs: list[Port] = field(default_factory=list)
    roots: list[str] = field(default_factory=list)
    slots: dict[str, Slot] = field(default_factory=dict)
    declared: variables.Declared = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    written: frozenset[str] = frozenset()
    missing: dict[str, np.ndarray] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    norms: list[find_batch_norms.FoundNorm] = field(default_factory=list)
    assumptions: list[Assumption] = field(default_factory=list)


@dataclass(frozen=True)
class Step:
    """One step. why: why it stands where it stands."""

    name: str
    run: Callable[[Draft], Draft]
    why: str


def prepare(program: Program, options: FoldOptions) -> Prepared:
    """Run `STEPS`. `program.graph` is consumed.

    Raises:
        AmbiguousModel: an input that is neither a port nor a mode flag.
        CorruptModel: the graph contradicts itself or its weights.
        UnhealthyModel: `missing_from_checkpoint`, unless `missing_stats` is `init`.
    """
    draft = Draft(program, options, program.graph, program.graph, Modes(options))
    for step in STEPS:
        draft = step.run(draft)
    named = zip(draft.roots, program.outputs, strict=True)
    held = draft.graph.nodes
    return Prepared(
        draft.graph,
        draft.readable,
        draft.inputs,
        [Port(ref, port.name, port.shape) for ref, port in named],
        slots={name: slot for name, slot in draft.slots.items() if name in held},
        constants=draft.constants,
        missing={name: value for name, value in draft.missing.items() if name in held},
        assumptions=[*draft.modes.assumptions, *draft.assumptions],
        modes=draft.modes.values,
        norms=draft.norms,
        used_feeds=draft.modes.used_feeds,
        reference_slots=draft.slots,
    )


def _cut_at_ports(draft: Draft) -> Draft:
    program, options, graph = draft.program, draft.options, draft.graph
    ports.strip(graph)
    aliases = {split(port.tensor)[0]: port.name for port in program.inputs}
    inputs = ports.cut(graph, program.inputs)
    roots = ports.own_outputs(graph, program.outputs)
    graph.keep(graph.ancestors(roots, control=True))
    graph.prune_library()
    protobuf_io.gate("graphdef", "check_functions", graph.to_graph_def(), program.purpose)
    validate.validate(graph)
    modes = Modes(
        options,
        reserved=frozenset(split(p.tensor)[0] for p in inputs if ports.asked(p, options)),
        aliases=aliases,
        stored=lambda name: variables.stored(program, name),
    )
    return replace(draft, inputs=inputs, roots=roots, modes=modes)


def _settle_modes(draft: Draft) -> Draft:
    roots = list(draft.roots)
    readable = conditionals.resolve(draft.graph, roots, draft.modes)
    validate.validate(draft.graph)
    return replace(draft, roots=roots, readable=readable)


def _leave_training_mode(draft: Draft) -> Draft:
    """`--feed training=false`: stored statistics in the place of the batch's, and no dropout."""
    if not fixed_training_mode.asked(draft.options.feeds):
        return draft
    full = draft.program.full or draft.program.graph.copy()
    told = fixed_training_mode.switch(draft.graph, full)
    fixed_training_mode.switch(draft.readable, full)
    told += remove_dropout.remove(draft.graph, draft.graph.ancestors(draft.roots, control=True))
    remove_dropout.remove(draft.readable, draft.readable.ancestors(draft.roots, control=True))
    if not told and draft.program.inference_only:
        told.append(fixed_training_mode.already_off())
    draft.modes.used_feeds.update({fixed_training_mode.FEED} if told else ())
    return replace(draft, assumptions=[*draft.assumptions, *told])


def _drop_flags(draft: Draft) -> Draft:
    modes = draft.modes
    inputs = [port for port in draft.inputs if split(port.tensor)[0] not in modes.values]
    ports.default_placeholders(draft.graph, draft.roots, inputs, modes)
    for name, value in modes.values.items():
        if name in draft.readable.nodes:
            draft.readable.set_constant(name, value)
    return replace(draft, inputs=inputs)


def _detach_variables(draft: Draft) -> Draft:
    roots = list(draft.roots)
    slots, declared, absent = variables.bind_slots(draft.program, draft.graph, roots)
    written = variables.written(draft.graph, roots)
    for graph in (draft.readable, draft.graph):
        controlflow.drop_control_edges(graph, keep_pivots=True)
        graph.keep(graph.ancestors(roots, control=True))
        dereference(graph)
        detach(graph, {name: kind for name, kind in declared.items() if name in graph.nodes})
        ports.default_identities(graph, roots, draft.inputs)
    return replace(draft, roots=roots, slots=slots, declared=declared, absent=absent, written=written)


def _legalize(draft: Draft) -> Draft:
    legalize.legalize(draft.readable, arithmetic=True)
    legalize.legalize(draft.graph)
    unused = batch_mode.normalize(draft.graph)
    found = find_batch_norms.find(draft.graph)
    for hit in found:
        hit.stored = unused.get(hit.node.name, ())
    return replace(draft, norms=found)


def _initialize_missing(draft: Draft) -> Draft:
    if not draft.absent:
        return draft
    missing = variables.initial_values(
        draft.program, draft.norms, draft.absent, draft.declared, draft.options
    )
    return replace(draft, missing=missing)


def _keep_what_is_used(draft: Draft) -> Draft:
    graph, readable = draft.graph, draft.readable
    used = graph.ancestors(draft.roots, control=False)
    notes = ports.unused(draft.inputs, used) + variables.updated(draft.written & used, draft.declared)
    inputs = [port for port in draft.inputs if split(port.tensor)[0] in used]
    ports.no_strangers(graph, used, inputs, set(draft.slots) | set(draft.missing))
    readable.keep(readable.ancestors(draft.roots, control=True))
    graph.keep(used)
    controlflow.drop_lost_control(graph)
    for each in (graph, readable):
        each.prune_library()
    return replace(draft, inputs=inputs, assumptions=[*draft.assumptions, *notes])


def _detach_constants(draft: Draft) -> Draft:
    roles = {leaf for hit in draft.norms for leaf in hit.roles.values()}
    return replace(draft, constants=constants.detach_constants(draft.graph, draft.readable, roles))


STEPS = (
    Step("cut_at_ports", _cut_at_ports, "first: nothing behind an input or beside an output is looked at"),
    Step("settle_modes", _settle_modes, "calls, flags and conditionals, until no more can be decided"),
    Step("leave_training_mode", _leave_training_mode, "after calls: layers lie open, variables still exist"),
    Step("drop_flags", _drop_flags, "a flag that was decided is no input any more"),
    Step("detach_variables", _detach_variables, "after conditionals: only what inference reads is needed"),
    Step("legalize", _legalize, "before norms are searched: each is spelled in one way"),
    Step("initialize_missing", _initialize_missing, "after norms: their roles tell statistics from weights"),
    Step("keep_what_is_used", _keep_what_is_used, "after the last rewiring"),
    Step("detach_constants", _detach_constants, "last: constants of the structure are still needed above"),
)
