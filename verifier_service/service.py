"""The verifier's logic, without transport: commands and drafts come in, steps go out.

Commands and draft updates may come from any thread; ``step`` is called by the one thread that owns the device. The
lock is held for bookkeeping only, never during a forward.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from paceline.engine.runner import Logits, ModelRunner
from paceline.errors import FailedPrecondition, FieldError, PacelineError
from paceline.logs import bound, get_logger
from paceline.messages import (
    AbortSession,
    AuthorizeDrafter,
    ChangeSession,
    DecodeCommand,
    DraftUpdate,
    FinishReason,
    ModelInfo,
    OpenSession,
    Rejection,
    RevokeDrafter,
    SessionEvent,
    Status,
    Verdicts,
)
from paceline.speculation.cost import FREE, CostCurve
from paceline.speculation.fields import require
from paceline.synthetic import SyntheticChoices
from paceline.telemetry import OFF, Telemetry, trace_id_of
from verifier_service.attachment import DrafterLink, GatewayLink
from verifier_service.counts import Figures
from verifier_service.drafting import EARLY_JOIN_SECONDS, Drafting
from verifier_service.grammar.compiler import GrammarCompiler
from verifier_service.grammar.masks import MaskThread
from verifier_service.grammar.matcher import Masks, Matcher
from verifier_service.openings import Opening, Openings
from verifier_service.plan import Plan, constrained_rows
from verifier_service.session import Session
from verifier_service.steps import Stepper
from verifier_service.switch import Switch
from verifier_service.table import MAX_TAIL, Limits, SessionTable
from verifier_service.tracing import trace

logger = get_logger(__name__)

STEP_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds, of the histogram of steps."""


class Verifier:
    """Sessions of one target model and the steps that move them on."""

    def __init__(
        self,
        runner: ModelRunner,
        model: ModelInfo,
        limits: Limits,
        cost: CostCurve = FREE,
        clock: Callable[[], float] = time.monotonic,
        synthetic: SyntheticChoices | None = None,
        compiler: GrammarCompiler | None = None,
        name: str = "verifier",
        telemetry: Telemetry = OFF,
    ) -> None:
        """``cost``: what steps of this runner cost, as ``warm_up`` has measured; ``synthetic``: experimental;
        ``compiler`` None: every grammar is refused."""
        self.model, self.limits, self.name, self.telemetry = model, limits, name, telemetry
        self.changed = threading.Condition()
        self._runner = runner
        self._table = SessionTable(runner, limits, clock)
        switch = Switch(cost)
        self._drafting = Drafting(self._table, model.vocabulary_size, switch, clock)
        self._stepper = Stepper(self._table, cost, switch, clock, synthetic)
        self._compiler = None if synthetic else compiler  # choices that follow drafts would leave any grammar
        self._openings, self._masks = Openings(), MaskThread()
        self._clock = clock
        self.step_seconds = telemetry.meter.create_histogram(
            "paceline.verify.step", "s", "Time of steps.", explicit_bucket_boundaries_advisory=STEP_BOUNDS
        )
        self._news = False
        self.draining = False
        """Whether it refuses new sessions because it is about to stop."""

    # -- what gateways say ---------------------------------------------------------------------------------------------

    def command(self, command: DecodeCommand, gateway: GatewayLink) -> None:
        """Carries out a gateway's command; a refused one answers with a rejection event."""
        with self.changed:
            self._carry_out(command, gateway)
            self._wake()

    def _carry_out(self, command: DecodeCommand, gateway: GatewayLink) -> None:
        if self._openings.postpone(command):
            return
        match command:
            case OpenSession():
                self._open(command, gateway)
            case AbortSession():
                session = self._table.get(command.session_id)
                if session and session.epoch == command.epoch:
                    self._end(session, FinishReason.ABORT)
                    gateway.send([session.event(self._clock(), None)])
            case AuthorizeDrafter():
                if session := self._table.get(command.session_id):
                    session.revoked.discard(command.drafter_id)
            case RevokeDrafter():
                self._drafting.revoke(command)
            case ChangeSession():
                self._change(command)

    def gateway_lost(self, gateway: GatewayLink) -> None:
        """A gateway's stream broke: its sessions end."""
        with self.changed:
            for session in self._table:
                if session.gateway is gateway:
                    self._end(session, FinishReason.ABORT)
            self._openings.abandon(gateway)
            self._wake()

    def drain(self) -> None:
        """Takes no new sessions; those that there are go on."""
        self.draining = True

    def _open(self, opening: OpenSession, gateway: GatewayLink) -> None:
        refusal, about = self._refusal(opening), _about(opening)
        if refusal:
            logger.debug("a session is refused", status=refusal.status.name, **about)
            event = SessionEvent(opening.session_id, opening.epoch, rejected=refusal)
            gateway.send([event])
            return
        self._supersede(opening)
        if opening.sampling.grammar is None or self._compiler is None:
            self._add(opening, gateway, None)
            return
        waiting = self._openings.add(opening, gateway)
        committed = opening.token_ids[opening.prompt_length :]
        with bound(**about):
            self._compiler.start(opening.sampling, committed, lambda outcome: self._compiled(waiting, outcome))

    def _supersede(self, opening: OpenSession) -> None:
        """A later epoch has come: whoever holds the session with an earlier one hears that it has gone on."""
        name, known = opening.session_id, self._table.get(opening.session_id)
        detail = f"session {name} was opened with epoch {opening.epoch}"
        if known is not None:
            self._end(known, FinishReason.ABORT)
        earlier: Session | Opening | None = known or self._openings.discard(name)
        if earlier is not None:
            rejection = Rejection(name, Status.ABORTED, detail, earlier.epoch)
            earlier.gateway.send([SessionEvent(name, earlier.epoch, rejected=rejection)])

    def _add(self, opening: OpenSession, gateway: GatewayLink, matcher: Matcher | None) -> None:
        session = Session(opening, gateway, self.model, self._clock(), matcher, self.name)
        trace(session, self.telemetry.tracer, self._clock)
        self._table.add(session)
        self._drafting.session_opened(opening.session_id)
        logger.debug("a session is opened", **_about(opening))

    def _compiled(self, waiting: Opening, outcome: Matcher | FieldError | PacelineError) -> None:
        """A grammar is ready, or is not one; its session may have been aborted meanwhile."""
        with self.changed:
            if not self._openings.remove(waiting):
                return
            opening = waiting.opening
            if isinstance(outcome, Matcher):
                self._add(opening, waiting.gateway, outcome)
                for command in waiting.later:
                    self._carry_out(command, waiting.gateway)
            else:
                status = Status.INVALID_ARGUMENT if isinstance(outcome, FieldError) else Status.INTERNAL
                rejection = Rejection(opening.session_id, status, str(outcome))
                waiting.gateway.send([SessionEvent(opening.session_id, opening.epoch, rejected=rejection)])
            self._wake()

    def _refusal(self, opening: OpenSession) -> Rejection | None:
        name = opening.session_id
        if self.draining:
            return Rejection(name, Status.UNAVAILABLE, "the verifier is draining")
        try:
            self._check(opening)
        except FieldError as error:
            return Rejection(name, Status.INVALID_ARGUMENT, str(error))
        except FailedPrecondition as error:
            return Rejection(name, Status.FAILED_PRECONDITION, str(error))
        known = self._table.get(name) or self._openings.get(name)
        if known and known.epoch >= opening.epoch:
            detail = f"session {name} is already open with epoch {known.epoch}"
            return Rejection(name, Status.ABORTED, detail)
        waiting = len(self._table.waiting) + len(self._openings)
        if waiting >= self.limits.max_waiting:
            return Rejection(name, Status.RESOURCE_EXHAUSTED, f"{waiting} sessions are waiting already")
        return None

    def _check(self, opening: OpenSession) -> None:
        length, context = len(opening.token_ids), self.model.max_context
        require(bool(opening.session_id), "session_id", opening.session_id, "a non-empty string")
        require(length >= 1, "token_ids", length, "at least one token")
        require(1 <= opening.prompt_length <= length, "prompt_length", opening.prompt_length, f"1 to {length}")
        require(length < context, "token_ids", f"{length} tokens", f"fewer than the context's {context}")
        largest = max(opening.token_ids)
        require(largest < self.model.vocabulary_size, "token_ids", largest, f"below {self.model.vocabulary_size}")
        biased = max((token_id for token_id, _ in opening.sampling.logit_bias), default=0)
        require(biased < self.model.vocabulary_size, "logit_bias", biased, f"ids below {self.model.vocabulary_size}")
        wanted = opening.sampling.max_tokens
        left = wanted is None or opening.prompt_length + wanted > length
        require(left, "max_tokens", wanted, f"more than the {length - opening.prompt_length} tokens already committed")
        if opening.sampling.grammar is not None:
            if self._compiler is None:
                raise FailedPrecondition("grammar: this verifier enforces none")
            self._compiler.check(opening.sampling.grammar)
        room = self._table.capacity
        require(length < room, "token_ids", f"{length} tokens", f"fewer than the KV cache's {room}")

    def _change(self, command: ChangeSession) -> None:
        session = self._table.get(command.session_id)
        if session is None:
            return
        if command.mode is not None:
            session.mode = command.mode
            for attachment in session.attachments.values():
                verdict = session.verdict(attachment, command.mode)
                attachment.link.send(Verdicts(verdicts=(verdict,)))
        if command.max_draft_nodes is not None:
            session.max_draft_nodes = min(command.max_draft_nodes, MAX_TAIL - 1)
        if command.priority is not None:
            self._table.change_priority(session, command.priority)

    def _end(self, session: Session, reason: FinishReason) -> None:
        """Ends a session from outside; its blocks are freed by the device's thread before its next step."""
        session.ended = reason
        self._table.forget(session)
        for attachment in session.attachments.values():
            verdict = session.verdict(attachment)
            attachment.link.send(Verdicts(verdicts=(verdict,)))

    # -- what drafters say ---------------------------------------------------------------------------------------------

    def update(self, update: DraftUpdate, link: DrafterLink, unreadable: Sequence[Rejection] = ()) -> bool:
        """Takes joins and nodes; a bad entry costs only that session's drafting by that drafter, and so does an
        ``unreadable`` one. Whether anything in it was news."""
        with self.changed:
            heard = self._drafting.update(update, link, unreadable)
            if heard.news or heard.rejected:
                self._wake()
        if heard.rejected:
            link.send(Verdicts(rejected=tuple(heard.rejected)))
        return heard.news

    def drafter_broken(self, link: DrafterLink, detail: str) -> None:
        """A drafter's stream is about to be ended for malformed framing."""
        with self.changed:
            self._drafting.broken(link, detail)
            self._wake()

    def drafter_lost(self, link: DrafterLink) -> None:
        """A drafter's stream broke."""
        with self.changed:
            self._drafting.lost(link)
            self._wake()

    # -- steps ---------------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Launches a step with what is ready, if anything is, and publishes what it decided."""
        plan = self.launch()
        if not plan:
            return False
        started = time.perf_counter()
        masks = self._masks.start(constrained_rows(plan))
        logits = self._runner.forward([entry.rows() for entry in plan])
        self.conclude(plan, logits, masks.result())
        self.step_seconds.record(time.perf_counter() - started)
        return True

    work = step
    """As the device's loop calls it."""

    def launch(self) -> Plan:
        """Plans a step with what is ready; empty: nothing is yet."""
        with self.changed:
            self._news = False
            self._drafting.expire(self._clock())
            return self._stepper.launch()

    def conclude(self, plan: Plan, logits: Sequence[Logits], masks: Mapping[str, Masks]) -> None:
        """The forward is over: decides, commits, publishes."""
        outcomes = self._stepper.decide(plan, logits, masks)
        with self.changed:
            outbox = self._stepper.commit(plan, outcomes)
            self._table.counts.steps += 1
        outbox.send()

    def wait_seconds(self) -> float | None:
        """How long the step loop may sleep unless something changes; None: until it does. Called with the lock."""
        if self._news:
            return 0.0
        now = self._clock()
        waits = [session.seconds_to_wait(now) for session in self._table.running.values()]
        if self._drafting.waiting:
            waits.append(EARLY_JOIN_SECONDS / 4)
        return min(waits, default=None)

    def _wake(self) -> None:
        self._news = True
        self.changed.notify()

    # -- what others may know ------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether any session is running or waiting, be it for its grammar, or blocks are still to be freed."""
        with self.changed:
            return self._table.busy or len(self._openings) > 0

    def figures(self) -> Figures:
        """All that it has counted, at one moment."""
        with self.changed:
            table, drafting = self._table, self._drafting
            return Figures(
                counts=table.counts.so_far(table),
                running=len(table.running),
                waiting=len(table.waiting) + len(self._openings),
                free_blocks=table.pool.free,
                blocks=table.pool.num_blocks,
                calibration_errors=drafting.calibration_errors(),
                quarantined=len(drafting.quarantine.kept_out),
                quarantines=drafting.quarantine.terms,
            )

    def load(self) -> tuple[int, int, int, int]:
        """Running and waiting sessions, free and total blocks."""
        with self.changed:
            pool = self._table.pool
            return len(self._table.running), len(self._table.waiting), pool.free, pool.num_blocks


def _about(opening: OpenSession) -> dict[str, object]:
    """What log lines of a session are about."""
    return {"session": opening.session_id, "epoch": opening.epoch, "trace_id": trace_id_of(opening.traceparent)}
