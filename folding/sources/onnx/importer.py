"""ONNX files, alone or in a folder or archive with their external data."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from folding.errors import AmbiguousModel, CorruptModel, UsageError
from folding.export import ir_version
from folding.ir import gc_pause, protobuf_wire
from folding.options import FoldOptions, Scalar
from folding.progress import Progress
from folding.report import Assumption, Inspection, SourceReport
from folding.report.tensor_info import tensor_info
from folding.sources.base import Imported, Upload
from folding.sources.gates.onnx import check_onnx
from folding.sources.onnx import canonical, structure, weights

_MODEL_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_SNIFF_BYTES = 1 << 16
_LONGEST_PRODUCER = 4096


class OnnxFormat:
    """The `Format` for ONNX."""

    name = "onnx"

    def sniff(self, upload: Upload) -> bool:
        """Whether the upload is, or holds, a file that begins like a ModelProto with a graph."""
        return bool(_candidates(upload))

    def load(self, upload: Upload, options: FoldOptions, workdir: Path, progress: Progress) -> Imported:
        """Read structure and bind weights by reference. See `folding.sources.base.Format`."""
        path = _choose(upload)
        progress.report("read", 0.1, f"reading {path.name}")
        check_onnx(path, upload.root)
        proto, tensors = weights.read(path, upload.root)
        sparse = weights.densify(proto)
        respelt = canonical.spell_default_domain(proto)
        unsorted = canonical.sort_graphs(proto)
        structure.check_structure(proto, tensors)
        legacy = canonical.drop_legacy_inputs(proto)
        imported = canonical.import_default_domain(proto)
        model = _bind(proto, tensors)
        source = SourceReport(format=self.name, framework=_framework(proto), digest=upload.digest)
        if sparse:
            source.notes.append(f"sparse initializers made dense: {', '.join(sparse)}")
        if legacy:
            source.notes.append(f"IR version below 4: {len(legacy)} inputs with a value are constants")
        if unsorted:
            source.notes.append("nodes stood in no topological order; sorted, as ONNX Runtime does")
        if imported:
            source.notes.append("the default operator set was not imported; the artifact imports it")
        as_given = apply_options(model, options, source) and not (respelt or unsorted)
        if model.ir_version > ir_version(model):  # runtimes refuse a version newer than themselves
            as_given = False
        source.inputs = [tensor_info(value) for value in _true_inputs(model.graph)]
        source.outputs = [tensor_info(value) for value in model.graph.outputs]
        return Imported(model, source, onnx_path=path if as_given else None)

    def inspect(
        self, upload: Upload, options: FoldOptions, workdir: Path
    ) -> tuple[Inspection, dict[str, np.ndarray]]:
        """Inputs, outputs, and every batch norm with its statistics and health."""
        from folding.sources.onnx.inspection import inspect_model

        imported = self.load(upload, options, workdir, Progress())
        return inspect_model(imported, options)


FORMAT = OnnxFormat()


_SHARD = re.compile(r"\.data-\d{5}-of-\d{5}$")  # of a TensorFlow checkpoint
_GRAPH_FIELDS = frozenset({1, 2, 5, 10, 11, 12, 13, 14, 15, 16})  # GraphProto


def looks_like_onnx(path: Path) -> bool:
    """Whether the first bytes read as ModelProto fields up to a graph; a truncated file still does."""
    try:
        with path.open("rb") as file:
            head = memoryview(file.read(_SNIFF_BYTES))
        size = path.stat().st_size
    except OSError:
        return False
    at = 0
    seen = set()
    try:
        while at < len(head):
            tag, body = protobuf_wire.read_varint(head, at, len(head))
            number, wire_type = tag >> 3, tag & 7
            if _MODEL_FIELDS.get(number) != wire_type:
                return False
            seen.add(number)
            value, body = protobuf_wire.read_varint(head, body, len(head))
            if number == protobuf_wire.MODEL_GRAPH:
                return (1 in seen or value <= size) and _begins_like_graph(head, body, value)
            if number == 2 and value > _LONGEST_PRODUCER:
                return False  # a SavedModel begins the same way, and has its graph here
            at = body + (value if wire_type == 2 else 0)
    except protobuf_wire.WireError:
        return False
    return False


def _begins_like_graph(head: memoryview, at: int, length: int) -> bool:
    """The first field of a GraphProto: all of them are messages or text. Weights begin with anything."""
    if not length or at >= len(head):
        return True
    tag, at = protobuf_wire.read_varint(head, at, len(head))
    if tag & 7 != 2 or tag >> 3 not in _GRAPH_FIELDS:
        return False
    inner, _ = protobuf_wire.read_varint(head, at, len(head)) if at < len(head) else (0, at)
    return inner <= length


def _candidates(upload: Upload) -> list[Path]:
    if (upload.path.is_file() and upload.path.suffix.lower() == ".onnx") or not upload.files:
        paths = [upload.path]
    else:
        # raw weights beside their index may begin like anything
        indexed = any(name.endswith(".index") for name in upload.files)
        names = [name for name in upload.files if not (indexed and _SHARD.search(name))]
        paths = [upload.root / name for name in names]
    return [path for path in paths if path.is_file() and looks_like_onnx(path)]


def _choose(upload: Upload) -> Path:
    found = _candidates(upload)
    if len(found) == 1:
        return found[0]
    names = [path.name for path in found]
    if not found:
        raise CorruptModel("No ONNX model was found in the upload.", hint="Give the .onnx file itself.")
    raise AmbiguousModel(
        f"The upload holds {len(found)} ONNX models: {', '.join(names)}.",
        hint="Give one of them, with its external data.",
        details={"candidates": names},
    )


def _bind(proto: onnx.ModelProto, tensors: dict[str, ir.TensorProtocol]) -> ir.Model:
    """The IR model with every detached tensor back in its initializer."""
    for tensor in proto.graph.initializer:
        if tensor.name in tensors:  # keeps deserialization from looking for bytes that are elsewhere
            tensor.data_location = onnx.TensorProto.EXTERNAL
            del tensor.external_data[:]
            tensor.external_data.add(key="location", value="detached")
    with gc_pause.paused():
        model = ir.serde.deserialize_model(proto)
    for name, tensor in tensors.items():
        model.graph.initializers[name].const_value = tensor
    return model


def _framework(proto: onnx.ModelProto) -> str:
    return " ".join(part for part in (proto.producer_name, proto.producer_version) if part) or "onnx"


def _true_inputs(graph: ir.Graph) -> list[ir.Value]:
    return [value for value in graph.inputs if value.name not in graph.initializers]


def apply_options(model: ir.Model, options: FoldOptions, source: SourceReport) -> bool:
    """Feeds, input shapes and outputs as asked. False when the graph is no longer the file's own."""
    inputs = {value.name or "": value for value in model.graph.inputs}
    for name, given in options.feeds.items():
        _feed(model, _named(name, inputs, "input"), given, source)
    for name, shape in options.inputs.items():
        value = _named(name, inputs, "input")
        if shape:
            value.shape = ir.Shape(shape)
    if options.outputs:
        values = ir.convenience.create_value_mapping(model.graph)
        chosen = [_named(name, values, "output") for name in options.outputs]
        model.graph.outputs.clear()
        model.graph.outputs.extend(chosen)
    return not (options.feeds or options.outputs or any(options.inputs.values()))


def _named(name: str, values: dict[str, ir.Value], role: str) -> ir.Value:
    if name not in values:
        candidates = sorted(values)[:50]
        raise UsageError(
            f"The model has no {role} called {name!r}.",
            code=f"unknown_{role}",
            hint="Names are case-sensitive; `bnfold inspect` lists them.",
            details={"candidates": candidates},
        )
    return values[name]


def _feed(model: ir.Model, value: ir.Value, given: Scalar | list[Scalar], source: SourceReport) -> None:
    """Make a graph input a constant."""
    if value.dtype is None:
        raise UsageError(f"Input {value.name!r} has no element type, so it cannot be fed.")
    try:
        array = np.asarray(given).astype(value.dtype.numpy())
    except (TypeError, ValueError) as error:
        raise UsageError(f"{given!r} is no value for input {value.name!r} of {value.dtype.name}.") from error
    model.graph.inputs.remove(value)
    value.const_value = ir.Tensor(array, name=value.name)
    value.shape = ir.Shape(array.shape)
    model.graph.register_initializer(value)
    source.assumptions.append(
        Assumption(what=f"input {value.name}", value=str(given), why="asked for with --feed")
    )
