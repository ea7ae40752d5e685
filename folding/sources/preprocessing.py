"""Preprocessing as a part of the artifact: it takes what a camera or a file gives, not normalized values.

    --input-mean x=123.7,116.3,103.5  --input-std x=58.4,57.1,57.4  --uint8-input x

    Given:  x (N, C, H, W) float -> ...
    Result: x uint8 -> Cast -> Sub mean -> Div std -> x/normalized -> ...

It happens before the unfolded graph is written: probes and artifact hold raw values, and the source's own
runtime is asked through `Preprocessed`, which normalizes them first. The fold then takes the constants into
the first convolution or dense layer, as it takes any other scale and shift; a shift that meets zero padding
stays as one Add.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from folding.errors import UsageError
from folding.ir.query import artifact_input
from folding.ir.types import Feeds
from folding.options import FoldOptions
from folding.sources.base import Imported, LayeredReference, Reference, SourceLayer

NORMALIZED = "/normalized"
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class Preprocessing:
    """`(raw - mean) / std` of one input, in the input's own type; both broadcast to it.

    raw: the element type that the artifact takes.
    """

    name: str
    mean: np.ndarray | None
    std: np.ndarray | None
    dtype: np.dtype[np.generic]
    raw: ir.DataType

    def apply(self, value: np.ndarray) -> np.ndarray:
        """Return what the source takes for a raw value."""
        found = np.asarray(value).astype(self.dtype)
        found = found if self.mean is None else found - self.mean
        return found if self.std is None else found / self.std


class Preprocessed:
    """A reference that is given raw values."""

    def __init__(self, inner: Reference, steps: Sequence[Preprocessing]) -> None:
        self.name, self.precision = inner.name, inner.precision
        self._inner, self._steps = inner, {step.name: step for step in steps}

    def run(self, feeds: Feeds) -> Feeds:
        """Outputs by name for raw inputs by name."""
        return self._inner.run(self.normalized(feeds))

    def normalized(self, feeds: Feeds) -> Feeds:
        """Return the inputs as the source takes them."""
        return {n: self._steps[n].apply(v) if n in self._steps else v for n, v in feeds.items()}

    def close(self) -> None:
        """Close the reference."""
        self._inner.close()


class PreprocessedLayers(Preprocessed):
    """The same for a reference that hands out its operators' values."""

    def __init__(self, inner: Reference, steps: Sequence[Preprocessing]) -> None:
        super().__init__(inner, steps)
        assert isinstance(inner, LayeredReference)
        self.judged, self._layers = inner.judged, inner
        self.deployed: Reference | None = (
            None if inner.deployed is None else Preprocessed(inner.deployed, steps)
        )

    def layers(self, feeds: Feeds) -> Sequence[SourceLayer]:
        """Every operator; what reads an input of the source reads the normalized value here."""
        found = self._layers.layers(self.normalized(feeds))
        return [replace(layer, reads=tuple(map(self._read, layer.reads))) for layer in found]

    def _read(self, name: str) -> str:
        return name + NORMALIZED if name in self._steps else name


def names(options: FoldOptions) -> list[str]:
    """Return the inputs whose preprocessing the artifact holds."""
    return list(dict.fromkeys((*options.input_mean, *options.input_std, *options.uint8_inputs)))


def prepend(imported: Imported, options: FoldOptions) -> None:
    """Put the preprocessing that the options describe before the model, and before its reference.

    Raises: UsageError `unknown_input`, or `input_preprocessing` where the numbers do not fit the input.
    """
    if not names(options):
        return
    graph = imported.model.graph
    held = {value.name or "": value for value in graph.inputs}
    steps = [_step(held, name, options) for name in names(options)]
    for step in steps:
        _insert(graph, held[step.name], step)
    imported.source.notes += [_told(step) for step in steps]
    imported.onnx_path = None
    if imported.reference is not None:
        layered = isinstance(imported.reference, LayeredReference)
        imported.reference = (PreprocessedLayers if layered else Preprocessed)(imported.reference, steps)


def _step(held: dict[str, ir.Value], name: str, options: FoldOptions) -> Preprocessing:
    value = artifact_input(held, name)
    if value.dtype not in _FLOATS:
        raise _unfit(
            name, f"holds {value.dtype or 'an unknown type'}", "Only inputs of floats are normalized."
        )
    dtype = np.dtype(value.dtype.numpy())
    mean = _constant(value, options.input_mean.get(name), dtype)
    std = _constant(value, options.input_std.get(name), dtype)
    if std is not None and not (std > 0).all():
        raise _unfit(name, "is divided by a number that is not positive", "A standard deviation is above 0.")
    raw = ir.DataType.UINT8 if name in options.uint8_inputs else value.dtype
    return Preprocessing(name, mean, std, dtype, raw)


def _constant(
    value: ir.Value, given: float | list[float] | None, dtype: np.dtype[np.generic]
) -> np.ndarray | None:
    """Return the numbers, shaped so that they broadcast along the channels."""
    if given is None:
        return None
    with np.errstate(over="ignore"):  # what does not fit is refused below
        numbers = np.asarray(given, np.float64).reshape(-1).astype(dtype)
    if not np.isfinite(numbers).all():
        raise _unfit(value.name, f"gets a number that {dtype} cannot hold", "Give finite numbers.")
    if numbers.size == 1:
        return numbers.reshape(())
    dims = None if value.shape is None else [d if isinstance(d, int) else None for d in value.shape]
    rank = 0 if dims is None else len(dims)
    axes = [axis for axis in sorted({1, rank - 1}) if dims and 0 < axis < rank and dims[axis] == numbers.size]
    if len(axes) != 1:
        where = "no axis" if not axes else "more than one axis"
        raise _unfit(
            value.name,
            f"has {where} of {numbers.size} channels, second or last",
            "Give one number, or one for each channel; --input states sizes that the model leaves open.",
        )
    return numbers.reshape([numbers.size if axis == axes[0] else 1 for axis in range(rank)])


def _unfit(name: str | None, what: str, hint: str) -> UsageError:
    return UsageError(f"Input {name!r} {what}.", code="input_preprocessing", layer=name, hint=hint)


def _insert(graph: ir.Graph, value: ir.Value, step: Preprocessing) -> None:
    """The input keeps its name; its readers get the normalized value."""
    uses = list(value.uses())
    outputs = [index for index, output in enumerate(graph.outputs) if output is value]
    kind, shape = value.dtype, value.shape
    nodes: list[ir.Node] = []
    last = value
    if step.raw is not kind:
        assert kind is not None
        nodes.append(ir.node("Cast", [last], {"to": kind.value}))
        last = nodes[-1].outputs[0]
        last.name = f"{step.name}/float"
        last.dtype, last.shape = kind, shape
        value.dtype = step.raw
    for op, role, array in (("Sub", "mean", step.mean), ("Div", "std", step.std)):
        if array is None:
            continue
        constant = ir.Value(
            name=f"{step.name}/{role}", const_value=ir.tensor(array), type=ir.TensorType(kind or step.raw),
            shape=ir.Shape(array.shape),
        )  # fmt: skip
        graph.register_initializer(constant)
        nodes.append(ir.node(op, [last, constant]))
        last = nodes[-1].outputs[0]
        last.name = f"{step.name}/{role}/applied"
        last.dtype, last.shape = kind, shape
    if not nodes:
        return
    last.name = step.name + NORMALIZED
    for use in uses:
        use.node.replace_input_with(use.idx, last)
    for index in outputs:
        graph.outputs[index] = last
    if len(graph):
        graph.insert_before(graph[0], nodes)
    else:
        graph.extend(nodes)


def _told(step: Preprocessing) -> str:
    parts = [f"minus {_numbers(step.mean)}"] if step.mean is not None else []
    parts += [f"divided by {_numbers(step.std)}"] if step.std is not None else []
    kind = "raw uint8 values" if step.raw is ir.DataType.UINT8 else "raw values"
    done = ", ".join(parts) or "a cast"
    return f"input {step.name!r} takes {kind}; the artifact holds the preprocessing: {done}"


def _numbers(array: np.ndarray) -> str:
    return ", ".join(f"{float(each):g}" for each in array.reshape(-1)[:8])
