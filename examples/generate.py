"""Streams one text over gRPC: ``python examples/generate.py ADDRESS PROMPT``."""

from __future__ import annotations

import sys

from paceline.client import BlockingGatewayClient
from paceline.messages import Generate
from paceline.speculation.sampling import SamplingParameters


def main(address: str, prompt: str) -> None:
    """Prints the text as it comes, and how it came about."""
    sampling = SamplingParameters(max_tokens=64, temperature=0.8)
    with BlockingGatewayClient(address) as client:
        for chunk in client.generate(Generate(text=prompt, sampling=sampling, seed=7)):
            sys.stdout.write(chunk.text)
            if chunk.completion:
                done = chunk.completion
                sys.stdout.write(f"\n{done.finish_reason.value}, {done.usage.completion_tokens} tokens\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
