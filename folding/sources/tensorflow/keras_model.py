"""Keras files: `.keras` archives and `.h5` of Keras 3 and Keras 2, `.h5` of Keras 1 (both through tf-keras).

The model is rebuilt from its configuration by the Keras that wrote it, traced once in inference mode, and
from there on it is a program like any other: its variables are placeholders, its values are read on demand.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from folding.errors import BnfoldError, CorruptModel, UnsupportedModel
from folding.options import FoldOptions
from folding.progress import Progress
from folding.report import Inspection
from folding.sources.base import Imported, Upload, only
from folding.sources.tensorflow import keras_h5
from folding.sources.tensorflow import weights_only as weights_inspection
from folding.sources.tensorflow.convert import importer
from folding.sources.tensorflow.graph import protobuf_io
from folding.sources.tensorflow.graph.runtime import quiet, tensorflow
from folding.sources.tensorflow.keras_reference import KerasReference
from folding.sources.tensorflow.keras_trace import trace
from folding.sources.tensorflow.keras_weights import is_hdf5, weights_only
from folding.sources.tensorflow.rewrite import channels_last
from folding.sources.unpack import is_keras


class KerasFormat:
    """The `Format` for `.keras` and `.h5`."""

    name = "keras"

    def sniff(self, upload: Upload) -> bool:
        """An HDF5 file, or a zip with `config.json` and `metadata.json`."""
        return bool(_files(upload))

    def load(self, upload: Upload, options: FoldOptions, workdir: Path, progress: Progress) -> Imported:
        """See `folding.sources.base.Format`."""
        model, flavour = open_model(only(_files(upload), "Keras files", "ambiguous_keras_files"))
        progress.report("read", 0.1, f"traced with {flavour}")
        program = trace(model, flavour, options)
        runs_here = not channels_last.has_channels_first(program.graph)  # eager kernels: channels last only
        imported = importer.import_program(self.name, upload, program, options, progress)
        changes = any(told.what == "updates" for told in imported.source.assumptions)  # and so its answers
        if runs_here and not changes and not options.outputs and not options.feeds:
            imported.reference = KerasReference(model, imported.source.inputs, imported.source.outputs)
        return imported

    def inspect(
        self, upload: Upload, options: FoldOptions, workdir: Path
    ) -> tuple[Inspection, dict[str, np.ndarray]]:
        """See `folding.sources.base.Format`; a weights-only `.h5` is read without a graph."""
        path = only(_files(upload), "Keras files", "ambiguous_keras_files")
        if (weights := weights_only(path)) is not None:
            return weights_inspection.inspect_weights(self.name, upload, weights, "keras weights file")
        model, flavour = open_model(path)
        return importer.inspect_program(self.name, upload, trace(model, flavour, options), options)


def _files(upload: Upload) -> list[Path]:
    return upload.matching(lambda path: is_hdf5(path) or is_keras(path))


def open_model(path: Path) -> tuple[Any, str]:
    """The model and the library that read it.

    Raises:
        UnsupportedModel: `weights_only`, `keras_config` when no Keras here can rebuild the model.
        CorruptModel: `corrupt_keras` when the file itself cannot be read.
    """
    if is_keras(path):
        protobuf_io.gate("keras_archive", "check_keras_archive", path)
        order = ["tf-keras", "keras"] if _version(path).startswith("2.") else ["keras"]
    else:
        protobuf_io.gate("hdf5", "check_h5", path)
        if (weights := weights_only(path)) is not None:
            readable = "; `bnfold inspect` reads its statistics" if weights_inspection.known(weights) else ""
            raise UnsupportedModel(
                f"{path.name!r} holds weights and no model configuration.",
                code="weights_only",
                hint=f"Save the whole model (model.save), not model.save_weights{readable}.",
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
        f"The model in {path.name!r} cannot be rebuilt from its configuration. {' | '.join(problems)}",
        code="keras_config",
        hint="All its layers have names of Keras's own, so that the versions of Keras differ or the "
        f"configuration was changed. Load it with the Keras that wrote it{_written_by(path)} and export a "
        "SavedModel (model.export).",
    )


def _written_by(path: Path) -> str:
    version = _version(path)
    return f" ({version[:20]})" if version else ""


def _load(path: Path, flavour: str) -> Any:
    if flavour == "keras":
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        import keras

        if is_hdf5(path):
            return keras_h5.load(path)
        return keras.models.load_model(path, compile=False, safe_mode=True)
    import tf_keras

    if is_keras(path):
        moved = keras_h5.moved_classes()
        return tf_keras.models.load_model(path, compile=False, custom_objects=moved, safe_mode=True)
    layers = keras_h5.application_layers("tf_keras.src")
    return tf_keras.models.load_model(path, compile=False, custom_objects=layers)


def _version(path: Path) -> str:
    """The version of Keras that wrote the file; empty where it does not say."""
    if is_keras(path):
        with zipfile.ZipFile(path) as archive:
            found = json.loads(archive.read("metadata.json"))
        return str(found.get("keras_version", "")) if isinstance(found, dict) else ""
    import h5py

    with h5py.File(path, "r") as file:
        version = file.attrs.get("keras_version", b"")
        if not version and "model_weights" in file:
            version = file["model_weights"].attrs.get("keras_version", b"")
    return version.decode() if isinstance(version, bytes) else str(version)


FORMAT = KerasFormat()
