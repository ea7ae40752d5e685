"""Operators by onnx's own reference implementation, one node at a time.

Only those for which that agrees with the runtime over the ONNX operator models, in float64 and with all that
their attributes can say; an answer that is no float64, or that is not finite, is not believed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper

from folding.ir.evaluate.dtypes import is_rational, widen
from folding.ir.evaluate.view import Mode, NotEvaluatedError
from folding.ir.types import Array

BORROWED = frozenset({
    "Attention", "CenterCropPad", "Col2Im", "CumProd", "CumSum", "DeformConv", "Det", "Einsum", "GridSample",
    "Hardmax", "LRN", "LpNormalization", "NegativeLogLikelihoodLoss", "RMSNormalization", "RoiAlign",
    "RotaryEmbedding", "ScatterElements", "ScatterND", "Shrink", "SoftmaxCrossEntropyLoss", "Swish",
})  # fmt: skip


def borrowed(node: onnx.NodeProto, values: Mapping[str, Array], opset: int, mode: Mode) -> tuple[Array, ...]:
    """Return a node's outputs. Raises NotEvaluatedError."""
    from onnx.reference import ReferenceEvaluator  # its import takes a third of a second

    if any(is_rational(array) for array in values.values()):
        raise NotEvaluatedError(f"{node.op_type} of rationals")
    try:
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), None)
            for name, array in values.items()
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        graph = helper.make_graph([node], "one", inputs, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        with np.errstate(all="ignore"):
            found = iter(ReferenceEvaluator(model).run(None, dict(values)))
        answers = tuple(np.asarray(next(found) if name else ()) for name in node.output)
    except Exception as exc:
        raise NotEvaluatedError(f"{node.op_type}: {exc}") from exc
    for answer in answers:
        if mode is Mode.FLOAT64 and widen(answer).dtype != answer.dtype:
            raise NotEvaluatedError(f"{node.op_type} computes in {answer.dtype} only")
        if answer.dtype.kind == "f" and not np.isfinite(answer).all():
            raise NotEvaluatedError(f"{node.op_type} is not finite, where implementations differ")
    return answers
