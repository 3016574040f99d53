"""What ``/metrics`` says, in Prometheus's text format."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.service import Gateway
from paceline.messages import Completion


class Counters:
    """Of one gateway's HTTP side."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "paceline_http_requests", "HTTP requests by route and status.", ["route", "status"], registry=registry
        )
        self._prompt = Counter("paceline_prompt_tokens", "Tokens of prompts that were answered.", registry=registry)
        self._completion = Counter("paceline_completion_tokens", "Tokens of finished answers.", registry=registry)
        self._cached = Counter("paceline_cached_tokens", "Tokens of prompts found in the cache.", registry=registry)
        self._sessions = Gauge("paceline_sessions", "Sessions by worker.", ["worker", "role"], registry=registry)
        self._healthy = Gauge("paceline_worker_healthy", "1: reachable.", ["worker", "role"], registry=registry)
        self._capacity = Gauge(
            "paceline_worker_capacity", "Sessions that it takes.", ["worker", "role"], registry=registry
        )
        self._waiting = Gauge(
            "paceline_waiting_requests", "Requests that wait, by model.", ["model"], registry=registry
        )
        self._step = Counter("paceline_step_seconds", "Time of steps, by session and added up.", registry=registry)
        self._wait = Counter(
            "paceline_verifier_wait_seconds", "Time between steps, likewise: for drafts.", registry=registry
        )
        self._tasks = Gauge("paceline_tasks", "Tasks of the event loop.", registry=registry)

    def completed(self, completions: Sequence[Completion], choices_per_prompt: int) -> None:
        """A request was answered; the choices of a prompt count it once."""
        for completion in completions[::choices_per_prompt]:
            self._prompt.inc(completion.usage.prompt_tokens)
            self._cached.inc(completion.usage.cached_tokens)
        for completion in completions:
            self._step.inc(completion.overlap.step_seconds)
            self._wait.inc(completion.overlap.verifier_wait_seconds)
        self._completion.inc(sum(completion.usage.completion_tokens for completion in completions))

    def text(self, gateway: Gateway) -> bytes:
        for gauge in (self._sessions, self._healthy, self._capacity, self._waiting):
            gauge.clear()
        for worker in gateway.workers():
            self._sessions.labels(worker.worker_id, worker.role).set(worker.sessions)
            self._healthy.labels(worker.worker_id, worker.role).set(worker.healthy)
            self._capacity.labels(worker.worker_id, worker.role).set(worker.max_sessions)
        for model, queue in gateway.admission.statistics().items():
            self._waiting.labels(model).set(queue.waiting)
        self._tasks.set(len(asyncio.all_tasks()))
        return generate_latest(self._registry)


class Counting:
    """Counts requests by the route that served them, so that paths from outside make no labels."""

    def __init__(self, app: ASGIApp, counters: Counters) -> None:
        self._app, self._counters = app, counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                self._counters.requests.labels(route, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, counted)
