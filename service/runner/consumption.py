"""What a process has used by now: processor time, and bytes through its read and write calls."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Consumption:
    """CPU seconds of all threads, bytes read and written (caches and pipes included, mapped files not)."""

    cpu_seconds: float = 0.0
    read_bytes: int = 0
    written_bytes: int = 0

    def since(self, start: Consumption) -> Consumption:
        """Return the difference, never less than nothing."""
        return Consumption(
            max(0.0, self.cpu_seconds - start.cpu_seconds),
            max(0, self.read_bytes - start.read_bytes),
            max(0, self.written_bytes - start.written_bytes),
        )


def consumption(pid: int) -> Consumption | None:
    """Return what the process and its ended children have used, None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        seconds = sum(int(fields[index]) for index in (11, 12, 13, 14)) / _TICKS
    except (OSError, ValueError, IndexError):
        return None
    counts: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError):  # a kernel without I/O accounting, or not ours to read
        rows = (line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
        counts = {name: int(value) for name, value in rows}
    return Consumption(seconds, counts.get("rchar", 0), counts.get("wchar", 0))
