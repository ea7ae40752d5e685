"""How much to run: bounded by what one run of this model costs, so that proof stays cheap."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import onnx
from onnx import helper, shape_inference

from folding.ir.types import Feeds
from folding.verify.model import Loaded, variant

MACS_PER_SECOND = 80e9  # two current x86-64 cores, float32 convolutions
ELEMENTS_PER_SECOND = 2e9
SECONDS_PER_NODE = 3e-6
HEAVY = 256 << 20  # bytes of weights of which another copy, one ulp off, costs more than what it shows


@dataclass(frozen=True)
class Effort:
    """probes: how many generated ones. noise_probes: on how many noise is measured, `noise_runs` each.

    batch: largest batch of a probe. sizes: how many further sizes of dynamic dimensions. framework: on how
    many probes the source framework runs. sharper: further noise runs on a probe before it may fail.
    source_hazards: on how many probes the unfolded graph runs at the runtime's defaults (0: only where it
    holds a pattern that is known to go wrong). cut_bytes: inner values held for one side, layer by layer.
    """

    probes: int
    noise_probes: int
    noise_runs: int
    batch: int
    sizes: int
    framework: int
    sharper: int
    source_hazards: int = 0
    cut_bytes: int = 96 << 20
    seconds: float = 0.0

    def words(self) -> str:
        """For the report."""
        return (
            f"one run takes about {self.seconds * 1e3:.3g} ms: {self.probes} probes, noise where needed from "
            f"{self.noise_runs} run(s) on {self.noise_probes} of them, {self.sizes} further input size(s)"
        )


def estimate(loaded: Loaded, feeds: Feeds) -> float | None:
    """Seconds of one run, from shapes alone, so that two verifications of one model do the same work.

    None where shape inference does not reach; the first run's own time is used then.
    """
    model = variant(loaded, (), {})
    for value in model.graph.input:
        if value.name in feeds:
            shape = feeds[value.name].shape
            value.CopyFrom(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, shape))
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # noqa: BLE001 - an estimate that cannot be made is no fault of the model
        return None
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input)
    }
    macs = elements = 0
    for node in inferred.graph.node:
        size = math.prod(shapes.get(node.output[0], []))
        elements += size
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            if size == 0:
                return None
            macs += size * per_element(node, shapes)
    return (
        macs / MACS_PER_SECOND + elements / ELEMENTS_PER_SECOND + SECONDS_PER_NODE * len(inferred.graph.node)
    )


def per_element(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    """Multiplications for one element of a linear node's output."""
    weight = shapes.get(node.input[1], [])
    if node.op_type in ("Gemm", "MatMul"):
        return (shapes.get(node.input[0]) or [1])[-1]
    if node.op_type == "Conv":
        return math.prod(weight[1:])
    return math.prod(weight) // max(1, weight[1] if len(weight) > 1 else 1)


def plan(seconds: float, weights: int = 0) -> Effort:
    """Effort for a model of which one run at batch 1 takes `seconds`, with that many bytes of weights."""
    found = next((effort for below, effort in TIERS if seconds < below), LEAST)
    if weights > HEAVY:
        found = replace(found, noise_runs=1)
    return replace(found, seconds=seconds)


TIERS: tuple[tuple[float, Effort], ...] = (
    (0.004, Effort(10, 10, 3, batch=3, sizes=3, framework=10, sharper=12, source_hazards=3)),
    (0.02, Effort(8, 4, 2, batch=3, sizes=1, framework=4, sharper=8, source_hazards=3)),
    (0.05, Effort(4, 2, 1, batch=2, sizes=1, framework=2, sharper=4, source_hazards=1)),
    (0.3, Effort(3, 1, 1, batch=2, sizes=1, framework=1, sharper=3, cut_bytes=64 << 20)),
)
LEAST = Effort(3, 1, 1, batch=2, sizes=0, framework=1, sharper=2, cut_bytes=64 << 20)
