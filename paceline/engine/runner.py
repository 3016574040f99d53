"""A loaded model with its cache: opens sequences and runs forwards. One thread owns it."""

from __future__ import annotations

import time
from collections.abc import Sequence as Seq
from enum import Enum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from paceline.emulation import Pace
from paceline.engine.batch import Rows, build_batch
from paceline.engine.blocks import BLOCK_SIZE, PrefixKeys
from paceline.engine.cache import KVCache, Sequence
from paceline.engine.config import ModelConfig
from paceline.engine.decoder import Decoder
from paceline.engine.device import find_device
from paceline.engine.weights import DecoderWeights, load_weights

Logits = npt.NDArray[np.float32]
PREFILL_CHUNK = 512
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Numerics(Enum):
    """Whether a row's logits may depend, in their last bits, on what else is in the batch (DESIGN §5)."""

    STANDARD = "standard"
    DETERMINISTIC = "deterministic"


class ModelRunner:
    """Forwards over many sessions' rows at once."""

    def __init__(
        self,
        config: ModelConfig,
        weights: DecoderWeights,
        cache_tokens: int,
        numerics: Numerics = Numerics.STANDARD,
    ) -> None:
        self.config, self.numerics = config, numerics
        blocks = -(-cache_tokens // BLOCK_SIZE)
        longest = min(config.max_context, blocks * BLOCK_SIZE)
        self.decoder = Decoder(config, weights, longest, deterministic=numerics is Numerics.DETERMINISTIC)
        self.cache = KVCache(config, blocks, self.decoder.device, self.decoder.dtype)
        self.pace: Pace | None = None
        """Experimental: how long forwards take at least."""

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        cache_tokens: int,
        device: str = "cpu",
        dtype: str = "float32",
        numerics: Numerics = Numerics.STANDARD,
    ) -> ModelRunner:
        """Loads a Hugging Face checkpoint directory; raises ``FieldError`` for a device that is not there."""
        place, config = find_device(device), ModelConfig.load(path)
        return cls(config, load_weights(path, config, place, DTYPES[dtype]), cache_tokens, numerics)

    def open(self, max_tail: int, token_ids: Seq[int] = (), keys: PrefixKeys | None = None) -> Sequence:
        """A sequence with at most ``max_tail`` speculative rows at a time.

        It begins with what the cache holds of ``token_ids``; ``keys`` are theirs and say who may share them.
        """
        sequence = Sequence(self.cache, max_tail, keys)
        if token_ids:
            sequence.adopt(token_ids)
        return sequence

    def forward(self, groups: Seq[Rows]) -> list[Logits]:
        """Appends the rows to their sequences and returns float32 logits on the host, one array per group.

        A prefill group gives ``[1, vocabulary]`` (its last row), any other ``[rows, vocabulary]``.
        """
        decoder, started = self.decoder, time.perf_counter()
        batch = build_batch(
            groups, alone=decoder.deterministic, group=decoder.group, device=decoder.device, dtype=decoder.dtype
        )
        logits = decoder.forward(batch, self.cache.data).float().cpu().numpy()
        if self.pace is not None:
            self._hold(self.pace, started, groups)
        counts = [1 if group.parents is None else len(group.token_ids) for group in groups]
        return list(np.split(logits, np.cumsum(counts)[:-1]))

    @staticmethod
    def _hold(pace: Pace, started: float, groups: Seq[Rows]) -> None:
        decoding = [group for group in groups if group.parents is not None]
        pace.hold(
            started,
            sum(len(group.token_ids) for group in decoding),
            prompt_rows=sum(len(group.token_ids) for group in groups if group.parents is None),
            sessions=len(decoding),
            context=sum(group.sequence.num_computed_tokens for group in decoding),
        )

    def prefill(self, sequence: Sequence, token_ids: Seq[int]) -> None:
        """Computes and commits K/V of ``token_ids``, in chunks, making room for them."""
        for start in range(0, len(token_ids), PREFILL_CHUNK):
            chunk = token_ids[start : start + PREFILL_CHUNK]
            sequence.reserve(sequence.length + len(chunk))
            self.forward([Rows(sequence, chunk)])
            sequence.keep(range(len(chunk)), commit=len(chunk))
