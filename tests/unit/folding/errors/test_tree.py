"""Errors survive the way through JSON, with the class that they had."""

from __future__ import annotations

import json

import pytest

import service.provenance
import service.uploads  # noqa: F401 - its errors register themselves
from folding.errors import BnfoldError, InternalError
from service.errors import ServiceError


def tree(top: type[BnfoldError]) -> list[type[BnfoldError]]:
    return [top, *(found for child in top.__subclasses__() for found in tree(child))]


CLASSES = {cls.__name__: cls for child in BnfoldError.__subclasses__() for cls in tree(child)}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_error_comes_back_as_what_it_was(name: str) -> None:
    sent = CLASSES[name]("Found 3, expected 4.", hint="Give 4.", stage="read", layer="bn", details={"n": 3})
    back = BnfoldError.from_dict(json.loads(json.dumps(sent.to_dict())))
    assert type(back) is CLASSES[name]
    assert back.to_dict() == sent.to_dict()
    assert back.exit_code == sent.exit_code


def test_service_errors_keep_their_status() -> None:
    back = BnfoldError.from_dict({"class": "StorageFull", "message": "The disk is full."})
    assert isinstance(back, ServiceError)
    assert back.status == 507


def test_an_unknown_class_is_an_internal_error() -> None:
    back = BnfoldError.from_dict({"class": "NoSuchError", "message": "?", "code": "usage"})
    assert type(back) is InternalError


def test_two_errors_of_one_name_are_refused() -> None:
    with pytest.raises(TypeError, match="'NotFound'"):
        type("NotFound", (BnfoldError,), {})
    assert isinstance(BnfoldError.from_dict({"class": "NotFound"}), ServiceError)
