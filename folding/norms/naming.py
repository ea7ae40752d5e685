"""What a layer is called: by its source where the source told, else by the scope its arrays share."""

from __future__ import annotations

import re
from collections.abc import Iterable

import onnx_ir as ir

# Last parts of a variable's name that say its role, not its layer (TensorFlow, Keras, PyTorch, Caffe, MXNet).
ROLE = (
    r"(?:(?:moving|running|pop|population)_(?:mean|var|variance|avg)|num_batches_tracked"
    r"|gamma|beta|scale|bias|weight|mean|var|variance|offset|eps|[bwsmv])"
)
_ENDING = re.compile(r"(?:/read|/ReadVariableOp)?(?::\d+)?$")
_SCOPED = re.compile(rf"(.+?)[._/]{ROLE}", re.IGNORECASE)


def scope(name: str) -> str:
    """`layer1.0.bn1.running_mean` -> `layer1.0.bn1`; empty where the name says no role."""
    match = _SCOPED.fullmatch(_ENDING.sub("", name))
    return match.group(1) if match else ""


def layer_name(arrays: Iterable[ir.Value | None], node: ir.Node, output: ir.Value) -> str:
    """The scope that most of the arrays share, else the node's name, else its output's."""
    scopes = [scope(value.name) for value in arrays if value is not None and value.name]
    scopes = [item for item in scopes if item]
    if scopes:
        best = max(dict.fromkeys(scopes), key=scopes.count)
        if scopes.count(best) * 2 > len(scopes):
            return best
    return node.name or output.name or node.op_type
