"""Hand-made hostile models: each is small, and each one harms a tool that trusts it.

`build(folder)` writes them all and says which codes a refusal may carry; `python -m
tests.process.security.corpus DIR` makes the corpus for other tools. TensorFlow's protobufs are only written
here, nothing of it is run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Codes with which an upload that is simply broken or of no known kind is turned away.
BROKEN = frozenset(
    ("corrupt_model", "unknown_format", "empty_file", "corrupt_protobuf", "corrupt_keras", "empty_graph",
     "empty_archive", "missing_weights", "corrupt_checkpoint", "ambiguous_outputs", "ambiguous_inputs",
     "unknown_op", "unsupported_op", "invalid_onnx", "conversion_failed", "unsupported_model",
     "unknown_opset", "dangling_reference")
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One hostile input. `codes`: what the refusal may be called; empty: it must be harmless and may pass."""

    name: str
    path: Path
    codes: frozenset[str]


Entry = tuple[str, Callable[[Path], Path | None], frozenset[str]]


def build(folder: Path) -> list[Case]:
    """Write every case below `folder`, each in a folder of its own."""
    from tests.process.security import (
        corpus_archives,
        corpus_formats,
        corpus_keras,
        corpus_onnx,
        corpus_tensorflow,
    )

    cases = []
    for module in (corpus_archives, corpus_tensorflow, corpus_keras, corpus_onnx, corpus_formats):
        kind = module.__name__.rsplit("_", 1)[-1]
        for name, write, codes in _entries(module.entries()):
            home = folder / kind / name
            home.mkdir(parents=True)
            path = write(home)
            if path is None:  # the machine cannot make this one (no permission for a device node)
                continue
            cases.append(Case(f"{kind}/{name}", path, codes))
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), "two cases have one name"
    return cases


def _entries(entries: Iterator[tuple[str, Callable[[Path], Path | None], str]]) -> Iterator[Entry]:
    for name, write, codes in entries:
        held = frozenset(codes.split())
        yield name, write, (held - {"broken"}) | (BROKEN if "broken" in held else frozenset())


if __name__ == "__main__":
    made = build(Path(sys.argv[1]))
    print(f"{len(made)} files")
