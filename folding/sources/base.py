"""What every format delivers: a graph with its weights bound, what is known of it, and a reference.

A format is one module with an object that satisfies `Format`, and one line in `sources.FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import onnx_ir as ir

from folding.errors import AmbiguousModel
from folding.ir.types import Feeds
from folding.norms.base import NormHint
from folding.options import FoldOptions
from folding.progress import Progress
from folding.report import Inspection, SourceReport


class Reference(Protocol):
    """Something that computes the model's outputs and is not the artifact.

    `name` goes into the report (`tensorflow`, `keras`, `onnx-unfolded`, `float64`);
    `precision` is the arithmetic that it really used, `float32` or `float64`.
    """

    name: str
    precision: str

    def run(self, feeds: Feeds) -> Feeds:
        """Outputs by the ONNX graph's output names for inputs by the ONNX graph's input names."""
        ...

    def close(self) -> None:
        """Free sessions and memory."""
        ...


@dataclass(frozen=True)
class SourceLayer:
    """What a source runtime computed for one operator, by the name that the unfolded graph has for it.

    reads: names of the computed values that the operator reads. quantization: scale and zero point of a
    value that is stored in integers. steps: how many quantization steps the runtime's kernel may lie from
    real arithmetic; None where no bound is known.
    """

    name: str
    op: str
    value: np.ndarray
    reads: tuple[str, ...]
    quantization: tuple[float, int] | None
    steps: float | None


@runtime_checkable
class LayeredReference(Protocol):
    """A reference that hands out what it computed for each operator.

    judged: False where its outputs, end to end, differ by more than float rounding because it rounds to
    integers after every operator. Then the operators are judged, each fed the runtime's own values.
    deployed: the same model as its users run it, where `run` had to leave such rounding out; reported only.
    """

    judged: bool
    deployed: Reference | None

    def layers(self, feeds: Feeds) -> Sequence[SourceLayer]:
        """Every operator of the main graph, in order. Raises what `run` raises."""
        ...


@dataclass
class Imported:
    """A model in the IR, before anything was folded.

    model: onnx_ir model; initializers carry their tensors (lazily or by reference where possible).
    reference: opens the source framework's own inference, or None (ONNX sources have no framework).
    hints: batch norms that the source knows by name.
    onnx_path: an ONNX file on disk that holds exactly this graph, when the source was one.
    """

    model: ir.Model
    source: SourceReport
    hints: list[NormHint] = field(default_factory=list)
    reference: Reference | None = None
    onnx_path: Path | None = None


@dataclass(frozen=True)
class Upload:
    """What the user gave: one file or one folder, already unpacked by the safe extractor.

    path: file or folder as given. root: the folder that holds all members (for an archive, its extraction
    folder). files: members relative to root, regular files only, no links, sorted. digest: sha256 of the
    bytes as given (for a folder, of the sorted listing of member digests), as `sha256:<hex>`.
    """

    path: Path
    root: Path
    files: tuple[str, ...]
    digest: str

    def matching(self, accepts: Callable[[Path], bool]) -> list[Path]:
        """Return the files, or the path as given where there are none, that `accepts` takes."""
        paths = [self.root / name for name in self.files] or [self.path]
        return [path for path in paths if path.is_file() and accepts(path)]


def only(paths: Sequence[Path], what: str, code: str = "ambiguous_graphs") -> Path:
    """Return the one path. `what` names several of them. Raises: AmbiguousModel when there are several."""
    if len(paths) > 1:
        names = [path.name for path in paths]
        raise AmbiguousModel(
            f"The upload holds {len(paths)} {what}: {', '.join(names)}.",
            code=code,
            hint="Give one of them.",
            details={"candidates": names},
        )
    return paths[0]


class Format(Protocol):
    """One way in which a trained model is stored."""

    name: str

    def sniff(self, upload: Upload) -> bool:
        """Whether these bytes are of this format, by content; cheap, never raises, runs nothing."""
        ...

    def load(self, upload: Upload, options: FoldOptions, workdir: Path, progress: Progress) -> Imported:
        """Read the model. `workdir` is empty, private to the job, and outlives the result.

        Raises: ModelError subclasses for the model's faults, UsageError for the options'.
        """
        ...

    def inspect(
        self, upload: Upload, options: FoldOptions, workdir: Path
    ) -> tuple[Inspection, dict[str, np.ndarray]]:
        """What is in it, and the raw statistics by `<layer>/<role>` for `--stats`, without converting."""
        ...
