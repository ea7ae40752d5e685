"""The one tree of errors that `folding` raises, and the stable codes they carry.

Every error says what was found, what was expected and what to do. A `code` never changes its meaning
once released; `service/api/problems.py` maps errors to HTTP, `service/cli` maps them to exit codes,
and `ERROR_DOCS` is what `bnfold explain CODE` prints.
"""

from __future__ import annotations

from typing import Any, ClassVar

_CLASSES: dict[str, type[BnfoldError]] = {}


class BnfoldError(Exception):
    """Base of every error that a user may see.

    Args:
        message: one or two sentences: what was found, what was expected.
        code: stable identifier; defaults to the class's own.
        hint: what the user can do about it.
        stage: pipeline stage in which it happened (see `progress_bar.STAGES`).
        layer: name of the layer, node or variable that is concerned.
        details: JSON-serializable evidence (candidates, limits, counts).
    """

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 75

    def __init_subclass__(cls, **options: Any) -> None:
        """Register the class by its name, so that `from_dict` knows the errors of every package."""
        super().__init_subclass__(**options)
        if cls.__name__ in _CLASSES:
            raise TypeError(f"two errors are called {cls.__name__!r}")
        _CLASSES[cls.__name__] = cls

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        stage: str | None = None,
        layer: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = code or self.code
        self.hint = hint
        self.stage = stage
        self.layer = layer
        self.details = details or {}

    def to_dict(self) -> dict[str, Any]:
        """The JSON form that crosses process borders; `from_dict` is its inverse."""
        return {
            "class": type(self).__name__,
            "code": self.error_code,
            "message": self.message,
            "hint": self.hint,
            "stage": self.stage,
            "layer": self.layer,
            "details": self.details,
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> BnfoldError:
        """Rebuild the error that `to_dict` described.

        A class that no loaded module defines becomes `InternalError`. Only the fields of `to_dict` are
        restored: what a subclass keeps besides (HTTP headers) has its default.
        """
        cls = _CLASSES.get(data.get("class", ""), InternalError)
        return cls(
            data.get("message", ""),
            code=data.get("code"),
            hint=data.get("hint"),
            stage=data.get("stage"),
            layer=data.get("layer"),
            details=data.get("details"),
        )


class UsageError(BnfoldError):
    """The request itself is off: unknown option, bad value, a name that the model does not have."""

    code = "usage"
    exit_code = 2


class ModelError(BnfoldError):
    """Something about the model keeps the job from being done. Subclasses say what."""

    code = "model"
    exit_code = 4


class UnknownFormat(ModelError):
    """No supported format recognises these bytes."""

    code = "unknown_format"


class CorruptModel(ModelError):
    """The format was recognised, but the file is damaged, truncated or contradicts itself."""

    code = "corrupt_model"


class UnsupportedModel(ModelError):
    """A valid model that uses something we cannot convert (an op, a dtype, a control structure)."""

    code = "unsupported_model"


class UnsafeModel(ModelError):
    """The model breaks one of the limits for hostile input; nothing of it was executed."""

    code = "unsafe_model"


class AmbiguousModel(ModelError):
    """Inputs, outputs, signature or mode cannot be inferred; `details['candidates']` lists them."""

    code = "ambiguous_model"


class UnhealthyModel(ModelError):
    """Statistics that no fold can rescue (non-finite, negative variance), or a warning under --strict."""

    code = "unhealthy_model"


class VerificationFailed(BnfoldError):
    """The artifact is not proved equivalent; it is quarantined."""

    code = "verification_failed"
    exit_code = 3


class Cancelled(BnfoldError):
    """The job was cancelled by its owner."""

    code = "cancelled"
    exit_code = 5


class TimedOut(BnfoldError):
    """The job ran past its wall-clock limit."""

    code = "timed_out"
    exit_code = 5


class TemporaryFailure(BnfoldError):
    """Nothing is wrong with the request; trying again later may succeed (storage full, worker lost)."""

    code = "temporary_failure"
    exit_code = 75


class InternalError(BnfoldError):
    """A defect of bnfold itself. The details name the stage; please report it."""

    code = "internal"
    exit_code = 75


def root_error(error: BaseException) -> BaseException:
    """The error of ours at the root of a chain: weights are read late, by libraries that wrap errors."""
    cause: BaseException | None = error
    for _ in range(32):  # chains may bite their own tail
        if cause is None:
            break
        if isinstance(cause, BnfoldError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return error
