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
from drafter_service.service import Drafter
from gateway.http.speculation import speculation_body
from gateway.text import TextCodec
from paceline.checkpoint import read_tokenizer
from paceline.embedded import DRAFT, TARGET
from paceline.emulation import Pace
from paceline.engine.runner import ModelRunner
from paceline.engine.warmup import warm_up
from paceline.loop import DeviceLoop, Worker
from paceline.messages import Chunk, SessionEvent
from paceline.speculation.policy import SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.in_process import InProcess, make_drafter

SESSION = Path(__file__).with_name("session.json")
PROMPT = 'def read_lines(path, encoding="utf-8"):\n    """Return the lines of a file."""\n'
TEMPERATURE = 0.6
SEED = 7
TOKENS = 90
STEP_SECONDS, DRAFT_SECONDS = 0.045, 0.014


class Writer:
    """Collects one chunk per step, as a gateway sends them."""

    def __init__(self, codec: TextCodec) -> None:
        self.chunks: list[dict[str, object]] = []
        self._text = codec.detokenizer()

    def send(self, events: Sequence[SessionEvent]) -> None:
        for event in events:
            if event.committed is None:
                continue
            pieces = self._text.add(event.committed.token_ids)
            chunk = Chunk(
                event.session_id,
                "".join(pieces),
                event.committed.token_ids,
                piece_lengths=tuple(map(len, pieces)),
                drafters=event.committed.drafters,
                events=event.events,
            )
            self.chunks.append(speculation_body(chunk))


def record() -> dict[str, object]:
    """Runs the session in real time."""
    torch.set_num_threads(1)
    runner, draft = (ModelRunner.load(path, cache_tokens=8192) for path in (TARGET, DRAFT))
    codec = TextCodec(read_tokenizer(TARGET))
    runner.pace, draft.pace = (Pace.parse(f"{seconds}s") for seconds in (STEP_SECONDS, DRAFT_SECONDS))
    cost = warm_up(runner)
    size = runner.config.vocabulary_size
    drafters: list[Drafter] = [
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
    send = world.recorder.send

    def listen(events: Sequence[SessionEvent]) -> None:
        writer.send(events)
        send(events)

    world.recorder.send = listen  # type: ignore[method-assign]
    world.open("s", codec.encode(PROMPT), sampling, SpeculationParameters(events=True), SEED)
    while "s" not in world.recorder.finished:
        time.sleep(0.02)
    for loop in loops:
        loop.stop()
    return {"prompt": PROMPT, "prompt_tokens": len(codec.encode(PROMPT)), "chunks": writer.chunks}


def _fail(error: BaseException) -> None:
    threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, None)))


if __name__ == "__main__":
    SESSION.write_text(json.dumps(record(), separators=(",", ":"), ensure_ascii=False) + "\n")
