"""The report about an artifact that any tool made of a source: verdict, both graphs, a reason for each norm.

Given: a source in any format, an ONNX file that onnxsim, onnxslim, onnxscript, ONNX Runtime, ... made of it.
Result: a `Report` as a fold has it. Each batch norm of the source is gone from the artifact (`folded`, into
the node that makes its output now) or still there (`kept`), with the reason why an exact fold would keep it
too, or with the node that it could be folded into.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from folding import export, health, norms, passes, rules, sources
from folding.errors import BnfoldError
from folding.ir.query import is_op
from folding.ir.types import Feeds
from folding.norms.base import BatchNorm
from folding.options import FoldOptions
from folding.progress import Listener, Progress, ignore_progress
from folding.report import ArtifactReport, GraphReport, Report, Verification, graph_map
from folding.report.norm_rows import norm_report
from folding.report.proved_report import proved_report
from folding.rules.base import Decision
from folding.sources.base import Imported
from folding.sources.gates.onnx import check_onnx
from folding.verify.pipeline import verify_imported
from folding.verify.steps.recheck_certificates import recheck

GONE = "not in the artifact any more"
COULD_GO = "the tool that made the artifact left it; an exact fold exists, into {into}"


def compare(
    a: str | Path,
    b: str | Path,
    options: FoldOptions | None = None,
    *,
    probe: Feeds | None = None,
    certificate: bool = False,
    listener: Listener = ignore_progress,
    workdir: Path | None = None,
) -> Report:
    """Verify the ONNX file `b` against `a` as `pipeline.verify` does, and report both graphs beside it.

    Raises: BnfoldError subclasses when one of them cannot be read or the probe does not fit.
    """
    options = options or FoldOptions()
    progress = Progress(listener)
    with tempfile.TemporaryDirectory(prefix="bnfold-", dir=workdir) as scratch:
        folder = Path(scratch)
        (folder / "a").mkdir()
        (folder / "b").mkdir()
        with progress.stage("verify"):
            check_onnx(Path(b))  # whoever made it: the runtimes trust what they load
            source = sources.load(Path(a), options, folder / "a", progress)
            if certificate:  # it folds a copy of its own
                proof = recheck(Path(a), Path(b), options, probe=probe, progress=progress, workdir=workdir)
                if source.reference is not None:
                    source.reference.close()
            else:
                proof = verify_imported(source, Path(b), options, folder, probe=probe, progress=progress)
        artifact = sources.load(Path(b), options, folder / "b", progress)
        try:
            return _report(source, artifact, proof, Path(b), options)
        finally:
            if artifact.reference is not None:
                artifact.reference.close()


def _report(
    source: Imported, artifact: Imported, proof: Verification, path: Path, options: FoldOptions
) -> Report:
    model, made = source.model, artifact.model
    nodes = (model.graph.num_nodes(), made.graph.num_nodes())
    seen = graph_map.look(model.graph)
    graph = GraphReport(
        opset=made.graph.opset_imports.get("", 1),
        nodes_before=nodes[0],
        nodes_after=nodes[1],
        batch_norms_before=0,
        batch_norms_after=0,
        parameters=export.parameter_count(made),
        bytes=path.stat().st_size,
    )
    passes.prepare(model, options)
    found = norms.find(model, source.hints)
    findings = {id(norm): health.assess(norm, None) for norm in found}
    norm_nodes = graph_map.norm_nodes(found)
    outputs = {id(norm): norm.output.name for norm in found if norm.output is not None}
    there = _Artifact.of(made, options)
    decisions = [
        there.decision(norm, outputs.get(id(norm)), norm_nodes[id(norm)], own)
        for norm, own in zip(found, _own_decisions(model, found, options, source), strict=True)
    ]
    graph.batch_norms_before = len(found)
    graph.batch_norms_after = max(there.count, sum(not decision.folded for decision in decisions))
    return proved_report(
        proof,
        options,
        source=source.source,
        batch_norms=[norm_report(d, findings[id(d.norm)]) for d in decisions],
        graph=graph,
        graph_map=graph_map.build(seen, made.graph, decisions, norm_nodes),
        artifact=ArtifactReport(digest=artifact.source.digest, bytes=graph.bytes),
    )


def _own_decisions(
    model: ir.Model, found: list[BatchNorm], options: FoldOptions, source: Imported
) -> list[Decision | None]:
    """What an exact fold would do to each norm; None where the source cannot be folded."""
    try:
        own = {id(decision.norm): decision for decision in rules.fold(model, found, options).decisions}
    except BnfoldError as error:
        source.source.notes.append(f"no reasons for the norms that stayed: {error.message}")
        return [None] * len(found)
    return [own.get(id(norm)) for norm in found]


@dataclass(frozen=True)
class _Artifact:
    """What the artifact has: norms by the names of their outputs and nodes, and who makes each value."""

    norms: frozenset[str]
    makers: dict[str, str]
    count: int

    @staticmethod
    def of(made: ir.Model, options: FoldOptions) -> _Artifact:
        """Read it as it is: nothing of it is cleaned, and every graph of it counts."""
        nodes = list(made.graph.all_nodes())
        makers = {v.name: n.name or v.name for n in nodes for v in n.outputs if v.name}
        count = sum(is_op(node, "BatchNormalization") for node in nodes)
        found = norms.find(made, freeze_inputs=options.freeze_inputs)
        names = {norm.output.name for norm in found if norm.output is not None}
        names |= {node.name for norm in found for node in norm.nodes}
        return _Artifact(frozenset(name for name in names if name), makers, count)

    def decision(
        self, norm: BatchNorm, output: str | None, nodes: list[str], own: Decision | None
    ) -> Decision:
        """Whether the norm is still there, and why."""
        if not self.norms.isdisjoint(name for name in (output, *nodes) if name):
            if own is not None and own.folded and own.reason is None:
                return Decision(norm, False, detail=COULD_GO.format(into=", ".join(own.into) or "nothing"))
            return Decision(norm, False, reason=own.reason if own else None, detail=own.detail if own else "")
        maker = self.makers.get(output or "")
        into = (
            (maker,) if maker is not None else tuple(i for i in own.into if i in self.makers) if own else ()
        )
        return Decision(norm, True, into, detail=GONE)
