"""TensorFlow.js graph models: the graph is put together again, with fused nodes written out, and proved."""

# Tables of one case a line read better than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import folding
from folding.errors import BnfoldError
from folding.ort import OrtSession
from folding.report import Verdict
from folding.sources.base import Upload
from folding.sources.onnx.importer import OnnxFormat
from folding.sources.tensorflow.graphdef import GraphDefFormat
from folding.sources.tfjs.importer import TfjsFormat

FLOAT = {"type": "DT_FLOAT"}


def text(value: str) -> dict[str, str]:
    return {"s": base64.b64encode(value.encode()).decode()}


def node(op: str, name: str, *inputs: str, **attributes: Any) -> dict[str, Any]:
    return {"name": name, "op": op, "input": list(inputs), "attr": {"T": FLOAT, **attributes}}


def fused(*ops: str) -> dict[str, Any]:
    return {
        "fused_ops": {"list": {"s": [text(op)["s"] for op in ops]}},
        "num_args": {"i": str(sum(op in ("BiasAdd", "Prelu") for op in ops))},
        "epsilon": {"f": 0.0},
        "leakyrelu_alpha": {"f": 0.3},
    }


WINDOW = {
    "strides": {"list": {"i": ["1", "1", "1", "1"]}}, "padding": text("SAME"), "data_format": text("NHWC"),
    "dilations": {"list": {"i": ["1", "1", "1", "1"]}},
}  # fmt: skip


def written(folder: Path, nodes: list[dict[str, Any]], weights: dict[str, np.ndarray], output: str) -> Path:
    """A model.json with one shard; inputs are called `image`, outputs `result`."""
    constants = [
        {"name": name, "op": "Const", "attr": {"dtype": FLOAT, "value": {"tensor": {"dtype": "DT_FLOAT"}}}}
        for name in weights
    ]
    x = {"name": "x", "op": "Placeholder", "attr": {"dtype": FLOAT, "shape": {"shape": {"dim": [
        {"size": "-1"}, {"size": "6"}, {"size": "6"}, {"size": "3"}]}}}}  # fmt: skip
    document = {
        "format": "graph-model", "generatedBy": "2.4.1", "convertedBy": "TensorFlow.js Converter v3.13.0",
        "signature": {"inputs": {"image": {"name": "x:0"}}, "outputs": {"result": {"name": f"{output}:0"}}},
        "modelTopology": {"node": [x, *constants, *nodes], "library": {}, "versions": {"producer": 561}},
        "weightsManifest": [{"paths": ["group1-shard1of1.bin"], "weights": [
            {"name": name, "shape": list(value.shape), "dtype": "float32"} for name, value in weights.items()]}],
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "group1-shard1of1.bin").write_bytes(
        b"".join(v.astype(np.float32).tobytes() for v in weights.values())
    )
    (folder / "model.json").write_text(json.dumps(document))
    return folder / "model.json"


def normalized(folder: Path) -> Path:
    """Fused convolution, fused depthwise convolution with a batch norm behind it, and PReLU."""
    rng = np.random.default_rng(2)
    weights = {
        "w": rng.normal(0, 0.4, (3, 3, 3, 8)), "b": rng.normal(0, 1, 8), "d": rng.normal(0, 0.4, (3, 3, 8, 1)),
        "db": rng.normal(0, 1, 8), "gamma": rng.normal(1, 0.2, 8), "beta": rng.normal(0, 1, 8),
        "mean": rng.normal(0, 1, 8), "variance": rng.uniform(0.5, 2, 8), "alpha": rng.uniform(0.1, 0.9, 8),
    }  # fmt: skip
    nodes = [
        node("_FusedConv2D", "conv", "x", "w", "b", **WINDOW, **fused("BiasAdd", "Relu6")),
        node("FusedDepthwiseConv2dNative", "deep", "conv", "d", "db", **WINDOW, **fused("BiasAdd", "LeakyRelu")),
        node("DepthwiseConv2dNative", "plain", "deep", "d", **WINDOW),
        node("FusedBatchNormV3", "bn", "plain", "gamma", "beta", "mean", "variance", U=FLOAT,
             data_format=text("NHWC"), epsilon={"f": 0.001}, is_training={"b": False}),
        node("Prelu", "out", "bn", "alpha"),
    ]  # fmt: skip
    return written(folder, nodes, weights, "out")


def test_fused_nodes_are_written_out_and_the_batch_norm_folds(tmp_path: Path) -> None:
    report = folding.fold(normalized(tmp_path / "m"), tmp_path / "m.onnx")
    assert report.source.format == "tfjs"
    assert report.verdict is Verdict.PASS, report.summary
    assert [norm.decision for norm in report.batch_norms] == ["folded"]
    assert [info.name for info in report.source.inputs] == ["image"]
    assert any(row.reference == "tensorflow" and row.status == "pass" for row in report.verification)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (("BiasAdd",), lambda y, a: y),
        (("BiasAdd", "Relu"), lambda y, a: np.maximum(y, 0)),
        (("BiasAdd", "Prelu"), lambda y, a: np.where(y > 0, y, a * y)),
        (("BiasAdd", "Elu"), lambda y, a: np.where(y > 0, y, np.expm1(y))),
        (("BiasAdd", "LeakyRelu"), lambda y, a: np.where(y > 0, y, 0.3 * y)),
    ],
)
def test_a_fused_product_computes_what_its_parts_do(
    tmp_path: Path, steps: tuple[str, ...], expected: Any
) -> None:
    rng = np.random.default_rng(4)
    weights = {"w": rng.normal(0, 1, (108, 5)), "b": rng.normal(0, 1, 5), "alpha": rng.uniform(0.1, 0.9, 5)}
    shape = {"name": "shape", "op": "Const", "attr": {"dtype": {"type": "DT_INT32"}}}
    nodes = [
        shape, node("Reshape", "flat", "x", "shape"),
        node("_FusedMatMul", "out", "flat", "w", "b", *(["alpha"] if "Prelu" in steps else []),
             transpose_a={"b": False}, transpose_b={"b": False}, **fused(*steps)),
    ]  # fmt: skip
    path = written(tmp_path / "m", nodes, weights, "out")
    document = json.loads(path.read_text())
    document["weightsManifest"][0]["weights"].append({"name": "shape", "shape": [2], "dtype": "int32"})
    path.write_text(json.dumps(document))
    with (path.parent / "group1-shard1of1.bin").open("ab") as shard:
        shard.write(np.array([-1, 108], np.int32).tobytes())
    report = folding.fold(path, tmp_path / "m.onnx")
    assert report.verdict is Verdict.PASS, report.summary
    x = rng.normal(0, 1, (2, 6, 6, 3)).astype(np.float32)
    y = x.reshape(2, 108) @ weights["w"] + weights["b"]
    found = OrtSession(tmp_path / "m.onnx").run({"image": x})["result"]
    assert np.allclose(found, expected(y, weights["alpha"]), atol=1e-4)


def test_a_layers_model_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(
        json.dumps({"format": "layers-model", "modelTopology": {"model_config": {}}, "weightsManifest": []})
    )
    with pytest.raises(BnfoldError) as caught:
        folding.fold(path, tmp_path / "m.onnx")
    assert caught.value.error_code == "unsupported_tfjs_layers"


def test_an_unknown_fusion_and_a_missing_weight_are_refused_by_name(tmp_path: Path) -> None:
    weights = {"w": np.zeros((3, 3, 3, 2)), "b": np.zeros(2)}
    odd = [node("_FusedConv2D", "out", "x", "w", "b", **WINDOW, **fused("BiasAdd", "Swirl"))]
    with pytest.raises(BnfoldError) as caught:
        folding.fold(written(tmp_path / "odd", odd, weights, "out"), tmp_path / "m.onnx")
    assert caught.value.error_code == "unsupported_op"
    path = written(tmp_path / "less", [node("Identity", "out", "x")], weights, "out")
    document = json.loads(path.read_text())
    document["weightsManifest"][0]["weights"][0]["name"] = "other"
    path.write_text(json.dumps(document))
    with pytest.raises(BnfoldError) as caught:
        folding.fold(path, tmp_path / "m.onnx")
    assert caught.value.error_code == "missing_weights"


def test_only_its_own_format_recognises_a_model_json(tmp_path: Path) -> None:
    path = normalized(tmp_path / "m")
    upload = Upload(path, path.parent, ("model.json",), "")
    assert TfjsFormat().sniff(upload)
    assert not OnnxFormat().sniff(upload)
    assert not GraphDefFormat().sniff(upload)


def test_the_converters_own_reader_still_needs_numpy_product() -> None:
    """Ours exists because tf2onnx's reader dies on NumPy 2. This fails when it is mended: then compare the two."""
    import inspect

    from tf2onnx import tfjs_utils

    assert "np.product(" in inspect.getsource(tfjs_utils.read_tfjs_weight)
    assert not hasattr(np, "product")
