"""The options of a fold as a command line needs them. Written by `make docs` from `folding.options.FoldOptions`."""

# ruff: noqa: E501
# fmt: off

from __future__ import annotations

from typing import Final, NamedTuple


class Field(NamedTuple):
    """One option: how its value is read, what it may be, and what it means."""

    kind: str
    help: str
    choices: tuple[str, ...] = ()


FIELDS: Final = {
    "inputs": Field("list", "Graph inputs by name, each with its shape (null or a name for a dynamic dimension; an empty list keeps the shape that the model declares). Empty: inferred."),
    "outputs": Field("list", "Graph outputs by name. Empty: inferred."),
    "feeds": Field("list", "Constant values for inputs such as is_training or keep_prob; override every assumption."),
    "signature": Field("str", "SavedModel signature or traced function. Default: serving_default."),
    "tags": Field("list", "SavedModel tags. Default: serve."),
    "step": Field("int", "Checkpoint step, where a folder holds several."),
    "use_ema": Field("bool", "Take ExponentialMovingAverage shadows for the weights."),
    "missing_stats": Field("str", "Moving statistics absent from the checkpoint: stop, or take 0 and 1.", ("error", "init")),
    "recalibrate": Field("bool", "Replace moving statistics by those measured on the calibration data."),
    "rename_inputs": Field("list", "New names of inputs, by the source's own."),
    "rename_outputs": Field("list", "New names of outputs, by the source's own."),
    "inputs_as_nchw": Field("list", "Channels-last inputs that the artifact takes channels-first."),
    "outputs_as_nchw": Field("list", "Channels-last outputs that the artifact gives channels-first."),
    "artifact_inputs": Field("list", "Shapes of the artifact's inputs by name: fixed sizes, verified at these sizes (null or a name keeps a dimension dynamic)."),
    "opset": Field("int", "ONNX opset of the artifact. Default: the source's own, or 18."),
    "freeze_inputs": Field("bool", "Turn initializers that are also graph inputs into constants, and fold them."),
    "providers": Field("list", "Execution providers to verify on, by short name."),
    "require": Field("list", "Providers without which the verdict is inconclusive."),
    "rtol": Field("float", "Overrides the derived relative tolerance."),
    "atol": Field("float", "Overrides the derived absolute tolerance."),
    "seed": Field("int", "Seed of the generated probes."),
    "strict": Field("bool", "Health warnings stop the job."),
    "verify": Field("bool", "False writes an unverified artifact: never published."),
    "latency": Field("bool", "Measure latency before and after the fold."),
}
