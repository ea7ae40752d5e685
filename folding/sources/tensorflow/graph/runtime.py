"""Import TensorFlow and tf2onnx: the one place that does, without touching a device.

Silence is kept to the libraries themselves. `logging.disable` and `warnings.catch_warnings` would act on the
whole process and lose messages of other threads; a filter for each logger and one filter of warnings for each
package do not.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from folding.errors import UnsupportedModel

# Packages whose warnings say nothing to a user of bnfold, as a pattern of module names.
_PACKAGES = r"(tensorflow|tf2onnx|keras|tf_keras|google|flatbuffers|absl|ml_dtypes)\b"
_LOGGERS = ("tensorflow", "absl")  # all of TensorFlow and Keras logs through these two
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what TensorFlow and Keras log in this thread (or task); our own error says what went wrong."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def _not_quiet(record: logging.LogRecord) -> bool:
    """Return whether a record may pass: a filter for the loggers of the frameworks."""
    return not _quiet.get()


@cache
def _silence() -> None:
    """Install the filters, once in a process."""
    warnings.filterwarnings("ignore", module=_PACKAGES)
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_not_quiet)
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # each of its modules inherits the level


# TensorFlow imports it at the end of its own import, and goes on without it. It takes a third of the time,
# for files of Keras only, whose reader imports Keras itself. `tests/integration/tensorflow/test_imports.py`
# tells when TensorFlow stops doing so.
_KERAS_OF_TENSORFLOW = "keras.src.optimizers"


@contextmanager
def _without_keras() -> Iterator[None]:
    """Let the import of TensorFlow leave Keras out, unless Keras is imported already."""
    if "keras" in sys.modules:
        yield
        return
    sys.modules[_KERAS_OF_TENSORFLOW] = None  # type: ignore[assignment]  # to Python: there is no such module
    try:
        yield
    finally:
        sys.modules.pop(_KERAS_OF_TENSORFLOW, None)


@cache
def tensorflow() -> Any:
    """The tensorflow module.

    Raises:
        UnsupportedModel: code `tensorflow_missing`, when the extra is not installed.
    """
    _silence()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
    try:
        with _without_keras():
            import tensorflow as tf
    except ImportError as error:
        raise UnsupportedModel(
            "This is a TensorFlow model, and TensorFlow is not installed.",
            code="tensorflow_missing",
            hint="pip install 'bnfold[tensorflow]'",
        ) from error
    tf.get_logger().setLevel(logging.ERROR)
    return tf


@cache
def tf2onnx() -> Any:
    """The tf2onnx package with the submodules that we call, its chatter switched off."""
    tensorflow()
    import tf2onnx as package
    import tf2onnx.optimizer
    import tf2onnx.tf_loader
    import tf2onnx.tfonnx

    return package
