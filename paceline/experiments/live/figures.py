"""From answers to the figures of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paceline.errors import Unavailable
from paceline.experiments.live.asking import Answer
from paceline.experiments.results import Instrument, Latency, Row, System
from paceline.experiments.simulation.workload import latency
from paceline.experiments.specification import Experiment, SloSpec
from paceline.experiments.sweeps import Value


@dataclass(frozen=True)
class Figures:
    """``seconds`` are from the first request to the last token; speeds are over those, whatever failed."""

    seconds: float
    tokens: int
    tokens_per_second: float
    goodput: float
    ttft_ms: Latency
    tpot_ms: Latency
    tokens_per_step: float
    within_slo: float
    """Share of the requests; those that failed are not."""
    requests: int
    failed: int
    steps: int
    """Of decoding, of all sessions, after their first tokens."""
    wait_ms_per_step: float
    """How long a root stood ready before its step was launched."""
    step_ms: float

    @classmethod
    def of(cls, answers: Sequence[Answer], slo: SloSpec) -> Figures:
        """Raises ``Unavailable`` if nothing was answered."""
        whole = [answer for answer in answers if not answer.failure]
        if not whole:
            said = answers[0].failure if answers else "there were none"
            raise Unavailable(f"none of {len(answers)} requests was answered: {said}")
        seconds = max(answer.last for answer in answers) - min(answer.due for answer in answers)
        tokens = sum(answer.tokens for answer in answers)
        good = [answer for answer in answers if answer.within(slo)]
        overlaps = [answer.completion.overlap for answer in whole if answer.completion]
        steps = sum(overlap.steps for overlap in overlaps)
        decoding = sum(max(0, overlap.steps - 1) for overlap in overlaps)  # the first token comes with the prompt
        later = sum(answer.tokens - 1 for answer in whole)
        return cls(
            seconds=seconds,
            tokens=tokens,
            tokens_per_second=tokens / seconds,
            goodput=sum(answer.tokens for answer in good) / seconds,
            ttft_ms=latency([answer.ttft_ms for answer in whole]),
            tpot_ms=latency([answer.tpot_ms for answer in whole]),
            tokens_per_step=later / decoding if decoding else 1.0,
            within_slo=len(good) / len(answers),
            requests=len(answers),
            failed=len(answers) - len(whole),
            steps=decoding,
            wait_ms_per_step=1e3 * sum(o.verifier_wait_seconds for o in overlaps) / steps if steps else 0.0,
            step_ms=1e3 * sum(o.step_seconds for o in overlaps) / steps if steps else 0.0,
        )

    def row(
        self,
        instrument: Instrument,
        experiment: Experiment,
        system: System,
        settings: Mapping[str, Value],
        dollars_per_hour: Mapping[str, float],
        notes: Mapping[str, Value],
    ) -> Row:
        """With ``notes`` beside our own."""
        return Row(
            experiment=experiment.name,
            system=system,
            instrument=instrument,
            settings=dict(settings),
            tokens_per_second=self.tokens_per_second,
            goodput=self.goodput,
            ttft_ms=self.ttft_ms,
            tpot_ms=self.tpot_ms,
            tokens_per_step=self.tokens_per_step,
            requests=self.requests,
            dollars_per_hour=dict(dollars_per_hour),
            notes={**self._notes(), **notes},
        )

    def _notes(self) -> dict[str, Value]:
        """What a row has no fields for."""
        notes: dict[str, Value] = {
            "within_slo": round(self.within_slo, 4),
            "seconds": round(self.seconds, 3),
            "step_ms": round(self.step_ms, 3),
            "wait_ms_per_step": round(self.wait_ms_per_step, 3),
        }
        return notes | ({"failed": self.failed} if self.failed else {})
