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


def page_token(pepper: bytes, created_at: float, row_id: str) -> str:
    """A token that says where the next page starts; signed, so that only ours are understood."""
    body = json.dumps([created_at, row_id]).encode()
    mac = hmac.new(pepper, b"page:" + body, hashlib.sha256).digest()[:9]
    return base64.urlsafe_b64encode(mac + body).decode().rstrip("=")


def read_page_token(pepper: bytes, token: str) -> tuple[float, str] | None:
    """The inverse of `page_token`; None for anything that we did not make."""
    try:
        raw = base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        mac, body = raw[:9], raw[9:]
        good = hmac.new(pepper, b"page:" + body, hashlib.sha256).digest()[:9]
        if not hmac.compare_digest(mac, good):
            return None
        created_at, row_id = json.loads(body)
        return float(created_at), str(row_id)
    except (ValueError, TypeError):
        return None
