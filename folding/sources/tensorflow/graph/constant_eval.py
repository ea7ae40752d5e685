"""Tiny constant evaluation: enough for predicates, dropout rates and epsilons; nothing is run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from folding.sources.tensorflow.graph.tf_graph import TfGraph, const_value, data_inputs, split

_LIMIT = 64  # elements; what decides control flow is a scalar, and nothing larger is wanted here

_PASS = frozenset({"Identity", "StopGradient", "Snapshot", "PreventGradient", "RefIdentity", "EnsureShape",
                   "ReadVariableOp", "CheckNumerics", "Squeeze", "Enter"})  # fmt: skip
_UNARY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "LogicalNot": np.logical_not, "Neg": np.negative, "Sqrt": np.sqrt, "Square": np.square, "Floor": np.floor,
    "Reciprocal": np.reciprocal, "Inv": np.reciprocal, "Rsqrt": lambda x: 1 / np.sqrt(x),
}  # fmt: skip
_BINARY: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "LogicalAnd": np.logical_and, "LogicalOr": np.logical_or, "Equal": np.equal, "NotEqual": np.not_equal,
    "Greater": np.greater, "GreaterEqual": np.greater_equal, "Less": np.less, "LessEqual": np.less_equal,
    "Add": np.add, "AddV2": np.add, "Sub": np.subtract, "Mul": np.multiply, "RealDiv": np.divide,
    "Div": np.divide, "Maximum": np.maximum, "Minimum": np.minimum,
}  # fmt: skip
_SHORT_CIRCUIT = {"LogicalAnd": False, "LogicalOr": True}


def evaluate(graph: TfGraph, ref: str, known: dict[str, np.ndarray] | None = None) -> np.ndarray | None:
    """The constant that `ref` always is, or None. `known`: values assumed for nodes, by node name."""
    return _Evaluator(graph, known or {}).value(ref)


class _Evaluator:
    def __init__(self, graph: TfGraph, known: dict[str, np.ndarray]) -> None:
        self.graph = graph
        self.known = known

    def value(self, ref: str, depth: int = 0) -> np.ndarray | None:
        name, index = split(ref)
        if name in self.known:
            return self.known[name]
        node = self.graph.nodes.get(name)
        if node is None or depth > 40:
            return None
        if node.op == "Const":
            value = const_value(node) if _small(node) else None
            return value if value is not None and value.size <= _LIMIT else None
        inputs = data_inputs(node)
        if node.op in _PASS and index == 0 and inputs:
            return self.value(inputs[0], depth + 1)
        if node.op == "Switch":
            return self.value(inputs[0], depth + 1)
        with np.errstate(all="ignore"):
            return self._arithmetic(node, inputs, depth + 1)

    def _arithmetic(self, node: object, inputs: list[str], depth: int) -> np.ndarray | None:
        op: str = node.op  # type: ignore[attr-defined]
        if op in _UNARY:
            only = self.value(inputs[0], depth)
            return None if only is None else np.asarray(_UNARY[op](only))
        if op == "Cast":
            only = self.value(inputs[0], depth)
            return None if only is None else _cast(node, only)
        if op in ("Reshape", "ExpandDims"):
            only = self.value(inputs[0], depth)
            return only if only is None or only.size != 1 else only.reshape(())
        if op not in _BINARY or len(inputs) != 2:
            return None
        left, right = self.value(inputs[0], depth), self.value(inputs[1], depth)
        for side in (left, right):
            decisive = op in _SHORT_CIRCUIT and side is not None and side.size == 1
            if decisive and side is not None and bool(side.reshape(())) is _SHORT_CIRCUIT[op]:
                return np.asarray(_SHORT_CIRCUIT[op])
        if left is None or right is None:
            return None
        try:
            return np.asarray(_BINARY[op](left, right))
        except (TypeError, ValueError):
            return None


def _cast(node: object, value: np.ndarray) -> np.ndarray | None:
    from tensorflow.python.framework import dtypes

    try:
        return np.asarray(value).astype(dtypes.as_dtype(node.attr["DstT"].type).as_numpy_dtype)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return None


def _small(node: object) -> bool:
    size = 1
    for dim in node.attr["value"].tensor.tensor_shape.dim:  # type: ignore[attr-defined]
        size *= dim.size
    return size <= _LIMIT


def leaves(graph: TfGraph, ref: str) -> set[str]:
    """Names of the placeholders, variables and constants that a small expression rests on."""
    found: set[str] = set()
    stack = [split(ref)[0]]
    seen: set[str] = set()
    while stack and len(seen) < 200:
        name = stack.pop()
        if name in seen or name not in graph.nodes:
            continue
        seen.add(name)
        node = graph.nodes[name]
        inputs = data_inputs(node)
        if not inputs or node.op == "PlaceholderWithDefault":
            found.add(name)
        elif (
            node.op in _PASS
            or node.op in _UNARY
            or node.op in _BINARY
            or node.op in ("Cast", "Reshape", "Switch")
        ):
            stack.extend(split(i)[0] for i in inputs[: 1 if node.op in ("Switch", "Reshape") else None])
        else:
            found.add(name)
    return found
