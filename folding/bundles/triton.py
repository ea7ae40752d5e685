"""A Triton model repository: `<name>/config.pbtxt`, `<name>/1/model.onnx`, the report beside them."""

from __future__ import annotations

import json

from folding.bundles.base import Contents, Member
from folding.report import SourceReport, TensorInfo

KIND = "triton"
TITLE = "Triton model repository"
MAX_BATCH = 64

_TYPES = {
    "float32": "TYPE_FP32", "float": "TYPE_FP32", "float16": "TYPE_FP16", "float64": "TYPE_FP64",
    "double": "TYPE_FP64", "bfloat16": "TYPE_BF16", "int8": "TYPE_INT8", "int16": "TYPE_INT16",
    "int32": "TYPE_INT32", "int64": "TYPE_INT64", "uint8": "TYPE_UINT8", "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32", "uint64": "TYPE_UINT64", "bool": "TYPE_BOOL", "string": "TYPE_STRING",
}  # fmt: skip


def members(contents: Contents) -> list[Member]:
    """Return the repository: configuration, one version of the model, the report."""
    name = contents.name
    config = config_text(contents.source, name).encode()
    return [
        Member.of(f"{name}/config.pbtxt", config),
        *(part.at(f"{name}/1/{part.path}") for part in contents.model),
        contents.report.at(f"{name}/report.json"),
    ]


def config_text(source: SourceReport, name: str) -> str:
    """Return config.pbtxt. A dynamic first dimension of every input and output is Triton's batch."""
    inputs, outputs = source.inputs, source.outputs
    batched = bool(inputs) and all(_dynamic_first(tensor) for tensor in [*inputs, *outputs])
    lines = [f'name: "{name}"', 'backend: "onnxruntime"', f"max_batch_size: {MAX_BATCH if batched else 0}"]
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for tensor in tensors:
            dims = (tensor.shape or [])[1 if batched else 0 :]
            sizes = ", ".join(str(d) if isinstance(d, int) else "-1" for d in dims)
            data_type = _TYPES.get(tensor.dtype.lower(), "TYPE_FP32")
            fields = f"name: {json.dumps(tensor.name)} data_type: {data_type} dims: [ {sizes} ]"
            lines.append(f"{kind} [ {{ {fields} }} ]")
    if batched:
        lines.append("dynamic_batching { }")
    return "\n".join(lines) + "\n"


def _dynamic_first(tensor: TensorInfo) -> bool:
    shape = tensor.shape or [1]
    return len(shape) > 1 and not isinstance(shape[0], int)
