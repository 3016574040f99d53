"""How long requests take: the histograms of a gateway, each recorded at most once per request."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.metrics import Histogram, Meter, NoOpMeter

from paceline.messages import Usage
from paceline.telemetry import genai

WAIT_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
Listener = Callable[[float, str], None]
"""Takes seconds and the model."""


class Timings:
    """By model and operation, with the names of the semantic conventions."""

    def __init__(self, meter: Meter | None = None) -> None:
        """``meter`` None: nobody wants to know."""
        meter = meter or NoOpMeter("off")

        def seconds(name: str, says: str, bounds: tuple[float, ...]) -> Histogram:
            return meter.create_histogram(name, "s", says, explicit_bucket_boundaries_advisory=bounds)

        self._wait = seconds("paceline.queue.wait", "Wait of admitted requests for a slot.", WAIT_BOUNDS)
        self._first = seconds(
            genai.TIME_TO_FIRST_TOKEN, "From a request's arrival to its first token.", genai.FIRST_TOKEN_BOUNDS
        )
        self._per_token = seconds(
            genai.TIME_PER_OUTPUT_TOKEN, "Time per token after the first one.", genai.OUTPUT_TOKEN_BOUNDS
        )
        self._duration = seconds(genai.REQUEST_DURATION, "From a request's arrival to its end.", genai.DURATION_BOUNDS)
        self._usage = meter.create_histogram(
            genai.TOKEN_USAGE, "{token}", "Tokens of an answer and of its prompt.",
            explicit_bucket_boundaries_advisory=genai.USAGE_BOUNDS,
        )  # fmt: skip
        self.on_first_token: list[Listener] = []

    def waited(self, seconds: float, model: str) -> None:
        self._wait.record(seconds, {"model": model})

    def first_token(self, seconds: float, model: str, *, chat: bool) -> None:
        self._first.record(seconds, _attributes(model, chat=chat))
        for listener in self.on_first_token:
            listener(seconds, model)

    def per_token(self, seconds: float, model: str, *, chat: bool) -> None:
        self._per_token.record(seconds, _attributes(model, chat=chat))

    def over(self, seconds: float, model: str, error: str, *, chat: bool) -> None:
        """``error``: why it has no answer; empty: it has one."""
        more = {genai.ERROR_TYPE: error} if error else {}
        self._duration.record(seconds, {**_attributes(model, chat=chat), **more})

    def usage(self, usage: Usage, model: str, *, chat: bool) -> None:
        attributes = _attributes(model, chat=chat)
        self._usage.record(usage.prompt_tokens, {**attributes, genai.TOKEN_TYPE: genai.INPUT})
        self._usage.record(usage.completion_tokens, {**attributes, genai.TOKEN_TYPE: genai.OUTPUT})


def _attributes(model: str, *, chat: bool) -> dict[str, str]:
    return {
        genai.OPERATION_NAME: genai.CHAT if chat else genai.TEXT_COMPLETION,
        genai.PROVIDER_NAME: genai.PROVIDER,
        genai.REQUEST_MODEL: model,
    }
