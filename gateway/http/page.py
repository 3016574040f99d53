"""The page at ``/``: the files of ``gateway/page/``, from this process alone."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

DIRECTORY = Path(__file__).parent.parent / "page"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FILES = frozenset(path.name for path in DIRECTORY.iterdir() if path.suffix in KINDS)
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # with the ETag of the file: asked again each time, sent again when changed
}


def router() -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    async def index() -> FileResponse:
        return _file("index.html")

    @routes.get("/{name}")
    async def part(name: str) -> FileResponse:
        return _file(name)

    return routes


def _file(name: str) -> FileResponse:
    if name not in _FILES:
        raise HTTPException(404, "Not Found")
    path = DIRECTORY / name
    return FileResponse(path, media_type=KINDS[path.suffix], headers=_HEADERS)
