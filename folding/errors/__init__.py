"""The error classes and the catalogue of codes."""

from __future__ import annotations

from folding.errors.tree import (
    AmbiguousModel,
    BnfoldError,
    Cancelled,
    CorruptModel,
    InternalError,
    ModelError,
    TemporaryFailure,
    TimedOut,
    UnhealthyModel,
    UnknownFormat,
    UnsafeModel,
    UnsupportedModel,
    UsageError,
    VerificationFailed,
    root_error,
)

__all__ = [
    "AmbiguousModel",
    "BnfoldError",
    "Cancelled",
    "CorruptModel",
    "InternalError",
    "ModelError",
    "TemporaryFailure",
    "TimedOut",
    "UnhealthyModel",
    "UnknownFormat",
    "UnsafeModel",
    "UnsupportedModel",
    "UsageError",
    "VerificationFailed",
    "root_error",
]
