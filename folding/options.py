"""Everything a caller can ask of a fold. One model for the library, the command and the HTTP body."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Scalar = bool | int | float | str


class FoldOptions(BaseModel):
    """Options of one fold. Unknown names are refused, so that a typo never passes silently.

    The options are part of the cache key of a job: two requests with equal options and equal bytes are
    the same work. Paths never appear here; data files travel as their own inputs (`calibration`, `probe`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    inputs: dict[str, list[int | str | None]] = Field(
        default_factory=dict,
        description="Graph inputs by name, each with its shape (null or a name for a dynamic dimension; an "
        "empty list keeps the shape that the model declares). Empty: inferred.",
    )
    outputs: list[str] = Field(default_factory=list, description="Graph outputs by name. Empty: inferred.")
    feeds: dict[str, Scalar | list[Scalar]] = Field(
        default_factory=dict,
        description="Constant values for inputs such as is_training or keep_prob; override every assumption.",
    )
    signature: str | None = Field(
        default=None, description="SavedModel signature or traced function. Default: serving_default."
    )
    tags: list[str] = Field(default_factory=list, description="SavedModel tags. Default: serve.")
    step: int | None = Field(default=None, ge=0, description="Checkpoint step, where a folder holds several.")
    use_ema: bool = Field(default=False, description="Take ExponentialMovingAverage shadows for the weights.")
    missing_stats: Literal["error", "init"] = Field(
        default="error", description="Moving statistics absent from the checkpoint: stop, or take 0 and 1."
    )
    recalibrate: bool = Field(
        default=False, description="Replace moving statistics by those measured on the calibration data."
    )
    rename_inputs: dict[str, str] = Field(
        default_factory=dict, description="New names of inputs, by the source's own."
    )
    rename_outputs: dict[str, str] = Field(
        default_factory=dict, description="New names of outputs, by the source's own."
    )
    inputs_as_nchw: list[str] = Field(
        default_factory=list, description="Channels-last inputs that the artifact takes channels-first."
    )
    outputs_as_nchw: list[str] = Field(
        default_factory=list, description="Channels-last outputs that the artifact gives channels-first."
    )
    artifact_inputs: dict[str, list[int | str | None]] = Field(
        default_factory=dict,
        description="Shapes of the artifact's inputs by name: fixed sizes, verified at these sizes (null "
        "or a name keeps a dimension dynamic).",
    )
    opset: int | None = Field(
        default=None, ge=7, le=26, description="ONNX opset of the artifact. Default: the source's own, or 18."
    )
    freeze_inputs: bool = Field(
        default=False,
        description="Turn initializers that are also graph inputs into constants, and fold them.",
    )
    providers: list[str] = Field(
        default_factory=lambda: ["cpu"], description="Execution providers to verify on, by short name."
    )
    require: list[str] = Field(
        default_factory=list, description="Providers without which the verdict is inconclusive."
    )
    rtol: float | None = Field(default=None, ge=0, description="Overrides the derived relative tolerance.")
    atol: float | None = Field(default=None, ge=0, description="Overrides the derived absolute tolerance.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of the generated probes.")
    strict: bool = Field(default=False, description="Health warnings stop the job.")
    verify: bool = Field(default=True, description="False writes an unverified artifact: never published.")
    latency: bool = Field(default=False, description="Measure latency before and after the fold.")

    @model_validator(mode="after")
    def _texts_can_be_kept(self) -> FoldOptions:
        """No name of a graph has a NUL or half a surrogate pair, and no database or answer takes them."""
        try:
            text = json.dumps(
                [
                    self.inputs,
                    self.artifact_inputs,
                    self.outputs,
                    self.feeds,
                    self.signature,
                    self.tags,
                    self.rename_inputs,
                    self.rename_outputs,
                    self.inputs_as_nchw,
                    self.outputs_as_nchw,
                ],
                ensure_ascii=False,
            )
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("a text is no valid Unicode") from None
        if "\\u0000" in text:
            raise ValueError("a text has a NUL character")
        return self

    @field_validator("providers", "require")
    @classmethod
    def _short_lowercase_names(cls, names: list[str]) -> list[str]:
        return list(dict.fromkeys(name.strip().lower() for name in names if name.strip()))
