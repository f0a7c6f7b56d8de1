"""Webhooks: what happens in a world, posted to those who asked for it.

    webhooks.registrations.add("http://127.0.0.1:8000/hook", events=["recording.statusUpdate"])
    recording = world.record_meeting()
    webhooks.deliver(recording.session.started_at, world.clock.now(), order="reversed")
    webhooks.send("livestreaming.statusUpdate", fields={"streamKey": "canary"})

Each delivery is signed with `webhooks.key`, whose public half the simulator publishes. Deliveries
are made on demand, as above, or as things happen, from `start` to `stop`.
"""

import random
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import Any, Literal

from . import dyte, payloads
from .delivery import Courier, Delivery, DeliveryLog, DeliveryRules, Message, Outcome
from .meetings import Recording, Session
from .options import Status
from .registrations import EVENTS, Registrations, Webhook
from .signing import SigningKey
from .world import EventName, TimelineEvent, UnknownError, World

Order = Literal["timeline", "reversed", "shuffled"]
Parcel = tuple[Message, Webhook]

TICK_SECONDS = 0.05
LATENESS_SECONDS = 1.0
"""Real seconds that an event may appear after its time and still be delivered live.

`record_meeting(started_at=clock.now())` puts one a little into the past.
"""


class Webhooks:
    """The registrations, the key, the deliveries. Safe to use from several threads.

    `rules` may be replaced at any time. Once stopped it delivers no more.
    """

    def __init__(
        self,
        world: World,
        *,
        key: SigningKey | None = None,
        rules: DeliveryRules | None = None,
    ) -> None:
        self.key = key or SigningKey()
        self.rules = rules or DeliveryRules()
        self.registrations = Registrations(world)
        self.log = DeliveryLog()
        self._world = world
        self._stopped = Event()
        self._thread: Thread | None = None

    def rotate_key(self) -> None:
        """Sign with a new key from now on, and publish it at once."""
        self.key.rotate()

    def message(self, event: TimelineEvent, fields: Mapping[str, Any] | None = None) -> Message:
        """An event as it is posted; `fields` go over those of its body."""
        write = dyte.body if self.rules.bodies == "dyte" else payloads.body
        return Message(
            event=event.name,
            occurred_at=event.at,
            recording_id=event.recording.id if event.recording else None,
            body=payloads.encoded({**write(self._world, event), **(fields or {})}),
        )

    # On demand.

    def deliver(
        self,
        since: datetime,
        until: datetime,
        *,
        order: Order = "timeline",
        seed: int | None = None,
        duplicates: int = 0,
        lost: float = 0,
        concurrency: int = 1,
    ) -> list[Delivery]:
        """Deliver what takes place from `since` up to but not including `until`, once more if ever.

        To all that have subscribed by now; what is only planned is delivered as planned. Each is
        delivered `duplicates` more times, and each of these is lost with that probability; a seed
        makes order and losses the same in every run. One after another, or so many at once.
        Returns all of them in the order they were sent off, when all are over.
        """
        if order not in ("timeline", "reversed", "shuffled"):
            raise ValueError(f"{order!r} is no order")
        if not 0 <= lost <= 1:
            raise ValueError("a probability is from 0 to 1")
        messages = map(self.message, filter(self._is_sent, self._world.timeline(since, until)))
        parcels = self._parcels(messages, duplicates)
        chance = random.Random(seed)  # noqa: S311
        if order == "shuffled":
            chance.shuffle(parcels)
        elif order == "reversed":
            parcels.reverse()
        losses = [chance.random() < lost for _ in parcels]
        return self._deliver_all(parcels, losses, concurrency)

    def send(
        self,
        event: EventName,
        session: Session | None = None,
        *,
        recording: Recording | None = None,
        at: datetime | None = None,
        fields: Mapping[str, Any] | None = None,
        duplicates: int = 0,
        concurrency: int = 1,
    ) -> list[Delivery]:
        """Deliver an event of any of the nine names, whether or not it takes place.

        It is about `session`, by default the recording's or the one that started last; a
        recording.statusUpdate about `recording`, by default the session's last; both as they are
        `at` that time, by default now. `fields` go over those of the body. ValueError if there is
        no such event, UnknownError if there is nothing that it could be about.
        """
        if event not in EVENTS:
            raise ValueError(f"{event!r} is none of {', '.join(EVENTS)}")
        happened = self._event(event, session, recording, at or self._world.clock.now())
        parcels = self._parcels([self.message(happened, fields)], duplicates)
        return self._deliver_all(parcels, [False] * len(parcels), concurrency)

    # As things happen.

    def start(self) -> None:
        """Deliver what happens from now on, as it happens, in a thread of its own.

        One after another and in order of time: one that is retried holds up those behind it.
        What is put into the past is not, that takes `deliver`: of a meeting that `record_meeting`
        lets have happened just now, only the end is delivered.
        """
        self._thread = Thread(target=self._follow, args=(self._world.clock.now(),), name="webhooks")
        self._thread.start()

    def stop(self) -> None:
        """Post no more; returns when what was being posted is answered or has timed out."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _follow(self, since: datetime) -> None:
        told: set[TimelineEvent] = set()
        while not self._stopped.wait(TICK_SECONDS):
            events, now = self._world.happened(since)
            fresh = [event for event in events if event not in told]
            late = timedelta(seconds=self._world.clock.speed * LATENESS_SECONDS)
            since = max(since, now - late)
            told = {event for event in events if event.at >= since}
            parcels = self._parcels(map(self.message, filter(self._is_sent, fresh)), 0)
            self._deliver_all(parcels, [False] * len(parcels), 1)

    def _is_sent(self, event: TimelineEvent) -> bool:
        return event.status is None or event.status in self.rules.statuses

    def _parcels(self, messages: Iterable[Message], duplicates: int) -> list[Parcel]:
        if duplicates < 0:
            raise ValueError("duplicates are 0 or more")
        return [
            (message, webhook)
            for message in messages
            for webhook in self.registrations.subscribed(message.event)
            for _ in range(1 + duplicates)
        ]

    def _deliver_all(
        self, parcels: list[Parcel], losses: list[bool], concurrency: int
    ) -> list[Delivery]:
        if concurrency == 1:
            return list(map(self._deliver, parcels, losses))
        with ThreadPoolExecutor(concurrency, thread_name_prefix="webhooks") as pool:
            return list(pool.map(self._deliver, parcels, losses))

    def _deliver(self, parcel: Parcel, is_lost: bool) -> Delivery:
        message, webhook = parcel
        if is_lost:
            delivery = Delivery(message=message, webhook=webhook, outcome=Outcome.LOST)
        else:
            delivery = Courier(self.key, self.rules, self._stopped).deliver(message, webhook)
        self.log.append(delivery)
        return delivery

    def _event(
        self,
        name: EventName,
        session: Session | None,
        recording: Recording | None,
        at: datetime,
    ) -> TimelineEvent:
        session = session or (recording.session if recording else self._last_session())
        status: Status | None = None
        if name == "recording.statusUpdate":
            recording = recording or _last_recording(session, at)
            status = recording.at(at).status
        else:
            recording = None
        return TimelineEvent(at=at, name=name, session=session, recording=recording, status=status)

    def _last_session(self) -> Session:
        sessions = self._world.sessions()
        if not sessions:
            raise UnknownError("no session that it could be about")
        return max(sessions, key=lambda session: session.started_at)


def _last_recording(session: Session, at: datetime) -> Recording:
    recordings = [recording for recording in session.recordings if recording.exists(at)]
    if not recordings:
        raise UnknownError("no recording that it could be about")
    return recordings[-1]
