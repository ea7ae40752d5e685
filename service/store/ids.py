"""Identifiers that sort by time and cannot be guessed, and opaque page tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"


def new(prefix: str) -> str:
    """`prefix_` + 26 characters: 48 bits of milliseconds, 80 random bits."""
    value = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    text = "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))
    return f"{prefix}_{text}"


def page_token(pepper: bytes, value: float | str, row_id: str, sort: str = "") -> str:
    """A token that says where the next page starts; signed, so that only ours are understood.

    value: of the column that the list is sorted by. sort: the order, which the next page must have too.
    """
    body = json.dumps([value, row_id, sort]).encode()
    mac = hmac.new(pepper, b"page:" + body, hashlib.sha256).digest()[:9]
    return base64.urlsafe_b64encode(mac + body).decode().rstrip("=")


def read_page_token(pepper: bytes, token: str, sort: str = "") -> tuple[float | str, str] | None:
    """The inverse of `page_token`; None for anything that we did not make, or made for another order."""
    try:
        raw = base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        mac, body = raw[:9], raw[9:]
        good = hmac.new(pepper, b"page:" + body, hashlib.sha256).digest()[:9]
        if not hmac.compare_digest(mac, good):
            return None
        value, row_id, order = json.loads(body)
        return (value, str(row_id)) if order == sort else None
    except (ValueError, TypeError):
        return None
