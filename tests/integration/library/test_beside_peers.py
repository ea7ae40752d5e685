"""The bench's bars on counts, in short: no peer leaves fewer nodes, on the small networks of the bench.

Latency needs a quiet machine: `make bench` has those bars. The peers are optional there and here.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnx
import pytest

from bench import measure, sessions
from bench.fold import bars
from bench.measure import Figures
from bench.nets import NETS
from bench.paired_timing import Duel, interval
from bench.peers import PEERS

SMALL = ("preactivation", "dense", "inverted_residual", "hard_swish", "efficient", "inception", "unet",
         "one_dimensional", "three_dimensional", "transformer", "mlp")  # fmt: skip
RIVALS = ("onnxscript", "onnxsim", "onnxslim", "ort_basic")


@pytest.mark.parametrize("name", SMALL)
def test_no_peer_leaves_fewer_nodes(name: str, tmp_path: Path) -> None:
    for peer in ("onnxscript", "onnxsim", "onnxslim"):
        pytest.importorskip(peer, reason="peers are in the bench extra")
    source = tmp_path / f"{name}.onnx"
    feeds = measure.feed(source, NETS[name](source))
    row = {"source": Figures(deviation=0.0)}
    truth = sessions.session(source, optimize=False).run(None, feeds)
    for tool in ("bnfold", *RIVALS):
        target = tmp_path / f"{tool}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peers' own
            PEERS[tool]()(source, target)
        row[tool] = Figures(bytes=target.stat().st_size)
        measure.describe(target, row[tool])
        row[tool].deviation = measure.deviation(target, feeds, truth)
    assert bars({name: row}, timed=False) == []
    onnx.checker.check_model(str(tmp_path / "bnfold.onnx"), full_check=True)


@pytest.mark.parametrize(("duel", "missed"), [
    (Duel(1.20, 1.10, 1.30), True),  # slower, and sure of it
    (Duel(1.20, 0.95, 1.30), False),  # undecided: the machine's noise
    (Duel(1.03, 1.01, 1.04), False),  # two sessions of one file differ by more
])  # fmt: skip
def test_a_faster_peer_is_a_missed_bar_only_when_the_second_look_says_so(duel: Duel, missed: bool) -> None:
    row = {tool: Figures(nodes=5, deviation=0.0, best_ms=1.0) for tool in ("source", "bnfold", "peer")}
    row["peer"].duel = duel
    assert bool(bars({"net": row}, timed=True)) is missed


def test_the_interval_of_a_median_holds_it() -> None:
    low, high = interval([0.9, 1.0, 1.0, 1.1, 1.2, 5.0, 1.05])
    assert 0.9 <= low <= 1.05 <= high < 5.0
