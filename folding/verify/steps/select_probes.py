"""Which inputs the model is tried on: sizes that run, generated probes, the user's own."""

from __future__ import annotations

import time
from collections.abc import Sequence

from folding.errors import UsageError
from folding.sources.base import Feeds
from folding.verify.context import Study
from folding.verify.model import FedSession
from folding.verify.probes import budget, dynamic_shapes
from folding.verify.probes.generate import Probe, generate, make
from folding.verify.probes.input_ranges import InputSpec, inputs_of, stored_array
from folding.verify.steps.check_interface import overridable


def prepare(study: Study, user: Feeds | None) -> bool:
    """Settle sizes, make probes, run the unfolded graph on them. False: nothing could be run."""
    study.specs = inputs_of(study.source)
    seed = study.options.seed
    try:
        session = study.session()
    except Exception as exc:  # noqa: BLE001 - the runtime's own classes
        study.evidence.gaps.append(f"the unfolded graph does not load: {str(exc).strip()[:300]}")
        return False
    if user:
        check_user_probe(study.specs, user)
        study.probes.append(Probe("user", user, "given by the user"))
    try:
        sizes, first, outputs = dynamic_shapes.settle(study.specs, session, seed)
    except dynamic_shapes.NoSizesError as exc:
        if not user:
            study.evidence.gaps.append(
                f"no generated input runs on the unfolded graph ({exc}); "
                "give --input NAME=SHAPE or --probe DATA.npz"
            )
            return False
        study.effort = planned(study, session, user)
        study.evidence.notes.append(
            "generated inputs do not run on this model; only the user's own were used"
        )
        return keep_runnable(study, session)
    study.effort = planned(study, session, first.feeds)
    study.unfolded[first.name] = outputs
    sizes = {**sizes, "batch": study.effort.batch}
    study.probes.extend(list(generate(study.specs, sizes, seed))[: study.effort.probes])
    if not study.options.freeze_inputs:
        study.probes.extend(overriding_probe(study, first))
    for i, other in enumerate(dynamic_shapes.other_sizes(study.specs, sizes)):
        study.probes.append(make(study.specs, other, seed, f"size-{i + 1}", "N(0, 1)", "normal"))
    return keep_runnable(study, session)


def planned(study: Study, session: FedSession, feeds: Feeds) -> budget.Effort:
    """What this model is worth, by one run on `feeds`."""
    weights = sum(array.nbytes for array in study.source.weights.values())
    return budget.plan(cost(study, session, feeds), weights)


def cost(study: Study, session: FedSession, feeds: Feeds) -> float:
    """Seconds of one run: from shapes where they are known, else measured."""
    estimated = budget.estimate(study.source, feeds)
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


def keep_runnable(study: Study, session: object) -> bool:
    """Run the source on the probes; those that it cannot run are left out, and said so."""
    kept: list[Probe] = []
    sizes_left = study.effort.sizes
    for probe in study.probes:
        extra = probe.name.startswith("size-")
        if extra and sizes_left == 0:
            continue
        try:
            answer = study.unfolded.get(probe.name) or session.run(probe.feeds)  # type: ignore[attr-defined]
        except Exception as exc:
            if probe.name == "user":
                raise UsageError(
                    f"the unfolded model does not run on the given probe: {str(exc).strip()[:300]}",
                    code="probe_inputs",
                    hint="check the shapes and dtypes of the arrays",
                ) from exc
            if not extra:
                study.evidence.skipped.append(f"{probe.name}: the source does not run on it")
            continue
        sizes_left -= extra
        study.unfolded[probe.name] = answer
        kept.append(probe)
        study.progress.report("verify", 0.3 * len(kept) / len(study.probes), f"reference on {probe.name}")
    study.probes = kept
    study.unfolded = {probe.name: study.unfolded[probe.name] for probe in kept}
    return bool(kept)


def overriding_probe(study: Study, first: Probe) -> list[Probe]:
    """The first probe again, with every overridable float input given another value."""
    changed: Feeds = {}
    for name in overridable(study.source):
        stored = stored_array(study.source, name)
        if stored is not None and stored.dtype.kind == "f":
            changed[name] = (stored * 1.25 + 0.125).astype(stored.dtype)
    if not changed:
        return []
    recipe = f"as {first.name!r}, with {len(changed)} overridable inputs replaced by 1.25 x + 0.125"
    return [Probe("overridden", {**first.feeds, **changed}, recipe, first.seed)]
