"""Segments judged by sound bounds: the fold in float64, the runtime in its own arithmetic.

Given: cuts (values that both graphs compute), the source's own values at them.
Result: each segment between cuts is evaluated in float64 on both sides, on the same inputs. `f` is what it
computes in real arithmetic with the source's weights. Every constant that the artifact reads in a part that
is not the source's own expression may differ from the exact one by a cast (`|dW| <= u |W|`, which the
certificate checks); a difference above the bound that follows cannot be rounding: it is a fault. What the
artifact computes by the same expressions of the same values is equal, and is not computed twice.

The same pass bounds the artifact in the arithmetic of a provider, for the values that the provider computed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from folding.ir.types import Feeds
from folding.verify.bounds import FOLD, Application, Arithmetic, Bounded, propagate
from folding.verify.compare.cuts import Cut, near
from folding.verify.compare.graph_stream import COPIED, GraphStream, Numbering, SourceStream
from folding.verify.compare.segment_result import Segment, judge_segment, unjudged_segment
from folding.verify.float64 import apply_node, attributes, widen
from folding.verify.model import Loaded
from folding.verify.noise.ulp_noise import unit_roundoff

TIGHT = 1e-4  # of a segment's scale: a looser bound proves too little, and the segment counts as measured
RUNTIME_TIGHT = 0.1  # a provider's bound shows wrong kernels and layouts; small faults are the fold step's


@dataclass(frozen=True)
class BoundedCheck:
    """Outcome by cut. dropped: names that the artifact uses for another value, found by the bound."""

    fold: dict[str, Segment] = field(default_factory=dict)
    runtime: dict[str, Segment] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    distrusted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """What one pass reads.

    base: the source's own values at the cuts, which the segments start from; empty: those of float64.
    computed: what a provider computed for the artifact's segments, judged by `arithmetic`.
    may_move: cuts whose name a fold may use for another value.
    casts: roundings of each constant that the artifact does not share with the source, which nobody counted:
        a segment within that many times its bound is left to the measured noise.
    trusted: cuts at which our float64 evaluation is a reference, whatever `base` says of it.
    """

    source: Loaded
    artifact: Loaded
    feeds: Feeds
    cuts: Sequence[Cut]
    base: Feeds = field(default_factory=dict)
    computed: Feeds = field(default_factory=dict)
    arithmetic: Arithmetic | None = None
    may_move: frozenset[str] = frozenset()
    casts: float = 1.0
    outputs: frozenset[str] = frozenset()
    deadline: float | None = None
    trusted: frozenset[str] = frozenset()


class ArtifactStream(GraphStream):
    """The artifact: each value with its bound in the fold's arithmetic and, where asked for, a provider's."""

    def __init__(self, task: Task, source: SourceStream, numbering: Numbering) -> None:
        super().__init__(task.artifact, task.feeds, numbering)
        self.task, self.source = task, source
        self.fold: dict[str, Bounded] = {}
        self.run: dict[str, Bounded] = {}

    def advance(self) -> onnx.NodeProto:
        """Compute the next node and the bounds of its results."""
        proto: onnx.NodeProto = self.nodes[self.position]
        self.widened.clear()
        numbers = [self.number(proto, i) if name else -1 for i, name in enumerate(proto.output)]
        clean = all(n in self.source.names for n, name in zip(numbers, proto.output, strict=True) if name)
        shared = [self.source.equal(n) for n in numbers] if clean and all(proto.output) else [None]
        results: tuple[np.ndarray, ...] | None = tuple(v for v in shared if v is not None)
        if any(v is None for v in shared):
            results = self.evaluate(proto)
        for i, name in enumerate(proto.output):
            if name:
                self.numbers[name] = numbers[i]
                self.values[name] = results[i] if results is not None and i < len(results) else None
        if results is not None:
            self._bound(proto, results, clean)
        self.position += 1
        return proto

    def _bound(self, proto: onnx.NodeProto, results: tuple[np.ndarray, ...], clean: bool) -> None:
        """Bound the results of one node in every arithmetic."""
        shared: dict[str, np.ndarray] = {}
        names = list(proto.output)[: len(results)]
        if clean:
            self.fold.update(
                {name: Bounded(value) for name, value in zip(names, results, strict=False) if name}
            )
        else:
            found = propagate(self._application(proto, results, FOLD, self.fold, shared))
            self.fold.update({n: b for n, b in zip(names, found, strict=False) if n})
        if self.task.arithmetic is not None:
            found = propagate(self._application(proto, results, self.task.arithmetic, self.run, shared))
            self.run.update({n: b for n, b in zip(names, found, strict=False) if n})

    def _application(
        self,
        proto: onnx.NodeProto,
        results: Sequence[np.ndarray],
        arithmetic: Arithmetic,
        known: Mapping[str, Bounded],
        shared: dict[str, np.ndarray],
    ) -> Application:
        """Return the node with bounded operands."""
        operands = [self._operand(proto, name, known, arithmetic) for name in proto.input]
        return Application(
            proto.op_type,
            operands,
            results,
            lambda values: apply_node(proto, list(values), self.opset),
            attributes(proto, self.opset),
            self.opset,
            arithmetic,
            shared,
        )

    def _operand(
        self, proto: onnx.NodeProto, name: str, known: Mapping[str, Bounded], arithmetic: Arithmetic
    ) -> Bounded | None:
        """Return an operand with its bound; a constant of the artifact may be off by its cast.

        A table without an error of its own is read as it is stored: a copy of it in float64 would be twice
        its size, and only a few of its rows are looked at.
        """
        if not name:
            return None
        if name in known:
            return known[name]
        value = self.values[name]
        assert value is not None
        stored = self.stored.get(name)
        relative = 0.0
        if arithmetic is FOLD and stored is not None:
            relative = unit_roundoff(stored.dtype)
        as_stored = relative == 0 and proto.op_type in COPIED
        return Bounded(value if as_stored else self.wide(name, value), relative=relative)

    def read_source(self, cut: Cut, value: np.ndarray) -> None:
        """From here on, consumers of the cut read the source's value, which is exact."""
        self.values[cut.name] = cut.theirs(value)
        self.fold[cut.name] = Bounded(widen(cut.theirs(value)))
        self.run.pop(cut.name, None)
        if cut.perm is None:
            self.numbers[cut.name] = self.source.numbers[cut.name]
        else:
            self.numbers[cut.name] = self.numbering.of(("layout", self.source.numbers[cut.name], cut.perm))

    def forget(self, proto: onnx.NodeProto) -> None:
        """Forget values and bounds that no later node reads."""
        self.release(proto, self.position - 1)
        for bounds in (self.fold, self.run):
            for name in (*proto.input, *proto.output):
                if name not in self.values:
                    bounds.pop(name, None)


def compare_bounded(task: Task) -> BoundedCheck:
    """Run both graphs side by side and judge every cut. Memory: what both still need, plus the cuts."""
    numbering = Numbering()
    cuts = {cut.name: cut for cut in task.cuts}
    inner = {name: value for name, value in task.base.items() if name in cuts and name not in task.outputs}
    source = SourceStream(task.source, task.feeds, numbering, set(cuts), inner)
    artifact = ArtifactStream(task, source, numbering)
    fold: dict[str, Segment] = {}
    runtime: dict[str, Segment] = {}
    dropped: list[str] = []
    distrusted: list[str] = []
    while artifact.position < len(artifact.nodes):
        if task.deadline is not None and time.perf_counter() > task.deadline:
            return late(BoundedCheck(fold, runtime, tuple(dropped), tuple(distrusted)), cuts)
        proto = artifact.advance()
        for name in proto.output:
            if name not in cuts:
                continue
            cut, mine = cuts[name], source.take(name)
            doubted = name in task.base and name not in task.trusted
            if mine is not None and doubted and not agrees(task.base[name], mine):
                distrusted.append(name)
                mine = None
            found = judge_fold(cut, mine, artifact)
            if found.passed is False and name in task.may_move and name not in task.outputs:
                dropped.append(name)
                continue
            fold[name] = found
            if mine is not None and name in task.computed and task.arithmetic is not None:
                runtime[name] = judge_runtime(cut, task.computed[name], artifact)
            if name not in task.outputs:
                start = task.base.get(name, mine)
                if start is None:
                    artifact.values[name] = None
                else:
                    artifact.read_source(cut, start)
        artifact.forget(proto)
    return BoundedCheck(fold, runtime, tuple(dropped), tuple(distrusted))


def late(check: BoundedCheck, cuts: Mapping[str, Cut]) -> BoundedCheck:
    """Return what was judged in time; every other cut is left to the measured noise."""
    rest = {name: unjudged_segment(name, "over its time budget") for name in cuts if name not in check.fold}
    return replace(check, fold={**check.fold, **rest})


def agrees(own: np.ndarray, exact: np.ndarray) -> bool:
    """Whether our float64 answer is the source's own, up to rounding: only then it is a reference."""
    if own.shape != exact.shape:
        return False
    if own.dtype.kind != "f":
        return bool(np.array_equal(own, exact))
    return bool((np.isfinite(own) == np.isfinite(exact)).all()) and near(exact, own)


def judge_fold(cut: Cut, mine: np.ndarray | None, artifact: ArtifactStream) -> Segment:
    """The artifact's float64 segment against the source's."""
    bounded, value = artifact.fold.get(cut.name), artifact.values.get(cut.name)
    if mine is None or value is None or bounded is None:
        why = artifact.source.why.get(cut.name) if mine is None else artifact.why.get(cut.name)
        return unjudged_segment(cut.name, why or "no float64 evaluation")
    found = judge_segment(cut.name, mine, cut.ours(widen(value)), cut.ours(bounded.full()), TIGHT)
    casts = artifact.task.casts
    if found.passed is False and found.ratio <= casts:
        why = f"within {casts:g} roundings of each constant, and nothing says how often they were rounded"
        return replace(found, passed=None, status="measured", why=why)
    return found


def judge_runtime(cut: Cut, computed: np.ndarray, artifact: ArtifactStream) -> Segment:
    """What a provider computed against the float64 segment, by the bound of its arithmetic."""
    bounded, value = artifact.run.get(cut.name), artifact.values.get(cut.name)
    if value is None or bounded is None:
        return unjudged_segment(cut.name, artifact.why.get(cut.name) or "no float64 evaluation")
    return judge_segment(
        cut.name, cut.ours(widen(value)), cut.ours(widen(computed)), cut.ours(bounded.full()), RUNTIME_TIGHT
    )
