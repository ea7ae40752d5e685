"""Branches that no probe takes: their condition is forced, in both graphs alike, and the outputs compared.

A conditional on the data (a mean above a threshold) may answer every probe by one branch; equal outputs then
say nothing about the weights in the other. Forcing is done on one probe at DISABLE_ALL, one conditional at a
time, with noise measured the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx

from folding.ir.types import Feeds
from folding.report import OutputComparison, VerificationRow
from folding.verify.compare.measured import judge
from folding.verify.compare.outputs import compare, summarize
from folding.verify.context import GraphPair, ProbeSet
from folding.verify.findings import Findings, reason
from folding.verify.model import Loaded, all_nodes, bodies, live_values
from folding.verify.noise.measure import NoiseModel
from folding.verify.noise.tolerance import Tolerance
from folding.verify.noise.ulp_noise import neighbours
from folding.verify.probes.generate import Probe
from folding.verify.verdict import BRANCHES

MOST = 16  # conditionals forced; more are said to be left out


@dataclass(frozen=True)
class Untaken:
    """A branch that no probe takes: the If, its condition as some probe computes it, and the other value."""

    node: onnx.NodeProto
    seen: np.ndarray

    @property
    def condition(self) -> str:
        """Name of the condition."""
        return str(self.node.input[0])

    @property
    def forced(self) -> np.ndarray:
        """The condition's other value, in its shape."""
        return np.asarray(np.logical_not(self.seen))

    @property
    def words(self) -> str:
        """For the report."""
        branch = "then" if self.forced.all() else "else"
        return f"the {branch} branch of {self.node.name or self.node.output[0]!r}"


@dataclass(frozen=True)
class ForcedBranches:
    """Outputs with branches forced that no probe takes; no row where there are none."""

    rows: tuple[VerificationRow, ...] = ()
    findings: Findings = field(default_factory=Findings)


def force_branches(pair: GraphPair, probes: ProbeSet, noise: NoiseModel) -> ForcedBranches:
    """Force such branches one by one; those that cannot be forced become limits of the verdict."""
    untaken = find_untaken(pair, probes)
    limits: list[str] = []
    if nested(pair.source):
        limits.append("conditionals inside loops, branches and functions were not forced")
    limits += [f"{left.words} is taken by no probe" for left in untaken[MOST:]]
    outputs: list[OutputComparison] = []
    forced = 0
    for branch in untaken[:MOST]:
        if branch.condition not in pair.artifact.produced and not fed(pair, branch):
            limits.append(
                f"{branch.words} is taken by no probe, and its condition is not in the artifact by that name"
            )
            continue
        try:
            outputs += both_forced(pair, probes.first, noise, branch)
            forced += 1
        except Exception as exc:  # noqa: BLE001 - a branch that cannot be had on this probe's data
            limits.append(f"{branch.words} is taken by no probe and does not run when forced: {reason(exc)}")
    rows = (branch_row(outputs, forced),) if outputs else ()
    return ForcedBranches(rows, Findings(limits=tuple(limits)))


def branch_row(outputs: list[OutputComparison], forced: int) -> VerificationRow:
    """Return one row for all forced branches."""
    failed = [output for output in outputs if not output.passed]
    return VerificationRow(
        reference=BRANCHES,
        provider="cpu",
        optimization_level="disable_all",
        status="fail" if failed else "pass",
        outputs=failed[:20] or outputs[:5],
        figures={"branches": forced},
    )


def find_untaken(pair: GraphPair, probes: ProbeSet) -> list[Untaken]:
    """Conditionals of the main graph that depend on an input and answer every probe by the same branch."""
    live = live_values(pair.source)
    nodes = [n for n in pair.source.proto.graph.node if n.op_type == "If" and n.input[0] in live]
    if not nodes:
        return []
    names = list(dict.fromkeys(node.input[0] for node in nodes))
    session = pair.source.session([name for name in names if name in pair.source.produced])
    seen: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for probe in probes.probes:
        answer = {**probe.feeds, **session.run(probe.feeds)}
        for name in names:
            seen[name].append(np.asarray(answer[name], bool))
    alike = {name for name, values in seen.items() if len({bool(value.all()) for value in values}) == 1}
    return [Untaken(node, seen[node.input[0]][0]) for node in nodes if node.input[0] in alike]


def nested(loaded: Loaded) -> bool:
    """Whether an If stands anywhere but in the main graph."""
    inner = (node for outer in loaded.proto.graph.node for body in bodies(outer) for node in all_nodes(body))
    functions = (node for function in loaded.proto.functions for node in function.node)
    return any(node.op_type == "If" for group in (inner, functions) for node in group)


def fed(pair: GraphPair, branch: Untaken) -> bool:
    """Whether the condition is an input of the model."""
    return branch.condition not in pair.source.produced


def both_forced(pair: GraphPair, probe: Probe, noise: NoiseModel, branch: Untaken) -> list[OutputComparison]:
    """Each output on the first probe, the branch forced in both graphs."""
    name = branch.condition
    feeds: Feeds = dict(probe.feeds)
    forced: Feeds = {}
    if fed(pair, branch):
        feeds[name] = branch.forced
    else:
        forced[name] = branch.forced
    cut = {key: value.dtype for key, value in forced.items()}
    source = pair.source.session((), cut)
    base = source.run(feeds, None, forced)
    got = pair.artifact.session((), cut).run(feeds, None, forced)
    rng = pair.rng(0x6272616E)
    samples = [source.run(neighbours(feeds, rng), weights, forced) for weights in noise.perturbed()]
    found = []
    for output in pair.source.outputs:
        runs = [sample[output] for sample in samples]
        made = one(output, base[output], got[output], runs)
        found.append(made.model_copy(update={"worst_probe": f"{probe.name}, {branch.words} forced"}))
    return found


def one(name: str, reference: np.ndarray, candidate: np.ndarray, noise: list[np.ndarray]) -> OutputComparison:
    """Floats against their noise; everything else must be equal wherever equivalent runs agree."""
    if reference.shape == candidate.shape and reference.dtype.kind == "f" and reference.size:
        return judge(name, reference, candidate, noise, wobbly=False)
    excused = np.zeros(reference.shape, bool)
    for run in noise:
        excused |= run != reference if run.shape == reference.shape else True
    tolerance = Tolerance(0.0, 0.0, "equal wherever equivalent runs agree", excused)
    return summarize([compare(name, "", reference, candidate, tolerance)])
