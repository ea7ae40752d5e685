"""Fix sizes of graph inputs, as `--artifact-input NAME=1,3,224,224` asks.

    Given:  x (N, 3, H, W) -> ... -> y (N, 10)      x = 1, 3, 224, 224
    Result: x (1, 3, 224, 224) -> ... -> y (1, 10)

It happens before anything is folded and before the unfolded graph is written, so probes, references and the
artifact all have these sizes. A dimension that is given as a name or as unknown stays symbolic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from folding.errors import UsageError
from folding.ir.query import all_graphs, artifact_input

Dim = int | str | None


def fix_input_shapes(model: ir.Model, shapes: Mapping[str, Sequence[Dim]]) -> list[str]:
    """Set the shapes; return a sentence for each input.

    Raises: UsageError `unknown_input`, or `input_shape` where a shape contradicts the declared one.
    """
    inputs = {value.name or "": value for value in model.graph.inputs}
    known: dict[str, int] = {}
    notes = []
    for name, asked in shapes.items():
        known |= _fix(artifact_input(inputs, name), list(asked))
        notes.append(f"input {name!r} has the shape {', '.join(map(_shown, asked))}, as asked for")
    _propagate_sizes(model, known)
    return notes


def _fix(value: ir.Value, asked: list[Dim]) -> dict[str, int]:
    """Set one input's shape; return the symbols that have a size now."""
    declared = value.shape
    before: list[Dim] = [None] * len(asked) if declared is None else [_dim(dim) for dim in declared]
    wrong = len(before) != len(asked) or any(
        isinstance(was, int) and isinstance(new, int) and was != new
        for was, new in zip(before, asked, strict=False)
    )
    if wrong or any(isinstance(new, int) and new < 0 for new in asked):
        raise UsageError(
            f"Input {value.name!r} is declared as {', '.join(map(_shown, before)) or 'a scalar'}; "
            f"{', '.join(map(_shown, asked)) or 'nothing'} does not fit.",
            code="input_shape",
            layer=value.name,
            hint="Give sizes for the unknown dimensions; keep the others.",
        )
    kept = [
        was if new is None or isinstance(was, int) else new for was, new in zip(before, asked, strict=True)
    ]
    value.shape = ir.Shape(kept)
    pairs = zip(before, asked, strict=True)
    return {was: new for was, new in pairs if isinstance(was, str) and isinstance(new, int)}


def _propagate_sizes(model: ir.Model, known: dict[str, int]) -> None:
    """Outputs get the sizes that their symbols have now; claims about inner values are forgotten."""
    for value in model.graph.outputs:
        if value.shape is not None:
            value.shape = ir.Shape(
                [known.get(d, d) if isinstance(d, str) else d for d in map(_dim, value.shape)]
            )
    if not known:
        return
    outputs = set(model.graph.outputs)
    for graph in all_graphs(model):
        for node in graph:
            for value in node.outputs:
                if (
                    value not in outputs
                    and value.shape is not None
                    and known.keys() & set(map(_dim, value.shape))
                ):
                    value.shape = None


def _dim(dim: int | ir.SymbolicDim) -> Dim:
    return dim.value if isinstance(dim, ir.SymbolicDim) else dim


def _shown(dim: Dim) -> str:
    return "?" if dim is None else str(dim)
