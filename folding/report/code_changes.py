"""Code changes by library: (where, before, after) for each kind of finding. `{name}`: the layer's name.

To add a library: one pattern in `LIBRARIES` and one entry in `CHANGES` with all five kinds.
"""

from __future__ import annotations

from typing import Final

Change = tuple[str, str, str]

# (library, pattern over "framework|spelling|variable or layer"); the first that matches, or none.
LIBRARIES: Final = (
    ("torch", r"(?i)^(py)?torch"),
    ("keras", r"^(tf[-_])?keras "),
    ("tflearn", r"[|/]BatchNormalization(_\d+)?(/[^|]*)?$"),
    ("contrib", r"[|/]BatchNorm(_\d+)?(/[^|]*)?$"),
    ("moments", r"ExponentialMovingAverage|\|(hand-written|batch_statistics)"),
    ("keras", r"^tensorflow 2\.(?!.*on batch moments)"),
    ("layers", r"^(tensorflow|tf2onnx).*[|/]batch_normalization(_\d+)?(/[^|]*)?$"),
    ("moments", r"on batch moments"),
    ("layers", r"^(tensorflow|tf2onnx)"),
)

_UPDATE_OPS: Change = (
    "where the training step is made",
    "train_op = optimizer.minimize(loss)",
    (
        "with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):\n"
        "    train_op = optimizer.minimize(loss)"
    ),
)
_SAVER: Change = (
    "where the checkpoint is saved",
    "saver = tf.train.Saver(tf.trainable_variables())",
    "saver = tf.train.Saver(tf.global_variables())",
)

CHANGES: Final[dict[str, dict[str, list[Change]]]] = {
    "layers": {
        "never_updated": [_UPDATE_OPS],
        "never_normalized": [
            (
                "where the layer is built",
                "tf.layers.batch_normalization(x, name={name})",
                "tf.layers.batch_normalization(x, training=is_training, name={name})",
            ),
            _UPDATE_OPS,
        ],
        "missing_from_checkpoint": [_SAVER],
        "batch_statistics_at_inference": [
            (
                "where the layer is built",
                "tf.layers.batch_normalization(x, training=True, name={name})",
                (
                    "is_training = tf.placeholder_with_default(False, [], 'is_training')\n"
                    "tf.layers.batch_normalization(x, training=is_training, name={name})"
                ),
            ),
            _UPDATE_OPS,
        ],
        "lagging": [
            (
                "where the layer is built",
                "tf.layers.batch_normalization(x, training=is_training, momentum={momentum}, name={name})",
                "tf.layers.batch_normalization(x, training=is_training, momentum=0.9, name={name})",
            )
        ],
    },
    "contrib": {
        "never_updated": [
            _UPDATE_OPS,
            (
                "or where the layer is built",
                "tf.contrib.layers.batch_norm(x, is_training=is_training, scope={name})",
                (
                    "tf.contrib.layers.batch_norm(\n"
                    "    x, is_training=is_training, updates_collections=None, scope={name})"
                ),
            ),
        ],
        "never_normalized": [
            (
                "where the layer is built",
                "tf.contrib.layers.batch_norm(x, is_training=False, scope={name})",
                "tf.contrib.layers.batch_norm(x, is_training=is_training, scope={name})",
            ),
            _UPDATE_OPS,
        ],
        "missing_from_checkpoint": [_SAVER],
        "batch_statistics_at_inference": [
            (
                "where the layer is built",
                "tf.contrib.layers.batch_norm(x, scope={name})  # is_training=True is the default",
                (
                    "is_training = tf.placeholder_with_default(False, [], 'is_training')\n"
                    "tf.contrib.layers.batch_norm(x, is_training=is_training, scope={name})"
                ),
            ),
            _UPDATE_OPS,
        ],
        "lagging": [
            (
                "where the layer is built",
                "tf.contrib.layers.batch_norm(x, is_training=is_training, decay={momentum}, scope={name})",
                "tf.contrib.layers.batch_norm(x, is_training=is_training, decay=0.9, scope={name})",
            )
        ],
    },
    "tflearn": {
        "never_updated": [
            (
                "in a training loop of your own, around each step (DNN.fit does it by itself)",
                "session.run(train_op, feed)",
                (
                    "tflearn.is_training(True, session=session)\n"
                    "session.run([train_op, tf.get_collection(tf.GraphKeys.UPDATE_OPS)], feed)\n"
                    "tflearn.is_training(False, session=session)"
                ),
            )
        ],
        "never_normalized": [
            (
                "in a training loop of your own, before the first step",
                "session.run(train_op, feed)",
                "tflearn.is_training(True, session=session)\nsession.run(train_op, feed)",
            )
        ],
        "missing_from_checkpoint": [_SAVER],
        "batch_statistics_at_inference": [
            (
                "before inference, and before the graph is exported",
                "session.run(output, feed)",
                "tflearn.is_training(False, session=session)\nsession.run(output, feed)",
            )
        ],
        "lagging": [
            (
                "where the layer is built",
                "tflearn.batch_normalization(x, decay={momentum}, name={name})",
                "tflearn.batch_normalization(x, decay=0.9, name={name})",
            )
        ],
    },
    "keras": {
        "never_updated": [
            (
                "in a training loop of your own (fit does it by itself)",
                "prediction = model(x)",
                "prediction = model(x, training=True)",
            ),
            (
                "in a session of TensorFlow 1",
                "session.run(train_op, {x: batch})",
                "session.run([train_op, model.updates], {x: batch, K.learning_phase(): 1})",
            ),
        ],
        "never_normalized": [
            (
                "where the layer is built",
                "BatchNormalization(name={name}, trainable=False)",
                "BatchNormalization(name={name})",
            )
        ],
        "missing_from_checkpoint": [
            (
                "where the model is saved",
                "saver = tf.train.Checkpoint(weights=model.trainable_variables)",
                "saver = tf.train.Checkpoint(model=model)",
            )
        ],
        "batch_statistics_at_inference": [
            (
                "where the layer is called",
                "x = BatchNormalization(name={name})(x, training=True)",
                "x = BatchNormalization(name={name})(x)",
            ),
            (
                "or where a model is exported",
                "tf.function(lambda x: model(x, training=True))",
                "tf.function(lambda x: model(x, training=False))",
            ),
        ],
        "lagging": [
            (
                "where the layer is built",
                "BatchNormalization(name={name}, momentum={momentum})",
                "BatchNormalization(name={name}, momentum=0.9)",
            )
        ],
    },
    "moments": {
        "never_updated": [
            (
                "where the training step is made",
                "train_op = optimizer.minimize(loss)",
                (
                    "with tf.control_dependencies([ema.apply([batch_mean, batch_variance])]):\n"
                    "    train_op = optimizer.minimize(loss)"
                ),
            )
        ],
        "never_normalized": [
            (
                "where the layer is built",
                "mean, variance = ema.average(batch_mean), ema.average(batch_variance)",
                (
                    "mean, variance = tf.cond(is_training, lambda: (batch_mean, batch_variance),\n"
                    "                         lambda: (ema.average(batch_mean), ema.average(batch_variance)))"
                ),
            )
        ],
        "missing_from_checkpoint": [_SAVER],
        "batch_statistics_at_inference": [
            (
                "where the layer is built",
                "mean, variance = tf.nn.moments(x, axes)",
                (
                    "batch_mean, batch_variance = tf.nn.moments(x, axes)\n"
                    "ema = tf.train.ExponentialMovingAverage(0.9)\n"
                    "update = ema.apply([batch_mean, batch_variance])  # run it with the training step\n"
                    "mean, variance = tf.cond(is_training, lambda: (batch_mean, batch_variance),\n"
                    "                         lambda: (ema.average(batch_mean), ema.average(batch_variance)))"
                ),
            )
        ],
        "lagging": [
            (
                "where the averages are made",
                "ema = tf.train.ExponentialMovingAverage({momentum})",
                "ema = tf.train.ExponentialMovingAverage(0.9)",
            )
        ],
    },
    "torch": {
        "never_updated": [
            ("before the training loop", "model.eval()", "model.train()"),
        ],
        "never_normalized": [
            (
                "where the layer is built",
                "torch.nn.BatchNorm2d(channels, track_running_stats=False)",
                "torch.nn.BatchNorm2d(channels)",
            )
        ],
        "missing_from_checkpoint": [
            (
                "where the model is saved",
                "torch.save(dict(model.named_parameters()), path)",
                "torch.save(model.state_dict(), path)",
            )
        ],
        "batch_statistics_at_inference": [
            (
                "where the model is exported",
                "torch.onnx.export(model, x, path)",
                "torch.onnx.export(model.eval(), x, path)",
            )
        ],
        "lagging": [
            (
                "where the layer is built (momentum is the new batch's share here)",
                "torch.nn.BatchNorm2d(channels, momentum=0.01)",
                "torch.nn.BatchNorm2d(channels, momentum=0.1)",
            )
        ],
    },
}
