"""The parent's side of the canary: bait outside the sandbox, and listeners that should hear nothing."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

from service.runner.files import scratch
from service.runner.jail.canary.acts import Facts

NAMESPACES: Final = ("mnt", "pid", "net", "ipc")
PREFIX: Final = "bnfold-canary-"
_FILES: Final = ("secret", "precious", "mine")
_DOOR, _LETTERS = "door", "letters"  # a socket that listens, and one that takes datagrams
_KNOCK_EVERY: Final = 0.01


@dataclass
class Trap:
    """Bait in a folder outside the sandbox, and sockets by name: what a runner must not reach.

    `knock` is an abstract name that this side tries to connect to, should a runner listen there.
    """

    held: scratch.Held
    servers: dict[str, socket.socket] = field(default_factory=dict)
    knock: str = ""
    _ended: threading.Event = field(default_factory=threading.Event)

    @staticmethod
    def set_up(owner: int | None = None, *, knock: bool = False) -> Trap:
        """Lay out the bait; `owner` is the uid that runners have, so that file modes do not help them.

        Raises: OSError where the machine has no room or descriptors; nothing is left then.
        """
        trap = Trap(scratch.make(Path(tempfile.gettempdir()), "bnfold-canary"))
        try:
            trap._lay_out(owner)
            if knock:
                trap.knock = PREFIX + secrets.token_hex(8)
                threading.Thread(target=trap._knock, name="canary-knock", daemon=True).start()
        except BaseException:
            trap.close()
            raise
        return trap

    @property
    def folder(self) -> Path:
        """The folder that the bait lies in."""
        return self.held.path

    def _lay_out(self, owner: int | None) -> None:
        for name in _FILES:
            (self.folder / name).write_text("outside")
        tcp = self.servers["tcp"] = socket.create_server(("127.0.0.1", 0), backlog=64)
        tcp.setblocking(False)
        udp = self.servers["udp"] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        unix = {
            "abstract": (socket.SOCK_STREAM, f"\0{PREFIX}{secrets.token_hex(8)}"),
            "door": (socket.SOCK_STREAM, str(self.folder / _DOOR)),
            "abstract letters": (socket.SOCK_DGRAM, f"\0{PREFIX}{secrets.token_hex(8)}"),
            "letters": (socket.SOCK_DGRAM, str(self.folder / _LETTERS)),
        }
        for what, (kind, place) in unix.items():
            with contextlib.suppress(OSError):  # no abstract names, or a long path
                self.servers[what] = _bound(kind, place)
        self.folder.chmod(0o777)
        for path in self.folder.iterdir():
            path.chmod(0o666)
        if owner is not None:
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, owner, -1)

    def facts(self) -> Facts:
        """Return what the child has to know to try."""
        return {
            "folder": str(self.folder),
            "port": self.servers["tcp"].getsockname()[1],
            "udp": self.servers["udp"].getsockname()[1],
            "abstract": self._name("abstract"),
            "letters": self._name("abstract letters"),
            "knock": self.knock,
            "parent": os.getpid(),
            "namespaces": namespaces(),
        }

    def sprung(self) -> list[str]:
        """Return the evidence on this side: files that changed, connections that arrived."""
        found = []
        names = {path.name for path in self.folder.iterdir()}
        if not {*_FILES} <= names <= {*_FILES, _DOOR, _LETTERS}:
            found.append("files were made, moved or removed outside")
        if (self.folder / "precious").exists() and (self.folder / "precious").read_text() != "outside":
            found.append("a file outside was overwritten")
        for what in ("tcp", "abstract", "door"):
            with contextlib.suppress(OSError, KeyError):
                self.servers[what].accept()[0].close()
                found.append(f"a connection came in ({what})")
        for what in ("udp", "letters", "abstract letters"):
            with contextlib.suppress(OSError, KeyError):
                self.servers[what].recv(16)
                found.append(f"a datagram came in ({what})")
        return found

    def close(self) -> None:
        """Remove the bait."""
        self._ended.set()
        for server in self.servers.values():
            server.close()
        self.held.remove()

    def _name(self, what: str) -> str:
        server = self.servers.get(what)
        return server.getsockname()[1:].decode() if server is not None else ""

    def _knock(self) -> None:
        """Try to get in from outside for as long as the trap stands."""
        while not self._ended.wait(_KNOCK_EVERY):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as guest:
                guest.setblocking(False)
                guest.connect("\0" + self.knock)
                guest.send(b"x")

    def __enter__(self) -> Trap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _bound(kind: socket.SocketKind, place: str) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, kind)
    try:
        server.bind(place)
        if kind is socket.SOCK_STREAM:
            server.listen(8)
        server.setblocking(False)
    except OSError:
        server.close()
        raise
    return server


def namespaces() -> dict[str, str]:
    """Return the identity of this process's namespaces; must be asked before the jail closes /proc."""
    found = {}
    for name in NAMESPACES:
        with contextlib.suppress(OSError):
            found[name] = os.readlink(f"/proc/self/ns/{name}")
    return found


def shared(facts: Facts) -> list[str]:
    """Return the namespaces that we have in common with the parent (unknown ones count as shared)."""
    own, outer = facts["own_namespaces"], facts["namespaces"]
    return [name for name in NAMESPACES if own.get(name) is None or own.get(name) == outer.get(name)]
