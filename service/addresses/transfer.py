"""Fetch from an address and send to one, whatever its scheme; the digest is checked on the way."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from folding.errors import UsageError
from service.addresses import hub, objects, oci, web
from service.addresses.address import Address

CHUNK = 1 << 20
Received = Callable[[int], None]


class Store(Protocol):
    """What a scheme's module does."""

    def fetch(self, address: Address, folder: Path) -> Path:
        """Write the file, or everything below a folder's address, into `folder`; return its path there."""

    def send(self, file: Path, address: Address) -> None:
        """Put a file at the address, replacing what is there."""


STORES: dict[str, Store] = {
    "http": web.Web(),
    "https": web.Web(),
    "s3": objects.Objects(),
    "gs": objects.Objects(),
    "az": objects.Objects(),
    "hf": hub.Hub(),
    "oci": oci.Oci(),
}


@contextmanager
def fetched(address: Address, parent: Path | None = None) -> Iterator[Path]:
    """Yield the path of what lies at the address, in a folder of its own that is removed afterwards.

    parent: where the folder is made; the system's temporary folder by default.
    Raises: UsageError when there is nothing, when it may not be read, or when its digest is another than the
        pinned one; TemporaryFailure when the store does not answer.
    """
    if address.digest and address.is_folder:
        raise UsageError(
            f"{address.shown} is a folder, and a digest pins one file.", code="bad_address",
            hint="Leave the digest out, or pin an archive of the folder.",
        )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="bnfold-fetch-", dir=parent) as name:
        path = STORES[address.scheme].fetch(address, Path(name))
        if address.digest:
            check(path, address)
        yield path


def check(path: Path, address: Address) -> None:
    """Raise: UsageError (`digest_mismatch`) when a file is not the one that its address pins."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            found.update(piece)
    digest = f"sha256:{found.hexdigest()}"
    if digest != address.digest:
        raise UsageError(
            f"{address.shown} has the digest {digest}, not {address.digest}.", code="digest_mismatch",
            hint="The file is not the one whose digest was written down. Find out why before you use it.",
        )  # fmt: skip


def send(file: Path, address: Address) -> None:
    """Put a file at the address; a digest in the address is checked first.

    Raises: UsageError, TemporaryFailure.
    """
    if address.is_folder:
        raise UsageError(f"{address.shown} is a folder.", code="bad_address", hint="Name a file in it.")
    if address.digest:
        check(file, address)
    STORES[address.scheme].send(file, address)
