"""The wait for a sweep's end, with its progress on stderr: a bar, or lines without a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .api import Api, ApiError
from .sweep_report import UNFINISHED, Report, percent
from .timestamps import minute

# 30 in a row take 2.5 minutes at the default interval of 5 s.
MAX_FAILURES = 30
# Without a terminal, a line is printed for each 5 percent.
PERCENT_PER_LINE = 5

Show = Callable[[Report, str], None]


def watch(api: Api, sweep: Report, interval: float) -> Report:
    """Wait until a sweep has ended; return its report. Raises `ApiError`.

    The report is fetched again after each `interval` of seconds.
    """
    with _progress() as show:
        for report, trouble in _reports(api, sweep, interval):
            show(report, trouble)
            sweep = report
    return sweep


def _reports(api: Api, sweep: Report, interval: float) -> Iterator[tuple[Report, str]]:
    """Yield the newest report, and the error if a newer one could not be fetched."""
    failures, trouble = 0, ""
    yield sweep, trouble
    while sweep["state"] in UNFINISHED:
        time.sleep(interval)
        try:
            sweep = api.sweep(sweep["sweep_id"])
            failures, trouble = 0, ""
        except ApiError as error:
            failures += 1
            if not error.transient or failures == MAX_FAILURES:
                raise
            trouble = f"{error} The command tries again."
        yield sweep, trouble


@contextmanager
def _progress() -> Iterator[Show]:
    console = Console(stderr=True)
    if console.is_interactive:
        with Live(console=console) as live:
            yield lambda sweep, trouble: live.update(_bar(sweep, trouble))
    else:
        yield _ProgressLines().show


def _bar(sweep: Report, trouble: str) -> Group:
    is_waiting = sweep["state"] == "queued"
    grid = Table.grid(padding=(0, 1))
    grid.add_row(
        sweep["state"],
        ProgressBar(total=1, completed=sweep["fraction"], width=40, pulse=is_waiting),
        percent(sweep),
    )
    return Group(grid, Text(_details(sweep, trouble)))


class _ProgressLines:
    """Lines on stderr, printed only when something has changed since the last line."""

    def __init__(self) -> None:
        self._last: tuple[Any, ...] = ()

    def show(self, sweep: Report, trouble: str) -> None:
        step = int(sweep["fraction"] * 100 / PERCENT_PER_LINE)
        current = (sweep["state"], sweep.get("cause"), step, trouble)
        if current == self._last:
            return
        self._last = current
        click.echo(f"{sweep['state']}, {percent(sweep)}: {_details(sweep, trouble)}", err=True)


def _details(sweep: Report, trouble: str) -> str:
    if trouble:
        return trouble
    if sweep["state"] == "queued":
        return "it begins within a minute, unless others are before it"
    counts = sweep["counts"]
    kinds = ("seen", "missing") if sweep["dry_run"] else ("seen", "missing", "repaired")
    details = [f"{counts[kind]:,} {kind}" for kind in kinds]
    return ", ".join([*details, *_pace(sweep)])


def _pace(sweep: Report) -> Iterator[str]:
    if "recordings_per_minute" in sweep:
        yield f"{sweep['recordings_per_minute']:,} per minute"
    if "estimated_end_at" in sweep:
        yield f"ends about {minute(sweep['estimated_end_at'])}"
    if sweep["state"] == "running" and "cause" in sweep:
        until = f" until {minute(sweep['not_before'])}" if "not_before" in sweep else ""
        yield f"waits{until}: {sweep['cause'].replace('_', ' ')}"
