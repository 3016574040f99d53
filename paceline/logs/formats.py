"""The two forms of a line: one JSON object, and one that is read on a terminal. Whoever has logged it, ours or not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any

from structlog.contextvars import merge_contextvars
from structlog.stdlib import ProcessorFormatter

from paceline.logs.discretion import traceback_of
from paceline.logs.fields import plain_fields, shown_fields, shown_text

TEXT, JSON = "text", "json"
HEAD = ("timestamp", "level", "logger", "event", "worker")
ABOUT = ("request", "session", "epoch", "trace_id", "model")
"""Come next, in this order, if a line has them."""
ONLY_IN_JSON = ("request", "trace_id")
"""Too long for what they tell a reader."""
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}


def formatter(form: str, worker: Callable[[], str] = str, *, colours: bool = False) -> ProcessorFormatter:
    """``form``: ``TEXT`` or ``JSON``; ``worker`` says whose lines they are, if anybody's."""

    def complete(_: Any, __: str, fields: MutableMapping[str, Any]) -> dict[str, Any]:
        return _complete(fields, worker())

    def render(_: Any, __: str, fields: MutableMapping[str, Any]) -> str:
        return json.dumps(fields) if form == JSON else as_text(fields, colours=colours)

    # its own handling of errors is replaced by ours, which needs them
    return ProcessorFormatter(
        foreign_pre_chain=[merge_contextvars], processors=[complete, render], keep_exc_info=True
    )  # fmt: skip


def _complete(fields: MutableMapping[str, Any], worker: str) -> dict[str, Any]:
    """The line as JSON has it, in the order that it is read in."""
    record = fields.pop("_record")
    fields.pop("_from_structlog")
    fields.pop("exc_info", None)
    error = record.exc_info[1] if record.exc_info else None
    record.exc_info = record.exc_text = None  # or the base class adds them once more, other handlers' texts included
    head = {
        "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")[:-6] + "Z",
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": str(fields.pop("event")),
        **({"worker": worker} if worker else {}),
    }
    about = {name: fields[name] for name in ABOUT if fields.get(name) not in (None, "")}
    rest = {name: value for name, value in fields.items() if name not in (*HEAD, *ABOUT)}
    told = {"exception": traceback_of(error)} if error is not None else {}
    return plain_fields({**head, **about, **rest, **told})


def as_text(line: Mapping[str, Any], *, colours: bool = False) -> str:
    """A complete line: ``20:15:00.000 W gateway-0 gateway.running: what happened  name=value``, and its traceback."""

    def coloured(text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if colours else text

    at = datetime.fromisoformat(line["timestamp"]).astimezone().isoformat(timespec="milliseconds")[11:23]
    level = coloured(line["level"][:1].upper(), _COLOURS.get(line["level"], "0"))
    worker = [coloured(shown_text(line["worker"]), "36")] if "worker" in line else []
    said = coloured(shown_text(line["event"]), "1")
    left_out = (*HEAD, *ONLY_IN_JSON, "exception")
    fields = shown_fields({name: value for name, value in line.items() if name not in left_out})
    words = [coloured(at, "2"), level, *worker, f"{line['logger']}:", said, *(coloured(field, "2") for field in fields)]
    traceback = "".join(f"\n{shown_text(part)}" for part in str(line.get("exception", "")).splitlines())
    return " ".join(words) + traceback


def readable(line: str) -> str:
    """A line of a log for people, whichever form it has; what is no line of ours stays as it is."""
    try:
        found = json.loads(line)
        return as_text(found) if isinstance(found, dict) else line
    except (ValueError, KeyError, TypeError, AttributeError):
        return line
