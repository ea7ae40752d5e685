"""Signing in: the key goes into a cookie and from there only into requests of our own pages."""

# ruff: noqa: E501  rows of data

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.service.web.conftest import Client

Open = Callable[..., Client]
KEY = "bnf_abc.secret"
OWN = {"sec-fetch-site": "same-origin"}


def test_without_a_key_the_page_says_so(open_client: Open) -> None:
    answer = open_client(key=KEY).get("/jobs")
    assert answer.status_code == 401
    assert "/session" in answer.text


def test_a_wrong_key_is_told_and_not_kept(open_client: Open) -> None:
    answer = open_client(key=KEY).post("/session", data={"key": "bnf_abc.wrong"}, headers=OWN)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_signed_in_pages_work_and_scripts_cannot_read_the_key(open_client: Open) -> None:
    client = open_client(key=KEY)
    answer = client.post("/session", data={"key": f" {KEY} "}, headers=OWN)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].lower()
    for word in ("httponly", "samesite=strict", "path=/"):
        assert word in cookie
    assert client.get("/jobs").status_code == 200
    assert KEY not in client.get("/jobs").text
    client.post("/session/end", headers=OWN)
    assert client.get("/jobs").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "http://evil.example"}, {"sec-fetch-site": "none"}],
)  # fmt: skip
def test_other_sites_get_nothing_by_the_cookie(open_client: Open, headers: dict[str, str]) -> None:
    client = open_client(key=KEY)
    client.post("/session", data={"key": KEY}, headers=OWN)
    assert client.post("/v1/jobs/x:cancel", headers=headers).status_code == 401
    assert client.post("/session", data={"key": KEY}, headers=headers).status_code == 403


@pytest.mark.parametrize("key", ["", "with space", "semi;colon", "line\nbreak", "ü", "x" * 600])
def test_odd_keys_never_reach_a_header(open_client: Open, key: str) -> None:
    answer = open_client(key=KEY).post("/session", data={"key": key}, headers=OWN)
    assert answer.status_code in (401, 422)
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "cookie", ["bnfold_key=a b", "bnfold_key=", 'bnfold_key="\\012x"', "bnfold_key=" + "x" * 600, "=;;=,"]
)
def test_odd_cookies_are_ignored(open_client: Open, cookie: str) -> None:
    assert open_client(key=KEY).get("/jobs", headers={"cookie": cookie}).status_code == 401
