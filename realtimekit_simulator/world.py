"""One RealtimeKit app: its meetings, sessions and recordings, and what happens to them. No HTTP."""

import hashlib
import hmac
import itertools
import random
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from threading import RLock
from typing import Any, Literal
from urllib.parse import quote, urlencode

from .clock import Clock
from .media_files import MediaFile
from .meetings import RETENTION, Artifact, Caller, Meeting, Peer, Reason, Recording, Session, Step
from .options import ACTIVE, Kind, RecordingOptions, Status

DEFAULT_ACCOUNT_ID = "0a6c1b5f2d3e4f708192a3b4c5d6e7f8"
DEFAULT_APP_ID = "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13"
DEFAULT_TOKEN = "local-realtimekit-token"  # noqa: S105 - opens nothing but a simulator

EMPTY_ROOM = timedelta(seconds=60)
"""A recording stops itself when nobody is left for so long (RealtimeKit docs, stop-recording)."""

UNSERVED_MEDIA = "https://rtk-prod-recording.simulated.r2.cloudflarestorage.com"
"""Where media is said to be if nobody serves it; a host such as RealtimeKit's own."""

PRESIGNED_DATE = "%Y%m%dT%H%M%SZ"
"""How a presigned URL writes a time."""

URL_SECONDS = int(RETENTION.total_seconds())
"""How long a presigned URL is valid; R2 allows no more (R2 docs, presigned-urls)."""

ALL_PARTICIPANTS_LEFT = "ALL_PARTICIPANTS_LEFT"
HOST_ENDED_MEETING = "HOST_ENDED_MEETING"

EventName = Literal[
    "meeting.started",
    "meeting.ended",
    "meeting.participantJoined",
    "meeting.participantLeft",
    "meeting.chatSynced",
    "recording.statusUpdate",
    "livestreaming.statusUpdate",
    "meeting.transcript",
    "meeting.summary",
]
"""What RealtimeKit tells webhooks of (OpenAPI `realtimekit_WebhookRequest`)."""

SECRET_FIELDS = frozenset({"access_key", "secret", "password", "private_key"})
"""`writeOnly` in Cloudflare's OpenAPI, yet printed in its own response examples."""


class UnknownError(LookupError):
    """No meeting, session or recording has this id, or not yet."""


class ConflictError(Exception):
    """What was asked for cannot be done in the state things are in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undocumented:
    """What RealtimeKit's docs and OpenAPI leave open; the simulator can answer either way.

    `first_page` is the number of a list's first page (with 1, page 0 is also the first).
    `max_per_page` cuts a larger `per_page` without a word. `time_range` is what a recording list's
    `start_time` and `end_time` are compared with: when the recording was invoked, when the session
    started, or when the meeting was created. `default_sort` is the order of a list that asks for
    none. `keeps_expired_urls`: whether `download_url` stays after the media is gone.
    `internal_caller`: whether a stop that nobody asked for names a caller of type INTERNAL.
    `url_seconds`: download URLs are signed when the recording stops, for as long as its media is
    kept; or, if this is a number, whenever they are told, for so many seconds. `expired_url` is the
    bucket's answer to those that have expired, S3's 403 AccessDenied or R2's 400 ExpiredRequest.

    `track_urls` is what the `download_url` of a TRACK recording is: `{"links": [layer, …]}` with
    the id of each file's participant, as it was seen; `[layer, …]`, as it is documented; or
    `{"links": [URL, …]}`. `unnamed_layers` leaves a layer's name out. `wraps_recording` and
    `wraps_session` put get-one's object into `data.recording` and `data.session`. `room_names`: of
    a V1 meeting a session's `associated_id` is the name of a room. `filters_by_meeting`: whether a
    list heeds `meeting_id`. `refused_per_page`: above this, a `per_page` is answered with a 400.
    """

    first_page: Literal[0, 1] = 1
    default_per_page: int = 20
    max_per_page: int = 100
    time_range: Literal["recording", "session", "meeting"] = "recording"
    default_sort: Literal["ASC", "DESC"] = "DESC"
    keeps_expired_urls: bool = True
    internal_caller: bool = False
    url_seconds: int | None = None
    expired_url: Literal["AccessDenied", "ExpiredRequest"] = "AccessDenied"
    track_urls: Literal["layers in links", "layers", "links"] = "layers in links"
    unnamed_layers: bool = False
    wraps_recording: bool = False
    wraps_session: bool = False
    room_names: bool = False
    filters_by_meeting: bool = True
    refused_per_page: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.default_per_page <= self.max_per_page:
            raise ValueError("default_per_page must be between 1 and max_per_page")
        if self.url_seconds is not None and not 1 <= self.url_seconds <= URL_SECONDS:
            raise ValueError("url_seconds must be between 1 and 604800")
        for value, allowed in (
            (self.first_page, (0, 1)),
            (self.time_range, ("recording", "session", "meeting")),
            (self.default_sort, ("ASC", "DESC")),
            (self.expired_url, ("AccessDenied", "ExpiredRequest")),
            (self.track_urls, ("layers in links", "layers", "links")),
        ):
            if value not in allowed:
                raise ValueError(f"{value!r} is none of {allowed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEvent:
    """Something that RealtimeKit would tell a webhook of; `name` is the webhook event's name.

    A timeline has meetings' starts and ends, and recordings' statuses. `recording` and `status`
    belong to `recording.statusUpdate`, `reason` to `meeting.ended`.
    """

    at: datetime
    name: EventName
    session: Session
    recording: Recording | None = None
    status: Status | None = None
    reason: str | None = None


@dataclass(kw_only=True, eq=False)
class World:
    """An account with one app, and all that ever took place in it.

    Whatever is done takes place at the clock's present, or at `at`, in the past or the future. What
    a request sees is worked out from the clock, so advancing it is enough to see a recording go
    through its statuses. With a `seed`, ids are the same in every run. `media_base_url` is where
    download URLs point. `defaults` are the options of recordings that are given none.
    `reveals_secrets` puts the secrets of storage configurations into responses. Safe to use from
    several threads.
    """

    clock: Clock = field(default_factory=Clock)
    seed: int | None = None
    account_id: str = DEFAULT_ACCOUNT_ID
    app_id: str = DEFAULT_APP_ID
    organization_name: str = "Simulated organization"
    media_base_url: str | None = None
    defaults: RecordingOptions = field(default_factory=RecordingOptions)
    undocumented: Undocumented = field(default_factory=Undocumented)
    reveals_secrets: bool = False

    def __post_init__(self) -> None:
        self._lock = RLock()
        self._random = random.Random(self.seed)  # noqa: S311 - reproducible, guards nothing
        self._signing_key = self._random.randbytes(32)
        self._meetings: dict[str, Meeting] = {}
        self._sessions: dict[str, Session] = {}
        self._recordings: dict[str, Recording] = {}

    @property
    def organization_id(self) -> str:
        """The app's id: that RealtimeKit's organisation is the app is inferred, not documented."""
        return self.app_id

    # What there is.

    def meetings(self) -> list[Meeting]:
        """The meetings that exist now."""
        now = self.clock.now()
        return [meeting for meeting in list(self._meetings.values()) if meeting.created_at <= now]

    def sessions(self) -> list[Session]:
        """The sessions that have started by now."""
        now = self.clock.now()
        return [session for session in list(self._sessions.values()) if session.exists(now)]

    def recordings(self) -> list[Recording]:
        """The recordings that have been asked for by now."""
        now = self.clock.now()
        return [recording for recording in list(self._recordings.values()) if recording.exists(now)]

    def meeting(self, meeting_id: str) -> Meeting:
        """The meeting of that id; UnknownError if there is none yet."""
        meeting = self._meetings.get(meeting_id)
        if meeting is None or meeting.created_at > self.clock.now():
            raise UnknownError(f"no meeting {meeting_id}")
        return meeting

    def session(self, session_id: str) -> Session:
        """The session of that id; UnknownError if there is none yet."""
        session = self._sessions.get(session_id)
        if session is None or not session.exists(self.clock.now()):
            raise UnknownError(f"no session {session_id}")
        return session

    def recording(self, recording_id: str) -> Recording:
        """The recording of that id; UnknownError if there is none yet."""
        recording = self._recordings.get(recording_id)
        if recording is None or not recording.exists(self.clock.now()):
            raise UnknownError(f"no recording {recording_id}")
        return recording

    # What takes place.

    def create_meeting(
        self,
        *,
        title: str = "Weekly sync",
        recording_config: Mapping[str, Any] | None = None,
        record_on_start: bool = False,
        keep_alive_seconds: float = 60,
        at: datetime | None = None,
    ) -> Meeting:
        """Make a room. `recording_config` is spelt as in RealtimeKit's API."""
        with self._lock:
            meeting = Meeting(
                id=self._new_id(),
                title=title,
                created_at=self._time(at),
                recording_config=dict(recording_config or {}),
                record_on_start=record_on_start,
                keep_alive_seconds=keep_alive_seconds,
            )
            self._meetings[meeting.id] = meeting
            return meeting

    def start_session(
        self, meeting: Meeting, *, participants: int = 2, at: datetime | None = None
    ) -> Session:
        """People join; records if the meeting says so. ConflictError if a session is running."""
        with self._lock:
            session = self._open_session(meeting, participants, self._time(at))
            if meeting.record_on_start:
                reason = Reason(reason="RECORD_ON_START")
                self.start_recording(session, reason=reason, at=session.started_at)
            return session

    def end_session(
        self,
        session: Session,
        *,
        reason: str = ALL_PARTICIPANTS_LEFT,
        at: datetime | None = None,
    ) -> None:
        """The last participant leaves, or the host ends it (HOST_ENDED_MEETING).

        When the host ends it, all stops at once. Otherwise recordings stop after a minute of
        an empty room, and the session stays LIVE until its meeting's keep-alive has passed.
        ConflictError if people have left already.
        """
        with self._lock:
            left_at = self._time(at)
            if session.left_at is not None or not session.is_live(left_at):
                raise ConflictError("the session is not running")
            by_host = reason == HOST_ENDED_MEETING
            linger = timedelta(seconds=0 if by_host else session.meeting.keep_alive_seconds)
            session.left_at, session.end_reason = left_at, reason
            session.ended_at = left_at + linger
            stop_at = left_at + min(linger, EMPTY_ROOM)
            for recording in session.recordings:
                if recording.at(max(left_at, recording.invoked_at)).status in ACTIVE:
                    self._stop(recording, max(stop_at, recording.invoked_at), self._nobody_left())

    def start_recording(
        self,
        session: Session,
        options: RecordingOptions | None = None,
        *,
        allow_multiple: bool = False,
        reason: Reason | None = None,
        at: datetime | None = None,
    ) -> Recording:
        """Ask for a recording; without options, the meeting's `recording_config` decides.

        ConflictError if the session is not running at that time, or if a recording of the meeting
        is and `allow_multiple` does not say that there may be several.
        """
        with self._lock:
            moment = self._time(at)
            if not session.is_live(moment):
                raise ConflictError("the meeting has no active session")
            if not allow_multiple and session.meeting.active_recordings(moment):
                raise ConflictError("a recording is already in progress")
            options = self._resolved(session.meeting, options)
            recording = Recording(
                id=self._new_id(),
                session=session,
                options=options,
                peers=self._peers(options),
                start_reason=reason or self._api_call(),
                steps=(Step(moment, Status.INVOKED),),
            )
            self._begin(recording)
            session.recordings.append(recording)
            self._recordings[recording.id] = recording
            return recording

    def pause(self, recording: Recording, *, at: datetime | None = None) -> None:
        """Pause it; ConflictError unless it is RECORDING."""
        self._switch(recording, Status.RECORDING, Status.PAUSED, at)

    def resume(self, recording: Recording, *, at: datetime | None = None) -> None:
        """Resume it; ConflictError unless it is PAUSED."""
        self._switch(recording, Status.PAUSED, Status.RECORDING, at)

    def stop(self, recording: Recording, *, at: datetime | None = None) -> None:
        """Stop it as an API call does: it uploads, then ends. ConflictError if it has stopped."""
        with self._lock:
            moment = self._time(at)
            self._require(recording, ACTIVE, moment)
            self._stop(recording, moment, self._api_call())

    def finish_upload(self, recording: Recording, *, at: datetime | None = None) -> None:
        """End an upload, even one that would never have; ConflictError unless it is UPLOADING."""
        with self._lock:
            moment = self._time(at)
            self._require(recording, {Status.UPLOADING}, moment)
            past = recording.steps_until(moment)
            recording.steps = (*past, Step(moment, self._outcome(recording, past)))

    def fail(self, recording: Recording, *, at: datetime | None = None) -> None:
        """Make it ERRORED by an internal error; ConflictError if it is UPLOADED or ERRORED."""
        with self._lock:
            moment = self._time(at)
            self._require(recording, ACTIVE | {Status.UPLOADING}, moment)
            recording.steps = (*recording.steps_until(moment), Step(moment, Status.ERRORED))
            recording.stop_reason = Reason(reason="INTERNAL_ERROR", caller=self._internal_caller())

    # Whole meetings in one call.

    def record_meeting(
        self,
        *,
        title: str = "Weekly sync",
        status: Status | None = None,
        duration: float = 1800,
        started_at: datetime | None = None,
        options: RecordingOptions | None = None,
        meeting: Meeting | None = None,
    ) -> Recording:
        """A session of a meeting and its recording, which goes on until it has come to `status`.

        The recording is invoked as the session starts, records for `duration` seconds, and is
        stopped by the host's ending the session. Without `status` it comes to what its options
        say, UPLOADED unless they say otherwise; at a status that is not final it stays for good.
        `started_at` is by default so long ago that all this has just happened. To watch a
        recording pass through its statuses, let it start now and advance the clock.
        """
        with self._lock:
            options = _ending_as(status, options or self.defaults)
            start = self._time(started_at or self.clock.now() - _length(options, duration))
            end = start + timedelta(seconds=(options.start_delay or 0) + duration)
            meeting = meeting or self.create_meeting(title=title, at=start)
            session = self._open_session(meeting, 2, start)
            recording = self.start_recording(session, options, at=start)
            if status is Status.PAUSED:
                self.pause(recording, at=end)
            elif status not in ACTIVE:
                self.end_session(session, reason=HOST_ENDED_MEETING, at=end)
            return recording

    def record_meetings(
        self,
        count: int,
        *,
        every: float = 3600,
        title: str = "Weekly sync",
        status: Status | None = None,
        started_at: datetime | None = None,
        duration: float = 1800,
        options: RecordingOptions | None = None,
    ) -> list[Recording]:
        """So many recorded meetings, one `every` so many seconds; by default all have happened.

        The titles of several are numbered from 1.
        """
        length = _length(options or self.defaults, duration)
        first = started_at or self.clock.now() - length - timedelta(seconds=every * (count - 1))
        return [
            self.record_meeting(
                title=title if count == 1 else f"{title} {number + 1}",
                status=status,
                started_at=first + timedelta(seconds=every * number),
                duration=duration,
                options=options,
            )
            for number in range(count)
        ]

    # For those who deliver webhooks and serve media.

    def timeline(self, since: datetime, until: datetime) -> list[TimelineEvent]:
        """What takes place from `since` up to but not including `until`, in order of time.

        What is done to the past by `at=` appears in the past: a window asked for earlier has
        missed it. The future is as it is planned now.
        """
        sessions = list(self._sessions.values())
        events = itertools.chain.from_iterable(_events(session) for session in sessions)
        window = (event for event in events if since <= event.at < until)
        return sorted(window, key=lambda event: event.at)

    def happened(self, since: datetime) -> tuple[list[TimelineEvent], datetime]:
        """What has taken place from `since` up to and including the present, and the present.

        What another thread is doing right now is in it, or after the present that it returns.
        """
        with self._lock:
            now = self.clock.now()
            return self.timeline(since, now + timedelta.resolution), now

    def media_files(self, recording: Recording) -> list[MediaFile]:
        """What an upload leaves, or will leave, at the recording's URLs, the main file first."""
        artifacts = recording.artifacts
        return [MediaFile(recording_id=recording.id, artifact=artifact) for artifact in artifacts]

    def media_url(self, recording: Recording, artifact: Artifact) -> str:
        """Where to download a file: `<media base>/<recording id>/<file name>`, presigned.

        Valid from the recording's stop for seven days, as X-Amz-Date and X-Amz-Expires say, unless
        `undocumented.url_seconds` says otherwise.
        """
        signed_at = recording.at(datetime.max.replace(tzinfo=UTC)).stopped_at
        if signed_at is None:
            raise ConflictError("a recording that never stops has no media")
        seconds = self.undocumented.url_seconds
        if seconds is not None:
            signed_at = self.clock.now()
        path = f"/{recording.id}/{quote(artifact.path)}"
        lifetime = URL_SECONDS if seconds is None else seconds
        query = self.media_query(path, signed_at.strftime(PRESIGNED_DATE), str(lifetime))
        base = self.media_base_url or UNSERVED_MEDIA
        return f"{base}{path}?{urlencode(query)}"

    def media_query(self, path: str, date: str, seconds: str) -> dict[str, str]:
        """The query that presigns a GET of a path below the media base, from a date for seconds.

        Path, date and seconds are as the URL spells them; no other has the same signature.
        """
        signed = f"{path}\n{date}\n{seconds}".encode()
        return {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.account_id}/{date[:8]}/auto/s3/aws4_request",
            "X-Amz-Date": date,
            "X-Amz-Expires": seconds,
            "X-Amz-SignedHeaders": "host",
            "X-Amz-Signature": hmac.new(self._signing_key, signed, hashlib.sha256).hexdigest(),
        }

    def _time(self, at: datetime | None) -> datetime:
        return at.astimezone(UTC) if at else self.clock.now()

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def _peers(self, options: RecordingOptions) -> tuple[Peer, ...]:
        count = options.participants if options.kind is Kind.TRACK else 0
        return tuple(Peer(peer_id=self._new_id(), user_id=self._new_id()) for _ in range(count))

    def _open_session(self, meeting: Meeting, participants: int, at: datetime) -> Session:
        if meeting.live_session(at):
            raise ConflictError("the meeting has an active session")
        session = Session(
            id=self._new_id(), meeting=meeting, started_at=at, participants=participants
        )
        meeting.sessions.append(session)
        self._sessions[session.id] = session
        return session

    def _resolved(self, meeting: Meeting, options: RecordingOptions | None) -> RecordingOptions:
        """A start goes before the meeting's configuration (docs, manage-recording-config)."""
        if options is None:
            return RecordingOptions.from_config(meeting.recording_config, self.defaults)
        storage = options.storage_config or meeting.recording_config.get("storage_config")
        return replace(options, storage_config=storage)

    def _begin(self, recording: Recording) -> None:
        delay, limit = recording.options.start_delay, recording.options.max_seconds
        if delay is not None:
            starts_at = recording.invoked_at + timedelta(seconds=delay)
            recording.stops_at = starts_at + timedelta(seconds=limit)
            recording.steps = (*recording.steps, Step(starts_at, Status.RECORDING))
        self._plan_end(recording, recording.steps)

    def _switch(
        self, recording: Recording, before: Status, after: Status, at: datetime | None
    ) -> None:
        with self._lock:
            moment = self._time(at)
            self._require(recording, {before}, moment)
            past = recording.steps_until(moment)
            self._plan_end(recording, (*past, Step(moment, after)))

    def _stop(self, recording: Recording, at: datetime, reason: Reason) -> None:
        if recording.stops_at is None or at < recording.stops_at:
            recording.stops_at, recording.stop_reason = at, reason
            self._plan_end(recording, recording.steps_until(at))

    def _plan_end(self, recording: Recording, steps: tuple[Step, ...]) -> None:
        """Let it go through `steps`, then stop at its `stops_at`, upload, and come to its end."""
        stop, upload = recording.stops_at, recording.options.upload_seconds
        if stop is not None:
            before = (step for step in steps if step.at <= stop and step.status in ACTIVE)
            steps = (*before, Step(stop, Status.UPLOADING))
            if upload is not None:
                ends_at = stop + timedelta(seconds=upload)
                steps = (*steps, Step(ends_at, self._outcome(recording, steps)))
        recording.steps = steps

    def _outcome(self, recording: Recording, steps: Iterable[Step]) -> Status:
        # What was never recorded has no file (RealtimeKit docs, start-recording, on brief ones).
        recorded = any(step.status is Status.RECORDING for step in steps)
        return recording.options.outcome if recorded else Status.ERRORED

    def _require(self, recording: Recording, statuses: Iterable[Status], moment: datetime) -> None:
        status = recording.at(moment).status
        if status not in statuses:
            raise ConflictError(f"the recording is {status}")

    def _api_call(self) -> Reason:
        caller = Caller(
            type="ORGANIZATION", name=self.organization_name, user_id=self.organization_id
        )
        return Reason(reason="API_CALL", caller=caller)

    def _nobody_left(self) -> Reason:
        return Reason(reason="ALL_PEERS_LEFT", caller=self._internal_caller())

    def _internal_caller(self) -> Caller | None:
        return Caller(type="INTERNAL") if self.undocumented.internal_caller else None


def _length(options: RecordingOptions, duration: float) -> timedelta:
    """From the invocation to the end of the upload."""
    return timedelta(seconds=(options.start_delay or 0) + duration + (options.upload_seconds or 0))


def _ending_as(status: Status | None, options: RecordingOptions) -> RecordingOptions:
    match status:
        case Status.INVOKED:
            return replace(options, start_delay=None)
        case Status.UPLOADING:
            return replace(options, upload_seconds=None)
        case Status.UPLOADED | Status.ERRORED:
            return replace(options, outcome=status)
    return options


def _events(session: Session) -> Iterator[TimelineEvent]:
    yield TimelineEvent(at=session.started_at, name="meeting.started", session=session)
    if session.ended_at:
        yield TimelineEvent(
            at=session.ended_at, name="meeting.ended", session=session, reason=session.end_reason
        )
    for recording in list(session.recordings):
        for step in recording.steps:
            yield TimelineEvent(
                at=step.at,
                name="recording.statusUpdate",
                session=session,
                recording=recording,
                status=step.status,
            )
