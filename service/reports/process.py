"""Make one form of one report: `python -m service.reports.process FORM MEMORY SECONDS < report > form`.

A process of its own, because a report of some megabytes takes a hundred times as much while it is rendered,
and a model that took the runner over may have written a report that takes more. Limits are set before a byte
is read: data segment, CPU seconds, size of the output; it runs behind the service (nice 10).
"""

from __future__ import annotations

import os
import resource
import sys

from service.reports.forms import make
from service.web.graph.part import graph_part

MAX_OUTPUT = 512 << 20
CANNOT = 3  # exit code: the report cannot be made into this form


def main() -> int:
    """Run; exit code."""
    form, memory, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_OUTPUT, MAX_OUTPUT))
    os.nice(10)
    try:
        data = sys.stdin.buffer.read()
        made = graph_part(data).encode() if form == "graph" else make(form, data)
    except Exception as error:  # noqa: BLE001  whatever a strange report leads to: it has no such form
        print(type(error).__name__, file=sys.stderr)
        return CANNOT
    sys.stdout.buffer.write(made)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
