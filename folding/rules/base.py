"""Decisions: what became of each batch norm, and the one list of reasons for keeping one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

import onnx_ir as ir

from folding.norms.base import BatchNorm
from folding.report import Certificate

Direction = Literal["into_producer", "into_consumer", "both", "merged", "removed"]


class SkipReason(StrEnum):
    """Why a batch norm, or half of it, stayed. Each member is explained in docs/reference/skip-reasons.md."""

    BATCH_STATISTICS = "batch_statistics"
    TRAINING_MODE = "training_mode"
    RUNTIME_PARAMETERS = "runtime_parameters"
    OVERRIDABLE_INITIALIZER = "overridable_initializer"
    NO_LINEAR_NEIGHBOUR = "no_linear_neighbour"
    SHARED_PRODUCER_OUTPUT = "shared_producer_output"
    GRAPH_OUTPUT = "graph_output"
    SHARED_WEIGHTS = "shared_weights"
    RUNTIME_WEIGHTS = "runtime_weights"
    CHANNEL_AXIS_LOST = "channel_axis_lost"
    NONLINEARITY_BETWEEN = "nonlinearity_between"
    NEGATIVE_SCALE = "negative_scale"
    PADDED_SHIFT = "padded_shift"
    WOULD_OVERFLOW = "would_overflow"
    WOULD_UNDERFLOW = "would_underflow"
    UNKNOWN_SHAPE = "unknown_shape"
    CONTROL_FLOW_BOUNDARY = "control_flow_boundary"
    QUANTIZED_WEIGHTS = "quantized_weights"
    QUANTIZED_ACTIVATION = "quantized_activation"
    QUANTIZED_NEGATIVE_SCALE = "quantized_negative_scale"
    UNHEALTHY = "unhealthy"
    PER_ACTIVATION = "per_activation"
    NOT_IN_GRAPH = "not_in_graph"


@dataclass(frozen=True, eq=False)
class Decision:
    """What became of one batch norm."""

    norm: BatchNorm
    folded: bool
    into: tuple[str, ...] = ()
    direction: Direction | None = None
    reason: SkipReason | None = None
    detail: str = ""
    certificate: Certificate | None = None


@dataclass(frozen=True, eq=False)
class FoldResult:
    """Outcome over a whole model. `fold_sites` are names of values at which drift is worth measuring."""

    decisions: tuple[Decision, ...]
    fold_sites: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    left: Mapping[BatchNorm, ir.Value] = field(default_factory=dict)  # outputs of the norms that stayed
    unsettled: bool = False  # affines have new neighbours: another round may move them

    def without(self, norms: Collection[BatchNorm]) -> tuple[FoldResult, list[Decision]]:
        """Return the outcome without some of the norms, and the decisions about those."""
        apart = {id(norm) for norm in norms}
        kept = tuple(decision for decision in self.decisions if id(decision.norm) not in apart)
        taken = [decision for decision in self.decisions if id(decision.norm) in apart]
        return replace(self, decisions=kept), taken


@dataclass(frozen=True)
class Skip:
    """A rule's refusal: the reason, and what exactly was in the way.

    always: any other affine would be refused here too, so the answer may be remembered.
    """

    reason: SkipReason
    detail: str
    always: bool = False
