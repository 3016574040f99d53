"""llama.cpp's server with the same target, for ``bench decode --llama-server``: converted, started, asked by HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from paceline.bench.baselines import Answer, Ask
from paceline.errors import UnsupportedModel
from paceline.speculation.fields import require

START_SECONDS = 60.0
NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def convert(checkpoint: Path, file: Path) -> None:
    """Writes a Llama checkpoint as GGUF in float32. Prompts are sent as token ids, so its merges do not matter."""
    try:
        import gguf
    except ImportError as error:
        raise UnsupportedModel("llama-server", str(checkpoint), "the package gguf: pip install gguf") from error

    config = json.loads((checkpoint / "config.json").read_text())
    if config["model_type"] != "llama":
        raise UnsupportedModel("model_type", config["model_type"], "llama, for a comparison with llama.cpp")
    writer = gguf.GGUFWriter(file, "llama")
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    _add_vocabulary(writer, checkpoint, config["vocab_size"])
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        writer.add_tensor(*_tensor(name, tensor, heads, kv_heads))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: Any, checkpoint: Path, size: int) -> None:
    model = json.loads((checkpoint / "tokenizer.json").read_text())["model"]
    tokens = [f"<unused {index}>" for index in range(size)]
    for token, index in model["vocab"].items():
        tokens[index] = token
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * size)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])


def _tensor(name: str, tensor: torch.Tensor, heads: int, kv_heads: int) -> tuple[str, npt.NDArray[np.float32]]:
    """In GGUF's names, and with rotary halves interleaved as its ``llama`` has them."""
    values: npt.NDArray[np.float32] = tensor.float().numpy()
    outer = {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm", "lm_head.weight": "output"}
    if name in outer:
        return f"{outer[name]}.weight", values
    _, _, layer, rest = name.split(".", 3)
    part = rest.removesuffix(".weight")
    if part in ("self_attn.q_proj", "self_attn.k_proj"):
        count = heads if "q_proj" in part else kv_heads
        halves = values.reshape(count, 2, -1, values.shape[1])
        values = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
    return f"blk.{layer}.{NAMES[part]}.weight", values


@contextlib.asynccontextmanager
async def llama_server(
    binary: Path, target: Path, threads: int, slots: int
) -> AsyncIterator[Callable[[Ask], Awaitable[Answer]]]:
    """A server with ``slots`` places at once, and the way to ask it."""
    with tempfile.TemporaryDirectory(prefix="paceline-llama-") as folder, socket.socket() as free:
        file = Path(folder) / "target.gguf"
        convert(target, file)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        process = await asyncio.create_subprocess_exec(
            str(binary), "-m", str(file), "--port", str(port), "-t", str(threads), "-np", str(slots),
            "-c", str(slots * 512), "--no-webui",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        try:
            await _until_healthy(url)
            yield lambda ask: _ask(url, ask)
        finally:
            process.terminate()
            await process.wait()


async def _until_healthy(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(urllib.request.urlopen, f"{url}/health", timeout=1)
            return
        await asyncio.sleep(0.1)
    require(ok=False, field="llama-server", value=url, expected=f"health within {START_SECONDS:.0f} s")


async def _ask(url: str, ask: Ask) -> Answer:
    def one(prompt: list[int]) -> list[int]:
        body = {
            "prompt": prompt, "n_predict": ask.max_tokens, "temperature": ask.temperature, "seed": ask.seed,
            "ignore_eos": True, "cache_prompt": False, "return_tokens": True,
            "samplers": ["temperature"] if ask.temperature else ["top_k"], "top_k": 1 if not ask.temperature else 0,
        }  # fmt: skip
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{url}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as reply:  # noqa: S310
            return list(json.load(reply)["tokens"])

    started = time.perf_counter()
    token_ids = await asyncio.gather(*(asyncio.to_thread(one, prompt) for prompt in ask.prompts))
    return Answer(list(token_ids), time.perf_counter() - started)
