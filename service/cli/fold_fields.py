"""The options of a fold as a command line needs them. Written by `make docs` from `folding.options.FoldOptions`."""

# ruff: noqa: E501
# fmt: off

from __future__ import annotations

from typing import Final, NamedTuple


class Field(NamedTuple):
    """One option: how its value is read, what it may be, and what it means."""

    flag: str
    panel: str
    kind: str
    help: str
    metavar: str = ""
    choices: tuple[str, ...] = ()


FIELDS: Final = {
    "inputs": Field("--input", "Reading the model", "list", "Graph input and its shape, e.g. images:0=?,224,224,3.", metavar="NAME=SHAPE"),
    "outputs": Field("--output", "Reading the model", "list", "Graph output by name. Default: inferred.", metavar="NAME"),
    "feeds": Field("--feed", "Reading the model", "list", "Constant for an input such as is_training; overrides every assumption.", metavar="NAME=VALUE"),
    "signature": Field("--signature", "Reading the model", "str", "SavedModel signature or traced function. Default: serving_default."),
    "tags": Field("--tag", "Reading the model", "list", "SavedModel tag. Default: serve.", metavar="TAG"),
    "step": Field("--step", "Reading the model", "int", "Checkpoint step, where a folder holds several."),
    "use_ema": Field("--use-ema", "Reading the model", "bool", "Take ExponentialMovingAverage shadows for the weights."),
    "missing_stats": Field("--missing-stats", "Statistics", "str", "Moving statistics absent from the checkpoint: stop, or take 0 and 1.", choices=("error", "init")),
    "recalibrate": Field("--recalibrate", "Statistics", "bool", "Replace moving statistics by those measured on the calibration data."),
    "rename_inputs": Field("--rename-input", "The artifact", "list", "New name of an input of the artifact.", metavar="OLD=NEW"),
    "rename_outputs": Field("--rename-output", "The artifact", "list", "New name of an output of the artifact.", metavar="OLD=NEW"),
    "inputs_as_nchw": Field("--inputs-as-nchw", "The artifact", "list", "Channels-last input that the artifact takes channels-first.", metavar="NAME"),
    "outputs_as_nchw": Field("--outputs-as-nchw", "The artifact", "list", "Channels-last output that the artifact gives channels-first.", metavar="NAME"),
    "input_mean": Field("--input-mean", "The artifact", "list", "Mean that the artifact subtracts from a raw input, e.g. images=123.7,116.3,103.5.", metavar="NAME=MEAN"),
    "input_std": Field("--input-std", "The artifact", "list", "Standard deviation that the artifact divides a raw input by, e.g. images=255.", metavar="NAME=STD"),
    "uint8_inputs": Field("--uint8-input", "The artifact", "list", "Input of floats that the artifact takes as uint8.", metavar="NAME"),
    "artifact_inputs": Field("--artifact-input", "The artifact", "list", "Fixed shape of an input of the artifact, e.g. images=1,3,224,224.", metavar="NAME=SHAPE"),
    "opset": Field("--opset", "The artifact", "int", "ONNX opset of the artifact. Default: the source's own, or 18."),
    "ort_format": Field("--ort-format", "The artifact", "bool", "Also write the artifact in ONNX Runtime's own format (.ort, with the operators that a reduced build needs), verified with it."),
    "freeze_inputs": Field("--freeze-inputs", "Reading the model", "bool", "Turn initializers that are also graph inputs into constants, and fold them."),
    "providers": Field("--provider", "Verification", "list", "Execution provider to verify on: cpu, cuda, ... Default: cpu.", metavar="NAME"),
    "require": Field("--require", "Verification", "list", "Provider without which the verdict is inconclusive.", metavar="NAME"),
    "rtol": Field("--rtol", "Verification", "float", "Overrides the derived relative tolerance."),
    "atol": Field("--atol", "Verification", "float", "Overrides the derived absolute tolerance."),
    "seed": Field("--seed", "Verification", "int", "Seed of the generated probes."),
    "strict": Field("--strict", "Statistics", "bool", "Health warnings stop the job."),
    "verify": Field("--verify", "Verification", "bool", "False writes an unverified artifact: never published."),
    "latency": Field("--latency", "Verification", "bool", "Measure latency before and after the fold."),
}
