"""One running deployment per engine and store; the contract must hold on each alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.deployment import Deployment, deployment, http
from tests.support.service_fixtures import settings_of


@pytest.fixture(scope="session")
def deployed(kind: str, request: pytest.FixtureRequest, session_folder: Path) -> Iterator[Deployment]:
    """One API process with two slots."""
    env = settings_of(kind, request) | {"BNFOLD_SLOTS": "2"}
    with deployment(session_folder / kind, **env) as made:
        made.api(wait=False)
        if kind.startswith("procrastinate"):
            made.worker()
        made.ready(made.urls[0])
        yield made


@pytest.fixture
def client(deployed: Deployment) -> Iterator[httpx.Client]:
    with http(deployed.urls[0]) as made:
        yield made
