"""Acts on sockets: a runner reaches nobody, and nobody reaches it."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
from typing import Final

from service.runner.jail.canary.acts import Act, Facts
from service.runner.jail.canary.trap import shared

# IPv4, IPv6, netlink, packets, virtual machines, cryptography, Bluetooth, express data path
_FAMILIES: Final = {"inet": 2, "inet6": 10, "netlink": 16, "packet": 17, "vsock": 40, "alg": 38,
                    "bluetooth": 31, "xdp": 44}  # fmt: skip
_TYPES: Final = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET)
_SIOCGIFCONF, _SO_ATTACH_FILTER = 0x8912, 26
_KNOCK_SECONDS: Final = 0.2


def _tcp(facts: Facts) -> str | None:
    with socket.create_connection(("127.0.0.1", facts["port"]), timeout=1):
        return "connected"


def _udp(facts: Facts) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", facts["udp"]))
    return "sent" if "net" in shared(facts) else None  # into our own namespace's loopback: nobody is there


def _unix(facts: Facts) -> str | None:
    if not facts["abstract"]:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sender:
        sender.settimeout(1)
        sender.connect("\0" + facts["abstract"])
    return "connected"


def _netlink(facts: Facts) -> str | None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0):
        return "may ask the kernel about the network"


def _families(facts: Facts) -> str | None:
    found = []
    for name, family in _FAMILIES.items():
        for kind in _TYPES:
            with contextlib.suppress(OSError):
                socket.socket(family, kind, 0).close()
                found.append(name)
    return f"made sockets of {', '.join(sorted(set(found)))}" if found else None


def _unix_path(facts: Facts) -> str | None:
    """Connect to a socket in the file system, as a database's or a container engine's is."""
    found = []
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as sender:
            sender.settimeout(1)
            sender.connect(os.path.join(facts["folder"], "door"))
            found.append(kind.name)
    return f"connected by {', '.join(found)}" if found else None


def _unix_datagram(facts: Facts) -> str | None:
    """Send without connecting, by each call that takes an address, from each type that might allow it."""
    found = []
    for kind in _TYPES:
        for place in (os.path.join(facts["folder"], "letters"), "\0" + facts["letters"]):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as sender:
                sender.settimeout(1)
                sender.sendmsg([b"x"], [], 0, place)
                found.append(f"{kind.name} to {place!r}")
    return f"sent by {', '.join(found)}" if found else None


def _bind_path(facts: Facts) -> str | None:
    """A socket in the job's own folder would wait there for whoever looks in."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        for place in ("meeting", os.path.join(facts["folder"], "meeting")):
            with contextlib.suppress(OSError):
                server.bind(place)
                os.unlink(place)
                return "bound a name in the file system"
    return None


def _be_reached(facts: Facts) -> str | None:
    """Listen at an abstract name that the parent knocks at: nobody may come in."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind("\0" + facts["knock"])
        server.listen(1)
        server.settimeout(_KNOCK_SECONDS)
        server.accept()[0].close()
    return "was reached from outside"


def _network_ioctl(facts: Facts) -> str | None:
    """Any socket answers for the addresses of the machine."""
    if "net" not in shared(facts):
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as anyone:
        fcntl.ioctl(anyone, _SIOCGIFCONF, array.array("B", bytes(16)), True)
    return "was told the machine's addresses"


def _socket_filter(facts: Facts) -> str | None:
    """A program in the kernel, by an option of a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as anyone:
        with contextlib.suppress(OSError):
            anyone.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            return "may set the options of a socket"
        anyone.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(16))
    return "may attach a program to a socket"


ACTS: Final[dict[str, Act]] = {
    "tcp": _tcp,
    "udp": _udp,
    "unix": _unix,
    "netlink": _netlink,
    "families": _families,
    "unix_path": _unix_path,
    "unix_datagram": _unix_datagram,
    "bind_path": _bind_path,
    "be_reached": _be_reached,
    "network_ioctl": _network_ioctl,
    "socket_filter": _socket_filter,
}
