"""Recorded meetings for the local stack's catalogue page, of the last days, with what they left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from realtimekit_simulator import Recording, Simulator, Status
from realtimekit_simulator.options import Kind

ALL_FILES = ("transcript", "summary", "chat")


class Example(NamedTuple):
    """A recorded meeting: its title, the age of its end in hours, and what it left."""

    title: str
    hours_ago: float
    minutes: float = 30
    files: tuple[str, ...] = ()
    options: Mapping[str, Any] = {}
    status: Status | None = None


EXAMPLES = (
    # The length of the simulator's playable files.
    Example("Weekly sync", 3, 20 / 60, ALL_FILES, {"separate_audio": True}),
    Example("Interview: platform engineer", 5, 46, ("transcript",), {"kind": Kind.TRACK}),
    Example("Quarterly planning with the whole team, part two", 9, 61, ALL_FILES),
    Example("Support call 4711", 26, 7, ("chat",), {"kind": Kind.AUDIO, "audio_codec": "MP3"}),
    Example("Design review", 29, 52, ("transcript", "summary")),
    Example("Réunion budgétaire", 33, 35, ("transcript",)),
    Example("All hands", 50, 58, ALL_FILES, {"separate_audio": True}),
    Example("Lecture 12", 75, 90, ("transcript",)),
    Example("Daily", 98, 14),
    Example("Customer workshop", 122, 118, ALL_FILES, status=Status.ERRORED),
)


def record(simulator: Simulator) -> list[Recording]:
    """Make the meetings; their webhooks are still to be delivered."""
    return [_record(simulator, example) for example in EXAMPLES]


def _record(simulator: Simulator, example: Example) -> Recording:
    world = simulator.world
    seconds = example.minutes * 60
    began = world.clock.now() - timedelta(hours=example.hours_ago, seconds=seconds)
    return world.record_meeting(
        title=example.title,
        duration=seconds,
        started_at=began,
        status=example.status,
        options=replace(world.defaults, **example.options),
        session_files=example.files,
    )


def announce(simulator: Simulator, until: datetime) -> None:
    """Deliver the webhooks of everything that happened in the week before a time."""
    simulator.webhooks.deliver(until - timedelta(days=8), until)
