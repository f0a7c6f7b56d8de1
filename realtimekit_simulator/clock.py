"""Simulated time, and how RealtimeKit writes it."""

import math
import time
from datetime import UTC, datetime, timedelta
from threading import Lock


class Clock:
    """Clock that starts at `origin` and runs `speed` times as fast as real time.

    `now` is aware UTC and never goes back. At speed 0 only `advance` moves the clock.
    Safe to use from several threads.
    """

    def __init__(self, origin: datetime | None = None, speed: float = 1.0) -> None:
        self._lock = Lock()
        self._base = (origin or datetime.now(UTC)).astimezone(UTC)
        self._base_monotonic = time.monotonic()
        self._speed = _checked(speed)

    @property
    def speed(self) -> float:
        """Simulated seconds per real second."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        _checked(speed)
        with self._lock:
            self._rebase()
            self._speed = speed

    def now(self) -> datetime:
        """Return the simulated time."""
        with self._lock:
            return self._rebase()

    def advance(self, seconds: float) -> datetime:
        """Jump ahead by simulated seconds; return the new time."""
        _checked(seconds)
        with self._lock:
            self._base = self._rebase() + timedelta(seconds=seconds)
            return self._base

    def _rebase(self) -> datetime:
        monotonic = time.monotonic()
        self._base += timedelta(seconds=(monotonic - self._base_monotonic) * self._speed)
        self._base_monotonic = monotonic
        return self._base


def timestamp(at: datetime | None) -> str | None:
    """Return ISO 8601 in UTC with milliseconds and Z, as in RealtimeKit's documentation."""
    if at is None:
        return None
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def _checked(seconds: float) -> float:
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{seconds!r} is not a finite number of 0 or more seconds")
    return seconds
