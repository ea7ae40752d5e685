"""Declared dimensions of ONNX values and tensors, compared with limits and with the stored values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

from folding.sources.gates.limits import Limits, corrupt, refuse, shown
from folding.sources.gates.onnx.external_data import EXTERNAL, check_external

# TensorProto.DataType -> bits of one element in raw_data
_BITS: Final = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128,
    16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
# TensorProto.DataType -> where values are stored that are not raw, elements in one of them, values for one
_FIELDS: Final = {
    1: ("float_data", 1, 1), 14: ("float_data", 1, 2), 11: ("double_data", 1, 1), 15: ("double_data", 1, 2),
    7: ("int64_data", 1, 1), 12: ("uint64_data", 1, 1), 13: ("uint64_data", 1, 1), 8: ("string_data", 1, 1),
    **dict.fromkeys((2, 3, 4, 5, 6, 9, 10, 16, 17, 18, 19, 20, 24), ("int32_data", 1, 1)),
    **dict.fromkeys((21, 22, 23), ("int32_data", 2, 1)), **dict.fromkeys((25, 26), ("int32_data", 4, 1)),
}  # fmt: skip


class TensorCheck:
    """Check tensors of one model.

    folder: of the model. root: of the upload. payloads: bytes of each weight that was cut out of the message.
    """

    def __init__(self, limits: Limits, folder: Path, root: Path, payloads: dict[str, int]) -> None:
        self.limits, self.folder, self.root, self.payloads = limits, folder, root.resolve(), payloads
        self.stored = 0  # elements that the model stores

    def dims(self, name: str, dims: list[int], limit: int, *, positive: bool = True) -> int:
        """Check rank and size against limits; return the number of elements."""
        if len(dims) > self.limits.tensor_rank:
            self._too_large(name, f"has rank {len(dims)}", self.limits.tensor_rank)
        if positive and any(d < 0 for d in dims):
            corrupt(f"{shown(name)!r} declares a negative dimension.", name=name)
        elements = math.prod(max(1, d) for d in dims)
        if elements > limit:
            self._too_large(name, f"declares {elements} elements", limit)
        return math.prod(max(0, d) for d in dims)

    def _too_large(self, name: str, what: str, limit: int) -> None:
        refuse(
            "unsafe_dimensions", f"{shown(name)!r} {what}; at most {limit} may be.", name=name, limit=limit,
            hint="Make the dimension dynamic, or use smaller ones.",
        )  # fmt: skip

    def tensor(self, tensor: Any, name: str, *, detached: bool = False) -> None:
        """Declared dimensions against stored values."""
        elements = self.dims(name, list(tensor.dims), self.limits.tensor_elements)
        self._values(tensor, name, elements, detached=detached)
        self.stored += elements

    def _values(self, tensor: Any, name: str, elements: int, *, detached: bool) -> None:
        bits = _BITS.get(tensor.data_type, 0)
        if tensor.data_location == EXTERNAL or tensor.external_data:
            least = -(-elements * bits // 8) if bits else None
            check_external(tensor, name, least, self.folder, self.root)
            return
        raw = self.payloads.get(name, len(tensor.raw_data)) if detached else len(tensor.raw_data)
        if raw:
            if not bits:
                corrupt(f"{shown(name)!r} has raw data and no element type for it.", name=name)
            if raw != -(-elements * bits // 8):
                corrupt(f"{shown(name)!r} stores {raw} bytes for {elements} elements.", name=name)
            return
        field, each, values = _FIELDS.get(tensor.data_type, ("", 1, 1))
        if not field:
            corrupt(f"{shown(name)!r} is of no element type that is known.", name=name)
        stored, wanted = len(getattr(tensor, field)), -(-elements // each) * values
        if elements and stored != wanted:
            corrupt(
                f"{shown(name)!r} stores {stored} values in {field} for {elements} elements, not {wanted}.",
                name=name,
            )

    def sparse(self, sparse: Any) -> None:
        """Check a sparse tensor: its dense shape, values and indices."""
        name = sparse.values.name
        elements = self.dims(name, list(sparse.dims), self.limits.splat_elements)
        self.tensor(sparse.values, name)
        self.tensor(sparse.indices, name + " (indices)")
        if elements < 0:
            corrupt(f"{shown(name)!r} has no dense shape.", name=name)
