"""Read flatbuffers with every offset checked against the file; nothing is trusted.

The flatbuffers library and native readers follow offsets wherever they point (the Python one wraps negative
offsets round to the end of the file). Here an offset outside the file, a table that contradicts its own
table of fields, or more objects than a file may hold raises an error that names what was read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from folding.sources.gates.limits import corrupt, refuse

SCALARS = {"b": 1, "B": 1, "?": 1, "h": 2, "H": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8}
_U16, _U32, _I32 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<i")


@dataclass
class Buffer:
    """The bytes of a file, and how many objects may still be read from it.

    Offsets may be shared, so a small file can describe the square of its own size: the count bounds that.
    """

    data: bytes
    kind: str
    limit: int
    code: str
    left: int = field(init=False)

    def __post_init__(self) -> None:
        """Start with the whole count."""
        self.left = self.limit

    def spend(self, count: int, what: str) -> None:
        """Count `count` objects. Raises UnsafeModel where they are too many."""
        self.left -= count
        if self.left < 0:
            refuse(
                "unsafe_graph_size",
                f"The {self.kind} file describes more than {self.limit} objects (reading {what}).",
                limit=self.limit,
                hint="Export the inference graph only.",
            )

    def damaged(self, what: str) -> None:
        """Raise CorruptModel: `what` does not lie inside the file."""
        corrupt(f"The {self.kind} file contradicts itself: {what}.", code=self.code)

    def number(self, form: struct.Struct, at: int, what: str) -> int:
        """Return one number. Raises CorruptModel where it lies outside."""
        if at < 0 or at + form.size > len(self.data):
            self.damaged(f"{what} lies outside the file")
        return int(form.unpack_from(self.data, at)[0])

    def indirect(self, at: int, what: str) -> int:
        """Return where the offset at `at` leads: always forwards, and into the file."""
        offset = self.number(_U32, at, what)
        target = at + offset
        if offset < 4 or target + 4 > len(self.data):
            self.damaged(f"the offset of {what} leads outside the file")
        return target

    def root(self) -> Table:
        """Return the root table."""
        return Table(self, self.indirect(0, "the root"), "the root")


class Table:
    """One table. A field that is absent has the value that the caller gives as default."""

    def __init__(self, buffer: Buffer, at: int, what: str) -> None:
        """Check the table of fields. Raises CorruptModel."""
        self.buffer, self.at, self.what = buffer, at, what
        buffer.spend(1, what)
        fields = at - buffer.number(_I32, at, what)
        size = buffer.number(_U16, fields, f"the field table of {what}")
        self.size = buffer.number(_U16, fields + 2, f"the field table of {what}")
        if size < 4 or size % 2 or fields + size > len(buffer.data):
            buffer.damaged(f"the field table of {what} has an impossible size")
        if self.size < 4 or at + self.size > len(buffer.data):
            buffer.damaged(f"{what} reaches past the end of the file")
        self.offsets = struct.unpack_from(f"<{(size - 4) // 2}H", buffer.data, fields + 4)
        if any(offset and not 4 <= offset < self.size for offset in self.offsets):
            buffer.damaged(f"a field of {what} lies outside it")

    def _place(self, number: int, size: int, what: str) -> int | None:
        offset = self.offsets[number] if number < len(self.offsets) else 0
        if not offset:
            return None
        if offset + size > self.size:
            self.buffer.damaged(f"{what} of {self.what} lies outside it")
        return self.at + offset

    def scalar(self, number: int, form: str, default: Any, what: str) -> Any:
        """Return a number of struct format `form`."""
        at = self._place(number, SCALARS[form], what)
        return default if at is None else struct.unpack_from(f"<{form}", self.buffer.data, at)[0]

    def _vector(self, number: int, item: int, what: str) -> tuple[int, int] | None:
        """Return where a vector begins and how many items of `item` bytes it has."""
        at = self._place(number, 4, what)
        if at is None:
            return None
        start = self.buffer.indirect(at, f"{what} of {self.what}")
        count = self.buffer.number(_U32, start, what)
        if start + 4 + count * item > len(self.buffer.data):
            self.buffer.damaged(f"{what} of {self.what} has {count} items, more than the file holds")
        return start + 4, count

    def array(self, number: int, dtype: str, what: str) -> np.ndarray | None:
        """Return a vector of numbers as an array over the file's bytes, or None where it is absent."""
        kind = np.dtype(dtype)
        found = self._vector(number, kind.itemsize, what)
        if found is None:
            return None
        self.buffer.spend(1 if kind.itemsize == 1 else found[1], what)
        return np.frombuffer(self.buffer.data, kind, found[1], found[0])

    def text(self, number: int, what: str, longest: int) -> str:
        """Return a string of at most `longest` bytes, empty where it is absent."""
        found = self._vector(number, 1, what)
        if found is None:
            return ""
        start, count = found
        if count > longest:
            refuse(
                "unsafe_name", f"{what} has {count} bytes; the limit is {longest}.",
                hint="Give it a shorter name.",
            )  # fmt: skip
        try:
            return self.buffer.data[start : start + count].decode("utf-8")
        except UnicodeDecodeError:
            self.buffer.damaged(f"{what} of {self.what} is no text")
            raise

    def table(self, number: int, what: str) -> Table | None:
        """Return a table inside this one, or None."""
        at = self._place(number, 4, what)
        return None if at is None else Table(self.buffer, self.buffer.indirect(at, what), what)

    def tables(self, number: int, what: str) -> Iterator[Table]:
        """Yield the tables of a vector of tables."""
        found = self._vector(number, 4, what)
        start, count = found or (0, 0)
        for index in range(count):
            name = f"{what} {index}"
            yield Table(self.buffer, self.buffer.indirect(start + 4 * index, name), name)

    def has(self, number: int) -> bool:
        """Whether the field is there."""
        return number < len(self.offsets) and bool(self.offsets[number])
