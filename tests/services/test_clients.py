"""Clients that know nothing of this code but the protos, or not even these; and the blocking one."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from paceline.client import BlockingGatewayClient
from paceline.cluster.local import LocalCluster
from paceline.embedded import MODEL_ID, pair_topology
from paceline.messages import Generate
from paceline.speculation.sampling import SamplingParameters

EXAMPLES = Path(__file__).parents[2] / "examples"
PROMPT = "def read_lines(path):\n"
EXPECTED = {
    "Generate": grpc.StatusCode.INVALID_ARGUMENT,  # of a request without a prompt
    "Resume": grpc.StatusCode.INVALID_ARGUMENT,
    "Abort": grpc.StatusCode.NOT_FOUND,
    "ListModels": grpc.StatusCode.OK,
    "ListWorkers": grpc.StatusCode.OK,
    "GetTimeline": grpc.StatusCode.NOT_FOUND,
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with asyncio.Runner() as runner:
        cluster = LocalCluster(pair_topology(draft=None))
        runner.run(cluster.__aenter__())
        yield cluster.gateway_address
        runner.run(cluster.stop())


def test_a_reflection_client_lists_and_calls_every_method(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "grpc.health.v1.Health" in database.get_services()
        service = DescriptorPool(database).FindServiceByName("paceline.v1.GatewayService")
        assert {method.name: answer(channel, method) for method in service.methods} == EXPECTED


def answer(channel: grpc.Channel, method: Any) -> grpc.StatusCode:
    """The status of a call with an empty request."""
    make = channel.unary_stream if method.server_streaming else channel.unary_unary
    call: Any = make(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    try:
        reply = call(GetMessageClass(method.input_type)())
        if method.server_streaming:
            list(reply)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def test_the_blocking_client(address: str) -> None:
    with BlockingGatewayClient(address) as client:
        sampling = SamplingParameters(max_tokens=2000, temperature=0.8, ignore_eos=True)
        chunks = []
        for chunk in client.generate(Generate(text=PROMPT, sampling=sampling, seed=7)):
            chunks.append(chunk)
            if len(chunks) == 3:
                break
        assert chunks[0].seed == 7
        assert chunks[1].token_ids
        assert [model.name for model in client.models()] == [MODEL_ID]
        assert {worker.role for worker in client.workers()} == {"verifier", "drafter"}
        with pytest.raises(grpc.RpcError):
            client.abort("nobody")


def test_the_examples_say_the_same(address: str) -> None:
    """In Python, and in Node from the same protos."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    subprocess.run(["npm", "install", "--silent"], check=True, cwd=EXAMPLES / "node", capture_output=True)
    commands = ([sys.executable, "generate.py"], ["node", "node/generate.js"])
    python, node = (
        subprocess.run(
            [*command, address, PROMPT], check=True, cwd=EXAMPLES, capture_output=True, text=True, env=os.environ
        ).stdout
        for command in commands
    )
    text = python.rpartition("\n")[0].rpartition("\n")[0]
    assert text
    assert node.startswith(text)
    assert node.strip().endswith(" tokens")
