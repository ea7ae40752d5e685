"""Who made this artifact, from what, with which tools, and how it was proved: signed, checkable offline.

statement(report)      in-toto Statement v1 with a SLSA Provenance v1 predicate; the subject is the artifact
sign(statement, key)   DSSE envelope, Ed25519 over PAE(payloadType, payload)
verify(envelope, key)  the statement inside, or ProvenanceError

PAE(type, body) = "DSSEv1" SP len(type) SP type SP len(body) SP body      (DSSE protocol, v1.0)
Sources of the forms: in-toto attestation framework v1, SLSA v1 provenance, DSSE v1.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from folding.errors import BnfoldError, UsageError
from folding.report import Report, Verdict
from folding.report.headline import headline
from service.files.durable import sync_folder

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUILD_TYPE = "urn:bnfold:fold:v1"
BUILDER_ID = "urn:bnfold:builder"
MOST_SIGNATURES = 64  # of an envelope that are tried; ours have one
_URL_SAFE = str.maketrans("-_", "+/")

RequestMiddleware = dict[str, Any]
Statement = dict[str, Any]


class ProvenanceError(BnfoldError):
    """A statement that is not signed by the given key, or does not speak of these bytes."""

    code = "provenance"
    exit_code = 3


def statement(
    report: Report,
    *,
    artifact_name: str = "model.onnx",
    invocation: str = "",
    builder: str = BUILDER_ID,
    finished: datetime.datetime | None = None,
) -> Statement:
    """The in-toto statement of a report. Raises: UsageError when the report has no artifact."""
    if report.artifact is None:
        raise UsageError("the report has no artifact to attest")
    when = finished or datetime.datetime.now(datetime.UTC)
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": artifact_name, "digest": _digest_set(report.artifact.digest)}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "source": {"format": report.source.format, "digest": _digest_set(report.source.digest)},
                    "options": report.options,
                },
                "internalParameters": {"sandbox": report.sandbox},
                "resolvedDependencies": _dependencies(report),
            },
            "runDetails": {
                "builder": {"id": builder, "version": dict(report.toolchain)},
                "metadata": run_metadata(invocation, when, sum(report.timings.values())),
                "byproducts": [_verification(report)],
            },
        },
    }


def run_metadata(invocation: str, finished: datetime.datetime, seconds: float) -> dict[str, str]:
    """Return which run it was, and from when to when, as SLSA writes it."""
    when = finished.replace(microsecond=0)
    started = when - datetime.timedelta(seconds=round(seconds))
    return {"invocationId": invocation, "startedOn": _timestamp(started), "finishedOn": _timestamp(when)}


def _dependencies(report: Report) -> list[dict[str, Any]]:
    """The model that went in, then every package that decides what comes out."""
    source = {"name": "source", "digest": _digest_set(report.source.digest)}
    packages = [{"uri": f"pkg:pypi/{name}@{version}"} for name, version in sorted(report.toolchain.items())]
    return [source, *packages]


def _verification(report: Report) -> dict[str, Any]:
    """The report by digest, and its figures, so that a reader need not have the report."""
    said = headline(report)
    rows = [
        {
            "reference": row.reference,
            "provider": row.provider,
            "optimizationLevel": row.optimization_level,
            "status": row.status,
            "judged": row.judged,
            "maxAbs": max((output.max_abs for output in row.outputs), default=None),
            "maxRel": max((output.max_rel for output in row.outputs), default=None),
        }
        for row in report.verification
    ]
    return {
        "name": "bnfold.report/1",
        "mediaType": "application/json",
        "digest": {"sha256": _report_digest(report)},
        "annotations": {
            "verdict": report.verdict.value,
            "headline": said.title,
            "state": said.state.value,
            "batchNorms": len(report.batch_norms),
            "folded": sum(norm.decision == "folded" for norm in report.batch_norms),
            "verification": rows,
        },
    }


def _digest_set(digest: str) -> dict[str, str]:
    algorithm, _, value = digest.partition(":")
    return {algorithm: value} if value else {}


def _timestamp(when: datetime.datetime) -> str:
    return when.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pae(payload_type: str, body: bytes) -> bytes:
    """DSSE pre-authentication encoding: what is really signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)


def sign(statement: Statement, key: Ed25519PrivateKey) -> RequestMiddleware:
    """Wrap and sign a statement."""
    body = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    signature = key.sign(pae(PAYLOAD_TYPE, body))
    return {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(body).decode(),
        "signatures": [{"keyid": key_id(key.public_key()), "sig": base64.b64encode(signature).decode()}],
    }


def verify(envelope: RequestMiddleware, key: Ed25519PublicKey, *, digest: str | None = None) -> Statement:
    """The statement inside, once a signature by `key` over it was found good.

    Args:
        digest: `sha256:<hex>` of the bytes in hand; the statement must be about them and say `pass`.

    Raises: ProvenanceError otherwise.
    """
    try:
        body = _decoded(envelope["payload"])
        signatures = [_decoded(entry["sig"]) for entry in envelope["signatures"][:MOST_SIGNATURES]]
        signed = pae(envelope["payloadType"], body)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ProvenanceError(f"not a DSSE envelope: {type(error).__name__} {error}") from None
    if envelope["payloadType"] != PAYLOAD_TYPE or not any(_good(key, sig, signed) for sig in signatures):
        raise ProvenanceError(
            "the statement is not signed by this key",
            hint="get the public key of the service from its operator: `bnfold keys signing` prints it",
        )
    try:
        found = json.loads(body)
        return _checked(found, digest)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ProvenanceError(f"signed, but no statement: {type(error).__name__} {error}") from None


def _decoded(text: str) -> bytes:
    """Base64, either alphabet (DSSE allows both). Raises: ValueError, AttributeError."""
    return base64.b64decode(text.translate(_URL_SAFE), validate=True)


def _checked(found: Statement, digest: str | None) -> Statement:
    """Only signed words get here; they still have to be about these bytes and say that they were proved."""
    if found.get("_type") != STATEMENT_TYPE or found.get("predicateType") != PREDICATE_TYPE:
        raise ProvenanceError(f"signed, but no provenance statement: {found.get('predicateType')!r}")
    if digest is None:
        return found
    algorithm, _, value = digest.partition(":")
    if not value or not any(subject["digest"].get(algorithm) == value for subject in found["subject"]):
        raise ProvenanceError(f"the statement is about other bytes than {digest}")
    if verdict_of(found) != Verdict.PASS.value:
        raise ProvenanceError(f"the signed verdict is {verdict_of(found)!r}, not 'pass'")
    return found


def verify_report(found: Statement, text: str) -> None:
    """Whether a report is the one that the statement speaks of. Raises: ProvenanceError when it is not."""
    try:
        digest = _report_digest(Report.model_validate_json(text))
        signed = found["predicate"]["runDetails"]["byproducts"][0]["digest"]["sha256"]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ProvenanceError(f"the statement speaks of no report of this kind ({error})") from None
    if digest != signed:
        raise ProvenanceError("the report is another one than the statement speaks of")


def _report_digest(report: Report) -> str:
    return hashlib.sha256(report.to_json(indent=None).encode()).hexdigest()


def verdict_of(found: Statement) -> str:
    """The verdict that a statement of ours carries; empty when it carries none."""
    try:
        return str(found["predicate"]["runDetails"]["byproducts"][0]["annotations"]["verdict"])
    except (KeyError, IndexError, TypeError):
        return ""


def _good(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def key_id(key: Ed25519PublicKey) -> str:
    """sha256 of the key's SubjectPublicKeyInfo, as `sha256:<hex>`."""
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(spki).hexdigest()


def to_json(envelope: RequestMiddleware) -> str:
    """The form in which envelopes travel."""
    return json.dumps(envelope, indent=2) + "\n"


def local_key(path: Path | None = None) -> Ed25519PrivateKey:
    """The signing key at `path` (default: the user's own), made on first use, readable by its owner alone."""
    path = path or default_key_path()
    if not path.exists():
        _make_key(path)
    if path.stat().st_mode & 0o007:
        raise UsageError(f"{path}: everybody on this machine may use this key", hint=f"chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path}: not a private key in PEM form, unencrypted ({error})") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path}: {type(key).__name__}, expected an Ed25519 key")
    return key


def default_key_path() -> Path:
    """`~/.config/bnfold/signing.key`, or where XDG_CONFIG_HOME says."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "bnfold" / "signing.key"


def _make_key(path: Path) -> None:
    """Write a fresh key and its public half. Two processes at once agree on whichever link came first."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)
        path.with_suffix(".pub").write_bytes(public_pem(key.public_key()))
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    sync_folder(path.parent)


def public_pem(key: Ed25519PublicKey) -> bytes:
    """The public half, for those who verify."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def read_public_key(path: Path) -> Ed25519PublicKey:
    """A public key from a PEM file. Raises: UsageError when it is not an Ed25519 one."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path}: not a public key in PEM form ({error})") from None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path}: {type(key).__name__}, expected an Ed25519 public key")
    return key
