"""Requests, retries, and errors of `folding.errors` made from problems."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import httpx

from folding import errors as E  # noqa: N812

_AGAIN = frozenset({408, 425, 429, 502, 503, 504, 507})


class HttpTransport:
    """One connection pool. Thread-safe as httpx is."""

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 60.0, retries: int = 5) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Timeout(timeout, connect=10.0)
        # Proxies of the environment are for the internet, and would see every loopback call.
        self._http = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=limits, trust_env=False)
        self._retries = retries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _has(self, path: str) -> bool:
        answer = self._again(lambda: self._http.head(path))
        if answer.status_code in (404, 403):
            return False
        raise_problem(answer)
        return True

    def _call(
        self, method: str, path: str, *, make_body: Callable[[], Iterator[bytes]] | None = None, **rest: Any
    ) -> httpx.Response:
        if rest.get("params") is None:
            rest.pop("params", None)

        def once() -> httpx.Response:
            body: dict[str, Any] = {"content": make_body()} if make_body is not None else {}
            return self._http.request(method, path, **body, **rest)

        answer = self._again(once)
        raise_problem(answer)
        return answer

    def _again(self, act: Callable[[], httpx.Response]) -> httpx.Response:
        """Retry what may pass: every request of ours is idempotent (by digest, by key, or by nature)."""
        for failures in range(self._retries + 1):
            try:
                answer = act()
            except httpx.UnsupportedProtocol as error:
                raise E.UsageError(
                    f"{str(self._http.base_url)!r} is not a valid service URL",
                    hint="write it with its scheme: https://bnfold.example.org",
                ) from error
            except httpx.TransportError as error:
                if failures == self._retries:
                    raise unreachable(error) from error
                time.sleep(min(5.0, 0.1 * 2**failures))
                continue
            if answer.status_code not in _AGAIN or failures == self._retries:
                return answer
            wanted = answer.headers.get("retry-after", "")  # may be a date, which nobody of ours sends
            time.sleep(min(30.0, float(wanted) if wanted.isdecimal() else 0.2 * 2**failures))
        raise AssertionError("unreachable")


def unreachable(error: Exception) -> E.TemporaryFailure:
    """Return what to say about a service that does not answer."""
    return E.TemporaryFailure(
        f"The service does not answer ({type(error).__name__}).",
        code="unreachable",
        hint="Is it running, and is the URL right? `bnfold serve` starts one.",
    )


def raise_problem(answer: httpx.Response) -> None:
    """The error that a problem stands for."""
    if answer.status_code < 400:
        return
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    if answer.status_code == 401 and not problem:  # HEAD has no body to say it in
        problem = {
            "code": "unauthorized",
            "detail": "API key missing or invalid.",
            "hint": "Give it as --key, or better in BNFOLD_KEY; its operator makes one.",
        }
    code = str(problem.get("code", "http_error"))
    raise _class_of(answer.status_code, code)(
        str(problem.get("detail") or f"The service answered {answer.status_code}."),
        code=code,
        hint=problem.get("hint"),
        stage=problem.get("stage"),
        layer=problem.get("layer"),
        details=(problem.get("details") or {}) | {"status": answer.status_code},
    )


def _class_of(status: int, code: str) -> type[E.BnfoldError]:
    if code in ("verification_failed", "quarantined"):
        return E.VerificationFailed
    if code in ("cancelled", "timed_out"):
        return E.Cancelled if code == "cancelled" else E.TimedOut
    if status in _AGAIN or status >= 500:
        return E.TemporaryFailure
    return E.UsageError
