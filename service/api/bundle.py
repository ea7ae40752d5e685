"""A Triton model repository as one streamed zip: `<name>/config.pbtxt`, `<name>/1/model.onnx`, the report.

The zip is stored, not deflated (weights do not shrink), with fixed times: same artifact and name, same bytes.
Sizes are known beforehand, CRCs follow each member in a data descriptor, so nothing is held in memory.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

from fastapi.responses import StreamingResponse

from service.store.blobs import Blobs

_TYPES = {
    "float32": "TYPE_FP32", "float": "TYPE_FP32", "float16": "TYPE_FP16", "float64": "TYPE_FP64",
    "double": "TYPE_FP64", "bfloat16": "TYPE_BF16", "int8": "TYPE_INT8", "int16": "TYPE_INT16",
    "int32": "TYPE_INT32", "int64": "TYPE_INT64", "uint8": "TYPE_UINT8", "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32", "uint64": "TYPE_UINT64", "bool": "TYPE_BOOL", "string": "TYPE_STRING",
}  # fmt: skip


Member = tuple[str, int, Iterator[memoryview]]


class _Pipe(io.RawIOBase):
    """Write-only, unseekable: what zipfile writes is taken out again piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> Iterator[bytes]:
        """Everything written since."""
        pieces, self._pieces = self._pieces, []
        yield from pieces


def response(
    blobs: Blobs, digest: str, size: int, media_type: str, name: str, report: tuple[str, int], summary: bytes
) -> StreamingResponse:
    """The zip as a stream. `report` is digest and size of the whole one, `summary` a part with its source."""
    headers = {
        "ETag": f'"{digest[7:39]}-triton-{name}"',
        "Content-Disposition": f'attachment; filename="{name}-triton.zip"',
        "Cache-Control": "private, max-age=31536000, immutable",
    }
    if media_type == "application/zip":
        members = zip_members(blobs, digest, name)
    else:
        members = [(f"{name}/1/model.onnx", size, blobs.read(digest))]
    members.append((f"{name}/report.json", report[1], blobs.read(report[0])))
    config = config_text(json.loads(summary), name).encode()
    members.insert(0, (f"{name}/config.pbtxt", len(config), iter([memoryview(config)])))
    return StreamingResponse(stream(members), 200, headers, "application/zip")


def zip_members(blobs: Blobs, digest: str, name: str) -> list[Member]:
    """Members of an artifact that is a zip itself (model and weights): taken apart without copying it."""
    path = blobs.path(digest)
    source: Any = path if path is not None else io.BytesIO(b"".join(blobs.read(digest)))
    archive = zipfile.ZipFile(source)

    def pieces(entry: zipfile.ZipInfo) -> Iterator[memoryview]:
        with archive.open(entry) as member:
            while piece := member.read(1 << 20):
                yield memoryview(piece)

    return [(f"{name}/1/{entry.filename}", entry.file_size, pieces(entry)) for entry in archive.infolist()]


def stream(members: list[Member]) -> Iterator[bytes]:
    """The zip's bytes."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for path, size, pieces in members:
            entry = zipfile.ZipInfo(path, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.file_size = size
            with archive.open(entry, "w", force_zip64=size > 1 << 30) as out:
                for piece in pieces:
                    out.write(piece)
                    yield from pipe.take()
    yield from pipe.take()


def config_text(report: dict[str, Any], name: str) -> str:
    """config.pbtxt. A dynamic first dimension of every input and output is Triton's batch."""
    source = report["source"]
    inputs, outputs = source.get("inputs") or [], source.get("outputs") or []
    batched = bool(inputs) and all(_dynamic_first(tensor) for tensor in [*inputs, *outputs])
    lines = [f'name: "{name}"', 'backend: "onnxruntime"', f"max_batch_size: {64 if batched else 0}"]
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for tensor in tensors:
            dims = (tensor.get("shape") or [])[1 if batched else 0 :]
            sizes = ", ".join(str(d) if isinstance(d, int) else "-1" for d in dims)
            data_type = _TYPES.get(str(tensor["dtype"]).lower(), "TYPE_FP32")
            fields = f"name: {json.dumps(tensor['name'])} data_type: {data_type} dims: [ {sizes} ]"
            lines.append(f"{kind} [ {{ {fields} }} ]")
    if batched:
        lines.append("dynamic_batching { }")
    return "\n".join(lines) + "\n"


def _dynamic_first(tensor: dict[str, Any]) -> bool:
    shape = tensor.get("shape") or [1]
    return len(shape) > 1 and not isinstance(shape[0], int)
