"""TensorFlow's own answer: the saved graph in a session, same weights, inference mode.

It runs `Prepared.readable`: the graph in which only mode flags were set and variables became fed values. Its
conditionals are still TensorFlow's to decide, so a mistake in resolving them shows as a difference.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from folding.ir.types import Feeds
from folding.sources.tensorflow.convert.prepare_inference_graph import Prepared
from folding.sources.tensorflow.graph import protobuf_io
from folding.sources.tensorflow.graph.program import Port, Slot, Weights
from folding.sources.tensorflow.graph.runtime import tensorflow
from folding.sources.tensorflow.graph.tf_graph import TfGraph
from folding.sources.tensorflow.graph.weights import read_slot
from folding.sources.tensorflow.rewrite import channels_last


class TensorFlowReference:
    """A session over the readable graph, opened at the first run."""

    name = "tensorflow"
    precision = "float32"

    def __init__(self, prepared: Prepared, weights: Weights, tables: dict[str, Any] | None = None) -> None:
        """Nothing is imported or read yet."""
        self._graph: TfGraph | None = prepared.readable
        self._inputs: list[Port] = prepared.inputs
        self._outputs: list[Port] = prepared.outputs
        self._slots: dict[str, Slot] = dict(prepared.reference_slots)
        self._arrays: dict[str, np.ndarray] = {**prepared.constants, **prepared.missing}
        self._weights = weights
        self._tables = tables or {}
        self._session: Any = None
        self._feeds: dict[str, np.ndarray] = {}

    def run(self, feeds: Feeds) -> Feeds:
        """Outputs by the ONNX names for inputs by the ONNX names.

        Raises: RuntimeError where TensorFlow has no kernel for it here.
        """
        tf = tensorflow()
        if self._session is None:
            self._open()
        values = dict(self._feeds)
        for port in self._inputs:
            values[port.tensor] = _as_fed(feeds[port.name])
        try:
            results = self._session.run([f"{port.tensor}:0" for port in self._outputs], values)
        except tf.errors.OpError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise RuntimeError(
                f"TensorFlow cannot run this model here: {' '.join(lines[:4])[:300]}"
            ) from error
        return {
            port.name: as_text(np.asarray(result))
            for port, result in zip(self._outputs, results, strict=True)
        }

    def _open(self) -> None:
        tf = tensorflow()
        assert self._graph is not None
        channels_last.rewrite(self._graph)  # CPU kernels know channels-last data only
        graph_def = self._graph.to_graph_def()
        protobuf_io.gate("graphdef", "check_inference", graph_def)
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(graph_def, name="")
        config = tf.compat.v1.ConfigProto()
        # what lies in the bodies of loops is turned round by grappler, where it can
        config.graph_options.rewrite_options.cpu_layout_conversion = 1  # NCHW_TO_NHWC
        # constant folding of weights that are fed is impossible anyway, and remapping would fuse batch norms
        config.graph_options.rewrite_options.remapping = 2  # OFF
        filled = self._fill_tables(tf, graph)
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        self._session.run(filled)
        present = {operation.name for operation in graph.get_operations()}
        for name, slot in self._slots.items():
            if name in present:
                self._feeds[f"{name}:0"] = read_slot(self._weights, slot)
        for name, value in self._arrays.items():
            if name in present:
                self._feeds[f"{name}:0"] = value
        self._graph = None

    def _fill_tables(self, tf: Any, graph: Any) -> list[Any]:
        """Operations that fill lookup tables with their constants; the model's own initializers never run."""
        filled = []
        with graph.as_default():
            for operation in graph.get_operations():
                if operation.type != "HashTableV2":
                    continue
                name = operation.get_attr("shared_name").decode() or operation.name
                if name in self._tables:
                    keys, values = self._tables[name]
                    handle = operation.outputs[0]
                    filled.append(
                        tf.raw_ops.LookupTableImportV2(table_handle=handle, keys=keys, values=values)
                    )
        return filled

    def close(self) -> None:
        """Close the session and drop the weights."""
        if self._session is not None:
            self._session.close()
            self._session = None
        self._feeds.clear()
        self._arrays.clear()


def as_text(array: np.ndarray) -> np.ndarray:
    """TensorFlow's strings are bytes, ONNX Runtime's are text."""
    if array.dtype.kind not in "OS":
        return array
    texts = [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in array.flat]
    return np.array(texts, dtype=object).reshape(array.shape)


def _as_fed(value: np.ndarray) -> np.ndarray:
    """Strings arrive as numpy str; TensorFlow feeds objects."""
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "US" else array
