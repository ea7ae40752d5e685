"""Reading TensorFlow's protobufs from files, binary or text, with one error for damage."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from folding.errors import CorruptModel
from folding.sources.tensorflow.graph.runtime import tensorflow

_TEXT_HEAD = re.compile(
    rb"\s*(#[^\n]*\n\s*)*(node|versions|library|meta_graphs|saved_model_schema_version|"
    rb"meta_info_def|graph_def|collection_def|saver_def)\s*[:{]"
)


def looks_like_text(head: bytes) -> bool:
    """Whether a file begins like a GraphDef, MetaGraphDef or SavedModel in text form."""
    return bool(_TEXT_HEAD.match(head))


def parse(path: Path, kind: str) -> Any:
    """A `GraphDef`, `MetaGraphDef` or `SavedModel` from a file. Raises CorruptModel `corrupt_protobuf`."""
    tensorflow()
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import graph_pb2
    from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

    message = {
        "GraphDef": graph_pb2.GraphDef,
        "MetaGraphDef": meta_graph_pb2.MetaGraphDef,
        "SavedModel": saved_model_pb2.SavedModel,
    }[kind]()
    data = path.read_bytes()
    try:
        if looks_like_text(data[:4096]):
            text_format.Parse(data.decode("utf-8"), message, allow_unknown_field=True)
        else:
            message.ParseFromString(data)
    except (DecodeError, text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptModel(
            f"{path.name!r} is not a complete {kind}: {str(error)[:200] or type(error).__name__}",
            code="corrupt_protobuf",
            hint="The file is truncated or damaged; copy it again.",
        ) from error
    return message


def gate(module: str, function: str, *arguments: Any, **options: Any) -> None:
    """Run a static gate of `folding.sources.gates`."""
    check = getattr(importlib.import_module(f"folding.sources.gates.{module}"), function)
    check(*arguments, **options)
