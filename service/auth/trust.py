"""The trust file of pipelines: which repositories of GitHub and GitLab may act for which tenant.

    {"audience": "https://bnfold.example",
     "github": {"jwks": "github.json"},
     "rules": [{"provider": "github", "repository": "123456", "tenant": "acme", "scopes": ["submit", "read"],
                "claims": {"ref": "refs/heads/main"}}]}

`repository` is the number that the provider gave, never the name: a name can be given up and taken by others.
`jwks` is a file beside the trust file or an https address; without it, the provider's own address.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from folding.errors import UsageError

Name = Literal["github", "gitlab"]
_ISSUERS = {"github": "https://token.actions.githubusercontent.com", "gitlab": "https://gitlab.com"}
_KEYS = {
    "github": "https://token.actions.githubusercontent.com/.well-known/jwks",
    "gitlab": "https://gitlab.com/oauth/discovery/keys",
}
REPOSITORY_CLAIM = {"github": "repository_id", "gitlab": "project_id"}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Provider(_Part):
    """Where tokens come from. The issuer is fixed; only a GitLab of one's own has another."""

    issuer: str = Field(default="", pattern=r"^(https://[^\s?#]+)?$")
    jwks: str = ""


class Rule(_Part):
    """A repository, and what its pipelines may do. Every claim named must be equal."""

    provider: Name
    repository: str = Field(pattern=r"^[1-9][0-9]{0,18}$")
    tenant: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    scopes: list[Literal["submit", "read"]] = Field(default=["submit", "read"], min_length=1)
    claims: dict[str, str] = Field(default_factory=dict)


class Trust(_Part):
    """The file."""

    audience: str = Field(min_length=1)
    github: Provider = Provider()
    gitlab: Provider = Provider()
    rules: list[Rule] = Field(min_length=1)

    @field_validator("github")
    @classmethod
    def _fixed(cls, value: Provider) -> Provider:
        if value.issuer not in ("", _ISSUERS["github"]):
            raise ValueError("the issuer of GitHub is fixed")
        return value

    def issuer(self, provider: Name) -> str:
        """Return the only issuer that is accepted."""
        return self._of(provider).issuer.rstrip("/") or _ISSUERS[provider]

    def keys(self, provider: Name) -> str:
        """Return where the provider's public keys are: a path, or an https address."""
        given = self._of(provider)
        if given.jwks:
            return given.jwks
        return f"{given.issuer.rstrip('/')}/oauth/discovery/keys" if given.issuer else _KEYS[provider]

    def _of(self, provider: Name) -> Provider:
        return self.github if provider == "github" else self.gitlab


def load(path: Path) -> Trust:
    """Read the file. Raises UsageError that names what is wrong with it."""
    try:
        return Trust.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}", hint="BNFOLD_OIDC_FILE names the trust file."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path}: {where}: {first['msg']}", hint="See docs/how-to/fold-in-ci.md.") from error
    except ValueError as error:
        raise UsageError(f"{path} is not valid JSON.", hint="See docs/how-to/fold-in-ci.md.") from error
