"""Small plots as shapes for the templates, which draw them as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from . import words
from .words import Row

WIDTH, HEIGHT = 640, 160
LEFT, BOTTOM, TOP = 60, 22, 10
DAYS = 14


class Bar(NamedTuple):
    """A bar with its place and size in the plot, and its day and value in words."""

    x: float
    y: float
    width: float
    height: float
    day: str
    value: str
    tick: str


class Tick(NamedTuple):
    """A line across the plot, and the value it stands for."""

    y: float
    label: str


class Dot(NamedTuple):
    """A recording: its place in the plot, its id, and its values in words."""

    x: float
    y: float
    recording_id: str
    title: str
    value: str
    is_slow: bool


class Plot(NamedTuple):
    """Shapes of a plot of `WIDTH` by `HEIGHT`; `total` sums it up in words."""

    shapes: Sequence[Any]
    ticks: Sequence[Tick]
    total: str


def days_until(now: datetime) -> list[date]:
    """Return the days of the plots, the oldest first; the last one is today."""
    today = words.local(now).date()
    return [today - timedelta(days=back) for back in reversed(range(DAYS))]


def by_day(rows: Sequence[Row], now: datetime) -> tuple[Plot, Plot]:
    """Return the plots of recordings per day and of bytes per day."""
    counts = dict.fromkeys(days_until(now), 0)
    sizes = dict(counts)
    for row in rows:
        at = words.parse(row.get("invoked_at"))
        if at and (day := words.local(at).date()) in counts:
            counts[day] += 1
            sizes[day] += row.get("file_size") or 0
    return (
        _bars(counts, lambda value: f"{value:,.0f}", f"{sum(counts.values()):,} recordings"),
        _bars(sizes, lambda value: words.size(int(value)) or "0", words.size(sum(sizes.values()))),
    )


def _bars(values: Mapping[date, int], say: Any, total: str) -> Plot:
    top = _round_up(max(values.values(), default=0))
    step = (WIDTH - LEFT) / len(values)
    shapes = []
    for index, (day, value) in enumerate(values.items()):
        height = (HEIGHT - BOTTOM - TOP) * value / top
        tick = f"{day.day} {day:%b}" if (len(values) - 1 - index) % 3 == 0 else ""
        shapes.append(
            Bar(
                x=round(LEFT + step * index + step * 0.15, 1),
                y=round(HEIGHT - BOTTOM - height, 1),
                width=round(step * 0.7, 1),
                height=round(height, 1),
                day=f"{day.day} {day:%b}",
                value=say(value),
                tick=tick,
            )
        )
    ticks = [Tick(round(_y(share), 1), say(top * share)) for share in (0, 0.5, 1)]
    return Plot(shapes, ticks, total)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share


def _round_up(value: float) -> float:
    """Return the next 2, 4, 6 or 10 times a power of ten, so that half of it is a round number."""
    power = 10 ** math.floor(math.log10(value)) if value >= 1 else 1
    return next(power * factor for factor in (2, 4, 6, 10) if power * factor >= value)


def archive_delays(rows: Sequence[Row]) -> Plot:
    """Return the plot of the time from UPLOADED to the last archived file, of whole rows.

    The recordings run from the oldest to the newest, the time on a logarithmic scale.
    """
    found = [(row, delay) for row in rows if (delay := _delay(row)) is not None]
    found.sort(key=lambda pair: str(pair[0].get("invoked_at")))
    steps = (1, 10, 60, 600, 3600, 86_400)
    slowest = max((delay for _, delay in found), default=0)
    top = next((step for step in steps if step >= slowest), 7 * 86_400)
    shapes = []
    for index, (row, delay) in enumerate(found):
        shapes.append(
            Dot(
                x=round(LEFT + (WIDTH - LEFT) * (index + 0.5) / len(found), 1),
                y=round(_y(_log_share(delay, top)), 1),
                recording_id=str(row["recording_id"]),
                title=words.title(row) or "Untitled meeting",
                value=words.span(timedelta(seconds=delay)),
                is_slow=delay > 3600,
            )
        )
    ticks = [
        Tick(round(_y(_log_share(step, top)), 1), words.span(timedelta(seconds=step)))
        for step in steps
        if step <= top
    ]
    half = sorted(delay for _, delay in found)[len(found) // 2] if found else 0
    return Plot(shapes, ticks, f"half within {words.span(timedelta(seconds=half))}")


def _log_share(seconds: float, top: float) -> float:
    return min(math.log(max(seconds, 0) + 1) / math.log(top + 1), 1)


def _delay(row: Row) -> float | None:
    """Return the seconds from UPLOADED to the last archived file, `None` if a file is not."""
    uploaded = [
        time
        for entry in row.get("status_history", [])
        if entry.get("status") == "UPLOADED" and (time := words.parse(entry.get("at")))
    ]
    archived = [
        words.parse(artifact.get("archive", {}).get("archived_at"))
        for artifact in row.get("artifacts", {}).values()
        if artifact.get("kind") in ("video", "audio", "track")
    ]
    times = [time for time in archived if time]
    if not uploaded or not times or len(times) < len(archived):
        return None
    return max((max(times) - uploaded[0]).total_seconds(), 0)
