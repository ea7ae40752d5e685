"""Run one small model on a provider: the only proof that a device can be used here."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from folding.verify import providers
from folding.verify.providers.failures import DeviceGone

_SEED, _SIZE = 20, 16


def self_test(name: str) -> str | None:
    """Open a session on the provider and compare one convolution with the CPU's.

    Returns: None where it works, else what does not, with the library or the call at fault.
    """
    provider = providers.find(name)
    if (missing := provider.unavailable()) is not None:
        return missing
    rng = np.random.default_rng(_SEED)
    feeds = {"x": rng.standard_normal((1, 3, _SIZE, _SIZE)).astype(np.float32)}
    with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
        model = Path(folder) / "self_test.onnx"
        onnx.save(_model(rng), str(model))
        try:
            variant = provider.variants()[0][0]
            found = provider.open(model, "disable_all", variant).run(feeds)["y"]
            wanted = providers.find("cpu").open(model, "disable_all", "cpu").run(feeds)["y"]
        except DeviceGone as gone:
            return gone.error.message
        except Exception as error:  # noqa: BLE001  whatever it is, the provider does not work
            return " ".join(str(error).split())[:500]
    worst = float(np.max(np.abs(found - wanted)))
    if not worst <= 1e-3:
        return f"it computes wrongly: a convolution differs from the CPU's by {worst:.3g}"
    return None


def _model(rng: np.random.Generator) -> onnx.ModelProto:
    weights = numpy_helper.from_array(rng.standard_normal((4, 3, 3, 3)).astype(np.float32), "w")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])],
        "self_test",
        [value("x", TensorProto.FLOAT, [1, 3, _SIZE, _SIZE])],
        [value("y", TensorProto.FLOAT, [1, 4, _SIZE - 2, _SIZE - 2])],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
