"""Weights meet the ONNX graph: graph inputs that stand for variables become initializers.

Given:  input `conv/kernel:0`;  t = Transpose(`conv/kernel:0`);  y = Conv(x, t)
Result: initializer `conv/kernel` (oihw, transposed when it is read);  y = Conv(x, `conv/kernel`)

Only layout ops on a single weight are taken in here (Transpose, Reshape, Squeeze, Unsqueeze, Identity);
nothing is
computed, and every tensor is read from its file when somebody asks for its numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from folding.ir.edit import remove_dead_nodes
from folding.sources.tensorflow.convert.hoist_loop_invariants import hoist
from folding.sources.tensorflow.convert.prepare_inference_graph import Prepared
from folding.sources.tensorflow.graph.program import Weights
from folding.sources.tensorflow.graph.tf_graph import dtype_of, numpy_dtype
from folding.sources.tensorflow.graph.weights import read_slot

Reader = Callable[[], np.ndarray]
_LAYOUT = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity"})


def bind(proto: Any, prepared: Prepared, weights: Weights) -> ir.Model:
    """Bind every weight that is an input of `proto`; drops inputs that stand for unused weights."""
    model = ir.serde.deserialize_model(proto)
    graph = model.graph
    hoist(graph)
    readers = _readers(prepared, weights)
    by_input = {f"{name}:0": name for name in readers}
    kept = []
    taken = {value.name for value in graph.inputs if value.name not in by_input}
    taken |= {out.name for node in graph.all_nodes() for out in node.outputs} | set(graph.initializers)
    bound: list[tuple[ir.Value, Reader]] = []
    for value in list(graph.inputs):
        name = by_input.get(value.name or "")
        if name is None:
            kept.append(value)
            continue
        bound.append((value, readers[name]))
        node = prepared.graph.nodes.get(name)
        value.name = name if name not in taken else f"{name}:0"
        _set_tensor(value, readers[name], _numpy_type(prepared, name, node), list(value.shape or ()))
    graph.inputs.clear()  # not `del inputs[:]`: values would go on saying that they are graph inputs
    graph.inputs.extend(kept)
    for value, reader in bound:
        if value.uses() or value.is_graph_output():
            graph.initializers.add(value)
            _absorb_layout(graph, value, reader)
    remove_dead_nodes(graph)
    _name_ports(graph, prepared)
    _unshadow(graph)
    return model


def _name_ports(graph: ir.Graph, prepared: Prepared) -> None:
    """Give inputs and outputs the names that the user knows; inner values that have those step aside."""
    wanted = {port.tensor: port.name for port in prepared.inputs}
    for value in graph.inputs:
        _rename(graph, value, wanted.get(value.name or "", value.name or ""))
    for value, port in zip(graph.outputs, prepared.outputs, strict=True):
        _rename(graph, value, port.name)


def _unshadow(graph: ir.Graph) -> None:
    """Values of loop bodies get names that no outer value has: runtimes refuse shadows."""
    taken = {value.name for value in _values(graph)}
    for body in graph.subgraphs():
        if body is graph:
            continue
        for value in _values(body):
            if value.name not in taken:
                taken.add(value.name)
                continue
            held = value.name in body.initializers
            if held and value.name is not None:
                body.initializers.pop(value.name)
            count = 1
            while f"{value.name}/{count}" in taken:
                count += 1
            value.name = f"{value.name}/{count}"
            taken.add(value.name)
            if held:
                body.initializers.add(value)


def _values(graph: ir.Graph) -> list[ir.Value]:
    made = [output for node in graph for output in node.outputs]
    return [*graph.inputs, *graph.initializers.values(), *made]


def _rename(graph: ir.Graph, value: ir.Value, name: str) -> None:
    if value.name == name:
        return
    others = [*graph.inputs, *graph.initializers.values(), *(o for node in graph for o in node.outputs)]
    for other in others:
        if other.name == name:
            _step_aside(graph, other)
    value.name = name


def _step_aside(graph: ir.Graph, value: ir.Value) -> None:
    held = value.name in graph.initializers
    if held and value.name is not None:
        graph.initializers.pop(value.name)
    value.name = f"{value.name}/inner"
    if held:
        graph.initializers.add(value)


def _readers(prepared: Prepared, weights: Weights) -> dict[str, Reader]:
    readers: dict[str, Reader] = {}
    for name, slot in prepared.slots.items():
        readers[name] = lambda slot=slot: read_slot(weights, slot)  # type: ignore[misc]
    for name, value in {**prepared.constants, **prepared.missing}.items():
        readers[name] = lambda value=value: value  # type: ignore[misc]
    return readers


def _numpy_type(prepared: Prepared, name: str, node: Any) -> np.dtype[Any]:
    if name in prepared.constants:
        return prepared.constants[name].dtype
    return numpy_dtype(dtype_of(node))


def _set_tensor(value: ir.Value, reader: Reader, dtype: np.dtype[Any], shape: list[Any]) -> None:
    kind = ir.DataType.from_numpy(dtype)
    dims = [int(dim) if isinstance(dim, int) else int(dim.value) for dim in shape]
    value.const_value = ir.LazyTensor(
        lambda: ir.Tensor(np.asarray(reader(), order="C"), name=value.name),
        dtype=kind,
        shape=ir.Shape(dims),
        name=value.name,
    )
    value.type = ir.TensorType(kind)
    value.shape = ir.Shape(dims)


def _absorb_layout(graph: ir.Graph, value: ir.Value, reader: Reader) -> None:
    """Fold layout ops that read only this weight into its reader, chains of them too."""
    for use in list(value.uses()):
        node = use.node
        if node.op_type not in _LAYOUT or node.domain not in ("", "ai.onnx") or node.inputs[0] is not value:
            continue
        if node.graph is not graph or node.outputs[0].is_graph_output():
            continue
        layout = _layout(node)
        if layout is None or value.const_value is None:
            continue
        alone = len(value.uses()) == 1
        output = node.outputs[0]
        target = ir.Value(
            name=value.name if alone else f"{value.name}/{node.op_type.lower()}_{_serial(graph, value)}"
        )
        dims = list(layout(np.broadcast_to(np.int8(0), value.const_value.shape.numpy())).shape)
        moved = _after(reader, layout)
        _set_tensor(target, moved, value.const_value.dtype.numpy(), dims)
        output.replace_all_uses_with(target)
        graph.remove(node, safe=True)
        if alone and value.name is not None:
            graph.initializers.pop(value.name)
        graph.initializers.add(target)
        _absorb_layout(graph, target, moved)
        if alone:
            return


def _after(reader: Reader, layout: Callable[[np.ndarray], np.ndarray]) -> Reader:
    return lambda: layout(reader())


def _serial(graph: ir.Graph, value: ir.Value) -> int:
    count = 0
    while any(
        str(name).startswith(f"{value.name}/") and str(name).endswith(f"_{count}")
        for name in graph.initializers
    ):
        count += 1
    return count


def _layout(node: ir.Node) -> Callable[[np.ndarray], np.ndarray] | None:
    """The numpy twin of a layout node, or None where its parameters are not constant."""
    if node.op_type == "Identity":
        return lambda array: array
    if node.op_type == "Transpose":
        attribute = node.attributes.get("perm")
        perm = None if attribute is None else tuple(attribute.as_ints())
        return lambda array: np.transpose(array, perm)
    parameter = _constant(node, 1, "axes")
    if parameter is None:
        return (
            (lambda array: np.squeeze(array)) if node.op_type == "Squeeze" and len(node.inputs) < 2 else None
        )
    if node.op_type == "Reshape":
        if 0 in parameter:
            return None
        return lambda array: np.reshape(array, parameter)
    axes = tuple(parameter)
    return (
        (lambda array: np.squeeze(array, axes))
        if node.op_type == "Squeeze"
        else (lambda array: np.expand_dims(array, axes))
    )


def _constant(node: ir.Node, index: int, attribute: str) -> list[int] | None:
    if attribute in node.attributes and node.op_type != "Reshape":
        return [int(axis) for axis in node.attributes[attribute].as_ints()]
    value = node.inputs[index] if len(node.inputs) > index else None
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else [int(number) for number in tensor.numpy().reshape(-1)]
