"""What a layer is called: by its source where the source told, else by the scope its arrays share."""

from __future__ import annotations

import re
from collections.abc import Iterable

import onnx_ir as ir

# Last parts of a variable's name that say its role, not its layer (TensorFlow, Keras, PyTorch, Caffe, MXNet).
ROLE = re.compile(
    r"""(?: gamma | beta | scale | bias | weight | mean | var | variance | offset | B | eps
        | (?:moving|running|pop|population)_(?:mean|var|variance|avg) | num_batches_tracked | [wbsmv]
        )(?: :\d+ )? (?: /read | /ReadVariableOp )?""",
    re.VERBOSE | re.IGNORECASE,
)  # fmt: skip


def scope(name: str) -> str:
    """`layer1.0.bn1.running_mean` -> `layer1.0.bn1`; a name without scope is returned without its role."""
    for separator in (".", "/", "_"):
        head, found, tail = name.rpartition(separator)
        if found and ROLE.fullmatch(tail):
            return head
        if found and separator == "_":
            match = re.fullmatch(rf"(.+?)[_.]{ROLE.pattern}", name, re.VERBOSE | re.IGNORECASE)
            if match:
                return match.group(1)
    return ""


def layer_name(arrays: Iterable[ir.Value | None], node: ir.Node, output: ir.Value) -> str:
    """The scope that most of the arrays share, else the node's name, else its output's."""
    scopes = [scope(value.name) for value in arrays if value is not None and value.name]
    scopes = [item for item in scopes if item]
    if scopes:
        best = max(dict.fromkeys(scopes), key=scopes.count)
        if scopes.count(best) * 2 > len(scopes):
            return best
    return node.name or output.name or node.op_type
