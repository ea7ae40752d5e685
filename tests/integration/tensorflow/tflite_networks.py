"""Small networks of four kinds, and TensorFlow's own converter in each of its forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

SIZE = 24


def _block(x: Any, filters: int, stride: int = 1, activation: str = "relu") -> Any:
    from keras import layers

    x = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return layers.Activation(activation)(x)


def mobilenet_like(x: Any) -> Any:
    from keras import layers

    x = _block(x, 16, 2, "relu6")
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    y = layers.ReLU(6.0)(layers.BatchNormalization()(y))
    y = layers.BatchNormalization()(layers.Conv2D(16, 1, use_bias=False)(y))
    x = layers.Add()([x, y])
    return layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x))


def resnet_like(x: Any) -> Any:
    from keras import layers

    x = layers.MaxPooling2D()(_block(x, 16))
    y = layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(_block(x, 16)))
    x = layers.ReLU()(layers.Add()([x, y]))
    return layers.Dense(5)(layers.Flatten()(layers.AveragePooling2D(2)(x)))


def unet_like(x: Any) -> Any:
    from keras import layers

    down = _block(x, 12)
    low = _block(layers.MaxPooling2D()(down), 16)
    up = layers.UpSampling2D(interpolation="nearest")(low)
    up = layers.Concatenate()([up, down])
    return layers.Conv2D(2, 1, activation="sigmoid")(_block(up, 12))


def detection_like(x: Any) -> list[Any]:
    from keras import layers

    x = _block(x, 16, 2)
    boxes = layers.Reshape((-1, 4))(layers.Conv2D(8, 3, padding="same")(x))
    scores = layers.Reshape((-1, 3))(
        layers.Conv2D(6, 3, padding="same", activation="sigmoid")(_block(x, 16, 1))
    )
    return [boxes, scores]


NETWORKS: dict[str, Callable[[Any], Any]] = {
    "mobilenet": mobilenet_like,
    "resnet": resnet_like,
    "unet": unet_like,
    "detection": detection_like,
}
FORMS = ("float", "float16", "dynamic-range", "full-integer")


def network(kind: str) -> Any:
    """A Keras model with trained-looking weights and statistics."""
    import keras

    keras.utils.set_random_seed(7)
    x = keras.Input((SIZE, SIZE, 3), name="image")
    model = keras.Model(x, NETWORKS[kind](x))
    rng = np.random.default_rng(11)
    for variable in model.weights:
        shape = tuple(variable.shape)
        if "variance" in variable.path:
            variable.assign(rng.uniform(0.5, 2, shape))
        elif "gamma" in variable.path:
            variable.assign(rng.normal(1, 0.2, shape))
        elif len(shape) < 2:
            variable.assign(rng.normal(0, 0.2, shape))
    return model


def converted(model: Any, form: str) -> bytes:
    """The model in one form of TensorFlow's own converter."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if form != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if form == "full-integer":
        converter.representative_dataset = samples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def samples() -> Iterator[list[np.ndarray]]:
    rng = np.random.default_rng(5)
    for _ in range(8):
        yield [rng.normal(0, 1, (1, SIZE, SIZE, 3)).astype(np.float32)]
