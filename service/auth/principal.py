"""The one who asks."""

from __future__ import annotations

from dataclasses import dataclass

from service.errors import Forbidden

SCOPES = ("submit", "read", "admin")


@dataclass(frozen=True)
class Principal:
    """A tenant and what may be done in its name. `admin` includes the others."""

    tenant: str
    scopes: frozenset[str]
    key_id: str | None = None

    def need(self, scope: str) -> None:
        """Raise Forbidden without the scope."""
        if scope not in self.scopes and "admin" not in self.scopes:
            raise Forbidden(
                f"This key has no {scope!r} scope.", code="missing_scope", hint=f"Use a key with {scope!r}."
            )


def looks_like_token(presented: str) -> bool:
    """Return whether it is a JWT by its form; an API key has one dot and begins with `bnf_`."""
    return presented.count(".") == 2 and not presented.startswith("bnf_")


# The owner of a loopback service that has no keys.
LOCAL = Principal("default", frozenset(SCOPES))
