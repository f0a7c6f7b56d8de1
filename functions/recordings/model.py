"""A recording as this project knows it: RealtimeKit's shapes normalised, nothing secret kept.

RealtimeKit describes one recording in several ways: get-one knows the reasons and no meeting, a
list item the meeting and no reasons, a webhook writes camelCase and numbers as strings, and a TRACK
recording has many files where the schema says one. All of them become one `Recording` here. What is
kept is an allow-list: `storage_config` may carry the owner's credentials, so no object is copied.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Self
from urllib.parse import unquote, urlsplit

LONGEST_TEXT = 1024
"""Bytes kept of any text; a sort key of DynamoDB must not be longer than this."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_LARGEST_NUMBER = Decimal(10**15)


class RecordingStatus(StrEnum):
    """The statuses that RealtimeKit documents. Others are stored as they come, and never final."""

    INVOKED = "INVOKED"
    RECORDING = "RECORDING"
    PAUSED = "PAUSED"
    UPLOADING = "UPLOADING"
    UPLOADED = "UPLOADED"
    ERRORED = "ERRORED"


_RANKS: dict[str, int] = {
    RecordingStatus.INVOKED: 1,
    RecordingStatus.RECORDING: 2,
    RecordingStatus.PAUSED: 2,
    RecordingStatus.UPLOADING: 3,
    RecordingStatus.UPLOADED: 4,
    RecordingStatus.ERRORED: 4,
}


_KINDS = {"mp3": "audio", "aac": "audio"}


class MalformedRecordingError(ValueError):
    """Raised for what cannot be a recording: no object, no usable id, or no status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file of a recording. `name` is unique within it and the same at every fetch.

    `url` is a bearer credential: whoever has it can download the file until `url_expires_at`.
    Without one a file of a TRACK recording is not usable yet, and any other is where the
    recording's `storage` says, and nowhere else. `participant_id` is the owner's own id of the
    person whose track it is.
    """

    name: str
    kind: str
    file_name: str | None = None
    file_size: int | None = None
    url: str | None = None
    url_expires_at: datetime | None = None
    participant_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What one answer of RealtimeKit, or one webhook, says of a recording; `None` is "not said".

    Times are aware UTC, sizes are bytes, `duration_seconds` may be fractional. `start_reason` and
    `stop_reason` are `{"reason", "caller": {"name", "type", "user_id"}}`, `storage` is where
    RealtimeKit put the file: `{"type", "bucket", "region", "path", "host", "port"}`; keys that were
    not said are absent.
    """

    recording_id: str
    status: str
    session_id: str | None = None
    meeting_id: str | None = None
    meeting_title: str | None = None
    organization_id: str | None = None
    invoked_at: datetime | None = None
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    duration_seconds: int | Decimal | None = None
    file_name: str | None = None
    file_size: int | None = None
    start_reason: Mapping[str, Any] | None = None
    stop_reason: Mapping[str, Any] | None = None
    storage: Mapping[str, Any] | None = None
    artifacts: tuple[Artifact, ...] = ()

    @classmethod
    def from_realtimekit(cls, data: object) -> Self:
        """Normalise the `data` of get-one, or one item of the list.

        Raises `MalformedRecordingError`, and nothing else, whatever JSON it is given.
        """
        fields = _object(data)
        status = text(fields.get("status"))
        return cls._from_fields(fields, _object(fields.get("meeting")), status)

    @classmethod
    def from_webhook(cls, event: object) -> Self:
        """Normalise a `recording.statusUpdate`, of RealtimeKit or of Dyte.

        One that says no status is still about a recording; its status is then UNKNOWN. Raises
        `MalformedRecordingError`, and nothing else, whatever JSON it is given.
        """
        body = _object(event)
        fields = _object(body.get("recording"))
        status = text(fields.get("status")) or "UNKNOWN"
        return cls._from_fields(fields, _object(body.get("meeting")), status)

    @classmethod
    def _from_fields(
        cls, fields: Mapping[str, Any], meeting: Mapping[str, Any], status: str | None
    ) -> Self:
        recording_id = uuid(_first(fields, "id", "recordingId", "recording_id"))
        if recording_id is None:
            raise MalformedRecordingError("a recording without a UUID as its id")
        if status is None:
            raise MalformedRecordingError("a recording without a status")
        # A webhook calls the session roomUUID. Of two differing ids the recording's own counts.
        session_id = _first(fields, "session_id", "sessionId", "roomUUID")
        storage = _storage(_first(fields, "storage_config", "storageConfig"))
        artifacts = tuple(_artifacts(fields))
        if storage and not artifacts and status == RecordingStatus.UPLOADED:
            artifacts = (_external(text(_first(fields, "output_file_name", "outputFileName"))),)
        meeting_id = _first(fields, "meeting_id", "meetingId")
        return cls(
            recording_id=recording_id,
            status=status,
            session_id=text(session_id or _first(meeting, "session_id", "sessionId")),
            meeting_id=text(meeting_id or meeting.get("id")),
            meeting_title=text(meeting.get("title")),
            organization_id=text(_first(fields, "organization_id", "organizationId")),
            invoked_at=_time(_first(fields, "invoked_time", "invokedTime")),
            started_at=_time(_first(fields, "started_time", "startedTime")),
            stopped_at=_time(_first(fields, "stopped_time", "stoppedTime")),
            duration_seconds=_number(_first(fields, "recording_duration", "recordingDuration")),
            file_name=text(_first(fields, "output_file_name", "outputFileName")),
            file_size=_size(_first(fields, "file_size", "fileSize")),
            start_reason=_reason(_first(fields, "start_reason", "startReason")),
            stop_reason=_reason(_first(fields, "stop_reason", "stopReason")),
            storage=storage,
            artifacts=artifacts,
        )


def is_final(status: str | None) -> bool:
    """True where RealtimeKit will not change the recording any more: UPLOADED or ERRORED."""
    return status in (RecordingStatus.UPLOADED, RecordingStatus.ERRORED)


def kind_of(file_name: str | None) -> str:
    """Return the kind of file that has such a name; a TRACK recording's name is a template."""
    suffix = (file_name or "").rpartition(".")[2].lower()
    return "track" if "{{" in (file_name or "") else _KINDS.get(suffix, "video")


def rank(status: str) -> int | None:
    """How far along a status is: they only move forward. `None` for one that is not documented."""
    return _RANKS.get(status)


def uuid(value: object) -> str | None:
    """The UUID in lower case, so that one recording has one key; `None` for anything else."""
    lower = value.lower() if isinstance(value, str) else ""
    return lower if _UUID.fullmatch(lower) else None


def text(value: object) -> str | None:
    """Text that can be stored and indexed: valid UTF-8, trimmed, not too long; else `None`."""
    if not isinstance(value, str):
        return None
    # A lone surrogate is legal in JSON and not in UTF-8: DynamoDB could not store it.
    clean = value.encode("utf-8", "replace").strip()[:LONGEST_TEXT]
    return clean.decode("utf-8", "ignore").strip() or None


def timestamp(time: datetime) -> str:
    """UTC, ISO 8601 with milliseconds and `Z`: as text such times sort by time."""
    utc = time.astimezone(UTC).replace(tzinfo=None)
    return utc.isoformat(timespec="milliseconds") + "Z"


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _first(fields: Mapping[str, Any], *names: str) -> Any:
    """The first of several spellings that says anything; RealtimeKit also says nothing as ""."""
    return next((fields[name] for name in names if fields.get(name) not in (None, "")), None)


def _time(value: object) -> datetime | None:
    """From `2026-06-03T10:00:00.000Z` or Dyte's `2023-01-25 04:51:35.903816Z`."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value.strip())
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _number(value: object) -> int | Decimal | None:
    """A number of zero or more, whether written as a number or as text, to three decimals."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    try:
        number = Decimal(str(value).strip())
        if not (number.is_finite() and 0 <= number < _LARGEST_NUMBER):
            return None
    except InvalidOperation:
        return None
    rounded = round(number, 3)
    return int(rounded) if rounded == int(rounded) else rounded.normalize()


def _size(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _known(pairs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in pairs.items() if value not in (None, {})}


def _reason(value: object) -> Mapping[str, Any] | None:
    """The reason and who gave it. In a webhook it is text in Python's notation: not read."""
    fields = _object(value)
    caller = _object(fields.get("caller"))
    known_caller = _known(
        {
            "name": text(caller.get("name")),
            "type": text(caller.get("type")),
            # RealtimeKit spells it with a capital I.
            "user_id": text(_first(caller, "user_Id", "user_id", "userId")),
        }
    )
    return _known({"reason": text(fields.get("reason")), "caller": known_caller}) or None


def _storage(value: object) -> Mapping[str, Any] | None:
    """Where the file is, never how to get in: access_key, secret, private_key may be there."""
    fields = _object(value)
    known = _known(
        {name: text(fields.get(name)) for name in ("type", "bucket", "region", "path", "host")}
    )
    port = _size(fields.get("port"))
    return known | ({} if port is None else {"port": port}) or None


def _artifacts(fields: Mapping[str, Any]) -> Iterator[Artifact]:
    expiry = _time(_first(fields, "download_url_expiry", "downloadUrlExpiry"))
    download = _first(fields, "download_url", "downloadUrl")
    if url := _url(download):
        yield Artifact(
            name="video",
            kind="video",
            file_name=text(_first(fields, "output_file_name", "outputFileName")) or _file_name(url),
            file_size=_size(_first(fields, "file_size", "fileSize")),
            url=url,
            url_expires_at=expiry,
        )
    if url := _url(_first(fields, "audio_download_url", "audioDownloadUrl")):
        yield Artifact(
            name="audio", kind="audio", file_name=_file_name(url), url=url, url_expires_at=expiry
        )
    tracks = {name: (file_name, url) for name, file_name, url in _tracks(download)}
    for name, (file_name, url) in tracks.items():
        yield Artifact(name=name, kind="track", file_name=file_name, url=url, url_expires_at=expiry)


def _external(file_name: str | None) -> Artifact:
    """With RealtimeKit's own bucket disabled there are no URLs, and the file is the owner's.

    That of a TRACK recording is a template's: one entry stands for all its files.
    """
    kind = kind_of(file_name)
    return Artifact(name=kind, kind=kind, file_name=file_name)


def _tracks(download: object) -> Iterator[tuple[str, str, str]]:
    """Name, file name and URL of each file of a TRACK recording.

    Its `download_url` is `[{"layer_name": …, "download_urls": {"<file>": {"download_url": …}}}]`
    (RealtimeKit docs, track recording); an object with `links` has been seen too.
    """
    layers = download if isinstance(download, list) else [download]
    for layer in map(_object, layers):
        layer_name = text(layer.get("layer_name")) or "default"
        for given_name, file in _named(_first(layer, "download_urls", "links")):
            url = _url(file) or _url(_first(_object(file), "download_url", "url"))
            file_name = text(given_name) or (_file_name(url) if url else None)
            if url and file_name:
                yield f"track/{layer_name}/{file_name}", file_name, url


def _named(files: object) -> Iterator[tuple[object, object]]:
    if isinstance(files, Mapping):
        yield from files.items()
    elif isinstance(files, list):
        yield from ((None, file) for file in files)


def _url(value: object) -> str | None:
    """An absolute http(s) URL, whole or not at all: a shortened signature is worth nothing."""
    if not isinstance(value, str) or len(value) > 8 * LONGEST_TEXT or not value.isascii():
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    return value if parts.scheme in ("https", "http") and parts.netloc else None


def _file_name(url: str) -> str | None:
    return text(unquote(urlsplit(url).path).rpartition("/")[2])
