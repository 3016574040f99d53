"""A worker's page of metrics: to whom it is told, and how it is refused."""

from __future__ import annotations

import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from paceline.errors import FieldError
from paceline.security.authority import LOCAL_HOSTS, Authority
from paceline.security.identity import Party, Role
from paceline.telemetry import Telemetry, telemetry_of
from paceline.telemetry.measuring import MOST_NAMES, Latest, Readings
from paceline.telemetry.serving import MetricsServer
from tests.telemetry.scraping import Scrape


class Settings:
    name, telemetry, otlp = "worker", "on", None


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    known = telemetry_of(Settings(), "drafter")
    Readings(known.meter, lambda: 7).counter("paceline.things", "Things.", lambda state: state)
    yield known
    known.shutdown()


def test_it_is_told(telemetry: Telemetry) -> None:
    server = MetricsServer(telemetry)
    port = server.start("127.0.0.1", 0, reserved=False)
    assert Scrape.of(f"127.0.0.1:{port}").value("paceline_things_total") == 7
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
    server.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 5)


def test_a_port_that_is_taken_is_refused_by_name(telemetry: Telemetry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(FieldError, match=f"metrics_port = {port}: expected a port that is free on 127.0.0.1"):
            MetricsServer(telemetry).start("127.0.0.1", port, reserved=False)


def test_who_says_nothing_keeps_nobody_waiting_for_long(telemetry: Telemetry) -> None:
    server = MetricsServer(telemetry)
    port = server.start("127.0.0.1", 0, reserved=False)
    with socket.create_connection(("127.0.0.1", port)):
        assert Scrape.of(f"127.0.0.1:{port}").value("paceline_things_total") == 7
    server.stop()


@pytest.mark.parametrize("role", [*Role, None])
def test_with_certificates_it_is_for_those_who_call(telemetry: Telemetry, tmp_path: Path, role: Role | None) -> None:
    authority = Authority.make(10)
    authority.save(tmp_path)
    papers = {each: authority.issue(tmp_path, Party(each, each.value), LOCAL_HOSTS, 10) for each in Role}
    server = MetricsServer(telemetry, papers[Role.VERIFIER])
    port = server.start("127.0.0.1", 0, reserved=False)
    context = ssl.create_default_context(cafile=papers[Role.VERIFIER].ca)
    if role is not None:
        context.load_cert_chain(papers[role].certificate, papers[role].key)
    url = f"https://127.0.0.1:{port}/metrics"
    if role in (Role.OPERATOR, Role.CLIENT):
        with urllib.request.urlopen(url, timeout=5, context=context) as reply:
            assert "paceline_things_total 7.0" in reply.read().decode()
    else:
        with pytest.raises(OSError):  # noqa: PT011 - as TLS or TCP may put it
            urllib.request.urlopen(url, timeout=5, context=context)
    server.stop()


def test_one_state_for_all_instruments_each_time(telemetry: Telemetry) -> None:
    taken: list[int] = []

    def take() -> int:
        taken.append(len(taken))
        return len(taken)

    readings = Readings(telemetry.meter, take)
    readings.counter("paceline.first", "", lambda state: state)
    readings.gauge("paceline.second", "", lambda state: [(state, {"a": "b"})])
    server = MetricsServer(telemetry)
    port = server.start("127.0.0.1", 0, reserved=False)
    for turn in (1, 2):
        scrape = Scrape.of(f"127.0.0.1:{port}")
        assert scrape.value("paceline_first_total") == scrape.value("paceline_second", a="b") == turn
    server.stop()


def test_names_that_come_and_go_are_bounded() -> None:
    latest = Latest[list[int]](list)
    latest.of("stays").append(1)
    for number in range(3 * MOST_NAMES):
        latest.of(str(number))
        latest.of("stays")
    assert len(latest) == MOST_NAMES
    assert latest["stays"] == [1]
