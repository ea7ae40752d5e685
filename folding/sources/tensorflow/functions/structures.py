"""Arguments and results of traced functions, as the SavedModel's own description of nested values has them.

Given:  ((TensorSpec x, False), {"mask": TensorSpec m})
Result: x at (0, 0), the value False at (0, 1), m at (1, "mask")

TensorFlow's order: tuples and lists as they stand, dictionaries by sorted key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from folding.sources.tensorflow.graph.tf_graph import shape_list

Path = tuple[str | int, ...]
# Types of tensors that an ONNX graph takes and gives: no resources, variants, references or quantized types.
_DENSE = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 10, 14, 17, 19, 22, 23})
_TENSORS = frozenset({"tensor_spec_value", "bounded_tensor_spec_value"})
_PLAIN = frozenset({"bool_value", "int64_value", "float64_value", "string_value"})


@dataclass(frozen=True)
class Leaf:
    """One end of a nested value: a tensor (`dtype` is not 0), or a plain value.

    dense: whether it is a tensor that ONNX knows; composite tensors (sparse, ragged) are neither.
    """

    path: Path
    dtype: int = 0
    name: str = ""
    shape: tuple[int | None, ...] | None = None
    value: bool | int | float | str | None = None
    composite: bool = False

    @property
    def tensor(self) -> bool:
        """Whether the function takes or gives a tensor here."""
        return self.composite or bool(self.dtype)

    @property
    def dense(self) -> bool:
        """Whether ONNX has a form for that tensor."""
        return self.dtype in _DENSE

    def dims(self) -> str:
        """The shape, for a message."""
        return "of any shape" if self.shape is None else str(["?" if d is None else d for d in self.shape])


def leaves(structure: Any, path: Path = ()) -> Iterator[Leaf]:
    """The ends of a StructuredValue, in TensorFlow's order."""
    kind = structure.WhichOneof("kind")
    if kind in ("list_value", "tuple_value"):
        for index, item in enumerate(getattr(structure, kind).values):
            yield from leaves(item, (*path, index))
    elif kind == "dict_value":
        for key, item in sorted(structure.dict_value.fields.items()):
            yield from leaves(item, (*path, key))
    elif kind == "named_tuple_value":
        for pair in structure.named_tuple_value.values:
            yield from leaves(pair.value, (*path, pair.key))
    elif kind in _TENSORS:
        spec = getattr(structure, kind)
        dims = shape_list(spec.shape)
        yield Leaf(path, spec.dtype or -1, spec.name, None if dims is None else tuple(dims))
    elif kind == "type_spec_value":
        yield Leaf(path, composite=True)
    else:
        yield Leaf(path, value=getattr(structure, kind) if kind in _PLAIN else None)


def result_names(results: list[Leaf]) -> list[str]:
    """What the results are called: by their keys where they have any, else `output_0`, `output_1`, ..."""
    names = []
    for index, leaf in enumerate(results):
        keyed = any(isinstance(part, str) for part in leaf.path)
        names.append("_".join(map(str, leaf.path)) if keyed else f"output_{index}")
    return names


def at_least(one: Leaf, other: Leaf) -> bool:
    """Does the first tensor's shape admit every value that the second one's does?"""
    if one.shape is None or other.shape is None:
        return one.shape is None
    return len(one.shape) == len(other.shape) and all(
        a is None or a == b for a, b in zip(one.shape, other.shape, strict=True)
    )
