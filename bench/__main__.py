"""`python -m bench`: bnfold beside its peers, in one run on one machine. Ratios hold, milliseconds do not."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import fold, targets
from bench.nets import NETS
from bench.table import grid, render
from bench.targets import Target

# What else has figures: each module prints its own table and exits with 1 when it misses a bar.
OTHERS = {
    "tensorflow": "bench.tf_convert",
    "proof": "bench.mutations",
    "peers": "bench.peer_outputs",
    "service": "bench.service",
}
SECTIONS = ("fold", "keras", *OTHERS)


def main(argv: list[str] | None = None) -> int:
    """0 when every bar holds, 1 when one is missed (each is printed)."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("nets", nargs="*", metavar="NET", help=f"of {', '.join(NETS)}; default: all")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, help="default: all; with NET, fold")
    parser.add_argument("--out", type=Path, help="keep networks and artifacts in this folder")
    parser.add_argument("--tools", nargs="+", default=fold.OPTIMIZERS, help="default: all peers")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of latency; 0 for counts only")
    parser.add_argument("--json", type=Path, help="write the figures of fold and keras to this file")
    options = parser.parse_args(argv)
    unknown = sorted(set(options.nets) - set(NETS))
    if unknown:
        parser.error(f"unknown network {', '.join(unknown)}; there are {', '.join(NETS)}")
    sections = options.sections or (["fold"] if options.nets else SECTIONS)
    with tempfile.TemporaryDirectory(prefix="bnfold-bench-") as scratch:
        missed = _run(options, sections, options.out or Path(scratch))
    for section in OTHERS:
        if section in sections:
            print(f"\n== {section}", flush=True)
            if subprocess.run([sys.executable, "-m", OTHERS[section]], check=False).returncode:
                missed.append(f"{section}: see above")
    print("\n" + ("\n".join(f"MISSED {line}" for line in missed) if missed else "every bar holds"))
    return 1 if missed else 0


def _run(options: argparse.Namespace, sections: Sequence[str], out: Path) -> list[str]:
    """The sections of this package's own: networks built here, and Keras networks behind tf2onnx."""
    missed: list[str] = []
    record: dict[str, object] = {}
    timed = options.rounds > 0
    if "fold" in sections:
        results = fold.bench_all(out, options.nets, options.tools, options.rounds)
        print("== fold\n" + render(results), flush=True)
        missed += fold.bars(results, timed=timed)
        record["networks"] = fold.as_json(results)
        if timed and not options.nets:
            record["cost"], record["growth"] = cost, growth = fold.cost(out), fold.growth(out)
            missed += _cost_bars(cost, growth)
    if "keras" in sections:
        from bench import keras_nets

        behind = keras_nets.bench_all(out / "keras", options.tools, options.rounds)
        print("\n== Keras networks behind tf2onnx\n" + render(behind), flush=True)
        missed += fold.bars(behind, timed=timed)
        record["keras"] = fold.as_json(behind)
    if options.json:
        options.json.write_text(json.dumps(record, indent=1))
    return missed


def _cost_bars(cost: dict[str, float], growth: dict[str, float]) -> list[str]:
    rows = [[name, f"{value:.3f}"] for name, value in (cost | growth).items()]
    print("\ncost on the 95 MB network, and growth with depth\n" + grid(["", "seconds or ratio"], rows))
    return targets.report([
        (Target("ONNX in, ResNet50, unverified: against load + save", 1.2), [cost["against load + save"]]),
        (Target("the same: against onnxscript", 1.0), [cost["against onnxscript"]]),
        (Target("ONNX in, 400 against 100 conv+BN pairs", 4.4), [growth["ratio"]]),
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
