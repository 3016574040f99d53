"""What every benchmark gives: rows with their parameters, the machine they ran on, and one last line of results."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PACKAGES = ("paceline", "torch", "transformers", "numpy", "grpcio")
Row = dict[str, Any]


def machine() -> dict[str, Any]:
    """Where and with what a benchmark ran."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


@dataclass
class Report:
    """Collects rows, one per measurement, and says at the end what they amount to."""

    benchmark: str
    parameters: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    console: Console = field(default_factory=lambda: Console(width=None if sys.stdout.isatty() else 120))

    def add(self, **row: Any) -> None:
        self.rows.append(row)

    def select(self, **where: Any) -> list[Row]:
        """Rows with these parameters."""
        return [row for row in self.rows if all(row[name] == value for name, value in where.items())]

    def median(self, value: str, **where: Any) -> float:
        """Median of a column over the rows with these parameters; NaN when there are none."""
        found = [row[value] for row in self.select(**where)]
        return statistics.median(found) if found else float("nan")

    def ratio(self, value: str, over: Row, under: Row, per: Sequence[str] = ("repeat",)) -> float:
        """Median of the ratios of two columns of measurements, taken repeat by repeat: drift of the machine cancels."""
        below = {tuple(row[name] for name in per): row[value] for row in self.select(**under)}
        pairs = [(row[value], below.get(tuple(row[name] for name in per))) for row in self.select(**over)]
        ratios = [above / under_ for above, under_ in pairs if under_]
        return statistics.median(ratios) if ratios else float("nan")

    def table(self, title: str, columns: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
        table = Table(title=title)
        for column in columns:
            table.add_column(column, justify="right")
        for line in lines:
            table.add_row(*line)
        self.console.print(table)

    def finish(self, file: Path | None, **results: float) -> None:
        """Writes the rows if asked to, and prints the last line."""
        if file is not None:
            content = {
                "benchmark": self.benchmark,
                "parameters": self.parameters,
                "machine": machine(),
                "results": results,
                "rows": self.rows,
            }
            file.write_text(json.dumps(content, indent=1, default=str) + "\n")
        line = " ".join(
            f"{name}={value:.2f}" if isinstance(value, float) else f"{name}={value}" for name, value in results.items()
        )
        self.console.print(f"RESULT {line}", soft_wrap=True, highlight=False)
