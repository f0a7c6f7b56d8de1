"""Simulator of Cloudflare RealtimeKit: its meetings, REST API, webhooks and files, on loopback.

    with Simulator(World(clock=Clock(speed=0))) as simulator:
        recording = simulator.world.record_meeting(title="Weekly sync")
        simulator.faults.add(error(503), path="/recordings/", times=2)
        client = RealtimeKit(simulator.app_url, …)

        simulator.webhooks.registrations.add("http://127.0.0.1:8000/webhook")
        since = recording.session.started_at
        simulator.webhooks.deliver(since, simulator.world.clock.now(), order="shuffled", seed=1)

        [video] = simulator.world.media_files(recording)
        simulator.faults.add(Truncate(size=1_000_000), path="^/media/")
        archived = …  # compare it with video.size, video.sha256() and video.crc32()

The command `realtimekit-simulator` runs one; its `GET /_simulator` lists the control routes.
"""

from .clock import Clock
from .delivery import Attempt, Delivery, DeliveryRules, Message, Outcome
from .faults import (
    Answer,
    Delay,
    Drop,
    DropKept,
    Effect,
    Overlay,
    Stale,
    Truncate,
    empty,
    error,
    garbage,
    gateway_error,
    html,
    message_only,
    rate_limited,
    unsuccessful,
)
from .gateway import LoggedRequest, RateLimit, Tokens
from .media_faults import (
    Chunked,
    Headers,
    IgnoreRange,
    Replaced,
    Reset,
    Resize,
    Slow,
    storage_failure,
)
from .media_files import MediaFile, StoredFile
from .meetings import Artifact, Meeting, Recording, Session
from .options import FileKind, Kind, RecordingOptions, SessionFileOptions, Status
from .registrations import EVENTS, InvalidWebhookError, Registrations, Webhook
from .session_files import SessionFile
from .signing import KEY_PATH, SigningKey
from .simulator import Simulator
from .webhooks import Webhooks
from .world import (
    ALL_PARTICIPANTS_LEFT,
    DEFAULT_ACCOUNT_ID,
    DEFAULT_APP_ID,
    DEFAULT_TOKEN,
    HOST_ENDED_MEETING,
    ConflictError,
    EventName,
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
    "EVENTS",
    "HOST_ENDED_MEETING",
    "KEY_PATH",
    "Answer",
    "Artifact",
    "Attempt",
    "Chunked",
    "Clock",
    "ConflictError",
    "Delay",
    "Delivery",
    "DeliveryRules",
    "Drop",
    "DropKept",
    "Effect",
    "EventName",
    "FileKind",
    "Headers",
    "IgnoreRange",
    "InvalidWebhookError",
    "Kind",
    "LoggedRequest",
    "MediaFile",
    "Meeting",
    "Message",
    "Outcome",
    "Overlay",
    "RateLimit",
    "Recording",
    "RecordingOptions",
    "Registrations",
    "Replaced",
    "Reset",
    "Resize",
    "Session",
    "SessionFile",
    "SessionFileOptions",
    "SigningKey",
    "Simulator",
    "Slow",
    "Stale",
    "Status",
    "StoredFile",
    "TimelineEvent",
    "Tokens",
    "Truncate",
    "Undocumented",
    "UnknownError",
    "Webhook",
    "Webhooks",
    "World",
    "empty",
    "error",
    "garbage",
    "gateway_error",
    "html",
    "message_only",
    "rate_limited",
    "storage_failure",
    "unsuccessful",
]
