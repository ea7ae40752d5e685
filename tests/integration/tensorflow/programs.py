"""TensorFlow 1 programs, built with tf.compat.v1: spellings, modes, control flow, variables of every kind.

Each builder makes its graph in the default graph and returns inputs, outputs and the values of mode flags.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Built = tuple[list[Any], list[Any], dict[str, Any]]
PROGRAMS: dict[str, Callable[[Any, np.random.Generator], Built]] = {}


def program(
    build: Callable[[Any, np.random.Generator], Built],
) -> Callable[[Any, np.random.Generator], Built]:
    PROGRAMS[build.__name__] = build
    return build


class Maker:
    """Short names for what every program needs."""

    def __init__(self, tf: Any, rng: np.random.Generator) -> None:
        self.tf, self.v1, self.rng = tf, tf.compat.v1, rng

    def x(self, *shape: int, dtype: str = "float32", name: str = "x") -> Any:
        return self.v1.placeholder(dtype, [None, *shape], name)

    def flag(self, name: str, dtype: str = "bool") -> Any:
        return self.v1.placeholder(dtype, [], name)

    def var(self, name: str, shape: list[int], low: float = -1, high: float = 1, **more: Any) -> Any:
        value = self.rng.uniform(low, high, shape).astype(np.float32)
        return self.v1.get_variable(name, initializer=value, **{"use_resource": False, **more})

    def norm(self, channels: int, scope: str = "bn", **more: Any) -> tuple[Any, Any, Any, Any]:
        with self.v1.variable_scope(scope):
            return (
                self.var("gamma", [channels], 0.5, 1.5, **more),
                self.var("beta", [channels], **more),
                self.var("moving_mean", [channels], trainable=False, **more),
                self.var("moving_variance", [channels], 0.5, 2, trainable=False, **more),
            )

    def conv(self, x: Any, channels: int, name: str = "w", **more: Any) -> Any:
        return self.v1.nn.conv2d(
            x, self.var(name, [3, 3, x.shape[-1], channels], **more), [1, 1, 1, 1], "SAME"
        )

    def bn(self, x: Any, norm: tuple[Any, Any, Any, Any], epsilon: float = 1e-3) -> Any:
        gamma, beta, mean, variance = norm
        return self.v1.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon)

    def out(self, value: Any, name: str = "out") -> Any:
        return self.tf.identity(value, name)

    def moded(self, predicate: Any, norm: tuple[Any, Any, Any, Any], h: Any) -> Any:
        """Batch or stored statistics by a v1 cond."""
        gamma, beta, mean, variance = norm
        bm, bv = self.v1.nn.moments(h, list(range(len(h.shape) - 1)))
        m = self.v1.cond(predicate, lambda: bm, lambda: self.tf.identity(mean))
        v = self.v1.cond(predicate, lambda: bv, lambda: self.tf.identity(variance))
        return self.v1.nn.batch_normalization(h, m, v, beta, gamma, 1e-3)


@program
def v2_cond_with_updates(tf: Any, rng: np.random.Generator) -> Built:
    m = Maker(tf, rng)
    m.v1.enable_control_flow_v2()
    try:
        x, training = m.x(8, 8, 3), m.flag("is_training")
        h, norm = m.conv(x, 4, use_resource=True), m.norm(4, use_resource=True)
        gamma, beta, mean, variance = norm

        def train() -> Any:
            bm, bv = m.v1.nn.moments(h, [0, 1, 2])
            updates = [mean.assign_sub((mean - bm) * 0.1), variance.assign_sub((variance - bv) * 0.1)]
            with m.v1.control_dependencies(updates):
                return tf.identity(bm), tf.identity(bv)

        a, b = m.v1.cond(training, train, lambda: (tf.identity(mean), tf.identity(variance)))
        out = m.out(tf.nn.relu(m.v1.nn.batch_normalization(h, a, b, beta, gamma, 1e-3)))
    finally:
        m.v1.disable_control_flow_v2()
    return [x], [out], {"is_training:0": False}


@program
def rank_five(tf: Any, rng: np.random.Generator) -> Built:
    m = Maker(tf, rng)
    x = m.x(4, 6, 6, 2)
    h = m.v1.nn.conv3d(x, m.var("w", [2, 3, 3, 2, 4]), [1, 1, 1, 1, 1], "SAME")
    return [x], [m.out(m.bn(h, m.norm(4)))], {}


@program
def renorm(tf: Any, rng: np.random.Generator) -> Built:
    m = Maker(tf, rng)
    x, training = m.x(8, 8, 3), m.v1.placeholder_with_default(False, [], "training")
    h, (gamma, beta, mean, variance) = m.conv(x, 4), m.norm(4)
    deviation = m.var("bn/renorm_stddev", [4], 1, 2, trainable=False)
    bm, bv = m.v1.nn.moments(h, [0, 1, 2])
    r = m.v1.cond(
        training, lambda: tf.clip_by_value(tf.sqrt(bv + 1e-3) / deviation, 0.3, 3.0), lambda: tf.ones([4])
    )
    d = m.v1.cond(training, lambda: (bm - mean) / deviation, lambda: tf.zeros([4]))
    a = m.v1.cond(training, lambda: bm, lambda: tf.identity(mean))
    b = m.v1.cond(training, lambda: bv, lambda: tf.identity(variance))
    return [x], [m.out(m.v1.nn.batch_normalization(h, a, b, d * gamma + beta, r * gamma, 1e-3))], {}


@program
def without_gamma_and_beta(tf: Any, rng: np.random.Generator) -> Built:
    m = Maker(tf, rng)
    x = m.x(8, 8, 3)
    _, _, mean, variance = m.norm(4)
    return [x], [m.out(m.v1.nn.batch_normalization(m.conv(x, 4), mean, variance, None, None, 1e-3))], {}


@program
def select_by_flag(tf: Any, rng: np.random.Generator) -> Built:
    m = Maker(tf, rng)
    x, training = m.x(8, 8, 3), m.flag("train_flag")
    h, (gamma, beta, mean, variance) = m.conv(x, 4), m.norm(4)
    bm, bv = m.v1.nn.moments(h, [0, 1, 2])
    a, b = m.v1.where(training, bm, tf.identity(mean)), m.v1.where(training, bv, tf.identity(variance))
    return [x], [m.out(m.v1.nn.batch_normalization(h, a, b, beta, gamma, 1e-3))], {"train_flag:0": False}


@program
def blend_by_float(tf: Any, rng: np.random.Generator) -> Built:
    m = Maker(tf, rng)
    x, phase = m.x(8, 8, 3), m.flag("phase_train", "float32")
    h, (gamma, beta, mean, variance) = m.conv(x, 4), m.norm(4)
    bm, bv = m.v1.nn.moments(h, [0, 1, 2])
    a, b = phase * bm + (1 - phase) * mean, phase * bv + (1 - phase) * variance
    return [x], [m.out(m.v1.nn.batch_normalization(h, a, b, beta, gamma, 1e-3))], {"phase_train:0": 0.0}


@program
def inverted_flag(tf: Any, rng: np.random.Generator) -> Built:
    m = Maker(tf, rng)
    x, testing = m.x(8, 8, 3), m.flag("is_test")
    h = m.conv(x, 4)
    return [x], [m.out(m.moded(tf.logical_not(testing), m.norm(4), h))], {"is_test:0": True}


@program
def nameless_flag(tf: Any, rng: np.random.Generator) -> Built:
    """Nothing in its name says mode; that it chooses between batch and stored statistics does."""
    m = Maker(tf, rng)
    x, flag = m.x(8, 8, 3), m.flag("f")
    return [x], [m.out(m.moded(flag, m.norm(4), m.conv(x, 4)))], {"f:0": False}


def in_functions(
    build: Callable[[Any, np.random.Generator], Built], tf: Any, rng: np.random.Generator
) -> Built:
    """Build a program whose conditionals and loops are functions, as TensorFlow 2 writes them."""
    tf.compat.v1.enable_control_flow_v2()
    try:
        return build(tf, rng)
    finally:
        tf.compat.v1.disable_control_flow_v2()


@program
def nameless_flag_in_functions(tf: Any, rng: np.random.Generator) -> Built:
    return in_functions(nameless_flag, tf, rng)


@program
def while_in_functions(tf: Any, rng: np.random.Generator) -> Built:
    return in_functions(while_loop, tf, rng)


@program
def integer_phase(tf: Any, rng: np.random.Generator) -> Built:
    m = Maker(tf, rng)
    x, phase = m.x(8, 8, 3), m.flag("learning_phase", "int32")
    return [x], [m.out(m.moded(tf.equal(phase, 1), m.norm(4), m.conv(x, 4)))], {"learning_phase:0": 0}


@program
def a_branch_of_the_users_own(tf: Any, rng: np.random.Generator) -> Built:
    """Not a mode flag: it stays an input, the conditional stays an If."""
    m = Maker(tf, rng)
    x, choice = m.x(8, 8, 3), m.flag("use_branch")
    h = m.bn(m.conv(x, 4), m.norm(4))
    return [x, choice], [m.out(m.v1.cond(choice, lambda: h * 2.0, lambda: h + 1.0))], {}


@program
def conv_transpose(tf: Any, rng: np.random.Generator) -> Built:
    m = Maker(tf, rng)
    x = m.x(8, 8, 3)
    gamma, beta, mean, variance = m.norm(4)
    y, _, _ = m.v1.nn.fused_batch_norm(m.conv(x, 4), gamma, beta, mean, variance, 1e-3, is_training=False)
    size = tf.stack([tf.shape(x)[0], 16, 16, 2])
    y = m.v1.nn.conv2d_transpose(tf.nn.relu(y), m.var("wt", [3, 3, 2, 4]), size, [1, 2, 2, 1])
    gamma, beta, mean, variance = m.norm(2, "bn2")
    y, _, _ = m.v1.nn.fused_batch_norm(y, gamma, beta, mean, variance, 1e-3, is_training=False)
    return [x], [m.out(y)], {}


@program
def partitioned_weights(tf: Any, rng: np.random.Generator) -> Built:
    m = Maker(tf, rng)
    x = m.x(6)
    with m.v1.variable_scope("fc", partitioner=m.v1.fixed_size_partitioner(2)):
        w = m.v1.get_variable(
            "w", [6, 8], initializer=m.v1.random_normal_initializer(seed=1), use_resource=False
        )
    return [x], [m.out(m.bn(m.v1.matmul(x, m.v1.convert_to_tensor(w)), m.norm(8)))], {}


@program
def while_loop(tf: Any, rng: np.random.Generator) -> Built:
    m = Maker(tf, rng)
    x = m.x(6)
    w = m.var("w", [6, 6])
    h = m.bn(m.v1.matmul(x, w), m.norm(6))
    _, h = m.v1.while_loop(
        lambda i, h: i < 3, lambda i, h: (i + 1, tf.tanh(tf.matmul(h, w))), [tf.constant(0), h]
    )
    return [x], [m.out(h)], {}


@program
def embedding_of_integers(tf: Any, rng: np.random.Generator) -> Built:
    m = Maker(tf, rng)
    ids = m.x(5, dtype="int32", name="ids")
    h = tf.reduce_mean(m.v1.nn.embedding_lookup(m.var("table", [20, 8], use_resource=True), ids), 1)
    h = m.v1.matmul(h, m.var("w", [8, 8], use_resource=True))
    return [ids], [m.out(m.bn(h, m.norm(8, use_resource=True)))], {}


@program
def dropout_of_unclear_name(tf: Any, rng: np.random.Generator) -> Built:
    """`dropout` may be a keep probability or a rate: what turns the mask off decides."""
    m = Maker(tf, rng)
    x, keep = m.x(6), m.v1.placeholder("float32", name="dropout")
    h = m.bn(m.v1.matmul(x, m.var("w", [6, 8])), m.norm(8))
    return [x], [m.out(m.v1.nn.dropout(h, keep_prob=keep))], {"dropout:0": 1.0}


@program
def string_passed_through(tf: Any, rng: np.random.Generator) -> Built:
    m = Maker(tf, rng)
    x, label = m.x(6), m.v1.placeholder("string", [None], "label")
    h = m.bn(m.v1.matmul(x, m.var("w", [6, 8])), m.norm(8))
    return [x, label], [m.out(h), m.out(label, "same")], {}


def _by_hand(spelling: str) -> None:
    def build(tf: Any, rng: np.random.Generator) -> Built:
        m = Maker(tf, rng)
        x = m.x(6)
        g, b, mu, v = m.norm(8)
        h, e, sqrt, rsqrt = m.v1.matmul(x, m.var("w", [6, 8])), 1e-3, tf.sqrt, tf.math.rsqrt
        forms = {
            "rsqrt": lambda: (h - mu) * rsqrt(v + e) * g + b,
            "gamma_first": lambda: g * (h - mu) / sqrt(v + e) + b,
            "pow": lambda: b + g * ((h - mu) / tf.pow(v + e, 0.5)),
            "grouped": lambda: (h - mu) * (g / sqrt(v + e)) + b,
            "lowered": lambda: h * (g * rsqrt(v + e)) + (b - mu * (g * rsqrt(v + e))),
            "no_scale": lambda: (h - mu) / sqrt(v + e) + b,
        }
        return [x], [m.out(forms[spelling]())], {}

    PROGRAMS[f"by_hand_{spelling}"] = build


for _spelling in ("rsqrt", "gamma_first", "pow", "grouped", "lowered", "no_scale"):
    _by_hand(_spelling)
