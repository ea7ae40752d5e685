"""The common beginning of a checkpoint's files: `model.ckpt-100` of `model.ckpt-100.index` and so on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Prefix:
    """Folder and name. The name may be empty: `Saver.save(session, "folder/")` writes `folder/.index`."""

    folder: Path
    name: str

    @classmethod
    def of(cls, path: Path) -> Prefix:
        """The prefix that a path names."""
        return cls(path.parent, path.name)

    def file(self, suffix: str) -> Path:
        """One of the checkpoint's files."""
        return self.folder / (self.name + suffix)

    @property
    def shown(self) -> str:
        """How a message names it."""
        return self.name or f"{self.folder.name}/"

    def __str__(self) -> str:
        """As TensorFlow's reader wants it."""
        return f"{self.folder}/{self.name}"
