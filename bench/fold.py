"""The bench of folding: every network of `bench.nets`, bnfold beside its peers, and the bars."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench import measure
from bench.measure import Figures
from bench.nets import NETS, chain
from bench.paired_timing import duel
from bench.peers import PEERS

# Artifacts with operators of one runtime are no ONNX model to deploy elsewhere: shown, not competed with.
OPTIMIZERS = [tool for tool in PEERS if tool != "load_save"]
NOISE = 1.05  # two sessions of one and the same artifact differ by this much at least


def bench_network(
    name: str, src: Path, shape: Sequence[int], out: Path, tools: Sequence[str], rounds: int
) -> dict[str, Figures]:
    """All tools on one network: first each artifact, then errors, latencies and load times side by side."""
    figures = {tool: measure.run_tool(tool, src, out / tool / src.name) for tool in tools}
    feeds = measure.feed(src, shape)
    truth = measure.reference(src, feeds)
    paths = {"source": src}
    figures["source"] = Figures(bytes=src.stat().st_size)
    measure.describe(src, figures["source"])
    for tool in tools:
        if not figures[tool].error:
            paths[tool] = out / tool / src.name
    for tool, path in list(paths.items()):
        try:
            figures[tool].deviation = measure.deviation(path, feeds, truth)
        except Exception as error:  # noqa: BLE001 - whatever a runtime says of somebody's artifact
            figures[tool].error = f"does not run: {str(error).splitlines()[0][:120]}"
            del paths[tool]
    if rounds:
        latency, load = (
            measure.latencies(paths, feeds, rounds),
            measure.load_times(paths, max(3, rounds // 4)),
        )
        for tool in paths:
            figures[tool].latency_ms, figures[tool].best_ms = latency[tool]
            figures[tool].load_ms = load[tool]
            figures[tool].latency_ratio = (
                latency[tool][1] / latency["bnfold"][1] if "bnfold" in latency else None
            )
        for tool in faster(figures):
            figures[tool].duel = duel(paths["bnfold"], paths[tool], feeds)
    return figures


def faster(figures: dict[str, Figures]) -> list[str]:
    """Peers that seem faster than bnfold by more than noise, in one session of each: worth another look."""
    ours = figures["bnfold"].best_ms if "bnfold" in figures else None
    return [tool for tool, found in rivals(figures).items()
            if ours and found.best_ms and ours > NOISE * found.best_ms]  # fmt: skip


def bench_all(
    out: Path, names: Sequence[str] = (), tools: Sequence[str] = OPTIMIZERS, rounds: int = 15
) -> dict[str, dict[str, Figures]]:
    """Build and measure; one dictionary of figures per network."""
    out.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in names or NETS:
        src = out / f"{name}.onnx"
        shape = NETS[name](src)
        print(f"... {name}", file=sys.stderr, flush=True)
        results[name] = bench_network(name, src, shape, out, tools, rounds)
    return results


def rivals(figures: dict[str, Figures]) -> dict[str, Figures]:
    """Peers whose artifact is a standard ONNX model that runs and computes the network."""
    return {
        tool: found
        for tool, found in figures.items()
        if tool not in ("bnfold", "source")
        and not found.error
        and not found.vendor
        and is_right(found, figures)
    }


def is_right(found: Figures, figures: dict[str, Figures]) -> bool:
    """Within a hundred times the source's own float noise: rounding is one thing, another function is not."""
    own = figures["source"].deviation
    return found.deviation is not None and own is not None and found.deviation <= max(100 * own, 1e-4)


def bars(results: dict[str, dict[str, Figures]], *, timed: bool) -> list[str]:
    """What falls short: one line per network and bar; empty when all hold."""
    missed = []
    for name, figures in results.items():
        ours = figures["bnfold"]
        if ours.error or ours.nodes is None:
            missed.append(f"{name}: no artifact ({ours.error})")
            continue
        if not is_right(ours, figures):
            missed.append(f"{name}: error {ours.deviation} against float64")
        best = min((f.nodes for f in rivals(figures).values() if f.nodes is not None), default=ours.nodes)
        if ours.nodes > best:
            missed.append(f"{name}: {ours.nodes} nodes, the best peer leaves {best}")
        for tool, found in rivals(figures).items() if timed else ():
            if found.duel is not None and found.duel.ratio > NOISE and found.duel.low > 1.0:
                missed.append(f"{name}: {tool}'s artifact is faster, {found.duel}")
    return missed


def growth(out: Path, processes: int = 3) -> dict[str, float]:
    """Seconds of processor time (neighbours do not count) for 100 and for 400 pairs of conv and BN, and
    their ratio (bar: 4.4): the best of seven runs in a process, the median ratio over processes, since
    each has its own luck with memory."""
    found = []
    for _ in range(processes):
        seconds = {}
        for pairs in (100, 400):
            src = out / f"chain{pairs}.onnx"
            chain(src, pairs)
            figures = measure.run_tool("bnfold", src, out / "bnfold" / src.name, repeat=7)
            seconds[f"{pairs} pairs"] = figures.processor or float("nan")
        seconds["ratio"] = seconds["400 pairs"] / seconds["100 pairs"]
        found.append(seconds)
    return sorted(found, key=lambda row: row["ratio"])[processes // 2]


def cost(out: Path) -> dict[str, float]:
    """Seconds on the 95 MB network against load + save and onnxscript (bars: 2 and 1), best of five."""
    src = out / "resnet50.onnx"
    if not src.exists():
        NETS["resnet50"](src)
    figures = {tool: measure.run_tool(tool, src, out / tool / src.name, repeat=5)
               for tool in ("bnfold", "load_save", "onnxscript")}  # fmt: skip
    seconds = {tool: found.seconds or float("nan") for tool, found in figures.items()}
    seconds["against load + save"] = seconds["bnfold"] / seconds["load_save"]
    seconds["against onnxscript"] = seconds["bnfold"] / seconds["onnxscript"]
    return seconds


def as_json(results: dict[str, dict[str, Figures]]) -> dict[str, dict[str, dict[str, object]]]:
    """For `--json`."""
    return {name: {tool: asdict(found) for tool, found in row.items()} for name, row in results.items()}
