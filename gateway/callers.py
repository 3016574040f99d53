"""Who asks: keys, what each may take, and which cached text is whose."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from paceline.errors import Unauthenticated
from paceline.security.identity import Party
from paceline.speculation.fields import FieldError, require
from paceline.speculation.policy import MAX_NAME, NO_SCOPE

PRIORITIES = {"interactive": 0, "batch": 1}
"""Classes of keys; the lower number is served first."""
SHARED, TENANT = "shared", "tenant"
"""Cache scopes with a meaning of their own, beside ``none``."""
_NAME, _SHA256 = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class CallerLimits:
    """What one caller may take; None: no limit of its own. Tokens are those of prompts and of completions."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None


@dataclass(frozen=True)
class Caller:
    """Whoever a request is for; the name of the key, not the key."""

    name: str
    priority: int = PRIORITIES["interactive"]
    limits: CallerLimits = dataclasses.field(default_factory=CallerLimits)

    def priority_for(self, requested: int) -> int:
        """The priority of a request that asks for one; 0 is that of the class, and nobody may ask for a better one."""
        if requested == 0:
            return self.priority
        require(requested >= self.priority, "priority", requested, f"0 or at least the key's own, {self.priority}")
        return requested

    def cache_scope(self, requested: str) -> str:
        """Whose cached text a request may share: everybody's, nobody's, or that of the same caller and name.

        Names of keys have no slash, so no name that a caller could make up leads into another one's scope.
        """
        if requested in ("", SHARED):
            return ""
        if requested == NO_SCOPE:
            return NO_SCOPE
        prefix = f"{self.name}/"
        longest = MAX_NAME - len(prefix)
        require(len(requested) <= longest, "cache_scope", f"{len(requested)} characters", f"at most {longest}")
        return prefix if requested == TENANT else prefix + requested


ANONYMOUS = Caller("")
"""Everybody, where neither keys nor certificates are asked for."""


@dataclass(frozen=True)
class KeyEntry:
    """One entry of a file of keys; of the key itself it holds a hash."""

    name: str
    sha256: str
    priority: str = "interactive"
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None

    def __post_init__(self) -> None:
        named = isinstance(self.name, str) and bool(_NAME.fullmatch(self.name))
        require(named, "name", self.name, "1 to 64 letters, digits, dots, dashes or underscores")
        hashed = isinstance(self.sha256, str) and bool(_SHA256.fullmatch(self.sha256))
        require(hashed, f"{self.name}.sha256", "hidden", "64 hexadecimal digits, as 'paceline keys add' writes them")
        known = self.priority in list(PRIORITIES)
        require(known, f"{self.name}.priority", self.priority, f"one of {', '.join(PRIORITIES)}")
        for field in dataclasses.fields(CallerLimits):
            value = getattr(self, field.name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(value is None or whole, f"{self.name}.{field.name}", value, "a whole number from 1 on")

    @property
    def caller(self) -> Caller:
        limits = CallerLimits(self.requests_per_minute, self.tokens_per_minute, self.concurrent)
        return Caller(self.name, PRIORITIES[self.priority], limits)


class Callers:
    """Who is known. Without keys everybody is ``ANONYMOUS``."""

    def __init__(self, entries: Sequence[KeyEntry] = ()) -> None:
        self._callers = [(entry.sha256, entry.caller) for entry in entries]
        for field in ("name", "sha256"):
            values = [getattr(entry, field) for entry in entries]
            twice = next((entry.name for entry in entries if values.count(getattr(entry, field)) > 1), None)
            require(twice is None, "keys", twice, f"a {field} that no other entry has")

    @classmethod
    def load(cls, path: Path) -> Callers:
        """Reads a file of keys; a file without any would let nobody in, and is refused."""
        entries = read_keys(path)
        require(bool(entries), "api_keys", str(path), "at least one key ('paceline keys add NAME')")
        return cls(entries)

    def identify(self, authorization: str | None, party: Party | None = None) -> Caller:
        """Whose key it is, in ``Bearer KEY``; it takes as long for every key, known or not. Without keys: whoever the
        certificate names, if there is one."""
        if not self._callers:
            return Caller(party.name) if party else ANONYMOUS
        scheme, _, key = (authorization or "").partition(" ")
        digest, found = hash_key(key.strip()), None
        for known, caller in self._callers:
            if hmac.compare_digest(known, digest):
                found = caller
        if found is None or scheme.lower() != "bearer":
            raise Unauthenticated("authorization: expected 'Bearer' and a key that this gateway knows", "api_key")
        return found


def hash_key(key: str) -> str:
    """How a key is kept. Keys are long and random, so a fast hash will do."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()


def read_keys(path: Path) -> list[KeyEntry]:
    """The entries of a file of keys; unknown fields are errors."""
    require(path.is_file(), "api_keys", str(path), "a file")
    return parse_keys(path.read_text(), str(path))


def parse_keys(text: str, where: str) -> list[KeyEntry]:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)  # the message itself would quote the file
        raise FieldError("api_keys", where, f"YAML{f', not so line {place.line + 1}' if place else ''}") from None
    require(isinstance(data, list | None), "api_keys", where, "a list of keys")
    return [_entry(f"{where}[{index}]", item) for index, item in enumerate(data or [])]


def _entry(where: str, item: Any) -> KeyEntry:
    require(isinstance(item, Mapping), where, type(item).__name__, "a mapping")
    fields = {field.name: field for field in dataclasses.fields(KeyEntry)}
    for name in item:
        require(name in fields, where, name, f"the fields {', '.join(fields)}")
    for field in fields.values():
        needed = field.default is dataclasses.MISSING
        require(not needed or field.name in item, f"{where}.{field.name}", None, "a value")
    return KeyEntry(**item)
