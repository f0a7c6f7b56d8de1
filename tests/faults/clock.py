"""One clock for all: a number in a file that the harness moves, and that every process maps.

    python -P clock.py FILE SCRIPT ARGUMENT…

runs a script with that time of day. So the emulated AWS hides messages for hours, a recording
uploads for minutes, and a check waits for a day, all within seconds. `due_at`, leases and visibility
timeouts are as long as in production, because the tests change no stored time.
"""

from __future__ import annotations

import datetime
import mmap
import runpy
import struct
import sys
import time
from pathlib import Path

_SECONDS = struct.Struct("=d")


class SharedClock:
    """Stands still until it is moved, here or in another process. For the simulator a `Clock`."""

    speed = 0.0

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("r+b") as file:
            self._seconds = mmap.mmap(file.fileno(), _SECONDS.size)

    @classmethod
    def create(cls, path: Path, origin: datetime.datetime) -> SharedClock:
        """Create the clock's file with a time, and return the clock."""
        path.write_bytes(_SECONDS.pack(origin.timestamp()))
        return cls(path)

    def time(self) -> float:
        """Return the seconds since the epoch."""
        seconds: float = _SECONDS.unpack_from(self._seconds)[0]
        return seconds

    def now(self) -> datetime.datetime:
        """Return the time in UTC."""
        return datetime.datetime.fromtimestamp(self.time(), datetime.UTC)

    def advance(self, seconds: float) -> None:
        """Let time pass in all processes."""
        self.move_to(self.time() + max(seconds, 0))

    def move_to(self, seconds: float) -> None:
        """Move the clock to a time, unless that is in the past."""
        _SECONDS.pack_into(self._seconds, 0, max(seconds, self.time()))

    def install(self) -> None:
        """Make this the process' time of day. Call it before importing modules that read the time."""
        shared = self

        class Datetime(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> Datetime:
                return cls.fromtimestamp(shared.time(), tz)

            @classmethod
            def utcnow(cls) -> Datetime:
                return cls.now(datetime.UTC).replace(tzinfo=None)

        time.time = shared.time
        datetime.datetime = Datetime  # type: ignore[misc]

    def install_sleep(self) -> None:
        """Make `sleep` advance this clock, and count time-outs by it."""
        time.monotonic = self.time
        time.sleep = self.advance  # type: ignore[assignment]


if __name__ == "__main__":
    SharedClock(Path(sys.argv[1])).install()
    del sys.argv[:2]
    runpy.run_path(sys.argv[0], run_name="__main__")
