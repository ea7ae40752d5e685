"""Text in ONNX messages must be text.

ONNX's protobufs are of the old syntax, in which a `string` field may hold any bytes; Python then hands out
`bytes` where every reader expects `str`, and the runtime's own errors about such a name cannot be decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from folding.sources.gates.limits import corrupt, shown

_AGAIN = "Export the model again with names in UTF-8."


def check_text(model: Any, serialized: bytes) -> None:
    """Every string field of `model`, which was parsed from `serialized`, is UTF-8. Raises CorruptModel."""
    from google.protobuf.message import DecodeError

    try:
        _strict_model()().ParseFromString(serialized)
    except DecodeError:
        for path, value in _undecodable(model):
            corrupt(f"{path} is not UTF-8 text: {shown(value)!r}.", name=value, hint=_AGAIN)
        raise


@cache
def _strict_model() -> type[Any]:
    """ModelProto under the rules of newer protobufs, whose parser checks text (in C, at no cost)."""
    import onnx
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto()
    onnx.onnx_ml_pb2.DESCRIPTOR.CopyToProto(file)
    file.syntax, file.edition = "editions", descriptor_pb2.EDITION_2023
    file.options.features.utf8_validation = descriptor_pb2.FeatureSet.VERIFY
    for message in file.message_type:
        for field in message.field:
            field.options.ClearField("packed")  # a matter of writing, and of another name in editions
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    found: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName("onnx.ModelProto"))
    return found


def _undecodable(message: Any, path: str = "model") -> Iterator[tuple[str, bytes]]:
    """(where, what) of string fields that Python holds as bytes."""
    for field, held in message.ListFields():
        here = f"{path}.{field.name}"
        for item in held if field.is_repeated else [held]:
            if field.type == field.TYPE_MESSAGE:
                yield from _undecodable(item, here)
            elif field.type == field.TYPE_STRING and isinstance(item, bytes):
                yield here, item
