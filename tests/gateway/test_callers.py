"""Keys: who is let in, what a file of keys may say, and whose cached text is whose."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.callers import ANONYMOUS, Caller, CallerLimits, Callers, hash_key, parse_keys
from paceline.cli.main import app
from paceline.errors import FieldError, Unauthenticated

HASH = hash_key("pl-secret")


def test_without_keys_everybody_is_anonymous() -> None:
    for said in (None, "", "Bearer anything"):
        assert Callers().identify(said) is ANONYMOUS


def test_a_key_that_is_added_lets_its_owner_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text("# ours\n")
    limits = ["--requests-per-minute", "60", "--tokens-per-minute", "9000", "--concurrent", "4"]
    keys = []
    with caplog.at_level(logging.DEBUG):
        for name, options in (("alice", []), ("night-jobs", ["--priority", "batch", *limits])):
            added = CliRunner().invoke(app, ["keys", "add", name, "--file", str(file), *options])
            assert added.exit_code == 0, added.output
            keys.append(added.stdout.strip())
    callers = Callers.load(file)
    assert callers.identify(f"Bearer {keys[0]}") == Caller("alice")
    assert callers.identify(f"bearer {keys[1]}") == Caller("night-jobs", 1, CallerLimits(60, 9000, 4))
    text = file.read_text()
    assert text.startswith("# ours\n")
    assert file.stat().st_mode & 0o077 == 0
    assert not any(key in text or key in caplog.text for key in keys)


def test_a_name_is_given_once(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    for expected in (0, 2):
        added = CliRunner().invoke(app, ["keys", "add", "alice", "--file", str(file)])
        assert added.exit_code == expected
    assert "keys = 'alice': expected a name that no other entry has" in added.stderr
    assert len(parse_keys(file.read_text(), "keys")) == 1


@pytest.mark.parametrize(
    "said", [None, "", "pl-secret", "Basic pl-secret", "Bearer", "Bearer pl-other", "Bearer \udcff", f"Bearer {HASH}"]
)
def test_whoever_has_no_key_is_refused_and_the_key_is_not_repeated(said: str | None) -> None:
    callers = Callers(parse_keys(f"[{{name: a, sha256: {HASH}}}]", "keys"))
    with pytest.raises(Unauthenticated) as caught:
        callers.identify(said)
    assert "pl-" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected at least one key"),
        ("keys: []", "expected a list of keys"),
        ("[a]", "expected a mapping"),
        ("[{name: a", "expected YAML"),
        ("[{name: a}]", "sha256 = None: expected a value"),
        (f"[{{name: a/b, sha256: {HASH}}}]", "name = 'a/b': expected 1 to 64 letters"),
        ("[{name: a, sha256: pl-secret}]", "a.sha256 = 'hidden': expected 64 hexadecimal digits"),
        (f"[{{name: a, sha256: {HASH}, colour: red}}]", "'colour': expected the fields name, sha256, priority"),
        (f"[{{name: a, sha256: {HASH}, priority: urgent}}]", "a.priority = 'urgent': expected one of interactive"),
        (f"[{{name: a, sha256: {HASH}, priority: [batch]}}]", "a.priority = ['batch']: expected one of interactive"),
        (f"[{{name: a, sha256: {HASH}, concurrent: 0}}]", "a.concurrent = 0: expected a whole number from 1 on"),
        (f"[{{name: a, sha256: {HASH}, concurrent: yes}}]", "a.concurrent = True"),
        (f"[{{name: a, sha256: {HASH}}}, {{name: b, sha256: {HASH}}}]", "keys = 'a': expected a sha256 that no other"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "keys.yaml").write_text(text)
    with pytest.raises(FieldError) as caught:
        Callers.load(tmp_path / "keys.yaml")
    assert says in str(caught.value)
    assert "pl-secret" not in str(caught.value)


def test_nobody_asks_for_a_better_class_than_the_key_has() -> None:
    batch = Caller("night", priority=1)
    assert (batch.priority_for(0), batch.priority_for(1), batch.priority_for(5)) == (1, 1, 5)
    assert ANONYMOUS.priority_for(0) == 0
    for caller, requested in ((batch, -1), (ANONYMOUS, -1)):
        with pytest.raises(FieldError, match="priority = -1"):
            caller.priority_for(requested)


def test_nobody_reaches_another_s_cache_scope() -> None:
    """Whatever a caller asks for leads to the shared scope, to none, or to one that no other caller can reach."""
    callers = [ANONYMOUS, Caller("a"), Caller("a.b"), Caller("shared"), Caller("none")]
    asked = ["", "shared", "none", "tenant", "x", "/", "a/", "a/x", "a.b/", "/x", "none/", "shared/x", "tenant/"]
    reached = {caller.name: {caller.cache_scope(scope) for scope in asked} - {"", "none"} for caller in callers}
    for one in callers:
        assert one.cache_scope("") == one.cache_scope("shared") == ""
        assert one.cache_scope("none") == "none"
        assert len(reached[one.name]) == len(asked) - 3, "different names are different scopes"
        for other in callers:
            assert one is other or not reached[one.name] & reached[other.name]


def test_a_scope_whose_name_is_too_long_is_refused() -> None:
    longest = "x" * (256 - len("alice/"))
    assert len(Caller("alice").cache_scope(longest)) == 256
    with pytest.raises(FieldError, match="cache_scope = '251 characters': expected at most 250"):
        Caller("alice").cache_scope(longest + "x")
