"""The one table of ONNX operators in NumPy.

To add an operator: a kernel `(NodeView) -> array or tuple of arrays` in the module of its family, and a line
in that module's `KERNELS`. A kernel raises NotEvaluatedError where runtimes share no answer.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from folding.ir.evaluate import (
    activations,
    arithmetic,
    constants,
    linear,
    movement,
    quantization,
    recurrent,
    reductions,
    resize,
    windows,
)
from folding.ir.evaluate.arithmetic import Kernel
from folding.ir.evaluate.dtypes import is_text, widen
from folding.ir.evaluate.view import NodeView, NotEvaluatedError
from folding.ir.query import STANDARD
from folding.ir.types import Array

FAMILIES = (
    arithmetic,
    activations,
    linear,
    windows,
    reductions,
    movement,
    constants,
    quantization,
    resize,
    recurrent,
)


def _table() -> dict[str, Kernel]:
    table: dict[str, Kernel] = {}
    for family in FAMILIES:
        twice = table.keys() & family.KERNELS.keys()
        if twice:
            raise ValueError(f"operators with two kernels: {sorted(twice)}")
        table.update(family.KERNELS)
    return table


OPERATORS = MappingProxyType(_table())
# What constant expressions are made of: no layers, which are left to the rules and the runtime.
EXPRESSIONS = frozenset(OPERATORS) - {
    *windows.KERNELS,
    *resize.KERNELS,
    *recurrent.KERNELS,
    *(linear.KERNELS.keys() - {"MatMul", "Gemm"}),
    "Constant",
}
TEXT = frozenset(movement.KERNELS) - {"Pad", "Trilu"}


def compute(view: NodeView) -> tuple[Array, ...]:
    """Return a node's outputs: those that exist, in order.

    Raises NotEvaluatedError for operators and forms without an answer, and whatever numpy says of the inputs.
    """
    kernel = OPERATORS.get(view.op_type)
    if kernel is None or view.domain not in STANDARD:
        raise NotEvaluatedError(f"no evaluation of {view.domain or 'ai.onnx'}.{view.op_type}")
    if view.op_type not in TEXT and any(value is not None and is_text(value) for value in view.inputs):
        raise NotEvaluatedError(f"{view.op_type} of text")
    try:
        with np.errstate(all="ignore"):
            result = kernel(view)
    except NotEvaluatedError:
        raise
    except Exception as exc:
        raise NotEvaluatedError(f"{view.op_type}: {exc}") from exc
    return checked(view, result if isinstance(result, tuple) else (result,))


def checked(view: NodeView, answers: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return the answers as arrays. Raises NotEvaluatedError for one that is missing or too narrow."""
    arrays = tuple(np.asarray(answer) for answer in answers)
    if any(view.outputs[len(arrays) :]):
        raise NotEvaluatedError(f"{view.op_type}: only the first {len(arrays)} outputs are evaluated")
    for array in arrays:
        if view.float64 and widen(array).dtype != array.dtype:
            raise NotEvaluatedError(f"{view.op_type} computes in {array.dtype} only")
    return arrays
