"""Reports to render: a good one, a bad one, one full of hostile names."""

from __future__ import annotations

from folding.report import (
    ArrayStats,
    ArtifactReport,
    Assumption,
    Certificate,
    DriftRow,
    GraphReport,
    Hazard,
    Health,
    HealthCode,
    NormReport,
    OutputComparison,
    Report,
    SourceReport,
    TensorInfo,
    ToleranceReport,
    Verdict,
    VerificationRow,
)

EVIL = (
    "</script><script>alert(1)</script>|`x`\x1b[31m\n](javascript:alert(1)) @all #1 & \"q\" 'z' "
    "\u202eltr \x00 \n````\n"
)


def norm(name: str, *, kept: bool = False, health: HealthCode = HealthCode.OK) -> NormReport:
    stats = ArrayStats(variable=f"{name}/v", dtype="float32", size=64, min=-1.5, max=2.5, mean=0.1,
                       histogram=[1, 4, 9, 30, 15, 5])  # fmt: skip
    severity = "ok" if health is HealthCode.OK else "error" if health is HealthCode.NON_FINITE else "warning"
    return NormReport(
        name=name,
        spelling="onnx.BatchNormalization",
        channels=64,
        epsilon=1e-3,
        channel_axis=1,
        health=[
            Health(code=health, severity=severity, evidence="mean 0 in 64 of 64", remedy="run UPDATE_OPS")
        ],
        stats=dict.fromkeys(("moving_mean", "moving_variance", "gamma", "beta"), stats),
        amplification=stats,
        decision="kept" if kept else "folded",
        into=[] if kept else ["conv1"],
        direction=None if kept else "into_producer",
        reason="graph_output" if kept else None,
        detail="its input is an output of the graph" if kept else "",
        certificate=None if kept else Certificate(holds=True, max_relative_rounding=5e-8, bound=2.0**-24),
    )


def row(status: str = "pass", judged: bool = True, level: str = "disable_all") -> VerificationRow:
    outputs = [] if status == "unavailable" else [
        OutputComparison(name="y", max_abs=1e-6, max_rel=2e-7, worst_index=[0, 3], worst_probe="normal",
                         tolerance=ToleranceReport(rtol=2.4e-7, atol=1e-5, why="8 x noise"),
                         passed=status == "pass")]  # fmt: skip
    return VerificationRow(
        reference="onnx-unfolded", provider="cuda" if status == "unavailable" else "cpu",
        optimization_level=level, status=status, judged=judged, outputs=outputs,
        detail="no CUDA here" if status == "unavailable" else "",
    )  # type: ignore[arg-type]  # fmt: skip


def report(verdict: Verdict = Verdict.PASS, **changes: object) -> Report:
    """A report with everything in it."""
    fields: dict[str, object] = {
        "verdict": verdict,
        "summary": "equivalent" if verdict is Verdict.PASS else "not equivalent: 'y' is off",
        "source": SourceReport(
            format="onnx",
            framework="onnx 1.20",
            digest="sha256:" + "0" * 64,
            inputs=[TensorInfo(name="x", dtype="float32", shape=["N", 3, None, 224])],
            outputs=[TensorInfo(name="y", dtype="float32", shape=None)],
            assumptions=[Assumption(what="is_training", value="False", why="inference", override="--feed")],
            notes=["a note"],
        ),
        "batch_norms": [norm("bn1"), norm("bn2", health=HealthCode.NEVER_UPDATED), norm("bn3", kept=True)],
        "graph": GraphReport(opset=18, nodes_before=30, nodes_after=20, batch_norms_before=3,
                             batch_norms_after=1, parameters=123456, bytes=500000),
        "verification": [row(), row(level="enable_all"), row("unavailable", judged=True)],
        "probes": [{"name": "normal", "recipe": "N(0, 1)", "digest": "sha256:1", "evidence": True},
                   {"name": "zeros", "recipe": "all zero", "digest": "sha256:2", "evidence": False}],
        "drift": [DriftRow(value=f"v{i}", max_abs=1e-6, max_rel=10.0 ** -(7 - i % 3), scale=2.0)
                  for i in range(9)],
        "hazards": [Hazard(code="pad_fusion_max_pool", optimizer="Pad_Fusion", detail="differs by 14 %",
                           workaround='InferenceSession(path, disabled_optimizers=["Pad_Fusion"])')],
        "latency": {"cpu": {"enable_all": {
            "before": {"median": 2e-3, "low": 1.9e-3, "high": 2.1e-3, "runs": 99},
            "after": {"median": 1e-3, "low": 0.9e-3, "high": 1.1e-3, "runs": 99},
            "speedup": {"ratio": 2.0, "low": 1.8, "high": 2.2}}}},
        "calibration": {"examples": 100},
        "artifact": ArtifactReport(digest="sha256:" + "a" * 64, bytes=500000),
        "timings": {"read": 0.1, "verify": 0.4},
        "toolchain": {"bnfold": "0.1.0", "onnxruntime": "1.31.1"},
        "options": {"seed": 3, "feeds": {"is_training": False}, "providers": ["cpu", "cuda"]},
    }  # fmt: skip
    return Report(**{**fields, **changes})  # type: ignore[arg-type]


def hostile() -> Report:
    """Every text that comes from a model or its author is an attack."""
    made = report(Verdict.FAIL, first_divergence=EVIL, summary=EVIL)
    for each in made.batch_norms:
        each.name = each.detail = each.spelling = EVIL
        each.into = [EVIL]
        each.health[0].evidence = each.health[0].remedy = EVIL
    for each in made.verification:
        each.detail = each.reference = EVIL
        for output in each.outputs:
            output.name = output.worst_probe = output.tolerance.why = EVIL
    for each in made.drift:
        each.value = EVIL
    made.source.framework = made.source.format = EVIL
    made.source.inputs[0].name = made.source.outputs[0].name = EVIL
    made.source.notes = [EVIL]
    made.source.assumptions[0].what = made.source.assumptions[0].value = EVIL
    made.hazards[0].detail = made.hazards[0].workaround = EVIL
    made.probes[0].update(name=EVIL, recipe=EVIL)
    made.options["feeds"] = {EVIL: EVIL}
    return made
