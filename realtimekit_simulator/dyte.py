"""Webhook bodies as Dyte, RealtimeKit's former self, documented them (dyte-io/docs).

Sizes are numbers, times have a space and microseconds, and `stopReason` is a string but not JSON.
A running meeting has an `endedAt` of null. Each status has its own set of fields.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from . import payloads
from .clock import timestamp
from .meetings import Reason, Recording
from .options import Status
from .world import TimelineEvent, World

ACTIVE_FIELDS = (
    "id",
    "recordingId",
    "meetingId",
    "organizationId",
    "status",
    "startedTime",
    "roomUUID",
    "outputFileName",
)
STOPPED_FIELDS: Mapping[Status, tuple[str, ...]] = {
    Status.UPLOADING: (
        "id",
        "organizationId",
        "roomUUID",
        "recordingId",
        "startedTime",
        "stoppedTime",
        "fileSize",
        "status",
    ),
    Status.UPLOADED: (
        "id",
        "status",
        "fileSize",
        "roomUUID",
        "meetingId",
        "stopReason",
        "downloadUrl",
        "recordingId",
        "startedTime",
        "stoppedTime",
        "organizationId",
        "outputFileName",
        "audioDownloadUrl",
        "downloadUrlExpiry",
        "recordingDuration",
    ),
}

CHAT_FIELDS = (
    "event",
    "meetingId",
    "sessionId",
    "chatDownloadUrl",
    "chatDownloadUrlExpiry",
    "organizedBy",
)


def body(world: World, event: TimelineEvent) -> payloads.Body:
    """Return the body that Dyte posted for an event; RealtimeKit's where Dyte has no sample."""
    current = payloads.body(world, event)
    if event.recording is not None:
        current["recording"] = _recording(world, event.recording, event)
        current["meeting"]["endedAt"] = timestamp(payloads.ended_at(event))
    current.get("meeting", {}).pop("roomName", None)
    if event.name == "meeting.chatSynced":
        current = {name: current[name] for name in CHAT_FIELDS}
    expiries = {name for name in current if name.endswith("DownloadUrlExpiry")}
    return current | dict.fromkeys(expiries, _spaced(payloads.file_expires_at(event)))


def _recording(world: World, recording: Recording, event: TimelineEvent) -> payloads.Body:
    seen, status = recording.at(event.at), event.status or Status.INVOKED
    urls = payloads.download_urls(world, event)
    fields = {
        "id": recording.id,
        "recordingId": recording.id,
        "meetingId": recording.meeting.id,
        "organizationId": world.organization_id,
        "roomUUID": event.session.id,
        "status": status,
        "outputFileName": recording.file_name,
        "startedTime": _spaced(seen.started_at),
        "stoppedTime": _spaced(seen.stopped_at),
        "fileSize": recording.file_size,
        "downloadUrl": urls.get("video"),
        "audioDownloadUrl": urls.get("audio"),
        "downloadUrlExpiry": _spaced(seen.expires_at),
        # 0 in Dyte's sample, for a recording of 47 seconds.
        "recordingDuration": 0,
        "stopReason": _quoted(recording.stop_reason),
    }
    names = STOPPED_FIELDS.get(status, ACTIVE_FIELDS)
    return {name: fields[name] for name in names if fields[name] is not None}


def _spaced(at: datetime | None) -> str | None:
    return at.strftime("%Y-%m-%d %H:%M:%S.%fZ") if at else None


def _quoted(reason: Reason | None) -> str | None:
    if reason is None:
        return None
    shape: dict[str, Any] = {"reason": reason.reason}
    if reason.caller is not None:
        shape["caller"] = {"type": reason.caller.type}
    return repr(shape).replace(": ", ":").replace(", ", ",")
