"""A checkpoint with no graph at all: its batch norms by the names of their variables."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from folding.norms.base import NormHint
from folding.report import Inspection
from folding.sources.base import Upload
from folding.sources.tensorflow.convert.importer import norm_row
from folding.sources.tensorflow.graph.program import Weights
from folding.sources.tensorflow.norms.variable_names import SHADOW, by_name

_SLOT = re.compile(
    r"/(Adam|Momentum|RMSProp|Adagrad|Adadelta|Ftrl|AdaMax)\w*(_\d+)?$|/\.OPTIMIZER_SLOT/|^optimizer/"
)
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_AFFINE = {
    "gamma": re.compile(r"^(gamma|scale|weight)\w*$"),
    "beta": re.compile(r"^(beta|offset|bias|shift)\w*$"),
}


def inspect_weights(
    name: str, upload: Upload, weights: Weights, framework: str
) -> tuple[Inspection, dict[str, np.ndarray]]:
    """Every pair of moving statistics, with gamma and beta where their names tell. Epsilon is unknown."""
    names = [key for key in weights.names() if not key.startswith("_CHECKPOINTABLE")]
    inspection = Inspection(format=name, framework=framework, digest=upload.digest, variables=len(names))
    inspection.notes.append(
        "No graph was used: batch norms are recognised by the names of their variables, and "
        "epsilon is unknown."
    )
    inspection.parameters = sum(int(np.prod(weights.describe(key)[1], dtype=np.int64)) for key in names)
    arrays: dict[str, np.ndarray] = {}
    for layer, roles in layers([key for key in names if not _SLOT.search(key)], weights).items():
        held = {role: weights.read(key) for role, key in roles.items()}
        arrays.update({f"{layer}/{role}": value for role, value in held.items()})
        hint = NormHint(
            name=layer,
            spelling="variables of a checkpoint",
            variables={role: key.removesuffix(_VALUE) for role, key in roles.items()},
            missing=tuple(role for role in ("moving_mean", "moving_variance") if role not in roles),
            arrays=held,
        )
        inspection.batch_norms.append(norm_row(hint))
    return inspection, arrays


def layers(names: list[str], weights: Weights) -> dict[str, dict[str, str]]:
    """Variables by layer and role. A layer is what shares a scope, or an EMA's moments."""
    found: dict[str, dict[str, str]] = {}
    for key in names:
        plain = key.removesuffix(_VALUE)
        role = by_name(plain)
        if role is not None:
            found.setdefault(_layer(plain), {})[role] = key
    complete = {layer: roles for layer, roles in found.items() if roles}
    for key in names:
        plain = key.removesuffix(_VALUE)
        scope, _, last = plain.rpartition("/")
        for role, pattern in _AFFINE.items():
            layer = _owner(scope, complete)
            if layer is None or not pattern.match(last) or role in complete[layer]:
                continue
            if _same_size(weights, key, complete[layer]):
                complete[layer][role] = key
    return complete


def _layer(name: str) -> str:
    if SHADOW.search(name):
        return name[: name.rindex("/moments")] if "/moments" in name else name.rsplit("/", 2)[0]
    return (
        name.rpartition("/")[0] or re.sub(r"_?(moving|running|pop)?_?(mean|var(iance)?)$", "", name) or name
    )


def _owner(scope: str, found: dict[str, dict[str, str]]) -> str | None:
    if scope in found:
        return scope
    # EMA shadows repeat the scope: batch_norm/batch_norm_1/moments/... belongs to batch_norm_1
    owners = [layer for layer in found if layer.rsplit("/", 1)[-1] == scope.rsplit("/", 1)[-1] and scope]
    return owners[0] if len(owners) == 1 else None


def _same_size(weights: Weights, key: str, roles: dict[str, str]) -> bool:
    sizes = {weights.describe(other)[1] for other in roles.values()}
    return weights.describe(key)[1] in sizes


def known(weights: Any) -> bool:
    """Whether the weights hold anything that looks like moving statistics."""
    return any(by_name(str(name).removesuffix(_VALUE)) for name in weights.names())
