"""What all acts of the canary share: their types, system calls by name, and how a refusal looks."""

from __future__ import annotations

import ctypes
import errno
import platform
import sys
from collections.abc import Callable
from typing import Any, Final

from service.runner.jail.syscalls import MACHINES

Facts = dict[str, Any]
# Returns None when the sandbox refused, else a word on what the act managed. An OSError counts as a refusal.
Act = Callable[[Facts], str | None]

# What the filter answers where it does not allow; any other error means that the kernel looked at the call.
REFUSED_BY_FILTER: Final = (errno.EPERM, errno.ENOSYS)


def answer(call: Callable[[], object], word: str) -> str | None:
    """Return `word` unless the call is refused as such; any other failure means that it was let through."""
    try:
        call()
    except OSError as error:
        return None if error.errno in REFUSED_BY_FILTER else word
    return word


def system_call(name: str, arguments: tuple[int, ...]) -> str | None:
    """Make a call with useless arguments: EPERM means refused; EINVAL and the like, let through."""
    machine = MACHINES.get(platform.machine())
    if machine is None or sys.platform != "linux":
        return f"{name}: number not known on this machine"
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(machine[1][name], *(ctypes.c_long(value) for value in arguments))
    if result >= 0 or ctypes.get_errno() not in REFUSED_BY_FILTER:
        return f"{name} is let through"
    return None
