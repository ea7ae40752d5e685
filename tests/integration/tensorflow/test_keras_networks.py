"""Whole Keras networks, live statistics, every route: nothing of any batch norm is left, and it verifies."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import folding
from tests.integration.tensorflow.keras_networks import live_network, save_all

NETWORKS = {"MobileNetV2": 52, "ResNet50": 53}
# 96 and not 224: every layer is there, and the suite stays short.
SIZE = 96


@pytest.fixture(scope="module", params=["MobileNetV2", pytest.param("ResNet50", marks=pytest.mark.slow)])
def network(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Any, dict[str, Path]]:
    import keras

    build = getattr(keras.applications, request.param)
    if request.param == "MobileNetV2":
        build = partial(build, alpha=0.35)  # a tenth of the weights in the same layers
    model = live_network(build, SIZE)
    return request.param, model, save_all(model, tmp_path_factory.mktemp(request.param))


def per_channel_leftovers(model: onnx.ModelProto) -> list[str]:
    """Mul and Add nodes with a constant of more than one element behind a conv: what a fold leaves behind."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    producer = {name: node for node in model.graph.node for name in node.output}
    left = []
    for node in model.graph.node:
        if node.op_type not in ("Mul", "Add", "Sub", "Div"):
            continue
        sides = [constants.get(name) for name in node.input]
        others = [producer.get(name) for name, side in zip(node.input, sides, strict=True) if side is None]
        if any(s is not None and s.size > 1 for s in sides) and any(
            o is not None and o.op_type == "Conv" for o in others
        ):
            left.append(node.name)
    return left


@pytest.mark.parametrize("route", ["keras", "h5", "saved_model"])
def test_folds_completely_and_verifies(
    network: tuple[str, Any, dict[str, Path]], route: str, tmp_path: Path
) -> None:
    name, model, paths = network
    report = folding.fold(paths[route], tmp_path / "out.onnx")

    assert report.verdict is folding.Verdict.PASS, report.summary
    assert report.source.route == "structure-first"
    assert len(report.batch_norms) == NETWORKS[name]
    assert [n.name for n in report.batch_norms if n.decision != "folded"] == []
    artifact = onnx.load(tmp_path / "out.onnx")
    assert not [n for n in artifact.graph.node if n.op_type == "BatchNormalization"]
    assert per_channel_leftovers(artifact) == []
    by_name = {n.name: n for n in report.batch_norms}
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            stats = by_name[layer.name].stats["moving_variance"]
            assert stats.mean == pytest.approx(
                float(np.asarray(layer.moving_variance, np.float64).mean()), rel=1e-12
            )
