"""The weights of an ONNX file, by reference: one memory map per file, one array view per tensor.

Given: `model.onnx`, perhaps with external data beside it. Result: an IR model whose tensors point into the
maps; no weight is read before somebody computes with it, none is copied before it changes.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from folding.errors import CorruptModel, UnsafeModel, UnsupportedModel
from folding.ir import protobuf_wire

MAX_DENSE_BYTES = 1 << 30  # a sparse initializer is a small file that asks for much memory


class Maps:
    """Read-only memory maps by path; they live as long as an array points into them."""

    def __init__(self) -> None:
        self._open: dict[Path, mmap.mmap] = {}

    def view(self, path: Path) -> mmap.mmap:
        """The whole file. Raises: CorruptModel for an empty one (which cannot be mapped)."""
        if path not in self._open:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size == 0:
                    raise CorruptModel(f"{path.name} is empty.", hint="Upload the file again.")
                self._open[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._open[path]


def read(path: Path, root: Path) -> tuple[onnx.ModelProto, dict[str, ir.TensorProtocol]]:
    """The structure of the model at `path`, and its large or external initializers by name.

    root: no external data is read from outside this folder.
    Raises: CorruptModel, UnsafeModel, UnsupportedModel.
    """
    maps = Maps()
    buffer = maps.view(path)
    try:
        detached = protobuf_wire.detach(memoryview(buffer))
        proto = onnx.load_model_from_string(detached.skeleton)
    except (protobuf_wire.WireError, ValueError, RuntimeError) as error:
        raise _truncated(path, error) from error
    except Exception as error:  # protobuf's DecodeError, which it exports from no stable place
        if type(error).__name__ != "DecodeError":
            raise
        raise _truncated(path, error) from error
    tensors: dict[str, ir.TensorProtocol] = {}
    for tensor in proto.graph.initializer:
        if tensor.name in detached.payloads:
            tensors[tensor.name] = _mapped(tensor, buffer, *detached.payloads[tensor.name])
        elif tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensors[tensor.name] = _external(tensor, path, root, maps)
    return proto, tensors


def _truncated(path: Path, error: Exception) -> CorruptModel:
    return CorruptModel(
        f"{path.name} is not a whole ONNX file: {error}.",
        hint="The file is truncated or damaged; export or upload it again and compare the size.",
        details={"bytes": path.stat().st_size},
    )


def _mapped(tensor: onnx.TensorProto, buffer: mmap.mmap, offset: int, length: int) -> ir.TensorProtocol:
    """A tensor over `buffer[offset:offset + length]`, after checking that its dims ask for just that."""
    try:
        dtype = ir.DataType(tensor.data_type)
        bits = dtype.bitwidth
    except (ValueError, TypeError) as error:
        raise UnsupportedModel(
            f"Initializer {tensor.name!r} has element type {tensor.data_type}, which is not numeric.",
            layer=tensor.name,
        ) from error
    size = 1
    for dim in tensor.dims:
        size *= dim
    if size < 0 or -(-size * bits // 8) != length:
        raise CorruptModel(
            f"Initializer {tensor.name!r} declares {list(tensor.dims)} of {dtype.name}, which takes "
            f"{-(-size * bits // 8)} bytes; {length} are stored.",
            hint="Export the model again.",
            layer=tensor.name,
        )
    if bits < 8:
        packed = np.frombuffer(buffer, np.uint8, length, offset)
        return ir.PackedTensor(packed, dtype, shape=ir.Shape(tensor.dims), name=tensor.name)
    array = np.frombuffer(buffer, dtype.numpy().newbyteorder("<"), size, offset).reshape(tuple(tensor.dims))
    return ir.Tensor(array, dtype, name=tensor.name)


def _external(tensor: onnx.TensorProto, path: Path, root: Path, maps: Maps) -> ir.TensorProtocol:
    info = {entry.key: entry.value for entry in tensor.external_data}
    file = _resolve(info.get("location", ""), tensor.name, path, root)
    buffer = maps.view(file)
    dtype = ir.DataType(tensor.data_type)
    needed = -(-int(np.prod(tensor.dims, dtype=object)) * dtype.bitwidth // 8)
    try:
        offset, length = int(info.get("offset", "0")), int(info.get("length", needed))
    except ValueError as error:
        raise CorruptModel(f"External data of {tensor.name!r}: offset or length is no number.") from error
    if offset < 0 or length < 0 or offset + length > len(buffer):
        raise CorruptModel(
            f"External data of {tensor.name!r} lies at {offset}..{offset + length} of {file.name}, which has "
            f"{len(buffer)} bytes.",
            code="external_data_out_of_range",
            hint="The data file is truncated, or belongs to another model.",
            layer=tensor.name,
        )
    return _mapped(tensor, buffer, offset, length)


def _resolve(location: str, name: str, path: Path, root: Path) -> Path:
    """The file that `location` names, if it is a regular file inside `root` with one name only."""
    candidate = path.parent / location
    if not location or "\0" in location or os.path.isabs(location) or ".." in Path(location).parts:
        raise UnsafeModel(
            f"Initializer {name!r} asks for external data at {location!r}, outside the model's folder.",
            code="external_data_path",
            hint="Save the model again with all external data beside it.",
            layer=name,
        )
    if not candidate.exists():
        raise CorruptModel(
            f"Initializer {name!r} is stored in {location!r}, which is not there.",
            code="external_data_missing",
            hint="Give the folder or an archive that holds both the .onnx file and its data file.",
            layer=name,
        )
    real = candidate.resolve()
    if not real.is_relative_to(root.resolve()) or not real.is_file() or candidate.is_symlink():
        raise UnsafeModel(
            f"External data {location!r} of {name!r} is a link or leads out of the model's folder.",
            code="external_data_path",
            layer=name,
        )
    if real.stat().st_nlink > 1:
        raise UnsafeModel(
            f"External data {location!r} of {name!r} has several names (hard links).",
            code="external_data_path",
            hint="Copy the file.",
            layer=name,
        )
    return real


def densify(proto: onnx.ModelProto) -> list[str]:
    """Make sparse initializers, and sparse values of Constant nodes, dense in place; their names."""
    names: list[str] = []
    _densify_graph(proto.graph, names)
    for function in proto.functions:
        _densify_nodes(function.node, names)
    return names


def _densify_graph(graph: onnx.GraphProto, names: list[str]) -> None:
    for sparse in graph.sparse_initializer:
        graph.initializer.append(_dense(sparse, sparse.values.name))
        names.append(sparse.values.name)
    graph.ClearField("sparse_initializer")
    _densify_nodes(graph.node, names)


def _densify_nodes(nodes: Iterable[onnx.NodeProto], names: list[str]) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _densify_graph(attribute.g, names)
            elif attribute.HasField("sparse_tensor") and node.op_type == "Constant":
                tensor = _dense(attribute.sparse_tensor, attribute.sparse_tensor.values.name)
                attribute.CopyFrom(onnx.helper.make_attribute("value", tensor))
                names.append(node.output[0])


def _dense(sparse: onnx.SparseTensorProto, name: str) -> onnx.TensorProto:
    """indices: (nnz,) positions in row-major order, or (nnz, rank) coordinates. Source: onnx.proto."""
    values = onnx.numpy_helper.to_array(sparse.values)
    indices = onnx.numpy_helper.to_array(sparse.indices)
    shape = tuple(sparse.dims)
    size = int(np.prod(shape, dtype=object))
    if size * values.itemsize > MAX_DENSE_BYTES:
        raise UnsupportedModel(
            f"Sparse initializer {name!r} takes {size * values.itemsize} bytes when dense.", layer=name
        )
    flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
    dense = np.zeros(size, values.dtype)
    dense[flat] = values
    return onnx.numpy_helper.from_array(dense.reshape(shape), name)
