"""Keras files that hold weights and no model: `.h5` of Keras 1 and 2, `.weights.h5` of Keras 3.

Keras 3 numbers a layer's arrays (`layers/batch_normalization/vars/0`) and tells the layer's class by its
group and its name by an attribute. The arrays of a batch norm come in one order: gamma, beta, moving_mean,
moving_variance, the first two only where the layer has them.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from folding.errors import CorruptModel
from folding.sources.tensorflow.graph import protobuf_io
from folding.sources.tensorflow.graph.weights import ArrayWeights

HDF5 = b"\x89HDF\r\n\x1a\n"
_NUMBERED = re.compile(r"(?P<group>.*?)(^|/)vars/(?P<index>\d+)$")
_NORM = re.compile(r"(^|/)(sync_)?batch_?norm(alization)?(_\d+)?$")
_ROLES = {
    2: ("moving_mean", "moving_variance"),
    3: ("affine", "moving_mean", "moving_variance"),  # nothing tells gamma from beta
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}


def is_hdf5(path: Path) -> bool:
    """Whether the file begins as HDF5 does."""
    try:
        with path.open("rb") as file:
            return file.read(8) == HDF5
    except OSError:
        return False


def weights_only(path: Path) -> ArrayWeights | None:
    """The arrays of an HDF5 file without `model_config`, by their variables' names; else None.

    Raises: CorruptModel `corrupt_keras`; UnsafeModel of the gate.
    """
    if not is_hdf5(path):
        return None
    protobuf_io.gate("hdf5", "check_h5", path)
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if "model_config" in file.attrs:
                return None
            return ArrayWeights(_named(_arrays(file), _layer_names(file)))
    except OSError as error:
        raise CorruptModel(
            f"{path.name!r} is not a complete HDF5 file: {str(error)[:160]}",
            code="corrupt_keras",
            hint="The file is truncated or damaged; copy it again.",
        ) from error


def _arrays(file: object) -> dict[str, np.ndarray]:
    import h5py

    arrays: dict[str, np.ndarray] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = np.asarray(item)

    file.visititems(visit)  # type: ignore[attr-defined]
    return arrays


def _layer_names(file: object) -> dict[str, str]:
    """Group -> the layer's own name, where the file tells it."""
    import h5py

    names: dict[str, str] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Group) and name.endswith("vars") and "name" in item.attrs:
            told = item.attrs["name"]
            text = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
            names[name.removesuffix("vars").rstrip("/")] = text

    file.visititems(visit)  # type: ignore[attr-defined]
    return names


def _named(arrays: dict[str, np.ndarray], layers: dict[str, str]) -> dict[str, np.ndarray]:
    """Arrays by `layer/role`, where a role is known, else by where they lie."""
    groups: dict[str, dict[int, str]] = {}
    for name in arrays:
        if match := _NUMBERED.match(name):
            groups.setdefault(match.group("group"), {})[int(match.group("index"))] = name
    taken = list(layers.values())
    result: dict[str, np.ndarray] = {}
    for group, parts in groups.items():
        shapes = {arrays[name].shape for name in parts.values()}
        roles = _ROLES.get(len(parts), ()) if _NORM.search(group) and len(shapes) == 1 else ()
        own = layers.get(group, "")
        # layers of nested models may share a name; their groups never do
        shown = own if own and taken.count(own) == 1 else group
        for role, index in zip(roles or map(str, sorted(parts)), sorted(parts), strict=True):
            result[f"{shown}/{role}"] = arrays[parts[index]]
    numbered = {name for parts in groups.values() for name in parts.values()}
    result.update({_variable_name(name): array for name, array in arrays.items() if name not in numbered})
    return result


def _variable_name(name: str) -> str:
    """`bn/bn/gamma:0` -> `bn/gamma`: Keras 2 writes the layer's name twice."""
    parts = name.split(":")[0].removeprefix("model_weights/").split("/")
    half = len(parts) // 2
    if len(parts) > 2 and parts[:half] == parts[half : 2 * half]:
        parts = parts[half:]
    return "/".join(parts)
