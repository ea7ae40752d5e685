"""Turn what a caller has in memory into a file or folder that the formats can read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from folding.errors import UsageError

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

# Keras models and tf.Module objects are accepted as well; their packages are not imported to say so.
Model: TypeAlias = "str | os.PathLike[str] | bytes | onnx.ModelProto | ir.Model | Any"

_ACCEPTED = (
    "a path, the bytes of a model file, an onnx.ModelProto, an onnx_ir.Model, a keras.Model, "
    "or a tf.Module with a traced function"
)


def as_path(model: Model, folder: Path, role: str = "the model") -> Path:
    """Return a path that holds `model`; objects in memory are written below `folder`.

    Args:
        model: one of the kinds that `Model` names.
        folder: an empty folder that outlives the use of the path.
        role: how an error names the argument.

    Raises: UsageError when the object is of another kind, or cannot be saved.
    """
    if isinstance(model, (str, os.PathLike)):
        return Path(model)
    if isinstance(model, (bytes, bytearray, memoryview)):
        path = folder / "model"
        path.write_bytes(model)
        return path
    for package, write in _WRITERS:
        if _is_from(model, package):
            return write(model, folder)
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    raise UsageError(f"{role} is a {kind}, which cannot be read.", hint=f"Give {_ACCEPTED}.")


def _is_from(model: object, package: str) -> bool:
    """Return whether a class of the object, or one of its bases, belongs to the package."""
    return any(kind.__module__.split(".")[0] == package for kind in type(model).__mro__)


def _write_onnx(model: Any, folder: Path) -> Path:
    import onnx

    path = folder / "model.onnx"
    try:
        data = model.SerializeToString()
    except ValueError:  # protobuf refuses messages past 2 GiB: the weights go beside the graph
        onnx.save(model, path, save_as_external_data=True, location="model.onnx.data")
        return path
    path.write_bytes(data)
    return path


def _write_ir(model: Any, folder: Path) -> Path:
    import onnx_ir as ir

    path = folder / "model.onnx"
    ir.save(model, path, external_data="model.onnx.data")
    return path


def _write_keras(model: Any, folder: Path) -> Path:
    path = folder / "model.keras"
    try:
        model.save(path)
    except (NotImplementedError, ValueError, TypeError) as error:
        raise UsageError(
            f"Keras cannot save the model: {_first_line(error)}",
            hint="Build it by calling it once, or export a SavedModel and give its path.",
        ) from error
    return path


def _write_module(model: Any, folder: Path) -> Path:
    import tensorflow as tf

    path = folder / "saved_model"
    try:
        tf.saved_model.save(model, str(path))
    except (ValueError, TypeError, AssertionError) as error:
        raise UsageError(
            f"TensorFlow cannot save the module: {_first_line(error)}",
            hint="Give it a tf.function with an input_signature, or call it once, before folding.",
        ) from error
    return path


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


# Keras before TensorFlow: a Keras 3 model is also a tf.Module. A model of Keras 2 (`tf_keras`) is saved as
# one: Keras 3 does not read the `.keras` files of Keras 2, and saving HDF5 warns that the format is old.
_WRITERS = (
    ("onnx", _write_onnx),
    ("onnx_ir", _write_ir),
    ("keras", _write_keras),
    ("tensorflow", _write_module),
)
