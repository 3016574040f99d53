"""A session's spans say what its events say: times that tile, numbers that add up, growths that were verified."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from drafter_service.drafters.model import ModelDrafter
from drafter_service.drafters.ngram import NgramDrafter
from drafter_service.service import Drafter
from paceline.messages import DraftingEvent, NodesArrived, SessionEvent, StepDecided
from paceline.speculation.policy import SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.telemetry import OFF, Telemetry
from tests.in_process import InProcess, load, make_drafter
from tests.telemetry.spans import SAMPLED, SPAN, TRACE, UNSAMPLED, Recorded, parent_id, said
from verifier_service import tracing

PROMPT, LENGTH = [1, 2, 3, 1, 2], 60
SAMPLING = SamplingParameters(max_tokens=LENGTH)


def world(
    path: Path, telemetry: Telemetry, cache_tokens: int = 8192, drafters: Sequence[Drafter] | None = None
) -> InProcess:
    """By default with two drafters that often say the same."""
    drafters = drafters or [make_drafter(ModelDrafter(load(path)), 64), make_drafter(NgramDrafter(), 64)]
    world = InProcess(load(path, cache_tokens), drafters)
    world.verifier.telemetry = telemetry
    for drafter in drafters:
        drafter.telemetry = telemetry
    return world


def run(path: Path, telemetry: Telemetry, traceparent: str) -> InProcess:
    there = world(path, telemetry)
    there.open("s", PROMPT, SAMPLING, traceparent=traceparent)
    there.run()
    return there


def total(spans: list[ReadableSpan], name: str) -> int:
    return sum(int(str(said(span, name))) for span in spans)


def times(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def test_steps_tile_the_time_and_add_up(target_path: Path) -> None:
    recorded = Recorded()
    overlap = run(target_path, recorded.telemetry, SAMPLED).recorder.last["s"].overlap
    assert overlap is not None
    steps, (session,) = recorded.named("step"), recorded.named("session")
    assert len(steps) == overlap.steps
    for before, after in itertools.pairwise(steps):
        assert times(before)[1] == times(after)[0]
    assert total(steps, "paceline.emitted") == LENGTH
    assert total(steps, "paceline.accepted") == overlap.accepted_nodes == said(session, "paceline.accepted")
    assert total(steps, "paceline.verified") == overlap.verified_nodes == said(session, "paceline.verified")
    for step in steps:
        assert said(step, "paceline.rows") == int(str(said(step, "paceline.verified"))) + 1
        (launched,) = step.events
        assert times(step)[0] <= launched.timestamp <= times(step)[1]
    assert said(session, "gen_ai.usage.output_tokens") == LENGTH
    assert said(session, "gen_ai.response.finish_reasons") == ("length",)
    assert [times(span)[0] for span in recorded.named("queue")] == [times(session)[0]]
    assert times(steps[-1])[1] <= times(session)[1]
    assert [said(span, "paceline.tokens") for span in recorded.named("prefill")] == [len(PROMPT) - 1]


def test_all_hang_on_the_gateways_span(target_path: Path) -> None:
    """So nothing hangs on a span that a killed worker takes with it."""
    recorded = Recorded()
    run(target_path, recorded.telemetry, SAMPLED)
    assert {span.name for span in recorded.spans} == {"session", "queue", "prefill", "step", "draft", "growth"}
    assert {parent_id(span) for span in recorded.spans} == {SPAN}
    assert {f"{span.context.trace_id:032x}" for span in recorded.spans} == {TRACE}


def test_a_step_is_linked_to_each_growth_that_it_verified_nodes_of_once(target_path: Path) -> None:
    recorded = Recorded()
    run(target_path, recorded.telemetry, SAMPLED)
    growths = {span.context.span_id: span for span in recorded.named("growth")}
    linked = list[str]()
    for step in recorded.named("step"):
        span_ids = [link.context.span_id for link in step.links]
        assert len(set(span_ids)) == len(span_ids)
        assert bool(span_ids) is (said(step, "paceline.verified") != 0)
        linked += [str(said(growths[span_id], "paceline.drafter")) for span_id in span_ids]
    assert set(linked) == {"model", "ngram"}
    drafts = recorded.named("draft")
    assert total(drafts, "paceline.growths") == len(growths)
    assert total(drafts, "paceline.nodes") == total(list(growths.values()), "paceline.nodes")
    assert [[event.name for event in draft.events] for draft in drafts] == [["joined"]] * 2


def test_a_step_is_linked_to_all_that_proposed_its_nodes(target_path: Path) -> None:
    """Also to who said what another one had said before; and what is dead is remembered no more."""
    recorded = Recorded()
    twins = [make_drafter(NgramDrafter(), 64, name) for name in ("one", "other")]
    there, told = world(target_path, recorded.telemetry, drafters=twins), list[DraftingEvent]()
    send = there.recorder.send

    def listen(events: Sequence[SessionEvent]) -> None:
        told.extend(item for event in events for item in event.events)
        send(events)

    there.recorder.send = listen  # type: ignore[method-assign]
    there.open("s", PROMPT, SAMPLING, SpeculationParameters(events=True), traceparent=SAMPLED)
    session = there.verifier._table.get("s")
    assert session is not None
    owners = [getattr(watcher, "__self__", None) for watcher in session.record.watchers]
    (spans,) = (owner for owner in owners if isinstance(owner, tracing.SessionSpans))
    there.run()
    growths = {span.context.span_id: str(said(span, "paceline.drafter")) for span in recorded.named("growth")}
    linked = [{growths[link.context.span_id] for link in step.links} for step in recorded.named("step")]
    proposed, expected = dict[int, set[str]](), list[set[str]]()
    for event in told:
        if isinstance(event, NodesArrived):
            for node_id in event.node_ids:
                proposed.setdefault(node_id, set()).add(event.drafter_id)
        elif isinstance(event, StepDecided):
            expected.append(set[str]().union(*(proposed[node_id] for node_id in event.verified_ids)))
    assert linked == expected
    assert {"one", "other"} in expected
    assert len(spans._grown) < len(proposed)


def test_a_preempted_session_waits_again(target_path: Path) -> None:
    recorded = Recorded()
    there = world(target_path, recorded.telemetry, cache_tokens=96)
    for name in ("first", "second"):
        there.open(name, PROMPT, SAMPLING, traceparent=SAMPLED if name == "second" else "")
    there.run()
    (session,) = recorded.named("session")
    preemptions = int(str(said(session, "paceline.preemptions")))
    assert preemptions > 0
    assert len(recorded.named("queue")) == preemptions + 1
    assert total(recorded.named("step"), "paceline.emitted") == LENGTH


def test_of_a_very_long_session_later_steps_are_only_counted(
    target_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "MOST_STEPS", 3)
    recorded = Recorded()
    overlap = run(target_path, recorded.telemetry, SAMPLED).recorder.last["s"].overlap
    assert overlap is not None
    (session,) = recorded.named("session")
    assert (len(recorded.named("step")), said(session, "paceline.steps")) == (3, overlap.steps)
    assert overlap.steps > 3


@pytest.mark.parametrize("traceparent", ["", UNSAMPLED])
def test_who_is_not_traced_has_no_spans(target_path: Path, traceparent: str) -> None:
    recorded = Recorded(ratio=1.0)
    run(target_path, recorded.telemetry, traceparent)
    assert [span.name for span in recorded.spans] == []


def test_without_a_collector_a_traced_session_is_only_watched(target_path: Path) -> None:
    there = world(target_path, OFF)
    there.open("s", PROMPT, SAMPLING, traceparent=SAMPLED)
    session = there.verifier._table.get("s")
    assert session is not None
    assert session.record.watchers == [session.timeline.write]
    there.run()
