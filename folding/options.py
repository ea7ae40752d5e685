"""Everything a caller can ask of a fold. One model for the library, the command and the HTTP body."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Scalar = bool | int | float | str


class Group(StrEnum):
    """Options that stand together: a panel of the command's help, a part of the form on a page."""

    READING = "Reading the model"
    STATISTICS = "Statistics"
    ARTIFACT = "The artifact"
    VERIFICATION = "Verification"


@dataclass(frozen=True)
class Shown:
    """How people meet an option. Its meaning is the field's description.

    title: the label of its control on a page.
    flag, metavar, flag_help: what a command line writes where the field's name, type and description do not
        say it. A flag that is repeated has a singular name and tells of one value.
    """

    group: Group
    title: str
    flag: str = ""
    metavar: str = ""
    flag_help: str = ""


class FoldOptions(BaseModel):
    """Options of one fold. Unknown names are refused, so that a typo never passes silently.

    The options are part of the cache key of a job: two requests with equal options and equal bytes are
    the same work. Paths never appear here; data files travel as their own inputs (`calibration`, `probe`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    inputs: Annotated[
        dict[str, list[int | str | None]],
        Shown(
            Group.READING,
            "Inputs",
            flag="--input",
            metavar="NAME=SHAPE",
            flag_help="Graph input and its shape, e.g. images:0=?,224,224,3.",
        ),
    ] = Field(
        default_factory=dict,
        description="Graph inputs by name, each with its shape (null or a name for a dynamic dimension; an "
        "empty list keeps the shape that the model declares). Empty: inferred.",
    )
    outputs: Annotated[
        list[str],
        Shown(
            Group.READING,
            "Outputs",
            flag="--output",
            metavar="NAME",
            flag_help="Graph output by name. Default: inferred.",
        ),
    ] = Field(default_factory=list, description="Graph outputs by name. Empty: inferred.")
    feeds: Annotated[
        dict[str, Scalar | list[Scalar]],
        Shown(
            Group.READING,
            "Constant feeds",
            flag="--feed",
            metavar="NAME=VALUE",
            flag_help="Constant for an input such as is_training; overrides every assumption.",
        ),
    ] = Field(
        default_factory=dict,
        description="Constant values for inputs such as is_training or keep_prob; override every assumption.",
    )
    signature: Annotated[str | None, Shown(Group.READING, "Signature")] = Field(
        default=None, description="SavedModel signature or traced function. Default: serving_default."
    )
    tags: Annotated[
        list[str],
        Shown(
            Group.READING, "Tags", flag="--tag", metavar="TAG", flag_help="SavedModel tag. Default: serve."
        ),
    ] = Field(default_factory=list, description="SavedModel tags. Default: serve.")
    step: Annotated[int | None, Shown(Group.READING, "Checkpoint step")] = Field(
        default=None, ge=0, description="Checkpoint step, where a folder holds several."
    )
    use_ema: Annotated[bool, Shown(Group.READING, "Use moving averages of the weights")] = Field(
        default=False, description="Take ExponentialMovingAverage shadows for the weights."
    )
    missing_stats: Annotated[Literal["error", "init"], Shown(Group.STATISTICS, "Missing statistics")] = Field(
        default="error", description="Moving statistics absent from the checkpoint: stop, or take 0 and 1."
    )
    recalibrate: Annotated[bool, Shown(Group.STATISTICS, "Re-estimate statistics from calibration data")] = (
        Field(
            default=False, description="Replace moving statistics by those measured on the calibration data."
        )
    )
    rename_inputs: Annotated[
        dict[str, str],
        Shown(
            Group.ARTIFACT,
            "Rename inputs",
            flag="--rename-input",
            metavar="OLD=NEW",
            flag_help="New name of an input of the artifact.",
        ),
    ] = Field(default_factory=dict, description="New names of inputs, by the source's own.")
    rename_outputs: Annotated[
        dict[str, str],
        Shown(
            Group.ARTIFACT,
            "Rename outputs",
            flag="--rename-output",
            metavar="OLD=NEW",
            flag_help="New name of an output of the artifact.",
        ),
    ] = Field(default_factory=dict, description="New names of outputs, by the source's own.")
    inputs_as_nchw: Annotated[
        list[str],
        Shown(
            Group.ARTIFACT,
            "Channels-first inputs",
            metavar="NAME",
            flag_help="Channels-last input that the artifact takes channels-first.",
        ),
    ] = Field(
        default_factory=list, description="Channels-last inputs that the artifact takes channels-first."
    )
    outputs_as_nchw: Annotated[
        list[str],
        Shown(
            Group.ARTIFACT,
            "Channels-first outputs",
            metavar="NAME",
            flag_help="Channels-last output that the artifact gives channels-first.",
        ),
    ] = Field(
        default_factory=list, description="Channels-last outputs that the artifact gives channels-first."
    )
    input_mean: Annotated[
        dict[str, float | list[float]],
        Shown(
            Group.ARTIFACT,
            "Mean of raw inputs",
            flag="--input-mean",
            metavar="NAME=MEAN",
            flag_help="Mean that the artifact subtracts from a raw input, e.g. images=123.7,116.3,103.5.",
        ),
    ] = Field(
        default_factory=dict,
        description="Means that the artifact subtracts from its raw inputs, by name: a number, or one for "
        "each channel. In the units of the raw values.",
    )
    input_std: Annotated[
        dict[str, float | list[float]],
        Shown(
            Group.ARTIFACT,
            "Standard deviation of raw inputs",
            flag="--input-std",
            metavar="NAME=STD",
            flag_help="Standard deviation that the artifact divides a raw input by, e.g. images=255.",
        ),
    ] = Field(
        default_factory=dict,
        description="Standard deviations that the artifact divides its raw inputs by, after the mean.",
    )
    uint8_inputs: Annotated[
        list[str],
        Shown(
            Group.ARTIFACT,
            "Inputs of raw bytes",
            flag="--uint8-input",
            metavar="NAME",
            flag_help="Input of floats that the artifact takes as uint8.",
        ),
    ] = Field(default_factory=list, description="Inputs of floats that the artifact takes as uint8.")
    artifact_inputs: Annotated[
        dict[str, list[int | str | None]],
        Shown(
            Group.ARTIFACT,
            "Fixed input shapes",
            flag="--artifact-input",
            metavar="NAME=SHAPE",
            flag_help="Fixed shape of an input of the artifact, e.g. images=1,3,224,224.",
        ),
    ] = Field(
        default_factory=dict,
        description="Shapes of the artifact's inputs by name: fixed sizes, verified at these sizes (null "
        "or a name keeps a dimension dynamic).",
    )
    opset: Annotated[int | None, Shown(Group.ARTIFACT, "ONNX opset")] = Field(
        default=None, ge=7, le=26, description="ONNX opset of the artifact. Default: the source's own, or 18."
    )
    ort_format: Annotated[bool, Shown(Group.ARTIFACT, "Write ORT format too")] = Field(
        default=False,
        description="Also write the artifact in ONNX Runtime's own format (.ort, with the operators that a "
        "reduced build needs), verified with it.",
    )
    freeze_inputs: Annotated[bool, Shown(Group.READING, "Freeze overridable initializers")] = Field(
        default=False,
        description="Turn initializers that are also graph inputs into constants, and fold them.",
    )
    providers: Annotated[
        list[str],
        Shown(
            Group.VERIFICATION,
            "Providers",
            flag="--provider",
            metavar="NAME",
            flag_help="Execution provider to verify on: cpu, cuda, ... Default: cpu.",
        ),
    ] = Field(default_factory=lambda: ["cpu"], description="Execution providers to verify on, by short name.")
    require: Annotated[
        list[str],
        Shown(
            Group.VERIFICATION,
            "Required providers",
            metavar="NAME",
            flag_help="Provider without which the verdict is inconclusive.",
        ),
    ] = Field(default_factory=list, description="Providers without which the verdict is inconclusive.")
    rtol: Annotated[float | None, Shown(Group.VERIFICATION, "Relative tolerance")] = Field(
        default=None, ge=0, description="Overrides the derived relative tolerance."
    )
    atol: Annotated[float | None, Shown(Group.VERIFICATION, "Absolute tolerance")] = Field(
        default=None, ge=0, description="Overrides the derived absolute tolerance."
    )
    seed: Annotated[int, Shown(Group.VERIFICATION, "Seed")] = Field(
        default=0, ge=0, lt=2**32, description="Seed of the generated probes."
    )
    strict: Annotated[bool, Shown(Group.STATISTICS, "Stop on health warnings")] = Field(
        default=False, description="Health warnings stop the job."
    )
    verify: Annotated[bool, Shown(Group.VERIFICATION, "Verify the result")] = Field(
        default=True, description="False writes an unverified artifact: never published."
    )
    latency: Annotated[bool, Shown(Group.VERIFICATION, "Measure latency")] = Field(
        default=False, description="Measure latency before and after the fold."
    )

    @classmethod
    def shown(cls, name: str) -> Shown:
        """Return how the option is shown. Every option says it (a test asks)."""
        (found,) = (each for each in cls.model_fields[name].metadata if isinstance(each, Shown))
        return found

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
                    self.uint8_inputs,
                    list(self.input_mean),
                    list(self.input_std),
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
