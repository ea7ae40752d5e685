"""Reports made by hand, for tests of what shows them."""

from __future__ import annotations

from folding.report import (
    ArrayStats,
    ArtifactReport,
    Assumption,
    Certificate,
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
)  # fmt: skip


def stats(low: float, high: float) -> ArrayStats:
    return ArrayStats(
        dtype="float32", size=8, min=low, max=high, mean=(low + high) / 2, histogram=[1, 2, 3, 2]
    )


def norm(name: str = "conv1/bn", decision: str = "folded", code: HealthCode = HealthCode.OK) -> NormReport:
    ok = code is HealthCode.OK
    health = Health(
        code=code, severity="ok" if ok else "warning", evidence="mean 0", remedy="" if ok else "train"
    )
    folded = decision == "folded"
    return NormReport(
        name=name,
        spelling="FusedBatchNormV3",
        channels=8,
        epsilon=1e-3,
        health=[health],
        stats={"moving_mean": stats(-1, 1), "moving_variance": stats(0.1, 2)},
        amplification=stats(0.5, 3),
        decision="folded" if folded else "kept",
        into=["conv1/Conv2D"] if folded else [],
        direction="into_producer" if folded else None,
        reason=None if folded else "graph_output",
        certificate=Certificate(holds=True, max_relative_rounding=3e-8, bound=2**-24) if folded else None,
    )


def sample_report(
    *,
    verdict: str = "pass",
    artifact: str | None = "sha256:" + "ab" * 32,
    norms: list[NormReport] | None = None,
    hazards: list[Hazard] | None = None,
) -> Report:
    tolerance = ToleranceReport(rtol=1e-5, atol=1e-6, why="float noise of the reference")
    output = OutputComparison(
        name="y", max_abs=1e-7, max_rel=2e-7, tolerance=tolerance, passed=verdict == "pass"
    )
    return Report(
        verdict=Verdict(verdict),
        summary="1 comparison",
        source=SourceReport(
            format="checkpoint",
            framework="tensorflow 1.15.5",
            digest="sha256:" + "cd" * 32,
            inputs=[TensorInfo(name="x", dtype="float32", shape=[None, 8, 8, 1])],
            outputs=[TensorInfo(name="y", dtype="float32", shape=[None, 10])],
            assumptions=[Assumption(what="is_training", value="False", why="inference", override="--feed")],
        ),
        batch_norms=[norm()] if norms is None else norms,
        graph=GraphReport(
            opset=18, nodes_before=40, nodes_after=12, batch_norms_before=1, batch_norms_after=0, bytes=4096
        ),
        verification=[
            VerificationRow(
                reference="tensorflow",
                provider="cpu",
                optimization_level="enable_all",
                status="pass" if verdict == "pass" else "fail",
                outputs=[output],
            )
        ],
        hazards=hazards or [],
        artifact=ArtifactReport(digest=artifact, bytes=4096) if artifact else None,
        timings={"read": 0.5, "verify": 1.0},
        toolchain={"onnx": "1.19.0"},
        options={"seed": 1},
    )
