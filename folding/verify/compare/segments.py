"""Layer by layer: every segment between shared values is run on the source's own inputs, and compared there.

Given: values with one name in both graphs (fold sites first), `cuts`.
Result: in the artifact each consumer of a cut reads the *source's* value of it, so the error at a cut is that
of its own segment alone. It neither drowns in the noise of the layers before nor fades in those behind:
a weight that is off by 1e-3 in one channel stands out by orders of magnitude, at any depth.

A cut whose value the artifact computes in another layout (NHWC, NCHW) is compared through the axis order.
A name may mean something else in the artifact (the output of a conv that took its batch norm): such a cut is
far off from the start and not used, or, when it is near by accident, dropped once; what it hid must then
agree at the next cuts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from folding.report import DriftRow, OutputComparison, ToleranceReport
from folding.sources.base import Feeds
from folding.verify.compare.reusable_names import reusable
from folding.verify.model import Loaded
from folding.verify.noise.rounding_perturbation import perturbed_weights
from folding.verify.noise.tolerance import GUARD
from folding.verify.noise.ulp_noise import neighbours, unit_roundoff

ALIGNED = 1e-2  # root mean square distance, relative, within which a shared name means the same value
BYTES = 96 << 20  # activations held for one side
RELIABLE = 18  # draws after which the largest of them is no smaller than half its usual size, but once in 1e7
DISCONTINUOUS = frozenset(
    {
        "Round",
        "Floor",
        "Ceil",
        "Sign",
        "QuantizeLinear",
        "DynamicQuantizeLinear",
        "Greater",
        "Less",
        "Equal",
        "GreaterOrEqual",
        "LessOrEqual",
        "ArgMax",
        "ArgMin",
        "TopK",
        "Mod",
        "NonMaxSuppression",
        "Hardmax",
    }
)
SHARPER = 4  # further noise runs before a segment is called wrong
FLIPS = 1e-3  # share of elements that may sit on the other side of a rounding step in such a model


@dataclass(frozen=True)
class Cut:
    """A shared value. perm: axes of the source's value in the artifact's order, None for the same order."""

    name: str
    declared: bool
    perm: tuple[int, ...] | None = None

    def theirs(self, value: np.ndarray) -> np.ndarray:
        """The source's value as the artifact lays it out."""
        return value if self.perm is None else np.ascontiguousarray(value.transpose(self.perm))


@dataclass
class LayerCheck:
    """Outcome. `failed` are names in graph order; `dropped` were names reused for another value."""

    drift: list[DriftRow] = field(default_factory=list)
    outputs: list[OutputComparison] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    unaligned: list[str] = field(default_factory=list)
    cuts: int = 0

    @property
    def first_divergence(self) -> str | None:
        """First value, in graph order, whose own segment is wrong; None when no segment is.

        A fold site that is so far off that it could not serve as a cut comes before what it spoils.
        """
        if not self.failed:
            return None
        order = {row.value: i for i, row in enumerate(self.drift)}
        return min([*self.failed, *self.unaligned], key=lambda name: order.get(name, len(order)))


class Runner(Protocol):
    """One graph, cut: runs with its own weights or with others."""

    def run(self, feeds: Feeds, weights: Feeds | None = None, forced: Feeds | None = None) -> Feeds:
        """Outputs and asked-for inner values by name."""
        ...


Engine = Callable[[Loaded, Sequence[str], Mapping[str, np.dtype[Any]]], Runner]


def runtime_engine(loaded: Loaded, extra: Sequence[str], forced: Mapping[str, np.dtype[Any]]) -> Runner:
    """ONNX Runtime at DISABLE_ALL, in the model's own precision."""
    return loaded.session(extra, forced)


class Layers:
    """The comparison for one pair of graphs and one probe."""

    def __init__(
        self,
        source: Loaded,
        artifact: Loaded,
        sites: Sequence[str],
        feeds: Feeds,
        *,
        engine: Engine = runtime_engine,
        limit: int = BYTES,
    ) -> None:
        self.source, self.artifact, self.feeds = source, artifact, feeds
        self.engine = engine
        self.names = shared_values(source, artifact, sites, feeds, limit)
        self.sites = set(sites)
        self.reusable = reusable(source)

    def check(
        self, rng: np.random.Generator, perturbed: Sequence[Feeds], weights: Feeds | None = None
    ) -> LayerCheck:
        """Run both sides.

        perturbed: the source's weights one ulp off, a set per noise run. weights: other weights for the
        artifact (mutants, in tests).
        """
        result = LayerCheck()
        base = floats(self.engine(self.source, self.names, {}).run(self.feeds))
        free = floats(self.engine(self.artifact, self.names, {}).run(self.feeds, weights))
        cuts = self._align(base, free, result)
        outputs = [name for name in self.source.outputs if name in base]
        for attempt in (1, 2):
            inner = [cut for cut in cuts if cut.name not in outputs]
            noise = self._noise(inner, base, rng, perturbed)
            forced = {cut.name: cut.theirs(base[cut.name]) for cut in inner}
            session = self.engine(self.artifact, list(forced), dtypes(forced))
            got = floats(session.run(self.feeds, weights, forced))
            verdicts = self._judge(cuts, base, got, noise)
            bad = {name for name, v in verdicts.items() if not v.passed}
            if bad:
                more = (perturbed_weights(self.source, rng) for _ in range(SHARPER))  # one at a time
                noise += self._noise(inner, base, rng, more)
                verdicts = self._judge(cuts, base, got, noise)
                bad = {name for name, v in verdicts.items() if not v.passed}
            may_move = [c.name for c in cuts if not c.declared and c.name in self.reusable]
            loose = bad.intersection(may_move) - set(outputs)
            if attempt == 2 or not loose:
                break
            result.dropped = sorted(loose)
            cuts = [cut for cut in cuts if cut.name not in loose]
        order = {name: i for i, name in enumerate(self.source.produced)}
        result.failed = sorted(bad, key=lambda name: order.get(name, 0))
        result.cuts = len(verdicts)
        result.outputs = list(verdicts.values())
        return result

    def _align(self, base: Feeds, free: Feeds, result: LayerCheck) -> list[Cut]:
        """Cuts among the shared names, drift rows for them in graph order."""
        cuts = []
        outputs = set(self.source.outputs)
        for name in [n for n in self.source.produced if n in base]:
            mine, theirs = base[name], free.get(name)
            perm = alignment(mine, theirs) if theirs is not None else None
            if theirs is None or perm is None:
                if name in self.sites and theirs is not None and theirs.shape == mine.shape:
                    result.unaligned.append(name)
                    result.drift.append(drift_row(Cut(name, True), mine, theirs))
                if name not in outputs or theirs is None or theirs.shape != mine.shape:
                    continue
                perm = tuple(range(mine.ndim))
            straight = perm == tuple(range(mine.ndim))
            cut = Cut(name, name in self.sites, None if straight else perm)
            cuts.append(cut)
            result.drift.append(drift_row(cut, mine, theirs))
        return cuts

    def _noise(
        self, cuts: list[Cut], base: Feeds, rng: np.random.Generator, perturbed: Iterable[Feeds]
    ) -> list[Feeds]:
        """Equivalent executions of the source's segments: weights, inputs and cut values one ulp off."""
        forced = {cut.name: base[cut.name] for cut in cuts}
        session = self.engine(self.source, list(forced), dtypes(forced))
        return [
            floats(session.run(neighbours(self.feeds, rng), weights, neighbours(forced, rng)))
            for weights in perturbed
        ]

    def _judge(
        self, cuts: list[Cut], base: Feeds, got: Feeds, noise: list[Feeds]
    ) -> dict[str, OutputComparison]:
        """One comparison per cut."""
        found = {}
        wobbly = jumping(self.source, {cut.name for cut in cuts})
        for cut in cuts:
            theirs = got[cut.name]
            if cut.perm is not None:
                theirs = theirs.transpose(np.argsort(cut.perm))
            runs = [sample[cut.name] for sample in noise]
            found[cut.name] = judge(cut.name, base[cut.name], theirs, runs, cut.name in wobbly)
        return found


def dtypes(values: Feeds) -> dict[str, np.dtype[Any]]:
    """dtype of each array."""
    return {name: array.dtype for name, array in values.items()}


def floats(values: Feeds) -> Feeds:
    """The floating-point arrays."""
    return {name: array for name, array in values.items() if array.dtype.kind == "f" and array.size}


def shared_values(
    source: Loaded, artifact: Loaded, sites: Sequence[str], feeds: Feeds, limit: int
) -> list[str]:
    """Names that both graphs compute: fold sites first, then other values, while they fit in memory."""
    batch = max((array.shape[0] for array in feeds.values() if array.ndim), default=1)
    sizes = value_bytes(source, batch)
    both = [name for name in source.produced if name in artifact.produced and name not in source.outputs]
    chosen: list[str] = []
    used = 0
    for name in [*(n for n in both if n in set(sites)), *preferred(source, both, set(sites))]:
        size = sizes.get(name, 4 << 20)
        if used + size <= limit:
            used += size
            chosen.append(name)
    return chosen


def preferred(source: Loaded, names: Iterable[str], taken: set[str]) -> list[str]:
    """Block boundaries before the rest: activations and sums, then what is left."""
    ends = {
        "Relu",
        "Add",
        "Clip",
        "LeakyRelu",
        "Sigmoid",
        "Tanh",
        "Concat",
        "Softmax",
        "PRelu",
        "Elu",
        "MaxPool",
    }
    rest = [name for name in names if name not in taken]
    return sorted(rest, key=lambda name: source.produced[name].op_type not in ends)


def value_bytes(source: Loaded, batch: int) -> dict[str, int]:
    """Estimated size of inner values, from the shapes that the file carries (dynamic dims: batch, then 1)."""
    sizes = {}
    for value in source.proto.graph.value_info:
        dims = value.type.tensor_type.shape.dim
        shape = [d.dim_value if d.dim_value > 0 else (batch if i == 0 else 1) for i, d in enumerate(dims)]
        sizes[value.name] = 4 * int(np.prod(shape, dtype=np.int64))
    return sizes


def alignment(mine: np.ndarray, theirs: np.ndarray) -> tuple[int, ...] | None:
    """The axis order in which `mine` is `theirs`, up to ALIGNED; None when there is none."""
    if sorted(mine.shape) != sorted(theirs.shape):
        return None
    identity = tuple(range(mine.ndim))
    if mine.shape == theirs.shape and near(mine, theirs):
        return identity
    if not 3 <= mine.ndim <= 5:
        return None
    first, last = (0, mine.ndim - 1, *range(1, mine.ndim - 1)), (0, *range(2, mine.ndim), 1)
    for perm in (first, last):
        if mine.transpose(perm).shape == theirs.shape and near(mine.transpose(perm), theirs):
            return perm
    return None


def near(a: np.ndarray, b: np.ndarray) -> bool:
    """Root mean square distance within ALIGNED of the root mean square of `a`, finite elements only."""
    with np.errstate(all="ignore"):
        gap, size = np.subtract(a, b, dtype=np.float32), np.asarray(a, np.float32)
        ok = np.isfinite(gap) & np.isfinite(size)
        if not ok.all():
            gap, size = gap[ok], size[ok]
        error, power = float(np.vdot(gap, gap)), float(np.vdot(size, size))
    return error <= ALIGNED**2 * power if np.isfinite(power) else False


def drift_row(cut: Cut, mine: np.ndarray, theirs: np.ndarray) -> DriftRow:
    """Error of the free-running artifact at one value."""
    if cut.perm is not None:
        theirs = theirs.transpose(np.argsort(cut.perm))
    with np.errstate(all="ignore"):
        gap, size = np.abs(mine - theirs), np.abs(mine)
    gap, size = gap[np.isfinite(gap)], size[np.isfinite(size)]
    error, scale = float(gap.max(initial=0)), float(size.max(initial=0))
    return DriftRow(value=cut.name, max_abs=error, max_rel=error / scale if scale else 0.0, scale=scale)


def judge(
    name: str, reference: np.ndarray, candidate: np.ndarray, noise: Sequence[np.ndarray], wobbly: bool
) -> OutputComparison:
    """Compare by slices over (axis 1, last axis), each against its own noise.

    A slice's limit is GUARD times the largest of: its noise in the equivalent runs; its scale times the
    noise of all slices relative to theirs, or 2 u; and a share of the noise of all slices together: half of
    it where a slice has too few elements for its own noise to be reliable.
    """
    gaps = slices(gap(candidate, reference))
    scale = slices(np.where(np.isfinite(reference), reference, np.zeros((), reference.dtype)))
    measured = np.zeros_like(scale)
    for sample in noise:
        measured = np.maximum(measured, slices(gap(sample, reference)))
    together, typical = root_mean_square(measured), root_mean_square(scale)
    pooled = together / typical if typical else 0.0
    draws = len(noise) * reference.size / max(1, scale.size)
    share = 0.5 if draws < RELIABLE else 0.02
    floor = max(pooled, 2 * unit_roundoff(reference.dtype))
    with np.errstate(all="ignore"):
        limit = GUARD * np.maximum(np.maximum(measured, floor * scale), share * together)
        limit = np.where(np.isfinite(limit), limit, 0.0)
        excess = np.where(gaps == 0, 0.0, gaps / np.maximum(limit, 1e-300))
    worst = int(np.argmax(excess))
    passed = bool(excess.max() <= 1)
    if not passed and wobbly:
        passed = flips(reference, candidate, limit) <= FLIPS
    top = float(scale.max())
    # Shown: the slice furthest past its limit, or, where none is past it, the one that differs most.
    shown = int(np.argmax(gaps)) if passed and np.isfinite(gaps).all() else worst
    index = np.unravel_index(shown, gaps.shape)
    largest = float(gaps.ravel()[shown])
    return OutputComparison(
        name=name,
        max_abs=largest,
        max_rel=largest / top if top else 0.0,
        worst_index=[int(i) for i in index],
        worst_probe="layer by layer",
        tolerance=ToleranceReport(
            rtol=0.0,
            atol=float(limit.ravel()[shown]),
            why=f"{GUARD:g} x the noise of this segment alone, in this (axis 1, last axis) slice",
        ),
        passed=passed,
    )


def root_mean_square(values: np.ndarray) -> float:
    """Over the finite elements, in float64; 0 for none."""
    finite = np.abs(values[np.isfinite(values)].astype(np.float64))
    largest = float(finite.max(initial=0.0))  # divided by first: squares of float64 overflow from 1e154
    return largest * float(np.sqrt(np.mean(np.square(finite / largest)))) if largest else 0.0


def gap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b, at least in float32; 0 where both are the same infinity or both NaN."""
    with np.errstate(all="ignore"):
        found: np.ndarray = np.subtract(a, b, dtype=np.result_type(a, np.float32))
    if not np.isfinite(found).all():
        found[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
    return found


def slices(array: np.ndarray) -> np.ndarray:
    """max |x| over all axes but axis 1 and the last; NaN counts as infinite, shared infinities as none."""
    with np.errstate(all="ignore"):
        size = np.abs(array)
    if array.ndim < 2:
        flat: np.ndarray = np.nan_to_num(np.atleast_1d(size), nan=np.inf)
        return flat
    axes = tuple(i for i in range(array.ndim) if i not in (1, array.ndim - 1))
    found: np.ndarray = np.nan_to_num(size.max(axis=axes) if axes else size, nan=np.inf)
    return found


def flips(reference: np.ndarray, candidate: np.ndarray, limit: np.ndarray) -> float:
    """Share of elements beyond the limit of their slice."""
    kept = (1, reference.ndim - 1) if reference.ndim > 1 else (0,)
    shape = [size if i in kept else 1 for i, size in enumerate(reference.shape)]
    return float(np.mean(np.abs(gap(candidate, reference)) > limit.reshape(shape)))


def jumping(source: Loaded, cuts: set[str]) -> set[str]:
    """Values with a rounding or a decision on live data between them and the cuts before them."""
    live = {value.name for value in source.inputs}
    jumps: set[str] = set()
    for node in source.proto.graph.node:
        if node.op_type == "Shape" or not live.intersection(node.input):
            continue
        live.update(node.output)
        if node.op_type in DISCONTINUOUS or (jumps - cuts).intersection(node.input):
            jumps.update(node.output)
    return jumps
