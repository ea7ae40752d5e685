"""Layer by layer: every segment between shared values is run on the source's own inputs, and compared there.

Given: values with one name in both graphs (fold sites first), `cuts`.
Result: in the artifact each consumer of a cut reads the *source's* value of it, so the error at a cut is that
of its own segment alone. It neither drowns in the noise of the layers before nor fades in those behind.

Each segment is judged by a sound bound where there is one (`bounded`), else by measured noise (`measured`).
A name that the artifact uses for another value, near the source's by accident, is dropped once; what it hid
must then agree at the next cuts.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from folding.ir.types import Feeds
from folding.report import DriftRow, OutputComparison
from folding.verify.bounds import Arithmetic
from folding.verify.compare.bounded import BoundedCheck, Task, compare_bounded
from folding.verify.compare.cuts import Cut, alignment, drift_row, dtypes, floats, shared_values
from folding.verify.compare.measured import judge, jumping
from folding.verify.compare.reusable_names import reusable, untouched
from folding.verify.compare.segment_graph import cut_out
from folding.verify.compare.segment_result import Segment
from folding.verify.float64 import Float64UnavailableError
from folding.verify.model import FedSession, Loaded
from folding.verify.noise.monte_carlo import monte_carlo
from folding.verify.noise.rounding_perturbation import perturbed_weights
from folding.verify.noise.ulp_noise import neighbours

BYTES = 96 << 20  # activations held for one side
SHARPER = 4  # further noise runs before a segment is called wrong


@dataclass
class LayerCheck:
    """Outcome. fold, runtime: bounded segments by cut. measured: comparisons by noise of the other cuts.

    failed: names in graph order. dropped: names that were reused for another value. unaligned: fold sites
    that are too far off to be cut. spoiled: where something failed, the values that are off too, and that the
    artifact computes from the same values by the same operator. limits: remarks.
    """

    drift: list[DriftRow] = field(default_factory=list)
    fold: dict[str, Segment] = field(default_factory=dict)
    runtime: dict[str, Segment] = field(default_factory=dict)
    measured: dict[str, OutputComparison] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    unaligned: list[str] = field(default_factory=list)
    spoiled: list[str] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    cuts: int = 0
    order: list[str] = field(default_factory=list)  # values of the source

    @property
    def proved(self) -> bool:
        """Whether a sound bound holds for every segment."""
        return bool(self.fold) and len(self.fold) == self.cuts and all(s.passed for s in self.fold.values())

    @property
    def first_divergence(self) -> str | None:
        """First value, in graph order, whose own segment is wrong; None when no segment is.

        A value that is so far off that it could not serve as a cut comes before what it spoils.
        """
        if not self.failed:
            return None
        order = {name: i for i, name in enumerate(self.order)}
        found = [*self.failed, *self.unaligned, *self.spoiled]
        return min(found, key=lambda name: order.get(name, len(order)))


@dataclass(frozen=True)
class Layers:
    """The comparison for one pair of graphs and one probe.

    limit: bytes of inner values held for one side. arithmetic: how the runtime computes; None: its segments
    are not bounded. seconds: what the evaluation in float64 may take; 0 leaves it out. casts: see
    `bounded.Task`.
    """

    source: Loaded
    artifact: Loaded
    sites: Sequence[str]
    feeds: Feeds
    limit: int = BYTES
    arithmetic: Arithmetic | None = None
    seconds: float = 60.0
    casts: float = 1.0

    def check(self, rng: np.random.Generator, perturbed: Iterable[Feeds]) -> LayerCheck:
        """Run both sides. perturbed: the source's weights one ulp off, a set per noise run."""
        result = LayerCheck()
        names = shared_values(self.source, self.artifact, self.sites, self.feeds, self.limit)
        result.order = list(self.source.produced)
        base = floats(self.source.session(names).run(self.feeds))
        free = floats(self.artifact.session(names).run(self.feeds))
        cuts = self._align(base, free, result)
        known = {cut.name for cut in cuts} | set(result.unaligned)
        far = [n for n in names if n in base and n in free and n not in known]
        far = [n for n in far if base[n].shape == free[n].shape]
        del free
        may_move = reusable(self.source) - set(self.source.outputs)
        loose = frozenset(c.name for c in cuts if not c.declared and c.name in may_move)
        while True:
            dropped = self._judge(cuts, base, loose, rng, perturbed, result)
            if not dropped:
                break
            result.dropped, loose = sorted(dropped), frozenset()
            cuts = [cut for cut in cuts if cut.name not in dropped]
        order = {name: i for i, name in enumerate(result.order)}
        result.failed.sort(key=lambda name: order.get(name, 0))
        if result.failed:
            result.spoiled = untouched(self.source, self.artifact, [*far, *result.dropped])
        result.cuts = len(cuts)
        return result

    def _align(self, base: Feeds, free: Feeds, result: LayerCheck) -> list[Cut]:
        """Return cuts among the shared names; drift rows for them in graph order."""
        cuts = []
        outputs, sites = set(self.source.outputs), set(self.sites)
        for name in [n for n in self.source.produced if n in base]:
            mine, theirs = base[name], free.get(name)
            perm = alignment(mine, theirs) if theirs is not None else None
            if theirs is None or perm is None:
                if name in sites and theirs is not None and theirs.shape == mine.shape:
                    result.unaligned.append(name)
                    result.drift.append(drift_row(Cut(name, True), mine, theirs))
                if name not in outputs or theirs is None or theirs.shape != mine.shape:
                    continue
                perm = tuple(range(mine.ndim))
            straight = perm == tuple(range(mine.ndim))
            cut = Cut(name, name in sites, None if straight else perm)
            cuts.append(cut)
            result.drift.append(drift_row(cut, mine, theirs))
        return cuts

    def _judge(
        self,
        cuts: list[Cut],
        base: Feeds,
        loose: frozenset[str],
        rng: np.random.Generator,
        perturbed: Iterable[Feeds],
        result: LayerCheck,
    ) -> set[str]:
        """Judge every cut once. Return the names in `loose` that mean another value; nothing counts then."""
        inner = [cut for cut in cuts if cut.name not in self.source.outputs]
        forced = {cut.name: cut.theirs(base[cut.name]) for cut in inner}
        got = floats(self.artifact.session(list(forced), dtypes(forced)).run(self.feeds, None, forced))
        bounded = self._bounded(cuts, base, got, loose, result)
        if bounded.dropped:
            return set(bounded.dropped)
        open_ = [c for c in cuts if c.name not in bounded.fold or bounded.fold[c.name].passed is None]
        measured = self._measured(cuts, open_, base, got, rng, perturbed) if open_ else {}
        bad = {name for name, found in measured.items() if not found.passed}
        if bad & loose:
            return bad & loose
        result.fold, result.runtime, result.measured = bounded.fold, bounded.runtime, measured
        for segments in (bounded.fold, bounded.runtime):
            bad |= {name for name, segment in segments.items() if segment.passed is False}
        result.failed = list(bad)
        return set()

    def _bounded(
        self, cuts: list[Cut], base: Feeds, got: Feeds, loose: frozenset[str], result: LayerCheck
    ) -> BoundedCheck:
        """Judge by bounds, as far as float64 evaluation reaches."""
        if not self.seconds:
            return BoundedCheck()
        task = Task(
            self.source,
            self.artifact,
            self.feeds,
            cuts,
            base={cut.name: base[cut.name] for cut in cuts},
            computed=got,
            arithmetic=self.arithmetic,
            may_move=loose,
            casts=self.casts,
            outputs=frozenset(self.source.outputs),
            deadline=time.perf_counter() + self.seconds,
        )
        try:
            return compare_bounded(task)
        except Float64UnavailableError as exc:
            result.limits = [f"float64 layer by layer left out: {exc}"]
            return BoundedCheck()

    def _measured(
        self,
        cuts: list[Cut],
        open_: list[Cut],
        base: Feeds,
        got: Feeds,
        rng: np.random.Generator,
        perturbed: Iterable[Feeds],
    ) -> dict[str, OutputComparison]:
        """Judge by noise the cuts that no bound judges."""
        inner = [cut for cut in cuts if cut.name not in self.source.outputs]
        wobbly = jumping(self.source, {cut.name for cut in inner})
        noise = self._noise(inner, open_, base, rng, perturbed)
        found = judged(open_, base, got, noise, wobbly)
        if any(not comparison.passed for comparison in found.values()):
            more = (perturbed_weights(self.source, rng) for _ in range(SHARPER))  # one at a time
            noise += self._noise(inner, open_, base, rng, more)
            found = judged(open_, base, got, noise, wobbly)
        return found

    def _noise(
        self,
        inner: list[Cut],
        wanted: list[Cut],
        base: Feeds,
        rng: np.random.Generator,
        perturbed: Iterable[Feeds],
    ) -> list[Feeds]:
        """Equivalent executions of the source's segments: weights, inputs and cut values one ulp off."""
        keep = {cut.name for cut in wanted}
        forced = {cut.name: base[cut.name] for cut in inner}
        session, needed = self._noisy_segments(keep, forced, rng)
        starts = {name: value for name, value in forced.items() if name in needed}
        runs = (
            session.run(neighbours(self.feeds, rng), weights, neighbours(starts, rng))
            for weights in perturbed
        )
        return [{name: value for name, value in floats(run).items() if name in keep} for run in runs]

    def _noisy_segments(
        self, wanted: set[str], forced: Feeds, rng: np.random.Generator
    ) -> tuple[FedSession, set[str]]:
        """Return a session of the source's segments that end in `wanted`, with the result of every operator
        moved where the runtime loads that, and the names of the forced values that it reads."""
        for graph in (monte_carlo(self.source, rng), self.source):
            part, needed = cut_out(graph, wanted, forced)
            starts = {name: value for name, value in forced.items() if name in needed}
            try:
                return part.session(sorted(wanted), dtypes(starts)), needed
            except Exception:
                if graph is self.source:
                    raise
        raise AssertionError("the source is the last graph")


def judged(
    cuts: list[Cut], base: Feeds, got: Feeds, noise: list[Feeds], wobbly: set[str]
) -> dict[str, OutputComparison]:
    """One comparison per cut."""
    return {
        cut.name: judge(
            cut.name,
            base[cut.name],
            cut.ours(got[cut.name]),
            [sample[cut.name] for sample in noise],
            cut.name in wobbly,
        )
        for cut in cuts
    }
