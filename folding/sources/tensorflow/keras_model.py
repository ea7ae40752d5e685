"""Keras files: `.keras` archives and `.h5` (Keras 3; Keras 1 and 2 through tf-keras).

The model is rebuilt from its configuration by the Keras that wrote it, traced once in inference mode, and
from there on it is a program like any other: its variables are placeholders, its values are read on demand.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from folding.errors import AmbiguousModel, BnfoldError, CorruptModel, UnsupportedModel
from folding.options import FoldOptions
from folding.progress import Progress
from folding.report import Inspection, TensorInfo
from folding.sources.base import Feeds, Imported, Upload
from folding.sources.tensorflow.convert import importer
from folding.sources.tensorflow.graph import protobuf_io
from folding.sources.tensorflow.graph.program import Port, Program, Slot
from folding.sources.tensorflow.graph.runtime import quiet, tensorflow
from folding.sources.tensorflow.graph.tf_graph import TfGraph, shape_attr
from folding.sources.tensorflow.graph.weights import ArrayWeights
from folding.sources.tensorflow.infer import signature
from folding.sources.tensorflow.rewrite import channels_last
from folding.sources.unpack import is_keras

_HDF5 = b"\x89HDF\r\n\x1a\n"


class KerasFormat:
    """The `Format` for `.keras` and `.h5`."""

    name = "keras"

    def sniff(self, upload: Upload) -> bool:
        """An HDF5 file, or a zip with `config.json` and `metadata.json`."""
        return bool(_files(upload))

    def load(self, upload: Upload, options: FoldOptions, workdir: Path, progress: Progress) -> Imported:
        """See `folding.sources.base.Format`."""
        model, flavour = open_model(_only(_files(upload)))
        progress.report("read", 0.1, f"traced with {flavour}")
        program = trace(model, flavour, options)
        runs_here = not channels_last.has_channels_first(program.graph)  # eager kernels: channels last only
        imported = importer.import_program(self.name, upload, program, options, progress)
        if runs_here and not options.outputs and not options.feeds:
            imported.reference = KerasReference(model, imported.source.inputs, imported.source.outputs)
        return imported

    def inspect(
        self, upload: Upload, options: FoldOptions, workdir: Path
    ) -> tuple[Inspection, dict[str, np.ndarray]]:
        """See `folding.sources.base.Format`; a weights-only `.h5` is read without a graph."""
        path = _only(_files(upload))
        if (weights := weights_only(path)) is not None:
            from folding.sources.tensorflow.weights_only import inspect_weights

            return inspect_weights(self.name, upload, weights, "keras weights file")
        model, flavour = open_model(path)
        return importer.inspect_program(self.name, upload, trace(model, flavour, options), options)


def _files(upload: Upload) -> list[Path]:
    paths = [upload.root / name for name in upload.files] or [upload.path]
    return [path for path in paths if path.is_file() and (_is_hdf5(path) or is_keras(path))]


def _only(paths: list[Path]) -> Path:
    if len(paths) > 1:
        raise AmbiguousModel(
            f"The upload holds {len(paths)} Keras files: {', '.join(p.name for p in paths)}.",
            code="ambiguous_keras_files",
            hint="Give one of them.",
            details={"candidates": [p.name for p in paths]},
        )
    return paths[0]


def _is_hdf5(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(8) == _HDF5
    except OSError:
        return False


def open_model(path: Path) -> tuple[Any, str]:
    """The model and the library that read it.

    Raises:
        UnsupportedModel: `weights_only`, `keras_config` when no Keras here can rebuild the model.
        CorruptModel: `corrupt_keras` when the file itself cannot be read.
    """
    if is_keras(path):
        protobuf_io.gate("keras_config", "check_keras_archive", path)
        order = ["keras"]
    else:
        protobuf_io.gate("hdf5", "check_h5", path)
        if weights_only(path) is not None:
            raise UnsupportedModel(
                f"{path.name!r} holds weights and no model configuration.",
                code="weights_only",
                hint="Save the whole model (model.save), not model.save_weights; `bnfold "
                "inspect` reads its statistics.",
            )
        order = ["keras", "tf-keras"] if _version(path).startswith("3") else ["tf-keras", "keras"]
    problems = []
    tensorflow()
    for flavour in order:
        try:
            with quiet():
                return _load(path, flavour), flavour
        except BnfoldError:
            raise
        except OSError as error:
            raise CorruptModel(
                f"{path.name!r} cannot be read: {str(error)[:200]}",
                code="corrupt_keras",
                hint="The file is truncated or damaged; copy it again.",
            ) from error
        except Exception as error:  # noqa: BLE001 - Keras raises whatever its layers raise
            problems.append(f"{flavour}: {type(error).__name__}: {' '.join(str(error).split())[:240]}")
    raise UnsupportedModel(
        f"The model in {path.name!r} cannot be rebuilt. {' | '.join(problems)}",
        code="keras_config",
        hint="Layers of your own cannot be rebuilt from a file; export a SavedModel (model.export) instead.",
    )


def _load(path: Path, flavour: str) -> Any:
    if flavour == "keras":
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        import keras

        return keras.models.load_model(path, compile=False, safe_mode=True)
    import tf_keras

    return tf_keras.models.load_model(path, compile=False)


def _version(path: Path) -> str:
    import h5py

    with h5py.File(path, "r") as file:
        version = file.attrs.get("keras_version", b"")
        if not version and "model_weights" in file:
            version = file["model_weights"].attrs.get("keras_version", b"")
    return version.decode() if isinstance(version, bytes) else str(version)


def weights_only(path: Path) -> ArrayWeights | None:
    """The arrays of an HDF5 file without `model_config`, by their variables' names; else None."""
    if not _is_hdf5(path):
        return None
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if "model_config" in file.attrs:
                return None
            arrays: dict[str, np.ndarray] = {}

            def visit(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset):
                    arrays[_variable_name(name)] = np.asarray(item)

            file.visititems(visit)
    except OSError as error:
        raise CorruptModel(
            f"{path.name!r} is not a complete HDF5 file: {str(error)[:160]}",
            code="corrupt_keras",
            hint="The file is truncated or damaged; copy it again.",
        ) from error
    return ArrayWeights(arrays)


def _variable_name(name: str) -> str:
    """`bn/bn/gamma:0` -> `bn/gamma`: Keras writes the layer's name twice."""
    parts = name.split(":")[0].removeprefix("model_weights/").split("/")
    half = len(parts) // 2
    if len(parts) > 2 and parts[:half] == parts[half : 2 * half]:
        parts = parts[half:]
    return "/".join(parts)


def trace(model: Any, flavour: str, options: FoldOptions) -> Program:
    """One tracing in inference mode; captured variables become variable nodes under their own names."""
    tf = tensorflow()
    inputs = list(getattr(model, "inputs", None) or [])
    if not inputs:
        raise AmbiguousModel(
            "The model was never built, so its input shape is unknown.",
            code="unbuilt_model",
            hint="Call the model once on data before saving it.",
        )
    names = _input_names(model, inputs)
    specs = [
        tf.TensorSpec([None if d is None else int(d) for d in t.shape], t.dtype, name=_safe(name))
        for t, name in zip(inputs, names, strict=True)
    ]

    def call(*arguments: Any) -> Any:
        packed = arguments[0] if len(arguments) == 1 else list(arguments)
        structure = getattr(model, "_inputs_struct", None)
        if structure is not None:
            packed = tf.nest.pack_sequence_as(structure, list(arguments))
        return tf.nest.flatten(model(packed, training=False))

    with quiet():
        concrete = tf.function(call, autograph=False).get_concrete_function(*specs)
    return _program(model, flavour, concrete, names, options)


def _input_names(model: Any, inputs: list[Any]) -> list[str]:
    held = list(getattr(model, "input_names", None) or [])
    return held if len(held) == len(inputs) else [str(t.name).split(":")[0] for t in inputs]


def _safe(name: str) -> str:
    import re

    return re.sub(r"[^A-Za-z0-9_.]", "_", name)


def _program(model: Any, flavour: str, concrete: Any, names: list[str], options: FoldOptions) -> Program:
    graph_def = concrete.graph.as_graph_def()
    graph = TfGraph(graph_def)
    variables = _variables(model)
    arrays: dict[str, Any] = {}
    slots: dict[str, Slot] = {}
    momenta = _momenta(model)
    for external, internal in concrete.graph.captures:
        node = internal.op.name
        if internal.dtype == tensorflow().resource:
            variable = variables.get(id(external)) or _by_handle(concrete, external)
            if variable is None:
                raise UnsupportedModel(
                    f"The model holds a lookup table or another resource ({node!r}) that is no variable.",
                    code="unsupported_resource",
                    layer=node,
                    hint="Export a SavedModel (model.export, or model.save of Keras 2), which holds its "
                    "contents, or save the part of the model that lies behind it.",
                )
            name = _bind_variable(graph, node, *variable)
            arrays[name] = variable[0].numpy
            slots[name] = Slot(name)
        else:
            graph.set_constant(node, np.asarray(external))
    weights = _LazyArrays(arrays, {name: graph.nodes[name] for name in arrays})
    free = [tensor for tensor in concrete.inputs if tensor.dtype != tensorflow().resource][: len(names)]
    inputs = [Port(tensor.name, name) for tensor, name in zip(free, names, strict=True)]
    outputs = [
        Port(tensor.name, name)
        for tensor, name in zip(concrete.outputs, _output_names(model, len(concrete.outputs)), strict=True)
    ]
    program = Program(graph, weights, slots=slots, framework=_framework(flavour), momenta=momenta)
    program.signatures = {
        "serving_default": {
            "inputs": [_info(graph, port) for port in inputs],
            "outputs": [_info(graph, port) for port in outputs],
        }
    }
    program.inputs, program.outputs = signature.choose(graph, options, inputs=inputs, outputs=outputs)
    return program


def _info(graph: TfGraph, port: Port) -> TensorInfo:
    return signature.info(graph, port)


class _LazyArrays(ArrayWeights):
    """Keras variables: described by their nodes, read by their `numpy`."""

    def __init__(self, arrays: dict[str, Any], nodes: dict[str, Any]) -> None:
        super().__init__(arrays)
        self._kinds = {
            name: (int(node.attr["dtype"].type), tuple(int(d.size) for d in node.attr["shape"].shape.dim))
            for name, node in nodes.items()
        }

    def describe(self, name: str) -> tuple[int, tuple[int, ...]]:
        return self._kinds[name]


def _variables(model: Any) -> dict[int, tuple[Any, str]]:
    """(tf.Variable, name) by the identity of its handle."""
    found = {}
    for variable in [*model.variables, *_seeds(model)]:
        held = getattr(variable, "value", variable)
        held = held if hasattr(held, "handle") else getattr(variable, "_value", variable)
        if hasattr(held, "handle"):
            path = getattr(variable, "path", None) or variable.name
            found[id(held.handle)] = (held, str(path).split(":")[0])
    return found


def _seeds(model: Any) -> list[Any]:
    return list(getattr(model, "non_trainable_variables", []))


def _by_handle(concrete: Any, external: Any) -> tuple[Any, str] | None:
    for variable in concrete.graph.variables:
        if variable.handle is external:
            return variable, variable.name.split(":")[0]
    return None


def _bind_variable(graph: TfGraph, placeholder: str, variable: Any, name: str) -> str:
    """The captured placeholder becomes a VarHandleOp with the variable's own name."""
    graph.nodes.pop(placeholder)
    node = graph.add("VarHandleOp", name, dtype=int(variable.dtype.as_datatype_enum))
    node.attr["shape"].CopyFrom(shape_attr([int(d) for d in variable.shape]))
    graph.rewire({placeholder: node.name})
    return str(node.name)


def _output_names(model: Any, count: int) -> list[str]:
    names = [str(name) for name in (getattr(model, "output_names", None) or [])]
    if len(names) != count or len(set(names)) != count:
        return [f"output_{index}" for index in range(count)]
    return names


def _momenta(model: Any) -> dict[str, float]:
    """Momentum by the name of the moving mean, from the layers themselves."""
    found: dict[str, float] = {}
    stack = list(getattr(model, "layers", []))
    while stack:
        layer = stack.pop()
        stack.extend(getattr(layer, "layers", []))
        mean, momentum = getattr(layer, "moving_mean", None), getattr(layer, "momentum", None)
        if mean is not None and momentum is not None:
            name = str(getattr(mean, "path", None) or mean.name).split(":")[0]
            found[name] = float(momentum)
    return found


def _framework(flavour: str) -> str:
    from importlib import metadata

    return f"{flavour} {metadata.version(flavour)}"


class KerasReference:
    """The Keras model itself, called eagerly with `training=False`."""

    name = "keras"
    precision = "float32"

    def __init__(self, model: Any, inputs: list[TensorInfo], outputs: list[TensorInfo]) -> None:
        """inputs, outputs: of the ONNX graph, in the model's order."""
        self._model = model
        self._inputs = [info.name for info in inputs]
        self._outputs = [info.name for info in outputs]

    def run(self, feeds: Feeds) -> Feeds:
        """Outputs by name."""
        tf = tensorflow()
        names = _input_names(self._model, list(self._model.inputs))
        arguments = [tf.constant(feeds[name]) for name in names]
        packed: Any = arguments[0] if len(arguments) == 1 else arguments
        structure = getattr(self._model, "_inputs_struct", None)
        if structure is not None:
            packed = tf.nest.pack_sequence_as(structure, arguments)
        with quiet():
            results = tf.nest.flatten(self._model(packed, training=False))
        return {name: np.asarray(result) for name, result in zip(self._outputs, results, strict=True)}

    def close(self) -> None:
        """Let the model go."""
        self._model = None


def configuration(path: Path) -> dict[str, Any]:
    """The model's configuration as JSON (no class is built)."""
    import h5py

    with h5py.File(path, "r") as file:
        text = file.attrs["model_config"]
    parsed: dict[str, Any] = json.loads(text.decode() if isinstance(text, bytes) else text)
    return parsed


FORMAT = KerasFormat()
