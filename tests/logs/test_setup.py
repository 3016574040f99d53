"""How a process logs is for its environment to say; what ends it is a line, too."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from paceline.cluster.child import LOG_TAIL_LINES, Worker
from paceline.errors import FieldError
from paceline.logs import texts_wanted
from paceline.logs.bounded import MOST, WITHIN_SECONDS, Bounded
from paceline.logs.setup import configure

PROGRAM = """
import logging, threading, warnings
from paceline import logs, process
process.prepare()
async def service(stop):
    logs.get_logger("ours").info("serving", port=1)
    logging.getLogger("theirs").warning("%s", "words")
    logging.getLogger("theirs").warning("%d", "secret")
    warnings.warn("old")
    def fail():
        raise ValueError("secret")
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    raise ValueError("a port is taken")
process.run(service, name="gateway-0", exit_with_parent=False)
"""


def run(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)


def test_every_line_of_a_process_is_json_where_nobody_looks() -> None:
    done = run(PROGRAM)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["logger"], line["level"]) for line in lines] == [
        ("ours", "info"), ("theirs", "warning"), ("paceline.logs.setup", "error"), ("py.warnings", "warning"),
        ("paceline.logs.setup", "error"), ("paceline.logs.setup", "critical"),
    ]  # fmt: skip
    assert {line["worker"] for line in lines} == {"gateway-0"}
    assert "secret" not in done.stderr
    assert "ValueError (what it says is not logged)" in lines[4]["exception"]
    assert lines[5]["exception"].endswith("ValueError: a port is taken"), "why a service does not start is told"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("variables", "text", "colours"),
    [
        ({}, True, True),
        ({"PACELINE_LOG_FORMAT": "auto", "NO_COLOR": "1"}, True, False),
        ({"PACELINE_LOG_FORMAT": "json"}, False, False),
    ],
)
def test_on_a_terminal_lines_are_to_be_read(
    variables: dict[str, str],
    text: bool,  # noqa: FBT001 - a parameter
    colours: bool,  # noqa: FBT001
) -> None:
    ours, theirs = pty.openpty()
    environment = {**{name: value for name, value in os.environ.items() if name != "NO_COLOR"}, **variables}
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, stderr=theirs, check=False)
    os.close(theirs)
    first = os.read(ours, 1 << 16).decode().splitlines()[0]
    os.close(ours)
    assert (not first.startswith("{"), "\x1b[" in first) == (text, colours)
    if text and not colours:
        assert first.split(" ", 1)[1] == "I gateway-0 ours: serving port=1"


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_last_words_of_a_process_are_to_be_read_in_either_form(tmp_path: Path, form: str) -> None:
    environment = {**os.environ, "PACELINE_LOG_FORMAT": form}
    worker = Worker("gateway-0", "", [sys.executable, "-c", PROGRAM], environment, tmp_path / "log")
    worker.start()
    worker.process.wait()
    worker.end()
    words = worker.last_words().splitlines()
    assert words[-1] == "ValueError: a port is taken"
    assert not any(line.startswith("{") for line in words)
    assert len(words) == LOG_TAIL_LINES


def test_text_may_be_asked_for_and_levels() -> None:
    done = run(PROGRAM, PACELINE_LOG_FORMAT="text", PACELINE_LOG_LEVEL="error")
    assert "\x1b" not in done.stderr
    assert "serving" not in done.stderr
    assert " C gateway-0 paceline.logs.setup: an error ends the process\n" in done.stderr


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"PACELINE_LOG_FORMAT": "xml"}, "PACELINE_LOG_FORMAT xml: expected auto (text on a terminal, else json)"),
        ({"PACELINE_LOG_LEVEL": "LOUD"}, "PACELINE_LOG_LEVEL LOUD: expected one of DEBUG, INFO"),
        ({"PACELINE_LOG_TEXTS": "yes"}, "PACELINE_LOG_TEXTS yes: expected 1 (prompts and texts are logged) or 0"),
        ({"PACELINE_LOG_LEVLE": "INFO"}, "did you mean PACELINE_LOG_LEVEL?"),
    ],
)
def test_a_wrong_variable_is_refused_by_name(variables: Mapping[str, str], says: str) -> None:
    with pytest.raises(FieldError):
        configure(variables)
    done = run("from paceline import process; process.prepare()", **variables)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert says in done.stderr


def test_texts_are_logged_only_if_that_is_asked_for() -> None:
    assert [texts_wanted({"PACELINE_LOG_TEXTS": value}) for value in ("1", "true", "0", "")] == [
        True,
        True,
        False,
        False,
    ]
    assert not texts_wanted({})
    said = run("from paceline import process; process.prepare()", PACELINE_LOG_TEXTS="1").stderr
    assert json.loads(said)["event"] == "prompts and texts are logged", "nobody shall do so without knowing"


def test_lines_that_say_the_same_are_bounded_and_those_left_out_are_counted() -> None:
    now = 0.0
    bounded = Bounded(lambda: now)
    assert [bounded.admit("a") for _ in range(MOST + 5)] == [0] * MOST + [None] * 5
    assert bounded.admit("b") == 0, "another thing"
    now = WITHIN_SECONDS
    assert [bounded.admit("a"), bounded.admit("a")] == [5, 0]
