"""vLLM's names say what vLLM's documentation says of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.service import Gateway
from gateway.tally import Tally, counted
from gateway.vllm import VllmNames
from paceline.messages import Chunk, CommittedTokens, StepCounts
from paceline.telemetry import Telemetry, telemetry_of
from tests.telemetry.scraping import Scrape


class Settings:
    name, telemetry, otlp = "gateway", "on", None


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    known = telemetry_of(Settings(), "gateway")
    yield known
    known.shutdown()


def test_drafts_and_accepted_tokens(telemetry: Telemetry) -> None:
    """A first token without drafts, then steps that accept two of five nodes, none of three, and one of one."""
    from prometheus_client import generate_latest

    gateway = Gateway([], [], telemetry=telemetry)
    VllmNames(gateway)
    tally = Tally(gateway.counts, first_choice=True)
    tally.model, tally.prompt_tokens = "m", 11
    with counted(tally, "generate"):
        tally.told(Chunk("s", seed=1))
        steps = (StepCounts(1, 0), StepCounts(3, 5), StepCounts(1, 3), StepCounts(2, 1))
        tally.heard(CommittedTokens(11, (1, 2, 3, 4, 5, 6, 7), 0, steps=steps))
        tally.told(Chunk("s", "text", (1, 2, 3, 4, 5, 6, 7), 11))
    scrape = Scrape(generate_latest(telemetry.registry).decode())
    drafts = scrape.value("vllm:spec_decode_num_drafts_total", model_name="m")
    accepted = scrape.value("vllm:spec_decode_num_accepted_tokens_total", model_name="m")
    assert (drafts, accepted) == (3, 3)
    assert scrape.value("vllm:spec_decode_num_draft_tokens_total", model_name="m") == 9
    positions = [
        scrape.value("vllm:spec_decode_num_accepted_tokens_per_pos_total", model_name="m", position=str(position))
        for position in range(3)
    ]
    assert positions == [2, 1, 0]
    assert sum(positions) == accepted
    assert scrape.value("vllm:generation_tokens_total", model_name="m") == 7
    assert scrape.value("vllm:prompt_tokens_total", model_name="m") == 11
    assert scrape.value("vllm:time_to_first_token_seconds_count", model_name="m") == 1
    assert scrape.value("vllm:time_to_first_token_seconds_bucket", model_name="m", le="+Inf") == 1
