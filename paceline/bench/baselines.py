"""What Transformers does with the same models and prompts, in a process of its own: one JSON line in, one out.

Started by ``bench decode`` with as many threads as the fleet beside it has in all.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Tokens = list[list[int]]


@dataclass(frozen=True)
class Ask:
    """One measurement: which way of generating, and what."""

    system: str
    prompts: Tokens
    max_tokens: int
    temperature: float
    seed: int


@dataclass(frozen=True)
class Answer:
    """New tokens of each prompt, and how long all of them took."""

    token_ids: Tokens
    seconds: float


class Baselines:
    """Transformers' ways of generating."""

    def __init__(self, target: Path, draft: Path | None, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        torch.set_num_threads(threads)
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        self._torch = torch
        self._target_path = target
        load: Callable[[Path], Any] = lambda path: AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)  # noqa: E731
        self._target = load(target)
        self._draft = load(draft) if draft else None
        self._manager: tuple[float, Any] | None = None

    def answer(self, ask: Ask) -> Answer:
        self._torch.manual_seed(ask.seed)
        ways: dict[str, Callable[[Ask], Tokens]] = {
            "generate": self._generate,
            "assisted": lambda ask: self._generate(ask, assistant_model=self._draft),
            "prompt lookup": lambda ask: self._generate(ask, prompt_lookup_num_tokens=10),
            "continuous batching": self._continuous,
        }
        started = time.perf_counter()
        token_ids = ways[ask.system](ask)
        return Answer(token_ids, time.perf_counter() - started)

    def _generate(self, ask: Ask, **options: Any) -> Tokens:
        """One batch, padded on the left; speculative ways take one prompt at a time, as they must."""
        if options and len(ask.prompts) > 1:
            return [self._generate(Ask(**{**vars(ask), "prompts": [p]}), **options)[0] for p in ask.prompts]
        torch, width = self._torch, max(map(len, ask.prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in ask.prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in ask.prompts])
        sampling: dict[str, Any] = {"do_sample": False}
        if ask.temperature:
            sampling = {"do_sample": True, "temperature": ask.temperature, "top_k": 0}
        with torch.inference_mode():
            output = self._target.generate(
                ids, attention_mask=mask, max_new_tokens=ask.max_tokens, min_new_tokens=ask.max_tokens,
                eos_token_id=None, pad_token_id=0, **sampling, **options,
            )  # fmt: skip
        return [row[width:].tolist() for row in output]

    def _continuous(self, ask: Ask) -> Tokens:
        with self._running(ask.temperature) as manager:
            names = [manager.add_request(prompt, max_new_tokens=ask.max_tokens) for prompt in ask.prompts]
            done: dict[str, list[int]] = {}
            while len(done) < len(names):
                result = manager.get_result(timeout=60)
                if result is None:
                    raise TimeoutError("continuous batching gave nothing for 60 s")
                if result.is_finished():
                    done[result.request_id] = list(result.generated_tokens)
        return [done[name] for name in names]

    @contextmanager
    def _running(self, temperature: float) -> Iterator[Any]:
        """The manager, which is kept: starting it is not what is measured."""
        if self._manager is None or self._manager[0] != temperature:
            self.close()
            from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

            model: Any = AutoModelForCausalLM.from_pretrained(
                self._target_path, dtype=self._torch.float32, attn_implementation="sdpa"
            )
            sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {}
            generation: Any = GenerationConfig(eos_token_id=-1, pad_token_id=0, **sampling)  # type: ignore[no-untyped-call]
            config = ContinuousBatchingConfig(num_blocks=128, max_batch_tokens=256)
            manager = model.init_continuous_batching(generation, config)
            manager.start()
            self._manager = temperature, manager
        yield self._manager[1]

    def close(self) -> None:
        if self._manager is not None:
            self._manager[1].stop(block=True)
            self._manager = None


def main(arguments: Sequence[str]) -> None:
    target, draft, threads = arguments
    baselines = Baselines(Path(target), Path(draft) if draft else None, int(threads))
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever libraries print is not an answer
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        answer = baselines.answer(Ask(**json.loads(line)))
        answers.write(json.dumps(asdict(answer)) + "\n")
        answers.flush()
    baselines.close()


if __name__ == "__main__":
    main(sys.argv[1:])
