"""Checkpoints: `.index` + `.data-*` (V2) or a table file (V1), with `.meta` graphs, several steps, shards.

The `checkpoint` text file is never read: its paths are the writer's, and the listing says the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from folding.errors import AmbiguousModel, CorruptModel, UnsupportedModel, UsageError
from folding.options import FoldOptions
from folding.progress import Progress
from folding.report import Assumption, Inspection, TensorInfo
from folding.sources.base import Imported, Upload
from folding.sources.tensorflow import ema, graphdef
from folding.sources.tensorflow.convert import importer
from folding.sources.tensorflow.graph import protobuf_io
from folding.sources.tensorflow.graph.checkpoint_prefix import Prefix
from folding.sources.tensorflow.graph.program import Port, Program
from folding.sources.tensorflow.graph.tf_graph import TfGraph
from folding.sources.tensorflow.graph.weights import CheckpointWeights
from folding.sources.tensorflow.infer import input_pipelines, signature
from folding.sources.tensorflow.rewrite import lookup_tables, saver_slots
from folding.sources.tensorflow.weights_only import inspect_weights

_TABLE_MAGIC = bytes.fromhex("57fb808b247547db")  # the last eight bytes of a LevelDB table
_SHARD = re.compile(r"(?P<prefix>.*)\.data-\d{5}-of-\d{5}$")
_V1_SHARD = re.compile(r"(?P<prefix>.+)-\d{5}-of-(?P<count>\d{5})$")
_STEP = re.compile(r"-(\d+)$")


@dataclass(frozen=True)
class FoundCheckpoint:
    """One checkpoint of an upload. prefix: as TensorFlow wants it. version: 1 or 2."""

    prefix: Prefix
    version: int

    @property
    def step(self) -> int | None:
        """The number behind the last dash, as `Saver.save(global_step=...)` writes it."""
        match = _STEP.search(self.prefix.name)
        return int(match.group(1)) if match else None

    @property
    def meta(self) -> Path:
        """Where the graph lies, if it was saved."""
        return self.prefix.file(".meta")


class CheckpointFormat:
    """The `Format` for checkpoints."""

    name = "checkpoint"

    def sniff(self, upload: Upload) -> bool:
        """A table file (index or V1 data), or a `.meta` graph, is among the files."""
        return bool(find_checkpoints(upload)) or bool(_metas(upload)) or _orphans(upload)

    def load(self, upload: Upload, options: FoldOptions, workdir: Path, progress: Progress) -> Imported:
        """See `folding.sources.base.Format`."""
        program = self.program(upload, options)
        if isinstance(program, CheckpointWeights):
            raise UnsupportedModel(
                f"The checkpoint {program.prefix.shown!r} has weights and no graph (.meta).",
                code="checkpoint_without_graph",
                hint="Add its .meta file, or the inference graph (.pb), to the upload; "
                "`bnfold inspect` reads the "
                "statistics from the weights alone.",
            )
        return importer.import_program(self.name, upload, program, options, progress)

    def inspect(
        self, upload: Upload, options: FoldOptions, workdir: Path
    ) -> tuple[Inspection, dict[str, np.ndarray]]:
        """Also without a graph: batch norms are then known by the names of their variables."""
        program = self.program(upload, options)
        if isinstance(program, CheckpointWeights):
            return inspect_weights(self.name, upload, program, _version(find_checkpoints(upload)))
        try:
            weights = program.weights
            return importer.inspect_program(self.name, upload, program, options)
        except (AmbiguousModel, UnsupportedModel) as error:
            inspection, arrays = inspect_weights(self.name, upload, weights, "tensorflow")
            graph = program.full or program.graph
            inspection.input_candidates = [
                signature.info(graph, Port(f"{p}:0", f"{p}:0")) for p in input_pipelines.placeholders(graph)
            ]
            inspection.output_candidates = _candidates(graph, error)
            inspection.notes.append(f"{error.message} {error.hint or ''}".strip())
            return inspection, arrays

    def program(self, upload: Upload, options: FoldOptions) -> Program | CheckpointWeights:
        found = find_checkpoints(upload)
        if not found:
            raise CorruptModel(
                "The upload has a graph (.meta) or data shards, and no checkpoint index.",
                code="missing_weights",
                hint="Add the .index and .data-?????-of-????? files that were saved with it.",
            )
        chosen, assumptions = choose(found, options)
        weights = CheckpointWeights(chosen.prefix)
        meta = _meta_of(chosen, upload)
        if meta is not None:
            program = read_meta(meta, weights)
        else:
            graphs = graphdef.graph_files(upload)
            if not graphs:
                return weights
            program = Program(graphdef.read_graph(graphs[0]), weights)
            assumptions.append(
                Assumption(
                    what="graph",
                    value=graphs[0].name,
                    why="the graph file beside the checkpoint"
                    + (
                        ", a training graph: inference is taken from it without losses and updates"
                        if trains(program.graph)
                        else ""
                    ),
                )
            )
        bare = graphdef.graph_files(upload)
        beside = graphdef.read_graph(bare[0]) if meta is not None and len(bare) == 1 else None
        if beside is not None and trains(beside):
            program.notes.append(
                f"{bare[0].name} is the training graph, as {chosen.meta.name} is: inference is taken from it "
                "without losses and updates. An Estimator writes no inference graph here; "
                "export_saved_model does."
            )
        elif beside is not None:
            program.graph = beside
            assumptions.append(
                Assumption(
                    what="graph",
                    value=bare[0].name,
                    why="an inference graph lies beside the checkpoint's own .meta",
                )
            )
        program.framework = program.framework or "tensorflow"
        program.purpose = "training"
        program.assumptions += assumptions
        if program.full is None:
            program.full = program.graph.copy()
        program.tables = lookup_tables.read(program.graph, [upload.root / name for name in upload.files])
        (ema.shadow if options.use_ema else ema.suggest)(program)
        served = program.signatures_ports.get("serving_default")
        if served and not options.outputs:
            signature.complete_ports(program, options, inputs=served[0], outputs=served[1])
        else:
            signature.complete_ports(program, options)
        return program


def trains(graph: TfGraph) -> bool:
    """Whether a graph holds an optimizer or gradients."""
    return any(re.search(r"^(Resource)?(Sparse)?Apply[A-Z]|Grad$", node.op) for node in graph.nodes.values())


def read_meta(path: Path, weights: CheckpointWeights) -> Program:
    """The program of a MetaGraph file and its weights."""
    meta = protobuf_io.parse(path, "MetaGraphDef")
    if not meta.graph_def.node:
        raise CorruptModel(f"{path.name!r} holds a MetaGraph without nodes.", code="empty_graph")
    protobuf_io.gate("graphdef", "check_graphdef", meta.graph_def, purpose="training")
    return from_meta(meta, weights)


def from_meta(meta: Any, weights: Any) -> Program:
    """A MetaGraphDef as a program: slots from its saver, node lists of its collections."""
    graph = TfGraph(meta.graph_def)
    collections = {
        name: list(held.node_list.value)
        for name, held in meta.collection_def.items()
        if held.WhichOneof("kind") == "node_list"
    }
    version = meta.meta_info_def.tensorflow_version
    return Program(
        graph,
        weights,
        slots=saver_slots.slots(graph, meta.saver_def),
        collections=collections,
        framework=f"tensorflow {version}".strip(),
        labels=collections.get("targets", []),
        signatures_ports={
            key: (
                [Port(info.name, info.name) for _, info in sorted(signature.inputs.items())],
                [Port(info.name, info.name) for _, info in sorted(signature.outputs.items())],
            )
            for key, signature in meta.signature_def.items()
            if signature.outputs and key != "__saved_model_init_op"
        },
    )


def find_checkpoints(upload: Upload) -> list[FoundCheckpoint]:
    """Every checkpoint of the upload, by its files' content."""
    found: dict[Path, FoundCheckpoint] = {}
    for name in upload.files:
        path = upload.root / name
        if not _is_table(path):
            continue
        if path.name.endswith(".index"):
            found[path] = FoundCheckpoint(Prefix(path.parent, path.name.removesuffix(".index")), 2)
        elif match := _V1_SHARD.match(path.name):
            # TensorFlow opens a sharded V1 checkpoint by a pattern
            name = match.group("prefix")
            pattern = Prefix(path.parent, f"{name}-?????-of-{match.group('count')}")
            found[path.with_name(name)] = FoundCheckpoint(pattern, 1)
        else:
            found[path] = FoundCheckpoint(Prefix.of(path), 1)
    return sorted(found.values(), key=lambda f: str(f.prefix))


def choose(found: list[FoundCheckpoint], options: FoldOptions) -> tuple[FoundCheckpoint, list[Assumption]]:
    """The checkpoint that is meant: by `--step`, else the newest step, else the only one."""
    steps = sorted({f.step for f in found if f.step is not None})
    if options.step is not None:
        chosen = [f for f in found if f.step == options.step]
        if not chosen:
            raise UsageError(
                f"There is no checkpoint of step {options.step}; there are {steps or 'none with a step'}.",
                code="unknown_step",
                details={"candidates": steps},
            )
        return _only(chosen), []
    if len(found) == 1:
        return found[0], []
    if not steps:
        return _only(found), []
    newest = _only([f for f in found if f.step == steps[-1]])
    why = f"the newest of {len(found)} checkpoints in the upload (steps {', '.join(map(str, steps[-6:]))})"
    return newest, [Assumption(what="checkpoint", value=newest.prefix.shown, why=why, override="--step N")]


def _only(found: list[FoundCheckpoint]) -> FoundCheckpoint:
    if len(found) > 1:
        names = [f.prefix.shown for f in found]
        raise AmbiguousModel(
            f"The upload holds {len(found)} checkpoints: {', '.join(names)}.",
            code="ambiguous_checkpoints",
            hint="Give one of them (its .meta, .index and .data files).",
            details={"candidates": names},
        )
    return found[0]


def _is_table(path: Path) -> bool:
    try:
        size = path.stat().st_size
        if path.name.endswith(".index"):
            return True  # even when damaged: the reader then says how
        if size < 48:
            return False
        with path.open("rb") as file:
            file.seek(size - 8)
            return file.read(8) == _TABLE_MAGIC
    except OSError:
        return False


def _metas(upload: Upload) -> list[Path]:
    return [upload.root / name for name in upload.files if name.endswith(".meta")]


def _orphans(upload: Upload) -> bool:
    return any(_SHARD.match(name) for name in upload.files) and not any(
        name.endswith("saved_model.pb") for name in upload.files
    )


def _meta_of(found: FoundCheckpoint, upload: Upload) -> Path | None:
    own = found.prefix.folder / (re.sub(r"-\?{5}-of-\d{5}$", "", found.prefix.name) + ".meta")
    if own.is_file():
        return own
    metas = [path for path in _metas(upload) if path.parent == found.prefix.folder]
    return metas[0] if len(metas) == 1 else None


def _version(found: list[FoundCheckpoint]) -> str:
    return f"tensorflow checkpoint V{found[0].version}" if found else "tensorflow"


def _candidates(graph: TfGraph, error: Any) -> list[TensorInfo]:
    names = [str(name) for name in error.details.get("candidates", ())]
    return [signature.info(graph, Port(name, name)) for name in names if name.split(":")[0] in graph.nodes]


FORMAT = CheckpointFormat()
