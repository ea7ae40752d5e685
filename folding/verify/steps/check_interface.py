"""Check what a caller of the model sees: inputs and outputs, which a fold must not change."""

from __future__ import annotations

from collections.abc import Sequence

from folding.verify.context import GraphPair, ProbeSet
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


def contradicted_shapes(pair: GraphPair, probes: ProbeSet) -> Findings:
    """Return a note for each output whose declared shape is not the one that the source computes."""
    notes = []
    for value in pair.source.proto.graph.output:
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
            continue
        declared = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        for probe in probes.probes:
            found = probes.answers[probe.name][value.name].shape
            if not fits(declared, found):
                words = "x".join("?" if dim is None else str(dim) for dim in declared) or "a scalar"
                notes.append(
                    f"output {value.name!r} is declared as {words}, but the source computes "
                    f"{'x'.join(map(str, found)) or 'a scalar'} on probe {probe.name!r}: "
                    "the declared shape is not relied on"
                )
                break
    return Findings(notes=tuple(notes))


def fits(declared: Sequence[int | None], found: Sequence[int]) -> bool:
    """Whether a shape is the declared one; None stands for any size."""
    return len(declared) == len(found) and all(
        wanted is None or wanted == size for wanted, size in zip(declared, found, strict=True)
    )
