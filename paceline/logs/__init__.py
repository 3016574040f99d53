"""Log lines: what happened in constant words, and what it was about as fields; on a terminal to be read, else as JSON.

    logger = get_logger(__name__)
    logger.warning("verifier is silent", verifier=address, seconds=5.0)

Nothing here changes the process's own logging until ``configure`` is called, as services do: where Paceline is a
library its lines go to whatever handlers there are, and read well there, too.
"""

from __future__ import annotations

from structlog.contextvars import bind_contextvars as bind
from structlog.contextvars import bound_contextvars as bound
from structlog.stdlib import BoundLogger as Logger

from paceline.logs.bounded import Bounded
from paceline.logs.discretion import log_loop_error
from paceline.logs.events import fresh, get_logger
from paceline.logs.formats import JSON, TEXT, formatter, readable
from paceline.logs.setup import configure, log_uncaught, name_worker, texts_wanted

__all__ = [
    "JSON",
    "TEXT",
    "Bounded",
    "Logger",
    "bind",
    "bound",
    "configure",
    "formatter",
    "fresh",
    "get_logger",
    "log_loop_error",
    "log_uncaught",
    "name_worker",
    "readable",
    "texts_wanted",
]
