"""Meetings, their sessions, and the sessions' recordings.

A meeting is a reusable room, a session is one run of it, and a session may have several recordings
(RealtimeKit docs, concepts/meeting) and leave files. A recording is a list of timed steps: its
state at a moment follows from the steps up to then, so no timer is needed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from . import samples
from .options import (
    ACTIVE,
    STOPPED,
    FileKind,
    Kind,
    RecordingOptions,
    SessionFileOptions,
    Status,
)

RETENTION = timedelta(days=7)
"""Time for which RealtimeKit keeps media after the stop (RealtimeKit docs, data-retention)."""

TRACK_FILE_NAME = (
    "{{file_name_prefix}}_{{user_id}}_{{peer_id}}_{{stream_kind}}_{{media_kind}}_{{date_time}}.webm"
)
"""Literal file name of every TRACK recording.

It was seen, as was the size of 0: github.com/collectivewinca/ve-rooom, docs/RECORDINGS.md.
"""

# 300 MB an hour (RealtimeKit docs, start-recording), and sound at 128 kbit/s.
VIDEO_BYTES_PER_SECOND = 83_333
AUDIO_BYTES_PER_SECOND = 16_000

JUST_BEFORE = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Originator of a start or a stop: `type` is ORGANIZATION or USER.

    INTERNAL is missing from the schema, but appears in a webhook of Dyte's documentation.
    """

    type: str
    name: str | None = None
    user_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Reason of a start or a stop in RealtimeKit's words, such as `ALL_PEERS_LEFT`."""

    reason: str
    caller: Caller | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One stay of a participant in a session; a TRACK recording has a file for each."""

    peer_id: str
    user_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Media file in RealtimeKit's bucket; `kind` is video, audio or track.

    A track has a `layer` and a participant. A `folder` separates files of the same name. The bytes
    of a playable file are those of the `sample` of this name.
    """

    kind: str
    file_name: str
    size: int
    layer: str | None = None
    participant_id: str | None = None
    folder: str | None = None
    sample: str | None = None

    @property
    def path(self) -> str:
        """Path among the recording's files."""
        return "/".join(filter(None, (self.folder, self.file_name)))


class Step(NamedTuple):
    """Change of status: from `at` on, the recording has this one."""

    at: datetime
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """State of a recording at one moment; None stands for a value that is not known yet."""

    status: Status
    started_at: datetime | None
    stopped_at: datetime | None
    duration: float | None
    expires_at: datetime | None


@dataclass(slots=True, kw_only=True, eq=False)
class Meeting:
    """Reusable room; its configuration is as in RealtimeKit's API, including secrets."""

    id: str
    title: str
    created_at: datetime
    recording_config: Mapping[str, Any]
    ai_config: Mapping[str, Any]
    record_on_start: bool = False
    persist_chat: bool = False
    transcribe_on_end: bool = False
    summarize_on_end: bool = False
    keep_alive_seconds: float = 60
    sessions: list["Session"] = field(default_factory=list, repr=False)

    @property
    def file_kinds(self) -> tuple[FileKind, ...]:
        """Files that its flags order; a summary needs a transcript (RealtimeKit docs, ai/summary).

        `persist_chat` stands for a meeting in which people chat.
        """
        ordered = {
            FileKind.TRANSCRIPT: self.transcribe_on_end,
            FileKind.SUMMARY: self.transcribe_on_end and self.summarize_on_end,
            FileKind.CHAT: self.persist_chat,
        }
        return tuple(kind for kind, is_ordered in ordered.items() if is_ordered)

    def live_session(self, at: datetime) -> "Session | None":
        """Return the session that runs at a moment, or None; a room has at most one."""
        return next((session for session in self.sessions if session.is_live(at)), None)

    def active_recordings(self, at: datetime) -> list["Recording"]:
        """Return the recordings that have begun and not stopped, the newest last."""
        recordings = (rec for session in self.sessions for rec in session.recordings)
        return [rec for rec in recordings if rec.exists(at) and rec.status_at(at) in ACTIVE]


@dataclass(slots=True, kw_only=True, eq=False)
class Session:
    """One run of a meeting; it stays LIVE for a while after the last participant has left.

    `files` are those that it leaves, by kind; they may be changed at any time.
    """

    id: str
    meeting: Meeting
    started_at: datetime
    participants: int
    left_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: str | None = None
    recordings: list["Recording"] = field(default_factory=list, repr=False)
    files: dict[FileKind, SessionFileOptions] = field(default_factory=dict, repr=False)

    def exists(self, at: datetime) -> bool:
        """Return True if the session has started by then."""
        return self.started_at <= at

    def is_live(self, at: datetime) -> bool:
        """Return True if the session has started and not ended."""
        return self.exists(at) and (self.ended_at is None or at < self.ended_at)

    def minutes_consumed(self, at: datetime) -> float:
        """Return the minutes of all participants together, up to then."""
        until = min(at, self.left_at or at)
        return round((until - self.started_at).total_seconds() / 60 * self.participants, 2)


@dataclass(slots=True, kw_only=True, eq=False)
class Recording:
    """One recording of a session: its options and its steps.

    `steps` reach into the future, because the stop at `max_seconds` is known from the start. They
    are replaced as a whole, so readers need no lock.
    """

    id: str
    session: Session
    options: RecordingOptions
    peers: tuple[Peer, ...]
    start_reason: Reason
    stop_reason: Reason | None = None
    stops_at: datetime | None = None
    steps: tuple[Step, ...]

    @property
    def meeting(self) -> Meeting:
        """Meeting that is recorded."""
        return self.session.meeting

    @property
    def invoked_at(self) -> datetime:
        """Time of the start request."""
        return self.steps[0].at

    def exists(self, at: datetime) -> bool:
        """Return True if the recording has been invoked by then."""
        return self.invoked_at <= at

    def at(self, moment: datetime) -> Snapshot:
        """Return the state at a moment; raise ValueError before the invocation."""
        past = self.steps_until(moment)
        if not past:
            raise ValueError(f"recording {self.id} does not exist at {moment}")
        stopped_at = _first(past, STOPPED)
        kept = past[-1].status is Status.UPLOADED and self.options.realtimekit_bucket
        return Snapshot(
            status=past[-1].status,
            started_at=_first(past, {Status.RECORDING}),
            stopped_at=stopped_at,
            duration=self.duration if stopped_at else None,
            expires_at=stopped_at + RETENTION if kept and stopped_at else None,
        )

    def status_at(self, moment: datetime) -> Status:
        """Return the status at a moment; raise ValueError before the invocation."""
        last = self.steps[-1]
        return last.status if last.at <= moment else self.at(moment).status

    def steps_until(self, moment: datetime) -> tuple[Step, ...]:
        """Return the steps up to and including that moment."""
        return tuple(step for step in self.steps if step.at <= moment)

    def last_moment_as(self, status: Status, now: datetime) -> datetime:
        """Return the last moment up to `now` with that status, or `now` if it never had it."""
        moments = [
            min(now, following.at - JUST_BEFORE)
            for step, following in pairwise(self.steps)
            if step.status is status and step.at <= now
        ]
        return max(moments, default=now)

    @property
    def duration(self) -> float:
        """Seconds recorded in all steps, without pauses."""
        if self.options.duration is not None:
            return self.options.duration
        recorded = (
            following.at - step.at
            for step, following in pairwise(self.steps)
            if step.status is Status.RECORDING
        )
        return int(sum(recorded, timedelta()).total_seconds())

    @property
    def file_name(self) -> str:
        """RealtimeKit's `output_file_name`: room and time, hence not unique."""
        if self.options.kind is Kind.TRACK:
            return TRACK_FILE_NAME
        audio_only = self.options.kind is Kind.AUDIO
        suffix = self.options.audio_suffix if audio_only else self.options.video_suffix
        return f"{self._stem}.{suffix}"

    @property
    def file_size(self) -> int:
        """Size that RealtimeKit reports in bytes; 0 for every TRACK recording."""
        if self.options.kind is Kind.TRACK:
            return 0
        return next(self._artifacts()).size

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Files that an upload leaves in RealtimeKit's bucket, the main file first."""
        return tuple(self._artifacts()) if self.options.realtimekit_bucket else ()

    def _artifacts(self) -> Iterator[Artifact]:
        options = self.options
        if options.kind is Kind.TRACK:
            yield from self._tracks()
            return
        if options.kind is not Kind.AUDIO:
            size = options.file_size
            video = int(self.duration * VIDEO_BYTES_PER_SECOND) if size is None else size
            yield self._artifact(kind="video", file_name=self.file_name, size=video)
        if options.kind is Kind.AUDIO or options.separate_audio:
            name = f"{self._stem}.{options.audio_suffix}"
            yield self._artifact(kind="audio", file_name=name, size=self._audio_size)

    def _tracks(self) -> Iterator[Artifact]:
        shares_names = self.options.layers_share_names
        for layer in self.options.layers:
            names = (self.options.file_name_prefix, "default" if shares_names else layer)
            prefix = "_".join(filter(None, names))
            for number, peer in enumerate(self.peers):
                name = f"{prefix}_{peer.user_id}_{peer.peer_id}_peer_audio_{self._epoch_ms}.webm"
                yield self._artifact(
                    kind="track",
                    sample=f"track-{number % 2 + 1}",
                    file_name=name,
                    size=self._audio_size,
                    layer=layer,
                    participant_id=peer.user_id,
                    folder=layer if shares_names else None,
                )

    def _artifact(self, *, sample: str | None = None, **fields: Any) -> Artifact:
        """Return a file; that of a playable recording is its kind's sample, if there is one."""
        artifact = Artifact(**fields)
        name = f"{sample or artifact.kind}.{artifact.file_name.rpartition('.')[2]}"
        if not self.options.playable or name not in samples.NAMES:
            return artifact
        return replace(artifact, sample=name, size=len(samples.read(name)))

    @property
    def _audio_size(self) -> int:
        options = self.options
        given = options.file_size if options.kind is Kind.AUDIO else options.audio_file_size
        return int(self.duration * AUDIO_BYTES_PER_SECOND) if given is None else given

    @property
    def _stem(self) -> str:
        return f"{self.options.file_name_prefix or self.meeting.id}_{self._epoch_ms}"

    @property
    def _epoch_ms(self) -> int:
        return int(self.invoked_at.timestamp() * 1000)


def _first(steps: tuple[Step, ...], statuses: frozenset[Status] | set[Status]) -> datetime | None:
    return next((step.at for step in steps if step.status in statuses), None)
