"""The plan that a seed makes: meetings, the fate of their webhooks, and all faults.

Every decision has a generator of its own, by the seed and what it is about: so what goes wrong with
the fifth invocation of a function does not depend on how the others went.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from realtimekit_simulator import (
    HOST_ENDED_MEETING,
    Chunked,
    Delay,
    Drop,
    DropKept,
    IgnoreRange,
    Kind,
    Recording,
    RecordingOptions,
    Replaced,
    Reset,
    Resize,
    Session,
    SessionFileOptions,
    Simulator,
    Stale,
    Status,
    TimelineEvent,
    Truncate,
    Undocumented,
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
SECONDS_PER_MEETING = 60
HOUR, DAY = 3600.0, 86_400.0
CANARY = "canary-"
"""Begins every secret that there is, but for the signatures of download URLs."""

# Of a function to AWS, in most invocations.
REQUESTS = {
    "archive_recording": 14,
    "follow_up": 8,
    "ingest_recording": 10,
    "publish_changes": 3,
    "receive_webhook": 1,
    "serve_catalogue": 9,
    "sweep_recordings": 12,
}
AWS_FAULTS = ("throttled", "failed", "dropped", "answer lost")
API_FAULTS: dict[str, Callable[[random.Random], Any]] = {
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
    "stale, recording": lambda chance: Stale(Status.RECORDING),
    "stale, uploading": lambda chance: Stale(Status.UPLOADING),
    "not there yet": lambda chance: error(404),
    "token refused": lambda chance: gateway_error(403),
}
MEDIA_FAULTS: dict[str, Callable[[random.Random], Any]] = {
    "dropped": lambda chance: Drop(),
    "truncated": lambda chance: Truncate(part=chance.random()),
    "reset": lambda chance: Reset(chance.randint(0, 600)),
    "shorter": lambda chance: Resize(chance.randint(1, 500)),
    "replaced": lambda chance: Replaced(),
    "without ranges": lambda chance: IgnoreRange(),
    "without a length": lambda chance: Chunked(),
    "a 200 that is an error": lambda chance: storage_failure(200),
    "a 200 that is a page": lambda chance: html(200),
    "slow down": lambda chance: storage_failure(503, "SlowDown"),
    "URL refused": lambda chance: storage_failure(403, "AccessDenied"),
}
FAULTY_PATHS = {"api": "/(recordings|sessions)", "media": "^/media", "key": "well-known"}
# A shorter text is as good as any: nothing says the size of a session's file.
NO_SESSION_FILE = r"^/media/(?!.*/(transcript|summary|chat)\.)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Troubles:
    """The faults of one invocation, by the number of a request to AWS.

    `killed_at` is when its process is killed: before that request is carried out, or after.
    `stalled_at` is before which of its writes it is not heard of, and for how many seconds: what it
    has read is old then. `seconds` is the time it has, where that is not the function's time-out.
    """

    killed_at: tuple[int, str] | None = None
    stalled_at: tuple[int, float] | None = None
    faults: dict[int, str] = field(default_factory=dict)
    seconds: float | None = None


NO_TROUBLES = Troubles()
CERTAIN = {
    ("ingest_recording", 2): Troubles(faults={1: "throttled"}),
    ("ingest_recording", 3): Troubles(faults={2: "failed"}),
    ("ingest_recording", 4): Troubles(faults={2: "dropped"}),
    ("ingest_recording", 5): Troubles(faults={3: "answer lost"}),
    ("ingest_recording", 6): Troubles(killed_at=(3, "before")),
    ("ingest_recording", 7): Troubles(killed_at=(3, "after")),
    ("ingest_recording", 8): Troubles(stalled_at=(1, 30)),
    ("publish_changes", 2): Troubles(faults=dict.fromkeys(range(1, 4), "refused in a 200")),
}
"""The faults of every run, however short it is and whatever the seed."""


CERTAIN_RECORDINGS: Mapping[int, Mapping[str, Any]] = {
    # Files in two layers, in one; no file at all; an expiry that was never set.
    0: {"kind": Kind.TRACK, "participants": 2, "layers": ("default", "speakers")},
    1: {"kind": Kind.TRACK, "participants": 2, "layers": ("default",)},
    2: {"kind": Kind.TRACK, "participants": 0},
    3: {"kind": Kind.COMPOSITE, "never_set": ("download_url_expiry",)},
}
"""The first recording of these meetings, in every run."""
FILE_FATES: Mapping[str, Callable[[random.Random], SessionFileOptions]] = {
    "there": lambda chance: SessionFileOptions(),
    "late": lambda chance: SessionFileOptions(available_after=chance.uniform(HOUR, 20 * HOUR)),
    "never announced": lambda chance: SessionFileOptions(
        is_announced=False, available_after=chance.uniform(10, 20 * HOUR)
    ),
    "announced early": lambda chance: SessionFileOptions(
        announced_after=5, available_after=chance.uniform(HOUR, 20 * HOUR)
    ),
    "empty": lambda chance: SessionFileOptions(outcome="empty"),
    "shared": lambda chance: SessionFileOptions(outcome="shared"),
    "announced, without a URL": lambda chance: SessionFileOptions(outcome="no url"),
    "without a file": lambda chance: SessionFileOptions(outcome="no file"),
}
"""The fates of a session's file. Each file is in time for the last look, a day after the end."""
FILE_CHANCES = {"": 30, "there": 30, "late": 9, "never announced": 12, "announced early": 5}
FILE_CHANCES |= {"empty": 7, "shared": 4, "announced, without a URL": 2, "without a file": 1}
"""How often a kind of file has each fate, of 100; the empty one is no such file."""
CERTAIN_FILES: Mapping[int, Mapping[str, str]] = {
    0: dict.fromkeys(("transcript", "summary", "chat"), "there"),
    1: {"transcript": "shared", "summary": "empty", "chat": "late"},
    2: {"transcript": "never announced", "summary": "announced, without a URL"},
    3: {"summary": "announced early", "chat": "without a file"},
}
"""The files of these meetings' sessions, in every run."""
ERASED, SYNCED, HELD, HELD_LATE, LABELLED = 5, 2, 3, 1, 0
"""The numbers, of each six recordings, of the one that is erased, synced, held, …"""
RETENTION_DAYS = 30
AGE_DAYS = 40
"""The age of the recordings when the retention policy runs."""
KEPT_CONNECTIONS = 5
"""So many kept connections break at their next use, beginning with the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An event on its way, at a time: posted as a webhook, put on the bus, forged, or foreign.

    A foreign event is of another app, and RealtimeKit signs it with the same key.
    """

    at: float
    event: TimelineEvent
    way: str = "webhook"
    attempt: int = 1

    @property
    def about(self) -> str:
        """The id of the recording, or else of the session, that the event names."""
        subject = self.event.recording or self.event.session
        return foreign(subject.id) if self.way == "foreign" else subject.id


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """A call of the API: to sync a recording, to erase it, or to label, hold or release it.

    At no time in particular: when its files begin to be archived, if ever. Once it has succeeded,
    its caller sends the request `then`.
    """

    at: float | None
    method: str
    recording_id: str
    patch: Mapping[str, Any] | None = None
    then: ApiRequest | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan of the events of so many meetings, by a seed, and of their faults if `faults`."""

    seed: int
    meetings: int
    faults: bool = True

    def chance(self, *about: object) -> random.Random:
        """Return the random generator for the decisions about a subject."""
        return random.Random("/".join(map(str, (self.seed, *about))))

    @property
    def busy_until(self) -> float:
        """The time by which all meetings have begun and RealtimeKit's faults are over."""
        return ORIGIN.timestamp() + self.meetings * SECONDS_PER_MEETING + 2 * HOUR

    @property
    def names_organization(self) -> bool:
        """True if the stack knows its organisation, so that it drops other apps' events."""
        return self.seed % 4 < 2

    @property
    def threads(self) -> int:
        """The number of threads in a function's pools: 1 makes runs repeatable, 0 sets no limit."""
        return self.seed % 2

    def token(self, number: int) -> str:
        """Return the API token after so many rotations."""
        return f"{CANARY}token-{self.seed}-{number}"

    # Meetings.

    def populate(self, world: World) -> None:
        """Create all meetings and recordings, in the future."""
        for number in range(self.meetings):
            chance = self.chance("meeting", number)
            start = ORIGIN + timedelta(
                seconds=chance.uniform(1, self.meetings * SECONDS_PER_MEETING)
            )
            config = {"live_streaming_config": {"rtmp_url": f"rtmps://example.com/{CANARY}rtmp"}}
            meeting = world.create_meeting(
                title=f"Meeting {number}",
                recording_config=config if chance.random() < 0.3 else None,
                keep_alive_seconds=chance.choice([60, 600]),
                at=start,
            )
            for index in range(1 if chance.random() < 0.85 else 2):
                length = chance.uniform(120, HOUR)
                files = self._session_files(number, index)
                session = world.start_session(meeting, session_files=files, at=start)
                count = chance.choices([0, 1, 2, 3], [5, 70, 20, 5])[0]
                certain = CERTAIN_RECORDINGS.get(number, {})
                for nth in range(max(count, len(certain) and 1)):
                    self._record(world, session, length, chance, certain if nth == 0 else {})
                reason = chance.choice(["ALL_PARTICIPANTS_LEFT", HOST_ENDED_MEETING])
                world.end_session(session, reason=reason, at=start + timedelta(seconds=length))
                start += timedelta(seconds=length + chance.uniform(700, 1500))

    def _session_files(self, number: int, index: int) -> dict[str, SessionFileOptions]:
        """Return the files that a meeting's session leaves, by kind."""
        chance, fates = self.chance("session files", number, index), list(FILE_CHANCES)
        chosen = {
            kind: chance.choices(fates, list(FILE_CHANCES.values()))[0]
            for kind in ("transcript", "summary", "chat")
        }
        chosen = dict(CERTAIN_FILES.get(number, chosen))
        # Sessions were seen to share a transcript, and no other file.
        for kind in ("summary", "chat"):
            if chosen.get(kind) == "shared":
                chosen[kind] = "empty"
        files = {kind: FILE_FATES[fate](chance) for kind, fate in chosen.items() if fate}
        for kind, options in files.items():
            if options.announced_after is not None and not self.faults:
                # Where no webhook is lost, an announced file may come after the last look.
                files[kind] = replace(options, available_after=2 * DAY)
        return files

    def _record(
        self,
        world: World,
        session: Session,
        length: float,
        chance: random.Random,
        certain: Mapping[str, Any],
    ) -> None:
        def moment(part: float) -> datetime:
            return session.started_at + timedelta(seconds=length * part)

        options, invoked_at = self._options(chance), moment(chance.uniform(0, 0.2))
        if certain:
            uploaded: dict[str, Any] = {"realtimekit_bucket": True, "storage_config": None}
            options = replace(options, **uploaded, outcome=Status.UPLOADED, **certain)
        recording = world.start_recording(session, options, allow_multiple=True, at=invoked_at)
        if chance.random() < 0.3:
            world.pause(recording, at=moment(0.4))
            if chance.random() < 0.8:
                world.resume(recording, at=moment(0.6))
        if chance.random() < 0.05 and not certain:
            world.fail(recording, at=moment(0.8))
        elif chance.random() < 0.4:
            world.stop(recording, at=moment(0.9))

    def _options(self, chance: random.Random) -> RecordingOptions:
        storage = {
            "type": chance.choice(["aws", "cloudflare", "gcs", "sftp"]),
            "bucket": "the-owners-bucket",
            "region": "eu-central-1",
            "path": "recordings/of/ours",
            "access_key": f"{CANARY}access-key",
            "secret": f"{CANARY}secret",
            "password": f"{CANARY}password",
            "private_key": f"{CANARY}private-key",
        }
        is_external = chance.random() < 0.15
        return RecordingOptions(
            kind=chance.choices(list(Kind), [60, 10, 10, 20])[0],
            separate_audio=chance.random() < 0.3,
            audio_codec=chance.choice(["AAC", "MP3"]),
            video_codec=chance.choice(["H264", "VP8"]),
            participants=chance.randint(1, 4),
            layers=chance.choice([("default",), ("default", "speakers")]),
            realtimekit_bucket=not is_external,
            storage_config=storage if is_external or chance.random() < 0.15 else None,
            start_delay=chance.uniform(1, 5),
            upload_seconds=chance.choice([chance.uniform(5, 40), chance.uniform(40, 600)]),
            outcome=Status.ERRORED if chance.random() < 0.08 else Status.UPLOADED,
            # Of three parts, now and then.
            file_size=chance.randint(600, 20_000) + (11 << 20) * (chance.random() < 0.02),
            audio_file_size=chance.randint(600, 5_000),
            duration=chance.choice([None, None, None, 12.001]),
        )

    # Webhooks and events.

    def deliveries(self, world: World) -> Iterator[Delivery]:
        """Return all delivery attempts, in no order."""
        timeline = world.timeline(ORIGIN, ORIGIN + timedelta(days=30))
        for number, event in enumerate(timeline):
            if self.faults:
                yield from self._deliveries_of(number, event)
            else:
                yield Delivery(at=event.at.timestamp() + 1, event=event)

    def _deliveries_of(self, number: int, event: TimelineEvent) -> Iterator[Delivery]:
        happened, chance = event.at.timestamp(), self.chance("delivery", number)
        # Some sessions send no event at all.
        is_lost = self.chance("lost", event.session.id).random() < 0.1 or chance.random() < 0.2
        for _ in range(0 if is_lost else 1 + (chance.random() < 0.25)):
            late = chance.choices(
                [chance.uniform(0.2, 5), chance.uniform(60, HOUR), chance.uniform(1, 5.5) * DAY],
                [80, 17, 3],
            )[0]
            way = "bus" if chance.random() < 0.15 else "webhook"
            yield Delivery(at=happened + late, event=event, way=way)
        if chance.random() < 0.05:
            yield Delivery(at=happened + chance.uniform(0, DAY), event=event, way="forged")
        # Even a short run has some of each.
        if number % 25 == 3:
            yield Delivery(at=happened, event=event, way="foreign")
        if number % 40 == 8:
            # More often than a check is due, and days later.
            for late in (200, 400, 600, 800, 2 * DAY, 6 * DAY):
                yield Delivery(at=happened + late, event=event)
        if chance.random() < 0.03:
            # It has a stream key.
            live = replace(event, name="livestreaming.statusUpdate", recording=None, status=None)
            yield Delivery(at=happened, event=live)

    # Requests to the API.

    def unwritable(self, world: World) -> str | None:
        """Return the id of a recording whose row DynamoDB refuses; it is never erased."""
        certain = [f"Meeting {number}" for number in CERTAIN_RECORDINGS]
        for number, recording in enumerate(_recordings(world)):
            is_plain = number % 6 != ERASED and recording.meeting.title not in certain
            if self.faults and is_plain:
                return recording.id
        return None

    def api_requests(self, world: World) -> Iterator[ApiRequest]:
        """Yield a sync of one recording in six and an erasure of another: live, or archived, or later."""
        for number, recording in enumerate(_recordings(world)):
            chance = self.chance("api", number)
            begun, over = recording.invoked_at.timestamp(), recording.steps[-1].at.timestamp()
            if number % 6 == SYNCED:
                at: float | None = chance.uniform(begun - 60, over + HOUR)
                yield ApiRequest(at=at, method="POST", recording_id=recording.id)
            if number % 6 == ERASED:
                ats = [None, chance.uniform(begun, over), chance.uniform(over, over + DAY)]
                at = ats[number // 6 % 3]
                yield ApiRequest(at=at, method="DELETE", recording_id=recording.id)

    def annotations(self, world: World) -> Iterator[ApiRequest]:
        """Yield the labels and holds of recordings, some of which are released, or else erased."""
        for number, recording in enumerate(_recordings(world)):
            chance = self.chance("annotation", number)
            begun, over = recording.invoked_at.timestamp(), recording.steps[-1].at.timestamp()
            if recording.id == self.unwritable(world):
                continue
            patches: list[list[Mapping[str, Any] | None]] = []
            if number % 6 == LABELLED:
                patches.append([_labels(order="1"), _labels(order="2")])
                patches.append([_labels(case="x", draft="y"), _labels(draft=None)])
            if number % 6 == HELD:
                is_released = number // 6 % 2 == 1
                hold = {"hold": {"reason": "case 12"}}
                # An erasure of a held recording is refused.
                patches.append([hold, {"hold": None} if is_released else None])
                patches.append([_labels(held="yes")])
            for chain in patches:
                request: ApiRequest | None = None
                for patch in reversed(chain):
                    method = "DELETE" if patch is None else "PATCH"
                    at = chance.uniform(begun, over + HOUR)
                    request = ApiRequest(
                        at=at, method=method, recording_id=recording.id, patch=patch, then=request
                    )
                if request:
                    yield request

    def late_holds(self, world: World, begin: float) -> Iterator[ApiRequest]:
        """Yield holds from shortly before the retention policy erases to shortly after."""
        for number, recording in enumerate(_recordings(world)):
            if number % 6 == HELD_LATE and recording.id != self.unwritable(world):
                at = begin + self.chance("late hold", number).uniform(-120, 120)
                patch = {"hold": {"reason": "late"}}
                yield ApiRequest(at=at, method="PATCH", recording_id=recording.id, patch=patch)

    # Faults.

    def troubles(self, function: str, number: int) -> Troubles:
        """Return the faults of a function's invocation, by its number."""
        if not self.faults:
            return NO_TROUBLES
        if (function, number) in CERTAIN:
            return CERTAIN[function, number]
        chance = self.chance("invocation", function, number)
        at, kind = chance.randint(1, REQUESTS[function]), chance.choice(AWS_FAULTS)
        kinds = [
            NO_TROUBLES,
            Troubles(killed_at=(at, chance.choice(["before", "after"]))),
            Troubles(faults={at: kind}),
            # Longer than botocore is patient.
            Troubles(faults=dict.fromkeys(range(at, at + 4), kind)),
            Troubles(faults=dict.fromkeys(range(1, 10), "refused in a 200")),
            Troubles(stalled_at=(chance.choice([1, 1, 1, 2, 3]), chance.uniform(1, 58))),
            Troubles(seconds=31),
        ]
        return chance.choices(kinds, [45, 12, 13, 5, 2, 20, 3])[0]

    def incidents(self, simulator: Simulator) -> Iterator[tuple[float, Callable[[], Any]]]:
        """Yield the times at which RealtimeKit begins to fail or to change, each with its action."""
        if self.faults:
            # The first fault that there is: the test knows it by its number.
            kept = _fault(simulator, DropKept(), FAULTY_PATHS["api"], KEPT_CONNECTIONS)
            yield ORIGIN.timestamp(), kept
            yield from self._changes_of_shape(simulator.world)
        for number in range(self.meetings // 2 if self.faults else 0):
            chance = self.chance("incident", number)
            where = chance.choices(list(FAULTY_PATHS), [55, 40, 5])[0]
            known = MEDIA_FAULTS if where == "media" else API_FAULTS
            kind = chance.choice(list(known))
            # A 429 may close the budget for minutes.
            times = 1 if kind.startswith("429") else chance.randint(1, 4)
            effect = known[kind](chance)
            if number == 0:
                # The one that costs real time.
                effect, times = Delay(11), 1
            at = chance.uniform(ORIGIN.timestamp(), self.busy_until)
            path = NO_SESSION_FILE if kind == "shorter" else FAULTY_PATHS[where]
            yield at, _fault(simulator, effect, path, times)
        for number in range(2 if self.faults else 0):
            at = self.chance("key", number).uniform(ORIGIN.timestamp(), self.busy_until)
            yield at, simulator.webhooks.rotate_key

    def _changes_of_shape(self, world: World) -> Iterator[tuple[float, Callable[[], Any]]]:
        """Yield when answers come to be wrapped, and lists not to be filtered, and back."""
        begun, seconds = ORIGIN.timestamp(), self.busy_until - ORIGIN.timestamp()
        for number in range(8):
            shapes = replace(
                world.undocumented,
                wraps_recording=number % 2 == 0,
                wraps_session=number % 4 < 2,
                filters_by_meeting=number % 3 > 0,
            )
            yield begun + seconds * number / 8, _setting(world, shapes)


def foreign(id_: str) -> str:
    """Return the id that another app has in place of one of ours."""
    return str(uuid5(NAMESPACE_URL, id_))


def _labels(**labels: str | None) -> Mapping[str, Any]:
    return {"labels": labels}


def _recordings(world: World) -> list[Recording]:
    """Return all recordings, in the order of their first events."""
    events = world.timeline(ORIGIN, ORIGIN + timedelta(days=30))
    return list(
        {event.recording.id: event.recording for event in events if event.recording}.values()
    )


def _setting(world: World, shapes: Undocumented) -> Callable[[], Any]:
    return lambda: setattr(world, "undocumented", shapes)


def _fault(simulator: Simulator, effect: Any, path: str, times: int) -> Callable[[], Any]:
    return lambda: simulator.faults.add(effect, path=path, times=times)
