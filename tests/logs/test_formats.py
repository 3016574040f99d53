"""A line is one JSON object, or one line for people, whoever has logged it and whatever is in it."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.logs import JSON, TEXT, bound, get_logger, readable
from tests.logs.capturing import written

OURS, FOREIGN = get_logger("tests.logs.ours"), logging.getLogger("tests.logs.foreign")
FIELD_NAMES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True).filter(lambda name: name not in ("event", "self"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


class Colour(Enum):
    RED = "red"


def test_json_has_plain_keys_first_those_that_every_line_has() -> None:
    with written(JSON, "gateway-0") as log, bound(session="s", trace_id="ab", request="", epoch=None):
        OURS.warning("it happened", epoch=2, share=1 / 3, kind=Colour.RED, error=OSError("no route"), none=None)
    line = json.loads(log.getvalue())
    assert list(line)[:8] == ["timestamp", "level", "logger", "event", "worker", "session", "epoch", "trace_id"]
    at = datetime.fromisoformat(line.pop("timestamp"))
    assert at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)
    assert line == {
        "level": "warning", "logger": "tests.logs.ours", "event": "it happened", "worker": "gateway-0", "session": "s",
        "epoch": 2, "trace_id": "ab", "share": 0.333333, "kind": "red", "error": "no route", "none": None,
    }  # fmt: skip


def test_others_lines_are_no_different() -> None:
    with written(JSON, "w") as log, bound(session="s"):
        FOREIGN.warning("refused %s: %d", "a\nb", 7, extra={"event": "x"})
    line = json.loads(log.getvalue())
    assert {name: value for name, value in line.items() if name != "timestamp"} == {
        "level": "warning", "logger": "tests.logs.foreign", "event": "refused a\nb: 7", "worker": "w", "session": "s",
    }  # fmt: skip


@given(st.dictionaries(FIELD_NAMES, VALUES, max_size=4), st.text(), st.sampled_from(["ours", "foreign"]))
def test_whatever_is_logged_is_one_object_and_one_line(fields: dict[str, Any], event: str, whose: str) -> None:
    fields = {name: value for name, value in fields.items() if name not in ("exc_info", "stack_info", "stacklevel")}

    def log() -> None:
        OURS.error(event, **fields) if whose == "ours" else FOREIGN.error("%s %r", event, fields)

    with written(JSON) as objects, written(TEXT) as lines:
        log()
    (one,) = objects.getvalue().split("\n")[:-1]
    assert json.loads(one, parse_constant=pytest.fail)["level"] == "error"
    (shown,) = lines.getvalue().split("\n")[:-1]
    assert shown.isprintable()
    assert readable(one) == shown


def test_a_terminal_shows_what_is_read_there() -> None:
    with written(TEXT, "gateway-0") as log, bound(session="s1", trace_id="ab" * 16, request="cd" * 16):
        OURS.warning("a session goes on elsewhere", epoch=1, reason="the verifier is gone", seconds=1.23456)
    at, rest = log.getvalue().split(" ", 1)
    assert datetime.strptime(at, "%H:%M:%S.%f")
    said = 'a session goes on elsewhere session=s1 epoch=1 reason="the verifier is gone" seconds=1.23\n'
    assert rest == f"W gateway-0 tests.logs.ours: {said}"


def test_colours_are_for_terminals_and_nothing_that_is_logged_makes_any() -> None:
    with written(TEXT) as plain, written(TEXT, colours=True) as coloured:
        OURS.error("\x1b[31mred\u202e", detail="\x1b]0;title\x07")
    assert "\x1b" not in plain.getvalue()
    assert r"\x1b[31mred\u202e" in plain.getvalue()
    assert "\x1b[31mE\x1b[0m" in coloured.getvalue()
    assert "\x1b[31mred" not in coloured.getvalue()


def test_a_traceback_is_a_field_and_people_see_its_lines() -> None:
    with written(JSON) as objects, written(TEXT) as lines:
        try:
            raise ConnectionError("no route")
        except ConnectionError:
            OURS.exception("it failed", verifier="v")
    line = json.loads(objects.getvalue())
    assert line["exception"].startswith('  File "')
    assert line["exception"].endswith("ConnectionError: no route")
    assert lines.getvalue().splitlines()[1:] == line["exception"].splitlines()
    assert readable(objects.getvalue().rstrip("\n")) == lines.getvalue().rstrip("\n")


@pytest.mark.parametrize("line", ["", "plain words", "{", "[1]", "{}", '{"event": "x"}', "E1125 ssl.cc: failed"])
def test_what_is_no_line_of_ours_stays_as_it_is(line: str) -> None:
    assert readable(line) == line


def test_handlers_that_know_no_fields_show_them_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """As where Paceline is a library."""
    OURS.warning("a drafter is lost", drafter="d 1", epoch=2)
    (record,) = caplog.records
    assert record.getMessage() == 'a drafter is lost drafter="d 1" epoch=2'
    assert record.name == "tests.logs.ours"


def test_what_is_long_is_cut_unless_it_was_asked_for() -> None:
    with written(JSON) as log:
        OURS.warning("long", detail="x" * 10_000, text="y" * 10_000)
    line = json.loads(log.getvalue())
    assert (len(line["detail"]), len(line["text"])) == (4097, 10_000)
