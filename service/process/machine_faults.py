"""Tell faults of the machine (disk, descriptors, memory, threads) from defects and from the model's doing.

A fault of the machine passes: what it stopped is put off and done again, and is never `internal`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import EXHAUSTED, STORAGE_FAILED, StorageFull, Unavailable

_NO_THREAD = "can't start new thread"  # CPython's words for EAGAIN and ENOMEM of clone
_DEPTH = 16


def as_machine_fault(error: BaseException, doing: str) -> StorageFull | Unavailable | None:
    """Return what `error`, or one that caused it, says of the machine; None where it says nothing.

    Args:
        doing: what could not be done, as a noun: "the job's folder", "a runner process".
    """
    for one in _causes(error):
        if isinstance(one, StorageFull | Unavailable):
            return one
        if isinstance(one, OSError) and one.errno in STORAGE_FAILED:
            return StorageFull(
                f"The disk is full or failing ({one.strerror}): {doing}.",
                hint="Free space in the data folder and where jobs work (BNFOLD_SCRATCH_DIR).",
            )
        if isinstance(one, OSError) and one.errno in EXHAUSTED:
            return _exhausted(str(one.strerror), doing)
        if isinstance(one, MemoryError):
            return _exhausted("out of memory", doing)
        if isinstance(one, RuntimeError) and _NO_THREAD in str(one):
            return _exhausted("no thread can be started", doing)
    return None


def _exhausted(what: str, doing: str) -> Unavailable:
    return Unavailable(
        f"The machine has run out of something ({what}): {doing}.", code="machine_exhausted",
        hint="Look at open files, memory and threads of the service; it tries again by itself.",
    )  # fmt: skip


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(_DEPTH):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def machine_faults(doing: str) -> Iterator[None]:
    """Raise StorageFull or Unavailable for faults of the machine inside the block; others pass."""
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as error:
        fault = as_machine_fault(error, doing)
        if fault is None:
            raise
        raise fault from error
