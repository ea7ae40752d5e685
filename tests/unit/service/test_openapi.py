"""The contract in the repository is the one that the service speaks."""

from __future__ import annotations

import json

import pytest

from service.openapi import PATH, document


@pytest.fixture(scope="module")
def contract() -> dict:  # type: ignore[type-arg]
    return dict(json.loads(document()))


def test_no_drift() -> None:
    assert PATH.read_text() == document(), "run `make openapi`"


def test_version_and_problems(contract: dict) -> None:  # type: ignore[type-arg]
    assert contract["openapi"].startswith("3.1")
    for path, methods in contract["paths"].items():
        for method, operation in methods.items():
            assert operation.get("summary"), (method, path)
            problem = operation["responses"]["4XX"]["content"]
            assert list(problem) == ["application/problem+json"], (method, path)


def test_every_resource_of_the_design_is_there(contract: dict) -> None:  # type: ignore[type-arg]
    paths = contract["paths"]
    for method, path in [
        ("post", "/v1/fold"), ("put", "/v1/blobs/{digest}"), ("head", "/v1/blobs/{digest}"),
        ("post", "/v1/models"), ("get", "/v1/models/{model_id}"), ("post", "/v1/jobs"), ("get", "/v1/jobs"),
        ("get", "/v1/jobs/{job_id}"), ("get", "/v1/jobs/{job_id}/events"),
        ("post", "/v1/jobs/{job_id}:cancel"),
        ("post", "/v1/jobs/{job_id}:retry"), ("delete", "/v1/jobs/{job_id}"),
        ("get", "/v1/jobs/{job_id}/report"),
        ("get", "/v1/artifacts/{digest}"), ("head", "/v1/artifacts/{digest}"),
        ("get", "/v1/artifacts/{digest}/bundle"), ("get", "/v1/artifacts/{digest}/attestation"),
        ("put", "/v1/releases/{name}/{channel}"), ("get", "/v1/releases/{name}/{channel}"),
        ("get", "/v1/releases/{name}/{channel}/history"), ("post", "/v1/webhooks"),
        ("get", "/v1/webhooks/{webhook_id}/deliveries"), ("patch", "/v1/uploads/{upload_id}"),
        ("get", "/v1/capabilities"), ("get", "/livez"), ("get", "/readyz"), ("get", "/metrics"),
    ]:  # fmt: skip
        assert method in paths[path], (method, path)


def test_report_schema_is_in_the_document(contract: dict) -> None:  # type: ignore[type-arg]
    assert "batch_norms" in contract["components"]["schemas"]["Report"]["properties"]
