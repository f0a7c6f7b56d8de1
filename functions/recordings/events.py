"""Events for subscribers: each reports one change of a row, with ids, times and sizes.

An event never holds a URL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from recordings.model import SESSION_FILES, RecordingStatus

_MAX_FILES = 50
# An event may have 256 KB (EventBridge quota). Besides the files it holds a dozen texts of 1 KB,
# and JSON writes a letter in up to 6 bytes.
_MAX_FILES_BYTES = 150_000
_FILE_FIELDS = ("bucket", "key", "size", "checksum_crc32")
EVENT_SOURCE = "realtimekit.recordings"
_FIELDS = (
    "recording_id",
    "app_id",
    "meeting_id",
    "session_id",
    "organization_id",
    "status",
    "invoked_at",
    "started_at",
    "stopped_at",
    "duration_seconds",
    "file_size",
    "erased_at",
    "labels",
    "version",
)


class EventType(StrEnum):
    """The kinds of events: EventBridge's detail types."""

    CATALOGUED = "Recording Catalogued"
    UPLOADED = "Recording Uploaded"
    ERRORED = "Recording Errored"
    ARCHIVED = "Recording Archived"
    FILE_ARCHIVED = "Recording File Archived"
    EXPIRED = "Recording Expired"
    ERASED = "Recording Erased"
    RETENTION_ANNOUNCED = "Retention Announced"


_FINAL_STATUSES = {
    RecordingStatus.UPLOADED: EventType.UPLOADED,
    RecordingStatus.ERRORED: EventType.ERRORED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change of a recording. The `id` in its detail is the same at every delivery."""

    type: EventType
    recording_id: str
    detail: str


def derive_events(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[Event]:
    """Return the events that a change of a row means, in order; `old` is None for a new row.

    The recording is new, its status became final, its last own file was archived, a file of its
    session was archived, files expired, or it was erased.
    """
    before = old or {}
    if "erased_at" in new:
        return [] if "erased_at" in before else [_erased_event(before, new)]
    events = [] if "version" in before else [_event(EventType.CATALOGUED, new)]
    final = _FINAL_STATUSES.get(new.get("status", ""))
    if final and before.get("status") != new["status"]:
        events.append(_event(final, new))
    if new.get("archived") == "yes" != before.get("archived"):
        events.append(_event(EventType.ARCHIVED, new, **_archived_files(new)))
    for name in sorted(_names(new, "archived") - _names(before, "archived")):
        if name in SESSION_FILES:
            events.append(_file_event(name, new))
    expired = _names(new, "expired")
    if expired - _names(before, "expired"):
        events.append(_event(EventType.EXPIRED, new, expired=_fitting(sorted(expired))))
    return events


def _erased_event(before: Mapping[str, Any], tombstone: Mapping[str, Any]) -> Event:
    """Return the event of an erasure, with the labels, which the row has no longer."""
    labels = {"labels": before["labels"]} if "labels" in before else {}
    reason = tombstone.get("erasure_reason", "request")
    return _event(EventType.ERASED, tombstone, **labels, reason=reason)


def _names(row: Mapping[str, Any], state: str) -> set[str]:
    """Return the names of the artifacts in an archive state."""
    artifacts = row.get("artifacts", {})
    return {
        name
        for name, artifact in artifacts.items()
        if artifact.get("archive", {}).get("state") == state
    }


def _file_event(name: str, row: Mapping[str, Any]) -> Event:
    """Return the event of one file; its id has the file's name, since a change may have several."""
    artifact = row["artifacts"][name]
    place = _place(artifact["archive"])
    id_ = f"{row['recording_id']}#{row['version']}#{name}"
    return _event(
        EventType.FILE_ARCHIVED, row, id=id_, artifact=name, kind=artifact["kind"], **place
    )


def _archived_files(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the count of own files and where they are, as many as fit; the row has them all."""
    artifacts = sorted(
        (name, artifact)
        for name, artifact in row.get("artifacts", {}).items()
        if artifact["kind"] not in SESSION_FILES
    )
    files = [
        {"name": name, "kind": artifact["kind"], **_place(artifact.get("archive", {}))}
        for name, artifact in artifacts[:_MAX_FILES]
    ]
    return {"artifact_count": len(artifacts), "artifacts": _fitting(files)}


def _place(archive: Mapping[str, Any]) -> dict[str, Any]:
    return {key: archive[key] for key in _FILE_FIELDS if key in archive}


def _fitting(files: list[Any]) -> list[Any]:
    """Return the first files, as many as an event has room for."""
    size = 0
    for number, file in enumerate(files[:_MAX_FILES]):
        size += len(json.dumps(file)) + 2
        if size > _MAX_FILES_BYTES:
            return files[:number]
    return files[:_MAX_FILES]


def _event(type_: EventType, row: Mapping[str, Any], **more: Any) -> Event:
    detail = {"id": f"{row['recording_id']}#{row['version']}"}
    detail |= {name: row[name] for name in _FIELDS if name in row}
    detail |= more
    # The duration may be a Decimal; all other numbers are integers.
    return Event(
        type=type_, recording_id=row["recording_id"], detail=json.dumps(detail, default=float)
    )
