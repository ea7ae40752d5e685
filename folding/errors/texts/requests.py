"""Errors of HTTP requests in general."""

# Prose in tables: long lines and implicit concatenation read better here than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

from typing import Final

from folding.errors.texts.base import Text

REQUESTS: Final[dict[str, Text]] = {
    "still_running": Text(
        "The job has not ended yet",
        "A request that waits for the artifact ended before the job did. The job goes on.",
        "Send the same request again: it joins the running job. Ask for a longer wait with Prefer: wait=60, or for "
        "the job itself with Prefer: respond-async.",
        "`POST /v1/fold` with a large model: 202 and the job's address came, not the artifact.",
    ),
    "bad_request": Text(
        "The request cannot be understood",
        "A header, a parameter or the body is not of the form that the interface documents.",
        "Compare the request with /openapi.json; the message names the part that is off.",
        "`GET /v1/jobs?limit=many`",
    ),
    "unauthorized": Text(
        "No valid key",
        "The request carries no API key, an unknown one, a revoked one, or one past its expiry.",
        "Send `Authorization: Bearer ID.SECRET`. An operator makes keys with `bnfold keys create`.",
        '`curl http://127.0.0.1:8750/v1/jobs` without `-H "Authorization: Bearer KEY"`, once keys exist.',
    ),
    "forbidden": Text(
        "The key may not do this",
        "The key is valid, but the act is not among its scopes.",
        "Ask the operator for a key with the scope that the message names.",
        "A key of the scope `read` sends `POST /v1/fold`.",
    ),
    "not_found": Text(
        "No such thing",
        "Nothing of that name exists for this key's tenant; things of other tenants look the same.",
        "Check the id and the key. Finished jobs go after the retention time.",
        "`GET /v1/jobs/01JZ` where the id is cut short.",
    ),
    "conflict": Text(
        "The state does not allow it",
        "The thing is in a state in which the request makes no sense, or somebody else changed it meanwhile.",
        "Read its present state and decide again.",
        "`DELETE /v1/jobs/{id}` of a job that is running.",
    ),
    "gone": Text(
        "It was here once",
        "The thing existed, and its bytes have expired or were deleted.",
        "Submit the model again; equal input and options give the same result.",
        "`GET /v1/artifacts/sha256:...` a day after `BNFOLD_RETENTION_DAYS` had passed.",
    ),
    "precondition_failed": Text(
        "Somebody else was faster",
        "The ETag in If-Match or If-None-Match is not that of the present state, so nothing was changed.",
        "Read it again, look at what changed, and repeat with the new ETag.",
        '`If-Match: "3"` for a release whose ETag is `"4"` by now.',
    ),
    "precondition_required": Text(
        "An unconditional overwrite is refused",
        "Changing this needs If-Match with the ETag that you read, so that nobody's change is lost.",
        "GET it first and send its ETag in If-Match.",
        "`PUT /v1/releases/resnet/stable` without `If-Match`, for a release that exists.",
    ),
    "too_large": Text(
        "Above the size limit",
        "The body, a header or a field is larger than this service takes; a body is cut while it streams.",
        "Send less, or ask the operator to raise the limit (`BNFOLD_MAX_UPLOAD_BYTES`).",
        "A body of 30 GB where `BNFOLD_MAX_UPLOAD_BYTES` is 20 GiB.",
    ),
    "headers_too_large": Text(
        "Headers above their limits",
        "A request carries more than 100 headers or more than 64 KiB of them. It was not read any further.",
        "Send fewer and shorter headers; large values belong into the body.",
        "A request with a cookie of 70 KiB.",
    ),
    "too_many_connections": Text(
        "Too many open connections",
        "This HTTP process has as many open connections as it may (`BNFOLD_MAX_CONNECTIONS`).",
        "Try again in a moment; reuse connections; add HTTP processes with `BNFOLD_WEB_WORKERS`.",
        "A client that opens a new connection for each of 2,000 polls and closes none.",
    ),
    "request_incomplete": Text(
        "The connection ended before the body did",
        "Fewer bytes came than were announced. Nothing of them was kept, except by a resumable upload.",
        "Send it again; for large files on poor lines use the resumable uploads of /v1/uploads.",
        "`Content-Length: 1000`, and the connection was closed after 640 bytes.",
    ),
    "unsupported_media_type": Text(
        "A Content-Type that is not taken here",
        "The route does not take a body of that type.",
        "The message names the types that would do.",
        "`Content-Type: text/plain` for `POST /v1/jobs`, which takes JSON.",
    ),
    "not_acceptable": Text(
        "No form of the answer fits",
        "None of the types in the Accept header can be produced.",
        "Ask for one of the types in the message, or leave Accept out.",
        "`Accept: application/pdf` for a report.",
    ),
    "range_not_satisfiable": Text(
        "The range lies outside the bytes",
        "The Range header asks for bytes that the artifact does not have, or for several ranges.",
        "Ask for one range within the size that Content-Range tells.",
        "`Range: bytes=5000000-` for an artifact of 4,800,000 bytes.",
    ),
    "invalid": Text(
        "Understood, and wrong",
        "The request is well-formed, but a value cannot be right: an unknown option, a digest that does not fit.",
        "The message names the field and what was expected.",
        '`{"options": {"rtol": -1}}`',
    ),
    "quota_exceeded": Text(
        "Over the quota or the rate limit",
        "The tenant has too many jobs, stored bytes, uploaded bytes or requests for the moment.",
        "Wait as long as Retry-After says, or delete what is no longer needed.",
        "The eleventh job in the queue of a tenant that may have ten.",
    ),
    "request_timeout": Text(
        "The request did not come in time",
        "Headers or body took longer than the service waits.",
        "Send again; for slow lines use the resumable upload.",
        "A client that sends one byte of its headers every 10 seconds.",
    ),
    "bad_address": Text(
        "Not an address of a model",
        "An address has a scheme that bnfold knows (https, http, s3, gs, az, hf, oci), a host or bucket, and the path of a file; `#sha256:` and 64 hexadecimal digits may follow.",
        "Correct the address as the message says.",
        "`bnfold fold ftp://example.org/model.onnx -o model.onnx`",
    ),
    "address_unreadable": Text(
        "What lies at the address cannot be read or written",
        "The server or store was reached, and there is nothing, or it refuses these credentials.",
        "Check the address, and the credentials in the environment of the command (AWS_…, GOOGLE_…, AZURE_…, HF_TOKEN).",
        "`s3://bucket/no-such-model.onnx`",
    ),
    "address_unreachable": Text(
        "The address cannot be reached now",
        "The server or store of an address did not answer, or answered that it is overloaded.",
        "Check its name and the network, and try again.",
        "`https://models.example.org/net.onnx`, whose server is restarting.",
    ),
    "extra_missing": Text(
        "An optional package is not installed",
        "The command needs a package that bnfold does not install by itself.",
        "Install the extra that the message names.",
        "`hf://` addresses without `pip install 'bnfold[hub]'`.",
    ),
    "unavailable": Text(
        "A part of the service does not answer",
        "The database, the store or the workers cannot be reached right now.",
        "Try again after Retry-After; `/readyz` and `bnfold doctor --url ...` say which part it is.",
        "PostgreSQL is restarting.",
    ),
    "storage_full": Text(
        "The storage is full or failing",
        "The disk or bucket refused the bytes; nothing was acknowledged, and reading goes on.",
        "Operators: free or add space, the service recovers without a restart. Callers: try again later.",
        "The folder of `BNFOLD_DATA_DIR` has 0 bytes left.",
    ),
    "corrupt_blob": Text(
        "Stored bytes no longer match their digest",
        "A file changed under the service (bit-rot, a bad disk). Such bytes are never handed out.",
        "Submit the model again to make the artifact anew; operators should check the disk.",
        "The blob `sha256:9f86...` hashes to `sha256:3a7b...` when it is read.",
    ),
    "provenance": Text(
        "The provenance statement does not hold",
        "The statement is not signed by the given key, is about other bytes, or its verdict is not pass.",
        "Get the service's public key from its operator (`bnfold keys signing`) and pull again. Do not deploy the bytes.",
        "`bnfold pull resnet/production -o model.onnx --verify-key other.pub`, with the key of another service.",
    ),
}
