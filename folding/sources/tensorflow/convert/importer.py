"""A program becomes an `Imported`: surgery, conversion, hints, reference and the report of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from folding.errors import UsageError
from folding.norms.base import NormHint
from folding.options import FoldOptions
from folding.progress import Progress
from folding.report import Inspection, NormReport, SourceReport, TensorInfo
from folding.report.tensor_info import tensor_info
from folding.sources.base import Imported, Upload
from folding.sources.tensorflow.convert.prepare_inference_graph import Prepared, prepare
from folding.sources.tensorflow.convert.reference import TensorFlowReference
from folding.sources.tensorflow.convert.to_onnx import convert
from folding.sources.tensorflow.graph.program import Port, Program
from folding.sources.tensorflow.graph.tf_graph import TfGraph
from folding.sources.tensorflow.graph.weights import read_slot
from folding.sources.tensorflow.infer import input_pipelines, outputs, signature
from folding.sources.tensorflow.norms import find_batch_norms
from folding.sources.tensorflow.norms.training_evidence import History
from folding.sources.tensorflow.rewrite import lookup_tables


def import_program(
    name: str, upload: Upload, program: Program, options: FoldOptions, progress: Progress
) -> Imported:
    """Convert a program. Raises: what `surgery.prepare` and `convert.convert` raise; UsageError for feeds."""
    history = History(program.full, program.collections, program.display)
    progress.report("read", 0.2, "graph surgery")
    prepared = prepare(program, options)
    known_feeds(options, prepared, program)
    lookup_tables.demand(prepared.graph, program.tables)
    hinted = _hints(prepared, program, history)
    reference = TensorFlowReference(prepared, program.weights, program.tables)
    source = SourceReport(
        format=name,
        framework=program.framework,
        digest=upload.digest,
        inputs=[_info(prepared.graph, port) for port in prepared.inputs],
        assumptions=[*program.assumptions, *prepared.assumptions],
        notes=program.notes,
    )
    progress.report("read", 0.4, "converting")
    model, source.route = convert(prepared, program.weights, options, program.tables)
    source.outputs = [tensor_info(value) for value in model.graph.outputs]
    progress.report("read", 1.0, "weights bound")
    return Imported(model, source, hinted, reference)


def _info(graph: TfGraph, port: Port) -> TensorInfo:
    return signature.info(graph, port)


def _hints(prepared: Prepared, program: Program, history: History) -> list[NormHint]:
    found = [
        replace(hint, momentum=program.momenta.get(hint.variables.get("moving_mean", ""), hint.momentum))
        for hint in find_batch_norms.hints(prepared.norms, history, dict(prepared.missing))
    ]
    for hint in found:
        for role, leaf in hint.initializers.items():
            if hint.batch_statistics or role in hint.missing:
                value = _value(prepared, program, leaf)
                if value is not None:
                    hint.arrays[role] = value
        for variable in hint.evidence.get("stored_statistics", ()) if hint.batch_statistics else ():
            if program.weights.has(variable):
                hint.evidence.setdefault("stored", []).append(variable)
    return found


def _value(prepared: Prepared, program: Program, leaf: str) -> np.ndarray | None:
    if leaf in prepared.slots:
        return read_slot(program.weights, prepared.slots[leaf])
    return prepared.constants.get(leaf, prepared.missing.get(leaf))


def known_feeds(options: FoldOptions, prepared: Prepared, program: Program) -> None:
    """A feed that met nothing is a typo, and never passes silently."""
    unknown = sorted(set(options.feeds) - prepared.used_feeds)
    if unknown:
        raise UsageError(
            f"--feed {unknown[0]}: the model has no such input.",
            code="unknown_input",
            layer=unknown[0],
            hint="bnfold inspect lists inputs, mode flags and their names.",
            details={
                "candidates": sorted({port.name for port in prepared.inputs} | set(prepared.modes))[:40]
            },
        )


def inspect_program(
    name: str, upload: Upload, program: Program, options: FoldOptions
) -> tuple[Inspection, dict[str, np.ndarray]]:
    """Inspection of a program without converting it: surgery only, so it is quick and needs no outputs."""
    graph = program.graph
    inspection = Inspection(
        format=name,
        framework=program.framework,
        digest=upload.digest,
        input_candidates=[
            signature.info(graph, Port(f"{p}:0", f"{p}:0")) for p in input_pipelines.placeholders(graph)
        ],
        output_candidates=[
            signature.info(graph, Port(f"{c}:0", f"{c}:0")) for c in outputs.candidates(graph, program.labels)
        ],
        signatures=program.signatures,
        notes=program.notes,
        variables=len(list(program.weights.names())) or None,
        assumptions=list(program.assumptions),
    )
    history = History(program.full, program.collections, program.display)
    lenient = options.model_copy(update={"missing_stats": "init"})
    prepared = prepare(program, lenient)
    inspection.inputs = [signature.info(prepared.graph, port) for port in prepared.inputs]
    inspection.outputs = [
        signature.info(prepared.graph, Port(f"{port.tensor}:0", port.name)) for port in prepared.outputs
    ]
    inspection.assumptions += prepared.assumptions
    arrays: dict[str, np.ndarray] = {}
    for hint in _hints(prepared, program, history):
        for role, leaf in hint.initializers.items():
            value = _value(prepared, program, leaf)
            if value is not None:
                hint.arrays[role] = value
                arrays[f"{hint.name}/{role}"] = value
        inspection.batch_norms.append(norm_row(hint))
    return inspection, arrays


def norm_row(hint: NormHint) -> NormReport:
    """The report's row of a batch norm that was only looked at."""
    from folding import health
    from folding.norms.base import BatchNorm
    from folding.report.norm_rows import norm_report
    from folding.rules.base import Decision

    norm = BatchNorm(
        name=hint.name,
        spelling=hint.spelling,
        input=None,
        output=None,
        nodes=(),
        moving_mean=hint.arrays.get("moving_mean"),
        moving_variance=hint.arrays.get("moving_variance"),
        gamma=hint.arrays.get("gamma"),
        beta=hint.arrays.get("beta"),
        epsilon=hint.epsilon,
        channel_axis=hint.channel_axis,
        affine=None,
        variables=hint.variables,
        hint=hint,
    )
    return norm_report(Decision(norm, folded=False), health.assess(norm, None))
