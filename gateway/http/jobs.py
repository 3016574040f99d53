"""From a request's fields to a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.http.answer import Format, Job
from gateway.http.models import Model
from gateway.http.parameters import Parameters
from gateway.http.resuming import Before
from paceline.messages import Generate

_SEEDS = 1 << 64


async def make_job(
    asked: Parameters,
    model: Model,
    prompts: Sequence[tuple[int, ...]],
    format_: Format,
    before: Before,
    *,
    max_tokens: int | None,
    logprobs: int | None,
) -> Job:
    """``n`` generations per prompt; equal seeds correlate neither choices nor prompts."""
    seed = before.seed if asked.seed is None else asked.seed
    speculation = asked.speculating()
    common = Generate(
        model=model.info.name,
        sampling=asked.sampling(max_tokens, logprobs),
        speculation=speculation,
        seed=seed % _SEEDS,
        priority=asked.priority or 0,
        stop=asked.stops,
    )
    choices, stream = range(asked.choices), bool(asked.stream)
    generations = before.named(
        replace(common, token_ids=ids, choice_index=index) for ids in prompts for index in choices
    )
    return Job(
        model=model,
        generations=generations,
        heard=before.marks(generations, stream=stream),
        choices_per_prompt=asked.choices,
        format=format_,
        seed=seed,
        stream=stream,
        include_usage=asked.include_usage,
        prediction=await model.encode_plain("prediction", speculation.prediction),
    )
