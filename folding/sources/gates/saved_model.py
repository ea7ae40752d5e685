"""SavedModels: the message, the assets and the variables' files, before TensorFlow sees any of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from folding.sources.gates.graphdef import check_graphdef
from folding.sources.gates.limits import LIMITS, Limits, corrupt, refuse, shown


def check_saved_model(root: Path, files: Iterable[str], limits: Limits = LIMITS) -> None:
    """Check the SavedModel below `root`, whose listing is `files`. Raises UnsafeModel, CorruptModel."""
    names = [name for name in files if name.rsplit("/", 1)[-1] == "saved_model.pb"]
    for name in names:
        check_message(_parse(root / name), limits)


def check_message(message: Any, limits: Limits = LIMITS) -> None:
    """Check a parsed SavedModel message: every MetaGraph, served or not."""
    for meta in message.meta_graphs:
        check_graphdef(meta.graph_def, limits, purpose="serving")
        for asset in meta.asset_file_def:
            _check_asset(asset.filename)
        _check_objects(meta, limits)


def _check_asset(filename: str) -> None:
    parts = filename.split("/")
    if filename.startswith("/") or ".." in parts or "\\" in filename or "\0" in filename:
        refuse(
            "unsafe_asset_path", f"The asset {shown(filename)!r} points outside the model's folder.",
            name=filename, hint="Export the model again; assets are plain names below assets/.",
        )  # fmt: skip


def _check_objects(meta: Any, limits: Limits) -> None:
    """The object graph of TensorFlow 2 is walked by loaders; its indices must stay inside it."""
    nodes = meta.object_graph_def.nodes
    if len(nodes) > limits.nodes:
        refuse(
            "unsafe_graph_size", f"The object graph has {len(nodes)} objects.", limit=limits.nodes,
            hint="Export the inference model only.",
        )  # fmt: skip
    for node in nodes:
        for child in node.children:
            if not 0 <= child.node_id < len(nodes):
                corrupt(f"The object {shown(child.local_name)!r} points outside the object graph.")


def _parse(path: Path) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel()
    try:
        message.ParseFromString(path.read_bytes())
    except DecodeError as error:
        corrupt(f"{path.name!r} is no SavedModel: {error}.", name=path.name)
    return message
