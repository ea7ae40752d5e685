"""Every artifact of every TensorFlow 1 fixture converts, folds, and answers as TensorFlow 1; or is refused.

The few that are refused, and the one training graph that answers otherwise, are named with their reason.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.integration.tensorflow import tf1
from tests.support.paths import TF1_PROGRAMS

REFUSED = {
    # Saver(var_list=trainable_variables()): the statistics are in none of the files
    "s001_dense_tanh_bad_missing/ckpt/model.ckpt": "missing_from_checkpoint",
    "tf1_nan_stats/ckpt/model.ckpt": "negative_variance",
    "tf1_nan_stats/saved_model": "negative_variance",
    "tf1_nan_stats/frozen.pb": "negative_variance",
    # an unfrozen graph on its own; with its checkpoint beside it, it converts (test_checkpoint.py)
    "tf1_resnet_slim_like/inference_graph.pb": "missing_weights",
}
# is_training=True is hard-wired in this graph: what it computes are batch statistics (y_train), and so do we
TRAINING_GRAPH = "tf1_resnet_slim_like/ckpt_train/model.ckpt"
ALL = list(tf1.cases())


@pytest.mark.parametrize("case", ALL, ids=[case.id for case in ALL])
def test_artifact(case: tf1.Case, tmp_path: Path) -> None:
    row = tf1.run(case, tmp_path)
    if case.id in REFUSED:
        assert row.outcome == REFUSED[case.id]
        return
    assert row.outcome == "pass", row.report.summary if row.report else row.outcome
    assert row.route == "structure-first"
    if case.id == TRAINING_GRAPH:
        assert {code for codes in row.health.values() for code in codes} == {"batch_statistics_at_inference"}
        return
    bound = max(row.tolerance, 1e-5)
    assert all(error <= bound for error in row.errors.values()), row.errors
    _layers(case, row)


def _layers(case: tf1.Case, row: tf1.Row) -> None:
    held = {norm.name: norm for norm in row.report.batch_norms}
    moments = case.fixture == "s004_moments_raw"  # expect.json has descriptions in place of names there
    for layer in tf1.expected(case.fixture)["bn"]:
        if moments:
            assert {code for codes in row.health.values() for code in codes} == {
                "batch_statistics_at_inference"
            }
            continue
        norm = held[layer["name"]]
        if layer["foldable"]:
            assert norm.decision == "folded", (layer["name"], norm.reason, norm.detail)
        live = case.fixture == "s001_dense_tanh_bad_missing"  # these files do hold the (stale) statistics
        health = "ok" if live else tf1.HEALTH.get(layer["health"], layer["health"])
        assert health in [finding.code.value for finding in norm.health]
        _statistics(layer, norm, case)


def _statistics(layer: dict, norm: object, case: tf1.Case) -> None:
    """Bit for bit what TensorFlow 1 held."""
    batch = layer["health"] == "batch_stats_at_inference"
    for role in tf1.ROLES:
        want = layer[role]
        if want is None or (batch and role.startswith("moving")):
            continue
        stats = norm.stats[role]
        array = np.asarray(want, np.float32)
        assert stats.size == array.size
        assert stats.min == float(array.min())
        assert stats.max == float(array.max())
        if case.kind == "checkpoint":
            assert stats.variable == layer["variables"][role].removesuffix(":0")


@pytest.mark.parametrize("case", [c for c in ALL if c.kind in ("checkpoint", "saved_model", "keras_h5")],
                         ids=lambda c: c.id)  # fmt: skip
def test_inspection_gives_the_raw_arrays_exactly(case: tf1.Case, tmp_path: Path) -> None:
    from folding import pipeline
    from folding.options import FoldOptions

    facts = tf1.expected(case.fixture)
    names = [] if case.kind in tf1.BY_NAME else [output["name"] for output in facts["outputs"]]
    inspection, arrays = pipeline.inspect(TF1_PROGRAMS / case.fixture / case.path, FoldOptions(outputs=names))
    assert inspection.batch_norms
    missing = {f"{layer['name']}/{role}" for layer in facts["bn"] for role in layer["not_in_checkpoint"]}
    for layer in facts["bn"]:
        for role in tf1.ROLES:
            key = f"{layer['name']}/{role}"
            if layer[role] is None or key not in arrays or (key in missing and case.kind == "checkpoint"):
                continue
            np.testing.assert_array_equal(
                arrays[key].reshape(-1).astype(np.float64), np.asarray(layer[role], np.float64).reshape(-1)
            )


def test_a_graph_in_training_mode_takes_its_stored_statistics_when_asked(tmp_path: Path) -> None:
    """The commonest rescue: only the training run's .meta is left."""
    case = tf1.Case(
        "tf1_resnet_slim_like", "checkpoint", "ckpt_train/model.ckpt", {"feeds": {"training": False}}
    )
    row = tf1.run(case, tmp_path)
    assert row.outcome == "pass"
    assert max(row.errors.values()) < 1e-5
    assert {name for name, decision in row.decisions.items() if decision == "kept"} <= {"postnorm"}
    _layers(case, row)
    assert [a.what for a in row.report.source.assumptions] == ["training"]


def test_table_covers_what_is_there() -> None:
    assert len(ALL) >= 90
    assert {case.kind for case in ALL} == {"checkpoint", "saved_model", "frozen_pb", "keras_h5", "graph_pb"}
