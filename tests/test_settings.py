"""Settings of the services: the strongest source counts, and every mistake is named at once."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from drafter_service.config import DrafterConfig
from gateway.config import GatewayConfig
from paceline.errors import UnsupportedParameter
from paceline.settings import Origin, parse, resolve, setting
from paceline.settings.redaction import REDACTED, redacted
from paceline.speculation.fields import Checks, FieldError, FieldErrors, every_error
from verifier_service.config import VerifierConfig


@dataclass(frozen=True)
class Sample:
    """A field of each type."""

    text: str = setting("text", "default")
    count: int = setting("count", -1)
    share: float = setting("share", 0.5)
    on: bool = setting("a switch", False)
    words: tuple[str, ...] = setting("words", ("default",))
    folder: Path | None = setting("folder", None)
    note: str | None = setting("note", None)


TEXT = st.text("abcdefgh :/=#'\"ä{", min_size=1, max_size=8)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXT,
    "count": st.integers(-(10**12), 10**12),
    "share": st.floats(allow_nan=False, allow_infinity=False),
    "on": st.booleans(),
    "words": st.lists(TEXT, max_size=3).map(tuple),
    "folder": TEXT.map(Path),
    "note": TEXT,
}
SOURCES = (Origin.FLAG, Origin.ENVIRONMENT, Origin.FILE)
GIVEN = st.fixed_dictionaries(
    {}, optional={name: st.dictionaries(st.sampled_from(SOURCES), value) for name, value in VALUES.items()}
)


def as_text(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def as_flags(values: dict[str, Any]) -> list[str]:
    switches = {"on": {True: "--on", False: "--no-on"}}
    return [
        switches[name][value] if name in switches else f"--{name}={as_text(value)}" for name, value in values.items()
    ]


def as_yaml(values: dict[str, Any]) -> str:
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    return yaml.safe_dump({name: str(value) if isinstance(value, Path) else value for name, value in plain.items()})


@given(GIVEN)
@settings(deadline=None)
def test_the_strongest_source_counts(
    tmp_path_factory: pytest.TempPathFactory, sources: dict[str, dict[Origin, Any]]
) -> None:
    of = {origin: {name: values[origin] for name, values in sources.items() if origin in values} for origin in SOURCES}
    file = tmp_path_factory.getbasetemp() / "sample.yaml"
    file.write_text(as_yaml(of[Origin.FILE]))
    variables = {f"PACELINE_SAMPLE_{name.upper()}": as_text(value) for name, value in of[Origin.ENVIRONMENT].items()}
    with patch.dict(os.environ, variables):
        resolved = resolve(Sample, [*as_flags(of[Origin.FLAG]), "--config", str(file)], "x", "sample")
    for name in VALUES:
        strongest = next((origin for origin in SOURCES if name in of[origin]), Origin.DEFAULT)
        expected = of[strongest][name] if strongest is not Origin.DEFAULT else getattr(Sample(), name)
        assert (getattr(resolved.config, name), resolved.origins[name]) == (expected, strongest)


def test_values_and_defaults(target_path: Path) -> None:
    config = parse(VerifierConfig, ["--target", str(target_path), "--port", "0", "--insecure"], "x")
    assert (config.target, config.port, config.insecure, config.host) == (str(target_path), 0, True, "127.0.0.1")
    gateway = parse(GatewayConfig, ["--verifiers", "a:1,b:2"], "x")
    assert (gateway.verifiers, gateway.drafters) == (("a:1", "b:2"), ())


@pytest.mark.parametrize(
    ("kind", "arguments", "says"),
    [
        (GatewayConfig, ["--verifiers", ""], "--verifiers"),
        (GatewayConfig, [], "--verifiers : expected at least one address, or --redis"),
        (GatewayConfig, ["--verifiers", "a:1", "--colour", "red"], "--colour red: expected one of the flags"),
        (GatewayConfig, ["--verifiers", "a:1", "--prot=1"], "(did you mean --port?)"),
        (GatewayConfig, ["--verifiers", "a:1", "b:2"], "b:2 : expected one of the flags"),
        (GatewayConfig, ["--verifiers", "a:1", "--config", "g.yaml"], "--config g.yaml: expected one of the flags"),
        (GatewayConfig, ["--verifiers", "a:1", "--port", "99999"], "--port 99999: expected 0 to 65535"),
        (GatewayConfig, ["--verifiers", "a:1", "--port", "x"], "--port x: expected a whole number"),
        (VerifierConfig, ["--target", "a/b", "--stall-seconds", "nan"], "--stall-seconds nan: expected a number"),
        (VerifierConfig, ["--target", "nowhere"], "--target nowhere: expected a directory with a config.json"),
        (DrafterConfig, ["--kind", "oracle", "--verifiers", "a:1"], "--kind oracle: expected one of model, ngram"),
        (DrafterConfig, ["--kind", "model", "--verifiers", "a:1"], "--model : expected a directory"),
        (DrafterConfig, ["--kind", "datastore", "--verifiers", "a:1"], "--datastore None: expected what"),
        (DrafterConfig, ["--kind", "datastore", "--verifiers", "a:1", "--datastore", "d"], "--tokenizer None"),
        (DrafterConfig, ["--kind", "suffix", "--verifiers", "a:1", "--snapshot", "s"], "--tokenizer None"),
        (DrafterConfig, ["--kind", "suffix", "--verifiers", "a:1", "--memory-tokens", "9"], "--memory-tokens 9"),
        (DrafterConfig, ["--kind", "suffix", "--verifiers", "a:1", "--redis", "redis://h"], "--tokenizer None"),
        (DrafterConfig, ["--kind", "ngram"], "--verifiers : expected at least one address, or --redis"),
        (
            DrafterConfig,
            ["--kind", "ngram", "--redis", "redis://h", "--host", "0.0.0.0", "--insecure"],
            "--advertise : expected the address under which others reach this worker, since it listens on 0.0.0.0",
        ),
        (VerifierConfig, ["--target", "a/b", "--redis", "h:1"], "--redis h:1: expected redis://HOST"),
        (
            DrafterConfig,
            ["--kind", "suffix", "--verifiers", "a:1", "--redis", "http://h"],
            "--redis http://h: expected",
        ),
        (GatewayConfig, ["--verifiers", "a:1", "--redis", "h:1"], "--redis h:1: expected redis://HOST"),
    ],
)
def test_mistakes_are_named(
    kind: type[object], arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(kind, arguments, "x")
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


def test_all_mistakes_are_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each: whatever the source, whatever the kind of mistake, and nothing that only follows from another."""
    file = tmp_path / "v.yaml"
    file.write_text("prefill_chunk: 0\ndytpe: float32\nnumerics: true\nmax_rows: 70\n")
    variables = {"PACELINE_VERIFIER_PORT": "tcp://10.0.0.1:1", "PACELINE_VERIFIER_CACHE_TOKEN": "5"}
    arguments = ["--config", str(file), "--colour", "red", "--dtype", "int8", "--max-sessions", "many"]
    with patch.dict(os.environ, variables), pytest.raises(SystemExit) as caught:
        parse(VerifierConfig, arguments, "x", "verifier")
    assert caught.value.code == 2
    *lines, hint = capsys.readouterr().err.splitlines()
    assert hint == "x: --help shows all settings"
    said = {line.removeprefix("x: error: ").partition(": expected ")[0] for line in lines}
    assert len(lines) == len(said)
    assert said == {
        "--colour red",
        "--dtype int8",
        "--max-sessions many",
        "--target None",
        "PACELINE_VERIFIER_PORT tcp://10.0.0.1:1",
        f"PACELINE_VERIFIER_CACHE_TOKEN {REDACTED}",
        f"{file}: prefill_chunk 0",
        f"{file}: dytpe float32",
        f"{file}: numerics True",
        f"{file}: max_rows 70",
    }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "expected a file"),
        ("- a\n", "expected a mapping of settings"),
        ("count: [", "expected YAML ("),
        ("count: 1\ncount: 2\n", "YAML (count is given twice, line 1)"),
        ("count: true\n", "count True: expected a whole number"),
        ("share: .nan\n", "share nan: expected a number"),
        ("words: 3\n", "words 3: expected strings, separated by commas"),
        ("words: [1]\n", "words [1]: expected strings, separated by commas"),
        ("text: null\n", "text None: expected a string"),
        ("conut: 1\n", "(did you mean count?)"),
        ("3: 1\n", "3 1: expected one of the keys"),
    ],
)
def test_mistakes_in_files_are_named(
    tmp_path: Path, content: str | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sample.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit) as caught:
        parse(Sample, ["--config", str(file)], "x", "sample")
    assert caught.value.code == 2
    first, _ = capsys.readouterr().err.splitlines()
    assert says in first
    assert str(file) in first


def test_without_a_service_the_environment_does_not_count() -> None:
    with patch.dict(os.environ, {"PACELINE_SAMPLE_COUNT": "7", "PACELINE__COUNT": "8"}):
        assert parse(Sample, [], "x") == Sample()
        assert parse(Sample, [], "x", "sample").count == 7


def test_without_variables_pydantic_is_not_imported() -> None:
    """It takes longer than all else that an n-gram drafter imports before it knows its settings."""
    program = (
        "import sys; from gateway.config import GatewayConfig; from paceline.settings import parse;"
        "parse(GatewayConfig, ['--verifiers', 'a:1'], 'x', 'gateway'); print('pydantic' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PACELINE_GATEWAY_")}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("signing_key", "abc", REDACTED),
        ("--signing-key", "abc", REDACTED),
        ("gateway.client_secret", "abc", REDACTED),
        ("token", "abc", REDACTED),
        ("PACELINE_GATEWAY_ADMIN_PASSWORD", "abc", REDACTED),
        ("token", "", ""),
        ("memory_tokens", 5, 5),
        ("tokenizer", "a/b", "a/b"),
        ("api_keys_file", "keys.txt", "keys.txt"),
        ("redis", "redis://user:pa:ss@host:1/0", f"redis://user:{REDACTED}@host:1/0"),
        ("redis", "redis://:pass@host", f"redis://:{REDACTED}@host"),
        ("redis", "redis://host:6379", "redis://host:6379"),
        ("verifiers", ("http://u:p@a", "b:1"), (f"http://u:{REDACTED}@a", "b:1")),
    ],
)
def test_secrets_are_not_shown(field: str, value: object, shown: object) -> None:
    assert redacted(field, value) == shown


def test_errors_are_raised_together() -> None:
    checks = Checks()
    assert not checks.require(1 > 2, "a", 1, "two")
    with checks.caught():
        raise FieldError("b", 2, "three")
    assert checks.require(2 > 1, "c", 3, "three")
    with pytest.raises(FieldErrors) as caught:
        checks.finish()
    assert [error.field for error in caught.value.errors] == ["a", "b"]
    assert str(caught.value) == "a = 1: expected two\nb = 2: expected three"


def test_one_error_is_raised_as_it_is() -> None:
    with pytest.raises(UnsupportedParameter), every_error() as checks:
        checks.errors.append(UnsupportedParameter("a", 1, "two"))
