"""TensorFlow Lite files: gate, tf2onnx, and LiteRT as the reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from folding.errors import BnfoldError, UnsupportedModel
from folding.ir import gc_pause
from folding.options import FoldOptions
from folding.progress import Progress
from folding.report import Assumption, Inspection, SourceReport
from folding.report.tensor_info import tensor_info
from folding.sources.base import Imported, Upload, only
from folding.sources.gates.limits import shown
from folding.sources.gates.tflite import IDENTIFIER, check_tflite
from folding.sources.gates.tflite_growth import check_growth
from folding.sources.gates.tflite_model import TfliteGraph, TfliteModel
from folding.sources.onnx.importer import apply_options
from folding.sources.tensorflow.convert import to_onnx
from folding.sources.tensorflow.convert.loop_shapes import drop_false_scalars
from folding.sources.tensorflow.convert.tf2onnx_names import numbered_from_one
from folding.sources.tensorflow.graph.runtime import quiet, tf2onnx
from folding.sources.tflite import rewrite
from folding.sources.tflite.reference import LiteRtReference

_FLOW = frozenset({"IF", "WHILE"})
_HIGH_OPSET = 21  # QuantizeLinear of 16-bit integers


class TfliteFormat:
    """The `Format` for TensorFlow Lite."""

    name = "tflite"

    def sniff(self, upload: Upload) -> bool:
        """One file of the upload has the identifier of TensorFlow Lite."""
        return bool(_candidates(upload))

    def load(self, upload: Upload, options: FoldOptions, workdir: Path, progress: Progress) -> Imported:
        """See `folding.sources.base.Format`."""
        path = only(_candidates(upload), "TensorFlow Lite models")
        progress.report("read", 0.1, f"reading {path.name}")
        given = _read(path, workdir)
        progress.report("read", 0.4, "converting")
        proto = _to_onnx(given, options)
        with gc_pause.paused():
            model = ir.serde.deserialize_model(proto)
        kind = arithmetic(given.model)
        source = SourceReport(
            format=self.name,
            framework=f"tensorflow lite, {kind}",
            digest=upload.digest,
            assumptions=_assumptions(kind, options),
            notes=list(given.notes),
        )
        fixed = {value.name or "": value for value in model.graph.inputs if value.name in options.feeds}
        apply_options(model, options, source)
        source.inputs = [tensor_info(value) for value in model.graph.inputs]
        source.outputs = [tensor_info(value) for value in model.graph.outputs]
        source.route = "tf2onnx"
        reference = _reference(given, kind, workdir, model, fixed)
        progress.report("read", 1.0, "converted")
        return Imported(model, source, reference=reference)

    def inspect(
        self, upload: Upload, options: FoldOptions, workdir: Path
    ) -> tuple[Inspection, dict[str, np.ndarray]]:
        """See `folding.sources.base.Format`."""
        from folding.sources.onnx.inspection import inspect_model

        return inspect_model(self.load(upload, options, workdir, Progress()), options)


FORMAT = TfliteFormat()


@dataclass(frozen=True)
class _Given:
    """A file that passed the gate, with a name of its own for each tensor."""

    path: Path
    data: bytes
    model: TfliteModel
    notes: tuple[str, ...]

    @property
    def main(self) -> TfliteGraph:
        return self.model.graphs[0]


def _candidates(upload: Upload) -> list[Path]:
    return upload.matching(looks_like_tflite)


def looks_like_tflite(path: Path) -> bool:
    """Whether the file has the identifier of TensorFlow Lite at bytes 4 to 8."""
    try:
        with path.open("rb") as file:
            return file.read(8)[4:] == IDENTIFIER
    except OSError:
        return False


def _read(path: Path, workdir: Path) -> _Given:
    """Gate the file; write a twin where names are missing or not unique."""
    data = path.read_bytes()
    model = check_tflite(data)
    check_growth(model)
    renamed = rewrite.with_unique_names(data, model)
    if renamed is None:
        return _Given(path, data, model, ())
    twin = workdir / "named.tflite"
    twin.write_bytes(renamed)
    note = "tensors without a name of their own were named after their number"
    return _Given(twin, renamed, check_tflite(renamed), (note,))


def arithmetic(model: TfliteModel) -> str:
    """Return how the model computes: `float`, `dynamic-range`, `full-integer` or `float and integer`."""
    graphs = model.graphs
    if any(rewrite.dynamic_range_weights(graph, op) for graph in graphs for op in graph.operators):
        return "dynamic-range" if not _integer_layers(graphs) else "float and integer"
    if not _integer_layers(graphs):
        return "float"
    main = graphs[0]
    floats = [
        op.op for op in main.operators if op.outputs and main.tensors[op.outputs[0]].type == rewrite.FLOAT32
    ]
    return "full-integer" if set(floats) <= {"DEQUANTIZE"} else "float and integer"


def _integer_layers(graphs: tuple[TfliteGraph, ...]) -> bool:
    """Whether an operator writes quantized integers."""
    return any(
        graph.tensors[index].type in rewrite.INTEGERS and graph.tensors[index].quantization is not None
        for graph in graphs
        for operator in graph.operators
        for index in operator.outputs
    )


def _assumptions(kind: str, options: FoldOptions) -> list[Assumption]:
    if kind == "dynamic-range":
        return [
            Assumption(
                what="activations",
                value="float32",
                why="the weights are stored in integers; LiteRT also rounds the activations of each run "
                "to 8 bits, which the artifact leaves out: it is the more exact of the two",
            )
        ]
    if kind in ("full-integer", "float and integer"):
        return [
            Assumption(
                what="quantization",
                value="QuantizeLinear and DequantizeLinear",
                why="LiteRT's integer kernels and ONNX's float arithmetic between quantized values round "
                "differently: each operator is compared by itself, in steps of its quantization",
            )
        ]
    return []


# --- conversion -----------------------------------------------------------------------------------


def _to_onnx(given: _Given, options: FoldOptions) -> onnx.ModelProto:
    package = tf2onnx()
    _known_operators(given.model)
    wide = any(
        tensor.type == 7 and tensor.quantization for graph in given.model.graphs for tensor in graph.tensors
    )
    highest = _HIGH_OPSET if wide else to_onnx.DEFAULT_OPSET
    opset = min(max(options.opset or highest, to_onnx.MINIMUM_OPSET), to_onnx.DEFAULT_OPSET)
    flow = any(operator.op in _FLOW for graph in given.model.graphs for operator in graph.operators)
    try:
        with quiet(), numbered_from_one(package):
            graph = package.tfonnx.process_tf_graph(
                None,
                opset=opset,
                tflite_path=str(given.path),
                custom_rewriter=[to_onnx.select_by_where, to_onnx.floor_of_negative_integers],
            )
            if flow:
                graph = package.optimizer.optimize_graph(graph, catch_errors=False)
            else:  # our own passes clean a flat graph as well
                graph.delete_unused_nodes(graph.outputs)
            proto: onnx.ModelProto = graph.make_model("bnfold", producer_name="bnfold")
    except BnfoldError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:240]
        raise UnsupportedModel(
            f"tf2onnx cannot convert this model: {type(error).__name__}: {text}",
            code="conversion_failed",
            hint="Give the SavedModel that the file was made from.",
        ) from error
    to_onnx.no_unknown_ops(proto)
    _keep_activations(proto.graph)
    if wide:
        for imported in proto.opset_import:
            if imported.domain in ("", "ai.onnx"):
                imported.version = max(imported.version, _HIGH_OPSET)
    if flow:
        drop_false_scalars(proto)
        to_onnx.checked(proto)
    return proto


def _keep_activations(graph: onnx.GraphProto) -> None:
    """Take out what rounds activations at run time: `DequantizeLinear(DynamicQuantizeLinear(x))` becomes x.

    tf2onnx writes it for dynamic-range operators, over the whole tensor; LiteRT rounds each sample by itself.
    Neither is the other, and the result of one sample would depend on those beside it.
    """
    rounded = {n.output[0]: n for n in graph.node if n.op_type == "DynamicQuantizeLinear"}
    spelt = {
        n.output[0]: rounded[n.input[0]].input[0]
        for n in graph.node
        if n.op_type == "DequantizeLinear" and n.input[0] in rounded
    }
    kept = [n for n in graph.node if n.output[0] not in spelt and n.output[0] not in rounded]
    for node in kept:
        node.input[:] = [spelt.get(name, name) for name in node.input]
    del graph.node[:]
    graph.node.extend(kept)


def _known_operators(model: TfliteModel) -> None:
    """Refuse what tf2onnx has no conversion for, all of it at once. Raises UnsupportedModel."""
    from tf2onnx.handler import tf_op, tfl_op

    direct = tf_op.create_mapping(to_onnx.DEFAULT_OPSET, None)
    known = {name.removeprefix("TFL_") for name in [*tfl_op.create_tfl_to_tf_mapping(), *direct]}
    unknown: dict[str, str] = {}
    for graph in model.graphs:
        for operator in graph.operators:
            if operator.op not in known and not operator.op.startswith("Flex"):
                where = graph.tensors[operator.outputs[0]].name if operator.outputs else ""
                unknown.setdefault(operator.op, where)
    if unknown:
        named = ", ".join(f"{shown(op)} ({shown(name)})" for op, name in sorted(unknown.items())[:6])
        raise UnsupportedModel(
            f"tf2onnx has no conversion for {named}.",
            code="unsupported_op",
            layer=shown(next(iter(unknown.values()))),
            hint="Name outputs that lie before these operators (--output NAME), or give the SavedModel.",
            details={"ops": sorted(map(shown, unknown))[:100]},
        )


# --- reference ------------------------------------------------------------------------------------


def _reference(
    given: _Given, kind: str, workdir: Path, model: ir.Model, fixed: dict[str, ir.Value]
) -> LiteRtReference:
    names = [tensor.name for tensor in given.main.tensors]
    common: dict[str, Any] = {
        "outputs": [value.name or "" for value in model.graph.outputs],
        "fixed": {
            name: value.const_value.numpy() for name, value in fixed.items() if value.const_value is not None
        },
    }
    exact = rewrite.with_float_weights(given.data, given.model)
    judged = kind in ("float", "dynamic-range")
    if exact is None:
        return LiteRtReference(given.path, given.main, names, judged=judged, **common)
    twin = workdir / "float_weights.tflite"
    twin.write_bytes(exact)
    main = check_tflite(exact).graphs[0]
    return LiteRtReference(
        twin,
        main,
        [tensor.name for tensor in main.tensors],
        name="litert, weights as floats",
        judged=judged,
        deployed=LiteRtReference(given.path, given.main, names, name="litert", **common),
        **common,
    )
