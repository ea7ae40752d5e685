"""What a caller of the model sees: inputs and outputs, which a fold must not change."""

from __future__ import annotations

from folding.verify.context import Study
from folding.verify.model import Loaded


def match_outputs(study: Study) -> dict[str, str]:
    """Source output name -> artifact output name: equal names. A differing interface is a fault."""
    mine, theirs = interface(study.source), interface(study.artifact)
    for what, a, b in (("inputs", mine[0], theirs[0]), ("outputs", mine[1], theirs[1])):
        if a != b:
            study.evidence.faults.append(f"{what} differ: source {a}, artifact {b}")
    kept, wanted = overridable(study.artifact), overridable(study.source)
    if not study.options.freeze_inputs and sorted(kept) != sorted(wanted):
        study.evidence.faults.append(f"overridable inputs differ: source {wanted}, artifact {kept}")
    return {name: name for name in study.source.outputs}


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
