"""Shared parts: servers live for the session, each deployment gets its own database and bucket."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.wiring import Services
from tests.service.harness import S3, Postgres, reason_no_postgres
from tests.service.inside import open_services


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    reason = reason_no_postgres()
    if reason:
        pytest.skip(reason)
    server = Postgres()
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    pytest.importorskip("moto", reason="moto[server] is not installed")
    server = S3()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session", params=["embedded-folder", "procrastinate-s3"])
def kind(request: pytest.FixtureRequest) -> str:
    """Engine and store; every test that asks for a deployment runs over both."""
    return str(request.param)


def settings_of(kind: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """Variables of a deployment of that kind, on fresh stores."""
    if kind == "embedded-folder":
        return {}
    name = f"t{secrets.token_hex(6)}"
    database = request.getfixturevalue("postgres").database(name)
    env = {"BNFOLD_ENGINE": "procrastinate", "BNFOLD_DATABASE_URL": database, "BNFOLD_PEPPER": "test-pepper"}
    if kind == "procrastinate-s3":
        env |= request.getfixturevalue("s3").bucket(name)
    return env


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deployment")


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Embedded, in this process."""
    made = open_services(tmp_path / "data")
    yield made
    made.close()
