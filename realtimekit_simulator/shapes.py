"""RealtimeKit's JSON for recordings, meetings, sessions and apps.

Field names, nulls and omissions follow Cloudflare's OpenAPI 4.0.0. Where real answers were seen to
differ, as for TRACK recordings, they follow the real answers.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from .clock import timestamp
from .meetings import Artifact, Meeting, Reason, Recording, Session, Snapshot
from .options import FileKind, Kind, Status
from .session_files import SessionFile
from .world import SECRET_FIELDS, UnknownError, World

NEVER = "0001-01-01T00:00:00Z"
"""Time that was never set, where the answer has Go's zero time instead of null."""

FILE_FIELDS: Mapping[FileKind, tuple[str, str]] = {
    FileKind.TRANSCRIPT: ("transcript_download_url", "transcript_download_url_expiry"),
    FileKind.SUMMARY: ("summaryDownloadUrl", "summaryDownloadUrlExpiry"),
    FileKind.CHAT: ("chat_download_url", "chat_download_url_expiry"),
}
"""Fields of a file's URL and its expiry, spelt as in the OpenAPI and the SDK 5.9.0."""

ROOM_LETTERS = str.maketrans("0123456789", "ghijklmnop")


def recording(world: World, rec: Recording, at: datetime) -> dict[str, Any]:
    """Return a recording as `active-recording` shows it; other endpoints add fields."""
    snapshot = rec.at(at)
    shape: dict[str, Any] = {
        "id": rec.id,
        "status": snapshot.status,
        "session_id": rec.session.id,
        "output_file_name": rec.file_name,
        "invoked_time": timestamp(rec.invoked_at),
        "started_time": timestamp(snapshot.started_at),
        "stopped_time": timestamp(snapshot.stopped_at),
        "download_url_expiry": timestamp(snapshot.expires_at),
        "file_size": rec.file_size if snapshot.status is Status.UPLOADED else None,
        **_download_urls(world, rec, snapshot, world.clock.now()),
    }
    shape |= {name: NEVER for name in rec.options.never_set if name in shape}
    if snapshot.duration is not None:
        shape["recording_duration"] = snapshot.duration
    return shape


def recording_details(world: World, rec: Recording, at: datetime) -> dict[str, Any]:
    """Return a recording as get-one, start and PUT show it: with reasons, without meeting."""
    shape = recording(world, rec, at)
    shape["storage_config"] = _readable(world, rec.options.storage_config)
    shape["start_reason"] = _reason(rec.start_reason)
    if shape["stopped_time"] and rec.stop_reason:
        shape["stop_reason"] = _reason(rec.stop_reason)
    return shape


def recording_item(world: World, rec: Recording, at: datetime) -> dict[str, Any]:
    """Return a recording as the list shows it: with meeting, without reasons."""
    shape = recording(world, rec, at)
    shape["storage_config"] = _readable(world, rec.options.storage_config)
    shape["meeting"] = meeting(world, rec.meeting)
    return shape


def meeting(world: World, room: Meeting) -> dict[str, Any]:
    """Return a meeting; its shape is the same in all answers."""
    return {
        "id": room.id,
        "title": room.title,
        "status": "ACTIVE",
        "created_at": timestamp(room.created_at),
        "updated_at": timestamp(room.created_at),
        "record_on_start": room.record_on_start,
        "live_stream_on_start": False,
        "persist_chat": room.persist_chat,
        "transcribe_on_end": room.transcribe_on_end,
        "summarize_on_end": room.summarize_on_end,
        "session_keep_alive_time_in_secs": room.keep_alive_seconds,
        "recording_config": _readable(world, room.recording_config),
        **({"ai_config": room.ai_config} if room.ai_config else {}),
    }


def session(world: World, run: Session, at: datetime) -> dict[str, Any]:
    """Return a session; `associated_id` is its meeting."""
    live = run.is_live(at)
    is_occupied = live and (run.left_at is None or at < run.left_at)
    shape = {
        "id": run.id,
        "associated_id": _room_name(run) if world.undocumented.room_names else run.meeting.id,
        "meeting_display_name": run.meeting.title,
        "type": "meeting",
        "status": "LIVE" if live else "ENDED",
        "live_participants": run.participants if is_occupied else 0,
        "max_concurrent_participants": run.participants,
        "minutes_consumed": run.minutes_consumed(at),
        "organization_id": world.organization_id,
        "started_at": timestamp(run.started_at),
        "created_at": timestamp(run.started_at),
        "updated_at": timestamp(run.started_at if live else run.ended_at),
    }
    if not live:
        shape["ended_at"] = timestamp(run.ended_at)
    return shape


def session_file(world: World, file: SessionFile, at: datetime) -> dict[str, Any] | None:
    """Return the URL of a session's file; raise UnknownError if the setting for none is a 404.

    The spelling of the fields differs between the kinds, and a chat's lack the session's id.
    """
    fields = FILE_FIELDS[file.kind]
    shape: dict[str, Any] = {} if file.kind == FileKind.CHAT else {"sessionId": file.session.id}
    if _has_url(world, file, at):
        values = (world.session_file_url(file), timestamp(file.expires_at))
        shape |= dict(zip(fields, values, strict=True))
    else:
        match world.undocumented.absent_session_file:
            case "404":
                raise UnknownError(f"no {file.kind} of session {file.session.id}")
            case "no data":
                return None
            case "null":
                shape |= dict.fromkeys(fields)
    return {file.kind: shape} if world.undocumented.wraps_session_file else shape


def app(world: World) -> dict[str, Any]:
    """Return the only app of the account."""
    first = min((meeting.created_at for meeting in world.meetings()), default=world.clock.now())
    return {"id": world.app_id, "name": world.organization_name, "created_at": timestamp(first)}


def _has_url(world: World, file: SessionFile, at: datetime) -> bool:
    expires_at = file.expires_at
    is_deleted = expires_at is not None and expires_at <= at
    return file.is_named(at) and (world.undocumented.keeps_expired_urls or not is_deleted)


def _room_name(run: Session) -> str:
    """Return the name of a V1 meeting's room, such as abcdef-ghijkl (SDK 5.9.0)."""
    digits = run.meeting.id.replace("-", "")[:12].translate(ROOM_LETTERS)
    return f"{digits[:6]}-{digits[6:]}"


def _download_urls(
    world: World, rec: Recording, snapshot: Snapshot, now: datetime
) -> dict[str, Any]:
    expires_at, is_track = snapshot.expires_at, rec.options.kind is Kind.TRACK
    is_deleted = expires_at is not None and expires_at <= now
    # A TRACK recording's audio_download_url is an empty string, never null.
    no_urls = {"download_url": None, "audio_download_url": "" if is_track else None}
    if is_deleted and not world.undocumented.keeps_expired_urls:
        return no_urls
    if is_track and rec.options.realtimekit_bucket and snapshot.status is Status.UPLOADING:
        # Seen: while UPLOADING, the list of tracks is incomplete.
        return no_urls | {"download_url": _tracks(world, rec, len(rec.artifacts) // 2)}
    if expires_at is None:
        return no_urls
    if is_track:
        return no_urls | {"download_url": _tracks(world, rec, len(rec.artifacts))}
    urls = {artifact.kind: world.media_url(rec, artifact) for artifact in rec.artifacts}
    return {"download_url": urls.get("video"), "audio_download_url": urls.get("audio")}


def _tracks(world: World, rec: Recording, count: int) -> Any:
    """Return the `download_url` of a TRACK recording with its first `count` files."""
    files = rec.artifacts[:count]
    shape = world.undocumented.track_urls
    if shape == "links":
        return {"links": [world.media_url(rec, file) for file in files]}
    layers = [
        {
            **({} if world.undocumented.unnamed_layers else {"layer_name": layer}),
            "download_urls": {
                file.file_name: _track(world, rec, file) for file in files if file.layer == layer
            },
        }
        for layer in rec.options.layers
        if any(file.layer == layer for file in files)
    ]
    return layers if shape == "layers" else {"links": layers}


def _track(world: World, rec: Recording, file: Artifact) -> dict[str, Any]:
    number = len(rec.artifacts) - rec.artifacts.index(file)
    url = None if number <= rec.options.late_files else world.media_url(rec, file)
    if world.undocumented.track_urls == "layers":
        return {"download_url": url}
    return {"download_url": url, "custom_participant_id": file.participant_id}


def _reason(reason: Reason) -> dict[str, Any]:
    if reason.caller is None:
        return {"reason": reason.reason}
    caller = reason.caller
    # RealtimeKit spells user_Id with a capital I.
    named = {"type": caller.type, "name": caller.name, "user_Id": caller.user_id}
    present = {name: value for name, value in named.items() if value is not None}
    return {"reason": reason.reason, "caller": present}


def _readable(world: World, config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if config is None:
        return None
    return {
        name: _readable(world, value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if world.reveals_secrets or name not in SECRET_FIELDS
    }
