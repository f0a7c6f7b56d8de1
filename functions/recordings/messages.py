"""The messages of the queues and the events for subscribers; the only place that spells them.

A message asks for one recording, for the recordings of one ended session, or, on the archive
queues, for the files of a recording to be archived before they are gone, or to be erased:

    {"v": 1, "source": "webhook", "recording_id": "…", "hint": {"meeting_id": "…", "title": "…"}}
    {"v": 1, "source": "eventbridge", "meeting_id": "…", "session_id": "…"}
    {"v": 1, "source": "eventbridge", "recording_id": "", "recordingId": "…", "hint": {…}}
    {"v": 1, "source": "catalogue", "task": "archive", "recording_id": "…", "deadline": "…Z"}
    {"v": 1, "source": "api", "task": "erase", "recording_id": "…"}

The template's event rules write the same JSON. They render what an event does not say as "", and
EventBridge does not promise to escape the values it puts in (AWS docs, EventBridge input
transformation). A value may therefore end its own string and add keys of its choice. So a key that
comes twice, or that its kind of message does not have, makes a message malformed, and each task is
accepted only from the sources that send it.

An event tells that a row changed: ids, times and sizes, never a URL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from recordings.model import text, uuid

VERSION = 1
_ARCHIVE = "archive"
_ERASE = "erase"
_RECORDING = "recording"
_SESSION = "session"
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Source(StrEnum):
    """Who asks. `follow_up` asks again for what others asked for; `catalogue` is a row's change."""

    WEBHOOK = "webhook"
    EVENTBRIDGE = "eventbridge"
    API = "api"
    FOLLOW_UP = "follow_up"
    SWEEP = "sweep"
    CATALOGUE = "catalogue"


_KEYS = {
    _ARCHIVE: {"task", "recording_id", "deadline"},
    _ERASE: {"task", "recording_id"},
    # An event names the recording as `id` or `recordingId`; the rule takes both.
    _RECORDING: {"recording_id", "recordingId", "hint"},
    _SESSION: {"meeting_id", "session_id"},
}
_SOURCES = {
    _ARCHIVE: {Source.CATALOGUE, Source.FOLLOW_UP},
    _ERASE: {Source.API, Source.FOLLOW_UP},
}


class MalformedMessageError(ValueError):
    """Raised for a message that can never be worked on; says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """What only the webhook knows of a recording, and get-one does not say."""

    meeting_id: str | None = None
    session_id: str | None = None
    title: str | None = None
    organization_id: str | None = None

    @classmethod
    def of(cls, value: object) -> Hint:
        """Whatever it is: a hint that makes no sense is no hint."""
        fields = value if isinstance(value, Mapping) else {}
        return cls(**{name: text(fields.get(name)) for name in cls.__slots__})

    def said(self) -> dict[str, str]:
        """What is known, by name."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingRequest:
    """Fetch one recording."""

    recording_id: str
    source: Source
    hint: Hint = Hint()

    @property
    def key(self) -> str:
        """The same for all requests for the same thing."""
        return f"recording#{self.recording_id}"

    @property
    def correlation_id(self) -> str:
        """The same in all logs of what is done about a recording, from webhook to archive."""
        return self.recording_id


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRequest:
    """Find the recordings of a session that ended; of the whole meeting where it is not known."""

    meeting_id: str
    session_id: str | None = None
    source: Source

    @property
    def key(self) -> str:
        """The same for all requests for the same thing."""
        return f"session#{self.meeting_id}#{self.session_id or ''}"

    @property
    def correlation_id(self) -> str:
        """Of what is done about the session itself."""
        return self.session_id or self.meeting_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveRequest:
    """Archive the files of one recording. `deadline`, a timestamp, is when the first is gone."""

    recording_id: str
    deadline: str
    source: Source

    @property
    def key(self) -> str:
        """The same for all requests for the same thing."""
        return f"archive#{self.recording_id}"

    @property
    def correlation_id(self) -> str:
        """The recording's."""
        return self.recording_id


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseRequest:
    """Erase one recording: its files, and its row but for a tombstone."""

    recording_id: str
    source: Source

    @property
    def key(self) -> str:
        """The same for all requests for the same thing."""
        return f"erase#{self.recording_id}"

    @property
    def correlation_id(self) -> str:
        """The recording's."""
        return self.recording_id


IngestRequest = RecordingRequest | SessionRequest
Request = IngestRequest | ArchiveRequest | EraseRequest


def merged(first: Request, second: Request) -> Request:
    """Two requests with one key in one. News outweighs `follow_up`: it starts the check anew."""
    source = second.source if first.source is Source.FOLLOW_UP else first.source
    if isinstance(first, RecordingRequest) and isinstance(second, RecordingRequest):
        hint = Hint(**{**first.hint.said(), **second.hint.said()})
        return replace(first, source=source, hint=hint)
    return replace(first, source=source)


def parse(body: str) -> Request:
    """Read a message. Raises `MalformedMessageError`, and nothing else."""
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
    if source not in _SOURCES.get(_kind(fields), Source):
        raise MalformedMessageError(f"{source} may not ask for this task")
    return request(fields, source)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as an object. Raises `MalformedMessageError` where a key comes twice."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise MalformedMessageError("a key comes twice")
    return members


def _kind(fields: Mapping[str, Any]) -> str:
    """Return what kind of request the fields are: `_KEYS` has the keys of each."""
    if "task" in fields:
        return str(fields["task"])
    return _RECORDING if fields.keys() & {"recording_id", "recordingId"} else _SESSION


def request(fields: Mapping[str, Any], source: Source) -> Request:
    """Return the request that the fields of a message, or of a check, say.

    Raises `MalformedMessageError`.
    """
    kind = _kind(fields)
    if unknown := fields.keys() - _KEYS.get(kind, set()):
        raise MalformedMessageError(f"unknown keys: {', '.join(sorted(unknown))[:100]}")
    if kind == _SESSION:
        # A session id that makes no sense must not lose the meeting's recordings.
        return SessionRequest(
            meeting_id=_id(fields, "meeting_id"),
            session_id=uuid(fields.get("session_id")),
            source=source,
        )
    recording_id = _id(fields, "recording_id", "recordingId")
    if kind == _ERASE:
        return EraseRequest(recording_id=recording_id, source=source)
    if kind == _RECORDING:
        hint = Hint.of(fields.get("hint"))
        return RecordingRequest(recording_id=recording_id, source=source, hint=hint)
    deadline = fields.get("deadline")
    if not (isinstance(deadline, str) and _TIMESTAMP.fullmatch(deadline)):
        raise MalformedMessageError("deadline is not a timestamp")
    return ArchiveRequest(recording_id=recording_id, deadline=deadline, source=source)


def fields(request: Request) -> dict[str, Any]:
    """The ids, and the hint, that say what is asked for: the inverse of `request`."""
    if isinstance(request, ArchiveRequest):
        ids = {"recording_id": request.recording_id, "deadline": request.deadline}
        return {"task": _ARCHIVE, **ids}
    if isinstance(request, EraseRequest):
        return {"task": _ERASE, "recording_id": request.recording_id}
    if isinstance(request, RecordingRequest):
        hint = request.hint.said()
        return {"recording_id": request.recording_id} | ({"hint": hint} if hint else {})
    session = {"session_id": request.session_id} if request.session_id else {}
    return {"meeting_id": request.meeting_id, **session}


def body(request: Request) -> str:
    """Write a message: the inverse of `parse`."""
    return json.dumps({"v": VERSION, "source": request.source, **fields(request)})


def _id(fields: Mapping[str, Any], *names: str) -> str:
    """Return the first of these fields that is a UUID."""
    found = next(filter(None, (uuid(fields.get(name)) for name in names)), None)
    if found is None:
        raise MalformedMessageError(f"{names[0]} is not a UUID")
    return found
