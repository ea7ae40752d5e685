"""Artifacts for other tools: MLflow, OpenSSF model signing, Triton, KServe."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper, save

from folding.errors import UsageError
from service.exports import mlflow, openssf
from service.provenance import ProvenanceError
from tests.support.paths import ROOT


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.ones((3, 2), np.float32), "w")],
    )
    path = tmp_path / "model.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


needs_mlflow = pytest.mark.skipif(mlflow.unavailable() is not None, reason=str(mlflow.unavailable()))
needs_signing = pytest.mark.skipif(openssf.unavailable() is not None, reason=str(openssf.unavailable()))


@needs_mlflow
@pytest.mark.filterwarnings("ignore")  # MLflow's own, about its own future
def test_mlflow_model_loads_and_knows_its_digest(artifact: Path, tmp_path: Path) -> None:
    import mlflow as real
    import onnx

    report = tmp_path / "report.json"
    report.write_text("{}")
    out = mlflow.export(artifact, tmp_path / "out", report)
    described = yaml.safe_load((out / "MLmodel").read_text())
    assert "onnx" in described["flavors"]
    assert described["metadata"]["bnfold.artifact"].startswith("sha256:")
    assert (out / "bnfold-report.json").exists()
    loaded = real.onnx.load_model(str(out))
    assert isinstance(loaded, onnx.ModelProto)
    assert loaded.graph.node[0].op_type == "MatMul"


def test_mlflow_refuses_what_it_cannot_do(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        mlflow.export(tmp_path / "gone.onnx", tmp_path / "out")
    with pytest.raises(UsageError):
        mlflow.export(artifact, tmp_path)


def test_missing_extras_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch, artifact: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for module in (mlflow, openssf):
        assert "pip install 'bnfold[" in (module.unavailable() or "")
    with pytest.raises(UsageError, match="mlflow"):
        mlflow.export(artifact, artifact.parent / "out")


@needs_signing
def test_openssf_signature(artifact: Path, tmp_path: Path) -> None:
    public = openssf.make_key(tmp_path / "signing.key")
    signature = tmp_path / "model.sig"
    openssf.sign(artifact, signature, tmp_path / "signing.key")
    openssf.verify(artifact, signature, public)
    assert "mediaType" in json.loads(signature.read_text())
    other = openssf.make_key(tmp_path / "other.key")
    with pytest.raises(ProvenanceError):
        openssf.verify(artifact, signature, other)
    data = bytearray(artifact.read_bytes())
    data[-1] ^= 1
    artifact.write_bytes(data)
    with pytest.raises(ProvenanceError):
        openssf.verify(artifact, signature, public)


def test_kserve_example() -> None:
    """InferenceService v1beta1: what the controller requires of one with the Triton runtime."""
    spec = yaml.safe_load((ROOT / "deploy" / "kserve" / "inferenceservice.yaml").read_text())
    assert spec["apiVersion"] == "serving.kserve.io/v1beta1"
    assert spec["kind"] == "InferenceService"
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", spec["metadata"]["name"])
    model = spec["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "triton"}
    assert model["storageUri"].split("://")[0] in ("pvc", "s3", "gs", "https")
    assert model["protocolVersion"] == "v2"
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", spec["metadata"]["annotations"]["bnfold.digest"])
