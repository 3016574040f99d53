"""Text comes out whole: no half characters, nothing lost."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from gateway.text import TextCodec
from paceline.errors import FailedPrecondition, FieldError
from paceline.messages import ChatMessage, TokenizerFiles
from paceline.training.tokenizer import CHAT_TEMPLATE, train_tokenizer

TOKENIZER: Tokenizer = train_tokenizer(["def f(x):\n    return x\n", "hello world " * 20])


def codec(template: str = CHAT_TEMPLATE) -> TextCodec:
    return TextCodec(TokenizerFiles("hash", TOKENIZER.to_str().encode(), template, {"eos_token": "<|endoftext|>"}))


@given(st.text(max_size=40), st.lists(st.integers(1, 4), min_size=1))
def test_any_text_in_any_pieces_comes_back(text: str, sizes: list[int]) -> None:
    assume("<|" not in text)  # special tokens are not text
    token_ids = codec().encode(text)
    detokenizer, start = codec().detokenizer(), 0
    pieces: list[str] = []
    while start < len(token_ids):
        size = sizes[len(pieces) % len(sizes)]
        pieces += detokenizer.add(token_ids[start : start + size])
        start += size
    assert "".join(pieces) + detokenizer.flush() == text


def test_a_character_is_held_back_until_it_is_whole() -> None:
    token_ids = codec().encode("é€😀")
    detokenizer = codec().detokenizer()
    pieces = [piece for token_id in token_ids for piece in detokenizer.add([token_id])]
    assert [piece for piece in pieces if piece] == ["é", "€", "😀"]


def test_a_character_that_never_becomes_whole_is_not_emitted() -> None:
    token_ids = codec().encode("a😀")
    detokenizer = codec().detokenizer()
    assert "".join(detokenizer.add(token_ids[:-1])) + detokenizer.flush() == "a"


def test_special_tokens_are_not_text() -> None:
    detokenizer = codec().detokenizer()
    (end,) = TOKENIZER.encode("<|im_end|>").ids
    assert "".join(detokenizer.add([*codec().encode("hello"), end])) + detokenizer.flush() == "hello"


def test_chat_template() -> None:
    token_ids = codec().encode_chat([ChatMessage("user", "hello")])
    assert (
        TOKENIZER.decode(token_ids, skip_special_tokens=False)
        == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_template_that_refuses_names_the_messages() -> None:
    with pytest.raises(FieldError, match=r"messages = .*no system role"):
        codec("{{ raise_exception('no system role') }}").encode_chat([ChatMessage("system", "x")])


def test_templates_are_sandboxed() -> None:
    with pytest.raises(FieldError, match="messages"):
        codec("{{ ''.__class__.__mro__[1].__subclasses__() }}").encode_chat([ChatMessage("user", "x")])


def test_without_a_tokenizer_only_token_ids_work() -> None:
    bare = TextCodec(TokenizerFiles("", b"", "", {}))
    with pytest.raises(FailedPrecondition, match="token ids"):
        bare.encode("x")
    with pytest.raises(FailedPrecondition, match="chat template"):
        bare.encode_chat([ChatMessage("user", "x")])
    assert bare.detokenizer().add([1, 2]) == ["", ""]


def test_tokenizer_json_is_plain_data() -> None:
    assert json.loads(TOKENIZER.to_str())["model"]["type"] == "BPE"
