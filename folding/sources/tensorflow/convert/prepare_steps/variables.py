"""Where each variable has its value, and what stands in for one that the weights do not hold."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from folding.errors import CorruptModel, UnhealthyModel
from folding.options import FoldOptions
from folding.report import Assumption
from folding.sources.tensorflow.graph.program import Program, Slot
from folding.sources.tensorflow.graph.tf_graph import (
    VARIABLE_OPS,
    TfGraph,
    data_inputs,
    numpy_dtype,
    split,
)
from folding.sources.tensorflow.graph.weights import read_slot
from folding.sources.tensorflow.norms import find_batch_norms
from folding.sources.tensorflow.norms.variable_names import by_name
from folding.sources.tensorflow.rewrite.detach_variables import declared

_WRITES = re.compile(r"(Resource)?(Assign|Scatter)(Add|Sub)?(VariableOp|Update)?$")
_FLOATS = (1, 2, 14, 19)
_SHOWN = 4  # variables that an assumption names
Declared = dict[str, tuple[int, list[int | None] | None]]


def stored(program: Program, name: str) -> np.ndarray | None:
    slot = program.slots.get(name, Slot(name))
    return read_slot(program.weights, slot) if program.weights.has(slot.key) else None


def bind_slots(
    program: Program, graph: TfGraph, roots: list[str]
) -> tuple[dict[str, Slot], Declared, list[str]]:
    """Where each needed variable's value lies; its dtype and shape; names of those that are missing."""
    slots: dict[str, Slot] = {}
    shapes: Declared = {}
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


def written(graph: TfGraph, roots: list[str]) -> frozenset[str]:
    """The variables that the model changes while it computes `roots`, before control edges are dropped."""
    ran = [graph.nodes[name] for name in graph.ancestors(roots, control=True)]
    return frozenset(
        split(data_inputs(node)[0])[0] for node in ran if _WRITES.match(node.op) and data_inputs(node)
    )


def updated(names: Iterable[str], declared: Declared) -> list[Assumption]:
    """That the model changes variables while it runs and reads them: no artifact keeps such a state."""
    found = [name for name in sorted(names) if name in declared and declared[name][0] in _FLOATS]
    if not found:
        return []
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return [
        Assumption(
            what="updates",
            value="left out",
            why=f"the model changes {', '.join(found[:_SHOWN])}{more} each time it runs, and reads it "
            "as well; the artifact computes with the values of the file",
            override="save the model with training=False (--feed training=false)",
        )
    ]


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


def initial_values(
    program: Program,
    found: list[find_batch_norms.FoundNorm],
    absent: list[str],
    shapes: Declared,
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
