"""Check what a caller of the model sees: inputs and outputs, which a fold must not change."""

from __future__ import annotations

from folding.verify.context import GraphPair
from folding.verify.findings import Findings
from folding.verify.model import Loaded


def check_interface(pair: GraphPair) -> Findings:
    """Return one fault for each part of the interface that differs."""
    faults = []
    mine, theirs = interface(pair.source), interface(pair.artifact)
    for what, a, b in (("inputs", mine[0], theirs[0]), ("outputs", mine[1], theirs[1])):
        if a != b:
            faults.append(f"{what} differ: source {a}, artifact {b}")
    kept, wanted = overridable(pair.artifact), overridable(pair.source)
    if not pair.options.freeze_inputs and sorted(kept) != sorted(wanted):
        faults.append(f"overridable inputs differ: source {wanted}, artifact {kept}")
    return Findings(faults=tuple(faults))


def interface(loaded: Loaded) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """(name, element type) of inputs and outputs, in order."""
    sides = (loaded.inputs, list(loaded.proto.graph.output))
    ins, outs = ([(v.name, v.type.tensor_type.elem_type) for v in side] for side in sides)
    return ins, outs


def overridable(loaded: Loaded) -> list[str]:
    """Inputs that have a value of their own, which a caller may replace (not before IR version 4)."""
    if loaded.proto.ir_version < 4:
        return []
    stored = {tensor.name for tensor in loaded.proto.graph.initializer}
    return [value.name for value in loaded.proto.graph.input if value.name in stored]
