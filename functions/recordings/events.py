"""The events that tell subscribers what changed in the catalogue.

An event names ids, times and sizes, and never a URL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from recordings.model import RecordingStatus

# An event may be 256 KB, and names of any script are six bytes a letter in JSON.
_MAX_FILES = 50
# The rest of an event are a dozen texts of 1 KB, of up to 6 bytes a letter in JSON.
_MAX_FILES_BYTES = 150_000
_TOLD_OF_FILES = ("bucket", "key", "size", "checksum_crc32")
EVENT_SOURCE = "realtimekit.recordings"
_TOLD = (
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
    "version",
)


class EventType(StrEnum):
    """What subscribers are told of; EventBridge's detail type."""

    CATALOGUED = "Recording Catalogued"
    UPLOADED = "Recording Uploaded"
    ERRORED = "Recording Errored"
    ARCHIVED = "Recording Archived"
    EXPIRED = "Recording Expired"
    ERASED = "Recording Erased"


_TOLD_STATUSES = {
    RecordingStatus.UPLOADED: EventType.UPLOADED,
    RecordingStatus.ERRORED: EventType.ERRORED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a recording. Its detail's `id` is the same at every delivery."""

    type: EventType
    recording_id: str
    detail: str


def derive_events(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[Event]:
    """What a change of a row is to subscribers, in order.

    It is new, its status became final, the last of its files was archived, files were lost, or it
    was erased.
    """
    before = old or {}
    if "erased_at" in new:
        return [] if "erased_at" in before else [_event(EventType.ERASED, new)]
    told = [] if "version" in before else [_event(EventType.CATALOGUED, new)]
    final = _TOLD_STATUSES.get(new.get("status", ""))
    if final and before.get("status") != new["status"]:
        told.append(_event(final, new))
    if new.get("archived") == "yes" != before.get("archived"):
        told.append(_event(EventType.ARCHIVED, new, **_archived_files(new)))
    expired = _names(new, "expired")
    if expired - _names(before, "expired"):
        told.append(_event(EventType.EXPIRED, new, expired=_fitting(sorted(expired))))
    return told


def _names(row: Mapping[str, Any], state: str) -> set[str]:
    """Of the artifacts in that state of archiving."""
    artifacts = row.get("artifacts", {})
    return {
        name
        for name, artifact in artifacts.items()
        if artifact.get("archive", {}).get("state") == state
    }


def _archived_files(row: Mapping[str, Any]) -> dict[str, Any]:
    """Where they are; of a recording with very many, what fits an event: the row has them all."""
    artifacts = sorted(row.get("artifacts", {}).items())
    files = [
        {"name": name, "kind": artifact["kind"], **_place(artifact.get("archive", {}))}
        for name, artifact in artifacts[:_MAX_FILES]
    ]
    return {"artifact_count": len(artifacts), "artifacts": _fitting(files)}


def _place(archive: Mapping[str, Any]) -> dict[str, Any]:
    return {key: archive[key] for key in _TOLD_OF_FILES if key in archive}


def _fitting(files: list[Any]) -> list[Any]:
    """The first of them, as many as an event holds."""
    size = 0
    for number, file in enumerate(files[:_MAX_FILES]):
        size += len(json.dumps(file)) + 2
        if size > _MAX_FILES_BYTES:
            return files[:number]
    return files[:_MAX_FILES]


def _event(type_: EventType, row: Mapping[str, Any], **more: Any) -> Event:
    detail = {"id": f"{row['recording_id']}#{row['version']}"}
    detail |= {name: row[name] for name in _TOLD if name in row}
    detail |= more
    # A duration is the only number that may not be an integer.
    return Event(
        type=type_, recording_id=row["recording_id"], detail=json.dumps(detail, default=float)
    )
