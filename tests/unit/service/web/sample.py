"""A report and an inspection with something of everything in them, hostile names among it."""

# Rows of data: long lines read better than wrapped ones.
# ruff: noqa: E501

from __future__ import annotations

import itertools

import numpy as np

from folding.report import (
    ArrayStats,
    ArtifactReport,
    Assumption,
    Certificate,
    DriftRow,
    GraphMap,
    GraphReport,
    GraphSide,
    Hazard,
    Health,
    HealthCode,
    Inspection,
    NormReport,
    NormSite,
    OutputComparison,
    Report,
    SourceReport,
    TensorInfo,
    ToleranceReport,
    Verdict,
    VerificationRow,
)

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202egpj.exe{{7*7}}"
DIGEST = "sha256:" + "ab" * 32
SOURCE = "sha256:" + "cd" * 32


def stats(values: np.ndarray, name: str) -> ArrayStats:
    """As the library summarizes an array."""
    counts, _ = np.histogram(values, bins=20)
    return ArrayStats(
        variable=name, dtype="float32", size=values.size, min=float(values.min()), max=float(values.max()),
        mean=float(values.mean()), histogram=[int(c) for c in counts],
    )  # fmt: skip


def norm(name: str, seed: int, *, kept: bool = False, sick: bool = False) -> NormReport:
    """One batch norm of 64 channels."""
    rng = np.random.default_rng(seed)
    mean, var = rng.normal(size=64) * 0.4, rng.gamma(2.0, 0.5, size=64)
    gamma, beta = rng.normal(1, 0.3, size=64), rng.normal(0, 0.5, size=64)
    fine = Health(code=HealthCode.OK, severity="ok", evidence="64 of 64 channels have moved from 0 and 1.")
    ill = Health(
        code=HealthCode.NEVER_UPDATED, severity="warning",
        evidence="All 64 moving means are exactly 0 and all variances exactly 1.",
        remedy="Run the UPDATE_OPS with the training step, or re-estimate with calibration data.",
    )  # fmt: skip
    return NormReport(
        name=name, spelling="fused_batch_norm", channels=64, epsilon=1e-3, momentum=0.99, channel_axis=1,
        health=[ill if sick else fine],
        stats={
            "moving_mean": stats(mean, f"{name}/moving_mean"), "moving_variance": stats(var, f"{name}/moving_variance"),
            "gamma": stats(gamma, f"{name}/gamma"), "beta": stats(beta, f"{name}/beta"),
        },
        amplification=stats(gamma / np.sqrt(var + 1e-3), "amplification"),
        decision="kept" if kept else "folded", into=[] if kept else [name.replace("bn", "conv")],
        direction=None if kept else "into_producer", reason="no_linear_neighbour" if kept else None,
        detail="The node before it is a Sigmoid." if kept else "",
        certificate=None if kept else Certificate(holds=True, max_relative_rounding=5.6e-8, bound=2.0**-24),
    )  # fmt: skip


def graph(layers: int) -> GraphMap:
    """conv, batch norm, relu in a chain with a residual connection every second layer; folded away."""
    types = ["input", "Conv", "BatchNormalization", "Relu", "Add", "output"]
    before, after = GraphSide(), GraphSide()
    rows: list[tuple[int, int]] = []
    sites: list[NormSite] = []

    def put(side: GraphSide, name: str, op: str, inputs: list[int]) -> int:
        side.names.append(name)
        side.ops.append(types.index(op))
        side.shapes.append("N×64×56×56")
        side.inputs.append(inputs)
        return len(side.names) - 1

    left = put(before, "image", "input", [])
    right = put(after, "image", "input", [])
    rows.append((left, right))
    skip = (left, right)
    for i in range(layers):
        conv = (put(before, f"block{i}/conv", "Conv", [left]), put(after, f"block{i}/conv", "Conv", [right]))
        rows.append(conv)
        bn = put(before, f"block{i}/bn", "BatchNormalization", [conv[0]])
        rows.append((bn, -1))
        scale = [float(v) for v in np.linspace(0.5, 2, 64)]
        sites.append(
            NormSite(name=f"block{i}/bn", before=[bn], after=[conv[1]], scale=scale, shift=scale[::-1])
        )
        left, right = bn, conv[1]
        if i % 2:
            add = (
                put(before, f"block{i}/add", "Add", [left, skip[0]]),
                put(after, f"block{i}/add", "Add", [right, skip[1]]),
            )
            rows.append(add)
            left, right = add
        relu = (put(before, f"block{i}/relu", "Relu", [left]), put(after, f"block{i}/relu", "Relu", [right]))
        rows.append(relu)
        left, right = relu
        if i % 2:
            skip = relu
    rows.append((put(before, "logits", "output", [left]), put(after, "logits", "output", [right])))
    return GraphMap(op_types=types, before=before, after=after, rows=rows, sites=sites)


def report(
    verdict: Verdict = Verdict.PASS, *, layers: int = 8, hostile: bool = False, names: int | None = None
) -> Report:
    """One whole report."""
    norms = [
        norm(f"block{i}/bn", i, sick=i == 3, kept=i == 5) for i in range(layers if names is None else names)
    ]
    if hostile:
        norms[0] = norms[0].model_copy(update={"name": HOSTILE, "into": [HOSTILE], "detail": HOSTILE})
    label = HOSTILE if hostile else "logits"
    passed = verdict is Verdict.PASS
    tolerance = ToleranceReport(rtol=2.1e-6, atol=3.4e-6, why="8 times the float noise of the source itself.")
    rows = [
        VerificationRow(
            reference=reference, provider=provider, optimization_level=level,
            status="pass" if passed else "fail",
            outputs=[OutputComparison(name=label, max_abs=2.4e-7 if passed else 0.31, max_rel=1.1e-7 if passed else 0.14,
                                      worst_index=[0, 3], worst_probe="normal, batch 2", tolerance=tolerance, passed=passed)],
        )
        for reference, provider, level in itertools.product(("source", "unfolded"), ("cpu",), ("disable_all", "enable_all"))
    ]  # fmt: skip
    rows.append(
        VerificationRow(reference="unfolded", provider="cuda", optimization_level="enable_all",
                        status="unavailable", detail="No CUDA device is here.")
    )  # fmt: skip
    drift = [
        DriftRow(value=f"block{i}/relu", max_abs=1e-7 * (i + 1), max_rel=1e-7 * (1 + i % 5), scale=1.0, provider=provider)
        for provider in ("cpu", "cuda") for i in range(layers)
    ]  # fmt: skip
    if not passed:
        drift[3] = drift[3].model_copy(update={"max_rel": 0.14})
    return Report(
        verdict=verdict,
        summary="",
        source=SourceReport(
            format="keras_h5", framework="keras 3.15", digest=SOURCE, route="structure-first",
            inputs=[TensorInfo(name="image", dtype="float32", shape=["N", 224, 224, 3])],
            outputs=[TensorInfo(name=label, dtype="float32", shape=["N", 1000])],
            assumptions=[Assumption(what=HOSTILE if hostile else "is_training", value="False", why="The graph is used for inference.", override="--feed is_training=true")],
        ),
        batch_norms=norms,
        graph=GraphReport(opset=18, nodes_before=4 * layers, nodes_after=3 * layers, batch_norms_before=layers,
                          batch_norms_after=1, parameters=25_636_712, bytes=102_400_000),
        graph_map=graph(layers),
        verification=rows,
        probes=[{"name": "normal"}, {"name": "zeros"}],
        drift=drift,
        first_divergence=None if passed else "block3/relu",
        hazards=[] if passed else [Hazard(code="pad_fusion", optimizer="PadFusion", max_abs=0.31,
                                          detail="PadFusion moves a zero padding into MaxPool.",
                                          workaround='disabled_optimizers=["PadFusion"]')],
        latency={"provider": "cpu", "before": {"median": 0.0124, "low": 0.0121, "high": 0.0127},
                 "after": {"median": 0.0098, "low": 0.0096, "high": 0.0101}},
        artifact=ArtifactReport(digest=DIGEST, bytes=102_400_000),
        timings={"read": 0.8, "fold": 0.2, "verify": 3.1},
        toolchain={"bnfold": "0.1.0", "onnxruntime": "1.31.1"},
        sandbox="strong",
        options={"opset": 18},
    )  # fmt: skip


def inspection(*, hostile: bool = False) -> Inspection:
    """What is known of the same model before it is folded."""
    found = report(hostile=hostile)
    return Inspection(
        format="keras_h5", framework="keras 3.15", digest=SOURCE, inputs=found.source.inputs,
        outputs=found.source.outputs, batch_norms=found.batch_norms, assumptions=found.source.assumptions,
        variables=320, parameters=25_636_712, notes=["An optimizer state was left out."],
    )  # fmt: skip
