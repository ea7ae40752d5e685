"""Findings about the statistics of batch norms."""

# Prose in tables: long lines and implicit concatenation read better here than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

from typing import Final

from folding.errors.texts.base import Text

HEALTH: Final[dict[str, Text]] = {
    "ok": Text(
        "Statistics look right",
        "Mean and variance are finite, positive, differ from their initial values and fit the layer.",
        "Nothing to do.",
        "moving_mean = [0.12, -0.40, 1.73], moving_variance = [0.95, 2.10, 0.31] after 10,000 steps.",
    ),
    "never_updated": Text(
        "The moving statistics were never updated",
        "The moving mean is exactly 0 and the moving variance exactly 1, the values they start with: the update ops "
        "were not run in training. At inference the layer then does not normalize at all. If training itself also "
        "used these values, inference is right and the fold is exact; the evidence says which case it is.",
        "In TensorFlow 1 make the train op depend on `tf.get_collection(tf.GraphKeys.UPDATE_OPS)` and train on; or "
        "re-estimate the statistics from data with `--calibrate data.npz --recalibrate`.",
        "`sess.run(train_op)` without `tf.get_collection(tf.GraphKeys.UPDATE_OPS)`: moving_mean = [0, 0, 0], moving_variance = [1, 1, 1].",
    ),
    "missing_from_checkpoint": Text(
        "The statistics are not in the checkpoint",
        "The graph has moving mean and variance, the checkpoint does not: typically `Saver(var_list=...)` was given "
        "the trainable variables only, and moving statistics are not trainable.",
        "Save again with `tf.global_variables()`; or recalibrate from data with `--calibrate data.npz --recalibrate`; "
        "or go on with 0 and 1 by `--missing-stats init`, which the report flags.",
        "`tf.train.Saver(var_list=tf.trainable_variables())` saves gamma and beta, and neither moving_mean nor moving_variance.",
    ),
    "batch_statistics_at_inference": Text(
        "The inference graph normalizes with the batch's own statistics",
        "Mean and variance are computed from the batch that is being predicted (tf.nn.moments, or training mode fixed "
        "to true). The answer for one sample depends on the others, and there is nothing constant to fold.",
        "Export with `training=False` / `is_training=False` if moving statistics exist; otherwise "
        "`--calibrate data.npz --recalibrate` measures constant ones and makes the layer foldable.",
        "`tf.layers.batch_normalization(x, training=True)` in the graph that is served.",
    ),
    "degenerate_variance": Text(
        "A variance that is zero or nearly so",
        "Some channels have a variance far below epsilon: the channel was constant in training (dead or unused), and "
        "gamma / sqrt(variance + epsilon) is large and rests on epsilon alone.",
        "Usually harmless when few channels are concerned and gamma is small there; look at the amplification column. "
        "Many such channels point to a layer that collapsed in training.",
        "moving_variance = [1.2, 3e-13, 0.8] with epsilon = 1e-3: channel 1 was zero for every training image.",
    ),
    "non_finite": Text(
        "NaN or infinity in the statistics",
        "At least one of mean, variance, gamma, beta is not a number or infinite. Training diverged or the file is "
        "damaged. The job stops: every output would be NaN.",
        "Take an earlier checkpoint; or recalibrate from data if gamma and beta are finite.",
        "moving_variance = [0.7, nan, 1.1] after a loss that became nan.",
    ),
    "negative_variance": Text(
        "A negative variance",
        "A variance cannot be negative; numerical cancellation or a damaged file made it so, and the square root is "
        "NaN where it exceeds epsilon. The job stops.",
        "Take another checkpoint, or recalibrate from data with `--calibrate data.npz --recalibrate`.",
        "moving_variance = [0.7, -0.02, 1.1], computed as E[x*x] - E[x]*E[x] in float16.",
    ),
    "lagging": Text(
        "The statistics disagree with the data",
        "On the calibration data the layer's inputs have a clearly different mean or variance than the moving "
        "statistics say: the moving averages lag (momentum too high, too few steps), or the data is of another kind.",
        "If the data is representative, replace the statistics with `--recalibrate`; the report then compares old and "
        "new and what it does to the outputs.",
        "momentum = 0.999 and 200 steps: moving_mean = 0.9 where the layer's inputs have the mean 4.9.",
    ),
}
