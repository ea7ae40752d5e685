"""Which inputs the model is tried on: sizes that run, generated probes, the user's own."""

from __future__ import annotations

import time
from collections.abc import Sequence

from folding.errors import UsageError
from folding.ir.types import Feeds
from folding.verify.compare.rows import Answers
from folding.verify.context import GraphPair, ProbeSet
from folding.verify.findings import Findings, reason
from folding.verify.model import FedSession
from folding.verify.probes import budget, dynamic_shapes
from folding.verify.probes.generate import MOST_ROWS, Probe, digest, generate, make
from folding.verify.probes.input_ranges import InputSpec, inputs_of, stored_array
from folding.verify.probes.trial import finish, guarded
from folding.verify.steps.check_interface import overridable


def select_probes(pair: GraphPair, user: Feeds | None) -> ProbeSet:
    """Settle sizes, make probes, run the unfolded graph on them. An empty set: nothing could be run."""
    try:
        session = guarded(pair.session)
    except Exception as exc:  # noqa: BLE001 - the runtime's own classes
        return none(f"the unfolded graph does not load: {reason(exc, 300)}")
    try:
        return select(pair, session, user)
    finally:
        finish(session)


def select(pair: GraphPair, session: FedSession, user: Feeds | None) -> ProbeSet:
    """The same on a session."""
    specs, seed = inputs_of(pair.source), pair.options.seed
    wanted: list[Probe] = []
    if user:
        check_user_probe(specs, user)
        wanted.append(Probe("user", user, "given by the user"))
    try:
        sizes, first, outputs = dynamic_shapes.choose_sizes(specs, session, seed)
    except dynamic_shapes.NoSizesError as exc:
        if not user:
            return none(
                f"no generated input runs on the unfolded graph ({exc}); "
                "give --input NAME=SHAPE or --probe DATA.npz"
            )
        note = "generated inputs do not run on this model; only the user's own were used"
        effort = planned(pair, session, user)
        return keep_runnable(pair, session, effort, wanted, {}, Findings(notes=(note,)))
    effort = planned(pair, session, first.feeds)
    sizes = {**sizes, MOST_ROWS: effort.batch}
    wanted.extend(list(generate(specs, sizes, seed))[: effort.probes])
    if not pair.options.freeze_inputs:
        wanted.extend(overriding_probe(pair, first))
    for i, other in enumerate(dynamic_shapes.other_sizes(specs, sizes)):
        wanted.append(make(specs, other, seed, f"size-{i + 1}", "N(0, 1)", "normal"))
    again = next((probe for probe in wanted if probe.name == first.name), first)
    known = {first.name: outputs} if digest(again.feeds) == digest(first.feeds) else {}
    return keep_runnable(pair, session, effort, wanted, known, Findings())


def none(gap: str) -> ProbeSet:
    """Return no probes, and why."""
    return ProbeSet(findings=Findings(gaps=(gap,)))


def planned(pair: GraphPair, session: FedSession, feeds: Feeds) -> budget.Effort:
    """What this model is worth, by one run on `feeds`."""
    weights = sum(array.nbytes for array in pair.source.weights.values())
    return budget.plan(cost(pair, session, feeds), weights)


def cost(pair: GraphPair, session: FedSession, feeds: Feeds) -> float:
    """Seconds of one run: from shapes where they are known, else measured."""
    estimated = budget.estimate(pair.source, feeds)
    if estimated is not None:
        return estimated
    try:
        start = time.perf_counter()
        session.run(feeds)
        return time.perf_counter() - start
    except Exception:  # noqa: BLE001 - a probe that does not run is reported where probes are sorted
        return 0.0


def check_user_probe(specs: Sequence[InputSpec], user: Feeds) -> None:
    """Every input is there, and nothing else. Raises: UsageError."""
    missing = [spec.name for spec in specs if spec.name not in user]
    unknown = [name for name in user if name not in {spec.name for spec in specs}]
    if missing or unknown:
        raise UsageError(
            f"the probe lacks {missing} and has unknown {unknown}; "
            f"the model's inputs are {[s.name for s in specs]}",
            code="probe_inputs",
            hint="give one array per model input, by name",
        )


def keep_runnable(
    pair: GraphPair,
    session: FedSession,
    effort: budget.Effort,
    wanted: Sequence[Probe],
    known: Answers,
    findings: Findings,
) -> ProbeSet:
    """Run the source on the probes; those that it cannot run are left out, and said so.

    known: answers that are there already, by probe name.
    """
    kept: list[Probe] = []
    answers: Answers = {}
    skipped: list[str] = []
    sizes_left = effort.sizes
    for probe in wanted:
        extra = probe.name.startswith("size-")
        if extra and sizes_left == 0:
            continue
        try:
            answer = known.get(probe.name) or session.run(probe.feeds)
        except Exception as exc:
            if probe.name == "user":
                raise UsageError(
                    f"the unfolded model does not run on the given probe: {reason(exc, 300)}",
                    code="probe_inputs",
                    hint="check the shapes and dtypes of the arrays",
                ) from exc
            if not extra:
                skipped.append(f"{probe.name}: the source does not run on it")
            continue
        sizes_left -= extra
        answers[probe.name] = answer
        kept.append(probe)
        pair.progress.report("verify", 0.3 * len(kept) / len(wanted), f"reference on {probe.name}")
    return ProbeSet(tuple(kept), answers, effort, findings + Findings(skipped=tuple(skipped)))


def overriding_probe(pair: GraphPair, first: Probe) -> list[Probe]:
    """The first probe again, with every overridable float input given another value."""
    changed: Feeds = {}
    for name in overridable(pair.source):
        stored = stored_array(pair.source, name)
        if stored is not None and stored.dtype.kind == "f":
            changed[name] = (stored * 1.25 + 0.125).astype(stored.dtype)
    if not changed:
        return []
    recipe = f"as {first.name!r}, with {len(changed)} overridable inputs replaced by 1.25 x + 0.125"
    return [Probe("overridden", {**first.feeds, **changed}, recipe, first.seed)]
