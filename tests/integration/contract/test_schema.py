"""schemathesis over the whole contract: good and bad requests, never a 5xx, always as promised.

Short here; `BNFOLD_CASES=250` gives every operation that many examples (more than 5,000 in all).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.deployment import Deployment, deployment, eventually
from tests.support.in_process import digest_of, orders
from tests.support.paths import ROOT
from tests.support.service_fixtures import settings_of

CASES = int(os.environ.get("BNFOLD_CASES", "6"))
PATH = ROOT / "openapi" / "openapi.json"
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
schema = schemathesis.openapi.from_path(PATH)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
counted = {"cases": 0}


@pytest.fixture(scope="module", params=["embedded-folder", "procrastinate-folder"])
def deployed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """One service with a little of everything in it, on either engine."""
    env = settings_of(request.param, request) | {"BNFOLD_MAX_WAIT": "0.2", "BNFOLD_SLOTS": "2"}
    with deployment(tmp_path_factory.mktemp("schema"), **env) as made:
        url = made.api()
        if request.param.startswith("procrastinate"):
            made.worker()
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            for asked in ({}, {"verdict": "fail"}, {"error": "corrupt_model"}):
                client.post("/v1/fold", content=orders(**asked), headers={"prefer": "wait=20"})
                eventually(lambda: not unfinished(client), 30, "the first jobs are over")
        yield made
        print(f"{counted['cases']} generated requests")


def unfinished(client: httpx.Client) -> list[Any]:
    """Jobs that have not ended."""
    return [job for job in client.get("/v1/jobs").json()["jobs"] if job["finished_at"] is None]


@pytest.fixture(scope="module")
def known(deployed: Deployment) -> dict[str, str]:
    """Ids that exist, so that generated requests get past the 404 now and then."""
    with httpx.Client(base_url=deployed.urls[0], trust_env=False, timeout=30) as client:
        jobs = client.get("/v1/jobs").json()["jobs"]
        good = next(job for job in jobs if job["state"] == "succeeded")
        model = client.post("/v1/models", json={"digest": good["input"]}).json()
        client.put("/v1/releases/net/prod", json={"digest": good["artifact"]["digest"]})
        made = client.post("/v1/uploads", headers={"upload-length": "100"})
    return {
        "job_id": good["id"],
        "digest": good["artifact"]["digest"],
        "model_id": model["id"],
        "name": "net",
        "channel": "prod",
        "upload_id": made.headers["location"].rsplit("/", 1)[1],
    }


@pytest.mark.timeout(3600)
@schema.parametrize()
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
def test_contract_holds(case: Any, deployed: Deployment, known: dict[str, str]) -> None:
    counted["cases"] += 1
    # Every other request asks for things that are there.
    if counted["cases"] % 2 and case.path_parameters:
        for name in case.path_parameters:
            case.path_parameters[name] = known.get(name, case.path_parameters[name])
        if case.operation.path.startswith("/v1/blobs"):
            case.path_parameters["digest"] = digest_of(b"")
    response = case.call(base_url=deployed.urls[0], timeout=30)
    case.validate_response(response, checks=CHECKS)
