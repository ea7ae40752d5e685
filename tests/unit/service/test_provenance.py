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
from tests.support.reports import sample_report

DIGEST = "sha256:" + "ab" * 32
TYPES = b'{"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1"'


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


def envelope_of(
    body: bytes, *keys: Ed25519PrivateKey, kind: str = provenance.PAYLOAD_TYPE
) -> dict[str, object]:
    signatures = [{"sig": base64.b64encode(key.sign(provenance.pae(kind, body))).decode()} for key in keys]
    return {"payloadType": kind, "payload": base64.b64encode(body).decode(), "signatures": signatures}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"not json", b"[]", b'"text"', b"null", b"{}", b"\xff\xfe", TYPES + b"}",
        TYPES + b', "subject": null}', TYPES + b', "subject": [7]}',
        TYPES + b', "subject": [{"digest": []}]}',
        TYPES + b', "subject": [{"digest": {"sha256": "' + b"ab" * 32 + b'"}}], "predicate": 3}'
    ],
)  # fmt: skip
def test_signed_nonsense_is_refused_in_words(key: Ed25519PrivateKey, body: bytes) -> None:
    with pytest.raises(provenance.ProvenanceError):
        provenance.verify(envelope_of(body, key), key.public_key(), digest=DIGEST)


@pytest.mark.parametrize(
    "envelope",
    [
        [], "text", None, {"payload": 1, "payloadType": "x", "signatures": []},
        {"payload": "\u00e9", "payloadType": "x", "signatures": []},
        {"payload": "", "payloadType": "\ud800", "signatures": []},
        {"payload": "", "payloadType": None, "signatures": []},
        {"payload": "", "payloadType": "x", "signatures": {"sig": ""}},
        {"payload": "", "payloadType": "x", "signatures": ["sig"]},
    ],
)  # fmt: skip
def test_what_is_no_envelope_is_refused_in_words(key: Ed25519PrivateKey, envelope: object) -> None:
    with pytest.raises(provenance.ProvenanceError, match="DSSE"):
        provenance.verify(envelope, key.public_key(), digest=DIGEST)  # type: ignore[arg-type]


def test_signatures_of_another_kind_do_not_count(report: Report, key: Ed25519PrivateKey) -> None:
    """Over the payload alone, over its base64 form, or under another type: none is what DSSE signs."""
    good = provenance.sign(provenance.statement(report), key)
    body = base64.b64decode(good["payload"])
    for signed in (body, good["payload"].encode(), provenance.pae("text/plain", body), b"DSSEv1 " + body):
        forged = {**good, "signatures": [{"sig": base64.b64encode(key.sign(signed)).decode()}]}
        with pytest.raises(provenance.ProvenanceError, match="not signed by this key"):
            provenance.verify(forged, key.public_key(), digest=DIGEST)
    relabelled = envelope_of(body, key, kind="application/json")
    with pytest.raises(provenance.ProvenanceError, match="not signed by this key"):
        provenance.verify(relabelled, key.public_key(), digest=DIGEST)


def test_one_good_signature_among_several_is_enough(report: Report, key: Ed25519PrivateKey) -> None:
    others = [Ed25519PrivateKey.generate() for _ in range(3)]
    body = json.dumps(provenance.statement(report)).encode()
    envelope = envelope_of(body, others[0], others[1], key)
    assert provenance.verify(envelope, key.public_key(), digest=DIGEST)
    with pytest.raises(provenance.ProvenanceError):
        provenance.verify(envelope, others[2].public_key(), digest=DIGEST)
    flooded = {**envelope, "signatures": [{"sig": ""}] * 10_000 + envelope["signatures"]}  # type: ignore[operator]
    with pytest.raises(provenance.ProvenanceError):
        provenance.verify(flooded, key.public_key(), digest=DIGEST)


def test_url_safe_base64_is_base64_too(report: Report, key: Ed25519PrivateKey) -> None:
    envelope = provenance.sign(provenance.statement(report), key)
    swap = str.maketrans("+/", "-_")
    signatures = [{"sig": entry["sig"].translate(swap)} for entry in envelope["signatures"]]
    other = {**envelope, "payload": envelope["payload"].translate(swap), "signatures": signatures}
    assert provenance.verify(other, key.public_key(), digest=DIGEST)


def test_the_report_is_the_one_that_was_signed(report: Report) -> None:
    found = provenance.statement(report)
    provenance.verify_report(found, report.to_json())
    other = report.model_copy(update={"summary": "all is well"})
    for text in (other.to_json(), "{}", "[", "null"):
        with pytest.raises(provenance.ProvenanceError):
            provenance.verify_report(found, text)


def test_a_key_for_everybody_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    provenance.local_key(path)
    for mode in (0o604, 0o602, 0o644, 0o666):
        path.chmod(mode)
        with pytest.raises(UsageError, match="everybody"):
            provenance.local_key(path)
    path.chmod(0o660)  # what a volume's fsGroup makes of it
    provenance.local_key(path)


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
