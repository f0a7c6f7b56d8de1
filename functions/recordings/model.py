"""A recording as this project knows it: RealtimeKit's shapes normalised, without secrets.

RealtimeKit describes one recording in several ways. Get-one has the reasons and no meeting, a list
item the meeting and no reasons. A webhook writes camelCase, and numbers as strings. A TRACK
recording has many files where the schema says one. All of them become one `Recording` here.
Only listed fields are kept, because `storage_config` may carry the owner's credentials.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from hashlib import sha256
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import quote, unquote, urlsplit

MAX_TEXT_BYTES = 1024
"""Bytes kept of any text: as many as a sort key may have (DynamoDB quotas)."""

MAX_URL_BYTES = 8 * 1024
MAX_FILES = 10_000
MAX_FILES_BYTES = 16 * 1024 * 1024
MAX_VALUES = 200_000
"""Values in one JSON text. A real answer of 16 MiB has fewer: each of its files takes three values
and half a kilobyte, mostly for a presigned URL."""

SESSION_FILES: tuple[str, ...] = ("transcript", "captions", "summary", "chat")
"""The kinds of files that a session may leave besides its recordings."""

# Neither RealtimeKit nor its predecessor Dyte existed before 2015, so an earlier time was never set
# (seen are 0001-01-01, the zero of Go, and 1970-01-01, that of Unix).
_FIRST_YEAR = 2015
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_MAX_NUMBER = Decimal(10**15)


ErasureReason = Literal["request", "retention"]
"""The origin of an erasure: a request to the API, or the owner's `RetentionDays`."""


class RecordingStatus(StrEnum):
    """The documented statuses. Others are stored as they come, and are never final."""

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


_KINDS = {"mp3": "audio", "aac": "audio", "m4a": "audio"}
_FILES_OF_LAYER = ("download_urls", "downloadUrls", "links")
_URL_OF_FILE = ("download_url", "downloadUrl", "url")
# The captions are the transcript in another format, so their fields have the transcript's names.
_NAMES_OF_SESSION_FILES = {kind: kind for kind in SESSION_FILES} | {"captions": "transcript"}
# The end of the URL of a file that all sessions share, so it is no session's transcript.
_SHARED_TRANSCRIPT = "/default/transcript.csv"
# Levels of JSON: the answer, the list in it, a layer, its files, a file, and one to spare.
_MAX_DEPTH = 6


class MalformedRecordingError(ValueError):
    """Raised for JSON that is not a recording: not an object, or without a UUID or a status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file of a recording. `name` is unique within it and the same at every fetch.

    A file of the recording's session, such as its transcript, is an artifact named by its kind.

    `url` is a bearer credential: anyone can download the file with it until `url_expires_at`.
    A file without a URL is where the recording's `storage` says; if there is no `storage` either,
    RealtimeKit has named the file and not offered it yet. `participant_id` is the owner's own id of
    a track's participant.
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
    """A view: one answer of RealtimeKit, or one webhook; `None` stands for "not said".

    Times are aware UTC, sizes are bytes, `duration_seconds` may be fractional. `start_reason` and
    `stop_reason` are `{"reason", "caller": {"name", "type", "user_id"}}`. `storage` is where
    RealtimeKit put the file: `{"type", "bucket", "region", "path", "host", "port", "account_id"}`.
    Keys that were not said are absent. An UPLOADED recording without artifacts has no file.
    `session_started_at` comes from webhooks only.

    The first `MAX_FILES` of an answer's files are kept, with up to `MAX_FILES_BYTES` of names and
    URLs; `files_left_out` is the number of the others.
    """

    recording_id: str
    status: str
    session_id: str | None = None
    meeting_id: str | None = None
    session_started_at: datetime | None = None
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
    files_left_out: int = 0

    @classmethod
    def from_realtimekit(cls, data: object) -> Self:
        """Normalise the `data` of get-one, or one item of the list.

        Get-one has been seen with the recording in `data` and in `data.recording`. Raises only
        `MalformedRecordingError`, whatever the JSON.
        """
        outer = _object(data)
        fields = _object(outer.get("recording")) or outer
        meeting = _object(fields.get("meeting")) or _object(outer.get("meeting"))
        return cls._from_fields(fields, meeting, text(fields.get("status")))

    @classmethod
    def from_webhook(cls, event: object) -> Self:
        """Normalise a `recording.statusUpdate`, of RealtimeKit or of Dyte.

        A webhook without a status is still about a recording, whose status is then UNKNOWN. Raises
        only `MalformedRecordingError`, whatever the JSON.
        """
        body = _object(event)
        fields = _object(body.get("recording"))
        meeting = _object(body.get("meeting"))
        status = text(fields.get("status")) or "UNKNOWN"
        recording = cls._from_fields(fields, meeting, status)
        if _session_id({}, meeting) not in (None, recording.session_id):
            # The meeting's next session has begun meanwhile, so its start is not this recording's.
            return recording
        return replace(recording, session_started_at=session_start(meeting))

    @classmethod
    def _from_fields(
        cls, fields: Mapping[str, Any], meeting: Mapping[str, Any], status: str | None
    ) -> Self:
        recording_id = _uuid(fields, "id", "recordingId", "recording_id")
        if recording_id is None:
            raise MalformedRecordingError("a recording without a UUID as its id")
        if status is None:
            raise MalformedRecordingError("a recording without a status")
        storage = _storage(_first(fields, "storage_config", "storageConfig"))
        artifacts, left_out = _artifacts(fields)
        if storage and not artifacts and status == RecordingStatus.UPLOADED:
            artifacts = tuple(_external(fields, meeting))
        return cls(
            recording_id=recording_id,
            status=status,
            session_id=_session_id(fields, meeting),
            # A V1 meeting also has a room name, which is not its id.
            meeting_id=_uuid(fields, "meeting_id", "meetingId") or _uuid(meeting, "id"),
            meeting_title=text(meeting.get("title")),
            organization_id=text(_first(fields, "organization_id", "organizationId")),
            invoked_at=time_of(_first(fields, "invoked_time", "invokedTime")),
            started_at=time_of(_first(fields, "started_time", "startedTime")),
            stopped_at=time_of(_first(fields, "stopped_time", "stoppedTime")),
            duration_seconds=_number(_first(fields, "recording_duration", "recordingDuration")),
            file_name=text(_first(fields, "output_file_name", "outputFileName")),
            file_size=_size(_first(fields, "file_size", "fileSize")),
            start_reason=_reason(_first(fields, "start_reason", "startReason")),
            stop_reason=_reason(_first(fields, "stop_reason", "stopReason")),
            storage=storage,
            artifacts=artifacts,
            files_left_out=left_out,
        )


def session_file(kind: str, data: object) -> Artifact | None:
    """Return a session's file of a kind of `SESSION_FILES`, as an artifact named by its kind.

    `data` is a webhook, or the `data` of the session's transcript, summary or chat. Its fields may
    lie in an object that is named by the kind, or `session`.

    Return `None` without a usable URL, or if the URL is that of the file that all sessions share.
    Raises nothing, whatever the JSON.
    """
    name = _NAMES_OF_SESSION_FILES[kind]
    outer = _object(data)
    for fields in (outer, *(_object(outer.get(key)) for key in (name, kind, "session"))):
        urls = map(_url, _in_any_spelling(fields, f"{name}downloadurl"))
        if url := next(filter(None, urls), None):
            times = map(time_of, _in_any_spelling(fields, f"{name}downloadurlexpiry"))
            expires_at = next(filter(None, times), None)
            file = Artifact(name=kind, kind=kind, url=url, url_expires_at=expires_at)
            return None if urlsplit(url).path.endswith(_SHARED_TRANSCRIPT) else file
    return None


def _in_any_spelling(fields: Mapping[str, Any], name: str) -> Iterator[Any]:
    """Yield the values of the fields that have this name but for capitals and underscores.

    RealtimeKit writes `chat_download_url` and `summaryDownloadUrl` (its OpenAPI, sessions).
    """
    return (value for key, value in fields.items() if key.replace("_", "").lower() == name)


def session_start(meeting: Mapping[str, Any]) -> datetime | None:
    """Return the start of the session that a webhook's `meeting` names; `None` if not given."""
    return time_of(_first(meeting, "startedAt", "started_at"))


def is_final(status: str | None) -> bool:
    """Return True for a status after which RealtimeKit changes no more: UPLOADED or ERRORED."""
    return status in (RecordingStatus.UPLOADED, RecordingStatus.ERRORED)


def rank(status: str) -> int | None:
    """Return how far along a status is, `None` if it is undocumented; ranks only grow."""
    return _RANKS.get(status)


def uuid(value: object) -> str | None:
    """Return a UUID in lower case, so that one recording has one key; `None` for anything else."""
    lower = value.lower() if isinstance(value, str) else ""
    return lower if _UUID.fullmatch(lower) else None


def kind_of(file_name: str | None) -> str:
    """Return a file's kind by its name: "video", "audio", or "track" for a template of names."""
    suffix = (file_name or "").rpartition(".")[2].lower()
    return "track" if "{{" in (file_name or "") else _KINDS.get(suffix, "video")


def load_json(encoded: str | bytes) -> Any:
    """Parse a JSON text, its fractions as `Decimal`.

    Raises `ValueError` or `ArithmeticError` for text that is not JSON, is nested too deeply, or has
    more than `MAX_VALUES`, because a value takes up to thirty times the memory of its bytes.
    """
    marks = (",", "[", "{") if isinstance(encoded, str) else (b",", b"[", b"{")
    if sum(map(encoded.count, marks)) > MAX_VALUES:  # type: ignore[arg-type]
        raise ValueError("more values than any answer has")
    try:
        return json.loads(encoded, parse_float=Decimal)
    except RecursionError:
        raise ValueError("nested without end") from None


def text(value: object) -> str | None:
    """Return text that can be stored and indexed: valid UTF-8, trimmed, cut; `None` if empty."""
    if not isinstance(value, str):
        return None
    # A lone surrogate is legal in JSON and not in UTF-8, so DynamoDB could not store it.
    clean = value.encode("utf-8", "replace").strip()[:MAX_TEXT_BYTES]
    return clean.decode("utf-8", "ignore").strip() or None


def timestamp(time: datetime) -> str:
    """Return a time in UTC as ISO 8601 with milliseconds and `Z`; such texts sort by time."""
    utc = time.astimezone(UTC).replace(tzinfo=None)
    return utc.isoformat(timespec="milliseconds") + "Z"


def parse_timestamp(value: object) -> datetime | None:
    """Return the time that `timestamp` wrote; `None` for anything else."""
    if not (isinstance(value, str) and _TIMESTAMP.fullmatch(value)):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def time_of(value: object) -> datetime | None:
    """Parse RealtimeKit's `2026-06-03T10:00:00.000Z` or Dyte's `2023-01-25 04:51:35.903816Z`.

    Return `None` for a time that was never set.
    """
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value.strip())
        utc = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return utc if utc.year >= _FIRST_YEAR else None


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _first(fields: Mapping[str, Any], *names: str) -> Any:
    """Return the first of several spellings that has a value; RealtimeKit also writes ""."""
    return next((fields[name] for name in names if fields.get(name) not in (None, "")), None)


def _uuid(fields: Mapping[str, Any], *names: str) -> str | None:
    """Return the first of several spellings that is a UUID."""
    return next(filter(None, (uuid(fields.get(name)) for name in names)), None)


def _session_id(fields: Mapping[str, Any], meeting: Mapping[str, Any]) -> str | None:
    """Return the session's id, in lower case if it is a UUID.

    A webhook calls it roomUUID. If recording and meeting differ, the recording's own counts.
    """
    session_id = _first(fields, "session_id", "sessionId", "roomUUID")
    session_id = session_id or _first(meeting, "session_id", "sessionId")
    return uuid(session_id) or text(session_id)


def _number(value: object) -> int | Decimal | None:
    """Parse a number of zero or more, written as a number or as text, to three decimals."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    try:
        number = Decimal(str(value).strip())
        if not (number.is_finite() and 0 <= number < _MAX_NUMBER):
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
    """Return the reason and its caller, `None` for a webhook's text in Python's notation."""
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
    """Return a file's storage without the credentials: access_key, secret and private_key.

    R2 has buckets of one name in different accounts, so `account_id` is a part of the address.
    """
    fields = _object(value)
    names = ("type", "bucket", "region", "path", "host")
    known = _known(
        {name: text(fields.get(name)) for name in names}
        | {"account_id": text(_first(fields, "account_id", "accountId"))}
    )
    port = _size(fields.get("port"))
    return known | ({} if port is None else {"port": port}) or None


def _external(fields: Mapping[str, Any], meeting: Mapping[str, Any]) -> Iterator[Artifact]:
    """Yield the files in the owner's storage, if RealtimeKit's own bucket is disabled.

    They have no URLs. A TRACK recording's name is a template, so one entry stands for all its
    files. A video's sound is a second file if the answer says that it is exported.
    """
    file_name = text(_first(fields, "output_file_name", "outputFileName"))
    kind = kind_of(file_name)
    yield Artifact(name=kind, kind=kind, file_name=file_name)
    if kind == "video" and _exports_audio(fields, meeting):
        yield Artifact(name="audio", kind="audio")


def _exports_audio(fields: Mapping[str, Any], meeting: Mapping[str, Any]) -> bool:
    places = (fields, *(_object(part.get("recording_config")) for part in (fields, meeting)))
    configs = (_object(_first(place, "audio_config", "audioConfig")) for place in places)
    return any(_first(config, "export_file", "exportFile") is True for config in configs)


def _artifacts(fields: Mapping[str, Any]) -> tuple[tuple[Artifact, ...], int]:
    """Return the files that RealtimeKit names, and the number of those beyond the limit."""
    expiry = time_of(_first(fields, "download_url_expiry", "downloadUrlExpiry"))
    download = _unpacked(_first(fields, "download_url", "downloadUrl"))
    single = tuple(_single_files(fields, download, expiry))
    if isinstance(download, str):
        return single, 0
    files, left_out = _bounded(_track_files(download))
    tracks = (
        Artifact(
            name=name,
            kind="track",
            file_name=file.file_name,
            url=file.url,
            url_expires_at=expiry,
            participant_id=file.participant_id,
        )
        for name, file in _by_name(files).items()
    )
    return (*single, *tracks), left_out


def _single_files(
    fields: Mapping[str, Any], download: object, expiry: datetime | None
) -> Iterator[Artifact]:
    """Yield the file in `download_url`, and the sound alone, which has a URL of its own.

    An audio-only recording's file may be in either, or in both.
    """
    audio = _first(fields, "audio_download_url", "audioDownloadUrl")
    file_name = text(_first(fields, "output_file_name", "outputFileName"))
    size = _size(_first(fields, "file_size", "fileSize"))
    is_same = isinstance(download, str) and _path(download) == _path(audio) is not None
    if isinstance(download, str) and not is_same:
        kind = "audio" if _is_audio(download, file_name) else "video"
        yield Artifact(
            name="audio-main" if kind == "audio" and audio else kind,
            kind=kind,
            file_name=file_name or _file_name(download),
            file_size=size,
            url=_url(download),
            url_expires_at=expiry,
        )
    if isinstance(audio, str):
        yield Artifact(
            name="audio",
            kind="audio",
            file_name=_file_name(audio),
            file_size=size if is_same else None,
            url=_url(audio),
            url_expires_at=expiry,
        )


def _is_audio(url: str, file_name: str | None) -> bool:
    """Return True if a file is sound by its URL's name or, if that has no suffix, the other."""
    own_name = _file_name(url) or ""
    return kind_of(own_name if "." in own_name else file_name) == "audio"


class _Place(NamedTuple):
    """Where an answer names a file: its layer, the layer's position among layers, its name.

    `number` is the position of a layer, or of a file, in the list that it is an item of.
    """

    layer: str = "default"
    position: int = 0
    in_layer: bool = False
    number: int = 0
    name: str | None = None


class _TrackFile(NamedTuple):
    layer: str
    position: int
    file_name: str
    url: str | None
    path: str | None
    participant_id: str | None

    def names(self) -> Iterator[str]:
        """Yield the names it may have; if files share a name, all but the first get a suffix.

        The suffix is a hash of the participant if known, else of the path. It depends on the order
        of the answer only if both are unknown.
        """
        yield f"track/{self.layer}/{self.file_name}"
        stem, dot, suffix = self.file_name.rpartition(".")
        stem, end = (stem, dot + suffix) if stem else (suffix, "")
        place = self.path or str(self.position)
        for distinction in (self.participant_id or place, f"{self.participant_id}\n{place}"):
            digest = sha256(distinction.encode("utf-8", "replace")).hexdigest()
            yield f"track/{self.layer}/{stem}-{digest[:8]}{end}"
        yield f"track/{self.layer}/{stem}-{digest}{end}"

    def order(self) -> tuple[Any, ...]:
        """Return a sort key that is the same in each answer, as far as the answer allows."""
        names = (self.layer, self.file_name, self.participant_id or "")
        return (*names, self.path is None, self.path or "", self.position)

    def is_same(self, other: _TrackFile) -> bool:
        """Return True if both are one file that the answer names twice."""
        return self == other or (self.path is not None and self.path == other.path)


def _by_name(files: Iterable[_TrackFile]) -> dict[str, _TrackFile]:
    """Return the files by unique names, the same at every fetch."""
    named: dict[str, _TrackFile] = {}
    for file in sorted(files, key=_TrackFile.order):
        for name in file.names():
            if named.setdefault(name, file).is_same(file):
                break
    return named


def _bounded(files: Iterator[_TrackFile]) -> tuple[list[_TrackFile], int]:
    """Return the files within the limits of one answer, and the number of the others."""
    kept: list[_TrackFile] = []
    size = 0
    for file in files:
        size += len(file.layer) + len(file.file_name) + len(file.url or "")
        if len(kept) == MAX_FILES or size > MAX_FILES_BYTES:
            return kept, 1 + sum(1 for _ in files)
        kept.append(file)
    return kept, 0


def _track_files(download: object) -> Iterator[_TrackFile]:
    """Yield each file of a TRACK recording, also a named file without a usable URL.

    Documented is `[{"layer_name": …, "download_urls": {"<file>": {"download_url": …}}}]`
    (RealtimeKit docs, track recording). Also seen: that list in an object's `links`, layers without
    a name, a `custom_participant_id` in each file, and `links` of plain URLs.
    """
    for place, leaf in _leaves(download, _Place(), _MAX_DEPTH):
        fields = _object(leaf)
        link = leaf if isinstance(leaf, str) else _first(fields, *_URL_OF_FILE)
        url = _url(link)
        name = text(place.name or _first(fields, "file_name", "fileName")) or _file_name(link)
        if name and (url or place.in_layer or not fields.keys().isdisjoint(_URL_OF_FILE)):
            participant = _first(fields, "custom_participant_id", "customParticipantId")
            yield _TrackFile(place.layer, place.position, name, url, _path(url), text(participant))


def _leaves(node: object, place: _Place, depth: int) -> Iterator[tuple[_Place, object]]:
    """Yield each file's JSON and its place; layers and files may be in lists or in objects."""
    node = _unpacked(node)
    fields = _object(node)
    files = _first(fields, *_FILES_OF_LAYER)
    children: Iterable[tuple[_Place, object]]
    if isinstance(node, list):
        children = ((place._replace(number=i, name=None), item) for i, item in enumerate(node))
    elif files is not None:
        layer = text(_first(fields, "layer_name", "layerName")) or place.name or place.layer
        children = [(_Place(layer, place.number, in_layer=True), files)]
    elif fields and not _is_file(fields, place):
        layer = place.name or place.layer
        children = (
            (place._replace(layer=layer, name=text(name)), item) for name, item in fields.items()
        )
    else:
        yield place, node
        return
    for child in children if depth else ():
        yield from _leaves(child[1], child[0], depth - 1)


def _is_file(fields: Mapping[str, Any], place: _Place) -> bool:
    """Return True if an object describes one file, False if it holds files by their names."""
    if not fields.keys().isdisjoint(_URL_OF_FILE):
        return True
    has_files = any(isinstance(value, Mapping | list) or _url(value) for value in fields.values())
    return place.in_layer and place.name is not None and not has_files


def _unpacked(value: object) -> object:
    """Return the value, parsed if it is JSON in a string."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return load_json(value)
    except (ValueError, ArithmeticError):
        return value


def _url(value: object) -> str | None:
    """Return an absolute http(s) URL, or `None` if it is too long, since a cut one is useless.

    Spaces and non-ASCII characters are percent-encoded (RFC 3987), except in the host.
    """
    if not isinstance(value, str) or len(value) > MAX_URL_BYTES:
        return None
    encoded = quote(value.strip(), safe=string.punctuation, errors="surrogatepass")
    try:
        parts = urlsplit(encoded)
    except ValueError:
        return None
    is_absolute = parts.scheme in ("https", "http") and parts.netloc and "%" not in parts.netloc
    return encoded if is_absolute and len(encoded) <= MAX_URL_BYTES else None


def _path(url: object) -> str | None:
    """Return the host and path of a URL, which stay the same each time it is signed."""
    if not (known := _url(url)):
        return None
    parts = urlsplit(known)
    return parts.netloc + parts.path


def _file_name(url: object) -> str | None:
    """Return the last part of a URL's path, even of one that is too long to be kept."""
    if not isinstance(url, str) or not url.lstrip().startswith(("https://", "http://")):
        return None
    try:
        return text(unquote(urlsplit(url).path).rpartition("/")[2])
    except ValueError:
        return None
