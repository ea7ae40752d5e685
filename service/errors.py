"""Errors that only a service can have. They join the tree of `folding.errors` and add an HTTP status."""

from __future__ import annotations

import errno
from typing import Any, ClassVar

from folding.errors import BnfoldError, TemporaryFailure, UsageError

# What a system call says when the machine, not the request, is at fault: another try may succeed.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS, errno.EBUSY})
STORAGE_FAILED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG})


class ServiceError(BnfoldError):
    """Base: `status` is what HTTP answers, `headers` go with it."""

    status: ClassVar[int] = 500
    code = "internal"

    def __init__(self, message: str, *, headers: dict[str, str] | None = None, **rest: Any) -> None:
        super().__init__(message, **rest)
        self.headers = headers or {}


class BadRequest(ServiceError, UsageError):
    """The request cannot be understood."""

    status = 400
    code = "bad_request"
    exit_code = 2


class Unauthorized(ServiceError):
    """No key, an unknown one, or one past its time."""

    status = 401
    code = "unauthorized"
    exit_code = 2


class Forbidden(ServiceError):
    """The key is good, the act is not in its scopes."""

    status = 403
    code = "forbidden"
    exit_code = 2


class NotFound(ServiceError):
    """No such thing, or not this tenant's: both look alike."""

    status = 404
    code = "not_found"
    exit_code = 2


class Conflict(ServiceError):
    """The thing's state does not allow it."""

    status = 409
    code = "conflict"
    exit_code = 2


class Gone(ServiceError):
    """It was there, and its bytes are lost or expired."""

    status = 410
    code = "gone"
    exit_code = 75


class PreconditionFailed(ServiceError):
    """If-Match or If-None-Match does not hold."""

    status = 412
    code = "precondition_failed"
    exit_code = 2


class PreconditionRequired(ServiceError):
    """An unconditional overwrite was refused."""

    status = 428
    code = "precondition_required"
    exit_code = 2


class TooLarge(ServiceError):
    """A body, header or field is above its limit."""

    status = 413
    code = "too_large"
    exit_code = 2


class UnsupportedMedia(ServiceError):
    """A Content-Type that this route does not take."""

    status = 415
    code = "unsupported_media_type"
    exit_code = 2


class NotAcceptable(ServiceError):
    """No representation satisfies the Accept header."""

    status = 406
    code = "not_acceptable"
    exit_code = 2


class RangeUnsatisfiable(ServiceError):
    """The one range asked for lies outside."""

    status = 416
    code = "range_not_satisfiable"
    exit_code = 2


class Unprocessable(ServiceError, UsageError):
    """Understood, and wrong: an unknown option, a digest that does not fit."""

    status = 422
    code = "invalid"
    exit_code = 2


class TooMany(ServiceError, TemporaryFailure):
    """Quota or rate limit; Retry-After says when to come back."""

    status = 429
    code = "quota_exceeded"
    exit_code = 75

    def __init__(self, message: str, *, retry_after: float = 1.0, **rest: Any) -> None:
        super().__init__(message, headers={"Retry-After": str(max(1, round(retry_after)))}, **rest)
        self.retry_after = retry_after


class Timeout(ServiceError, TemporaryFailure):
    """The body did not come in time."""

    status = 408
    code = "request_timeout"
    exit_code = 75


class Unavailable(ServiceError, TemporaryFailure):
    """A part of the deployment does not answer."""

    status = 503
    code = "unavailable"
    exit_code = 75

    def __init__(self, message: str, *, retry_after: float = 2.0, **rest: Any) -> None:
        super().__init__(message, headers={"Retry-After": str(max(1, round(retry_after)))}, **rest)


class StorageFull(ServiceError, TemporaryFailure):
    """The disk is full or failing; nothing was acknowledged."""

    status = 507
    code = "storage_full"
    exit_code = 75

    def __init__(self, message: str, *, retry_after: float = 30.0, **rest: Any) -> None:
        super().__init__(message, headers={"Retry-After": str(max(1, round(retry_after)))}, **rest)


class CorruptBlob(ServiceError):
    """Stored bytes no longer match their digest; they are never handed out."""

    status = 500
    code = "corrupt_blob"
    exit_code = 75
