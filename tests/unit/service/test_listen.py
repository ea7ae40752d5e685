"""A port that cannot be used is a mistake in the request, and says who has it."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from folding.errors import UsageError
from service.app import listen, unusable_address
from service.settings import Settings


def test_a_taken_port_is_a_usage_error_that_names_port_and_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError) as refused:
            listen(Settings(port=port))
    assert refused.value.error_code == "port_taken"
    assert refused.value.exit_code == 2
    assert str(port) in refused.value.message
    assert f"process {os.getpid()}" in refused.value.message
    assert "--port" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EACCES, "rights"), (errno.EADDRNOTAVAIL, "cannot listen on 192.0.2.1")]
)
def test_other_reasons_are_named(number: int, words: str) -> None:
    error = unusable_address("192.0.2.1", 80, OSError(number, os.strerror(number)))
    assert words in error.message
    assert error.hint
