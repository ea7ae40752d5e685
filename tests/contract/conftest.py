"""One running deployment per engine and store; the contract must hold on each alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import kind, postgres, s3, s3rver, session_folder, settings_of  # noqa: F401
from tests.service.harness import Deployment, deployment, http


@pytest.fixture(scope="session")
def deployed(kind: str, request: pytest.FixtureRequest, session_folder: Path) -> Iterator[Deployment]:  # noqa: F811
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
