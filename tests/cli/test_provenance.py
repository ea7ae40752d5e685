"""Statements are signed, checkable by others' means, and worthless for other bytes."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from folding.errors import UsageError
from folding.report import Report
from service import provenance
from tests.cli.reports import sample_report

DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def report() -> Report:
    return sample_report(artifact=DIGEST)


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def test_statement_binds_source_options_tools_and_artifact(report: Report) -> None:
    found = provenance.statement(report, invocation="job_1")
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    assert found["subject"] == [{"name": "model.onnx", "digest": {"sha256": "ab" * 32}}]
    definition = found["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["source"]["digest"] == {"sha256": "cd" * 32}
    assert definition["externalParameters"]["options"] == report.options
    assert {"uri": "pkg:pypi/onnx@1.19.0"} in definition["resolvedDependencies"]
    figures = found["predicate"]["runDetails"]["byproducts"][0]["annotations"]
    assert figures["verdict"] == "pass"
    assert figures["verification"][0]["maxAbs"] == pytest.approx(1e-7)


def test_sign_and_verify(report: Report, key: Ed25519PrivateKey) -> None:
    envelope = json.loads(provenance.to_json(provenance.sign(provenance.statement(report), key)))
    found = provenance.verify(envelope, key.public_key(), digest=DIGEST)
    assert found["subject"][0]["digest"]["sha256"] == "ab" * 32
    assert envelope["signatures"][0]["keyid"] == provenance.key_id(key.public_key())


def test_signature_is_over_the_dsse_encoding(report: Report, key: Ed25519PrivateKey) -> None:
    """By hand, from the DSSE specification, so that other verifiers agree."""
    envelope = provenance.sign(provenance.statement(report), key)
    body = base64.b64decode(envelope["payload"])
    signed = b"DSSEv1 28 application/vnd.in-toto+json " + str(len(body)).encode() + b" " + body
    key.public_key().verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed)


def test_what_does_not_hold_is_refused(report: Report, key: Ed25519PrivateKey) -> None:
    envelope = provenance.sign(provenance.statement(report), key)
    public = key.public_key()
    other = Ed25519PrivateKey.generate().public_key()
    changed = json.loads(base64.b64decode(envelope["payload"]))
    changed["subject"][0]["digest"]["sha256"] = "00" * 32
    forged = {**envelope, "payload": base64.b64encode(json.dumps(changed).encode()).decode()}
    cases = [
        (envelope, other, DIGEST),
        (forged, public, DIGEST),
        (envelope, public, "sha256:" + "00" * 32),
        ({**envelope, "payloadType": "text/plain"}, public, DIGEST),
        ({**envelope, "signatures": []}, public, DIGEST),
        ({}, public, DIGEST),
        ({"payload": "!", "payloadType": "x", "signatures": [{"sig": "!"}]}, public, DIGEST),
    ]
    for bad, with_key, digest in cases:
        with pytest.raises(provenance.ProvenanceError):
            provenance.verify(bad, with_key, digest=digest)


def test_signed_failure_does_not_pass_for_success(key: Ed25519PrivateKey) -> None:
    failed = sample_report(artifact=DIGEST, verdict="fail")
    envelope = provenance.sign(provenance.statement(failed), key)
    with pytest.raises(provenance.ProvenanceError, match="verdict"):
        provenance.verify(envelope, key.public_key(), digest=DIGEST)


def test_no_artifact_no_statement() -> None:
    with pytest.raises(UsageError):
        provenance.statement(sample_report(artifact=None))


def test_local_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "signing.key"
    first = provenance.local_key(path)
    again = provenance.local_key(path)
    assert provenance.key_id(first.public_key()) == provenance.key_id(again.public_key())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    public = provenance.read_public_key(path.with_suffix(".pub"))
    assert provenance.key_id(public) == provenance.key_id(first.public_key())


@pytest.mark.parametrize("content", [b"", b"rubbish", b"-----BEGIN PUBLIC KEY-----\n"])
def test_bad_key_files_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.pem"
    path.write_bytes(content)
    for read in (provenance.local_key, provenance.read_public_key):
        with pytest.raises(UsageError, match=r"bad\.pem"):
            read(path)
