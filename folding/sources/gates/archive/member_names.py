"""Names of archive members and of files in a folder: the rules for one name, and collisions between two."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from folding.sources.gates.limits import LIMITS, Limits, refuse, shown

REPACK = "Pack the model's own files again, without this member."


class Names:
    """Checks member names against each other and against the rules for one name."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.files: dict[str, str] = {}
        self.folders: dict[str, str] = {}
        self.count = 0

    def add(self, name: str, *, folder: bool) -> str:
        """The normal form of `name` (relative, `/` between parts). Raises UnsafeModel."""
        self.count += 1
        if self.count > self.limits.archive_members:
            refuse(
                "unsafe_archive_members",
                f"The archive has more than {self.limits.archive_members} members.",
                limit=self.limits.archive_members,
                hint="Pack only the files of one model.",
            )
        parts = self._parts(name)
        if not parts:
            return ""
        for end in range(1, len(parts)):
            self._add_folder("/".join(parts[:end]))
        path = "/".join(parts)
        if folder:
            self._add_folder(path)
        else:
            self._add_file(path)
        return path

    def _parts(self, name: str) -> list[str]:
        if problem := _name_problem(name, self.limits):
            refuse("unsafe_archive_name", f"Member {shown(name)!r} {problem}.", name=name, hint=REPACK)
        return [part for part in name.split("/") if part not in ("", ".")]

    def _add_folder(self, path: str) -> None:
        key = _folded(path)
        if key in self.files:
            self._collision(path, self.files[key])
        other = self.folders.setdefault(key, path)
        if other != path:
            self._collision(path, other)

    def _add_file(self, path: str) -> None:
        key = _folded(path)
        if self.files.get(key) == path:
            refuse(
                "unsafe_archive_duplicate", f"Member {shown(path)!r} occurs twice.", name=path, hint=REPACK
            )
        if other := self.files.get(key, self.folders.get(key)):
            self._collision(path, other)
        self.files[key] = path

    def _collision(self, path: str, other: str) -> None:
        refuse(
            "unsafe_archive_collision",
            f"Members {shown(path)!r} and {shown(other)!r} are one name on some file systems.",
            name=path,
            hint=REPACK,
        )


def _folded(path: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())


def _name_problem(name: str, limits: Limits) -> str | None:
    parts = name.split("/")
    if not name:
        return "has no name"
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
        return "has control characters in its name"
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        return "is an absolute path"
    if "\\" in name:
        return "has a backslash in its name"
    if ".." in parts:
        return "climbs out of the archive with '..'"
    if len(parts) > limits.archive_depth:
        return f"lies deeper than {limits.archive_depth} folders"
    if any(len(part.encode("utf-8", "surrogatepass")) > limits.archive_name_bytes for part in parts):
        return f"has a name longer than {limits.archive_name_bytes} bytes"
    return None


def list_folder(root: Path, limits: Limits = LIMITS) -> tuple[str, ...]:
    """The regular files under `root`, relative and sorted, under the rules for archive members.

    Raises: UnsafeModel for links (also links to folders), devices, and names that an archive may not have.
    """
    names = Names(limits)
    found: list[str] = []
    pending = [root]
    while pending:
        folder = pending.pop()
        for entry in sorted(os.scandir(folder), key=lambda e: e.name):
            relative = Path(entry.path).relative_to(root).as_posix()
            if entry.is_symlink():
                refuse(
                    "unsafe_archive_link", f"{shown(relative)!r} is a link.", name=relative,
                    hint="Copy the file itself into the folder (`cp -L`).",
                )  # fmt: skip
            if entry.is_dir():
                names.add(relative, folder=True)
                pending.append(Path(entry.path))
            elif entry.is_file():
                found.append(names.add(relative, folder=False))
            else:
                refuse(
                    "unsafe_archive_device", f"{shown(relative)!r} is no regular file.", name=relative,
                    hint="Give the folder that holds only the model's files.",
                )  # fmt: skip
    return tuple(sorted(found))
