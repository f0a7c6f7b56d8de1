"""Webhooks: the events of a world, posted to the registered URLs.

    webhooks.registrations.add("http://127.0.0.1:8000/hook", events=["recording.statusUpdate"])
    recording = world.record_meeting()
    webhooks.deliver(recording.session.started_at, world.clock.now(), order="reversed")
    webhooks.send("livestreaming.statusUpdate", fields={"streamKey": "canary"})

Each delivery is signed with `webhooks.key`, whose public half the simulator publishes. Deliveries
are made on demand, as above, or as events happen, from `start` to `stop`.
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
MAX_LATENESS_SECONDS = 1.0
"""Real seconds by which an event may be late and still be delivered live.

`record_meeting(started_at=clock.now())` makes an event that is slightly late.
"""


class Webhooks:
    """Registrations, signing key and deliveries. Safe to use from several threads.

    `rules` may be replaced at any time. After `stop` there are no more deliveries.
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
        """Replace the signing key; the new one is published at once."""
        self.key.rotate()

    def message(self, event: TimelineEvent, fields: Mapping[str, Any] | None = None) -> Message:
        """Return an event as it is posted; `fields` replace those of its body."""
        write = dyte.body if self.rules.bodies == "dyte" else payloads.body
        return Message(
            event=event.name,
            occurred_at=event.at,
            recording_id=event.recording.id if event.recording else None,
            body=payloads.encode({**write(self._world, event), **(fields or {})}),
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
        """Deliver the events from `since` up to but without `until`, even if delivered before.

        They go to the webhooks that are subscribed now; future events go as planned. Each event is
        delivered `duplicates` more times. `lost` is the probability of leaving a delivery out. A
        seed makes order and losses the same in every run. `concurrency` deliveries run at once.
        Return the deliveries in the order they were started, when all have finished.
        """
        if order not in ("timeline", "reversed", "shuffled"):
            raise ValueError(f"order must be timeline, reversed or shuffled, not {order!r}")
        if not 0 <= lost <= 1:
            raise ValueError("lost must be a probability from 0 to 1")
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
        """Deliver an event of any of the nine names, whether or not it happens in the world.

        The event's session is `session`, else the recording's, else the one that started last. A
        recording.statusUpdate is about `recording`, else the session's last. They appear as they
        are `at` that time, by default now. `fields` replace those of the body. Raise ValueError
        for another name, UnknownError if there is no session or recording.
        """
        if event not in EVENTS:
            raise ValueError(f"{event!r} is no event; use one of {', '.join(EVENTS)}")
        happened = self._event(event, session, recording, at or self._world.clock.now())
        parcels = self._parcels([self.message(happened, fields)], duplicates)
        return self._deliver_all(parcels, [False] * len(parcels), concurrency)

    # As things happen.

    def start(self) -> None:
        """Deliver events from now on as they happen, in a thread.

        Deliveries run one after another in order of time, so a retry holds up the next. Events in
        the past need `deliver`: of a meeting that `record_meeting` has just ended, only the end is
        delivered.
        """
        self._thread = Thread(target=self._follow, args=(self._world.clock.now(),), name="webhooks")
        self._thread.start()

    def stop(self) -> None:
        """Stop delivering; return when a running post is answered or has timed out."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _follow(self, since: datetime) -> None:
        delivered: set[TimelineEvent] = set()
        while not self._stopped.wait(TICK_SECONDS):
            events, now = self._world.happened(since)
            fresh = [event for event in events if event not in delivered]
            late = timedelta(seconds=self._world.clock.speed * MAX_LATENESS_SECONDS)
            since = max(since, now - late)
            delivered = {event for event in events if event.at >= since}
            parcels = self._parcels(map(self.message, filter(self._is_sent, fresh)), 0)
            self._deliver_all(parcels, [False] * len(parcels), 1)

    def _is_sent(self, event: TimelineEvent) -> bool:
        return event.status is None or event.status in self.rules.statuses

    def _parcels(self, messages: Iterable[Message], duplicates: int) -> list[Parcel]:
        if duplicates < 0:
            raise ValueError("duplicates must be 0 or more")
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
            raise UnknownError("no session yet: let one start, or have a meeting recorded")
        return max(sessions, key=lambda session: session.started_at)


def _last_recording(session: Session, at: datetime) -> Recording:
    recordings = [recording for recording in session.recordings if recording.exists(at)]
    if not recordings:
        raise UnknownError("no recording in the session at that time")
    return recordings[-1]
