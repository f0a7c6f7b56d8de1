"""Simulated time."""

import math
import time
from datetime import UTC, datetime, timedelta
from threading import Lock


class Clock:
    """Time that starts at `origin` and passes `speed` times as fast as real time.

    `now` is aware UTC and never goes back. Speed 0 stands still, so that only `advance` moves it.
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
        """The simulated time."""
        with self._lock:
            return self._rebase()

    def advance(self, seconds: float) -> datetime:
        """Jump ahead by simulated seconds; returns the new time."""
        _checked(seconds)
        with self._lock:
            self._base = self._rebase() + timedelta(seconds=seconds)
            return self._base

    def _rebase(self) -> datetime:
        monotonic = time.monotonic()
        self._base += timedelta(seconds=(monotonic - self._base_monotonic) * self._speed)
        self._base_monotonic = monotonic
        return self._base


def _checked(seconds: float) -> float:
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"time does not pass at {seconds!r}")
    return seconds
