"""Watching a sweep: the API is asked again and again until it has ended; stderr says how far it is.

On a terminal a bar does; elsewhere, a line whenever there is something new to say.
"""

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
from .sweep_report import UNFINISHED, Report, minute, percent

# In a row; some minutes, at the usual interval.
MAX_FAILURES = 30
# Without a terminal, a line for each twentieth.
STEPS = 20

Show = Callable[[Report, str], None]


def watch(api: Api, sweep: Report, interval: float) -> Report:
    """The report of a sweep that has ended. Raises `ApiError` if the API stops telling of it."""
    with _display() as show:
        for seen, trouble in _looks(api, sweep, interval):
            show(seen, trouble)
            sweep = seen
    return sweep


def _looks(api: Api, sweep: Report, interval: float) -> Iterator[tuple[Report, str]]:
    """The newest report, and why there is no newer one."""
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
            trouble = f"{error} It is asked again."
        yield sweep, trouble


@contextmanager
def _display() -> Iterator[Show]:
    console = Console(stderr=True)
    if console.is_interactive:
        with Live(console=console) as live:
            yield lambda sweep, trouble: live.update(_bar(sweep, trouble))
    else:
        yield _Lines().show


def _bar(sweep: Report, trouble: str) -> Group:
    is_waiting = sweep["state"] == "queued"
    grid = Table.grid(padding=(0, 1))
    grid.add_row(
        sweep["state"],
        ProgressBar(total=1, completed=sweep["fraction"], width=40, pulse=is_waiting),
        percent(sweep),
    )
    return Group(grid, Text(_details(sweep, trouble)))


class _Lines:
    """Lines on stderr, none of which says what the one before said."""

    def __init__(self) -> None:
        self._said: tuple[Any, ...] = ()

    def show(self, sweep: Report, trouble: str) -> None:
        step = int(sweep["fraction"] * STEPS)
        new = (sweep["state"], sweep.get("cause"), step, trouble)
        if new == self._said:
            return
        self._said = new
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
