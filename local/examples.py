"""Recorded meetings for the local stack's catalogue page, of the last days, with what they left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

from realtimekit_simulator import Kind, Recording, Simulator, Status, storage_failure

ALL_FILES = ("transcript", "summary", "chat")


class Example(NamedTuple):
    """A recorded meeting: its title, the age of its end in hours, and what it left.

    The storage refuses the files of one that is `stuck`, so they are not archived.
    """

    title: str
    hours_ago: float
    minutes: float = 30
    files: tuple[str, ...] = ()
    options: Mapping[str, Any] = {}
    status: Status | None = None
    stuck: bool = False


EXAMPLES = (
    Example("Office hours", 0, 12, status=Status.RECORDING),
    # As long as the simulator's playable files.
    Example("Weekly sync", 3, 20 / 60, ALL_FILES, {"separate_audio": True}),
    Example("Interview: platform engineer", 5, 46, ("transcript",), {"kind": Kind.TRACK}),
    Example("Quarterly planning with the whole team", 9, 61, ALL_FILES),
    Example("Support call 4711", 26, 7, ("chat",), {"kind": Kind.AUDIO, "audio_codec": "MP3"}),
    Example("Design review", 29, 52, ("transcript", "summary")),
    Example("All hands", 50, 58, ALL_FILES, {"separate_audio": True}),
    Example("Réunion budgétaire", 54, 35, ("transcript",)),
    Example("Lecture 12", 75, 90, ("transcript", "chat")),
    Example("Broken upload", 98, 14, status=Status.ERRORED),
    Example("Customer workshop", 136, 118, stuck=True),
    # RealtimeKit deleted its files before the stack heard of it.
    Example("Kick-off", 200, 45),
)


def record(simulator: Simulator) -> list[Recording]:
    """Make the meetings; their webhooks are still to be delivered."""
    return [_record(simulator, example) for example in EXAMPLES]


def _record(simulator: Simulator, example: Example) -> Recording:
    world = simulator.world
    seconds = example.minutes * 60
    began = world.clock.now() - timedelta(hours=example.hours_ago, seconds=seconds)
    recording = world.record_meeting(
        title=example.title,
        duration=seconds,
        started_at=began,
        status=example.status,
        options=replace(world.defaults, **example.options),
        session_files=example.files,
    )
    if example.stuck:
        simulator.faults.add(
            storage_failure(403, "AccessDenied"), path=f"^/media/{recording.id}/", times=None
        )
    return recording


def announce(simulator: Simulator, recordings: list[Recording]) -> None:
    """Deliver the webhooks of some recordings and their sessions.

    Webhooks about a session's files come last, because the stack looks again only after an hour at
    a session whose recording it does not know.
    """
    now = simulator.world.clock.now()
    ends = [recording.session.ended_at or now for recording in recordings]
    for recording, end in zip(recordings, ends, strict=True):
        simulator.webhooks.deliver(recording.session.started_at, end)
    for end in ends:
        simulator.webhooks.deliver(end, end + timedelta(minutes=5))
