"""The gateway's door: who is inside, and that nobody comes in any more once it is closed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from paceline.errors import Draining


class Door:
    """Counts the requests that are being answered."""

    def __init__(self) -> None:
        self.inside = 0
        self.closed = False

    def close(self) -> None:
        """Who is inside stays."""
        self.closed = True

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Raises ``Draining`` once the door is closed."""
        if self.closed:
            raise Draining("the gateway is draining")
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
