"""The one place that imports TensorFlow, quietly and without touching a device."""

from __future__ import annotations

import logging
import os
import warnings
from functools import cache
from typing import Any

from folding.errors import UnsupportedModel


@cache
def tensorflow() -> Any:
    """The tensorflow module.

    Raises:
        UnsupportedModel: code `tensorflow_missing`, when the extra is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tf2onnx as package
        import tf2onnx.optimizer
        import tf2onnx.tf_loader
        import tf2onnx.tfonnx
    for name in ("tf2onnx", "tf2onnx.tfonnx", "tf2onnx.tf_utils", "tf2onnx.optimizer"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return package
