"""Initializers that are also graph inputs: a caller may override them, unless told otherwise."""

from __future__ import annotations

import onnx_ir as ir


def freeze_inputs(model: ir.Model) -> bool:
    """Take every input that has a value off the interface, so that the value is a constant."""
    graph = model.graph
    frozen = [value for value in graph.inputs if value.is_initializer()]
    for value in frozen:
        graph.inputs.remove(value)
    return bool(frozen)
