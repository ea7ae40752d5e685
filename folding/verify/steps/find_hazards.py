"""Runtimes that answer differently at different optimization levels, and the optimizer to blame.

Bisection: the lowest level that differs, then, within the optimizers that ONNX Runtime lets one switch off,
the smallest set whose absence mends it (`disabled_optimizers`), found by halving.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from folding.ir.types import Feeds
from folding.ort import OrtSession
from folding.report import Hazard
from folding.verify.compare.outputs import compare
from folding.verify.compare.rows import Candidate, compare_with_refined_noise
from folding.verify.context import GraphPair, ProbeSet
from folding.verify.findings import Findings
from folding.verify.noise.measure import NoiseModel
from folding.verify.providers.base import ORT_FORMAT
from folding.verify.providers.ort_optimizers import OPTIMIZERS

LEVELS = ("enable_basic", "enable_extended", "enable_layout", "enable_all")


@dataclass(frozen=True)
class Known:
    """An optimizer that is known to be wrong, and on what. docs/reference/hazards.md says more.

    entries: session configuration entries that mend it as well, and tell it from others of that optimizer.
    chosen: it is a lower precision that the runtime documents. Where the source has it too, the fold is
        judged without it: disable_all shows what the fold does, the report what the runtime does.
    """

    code: str
    optimizers: frozenset[str]
    what: str
    entries: tuple[tuple[str, str], ...] = ()
    chosen: bool = False


KNOWN = (
    Known(
        "pad_fusion_max_pool",
        frozenset(("PadFusion", "Pad_Fusion")),
        "Pad with zeros is merged into MaxPool, which pads with -inf: windows of negative values change; "
        "where the sum of both paddings is as wide as the window, the model does not load "
        "(an artifact of opset 18 or later avoids both)",
    ),
    Known(
        "matmul_bn_fusion_moved_axis",
        frozenset(("MatMul_BatchNormalization_Fusion", "MatmulBNFusion")),
        "BatchNormalization behind MatMul and Transpose or Reshape is folded along the wrong axis",
    ),
    Known(
        "qdq_matmul_accuracy",
        frozenset(("QDQSelectorActionTransformer",)),
        "MatMul with dequantized weights is computed with activations rounded to 8 bits",
        entries=(("session.qdq_matmulnbits_accuracy_level", "1"),),
        chosen=True,
    ),
    Known(
        "weight_bias_quantization",
        frozenset(("WeightBiasQuantization",)),
        "float weights or biases between a DequantizeLinear and a QuantizeLinear are rounded to integers: "
        "results move by a step of the quantizer",
        chosen=True,
    ),
)
UNKNOWN = "optimization_level"
SHARED = (
    "; the source, untouched, differs between these levels for the same reason, so the artifact is judged "
    "where the source agrees with itself"
)


@dataclass(frozen=True)
class Context:
    """What the search reads: the graphs, the probes, the tolerances."""

    pair: GraphPair
    probes: ProbeSet
    noise: NoiseModel


@dataclass(frozen=True)
class HazardResult:
    """hazards: what was found. unjudged: (provider, level) at which the artifact is not judged."""

    hazards: tuple[Hazard, ...] = ()
    unjudged: frozenset[tuple[str, str]] = frozenset()
    findings: Findings = field(default_factory=Findings)


def find_hazards(
    pair: GraphPair, probes: ProbeSet, noise: NoiseModel, candidates: Sequence[Candidate]
) -> HazardResult:
    """Hazards of the artifact on each provider, and of the source where the artifact avoids one."""
    context = Context(pair, probes, noise)
    found: list[Hazard] = []
    unjudged: set[tuple[str, str]] = set()
    limits: list[str] = []
    by_provider: dict[str, dict[str, Candidate]] = {}
    for candidate in candidates:
        by_provider.setdefault(candidate.provider, {})[candidate.level] = candidate
    for provider, levels in by_provider.items():
        plain, full = levels.get("disable_all"), levels.get("enable_all")
        if plain is None or full is None or plain.unavailable or plain.error or full.unavailable:
            continue
        probe, size = disagreement(context, plain.answers, full.answers)
        if full.error and provider == "cpu":
            found.append(describe_refusal(context, pair.artifact.path, full.error, "the artifact").hazard)
        elif full.error:
            detail = f"loads and runs at disable_all, but not at enable_all: {full.error}"
            found.append(Hazard(code=UNKNOWN, provider=provider, detail=detail, workaround=level_words()))
        elif probe is not None and provider == "cpu":
            cause = describe(context, pair.artifact.path, probe, size, "the artifact")
            if cause.inherent and source_has_it(context, probe, cause):
                cause.hazard.detail += SHARED
                limits.append(
                    f"at the runtime's defaults source and artifact are both less precise ({cause.name})"
                )
                unjudged |= {("cpu", "enable_all"), ("cpu", ORT_FORMAT)}
            found.append(cause.hazard)
        elif probe is not None:
            detail = f"the artifact differs by {size:.3g} between optimization levels on probe {probe!r}"
            workaround = level_words()
            found.append(
                Hazard(code=UNKNOWN, provider=provider, max_abs=size, detail=detail, workaround=workaround)
            )
    if not found:
        found.extend(of_source(context))
    return HazardResult(tuple(found), frozenset(unjudged), Findings(limits=tuple(limits)))


@dataclass(frozen=True)
class Cause:
    """A hazard, and the optimizers to blame. inherent: it is not one that an exported graph can avoid."""

    hazard: Hazard
    culprits: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The hazard's code, or the optimizer where that says more."""
        known = self.hazard.code != UNKNOWN
        return self.hazard.code if known else self.hazard.optimizer or UNKNOWN

    @property
    def inherent(self) -> bool:
        """Whether the exported graph has no way around it: then the source may excuse the artifact."""
        return all(known.chosen for known in KNOWN if known.code == self.hazard.code)


def source_has_it(context: Context, probe: str, cause: Cause) -> bool:
    """Whether the source's own answer moves between the levels, on this or another probe, for that cause."""
    path = context.pair.source.path
    try:
        whole = OrtSession(path, "enable_all")
        without = OrtSession(path, "enable_all", disabled_optimizers=cause.culprits)
    except Exception:  # noqa: BLE001 - a source that does not load there tells nothing of this cause
        return False
    for name in dict.fromkeys([probe, *(each.name for each in context.probes.probes)]):
        right, feeds = {name: context.probes.answers[name]}, context.probes.feeds(name)
        try:
            moved = disagreement(context, right, {name: whole.run(feeds)})[0] is not None
            mended = not cause.culprits or disagreement(context, right, {name: without.run(feeds)})[0] is None
        except Exception:  # noqa: BLE001 - as above
            continue
        if moved and mended:
            return True
    return False


def suspicious(context: Context) -> bool:
    """Whether the unfolded graph has a pattern that a known faulty optimizer matches."""
    for node in context.pair.source.proto.graph.node:
        if node.op_type in ("MaxPool", "BatchNormalization"):
            before = context.pair.source.produced.get(node.input[0])
            if before is not None and before.op_type in (
                "Pad",
                "Transpose",
                "Reshape",
                "Squeeze",
                "Unsqueeze",
            ):
                return True
    return False


def of_source(context: Context) -> list[Hazard]:
    """Whether the unfolded graph, run with the runtime's defaults, would have gone wrong."""
    probes = context.probes.effort.source_hazards or int(suspicious(context))
    if probes == 0:
        return []
    try:
        session = OrtSession(context.pair.source.path, "enable_all")
    except Exception as exc:  # noqa: BLE001 - the runtime's own classes
        hazard = describe_refusal(
            context, context.pair.source.path, f"does not load: {str(exc).strip()}", "the source"
        ).hazard
        hazard.detail += "; the artifact avoids it: it loads at both levels"
        return [hazard]
    answers: dict[str, Feeds] = {}
    for probe in context.probes.probes[:probes]:
        try:
            answers[probe.name] = session.run(probe.feeds)
        except Exception:  # noqa: BLE001 - a probe that runs at one level only is a difference by itself
            return []
    probe_name, size = disagreement(context, context.probes.answers, answers)
    if probe_name is None:
        return []
    hazard = describe(
        context, context.pair.source.path, probe_name, size, "the source, run with the runtime's defaults,"
    ).hazard
    hazard.detail += "; the artifact avoids it: right at both levels"
    return [hazard]


def disagreement(
    context: Context, plain: dict[str, Feeds], full: dict[str, Feeds]
) -> tuple[str | None, float]:
    """The probe on which two levels are furthest apart beyond the tolerance, and by how much."""
    worst: tuple[str | None, float] = (None, 0.0)
    for probe in plain:
        if probe not in full:
            continue
        for name in context.noise.names():
            result = compare_with_refined_noise(
                context.noise, name, probe, plain[probe][name], full[probe][name]
            )
            if not result.passed and (worst[0] is None or result.max_abs > worst[1]):
                worst = (probe, result.max_abs)
    return worst


def describe(context: Context, model: Path, probe: str, size: float, whose: str) -> Cause:
    """Bisect on one probe and name what was found."""
    return name_cause(
        context,
        model,
        probe,
        size,
        lambda level: f"{whose} differs by {size:.3g} from {level} on (probe {probe!r})",
    )


def describe_refusal(context: Context, model: Path, error: str, whose: str) -> Cause:
    """The same for a model that loads and runs at disable_all only."""
    return name_cause(
        context, model, context.probes.probes[0].name, float("inf"),
        lambda level: f"{whose} loads and runs at disable_all, but not from {level} on ({error[:200]})",
    )  # fmt: skip


def name_cause(context: Context, model: Path, probe: str, size: float, words: Callable[[str], str]) -> Cause:
    """Bisect; `words` says what is wrong from a level on."""
    feeds = context.probes.feeds(probe)
    context.noise.measure()
    right = OrtSession(model, "disable_all").run(feeds)

    def mended(level: str, disabled: Sequence[str], entries: Sequence[tuple[str, str]] = ()) -> bool:
        try:
            session = OrtSession(model, level, disabled_optimizers=disabled, entries=dict(entries))
            answer = session.run(feeds)
        except Exception:  # noqa: BLE001 - a level that does not load is not a mended one
            return False
        return all(
            compare(name, probe, right[name], answer[name], context.noise.tolerance(name, probe)).passed
            for name in context.noise.names()
        )

    level, culprits = bisect(mended)
    known = next(
        (
            k
            for k in KNOWN
            if k.optimizers & set(culprits) and (not k.entries or mended(level, (), k.entries))
        ),
        None,
    )
    what = known.what if known else "not in the list of known runtime faults"
    names = ", ".join(culprits) or f"something in {level} that cannot be switched off alone"
    hazard = Hazard(
        code=known.code if known else UNKNOWN,
        optimizer=culprits[0] if culprits else None,
        max_abs=None if not np.isfinite(size) else size,
        detail=f"{words(level)}; caused by {names}: {what}",
        workaround=way_around(known, culprits),
    )
    return Cause(hazard, tuple(culprits))


def bisect(mended: Callable[[str, Sequence[str]], bool]) -> tuple[str, list[str]]:
    """(lowest level that differs, smallest set of optimizers whose absence mends it; empty if none does)."""
    level = next((level for level in LEVELS if not mended(level, ())), LEVELS[-1])
    suspects = list(OPTIMIZERS)
    if not mended(level, suspects):
        return level, []
    while len(suspects) > 1:
        half = len(suspects) // 2
        first, second = suspects[:half], suspects[half:]
        if mended(level, first):
            suspects = first
        elif mended(level, second):
            suspects = second
        else:
            return level, minimal(lambda names: mended(level, names), suspects)
    return level, suspects


def minimal(mended: Callable[[Sequence[str]], bool], suspects: list[str]) -> list[str]:
    """Drop one name after the other as long as the rest still mends it (several culprits together)."""
    for name in list(suspects):
        rest = [other for other in suspects if other != name]
        if rest and mended(rest):
            suspects = rest
    return suspects


def way_around(known: Known | None, culprits: Sequence[str]) -> str:
    """The narrowest session option that avoids it."""
    if known and known.entries:
        return entry_words(known.entries)
    return option_words(culprits) if culprits else level_words()


def entry_words(entries: Sequence[tuple[str, str]]) -> str:
    """The session configuration entries that avoid it."""
    return "; ".join(f'SessionOptions.add_session_config_entry("{key}", "{value}")' for key, value in entries)


def option_words(culprits: Sequence[str]) -> str:
    """The session option that avoids the optimizers."""
    names = ", ".join(f'"{name}"' for name in culprits)
    return f"InferenceSession(path, disabled_optimizers=[{names}])"


def level_words() -> str:
    """The session option that avoids all optimizers."""
    return "SessionOptions.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL"
