"""The embedded pair as real processes over loopback: the issue's promises, as a user would see them."""

from __future__ import annotations

import asyncio
import functools
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from paceline import rpc, wire
from paceline.bench.grammar import GrammarBench, measure, mismatches
from paceline.bench.prompts import CODE_PROMPTS
from paceline.bench.report import Report
from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.embedded import TARGET, pair_topology
from paceline.messages import ChatMessage, Chunk, FinishReason, Generate
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.compare import assert_same_text

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPTS = [
    *CODE_PROMPTS,
    *(f"def {name}(self, value):\n" for name in "abcde"),
    *(f"import {m}\n" for m in ("os", "re", "json", "io", "ast")),
]
TOKENS = 128
ALLOWED_NEAR_TIES = 1 / 5000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[LocalCluster]:
    async with LocalCluster(pair_topology()) as cluster:
        yield cluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cluster: LocalCluster) -> AsyncIterator[GatewayClient]:
    async with GatewayClient(cluster.gateway_address) as client:
        yield client


def request(prompt: str, sampling: SamplingParameters, mode: Mode, drafters: tuple[str, ...] | None = None) -> Generate:
    return Generate(text=prompt, sampling=sampling, speculation=SpeculationParameters(mode, drafters=drafters), seed=11)


async def collect(client: GatewayClient, asked: Generate) -> list[Chunk]:
    return [chunk async for chunk in client.generate(asked)]


def tokens_of(chunks: Sequence[Chunk]) -> list[int]:
    return [token_id for chunk in chunks for token_id in chunk.token_ids]


async def texts(client: GatewayClient, requests: Sequence[Generate]) -> list[list[int]]:
    """The tokens of all requests, eight of them running at a time."""
    places = asyncio.Semaphore(8)

    async def one(asked: Generate) -> list[int]:
        async with places:
            return tokens_of(await collect(client, asked))

    return list(await asyncio.gather(*(one(asked) for asked in requests)))


def reference_texts(prompts: Sequence[str]) -> list[list[int]]:
    """Greedy continuations by transformers, alone in the batch."""
    tokenizer = AutoTokenizer.from_pretrained(TARGET)
    model: Any = AutoModelForCausalLM.from_pretrained(TARGET, dtype=torch.float32)
    found = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        output = model.generate(ids, do_sample=False, max_new_tokens=TOKENS, eos_token_id=None, pad_token_id=0)
        found.append(output[0, ids.shape[1] :].tolist())
    return found


async def test_greedy_equals_transformers_in_all_modes(client: GatewayClient) -> None:
    sampling = SamplingParameters(max_tokens=TOKENS, temperature=0, ignore_eos=True)
    asked = [request(prompt, sampling, mode) for mode in Mode for prompt in PROMPTS]
    found = await texts(client, asked)
    expected = await asyncio.to_thread(reference_texts, PROMPTS)
    tokenizer = AutoTokenizer.from_pretrained(TARGET)
    differing = 0
    for index, text in enumerate(found):
        prompt = tokenizer(PROMPTS[index % len(PROMPTS)]).input_ids
        differing += not assert_same_text(TARGET, prompt, text, expected[index % len(PROMPTS)], sampling)
    assert differing <= max(1, len(found) * TOKENS * ALLOWED_NEAR_TIES)


async def test_seeded_text_is_the_same_in_all_modes_with_any_drafters(client: GatewayClient) -> None:
    sampling = SamplingParameters(max_tokens=64, temperature=0.8, ignore_eos=True)
    crews: list[tuple[str, ...] | None] = [None, (), ("draft",), ("ngram",)]
    tokenizer = AutoTokenizer.from_pretrained(TARGET)
    for prompt in PROMPTS[:4]:
        first, *rest = await texts(client, [request(prompt, sampling, mode, crew) for mode in Mode for crew in crews])
        assert len(set(first)) > 5
        ids = tokenizer(prompt).input_ids
        assert sum(not assert_same_text(TARGET, ids, text, first, sampling, seed=11) for text in rest) <= 1


async def test_a_prediction_is_drafted_from(client: GatewayClient) -> None:
    sampling = SamplingParameters(max_tokens=64, temperature=0.8, ignore_eos=True)
    asked = request(PROMPTS[1], sampling, Mode.LOCKSTEP, ("ngram",))
    alone = await collect(client, asked)
    guess = replace(asked.speculation, prediction="".join(chunk.text for chunk in alone))
    again = await collect(client, replace(asked, speculation=guess))
    assert tokens_of(again) == tokens_of(alone)
    taken = [chunks[-1].completion.overlap.accepted_nodes for chunks in (alone, again) if chunks[-1].completion]
    assert taken[1] > max(30, 1.5 * taken[0])


async def test_answer_is_whole(client: GatewayClient) -> None:
    sampling = SamplingParameters(max_tokens=48, temperature=0.8, ignore_eos=True)
    chunks = await collect(client, request(PROMPTS[0], sampling, Mode.LOCKSTEP, ("draft", "ngram")))
    done = chunks[-1].completion
    assert done is not None
    assert (done.usage.completion_tokens, done.finish_reason.value, chunks[0].seed) == (48, "length", 11)
    assert done.overlap.accepted_nodes + done.overlap.steps == 48
    assert {d.drafter_id for d in done.overlap.drafters} == {"draft", "ngram"}
    assert sum(d.verified for d in done.overlap.drafters) > 0
    assert all((d.busy_seconds > 0) is (d.proposed > 0) for d in done.overlap.drafters)
    assert 0 < done.tpot_seconds < done.ttft_seconds * 48
    tokenizer = AutoTokenizer.from_pretrained(TARGET)
    assert "".join(chunk.text for chunk in chunks) == tokenizer.decode(tokens_of(chunks), skip_special_tokens=True)
    positions = [chunk.position for chunk in chunks if chunk.token_ids]
    lengths = [len(chunk.token_ids) for chunk in chunks if chunk.token_ids]
    assert positions == [sum(lengths[:i]) for i in range(len(lengths))]


async def test_stop_strings_end_the_text_alike_in_every_mode(client: GatewayClient) -> None:
    """Across the borders of tokens, and usage counts up to the token that completes one."""
    sampling = SamplingParameters(max_tokens=96, temperature=0.8, ignore_eos=True, logprobs=1)
    whole = await collect(client, request(PROMPTS[1], sampling, Mode.OFF))
    text = "".join(chunk.text for chunk in whole)
    stop = text[40:47]
    seen = set()
    for mode in Mode:
        chunks = await collect(client, replace(request(PROMPTS[1], sampling, mode), stop=("never here", stop)))
        done = chunks[-1].completion
        assert done is not None
        assert (done.finish_reason, done.stop_reason) == (FinishReason.STOP, stop)
        assert "".join(chunk.text for chunk in chunks) == text[: text.index(stop)]
        assert tokens_of(chunks) == tokens_of(whole)[: done.usage.completion_tokens]
        assert all(len(chunk.logprobs) == len(chunk.token_ids) for chunk in chunks)
        assert all("".join(chunk.pieces) == chunk.text for chunk in chunks)
        seen.add((done.usage.completion_tokens, tuple(tokens_of(chunks))))
    assert len(seen) == 1


async def test_an_aborted_session_ends_with_its_figures(client: GatewayClient) -> None:
    sampling = SamplingParameters(max_tokens=3000, ignore_eos=True)
    chunks = []
    async for chunk in client.generate(request("def ", sampling, Mode.OVERLAPPED)):
        chunks.append(chunk)
        if chunk.token_ids and len(chunks) == 3:
            await client.abort(chunk.session_id)
    done = chunks[-1].completion
    assert done is not None
    assert done.finish_reason is FinishReason.ABORT
    assert done.usage.completion_tokens == len(tokens_of(chunks)) <= done.overlap.steps + done.overlap.accepted_nodes


async def test_a_seed_is_drawn_when_none_is_given(client: GatewayClient) -> None:
    sampling = SamplingParameters(max_tokens=24, temperature=1.0, ignore_eos=True)
    first = await collect(client, Generate(text="def ", sampling=sampling))
    again = await collect(client, Generate(text="def ", sampling=sampling, seed=first[0].seed))
    other = await collect(client, Generate(text="def ", sampling=sampling))
    assert tokens_of(first) == tokens_of(again) != tokens_of(other)


async def test_chat_and_token_prompts(client: GatewayClient) -> None:
    sampling = SamplingParameters(max_tokens=4)
    chat = await collect(client, Generate(chat=(ChatMessage("user", "hello"),), sampling=sampling))
    tokens = await collect(client, Generate(token_ids=(5, 6, 7), sampling=sampling))
    assert chat[-1].completion is not None
    assert chat[-1].completion.usage.prompt_tokens > 3
    assert tokens[-1].completion is not None
    assert tokens[-1].completion.usage.prompt_tokens == 3


BAD_REQUESTS = {
    "empty prompt": (wire.gateway.GenerateRequest(text=""), "prompt = ''"),
    "no prompt": (wire.gateway.GenerateRequest(), "prompt = None"),
    "max_tokens": (
        wire.gateway.GenerateRequest(text="x", sampling={"max_tokens": 0}),
        "max_tokens = 0: expected 1 to",
    ),
    "temperature": (wire.gateway.GenerateRequest(text="x", sampling={"temperature": -1}), "temperature = -1.0"),
    "mode": (wire.gateway.GenerateRequest(text="x", speculation={"mode": 9}), "mode = 9: expected one of"),
    "context": (
        wire.gateway.GenerateRequest(tokens={"token_ids": [1] * 5000}),
        "'5000 tokens': expected fewer than 4096",
    ),
    "token": (wire.gateway.GenerateRequest(tokens={"token_ids": [4096]}), "token_ids = 4096: expected ids below 4096"),
    "drafter": (wire.gateway.GenerateRequest(text="x", speculation={"drafters": ["oracle"]}), "drafters = 'oracle'"),
    "penalty": (wire.gateway.GenerateRequest(text="x", sampling={"presence_penalty": 3}), "presence_penalty = 3.0"),
    "grammar": (wire.gateway.GenerateRequest(text="x", sampling={"grammar": {"regex": "(a"}}), "regex = '(a'"),
    "bias": (
        wire.gateway.GenerateRequest(text="x", sampling={"logit_bias": {4096: 1.0}}),
        "logit_bias = 4096: expected ids below 4096",
    ),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
async def test_bad_requests_are_answered_by_name(cluster: LocalCluster, name: str) -> None:
    bad, says = BAD_REQUESTS[name]
    async with rpc.channel(cluster.gateway_address) as connection:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await wire.gateway_stub(connection).Generate(bad).read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert says in (caught.value.details() or "")


async def test_what_is_held_to_a_schema_is_valid_and_the_same_text_with_speculation(client: GatewayClient) -> None:
    """A small part of ``paceline bench grammar``."""
    bench, report = GrammarBench(schemas=6, seeds=2, max_tokens=160), Report("grammar", {})
    await measure(client, report, bench)
    assert len({row["difficulty"] for row in report.rows}) == 6
    finished = [row for row in report.rows if row["finished"]]
    assert len(finished) >= 0.9 * len(report.rows)
    assert [row["problem"] for row in finished] == [""] * len(finished)
    assert mismatches(report) == 0
    assert sum(row["drafters"]["grammar"][1] for row in report.select(way="forced")) > 0


async def test_unknown_model_and_session(client: GatewayClient) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await collect(client, Generate(text="x", model="gpt-nine"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "'gpt-nine': expected one of paceline-python-8m" in (caught.value.details() or "")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.abort("nobody")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_listings(client: GatewayClient) -> None:
    (model,) = await client.models()
    assert (model.name, model.vocabulary_size, model.max_context) == ("paceline-python-8m", 4096, 4096)
    rows = {(row.role, row.kind): row for row in await client.workers()}
    assert set(rows) == {("verifier", "target"), ("drafter", "model"), ("drafter", "ngram")}
    assert all(row.healthy for row in rows.values())


async def test_malformed_columns_do_not_end_the_stream(cluster: LocalCluster) -> None:
    bad = wire.verifier.DraftNodes(session_id="nobody", first_node_id=1, token_ids_u32=b"\0")
    early = wire.verifier.Join(session_id="nobody", epoch=1, drafter_id="d", have_length=1)
    async with rpc.channel(cluster.worker("verifier").address) as connection:
        stream = wire.verifier_stub(connection).Speculate()
        await stream.write(wire.verifier.DraftUpdate(nodes=[bad]))
        first = await stream.read()
        await stream.write(wire.verifier.DraftUpdate(joins=[early]))
        second = await stream.read()
        stream.cancel()
    assert "token_ids = '1 bytes'" in first.rejected[0].detail
    assert "no session nobody within" in second.rejected[0].detail


async def test_malformed_framing_ends_only_its_own_stream(cluster: LocalCluster, client: GatewayClient) -> None:
    flood = wire.verifier.DraftUpdate(leaves=[wire.verifier.Leave(session_id="x")] * 1025)
    async with rpc.channel(cluster.worker("verifier").address) as connection:
        stream = wire.verifier_stub(connection).Speculate()
        await stream.write(flood)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "leaves = 1025: expected at most 1024" in (caught.value.details() or "")
    asked = request("def ", SamplingParameters(max_tokens=8, ignore_eos=True), Mode.OVERLAPPED)
    assert len(tokens_of(await collect(client, asked))) == 8


async def test_a_drafter_proposes_to_anybody(cluster: LocalCluster) -> None:
    """Without a verifier: one round for given tokens, or a status that says why not."""
    asked = wire.drafter.ProposeRequest(token_ids_u32=wire.pack_tokens([5, 6, 7, 5, 6]), noise_key=3)
    for name in ("draft", "ngram"):
        async with rpc.channel(cluster.worker(name).address) as connection:
            updates = [update async for update in wire.drafter_stub(connection).Propose(asked)]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await wire.drafter_stub(connection).Propose(wire.drafter.ProposeRequest()).read()
        assert updates[-1].rounds[0].root_position == 4
        assert sum(len(nodes.token_ids_u32) for update in updates for nodes in update.nodes) > 0
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "token_ids = 0: expected at least one token" in (caught.value.details() or "")


async def test_a_client_that_leaves_frees_everything(cluster: LocalCluster, client: GatewayClient) -> None:
    sampling = SamplingParameters(max_tokens=2000, ignore_eos=True)
    async for chunk in client.generate(request("def ", sampling, Mode.OVERLAPPED)):
        if chunk.token_ids:
            break
    async with rpc.channel(cluster.worker("verifier").address) as connection:
        stub = wire.verifier_stub(connection)
        for _ in range(100):
            load = (await stub.Describe(wire.verifier.DescribeVerifierRequest())).load
            if load.running_sessions == 0 and load.free_blocks == load.total_blocks:
                break
            await asyncio.sleep(0.02)
    assert (load.running_sessions, load.free_blocks) == (0, load.total_blocks)


async def test_command_line(cluster: LocalCluster) -> None:
    command = [sys.executable, "-m", "paceline.cli.main", "generate", "--gateway", cluster.gateway_address]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)

    good = await asyncio.to_thread(run, "def ", "--max-tokens", "12", "--seed", "3", "--mode", "lockstep", "--json")
    answer = json.loads(good.stdout)
    assert set(answer) == {
        "text", "token_ids", "finish_reason", "seed", "usage", "exactness", "timing", "speculation",
    }  # fmt: skip
    assert (answer["usage"]["completion_tokens"], answer["seed"]) == (12, 3)
    assert set(answer["timing"]) == {"ttft_seconds", "tpot_seconds", "tokens_per_second"}
    assert answer["speculation"]["mode"] == "lockstep"
    assert set(answer["speculation"]["drafters"]) == {"draft", "ngram"}
    assert set(answer["speculation"]["drafters"]["draft"]) == {
        "proposed", "verified", "accepted", "uniquely_accepted", "too_late", "busy_seconds",
    }  # fmt: skip
    for arguments, says in (
        (("def ", "--temperature", "-1"), "temperature = -1.0: expected"),
        (("def ", "--max-tokens", "0"), "max_tokens = 0: expected"),
        (("", "--max-tokens", "4"), "prompt = ''"),
        (("def ", "--mode", "sideways"), "sideways"),
        (("def ", "--model", "gpt-nine"), "gpt-nine"),
    ):
        bad = await asyncio.to_thread(run, *arguments)
        assert (bad.returncode, says in bad.stderr, "Traceback" in bad.stderr) == (2, True, False), bad.stderr


async def test_timelines_on_the_command_line(cluster: LocalCluster, tmp_path: Path) -> None:
    """One mode above the other in a page; the same answer again, for Perfetto, by its trace."""
    page, trace, there = tmp_path / "both.html", tmp_path / "one.json", ("--gateway", cluster.gateway_address)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "paceline.cli.main", *map(str, arguments), *there]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    asked = ("generate", "def f(x):", "--max-tokens", 12, "--json", "--timeline", page, "--against", "lockstep")
    good = await asyncio.to_thread(run, *asked)
    assert good.stderr.endswith(f"timeline: {page}\n"), good.stderr
    found = re.search(r'id="timeline">(.+?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    answers = json.loads(found[1])["answers"]
    assert [answer["mode"] for answer in answers] == ["lockstep", "overlapped"]
    said = [
        [token_id for event in answer["events"] if event["type"] == "step" for token_id in event["token_ids"]]
        for answer in answers
    ]
    assert said == [json.loads(good.stdout)["token_ids"]] * 2
    assert answers[0]["seed"] == answers[1]["seed"]
    again = await asyncio.to_thread(run, "timeline", json.loads(good.stdout)["trace_id"], "-o", trace)
    assert again.returncode == 0, again.stderr
    steps = [event for event in json.loads(trace.read_text())["traceEvents"] if event["name"].startswith("step of")]
    assert [step["args"]["says"] for step in steps]
    for arguments, says in (
        (("generate", "def ", "--timeline", "x.txt"), "timeline = 'x.txt': expected a file that ends in .html"),
        (("generate", "def ", "--against", "lockstep"), "against = 'lockstep': expected nothing without"),
        (("generate", "def ", "--timeline", page, "--against", "overlapped"), "expected another mode"),
        (("timeline", "1", "-o", tmp_path / "x.svg"), "output = "),
        (("timeline", "1", "-o", trace), "no answer of this trace is known here"),
    ):
        bad = await asyncio.to_thread(run, *arguments)
        assert (bad.returncode, says in bad.stderr, "Traceback" in bad.stderr) == (2, True, False), bad.stderr


async def test_killing_all_drafters_changes_only_the_speed() -> None:
    sampling = SamplingParameters(max_tokens=400, temperature=0.8, ignore_eos=True)
    asked = request(PROMPTS[0], sampling, Mode.OVERLAPPED)
    async with LocalCluster(pair_topology()) as cluster, GatewayClient(cluster.gateway_address) as client:
        calm = tokens_of(await collect(client, asked))
        disturbed: list[int] = []
        async for chunk in client.generate(asked):
            disturbed += chunk.token_ids
            if len(disturbed) > 60 and cluster.worker("draft").process.poll() is None:
                for name in ("draft", "ngram"):
                    cluster.worker(name).process.send_signal(signal.SIGKILL)
                    cluster.worker(name).process.wait()
        alone = tokens_of(await collect(client, asked))
        processes = [worker.process for worker in cluster.workers]
    ids = AutoTokenizer.from_pretrained(TARGET)(PROMPTS[0]).input_ids
    assert len(calm) == 400
    assert_same_text(TARGET, ids, disturbed, calm, sampling, seed=11)
    assert_same_text(TARGET, ids, alone, calm, sampling, seed=11)
    assert all(process.poll() is not None for process in processes)
    ended = {process.args[2]: process.returncode for process in processes}  # type: ignore[index]
    assert (ended["gateway"], ended["verifier_service"]) == (0, 0)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc: run it on Linux")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_no_process_is_left_behind(number: signal.Signals) -> None:
    """Ctrl-C, or even SIGKILL, in the middle of an answer."""
    command = [sys.executable, "-m", "paceline.cli.main", "generate", "def ", "--max-tokens", "4000"]
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a test run in the background ignores it
    parent = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, preexec_fn=heed)
    assert parent.stdout is not None
    await parent.stdout.read(1)
    children = children_of(parent.pid)
    assert len(children) == 4
    parent.send_signal(number)
    await parent.wait()
    for _ in range(250):
        if not any(is_alive(child) for child in children):
            break
        await asyncio.sleep(0.02)
    assert [child for child in children if is_alive(child)] == []
    if number is signal.SIGINT:
        assert parent.returncode == 130


def process_stat(pid: str) -> tuple[str, int] | None:
    """State and parent of a process, from /proc; None when it is gone."""
    try:
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return state, int(parent)


def children_of(pid: int) -> list[int]:
    names = [path.name for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [int(name) for name in names if (stat := process_stat(name)) and stat[1] == pid]


def is_alive(pid: int) -> bool:
    stat = process_stat(str(pid))
    return stat is not None and stat[0] != "Z"
