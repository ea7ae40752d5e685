"""Our scripts and style sheets: `/static/<name>?v=<hash>`, kept for good since the hash is of the bytes."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

router = APIRouter(include_in_schema=False)
FOLDER = Path(__file__).parents[1] / "static"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_FOREVER = "public, max-age=31536000, immutable"


@cache
def _tag(name: str, changed: int) -> str:
    return hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()[:12]


def static(name: str) -> str:
    """The address of one file for templates."""
    return f"/static/{name}?v={_tag(name, (FOLDER / name).stat().st_mtime_ns)}"


@router.get("/static/{name}")
def serve(name: str, request: Request) -> Response:
    """One file of the folder; names with separators never get here, unknown ones are 404."""
    path = FOLDER / name
    kind = _TYPES.get(path.suffix)
    if kind is None or path.name != name or not path.is_file():
        raise HTTPException(404)
    # Modules import each other without the hash: those answers are checked again by ETag each time.
    caching = _FOREVER if request.query_params.get("v") else "no-cache"
    return FileResponse(path, media_type=kind, headers={"Cache-Control": caching})


@router.get("/favicon.ico")
def favicon() -> Response:
    """Browsers ask for it whatever the page says."""
    return FileResponse(FOLDER / "logo.svg", media_type="image/svg+xml")
