"""What is served, by whom, and whether it is well."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response

import paceline
from gateway.http.callers import caller_of
from gateway.http.encoding import json_response
from gateway.http.face import Face
from paceline.messages import Worker


def open_routes(face: Face) -> APIRouter:
    """For probes: nobody is asked for a key."""
    routes = APIRouter()

    @routes.get("/live")
    async def live() -> Response:
        """200 while the process runs."""
        return json_response({"status": "live"})

    @routes.get("/health")
    async def health() -> Response:
        """200 while requests are taken and some verifier is well: reachable, its steps going on, not about to stop."""
        ailment = face.gateway.ailment
        return json_response({"status": ailment or "healthy"}, 503 if ailment else 200)

    @routes.get("/version")
    async def version() -> Response:
        return json_response({"version": paceline.__version__})

    @routes.get("/metrics")
    async def metrics() -> Response:
        return Response(face.counters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes


def router(face: Face) -> APIRouter:
    routes, started = APIRouter(), int(time.time())

    @routes.get("/v1/models")
    async def models() -> Response:
        data = [
            {
                "id": info.name, "object": "model", "created": started, "owned_by": "paceline",
                "max_model_len": info.max_context,
            }
            for info in face.gateway.models()
        ]  # fmt: skip
        return json_response({"object": "list", "data": data})

    @routes.get("/v1/workers")
    async def workers() -> Response:
        return json_response({"object": "list", "data": [_worker(worker) for worker in face.gateway.workers()]})

    @routes.get("/v1/timelines/{trace_id}")
    async def timeline(trace_id: str, request: Request) -> Response:
        """What happened when in the caller's latest watched answers of this trace."""
        found = await face.gateway.timeline(trace_id, caller_of(request))
        return Response(found, media_type="application/json", headers={"Cache-Control": "no-store"})

    return routes


def _worker(worker: Worker) -> dict[str, object]:
    return {
        "id": worker.worker_id,
        "role": worker.role,
        "kind": worker.kind,
        "model": worker.model,
        "healthy": worker.healthy,
        "sessions": worker.sessions,
        "max_sessions": worker.max_sessions,
        "price_per_hour": worker.price_per_hour,
    }
