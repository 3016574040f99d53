"""A stream that breaks says so."""

from __future__ import annotations

import json
import signal

import httpx2
import pytest

from paceline.cluster.local import LocalCluster
from paceline.embedded import pair_topology

pytestmark = pytest.mark.asyncio


async def test_a_verifier_that_dies_ends_its_streams_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACELINE_GATEWAY_FAILOVER_SECONDS", "0.5")
    asked = {"prompt": "def ", "max_tokens": 3000, "ignore_eos": True, "stream": True}
    async with (
        LocalCluster(pair_topology(draft=None)) as cluster,
        httpx2.AsyncClient(base_url=f"http://{cluster.http_address}", timeout=30) as http,
    ):
        events = {"Accept": "text/event-stream"}
        async with http.stream("POST", "/v1/completions", json=asked, headers=events) as answer:
            lines = answer.aiter_lines()
            assert (await anext(lines)).startswith('data: {"id"')
            verifier = cluster.worker("verifier").process
            verifier.send_signal(signal.SIGKILL)
            verifier.wait()
            told = [line async for line in lines if line]
        *_, name, last, its_name = told
        error = json.loads(last.removeprefix("data: "))["error"]
        assert name == its_name != "id: "
        assert (error["type"], error["code"]) == ("server_error", "unavailable")
        assert (await http.get("/health")).status_code == 503
        assert (await http.get("/live")).status_code == 200
    assert cluster.worker("gateway").process.returncode == 0
