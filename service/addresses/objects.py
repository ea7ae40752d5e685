"""Files in object stores, through obstore: Amazon S3 and what speaks its protocol, Google, Azure.

Credentials, endpoints and regions come from the environment as the stores' own tools have it:
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL; GOOGLE_APPLICATION_CREDENTIALS;
AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or a SAS token.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from folding.errors import TemporaryFailure, UsageError
from service.addresses.address import Address

MOST_FILES = 10_000


class Objects:
    """One store for s3://, gs:// and az://."""

    def fetch(self, address: Address, folder: Path) -> Path:
        """Stream the object, or every object below a path that ends in a slash."""
        import obstore

        store, key = _store(address), unquote(address.path)
        with _Errors(address):
            if not address.is_folder:
                _download(store, key, folder / address.name)
                return folder / address.name
            root, count = folder / address.name, 0
            for page in obstore.list(store, prefix=key):
                for row in page:
                    count += 1
                    if count > MOST_FILES:
                        raise UsageError(f"More than {MOST_FILES} objects lie below {address.shown}.")
                    _download(
                        store, row["path"], path_inside(root, row["path"][len(key) :].lstrip("/"), address)
                    )
            if not count:
                raise FileNotFoundError(key)
            return root

    def send(self, file: Path, address: Address) -> None:
        """Put the file; a large one in parts, which become visible together."""
        import obstore

        with _Errors(address), file.open("rb") as body:
            obstore.put(_store(address), unquote(address.path), body)


def _store(address: Address) -> Any:
    from obstore.store import from_url

    options: Any = {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    if address.scheme == "s3" and endpoint:
        options = {"endpoint": endpoint, "virtual_hosted_style_request": False}
    plain = endpoint.startswith("http://") or bool(os.environ.get("AZURE_STORAGE_USE_EMULATOR"))
    with _Errors(address):
        return from_url(
            f"{address.scheme}://{address.host}", client_options={"allow_http": plain},
            retry_config={"max_retries": 3}, **options,
        )  # fmt: skip


def _download(store: Any, key: str, target: Path) -> None:
    import obstore

    target.parent.mkdir(parents=True, exist_ok=True)
    found = obstore.get(store, key)
    with target.open("wb") as file:
        for piece in found.stream(min_chunk_size=1 << 20):
            file.write(piece)


def path_inside(root: Path, name: str, address: Address) -> Path:
    """Return the place of an object below `root`. Raises: UsageError for a name that leaves it."""
    parts = name.split("/")
    if not name or any(part in ("", ".", "..") for part in parts):
        raise UsageError(
            f"Below {address.shown} lies an object whose name is no path of a file: {name[:100]!r}.",
            code="address_unreadable", hint="Copy the model into a folder of its own.",
        )  # fmt: skip
    return root.joinpath(*parts)


class _Errors:
    """Failures of a store as errors of ours."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from obstore.exceptions import BaseError

        shown = self._address.shown
        if isinstance(error, FileNotFoundError):
            raise UsageError(
                f"There is nothing at {shown}.", code="address_unreadable", hint="Check bucket and path."
            ) from error
        if isinstance(error, PermissionError) or type(error).__name__ in _REFUSED:
            raise UsageError(
                f"The store refuses {shown}: {_first_line(error)}", code="address_unreadable",
                hint="Check the credentials in the environment of this command.",
            ) from error  # fmt: skip
        if isinstance(error, BaseError):
            raise TemporaryFailure(f"{shown}: {_first_line(error)}", code="address_unreachable") from error


_REFUSED = ("PermissionDeniedError", "UnauthenticatedError", "UnknownConfigurationKeyError")


def _first_line(error: BaseException | None) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
