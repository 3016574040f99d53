"""From a request's fields to a job."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

from gateway.http.answer import Format, Job
from gateway.http.models import Model
from gateway.http.parameters import Parameters
from paceline.messages import Generate

SEED_BITS = 53
"""Of seeds drawn here: what every JSON reader takes for a whole number."""
_SEEDS = 1 << 64


async def make_job(
    asked: Parameters,
    model: Model,
    prompts: Sequence[tuple[int, ...]],
    format_: Format,
    *,
    max_tokens: int | None,
    logprobs: int | None,
) -> Job:
    """``n`` generations per prompt; equal seeds correlate neither choices nor prompts."""
    seed = secrets.randbits(SEED_BITS) if asked.seed is None else asked.seed
    speculation = asked.speculating()
    common = Generate(
        model=model.info.name,
        sampling=asked.sampling(max_tokens, logprobs),
        speculation=speculation,
        seed=seed % _SEEDS,
        priority=asked.priority or 0,
        stop=asked.stops,
    )
    choices = range(asked.choices)
    return Job(
        model=model,
        generations=tuple(replace(common, token_ids=ids, choice_index=index) for ids in prompts for index in choices),
        choices_per_prompt=asked.choices,
        format=format_,
        seed=seed,
        stream=bool(asked.stream),
        include_usage=asked.include_usage,
        prediction=await model.encode_plain("prediction", speculation.prediction),
    )
