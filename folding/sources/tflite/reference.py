"""LiteRT's own answer: its built-in kernels without delegates, one thread, inner tensors kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from folding.ir.types import Feeds
from folding.sources.base import Reference, SourceLayer
from folding.sources.gates.tflite_model import TfliteGraph, TfliteTensor
from folding.sources.gates.tflite_ops import STRING
from folding.sources.tflite.kernels import STEPS
from folding.sources.tflite.rewrite import INTEGERS
from folding.sources.tflite.runtime import litert


class LiteRtReference:
    """An interpreter over a file that the gate has passed, opened at the first run.

    judged: whether end to end its outputs must equal the artifact's up to float rounding. Integer kernels
        round after every operator, so theirs may not; then `layers` carries the judgement.
    """

    precision = "float32"

    def __init__(
        self,
        path: Path,
        graph: TfliteGraph,
        names: Sequence[str],
        *,
        name: str = "litert",
        judged: bool = True,
        fixed: Feeds | None = None,
        outputs: Sequence[str] = (),
        deployed: Reference | None = None,
    ) -> None:
        """Nothing is opened yet. names: of the graph's tensors, as the ONNX graph knows them."""
        self.name, self.judged, self.deployed = name, judged, deployed
        self._path, self._graph, self._names = path, graph, list(names)
        self._fixed = fixed or {}
        wanted = list(outputs) or [self._names[index] for index in graph.outputs]
        self._outputs = {output: self._names.index(output) for output in wanted if output in self._names}
        self._interpreter: Any = None
        self._shapes: list[tuple[int, ...]] | None = None

    def run(self, feeds: Feeds) -> Feeds:
        """Outputs by name. Raises RuntimeError where LiteRT has no kernel or refuses the shapes."""
        self._invoke(feeds)
        return {name: self._value(index) for name, index in self._outputs.items()}

    def layers(self, feeds: Feeds) -> list[SourceLayer]:
        """The value that LiteRT computed for every operator of the main graph, with what it may be off by."""
        self._invoke(feeds)
        found = []
        for operator in self._graph.operators:
            reads = tuple(
                self._names[index]
                for index in operator.inputs
                if index >= 0 and not self._graph.tensors[index].constant
            )
            for index in operator.outputs:
                tensor = self._graph.tensors[index]
                found.append(
                    SourceLayer(
                        name=self._names[index],
                        op=operator.op,
                        value=self._value(index),
                        reads=reads,
                        quantization=_per_tensor(tensor),
                        steps=STEPS.get(operator.op),
                    )
                )
        return found

    def _value(self, index: int) -> np.ndarray:
        value = np.array(self._interpreter.get_tensor(index))
        if self._graph.tensors[index].type == STRING:
            flat = [
                item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
                for item in value.flat
            ]
            return np.array(flat, dtype=object).reshape(value.shape)
        return value

    def _invoke(self, feeds: Feeds) -> None:
        if self._interpreter is None:
            self._open()
        values = [
            feeds.get(self._names[index], self._fixed.get(self._names[index])) for index in self._graph.inputs
        ]
        given = [np.asarray(value) for value in values]
        shapes = [array.shape for array in given]
        if shapes != self._shapes:
            for index, shape in zip(self._graph.inputs, shapes, strict=True):
                self._interpreter.resize_tensor_input(index, shape)
            self._interpreter.allocate_tensors()
            self._shapes = shapes
        for index, array in zip(self._graph.inputs, given, strict=True):
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()

    def _open(self) -> None:
        module = litert()
        self._interpreter = module.Interpreter(
            model_path=str(self._path),
            num_threads=1,
            experimental_op_resolver_type=module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )

    def close(self) -> None:
        """Free the interpreter."""
        self._interpreter = None
        if self.deployed is not None:
            self.deployed.close()


def _per_tensor(tensor: TfliteTensor) -> tuple[float, int] | None:
    """Scale and zero point of a quantized activation; None for floats and plain integers."""
    held = tensor.quantization
    if held is None or tensor.type not in INTEGERS or held.scale.size != 1:
        return None
    return float(held.scale[0]), int(held.zero_point[0])
