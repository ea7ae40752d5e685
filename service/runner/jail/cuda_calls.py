"""System calls that a CUDA runner may make beyond those of every runner, each with its reason.

A call that the driver makes optionally must be answered as on a machine that lacks the thing. EPERM turns
"not there" into "broken": with it, cuInit returns 304 (CUDA_ERROR_OPERATING_SYSTEM). So what is not allowed
answers ENOSYS here, and the calls below answer the errno that means absence.
"""

from __future__ import annotations

import errno
from typing import Final

from service.runner.jail import bpf
from service.runner.jail.bpf import Instruction

# For every call that no list names: the answer of a kernel that does not have it.
REFUSAL: Final = errno.ENOSYS

ALLOWED: Final = (
    "memfd_create",  # the driver shares memory with itself by files that no folder shows
    "mlock", "munlock",  # it pins pages for the device, up to RLIMIT_MEMLOCK
    "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait",  # its event thread waits
    "getpgid",
    "set_mempolicy",  # where its pages go among the memory nodes; it concerns the calling thread alone
    # Its second UNIX socket takes an abstract name and listens. Landlock refuses names in the file system
    # (no rule has MAKE_SOCK), and `accept` below decides whether anybody can come in.
    "bind", "listen",
    # On sockets that `rules` lets it make, none of which is ever connected to anybody outside.
    "getsockopt", "sendmsg", "recvmsg",
)  # fmt: skip

_AF_UNIX, _SOCK_STREAM, _SOCK_SEQPACKET, _TYPE_BITS = 1, 1, 5, 0xF
_SOL_SOCKET, _SO_PASSCRED = 1, 16
_FIONBIO: Final = 0x5421
_TERMINAL, _NETWORK, _GROUP_BITS = 0x5400, 0x8900, 0xFF00


def rules(ioctls: tuple[int, ...], *, private_network: bool) -> dict[str, list[Instruction]]:
    """Return name -> block for the calls that depend on an argument, or that always answer the same.

    Args:
        ioctls: terminal requests that every runner may make.
        private_network: nobody outside shares this process's network namespace.
    """
    return {
        "socket": _socket(),
        "setsockopt": _setsockopt(),
        # Asked for: /tmp/nvidia-mps/control, which only a machine that shares its device by MPS has.
        "connect": bpf.answer(errno.ENOENT),
        # Asked for: /dev/char/195:255, a convenience for others. No runner may make a link.
        "symlink": bpf.answer(errno.ENOENT),
        "symlinkat": bpf.answer(errno.ENOENT),
        # Where the network namespace is shared, other processes of the machine can knock at an abstract
        # name. The runner is then told that nobody has.
        "accept": bpf.allow() if private_network else bpf.answer(errno.EAGAIN),
        "accept4": bpf.allow() if private_network else bpf.answer(errno.EAGAIN),
        "ioctl": _ioctl(ioctls),
    }


def _socket() -> list[Instruction]:
    """AF_UNIX, and only of types that must be connected: a datagram needs no connect to reach somebody."""
    return [
        *bpf.argument(0),
        *bpf.unless_equal(_AF_UNIX, bpf.answer(errno.EAFNOSUPPORT)),
        *bpf.argument(1),
        *bpf.masked(_TYPE_BITS),
        *bpf.if_equal(_SOCK_STREAM, bpf.allow()),
        *bpf.if_equal(_SOCK_SEQPACKET, bpf.allow()),
        *bpf.answer(errno.ESOCKTNOSUPPORT),
    ]


def _setsockopt() -> list[Instruction]:
    """SO_PASSCRED alone: the driver wants to know who sends. Others attach programs to a socket."""
    return [
        *bpf.argument(1),
        *bpf.unless_equal(_SOL_SOCKET, bpf.answer(errno.ENOPROTOOPT)),
        *bpf.argument(2),
        *bpf.if_equal(_SO_PASSCRED, bpf.allow()),
        *bpf.answer(errno.ENOPROTOOPT),
    ]


def _ioctl(ioctls: tuple[int, ...]) -> list[Instruction]:
    """Any request but those for terminals and network devices: Landlock says for which devices.

    A UNIX socket would answer the network's (SIOCGIFCONF tells all addresses of the machine).
    """
    steps = bpf.argument(1)
    for request in (*ioctls, _FIONBIO):
        steps += bpf.if_equal(request, bpf.allow())
    steps += bpf.masked(_GROUP_BITS)
    for group in (_TERMINAL, _NETWORK):
        steps += bpf.if_equal(group, bpf.answer(errno.ENOTTY))
    return [*steps, *bpf.allow()]
