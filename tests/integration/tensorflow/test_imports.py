"""What the import of TensorFlow brings along; a habit that is worked around fails a test when it ends."""

from __future__ import annotations

import subprocess
import sys


def test_tensorflow_leaves_keras_to_those_who_read_keras_files() -> None:
    code = (
        "import sys\n"
        "from folding.sources.tensorflow.graph.runtime import tensorflow\n"
        "tf = tensorflow()\n"
        "print('keras' in sys.modules, 'keras.src.optimizers' in sys.modules)\n"
        "import keras\n"
        "print(keras.layers.Dense(2)(tf.ones((1, 3))).shape, tf.keras.layers.Dense is keras.layers.Dense)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["False False", "(1, 2) True"], done.stderr


def test_tensorflow_still_imports_keras_by_itself() -> None:
    """Fails when it no longer does: `runtime._without_keras` can go then."""
    import tensorflow

    with open(tensorflow.__file__, encoding="utf-8") as file:
        assert 'importlib.import_module("keras.src.optimizers")' in file.read()
