"""Landlock by ctypes: which files this process and its children may touch, decided before it reads any.

Below ABI 8 a ruleset covers the calling thread and what it starts, so it must be applied while there is
one thread. What a kernel's ABI lacks is left out; the canary finds out whether that matters.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on every architecture

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR, MAKE_REG = 1 << 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8
MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = 1 << 9, 1 << 10, 1 << 11, 1 << 12
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

READ: Final = READ_FILE | READ_DIR
# No links, sockets, FIFOs or device nodes are ever made, and nothing written is ever executed.
WRITE: Final = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
# Files that are there already may be written; none can be made or removed.
REWRITE: Final = READ | WRITE_FILE | TRUNCATE
DEVICE: Final = READ_FILE | WRITE_FILE | IOCTL_DEV
_ON_FILES: Final = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV

# ABI -> number of access bits that it knows
_KNOWN_BITS: Final = {1: 13, 2: 14, 3: 15, 4: 15}
_NET_TCP: Final = 0b11  # bind, connect: handled and never allowed (ABI 4)
_SCOPED: Final = 0b11  # abstract UNIX sockets, signals (ABI 6)

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    version: int = _libc.syscall(_CREATE, None, 0, 1)
    return max(version, 0)


def restrict(
    read: Iterable[Path],
    write: Iterable[Path],
    devices: Iterable[Path] = (),
    rewrite: Iterable[Path] = (),
) -> int:
    """Allow reading below `read`, all of files below `write`, device use of `devices`; no more.

    Below `rewrite`, existing files may be written, and nothing can be made or removed.

    Paths that do not exist are passed over. Needs no-new-privs.

    Returns: the ABI that was used.
    Raises: OSError where the kernel has no Landlock or refuses.
    """
    version = abi()
    if version < 1:
        raise OSError("this kernel has no Landlock")
    handled = (1 << _KNOWN_BITS.get(version, 16)) - 1
    attributes = struct.pack("<Q", handled)
    if version >= 4:
        attributes += struct.pack("<Q", _NET_TCP)
    if version >= 6:
        attributes += struct.pack("<Q", _SCOPED)
    ruleset = _check(_libc.syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0))
    try:
        for rights, paths in ((READ, read), (WRITE, write), (DEVICE, devices), (REWRITE, rewrite)):
            for path in paths:
                _allow(ruleset, path, rights & handled)
        _check(_libc.syscall(_RESTRICT, ruleset, 0))
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not path.is_dir():
            rights &= _ON_FILES
        rule = struct.pack("<Qi", rights, fd)
        _check(_libc.syscall(_ADD, ruleset, 1, rule, 0))
    finally:
        os.close(fd)


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result
