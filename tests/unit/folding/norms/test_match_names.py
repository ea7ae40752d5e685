"""The source's names meet the graph's values."""

# Rows are tables, and tables read across.
# ruff: noqa: E501
from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from folding import norms
from folding.norms.base import NormHint
from folding.norms.naming import scope
from tests.unit.folding.rules.models import model, norm_arrays

N6 = norm_arrays(6)
ROLES = {"gamma": "g", "beta": "b", "moving_mean": "m", "moving_variance": "v"}
BODY = "y = BatchNormalization(x, g, b, m, v)"
X = "T[2,6,3,3] x"


def hint(name: str = "layer/bn", **fields: object) -> NormHint:
    variables = {role: f"{name}/{role}" for role in ROLES}
    return NormHint(**{"name": name, "spelling": "keras", "variables": variables, **fields})  # type: ignore[arg-type]


def test_by_initializers() -> None:
    (norm,) = norms.find(ir.from_proto(model(X, BODY, N6)), [hint(initializers=ROLES)])
    assert norm.name == "layer/bn"
    assert norm.variables["gamma"] == "layer/bn/gamma"
    assert norm.hint is not None


def test_by_numbers_where_a_converter_folded_the_constants() -> None:
    scale = N6["g"] / np.sqrt(N6["v"] + 1e-3)
    arrays = {
        "s": scale.astype(np.float32)[:, None, None],
        "t": (N6["b"] - N6["m"] * scale).astype(np.float32)[:, None, None],
    }
    raw = {role: N6[key] for role, key in ROLES.items()}
    graph = ir.from_proto(
        model("float[2,6,3,3] x", "p = Mul(x, s) y = Add(p, t)", arrays, outputs="float[2,6,3,3] y")
    )
    (norm,) = norms.find(graph, [hint(arrays=raw, epsilon=1e-3)])
    assert norm.name == "layer/bn"
    assert norm.affine is not None
    assert norm.channel_axis == 1
    np.testing.assert_array_equal(norm.moving_mean, N6["m"])


def test_without_a_trace() -> None:
    (norm,) = norms.find(ir.from_proto(model(X, "y = Relu(x)")), [hint()])
    assert norm.affine is None
    assert norm.why_not is not None
    assert norm.why_not[0] == "not_in_graph"


def test_one_hint_for_two_uses() -> None:
    body = "p = BatchNormalization(x, g, b, m, v) q = Relu(x) r = BatchNormalization(q, g, b, m, v) y = Add(p, r)"
    found = norms.find(ir.from_proto(model(X, body, N6)), [hint(initializers=ROLES)])
    assert [norm.name for norm in found] == ["layer/bn", "layer/bn"]


def test_batch_statistics_by_hint() -> None:
    (norm,) = norms.find(ir.from_proto(model(X, "y = Relu(x)")), [hint(batch_statistics=True)])
    assert norm.why_not is not None
    assert norm.why_not[0] == "batch_statistics"


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("layer1.0.bn1.running_mean", "layer1.0.bn1"),
        ("layer1.0.bn1.weight", "layer1.0.bn1"),
        ("conv1/BatchNorm/moving_variance", "conv1/BatchNorm"),
        ("batch_normalization_3/gamma:0", "batch_normalization_3"),
        ("bn2a_branch2a_gamma", "bn2a_branch2a"),
        ("stage1_unit1_bn1_moving_mean", "stage1_unit1_bn1"),
        ("vgg0_batchnorm0_running_var", "vgg0_batchnorm0"),
        ("features.3/BatchNorm/beta/read", "features.3/BatchNorm"),
        ("gamma", ""),
        ("42", ""),
    ],
)
def test_layer_of_a_variable(name: str, layer: str) -> None:
    assert scope(name) == layer


def test_names_of_onnx_models() -> None:
    arrays = dict(
        zip(("a.bn.weight", "a.bn.bias", "a.bn.running_mean", "a.bn.running_var"), N6.values(), strict=True)
    )
    proto = model(X, BODY, dict(zip("gbmv", arrays.values(), strict=True)))
    for item, name in zip(proto.graph.initializer, arrays, strict=True):
        item.name = name
    proto.graph.node[0].input[1:] = list(arrays)
    (norm,) = norms.find(ir.from_proto(proto))
    assert norm.name == "a.bn"
