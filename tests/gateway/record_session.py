"""``python -m tests.gateway.record_session``: records ``session.json``, what the page's tests replay.

A real session of the embedded target with its draft model and an n-gram drafter, each in a thread of its own, at the
pace of a larger target.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from drafter_service.drafters.model import ModelDrafter
from drafter_service.drafters.ngram import NgramDrafter
from gateway.text import TextCodec
from paceline.checkpoint import read_tokenizer
from paceline.embedded import DRAFT, TARGET
from paceline.emulation import Pace
from paceline.engine.runner import ModelRunner
from paceline.engine.warmup import warm_up
from paceline.loop import DeviceLoop, Worker
from paceline.speculation.policy import SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.in_process import InProcess, make_drafter
from verifier_service.record import Event, Step
from verifier_service.timeline import Timeline

SESSION = Path(__file__).with_name("session.json")
PROMPT = 'def read_lines(path, encoding="utf-8"):\n    """Return the lines of a file."""\n'
TEMPERATURE = 0.6
SEED = 7
TOKENS = 90
STEP_SECONDS, DRAFT_SECONDS = 0.045, 0.014


class Writer:
    """Collects one chunk per step: its tokens with who guessed them, and the events since the last one."""

    def __init__(self, codec: TextCodec) -> None:
        self.chunks: list[dict[str, object]] = []
        self._timeline = Timeline(time.monotonic())
        self._text = codec.detokenizer()
        self._events: list[dict[str, object]] = []

    def watch(self, event: Event) -> None:
        self._events.append(self._timeline.write(event).as_json())
        if isinstance(event, Step):
            said_by = [sorted(node.sources) for node in event.accepted]
            said_by += [[] for _ in range(len(event.token_ids) - len(said_by))]
            self.chunks.append({"tokens": self._tokens(event.token_ids, said_by), "events": self._events})
            self._events = []

    def _tokens(self, token_ids: Sequence[int], said_by: Sequence[Sequence[str]]) -> list[dict[str, object]]:
        return [
            {"id": token_id, "text": self._text.add([token_id]), "drafters": drafters}
            for token_id, drafters in zip(token_ids, said_by, strict=True)
        ]


def record() -> dict[str, object]:
    """Runs the session in real time."""
    torch.set_num_threads(1)
    runner, draft = (ModelRunner.load(path, cache_tokens=8192) for path in (TARGET, DRAFT))
    codec = TextCodec(read_tokenizer(TARGET))
    runner.pace, draft.pace = Pace(STEP_SECONDS), Pace(DRAFT_SECONDS)
    cost = warm_up(runner)
    size = runner.config.vocabulary_size
    drafters = [
        make_drafter(ModelDrafter(draft), size, "draft"),
        make_drafter(NgramDrafter(), size, "ngram"),
    ]
    world = InProcess(runner, drafters, cost=cost, clock=time.monotonic)
    workers: list[Worker] = [world.verifier, *drafters]
    loops = [DeviceLoop(str(index), worker, _fail) for index, worker in enumerate(workers)]
    for loop in loops:
        loop.start()
    sampling = SamplingParameters(max_tokens=TOKENS, temperature=TEMPERATURE, ignore_eos=True)
    writer = Writer(codec)
    with world.verifier.changed:
        world.open("s", codec.encode(PROMPT), sampling, SpeculationParameters(), SEED)
        session = world.verifier._table.get("s")
        assert session is not None
        session.record.watchers.append(writer.watch)
    while "s" not in world.recorder.finished:
        time.sleep(0.02)
    for loop in loops:
        loop.stop()
    return {"prompt": PROMPT, "prompt_tokens": len(codec.encode(PROMPT)), "chunks": writer.chunks}


def _fail(error: BaseException) -> None:
    threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, None)))


if __name__ == "__main__":
    SESSION.write_text(json.dumps(record(), separators=(",", ":"), ensure_ascii=False) + "\n")
