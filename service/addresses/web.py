"""Files at http and https addresses."""

from __future__ import annotations

from pathlib import Path

import httpx

from folding.errors import TemporaryFailure, UsageError
from service.addresses.address import Address

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
MOST_REDIRECTS = 5


class Web:
    """GET and PUT, as servers of files and signed addresses of stores take them."""

    def fetch(self, address: Address, folder: Path) -> Path:
        """Stream the file. Redirects are followed, from https to https only."""
        if address.is_folder:
            raise UsageError(
                f"{address.shown} is a folder, and http has no way to list one.", code="bad_address",
                hint="Give the address of an archive: .tar.gz or .zip.",
            )  # fmt: skip
        target, url = folder / address.name, httpx.URL(str(address))
        with _client() as client:
            for _ in range(MOST_REDIRECTS + 1):
                with _stream(client, url, address) as answer:
                    if answer.has_redirect_location:
                        url = _next(answer, address)
                        continue
                    _require_success(answer, address)
                    _write(answer, target, address)
                    return target
        raise UsageError(f"{address.shown} redirects too often.", code="address_unreadable")

    def send(self, file: Path, address: Address) -> None:
        """PUT the file with its length."""
        with _client() as client, file.open("rb") as body:
            try:
                length = {
                    "content-length": str(file.stat().st_size),
                    "content-type": "application/octet-stream",
                }
                answer = client.put(
                    str(address), content=iter(lambda: body.read(1 << 20), b""), headers=length
                )
            except httpx.TransportError as error:
                raise _unreachable(address, error) from error
            _require_success(answer, address)


def _client() -> httpx.Client:
    return httpx.Client(timeout=TIMEOUT, follow_redirects=False)


def _stream(client: httpx.Client, url: httpx.URL, address: Address) -> _Streamed:
    return _Streamed(client, url, address)


class _Streamed:
    """The answer to one GET; failures of the network are ours."""

    def __init__(self, client: httpx.Client, url: httpx.URL, address: Address) -> None:
        self._made, self._address = client.stream("GET", url), address

    def __enter__(self) -> httpx.Response:
        try:
            return self._made.__enter__()
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise _unreachable(self._address, error) from error

    def __exit__(self, *error: object) -> None:
        self._made.__exit__(*error)  # type: ignore[arg-type]


def _next(answer: httpx.Response, address: Address) -> httpx.URL:
    target = answer.url.join(answer.headers["location"])
    if target.scheme not in ("http", "https") or (answer.url.scheme == "https" and target.scheme != "https"):
        raise UsageError(
            f"{address.shown} redirects from {answer.url.scheme} to {target.scheme}.",
            code="address_unreadable", hint="Give the address of the file itself.",
        )  # fmt: skip
    return target


def _require_success(answer: httpx.Response, address: Address) -> None:
    if answer.is_success:
        return
    if answer.status_code in (429, 500, 502, 503, 504):
        raise TemporaryFailure(f"{address.shown} answers {answer.status_code} {answer.reason_phrase}.")
    raise UsageError(
        f"{address.shown} answers {answer.status_code} {answer.reason_phrase}.", code="address_unreadable",
        hint="Check the address; for one that needs a login, take a signed address.",
    )  # fmt: skip


def _write(answer: httpx.Response, target: Path, address: Address) -> None:
    try:
        with target.open("wb") as file:
            for piece in answer.iter_bytes():
                file.write(piece)
    except httpx.TransportError as error:
        raise _unreachable(address, error) from error


def _unreachable(address: Address, error: Exception) -> TemporaryFailure:
    return TemporaryFailure(
        f"{address.shown} cannot be reached: {error or type(error).__name__}.", code="address_unreachable",
        hint="Check the host's name and your network, and try again.",
    )  # fmt: skip
