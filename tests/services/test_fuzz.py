"""Whatever is sent to a service, nobody else notices: random and mutated messages on every call of the three services.

``PACELINE_FUZZ`` sets how many messages each stream gets; the calls that take a name or nothing get a tenth.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import resource
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from grpc import aio

from drafter_service.config import DrafterConfig
from paceline import wire
from paceline.client import GatewayClient
from paceline.messages import (
    AbortSession,
    Attach,
    AuthorizeDrafter,
    ChangeSession,
    ChatMessage,
    DecodeCommand,
    DraftNodes,
    DraftUpdate,
    Generate,
    Join,
    Leave,
    OpenSession,
    Propose,
    RevokeDrafter,
    RoundComplete,
    Status,
    drafter_key,
)
from paceline.speculation.grammar import Grammar, GrammarKind
from paceline.speculation.merge import NodeColumns
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.prefix import prefix_hash
from paceline.speculation.sampling import SamplingParameters
from tests.checkpoints import write_checkpoint
from tests.in_process import SECRET
from tests.local_fleet import LocalDrafter, LocalGateway, LocalVerifier, local_drafter, local_gateway, local_verifier
from tests.services.mutations import Mutations
from tests.vocabulary import END, SIZE, json_tokenizer

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(3600)]

MESSAGES = int(os.environ.get("PACELINE_FUZZ", "2000"))
PER_STREAM, AT_A_TIME = 50, 16
PATIENCE_SECONDS = 20.0
"""A good request is answered by then."""
MORE_BYTES = 48 << 20
"""By which the process may have grown between half of the messages and all."""
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
PROMPT = (5, 6, 7, 5, 6, 7, 5, 6)
SAMPLING = SamplingParameters(max_tokens=6, temperature=0.8, logit_bias=((9, 1.0),), stop_token_ids=(11,), logprobs=2)
HELD = SamplingParameters(max_tokens=6, grammar=Grammar(GrammarKind.JSON_SCHEMA, '{"type": "object"}'))
SPECULATION = SpeculationParameters(events=True, cache_scope="mine")
GOOD = Generate(token_ids=PROMPT, sampling=SamplingParameters(max_tokens=40, temperature=0.8, ignore_eos=True), seed=3)
CONTEXT = 96
NAMES = ("a", "b", "c")
OURS = {
    grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED,
    grpc.StatusCode.DATA_LOSS,
}  # fmt: skip
UNSENT = "Internal error from Core"
"""Our own side's word for a stream that was ended while it was still writing."""
NAMED = re.compile(r"[\w.\[\] ]+ = .*: expected .", re.DOTALL)
TELLING = re.compile(r"Traceback|<class|object at 0x|\.py\b|Error\b|Exception\b")


@dataclass(frozen=True)
class Fleet:
    verifier: LocalVerifier
    drafters: Sequence[LocalDrafter]
    gateway: LocalGateway
    client: GatewayClient
    text: list[int]
    """Of ``GOOD``, before anything else was sent."""

    def address(self, service: str) -> str:
        lookup, model = self.drafters
        places = {"Verifier": self.verifier.address, "Drafter": lookup.address, "Model": model.address}
        return places.get(service, self.gateway.address)

    async def good(self, asked: Generate = GOOD) -> list[int]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return [token_id async for chunk in self.client.generate(asked) for token_id in chunk.token_ids]

    @property
    def idle(self) -> bool:
        running, waiting, free, total = self.verifier.verifier.load()
        attached = sum(place.drafter.attached_sessions for place in self.drafters)
        busy = self.verifier.verifier.busy or self.gateway.gateway._running
        return not (running or waiting or attached or busy) and free == total

    async def settled(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.idle:  # noqa: ASYNC110 - of other threads
                await asyncio.sleep(0.01)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    folder = tmp_path_factory.mktemp("target")
    path = write_checkpoint(folder, vocab_size=SIZE, eos_token_id=END, max_position_embeddings=CONTEXT)
    (path / "tokenizer.json").write_text(json_tokenizer())
    (path / "chat_template.jinja").write_text(TEMPLATE)
    async with local_verifier(path) as verifier:
        to = (verifier.address,)
        configs = (
            DrafterConfig(kind="ngram", verifiers=to),
            DrafterConfig(kind="model", verifiers=to, model=str(path), cache_tokens=8192),
        )
        async with (
            local_drafter(configs[0]) as lookup,
            local_drafter(configs[1]) as model,
            local_gateway([verifier], [lookup, model]) as gateway,
            GatewayClient(gateway.address) as client,
        ):
            fleet = Fleet(verifier, (lookup, model), gateway, client, [])
            both = SpeculationParameters(Mode.LOCKSTEP, drafters=("ngram", "model"))  # who dial the verifier now
            fleet.text.extend(await fleet.good(replace(GOOD, speculation=both)))
            assert len(fleet.text) == 40
            yield fleet


Send = Callable[[int], Awaitable[None]]
"""Sends the messages of one batch."""


async def endure(fleet: Fleet, caplog: pytest.LogCaptureFixture, send: Send, batches: int) -> None:
    """Sends all batches while a good request is running, one after another; nothing that ought not to be is left."""
    await send(-1)  # streams between services come up with the first
    await fleet.settled()
    tasks, halves = _running_tasks(), (range(batches // 2), range(batches // 2, batches))
    grown: list[int] = []
    async with _neighbour(fleet):
        for half in halves:
            for batch in half:
                await send(batch)
            grown.append(_resident_bytes())
    assert await fleet.good() == fleet.text
    await fleet.settled()
    await _ended(tasks)
    assert grown[1] - grown[0] < MORE_BYTES
    told = [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]
    assert not told, told[0].getMessage()


@contextlib.asynccontextmanager
async def _neighbour(fleet: Fleet) -> AsyncIterator[None]:
    over = asyncio.Event()

    async def ask_on() -> None:
        while not over.is_set():
            assert await fleet.good() == fleet.text
            await asyncio.sleep(0.1)

    asking = asyncio.create_task(ask_on())
    try:
        yield
    finally:
        over.set()
        await asking


def _running_tasks() -> Counter[str]:
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    return Counter(getattr(coroutine, "__qualname__", "closing a generator") for coroutine in coroutines)


async def _ended(before: Counter[str]) -> None:
    """All tasks but those of before."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while _running_tasks() - before:  # noqa: ASYNC110 - of gRPC
                await asyncio.sleep(0.01)
    left = _running_tasks() - before
    assert not left


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def check(code: grpc.StatusCode, details: str) -> None:
    """What a client may hear."""
    assert code in OURS, (code, details)
    assert not TELLING.search(re.sub("'.*'", "", details, flags=re.DOTALL)), details
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        assert NAMED.match(details), details


async def answer(call: Any, seconds: float = PATIENCE_SECONDS) -> list[bytes]:
    """Reads a call to its end and checks how it ended; one that still goes on after so long is cancelled."""
    replies: list[bytes] = []
    try:
        async with asyncio.timeout(seconds):
            async for reply in call:
                replies.append(reply)  # noqa: PERF401 - what has come before it ends counts
    except TimeoutError:
        assert seconds < PATIENCE_SECONDS, "no answer"
        call.cancel()
    except aio.AioRpcError as error:
        if error.details() != UNSENT:
            check(error.code(), error.details() or "")
    return replies


# -- calls with one request --------------------------------------------------------------------------------------------


def requests() -> dict[str, list[Message]]:
    """Valid ones, by method."""
    attach = Attach("a", 1, "", PROMPT, len(PROMPT), SAMPLING, SPECULATION, 7, b"k" * 32, (9, 10), "target")
    asked = replace(GOOD, sampling=SAMPLING, speculation=SPECULATION)
    chat = (ChatMessage("user", "null"), ChatMessage("assistant", "yes"))
    texts = [replace(asked, token_ids=None, text="null false"), replace(asked, token_ids=None, chat=chat)]
    held = replace(asked, sampling=HELD, speculation=SpeculationParameters(prediction="{}"))
    propose = wire.to_propose(Propose(PROMPT, SAMPLING, SPECULATION, 7))
    return {
        "GatewayService/Generate": [wire.to_generate(one) for one in (asked, *texts, held)],
        "GatewayService/Resume": [wire.gateway.ResumeRequest(resume_token="AAAA.BBBB")],
        "GatewayService/Abort": [wire.gateway.AbortRequest(session_id="a")],
        "GatewayService/ListModels": [wire.gateway.ListModelsRequest()],
        "GatewayService/ListWorkers": [wire.gateway.ListWorkersRequest()],
        "VerifierService/Describe": [wire.verifier.DescribeVerifierRequest()],
        "VerifierService/GetTokenizer": [wire.verifier.GetTokenizerRequest(have_hash="x")],
        "DrafterService/Describe": [wire.drafter.DescribeDrafterRequest()],
        "DrafterService/Propose": [propose],
        "ModelService/Propose": [propose],
        "DrafterService/Attach": [wire.to_attach(attach)],
        "ModelService/Attach": [wire.to_attach(attach)],
    }


STREAMING = ("Generate", "Resume", "Propose", "Attach")


@pytest.mark.parametrize("method", requests())
async def test_calls(fleet: Fleet, caplog: pytest.LogCaptureFixture, method: str) -> None:
    service, _, name = method.partition("/")
    valid, mutations = requests()[method], Mutations(1, NAMES)
    for request in valid:
        if name == "Attach":
            request.verifier = fleet.verifier.address  # type: ignore[attr-defined]
    count = MESSAGES if name in STREAMING else MESSAGES // 10
    path = f"/paceline.v1.{service.replace('Model', 'Drafter')}/{name}"
    seconds = 0.03 if name == "Attach" else PATIENCE_SECONDS  # which goes on for as long as its session
    async with aio.insecure_channel(fleet.address(service.removesuffix("Service"))) as channel:
        call: Any = channel.unary_stream(path)

        async def send(batch: int) -> None:
            encoded = [mutations.encoded(mutations.random.choice(valid)) for _ in range(AT_A_TIME)]
            await asyncio.gather(*(answer(call(data), seconds) for data in encoded))

        await endure(fleet, caplog, send, -(-count // AT_A_TIME))


# -- streams -----------------------------------------------------------------------------------------------------------


def opening(session_id: str, sampling: SamplingParameters = SAMPLING, epoch: int = 1) -> OpenSession:
    return OpenSession(session_id, epoch, PROMPT, len(PROMPT), sampling, SPECULATION, 7, SECRET, model="target")


def commands() -> list[Message]:
    values: tuple[DecodeCommand, ...] = (
        *(opening(name, sampling) for name in NAMES for sampling in (SAMPLING, HELD)),
        AbortSession("a", 1),
        AuthorizeDrafter("a", "d"),
        RevokeDrafter("b", "d", "too slow"),
        ChangeSession("a", Mode.LOCKSTEP, 4, 1),
    )
    return [wire.to_decode_command(value) for value in values]


def updates() -> list[Message]:
    """Of a drafter named d; the first is a join to every session."""
    tokens, scores = np.array([5, 6, 7], np.uint32), np.array([-0.1, -0.2, -0.3], np.float32)
    parents, hashed = np.array([0, 1, 2], np.uint64), prefix_hash(PROMPT)
    joins = [Join(name, 1, "d", 5, drafter_key(SECRET, name, "d", 1), len(PROMPT), hashed) for name in NAMES]
    columns = [NodeColumns(first, len(PROMPT) - 1, tokens, parents, scores) for first in (1, 4)]
    nodes = [DraftNodes(name, 1, column, 0.1, 0.2) for name in NAMES for column in columns]
    return [
        wire.to_draft_update(update)
        for update in (
            DraftUpdate(joins=tuple(joins)),
            DraftUpdate(nodes=tuple(nodes)),
            DraftUpdate(nodes=(nodes[0],), rounds=(RoundComplete("a", 1, len(PROMPT) - 1),)),
            DraftUpdate(joins=(joins[1],), leaves=(Leave("b"),)),
        )
    ]


async def one_by_one(messages: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Not in one piece: what the messages are about goes on meanwhile."""
    for index, message in enumerate(messages):
        yield message
        if index % 5 == 0:
            await asyncio.sleep(0)


def check_rejections(rejections: Iterable[wire.verifier.SessionRejected]) -> None:
    for told in rejections:
        assert told.code != Status.INTERNAL.value, told.detail
        code = next(code for code in grpc.StatusCode if code.value[0] == told.code)
        check(code, told.detail)


async def test_decode(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    mutations, valid = Mutations(2, (*NAMES, "d")), commands()
    async with aio.insecure_channel(fleet.verifier.address) as channel:
        decode: Any = channel.stream_stream("/paceline.v1.VerifierService/Decode")

        async def send(batch: int) -> None:
            for reply in await answer(decode(one_by_one(mutations.stream(valid, PER_STREAM)))):
                events = wire.verifier.DecodeEvents.FromString(reply).events
                check_rejections(event.rejected for event in events if event.HasField("rejected"))

        await endure(fleet, caplog, send, -(-MESSAGES // PER_STREAM))


async def test_speculate(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    """Nor do the sessions that the drafts are for: their texts stay the target's own."""
    mutations, valid = Mutations(3, (*NAMES, "d")), updates()
    long = replace(GOOD.sampling, max_tokens=24)
    own: list[int] = []
    async with aio.insecure_channel(fleet.verifier.address) as channel:
        speculate: Any = channel.stream_stream("/paceline.v1.VerifierService/Speculate")
        decode: Any = channel.stream_stream(
            "/paceline.v1.VerifierService/Decode",
            request_serializer=wire.verifier.DecodeCommand.SerializeToString,
            response_deserializer=wire.verifier.DecodeEvents.FromString,
        )

        async def sessions() -> dict[str, list[int]]:
            texts: dict[str, list[int]] = {name: [] for name in NAMES}
            call, running = decode(), set(NAMES)
            for name in NAMES:
                await call.write(wire.to_decode_command(opening(name, long)))
            while running:
                for event in wire.from_decode_events(await call.read()):
                    texts[event.session_id].extend(event.committed.token_ids if event.committed else ())
                    running -= {event.session_id} if event.last else set()
            call.cancel()
            return texts

        async def drafts() -> None:
            encoded = [valid[0].SerializeToString(), *mutations.stream(valid, PER_STREAM - 1)]
            for reply in await answer(speculate(one_by_one(encoded))):
                check_rejections(wire.verifier.Verdicts.FromString(reply).rejected)

        async def send(batch: int) -> None:
            async with asyncio.timeout(PATIENCE_SECONDS):
                texts, _ = await asyncio.gather(sessions(), drafts())
            assert all(text == own for text in texts.values())

        own += (await sessions())["a"]
        assert len(own) == long.max_tokens
        await endure(fleet, caplog, send, -(-MESSAGES // PER_STREAM))


async def test_messages_that_are_too_large(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    """The message is not even read; what else the peer has is not touched."""

    async def send(batch: int) -> None:
        async with aio.insecure_channel(fleet.gateway.address) as channel:
            generate: Any = channel.unary_stream("/paceline.v1.GatewayService/Generate")
            await answer(generate(bytes(17 << 20)))

    await endure(fleet, caplog, send, 4)
