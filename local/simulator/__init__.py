"""A simulator of Cloudflare RealtimeKit's REST API: a world of meetings, behind HTTP on loopback.

    with Simulator(World(clock=Clock(speed=0))) as simulator:
        recording = simulator.world.record_meeting(title="Weekly sync")
        simulator.faults.add(error(503), path="/recordings/", times=2)
        client = RealtimeKit(simulator.app_url, …)

`python -m local.simulator` runs one by itself; `GET /_simulator` says how to control it.
"""

from .clock import Clock
from .faults import (
    Answer,
    Delay,
    Drop,
    Effect,
    Overlay,
    Stale,
    Truncate,
    empty,
    error,
    garbage,
    gateway_error,
    html,
    rate_limited,
    unsuccessful,
)
from .gateway import LoggedRequest, RateLimit, Tokens
from .meetings import Artifact, Meeting, Recording, Session
from .options import Kind, RecordingOptions, Status
from .simulator import Simulator
from .world import (
    ALL_PARTICIPANTS_LEFT,
    DEFAULT_ACCOUNT_ID,
    DEFAULT_APP_ID,
    DEFAULT_TOKEN,
    HOST_ENDED_MEETING,
    ConflictError,
    TimelineEvent,
    Undocumented,
    UnknownError,
    World,
)

__all__ = [
    "ALL_PARTICIPANTS_LEFT",
    "DEFAULT_ACCOUNT_ID",
    "DEFAULT_APP_ID",
    "DEFAULT_TOKEN",
    "HOST_ENDED_MEETING",
    "Answer",
    "Artifact",
    "Clock",
    "ConflictError",
    "Delay",
    "Drop",
    "Effect",
    "Kind",
    "LoggedRequest",
    "Meeting",
    "Overlay",
    "RateLimit",
    "Recording",
    "RecordingOptions",
    "Session",
    "Simulator",
    "Stale",
    "Status",
    "TimelineEvent",
    "Tokens",
    "Truncate",
    "Undocumented",
    "UnknownError",
    "World",
    "empty",
    "error",
    "garbage",
    "gateway_error",
    "html",
    "rate_limited",
    "unsuccessful",
]
