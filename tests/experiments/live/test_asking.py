"""What is asked is what is simulated: the same prompts, lengths and noise keys, so the same luck."""

from __future__ import annotations

import pytest

from paceline.client import GatewayClient
from paceline.experiments.live.asking import Asking
from paceline.experiments.simulation.acceptance import Profile
from paceline.experiments.simulation.workload import Request, requests
from paceline.experiments.specification import WorkloadSpec
from paceline.messages import Generate
from paceline.speculation.noise import noise_key
from paceline.speculation.policy import SpeculationParameters
from paceline.synthetic import SyntheticDrafts, text_of

WORKLOAD = WorkloadSpec(requests=20, prompt_tokens=40, output_tokens=30, lengths="exponential")


async def asked(request: Request, texts: tuple[str, ...] = ()) -> Generate:
    async with GatewayClient("127.0.0.1:1") as client:
        return Asking(client, SpeculationParameters(), seed=5, texts=texts).asked(request)


async def test_a_request_has_the_noise_key_that_its_session_will_have() -> None:
    for request in requests(WORKLOAD, 5):
        put = await asked(request)
        assert put.token_ids == request.prompt()
        assert (len(put.token_ids), put.sampling.max_tokens) == (request.prompt_tokens, request.output_tokens)
        assert put.seed is not None
        assert noise_key(put.seed, put.choice_index, put.token_ids) == request.key


def test_prompts_differ_from_their_first_token_on() -> None:
    prompts = [request.prompt() for request in requests(WorkloadSpec(requests=50, prompt_tokens=8), 5)]
    assert len({prompt[:4] for prompt in prompts}) == 50


@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_simulated_and_emulated_drafters_are_right_at_the_same_places(alpha: float) -> None:
    (request,) = requests(WorkloadSpec(requests=1), 5)
    drafts, text = SyntheticDrafts((alpha,)), text_of(request.key)
    simulated = request.text().ranks(Profile.of(alpha))
    assert [drafts.rank(text, position, 1) for position in range(600)] == simulated[:600]


async def test_given_texts_are_asked_in_turn() -> None:
    put = [await asked(request, ("one", "two")) for request in requests(WorkloadSpec(requests=3), 5)]
    assert [each.text for each in put] == ["one", "two", "one"]
    assert all(each.token_ids is None for each in put)
