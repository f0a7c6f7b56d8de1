"""A share of a processor for a process, as Lambda gives a function in proportion to its memory.

A function of 1,769 MB has one vCPU and one of 256 MB a seventh of it (AWS docs, Lambda memory).
During the initialisation every function has a whole one. If this process may make a control group,
the kernel limits the time in periods of 20 ms. Otherwise signals stop and continue the process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

FULL_MB = 1769
PERIOD_US = 20_000
_ROOT = Path("/sys/fs/cgroup")


class CpuShare(Protocol):
    """The share of one process, which has a whole processor until it is limited."""

    def limit(self, memory_mb: int) -> None:
        """Limit the process to AWS's share for this memory, at most a whole processor."""


class _Quota:
    """A share that the kernel enforces by a control group, of version 1 or 2."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def limit(self, memory_mb: int) -> None:
        if memory_mb >= FULL_MB:
            return
        quota = PERIOD_US * memory_mb // FULL_MB
        if (self._folder / "cpu.max").exists():
            (self._folder / "cpu.max").write_text(f"{quota} {PERIOD_US}")
        else:
            (self._folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (self._folder / "cpu.cfs_quota_us").write_text(str(quota))


class _Signals:
    """A share that a thread enforces by signals that stop and continue the process."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def limit(self, memory_mb: int) -> None:
        if memory_mb >= FULL_MB:
            return
        running = PERIOD_US / 1e6 * memory_mb / FULL_MB
        self._thread = threading.Thread(target=self._alternate, args=(running,))
        self._thread.start()

    def _alternate(self, running: float) -> None:
        # The process ends before the block does.
        with contextlib.suppress(ProcessLookupError):
            while not self._over.is_set():
                time.sleep(running)
                os.kill(self._pid, signal.SIGSTOP)
                time.sleep(PERIOD_US / 1e6 - running)
                os.kill(self._pid, signal.SIGCONT)

    def stop(self) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()


def mechanism() -> str:
    """Return the name of the mechanism that limits the share on this machine."""
    return "a control group" if _control_group_folder() else "signals"


@contextlib.contextmanager
def cpu_share(pid: int) -> Iterator[CpuShare]:
    """Yield the share of a process, which the caller must end within the block."""
    parent = _control_group_folder()
    if parent is None:
        signals = _Signals(pid)
        try:
            yield signals
        finally:
            signals.stop()
        return
    group = parent / f"bench-{pid}"
    group.mkdir()
    try:
        (group / "cgroup.procs").write_text(str(pid))
        yield _Quota(group)
    finally:
        _remove_group(group)


def _control_group_folder() -> Path | None:
    """Return the folder in which this process may make control groups, or `None`."""
    for folder, setting in ((_ROOT / "cpu", "cpu.cfs_quota_us"), (_ROOT, "cpu.max")):
        probe = folder / f"bench-probe-{os.getpid()}"
        try:
            probe.mkdir()
        except OSError:
            continue
        found = (probe / setting).exists()
        probe.rmdir()
        if found:
            return folder
    return None


def _remove_group(group: Path) -> None:
    """Remove a control group, for up to 1 s.

    The kernel releases the group a moment after its process has ended.
    """
    for _ in range(200):
        try:
            group.rmdir()
            return
        except OSError:
            time.sleep(0.005)
    group.rmdir()
