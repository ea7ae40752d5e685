"""Addresses that a webhook may reach, checked on the very address that is then connected to: no rebinding."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit

from service.errors import Unprocessable
from service.webhooks.public_addresses import is_public

_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\uffff\\]")


def host_and_port(url: str) -> tuple[str, int]:
    """Of an http(s) URL without credentials, in plain ASCII. Raises Unprocessable for anything else."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if (
        host is None or _UNPRINTABLE.search(url) or parts.scheme not in ("http", "https")
        or parts.username is not None or parts.password is not None or port == 0
    ):  # fmt: skip
        raise Unprocessable(
            "A webhook needs an http(s) URL without credentials, in ASCII.", code="bad_webhook_url",
            hint="Other characters are written %xx, in host names as xn--….",
        )  # fmt: skip
    return host, port or (443 if parts.scheme == "https" else 80)


def addresses(host: str, port: int) -> list[tuple[int, str]]:
    """(family, address) of a name, in the resolver's order."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unprocessable(
            f"The webhook's host {host[:100]!r} has no address.", code="bad_webhook_url"
        ) from error
    return [(int(family), str(place[0])) for family, _, _, _, place in found]


def check_target(host: str, port: int, allow_private: bool) -> tuple[int, str]:
    """The address to connect to. Every address of the name must be public, so that none can be slipped in."""
    found = addresses(host.strip("[]"), port)
    for _, address in found:
        if not allow_private and not is_public(address):
            raise Unprocessable(
                "Webhooks may not reach private addresses.",
                code="private_webhook_target",
                hint="The operator may set BNFOLD_WEBHOOK_ALLOW_PRIVATE=true.",
            )
    return found[0]


class _Plain(HTTPConnection):
    def __init__(self, host: str, port: int, timeout: float, allow_private: bool) -> None:
        super().__init__(host, port, timeout=timeout)
        self._allow = allow_private

    def connect(self) -> None:
        family, address = check_target(self.host, self.port, self._allow)
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect((address, self.port))


class _Secure(HTTPSConnection):
    def __init__(self, host: str, port: int, timeout: float, allow_private: bool) -> None:
        self._tls = ssl.create_default_context()
        super().__init__(host, port, timeout=timeout, context=self._tls)
        self._allow = allow_private

    def connect(self) -> None:
        family, address = check_target(self.host, self.port, self._allow)
        plain = socket.socket(family, socket.SOCK_STREAM)
        plain.settimeout(self.timeout)
        plain.connect((address, self.port))
        # The certificate is checked against the name, the connection goes to the address that was checked.
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


def post(url: str, body: bytes, headers: dict[str, str], timeout: float, allow_private: bool) -> int:
    """POST without following redirects; the status. Raises OSError, HTTPException, Unprocessable.

    `timeout` bounds all of it: a target that sends a byte now and then would hold the sender for hours.
    """
    parts, (host, port) = urlsplit(url), host_and_port(url)
    kind = _Secure if parts.scheme == "https" else _Plain
    connection: HTTPConnection = kind(host, port, timeout, allow_private)
    guard = threading.Timer(timeout, _cut, (connection,))
    guard.daemon = True
    guard.start()
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body=body, headers=headers)
        response: HTTPResponse = connection.getresponse()
        response.read(4096)
        return response.status
    finally:
        guard.cancel()
        connection.close()


def _cut(connection: HTTPConnection) -> None:
    """End a connection that another thread waits on."""
    held: socket.socket | None = connection.sock
    if held is not None:
        with suppress(OSError):
            held.shutdown(socket.SHUT_RDWR)


__all__ = ["HTTPException", "addresses", "check_target", "host_and_port", "is_public", "post"]
