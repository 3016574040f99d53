"""From a checkpoint directory to everything a verifier serves of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from paceline import __version__
from paceline.checkpoint import read_tokenizer, resolve, tokenizer_hash
from paceline.emulation import SYNTHETIC, Pace
from paceline.engine.device import device_name
from paceline.engine.runner import ModelRunner, Numerics
from paceline.engine.warmup import warm_up
from paceline.engine.weights import weights_digest
from paceline.messages import Fingerprint, ModelInfo, TokenizerFiles
from paceline.speculation.cost import CostCurve
from paceline.synthetic import TEXT, check_vocabulary
from verifier_service.config import VerifierConfig
from verifier_service.grammar.compiler import GrammarCompiler, open_compiler


@dataclass(frozen=True)
class Target:
    """A loaded target model with its tokenizer's files."""

    runner: ModelRunner
    cost: CostCurve
    info: ModelInfo
    fingerprint: Fingerprint
    tokenizer: TokenizerFiles
    compiler: GrammarCompiler


def load_target(config: VerifierConfig) -> Target:
    """Loads weights and tokenizer and runs the first forwards, which are slow."""
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    directory = resolve(config.target)
    runner = ModelRunner.load(
        directory,
        cache_tokens=config.cache_tokens,
        device=config.device,
        dtype=config.dtype,
        numerics=Numerics(config.numerics),
    )
    if config.emulate_acceptance == TEXT:
        check_vocabulary(runner.config.vocabulary_size)
    runner.pace = Pace.parse(config.emulate_step_time)
    cost = warm_up(runner)
    info = ModelInfo(
        name=config.model or Path(config.target).absolute().name,
        vocabulary_size=runner.config.vocabulary_size,
        max_context=runner.config.max_context,
        tokenizer_hash=tokenizer_hash(directory),
        stop_token_ids=runner.config.stop_token_ids,
    )
    files = read_tokenizer(directory)
    compiler = open_compiler(info, files)
    fingerprint = Fingerprint(
        weights=weights_digest(directory),
        dtype=config.dtype,
        engine=f"paceline {__version__}, torch {torch.__version__}",
        device_kind=device_name(runner.decoder.device),
        tensor_parallel_size=1,
        numerics=f"{config.numerics}, {SYNTHETIC}" if config.emulate_acceptance else config.numerics,
        grammar=compiler.fingerprint,
    )
    return Target(runner, cost, info, fingerprint, files, compiler)
