"""A corpus becomes a datastore from the command line, and is looked up with its own tokenizer alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from typer.testing import CliRunner

from drafter_service.config import DrafterConfig
from drafter_service.drafters.datastore import DatastoreDrafter
from drafter_service.loading import load_drafter
from paceline import datastore as building
from paceline.checkpoint import tokenizer_hash
from paceline.cli.main import BAD_INPUT, app
from paceline.datastore import build_datastore
from paceline.embedded import TARGET
from paceline.segments import read_segments
from paceline.speculation.fields import FieldError
from tests.drafter_service.growing import grown, opened

TEXTS = ["def area(width, height):\n    return width * height\n", "the quick brown fox jumps over the lazy dog\n"]
TOKENIZER = Tokenizer.from_file(str(TARGET / "tokenizer.json"))


def ids(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False).ids)


@pytest.fixture(params=["folder", "jsonl"])
def corpus(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "jsonl":
        file = tmp_path / "texts.jsonl"
        file.write_text("".join(json.dumps({"text": text, "more": 1}) + "\n" for text in TEXTS) + "\n")
        return file
    folder = tmp_path / "texts"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.py").write_text(TEXTS[0])
    (folder / "deep" / "b.txt").write_text(TEXTS[1])
    (folder / ".hidden").write_bytes(b"\xff\xfe")
    return folder


def drafts(out: Path, text: list[int]) -> set[tuple[int, ...]]:
    kind = DatastoreDrafter(out, tokenizer_hash(TARGET))
    return grown(kind, opened(kind, text))


def build(corpus: Path, out: Path, tokenizer: Path = TARGET) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["datastore", "build", str(corpus), str(out), "--tokenizer", str(tokenizer)])
    return result.exit_code, result.output


def test_a_built_corpus_is_continued(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):  # the second time it is replaced
        status, said = build(corpus, out)
        assert status == 0, said
    assert f"2 texts, {sum(len(ids(text)) for text in TEXTS)} tokens" in said
    known = ids(TEXTS[1])
    path = max(drafts(out, [1, *known[:4]]), key=len)
    assert len(path) >= 3
    assert path == tuple(known[4:])[: len(path)]


def test_large_corpora_become_several_segments_in_which_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "SEGMENT_TOKENS", 100)
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": f"{TEXTS[0]}number {n}"}) + "\n" for n in range(40)))
    built = build_datastore(file, tmp_path / "out", str(TARGET))
    stored = read_segments(tmp_path / "out", tokenizer_hash(TARGET), "datastore")
    assert len(stored) > 3
    assert sum(part.documents for part in stored) == built.documents == 40
    assert sum(len(part.segment) - part.documents - 1 for part in stored) == built.tokens


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "corpus = .*expected a folder"),
        (b"", "expected at least one text"),
        (b"caf\xe9 au lait", "expected UTF-8 .* at byte 3"),
        (b'{"words": 1}\n', "jsonl:1'?: expected a JSON object"),
        (b'{"text": "a"}\nno json\n', "jsonl:2'?: expected a JSON object"),
        (b"[1]", "expected a JSON object"),
    ],
)
def test_bad_corpora_are_named_and_leave_nothing(content: bytes | None, says: str, tmp_path: Path) -> None:
    file = tmp_path / ("texts.jsonl" if content and content[:1] in b"{[" else "texts.txt")
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(FieldError, match=says):
        build_datastore(file, tmp_path / "out", str(TARGET))
    assert [path for path in tmp_path.iterdir() if path != file] == []
    assert build(file, tmp_path / "out")[0] == BAD_INPUT


def test_an_unreadable_file_and_a_folder_of_other_things_are_refused(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "looped.jsonl").symlink_to(tmp_path / "gone")
    (tmp_path / "texts" / "good.txt").write_text(TEXTS[0])
    with pytest.raises(FieldError, match="expected a new or empty folder"):
        build_datastore(tmp_path / "texts", tmp_path / "texts", str(TARGET))
    assert (tmp_path / "texts" / "good.txt").read_text() == TEXTS[0]
    with pytest.raises(FieldError, match=r"tokenizer = .*expected a directory with a tokenizer.json"):
        build_datastore(tmp_path / "texts", tmp_path / "out", str(tmp_path))


def test_it_serves_its_own_tokenizer_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXTS[0])
    build_datastore(tmp_path / "a.txt", tmp_path / "out", str(TARGET))
    config = DrafterConfig("datastore", ("a:1",), tokenizer=str(TARGET), datastore=tmp_path / "out")
    described = load_drafter(config).describe()
    assert (described.kind, described.tokenizer_hash) == ("datastore", tokenizer_hash(TARGET))
    other = tmp_path / "other"
    other.mkdir()
    (other / "tokenizer.json").write_bytes((TARGET / "tokenizer.json").read_bytes() + b"\n")
    with pytest.raises(FieldError, match=r"datastore = .*built with tokenizer"):
        load_drafter(DrafterConfig("datastore", ("a:1",), tokenizer=str(other), datastore=tmp_path / "out"))
    with pytest.raises(FieldError, match=r"datastore = .*expected a folder that paceline wrote"):
        DatastoreDrafter(tmp_path, tokenizer_hash(TARGET))
