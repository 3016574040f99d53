"""Promises of the repository itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXPERIMENTS = [
    *("data/README.md", "data/acceptance.csv", "data/cards.csv", "data/prices.yaml", "data/step_times.csv"),
    *("data/verify_cost.csv", "data/validation_pearl.csv", "data/validation_ssd.csv", "specs/rtt-sweep.yaml"),
]


def test_lock_has_exact_versions_and_nothing_of_this_machine() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert lines
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[0-9][A-Za-z0-9.!]*( ; .+)?", line) for line in lines)
    assert "torch==2.13.0" in lines


def test_light_parts_import_neither_torch_nor_transformers_nor_ray() -> None:
    modules = (
        "gateway.__main__, gateway.http.app, paceline.cli.main, paceline.cli.generate, paceline.cli.up,"
        " paceline.client, paceline.cli.ray, paceline.cluster.ray.spec, paceline.cluster.advice"
    )
    modules += (
        ", drafter_service.__main__, drafter_service.drafters.ngram, drafter_service.drafters.suffix,"
        " drafter_service.drafters.datastore, drafter_service.loading, paceline.datastore, paceline.bench.demo,"
        " paceline.experiments.reading, paceline.experiments.validation.report"
    )
    program = f"import sys, {modules}; print({{'torch', 'transformers', 'ray'}} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.stdout.strip() == "set()", result.stderr


def test_readme_names_every_top_level_entry() -> None:
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    readme = (ROOT / "README.md").read_text()
    folders = {name.split("/")[0] for name in tracked if "/" in name and not name.startswith(".")}
    assert [folder for folder in sorted(folders) if f"{folder}/" not in readme] == []


def test_wheel_runs_outside_the_checkout(tmp_path: Path) -> None:
    """The wheel in an empty environment, with only its dependencies lent from here, completes a text."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], check=True, cwd=ROOT
    )
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert [name for name in EXPERIMENTS if f"paceline/experiments/{name}" not in packed] == []
    environment = tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--offline", "--python", str(python)]
    subprocess.run([*uv, str(wheel)], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    lent = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "lent.pth").write_text(f"{lent}\n")
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(environment / "bin" / "paceline"), "generate", "def ", "--max-tokens", "8", "--seed", "1", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=120, env=alone)
    assert '"completion_tokens": 8' in result.stdout
    where = subprocess.run(
        [str(python), "-c", "import paceline; print(paceline.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=alone,
    )
    assert str(environment) in where.stdout
