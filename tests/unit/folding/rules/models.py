"""Small models from text, and the float64 judge that all tests of rules share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from folding import norms, rules
from folding.options import FoldOptions
from folding.rules.base import FoldResult
from tests.unit.folding.rules import rational

NAMES = {"float32": "float", "float64": "double", "float16": "float16"}


def model(
    inputs: str, body: str, arrays: dict[str, np.ndarray] | None = None, *,
    outputs: str = "", opset: int = 18, ir_version: int = 9, dtype: str = "float64",
) -> onnx.ModelProto:  # fmt: skip
    """A model whose body is onnx text; `T` stands for the dtype, arrays become initializers of that dtype
    if they are float64.

    `inputs` like `T[2,3,8,8] x`; outputs default to `T y`, with the shape that onnx infers.
    """
    name = NAMES[dtype]
    text = (
        f'<ir_version: {ir_version}, opset_import: ["": {opset}]>\n'
        f"g ({typed(inputs, name)}) => ({typed(outputs or 'T y', name)}) {{\n{typed(body, name)}\n}}"
    )
    proto = onnx.parser.parse_model(text)
    for key, array in (arrays or {}).items():
        if array.dtype == np.float64:
            array = array.astype(dtype)
        proto.graph.initializer.append(numpy_helper.from_array(np.array(array, order="C"), key))
        if ir_version < 4:
            elem = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            proto.graph.input.append(onnx.helper.make_tensor_value_info(key, elem, array.shape))
    for output in proto.graph.output:
        if not output.type.tensor_type.shape.dim:  # text without dimensions says rank 0
            output.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    for output, better in zip(proto.graph.output, inferred.graph.output, strict=True):
        output.CopyFrom(better)
    return proto


def typed(text: str, name: str) -> str:
    """`T` as a type replaced by the dtype's name in onnx text."""
    return re.sub(r"\bT(?=\[| )", name, text)


def norm_arrays(channels: int, seed: int = 0, prefix: str = "") -> dict[str, np.ndarray]:
    """gamma (some negative), beta, mean, variance of a batch norm, named g, b, m, v."""
    rng = np.random.default_rng(seed)
    return {
        f"{prefix}g": rng.normal(size=channels) + np.where(rng.random(channels) < 0.3, -1.0, 1.0),
        f"{prefix}b": rng.normal(size=channels),
        f"{prefix}m": rng.normal(size=channels),
        f"{prefix}v": rng.uniform(0.3, 2.0, channels),
    }


@dataclass
class Folded:
    """What came out, beside what went in. again: folds another model as this one was folded."""

    before: onnx.ModelProto
    after: onnx.ModelProto
    result: FoldResult
    model: ir.Model
    again: Callable[[onnx.ModelProto], Folded]

    @property
    def text(self) -> list[str]:
        """Nodes as `outputs = Op(inputs)`, in order: what a rule made of a graph, for golden comparisons."""
        return [
            f"{', '.join(node.output)} = {node.op_type}({', '.join(node.input)})"
            for node in self.after.graph.node
        ]

    @property
    def ops(self) -> list[str]:
        """Operators left, in order, those of bodies included."""
        return [node.op_type for node in self.model.graph.all_nodes()]


def fold(proto: onnx.ModelProto, **options: object) -> Folded:
    """Find and fold, check the outcome for validity and for an unchanged interface."""
    before = onnx.ModelProto()
    before.CopyFrom(proto)
    graph = ir.from_proto(proto)
    chosen = FoldOptions(**options)  # type: ignore[arg-type]
    found = norms.find(graph, [], freeze_inputs=chosen.freeze_inputs)
    result = rules.fold(graph, found, chosen)
    after = ir.to_proto(graph)
    onnx.checker.check_model(after, full_check=True)
    outer = [
        [i for i in proto.graph.input if i.name not in {init.name for init in proto.graph.initializer}]
        for proto in (before, after)
    ]
    assert outer[0] == outer[1]
    assert list(after.graph.output) == list(before.graph.output)
    return Folded(before, after, result, graph, lambda other: fold(other, **options))


def feeds(proto: onnx.ModelProto, seed: int = 0, dim: int = 2) -> dict[str, np.ndarray]:
    """Signed random inputs; symbolic dimensions become `dim`."""
    rng = np.random.default_rng(seed)
    held = {init.name for init in proto.graph.initializer}
    result = {}
    for value in proto.graph.input:
        if value.name in held:
            continue
        shape = [d.dim_value if d.HasField("dim_value") else dim for d in value.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if dtype.kind == "b":
            result[value.name] = np.array(rng.random(shape) < 0.5)
        elif dtype.kind == "i":
            result[value.name] = rng.integers(0, 4, shape).astype(dtype)
        else:
            result[value.name] = (2.0 * rng.normal(size=shape)).astype(dtype)
    return result


def run(proto: onnx.ModelProto, given: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs by onnx's own evaluator, in the dtypes of the model (float64 in most tests)."""
    return ReferenceEvaluator(proto, new_ops=[ConvTranspose]).run(None, given)


class ConvTranspose(OpRun):
    """onnx's evaluator knows one group only; here by definition: every input element adds W times itself."""

    op_domain = ""

    def _run(self, x, w, b=None, auto_pad=None, dilations=None, group=None, kernel_shape=None,
             output_padding=None, output_shape=None, pads=None, strides=None):  # fmt: skip
        n = x.ndim - 2
        group, kernel = group or 1, w.shape[2:]
        dilations, strides = dilations or [1] * n, strides or [1] * n
        pads, extra = pads or [0] * 2 * n, output_padding or [0] * n
        full = [
            (x.shape[2 + i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 + extra[i]
            for i in range(n)
        ]
        ins, outs = w.shape[0] // group, w.shape[1]
        y = np.zeros((x.shape[0], outs * group, *full), x.dtype)
        for part in range(group):
            rows, columns = slice(part * ins, (part + 1) * ins), slice(part * outs, (part + 1) * outs)
            for tap in np.ndindex(*kernel):
                at = tuple(
                    slice(
                        tap[i] * dilations[i],
                        tap[i] * dilations[i] + (x.shape[2 + i] - 1) * strides[i] + 1,
                        strides[i],
                    )
                    for i in range(n)
                )
                y[(slice(None), columns, *at)] += np.einsum(
                    "nc...,co->no...", x[:, rows], w[(rows, slice(None), *tap)]
                )
        y = y[(..., *(slice(pads[i], full[i] - pads[n + i]) for i in range(n)))]
        return (y if b is None else y + b.reshape((1, -1) + (1,) * n),)


def difference(folded: Folded, seed: int = 0) -> float:
    """Return the largest error over all outputs, relative to each output's own scale.

    The fold is also proved in rational arithmetic, where that can be done: see `rational`.
    """
    rational.prove(folded, feeds(folded.before, seed), seed)
    given = feeds(folded.before, seed)
    want = run(folded.before, given)
    have = run(folded.after, given)
    worst = 0.0
    for a, b in zip(want, have, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        a, b = a.astype(np.float64), b.astype(np.float64)
        worst = max(worst, float(np.abs(a - b).max(initial=0) / max(np.abs(a).max(initial=0), 1e-30)))
    return worst
