"""Names and layouts of the artifact's inputs and outputs, as tf2onnx's options of these names ask.

    --rename-input a=b          input a is called b
    --inputs-as-nchw x          x (N, H, W, C) -> Transpose becomes x (N, C, H, W) -> Transpose -> ...
    --outputs-as-nchw y         ... -> y (N, H, W, C) becomes ... -> Transpose -> y (N, C, H, W)

It happens before anything is folded and before the unfolded graph is written: graph, probes and artifact
speak the new interface, and the source's own runtime is asked through `Adapted`, which translates both ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from folding.errors import UsageError
from folding.ir.types import Feeds
from folding.options import FoldOptions
from folding.sources.base import Imported, LayeredReference, Reference, SourceLayer

TO_NCHW = (0, 3, 1, 2)
TO_NHWC = (0, 2, 3, 1)


@dataclass(frozen=True)
class Interface:
    """New name -> old name of inputs and outputs, and the new names of those that are channels-first now."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    inputs_nchw: frozenset[str]
    outputs_nchw: frozenset[str]

    def old_feeds(self, feeds: Feeds) -> Feeds:
        """Inputs as the source names and lays them out."""
        return {
            self.inputs.get(name, name): np.transpose(value, TO_NHWC) if name in self.inputs_nchw else value
            for name, value in feeds.items()
        }

    def new_answers(self, answers: Feeds) -> Feeds:
        """Outputs as the artifact names and lays them out."""
        new = {old: name for name, old in self.outputs.items()}
        named = {new.get(name, name): value for name, value in answers.items()}
        return {n: np.transpose(v, TO_NCHW) if n in self.outputs_nchw else v for n, v in named.items()}


class Adapted:
    """A reference behind another interface."""

    def __init__(self, inner: Reference, interface: Interface) -> None:
        self.name, self.precision = inner.name, inner.precision
        self._inner, self._interface = inner, interface

    def run(self, feeds: Feeds) -> Feeds:
        """Outputs by the artifact's names for inputs by its names."""
        return self._interface.new_answers(self._inner.run(self._interface.old_feeds(feeds)))

    def close(self) -> None:
        """Close the reference."""
        self._inner.close()


class AdaptedLayers(Adapted):
    """The same for a reference that hands out its operators' values."""

    def __init__(self, inner: Reference, interface: Interface) -> None:
        super().__init__(inner, interface)
        assert isinstance(inner, LayeredReference)
        self.judged, self._layers = inner.judged, inner
        self.deployed: Reference | None = (
            None if inner.deployed is None else Adapted(inner.deployed, interface)
        )

    def layers(self, feeds: Feeds) -> Sequence[SourceLayer]:
        """Every operator, by the names that the unfolded graph has."""
        new_in = {old: name for name, old in self._interface.inputs.items()}
        new = {old: name for name, old in self._interface.outputs.items()}
        turned = self._interface.outputs_nchw
        found = []
        for layer in self._layers.layers(self._interface.old_feeds(feeds)):
            name = new.get(layer.name, layer.name)
            value = np.transpose(layer.value, TO_NCHW) if name in turned else layer.value
            reads = tuple(new.get(read, new_in.get(read, read)) for read in layer.reads)
            found.append(replace(layer, name=name, value=value, reads=reads))
        return found


def adapt(imported: Imported, options: FoldOptions) -> None:
    """Give the model the interface that was asked for, and its reference with it.

    Raises: UsageError `unknown_input`, `unknown_output`, or `usage` for a name that is taken or no image.
    """
    if not any(
        (options.rename_inputs, options.rename_outputs, options.inputs_as_nchw, options.outputs_as_nchw)
    ):
        return
    graph = imported.model.graph
    inputs = _named(graph.inputs, [*options.rename_inputs, *options.inputs_as_nchw], "input")
    outputs = _named(graph.outputs, [*options.rename_outputs, *options.outputs_as_nchw], "output")
    for name in options.inputs_as_nchw:
        _turn_input(graph, inputs[name])
    for name in options.outputs_as_nchw:
        _turn_output(graph, outputs[name])
    # the values that are inputs and outputs now: turning an output made a new one
    for renamed, values in ((options.rename_inputs, graph.inputs), (options.rename_outputs, graph.outputs)):
        _rename(graph, renamed, {value.name or "": value for value in values})
    imported.onnx_path = None
    interface = Interface(
        {new: old for old, new in options.rename_inputs.items()},
        {new: old for old, new in options.rename_outputs.items()},
        frozenset(options.rename_inputs.get(name, name) for name in options.inputs_as_nchw),
        frozenset(options.rename_outputs.get(name, name) for name in options.outputs_as_nchw),
    )
    if imported.reference is not None:
        layered = isinstance(imported.reference, LayeredReference)
        imported.reference = (AdaptedLayers if layered else Adapted)(imported.reference, interface)


def _named(values: Iterable[ir.Value], names: Iterable[str], role: str) -> dict[str, ir.Value]:
    held = {value.name or "": value for value in values}
    for name in names:
        if name not in held:
            raise UsageError(
                f"The model has no {role} called {name!r}.",
                code=f"unknown_{role}",
                hint="Names are case-sensitive; `bnfold inspect` lists them.",
                details={"candidates": sorted(held)[:50]},
            )
    return held


def _image(value: ir.Value) -> list[int | str | None]:
    dims = None if value.shape is None else [d if isinstance(d, int) else d.value for d in value.shape]
    if dims is None or len(dims) != 4:
        raise UsageError(
            f"{value.name!r} has {'an unknown rank' if dims is None else f'rank {len(dims)}'}; only four "
            "dimensions are turned from channels-last to channels-first.",
            hint="Leave it out, or give its shape with --input.",
        )
    return dims


def _turn_input(graph: ir.Graph, value: ir.Value) -> None:
    """The input becomes channels-first; a Transpose behind it gives its consumers what they had."""
    dims = _image(value)
    uses = list(value.uses())
    node = ir.node("Transpose", [value], {"perm": list(TO_NHWC)})
    back = node.outputs[0]
    back.name, back.type, back.shape = f"{value.name}/nhwc", value.type, ir.Shape(dims)
    for use in uses:
        use.node.replace_input_with(use.idx, back)
    for index, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[index] = back
    value.shape = ir.Shape([dims[axis] for axis in TO_NCHW])
    if len(graph):
        graph.insert_before(graph[0], node)
    else:
        graph.append(node)


def _turn_output(graph: ir.Graph, value: ir.Value) -> None:
    """The output becomes channels-first, under its own name."""
    dims = _image(value)
    name = value.name
    node = ir.node("Transpose", [value], {"perm": list(TO_NCHW)})
    turned = node.outputs[0]
    turned.type, turned.shape = value.type, ir.Shape([dims[axis] for axis in TO_NCHW])
    graph.append(node)
    graph.outputs[list(graph.outputs).index(value)] = turned
    value.name, turned.name = f"{name}/nhwc", name


def _rename(graph: ir.Graph, renamed: Mapping[str, str], held: Mapping[str, ir.Value]) -> None:
    taken = set(ir.convenience.create_value_mapping(graph))
    for old, new in renamed.items():
        if not new or new in taken:
            raise UsageError(f"{old!r} cannot be called {new!r}: the name is {'taken' if new else 'empty'}.")
        held[old].name = new
        taken.add(new)
