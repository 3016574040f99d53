"""The wire: what goes in comes out, and what is not supported is refused, never ignored."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from paceline import messages as m
from paceline import wire
from paceline.errors import FieldError
from paceline.speculation.accept import NodeCandidates
from paceline.speculation.grammar import Grammar, GrammarKind
from paceline.speculation.logprobs import TokenLogprobs
from paceline.speculation.merge import NodeColumns
from paceline.speculation.policy import Mode, Shape, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

GRAMMAR = Grammar(GrammarKind.CHOICES, '["a"]', "llguidance")
SAMPLING = SamplingParameters(
    5, 0.7, 0.9, 40, 0.01, (3, 4), ignore_eos=True, presence_penalty=0.5, frequency_penalty=-0.25,
    repetition_penalty=1.5, logit_bias=((3, -1.5), (9, 100.0)), min_tokens=2, logprobs=3, grammar=GRAMMAR,
)  # fmt: skip
SPECULATION = SpeculationParameters(Mode.LOCKSTEP, Shape.CHAIN, 9, 5, 2, ("a", "b"), "scope", "guess", events=True)
TRACE = f"00-{7:032x}-{9:016x}-01"
LOGPROBS = (TokenLogprobs(-0.5, ((7, -0.5), (2, -1.25))), TokenLogprobs(-2.0))
DRAFTERS = (("a", "b"), ())
EVENTS = (
    m.SessionPlaced("big", 2, 1.5e9),
    m.PhaseEnded("queue", "gateway", -0.5, 0.25, 7),
    m.NodesArrived(0.5, "a", (1, 2), (0, 1), (5, 6), (8, 9), (-0.5, -1.5), 0.25, 0.125, 0.25, 0.375),
    m.StepDecided(0.5, 0.75, 1.0, (1, 2), (1,), (5, 7), 8),
)


@pytest.mark.parametrize("value", [SAMPLING, SamplingParameters(), SamplingParameters(temperature=0)])
def test_sampling(value: SamplingParameters) -> None:
    assert wire.from_sampling(wire.to_sampling(value)) == value


@pytest.mark.parametrize("value", [SPECULATION, SpeculationParameters(), SpeculationParameters(drafters=())])
def test_speculation(value: SpeculationParameters) -> None:
    assert wire.from_speculation(wire.to_speculation(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        m.OpenSession("s", 2, (1, 2, 3), 2, SAMPLING, SPECULATION, 2**64 - 1, b"secret", -3, "model", TRACE),
        m.AbortSession("s", 2),
        m.AuthorizeDrafter("s", "d"),
        m.RevokeDrafter("s", "d", "slow"),
        m.ChangeSession("s", Mode.OFF, 0, 1),
        m.ChangeSession("s"),
    ],
)
def test_commands(value: m.DecodeCommand) -> None:
    assert wire.from_decode_command(wire.to_decode_command(value)) == value


def test_events() -> None:
    drafter = m.DrafterStatistics("d", 5, 4, 3, 2, 1, drafting=False, steps=6, busy_seconds=0.75, rejected=7)
    overlap = m.OverlapStatistics(1, 2, 3, 4, 5, 0.5, 0.125, 0.25, (drafter,), (1, 0, 2))
    events = [
        m.SessionEvent("a", 1, opened=True),
        m.SessionEvent("b", 1, committed=m.CommittedTokens(7, (1, 2), 2**63)),
        m.SessionEvent("b", 1, committed=m.CommittedTokens(7, (1, 2), 3, LOGPROBS, DRAFTERS), events=EVENTS),
        m.SessionEvent("c", 1, rejected=m.Rejection("c", m.Status.NOT_FOUND, "why")),
        m.SessionEvent(
            "d", 1, committed=m.CommittedTokens(7, (1,), 3), finish_reason=m.FinishReason.STOP,
            usage=m.Usage(1, 2, 3), overlap=overlap,
        ),
    ]  # fmt: skip
    assert wire.from_decode_events(wire.to_decode_events(events)) == events
    for pulse in (m.Pulse(), m.Pulse(draining=True), m.Pulse(stalled=True)):
        assert wire.from_pulse(wire.to_decode_events(events, pulse)) == pulse


def test_chunks_and_requests() -> None:
    completion = m.Completion(
        m.FinishReason.LENGTH,
        m.Usage(1, 2),
        m.OverlapStatistics(),
        Mode.OFF,
        "exact",
        ttft_seconds=0.5,
        tpot_seconds=0.1,
        stop_reason="END",
    )
    told = m.Chunk("s", "é", (1, 2), 3, None, None, (0, 1), LOGPROBS, DRAFTERS, EVENTS)
    assert told.pieces == ("", "é")
    for chunk in (m.Chunk("s", "é", (1, 2), 3, seed=0), told, m.Chunk("s", completion=completion)):
        assert wire.from_chunk(wire.to_chunk(chunk)) == chunk
    for prompt in ({"text": ""}, {"token_ids": (1, 2)}, {"chat": (m.ChatMessage("user", "hi"),)}):
        request = m.Generate("m", sampling=SAMPLING, speculation=SPECULATION, seed=4, stop=("a", "b"), **prompt)
        assert wire.from_generate(wire.to_generate(request)) == request


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("presence_penalty", 2.5),
        ("frequency_penalty", float("nan")),
        ("repetition_penalty", 0.0),
        ("logprobs", 21),
        ("logit_bias", {5: 101.0}),
        ("grammar", {}),
        ("grammar", {"regex": ""}),
    ],
)
def test_sampling_out_of_bounds_is_refused_by_name(field: str, value: Any) -> None:
    wired = wire.common.SamplingParameters(**{field: value})
    with pytest.raises(FieldError, match=f"{'regex' if value == {'regex': ''} else field} = "):
        wire.from_sampling(wired)


def test_neutral_values_are_the_defaults() -> None:
    wired = wire.common.SamplingParameters(presence_penalty=0, frequency_penalty=0, repetition_penalty=1, min_tokens=0)
    assert wire.from_sampling(wired) == SamplingParameters()


def test_an_idempotency_key_has_bounds() -> None:
    with pytest.raises(FieldError, match="idempotency_key = "):
        wire.from_generate(wire.gateway.GenerateRequest(text="x", idempotency_key="x" * 257))


@pytest.mark.parametrize("stop", [("",), ("x" * 1025,), ("x",) * 17])
def test_stop_strings_have_bounds(stop: tuple[str, ...]) -> None:
    with pytest.raises(FieldError, match="stop = "):
        wire.from_generate(wire.gateway.GenerateRequest(text="x", stop=stop))


def test_unknown_enum_numbers_are_refused() -> None:
    wired = wire.common.SpeculationParameters()
    wired.mode = 17  # type: ignore[assignment]
    with pytest.raises(FieldError, match="mode = 17"):
        wire.from_speculation(wired)


def test_verdicts() -> None:
    bare = m.Verdict("a", 1, 7, (1, 2), 2**63, ended=True, node_limit=9)
    beside = (NodeCandidates(2**32 - 1, (5, 6)), NodeCandidates(4, (7, 8)))
    told = m.Verdict("b", 2, 3, (4,), 5, ended=False, node_limit=6, mode=Mode.OFF, candidates=((4, 9),), beside=beside)
    verdicts = m.Verdicts((m.Joined("c", 1, 2, (3,), 4),), (bare, told), (m.Rejection("d", m.Status.NOT_FOUND, "why"),))
    assert wire.from_verdicts(wire.to_verdicts(verdicts)) == verdicts


@pytest.mark.parametrize(
    ("field", "columns"),
    [
        ("candidate_token_ids = '3 tokens'", {"candidate_token_ids_u32": bytes(12), "candidates_per_node": 2}),
        ("candidate_token_ids = '1 tokens'", {"candidate_token_ids_u32": bytes(4)}),
        (
            "beside_candidate_token_ids = 'of 2 nodes': expected 1 nodes",
            {"beside_token_ids_u32": bytes(4), "beside_candidate_token_ids_u32": bytes(16), "candidates_per_node": 2},
        ),
    ],
)
def test_candidates_that_do_not_fit_are_refused(field: str, columns: dict[str, Any]) -> None:
    with pytest.raises(FieldError, match=field):
        wire.from_verdicts(wire.verifier.Verdicts(verdicts=[wire.verifier.Verdict(**columns)]))


def test_ragged_columns_cost_only_their_entry() -> None:
    good = wire.verifier.DraftNodes(session_id="good", first_node_id=1)
    bad = wire.verifier.DraftNodes(session_id="bad", first_node_id=1, token_ids_u32=b"\0\0\0")
    update, rejected = wire.from_draft_update(wire.verifier.DraftUpdate(nodes=[bad, good]))
    assert [nodes.session_id for nodes in update.nodes] == ["good"]
    assert [(r.session_id, r.status) for r in rejected] == [("bad", m.Status.INVALID_ARGUMENT)]
    assert "token_ids = '3 bytes'" in rejected[0].detail


@pytest.mark.parametrize("field", ["idle_seconds", "busy_seconds"])
@pytest.mark.parametrize("seconds", [-0.5, math.inf, math.nan])
def test_seconds_that_cannot_be_cost_only_their_entry(field: str, seconds: float) -> None:
    good = wire.verifier.DraftNodes(session_id="good", first_node_id=1, idle_seconds=0.5, busy_seconds=0.25)
    bad = wire.verifier.DraftNodes(session_id="bad", first_node_id=1, **{field: seconds})  # type: ignore[arg-type]
    update, rejected = wire.from_draft_update(wire.verifier.DraftUpdate(nodes=[bad, good]))
    assert [(n.session_id, n.idle_seconds, n.busy_seconds) for n in update.nodes] == [("good", 0.5, 0.25)]
    assert [(r.session_id, r.status) for r in rejected] == [("bad", m.Status.INVALID_ARGUMENT)]
    assert f"{field} = {seconds}: expected 0 or more" in rejected[0].detail


def test_a_request_without_a_prompt_is_refused() -> None:
    with pytest.raises(FieldError, match="prompt = None: expected text, chat or tokens"):
        wire.from_generate(wire.gateway.GenerateRequest())


@pytest.mark.parametrize(
    ("field", "update"),
    [
        ("session_id", wire.verifier.DraftUpdate(leaves=[wire.verifier.Leave(session_id="s" * 257)])),
        ("session_id", wire.verifier.DraftUpdate(nodes=[wire.verifier.DraftNodes(session_id="s" * 257)])),
        ("drafter_id", wire.verifier.DraftUpdate(joins=[wire.verifier.Join(drafter_id="d" * 257)])),
        ("key", wire.verifier.DraftUpdate(joins=[wire.verifier.Join(key=bytes(33))])),
    ],
)
def test_names_and_keys_are_no_longer_than_one_may_be(field: str, update: wire.verifier.DraftUpdate) -> None:
    """Joins are kept until their sessions come."""
    with pytest.raises(FieldError, match=f"{field} = .*: expected at most"):
        wire.from_draft_update(update)


@pytest.mark.parametrize(("field", "value"), [("session_id", "s" * 257), ("key", bytes(33))])
def test_a_drafter_takes_nothing_on_that_no_verifier_would_read(field: str, value: object) -> None:
    """Its join would end the stream that carries the drafts of all sessions."""
    request = wire.to_attach(m.Attach("s", 1, "v", (1,), 1, SAMPLING, SPECULATION, 7, b"k"))
    setattr(request, field, value)
    with pytest.raises(FieldError, match=f"{field} = .*: expected at most"):
        wire.from_attach(request)


def test_growths_are_told_with_their_nodes() -> None:
    columns = NodeColumns(1, 3, np.array([5], np.uint32), np.array([0], np.uint64), np.array([-0.5], np.float32))
    for growth in (None, m.Growth(1.5e9, 1.5e9 + 0.25, 2**64 - 1)):
        update, _ = wire.from_draft_update(
            wire.to_draft_update(m.DraftUpdate(nodes=(m.DraftNodes("s", 1, columns, growth=growth),)))
        )
        assert update.nodes[0].growth == growth


@pytest.mark.parametrize(("started", "sent"), [(2.0, 1.0), (-1.0, 1.0), (0.0, 2.0**41), (math.nan, 1.0)])
def test_a_growth_out_of_time_is_refused_alone(started: float, sent: float) -> None:
    bad = wire.verifier.DraftNodes(session_id="bad", first_node_id=1, growth={"started": started, "sent": sent})
    update, rejected = wire.from_draft_update(wire.verifier.DraftUpdate(nodes=[bad]))
    assert not update.nodes
    assert [rejection.session_id for rejection in rejected] == ["bad"]
    assert "growth" in rejected[0].detail


def test_traces_are_watched_where_their_flags_say_so() -> None:
    def opening(traceparent: str) -> m.OpenSession:
        quiet = SpeculationParameters()
        return m.OpenSession("s", 1, (1,), 1, SAMPLING, quiet, 7, b"k", traceparent=traceparent)

    assert opening(TRACE).watched
    assert not any(opening(other).watched for other in ("", "00", TRACE[:-1] + "0", TRACE[:-1]))
