"""SavedModels of TensorFlow 1 and 2, as a graph and a bundle: nothing of them is loaded or run.

A TensorFlow 2 SavedModel holds a TensorFlow 1 graph as well: its signatures are calls over variable handles,
and its restore function tells which handle is which entry of the bundle. Where it has no signature, a traced
function of its objects becomes one. So both are read alike, and neither the init op nor the object graph is
ever executed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from folding.errors import AmbiguousModel, CorruptModel, UnsupportedModel, UsageError
from folding.ir import protobuf_wire
from folding.options import FoldOptions
from folding.report import Assumption, TensorInfo
from folding.sources.base import Upload
from folding.sources.tensorflow import ema
from folding.sources.tensorflow.checkpoint import from_meta
from folding.sources.tensorflow.convert.program_format import ProgramFormat
from folding.sources.tensorflow.functions import captures, signature_from_trace
from folding.sources.tensorflow.graph import protobuf_io
from folding.sources.tensorflow.graph.checkpoint_prefix import Prefix
from folding.sources.tensorflow.graph.program import NoWeights, Port, Program, Weights
from folding.sources.tensorflow.graph.tf_graph import VARIABLE_OPS, TfGraph
from folding.sources.tensorflow.graph.weights import CheckpointWeights
from folding.sources.tensorflow.infer import input_pipelines, signature
from folding.sources.tensorflow.rewrite import lookup_tables

_INIT = "__saved_model_init_op"
_UNSIGNED = Assumption(
    what="signature",
    value="inputs and outputs as the graph shows them",
    why="the SavedModel has no signature",
    override="--input NAME=SHAPE, --output NAME",
)


class SavedModelFormat(ProgramFormat):
    """The `Format` for SavedModel folders and archives of them."""

    name = "saved_model"

    def sniff(self, upload: Upload) -> bool:
        """A file is a SavedModel message, whatever it is called."""
        return bool(_roots(upload))

    def program(self, upload: Upload, options: FoldOptions) -> Program:
        """The graph of the signature that was asked for."""
        return read(upload, options)


def _roots(upload: Upload) -> list[Path]:
    return upload.matching(looks_like_saved_model)


def looks_like_saved_model(path: Path) -> bool:
    """schema version (1, varint) and a MetaGraphDef (2) that begins with its own info or graph."""
    try:
        with path.open("rb") as file:
            head = file.read(1 << 12)
    except OSError:
        return False
    if protobuf_io.looks_like_text(head):
        return b"saved_model_schema_version" in head or head.lstrip().startswith(b"meta_graphs")
    buffer = memoryview(head)
    try:
        at = 0
        if buffer and buffer[0] == 0x08:
            version, at = protobuf_wire.read_varint(buffer, 1, len(buffer))
            if version > 16:
                return False
        if at >= len(buffer) or buffer[at] != 0x12:
            return False
        length, at = protobuf_wire.read_varint(buffer, at + 1, len(buffer))
        return length > 8 and at < len(buffer) and buffer[at] in (0x0A, 0x12)
    except protobuf_wire.WireError:
        return False


def read(upload: Upload, options: FoldOptions) -> Program:
    """The program behind one signature of one MetaGraph."""
    roots = _roots(upload)
    if len(roots) > 1:
        names = [str(path.parent.relative_to(upload.root)) for path in roots]
        raise AmbiguousModel(
            f"The upload holds {len(roots)} SavedModels: {', '.join(names)}.",
            code="ambiguous_saved_models",
            hint="Give one of them.",
            details={"candidates": names},
        )
    path = roots[0]
    message = protobuf_io.parse(path, "SavedModel")
    protobuf_io.gate("saved_model", "check_message", message)
    meta, assumed = _meta_graph(message, options)
    program = from_meta(meta, _weights(path.parent, meta))
    program.assumptions += assumed
    lookup_tables.name_assets(program.graph, meta.asset_file_def)
    captures.own_handles(meta, program)
    entry = signature_from_trace.present(meta, program, options)
    program.full = program.graph.copy()
    program.tables = lookup_tables.read(program.graph, _assets(path.parent, upload))
    program.signatures |= _signatures(meta)
    key = entry or _signature(meta, options, program.graph)
    (ema.shadow if options.use_ema else ema.suggest)(program)
    if key is None:
        program.assumptions.append(_UNSIGNED)
        signature.complete_ports(program, options)
        program.display = _display(program)
        return program
    inputs = [Port(info.name, name) for name, info in _sorted(meta.signature_def[key].inputs)]
    outputs = [Port(info.name, name) for name, info in _sorted(meta.signature_def[key].outputs)]
    _check(program.graph, key, [*inputs, *outputs])
    if key not in ("serving_default", options.signature, entry):
        program.assumptions.append(
            Assumption(
                what="signature",
                value=key,
                why="TensorFlow Hub calls a module's plain use so; there is no serving_default"
                if len(program.signatures) > 1
                else "the only one that computes outputs",
                override="--signature KEY",
            )
        )
    signature.complete_ports(program, options, inputs=inputs, outputs=outputs)
    program.display = _display(program)
    return program


def _assets(folder: Path, upload: Upload) -> list[Path]:
    """Vocabularies and the like, by the upload's own listing."""
    inside = (folder / "assets").relative_to(upload.root)
    return [upload.root / name for name in upload.files if Path(name).is_relative_to(inside)]


def _sorted(infos: Any) -> list[tuple[str, Any]]:
    return sorted(infos.items())


def _meta_graph(message: Any, options: FoldOptions) -> tuple[Any, list[Assumption]]:
    """The MetaGraph that is meant: of the tags asked for, else `serve`, else no tags, else the only one."""
    asked = {tag for tag in options.tags if tag} if options.tags else None
    held = [sorted(meta.meta_info_def.tags) for meta in message.meta_graphs]
    for wanted in ({"serve"}, set()) if asked is None else (asked,):
        found = [meta for meta in message.meta_graphs if set(meta.meta_info_def.tags) == wanted]
        if found:
            return found[0], _assumed_tags(wanted, held) if asked is None else []
    if len(message.meta_graphs) == 1 and asked is None:
        return message.meta_graphs[0], []
    raise UsageError(
        f"The SavedModel has no MetaGraph with {_tags(sorted(asked or {'serve'}))}; it has "
        f"{'; '.join(map(_tags, held)) or 'none at all'}.",
        code="unknown_tags",
        hint="Name its tags with --tag, once for each; --tag '' for the one without tags.",
        details={"candidates": held},
    )


def _tags(tags: list[str]) -> str:
    return f"the tags {', '.join(tags)}" if tags else "no tags"


def _assumed_tags(chosen: set[str], held: list[list[str]]) -> list[Assumption]:
    if chosen == {"serve"} or len(held) == 1:
        return []
    others = "; ".join(_tags(tags) for tags in held if set(tags) != chosen)
    why = f"none has the tag serve, and TensorFlow Hub writes inference without tags; there is also {others}"
    return [Assumption(what="MetaGraph", value=_tags(sorted(chosen)), why=why, override="--tag NAME")]


def _weights(folder: Path, meta: Any) -> Weights:
    prefix = Prefix(folder / "variables", "variables")
    if prefix.file(".index").is_file():
        return CheckpointWeights(prefix)
    if any(node.op in VARIABLE_OPS for node in meta.graph_def.node):
        shards = (
            sorted((folder / "variables").glob("variables.data-*")) if (folder / "variables").is_dir() else []
        )
        raise CorruptModel(
            f"The SavedModel has variables and no variables/variables.index ({len(shards)} "
            "data shard(s) present).",
            code="missing_weights",
            hint="Upload the whole SavedModel folder, its variables/ folder included.",
        )
    return NoWeights()


def _signature(meta: Any, options: FoldOptions, graph: TfGraph) -> str | None:
    """The key; None where there is none and the graph itself may tell, as one of TensorFlow 1 does."""
    keys = [key for key, value in sorted(meta.signature_def.items()) if key != _INIT and value.outputs]
    if options.signature is not None:
        if options.signature not in keys:
            raise UsageError(
                f"The SavedModel has no signature {options.signature!r}; it has {', '.join(keys) or 'none'}.",
                code="unknown_signature",
                details={"candidates": keys},
            )
        return options.signature
    if "serving_default" in keys:
        return "serving_default"
    if len(keys) == 1:
        return str(keys[0])
    if "default" in keys:
        return "default"
    if not keys and input_pipelines.placeholders(graph):
        return None
    if not keys:
        raise UnsupportedModel(
            "The SavedModel has no signature, and no traced function that takes and gives tensors, so "
            "nothing says what to compute.",
            code="no_signature",
            hint="Call the model once on data, or give tf.saved_model.save(model, path, "
            "signatures=model.__call__.get_concrete_function(...)).",
        )
    raise AmbiguousModel(
        f"The SavedModel has {len(keys)} signatures and none is called serving_default: {', '.join(keys)}.",
        code="ambiguous_signature",
        hint="Name one with --signature.",
        details={"candidates": keys},
    )


def _check(graph: TfGraph, key: str, used: list[Port]) -> None:
    for port in used:
        if port.tensor.split(":")[0] not in graph.nodes:
            raise CorruptModel(
                f"Signature {key!r}: {port.name!r} is tensor {port.tensor!r}, which the graph does not have.",
                code="dangling_reference" if port.tensor else "sparse_signature",
                layer=port.name,
                hint="" if port.tensor else "Sparse inputs have no ONNX form.",
            )


def _signatures(meta: Any) -> dict[str, dict[str, list[TensorInfo]]]:
    from tensorflow.python.framework import dtypes

    def row(name: str, info: Any) -> TensorInfo:
        shape = info.tensor_shape
        dims = None if shape.unknown_rank else [None if d.size < 0 else int(d.size) for d in shape.dim]
        return TensorInfo(name=name, dtype=dtypes.as_dtype(info.dtype or 1).name, shape=dims)

    return {
        key: {
            "inputs": [row(name, info) for name, info in _sorted(signature.inputs)],
            "outputs": [row(name, info) for name, info in _sorted(signature.outputs)],
        }
        for key, signature in sorted(meta.signature_def.items())
        if key != _INIT
    }


def _display(program: Program) -> dict[str, str]:
    """Keras writes each variable twice; `bn1/gamma_1` is `bn1/gamma` to its author."""
    nodes = program.graph.nodes
    shown = {}
    for name, node in nodes.items():
        if node.op == "VarHandleOp" and name in program.slots:
            base, _, count = name.rpartition("_")
            twin = nodes.get(base)
            if (
                count.isdigit()
                and twin is not None
                and twin.op == "VarHandleOp"
                and base not in program.slots
            ):
                shown[name] = base
    return shown


FORMAT = SavedModelFormat()
