"""Files into a runner's folder before the job, and out of it afterwards, when its processes are gone."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from folding.errors import InternalError, UnsafeModel, UsageError

RESULTS: Final = (
    "model.onnx",
    "model.onnx.data",
    "model.ort",
    "recalibrated.onnx",
    "recalibrated.onnx.data",
    "report.json",
    "stats.npz",
)
# A report of ten thousand batch norms with histograms has 30 MiB; its reader needs ten times the memory.
_REPORT_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class Staged:
    """What a job is told of its files: paths inside the runner."""

    input: Path
    calibration: Path | None = None
    probe: Path | None = None
    second: Path | None = None


def copy_in(source: Path, folder: Path, name: str, *, uid: int | None, link: bool, below: str = "") -> Path:
    """Put `source` (a file or a folder) into `folder/in/below` as `name`; returns its path there.

    A hard link costs nothing and is safe where the kernel lets the runner only read `in/`; where it does not
    (`link` is False), across file systems, or where another user could not read it, bytes are copied.
    """
    target = folder / "in" / below / os.path.basename(name)
    target.parent.mkdir(exist_ok=True)
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            inside = target / path.relative_to(source)
            if path.is_dir() and not path.is_symlink():
                inside.mkdir(parents=True, exist_ok=True)
            elif stat.S_ISREG(path.stat().st_mode):
                inside.parent.mkdir(parents=True, exist_ok=True)
                _bring_file(path, inside, uid=uid, link=link)
        return target
    _bring_file(source, target, uid=uid, link=link)
    return target


def safe_name(name: str) -> str:
    """The base name if it is plain enough to be a file name anywhere, else `model` with its suffix."""
    base = os.path.basename(name)
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+@ -]{0,200}", base):
        return base
    suffix = os.path.splitext(base)[1]
    return "model" + (suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,12}", suffix) else "")


def _bring_file(source: Path, target: Path, *, uid: int | None, link: bool) -> None:
    readable = uid is None or bool(source.stat().st_mode & stat.S_IROTH)
    if link and readable:
        try:
            os.link(source.resolve(), target)
            return
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EACCES, errno.EEXIST):
                raise
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError as error:
        raise UsageError(f"{source.name} does not exist.") from error
    target.chmod(0o644)


def take_out(folder: Path, into: Path) -> dict[str, Path]:
    """Move the results to `into`, as our own regular files. The runner's processes must be dead.

    Raises: UnsafeModel if what lies there is not what a runner writes (a link, a device, a shared file).
    """
    found = {}
    for name in RESULTS:
        source = folder / "out" / name
        try:
            info = source.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
            raise UnsafeModel(
                f"The runner left {name} as something else than a file.", code="sandbox_violation"
            )
        if name == "report.json" and info.st_size > _REPORT_BYTES:
            raise InternalError(f"The report has {info.st_size} bytes; at most {_REPORT_BYTES} are read.")
        found[name] = _move(source, into / name)
    return found


def _move(source: Path, target: Path) -> Path:
    if os.geteuid() == 0:
        os.chown(source, 0, 0, follow_symlinks=False)
    source.chmod(0o644)
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(source, target, follow_symlinks=False)
    return target
