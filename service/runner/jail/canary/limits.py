"""Acts against the resource limits."""

from __future__ import annotations

import mmap
import resource
from pathlib import Path
from typing import Final

from service.runner.jail.canary.acts import Act, Facts


def _dump_core(facts: Facts) -> str | None:
    return None if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0 else "may write core files"


def _take_memory(facts: Facts) -> str | None:
    if facts.get("cuda"):
        return None  # CUDA: no limit can be set; the parent kills by resident memory
    limit = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if limit == resource.RLIM_INFINITY:
        return "no memory limit"
    mmap.mmap(-1, limit + 1, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    return "mapped more than its limit"


def _open_many(facts: Facts) -> str | None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return None if limit <= 4096 else f"may open {limit} files"


def _fill_disk(facts: Facts) -> str | None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    if limit == resource.RLIM_INFINITY:
        return "no file size limit"
    with Path("large").open("wb") as file:
        file.truncate(limit + 1)
    return "made a file past its limit"


ACTS: Final[dict[str, Act]] = {
    "dump_core": _dump_core,
    "take_memory": _take_memory,
    "open_many": _open_many,
    "fill_disk": _fill_disk,
}
