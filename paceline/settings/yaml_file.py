"""YAML files of settings: one mapping, no key given twice."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from paceline.speculation.fields import FieldError, require


class _Loader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1 and key != "<<"}
        if twice:
            problem = f"{', '.join(sorted(twice))} is given twice"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(field: str, path: Path) -> Any:
    """The document in a file; a ``FieldError`` says why there is none."""
    require(path.is_file(), field, str(path), "a file")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise FieldError(field, str(path), f"YAML ({error.problem}{line})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FieldError(field, str(path), f"YAML ({' '.join(str(error).split())})") from error
    except OSError as error:
        raise FieldError(field, str(path), f"a file that can be read ({error.strerror})") from error
