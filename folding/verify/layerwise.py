"""The comparison layer by layer, as rows of the report."""

from __future__ import annotations

import numpy as np

from folding.report import VerificationRow
from folding.verify.layers import LayerCheck, Layers
from folding.verify.study import Study
from folding.verify.verdict import LAYERWISE

RANDOM_OPS = frozenset(
    ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")
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
