"""`.h5` files of Keras 3: operations in a functional model, and the layers of `keras.applications`.

Given:  {"class_name": "Add", "config": {"name": "add"}, "inbound_nodes": [{"args": [tensor, 3.0]}]}
Result: the same with "module": "keras.src.ops.numpy", so that Keras builds the operation `x + 3.0`

Keras 3 writes the bare class name of an operation into `.h5` files and looks it up among its layers when it
reads them: `x + 3.0`, `x[:, 0]`, or the mask of an Embedding cannot be loaded again, though nothing is lost.
"""

from __future__ import annotations

import importlib
import inspect
from contextlib import ExitStack
from pathlib import Path
from typing import Any

_OPERATIONS = ("numpy", "nn", "math", "image", "linalg", "core")
_APPLICATIONS = {
    "LayerScale": "convnext",
    "StochasticDepth": "convnext",
    "CustomScaleLayer": "inception_resnet_v2",
}


def load(path: Path) -> Any:
    """Return the Keras 3 model of an `.h5` file. Raises: whatever Keras raises."""
    import h5py
    from keras.src.legacy.saving import json_utils, legacy_h5_format, saving_options, saving_utils
    from keras.src.saving import serialization_lib

    with h5py.File(path, "r") as file, ExitStack() as scopes:
        text = file.attrs["model_config"]
        config = json_utils.decode(text.decode("utf-8") if isinstance(text, bytes) else text)
        name_operations(config)
        scopes.enter_context(saving_options.keras_option_scope(use_legacy_config=True))
        scopes.enter_context(serialization_lib.SafeModeScope(True))
        model = saving_utils.model_from_config(config, custom_objects=application_layers("keras.src"))
        legacy_h5_format.load_weights_from_hdf5_group(file["model_weights"], model)
    return model


def moved_classes() -> dict[str, Any]:
    """Return the classes of Keras 2 whose modules moved from version to version, by name.

    A `.keras` file names the module of a class that has no public name: `keras.engine.functional` in 2.12,
    `keras.src.engine.functional` since 2.13, `tf_keras.src.engine.functional` in tf-keras.
    """
    operators = importlib.import_module("tf_keras.src.layers.core.tf_op_layer")
    names = ("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty")
    found = {name: getattr(operators, name) for name in names}
    return found | {
        "Functional": importlib.import_module("tf_keras.src.engine.functional").Functional,
        **application_layers("tf_keras.src"),
    }


def application_layers(package: str) -> dict[str, Any]:
    """Return the layers that `keras.applications` defines for itself, by class name."""
    return {
        name: getattr(importlib.import_module(f"{package}.applications.{module}"), name)
        for name, module in _APPLICATIONS.items()
    }


def name_operations(config: Any) -> None:
    """Give every operation of a functional model, and of the models inside it, its module. In place."""
    held = config.get("config") if isinstance(config, dict) else None
    layers = held.get("layers") if isinstance(held, dict) else None
    for layer in layers if isinstance(layers, list) else ():
        if not isinstance(layer, dict):
            continue
        if is_operation(layer) and (module := _module_of(str(layer.get("class_name")))):
            layer |= {"module": module, "registered_name": layer["class_name"]}
        elif _names_a_function(layer):
            layer |= {"module": "keras.layers", "registered_name": None}
        name_operations(layer)
        inner = layer["config"].get("layer") if isinstance(layer.get("config"), dict) else None
        name_operations(inner)  # of a wrapper such as TimeDistributed


def is_operation(layer: dict[str, Any]) -> bool:
    """Whether an entry is an operation: every layer writes down whether it can be trained."""
    config = layer.get("config")
    return "module" not in layer and isinstance(config, dict) and not {"trainable", "layers"} & set(config)


def _names_a_function(layer: dict[str, Any]) -> bool:
    """Whether a setting is called as a function of `keras.layers` (`dot`), for which Keras would take it."""
    from keras import layers

    config = layer.get("config")
    return isinstance(config, dict) and any(
        isinstance(value, str) and key != "name" and inspect.isfunction(getattr(layers, value, None))
        for key, value in config.items()
    )


def _module_of(name: str) -> str | None:
    from keras import Operation

    for each in _OPERATIONS:
        module = f"keras.src.ops.{each}"
        found = getattr(importlib.import_module(module), name, None)
        if inspect.isclass(found) and issubclass(found, Operation):
            return module
    return None
