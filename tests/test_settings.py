"""Command lines of the services: right or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from drafter_service.config import DrafterConfig
from gateway.config import GatewayConfig
from paceline.settings import parse
from verifier_service.config import VerifierConfig


def test_values_and_defaults(target_path: Path) -> None:
    config = parse(VerifierConfig, ["--target", str(target_path), "--port", "0", "--insecure"], "x")
    assert (config.target, config.port, config.insecure, config.host) == (str(target_path), 0, True, "127.0.0.1")
    gateway = parse(GatewayConfig, ["--verifiers", "a:1,b:2"], "x")
    assert (gateway.verifiers, gateway.drafters) == (("a:1", "b:2"), ())


@pytest.mark.parametrize(
    ("kind", "arguments", "says"),
    [
        (GatewayConfig, ["--verifiers", ""], "--verifiers"),
        (GatewayConfig, [], "--verifiers"),
        (GatewayConfig, ["--verifiers", "a:1", "--colour", "red"], "--colour"),
        (GatewayConfig, ["--verifiers", "a:1", "--port", "99999"], "--port 99999: expected 0 to 65535"),
        (VerifierConfig, ["--target", "nowhere"], "--target nowhere: expected a directory with a config.json"),
        (DrafterConfig, ["--kind", "oracle", "--verifiers", "a:1"], "--kind oracle: expected one of model, ngram"),
        (DrafterConfig, ["--kind", "model", "--verifiers", "a:1"], "--model : expected a directory"),
        (DrafterConfig, ["--kind", "datastore", "--verifiers", "a:1"], "--datastore None: expected what"),
        (DrafterConfig, ["--kind", "datastore", "--verifiers", "a:1", "--datastore", "d"], "--tokenizer None"),
        (DrafterConfig, ["--kind", "suffix", "--verifiers", "a:1", "--snapshot", "s"], "--tokenizer None"),
        (DrafterConfig, ["--kind", "suffix", "--verifiers", "a:1", "--memory-tokens", "9"], "--memory-tokens 9"),
        (DrafterConfig, ["--kind", "suffix", "--verifiers", "a:1", "--redis", "redis://h"], "--tokenizer None"),
        (DrafterConfig, ["--kind", "ngram", "--verifiers", "a:1", "--redis", "redis://h"], "--kind ngram: expected su"),
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
