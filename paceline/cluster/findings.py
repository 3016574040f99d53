"""What a check found: errors told apart from warnings."""

from __future__ import annotations

from dataclasses import dataclass, field

from paceline.errors import FieldError


@dataclass
class Findings:
    """Errors stop a fleet from starting; warnings say what is odd or could not be checked."""

    errors: list[FieldError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def error(self, key: str, value: object, expected: str) -> None:
        self.errors.append(FieldError(key, value, expected))

    def warn(self, key: str, value: object, says: str) -> None:
        self.warnings.append(f"{key} = {value!r}: {says}")
