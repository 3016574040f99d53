"""A small byte-level tokenizer that knows some JSON, trained by the tests themselves."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END = 0
SIZE = 320
"""What the tokenizer knows; a model may have more."""
_TEXTS = ['{"name": "value", "items": [1, 2, 30], "done": true}', "null false yes no 2024-01-31 abc aaab"] * 4


def json_tokenizer() -> str:
    """As in tokenizer.json; id 0 ends the text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_TEXTS, trainer)
    return str(tokenizer.to_str())
