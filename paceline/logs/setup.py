"""How a service's process logs: to standard error, as its environment says."""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from paceline.logs.events import get_logger
from paceline.logs.formats import JSON, TEXT, formatter
from paceline.speculation.fields import Checks, known_names

PREFIX = "PACELINE_LOG_"
LEVEL, FORMAT, TEXTS = f"{PREFIX}LEVEL", f"{PREFIX}FORMAT", f"{PREFIX}TEXTS"
AUTO = "auto"
"""Text on a terminal, else JSON."""
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_FORMS = (AUTO, TEXT, JSON)
_YES, _NO = ("1", "true"), ("", "0", "false")

logger = get_logger(__name__)


class _Handler(logging.StreamHandler[Any]):
    """Knows whose process this is, once that is known."""

    worker = ""

    def handleError(self, record: logging.LogRecord) -> None:
        """In place of the standard library's, which prints the record's values. A full disk has no room for this."""
        try:
            if isinstance(sys.exc_info()[1], OSError):
                return
            bare = {"name": __name__, "levelno": logging.ERROR, "levelname": "ERROR"}
            said = f"a line of {record.name} could not be written"
            self.stream.write(self.format(logging.makeLogRecord({**bare, "msg": said})) + self.terminator)
        except OSError:
            return


def configure(environment: Mapping[str, str] = os.environ) -> None:
    """Raises ``FieldError`` for variables that are unknown or wrong."""
    level, form = _checked(environment)
    terminal = sys.stderr.isatty()
    handler = _Handler(sys.stderr)
    form = (TEXT if terminal else JSON) if form == AUTO else form
    colours = terminal and not environment.get("NO_COLOR")
    handler.setFormatter(formatter(form, lambda: handler.worker, colours=colours))
    logging.basicConfig(level=level, handlers=[handler])
    logging.captureWarnings(capture=True)
    if texts_wanted(environment):
        logger.warning("prompts and texts are logged", because=TEXTS)


def _checked(environment: Mapping[str, str]) -> tuple[str, str]:
    """Level and form."""
    checks = Checks()
    for name in environment:
        known = not name.startswith(PREFIX) or name in (LEVEL, FORMAT, TEXTS)
        expected = f"one of the variables {known_names(('LEVEL', 'FORMAT', 'TEXTS'), name, PREFIX)}"
        checks.require(known, name, environment[name], expected)
    level, form = environment.get(LEVEL) or "INFO", environment.get(FORMAT) or AUTO
    checks.require(level.upper() in _LEVELS, LEVEL, level, f"one of {', '.join(_LEVELS)}")
    checks.require(form in _FORMS, FORMAT, form, "auto (text on a terminal, else json), text or json")
    texts = environment.get(TEXTS, "")
    checks.require(texts in (*_YES, *_NO), TEXTS, texts, "1 (prompts and texts are logged) or 0")
    checks.finish()
    return level.upper(), form


def texts_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether prompts and texts are to be logged."""
    return environment.get(TEXTS) in _YES


def name_worker(name: str) -> None:
    """From now on this process's lines say whose they are."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler):
            handler.worker = name


def log_uncaught() -> None:
    """Errors that nobody catches are lines, too. One that ends the process keeps its words, which are about settings,
    files and ports: it has left the code that handles requests behind. In threads they do not."""

    def fatal(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        told = "".join(traceback.format_exception(kind, error, trace)).rstrip()
        logger.critical("an error ends the process", exception=told)

    def lost(failed: threading.ExceptHookArgs) -> None:
        name = failed.thread.name if failed.thread else ""
        logger.error("an error has ended a thread", thread=name, exc_info=failed.exc_value)

    def ignored(failed: sys.UnraisableHookArgs) -> None:
        logger.error("an error had nowhere to go", exc_info=failed.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = fatal, lost, ignored
