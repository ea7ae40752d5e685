"""What is measured of an artifact: nodes, batch norms left, error against float64, latency, load time."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from bench.paired_timing import Duel
from bench.sessions import session

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

STANDARD = ("", "ai.onnx", "ai.onnx.ml")
LIMIT = 600  # seconds for one tool on one network


@dataclass
class Figures:
    """One tool on one network. `error` says why there is no artifact; ratios are against bnfold's.

    duel: bnfold's latency against this one's, measured again where this one seemed faster.
    """

    nodes: int | None = None
    batch_norms: int | None = None
    vendor: list[str] = field(default_factory=list)
    deviation: float | None = None
    seconds: float | None = None
    processor: float | None = None
    rss_mb: float | None = None
    latency_ms: float | None = None
    best_ms: float | None = None
    latency_ratio: float | None = None
    duel: Duel | None = None
    load_ms: float | None = None
    bytes: int | None = None
    error: str = ""


def run_tool(tool: str, src: Path, dst: Path, repeat: int = 1) -> Figures:
    """Optimize in a process of its own; seconds without imports, peak memory with them."""
    dst.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "bench.peers", tool, str(src), str(dst), str(repeat)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return Figures(error=f"not done after {LIMIT} s")
    if done.returncode or not dst.exists():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return Figures(error=f"exit {done.returncode}: {lines[-1][:120] if lines else 'no message'}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    figures = Figures(
        seconds=result["seconds"],
        processor=result["processor"],
        rss_mb=result["rss_mb"],
        bytes=dst.stat().st_size,
    )
    describe(dst, figures)
    return figures


def describe(path: Path, figures: Figures) -> None:
    """Count nodes (constants are not work), batch norms and operators outside the standard."""
    graph = onnx.load(path, load_external_data=False).graph
    counts = Counter((node.domain, node.op_type) for node in graph.node if node.op_type != "Constant")
    figures.nodes = sum(counts.values())
    figures.batch_norms = sum(count for (_, kind), count in counts.items() if kind == "BatchNormalization")
    figures.vendor = sorted({f"{domain}.{kind}" for domain, kind in counts if domain not in STANDARD})


def feed(path: Path, shape: Sequence[int], seed: int = 0) -> dict[str, np.ndarray]:
    """One seeded, signed input; ones for the further inputs that some exporters leave behind."""
    first, *others = session(path, optimize=False).get_inputs()
    kind = np.float16 if first.type == "tensor(float16)" else np.float32
    feeds = {first.name: np.random.default_rng(seed).standard_normal(shape).astype(kind)}
    for other in others:
        known = [dim if isinstance(dim, int) else 1 for dim in other.shape]
        feeds[other.name] = np.ones(known, np.float32)
    return feeds


def reference(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The unfolded network in float64."""
    from folding.verify.float64 import evaluate
    from folding.verify.model import load

    loaded = load(path)
    answers = evaluate(loaded, feeds)
    return [answers[name] for name in loaded.outputs]


def deviation(path: Path, feeds: dict[str, np.ndarray], truth: list[np.ndarray]) -> float:
    """Largest error at the runtime's defaults, relative to the output's largest value."""
    answers = session(path).run(None, feeds)
    return max(
        float(np.abs(answer - exact).max() / max(float(np.abs(exact).max()), 1e-30))
        for answer, exact in zip(answers, truth, strict=True)
    )


def latencies(
    paths: dict[str, Path], feeds: dict[str, np.ndarray], rounds: int, budget: float = 0.02
) -> dict[str, tuple[float, float]]:
    """(median, best) milliseconds of one run by name, all artifacts in turn within each round, order rotated.

    The best is what the bars go by: on a machine that does other things too, medians measure the neighbours.
    """
    sessions = {name: session(path) for name, path in paths.items()}
    counts = {}
    for name, ready in sessions.items():
        ready.run(None, feeds)
        start = time.perf_counter()
        ready.run(None, feeds)
        counts[name] = max(1, min(50, int(budget / (time.perf_counter() - start))))
    samples: dict[str, list[float]] = {name: [] for name in sessions}
    order = list(sessions)
    for turn in range(rounds):
        shift = turn % len(order)
        for name in order[shift:] + order[:shift]:
            start = time.perf_counter()
            for _ in range(counts[name]):
                sessions[name].run(None, feeds)
            samples[name].append((time.perf_counter() - start) / counts[name] * 1e3)
    return {name: (statistics.median(values), min(values)) for name, values in samples.items()}


def load_times(paths: dict[str, Path], rounds: int) -> dict[str, float]:
    """Median milliseconds to open a session, in turn."""
    samples: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(rounds):
        for name, path in paths.items():
            start = time.perf_counter()
            session(path)
            samples[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values) for name, values in samples.items()}
