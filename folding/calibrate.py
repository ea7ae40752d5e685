"""Moving statistics measured on the user's own data: to diagnose the stored ones, or to replace them.

Every batch norm is run in training mode (it normalizes with the statistics of the data, so that the layers
behind it see what they saw in training), and its input's mean and variance are collected over all of the
data:

    mean = E[m_b]          variance = E[v_b] + E[(m_b - mean)^2] = E[v_b + m_b^2] - mean^2

over chunks b with their mean m_b and variance v_b: the total variance, not the mean of variances. Chunks
are as
large as memory allows; where all the data fits into one, the result is exactly that of one full batch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from folding import export
from folding.errors import ModelError, UnsupportedModel, UsageError
from folding.norms.base import BatchNorm, ChannelAffine, Float64Array
from folding.options import FoldOptions
from folding.ort import OrtSession
from folding.progress import Progress
from folding.sources.base import Feeds, Imported

CHUNK_BYTES = 1 << 30  # activations of one chunk; leaves room for the model in a 4 GiB job
MAX_CHUNK = 4096
_LIVE = 6  # activations of the largest size that are alive together, with what training mode adds


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


@dataclass(frozen=True)
class Compared:
    """Stored against measured statistics of one layer.

    mean_shift: largest |measured - stored| / sqrt(measured variance + epsilon) over the channels.
    variance_ratio: smallest and largest (measured + epsilon) / (stored + epsilon).
    output_shift: how far the model's outputs move, RMS over their standard deviation, when all are replaced.
    """

    mean_shift: float
    variance_ratio: tuple[float, float]
    samples: int
    output_shift: float


@dataclass
class Calibrated:
    """What `run` hands back.

    norms: to go on with. rewritten: whether the model now holds the measured statistics.
    """

    norms: list[BatchNorm]
    summary: dict[str, Any]
    rewritten: bool = False
    compared: dict[int, Compared] = field(default_factory=dict)  # by id of a norm in `norms`

    def comparison(self, norm: BatchNorm) -> Compared | None:
        """The comparison of one layer, None where it was not measured or had no statistics before."""
        return self.compared.get(id(norm))


def run(
    imported: Imported, norms: list[BatchNorm], calibration: Feeds, options: FoldOptions, progress: Progress
) -> Calibrated:
    """Measure every batch norm on the data; with `options.recalibrate`, put the result into the model.

    Without it nothing changes: the comparison only tells (health code `lagging`).

    Raises:
        UsageError: `calibration_data` when the arrays do not fit the model's inputs.
        UnsupportedModel: `calibration_failed` when the graph cannot be run in training mode.
    """
    model = imported.model
    data, ignored = fit(model, calibration)
    samples = len(next(iter(data.values())))
    measurable = [norm for norm in norms if _measurable(model, norm)]
    with tempfile.TemporaryDirectory(prefix="bnfold-calibrate-") as folder:
        chunk = chunk_size(model, data, samples)
        moments = _measure(model, measurable, data, chunk, Path(folder), progress)
        before = _outputs(model, data, chunk, Path(folder) / "before.onnx", progress, 0.6)
        trial = model.clone()
        _rewrite(trial, [_twin(trial, norm) for norm in measurable], moments)
        after = _outputs(trial, data, chunk, Path(folder) / "after.onnx", progress, 0.8)
    changes = _output_changes(model, before, after)
    shift = max((row["relative_rms"] for row in changes.values()), default=0.0)
    result = Calibrated(list(norms), {})
    rows = []
    replaced = (
        dict(zip(map(id, measurable), _rewrite(model, measurable, moments), strict=True))
        if options.recalibrate
        else {}
    )
    for position, norm in enumerate(norms):
        final = replaced.get(id(norm), norm)
        result.norms[position] = final
        found = moments.get(id(norm))
        if found is None:
            rows.append({"name": norm.name, "measured": False})
            continue
        compared = _compare(norm, found, samples, shift)
        if compared is not None and not options.recalibrate:
            result.compared[id(final)] = compared
        rows.append(_row(norm, found, compared))
    result.rewritten = bool(replaced)
    result.summary = {
        "samples": samples,
        "chunk": chunk,
        "applied": options.recalibrate,
        "ignored_arrays": ignored,
        "layers": rows,
        "outputs": changes,
    }
    progress.report("calibrate", 1.0, f"{len(moments)} layers measured on {samples} examples")
    return result


# --- data -----------------------------------------------------------------------------------------


def fit(model: ir.Model, calibration: Feeds) -> tuple[Feeds, list[str]]:
    """The arrays by graph input, in its dtype; names of arrays that are no input. Raises UsageError."""
    wanted = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    data: Feeds = {}
    used: set[str] = set()
    for value in wanted:
        name = value.name or ""
        key = next((key for key in (name, name.split(":")[0]) if key in calibration), None)
        if key is None:
            raise UsageError(
                f"The calibration data has no array {name!r}; it has "
                f"{', '.join(sorted(calibration)) or 'none'}.",
                code="calibration_data",
                layer=name,
                hint=f"Save it with numpy.savez(path, **{{{name!r}: array}}), first axis the batch.",
                details={"inputs": [v.name for v in wanted]},
            )
        used.add(key)
        data[name] = _fitting(value, np.asarray(calibration[key]))
    lengths = {name: len(array) for name, array in data.items()}
    if not data or min(lengths.values()) == 0 or len(set(lengths.values())) > 1:
        raise UsageError(
            f"The calibration arrays must be equally long and not empty; their lengths are {lengths}.",
            code="calibration_data",
        )
    return data, sorted(set(calibration) - used)


def _fitting(value: ir.Value, array: np.ndarray) -> np.ndarray:
    name = value.name or ""
    shape = list(value.shape) if value.shape is not None else None
    fits = array.ndim > 0 and (
        shape is None
        or (
            len(shape) == array.ndim
            and all(not isinstance(d, int) or d == n for d, n in zip(shape[1:], array.shape[1:], strict=True))
        )
    )
    if not fits:
        raise UsageError(
            f"Calibration array {name!r} has shape {list(array.shape)}; the input is declared as {shape}.",
            code="calibration_data",
            layer=name,
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UsageError(
            f"Calibration array {name!r} holds NaN or infinity.", code="calibration_data", layer=name
        )
    if value.dtype is not None and array.dtype.kind in "fiub":
        array = array.astype(value.dtype.numpy(), copy=False)
    return array


def chunk_size(model: ir.Model, data: Feeds, samples: int) -> int:
    """Examples per run: the graph's own batch size where it is fixed, else what `CHUNK_BYTES` allows."""
    for value in model.graph.inputs:
        if (
            value.name in data
            and value.shape is not None
            and len(value.shape)
            and isinstance(value.shape[0], int)
        ):
            return min(int(value.shape[0]), samples)
    largest = max(int(np.prod(array.shape[1:], dtype=np.int64)) for array in data.values())
    for node in model.graph:
        for output in node.outputs:
            if output.shape is not None:
                dims = [dim for dim in output.shape if isinstance(dim, int)]
                largest = max(largest, int(np.prod(dims, dtype=np.int64)))
    return max(1, min(samples, MAX_CHUNK, CHUNK_BYTES // (4 * _LIVE * largest)))


def _chunks(data: Feeds, size: int) -> Iterator[Feeds]:
    samples = len(next(iter(data.values())))
    for start in range(0, max(samples - size, 0) + 1, size):
        yield {name: array[start : start + size] for name, array in data.items()}
    rest = samples % size
    if rest and samples > size:
        yield {name: array[samples - rest :] for name, array in data.items()}


# --- measuring ------------------------------------------------------------------------------------


def _measurable(model: ir.Model, norm: BatchNorm) -> bool:
    """It lies in the main graph, and its input's rank and channel axis are known."""
    return (
        norm.input is not None
        and norm.output is not None
        and _named_axis(norm) is not None
        and bool(norm.nodes)
        and all(node.graph is model.graph for node in norm.nodes)
        and norm.input.shape is not None
        and norm.epsilon is not None
    )


def _twin(model: ir.Model, norm: BatchNorm) -> BatchNorm:
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


def _measure(
    model: ir.Model, norms: list[BatchNorm], data: Feeds, chunk: int, folder: Path, progress: Progress
) -> dict[int, Moments]:
    """Moments by id of the norm; layers that share their variables share their moments."""
    clone = model.clone()
    names = []
    for position, norm in enumerate(norms):
        names.append(_training_mode(clone, _twin(clone, norm), position))
    clone.graph.sort()
    session = _open(clone, folder / "training.onnx")
    found: dict[int, Moments] = {}
    rest = _fixed_batch(model)
    done, total = 0, len(next(iter(data.values())))
    for feeds in _chunks(data, chunk):
        size = len(next(iter(feeds.values())))
        if rest and size != chunk:
            continue  # a fixed batch size takes no remainder
        flat = [name for pair in names for name in pair]
        results = _run(session, flat, feeds)
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
    rank, axis = len(norm.input.shape), _axis(norm)
    axes = [each for each in range(rank) if each != axis]
    prefix = f"calibrate_{position}"
    mean = _reduce_mean(model, x, axes, f"{prefix}/mean")
    centred = _op(graph, "Sub", [x, mean], f"{prefix}/centred")
    squares = _op(graph, "Mul", [centred, centred], f"{prefix}/squares")
    variance = _reduce_mean(model, squares, axes, f"{prefix}/variance")
    dtype = _float_type(x)
    shape = [-1 if each == axis else 1 for each in range(rank)]
    epsilon = _constant(graph, np.asarray(norm.epsilon, dtype), f"{prefix}/epsilon")
    deviation = _op(
        graph, "Sqrt", [_op(graph, "Add", [variance, epsilon], f"{prefix}/shifted")], f"{prefix}/sqrt"
    )
    y = _op(graph, "Div", [centred, deviation], f"{prefix}/normal")
    for role, op in (("gamma", "Mul"), ("beta", "Add")):
        array = getattr(norm, role)
        if array is not None:
            held = np.asarray(array, np.float64).reshape(shape).astype(dtype)
            y = _op(graph, op, [y, _constant(graph, held, f"{prefix}/{role}")], f"{prefix}/{op.lower()}")
    _take_over(graph, norm.output, y)
    graph.outputs.extend([mean, variance])
    return mean.name or "", variance.name or ""


def _axis(norm: BatchNorm) -> int:
    assert norm.input is not None
    assert norm.input.shape is not None
    axis = _named_axis(norm)
    assert axis is not None
    return axis % len(norm.input.shape)


def _named_axis(norm: BatchNorm) -> int | None:
    """The channel axis, from the source where one channel leaves the graph none to tell."""
    if norm.channel_axis is None and norm.hint is not None:
        return norm.hint.channel_axis
    return norm.channel_axis


def _op(graph: ir.Graph, op: str, inputs: list[ir.Value], name: str, **attributes: Any) -> ir.Value:
    node = ir.node(op, inputs, attributes=attributes or None, name=name)
    node.outputs[0].name = name
    node.outputs[0].type = inputs[0].type
    graph.append(node)
    return node.outputs[0]


def _reduce_mean(model: ir.Model, x: ir.Value, axes: list[int], name: str) -> ir.Value:
    if model.graph.opset_imports.get("", 18) >= 18:
        listed = _constant(model.graph, np.asarray(axes, np.int64), f"{name}/axes")
        return _op(model.graph, "ReduceMean", [x, listed], name, keepdims=1)
    return _op(model.graph, "ReduceMean", [x], name, axes=axes, keepdims=1)


def _constant(graph: ir.Graph, array: np.ndarray, name: str) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.Tensor(array, name=name))
    value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    value.shape = ir.Shape(array.shape)
    graph.register_initializer(value)
    return value


def _float_type(value: ir.Value) -> np.dtype[Any]:
    return value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)


def _take_over(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """`new` stands wherever `old` stood, graph outputs (under their name) included."""
    for position, output in enumerate(graph.outputs):
        if output is old:
            new.shape, new.type = old.shape, old.type
            name, old.name = old.name, f"{old.name}/before"
            new.name = name
            graph.outputs[position] = new
    old.replace_all_uses_with(new)


# --- putting the measured statistics in -----------------------------------------------------------


def _rewrite(model: ir.Model, norms: list[BatchNorm], moments: dict[int, Moments]) -> list[BatchNorm]:
    """Replace each norm by one Mul and one Add of the measured statistics, which then fold like any other."""
    fresh = []
    measured = list(moments.values())
    for position, norm in enumerate(norms):
        held = moments.get(id(norm), measured[position] if position < len(measured) else None)
        assert held is not None
        fresh.append(_replaced(model, norm, held))
    model.graph.sort()
    _drop_dead(model.graph)
    return fresh


def _replaced(model: ir.Model, norm: BatchNorm, found: Moments) -> BatchNorm:
    assert norm.input is not None
    assert norm.output is not None
    assert norm.input.shape is not None
    graph, x, axis = model.graph, norm.input, _axis(norm)
    stored = _stored_type(norm)
    mean, variance = found.mean.astype(stored), found.variance.astype(stored)
    gamma = 1.0 if norm.gamma is None else np.asarray(norm.gamma, np.float64).reshape(-1)
    beta = 0.0 if norm.beta is None else np.asarray(norm.beta, np.float64).reshape(-1)
    scale = gamma / np.sqrt(variance.astype(np.float64) + (norm.epsilon or 0.0))
    shift = beta - mean.astype(np.float64) * scale
    shape = [-1 if each == axis else 1 for each in range(len(norm.input.shape))]
    dtype = _float_type(x)
    y, nodes = x, []
    for op, role, array in (("Mul", "scale", scale), ("Add", "shift", shift)):
        constant = _constant(
            graph, array.reshape(shape).astype(dtype), f"{norm.output.name}/recalibrated_{role}"
        )
        y = _op(graph, op, [y, constant], f"{norm.output.name}/recalibrated_{op.lower()}")
        y.shape = norm.output.shape
        producer = y.producer()
        assert producer is not None
        nodes.append(producer)
    _take_over(graph, norm.output, y)
    hint = norm.hint
    if hint is not None:
        hint = replace(hint, batch_statistics=False, missing=(), arrays={}, evidence={}, initializers={})
    return replace(
        norm,
        output=y,
        nodes=tuple(nodes),
        moving_mean=mean,
        moving_variance=variance,
        affine=ChannelAffine(scale, shift, axis),
        why_not=None,
        hint=hint,
    )


def _stored_type(norm: BatchNorm) -> np.dtype[Any]:
    for array in (norm.moving_mean, norm.gamma, norm.beta):
        if array is not None and np.asarray(array).dtype.kind == "f":
            return np.asarray(array).dtype
    return np.dtype(np.float32)


def _drop_dead(graph: ir.Graph) -> None:
    for node in reversed(list(graph)):
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            graph.initializers.pop(name)


# --- comparing ------------------------------------------------------------------------------------


def _compare(norm: BatchNorm, found: Moments, samples: int, output_shift: float) -> Compared | None:
    if norm.moving_mean is None or norm.moving_variance is None or (norm.hint and norm.hint.batch_statistics):
        return None
    epsilon = norm.epsilon or 0.0
    mean = np.asarray(norm.moving_mean, np.float64).reshape(-1)
    variance = np.asarray(norm.moving_variance, np.float64).reshape(-1)
    if mean.shape != found.mean.shape or variance.shape != found.variance.shape:
        return None
    with np.errstate(all="ignore"):
        shift = np.abs(found.mean - mean) / np.sqrt(found.variance + epsilon)
        ratio = (found.variance + epsilon) / (variance + epsilon)
    return Compared(float(np.max(shift)), (float(np.min(ratio)), float(np.max(ratio))), samples, output_shift)


def _row(norm: BatchNorm, found: Moments, compared: Compared | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": norm.name,
        "measured": True,
        "mean": _numbers(found.mean),
        "variance": _numbers(found.variance),
    }
    if norm.moving_mean is not None and norm.moving_variance is not None:
        row["stored_mean"] = _numbers(np.asarray(norm.moving_mean))
        row["stored_variance"] = _numbers(np.asarray(norm.moving_variance))
    if compared is not None:
        row["mean_shift"] = compared.mean_shift
        row["variance_ratio"] = list(compared.variance_ratio)
    return row


def _numbers(array: np.ndarray) -> list[float]:
    """The first channels: enough for a table; the artifact holds them all."""
    return [float(number) for number in array.reshape(-1)[:64].astype(np.float64)]


def _output_changes(
    model: ir.Model, before: dict[str, np.ndarray], after: dict[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    changes = {}
    for name, old in before.items():
        if old.dtype.kind != "f":
            continue
        difference = np.asarray(after[name], np.float64) - np.asarray(old, np.float64)
        spread = float(np.std(np.asarray(after[name], np.float64)))
        rms = float(np.sqrt(np.mean(difference**2))) if difference.size else 0.0
        changes[name] = {
            "max_abs": float(np.max(np.abs(difference))) if difference.size else 0.0,
            "rms": rms,
            "relative_rms": rms / spread if spread > 0 else 0.0,
        }
    return changes


def _outputs(
    model: ir.Model, data: Feeds, chunk: int, path: Path, progress: Progress, fraction: float
) -> dict[str, np.ndarray]:
    """The outputs for the first chunk: enough to see how far they move."""
    session = _open(model, path)
    names = [value.name or "" for value in model.graph.outputs]
    progress.report("calibrate", fraction, "outputs before and after")
    first = next(_chunks(data, chunk))
    return dict(zip(names, (np.asarray(result) for result in _run(session, names, first)), strict=True))


def _open(model: ir.Model, path: Path) -> OrtSession:
    export.write_plain(model, path)
    try:
        return OrtSession(path)
    except Exception as error:
        raise _failed(error) from error


def _run(session: OrtSession, names: list[str], feeds: Feeds) -> list[np.ndarray]:
    try:
        found = session.run(feeds, names)
    except Exception as error:
        raise _failed(error) from error
    return [found[name] for name in names]


def _failed(error: Exception) -> ModelError:
    return UnsupportedModel(
        f"The model cannot be run on the calibration data: {str(error).splitlines()[0][:300]}",
        code="calibration_failed",
        stage="calibrate",
        hint="Check the data's shapes and dtypes against the model's inputs.",
    )
