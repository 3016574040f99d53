"""Log lines that hold nothing of what was asked or answered, whatever goes wrong.

Prompts, texts and keys are never logged on purpose, unless that is asked for; exceptions are how they would get there:
``ValueError`` and ``KeyError`` quote what they could not take, and so do parsers. So tracebacks keep their places and
types, and lose what errors of such types say.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator
from typing import Any

from paceline.logs.events import get_logger

TOLD = (
    OSError, RuntimeError, AssertionError, AttributeError, TypeError, NameError, ImportError, MemoryError,
    ArithmeticError, asyncio.CancelledError,
)  # fmt: skip
"""Errors that speak of the program, the machine or the network, and not of values."""

logger = get_logger(__name__)


def traceback_of(error: BaseException) -> str:
    """As Python writes it, of the error and of those that it came from, without what they say unless ``TOLD``."""
    parts = ["".join(traceback.format_tb(part.__traceback__)) + _told(part) for part in _chain(error)]
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
    said = context.get("message", "an error in the event loop")
    logger.error("an error in the event loop", said=said, exc_info=context.get("exception"))
