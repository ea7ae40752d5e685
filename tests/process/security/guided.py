"""Coverage-guided fuzzing of the gates: `python -m tests.process.security.guided TARGET [--seconds N]`.

Needs atheris, no dependency of the project since it has wheels for few interpreters: `pip install atheris`.

libFuzzer mutates bytes by what they reach in our own code, from the files of the corpus as seeds. A gate may
answer with an error of ours, and with nothing else: any other exception, or a minute without an answer, is a
finding, and its input is left in the current folder (`crash-…`).

The generators of `strategies` know structure and go the whole way; this knows nothing, and gets into the
corners of what parses bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import atheris
import numpy as np

from tests.support.paths import ROOT

OURS = ["folding", "zipfile", "tarfile", "json", "numpy.lib"]
with atheris.instrument_imports(include=OURS):
    from folding.errors import BnfoldError
    from folding.ir import protobuf_wire
    from folding.options import FoldOptions
    from folding.sources.gates import archive, hdf5, keras_archive, keras_config
    from folding.sources.gates import onnx as onnx_gate
    from folding.sources.gates.graphdef import check_graphdef
    from folding.sources.gates.npz import read_npz
    from folding.sources.onnx import weights
    from folding.sources.unpack import open_upload

Target = Callable[[bytes, Path], None]


def _written(data: bytes, folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _wire(data: bytes, folder: Path) -> None:
    with contextlib.suppress(protobuf_wire.WireError):
        protobuf_wire.detach(memoryview(data), threshold=8)


def _onnx(data: bytes, folder: Path) -> None:
    path = _written(data, folder, "model.onnx")
    if data:
        onnx_gate.check_onnx(path)
        weights.read(path, folder)


def _fold(data: bytes, folder: Path) -> None:
    """The whole way but the proof: what passes the gate must fold, or be told what is wrong with it."""
    from folding import pipeline

    _onnx(data, folder)
    options = FoldOptions(verify=False)
    pipeline.fold(folder / "model.onnx", folder / "folded.onnx", options, workdir=folder)


def _frozen(data: bytes, folder: Path) -> None:
    """The same for a frozen graph. TensorFlow itself may end the process, which is why a job has its own."""
    from folding import pipeline

    path = _written(data, folder, "frozen.pb")
    pipeline.fold(path, folder / "folded.onnx", FoldOptions(verify=False), workdir=folder)


def _graphdef(data: bytes, folder: Path) -> None:
    check_graphdef(data)


def _keras(data: bytes, folder: Path) -> None:
    keras_archive.check_keras_archive(_written(data, folder, "model.keras"))


def _config(data: bytes, folder: Path) -> None:
    try:
        config = keras_config.load_json(data, "config.json")
    except ValueError:  # JSONDecodeError, which its callers turn into theirs
        return
    keras_config.check_keras_config(config)


def _hdf5(data: bytes, folder: Path) -> None:
    hdf5.check_h5(_written(data, folder, "model.h5"))


def _archive(data: bytes, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as into:
        archive.extract(_written(data, folder, "upload"), Path(into) / "unpacked")


def _upload(data: bytes, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as into:
        open_upload(_written(data, folder, "upload"), Path(into))


def _npz(data: bytes, folder: Path) -> None:
    read_npz(_written(data, folder, "probe.npz"), "probe")


TARGETS: dict[str, Target] = {
    "wire": _wire, "onnx": _onnx, "graphdef": _graphdef, "keras": _keras, "config": _config, "hdf5": _hdf5,
    "archive": _archive, "upload": _upload, "npz": _npz, "fold": _fold, "frozen": _frozen,
}  # fmt: skip


def seeds(target: str, folder: Path) -> Path:
    """The corpus's small files of the target's kind."""
    from tests.process.security.corpus import build

    kinds = {"archive": "archives", "upload": "archives", "graphdef": "tensorflow", "frozen": "tensorflow"}
    kind = kinds.get(target, "onnx" if target in ("onnx", "wire", "fold") else "keras")
    into = folder / "seeds"
    into.mkdir()
    if target == "npz":
        arrays = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "text": np.array(["a", "b"])}
        np.savez(into / "plain", **arrays)
        np.savez_compressed(into / "compressed", **arrays)
        return into
    if target == "frozen":
        for path in sorted((ROOT / "tests" / "fixtures").rglob("frozen.pb")):
            if path.stat().st_size < 1 << 16:
                (into / path.parent.name).write_bytes(path.read_bytes())
    for case in build(folder / "corpus"):
        found = [case.path] if case.path.is_file() else [p for p in case.path.rglob("*") if p.is_file()]
        for number, path in enumerate(found if case.name.startswith(kind) else ()):
            if not path.is_symlink() and path.stat().st_size < 1 << 16:
                data = configuration(path) if target == "config" else path.read_bytes()
                (into / f"{case.name.replace('/', '-')}-{number}").write_bytes(data)
    return into


def configuration(path: Path) -> bytes:
    """config.json of a .keras file; a bare model for every other file."""
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive:
        return archive.read("config.json")
    return b'{"class_name": "Sequential", "config": {"name": "m", "layers": []}}'


def main() -> None:
    """Fuzz one target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=300)
    arguments, rest = parser.parse_known_args()
    target = TARGETS[arguments.target]
    with tempfile.TemporaryDirectory(prefix="bnfold-fuzz-") as name:
        folder = Path(name)

        def one(data: bytes) -> None:
            with contextlib.suppress(BnfoldError):
                target(data, folder)

        options = [f"-max_total_time={arguments.seconds}", "-timeout=60", "-max_len=65536"]
        options += ["-rss_limit_mb=4096", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options, *rest, str(seeds(arguments.target, folder))], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
