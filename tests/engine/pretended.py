"""``python -m tests.engine.pretended``: forwards on a device that does not exist, where tensors have no contents.

What is left on the CPU is found all the same, because operators check that their tensors lie together.
"""

from __future__ import annotations

import sys

import torch
from torch._subclasses import fake_tensor
from torch.utils import backend_registration

from paceline.bench.random_weights import PAIRS, Shape
from paceline.engine.batch import Rows, build_batch
from paceline.engine.cache import ROOT
from paceline.engine.config import ModelConfig
from paceline.engine.runner import ModelRunner
from paceline.engine.weights import arrange

torch.set_num_threads(1)
NAME = "pretended"


def load(shape: Shape, device: torch.device) -> ModelRunner:
    config = ModelConfig.of(shape.config())
    state = {name: torch.empty(size) for shard in shape.shards() for name, size in shard.items()}
    return ModelRunner(config, arrange(state, config, device, torch.bfloat16), cache_tokens=1024)


def forward(runner: ModelRunner, groups: list[Rows], *, alone: bool) -> tuple[int, ...]:
    decoder = runner.decoder
    batch = build_batch(groups, alone=alone, group=decoder.group, device=decoder.device, dtype=decoder.dtype)
    logits = decoder.forward(batch, runner.cache.data)
    assert (logits.device.type, logits.dtype) == (NAME, torch.bfloat16)
    return tuple(logits.shape)


def all_layouts(runner: ModelRunner, *, alone: bool) -> list[tuple[int, ...]]:
    """Prefill long and short, trees of one session and of several, scattered blocks, rows that move in the cache."""
    sequences = [runner.open(max_tail=16) for _ in range(3)]
    for capacity in (32, 128):
        for sequence in sequences:
            sequence.reserve(capacity)
    shapes = []
    for groups in (
        [Rows(sequences[0], [1] * 80)],
        [Rows(sequence, [1] * 20) for sequence in sequences[1:]],
    ):
        shapes.append(forward(runner, groups, alone=alone))
        for group in groups:
            group.sequence.keep(range(len(group.token_ids)), commit=len(group.token_ids))
    for several in (sequences[:1], sequences):
        tree = [Rows(sequence, [1, 2, 3], [ROOT, 0, 0]) for sequence in several]
        shapes.append(forward(runner, tree, alone=alone))
        for sequence in several:
            sequence.keep([0, 2], commit=2)
    return shapes


def main() -> int:
    backend_registration._setup_privateuseone_for_python_backend(NAME)
    fake_tensor.CONSTANT_NUMEL_LIMIT = -1  # else tensors of up to one element have contents all the same
    device = torch.device(NAME, 0)
    target, _ = PAIRS[sys.argv[1]]
    size = target.vocabulary
    with fake_tensor.FakeTensorMode(allow_non_fake_inputs=True):
        runner = load(target, device)
        for alone in (False, True):
            assert all_layouts(runner, alone=alone) == [(1, size), (2, size), (3, size), (9, size)]
    return 0


if __name__ == "__main__":
    sys.exit(main())
