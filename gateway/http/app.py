"""The application: all routes over one gateway."""

from __future__ import annotations

from fastapi import Depends, FastAPI

import paceline
from gateway.callers import Callers
from gateway.http import chat, completions, errors, listings, page, tokens
from gateway.http.access import Named
from gateway.http.callers import admission
from gateway.http.counters import Counters, Counting
from gateway.http.face import Face
from gateway.http.hearing import Hearing
from gateway.http.limits import BodyLimit
from gateway.http.models import Models
from gateway.service import Gateway


def make_app(gateway: Gateway, callers: Callers) -> FastAPI:
    counters, admit = Counters(gateway.telemetry), admission(callers)
    face = Face(gateway, Models(gateway), counters)
    app = FastAPI(
        title="Paceline",
        version=paceline.__version__,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    errors.install(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(Counting, counters=counters)
    app.add_middleware(Named, access=gateway.access)
    app.add_middleware(Hearing)  # the last one comes first
    app.include_router(listings.open_routes(face))
    for part in (completions, chat, tokens, listings):
        app.include_router(part.router(face), dependencies=[Depends(admit)])
    app.include_router(page.router())
    return app
