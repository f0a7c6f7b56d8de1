"""What a seed makes: meetings, what becomes of their webhooks, and all that goes wrong.

Every decision has a generator of its own, by the seed and what it is about: so what goes wrong with
the fifth invocation of a function does not depend on how the others went.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from local.simulator import (
    HOST_ENDED_MEETING,
    Chunked,
    Delay,
    Drop,
    IgnoreRange,
    Kind,
    Meeting,
    RecordingOptions,
    Replaced,
    Reset,
    Resize,
    Session,
    Stale,
    Status,
    TimelineEvent,
    Truncate,
    World,
    empty,
    error,
    garbage,
    gateway_error,
    html,
    rate_limited,
    storage_failure,
    unsuccessful,
)

ORIGIN = datetime(2026, 6, 3, 10, 0, tzinfo=UTC)
SECONDS_PER_MEETING = 20
DAY = 86_400.0
CANARY = "canary-"
"""Begins every secret that there is, but for URLs' signatures."""

UPSTREAM_FAULTS: dict[str, Callable[[random.Random], Any]] = {
    "429": lambda chance: rate_limited(chance.randint(1, 20)),
    "429 of a penalty": lambda chance: rate_limited(300),
    "429 for a day": lambda chance: rate_limited(86_400),
    "429 without a time": lambda chance: rate_limited(None),
    "500": lambda chance: error(500),
    "502 in HTML": lambda chance: html(502),
    "520 and empty": lambda chance: empty(520),
    "no JSON": lambda chance: garbage(),
    "no success": lambda chance: unsuccessful(),
    "dropped": lambda chance: Drop(),
    "truncated": lambda chance: Truncate(part=chance.random()),
    "stale recording": lambda chance: Stale(Status.RECORDING),
    "stale uploading": lambda chance: Stale(Status.UPLOADING),
    "not there yet": lambda chance: error(404),
    "token refused": lambda chance: gateway_error(403),
}
MEDIA_FAULTS: dict[str, Callable[[random.Random], Any]] = {
    "dropped": lambda chance: Drop(),
    "truncated": lambda chance: Truncate(part=chance.random()),
    "reset": lambda chance: Reset(chance.randint(0, 600)),
    "shorter": lambda chance: Resize(chance.randint(1, 500)),
    "replaced": lambda chance: Replaced(),
    "no ranges": lambda chance: IgnoreRange(),
    "of no length": lambda chance: Chunked(),
    "an error that is a 200": lambda chance: storage_failure(200),
    "slow down": lambda chance: storage_failure(503, "SlowDown"),
    "URL refused": lambda chance: storage_failure(403, "AccessDenied"),
    "a page": lambda chance: html(200),
}
AWS_FAULTS = ("throttled", "failed", "dropped", "answer lost", "refused in a 200")


@dataclass(frozen=True, slots=True, kw_only=True)
class Troubles:
    """Of one invocation: by the number of its request to AWS, what becomes of it.

    `kills_at` is when its process is killed: before that request is carried out, or after.
    `seconds` is the time it has, where that is not the function's time-out.
    """

    kills_at: tuple[int, str] | None = None
    faults: dict[int, str] = field(default_factory=dict)
    seconds: float | None = None


NO_TROUBLES = Troubles()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An event on its way: posted as a webhook, put on the bus, or forged."""

    at: float
    event: TimelineEvent
    way: str = "webhook"
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to so many meetings, by a seed. Without `faults` nothing goes wrong."""

    seed: int
    meetings: int
    faults: bool = True

    def chance(self, *about: object) -> random.Random:
        """The generator of all decisions about something."""
        return random.Random("/".join(map(str, (self.seed, *about))))

    @property
    def busy_seconds(self) -> float:
        """In which meetings begin, and RealtimeKit has its troubles."""
        return self.meetings * SECONDS_PER_MEETING + 3600.0

    def token(self, number: int) -> str:
        """The API token before the first rotation, after it, and so on."""
        return f"{CANARY}token-{self.seed}-{number}"

    # What takes place.

    def populate(self, world: World) -> None:
        """Let it all happen, in the clock's future."""
        for number in range(self.meetings):
            chance = self.chance("meeting", number)
            start = ORIGIN + timedelta(seconds=chance.uniform(1, self.meetings * SECONDS_PER_MEETING))
            config = {"live_streaming_config": {"rtmp_url": f"rtmps://example.com/{CANARY}rtmp"}}
            meeting = world.create_meeting(
                title=f"Meeting {number}",
                recording_config=config if chance.random() < 0.3 else None,
                keep_alive_seconds=chance.choice([60, 600]),
                at=start,
            )
            for _ in range(1 if chance.random() < 0.85 else 2):
                end = self._hold(world, meeting, start, chance)
                start = end + timedelta(seconds=chance.uniform(700, 1500))

    def _hold(
        self, world: World, meeting: Meeting, start: datetime, chance: random.Random
    ) -> datetime:
        """One session, with no recording or with some; when it ends."""
        session = world.start_session(meeting, at=start)
        length = chance.uniform(120, 3600)
        for _ in range(chance.choices([0, 1, 2, 3], [5, 70, 20, 5])[0]):
            self._record(world, session, start, length, chance)
        reason = chance.choice(["ALL_PARTICIPANTS_LEFT", HOST_ENDED_MEETING])
        end = start + timedelta(seconds=length)
        world.end_session(session, reason=reason, at=end)
        return end

    def _record(
        self, world: World, session: Session, start: datetime, length: float, chance: random.Random
    ) -> None:
        def moment(part: float) -> datetime:
            return start + timedelta(seconds=length * part)

        options = self._options(chance)
        invoked = moment(chance.uniform(0, 0.2))
        recording = world.start_recording(session, options, allow_multiple=True, at=invoked)
        if chance.random() < 0.3:
            world.pause(recording, at=moment(0.4))
            if chance.random() < 0.8:
                world.resume(recording, at=moment(0.6))
        if chance.random() < 0.05:
            world.fail(recording, at=moment(0.8))
        elif chance.random() < 0.4:
            world.stop(recording, at=moment(0.9))

    def _options(self, chance: random.Random) -> RecordingOptions:
        storage = self._storage(chance) if chance.random() < 0.3 else None
        return RecordingOptions(
            kind=chance.choices(list(Kind), [60, 10, 10, 20])[0],
            separate_audio=chance.random() < 0.3,
            audio_codec=chance.choice(["AAC", "MP3"]),
            video_codec=chance.choice(["H264", "VP8"]),
            participants=chance.randint(1, 4),
            layers=chance.choice([("default",), ("default", "speakers")]),
            realtimekit_bucket=storage is None or chance.random() < 0.5,
            storage_config=storage,
            start_delay=chance.uniform(1, 5),
            upload_seconds=chance.uniform(5, 600),
            outcome=Status.ERRORED if chance.random() < 0.08 else Status.UPLOADED,
            # Of three parts, now and then.
            file_size=chance.randint(600, 20_000) + (11 << 20) * (chance.random() < 0.02),
            audio_file_size=chance.randint(600, 5_000),
            duration=chance.choice([None, None, None, 12.001]),
        )

    def _storage(self, chance: random.Random) -> dict[str, Any]:
        return {
            "type": chance.choice(["aws", "cloudflare", "gcs", "sftp"]),
            "bucket": "the-owners-bucket",
            "region": "eu-central-1",
            "path": "recordings/of/ours",
            "access_key": f"{CANARY}access-key",
            "secret": f"{CANARY}secret",
            "password": f"{CANARY}password",
            "private_key": f"{CANARY}private-key",
        }

    # What is told of it.

    def deliveries(self, world: World) -> Iterator[Delivery]:
        """All attempts to tell, in no order."""
        until = ORIGIN + timedelta(seconds=self.busy_seconds + DAY)
        for number, event in enumerate(world.timeline(ORIGIN, until)):
            yield from self._deliveries_of(number, event)

    def _deliveries_of(self, number: int, event: TimelineEvent) -> Iterator[Delivery]:
        happened, chance = event.at.timestamp(), self.chance("delivery", number)
        if not self.faults:
            yield Delivery(at=happened + 1, event=event)
            return
        # Of some sessions nothing is heard at all.
        is_lost = self.chance("lost", event.session.id).random() < 0.1 or chance.random() < 0.2
        for _ in range(0 if is_lost else 1 + (chance.random() < 0.25)):
            late = chance.choices(
                [chance.uniform(0.2, 5), chance.uniform(60, 3600), chance.uniform(1, 5.5) * DAY],
                [80, 17, 3],
            )[0]
            way = "bus" if chance.random() < 0.15 else "webhook"
            yield Delivery(at=happened + late, event=event, way=way)
        if chance.random() < 0.05:
            yield Delivery(at=happened + chance.uniform(0, DAY), event=event, way="forged")

    # What goes wrong.

    def troubles(self, function: str, number: int) -> Troubles:
        """Of so many an invocation of a function."""
        if not self.faults:
            return NO_TROUBLES
        chance = self.chance("invocation", function, number)
        at, kind = chance.randint(1, 12), chance.choice(AWS_FAULTS)
        lasting = dict.fromkeys(range(at, at + 4), kind)
        return chance.choices(
            [
                NO_TROUBLES,
                Troubles(kills_at=(at, chance.choice(["before", "after"]))),
                Troubles(faults={at: kind}),
                Troubles(faults=lasting),
                Troubles(seconds=31),
            ],
            [65, 13, 14, 5, 3],
        )[0]

    def upstream_faults(self) -> Iterator[tuple[float, str, dict[str, Any]]]:
        """When, where, and what is to be done to the simulator's faults."""
        for number in range(self.meetings * 3 // 4 if self.faults else 0):
            chance = self.chance("upstream", number)
            at = ORIGIN.timestamp() + chance.uniform(0, self.busy_seconds)
            where = chance.choices(["recordings", "media", "key"], [55, 40, 5])[0]
            known = MEDIA_FAULTS if where == "media" else UPSTREAM_FAULTS
            kind = chance.choice(list(known))
            effect = Delay(11) if number == 0 else known[kind](chance)
            path = {"recordings": "/(recordings|sessions)", "media": "^/media", "key": "well-known"}
            times = 1 if number == 0 else chance.randint(1, 3)
            yield at, f"{where}: {kind}", {"effect": effect, "path": path[where], "times": times}


def body_of(world_message: bytes) -> bytes:
    """An event's body as RealtimeKit would sign it, with a secret that is nobody's business."""
    return json.dumps({**json.loads(world_message), "streamKey": f"{CANARY}stream-key"}).encode()
