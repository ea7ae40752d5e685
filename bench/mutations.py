"""How much the verdict sees: mutants that must fail, and correct folds that must pass.

    python -m bench.mutations [--mutants 1000] [--correct 1000]

Ten networks, another draw of weights and statistics each time. A mutant has one layer folded wrongly: one
channel off by 1e-3, gamma and beta swapped, epsilon dropped, scale on the wrong axis, channels off by one,
one sign flipped. The table tells which part of the verification caught it: end to end,
float64, or layer by layer in either precision.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from folding.options import FoldOptions
from folding.report import Verdict, Verification
from folding.verify.pipeline import verify_fold
from tests.unit.folding.verify import nets

CAUGHT = 0.99


@dataclass
class Outcome:
    """Counts of one run. `by_part`: fault -> part of the verification -> how many it caught."""

    mutants: int = 0
    caught: int = 0
    correct: int = 0
    rejected: int = 0
    seconds: float = 0.0
    by_part: dict[str, Counter[str]] = field(default_factory=dict)
    misses: list[str] = field(default_factory=list)

    @property
    def power(self) -> float:
        """Share of mutants that did not pass."""
        return self.caught / self.mutants if self.mutants else 1.0

    @property
    def holds(self) -> bool:
        """The bar: at least 99 % of mutants caught, no correct fold rejected."""
        return self.power >= CAUGHT and self.rejected == 0


def run(mutants: int, correct: int, *, seed: int = 0) -> Outcome:
    """Mutants and correct folds in turn over all networks and faults."""
    outcome = Outcome()
    start = time.perf_counter()
    kinds = list(nets.NETWORKS)
    with tempfile.TemporaryDirectory(prefix="bnfold-mutants-") as scratch:
        folder = Path(scratch)
        for i in range(mutants):
            fault = nets.FAULTS[(i // len(kinds)) % len(nets.FAULTS)]
            mutant(outcome, folder, kinds[i % len(kinds)], fault, 100_000 * seed + i)
        for i in range(correct):
            right(outcome, folder, kinds[i % len(kinds)], 100_000 * seed + mutants + i)
    outcome.seconds = time.perf_counter() - start
    return outcome


def judge(pair: nets.Pair, seed: int) -> Verification:
    """The verification that the pipeline runs."""
    return verify_fold(
        unfolded=pair.unfolded,
        artifact=pair.folded,
        reference=None,
        options=FoldOptions(seed=seed),
        fold_sites=pair.sites,
    )


def mutant(outcome: Outcome, folder: Path, kind: str, fault: str, seed: int) -> None:
    """One wrong fold."""
    sites = nets.build(kind, folder, seed).norms
    site = int(np.random.default_rng([seed, 7]).integers(sites))
    found = judge(nets.build(kind, folder, seed, {site: fault}), seed)
    outcome.mutants += 1
    outcome.caught += found.verdict is not Verdict.PASS
    parts = outcome.by_part.setdefault(fault, Counter())
    parts["mutants"] += 1
    for part in {part_of(row.reference) for row in found.rows if row.status == "fail"}:
        parts[part] += 1
    if found.verdict is Verdict.PASS:
        outcome.misses.append(f"passed: {kind}, {fault} in layer {site}, seed {seed}")


def right(outcome: Outcome, folder: Path, kind: str, seed: int) -> None:
    """One correct fold."""
    found = judge(nets.build(kind, folder, seed), seed)
    outcome.correct += 1
    if found.verdict is not Verdict.PASS:
        outcome.rejected += 1
        outcome.misses.append(f"{found.verdict.value}: {kind}, correct, seed {seed}: {found.summary[:200]}")


def part_of(reference: str) -> str:
    """Which part of the verification a row belongs to."""
    if "layer by layer" in reference:
        return "float64 layers" if "float64" in reference else "layer by layer"
    return "float64" if reference == "float64" else "end to end"


def render(outcome: Outcome) -> str:
    """The table."""
    parts = ("mutants", "end to end", "float64", "layer by layer", "float64 layers")
    lines = [f"{'fault':18}" + "".join(f"{part:>16}" for part in parts)]
    for fault, counts in outcome.by_part.items():
        lines.append(f"{fault:18}" + "".join(f"{counts[part]:16}" for part in parts))
    lines.append(
        f"caught {outcome.caught} of {outcome.mutants} ({100 * outcome.power:.2f} %), "
        f"rejected {outcome.rejected} of {outcome.correct} correct folds, {outcome.seconds:.0f} s"
    )
    return "\n".join(lines + outcome.misses)


def main(argv: list[str] | None = None) -> int:
    """0 when the bar holds, 1 when it is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.mutations", description=__doc__)
    parser.add_argument("--mutants", type=int, default=1000)
    parser.add_argument("--correct", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the counts to this file")
    options = parser.parse_args(argv)
    outcome = run(options.mutants, options.correct, seed=options.seed)
    print(render(outcome))
    if options.json:
        record = {"power": outcome.power, "rejected": outcome.rejected, "by_part": outcome.by_part}
        options.json.write_text(json.dumps(record, indent=1))
    return 0 if outcome.holds else 1


if __name__ == "__main__":
    sys.exit(main())
