"""ONNX files out: checked, with shapes, deterministic, and either wholly there or not at all.

Bytes depend on the model alone: no time, no path, no hash order. Weights are streamed from where they lie
(a memory map of the source, mostly), so that writing needs no second copy of them.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from folding import toolchain
from folding.errors import InternalError, UnsupportedModel
from folding.ir import protobuf_wire, weightless
from folding.ir.infer_shapes import infer_shapes
from folding.options import FoldOptions
from folding.passes.opsets import convert
from folding.report import ArtifactReport, SourceReport

EXTERNAL_ABOVE = 2**31 - 2**20  # protobuf's limit, less room for what is not weights
ALIGNMENT = 4096  # so that runtimes can map external weights
CHUNK = 1 << 24


def parameter_count(model: ir.Model) -> int:
    """Elements in initializers, of all graphs."""
    return sum(v.const_value.size for g in model.graphs() for v in g.initializers.values() if v.const_value)


def write_plain(model: ir.Model, path: Path) -> Path:
    """Write the model as it is: no conversion, no check, no metadata. For references and debugging."""
    proto, tensors = weightless.serialize(model)
    proto.ir_version = ir_version(model)
    _write_model(proto, tensors, path)
    return path


def write(model: ir.Model, dst: Path, options: FoldOptions, source: SourceReport) -> ArtifactReport:
    """Write the artifact: opset as asked, shapes filled in, provenance in the metadata, checked.

    Returns: digest (`sha256:...` of the file at `dst`; external weights are pinned by a digest inside it)
    and bytes (both files).
    Raises: UnsupportedModel when the opset cannot be reached or the graph does not pass the onnx checker.
    """
    if options.opset is not None:
        convert(model, options.opset)
    infer_shapes(model)
    _drop_stale_provenance(model)
    model.ir_version = ir_version(model)
    model.producer_name, model.producer_version = "bnfold", toolchain.version()
    proto, tensors = weightless.serialize(model)
    check(proto, tensors)
    return _write_model(proto, tensors, dst, source)


def ir_version(model: ir.Model) -> int:
    """The lowest IR version that holds the model: runtimes refuse those newer than themselves."""
    opsets = [onnx.helper.make_opsetid(domain, v) for domain, v in sorted(model.graph.opset_imports.items())]
    needed = onnx.helper.find_min_ir_version_for(opsets, ignore_unknown=True)
    floor = 8 if model.functions else 4  # 4: initializers need not be inputs; 8: model-local functions
    return max(needed, floor)


_FROM_CPP = (ValueError, RuntimeError, IndexError, TypeError)  # what onnx's C++ raises over odd types


def check(proto: onnx.ModelProto, tensors: dict[str, ir.TensorProtocol]) -> None:
    """The onnx checker with shape inference, on the structure; payload sizes are checked by the writer.

    Raises: UnsupportedModel with the checker's own words.
    """
    structure = onnx.ModelProto()
    structure.CopyFrom(proto)
    weightless.as_inputs(structure, tensors)
    try:
        onnx.shape_inference.infer_shapes(structure, check_type=True, strict_mode=True)
        weightless.give_shapes(structure)  # inputs and outputs whose rank nobody knows
        onnx.checker.check_model(structure.SerializeToString(deterministic=True))
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, *_FROM_CPP) as error:
        raise UnsupportedModel(
            f"The resulting graph does not pass the onnx checker: {str(error).splitlines()[0]}",
            code="checker_refused",
            hint="The source passes as it is; with its constants folded the checker sees more of it. If the "
            "source runs in ONNX Runtime, this is a defect of bnfold: please report it with the model.",
            stage="export",
            details={"checker": str(error)[:2000]},
        ) from error


def check_source(model: ir.Model) -> None:
    """The same check on a model that nothing was done to.

    Raises: UnsupportedModel (`source_checker_refused`): no artifact made of it could pass either.
    """
    try:
        check(*weightless.serialize(model))
    except UnsupportedModel as error:
        raise UnsupportedModel(
            f"The source does not pass the onnx checker: {error.details['checker'].splitlines()[0]}",
            code="source_checker_refused",
            hint="onnx.checker.check_model(path, full_check=True) says the same of the source; repair it or "
            "export it again. A runtime that loads it regardless infers less than the checker does.",
            stage="read",
            details=error.details,
        ) from error


def _drop_stale_provenance(model: ir.Model) -> None:
    for key in [k for k in model.metadata_props if k.startswith("bnfold.")]:
        del model.metadata_props[key]


def _provenance(source: SourceReport, content: str) -> bytes:
    """`metadata_props` that say where the model comes from. They end the file, and `bnfold.content_digest` is
    the digest of all bytes before them, so that one pass over the weights yields both digests."""
    trailer = onnx.ModelProto()
    entries = {
        "bnfold.content_digest": content,
        "bnfold.source_digest": source.digest,
        "bnfold.source_format": source.format,
        "bnfold.version": toolchain.version(),
    }
    for key, value in sorted(entries.items()):
        trailer.metadata_props.add(key=key, value=value)
    return bytes(trailer.SerializeToString(deterministic=True))


def payload(tensor: ir.TensorProtocol) -> Iterator[memoryview | bytes]:
    """A tensor's bytes as `raw_data` wants them: little-endian, row-major, sub-byte types packed."""
    array = tensor.numpy()
    packed = tensor.dtype.bitwidth < 8 or array.dtype.byteorder == ">"
    if packed or array.dtype.kind in "OSU":
        yield tensor.tobytes()
        return
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    for start in range(0, flat.size, CHUNK):
        yield memoryview(flat[start : start + CHUNK])  # type: ignore[arg-type]


def _write_model(
    proto: onnx.ModelProto,
    tensors: dict[str, ir.TensorProtocol],
    dst: Path,
    source: SourceReport | None = None,
) -> ArtifactReport:
    """Everything in one file while protobuf can read that, else weights in `<dst>.data`."""
    total = proto.ByteSize() + sum(t.nbytes + 256 for t in tensors.values())
    if total < EXTERNAL_ABOVE:
        digest, size = _write_atomically(dst, _inline(proto, tensors), source)
        return ArtifactReport(digest=digest, bytes=size)
    data = dst.with_name(dst.name + ".data")
    external = _External(tensors)
    data_digest, data_size = _write_atomically(data, external.chunks())
    external.refer(proto, data.name)
    proto.metadata_props.add(key="bnfold.data_digest", value=data_digest)
    digest, size = _write_atomically(dst, [proto.SerializeToString(deterministic=True)], source)
    return ArtifactReport(digest=digest, bytes=size + data_size)


def _header(name: str, tensor: ir.TensorProtocol) -> onnx.TensorProto:
    return onnx.TensorProto(dims=tensor.shape.numpy(), data_type=tensor.dtype.value, name=name)


def _inline(proto: onnx.ModelProto, tensors: dict[str, ir.TensorProtocol]) -> Iterator[memoryview | bytes]:
    """The message in pieces: everything but the graph, then the graph with its weights streamed in."""
    graph = proto.graph.SerializeToString(deterministic=True)
    shell = onnx.ModelProto()
    shell.CopyFrom(proto)
    shell.ClearField("graph")
    heads = {}
    length = len(graph)
    for name, tensor in tensors.items():
        head = _header(name, tensor).SerializeToString(deterministic=True)
        head += protobuf_wire.prefix(protobuf_wire.TENSOR_RAW_DATA, tensor.nbytes)
        heads[name] = protobuf_wire.prefix(protobuf_wire.GRAPH_INITIALIZER, len(head) + tensor.nbytes) + head
        length += len(heads[name]) + tensor.nbytes
    yield shell.SerializeToString(deterministic=True)
    yield protobuf_wire.prefix(protobuf_wire.MODEL_GRAPH, length)
    yield graph
    for name, tensor in tensors.items():
        yield heads[name]
        yield from _exactly(name, tensor)


def _exactly(name: str, tensor: ir.TensorProtocol) -> Iterator[memoryview | bytes]:
    written = 0
    for chunk in payload(tensor):
        written += len(chunk)
        yield chunk
    if written != tensor.nbytes:
        raise InternalError(
            f"Initializer {name!r} has {written} bytes, its shape and type ask for {tensor.nbytes}."
        )


class _External:
    """Weights in one file beside the model, each aligned to a page."""

    def __init__(self, tensors: dict[str, ir.TensorProtocol]) -> None:
        self.tensors = tensors
        self.offsets: dict[str, int] = {}
        at = 0
        for name, tensor in tensors.items():
            at += -at % ALIGNMENT
            self.offsets[name] = at
            at += tensor.nbytes

    def chunks(self) -> Iterator[memoryview | bytes]:
        at = 0
        for name, tensor in self.tensors.items():
            yield bytes(self.offsets[name] - at)
            yield from _exactly(name, tensor)
            at = self.offsets[name] + tensor.nbytes

    def refer(self, proto: onnx.ModelProto, location: str) -> None:
        for name, tensor in self.tensors.items():
            head = _header(name, tensor)
            head.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", location), ("offset", str(self.offsets[name])),
                               ("length", str(tensor.nbytes))):  # fmt: skip
                head.external_data.add(key=key, value=value)
            proto.graph.initializer.append(head)


def _write_atomically(
    dst: Path, chunks: Iterable[memoryview | bytes], source: SourceReport | None = None
) -> tuple[str, int]:
    """Write beside `dst`, fsync, rename over it, fsync the folder. A reader never sees half a file.

    source: what the trailer says, for an artifact. Returns: (sha256 of the file, its bytes).
    """
    digest, size = hashlib.sha256(), 0
    partial = dst.with_name(f".{dst.name}.{os.getpid()}.part")
    try:
        with partial.open("wb", buffering=0) as file:
            for chunk in chunks:
                digest.update(chunk)
                size += _write(file, chunk)
            if source is not None:
                trailer = _provenance(source, f"sha256:{digest.hexdigest()}")
                digest.update(trailer)
                size += _write(file, trailer)
            os.fsync(file.fileno())
        partial.replace(dst)
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(dst.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return f"sha256:{digest.hexdigest()}", size


def _write(file: io.FileIO, chunk: memoryview | bytes) -> int:
    """All of it: an unbuffered write may take less than it is given."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]
    return len(chunk)
