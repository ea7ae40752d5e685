"""The documentation site, as `make docs-site` built it into the package: it works without a network."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, RedirectResponse, Response

router = APIRouter(include_in_schema=False)
FOLDER = Path(__file__).parents[1] / "site"
HOME = "/docs/site/index.html"
_INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
# The theme sets style attributes, and searches in a worker.
_POLICY = (
    "default-src 'none'; script-src 'self'{hashes}; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "worker-src 'self'; img-src 'self' data:; font-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def is_built() -> bool:
    """Return whether the package has the site: a wheel has it, a checkout after `make docs-site`."""
    return (FOLDER / "index.html").is_file()


@cache
def policy(path: Path, changed: int) -> str:
    """Return the content policy of a page: the scripts that the theme writes into it, by their hashes."""
    scripts = _INLINE.findall(path.read_bytes())
    hashes = {base64.b64encode(hashlib.sha256(script).digest()).decode() for script in scripts}
    return _POLICY.format(hashes="".join(f" 'sha256-{each}'" for each in sorted(hashes)))


@router.get("/docs/site")
@router.get("/docs/site/")
def home() -> Response:
    """Go to the first page."""
    return RedirectResponse(HOME)


@router.get("/docs/site/{name:path}")
def page(name: str) -> Response:
    """Return one file of the site. Raises: HTTPException 404 for another, or where the site is not built."""
    root = FOLDER.resolve()
    path = (FOLDER / name).resolve()
    if not is_built():
        raise HTTPException(404, "The documentation site is not built: run `make docs-site`.")
    if not path.is_relative_to(root) or not path.is_file():
        raise HTTPException(404, "There is no such page of the documentation.")
    headers = {"Cache-Control": "no-cache"}  # checked again by ETag: names stay, an upgrade changes them
    if path.suffix == ".html":
        headers["Content-Security-Policy"] = policy(path, path.stat().st_mtime_ns)
    return FileResponse(path, headers=headers)
