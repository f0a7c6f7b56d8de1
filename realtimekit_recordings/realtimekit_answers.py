"""The forms of RealtimeKit's answers that the service knows, for `probe-realtimekit`.

A form is written as a `Shape`:

    "time | null"          a value of one of these forms; "text" is any text, "any" any value
    Words("A", "B")        one of these words
    {"id": …, "type?": …}  an object; a field with "?" may be absent, and "a/b" are two spellings
    [shape]                an array of such items
    Files({...})           an object whose other fields' names may be participants', or files'
    Named(shape)           an object whose fields are named by data, with values of that shape
    Either(...)            one of several shapes, of which each is another kind of JSON
    Inside("name", shape)  the shape, or an object with the shape in the field of that name

Where the documentation and observations differ, both are known, because the service reads both.
`functions/recordings/model.py` and `realtimekit.py` are its readers, and are not installed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Words:
    """An enumeration: the texts that a value may have."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Files:
    """An object with known fields, in which the names of unknown fields may be personal data."""

    fields: Mapping[str, Shape]


@dataclass(frozen=True)
class Named:
    """An object whose fields have names that are data."""

    values: Shape


@dataclass(frozen=True)
class Either:
    """Shapes of different kinds of JSON: a scalar, an array, an object."""

    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Inside:
    """A shape that may be inside an object, in the field of this name."""

    name: str
    shape: Shape


Shape: TypeAlias = (
    "str | Words | Mapping[str, Shape] | list[Shape] | Files | Named | Either | Inside"
)

_URL = "https URL | local URL | null | empty text"
_TIME = "time | null | empty text"

_TRACK_FILE = Files(
    {
        "download_url/downloadUrl/url": _URL,
        "custom_participant_id?/customParticipantId?": "text | null",
        "file_name?/fileName?": "text",
    }
)
_LAYER = Files(
    {
        "layer_name?/layerName?": "text",
        "download_urls/downloadUrls/links": Named(Either(("https URL | local URL", _TRACK_FILE))),
    }
)
_TRACKS: Shape = [Either(("https URL | local URL", _LAYER))]

_REASON: Shape = {
    "reason": "text",
    "caller?": {
        "name?": "text | null",
        "type?": "text",
        "user_Id?/user_id?/userId?": "text | null",
    },
}

_STORAGE: Shape = Either(
    (
        "null",
        {
            "type": "text",
            "bucket?": "text",
            **dict.fromkeys(
                ("region?", "path?", "host?", "auth_method?", "username?"), "text | null"
            ),
            "port?": "number | null",
            "account_id?/accountId?": "text | null",
            # Documented only for requests, but seen in examples of answers.
            **dict.fromkeys(("access_key?", "secret?", "password?", "private_key?"), "any"),
        },
    )
)

_MEETING: Shape = {
    "id": "UUID",
    "title?": "text | null",
    "created_at?": _TIME,
    "updated_at?": _TIME,
    "status?": "text",
    "session_keep_alive_time_in_secs?": "number",
    "recording_config?": "any",
    "ai_config?": "any",
    **dict.fromkeys(
        (
            "record_on_start?",
            "live_stream_on_start?",
            "persist_chat?",
            "transcribe_on_end?",
            "summarize_on_end?",
        ),
        "boolean",
    ),
}

_RECORDING: Mapping[str, Shape] = {
    "id": "UUID",
    "status": Words(("INVOKED", "RECORDING", "PAUSED", "UPLOADING", "UPLOADED", "ERRORED")),
    "session_id": "UUID | null",
    "output_file_name": "text",
    "invoked_time": "time",
    "started_time": _TIME,
    "stopped_time": _TIME,
    "download_url": Either((_URL, _TRACKS, Files({"links?": _TRACKS}))),
    "download_url_expiry": _TIME,
    "audio_download_url": _URL,
    "file_size": "number | null",
    "recording_duration?": "number | null",
    "storage_config?": _STORAGE,
    "start_reason?": _REASON,
    "stop_reason?": _REASON,
    # In the list only, where the documentation has no meeting_id and no type.
    "meeting?": _MEETING,
    "meeting_id?": "UUID",
    "type?": "text",
}


def _in_camel_case(name: str) -> str:
    return re.sub("_([a-z])", lambda match: match[1].upper(), name)


RECORDING: Shape = {
    "/".join(dict.fromkeys((name, _in_camel_case(name)))): shape
    for name, shape in _RECORDING.items()
}

SESSION: Shape = {
    "id": "UUID",
    # A V1 meeting has its room's name here.
    "associated_id": "text",
    "meeting_display_name": "text | null",
    "organization_id": "text",
    "started_at/startedAt": _TIME,
    "created_at": _TIME,
    "updated_at": _TIME,
    "ended_at?": _TIME,
    "type": "text",
    "status": "text",
    "live_participants": "number",
    "max_concurrent_participants": "number",
    "minutes_consumed": "number",
    # Seen in answers, but not documented.
    "total_participants?": "number",
    "recording_status?": "text",
    "livestream_status?": "text",
    "parent_session_id?": "text | null",
    "settings?": "any",
    "meta?": "any",
    "breakout_rooms?": "any",
    **dict.fromkeys(
        (
            "group_call_minutes_consumed?",
            "webinar_minutes_consumed?",
            "audio_room_minutes_consumed?",
            "livestream_minutes_consumed?",
            "chat_minutes_consumed?",
            "recording_minutes_consumed?",
            "transcription_minutes_consumed?",
        ),
        "number | null",
    ),
}


def _session_file(name: str) -> Shape:
    """Return the shape of a session's file; without a file it has been seen without fields."""
    fields: Mapping[str, Shape] = {
        "sessionId?/session_id?": "UUID",
        f"{name}_download_url?/{name}DownloadUrl?": _URL,
        f"{name}_download_url_expiry?/{name}DownloadUrlExpiry?": _TIME,
    }
    return Either(("null", Inside(name, fields)))


def _answer(data: Shape) -> Shape:
    return {"success": "boolean", "data": data}


SESSION_FILES: Mapping[str, Shape] = {
    name: _answer(_session_file(name)) for name in ("transcript", "summary", "chat")
}

ANSWERS: Mapping[str, Shape] = {
    "list": {
        "success": "boolean",
        "data": [RECORDING],
        "paging": dict.fromkeys(("total_count", "start_offset", "end_offset"), "number"),
    },
    "recording": _answer(Inside("recording", RECORDING)),
    "session": _answer(Inside("session", SESSION)),
    **SESSION_FILES,
}
"""The whole answers, by the names that a report gives them."""
