"""OpenSSF model signing of an artifact, beside our own statement (extra `signing`).

The signature covers the file (and, where it has one, its weights file) by manifest; verifiers of the OpenSSF
project read it. Keys are P-256 in PEM, as that project's tools make them.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from folding.errors import UsageError
from service.provenance import ProvenanceError


def unavailable() -> str | None:
    """Why it cannot be used here, or None when it can."""
    if importlib.util.find_spec("model_signing") is None:
        return "model-signing is not installed: pip install 'bnfold[signing]'"
    return None


def make_key(path: Path) -> Path:
    """A fresh P-256 key at `path`, its public half at `<path>.pub`; the latter's path."""
    key = ec.generate_private_key(ec.SECP256R1())
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    public = path.with_suffix(".pub")
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return public


def sign(artifact: Path, signature: Path, key: Path) -> None:
    """Sign an artifact. Raises: UsageError when the extra or the artifact is missing."""
    config = _module("signing").Config().use_elliptic_key_signer(private_key=key)
    with _folder(artifact) as folder:
        config.sign(folder, signature)


def verify(artifact: Path, signature: Path, public_key: Path) -> None:
    """Check a signature. Raises: ProvenanceError when it is not of this key over these bytes."""
    config = _module("verifying").Config().use_elliptic_key_verifier(public_key=public_key)
    with _folder(artifact) as folder:
        try:
            config.verify(folder, signature)
        except Exception as error:  # noqa: BLE001 - the library raises whatever its parts raise
            raise ProvenanceError(f"the model signature does not hold: {error}") from None


def _module(name: str) -> Any:
    if (why := unavailable()) is not None:
        raise UsageError(why, hint="install the extra `signing`")
    return importlib.import_module(f"model_signing.{name}")


@contextmanager
def _folder(artifact: Path) -> Iterator[Path]:
    """A folder of the artifact's files alone: the manifest is of a folder, under the published names."""
    if not artifact.is_file():
        raise UsageError(f"no such artifact: {artifact}")
    with tempfile.TemporaryDirectory(prefix="bnfold-sign-") as name:
        for path, target in ((artifact, "model.onnx"), (_weights(artifact), "model.onnx.data")):
            if path.is_file():
                shutil.copyfile(path, Path(name) / target)
        yield Path(name)


def _weights(artifact: Path) -> Path:
    return artifact.with_name(artifact.name + ".data")
