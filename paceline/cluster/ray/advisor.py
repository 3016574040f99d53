"""Watches what the gateways of a fleet measure, and says how many workers its pools should have."""

from __future__ import annotations

import http.client
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from paceline.cluster.ray.load import Reading, advise, fetch, read
from paceline.cluster.topology import Topology
from paceline.errors import FieldError
from paceline.logs import get_logger

READ_SECONDS = 5.0
READINGS = 7
"""That advice is of: half a minute, counted anew whenever the fleet has changed."""

logger = get_logger(__name__)


class Advisor:
    """``look`` is to be called over and over; it waits between two readings."""

    def __init__(self, read_seconds: float = READ_SECONDS) -> None:
        self._read_seconds = read_seconds
        self.advice: Mapping[str, int] = {}
        """Replicas by pool, where there should be others than there are."""
        self._readings = deque[Reading](maxlen=READINGS)
        self._of: Topology | None = None

    def look(self, topology: Topology, gateways: Sequence[str]) -> None:
        """``gateways`` by HTTP address."""
        time.sleep(self._read_seconds)
        reading = _read(topology, gateways)
        if topology != self._of or reading is None:
            self._readings.clear()
            self._of, self.advice = topology, {}
        if reading:
            self._readings.append(reading)
        if len(self._readings) == READINGS:
            self.advice = advise(topology, self._readings)

    def follow(self, scale: Callable[[str, int], None]) -> None:
        """Has done what it advises, as far as there is room."""
        for pool, replicas in self.advice.items():
            try:
                scale(pool, replicas)
            except FieldError as error:
                logger.warning("advice is not followed", error=error)


def _read(topology: Topology, gateways: Sequence[str]) -> Reading | None:
    """None: not all say how they are."""
    try:
        return read([fetch(topology, address) for address in gateways]) if gateways else None
    except (OSError, http.client.HTTPException) as error:
        logger.info("a gateway does not say how it is", error=error)
        return None
