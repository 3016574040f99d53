"""The two models: a target worth accelerating and a draft about a tenth of its size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from paceline.training.corpus import Corpus
from paceline.training.loop import LossFunction
from paceline.training.tokenizer import MAX_LENGTH, VOCABULARY_SIZE

SHORT, LONG = (16, 256), (2, 2048)
"""Rows and length of a batch: the last tenth of the budget sees long sequences."""


def target_config() -> LlamaConfig:
    """About 8 M parameters."""
    return _config(hidden_size=384, intermediate_size=1024, num_hidden_layers=4, heads=6, kv_heads=2)


def draft_config() -> LlamaConfig:
    """About 0.9 M parameters."""
    return _config(hidden_size=128, intermediate_size=352, num_hidden_layers=2, heads=2, kv_heads=1)


def _config(
    *, hidden_size: int, intermediate_size: int, num_hidden_layers: int, heads: int, kv_heads: int
) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )


def new_model(config: LlamaConfig, device: str) -> LlamaForCausalLM:
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    model.to(device)  # type: ignore[arg-type]
    return model


def hidden_logits(model: LlamaForCausalLM, tokens: torch.Tensor) -> torch.Tensor:
    """Logits of every position, with bfloat16 matrix products (three times faster where the CPU has them)."""
    with torch.autocast(tokens.device.type, dtype=torch.bfloat16):
        logits: torch.Tensor = model(input_ids=tokens, use_cache=False).logits
        return logits


def pretraining_loss(model: LlamaForCausalLM, corpus: Corpus) -> LossFunction:
    """Next-token cross-entropy on the corpus."""

    def loss(rng: np.random.Generator, fraction: float) -> tuple[torch.Tensor, int]:
        tokens = torch.from_numpy(corpus.batch(rng, *(LONG if fraction > 0.9 else SHORT))).to(model.device)
        logits = hidden_logits(model, tokens[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten()), tokens.numel()

    return loss


def distillation_loss(
    draft: LlamaForCausalLM, target: LlamaForCausalLM, draw: Callable[[np.random.Generator, float], torch.Tensor]
) -> LossFunction:
    """KL(target || draft) at every position of the windows that ``draw`` gives (FastDraft, arXiv 2411.11055)."""

    def loss(rng: np.random.Generator, fraction: float) -> tuple[torch.Tensor, int]:
        tokens = draw(rng, fraction).to(draft.device)
        with torch.no_grad():
            teacher = hidden_logits(target, tokens).float().log_softmax(-1)
        student = hidden_logits(draft, tokens).float().log_softmax(-1)
        return F.kl_div(
            student.flatten(0, 1), teacher.flatten(0, 1), log_target=True, reduction="batchmean"
        ), tokens.numel()

    return loss


@torch.inference_mode()
def sample_windows(target: LlamaForCausalLM, prompts: np.ndarray, length: int, *, temperature: float) -> np.ndarray:
    """Continues each prompt to ``length`` tokens with the target's own choices: what a drafter will be asked about."""
    tokens = torch.from_numpy(prompts.astype(np.int64)).to(target.device)
    generating: Any = target
    output = generating.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        do_sample=True,
        temperature=temperature,
        top_k=0,
        min_new_tokens=length - tokens.shape[1],
        max_new_tokens=length - tokens.shape[1],
    )
    return np.asarray(output.cpu().numpy(), np.uint16)


def export(model: LlamaForCausalLM, directory: Path) -> None:
    """Hugging Face layout, bfloat16 safetensors."""
    model.to(torch.bfloat16).save_pretrained(directory, safe_serialization=True)  # type: ignore[arg-type]
