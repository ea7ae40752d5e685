"""Every norm in training mode, and the moments of its input over all of the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from folding.calibrate.channel_axis import axis_of, named_axis
from folding.calibrate.data import chunks
from folding.calibrate.sessions import answers, open_session
from folding.ir.edit import append, named_initializer, prune, replace_value
from folding.ir.query import float_dtype
from folding.ir.types import Feeds, Float64Array
from folding.norms.base import BatchNorm
from folding.progress import Progress


@dataclass
class Moments:
    """Running mean and variance of one layer's input, per channel, float64."""

    count: float
    mean: Float64Array
    variance: Float64Array

    def merged(self, other: Moments) -> Moments:
        """The moments of both samples together (Chan et al.: no cancellation, unlike E[x^2] - E[x]^2)."""
        total = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / total)
        variance = (
            self.variance * self.count
            + other.variance * other.count
            + delta**2 * (self.count * other.count / total)
        ) / total
        return Moments(total, mean, variance)


def can_measure(model: ir.Model, norm: BatchNorm) -> bool:
    """It lies in the main graph, and its input's rank and channel axis are known."""
    return (
        norm.input is not None
        and norm.output is not None
        and named_axis(norm) is not None
        and bool(norm.nodes)
        and all(node.graph is model.graph for node in norm.nodes)
        and norm.input.shape is not None
        and norm.epsilon is not None
    )


def twin(model: ir.Model, norm: BatchNorm) -> BatchNorm:
    """The norm in a clone of its model, by names."""
    values = ir.convenience.create_value_mapping(model.graph)
    nodes = [values[name].producer() for name in (n.outputs[0].name for n in norm.nodes) if name in values]
    assert norm.input is not None
    assert norm.output is not None
    return replace(
        norm,
        input=values[norm.input.name or ""],
        output=values[norm.output.name or ""],
        nodes=tuple(node for node in nodes if node is not None),
    )


def measure(
    model: ir.Model, norms: list[BatchNorm], data: Feeds, chunk: int, folder: Path, progress: Progress
) -> dict[int, Moments]:
    """Moments by id of the norm; layers that share their variables share their moments."""
    clone = model.clone()
    names = []
    for position, norm in enumerate(norms):
        names.append(_training_mode(clone, twin(clone, norm), position))
    clone.graph.sort()
    session = open_session(clone, folder / "training.onnx")
    found: dict[int, Moments] = {}
    rest = _fixed_batch(model)
    done, total = 0, len(next(iter(data.values())))
    for feeds in chunks(data, chunk):
        size = len(next(iter(feeds.values())))
        if rest and size != chunk:
            continue  # a fixed batch size takes no remainder
        flat = [name for pair in names for name in pair]
        results = answers(session, flat, feeds)
        for position, norm in enumerate(norms):
            mean, variance = (
                np.asarray(r, np.float64).reshape(-1) for r in results[2 * position : 2 * position + 2]
            )
            fresh = Moments(float(size), mean, variance)
            held = found.get(id(norm))
            found[id(norm)] = fresh if held is None else held.merged(fresh)
        done += size
        progress.report("calibrate", 0.6 * done / total, f"{done} of {total} examples")
    return _pooled(norms, found)


def _pooled(norms: list[BatchNorm], found: dict[int, Moments]) -> dict[int, Moments]:
    """One layer used twice (two towers) has one pair of statistics: over both of its inputs."""
    groups: dict[tuple[str, str], list[BatchNorm]] = {}
    for norm in norms:
        key = (norm.variables.get("moving_mean", ""), norm.variables.get("moving_variance", ""))
        if key[0] and key[1]:
            groups.setdefault(key, []).append(norm)
    for group in groups.values():
        if len(group) > 1 and len({found[id(norm)].mean.shape for norm in group}) == 1:
            pool = found[id(group[0])]
            for norm in group[1:]:
                pool = pool.merged(found[id(norm)])
            for norm in group:
                found[id(norm)] = pool
    return found


def _fixed_batch(model: ir.Model) -> bool:
    return any(
        value.shape is not None and len(value.shape) and isinstance(value.shape[0], int)
        for value in model.graph.inputs
        if value.name not in model.graph.initializers
    )


def _training_mode(model: ir.Model, norm: BatchNorm, position: int) -> tuple[str, str]:
    """Rewrite one norm to the statistics of its own batch; they become two more graph outputs."""
    assert norm.input is not None
    assert norm.output is not None
    assert norm.input.shape is not None
    graph, x = model.graph, norm.input
    rank, axis = len(norm.input.shape), axis_of(norm)
    axes = [each for each in range(rank) if each != axis]
    prefix = f"calibrate_{position}"
    mean = _reduce_mean(model, x, axes, f"{prefix}/mean")
    centred = append(graph, "Sub", [x, mean], f"{prefix}/centred")
    squares = append(graph, "Mul", [centred, centred], f"{prefix}/squares")
    variance = _reduce_mean(model, squares, axes, f"{prefix}/variance")
    dtype = float_dtype(x)
    shape = [-1 if each == axis else 1 for each in range(rank)]
    epsilon = named_initializer(graph, f"{prefix}/epsilon", np.asarray(norm.epsilon, dtype))
    deviation = append(
        graph, "Sqrt", [append(graph, "Add", [variance, epsilon], f"{prefix}/shifted")], f"{prefix}/sqrt"
    )
    y = append(graph, "Div", [centred, deviation], f"{prefix}/normal")
    for role, op in (("gamma", "Mul"), ("beta", "Add")):
        array = getattr(norm, role)
        if array is not None:
            held = np.asarray(array, np.float64).reshape(shape).astype(dtype)
            y = append(
                graph, op, [y, named_initializer(graph, f"{prefix}/{role}", held)], f"{prefix}/{op.lower()}"
            )
    replace_value(norm.output, y)
    prune(list(norm.nodes))
    graph.outputs.extend([mean, variance])
    return mean.name or "", variance.name or ""


def _reduce_mean(model: ir.Model, x: ir.Value, axes: list[int], name: str) -> ir.Value:
    """ReduceMean over `axes`, kept: an attribute before opset 18, an input from there on."""
    if model.graph.opset_imports.get("", 18) >= 18:
        listed = named_initializer(model.graph, f"{name}/axes", np.asarray(axes, np.int64))
        return append(model.graph, "ReduceMean", [x, listed], name, keepdims=1)
    return append(model.graph, "ReduceMean", [x], name, axes=axes, keepdims=1)
