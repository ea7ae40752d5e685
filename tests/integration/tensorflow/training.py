"""Training graphs of TensorFlow 1 as people keep them: losses, optimizers, update ops, modes of every kind.

Each builder returns a `Trained`: nothing in the checkpoint says what the outputs are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.integration.tensorflow.programs import Maker

Builder = Callable[[Any, np.random.Generator], "Trained"]
PROGRAMS: dict[str, Builder] = {}


@dataclass
class Trained:
    """inputs, outputs: what inference means. flags: their values at inference. norms: folded ones."""

    inputs: list[Any]
    outputs: list[Any]
    flags: dict[str, Any] = field(default_factory=dict)
    norms: int = 1


def program(build: Builder) -> Builder:
    PROGRAMS[build.__name__] = build
    return build


class Trainer(Maker):
    """Layers as tf.layers made them, with their update ops in the collection."""

    def dense(self, x: Any, units: int, name: str) -> Any:
        kernel = self.var(f"{name}/kernel", [x.shape[-1], units])
        return self.v1.matmul(x, kernel) + self.var(f"{name}/bias", [units])

    def layer(self, x: Any, training: Any, name: str = "bn") -> Any:
        gamma, beta, mean, variance = self.norm(int(x.shape[-1]), name)
        with self.v1.name_scope(name):
            batch = self.v1.nn.moments(x, list(range(len(x.shape) - 1)))
            if training is True:
                chosen = list(batch)
            else:
                chosen = [
                    self.v1.cond(training, lambda b=b: b, lambda s=s: self.tf.identity(s))
                    for b, s in zip(batch, (mean, variance), strict=True)
                ]
            for stored, value in zip((mean, variance), batch, strict=True):
                momentum = 0.9 if training is True else self.v1.cond(training, lambda: 0.9, lambda: 1.0)
                update = self.v1.assign_sub(stored, (stored - value) * (1.0 - momentum))
                self.v1.add_to_collection(self.v1.GraphKeys.UPDATE_OPS, update)
            return self.v1.nn.batch_normalization(x, chosen[0], chosen[1], beta, gamma, 1e-3)

    def minimize(self, loss: Any) -> Any:
        with self.v1.control_dependencies(self.v1.get_collection(self.v1.GraphKeys.UPDATE_OPS)):
            return self.v1.train.AdamOptimizer(1e-3).minimize(loss)


def _by_flag(name: str, make: Callable[[Trainer], tuple[Any, dict[str, Any]]]) -> None:
    def build(tf: Any, rng: np.random.Generator) -> Trained:
        m = Trainer(tf, rng)
        x = m.x(9)
        training, flags = make(m)
        h = m.layer(m.dense(x, 5, "d"), training)
        out = tf.nn.relu(h, name="out")
        m.minimize(tf.reduce_mean(h))
        return Trained([x], [out], flags)

    PROGRAMS[name] = build


_by_flag("plain_flag", lambda m: (m.flag("is_training"), {"is_training:0": False}))
_by_flag(
    "two_flags",
    lambda m: (
        m.tf.logical_and(m.flag("is_training"), m.v1.placeholder_with_default(True, [], "update_stats")),
        {"is_training:0": False},
    ),
)
_by_flag(
    "flag_without_shape",
    lambda m: (m.tf.reshape(m.v1.placeholder("bool", name="Placeholder_1"), []), {"Placeholder_1:0": False}),
)
_by_flag("enumerated_mode", lambda m: (m.tf.equal(m.flag("mode", "int32"), 0), {"mode:0": 2}))
_by_flag(
    "mode_in_words",
    lambda m: (m.tf.equal(m.v1.placeholder_with_default("infer", [], "mode"), "train"), {"mode:0": "infer"}),
)
_by_flag(
    "mode_in_words_to_be_fed", lambda m: (m.tf.equal(m.flag("mode", "string"), "TRAIN"), {"mode:0": "x"})
)


@program
def iterator(tf: Any, rng: np.random.Generator) -> Trained:
    m = Trainer(tf, rng)
    rows = (rng.normal(size=(16, 6)).astype(np.float32), rng.integers(0, 3, 16).astype(np.int32))
    features, labels = m.v1.data.make_one_shot_iterator(
        m.v1.data.Dataset.from_tensor_slices(rows).repeat().batch(4)
    ).get_next()
    logits = m.dense(tf.nn.relu(m.layer(m.dense(features, 5, "d"), m.flag("is_training"))), 3, "logits")
    out = tf.identity(logits, "scores")
    m.minimize(m.v1.losses.sparse_softmax_cross_entropy(labels, out))
    return Trained([features], [out], {"is_training:0": False})


@program
def queue(tf: Any, rng: np.random.Generator) -> Trained:
    m = Trainer(tf, rng)
    features, labels = m.v1.FIFOQueue(9, ["float32", "int32"], [[6], []]).dequeue_many(4, name="batch")
    out = m.dense(tf.nn.relu(m.layer(m.dense(features, 5, "d"), m.flag("is_training"))), 3, "scores")
    m.minimize(m.v1.losses.sparse_softmax_cross_entropy(labels, out))
    return Trained([features], [out], {"is_training:0": False})


@program
def loss_without_labels(tf: Any, rng: np.random.Generator) -> Trained:
    m = Trainer(tf, rng)
    x = m.x(9)
    out = tf.nn.relu(m.layer(m.dense(x, 5, "d"), m.flag("is_training")), name="out")
    m.minimize(tf.reduce_mean(tf.square(out - 1.0)))
    return Trained([x], [out], {"is_training:0": False})


@program
def whole_network_under_cond(tf: Any, rng: np.random.Generator) -> Trained:
    m = Trainer(tf, rng)
    x, training = m.x(9), m.flag("is_training")
    w, (gamma, beta, mean, variance) = m.var("w", [9, 5]), m.norm(5)

    def net(train: bool) -> Any:
        h = m.v1.matmul(x, w)
        a, b = m.v1.nn.moments(h, [0]) if train else (mean, variance)
        return tf.nn.relu(m.v1.nn.batch_normalization(h, a, b, beta, gamma, 1e-3))

    tower = net(True)
    out = m.out(m.v1.cond(training, lambda: net(True), lambda: net(False)))
    m.minimize(tf.reduce_mean(tower))
    return Trained([x], [out], {"is_training:0": False})


@program
def dropout_by_conditional(tf: Any, rng: np.random.Generator) -> Trained:
    m = Trainer(tf, rng)
    x, training = m.x(9), m.flag("is_training")
    keep = m.v1.cond(training, lambda: tf.constant(0.5), lambda: tf.constant(1.0))
    h = m.v1.nn.dropout(m.layer(m.dense(x, 5, "d"), training), keep_prob=keep)
    out = tf.nn.relu(h, name="out")
    m.minimize(tf.reduce_mean(h))
    return Trained([x], [out], {"is_training:0": False})


@program
def printed_and_asserted(tf: Any, rng: np.random.Generator) -> Trained:
    m = Trainer(tf, rng)
    x = m.x(9)
    with m.v1.control_dependencies([m.v1.Assert(tf.reduce_all(tf.math.is_finite(x)), [x])]):
        h = m.bn(m.dense(tf.identity(x), 5, "d"), m.norm(5))
    quiet = m.v1.Print(h, [tf.shape(h)], "", first_n=0)
    return Trained([x], [m.out(tf.debugging.check_numerics(quiet, "not a number"))])


@program
def deep(tf: Any, rng: np.random.Generator) -> Trained:
    """A chain longer than Python's stack."""
    m = Trainer(tf, rng)
    h = x = m.x(4)
    h = m.bn(m.dense(h, 4, "d"), m.norm(4))
    for _ in range(1200):
        h = tf.abs(h)
    return Trained([x], [m.out(h)])


@program
def batch_norm_in_a_choice(tf: Any, rng: np.random.Generator) -> Trained:
    m = Trainer(tf, rng)
    x, branch = m.x(6), m.flag("branch")
    ws, ns = [m.var("w", [6, 8]), m.var("w2", [6, 8])], [m.norm(8), m.norm(8, "bn2")]
    out = m.v1.cond(
        branch, lambda: m.bn(m.v1.matmul(x, ws[0]), ns[0]), lambda: m.bn(m.v1.matmul(x, ws[1]), ns[1])
    )
    return Trained([x, branch], [m.out(out)], norms=2)


@program
def batch_norm_in_a_loop(tf: Any, rng: np.random.Generator) -> Trained:
    m = Trainer(tf, rng)
    x, w, norm = m.x(6), m.var("w", [6, 6]), m.norm(6)
    _, h = m.v1.while_loop(
        lambda i, h: i < 3,
        lambda i, h: (i + 1, tf.tanh(m.bn(m.v1.matmul(h, w), norm))),
        [tf.constant(0), x],
    )
    return Trained([x], [m.out(h)])


@program
def batch_norm_in_a_loop_of_functions(tf: Any, rng: np.random.Generator) -> Trained:
    tf.compat.v1.enable_control_flow_v2()
    try:
        return batch_norm_in_a_loop(tf, rng)
    finally:
        tf.compat.v1.disable_control_flow_v2()


def _weights(name: str, make: Callable[[Trainer], Any]) -> None:
    def build(tf: Any, rng: np.random.Generator) -> Trained:
        m = Trainer(tf, rng)
        x = m.x(6)
        return Trained([x], [m.out(m.bn(m.v1.matmul(x, make(m)), m.norm(8)))])

    PROGRAMS[name] = build


def _weight_norm(m: Trainer) -> Any:
    v = m.var("v", [6, 8])
    return m.var("g", [8]) * v / m.tf.sqrt(m.tf.reduce_sum(m.tf.square(v), [0]))


def _spectral_norm(m: Trainer) -> Any:
    w, u = m.var("w", [6, 8]), m.var("u", [1, 8], trainable=False)
    v = m.tf.nn.l2_normalize(m.tf.matmul(u, w, transpose_b=True))
    u = m.tf.nn.l2_normalize(m.tf.matmul(v, w))
    return w / m.tf.reshape(m.tf.matmul(m.tf.matmul(v, w), u, transpose_b=True), [])


_weights("weight_norm", _weight_norm)
_weights("spectral_norm", _spectral_norm)
_weights("standardized", lambda m: (lambda w: (w - m.tf.reduce_mean(w, [0])) / 3.0)(m.var("w", [6, 8])))


@program
def written_twice(tf: Any, rng: np.random.Generator) -> Trained:
    """1/sqrt(variance + epsilon) in two places is one batch norm."""
    m = Trainer(tf, rng)
    x, (g, b, mean, v) = m.x(6), m.norm(8)
    h = m.v1.matmul(x, m.var("w", [6, 8]))
    shift = tf.broadcast_to(b - mean * g * tf.math.rsqrt(v + 1e-3), tf.shape(h))
    return Trained([x], [m.out(tf.add_n([h * (g * tf.math.rsqrt(v + 1e-3)), shift]))])


@program
def in_double_precision(tf: Any, rng: np.random.Generator) -> Trained:
    m = Trainer(tf, rng)
    x, (g, b, mean, v) = m.x(6), m.norm(8)
    h, mean, v = (tf.cast(t, tf.float64) for t in (m.v1.matmul(x, m.var("w", [6, 8])), mean, v))
    return Trained([x], [m.out(tf.cast((h - mean) / tf.sqrt(v + 1e-3), tf.float32) * g + b)])


@program
def table_of_labels(tf: Any, rng: np.random.Generator) -> Trained:
    m = Trainer(tf, rng)
    x = m.x(6)
    scores = m.bn(m.dense(x, 3, "d"), m.norm(3))
    words = tf.constant(["cat", "dog", "cow"])
    fill = tf.lookup.KeyValueTensorInitializer(tf.range(3, dtype=tf.int64), words)
    label = tf.lookup.StaticHashTable(fill, "?").lookup(tf.argmax(scores, 1))
    return Trained([x], [m.out(label, "label")])
