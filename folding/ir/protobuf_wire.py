"""Protobuf's wire format, as far as weights need it: find them without copying, write them as a stream.

A ModelProto is a list of (tag, payload); `graph` is field 7, its `initializer` entries are field 5, and the
bytes of a tensor are field 9 (`raw_data`) of a TensorProto. Parsing the whole message with protobuf copies
every weight twice and stops at 2 GiB; these functions touch only the lengths in between.
Source of the field numbers: onnx.proto. Source of the encoding: the protobuf encoding guide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MODEL_GRAPH = 7
GRAPH_INITIALIZER = 5
TENSOR_NAME = 8
TENSOR_RAW_DATA = 9
LENGTH_DELIMITED = 2
_FIXED = {1: 8, 5: 4}  # wire type -> bytes
_MAX_VARINT = 10


class WireError(ValueError):
    """The bytes are not a sequence of protobuf fields; the message says at which byte."""


@dataclass(frozen=True)
class Field:
    """One field of a message: `start` is where its tag begins, `begin:end` its payload, within the buffer."""

    number: int
    wire_type: int
    start: int
    begin: int
    end: int


def varint(value: int) -> bytes:
    """Encode a non-negative integer."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def prefix(number: int, length: int) -> bytes:
    """Tag and length of a length-delimited field of `length` bytes."""
    return varint(number << 3 | LENGTH_DELIMITED) + varint(length)


def read_varint(buffer: memoryview, at: int, end: int) -> tuple[int, int]:
    """The number at `at`, and where it ends. Raises: WireError when it does not end before `end`."""
    value = shift = 0
    for position in range(at, min(end, at + _MAX_VARINT)):
        byte = buffer[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
    raise WireError(f"unfinished number at byte {at}")


def fields(buffer: memoryview, begin: int, end: int) -> Iterator[Field]:
    """The fields of the message in `buffer[begin:end]`, in order.

    Raises: WireError when a field runs past `end` or uses a wire type that proto2/3 messages do not have.
    """
    at = begin
    while at < end:
        start = at
        tag, at = read_varint(buffer, at, end)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise WireError(f"field number 0 at byte {start}")
        if wire_type == 0:
            stop = read_varint(buffer, at, end)[1]
        elif wire_type == LENGTH_DELIMITED:
            length, at = read_varint(buffer, at, end)
            stop = at + length
        elif wire_type in _FIXED:
            stop = at + _FIXED[wire_type]
        else:
            raise WireError(f"unknown wire type {wire_type} at byte {start}")
        if stop > end:
            raise WireError(f"field {number} at byte {start} needs {stop - end} bytes more than there are")
        yield Field(number, wire_type, start, at, stop)
        at = stop


@dataclass(frozen=True)
class Detached:
    """A ModelProto without its large weights.

    skeleton: parses as the same model, with `raw_data` missing from the tensors named in `payloads`.
    payloads: initializer name -> (offset, length) of its raw bytes in the original buffer.
    """

    skeleton: bytes
    payloads: dict[str, tuple[int, int]]


def detach(buffer: memoryview, threshold: int = 1024) -> Detached:
    """Take the raw bytes of top-level initializers larger than `threshold` out of a serialized ModelProto.

    Raises: WireError for bytes that are no protobuf message, or two initializers of one name.
    """
    payloads: dict[str, tuple[int, int]] = {}
    parts: list[bytes] = []
    for field in fields(buffer, 0, len(buffer)):
        if field.number != MODEL_GRAPH or field.wire_type != LENGTH_DELIMITED:
            parts.append(bytes(buffer[field.start : field.end]))
            continue
        graph = _detach_graph(buffer, field, threshold, payloads)
        parts += [prefix(MODEL_GRAPH, sum(map(len, graph))), *graph]
    return Detached(b"".join(parts), payloads)


def _detach_graph(
    buffer: memoryview, graph: Field, threshold: int, payloads: dict[str, tuple[int, int]]
) -> list[bytes]:
    parts: list[bytes] = []
    for field in fields(buffer, graph.begin, graph.end):
        if field.number == GRAPH_INITIALIZER and field.end - field.begin > threshold:
            found = _raw_data(buffer, field)
            if found is not None and found[1].end - found[1].begin > threshold:
                name, raw = found
                if name in payloads:
                    raise WireError(f"two initializers are called {name!r}")
                payloads[name] = (raw.begin, raw.end - raw.begin)
                body = bytes(buffer[field.begin : raw.start]) + bytes(buffer[raw.end : field.end])
                parts.append(prefix(GRAPH_INITIALIZER, len(body)) + body)
                continue
        parts.append(bytes(buffer[field.start : field.end]))
    return parts


def _raw_data(buffer: memoryview, tensor: Field) -> tuple[str, Field] | None:
    name, raw = "", None
    for field in fields(buffer, tensor.begin, tensor.end):
        if field.number == TENSOR_NAME:
            name = bytes(buffer[field.begin : field.end]).decode("utf-8", "replace")
        elif field.number == TENSOR_RAW_DATA:
            raw = field
    return (name, raw) if name and raw is not None else None
