"""The models of ONNX's own tests: one for each operator and variant, and those shipped in its wheel."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx

SHIPPED = ("simple", "light", "pytorch-converted", "pytorch-operator")


def node_models(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name, file) of every generated operator model; written once into `folder`."""
    done = folder / f".complete-{onnx.__version__}"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        from onnx.backend.test.case.node import collect_testcases

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for case in collect_testcases(None):
                onnx.save_model(case.model, str(folder / f"{case.name}.onnx"))
        done.touch()
    yield from ((path.stem, path) for path in sorted(folder.glob("*.onnx")))


def shipped_models() -> Iterator[tuple[str, Path]]:
    """(name, file) of the models that the wheel itself holds."""
    root = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for group in SHIPPED:
        for path in sorted((root / group).rglob("*.onnx")):
            name = path.stem if path.stem != "model" else path.parent.name
            yield f"{group}/{name}", path
