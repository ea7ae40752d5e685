"""Shared parts: servers live for the session, each deployment gets its own database and bucket."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.wiring import Services
from tests.support.deployment import S3, Postgres, S3rver, reason_no_postgres, reason_no_s3rver
from tests.support.in_process import open_services


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


@pytest.fixture(scope="session")
def s3rver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3rver]:
    reason = reason_no_s3rver()
    if reason:
        pytest.skip(reason)
    server = S3rver(tmp_path_factory.mktemp("s3rver"))
    try:
        server.start()
        yield server
    finally:
        server.close()


KINDS = [
    "embedded-folder",
    "procrastinate-s3",
    *(
        pytest.param(kind, marks=pytest.mark.slow)
        for kind in ("embedded-s3", "procrastinate-folder", "embedded-s3rver", "procrastinate-s3rver")
    ),
]


@pytest.fixture(scope="session", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Engine and store; tests of a deployment run over the first two, their long form over all."""
    return str(request.param)


def settings_of(kind: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """Variables of a deployment of that kind, on fresh stores."""
    engine, store = kind.split("-") if "-" in kind else (kind, "folder")
    name = f"t{secrets.token_hex(6)}"
    env: dict[str, str] = {}
    if engine == "procrastinate":
        database = request.getfixturevalue("postgres").database(name)
        env = {"BNFOLD_ENGINE": engine, "BNFOLD_DATABASE_URL": database, "BNFOLD_PEPPER": "test-pepper"}
    if store != "folder":
        env |= request.getfixturevalue(store).bucket(name)
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
