"""A Keras model as a program: one tracing in inference mode, its variables under their own names."""

from __future__ import annotations

import re
from importlib import metadata
from typing import Any

import numpy as np

from folding.errors import AmbiguousModel, UnsupportedModel
from folding.options import FoldOptions
from folding.report import TensorInfo
from folding.sources.tensorflow.graph.program import Port, Program, Slot
from folding.sources.tensorflow.graph.runtime import quiet, tensorflow
from folding.sources.tensorflow.graph.tf_graph import TfGraph, shape_attr
from folding.sources.tensorflow.graph.weights import ArrayWeights
from folding.sources.tensorflow.infer import signature
from folding.sources.tensorflow.keras_time_distributed import merged_steps
from folding.sources.tensorflow.rewrite import channels_last


def trace(model: Any, flavour: str, options: FoldOptions) -> Program:
    """One tracing in inference mode; captured variables become variable nodes under their own names."""
    tf = tensorflow()
    inputs = list(getattr(model, "inputs", None) or [])
    if not inputs:
        raise AmbiguousModel(
            "The model was never built, so its input shape is unknown.",
            code="unbuilt_model",
            hint="Call the model once on data before saving it.",
        )
    names = input_names(model, inputs)
    specs = [
        tf.TensorSpec([None if d is None else int(d) for d in t.shape], t.dtype, name=_safe(name))
        for t, name in zip(inputs, names, strict=True)
    ]

    def call(*arguments: Any) -> Any:
        packed = arguments[0] if len(arguments) == 1 else list(arguments)
        structure = getattr(model, "_inputs_struct", None)
        if structure is not None:
            packed = tf.nest.pack_sequence_as(structure, list(arguments))
        return tf.nest.flatten(model(packed, training=False))

    with quiet(), merged_steps(model):
        concrete = tf.function(call, autograph=False).get_concrete_function(*specs)
    return _program(model, flavour, concrete, names, options)


def input_names(model: Any, inputs: list[Any]) -> list[str]:
    held = list(getattr(model, "input_names", None) or [])
    return held if len(held) == len(inputs) else [str(t.name).split(":")[0] for t in inputs]


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]", "_", name)


def _program(model: Any, flavour: str, concrete: Any, names: list[str], options: FoldOptions) -> Program:
    graph_def = concrete.graph.as_graph_def()
    graph = TfGraph(graph_def)
    variables = _variables(model)
    arrays: dict[str, Any] = {}
    slots: dict[str, Slot] = {}
    momenta = _momenta(model)
    for external, internal in concrete.graph.captures:
        node = internal.op.name
        if internal.dtype == tensorflow().resource:
            variable = variables.get(id(external)) or _by_handle(concrete, external)
            if variable is None:
                raise UnsupportedModel(
                    f"The model holds a lookup table or another resource ({node!r}) that is no variable.",
                    code="unsupported_resource",
                    layer=node,
                    hint="Export a SavedModel (model.export, or model.save of Keras 2), which holds its "
                    "contents, or save the part of the model that lies behind it.",
                )
            name = _bind_variable(graph, node, *variable)
            arrays[name] = variable[0].numpy
            slots[name] = Slot(name)
        else:
            graph.set_constant(node, np.asarray(external))
    weights = _LazyArrays(arrays, {name: graph.nodes[name] for name in arrays})
    free = [tensor for tensor in concrete.inputs if tensor.dtype != tensorflow().resource][: len(names)]
    inputs = [Port(tensor.name, name) for tensor, name in zip(free, names, strict=True)]
    outputs = [
        Port(tensor.name, name)
        for tensor, name in zip(concrete.outputs, _output_names(model, len(concrete.outputs)), strict=True)
    ]
    program = Program(graph, weights, slots=slots, framework=_framework(flavour), momenta=momenta)
    program.inference_only = flavour == "keras"
    program.notes += _biases_along_the_width(graph)
    program.signatures = {
        "serving_default": {
            "inputs": [_info(graph, port) for port in inputs],
            "outputs": [_info(graph, port) for port in outputs],
        }
    }
    program.inputs, program.outputs = signature.choose(graph, options, inputs=inputs, outputs=outputs)
    return program


def _biases_along_the_width(graph: TfGraph) -> list[str]:
    """A note for each channels-first convolution whose bias Keras 3 adds to the wrong dimension."""
    layers = [
        node.name.rsplit("/", 1)[0]
        for node in graph.nodes.values()
        if node.op == "BiasAdd" and channels_last.is_bias_of_the_width(graph, node)
    ]
    told = (
        f"Keras 3 adds the bias of {', '.join(layers[:4])} along the width instead of the channels, since "
        "the two are equally large in channels-first data. The artifact computes the same. Another width, "
        "or data_format='channels_last', gives each channel its bias."
    )
    return [told] if layers else []


def _info(graph: TfGraph, port: Port) -> TensorInfo:
    return signature.info(graph, port)


class _LazyArrays(ArrayWeights):
    """Keras variables: described by their nodes, read by their `numpy`."""

    def __init__(self, arrays: dict[str, Any], nodes: dict[str, Any]) -> None:
        super().__init__(arrays)
        self._kinds = {
            name: (int(node.attr["dtype"].type), tuple(int(d.size) for d in node.attr["shape"].shape.dim))
            for name, node in nodes.items()
        }

    def describe(self, name: str) -> tuple[int, tuple[int, ...]]:
        return self._kinds[name]


def _variables(model: Any) -> dict[int, tuple[Any, str]]:
    """(tf.Variable, name) by the identity of its handle."""
    found = {}
    for variable in [*model.variables, *_seeds(model)]:
        held = getattr(variable, "value", variable)
        held = held if hasattr(held, "handle") else getattr(variable, "_value", variable)
        if hasattr(held, "handle"):
            path = getattr(variable, "path", None) or variable.name
            found[id(held.handle)] = (held, str(path).split(":")[0])
    return found


def _seeds(model: Any) -> list[Any]:
    return list(getattr(model, "non_trainable_variables", []))


def _by_handle(concrete: Any, external: Any) -> tuple[Any, str] | None:
    for variable in concrete.graph.variables:
        if variable.handle is external:
            return variable, variable.name.split(":")[0]
    return None


def _bind_variable(graph: TfGraph, placeholder: str, variable: Any, name: str) -> str:
    """The captured placeholder becomes a VarHandleOp with the variable's own name."""
    graph.nodes.pop(placeholder)
    node = graph.add("VarHandleOp", name, dtype=int(variable.dtype.as_datatype_enum))
    node.attr["shape"].CopyFrom(shape_attr([int(d) for d in variable.shape]))
    graph.rewire({placeholder: node.name})
    return str(node.name)


def _output_names(model: Any, count: int) -> list[str]:
    names = [str(name) for name in (getattr(model, "output_names", None) or [])]
    if len(names) != count or len(set(names)) != count:
        return [f"output_{index}" for index in range(count)]
    return names


def _momenta(model: Any) -> dict[str, float]:
    """Momentum by the name of the moving mean, from the layers themselves."""
    found: dict[str, float] = {}
    stack = list(getattr(model, "layers", []))
    while stack:
        layer = stack.pop()
        stack.extend(getattr(layer, "layers", []))
        mean, momentum = getattr(layer, "moving_mean", None), getattr(layer, "momentum", None)
        if mean is not None and momentum is not None:
            name = str(getattr(mean, "path", None) or mean.name).split(":")[0]
            found[name] = float(momentum)
    return found


def _framework(flavour: str) -> str:
    return f"{flavour} {metadata.version(flavour)}"
