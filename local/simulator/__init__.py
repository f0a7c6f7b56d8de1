"""A simulator of Cloudflare RealtimeKit: a world of meetings, its REST API, its webhooks.

All over HTTP on loopback.

    with Simulator(World(clock=Clock(speed=0))) as simulator:
        recording = simulator.world.record_meeting(title="Weekly sync")
        simulator.faults.add(error(503), path="/recordings/", times=2)
        client = RealtimeKit(simulator.app_url, …)

        simulator.webhooks.registrations.add("http://127.0.0.1:8000/webhook")
        since = recording.session.started_at
        simulator.webhooks.deliver(since, simulator.world.clock.now(), order="shuffled", seed=1)

`python -m local.simulator` runs one by itself; `GET /_simulator` says how to control it.
"""

from .clock import Clock
from .delivery import Attempt, Delivery, DeliveryRules, Message, Outcome
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
from .registrations import EVENTS, InvalidWebhookError, Registrations, Webhook
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
    "Clock",
    "ConflictError",
    "Delay",
    "Delivery",
    "DeliveryRules",
    "Drop",
    "Effect",
    "EventName",
    "InvalidWebhookError",
    "Kind",
    "LoggedRequest",
    "Meeting",
    "Message",
    "Outcome",
    "Overlay",
    "RateLimit",
    "Recording",
    "RecordingOptions",
    "Registrations",
    "Session",
    "SigningKey",
    "Simulator",
    "Stale",
    "Status",
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
    "rate_limited",
    "unsuccessful",
]
