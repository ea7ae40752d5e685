"""Branches that no probe takes: their condition is forced, in both graphs alike, and the outputs compared.

A conditional on the data (a mean above a threshold) may answer every probe by one branch; equal outputs then
say nothing about the weights in the other. Forcing is done on one probe at DISABLE_ALL, one conditional at a
time, with noise measured the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from folding.report import OutputComparison, VerificationRow
from folding.sources.base import Feeds
from folding.verify.compare.outputs import compare, summarize
from folding.verify.compare.segments import judge
from folding.verify.context import Study
from folding.verify.model import Loaded, all_nodes, bodies, live_values
from folding.verify.noise.tolerance import Tolerance
from folding.verify.noise.ulp_noise import neighbours
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


def force(study: Study) -> None:
    """Add a row when there are such branches; those that cannot be forced become limits of the verdict."""
    untaken = find(study)
    if nested(study.source):
        study.evidence.limits.append("conditionals inside loops, branches and functions were not forced")
    for left in untaken[MOST:]:
        study.evidence.limits.append(f"{left.words} is taken by no probe")
    outputs: list[OutputComparison] = []
    forced = 0
    for branch in untaken[:MOST]:
        if branch.condition not in study.artifact.produced and not fed(study, branch):
            study.evidence.limits.append(f"{branch.words} is taken by no probe, and its condition is not in "
                                         "the artifact by that name")  # fmt: skip
            continue
        try:
            outputs += both_forced(study, branch)
            forced += 1
        except Exception as exc:  # noqa: BLE001 - a branch that cannot be had on this probe's data
            study.evidence.limits.append(
                f"{branch.words} is taken by no probe and does not run when forced: {str(exc).strip()[:200]}"
            )
    if outputs:
        failed = [output for output in outputs if not output.passed]
        study.rows.append(VerificationRow(
            reference=BRANCHES, provider="cpu", optimization_level="disable_all",
            status="fail" if failed else "pass", outputs=failed[:20] or outputs[:5],
            detail="", figures={"branches": forced},
        ))  # fmt: skip


def find(study: Study) -> list[Untaken]:
    """Conditionals of the main graph that depend on an input and answer every probe by the same branch."""
    live = live_values(study.source)
    nodes = [n for n in study.source.proto.graph.node if n.op_type == "If" and n.input[0] in live]
    if not nodes:
        return []
    names = list(dict.fromkeys(node.input[0] for node in nodes))
    session = study.source.session([name for name in names if name in study.source.produced])
    seen: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for probe in study.probes:
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


def fed(study: Study, branch: Untaken) -> bool:
    """Whether the condition is an input of the model."""
    return branch.condition not in study.source.produced


def both_forced(study: Study, branch: Untaken) -> list[OutputComparison]:
    """Each output on the first probe, the branch forced in both graphs."""
    probe, name = study.probes[0], branch.condition
    feeds: Feeds = dict(probe.feeds)
    forced: Feeds = {}
    if fed(study, branch):
        feeds[name] = branch.forced
    else:
        forced[name] = branch.forced
    cut = {key: value.dtype for key, value in forced.items()}
    source = study.source.session((), cut)
    base = source.run(feeds, None, forced)
    got = study.artifact.session((), cut).run(feeds, None, forced)
    rng = study.rng(0x6272616E)
    noise = [source.run(neighbours(feeds, rng), weights, forced) for weights in study.perturbed()]
    found = []
    for output, theirs in study.names.items():
        runs = [sample[output] for sample in noise]
        made = one(output, base[output], got[theirs], runs)
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
