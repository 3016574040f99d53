"""From a call with fields to a record of the standard library's logging, with what is bound in its context."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any, cast

import structlog
from structlog.contextvars import bind_contextvars, clear_contextvars, merge_contextvars
from structlog.stdlib import BoundLogger, filter_by_level

from paceline.logs.fields import shown_fields, shown_text


class Event(dict[str, Any]):
    """The fields of one line, ``event`` among them; as a message for handlers that know nothing of fields."""

    def __str__(self) -> str:
        rest = {name: value for name, value in self.items() if name != "event"}
        return " ".join([shown_text(str(self["event"])), *shown_fields(rest)])


def get_logger(name: str) -> BoundLogger:
    """Takes fields as keywords; configured by itself, so that others' use of structlog is left alone."""
    logger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[filter_by_level, merge_contextvars, _hand_over],
        wrapper_class=BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return cast("BoundLogger", logger)


def fresh(**fields: Any) -> None:
    """What the lines of the call that begins here are about, and nothing of what was bound before. It is bound for as
    long as the call's context lives: each has one of its own."""
    clear_contextvars()
    bind_contextvars(**fields)


def _hand_over(
    logger: logging.Logger, method: str, fields: MutableMapping[str, Any]
) -> tuple[tuple[Event], dict[str, Any]]:
    """As structlog's ``wrap_for_formatter``, whose formatter takes it from here; errors stay where handlers look."""
    exc_info = fields.pop("exc_info", None)
    return (Event(fields),), {"exc_info": exc_info, "extra": {"_logger": logger, "_name": method}}
