"""A loaded model with its cache: opens sequences and runs forwards. One thread owns it."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from paceline.engine.batch import Rows, build_batch
from paceline.engine.cache import BLOCK_SIZE, KVCache, Sequence
from paceline.engine.config import ModelConfig
from paceline.engine.decoder import Decoder
from paceline.engine.weights import DecoderWeights, load_weights

Logits = npt.NDArray[np.float32]
PREFILL_CHUNK = 512
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class ModelRunner:
    """Forwards over many sessions' rows at once."""

    def __init__(self, config: ModelConfig, weights: DecoderWeights, cache_tokens: int) -> None:
        self.config = config
        self.decoder = Decoder(config, weights)
        self.cache = KVCache(config, -(-cache_tokens // BLOCK_SIZE), self.decoder.device, self.decoder.dtype)

    @classmethod
    def load(cls, path: Path, *, cache_tokens: int, device: str = "cpu", dtype: str = "float32") -> ModelRunner:
        """Loads a Hugging Face checkpoint directory."""
        config = ModelConfig.load(path)
        return cls(config, load_weights(path, config, torch.device(device), DTYPES[dtype]), cache_tokens)

    def open(self, capacity: int, max_tail: int) -> Sequence:
        """Reserves room for ``capacity`` rows, at most ``max_tail`` of them speculative at a time."""
        return Sequence(self.cache, capacity, max_tail)

    def forward(self, groups: Seq[Rows]) -> list[Logits]:
        """Appends the rows to their sequences and returns float32 logits on the host, one array per group.

        A prefill group gives ``[1, vocabulary]`` (its last row), any other ``[rows, vocabulary]``.
        """
        decoder = self.decoder
        batch = build_batch(groups, group_size=decoder.group_size, device=decoder.device, dtype=decoder.dtype)
        logits = decoder.forward(batch, self.cache.data).float().cpu().numpy()
        counts = [1 if group.parents is None else len(group.token_ids) for group in groups]
        return list(np.split(logits, np.cumsum(counts)[:-1]))

    def prefill(self, sequence: Sequence, token_ids: Seq[int]) -> None:
        """Computes and commits K/V of ``token_ids``, in chunks."""
        for start in range(0, len(token_ids), PREFILL_CHUNK):
            chunk = token_ids[start : start + PREFILL_CHUNK]
            self.forward([Rows(sequence, chunk)])
            sequence.keep(range(len(chunk)), commit=len(chunk))
