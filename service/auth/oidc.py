"""Tokens of GitHub Actions and GitLab CI instead of a long-lived key in a pipeline's secrets.

A token is accepted when all of this holds: signed (RS256 or ES256) by a key that its provider publishes, the
issuer is the fixed one, the audience is ours, it is neither expired nor from the future nor valid for longer
than a day, and its repository's number is in a rule whose other claims are equal. PyJWT checks signatures.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
from jwt.exceptions import PyJWTError

from service.auth.principal import Principal
from service.auth.trust import REPOSITORY_CLAIM, Name, Rule, Trust, load
from service.errors import Forbidden, Unauthorized, Unavailable

log = logging.getLogger("bnfold.auth")
ALGORITHMS = ["RS256", "ES256"]
_LEEWAY = 30.0
_LONGEST = 86_400.0
_FRESH = 3600.0  # seconds for which fetched keys are used without asking again
_AGAIN = 60.0  # an unknown key id makes us ask again, at most once in this time
_STALE = 86_400.0  # while the provider does not answer, its last keys are good for a day
_MAX_BYTES = 1 << 20
_MAX_TOKEN = 16 << 10


class KeySource:
    """The public keys of one provider, from a file or from an https address that the trust file fixes."""

    def __init__(self, place: str, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._place, self._folder, self._clock = place, folder, clock
        self._keys: dict[str, Any] = {}
        self._fetched = self._tried = -_STALE
        self._lock = threading.Lock()

    def find(self, key_id: str) -> Any | None:
        """Return the key, None if the provider has no such id. Raises Unavailable while none is known."""
        with self._lock:
            clock = self._clock()
            unknown, old = key_id not in self._keys, clock - self._fetched > _FRESH
            if (unknown or old) and clock - self._tried > _AGAIN:
                self._tried = clock
                self._refresh(clock)
            if clock - self._fetched > _STALE:
                raise Unavailable("The keys of the token's provider cannot be read.", retry_after=_AGAIN)
            return self._keys.get(key_id)

    def _refresh(self, clock: float) -> None:
        try:
            found = jwt.PyJWKSet.from_dict(json.loads(self.read()))
        except (OSError, ValueError, httpx.HTTPError, PyJWTError) as error:
            log.error(
                "keys of a token provider not read: %s", type(error).__name__, extra={"place": self._place}
            )
            return
        self._keys = {str(key.key_id): key for key in found.keys if key.key_id}
        self._fetched = clock

    def read(self) -> bytes:
        """Return the key set as published now. Raises: OSError, ValueError, httpx.HTTPError."""
        if not self._place.startswith("https://"):
            return (self._folder / self._place).read_bytes()
        with httpx.stream("GET", self._place, timeout=5.0, follow_redirects=False) as answer:
            answer.raise_for_status()
            data = bytearray()
            for piece in answer.iter_bytes():
                data += piece
                if len(data) > _MAX_BYTES:
                    raise ValueError("too many keys")
        return bytes(data)


class PipelineTokens:
    """Check tokens against a trust file."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._trust: Trust = load(path)
        names: tuple[Name, ...] = ("github", "gitlab")
        self._issuers = {self._trust.issuer(name): name for name in names}
        self._sources = {name: KeySource(self._trust.keys(name), path.parent, clock) for name in names}

    def check(self, token: str) -> Principal:
        """Return whom the token stands for. Raises Unauthorized, Forbidden, Unavailable."""
        if len(token) > _MAX_TOKEN:
            raise _refused("it is too long")
        provider, claims = self._verified(token)
        repository = str(claims.get(REPOSITORY_CLAIM[provider], ""))
        for rule in self._trust.rules:
            if rule.provider == provider and rule.repository == repository and _agrees(rule, claims):
                return Principal(rule.tenant, frozenset(rule.scopes), f"{provider}:{repository}")
        raise Forbidden(
            f"No rule trusts repository {repository[:20] or '?'} of {provider} with these claims.",
            code="untrusted_repository",
            hint="Operators: the trust file (BNFOLD_OIDC_FILE) needs a rule with the repository's number.",
        )

    def _verified(self, token: str) -> tuple[Name, dict[str, Any]]:
        try:
            header = jwt.get_unverified_header(token)
            loose = jwt.decode(token, options={"verify_signature": False})
            provider = self._issuers.get(str(loose.get("iss")))
            if provider is None:
                raise _refused("its issuer is not trusted")
            key = self._sources[provider].find(str(header.get("kid")))
            if key is None:
                raise _refused("its key is not one of its provider")
            claims = jwt.decode(
                token, key, algorithms=ALGORITHMS, audience=self._trust.audience, leeway=_LEEWAY,
                issuer=self._trust.issuer(provider),
                options={"require": ["exp", "iat", "iss", "aud", "sub"], "verify_iat": True},
            )  # fmt: skip
        except (PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise _refused(_WHY.get(type(error).__name__, "it is malformed")) from error
        if float(claims["exp"]) - float(claims["iat"]) > _LONGEST:
            raise _refused("it is valid for longer than a day")
        return provider, claims


_WHY = {
    "ExpiredSignatureError": "it has expired",
    "ImmatureSignatureError": "it is from the future",
    "InvalidAudienceError": "its audience is another",
    "InvalidIssuerError": "its issuer is not trusted",
    "InvalidSignatureError": "its signature is wrong",
    "InvalidAlgorithmError": "its algorithm is not accepted",
    "MissingRequiredClaimError": "a claim is missing (exp, iat, iss, aud, sub)",
}


def _agrees(rule: Rule, claims: dict[str, Any]) -> bool:
    return all(str(claims.get(name)) == wanted for name, wanted in rule.claims.items())


def _refused(why: str) -> Unauthorized:
    return Unauthorized(
        f"The pipeline's token is not accepted: {why}.",
        code="bad_token",
        hint="Ask the provider for a token with this service's audience, in this very job.",
        headers={"WWW-Authenticate": 'Bearer realm="bnfold"'},
    )
