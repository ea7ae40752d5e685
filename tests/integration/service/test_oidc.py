"""Tokens of pipelines, signed with keys of our own: what is accepted, and every way of being wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from folding.errors import UsageError
from service.app import check_bind, create_app
from service.auth import oidc
from service.auth.trust import load
from service.errors import Forbidden, Unauthorized, Unavailable
from tests.support.in_process import TestClient, open_services, settings

AUDIENCE = "https://bnfold.example"
GITHUB, GITLAB = "https://token.actions.githubusercontent.com", "https://gitlab.com"
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER = rsa.generate_private_key(65537, 2048)
RULES = [
    {"provider": "github", "repository": "4711", "tenant": "acme", "claims": {"ref": "refs/heads/main"}},
    {"provider": "gitlab", "repository": "815", "tenant": "rival", "scopes": ["read"]},
]


def public_set() -> dict[str, Any]:
    first = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key()))
    second = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC.public_key()))
    return {"keys": [first | {"kid": "rsa", "alg": "RS256"}, second | {"kid": "ec", "alg": "ES256"}]}


def trust_file(folder: Path, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "keys.json").write_text(json.dumps(public_set()))
    place = {"jwks": "keys.json"}
    values = {"audience": AUDIENCE, "github": place, "gitlab": place, "rules": RULES} | more
    path = folder / "trust.json"
    path.write_text(json.dumps(values))
    return path


def claims(**more: Any) -> dict[str, Any]:
    clock = int(time.time())
    base = {"iss": GITHUB, "aud": AUDIENCE, "sub": "repo:acme/net:ref:refs/heads/main", "iat": clock}
    base |= {"exp": clock + 300, "repository_id": "4711", "repository": "acme/net", "ref": "refs/heads/main"}
    return {name: value for name, value in (base | more).items() if value is not None}


def token(key: Any = RSA, kid: str = "rsa", algorithm: str = "RS256", **more: Any) -> str:
    return jwt.encode(claims(**more), key, algorithm=algorithm, headers={"kid": kid})


@pytest.fixture
def tokens(tmp_path: Path) -> oidc.PipelineTokens:
    return oidc.PipelineTokens(trust_file(tmp_path))


def test_accepted(tokens: oidc.PipelineTokens) -> None:
    who = tokens.check(token())
    assert (who.tenant, who.scopes, who.key_id) == ("acme", {"submit", "read"}, "github:4711")
    assert tokens.check(token(EC, "ec", "ES256")).tenant == "acme"
    lab = tokens.check(token(iss=GITLAB, project_id="815", repository_id=None))
    assert (lab.tenant, lab.scopes) == ("rival", {"read"})


PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
WRONG: dict[str, Callable[[], str]] = {
    "another key": lambda: token(OTHER),
    "an unknown key id": lambda: token(kid="nope"),
    "no algorithm": lambda: jwt.encode(claims(), None, algorithm="none", headers={"kid": "rsa"}),
    "a secret in place of a key": lambda: token("x" * 64, algorithm="HS256"),
    "another audience": lambda: token(aud="https://other.example"),
    "no audience": lambda: token(aud=None),
    "another issuer": lambda: token(iss="https://token.actions.githubusercontent.com.evil.example"),
    "an issuer with a slash": lambda: token(iss=GITHUB + "/"),
    "no issuer": lambda: token(iss=None),
    "expired": lambda: token(exp=int(time.time()) - 60),
    "no end": lambda: token(exp=None),
    "no beginning": lambda: token(iat=None),
    "no subject": lambda: token(sub=None),
    "from the future": lambda: token(iat=int(time.time()) + 600, exp=int(time.time()) + 900),
    "valid for a week": lambda: token(exp=int(time.time()) + 7 * 86_400),
    "changed": lambda: token()[:-4] + "AAAA",
    "nonsense": lambda: "a.b.c",
    "empty parts": lambda: "..",
    "far too long": lambda: token(sub="x" * 20_000),
}  # fmt: skip


@pytest.mark.parametrize("why", WRONG)
def test_refused(tokens: oidc.PipelineTokens, why: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        tokens.check(WRONG[why]())
    assert caught.value.error_code == "bad_token"


@pytest.mark.parametrize(
    "more",
    [{"repository_id": "4712"}, {"repository_id": None}, {"repository_id": ""}, {"ref": "refs/heads/x"},
     {"ref": None}, {"repository_id": "815"}, {"repository_id": None, "project_id": "4711"},
     {"iss": GITLAB, "project_id": "4711", "repository_id": None}],
    ids=str,
)  # fmt: skip
def test_untrusted(tokens: oidc.PipelineTokens, more: dict[str, Any]) -> None:
    """A genuine token of somebody else: also one whose repository has our repository's name."""
    with pytest.raises(Forbidden) as caught:
        tokens.check(token(**more))
    assert caught.value.error_code == "untrusted_repository"


@pytest.mark.parametrize(
    "more",
    [{"audience": ""}, {"rules": []}, {"rules": [RULES[0] | {"repository": "acme/net"}]}, {"else": 1},
     {"rules": [RULES[0] | {"scopes": ["admin"]}]}, {"github": {"issuer": "https://evil.example"}},
     {"gitlab": {"issuer": "http://plain.example"}}],
    ids=str,
)  # fmt: skip
def test_trust_files_that_are_refused(tmp_path: Path, more: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        load(trust_file(tmp_path, **more))


def test_own_gitlab_and_addresses_of_keys(tmp_path: Path) -> None:
    own = load(trust_file(tmp_path, gitlab={"issuer": "https://git.example"}, github={}))
    assert own.issuer("gitlab") == "https://git.example"
    assert own.keys("gitlab") == "https://git.example/oauth/discovery/keys"
    assert own.keys("github").startswith(GITHUB)


def test_keys_are_read_again_for_an_unknown_id_but_not_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    real = oidc.KeySource.read

    def read(self: oidc.KeySource) -> bytes:
        reads.append(1)
        return real(self)

    monkeypatch.setattr(oidc.KeySource, "read", read)
    path = trust_file(tmp_path)
    (tmp_path / "keys.json").write_text('{"keys": [' + json.dumps(public_set()["keys"][1]) + "]}")
    clock = [1e6]
    tokens = oidc.PipelineTokens(path, lambda: clock[0])
    for _ in range(5):
        with pytest.raises(Unauthorized):
            tokens.check(token())
    assert len(reads) == 1
    (tmp_path / "keys.json").write_text(json.dumps(public_set()))
    clock[0] += 61
    assert tokens.check(token()).tenant == "acme"


def test_without_keys_it_is_temporary(tmp_path: Path) -> None:
    path = trust_file(tmp_path)
    (tmp_path / "keys.json").unlink()
    with pytest.raises(Unavailable):
        oidc.PipelineTokens(path).check(token())


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    services = open_services(tmp_path / "data", oidc_file=trust_file(tmp_path))
    with TestClient(create_app(services=services), base_url="http://localhost") as made:
        yield made


def test_over_http(client: TestClient) -> None:
    good = {"authorization": f"Bearer {token()}"}
    assert client.get("/v1/jobs", headers=good).status_code == 200
    assert client.get("/v1/webhooks", headers=good).status_code == 403
    assert client.get("/v1/jobs", headers={"authorization": f"Bearer {token(OTHER)}"}).status_code == 401
    other = client.get("/v1/jobs", headers={"authorization": f"Bearer {token(repository_id='1')}"})
    assert (other.status_code, other.json()["code"]) == (403, "untrusted_repository")
    assert client.get("/v1/jobs").status_code == 401, "with a trust file nobody is anonymous"


def test_a_public_bind_may_rest_on_tokens_alone(tmp_path: Path) -> None:
    check_bind(settings(tmp_path / "data", host="0.0.0.0", oidc_file=trust_file(tmp_path)))


class TestFailedKeys:
    def test_wrong_keys_are_slowed_down_and_right_ones_never(self, tmp_path: Path) -> None:
        services = open_services(tmp_path, failed_keys_per_minute=5)
        _, key = services.keys.create("acme", "ci", ["read"])
        wrong = {"authorization": f"Bearer bnf_{'0' * 20}.{'a' * 43}"}
        with TestClient(create_app(services=services), base_url="http://localhost") as client:
            codes = [client.get("/v1/jobs", headers=wrong).status_code for _ in range(8)]
            assert codes == [401] * 5 + [429] * 3
            answer = client.get("/v1/jobs", headers=wrong)
            assert answer.json()["code"] == "too_many_failures"
            assert int(answer.headers["retry-after"]) >= 1
            right = {"authorization": f"Bearer {key}"}
            assert client.get("/v1/jobs", headers=right).status_code == 200
            assert "bnfold_failed_keys_total" in client.get("/metrics").text
