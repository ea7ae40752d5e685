"""The form of an address."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from folding.errors import UsageError

SCHEMES = ("https", "http", "s3", "gs", "az", "hf", "oci")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_PIN = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Address:
    """Where a model or an artifact lies.

    scheme: of SCHEMES. host: host, bucket, container or owner. path: the rest, without a leading slash.
    query: of an http address. digest: `sha256:…` that its bytes must have; empty for any.
    """

    scheme: str
    host: str
    path: str
    query: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Return the file's name; a folder's, for a path that ends in a slash."""
        return PurePosixPath(unquote(self.path)).name or "model"

    @property
    def is_folder(self) -> bool:
        """Return whether all that lies below is meant."""
        return self.path.endswith("/")

    def __str__(self) -> str:
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{self.host}/{self.path}{query}"

    @property
    def shown(self) -> str:
        """Return the address for messages and logs: a query may be a signature, and user names a password."""
        return f"{self.scheme}://{self.host.rpartition('@')[2]}/{self.path}"


def parse(text: str) -> Address | None:
    """Return the address, None for a path of the file system.

    Raises: UsageError (`bad_address`) for an address that is none of ours, or not whole.
    """
    found = _SCHEME.match(text)
    if found is None:
        return None
    scheme = found[1].lower()
    if scheme not in SCHEMES:
        raise _bad(text, f"{scheme}:// is no scheme that bnfold knows", f"It knows {', '.join(SCHEMES)}.")
    try:
        parts = urlsplit(text)
        host, _ = parts.netloc, parts.port
    except ValueError as error:
        raise _bad(text, str(error), "") from None
    if parts.fragment and not _PIN.fullmatch(parts.fragment):
        raise _bad(text, "what follows # is no digest", "Write #sha256: and 64 hexadecimal digits.")
    path = parts.path.lstrip("/")
    if parts.query and scheme not in ("http", "https"):
        raise _bad(text, "it has a query", "Only http(s) addresses have one. Write ? as %3F.")
    if not host or not path:
        raise _bad(text, "it names no file", f"For example {_EXAMPLES[scheme]}.")
    if any(part in (".", "..") for part in unquote(path).split("/")):
        raise _bad(text, "it has . or .. in its path", "Write the path without them.")
    if scheme == "hf" and path.count("/") < 1:
        raise _bad(text, "it names no file", f"For example {_EXAMPLES[scheme]}.")
    return Address(scheme, host, path, parts.query, parts.fragment)


def _bad(text: str, why: str, hint: str) -> UsageError:
    shown = text.partition("?")[0].partition("#")[0][:200]
    return UsageError(f"{shown!r} is no address of a model: {why}.", code="bad_address", hint=hint)


_EXAMPLES = {
    "https": "https://example.org/model.onnx",
    "http": "http://localhost:8000/model.onnx",
    "s3": "s3://bucket/folder/model.onnx",
    "gs": "gs://bucket/folder/model.onnx",
    "az": "az://container/folder/model.onnx",
    "oci": "oci://registry.example.org/models/resnet:v1",
    "hf": "hf://organization/model/folder/model.onnx",
}


def missing_package(scheme: str, package: str, *, extra: str) -> UsageError:
    """Return what to say where the package that reads and writes such addresses is not installed."""
    return UsageError(
        f"{scheme}:// addresses need the package {package}.",
        code="extra_missing",
        hint=f'Install it with `pip install "bnfold[{extra}]"`.',
    )
