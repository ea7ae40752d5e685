"""Our operators over the ONNX operator models, against their expected outputs and against the runtime.

The models are made by `onnx.backend.test.case.node`, whose modules add to one list when they are imported.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.case.node as cases
import onnxruntime
import pytest
from onnx import numpy_helper

from folding.ir.evaluate import OPERATORS, Mode, NotEvaluatedError, compute, view_of, widen

# Modules of models with edges: old forms, empty axes, ties, saturation, padding, blocks, negative steps.
SHORT = (
    "argmax", "argmin", "batch_normalization", "cast", "clip", "compress", "concat", "constant",
    "constantofshape", "conv", "convtranspose", "dequantizelinear", "depthtospace", "div", "dropout",
    "expand", "flatten", "gather", "gatherelements", "gathernd", "gemm", "globalaveragepool", "gru",
    "instance_normalization", "layernormalization", "leakyrelu", "logsoftmax", "lstm", "matmul", "max",
    "maxpool", "mean", "mod", "onehot", "pad", "pow", "prelu", "quantizelinear", "rangeop", "reducel2",
    "reducemax", "reducemean", "reducesum", "reshape", "resize", "rnn", "round", "shape", "slice",
    "softmax", "spacetodepth", "split", "squeeze", "tile", "topk", "transpose", "trilu", "unsqueeze",
    "upsample", "where",
)  # fmt: skip
# Forms that our table leaves to the runtime: part of the reason -> why.
REFUSED = {
    "no tensors": "sequences and optional values are the runtime's",
    "training mode": "draws random numbers",
    "own statistics": "updates its running statistics",
    "a cast to": "runtimes disagree about 8-bit and narrower floats and integers",
    "larger shape than its windows reach": "runtimes disagree",
    "of text": "text is moved, never compared",
    "cast of text": "the number of digits is the runtime's choice",
    "Mod of floats without fmod": "runtimes disagree",
    "no identity": "a maximum of nothing",
    "align_corners to a size": "the reference and the runtime disagree",
    "antialias": "not written",
    "tf_crop_and_resize": "not written",
    "half_pixel_symmetric": "not written",
    "another mode than DCR": "not written",
    "QuantizeLinear of float32 to float": "runtimes disagree",
    "a mean of int": "runtimes disagree",
}


def load(name: str) -> Any:
    """Import the module that makes the models of an operator; what numpy warns of there is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"{cases.__name__}.{name}")


def single_nodes(chosen: set[str] | None) -> Iterator[tuple[Any, onnx.NodeProto, int]]:
    """Yield the models of one standard node whose operator is in our table."""
    for case in cases._NodeTestCases:
        model = case.model
        if model is None or len(model.graph.node) != 1 or model.graph.initializer:
            continue
        node = model.graph.node[0]
        opset = {entry.domain: entry.version for entry in model.opset_import}.get("", 1)
        if node.op_type in OPERATORS and not node.domain and (chosen is None or node.op_type in chosen):
            yield case, node, opset


def as_array(value: Any) -> np.ndarray | None:
    if isinstance(value, onnx.TensorProto):
        return np.asarray(numpy_helper.to_array(value))
    return np.asarray(value) if isinstance(value, np.ndarray | np.generic) else None


def check(case: Any, node: onnx.NodeProto, opset: int) -> str:
    """Compare one model in both modes; return "" or why it is not evaluated."""
    feeds_proto, expected = case.data_sets[0]
    feeds = {info.name: as_array(v) for info, v in zip(case.model.graph.input, feeds_proto, strict=False)}
    if any(array is None for array in feeds.values()):
        return "no tensors"
    wanted = [as_array(value) for value in expected]
    names = [info.name for info in case.model.graph.output]
    for mode in Mode:
        inputs = [None if not name else feeds[name] for name in node.input]
        if mode is Mode.FLOAT64:
            inputs = [None if array is None else widen(array) for array in inputs]
        try:
            found = compute(view_of(node, inputs, opset=opset, mode=mode))
        except NotEvaluatedError as exc:
            return str(exc)
        answers = dict(zip(node.output, found, strict=False))
        assert_close(case, mode, [answers[name] for name in names], wanted, case.rtol, case.atol)
        theirs = by_runtime(case.model, feeds)
        if theirs is not None:
            assert_close(case, mode, [answers[name] for name in names], theirs, 2e-5, 2e-5)
    return ""


def by_runtime(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any] | None:
    """Return the runtime's answers; None where it cannot load or feed the model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return list(session.run(None, feeds))
    except Exception:  # noqa: BLE001 - it has no kernel for this type or opset
        return None


def assert_close(
    case: Any, mode: Mode, found: list[Any], wanted: list[Any], rtol: float, atol: float
) -> None:
    for mine, theirs in zip(found, wanted, strict=True):
        place = f"{case.name} in {mode} mode"
        assert mine.shape == theirs.shape, place
        expected_type = widen(theirs).dtype if mode is Mode.FLOAT64 else theirs.dtype
        assert mine.dtype == expected_type, place
        if widen(theirs).dtype == np.float64:
            coarse = 2e-2 if theirs.dtype.name == "bfloat16" else 2e-3 if theirs.dtype == np.float16 else 0.0
            limits = {"rtol": max(rtol, coarse), "atol": max(atol, coarse)}
            np.testing.assert_allclose(widen(mine), widen(theirs), **limits, err_msg=place)
        else:
            np.testing.assert_array_equal(mine, theirs, err_msg=place)


@pytest.mark.parametrize("name", SHORT)
def test_models_of_one_operator(name: str) -> None:
    module = load(name)
    outcomes = [check(*one) for one in single_nodes({op for op in OPERATORS if op in vars(module)})]
    unexplained = [why for why in outcomes if why and not any(part in why for part in REFUSED)]
    assert not unexplained
    assert outcomes.count("") >= 1, "nothing was compared"


@pytest.mark.slow
def test_all_models() -> None:
    for module in pkgutil.iter_modules(cases.__path__):
        load(module.name)
    compared: Counter[str] = Counter()
    for case, node, opset in single_nodes(None):
        why = check(case, node, opset)
        assert not why or any(part in why for part in REFUSED), f"{case.name}: {why}"
        compared[node.op_type] += not why
    assert sum(compared.values()) > 700
    untested = {op for op in OPERATORS if not compared[op]}
    assert not untested, f"no model shows {sorted(untested)}"
