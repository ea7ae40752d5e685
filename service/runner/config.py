"""How runners are built: what they may use, which bars they get, what they load beforehand."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from service.runner.jail.sandbox import LAYERS
from service.runner.warm import MODULES

GIB: Final = 1 << 30
NOBODY: Final = 65534


def default_memory() -> int:
    """Three quarters of the machine (or of this container), at most 16 GiB."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(name).read_text()))
        except (OSError, ValueError):
            continue
    return min(16 * GIB, total * 3 // 4)


def default_threads() -> int:
    """Each framework has two or three pools of a thread per processor, and sessions live side by side."""
    return max(512, 16 * (os.cpu_count() or 1))


@dataclass(frozen=True)
class RunnerConfig:
    """One record for both runners. Sizes in bytes.

    scratch: where job folders are made; moved to the system's temporary folder when a dropped user
        cannot reach it. slots: warm processes kept. bubblewrap: use it where it works.
    """

    scratch: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    slots: int = 1
    layers: tuple[str, ...] = LAYERS
    bubblewrap: bool = True
    cgroup: bool = True
    cuda: bool = False
    allow_unsandboxed: bool = False
    warm: tuple[str, ...] = MODULES
    memory_bytes: int = field(default_factory=default_memory)
    disk_bytes: int = 48 * GIB
    open_files: int = 1024
    threads: int = field(default_factory=default_threads)
    start_seconds: float = 120.0
    nice: int = 5
    # The module whose `run_job(job, channel)` does the work, and folders it needs besides the installation.
    entry: str = "service.runner.job"
    read: tuple[str, ...] = ()


# Which libraries, which device, how much of its memory.
_CUDA_VARIABLES: Final = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "BNFOLD_DEVICE_MEMORY_BYTES")


def environment(folder: Path, *, cuda: bool) -> dict[str, str]:
    """All that a runner knows of the world. Nothing of the parent's own environment gets in."""
    work = str(folder / "work")
    package = str(Path(__file__).resolve().parents[2])
    names = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": work,
        "TMPDIR": work,
        "KERAS_HOME": work + "/.keras",
        "XDG_CACHE_HOME": work + "/.cache",
        "PYTHONPATH": package,
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "ORT_DISABLE_TELEMETRY": "1",
        "KERAS_BACKEND": "tensorflow",
        "PYDANTIC_DISABLE_PLUGINS": "__all__",  # it reads the metadata of every package to look for some
        "HDF5_PLUGIN_PATH": "/nonexistent",
        "HDF5_USE_FILE_LOCKING": "FALSE",
        # Arrays come and go by the hundred megabytes: huge pages save nine faults in ten, and what a control
        # group adds to each. Where the kernel or libc knows nothing of it, nothing changes.
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    }
    if cuda:
        names["CUDA_CACHE_PATH"] = work + "/.nv"
        names |= {key: os.environ[key] for key in _CUDA_VARIABLES if key in os.environ}
    else:
        names["CUDA_VISIBLE_DEVICES"] = ""
    return names
