"""Fixtures and the rule that CI skips nothing."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoints import write_checkpoint

torch.set_num_threads(1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("PACELINE_FORBID_SKIPS"):
        report.outcome, report.longrepr = "failed", f"skipped where skips are forbidden: {report.longrepr}"


@pytest.fixture(scope="session")
def target_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random target of two layers."""
    return write_checkpoint(tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="session")
def other_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with the same vocabulary that has nothing to do with the target."""
    return write_checkpoint(tmp_path_factory.mktemp("other"), seed=5)
