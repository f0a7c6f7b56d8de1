"""The progress of downloads on stderr: a bar for each file, and a bar for all recordings."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


class StoppedError(Exception):
    """Raised in a download that is still running when the command ends."""


class Display:
    """Progress bars of downloads; with several recordings, bars of finished files are removed."""

    def __init__(self, recordings: int) -> None:
        self._files = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._recordings = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        )
        self._is_of_several = recordings > 1
        self._all = self._recordings.add_task("Recordings", total=recordings)
        self._stopped = threading.Event()
        bars = Group(self._recordings, self._files) if self._is_of_several else self._files
        self._console = Console(stderr=True)
        self._live = Live(bars, console=self._console, redirect_stdout=False)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def count_recording(self) -> None:
        """Show that one more recording was tried."""
        self._recordings.advance(self._all)

    def print_path(self, path: Path) -> None:
        """Print a file's path on stdout; on a terminal that shows the bars, above them."""
        if sys.stdout.isatty() and self._console.is_terminal:
            self._console.out(str(path), highlight=False)
        else:
            click.echo(str(path))

    def stop(self) -> None:
        """Make every download raise `StoppedError` at its next chunk."""
        self._stopped.set()

    @contextmanager
    def file(self, recording_id: str, name: str, size: int | None) -> Iterator[Bar]:
        """Show a bar for a file while it is downloaded."""
        description = f"{recording_id[:8]} {name}" if self._is_of_several else name
        task = self._files.add_task(description, total=size)
        try:
            yield Bar(self._files, task, self._stopped)
        finally:
            if self._is_of_several:
                self._files.remove_task(task)


class Bar(NamedTuple):
    """The bar of one file."""

    files: Progress
    task: TaskID
    stopped: threading.Event

    def advance_to(self, done: int, size: int | None) -> None:
        """Show the number of bytes so far. Raises `StoppedError` if the command ends."""
        if self.stopped.is_set():
            raise StoppedError
        self.files.update(self.task, completed=done, total=size)
