"""Encrypt webhook secrets at rest: AES-256-GCM under a key that HKDF derives from the server's pepper.

Stored form: `enc1:` and base64 of a 12-byte nonce and the ciphertext; the webhook's id is authenticated too,
so that a stored secret cannot be moved to another webhook.
"""

from __future__ import annotations

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service.errors import Unprocessable

PREFIX = "enc1:"


class SecretBox:
    """Seal and open secrets with one key."""

    def __init__(self, pepper: bytes) -> None:
        derived = HKDF(SHA256(), 32, salt=None, info=b"bnfold webhook secrets v1").derive(pepper)
        self._cipher = AESGCM(derived)

    def seal(self, secret: str, webhook_id: str) -> str:
        """Return the stored form."""
        nonce = os.urandom(12)
        sealed = self._cipher.encrypt(nonce, secret.encode(), webhook_id.encode())
        return PREFIX + base64.b64encode(nonce + sealed).decode()

    def open(self, stored: str, webhook_id: str) -> str:
        """Return the secret; a row of an earlier version holds it as it is.

        Raises Unprocessable when it was sealed with another pepper, or for another webhook.
        """
        if not stored.startswith(PREFIX):
            return stored
        try:
            raw = base64.b64decode(stored.removeprefix(PREFIX), validate=True)
            return self._cipher.decrypt(raw[:12], raw[12:], webhook_id.encode()).decode()
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise Unprocessable(
                "The webhook's secret cannot be decrypted with this server's pepper.",
                code="webhook_secret_unreadable",
                hint="Every process needs the same BNFOLD_PEPPER; else delete the webhook and add it again.",
            ) from error
