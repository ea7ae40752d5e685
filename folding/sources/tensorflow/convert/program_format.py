"""What the formats have in common that are read as a TensorFlow program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from folding.options import FoldOptions
from folding.progress import Progress
from folding.report import Inspection
from folding.sources.base import Imported, Upload
from folding.sources.tensorflow.convert import importer
from folding.sources.tensorflow.graph.program import Program


class ProgramFormat(ABC):
    """A `Format` that says which uploads are its own and reads them as a program; the rest is shared."""

    name: str

    @abstractmethod
    def sniff(self, upload: Upload) -> bool:
        """See `folding.sources.base.Format`."""

    @abstractmethod
    def program(self, upload: Upload, options: FoldOptions) -> Program:
        """Return the model's graph, ports and weights. Raises: ModelError, UsageError."""

    def load(self, upload: Upload, options: FoldOptions, workdir: Path, progress: Progress) -> Imported:
        """See `folding.sources.base.Format`."""
        return importer.import_program(self.name, upload, self.program(upload, options), options, progress)

    def inspect(
        self, upload: Upload, options: FoldOptions, workdir: Path
    ) -> tuple[Inspection, dict[str, np.ndarray]]:
        """See `folding.sources.base.Format`."""
        return importer.inspect_program(self.name, upload, self.program(upload, options), options)
