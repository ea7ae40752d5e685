"""The Jinja environment: autoescape always on, an undefined name is an error and not an empty string."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from service.web.accounts.session import key_of
from service.web.rendering.docs_site import HOME, is_built
from service.web.rendering.formats import FILTERS
from service.web.rendering.icons import icon
from service.web.rendering.static_files import static


@cache
def environment() -> Environment:
    """Made once; templates compile on first use."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(FILTERS)
    made.globals.update(icon=icon, static=static, version=_version(), documentation=documentation)
    return made


def render(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """A page. Pages show the state of things and are never cached."""
    here = "/" + request.url.path.strip("/").split("/")[0]
    text = (
        environment()
        .get_template(template)
        .render(here=here, status=status, signed_in=key_of(request.headers) is not None, **context)
    )
    return HTMLResponse(text, status_code=status, headers={"Cache-Control": "no-store"})


def documentation() -> str | None:
    """Return the address of the documentation site, None where it is not built."""
    return HOME if is_built() else None


def _version() -> str:
    try:
        return package_version("bnfold")
    except PackageNotFoundError:  # a source tree that is not installed
        return ""
