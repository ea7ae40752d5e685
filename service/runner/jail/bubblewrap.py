"""The command line of bubblewrap: a file system with only what a runner reads, and its own namespaces."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from service.runner.jail.sandbox import CUDA_DEVICES, CUDA_FILES, JailSpec, installation

_SYSTEM = (
    "/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache", "/etc/localtime",
    "/etc/os-release", "/sys/devices/system", "/sys/kernel/mm",
)  # fmt: skip


def available() -> bool:
    """Whether the program is installed; whether it works here only a start can tell."""
    return shutil.which("bwrap") is not None


def wrap(command: list[str], spec: JailSpec) -> list[str]:
    """`command` inside bubblewrap: read-only installation, `spec.folder` writable, all namespaces new."""
    program = shutil.which("bwrap") or "bwrap"  # by its path: the runner's own PATH may not have it
    arguments = [
        program, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--hostname", "runner",
        "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
    ]  # fmt: skip
    for path in _outermost([*_SYSTEM, *installation(), *spec.read]):
        arguments += ["--ro-bind", path, path]
    if spec.cuda:
        nodes = [*CUDA_DEVICES, "/dev/nvidia-caps", *map(str, sorted(Path("/dev").glob("nvidia[0-9]*")))]
        for path in nodes:
            arguments += ["--dev-bind-try", path, path]
        for path in CUDA_FILES:
            if not path.startswith(("/proc/", "/dev/")):
                arguments += ["--ro-bind-try", path, path]
    arguments += ["--bind", spec.folder, spec.folder, "--ro-bind", spec.folder + "/in", spec.folder + "/in"]
    arguments += ["--chdir", spec.folder]
    return [*arguments, "--", *command]


def _outermost(paths: list[str]) -> list[str]:
    """Existing paths in an order in which a bind never hides an earlier one: parents before children."""
    return sorted({path for path in paths if os.path.exists(path)}, key=lambda path: (path.count("/"), path))
