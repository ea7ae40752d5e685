"""Static shapes of a graph's tensors, by TensorFlow's own shape inference; nothing is run."""

from __future__ import annotations

from folding.sources.tensorflow.graph import protobuf_io
from folding.sources.tensorflow.graph.runtime import tensorflow
from folding.sources.tensorflow.graph.tf_graph import TfGraph, canonical, join

Shape = list[int | None] | None


class StaticShapes:
    """Shapes by reference; an unknown rank is None."""

    def __init__(self, graph: TfGraph) -> None:
        """Import the graph, which was gated by `check_inference`. A graph that is refused has no shapes."""
        self._held: dict[str, Shape] = {}
        graph_def = graph.to_graph_def()
        protobuf_io.gate("graphdef", "check_inference", graph_def)
        tf = tensorflow()
        own = tf.Graph()
        try:
            with own.as_default():
                tf.import_graph_def(graph_def, name="")
        except (ValueError, TypeError, KeyError, tf.errors.OpError):
            return  # the converter imports it again, and says why it cannot
        for operation in own.get_operations():
            for index, output in enumerate(operation.outputs):
                shape = output.shape
                dims = None if shape.rank is None else [None if d is None else int(d) for d in shape]
                self._held[join(operation.name, index)] = dims

    def of(self, ref: str) -> Shape:
        """The shape of a tensor; None where its rank is unknown."""
        return self._held.get(canonical(ref))

    def rank(self, ref: str) -> int | None:
        """The number of dimensions, or None."""
        shape = self.of(ref)
        return None if shape is None else len(shape)
