"""Log lines that hold nothing of what was asked or answered, whatever goes wrong.

Prompts, texts and keys are never logged on purpose; exceptions are how they would get there: ``ValueError`` and
``KeyError`` quote what they could not take, and so do parsers. So tracebacks keep their places and types, and lose what
errors of such types say.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import traceback
from collections.abc import Iterator
from typing import Any

TOLD = (
    OSError, RuntimeError, AssertionError, AttributeError, TypeError, NameError, ImportError, MemoryError,
    ArithmeticError, asyncio.CancelledError,
)  # fmt: skip
"""Errors that speak of the program, the machine or the network, and not of values."""

logger = logging.getLogger(__name__)


class Discreet(logging.Formatter):
    """Tracebacks without what the errors say, but for those in ``TOLD``."""

    def format(self, record: logging.LogRecord) -> str:
        """Other handlers' formatters leave their tracebacks in the record: those are not taken."""
        record = copy.copy(record)
        record.exc_text = None
        return super().format(record)

    def formatException(self, ei: Any) -> str:
        """As the base class does, of the error and of those that it came from."""
        parts = ["".join(traceback.format_tb(error.__traceback__)) + _told(error) for error in _chain(ei[1])]
        return "\nwhich led to:\n".join(reversed(parts))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _told(error: BaseException) -> str:
    name = type(error).__qualname__
    return f"{name}: {error}" if isinstance(error, TOLD) else f"{name} (what it says is not logged)"


def log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """In place of asyncio's own handler, which writes out the task, and with it the exception's text."""
    logger.error("%s", context.get("message", "an error in the event loop"), exc_info=context.get("exception"))
