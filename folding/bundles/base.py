"""What a bundle is made of, and what it is: named members, each a stream of bytes of known size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from folding.errors import UsageError
from folding.report import Headline, SourceReport

Chunks = Iterator[bytes | memoryview]


@dataclass(frozen=True)
class Member:
    """One file of a bundle. `open` begins its bytes anew; there are `size` of them."""

    path: str
    size: int
    open: Callable[[], Chunks]

    @classmethod
    def of(cls, path: str, data: bytes) -> Member:
        """Return a member whose bytes are held."""
        return cls(path, len(data), lambda: iter([data]))

    def at(self, path: str) -> Member:
        """Return the same bytes at another path."""
        return Member(path, self.size, self.open)


@dataclass(frozen=True)
class Contents:
    """A verified artifact and what is known of it.

    name: of the model in the bundle: letters, digits, `.`, `_` and `-`.
    digest: `sha256:...` of the artifact.
    model: `model.onnx`, and the weights file under the name that stands in the model, where there is one.
    report: `report.json`. card: the model card as Markdown.
    attestation: the signed provenance statement, None where there is none.
    ort: the artifact in ORT format and the operators that it needs, None where it was not made.
    storage_uri: where the files of a KServe bundle will lie; empty for the default.
    """

    name: str
    digest: str
    source: SourceReport
    headline: Headline | None
    model: tuple[Member, ...]
    report: Member
    card: Callable[[], bytes] = field(default=lambda: b"")
    attestation: Callable[[], bytes | None] = field(default=lambda: None)
    ort: Callable[[], tuple[Member, str] | None] = field(default=lambda: None)
    storage_uri: str = ""


class Bundle(Protocol):
    """One kind of bundle: a module of this package with these three names."""

    KIND: str
    TITLE: str

    def members(self, contents: Contents) -> list[Member]:
        """Return the files of the bundle. Raises: UsageError for what this kind needs and is not there."""
        ...


def no_ort_format() -> UsageError:
    """Return the error of a bundle in ORT format whose fold did not write that format."""
    return UsageError(
        "The artifact was not written in ORT format.",
        code="no_ort_format",
        hint="Fold again with --ort-format (option `ort_format`): that form is written in the sandbox and "
        "verified with the artifact.",
    )
