"""Messages of the queues, and the requests that they carry; the only place that spells them.

A message requests one recording or the recordings of an ended session. On the archive queues it
requests that a recording's files be archived, or erased:

    {"v": 1, "source": "webhook", "recording_id": "…", "hint": {"meeting_id": "…", "title": "…"}}
    {"v": 1, "source": "eventbridge", "meeting_id": "…", "session_id": "…"}
    {"v": 1, "source": "eventbridge", "recording_id": "", "recordingId": "…", "hint": {…}}
    {"v": 1, "source": "catalogue", "task": "archive", "recording_id": "…", "deadline": "…Z"}
    {"v": 1, "source": "api", "task": "erase", "recording_id": "…"}

The template's event rules write the same JSON, with "" for a field that an event lacks. EventBridge
does not promise to escape the values it puts in (AWS docs, EventBridge input transformation), so a
value may end its own string and add keys of its choice. Therefore a message with a doubled or
unknown key is malformed, and each task is accepted only from the sources that send it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, ClassVar

from recordings.model import text, uuid

VERSION = 1
_ARCHIVE = "archive"
_ERASE = "erase"
_RECORDING = "recording"
_SESSION = "session"
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


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
    """A recording's meeting, title and session, which webhooks name and get-one does not."""

    meeting_id: str | None = None
    session_id: str | None = None
    title: str | None = None
    organization_id: str | None = None

    @classmethod
    def of(cls, value: object) -> Hint:
        """Return the hint that a JSON value holds, empty if the value makes no sense."""
        fields = value if isinstance(value, Mapping) else {}
        return cls(**{name: text(fields.get(name)) for name in cls.__slots__})

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
class RecordingRequest(_Request):
    """A request to fetch one recording."""

    kind = _RECORDING
    # An event names the recording as `id` or `recordingId`; the rule takes both.
    allowed = frozenset({"recording_id", "recordingId", "hint"})

    recording_id: str
    hint: Hint = Hint()

    def _details(self) -> dict[str, Any]:
        hint = self.hint.known()
        return {"hint": hint} if hint else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRequest(_Request):
    """A request for the recordings of an ended session, or of its meeting if it has no id."""

    kind = _SESSION
    ids = ("meeting_id", "session_id")
    allowed = frozenset({"meeting_id", "session_id"})

    meeting_id: str
    session_id: str | None = None


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
    allowed = frozenset({"task", "recording_id"})
    sources = frozenset({Source.API, Source.FOLLOW_UP})

    recording_id: str


IngestRequest = RecordingRequest | SessionRequest
Request = IngestRequest | ArchiveRequest | EraseRequest
_KINDS: Mapping[str, type[Request]] = {
    kind.kind: kind for kind in (RecordingRequest, SessionRequest, ArchiveRequest, EraseRequest)
}


def merged(first: Request, second: Request) -> Request:
    """Merge two requests with one key. News outweighs `follow_up`, because it renews the check."""
    source = second.source if first.source is Source.FOLLOW_UP else first.source
    if isinstance(first, RecordingRequest) and isinstance(second, RecordingRequest):
        hint = Hint(**{**first.hint.known(), **second.hint.known()})
        return replace(first, source=source, hint=hint)
    return replace(first, source=source)


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
    return request(fields, source)


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
        )
    recording_id = _id(fields, "recording_id", "recordingId")
    if kind is EraseRequest:
        return EraseRequest(recording_id=recording_id, source=source)
    if kind is RecordingRequest:
        hint = Hint.of(fields.get("hint"))
        return RecordingRequest(recording_id=recording_id, source=source, hint=hint)
    deadline = fields.get("deadline")
    if not (isinstance(deadline, str) and _TIMESTAMP.fullmatch(deadline)):
        raise MalformedMessageError("deadline is not a timestamp")
    return ArchiveRequest(recording_id=recording_id, deadline=deadline, source=source)


def body(request: Request) -> str:
    """Return the message of a request: the inverse of `parse`."""
    return json.dumps({"v": VERSION, "source": request.source, **request.fields})


def _id(fields: Mapping[str, Any], *names: str) -> str:
    """Return the first of these fields that is a UUID."""
    found = next(filter(None, (uuid(fields.get(name)) for name in names)), None)
    if found is None:
        raise MalformedMessageError(f"{names[0]} is not a UUID")
    return found
