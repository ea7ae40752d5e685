"""Artifacts: what a job made. Only published ones are handed out, unless the reader insists."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from sqlalchemy import Row, select

from service.api import attest, bundle, files
from service.api.deps import Digest, Ports, Reader
from service.auth.principal import Principal
from service.errors import Forbidden, Gone, NotFound
from service.jobs import repository
from service.jobs.model import Job
from service.jobs.results import ZIP
from service.store import tables
from service.store.db import now
from service.wiring import Services

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])
A = tables.artifacts.c
BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
DSSE = "application/vnd.dsse.envelope.v1+json"
Insist = Annotated[
    bool, Query(description="Read it although its verdict is not pass. Such bytes must not be deployed.")
]


def find(ports: Services, who: Principal, digest: str, allow_quarantined: bool) -> Row[Any]:
    """The tenant's artifact, allowed to be read, its bytes checked."""
    with ports.db.read() as connection:
        query = select(tables.artifacts).where(A.tenant == who.tenant, A.digest == digest)
        row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"No artifact {digest}.")
    if row.state != "published" and not allow_quarantined:
        raise Forbidden(
            "The artifact is quarantined: its verdict is not pass.",
            code="quarantined",
            hint="The job's report tells why; ?allow_quarantined=true reads it nevertheless.",
            details={"job": row.job_id},
        )
    try:
        ports.verifier.check(digest, now())
    except NotFound as error:
        raise Gone(
            "The artifact's bytes are lost.", code="artifact_lost", hint="Run its job again."
        ) from error
    return row


@router.api_route(
    "/{digest}",
    methods=["GET"],
    response_class=Response,
    responses={
        200: BYTES | {"description": "All of it."},
        206: BYTES | {"description": "The range asked for."},
        304: {"description": "If-None-Match holds."},
    },
    summary="Download an artifact",
)
async def get_artifact(
    digest: Digest, request: Request, ports: Ports, who: Reader, allow_quarantined: Insist = False
) -> Response:
    """Strong ETag, one Range, If-Range, Repr-Digest; immutable. `resume` by Range, check by digest."""
    row = await run_in_threadpool(find, ports, who, digest, allow_quarantined)
    extra = {} if row.state == "published" else {"Bnfold-Quarantined": "true"}
    suffix = "zip" if row.media_type == ZIP else "onnx"
    return files.serve(
        request, ports.blobs, digest, row.size,
        media_type=row.media_type, filename=f"{digest[7:19]}.{suffix}", extra=extra,
    )  # fmt: skip


@router.head("/{digest}", response_class=Response, summary="Get the size and digest of an artifact")
async def head_artifact(
    digest: Digest, request: Request, ports: Ports, who: Reader, allow_quarantined: Insist = False
) -> Response:
    """The headers of the download."""
    return await get_artifact(digest, request, ports, who, allow_quarantined)


@router.get(
    "/{digest}/bundle",
    response_class=Response,
    responses={200: {"description": "A zip.", "content": {ZIP: {}}}},
    summary="Download a bundle for a deployer",
)
async def get_bundle(
    digest: Digest,
    ports: Ports,
    who: Reader,
    name: Annotated[
        str,
        Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="Name of the model in the bundle."),
    ] = "model",
    kind: Annotated[
        Literal["triton", "kserve", "ort", "folder"],
        Query(
            description="`triton`: model repository. `kserve`: storage layout and InferenceService. `ort`: "
            "ONNX Runtime format and its operators, where the fold wrote it (`ort_format`). `folder`: model, "
            "report, model card, attestation."
        ),
    ] = "triton",
    storage_uri: Annotated[
        str, Query(max_length=500, description="`storageUri` of the InferenceService; kind `kserve`.")
    ] = "",
) -> Response:
    """A zip with one folder, called `name`."""
    row = await run_in_threadpool(find, ports, who, digest, False)
    job = await run_in_threadpool(_job, ports, who, row)
    return await run_in_threadpool(bundle.response, ports, row, job, kind, name, storage_uri)


@router.get(
    "/{digest}/attestation",
    response_class=Response,
    responses={200: {"description": "A DSSE envelope.", "content": {DSSE: {}}}},
    summary="Get the signed provenance (in-toto, SLSA)",
)
def get_attestation(digest: Digest, ports: Ports, who: Reader) -> JSONResponse:
    """Binds source, options, toolchain, verification figures and artifact."""
    row = find(ports, who, digest, False)
    job = _job(ports, who, row)
    if job.artifact_digest != digest:
        raise NotFound(
            "The recalibrated artifact of a job has no attestation: the job's report proves the other one.",
            code="no_attestation",
            hint="Fold with `recalibrate` and the same data: that job's artifact has one.",
        )
    return JSONResponse(attest.envelope(ports, job), media_type=DSSE)


def _job(ports: Services, who: Principal, artifact: Row[Any]) -> Job:
    """Return the job that made the artifact; where it was deleted, the newest that has the same result."""
    with ports.db.read() as connection:
        try:
            return repository.find(connection, who.tenant, artifact.job_id)
        except NotFound:
            job = repository.find_maker(connection, who.tenant, artifact.digest)
            if job is None:
                raise
            return job
