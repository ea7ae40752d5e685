"""A model card as Markdown: what the model is, where it comes from, what was shown, and what is not known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from folding.report import HeadlineState, Report, TensorInfo, figures
from folding.report.headline import headline
from folding.report.render import words
from folding.report.render.markdown import MOST, escape, fenced, table

_UNKNOWN = (
    "The report says nothing about training data, intended use, accuracy on a task, bias or licence: bnfold "
    "reads the model alone. Fill in what the model's author states."
)


def render(report: Report) -> str:
    """Return the card. Names and texts of the model are escaped."""
    parts = (_title, _details, _interface, _use, _evidence, _statistics, _limits, _origin)
    return "\n".join(line for part in parts for line in part(report)) + "\n"


def recalibrated(report: Report) -> Report:
    """Return the report as it is about the second artifact, whose comparisons it does not hold.

    Raises: ValueError where there is none.
    """
    held = report.recalibrated
    if held is None:
        raise ValueError("the report has no recalibrated artifact")
    about: dict[str, object] = {
        "verdict": held.verdict,
        "summary": held.summary,
        "headline": held.headline,
        "artifact": held.artifact,
        "graph": report.graph.model_copy(update={"bytes": held.artifact.bytes}),
        "options": report.options | {"recalibrate": True},
    }
    lists = dict.fromkeys(("verification", "segments", "hazards", "drift", "conditioning"), ())
    unknown = dict.fromkeys(("coverage", "latency", "ort_format", "recalibrated"))
    return report.model_copy(update={**lists, **unknown, **about})


def _title(report: Report) -> Iterator[str]:
    said = report.headline or headline(report)
    yield "# Model card"
    yield ""
    yield f"{words.MARKS[said.state]} **{escape(said.title)}** (`{report.verdict.value}`)"
    yield ""
    if said.detail:
        yield escape(said.detail)
        yield ""
    if said.remedy and said.state is not HeadlineState.HEALTHY:
        yield f"What to do: {escape(said.remedy)}"
        yield ""


def _details(report: Report) -> Iterator[str]:
    graph, source = report.graph, report.source
    done, total = words.folded(report)
    yield "## Model"
    yield ""
    rows: list[tuple[str, object]] = [
        ("artifact", report.artifact.digest if report.artifact else "none"),
        ("size", figures.size(graph.bytes)),
        ("format", f"ONNX, opset {graph.opset}"),
        ("parameters", figures.count(graph.parameters)),
        ("nodes", f"{graph.nodes_after} ({graph.nodes_before} before)"),
        ("batch norms folded", f"{done} of {total}"),
        ("source format", f"{source.format} ({source.framework})"),
        ("source", source.digest or "unknown"),
    ]
    if report.ort_format is not None:
        rows.append(("ORT format", report.ort_format.artifact.digest))
    yield from table(("", ""), rows)
    yield ""


def _interface(report: Report) -> Iterator[str]:
    for title, tensors in (("Inputs", report.source.inputs), ("Outputs", report.source.outputs)):
        yield f"## {title}"
        yield ""
        yield from table(("name", "type", "shape"), (_tensor(info) for info in tensors[:MOST]))
        yield ""


def _tensor(info: TensorInfo) -> Iterable[object]:
    shape = "any" if info.shape is None else ", ".join(str(d if d is not None else "?") for d in info.shape)
    return info.name, info.dtype, shape or "scalar"


def _use(report: Report) -> Iterator[str]:
    yield "## Use"
    yield ""
    lines = ["import onnxruntime", 'session = onnxruntime.InferenceSession("model.onnx")']
    yield from fenced("python", [*lines, "outputs = session.run(None, inputs)  # arrays by input name"])
    yield ""


def _evidence(report: Report) -> Iterator[str]:
    held, certificates, share = words.certificates(report)
    yield "## Evidence of equivalence"
    yield ""
    rows = (
        (r.status, r.reference, r.provider, r.optimization_level, words.row_words(r))
        for r in words.gathered(report.verification)[:MOST]
    )
    if report.verification:
        yield from table(("status", "reference", "provider", "level", "result"), rows)
        yield ""
    if certificates:
        yield f"{held} of {certificates} certificates hold; the largest rounding is {share:.0%} of its bound."
        yield ""
    if report.coverage is not None:
        bounded, segments = report.coverage.bounded, report.coverage.segments
        yield f"Sound bounds of rounding decide {bounded} of {segments} segments of the graph."
        yield ""


def _statistics(report: Report) -> Iterator[str]:
    found = list(words.findings(report))
    yield "## Batch-norm statistics"
    yield ""
    if not found:
        yield "No finding." if report.batch_norms else "The model has no batch norm."
    else:
        rows = ((n.name, h.severity, h.code.value, h.evidence, h.remedy) for n, h in found[:MOST])
        yield from table(("layer", "", "finding", "evidence", "remedy"), rows)
    yield ""


def _limits(report: Report) -> Iterator[str]:
    yield "## Limits"
    yield ""
    yield f"- {_UNKNOWN}"
    for taken in report.source.assumptions[:MOST]:
        yield f"- Assumed: {escape(taken.what)} is {escape(taken.value)} ({escape(taken.why)})."
    for hazard in report.hazards[:MOST]:
        around = f" Way around: {escape(hazard.workaround)}" if hazard.workaround else ""
        where = f"{escape(hazard.code)} on {escape(hazard.provider)}"
        yield f"- Runtime hazard {where}: {escape(hazard.detail)}{around}"
    for item in report.conditioning[:MOST]:
        share = words.number(item.difference)
        yield f"- Ill-conditioned: correct runs of {escape(item.output)} differ by {share} of its scale."
    yield ""


def _origin(report: Report) -> Iterator[str]:
    yield "## Origin"
    yield ""
    yield from table(("package", "version"), sorted(report.toolchain.items()))
    yield ""
    yield f"Sandbox: {escape(report.sandbox)}. To make it again:"
    yield ""
    yield from fenced("sh", [words.command(report)])
