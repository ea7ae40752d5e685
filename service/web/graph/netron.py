"""Netron, from the files of the `netron` package, for a look into source and artifact. Nothing leaves.

Netron's page was made for the web: it asks ipinfo.io for the visitor's country, loads Google Analytics, and
after 180 days refuses to work until it is updated. Served from here it does none of that: the page says it
is a local build of today, the consent question counts as answered, and the Content-Security-Policy (see
`headers`) leaves it no address but this server's.
"""

from __future__ import annotations

import importlib.util
import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from service.web.headers import NETRON_CSP

router = APIRouter(prefix="/netron", include_in_schema=False)
_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".png": "image/png",
    ".ico": "image/x-icon",
}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_NAME = re.compile(r"[A-Za-z0-9_-]+\.[a-z]+\Z")


@cache
def folder() -> Path | None:
    """Where the package's files are, or None where it is not installed. Its code is not imported."""
    spec = importlib.util.find_spec("netron")
    places = spec.submodule_search_locations if spec is not None else None
    return Path(places[0]) if places else None


@router.get("/")
def page() -> Response:
    """Netron's page. `?url=` is the document to open, `&identifier=` the file name that it goes by."""
    home = _home()
    text = (home / "index.html").read_text(encoding="utf-8")
    today = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    text = re.sub(r'(<meta name="version" content=")[^"]*', r"\g<1>0.0.0", text)
    text = re.sub(r'(<meta name="date" content=")[^"]*', rf"\g<1>{today}", text)
    answer = HTMLResponse(text, headers=_headers("no-cache"))
    answer.set_cookie("consent", "not-asked", path="/netron/", samesite="strict")
    return answer


def bytes_at(address: str) -> str:
    """The address under which Netron gets what lies at an address of the interface."""
    return address.replace("/v1/", "/netron/bytes/", 1)


@router.get("/bytes/{kind}/{digest}")
def bytes_of(kind: str, digest: str) -> Response:
    """The bytes that Netron asks for. It adds a parameter of its own, which the interface does not know."""
    if kind not in ("artifacts", "blobs") or not _DIGEST.match(digest):
        raise HTTPException(404)
    return RedirectResponse(f"/v1/{kind}/{digest}", 307)


@router.get("/{name}")
def asset(name: str) -> Response:
    """One of the package's scripts, pictures or tables."""
    path = _home() / name
    kind = _TYPES.get(path.suffix)
    if kind is None or not _NAME.match(name) or not path.is_file():
        raise HTTPException(404)
    return FileResponse(path, media_type=kind, headers=_headers("public, max-age=3600"))


def _headers(caching: str) -> dict[str, str]:
    return {"Cache-Control": caching, "Content-Security-Policy": NETRON_CSP}


def _home() -> Path:
    home = folder()
    if home is None or not (home / "index.html").is_file():
        raise HTTPException(404, "Netron is not installed here: pip install netron")
    return home
