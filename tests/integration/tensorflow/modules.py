"""TensorFlow 2 modules for SavedModels without signatures: what their traced functions look like differs.

Each builder returns the module, the feeds by input name, and its own answers by output name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, Any]
Built = tuple[Any, Arrays, Arrays]
MODULES: dict[str, Callable[[Any, np.random.Generator, Path], Built]] = {}


def module(
    build: Callable[[Any, np.random.Generator, Path], Built],
) -> Callable[[Any, np.random.Generator, Path], Built]:
    MODULES[build.__name__] = build
    return build


def image(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape or (2, 8, 8, 3)).astype(np.float32)


def net(tf: Any, rng: np.random.Generator, channels: int = 3, *, fused: bool = True) -> Any:
    """A convolution and a batch norm, as a tf.Module with an attribute for each variable."""

    class Net(tf.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(rng.normal(size=(3, 3, channels, 4)).astype(np.float32), name="kernel")
            draw = [rng.uniform(0.5, 1.5, 4).astype(np.float32) for _ in range(4)]
            self.gamma, self.beta = tf.Variable(draw[0], name="gamma"), tf.Variable(draw[1], name="beta")
            self.mean = tf.Variable(draw[2], trainable=False, name="moving_mean")
            self.variance = tf.Variable(draw[3], trainable=False, name="moving_variance")

        def forward(self, x: Any, training: Any = False) -> Any:
            h = tf.nn.conv2d(x, self.kernel, 1, "SAME")
            if training:
                mean, variance = tf.nn.moments(h, [0, 1, 2])
                self.mean.assign_sub(0.1 * (self.mean - mean))
                self.variance.assign_sub(0.1 * (self.variance - variance))
                return tf.nn.batch_normalization(h, mean, variance, self.beta, self.gamma, 1e-3)
            if not fused:
                return tf.nn.batch_normalization(h, self.mean, self.variance, self.beta, self.gamma, 1e-3)
            return tf.compat.v1.nn.fused_batch_norm(
                h, self.gamma, self.beta, self.mean, self.variance, 1e-3, is_training=False
            )[0]

    return Net()


def spec(tf: Any, *shape: int | None, dtype: Any = None, name: str | None = None) -> Any:
    return tf.TensorSpec(shape or (None, 8, 8, 3), dtype or tf.float32, name=name)


@module
def norm_by_hand(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    inner = net(tf, rng, fused=False)
    inner.__call__ = tf.function(lambda x: inner.forward(x), input_signature=[spec(tf, name="x")])
    x = image(rng)
    return inner, {"x": x}, {"output_0": inner.forward(x)}


@module
def fused(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    inner = net(tf, rng)
    inner.__call__ = tf.function(lambda x: inner.forward(x), input_signature=[spec(tf, name="x")])
    x = image(rng)
    return inner, {"x": x}, {"output_0": inner.forward(x)}


@module
def both_modes(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    """The way of TF-Hub: a method with a `training` argument, traced for both values; training first."""

    base = net(tf, rng)

    class Reusable(tf.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.base = base

        @tf.function
        def __call__(self, x: Any, training: bool = False) -> Any:
            return tf.nn.relu(self.base.forward(x, training))

    made = Reusable()
    for training in (True, False):
        made.__call__.get_concrete_function(spec(tf), training=training)
    x = image(rng)
    return made, {"x": x}, {"output_0": tf.nn.relu(base.forward(x))}


@module
def training_as_tensor(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    base = net(tf, rng, fused=False)

    class Reusable(tf.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.base = base

        @tf.function
        def __call__(self, x: Any, training: Any) -> Any:
            return tf.cond(training, lambda: base.forward(x, True), lambda: base.forward(x, False))

    made = Reusable()
    made.__call__.get_concrete_function(spec(tf), tf.TensorSpec([], tf.bool))
    x = image(rng)
    return made, {"x": x}, {"output_0": base.forward(x)}


@module
def two_shapes(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    made = net(tf, rng)
    made.__call__ = tf.function(lambda x: made.forward(x))
    for shape in ((1, 8, 8, 3), (None, None, None, 3), (None, 8, 8, 3)):
        made.__call__.get_concrete_function(spec(tf, *shape))
    x = image(rng, 2, 6, 6, 3)
    return made, {"x": x}, {"output_0": made.forward(x)}


@module
def dictionaries(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    """Nested arguments and results; keys that are not in order, a keyword of its own, a tuple inside."""
    made = net(tf, rng)

    def call(inputs: Any, *, shift: Any) -> Any:
        h = made.forward(inputs["right"] - inputs["left"])
        return {"z": h + shift, "a": (tf.reduce_mean(h, [1, 2]), {"deep": h * 2.0})}

    made.__call__ = tf.function(call)
    made.__call__.get_concrete_function(
        {"right": spec(tf), "left": spec(tf)}, shift=spec(tf, 4, name="shift")
    )
    feeds = {"right": image(rng), "left": image(rng)}
    shift = image(rng, 4)
    answer = call(feeds, shift=shift)
    wanted = {"z": answer["z"], "a_0": answer["a"][0], "a_1_deep": answer["a"][1]["deep"]}
    return made, {**{f"inputs_{key}": value for key, value in feeds.items()}, "shift": shift}, wanted


@module
def several_results(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    made = net(tf, rng)

    def call(x: Any, y: Any) -> Any:
        h = made.forward(x)
        return h, None, [h + y, tf.reduce_max(h, [1, 2])]

    made.__call__ = tf.function(call)
    made.__call__.get_concrete_function(spec(tf), spec(tf, 4))
    x, y = image(rng), image(rng, 4)
    first, _, (second, third) = call(x, y)
    return made, {"x": x, "y": y}, {"output_0": first, "output_1": second, "output_2": third}


@module
def captured_constant(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    made = net(tf, rng)
    scale = tf.constant(image(rng, 4))
    made.__call__ = tf.function(lambda x: made.forward(x) * scale, input_signature=[spec(tf, name="x")])
    x = image(rng)
    return made, {"x": x}, {"output_0": made.forward(x) * scale}


def words(tf: Any, rng: np.random.Generator, table: Any) -> Built:
    """Look up, embed, and normalize: a text model as TF-Hub has them."""

    class Words(tf.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.table = table
            self.rows = tf.Variable(rng.normal(size=(4, 6)).astype(np.float32), name="embeddings")
            self.kernel = tf.Variable(rng.normal(size=(6, 5)).astype(np.float32), name="kernel")
            draw = [rng.uniform(0.5, 1.5, 5).astype(np.float32) for _ in range(4)]
            self.gamma, self.beta = tf.Variable(draw[0], name="gamma"), tf.Variable(draw[1], name="beta")
            self.mean, self.variance = (
                tf.Variable(draw[2], name="moving_mean"), tf.Variable(draw[3], name="moving_variance")
            )  # fmt: skip

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="words")])
        def __call__(self, text: Any) -> Any:
            h = tf.matmul(tf.gather(self.rows, self.table.lookup(text)), self.kernel)
            return tf.nn.batch_normalization(h, self.mean, self.variance, self.beta, self.gamma, 1e-3)

    made = Words()
    text = np.array(["cat", "dog", "nobody"], object)
    return made, {"words": text}, {"output_0": made(tf.constant(text))}


@module
def captured_table(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    keys = tf.constant(["cat", "dog", "bird"])
    initializer = tf.lookup.KeyValueTensorInitializer(keys, tf.constant([0, 1, 2], tf.int64))
    return words(tf, rng, tf.lookup.StaticHashTable(initializer, 3))


@module
def captured_table_of_a_file(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    (folder / "vocabulary.txt").write_text("bird\ndog\ncat\n")
    initializer = tf.lookup.TextFileInitializer(
        str(folder / "vocabulary.txt"), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
    )  # fmt: skip
    return words(tf, rng, tf.lookup.StaticHashTable(initializer, 3))


@module
def two_tables(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    """Two tables that differ: each lookup must reach its own."""

    class Pair(tf.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.tables = [
                tf.lookup.StaticHashTable(
                    tf.lookup.KeyValueTensorInitializer(
                        tf.constant(["cat", "dog"]), tf.constant(values, tf.int64)
                    ),
                    default,
                )
                for values, default in (([0, 1], 1), ([1, 0], 0))
            ]

        def lookup(self, text: Any) -> Any:
            return self.tables[0].lookup(text) + 2 * self.tables[1].lookup(text)

    return words(tf, rng, Pair())


@module
def nested_modules(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    """Variables of one name in submodules, in a list and in a dictionary."""

    class Deep(tf.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.blocks = [net(tf, rng), net(tf, rng, 4)]
            self.heads = {"b": net(tf, rng, 4), "a": net(tf, rng, 4, fused=False)}

        @tf.function
        def __call__(self, x: Any) -> Any:
            for block in self.blocks:
                x = tf.nn.relu(block.forward(x))
            return {key: head.forward(x) for key, head in self.heads.items()}

    made = Deep()
    made.__call__.get_concrete_function(spec(tf))
    x = image(rng)
    return made, {"x": x}, made(tf.constant(x))


@module
def another_name(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    """No `__call__`: the only function is called something else."""
    made = net(tf, rng)
    made.predict = tf.function(lambda picture: {"scores": made.forward(picture)})
    made.predict.get_concrete_function(spec(tf))
    x = image(rng)
    return made, {"picture": x}, {"scores": made.forward(x)}


@module
def of_a_submodule(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    inner = net(tf, rng)
    inner.__call__ = tf.function(lambda x: inner.forward(x))
    inner.__call__.get_concrete_function(spec(tf))
    outer = tf.Module()
    outer.model = inner
    x = image(rng)
    return outer, {"x": x}, {"output_0": inner.forward(x)}


@module
def concrete_function(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    """An attribute that is one concrete function."""
    made = net(tf, rng)
    made.serve = tf.function(lambda x: made.forward(x)).get_concrete_function(spec(tf))
    x = image(rng)
    return made, {"x": x}, {"output_0": made.forward(x)}


@module
def plain_arguments(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    """Traced with several values of an argument: the default's trace is meant."""
    made = net(tf, rng)

    def call(x: Any, training: Any = None, scale: float = 2.0, features: bool = False) -> Any:
        h = made.forward(x, training) * scale
        return h if features else tf.reduce_mean(h, [1, 2])

    made.__call__ = tf.function(call)
    for training in (True, None):
        for scale in (1.0, 2.0):
            for features in (True, False):
                made.__call__.get_concrete_function(spec(tf), training, scale, features)
    x = image(rng)
    return made, {"x": x}, {"output_0": call(x)}


@module
def loaded_and_saved_again(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    """A reusable SavedModel that another one holds: restored functions around restored functions."""
    first, feeds, wanted = both_modes(tf, rng, folder)
    tf.saved_model.save(first, str(folder / "first"))

    class Outer(tf.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.hub = tf.saved_model.load(str(folder / "first"))
            self.head = tf.Variable(rng.normal(size=(4, 5)).astype(np.float32), name="head")

        @tf.function(input_signature=[spec(tf, name="x")])
        def __call__(self, x: Any) -> Any:
            return tf.matmul(tf.reduce_mean(self.hub(x, training=False), [1, 2]), self.head)

    made = Outer()
    answer = tf.matmul(tf.reduce_mean(wanted["output_0"], [1, 2]), made.head)
    return made, feeds, {"output_0": answer}


@module
def loop_over_captured_variables(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    made = net(tf, rng)
    made.step = tf.Variable(rng.normal(size=(4, 4)).astype(np.float32) / 4, name="step")

    def call(x: Any) -> Any:
        h = tf.reduce_mean(made.forward(x), [1, 2])
        return tf.while_loop(
            lambda i, h: i < 3, lambda i, h: (i + 1, tf.tanh(tf.matmul(h, made.step))), (0, h)
        )[1]

    made.__call__ = tf.function(call, input_signature=[spec(tf, name="x")])
    x = image(rng)
    return made, {"x": x}, {"output_0": call(x)}


@module
def saved_again_as_it_was(tf: Any, rng: np.random.Generator, folder: Path) -> Built:
    first, feeds, wanted = both_modes(tf, rng, folder)
    tf.saved_model.save(first, str(folder / "first"))
    return tf.saved_model.load(str(folder / "first")), feeds, wanted
