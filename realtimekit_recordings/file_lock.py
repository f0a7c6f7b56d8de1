"""A lock on a file, which the system releases when the process ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class LockedError(Exception):
    """Raised when another process holds the lock."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock, whose file is removed at the end. Raises `LockedError`."""
    with path.open("ab") as file:
        try:
            _lock(file.fileno())
        except OSError:
            raise LockedError from None
        # The last holder removed the file that we opened, so another process may lock a new one.
        if os.fstat(file.fileno()).st_nlink == 0:
            raise LockedError
        try:
            yield
        finally:
            # Windows cannot remove an open file, so an empty file stays there.
            with suppress(PermissionError, FileNotFoundError):
                path.unlink()
