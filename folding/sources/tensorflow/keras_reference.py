"""Keras's own answer: the model, called eagerly."""

from __future__ import annotations

from typing import Any

import numpy as np

from folding.ir.types import Feeds
from folding.report import TensorInfo
from folding.sources.tensorflow.graph.runtime import quiet, tensorflow
from folding.sources.tensorflow.keras_trace import input_names


class KerasReference:
    """The Keras model itself, called eagerly with `training=False`."""

    name = "keras"
    precision = "float32"

    def __init__(self, model: Any, inputs: list[TensorInfo], outputs: list[TensorInfo]) -> None:
        """inputs, outputs: of the ONNX graph, in the model's order."""
        self._model = model
        self._inputs = [info.name for info in inputs]
        self._outputs = [info.name for info in outputs]

    def run(self, feeds: Feeds) -> Feeds:
        """Outputs by name."""
        tf = tensorflow()
        names = input_names(self._model, list(self._model.inputs))
        arguments = [tf.constant(feeds[name]) for name in names]
        packed: Any = arguments[0] if len(arguments) == 1 else arguments
        structure = getattr(self._model, "_inputs_struct", None)
        if structure is not None:
            packed = tf.nest.pack_sequence_as(structure, arguments)
        with quiet():
            results = tf.nest.flatten(self._model(packed, training=False))
        return {name: np.asarray(result) for name, result in zip(self._outputs, results, strict=True)}

    def close(self) -> None:
        """Let the model go."""
        self._model = None
