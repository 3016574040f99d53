"""A session that drafters can be timed on by themselves: joined, with all the credit they like."""

from __future__ import annotations

import time
from collections.abc import Sequence

from drafter_service.session import DraftSession
from paceline.messages import Attach
from paceline.speculation.noise import noise_key
from paceline.speculation.policy import SpeculationParameters
from paceline.speculation.sampling import SamplingParameters


def session_alone(
    token_ids: Sequence[int], speculation: SpeculationParameters, vocabulary_size: int = 0
) -> DraftSession:
    """A session at temperature 0.8 of a name that no other has."""
    name, tokens = f"s{time.perf_counter_ns()}", tuple(token_ids)
    sampling = SamplingParameters(temperature=0.8)
    attach = Attach(name, 1, "", tokens, len(tokens), sampling, speculation, noise_key(0, 0, tokens), b"")
    session = DraftSession(attach, vocabulary_size, 1 << 20)
    session.joined, session.node_limit = True, 1 << 30
    return session
