"""Webhook bodies as RealtimeKit documents them, with the fields in the documented order.

A field without a value yet, or without one for this recording, is left out. Values that the
simulated meetings lack, such as a participant's name, are those of the documentation's samples.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from .clock import timestamp
from .meetings import RETENTION, Recording, Session
from .options import FileKind, Status
from .world import ALL_PARTICIPANTS_LEFT, EventName, TimelineEvent, World

Body = dict[str, Any]


def body(world: World, event: TimelineEvent) -> Body:
    """Return the body that RealtimeKit posts for an event."""
    return {"event": event.name, **_BODIES[event.name](world, event)}


def encode(content: Mapping[str, Any]) -> bytes:
    """Return JSON as JavaScript's JSON.stringify does: compact, with lone surrogates escaped."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="backslashreplace")


def organizer(world: World) -> Body:
    """Return the organisation of every meeting."""
    return {"id": world.organization_id, "name": world.organization_name}


def download_urls(world: World, event: TimelineEvent) -> dict[str, str]:
    """Return URLs by kind of file once uploaded; those of kind `track` are never sent."""
    if event.recording is None or event.status is not Status.UPLOADED:
        return {}
    files = event.recording.artifacts
    return {file.kind: world.media_url(event.recording, file) for file in files}


def ended_at(event: TimelineEvent) -> datetime | None:
    """Return the end of the session if it had ended by then, else None."""
    end = event.session.ended_at
    return end if end is not None and end <= event.at else None


def file_expires_at(event: TimelineEvent) -> datetime:
    """Return the time at which a file of the event's session is said to be deleted."""
    return _end(event) + RETENTION


def _started(world: World, event: TimelineEvent) -> Body:
    return {"meeting": _meeting(world, event.session, None)}


def _ended(world: World, event: TimelineEvent) -> Body:
    reason = event.reason or event.session.end_reason or ALL_PARTICIPANTS_LEFT
    return {"meeting": _ended_meeting(world, event), "reason": reason}


def _participant_joined(world: World, event: TimelineEvent) -> Body:
    participant = _participant(event.session)
    return {"meeting": _meeting(world, event.session, None), "participant": participant}


def _participant_left(world: World, event: TimelineEvent) -> Body:
    participant = {**_participant(event.session), "leftAt": timestamp(event.at)}
    return {"meeting": _ended_meeting(world, event), "participant": participant}


def _chat_synced(world: World, event: TimelineEvent) -> Body:
    session = event.session
    return {
        "sessionId": session.id,
        "meetingId": session.meeting.id,
        "title": session.meeting.title,
        **_download(world, event, FileKind.CHAT, "json"),
        "createdAt": timestamp(session.started_at),
        "startedAt": timestamp(session.started_at),
        "endedAt": timestamp(_end(event)),
        "organizedBy": organizer(world),
    }


def _recording_status(world: World, event: TimelineEvent) -> Body:
    if event.recording is None:
        raise ValueError("recording.statusUpdate needs a recording")
    return {
        "recording": _recording(world, event.recording, event),
        "meeting": _meeting(world, event.session, ended_at(event)),
    }


def _livestream_status(world: World, event: TimelineEvent) -> Body:
    # This event's meeting has no session and no start, and another order.
    meeting = event.session.meeting
    return {
        "streamId": "d231d346-c422-43a6-a324-c0d65b79c8a7",
        "status": "LIVE",
        "manualIngest": False,
        "playbackUrl": "https://example.com/live.m3u8",
        "ingestServer": "rtmps://example.com/live",
        "streamKey": "stream-key",
        "meeting": {
            "id": meeting.id,
            "title": meeting.title,
            "createdAt": timestamp(event.session.started_at),
            "roomName": meeting.id,
            "status": "LIVE",
            "organizedBy": organizer(world),
        },
    }


def _transcript(world: World, event: TimelineEvent) -> Body:
    return _file_meeting(world, event) | _download(world, event, FileKind.TRANSCRIPT, "csv")


def _summary(world: World, event: TimelineEvent) -> Body:
    return _file_meeting(world, event) | _download(world, event, FileKind.SUMMARY, "txt")


def _recording(world: World, recording: Recording, event: TimelineEvent) -> Body:
    seen = recording.at(event.at)
    uploaded = event.status is Status.UPLOADED
    urls = download_urls(world, event)
    fields = {
        "id": recording.id,
        "recordingId": recording.id,
        "status": event.status,
        "downloadUrl": urls.get("video"),
        "audioDownloadUrl": urls.get("audio"),
        "downloadUrlExpiry": timestamp(seen.expires_at) if uploaded else None,
        "startedTime": timestamp(seen.started_at),
        "stoppedTime": timestamp(seen.stopped_at),
        "fileSize": str(recording.file_size) if uploaded else None,
        "outputFileName": recording.file_name,
        "meetingId": recording.meeting.id,
        "recordingDuration": seen.duration if uploaded else None,
        "organizationId": world.organization_id,
        "roomUUID": event.session.id,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _meeting(world: World, session: Session, end: datetime | None) -> Body:
    """Return the `meeting` of most events; its status is LIVE even after the end."""
    return {
        "id": session.meeting.id,
        "sessionId": session.id,
        "title": session.meeting.title,
        "roomName": session.meeting.id,
        "status": "LIVE",
        "createdAt": timestamp(session.started_at),
        "startedAt": timestamp(session.started_at),
        **({"endedAt": timestamp(end)} if end else {}),
        "organizedBy": organizer(world),
    }


def _ended_meeting(world: World, event: TimelineEvent) -> Body:
    return _meeting(world, event.session, _end(event))


def _end(event: TimelineEvent) -> datetime:
    return ended_at(event) or event.at


def _participant(session: Session) -> Body:
    return {
        "peerId": "e32fb785-ddd0-4b96-b577-879327c0082f",
        "userDisplayName": "Mary Sue",
        "customParticipantId": "user-123",
        "clientSpecificId": "user-123",
        "joinedAt": timestamp(session.started_at),
    }


def _file_meeting(world: World, event: TimelineEvent) -> Body:
    """Return the meeting of a file's event in one of its three documented shapes."""
    meeting = _ended_meeting(world, event)
    match world.undocumented.file_webhook_meeting:
        case "flat":
            return {"meetingId": meeting["id"], "sessionId": meeting["sessionId"]}
        case "ids":
            return {"meeting": {name: meeting[name] for name in ("id", "sessionId", "organizedBy")}}
        case "whole":
            return {"meeting": meeting}


def _download(world: World, event: TimelineEvent, kind: FileKind, suffix: str) -> Body:
    url = world.session_file_url(world.session_file(event.session, kind, suffix))
    return {
        f"{kind}DownloadUrl": url,
        f"{kind}DownloadUrlExpiry": timestamp(file_expires_at(event)),
    }


_BODIES: Mapping[EventName, Callable[[World, TimelineEvent], Body]] = {
    "meeting.started": _started,
    "meeting.ended": _ended,
    "meeting.participantJoined": _participant_joined,
    "meeting.participantLeft": _participant_left,
    "meeting.chatSynced": _chat_synced,
    "recording.statusUpdate": _recording_status,
    "livestreaming.statusUpdate": _livestream_status,
    "meeting.transcript": _transcript,
    "meeting.summary": _summary,
}
"""Writers of a body without `event`, by the event's name."""
