"""Errors of the resources of the service."""

# Prose in tables: long lines and implicit concatenation read better here than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

from typing import Final

from folding.errors.texts.base import Text

SERVICE: Final[dict[str, Text]] = {
    "bad_json": Text(
        "Not valid JSON",
        "The body or a field that should be JSON cannot be parsed.",
        "Check quotes and commas; shells eat quotes.",
        '`{"strict": true,}`',
    ),
    "bad_form": Text(
        "A form that cannot be read",
        "The multipart body is malformed, or a part is missing or unknown.",
        "Send the parts `model`, and if wanted `options`, `calibration`, `probe`.",
        "`curl -F modle=@model.onnx`, where the part must be called `model`.",
    ),
    "bad_host": Text(
        "A host name that is not served",
        "The Host header names something else than this service, as in a DNS rebinding attack.",
        "Operators: add the name to BNFOLD_ALLOWED_HOSTS.",
        "`Host: rebind.example.net` for a service that is served as `bnfold.example.org`.",
    ),
    "cross_origin": Text(
        "A request of another site's page",
        "Browsers of visitors to other sites may not use the service.",
        "Use the service's own pages, or send requests without an Origin.",
        "A form on another site posts to `http://127.0.0.1:8750/v1/fold`.",
    ),
    "proxied_without_key": Text(
        "A service without keys behind a proxy",
        "While no API key exists, whoever reaches the service acts as its owner. The request came through a proxy, so anybody may have sent it.",
        "Create a key with `bnfold keys create`.",
        "nginx passes `X-Forwarded-For`, and `bnfold keys create` was never run.",
    ),
    "port_taken": Text(
        "The port cannot be used",
        "Another process listens on it, or this process may not open it.",
        "Choose another port with `--port`; 0 takes a free one.",
        "`bnfold serve` is started a second time on port 8750.",
    ),
    "first_key": Text(
        "The first API key is made by the operator",
        "Once a key exists, the service refuses callers without one. Nobody without a key decides that over the network.",
        "Create the first key with `bnfold keys create` on the service's machine, sign in with it, then create others.",
        "`POST /v1/keys` on a service that has no key yet.",
    ),
    "keys_in_use": Text(
        "A key is still usable",
        "All keys can be forgotten only once every one of them is revoked or has expired.",
        "`bnfold keys list`, then `bnfold keys revoke ID`.",
        "`bnfold keys forget-all` while one key is valid until next year.",
    ),
    "webhook_secret_unreadable": Text(
        "A webhook secret that cannot be decrypted",
        "It was encrypted with another pepper than this process has.",
        "Operators: give every process the same BNFOLD_PEPPER, or delete the webhook and add it again.",
        "`BNFOLD_PEPPER` was changed after the webhook was made.",
    ),
    "report_not_rendered": Text(
        "A form of the report that cannot be made",
        "Rendering this report takes more memory or time than its process may use, or the report was written by another version.",
        "Take the JSON form. Operators: BNFOLD_REPORT_MEMORY_BYTES and BNFOLD_REPORT_TIMEOUT.",
        "The HTML form of a report with 60,000 batch norms.",
    ),
    "too_many_failures": Text(
        "Too many wrong keys",
        "More requests with a wrong API key came from this address than the service looks at in a minute.",
        "Check the key and wait; a right key is never refused.",
        "A script that tries 1,000 keys a minute.",
    ),
    "bad_token": Text(
        "A pipeline's token that is not accepted",
        "It is not signed by its provider, expired, for another audience, or malformed; the message says which.",
        "Ask for a token with this service's audience in the job itself; tokens live for minutes.",
        "A GitHub token of the audience `sts.amazonaws.com`.",
    ),
    "untrusted_repository": Text(
        "A repository that no rule trusts",
        "The token is genuine, but the service's trust file has no rule for the repository's number with these claims.",
        "Operators: add a rule with the number that the message names.",
        "A token of a fork: repository 2222, where the trust file names 1111.",
    ),
    "bad_page_token": Text(
        "An unknown page token",
        "The token was not given by this service, or was changed.",
        "Start again without page_token.",
        "`GET /v1/jobs?page_token=2`",
    ),
    "bad_event_id": Text(
        "Last-Event-ID is no number",
        "The header must be the id of an event of this stream.",
        "Send the last id that you received, or leave it out.",
        "`Last-Event-ID: latest`",
    ),
    "bad_upload": Text(
        "An upload request that is off",
        "A header of the resumable upload is missing or has no sense.",
        "See the tus 1.0 protocol; the message names the header.",
        "`POST /v1/uploads` without `Upload-Length`.",
    ),
    "tus_version": Text(
        "Another version of tus",
        "Only version 1.0.0 of the resumable upload protocol is spoken.",
        "Send `Tus-Resumable: 1.0.0`.",
        "`Tus-Resumable: 0.2.2`",
    ),
    "unknown_option": Text(
        "An option that does not exist",
        "The name is not among the options of a fold.",
        "GET /v1/capabilities lists the options; a typo is the usual reason.",
        '`{"options": {"rtoll": 1e-4}}`',
    ),
    "empty_body": Text(
        "An empty body",
        "The request has no bytes.",
        "Send the model's bytes, e.g. with `curl --data-binary @model`.",
        "`curl -X PUT /v1/blobs/sha256:... --data-binary @empty`",
    ),
    "digest_mismatch": Text(
        "The bytes do not have their digest",
        "What arrived is not what the digest says: cut, changed on the way, or the digest of another file.",
        "Send or fetch again; compare with sha256sum.",
        "`PUT /v1/blobs/sha256:9f86...` with bytes that hash to `sha256:3a7b...`.",
    ),
    "checksum_mismatch": Text(
        "A piece was damaged on its way",
        "The checksum of this part of a resumable upload does not fit its bytes.",
        "Send the same piece again.",
        "`Upload-Checksum: sha1 Kq5s...` for bytes that were changed by a faulty proxy.",
    ),
    "offset_mismatch": Text(
        "The upload is at another offset",
        "Another request went on meanwhile, or an answer was lost.",
        "HEAD tells the offset; go on from there.",
        "`Upload-Offset: 1048576` where the service has 2,097,152 bytes.",
    ),
    "length_mismatch": Text(
        "More bytes than announced",
        "The upload would become longer than its Upload-Length.",
        "Start a new upload with the right length.",
        "`Upload-Length: 1000`, offset 900, and a piece of 200 bytes.",
    ),
    "upload_locked": Text(
        "Somebody else is writing",
        "Another request is sending to this upload right now.",
        "Wait until it has ended, then ask for the offset.",
        "Two tabs of a browser send the same file at the same time.",
    ),
    "upload_expired": Text(
        "The upload has expired",
        "It was not finished in time and its bytes are gone.",
        "Start a new upload.",
        "`PATCH /v1/uploads/{id}` two days after the upload began.",
    ),
    "no_attestation": Text(
        "The artifact has no attestation",
        "The recalibrated artifact that a job made beside its own is proved in one sentence of the job's report; "
        "an attestation binds a whole report.",
        "Fold with `recalibrate` and the same calibration data; that job's artifact has an attestation.",
        "GET /v1/artifacts/{recalibrated digest}/attestation of a job with calibration data.",
    ),
    "no_ort_format": Text(
        "The artifact was not written in ORT format",
        "A bundle in ONNX Runtime's own format was asked for, and the fold that made the artifact did not write that "
        "format. It is written in the sandbox and verified with the artifact, never afterwards.",
        "Fold again with `--ort-format` (option `ort_format`). A recalibrated artifact beside a faithful one has none: "
        "fold with `recalibrate`.",
        "GET /v1/artifacts/{digest}/bundle?kind=ort of an ordinary fold.",
    ),
    "unknown_bundle": Text(
        "There is no such kind of bundle",
        "Artifacts are packed for Triton, KServe, ONNX Runtime (ORT format), or as a folder.",
        "Take one of `triton`, `kserve`, `ort`, `folder`.",
        "bnfold bundle model.onnx --report report.json -o out --kind zip",
    ),
    "no_report": Text(
        "No report",
        "The job has not ended yet, or ended without one.",
        "Wait for the end; a failed job has its `error` instead.",
        "`GET /v1/jobs/{id}/report` of a job in the state `queued`.",
    ),
    "quarantined": Text(
        "The artifact is quarantined",
        "Its verdict is not pass, so it is not handed out.",
        "The job's report tells why. For a look at the bytes: ?allow_quarantined=true, or `bnfold pull --rejected`.",
        "`GET /v1/artifacts/sha256:...` of a job with the verdict `fail`.",
    ),
    "unhealthy_artifact": Text(
        "The statistics of the model are not healthy",
        "The artifact is equivalent to its source, and a finding about the batch-norm statistics says that the source itself is likely wrong.",
        "Follow the remedy of the finding and fold again. To release it all the same: `accept_unhealthy` in the request, `--accept-unhealthy` of the command.",
        "A release of an artifact whose batch norms were never updated.",
    ),
    "artifact_lost": Text(
        "The artifact's bytes are lost",
        "The record is there, the bytes are gone from the store.",
        "Run its job again; equal input and options make equal bytes.",
        "The bucket's lifecycle rule deleted the object.",
    ),
    "blob_missing": Text(
        "Bytes that are not there",
        "The store has no blob of that digest.",
        "Upload it again.",
        "A job whose input was deleted from the store by hand.",
    ),
    "blob_not_found": Text(
        "No such blob",
        "This tenant has not uploaded bytes of that digest.",
        "PUT them to /v1/blobs/<digest> first.",
        "`HEAD /v1/blobs/sha256:...` before the `PUT`.",
    ),
    "public_bind_without_key": Text(
        "A public address without a key",
        "Anybody could use the service as its owner, so it refuses to start.",
        "Make a key with `bnfold keys create`, or bind 127.0.0.1.",
        "`bnfold serve --host 0.0.0.0` before `bnfold keys create`.",
    ),
    "key_revoked": Text(
        "The key was revoked",
        "The key was valid once and has been ended by its operator.",
        "Ask for a new one.",
        "`bnfold keys revoke KEY_ID`, and a pipeline still sends the key.",
    ),
    "key_expired": Text(
        "The key has expired",
        "The time that it was made for is over.",
        "Ask for a new one; operators rotate keys with an overlap.",
        "A key made with `--expires-days 30`, 31 days ago.",
    ),
    "missing_scope": Text(
        "The key lacks a scope",
        "The key is valid, but does not have the scope that this act needs.",
        "Ask for a key with the scope in the message.",
        "`bnfold submit model.h5` with a key of the scope `read` only.",
    ),
    "rate_limited": Text(
        "Too many requests",
        "More requests in a minute than this tenant may make.",
        "Wait as long as Retry-After says.",
        "A loop that asks `GET /v1/jobs/{id}` 50 times a second; `?wait=30` asks once.",
    ),
    "unreachable": Text(
        "The service does not answer",
        "No connection could be made, or it broke.",
        "Is it running, and is the address right? `bnfold serve` starts one.",
        "`bnfold submit model.h5 --url http://127.0.0.1:9999`, where nothing listens.",
    ),
    "idempotency_key_reused": Text(
        "An Idempotency-Key for two different requests",
        "The key was used before with other input or options.",
        "Use a fresh key for different work.",
        "`Idempotency-Key: build-7` for a.onnx, then for b.onnx.",
    ),
    "wrong_state": Text(
        "Not in this state",
        "The act does not fit the job's state, such as cancelling one that has ended.",
        "Look at the job's state first.",
        "`POST /v1/jobs/{id}:cancel` of a job that has succeeded.",
    ),
    "in_use": Text(
        "Still in use",
        "A release points to it, and releases keep what they point to.",
        "Delete the release first.",
        "`DELETE /v1/jobs/{id}` of a job whose artifact `resnet/production` points to.",
    ),
    "bad_webhook_url": Text(
        "A webhook address that cannot be used",
        "It is no http or https URL.",
        "Give a full URL.",
        "`ftp://example.org/hook`",
    ),
    "private_webhook_target": Text(
        "A webhook into a private network",
        "Its address is private or loopback, where it could reach what outsiders may not.",
        "Operators may allow it with BNFOLD_WEBHOOK_ALLOW_PRIVATE.",
        "`http://169.254.169.254/latest/meta-data`",
    ),
}
