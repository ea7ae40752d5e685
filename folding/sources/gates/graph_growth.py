"""What a node can produce from constants alone: a few bytes that a framework blows up to gigabytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from folding.sources.gates.limits import Limits, refuse, shown

_ASSIGNS: Final = frozenset({"Assign", "AssignVariableOp"})
_SIZES: Final = {  # op -> input that holds the shape of the result
    "Fill": 0, "BroadcastTo": 1, "RandomUniform": 0, "RandomStandardNormal": 0, "TruncatedNormal": 0,
    "RandomUniformInt": 0, "StatelessRandomUniform": 0, "StatelessRandomUniformV2": 0,
    "StatelessRandomNormal": 0, "StatelessRandomNormalV2": 0, "StatelessTruncatedNormal": 0, "Empty": 0,
    "ScatterNd": 2, "SparseToDense": 1, "TensorListReserve": 1,
}  # fmt: skip


def initial_values(nodes: list[Any]) -> set[str]:
    """What only initializes variables: a table of embeddings may be huge, and is never made anew."""
    readers: dict[str, list[Any]] = {}
    for node in nodes:
        for ref in node.input:
            readers.setdefault(ref.removeprefix("^").split(":")[0], []).append(node)
    spared: set[str] = set()
    for node in reversed(list(_inputs_first(nodes, {node.name: node for node in nodes}))):
        used = readers.get(node.name, ())
        if used and all(user.op in _ASSIGNS or user.name in spared for user in used):
            spared.add(node.name)
    return spared


def check_growth(nodes: list[Any], where: str, limits: Limits) -> None:
    """Constant operands that make one node, or a chain of nodes, produce far more than is stored."""
    by_name = {node.name: node for node in nodes}
    sizes: dict[str, int] = {}
    # what the file itself stores it may hand on: a dense layer of VGG19 alone has 2^26.6 weights
    bound = max(limits.computed_elements, sum(map(stored_elements, nodes)))
    for node in _inputs_first(nodes, by_name):
        size = _grown(node, by_name, sizes)
        if size is None:
            continue
        if size > bound:
            refuse(
                "unsafe_expansion",
                f"Node {shown(node.name)!r} ({shown(node.op)}) makes {size} elements out of constants.",
                name=node.name,
                limit=bound,
                hint="Compute the value from the input's shape, or use a smaller size.",
            )
        sizes[node.name] = size


def _grown(node: Any, by_name: dict[str, Any], sizes: dict[str, int]) -> int | None:
    """Elements of the result where constants alone decide it, else None."""
    inputs = [ref for ref in node.input if not ref.startswith("^")]
    if node.op == "Const":
        return None if "value" not in node.attr else _elements(node.attr["value"].tensor)
    if node.op in _SIZES and len(inputs) > _SIZES[node.op]:
        dims = _constant(inputs[_SIZES[node.op]], by_name)
        return None if dims is None else math.prod(max(0, int(dim)) for dim in dims)
    if node.op == "Tile" and len(inputs) == 2:
        times, base = _constant(inputs[1], by_name), _size_of(inputs[0], sizes)
        return None if times is None or base is None else base * math.prod(max(0, int(t)) for t in times)
    if node.op == "Range" and len(inputs) == 3:
        parts = [_constant(ref, by_name) for ref in inputs]
        if any(part is None or not part for part in parts):
            return None
        start, stop, step = (float(part[0]) for part in parts if part)
        return int(abs((stop - start) / step)) if step and math.isfinite((stop - start) / step) else None
    if node.op in ("LinSpace", "OneHot") and len(inputs) >= 3:
        count = _constant(inputs[2 if node.op == "LinSpace" else 1], by_name)
        base = 1 if node.op == "LinSpace" else _size_of(inputs[0], sizes)
        return None if not count or base is None else base * max(0, int(count[0]))
    if node.op in ("ConcatV2", "Concat", "Pack", "AddV2", "Add", "Mul", "Sub", "Identity", "Reshape"):
        held = [_size_of(ref, sizes) for ref in inputs]
        known = [size for size in held if size is not None]
        if len(known) != len(held) or not known:
            return None
        return sum(known) if node.op in ("ConcatV2", "Concat", "Pack") else max(known)
    return None


def _size_of(ref: str, sizes: dict[str, int]) -> int | None:
    return sizes.get(ref.split(":")[0])


def stored_elements(node: Any) -> int:
    """Elements whose bytes the file holds, of a constant that is no splat; 0 for any other node."""
    if node.op != "Const" or "value" not in node.attr:
        return 0
    tensor = node.attr["value"].tensor
    elements = _elements(tensor)
    return elements if len(tensor.tensor_content) >= max(elements, 2) else 0


def _elements(tensor: Any) -> int:
    return math.prod(max(0, dim.size) for dim in tensor.tensor_shape.dim)


def _constant(ref: str, by_name: dict[str, Any]) -> list[float] | None:
    """Values of a small integer or float constant, in full; None for anything else."""
    node = by_name.get(ref.split(":")[0])
    if node is None or node.op != "Const" or "value" not in node.attr:
        return None
    tensor = node.attr["value"].tensor
    count = _elements(tensor)
    if count > 64:
        return None
    kinds = {1: ("f", "float_val"), 2: ("d", "double_val"), 3: ("i", "int_val"), 9: ("q", "int64_val")}
    if tensor.dtype not in kinds:
        return None
    code, field = kinds[tensor.dtype]
    if tensor.tensor_content:
        values: list[float] = list(memoryview(tensor.tensor_content).cast(code))  # type: ignore[call-overload]
    else:
        values = list(getattr(tensor, field))
    return (values + values[-1:] * (count - len(values)))[:count] if values else None


def _inputs_first(nodes: list[Any], by_name: dict[str, Any]) -> Iterator[Any]:
    """Each node after its inputs; back edges of loops are cut."""
    done: set[str] = set()
    for root in nodes:
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if ready:
                yield node
                continue
            if node.name in done:
                continue
            done.add(node.name)
            stack.append((node, True))
            for ref in node.input:
                source = by_name.get(ref.lstrip("^").split(":")[0])
                if source is not None and source.name not in done:
                    stack.append((source, False))
