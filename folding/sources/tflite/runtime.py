"""Import LiteRT: the one place that does."""

from __future__ import annotations

from functools import cache
from typing import Any

from folding.errors import UnsupportedModel

_HINT = "pip install 'bnfold[tensorflow]'"


@cache
def litert() -> Any:
    """The module of LiteRT's interpreter. Raises UnsupportedModel `tensorflow_missing`."""
    try:
        import ai_edge_litert.interpreter as module
    except ImportError as error:
        raise UnsupportedModel(
            "This is a TensorFlow Lite model, and LiteRT (ai-edge-litert) is not installed.",
            code="tensorflow_missing",
            hint=_HINT,
        ) from error
    return module


@cache
def schema() -> Any:
    """The module of LiteRT's flatbuffer classes. Raises UnsupportedModel `tensorflow_missing`."""
    litert()
    import ai_edge_litert.schema_py_generated as module

    return module
