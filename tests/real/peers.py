"""Fold every model of ONNX's own tests and compare what became of it with the committed list.

`python -m tests.real.peers [--update] [PATTERN]`. `peers.tsv` names each model that does not pass, with its
outcome and the reason; all others must pass. A crash of the runtime is one row: each model is folded in a
child process.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path

from tests.real.fold_in_child import Row, fold_all
from tests.real.operator_models import node_models, shipped_models

LIST = Path(__file__).with_name("peers.tsv")
MODELS = Path(__file__).resolve().parents[2] / "build" / "real" / "operator-models"
NEVER = ("fail", "internal", "died", "timeout")  # whatever the list says
SECONDS = 120.0


def expected() -> dict[str, tuple[str, str]]:
    """Model -> (outcome, reason) of those that do not pass."""
    lines = [line.split("\t") for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
    return {name: (outcome, reason) for name, outcome, reason in lines}


def words(reason: str) -> str:
    """A reason on one line, without what changes from run to run."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : (\w+) : ", r"\1: ", " ".join(reason.split()))
    text = re.sub(r"/onnxruntime_src/\S+ ", "", text)
    return text[:150].strip()


def complaint(row: Row, listed: dict[str, tuple[str, str]]) -> str:
    """What is wrong with a row; nothing where it came out as listed."""
    if row.outcome.split()[0] in NEVER:
        return f"{row.outcome}: {row.reason}"
    wanted = listed.get(row.name, ("pass", ""))[0]
    return "" if row.outcome == wanted else f"{row.outcome} instead of {wanted}: {row.reason}"


def write(rows: list[Row]) -> None:
    """Write the list anew from what happened."""
    lines = ["# Models of ONNX's tests that do not pass. name, outcome, reason"]
    lines += [f"{r.name}\t{r.outcome}\t{words(r.reason)}" for r in rows if r.outcome != "pass"]
    LIST.write_text("\n".join(lines) + "\n")


def main() -> int:
    """Return 0 where every model came out as listed."""
    parser = argparse.ArgumentParser(description="Fold every model of ONNX's own tests.")
    parser.add_argument("--update", action="store_true", help="write peers.tsv anew (a whole run only)")
    parser.add_argument("pattern", nargs="?", default="", help="only models whose name matches")
    options = parser.parse_args()
    jobs = [job for job in (*node_models(MODELS), *shipped_models()) if re.search(options.pattern, job[0])]
    listed, rows, wrong = expected() if LIST.exists() else {}, [], 0
    for row in fold_all(jobs, seconds=SECONDS):
        rows.append(row)
        if problem := complaint(row, listed):
            wrong += 1
            print(f"{row.name}: {problem}", flush=True)
    counts = Counter(row.outcome.split()[0] for row in rows)
    print(f"{len(rows)} models: {dict(counts)}; {wrong} not as listed")
    if options.update and not options.pattern:
        write(rows)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
