"""Operations that tf2onnx converts wrongly, or not at all, in operations that it converts rightly.

Weights are inputs of the graph that tf2onnx sees, so each of its branches that asks for a constant takes the
other way. Where the other way is wrong, the graph is spelled so that the branch does not matter; `STEPS` has
one entry for each. `docs/decisions` tells how the branches were gone through.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from folding.errors import UnsupportedModel
from folding.sources.gates import operation_hints
from folding.sources.tensorflow.convert import transposed_conv
from folding.sources.tensorflow.convert.prepare_inference_graph import Prepared
from folding.sources.tensorflow.graph.constant_eval import evaluate
from folding.sources.tensorflow.graph.program import Weights
from folding.sources.tensorflow.graph.static_shapes import StaticShapes
from folding.sources.tensorflow.graph.symbolic_sizes import SymbolicSizes
from folding.sources.tensorflow.graph.tf_graph import Node, TfGraph, data_inputs, dtype_of, split
from folding.sources.tensorflow.graph.weights import read_slot
from folding.sources.tensorflow.rewrite import channels_last, dilated_conv, space_to_batch
from folding.sources.tensorflow.rewrite.quantization import fake_quant, quantize_dequantize

_INT32, _TEXT, _INT64 = 3, 7, 9
_GENERATORS = frozenset(
    {"TruncatedNormal", "ParameterizedTruncatedNormal", "StatefulTruncatedNormal", "StatefulStandardNormalV2",
     "StatefulUniform", "StatefulUniformInt", "StatefulUniformFullInt", "RandomGamma", "RandomPoissonV2"}
)  # fmt: skip


class Spelling:
    """What a step sees: the graph, its shapes as they were before the steps, and the weights' values."""

    def __init__(self, prepared: Prepared, weights: Weights) -> None:
        """Nothing is inferred or read before a step asks."""
        self.graph: TfGraph = prepared.graph
        self._prepared, self._weights = prepared, weights

    @cached_property
    def shapes(self) -> StaticShapes:
        """Static shapes."""
        return StaticShapes(self.graph)

    def value(self, ref: str) -> np.ndarray | None:
        """The value of a weight or of a small constant expression; None for what is computed at run time."""
        name = split(ref)[0]
        for _ in range(16):
            node = self.graph.nodes.get(name)
            if node is None or node.op != "Identity":
                break
            name = split(data_inputs(node)[0])[0]
        held = self._prepared
        if name in held.slots:
            return read_slot(self._weights, held.slots[name])
        for arrays in (held.constants, held.missing):
            if name in arrays:
                return arrays[name]
        return evaluate(self.graph, name)


def spell(prepared: Prepared, weights: Weights) -> None:
    """Run `STEPS` over `prepared.graph`, in place."""
    state = Spelling(prepared, weights)
    for step in STEPS:
        step(state)


def _biases_behind_transposed_convolutions(state: Spelling) -> None:
    """tf2onnx merges the bias into a ConvTranspose, then crops or pads it with zeros, which have no bias."""
    graph = state.graph
    for node in list(graph.nodes.values()):
        if node.op != "BiasAdd" or channels_last.is_channels_first(node):
            continue
        source = graph.nodes.get(split(data_inputs(node)[0])[0])
        if source is None or source.op not in transposed_conv.OPS or transposed_conv.PADS in source.attr:
            continue
        if _sized_at_run_time(graph, source):
            _along_the_last_axis(node)


def _biases_along_the_width(state: Spelling) -> None:
    """tf2onnx would merge them into the Conv, whose bias lies along the channels."""
    for node in state.graph.nodes.values():
        if node.op == "BiasAdd" and channels_last.is_bias_of_the_width(state.graph, node):
            _along_the_last_axis(node)


def _along_the_last_axis(node: Node) -> None:
    """Make a channels-last BiasAdd the sum that it is."""
    node.op = "AddV2"
    dtype = dtype_of(node)
    node.attr.clear()
    node.attr["T"].type = dtype


def _paddings_of_transposed_convolutions(state: Spelling) -> None:
    """tf2onnx computes them at run time, and gives negative ones where a kernel is shorter than its step."""
    for node in list(state.graph.nodes.values()):
        if node.op in transposed_conv.OPS:
            at_run_time = _sized_at_run_time(state.graph, node)
            transposed_conv.mark(state.graph, state.shapes, node, at_run_time=at_run_time)


def _transposed_convolutions(state: Spelling) -> None:
    """tf2onnx takes dimensions 1 and 2 for the spatial ones in either layout."""

    def wanted(node: Node) -> bool:
        return (
            node.op in transposed_conv.OPS
            and transposed_conv.PADS not in node.attr
            and _sized_at_run_time(state.graph, node)
        )

    channels_last.rewrite(state.graph, wanted)


def _biases_along_channels(state: Spelling) -> None:
    """tf2onnx reshapes a channels-first bias only where it is a constant."""
    graph = state.graph
    readers = graph.consumers()
    for node in list(graph.nodes.values()):
        if node.op != "BiasAdd" or not channels_last.is_channels_first(node):
            continue
        ref = data_inputs(node)[0]
        source = graph.nodes.get(split(ref)[0])
        merged = source is not None and source.op == "Conv2D" and len(readers.get(source.name, ())) == 1
        if not merged:  # a Conv2D takes it as its own bias, which has no layout
            channels_last.bias_along_channels(graph, node, state.shapes.rank(ref))


def _fake_quantizations(state: Spelling) -> None:
    """A QuantizeLinear pair rounds otherwise; see `rewrite.quantization.fake_quant`."""
    for node in list(state.graph.nodes.values()):
        if node.op not in fake_quant.OPS:
            continue
        held = fake_quant.limits_of(node)
        low, high = held or (state.value(ref) for ref in data_inputs(node)[1:3])
        if low is None or high is None:
            raise UnsupportedModel(
                f"The range of the fake quantization {node.name!r} is computed at run time.",
                code="fake_quant_range",
                layer=node.name,
                hint="Export the model in inference mode, in which the ranges are stored variables.",
            )
        fake_quant.spell(state.graph, node, low, high)


def _quantized_and_back(state: Spelling) -> None:
    """tf2onnx writes a pair of 8 bits; see `rewrite.quantization.quantize_dequantize`."""
    for node in list(state.graph.nodes.values()):
        if node.op not in quantize_dequantize.OPS:
            continue
        if not _quantized_in_floats(state, node):
            raise UnsupportedModel(
                f"The range or the bits of the quantization {node.name!r} ({node.op}) are computed at "
                "run time, or are none.",
                code="fake_quant_range",
                layer=node.name,
                hint="Export the model in inference mode with range_given=True and constant ranges, or strip "
                "the quantization.",
            )


def _quantized_in_floats(state: Spelling, node: Node) -> bool:
    inputs = data_inputs(node)
    low, high = (state.value(ref) for ref in inputs[1:3])
    bits = state.value(inputs[3]) if node.op.endswith("V3") else np.asarray(node.attr["num_bits"].i or 8)
    rank = state.shapes.rank(inputs[0])
    if low is None or high is None or bits is None or not quantize_dequantize.is_given(node):
        return False
    if rank is None and quantize_dequantize.axis_of(node) >= 0:
        return False
    return quantize_dequantize.spell(state.graph, node, low, high, int(bits.item()), rank or 0)


def _dilated_convolutions(state: Spelling) -> None:
    """tf2onnx knows them where their paddings are constants, or none at all."""
    if any(node.op == "SpaceToBatchND" for node in state.graph.nodes.values()):
        dilated_conv.rewrite(state.graph, SymbolicSizes(state.graph, state.shapes))


def _batches_of_space(state: Spelling) -> None:
    """What no dilated convolution explains: run-time paddings and crops are converted wrongly."""
    for node in list(state.graph.nodes.values()):
        if node.op not in space_to_batch.OPS or evaluate(state.graph, data_inputs(node)[2]) is not None:
            continue
        block, rank = evaluate(state.graph, data_inputs(node)[1]), state.shapes.rank(data_inputs(node)[0])
        if block is None or rank is None:
            raise UnsupportedModel(
                f"The block shape or the rank of {node.name!r} ({node.op}) is unknown.",
                code="unsupported_op",
                layer=node.name,
                hint="Give the input's shape with --input NAME=SHAPE, or name earlier outputs with --output.",
            )
        space_to_batch.spell(state.graph, node, [int(b) for b in block.reshape(-1)], rank)


def _random_numbers(state: Spelling) -> None:
    """tf2onnx takes generators without inputs, but for `Random*`, for constants: one draw for ever."""
    for node in state.graph.nodes.values():
        if node.op in _GENERATORS or (node.op == "Multinomial" and _without_inputs(state.graph, node)):
            raise UnsupportedModel(
                f"{node.name!r} ({node.op}) draws random numbers, and no ONNX operator draws from the same "
                "distribution.",
                code="unsupported_op",
                layer=node.name,
                hint=operation_hints.hint([node.op]),
                details={"ops": [node.op]},
            )


def _shapes_of_numbers(state: Spelling) -> None:
    """A stateless generator of a fixed seed is a constant as soon as its shape is one."""
    nodes = list(state.graph.nodes.values())
    if not any(node.op.startswith(("StatelessRandom", "StatelessTruncated")) for node in nodes):
        return
    for node in nodes:
        if node.op == "Shape" and (dims := state.shapes.of(data_inputs(node)[0])) is not None:
            sizes = [d for d in dims if d is not None]
            if len(sizes) == len(dims):
                wide = node.attr["out_type"].type == _INT64
                state.graph.set_constant(node.name, np.asarray(sizes, np.int64 if wide else np.int32))


def _without_inputs(graph: TfGraph, node: Node) -> bool:
    names = graph.ancestors([node.name], control=False)
    return not any(graph.nodes[name].op.startswith("Placeholder") for name in names)


def _single_buckets(state: Spelling) -> None:
    """The hash of any text modulo one is 0: what StaticVocabularyTable computes for one bucket."""
    graph = state.graph
    for node in list(graph.nodes.values()):
        if not node.op.startswith("StringToHashBucket") or node.attr["num_buckets"].i != 1:
            continue
        ref = data_inputs(node)[0]
        shape = graph.add("Shape", f"{node.name}/shape", [ref], T=_TEXT, out_type=_INT32).name
        zero = graph.add("Const", f"{node.name}/zero").name
        graph.set_constant(zero, np.asarray(0, np.int64))
        node.op = "Fill"
        node.attr.clear()
        node.attr["T"].type, node.attr["index_type"].type = _INT64, _INT32
        del node.input[:]
        node.input.extend([shape, zero])


def _sized_at_run_time(graph: TfGraph, node: Node) -> bool:
    return evaluate(graph, data_inputs(node)[0]) is None


STEPS: tuple[Callable[[Spelling], None], ...] = (
    _random_numbers,
    _shapes_of_numbers,
    _single_buckets,
    _dilated_convolutions,
    _batches_of_space,
    _paddings_of_transposed_convolutions,
    _biases_behind_transposed_convolutions,
    _biases_along_the_width,
    _transposed_convolutions,
    _biases_along_channels,
    _fake_quantizations,
    _quantized_and_back,
)
