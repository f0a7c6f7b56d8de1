"""World of one RealtimeKit app: its meetings, sessions and recordings, without HTTP."""

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

from . import samples
from .clock import Clock
from .media_files import MediaFile
from .meetings import RETENTION, Artifact, Caller, Meeting, Peer, Reason, Recording, Session, Step
from .options import (
    ACTIVE,
    FileKind,
    FilesOrder,
    Kind,
    RecordingOptions,
    Status,
    check_ai_config,
    ordered_files,
)
from .session_files import SUFFIXES, SessionFile

DEFAULT_ACCOUNT_ID = "0a6c1b5f2d3e4f708192a3b4c5d6e7f8"
DEFAULT_APP_ID = "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13"
DEFAULT_TOKEN = "local-realtimekit-token"  # noqa: S105 - valid in a simulator only

DEFAULT_DURATION = 1800
"""Seconds for which a meeting is recorded unless ordered otherwise."""

EMPTY_ROOM = timedelta(seconds=60)
"""Time in an empty room after which a recording stops (RealtimeKit docs, stop-recording)."""

UNSERVED_MEDIA = "https://rtk-prod-recording.simulated.r2.cloudflarestorage.com"
"""Base of download URLs without a media server, with a host name like RealtimeKit's."""

PRESIGNED_DATE = "%Y%m%dT%H%M%SZ"
"""Format of times in a presigned URL."""

URL_SECONDS = int(RETENTION.total_seconds())
"""Validity of a presigned URL in seconds, the maximum of R2 (R2 docs, presigned-urls)."""

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
"""Names of RealtimeKit's webhook events (OpenAPI `realtimekit_WebhookRequest`)."""

FILE_EVENTS: Mapping[FileKind, EventName] = {
    FileKind.TRANSCRIPT: "meeting.transcript",
    FileKind.SUMMARY: "meeting.summary",
    FileKind.CHAT: "meeting.chatSynced",
}

SECRET_FIELDS = frozenset({"access_key", "secret", "password", "private_key"})
"""Fields that are `writeOnly` in Cloudflare's OpenAPI, yet appear in its response examples."""


class UnknownError(LookupError):
    """Raised for an id that no meeting, session, recording or webhook has now."""


class ConflictError(Exception):
    """Raised for an action that the current state forbids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undocumented:
    """Behaviour that RealtimeKit's documentation and OpenAPI leave open, as settings.

    `first_page` is the number of a list's first page (with 1, page 0 is also the first).
    `max_per_page` silently cuts a larger `per_page`; one above `refused_per_page` is a 400.
    `default_sort` is the order of a list without `sort_order`. With `filters_by_meeting` off, the
    list ignores `meeting_id`. `internal_caller` names a caller of type INTERNAL for automatic
    stops.

    `keeps_expired_urls` leaves `download_url` in place after the media is deleted. `url_seconds`
    signs download URLs anew in each answer, for this many seconds; None signs them at the stop,
    for seven days. `expired_url` is the bucket's answer to an expired URL: S3's 403 AccessDenied or
    R2's 400 ExpiredRequest.

    `track_urls` is the shape of a TRACK recording's `download_url`: `{"links": [layer, …]}` with
    participants' ids, as seen; `[layer, …]`, as documented; or `{"links": [URL, …]}`.
    `unnamed_layers` leaves out the layers' names. `wraps_recording` and `wraps_session` put
    get-one's object into `data.recording` and `data.session`. `room_names` makes a session's
    `associated_id` the room name of a V1 meeting.

    `absent_session_file` is the answer where a session has no such file, or has it not yet: a URL
    of null, a `data` without URL and expiry, a `data` of null, or a 404. `wraps_session_file` puts
    the answer into `data.transcript`, `data.summary` or `data.chat`. `chat_format` is that of the
    chat's URL. `file_webhook_meeting` is the `meeting` in the webhooks of transcript and summary:
    whole, its ids and organisation only, or none and the ids at the top.
    """

    first_page: Literal[0, 1] = 1
    default_per_page: int = 20
    max_per_page: int = 100
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
    absent_session_file: Literal["null", "missing", "no data", "404"] = "null"
    wraps_session_file: bool = False
    chat_format: Literal["csv", "json"] = "csv"
    file_webhook_meeting: Literal["whole", "ids", "flat"] = "whole"

    def __post_init__(self) -> None:
        if not 1 <= self.default_per_page <= self.max_per_page:
            raise ValueError("default_per_page must be between 1 and max_per_page")
        if self.url_seconds is not None and not 1 <= self.url_seconds <= URL_SECONDS:
            raise ValueError("url_seconds must be between 1 and 604800")
        for value, allowed in (
            (self.first_page, (0, 1)),
            (self.default_sort, ("ASC", "DESC")),
            (self.expired_url, ("AccessDenied", "ExpiredRequest")),
            (self.track_urls, ("layers in links", "layers", "links")),
            (self.absent_session_file, ("null", "missing", "no data", "404")),
            (self.chat_format, ("csv", "json")),
            (self.file_webhook_meeting, ("whole", "ids", "flat")),
        ):
            if value not in allowed:
                raise ValueError(f"the value must be one of {allowed}, not {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEvent:
    """Event of a timeline, with the name of its webhook event.

    Timelines have the starts and ends of meetings, the statuses of recordings, and the files of
    sessions. `recording` and `status` belong to `recording.statusUpdate`, `reason` to
    `meeting.ended`.
    """

    at: datetime
    name: EventName
    session: Session
    recording: Recording | None = None
    status: Status | None = None
    reason: str | None = None


@dataclass(kw_only=True, eq=False)
class World:
    """Account with one app, and everything that happens in it. Safe to use from several threads.

    Actions happen now, or at the time `at` in the past or future. Answers follow from the clock, so
    advancing it lets a recording go through its statuses. A `seed` makes ids the same in every run.
    `media_base_url` begins all download URLs. `defaults` apply to recordings without options.
    `default_session_files` are left by sessions without an order of their own. `reveals_secrets`
    puts the secrets of storage configurations into answers.
    """

    clock: Clock = field(default_factory=Clock)
    seed: int | None = None
    account_id: str = DEFAULT_ACCOUNT_ID
    app_id: str = DEFAULT_APP_ID
    organization_name: str = "Simulated organization"
    media_base_url: str | None = None
    defaults: RecordingOptions = field(default_factory=RecordingOptions)
    default_session_files: FilesOrder = ()
    undocumented: Undocumented = field(default_factory=Undocumented)
    reveals_secrets: bool = False

    def __post_init__(self) -> None:
        self.default_session_files = ordered_files(self.default_session_files)
        self._lock = RLock()
        self._random = random.Random(self.seed)  # noqa: S311 - reproducible; guards no secret
        self._signing_key = self._random.randbytes(32)
        self._meetings: dict[str, Meeting] = {}
        self._sessions: dict[str, Session] = {}
        self._recordings: dict[str, Recording] = {}

    @property
    def organization_id(self) -> str:
        """Id of the app: the OpenAPI calls a session's organisation the app that hosted it."""
        return self.app_id

    # Existing things.

    def meetings(self) -> list[Meeting]:
        """Return the meetings that exist now."""
        now = self.clock.now()
        return [meeting for meeting in list(self._meetings.values()) if meeting.created_at <= now]

    def sessions(self) -> list[Session]:
        """Return the sessions that have started by now."""
        now = self.clock.now()
        return [session for session in list(self._sessions.values()) if session.exists(now)]

    def recordings(self) -> list[Recording]:
        """Return the recordings that have been invoked by now."""
        now = self.clock.now()
        return [recording for recording in list(self._recordings.values()) if recording.exists(now)]

    def meeting(self, meeting_id: str) -> Meeting:
        """Return the meeting with this id; raise UnknownError if there is none yet."""
        meeting = self._meetings.get(meeting_id)
        if meeting is None or meeting.created_at > self.clock.now():
            raise UnknownError(f"no meeting {meeting_id}")
        return meeting

    def session(self, session_id: str) -> Session:
        """Return the session with this id; raise UnknownError if there is none yet."""
        session = self._sessions.get(session_id)
        if session is None or not session.exists(self.clock.now()):
            raise UnknownError(f"no session {session_id}")
        return session

    def recording(self, recording_id: str) -> Recording:
        """Return the recording with this id; raise UnknownError if there is none yet."""
        recording = self._recordings.get(recording_id)
        if recording is None or not recording.exists(self.clock.now()):
            raise UnknownError(f"no recording {recording_id}")
        return recording

    # Actions.

    def create_meeting(
        self,
        *,
        title: str = "Weekly sync",
        recording_config: Mapping[str, Any] | None = None,
        record_on_start: bool = False,
        persist_chat: bool = False,
        transcribe_on_end: bool = False,
        summarize_on_end: bool = False,
        ai_config: Mapping[str, Any] | None = None,
        keep_alive_seconds: float = 60,
        at: datetime | None = None,
    ) -> Meeting:
        """Create a meeting; all but `at` is as in RealtimeKit's API.

        Raise ValueError for an `ai_config` that RealtimeKit would refuse.
        """
        check_ai_config(ai_config or {})
        with self._lock:
            meeting = Meeting(
                id=self._new_id(),
                title=title,
                created_at=self._time(at),
                recording_config=dict(recording_config or {}),
                ai_config=dict(ai_config or {}),
                record_on_start=record_on_start,
                persist_chat=persist_chat,
                transcribe_on_end=transcribe_on_end,
                summarize_on_end=summarize_on_end,
                keep_alive_seconds=keep_alive_seconds,
            )
            self._meetings[meeting.id] = meeting
            return meeting

    def start_session(
        self,
        meeting: Meeting,
        *,
        participants: int = 2,
        session_files: FilesOrder | None = None,
        at: datetime | None = None,
    ) -> Session:
        """Start a session, and a recording if the meeting records on start.

        The session will leave the ordered files. Without an order it leaves those of the meeting's
        flags and the world's `default_session_files`. Raise ConflictError if a session is running.
        """
        with self._lock:
            session = self._open_session(meeting, participants, self._time(at), session_files)
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
        """End a session: the last participant leaves, or the host ends it (HOST_ENDED_MEETING).

        The host ends session and recordings at once. Otherwise recordings stop after a minute of
        an empty room, and the session stays LIVE until its meeting's keep-alive has passed.
        Raise ConflictError if everybody has left already.
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
                    self._stop(recording, max(stop_at, recording.invoked_at), self._all_left())

    def start_recording(
        self,
        session: Session,
        options: RecordingOptions | None = None,
        *,
        allow_multiple: bool = False,
        reason: Reason | None = None,
        at: datetime | None = None,
    ) -> Recording:
        """Start a recording; without options, the meeting's `recording_config` decides.

        Raise ConflictError if the session is not running at that time, or if a recording of the
        meeting is running, unless `allow_multiple`.
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
        """Pause a recording; raise ConflictError unless it is RECORDING."""
        self._switch(recording, Status.RECORDING, Status.PAUSED, at)

    def resume(self, recording: Recording, *, at: datetime | None = None) -> None:
        """Resume a recording; raise ConflictError unless it is PAUSED."""
        self._switch(recording, Status.PAUSED, Status.RECORDING, at)

    def stop(self, recording: Recording, *, at: datetime | None = None) -> None:
        """Stop a recording as an API call does; raise ConflictError if it has stopped."""
        with self._lock:
            moment = self._time(at)
            self._require(recording, ACTIVE, moment)
            self._stop(recording, moment, self._api_call())

    def finish_upload(self, recording: Recording, *, at: datetime | None = None) -> None:
        """End an upload, even an endless one; raise ConflictError unless it is UPLOADING."""
        with self._lock:
            moment = self._time(at)
            self._require(recording, {Status.UPLOADING}, moment)
            past = recording.steps_until(moment)
            recording.steps = (*past, Step(moment, self._outcome(recording, past)))

    def fail(self, recording: Recording, *, at: datetime | None = None) -> None:
        """Make a recording ERRORED; raise ConflictError if it is UPLOADED or ERRORED."""
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
        duration: float | None = None,
        started_at: datetime | None = None,
        options: RecordingOptions | None = None,
        playable: bool = False,
        session_files: FilesOrder | None = None,
        ai_config: Mapping[str, Any] | None = None,
        meeting: Meeting | None = None,
    ) -> Recording:
        """Make a session of a meeting with a recording that reaches `status`; return the recording.

        The recording is invoked as the session starts and records for `duration` seconds, until
        the host ends the session: half an hour by default, or for a `playable` recording the length
        of its files. Without `status` the outcome of its options counts, by default UPLOADED. It
        stays for ever in a status that is not final. `started_at` is by default so
        long ago that the upload ends now; the session's files come later. To watch all statuses,
        start it now and advance the clock. `session_files` are as for `start_session`, `ai_config`
        is that of the created meeting.
        """
        with self._lock:
            options, duration = self._order(options, playable, duration)
            options = _with_outcome(status, options)
            start = self._time(started_at or self.clock.now() - _total_time(options, duration))
            end = start + timedelta(seconds=(options.start_delay or 0) + duration)
            meeting = meeting or self.create_meeting(title=title, ai_config=ai_config, at=start)
            session = self._open_session(meeting, 2, start, session_files)
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
        duration: float | None = None,
        options: RecordingOptions | None = None,
        playable: bool = False,
        session_files: FilesOrder | None = None,
        ai_config: Mapping[str, Any] | None = None,
    ) -> list[Recording]:
        """Make `count` recorded meetings, `every` seconds apart; by default all have ended.

        The titles of several meetings are numbered from 1.
        """
        options, duration = self._order(options, playable, duration)
        length = _total_time(options, duration)
        first = started_at or self.clock.now() - length - timedelta(seconds=every * (count - 1))
        return [
            self.record_meeting(
                title=title if count == 1 else f"{title} {number + 1}",
                status=status,
                started_at=first + timedelta(seconds=every * number),
                duration=duration,
                options=options,
                session_files=session_files,
                ai_config=ai_config,
            )
            for number in range(count)
        ]

    # Events and media.

    def timeline(self, since: datetime, until: datetime) -> list[TimelineEvent]:
        """Return the events from `since` up to but not including `until`, in order of time.

        An action with `at=` in the past adds past events, which an earlier call has missed. Future
        events are as planned now.
        """
        sessions = list(self._sessions.values())
        events = itertools.chain.from_iterable(_events(session) for session in sessions)
        window = (event for event in events if since <= event.at < until)
        return sorted(window, key=lambda event: event.at)

    def happened(self, since: datetime) -> tuple[list[TimelineEvent], datetime]:
        """Return the events from `since` up to and including now, and the present time.

        An action of another thread is included, or happens after the returned time.
        """
        with self._lock:
            now = self.clock.now()
            return self.timeline(since, now + timedelta.resolution), now

    def media_files(self, recording: Recording) -> list[MediaFile]:
        """Return the files at the recording's URLs, once it is uploaded; the main file first."""
        artifacts = recording.artifacts
        return [MediaFile(recording_id=recording.id, artifact=artifact) for artifact in artifacts]

    def media_url(self, recording: Recording, artifact: Artifact) -> str:
        """Return the presigned URL of a file: `<media base>/<recording id>/<file name>`.

        It is valid for seven days from the recording's stop, unless `undocumented.url_seconds` is
        set.
        """
        stopped_at = recording.at(datetime.max.replace(tzinfo=UTC)).stopped_at
        if stopped_at is None:
            raise ConflictError("the recording never stops, so it has no media")
        return self._presigned_url(f"{recording.id}/{artifact.path}", stopped_at, URL_SECONDS)

    def session_files(self, session: Session) -> list[SessionFile]:
        """Return the files that a session leaves; one of several formats is there once for each."""
        return [
            SessionFile(session=session, kind=kind, suffix=suffix)
            for kind in FileKind
            if kind in session.files
            for suffix in SUFFIXES[kind]
        ]

    def session_file(
        self, session: Session, kind: FileKind, suffix: str | None = None
    ) -> SessionFile:
        """Return a session's file, by default in the format in which the API names it."""
        if suffix is None:
            suffix = self.undocumented.chat_format if kind == FileKind.CHAT else SUFFIXES[kind][0]
        return SessionFile(session=session, kind=kind, suffix=suffix)

    def session_file_url(self, file: SessionFile) -> str:
        """Return the presigned URL of a session's file: `<media base>/<session id>/<file name>`.

        It is valid for seven days from the session's end, unless `undocumented.url_seconds` or the
        file's `expires_after` is set.
        """
        signed_at = file.session.ended_at or self.clock.now()
        return self._presigned_url(file.key, signed_at, file.url_seconds)

    def media_query(self, path: str, date: str, seconds: str) -> dict[str, str]:
        """Return the query that presigns a GET of a path below the media base.

        Path, date and seconds are signed as the URL spells them.
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

    def _presigned_url(self, key: str, signed_at: datetime, seconds: int) -> str:
        """Return the URL of a file, signed at that time unless each answer signs anew."""
        if self.undocumented.url_seconds is not None:
            signed_at, seconds = self.clock.now(), self.undocumented.url_seconds
        path = f"/{quote(key)}"
        query = self.media_query(path, signed_at.strftime(PRESIGNED_DATE), str(seconds))
        base = self.media_base_url or UNSERVED_MEDIA
        return f"{base}{path}?{urlencode(query)}"

    def _time(self, at: datetime | None) -> datetime:
        return at.astimezone(UTC) if at else self.clock.now()

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def _peers(self, options: RecordingOptions) -> tuple[Peer, ...]:
        count = options.participants if options.kind is Kind.TRACK else 0
        return tuple(Peer(peer_id=self._new_id(), user_id=self._new_id()) for _ in range(count))

    def _open_session(
        self, meeting: Meeting, participants: int, at: datetime, order: FilesOrder | None
    ) -> Session:
        if meeting.live_session(at):
            raise ConflictError("the meeting has an active session")
        defaults = {
            **ordered_files(meeting.file_kinds),
            **ordered_files(self.default_session_files),
        }
        session = Session(
            id=self._new_id(),
            meeting=meeting,
            started_at=at,
            participants=participants,
            files=defaults if order is None else ordered_files(order),
        )
        meeting.sessions.append(session)
        self._sessions[session.id] = session
        return session

    def _order(
        self, options: RecordingOptions | None, playable: bool, duration: float | None
    ) -> tuple[RecordingOptions, float]:
        """Return the options and the duration of a recording, filled up by their defaults."""
        options = options or self.defaults
        options = replace(options, playable=playable or options.playable)
        if duration is None:
            duration = samples.SECONDS if options.playable else DEFAULT_DURATION
        return options, duration

    def _resolved(self, meeting: Meeting, options: RecordingOptions | None) -> RecordingOptions:
        """Fill options up from the meeting's configuration (docs, manage-recording-config)."""
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
        """Set the steps: the given ones, then a stop at `stops_at`, the upload, and the outcome."""
        stop, upload = recording.stops_at, recording.options.upload_seconds
        if stop is not None:
            before = (step for step in steps if step.at <= stop and step.status in ACTIVE)
            steps = (*before, Step(stop, Status.UPLOADING))
            if upload is not None:
                ends_at = stop + timedelta(seconds=upload)
                steps = (*steps, Step(ends_at, self._outcome(recording, steps)))
        recording.steps = steps

    def _outcome(self, recording: Recording, steps: Iterable[Step]) -> Status:
        # A recording that never began has no file (RealtimeKit docs, start-recording).
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

    def _all_left(self) -> Reason:
        return Reason(reason="ALL_PEERS_LEFT", caller=self._internal_caller())

    def _internal_caller(self) -> Caller | None:
        return Caller(type="INTERNAL") if self.undocumented.internal_caller else None


def _total_time(options: RecordingOptions, duration: float) -> timedelta:
    """Return the time from the invocation to the end of the upload."""
    return timedelta(seconds=(options.start_delay or 0) + duration + (options.upload_seconds or 0))


def _with_outcome(status: Status | None, options: RecordingOptions) -> RecordingOptions:
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
    for kind in list(session.files):
        announced_at = SessionFile(
            session=session, kind=kind, suffix=SUFFIXES[kind][0]
        ).announced_at
        if announced_at is not None:
            yield TimelineEvent(at=announced_at, name=FILE_EVENTS[kind], session=session)
    for recording in list(session.recordings):
        for step in recording.steps:
            yield TimelineEvent(
                at=step.at,
                name="recording.statusUpdate",
                session=session,
                recording=recording,
                status=step.status,
            )
