"""Messages of the queues as JSON, and the requests that they carry.

A message requests one recording, the recordings of an ended session, or the session's own files. On
the archive queues it requests that a recording's files be archived, or erased:

    {"v": 1, "source": "webhook", "recording_id": "…", "hint": {"meeting_id": "…", "title": "…"}}
    {"v": 1, "source": "webhook", "recording_id": "…",
     "hint": {…, "report": {"status": "RECORDING", "started_at": "…Z"}}}
    {"v": 1, "source": "eventbridge", "meeting_id": "…", "session_id": "…"}
    {"v": 1, "source": "eventbridge", "recording_id": "", "recordingId": "…", "hint": {…}}
    {"v": 1, "source": "webhook", "task": "session_files", "session_id": "…",
     "announced": {"transcript": "…Z", "captions": "…Z"}}
    {"v": 1, "source": "catalogue", "task": "archive", "recording_id": "…", "deadline": "…Z"}
    {"v": 1, "source": "api", "task": "erase", "recording_id": "…"}
    {"v": 1, "source": "follow_up", "task": "erase", "recording_id": "…", "reason": "retention"}

The template's event rules write the same JSON, with "" for a field that an event lacks. EventBridge
does not promise to escape the values it puts in (AWS docs, EventBridge input transformation), so a
value may end its own string and add keys of its choice. Therefore a message with a doubled or
unknown key is malformed, and each task is accepted only from the sources that send it. A report is
read only from a webhook's message, and lies in the hint because older versions skip unknown keys
there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar, get_args

from recordings.model import (
    SESSION_FILES,
    ErasureReason,
    is_final,
    parse_timestamp,
    rank,
    text,
    uuid,
)

VERSION = 1
_ARCHIVE = "archive"
_ERASE = "erase"
_RECORDING = "recording"
_SESSION = "session"
_SESSION_FILES = "session_files"


class Source(StrEnum):
    """The sender of a request: `follow_up` repeats a check, `catalogue` is a row's change."""

    WEBHOOK = "webhook"
    EVENTBRIDGE = "eventbridge"
    API = "api"
    FOLLOW_UP = "follow_up"
    SWEEP = "sweep"
    CATALOGUE = "catalogue"


class MalformedMessageError(ValueError):
    """Raised for a message that is unreadable for good; its text is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """A recording's meeting, title and session, which webhooks name and get-one does not.

    `session_started_at` is a timestamp.
    """

    meeting_id: str | None = None
    session_id: str | None = None
    session_started_at: str | None = None
    title: str | None = None
    organization_id: str | None = None

    @classmethod
    def of(cls, value: object) -> Hint:
        """Return the hint that a JSON value holds, empty if the value makes no sense."""
        fields = value if isinstance(value, Mapping) else {}
        hint = cls(**{name: text(fields.get(name)) for name in cls.__slots__})
        is_time = parse_timestamp(hint.session_started_at) is not None
        return hint if is_time else replace(hint, session_started_at=None)

    def known(self) -> dict[str, str]:
        """Return the fields that have a value, by name."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """An unfinished status that a verified webhook reports; times are timestamps.

    A final status has no report, so that the recording is always fetched.
    """

    status: str
    started_at: str | None = None
    stopped_at: str | None = None
    file_name: str | None = None

    @classmethod
    def of(cls, value: object) -> StatusReport | None:
        """Return the report that a JSON value holds; None without a known, unfinished status."""
        fields = value if isinstance(value, Mapping) else {}
        known = {name: text(fields.get(name)) for name in cls.__slots__}
        status = known.pop("status")
        if status is None or rank(status) is None or is_final(status):
            return None
        for name in ("started_at", "stopped_at"):
            known[name] = known[name] if parse_timestamp(known[name]) else None
        return cls(status=status, **known)

    def known(self) -> dict[str, str]:
        """Return the fields that have a value, by name."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """A request's key, fields and correlation id, derived from the class attributes of its kind."""

    kind: ClassVar[str]
    # The fields that identify its subject, from the general to the particular.
    ids: ClassVar[tuple[str, ...]] = ("recording_id",)
    # All fields that a message of this kind may have.
    allowed: ClassVar[frozenset[str]]
    sources: ClassVar[frozenset[Source]] = frozenset(Source)

    source: Source

    @property
    def key(self) -> str:
        """The key that all requests for the same thing share."""
        return "#".join([self.kind, *self._ids()])

    @property
    def correlation_id(self) -> str:
        """The id in all logs about a recording, or a session, from webhook to archive."""
        return next(filter(None, reversed(self._ids())))

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the message besides `v` and `source`: `request` reads them back."""
        task = {"task": self.kind} if "task" in self.allowed else {}
        ids = {name: value for name, value in zip(self.ids, self._ids(), strict=True) if value}
        return {**task, **ids, **self._details()}

    def _ids(self) -> list[str]:
        return [getattr(self, name) or "" for name in self.ids]

    def _details(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class _HintedRequest(_Request):
    """A request that passes on a webhook's hint about the recordings."""

    hint: Hint = Hint()

    def _details(self) -> dict[str, Any]:
        hint = self.hint.known()
        return {"hint": hint} if hint else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingRequest(_HintedRequest):
    """A request to catalogue one recording, which is fetched unless `report` is enough.

    Only a webhook's message carries a report. `fields` leaves it out, so a check always fetches.
    """

    kind = _RECORDING
    # An event names the recording as `id` or `recordingId`; the rule takes both.
    allowed = frozenset({"recording_id", "recordingId", "hint"})

    recording_id: str
    report: StatusReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRequest(_HintedRequest):
    """A request for the recordings of an ended session, or of its meeting if it has no id."""

    kind = _SESSION
    ids = ("meeting_id", "session_id")
    allowed = frozenset({"meeting_id", "session_id", "hint"})

    meeting_id: str
    session_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFilesRequest(_Request):
    """A request to look for the files of a session, of the kinds of `SESSION_FILES`.

    `announced` has the kinds that RealtimeKit has announced. Each has the timestamp at which
    RealtimeKit deletes the file, or "" if that was not said.
    """

    kind = _SESSION_FILES
    ids = ("session_id",)
    allowed = frozenset({"task", "session_id", "announced"})
    sources = frozenset({Source.WEBHOOK, Source.CATALOGUE, Source.SWEEP, Source.FOLLOW_UP})

    session_id: str
    announced: Mapping[str, str] = field(default_factory=dict)

    def _details(self) -> dict[str, Any]:
        return {"announced": dict(self.announced)} if self.announced else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveRequest(_Request):
    """A request to archive a recording's files; RealtimeKit deletes the first at `deadline`."""

    kind = _ARCHIVE
    allowed = frozenset({"task", "recording_id", "deadline"})
    sources = frozenset({Source.CATALOGUE, Source.FOLLOW_UP})

    recording_id: str
    deadline: str

    def _details(self) -> dict[str, Any]:
        return {"deadline": self.deadline}


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseRequest(_Request):
    """A request to erase a recording: its files, and its row except for a tombstone."""

    kind = _ERASE
    allowed = frozenset({"task", "recording_id", "reason"})
    sources = frozenset({Source.API, Source.FOLLOW_UP})

    recording_id: str
    reason: ErasureReason = "request"

    def _details(self) -> dict[str, Any]:
        return {"reason": self.reason} if self.reason != "request" else {}


HintedRequest = RecordingRequest | SessionRequest
IngestRequest = HintedRequest | SessionFilesRequest
Request = IngestRequest | ArchiveRequest | EraseRequest
_KINDS: Mapping[str, type[Request]] = {
    kind.kind: kind
    for kind in (
        RecordingRequest,
        SessionRequest,
        SessionFilesRequest,
        ArchiveRequest,
        EraseRequest,
    )
}


def merged(first: Request, second: Request) -> Request:
    """Merge two requests with one key. News outweighs `follow_up`, because it renews the check.

    If both give a value for a field, the second one's is kept.
    """
    source = second.source if first.source is Source.FOLLOW_UP else first.source
    if isinstance(first, RecordingRequest) and isinstance(second, RecordingRequest):
        report = _merged_report(first.report, second.report)
        return replace(first, source=source, hint=_merged_hint(first, second), report=report)
    if isinstance(first, SessionRequest) and isinstance(second, SessionRequest):
        return replace(first, source=source, hint=_merged_hint(first, second))
    if isinstance(first, SessionFilesRequest) and isinstance(second, SessionFilesRequest):
        times = {kind: time for kind, time in second.announced.items() if time}
        announced = {**second.announced, **first.announced, **times}
        return replace(first, source=source, announced=announced)
    return replace(first, source=source)


def _merged_hint(first: HintedRequest, second: HintedRequest) -> Hint:
    return Hint(**{**first.hint.known(), **second.hint.known()})


def _merged_report(first: StatusReport | None, second: StatusReport | None) -> StatusReport | None:
    """Return the report that is further along; None if the recording must be fetched.

    RECORDING and PAUSED alternate, so only a fetch tells which of them is the later one.
    """
    if first is None or second is None:
        return None
    first_rank, second_rank = rank(first.status) or 0, rank(second.status) or 0
    if first_rank == second_rank and first.status != second.status:
        return None
    return first if first_rank > second_rank else second


def parse(body: str) -> Request:
    """Read a message. Raises only `MalformedMessageError`."""
    try:
        message = json.loads(body, object_pairs_hook=_object)
    except MalformedMessageError:
        raise
    except (ValueError, RecursionError):
        raise MalformedMessageError("the message is not JSON") from None
    if not isinstance(message, dict):
        raise MalformedMessageError("the message is no JSON object")
    if message.get("v") != VERSION:
        raise MalformedMessageError(f"v is {str(message.get('v'))[:20]}, not {VERSION}")
    try:
        source = Source(str(message.get("source")))
    except ValueError:
        raise MalformedMessageError("source is none of those known") from None
    fields = {name: value for name, value in message.items() if name not in ("v", "source")}
    kind = _KINDS.get(_kind(fields))
    if kind and source not in kind.sources:
        raise MalformedMessageError(f"{source} may not ask for this task")
    parsed = request(fields, source)
    if isinstance(parsed, RecordingRequest) and source is Source.WEBHOOK:
        hint = fields.get("hint")
        report = hint.get("report") if isinstance(hint, Mapping) else None
        return replace(parsed, report=StatusReport.of(report))
    return parsed


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as an object. Raises `MalformedMessageError` if a key comes twice."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise MalformedMessageError("a key comes twice")
    return members


def _kind(fields: Mapping[str, Any]) -> str:
    """Return the kind of request that the fields make, known or not."""
    if "task" in fields:
        return str(fields["task"])
    return _RECORDING if fields.keys() & {"recording_id", "recordingId"} else _SESSION


def request(fields: Mapping[str, Any], source: Source) -> Request:
    """Return the request that a message's or a check's fields make.

    Raises `MalformedMessageError`.
    """
    kind = _KINDS.get(_kind(fields))
    if unknown := fields.keys() - (kind.allowed if kind else set()):
        raise MalformedMessageError(f"unknown keys: {', '.join(sorted(unknown))[:100]}")
    if kind is SessionRequest:
        # A malformed session id must not lose the meeting's recordings.
        return SessionRequest(
            meeting_id=_id(fields, "meeting_id"),
            session_id=uuid(fields.get("session_id")),
            source=source,
            hint=Hint.of(fields.get("hint")),
        )
    if kind is SessionFilesRequest:
        announced = _announced(fields.get("announced", {}))
        session_id = _id(fields, "session_id")
        return SessionFilesRequest(session_id=session_id, source=source, announced=announced)
    recording_id = _id(fields, "recording_id", "recordingId")
    if kind is EraseRequest:
        reason = fields.get("reason", "request")
        if reason not in get_args(ErasureReason):
            raise MalformedMessageError(f"reason is none of {', '.join(get_args(ErasureReason))}")
        return EraseRequest(recording_id=recording_id, source=source, reason=reason)
    if kind is RecordingRequest:
        hint = Hint.of(fields.get("hint"))
        return RecordingRequest(recording_id=recording_id, source=source, hint=hint)
    deadline = fields.get("deadline")
    if not isinstance(deadline, str) or parse_timestamp(deadline) is None:
        raise MalformedMessageError("deadline is not a timestamp")
    return ArchiveRequest(recording_id=recording_id, deadline=deadline, source=source)


def body(request: Request) -> str:
    """Return the message of a request: the inverse of `parse`."""
    fields = request.fields
    if isinstance(request, RecordingRequest) and request.report:
        fields["hint"] = {**request.hint.known(), "report": request.report.known()}
    return json.dumps({"v": VERSION, "source": request.source, **fields})


def _announced(value: object) -> dict[str, str]:
    """Return the kinds of files that were announced, each with a timestamp or ""."""
    if not isinstance(value, Mapping) or not value.keys() <= set(SESSION_FILES):
        raise MalformedMessageError("announced is not a map of kinds of session files")
    for kind, time in value.items():
        if time != "" and parse_timestamp(time) is None:
            raise MalformedMessageError(f"announced.{kind} is neither a timestamp nor empty")
    return dict(value)


def _id(fields: Mapping[str, Any], *names: str) -> str:
    """Return the first of these fields that is a UUID."""
    found = next(filter(None, (uuid(fields.get(name)) for name in names)), None)
    if found is None:
        raise MalformedMessageError(f"{names[0]} is not a UUID")
    return found
