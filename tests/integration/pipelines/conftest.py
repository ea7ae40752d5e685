"""One live service for all pipeline steps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.live import Live, live_service


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_service(tmp_path_factory.mktemp("live")) as service:
        yield service
