"""The order of a verification: probes, references, candidates, layers, hazards, verdict."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from folding.errors import BnfoldError, UsageError
from folding.options import FoldOptions
from folding.progress import Progress
from folding.report import Hazard, Verification, VerificationRow
from folding.sources.base import Feeds, Reference
from folding.verify import effort, float64, hazards, latency, providers, shapes
from folding.verify.graphs import FedSession, Loaded, load
from folding.verify.layers import LayerCheck, Layers
from folding.verify.noise import Noise, distance, neighbours, scale_of
from folding.verify.probes import Probe, generate, make
from folding.verify.providers.cuda import ProviderLostError
from folding.verify.ranges import InputSpec, inputs_of, stored_array
from folding.verify.rows import Answers, Candidate, row, run_all
from folding.verify.tolerance import Tolerance, derive
from folding.verify.verdict import LAYERWISE, Evidence, conclude

RANDOM_OPS = frozenset(
    ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")
)
UNFOLDED = "onnx-unfolded"


@dataclass
class Study:
    """Everything that is known while one pair of graphs is examined."""

    source: Loaded
    artifact: Loaded
    options: FoldOptions
    progress: Progress
    sites: Sequence[str] = ()
    specs: list[InputSpec] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    effort: effort.Effort = field(default_factory=lambda: effort.plan(0.0))
    unfolded: Answers = field(default_factory=dict)
    noise: dict[str, Noise] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    rows: list[VerificationRow] = field(default_factory=list)
    hazards: list[Hazard] = field(default_factory=list)
    layers: LayerCheck | None = None
    latency: dict[str, Any] | None = None
    evidence: Evidence = field(default_factory=Evidence)
    _shaken: list[Feeds] = field(default_factory=list)
    _sharpened: set[str] = field(default_factory=set)

    def shaken(self) -> list[Feeds]:
        """The source's weights, each one ulp off: one set per noise run, made once."""
        while len(self._shaken) < self.effort.noise_runs:
            self._shaken.append(neighbours(self.source.weights, self.rng(0x77656967 + len(self._shaken))))
        return self._shaken

    def rng(self, *salt: int) -> np.random.Generator:
        """A generator of its own for each purpose."""
        return np.random.default_rng([self.options.seed, *salt])

    def sharpen(self, probe: str) -> bool:
        """Before a probe fails: measure its noise with more runs, once. False: that was done already."""
        if probe in self._sharpened:
            return False
        self._sharpened.add(probe)
        feeds = next(p for p in self.probes if p.name == probe)
        session, rng = self.source.session(), self.rng(0x73686172, len(self._sharpened))
        for _ in range(self.effort.sharper):
            shake(self, session, feeds, neighbours(self.source.weights, rng), rng)
        return True

    def tolerance(self, output: str, probe: str) -> Tolerance:
        """Limits of one output on one probe."""
        return derive(self.noise[output], probe, self.options)


def examine(
    unfolded: Path,
    artifact: Path,
    reference: Reference | None,
    options: FoldOptions,
    *,
    sites: Sequence[str] = (),
    probe: Feeds | None = None,
    progress: Progress | None = None,
    evidence: Evidence | None = None,
) -> Verification:
    """Verify `artifact` against `unfolded` (and the framework) and conclude."""
    study = Study(load(unfolded), load(artifact), options, progress or Progress(), sites)
    study.evidence = evidence or Evidence()
    study.names = match_outputs(study)
    if not study.evidence.faults and prepare(study, probe):
        measure_noise(study)
        react(study)
        float64_rows = float64.reference(study)
        framework = framework_answers(study, reference)
        candidates = run_candidates(study)
        for candidate in candidates:
            study.rows.append(row(UNFOLDED, study.unfolded, candidate, study))
            if framework is not None and reference is not None:
                study.rows.append(row(reference.name, framework, candidate, study))
            if float64_rows is not None:
                study.rows.append(float64_row(study, float64_rows, candidate))
        layer_by_layer(study)
        study.hazards.extend(hazards.find(study, candidates))
        if options.latency:
            study.latency = measure_latency(study)
    return conclude(study)


def float64_row(study: Study, answers: Answers, candidate: Candidate) -> VerificationRow:
    """Against float64, with both errors: the artifact may be nearer than its source."""
    narrow = {
        probe: {name: as_dtype(value, study.noise[name].dtype) for name, value in outputs.items()}
        for probe, outputs in answers.items()
    }
    made = row("float64", narrow, candidate, study)
    if candidate.answers and not candidate.error:
        mine = max(
            (n.float64_distance.get(p, 0.0) for n in study.noise.values() for p in answers), default=0.0
        )
        theirs = max(
            (distance(candidate.answers[p][n], answers[p][n]) for p in answers for n in study.noise),
            default=0.0,
        )
        made.figures.update(source_error=mine, artifact_error=theirs, ratio=theirs / mine if mine else None)
    return made


def as_dtype(value: np.ndarray, dtype: np.dtype[np.generic]) -> np.ndarray:
    """float64 answers keep their width (compared as they are); others take the output's dtype."""
    return value if dtype.kind == "f" else value.astype(dtype)


def match_outputs(study: Study) -> dict[str, str]:
    """Source output name -> artifact output name: equal names. A differing interface is a fault."""
    mine, theirs = interface(study.source), interface(study.artifact)
    for what, a, b in (("inputs", mine[0], theirs[0]), ("outputs", mine[1], theirs[1])):
        if a != b:
            study.evidence.faults.append(f"{what} differ: source {a}, artifact {b}")
    kept, wanted = overridable(study.artifact), overridable(study.source)
    if not study.options.freeze_inputs and sorted(kept) != sorted(wanted):
        study.evidence.faults.append(f"overridable inputs differ: source {wanted}, artifact {kept}")
    return {name: name for name in study.source.outputs}


def interface(loaded: Loaded) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """(name, element type) of inputs and outputs, in order."""
    sides = (loaded.inputs, list(loaded.proto.graph.output))
    ins, outs = ([(v.name, v.type.tensor_type.elem_type) for v in side] for side in sides)
    return ins, outs


def overridable(loaded: Loaded) -> list[str]:
    """Inputs that have a value of their own, which a caller may replace (not before IR version 4)."""
    if loaded.proto.ir_version < 4:
        return []
    stored = {tensor.name for tensor in loaded.proto.graph.initializer}
    return [value.name for value in loaded.proto.graph.input if value.name in stored]


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


def prepare(study: Study, user: Feeds | None) -> bool:
    """Settle sizes, make probes, run the unfolded graph on them. False: nothing could be run."""
    study.specs = inputs_of(study.source)
    seed = study.options.seed
    try:
        session = study.source.session()
    except Exception as exc:  # noqa: BLE001 - the runtime's own classes
        study.evidence.gaps.append(f"the unfolded graph does not load: {str(exc).strip()[:300]}")
        return False
    if user:
        check_user_probe(study.specs, user)
        study.probes.append(Probe("user", user, "given by the user"))
    try:
        sizes, first, outputs = shapes.settle(study.specs, session, seed)
    except shapes.NoSizesError as exc:
        if not user:
            study.evidence.gaps.append(
                f"no generated input runs on the unfolded graph ({exc}); "
                "give --input NAME=SHAPE or --probe DATA.npz"
            )
            return False
        study.effort = effort.plan(cost(study, session, user))
        study.evidence.notes.append(
            "generated inputs do not run on this model; only the user's own were used"
        )
        return keep_runnable(study, session)
    study.effort = effort.plan(cost(study, session, first.feeds))
    study.unfolded[first.name] = outputs
    sizes = {**sizes, "batch": study.effort.batch}
    study.probes.extend(list(generate(study.specs, sizes, seed))[: study.effort.probes])
    if not study.options.freeze_inputs:
        study.probes.extend(overriding_probe(study, first))
    for i, other in enumerate(shapes.other_sizes(study.specs, sizes)):
        study.probes.append(make(study.specs, other, seed, f"size-{i + 1}", "N(0, 1)", "normal"))
    return keep_runnable(study, session)


def cost(study: Study, session: FedSession, feeds: Feeds) -> float:
    """Seconds of one run: from shapes where they are known, else measured."""
    estimated = effort.estimate(study.source, feeds)
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


def measure_noise(study: Study) -> None:
    """Equivalent executions of the source on the first probes."""
    from folding.verify.graphs import depth

    layers = depth(study.source.proto.graph)
    first = study.unfolded[study.probes[0].name]
    for name in study.source.outputs:
        study.noise[name] = Noise(first[name].dtype, layers)
        for probe in study.probes:
            study.noise[name].scales[probe.name] = scale_of(study.unfolded[probe.name][name])
    session = study.source.session()
    rng = study.rng(0x6E6F697365)
    for probe in study.probes[: study.effort.noise_probes]:
        for weights in study.shaken():
            shake(study, session, probe, weights, rng)


def shake(study: Study, session: FedSession, probe: Probe, weights: Feeds, rng: np.random.Generator) -> None:
    """One equivalent execution of the source, added to its noise."""
    feeds = probe.feeds if probe.exact else neighbours(probe.feeds, rng)
    answer = session.run(feeds, weights)
    for name, noise in study.noise.items():
        noise.add(probe.name, study.unfolded[probe.name][name], answer[name])


def react(study: Study) -> None:
    """Which probes are evidence: an output must answer them differently than it answers another probe."""
    reacting: set[str] = set()
    for name, noise in study.noise.items():
        if any(answers_differ(study, name, noise, a, b) for a, b in rows_within(study, name)):
            reacting.update(p.name for p in study.probes)
        for probe in study.probes:
            for other in study.probes:
                if other is not probe and responses_differ(study, name, noise, probe.name, other.name):
                    reacting.add(probe.name)
                    break
    study.evidence.reacting = [p.name for p in study.probes if p.name in reacting]
    study.evidence.constant = constant_outputs(study.source)


def rows_within(study: Study, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of batch rows of one answer."""
    pairs = []
    for probe in study.probes:
        value = study.unfolded[probe.name][name]
        if value.ndim and value.shape[0] > 1 and not probe.constant:
            pairs.append((value[0], value[1]))
    return pairs[:1]


def responses_differ(study: Study, name: str, noise: Noise, a: str, b: str) -> bool:
    """Whether two probes' answers differ beyond noise, by shape or by value."""
    one, two = study.unfolded[a][name], study.unfolded[b][name]
    if one.shape != two.shape:
        size = min(len(one) if one.ndim else 1, len(two) if two.ndim else 1)
        if not one.ndim or one.shape[1:] != two.shape[1:] or size == 0:
            return False
        one, two = one[:size], two[:size]
    return answers_differ(study, name, noise, one, two)


def answers_differ(study: Study, name: str, noise: Noise, one: np.ndarray, two: np.ndarray) -> bool:
    """Beyond the noise level for floats, at all for the rest."""
    one, two = np.asarray(one), np.asarray(two)  # an element of a string array is a str
    if one.dtype.kind != "f":
        return bool((one != two).any())
    level = 8 * max(noise.pooled, noise.floor) * max(scale_of(one), scale_of(two))
    with np.errstate(all="ignore"):
        gap = np.abs(one.astype(np.float64) - two.astype(np.float64))
    return bool((gap[np.isfinite(gap)] > level).any())


def constant_outputs(loaded: Loaded) -> bool:
    """Whether no output depends on any input, by the graph alone."""
    live = {v.name for v in loaded.inputs}
    if not live:
        return True
    from folding.verify.graphs import bodies, body_reads

    for node in loaded.proto.graph.node:
        reads = set(node.input)
        for body in bodies(node):
            reads.update(body_reads(body))
        if node.op_type != "Shape" and reads & live:
            live.update(node.output)
    return not live & set(loaded.outputs)


def framework_answers(study: Study, reference: Reference | None) -> Answers | None:
    """The source framework's outputs on the first probes, and on the user's."""
    if reference is None:
        return None
    answers: Answers = {}
    for probe in study.probes[: study.effort.framework]:
        try:
            answers[probe.name] = reference.run(probe.feeds)
        except BnfoldError:
            raise
        except Exception as exc:  # noqa: BLE001 - the framework's own exceptions are many
            study.evidence.skipped.append(f"{probe.name} on {reference.name}: {str(exc).strip()[:200]}")
    if not answers:
        why = "; ".join(study.evidence.skipped[-1:])
        study.evidence.gaps.append(f"{reference.name} answered none of the probes ({why})")
    return answers or None


def run_candidates(study: Study) -> list[Candidate]:
    """The artifact on every asked-for provider, variant and level."""
    found: list[Candidate] = []
    for name in dict.fromkeys([*study.options.providers, *study.options.require]):
        provider = providers.find(name)
        reason = provider.unavailable()
        for label, judged in provider.variants():
            for level in ("disable_all", "enable_all"):
                candidate = Candidate(label, level, judged, unavailable=reason or "")
                if reason is None:
                    run_candidate(study, provider, candidate)
                found.append(candidate)
        if (
            any(c.unavailable for c in found if c.provider.split()[0] == name)
            and name in study.options.require
        ):
            study.evidence.gaps.append(f"provider {name!r} is required and not available here")
    return found


def run_candidate(study: Study, provider: object, candidate: Candidate) -> None:
    """Open, run on all probes, and repeat one where the provider's determinism is in question."""
    try:
        session = provider.open(study.artifact.path, candidate.level, candidate.provider)  # type: ignore[attr-defined]
    except ProviderLostError as exc:
        candidate.unavailable = str(exc)
        return
    except Exception as exc:  # noqa: BLE001 - a model that does not load is a finding
        candidate.error = f"does not load: {str(exc).strip()[:300]}"
        return
    run_all(session.run, study.probes, candidate)
    if getattr(provider, "determinism", False) and not candidate.error:
        again = session.run(study.probes[0].feeds)
        first = candidate.answers[study.probes[0].name]
        candidate.figures["deterministic"] = all(
            np.array_equal(again[n], first[n], equal_nan=True) for n in first
        )


def layer_by_layer(study: Study) -> None:
    """The segment check, as a row of its own."""
    if RANDOM_OPS & study.source.op_types():
        study.evidence.gaps.append(
            "the model draws random numbers at inference: its outputs cannot be compared"
        )
    rng = np.random.default_rng([study.options.seed, 0x6C61796572])
    row_ = VerificationRow(
        reference=LAYERWISE, provider="cpu", optimization_level="disable_all", status="pass"
    )
    study.rows.append(row_)
    try:
        layers = Layers(study.source, study.artifact, study.sites, study.probes[0].feeds)
        check = layers.check(rng, study.shaken())
    except Exception as exc:  # noqa: BLE001 - the source ran before: what does not run here is the artifact
        row_.status, row_.detail = "fail", f"the artifact does not run: {str(exc).strip()[:300]}"
        return
    study.layers = check
    shown = sorted(check.outputs, key=lambda o: (o.passed, -o.max_rel))
    failed = [o for o in shown if not o.passed]
    row_.status, row_.detail = "fail" if failed else "pass", layer_words(check)
    row_.outputs = failed[:20] + [o for o in shown if o.passed][:5]
    row_.figures.update(cuts=check.cuts, reused_names=check.dropped, unaligned_sites=check.unaligned)


def layer_words(check: LayerCheck) -> str:
    """One sentence for the row."""
    if check.failed:
        return f"first divergence at {check.failed[0]!r}; {len(check.failed)} of {check.cuts} values are off"
    return f"{check.cuts} values agree, each segment run on the source's own inputs"


def measure_latency(study: Study) -> dict[str, Any]:
    """Before and after, on each provider that is there, at the runtime's defaults."""
    found: dict[str, Any] = {}
    for name in study.options.providers:
        provider = providers.find(name)
        if provider.unavailable() is not None:
            continue
        variant = provider.variants()[0][0]
        study.progress.report("verify", 0.9, f"latency on {variant}")
        try:
            sides = (study.source.path, study.artifact.path)
            figures = latency.measure(provider, variant, "enable_all", *sides, study.probes[0].feeds)
            found[variant] = {"enable_all": figures}
        except Exception as exc:  # noqa: BLE001 - a side that does not run has no latency, and a row says so
            study.evidence.skipped.append(f"latency on {variant}: {str(exc).strip()[:200]}")
    return found
