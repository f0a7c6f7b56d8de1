"""Every shape in which RealtimeKit, and Dyte before it, describes a recording."""

import json
import tracemalloc
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordings.model import (
    SESSION_FILES,
    Artifact,
    MalformedRecordingError,
    Recording,
    is_final,
    kind_of,
    load_json,
    parse_timestamp,
    rank,
    session_file,
    text,
    timestamp,
    uuid,
)

GET_ONE: dict[str, Any] = {
    "id": "97cb480d-5840-4528-ace3-919b5e386c68",
    "status": "UPLOADED",
    "session_id": "05e57591-d89e-45c9-ae44-08dc1eaad0e0",
    "output_file_name": "weekly-sync.mp4",
    "invoked_time": "2026-06-03T10:00:01.000Z",
    "started_time": "2026-06-03T10:00:05.250Z",
    "stopped_time": "2026-06-03T10:30:05.250Z",
    "download_url": "https://bucket.r2.cloudflarestorage.com/weekly-sync.mp4?X-Amz-Signature=s1",
    "download_url_expiry": "2026-06-10T10:30:05.250Z",
    "audio_download_url": "https://bucket.r2.cloudflarestorage.com/weekly-sync.mp3?X-Amz-Signature=s2",
    "file_size": 2044680,
    "recording_duration": 1800,
    "start_reason": {
        "reason": "API_CALL",
        "caller": {
            "name": "Ada",
            "type": "USER",
            "user_Id": "4bd0c6c4-0000-4000-8000-0123456789ab",
        },
    },
    "stop_reason": {"reason": "ALL_PEERS_LEFT", "caller": {"type": "INTERNAL"}},
    "storage_config": None,
}
MINIMAL = {"id": GET_ONE["id"], "status": "INVOKED"}


def test_get_one_is_read_whole() -> None:
    expiry = datetime(2026, 6, 10, 10, 30, 5, 250_000, tzinfo=UTC)

    assert Recording.from_realtimekit(GET_ONE) == Recording(
        recording_id="97cb480d-5840-4528-ace3-919b5e386c68",
        status="UPLOADED",
        session_id="05e57591-d89e-45c9-ae44-08dc1eaad0e0",
        invoked_at=datetime(2026, 6, 3, 10, 0, 1, tzinfo=UTC),
        started_at=datetime(2026, 6, 3, 10, 0, 5, 250_000, tzinfo=UTC),
        stopped_at=datetime(2026, 6, 3, 10, 30, 5, 250_000, tzinfo=UTC),
        duration_seconds=1800,
        file_name="weekly-sync.mp4",
        file_size=2044680,
        start_reason={
            "reason": "API_CALL",
            "caller": {
                "name": "Ada",
                "type": "USER",
                "user_id": "4bd0c6c4-0000-4000-8000-0123456789ab",
            },
        },
        stop_reason={"reason": "ALL_PEERS_LEFT", "caller": {"type": "INTERNAL"}},
        artifacts=(
            Artifact(
                name="video",
                kind="video",
                file_name="weekly-sync.mp4",
                file_size=2044680,
                url="https://bucket.r2.cloudflarestorage.com/weekly-sync.mp4?X-Amz-Signature=s1",
                url_expires_at=expiry,
            ),
            Artifact(
                name="audio",
                kind="audio",
                file_name="weekly-sync.mp3",
                url="https://bucket.r2.cloudflarestorage.com/weekly-sync.mp3?X-Amz-Signature=s2",
                url_expires_at=expiry,
            ),
        ),
    )


def test_a_list_item_tells_the_meeting() -> None:
    meeting = {"id": "50c8940e-1b97-402a-97d6-2708b7feca41", "title": "Weekly sync"}

    recording = Recording.from_realtimekit({**MINIMAL, "meeting": meeting})

    assert recording.meeting_id == "50c8940e-1b97-402a-97d6-2708b7feca41"
    assert recording.meeting_title == "Weekly sync"


def test_realtimekits_webhook_is_read() -> None:
    recording = Recording.from_webhook(
        {
            "event": "recording.statusUpdate",
            "recording": {
                "id": "97cb480d-5840-4528-ace3-919b5e386c68",
                "recordingId": "97cb480d-5840-4528-ace3-919b5e386c68",
                "status": "UPLOADED",
                "downloadUrl": "https://example.com/recording.mp4",
                "audioDownloadUrl": "https://example.com/recording.mp3",
                "downloadUrlExpiry": "2026-06-10T10:30:00.000Z",
                "startedTime": "2026-06-03T10:00:00.000Z",
                "stoppedTime": "2026-06-03T10:30:00.000Z",
                "fileSize": "2044680",
                "outputFileName": "weekly-sync.mp4",
                "meetingId": "50c8940e-1b97-402a-97d6-2708b7feca41",
                "recordingDuration": 1800,
                "organizationId": "c94c437b-592a-4a39-b9e2-47ef1451e43b",
                "roomUUID": "05e57591-d89e-45c9-ae44-08dc1eaad0e0",
            },
            "meeting": {
                "id": "50c8940e-1b97-402a-97d6-2708b7feca41",
                "sessionId": "05e57591-d89e-45c9-ae44-08dc1eaad0e0",
                "title": "Weekly sync",
                "startedAt": "2026-06-03T09:59:57.120Z",
            },
        }
    )

    assert recording.session_id == "05e57591-d89e-45c9-ae44-08dc1eaad0e0"
    assert recording.session_started_at == datetime(2026, 6, 3, 9, 59, 57, 120_000, tzinfo=UTC)
    assert recording.meeting_id == "50c8940e-1b97-402a-97d6-2708b7feca41"
    assert recording.meeting_title == "Weekly sync"
    assert recording.organization_id == "c94c437b-592a-4a39-b9e2-47ef1451e43b"
    assert recording.file_size == 2044680
    assert [artifact.name for artifact in recording.artifacts] == ["video", "audio"]


def test_dytes_webhook_is_read() -> None:
    """Microseconds after a space, a number for the size, no meetingId, a reason in Python's notation."""
    recording = Recording.from_webhook(
        {
            "event": "recording.statusUpdate",
            "recording": {
                "id": "6c81b7c4-4465-4e16-a36f-21b501d619bc",
                "roomUUID": "56b85fd4-3b1a-4cf0-ac2c-3fdd2ac95b62",
                "startedTime": "2022-12-13 07:08:39.051621Z",
                "stoppedTime": "2022-12-13 07:09:45.865627Z",
                "fileSize": 216787,
                "status": "UPLOADING",
                "stopReason": "{'reason':'ALL_PEERS_LEFT','caller':{'type':'INTERNAL'}}",
            },
            "meeting": {"id": "50c8940e-1b97-402a-97d6-2708b7feca41", "endedAt": None},
        }
    )

    assert recording.started_at == datetime(2022, 12, 13, 7, 8, 39, 51_621, tzinfo=UTC)
    assert recording.session_id == "56b85fd4-3b1a-4cf0-ac2c-3fdd2ac95b62"
    assert recording.meeting_id == "50c8940e-1b97-402a-97d6-2708b7feca41"
    assert recording.file_size == 216787
    assert recording.stop_reason is None


def test_a_webhook_in_snake_case_is_read_too() -> None:
    recording = Recording.from_webhook(
        {"recording": {**GET_ONE, "meeting_id": "50c8940e-1b97-402a-97d6-2708b7feca41"}}
    )

    assert recording.meeting_id == "50c8940e-1b97-402a-97d6-2708b7feca41"
    assert recording.file_name == "weekly-sync.mp4"


@pytest.mark.parametrize(
    ("meeting", "start"),
    [
        ({"startedAt": "2026-06-03T10:00:00.000Z"}, "2026-06-03T10:00:00.000Z"),
        ({"started_at": "2022-12-13 07:08:39.051621Z"}, "2022-12-13T07:08:39.051Z"),
        (
            {"startedAt": "2026-06-03T10:00:00.000Z", "sessionId": GET_ONE["session_id"].upper()},
            "2026-06-03T10:00:00.000Z",
        ),
        ({"startedAt": "0001-01-01T00:00:00Z"}, None),
        ({"startedAt": 1780480800}, None),
        ({"createdAt": "2026-06-03T10:00:00.000Z"}, None),
        ("meeting", None),
    ],
)
def test_a_webhook_gives_the_start_of_the_session(meeting: object, start: str | None) -> None:
    recording = Recording.from_webhook({"recording": GET_ONE, "meeting": meeting})

    session_started_at = recording.session_started_at
    assert (session_started_at and timestamp(session_started_at)) == start


def test_the_start_of_another_session_is_not_the_recordings() -> None:
    """A webhook may come late, when the meeting's next session has begun."""
    meeting = {
        "startedAt": "2026-06-03T14:00:00.000Z",
        "sessionId": "56b85fd4-3b1a-4cf0-ac2c-3fdd2ac95b62",
    }

    recording = Recording.from_webhook({"recording": GET_ONE, "meeting": meeting})

    assert recording.session_started_at is None


def test_the_start_of_a_room_in_the_list_is_not_a_sessions() -> None:
    meeting = {"startedAt": "2026-01-01T10:00:00.000Z", "started_at": "2026-01-01T10:00:00.000Z"}

    recording = Recording.from_realtimekit({**GET_ONE, "meeting": meeting})

    assert recording.session_started_at is None


def test_each_file_of_a_track_recording_is_an_artifact() -> None:
    recording = Recording.from_realtimekit(
        {
            **MINIMAL,
            "status": "UPLOADED",
            "file_size": 0,
            "audio_download_url": "",
            "download_url_expiry": "2026-06-10T10:30:00.000Z",
            "download_url": [
                {
                    "layer_name": "default",
                    "download_urls": {
                        "p_1.webm": {
                            "download_url": "https://storage.googleapis.com/b/p_1.webm?s=1"
                        },
                        "p_2.webm": {
                            "download_url": "https://storage.googleapis.com/b/p_2.webm?s=2"
                        },
                    },
                },
                {
                    "layer_name": "noise-free",
                    "download_urls": {
                        "p_1.webm": {
                            "download_url": "https://storage.googleapis.com/b/n/p_1.webm?s=3"
                        }
                    },
                },
            ],
        }
    )

    assert [(a.name, a.kind, a.file_name) for a in recording.artifacts] == [
        ("track/default/p_1.webm", "track", "p_1.webm"),
        ("track/default/p_2.webm", "track", "p_2.webm"),
        ("track/noise-free/p_1.webm", "track", "p_1.webm"),
    ]
    assert recording.artifacts[0].url == "https://storage.googleapis.com/b/p_1.webm?s=1"
    assert recording.artifacts[0].url_expires_at == datetime(2026, 6, 10, 10, 30, tzinfo=UTC)


def test_a_track_recordings_object_of_links_is_read_too() -> None:
    links = ["https://storage.googleapis.com/b/p_1.webm?s=1"]

    recording = Recording.from_realtimekit({**MINIMAL, "download_url": {"links": links}})

    assert [a.name for a in recording.artifacts] == ["track/default/p_1.webm"]


P_1 = "https://storage.googleapis.com/b/p_1.webm?s=1"
P_2 = "https://storage.googleapis.com/b/n/p_2.webm?s=2"
SPEAKERS = {"layer_name": "speakers", "download_urls": {"p_2.webm": {"download_url": P_2}}}


@pytest.mark.parametrize(
    "said",
    [
        [{"download_urls": {"p_1.webm": {"download_url": P_1}}}, SPEAKERS],
        {"links": [{"download_urls": {"p_1.webm": {"download_url": P_1}}}, SPEAKERS]},
        {"links": [{"downloadUrls": {"p_1.webm": {"downloadUrl": P_1}}}, SPEAKERS]},
        {"links": [{"layer_name": "default", "download_urls": {"p_1.webm": P_1}}, SPEAKERS]},
        {"links": [{"download_urls": [{"download_url": P_1}]}, SPEAKERS]},
        {"links": [{"download_urls": [{"file_name": "p_1.webm", "url": P_1}]}, SPEAKERS]},
        {"links": [P_1, SPEAKERS]},
        [P_1, SPEAKERS],
        [{"download_url": P_1}, SPEAKERS],
        {"links": {"default": {"download_urls": {"p_1.webm": P_1}}, "speakers": SPEAKERS}},
        {"links": {"default": {"p_1.webm": P_1}, "speakers": {"p_2.webm": {"url": P_2}}}},
        {"default": {"download_urls": {"p_1.webm": P_1}}, "speakers": {"download_urls": [P_2]}},
        {"default": {"links": [P_1]}, "speakers": {"links": {"p_2.webm": P_2}}},
        json.dumps({"links": [P_1, SPEAKERS]}),
        json.dumps([{"download_urls": {"p_1.webm": P_1}}, SPEAKERS]),
        {"links": json.dumps([{"download_urls": {"p_1.webm": P_1}}, SPEAKERS])},
    ],
    ids=json.dumps,
)
def test_the_files_of_a_track_recording_are_found_in_every_shape(said: object) -> None:
    recording = Recording.from_realtimekit({**MINIMAL, "download_url": said})

    assert [(a.name, a.kind, a.file_name, a.url) for a in recording.artifacts] == [
        ("track/default/p_1.webm", "track", "p_1.webm", P_1),
        ("track/speakers/p_2.webm", "track", "p_2.webm", P_2),
    ]


def test_camel_case_links_and_a_wrapped_recording_come_together() -> None:
    file = {"downloadUrl": P_1, "customParticipantId": "teacher-7"}
    layer = {"layerName": "default", "downloadUrls": {"p_1.webm": file}}
    data = {"recording": {**MINIMAL, "downloadUrl": {"links": [layer]}, "fileSize": "0"}}

    recording = Recording.from_realtimekit(data)

    assert recording.file_size == 0
    assert recording.artifacts == (
        Artifact(
            name="track/default/p_1.webm",
            kind="track",
            file_name="p_1.webm",
            url=P_1,
            participant_id="teacher-7",
        ),
    )


def test_a_wrapped_recording_may_have_its_meeting_beside_it() -> None:
    meeting = {"id": "50c8940e-1b97-402a-97d6-2708b7feca41", "title": "Weekly sync"}

    recording = Recording.from_realtimekit({"recording": GET_ONE, "meeting": meeting})

    assert recording.meeting_id == "50c8940e-1b97-402a-97d6-2708b7feca41"
    assert recording.start_reason == GET_ONE["start_reason"] | {
        "caller": {
            "name": "Ada",
            "type": "USER",
            "user_id": "4bd0c6c4-0000-4000-8000-0123456789ab",
        }
    }


@pytest.mark.parametrize(
    "late",
    [
        None,
        "",
        {},
        {"download_url": None},
        {"download_url": ""},
        {"download_url": "https://example.com/" + "x" * 8192},
        {"custom_participant_id": "teacher-7"},
    ],
    ids=lambda late: json.dumps(late)[:40],
)
def test_a_named_track_without_a_usable_url_is_still_a_file(late: object) -> None:
    files = {"p_1.webm": {"download_url": P_1}, "p_2.webm": late}

    recording = Recording.from_realtimekit(
        {**MINIMAL, "download_url": {"links": [{"download_urls": files}]}}
    )

    assert [(a.name, a.url) for a in recording.artifacts] == [
        ("track/default/p_1.webm", P_1),
        ("track/default/p_2.webm", None),
    ]


@pytest.mark.parametrize("nothing", [[], {}, {"links": []}, {"links": {}}, "[]", '{"links":[]}'])
def test_an_uploaded_recording_without_any_file_has_no_artifact(nothing: object) -> None:
    fields = {**MINIMAL, "status": "UPLOADED", "file_size": 0, "download_url": nothing}

    assert Recording.from_realtimekit(fields).artifacts == ()


@pytest.mark.parametrize("junk", [{"x": "y"}, {"x": {}}, ["x"], [[[]]], {"x": [1, None]}, "{"])
def test_what_names_no_file_is_no_track(junk: object) -> None:
    artifacts = Recording.from_realtimekit({**MINIMAL, "download_url": junk}).artifacts

    assert [artifact.kind for artifact in artifacts if artifact.kind == "track"] == []


def unnamed(*files: dict[str, Any]) -> dict[str, Any]:
    layers = [{"download_urls": {"p.webm": file}} for file in files]
    return {**MINIMAL, "download_url": {"links": layers}}


def test_two_files_of_one_name_are_two_artifacts_in_whichever_order_they_come() -> None:
    """Layers may have no name, and hold files of one base name."""
    first = {"download_url": "https://example.com/a/p.webm?s=1"}
    second = {"download_url": "https://example.com/b/p.webm?s=2"}
    signed_anew = {"download_url": "https://example.com/b/p.webm?s=3"}

    named = [
        {artifact.name: artifact.url for artifact in Recording.from_realtimekit(said).artifacts}
        for said in (unnamed(first, second), unnamed(second, first), unnamed(first, signed_anew))
    ]

    assert named == [
        {
            "track/default/p.webm": "https://example.com/a/p.webm?s=1",
            "track/default/p-0f2a455a.webm": f"https://example.com/b/p.webm?s={signature}",
        }
        for signature in (2, 2, 3)
    ]


def test_two_participants_files_of_one_name_keep_theirs_while_a_url_is_late() -> None:
    first = {"download_url": "https://example.com/a/p.webm", "custom_participant_id": "ada"}
    late = {"download_url": None, "custom_participant_id": "bob"}
    there = {"download_url": "https://example.com/b/p.webm", "custom_participant_id": "bob"}

    [_, before] = Recording.from_realtimekit(unnamed(first, late)).artifacts
    [_, after] = Recording.from_realtimekit(unnamed(first, there)).artifacts

    assert (before.name, before.url, before.participant_id) == (after.name, None, "bob")
    assert after.url == "https://example.com/b/p.webm"


def test_a_file_that_is_named_twice_is_one() -> None:
    file = {"download_url": P_1}

    assert len(Recording.from_realtimekit(unnamed(file, file)).artifacts) == 1


def test_a_layers_name_and_a_files_do_not_run_into_each_other() -> None:
    links = [
        {"layer_name": "a", "download_urls": {"b/p.webm": {"download_url": P_1}}},
        {"layer_name": "a/b", "download_urls": {"p.webm": {"download_url": P_2}}},
    ]

    artifacts = Recording.from_realtimekit({**MINIMAL, "download_url": links}).artifacts

    assert len({artifact.name for artifact in artifacts}) == 2
    assert {artifact.url for artifact in artifacts} == {P_1, P_2}


def test_names_that_are_alike_to_where_they_are_cut_stay_two() -> None:
    files = {"x" * 2000 + ".webm": {"download_url": P_1}, "x" * 2001: {"download_url": P_2}}

    artifacts = Recording.from_realtimekit(
        {**MINIMAL, "download_url": [{"download_urls": files}]}
    ).artifacts

    assert len({artifact.name for artifact in artifacts}) == 2


def test_of_too_many_files_the_first_ten_thousand_are_kept_and_the_others_counted() -> None:
    links = [f"https://example.com/{number}.webm" for number in range(10_002)]

    recording = Recording.from_realtimekit({**MINIMAL, "download_url": {"links": links}})

    assert len(recording.artifacts) == 10_000
    assert recording.files_left_out == 2


def test_of_too_long_files_some_are_kept_and_the_others_counted() -> None:
    links = [f"https://example.com/{number}?" + "x" * 8100 for number in range(3000)]

    recording = Recording.from_realtimekit({**MINIMAL, "download_url": {"links": links}})

    assert len(recording.artifacts) == 2062
    assert recording.files_left_out == 938


@pytest.mark.parametrize("nonsense", [b"[],", b"{},", b"1,", b'"",', b'{"a":[]},'])
def test_a_page_of_nonsense_takes_little_more_memory_than_its_bytes(nonsense: bytes) -> None:
    """Five million arrays take twenty times their bytes as objects."""
    body = b"[" + nonsense * (15_000_000 // len(nonsense)) + b"0]"
    tracemalloc.start()

    with pytest.raises(ValueError, match="more values than any answer has"):
        load_json(body)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_json_in_a_string_is_bounded_as_well() -> None:
    packed = '{"links": [' + '"https://example.com/x",' * 300_000 + "0]}"

    recording = Recording.from_realtimekit({**MINIMAL, "download_url": packed})

    assert [artifact.url for artifact in recording.artifacts] == [None]


def test_a_file_that_is_nested_without_end_is_none() -> None:
    said: Any = P_1
    for _ in range(900):
        said = [said]

    assert Recording.from_realtimekit({**MINIMAL, "download_url": said}).artifacts == ()


@pytest.mark.parametrize(
    ("url", "output_file_name", "expected"),
    [
        ("https://example.com/x.mp3?s=1", "x.mp3", ("audio", "audio")),
        ("https://example.com/x.AAC", None, ("audio", "audio")),
        ("https://example.com/7f3a", "x.m4a", ("audio", "audio")),
        ("https://example.com/x.mp4", "x.mp3", ("video", "video")),
        ("https://example.com/7f3a", None, ("video", "video")),
    ],
)
def test_sound_in_download_url_is_audio(
    url: str, output_file_name: str | None, expected: tuple[str, str]
) -> None:
    fields = {**MINIMAL, "download_url": url, "output_file_name": output_file_name}

    [artifact] = Recording.from_realtimekit(fields).artifacts

    assert (artifact.name, artifact.kind) == expected
    assert artifact.url == url


def test_two_files_of_sound_are_two_artifacts_and_one_said_twice_is_one() -> None:
    sound = {**GET_ONE, "output_file_name": "weekly-sync.aac"}
    main = "https://bucket.r2.cloudflarestorage.com/weekly-sync.aac?X-Amz-Signature=s3"

    two = Recording.from_realtimekit({**sound, "download_url": main})
    one = Recording.from_realtimekit({**sound, "download_url": GET_ONE["audio_download_url"]})

    assert [(a.name, a.kind, a.file_size) for a in two.artifacts] == [
        ("audio-main", "audio", 2044680),
        ("audio", "audio", None),
    ]
    assert [(a.name, a.kind, a.file_size) for a in one.artifacts] == [("audio", "audio", 2044680)]


def test_audio_alone_is_no_video() -> None:
    recording = Recording.from_realtimekit({**GET_ONE, "download_url": None})

    assert [artifact.name for artifact in recording.artifacts] == ["audio"]


def test_where_the_file_is_is_kept_and_how_to_get_in_is_not() -> None:
    recording = Recording.from_realtimekit(
        {
            **MINIMAL,
            "storage_config": {
                "type": "cloudflare",
                "bucket": "ours",
                "region": "auto",
                "path": "meetings/",
                "host": "sftp.example.com",
                "port": 22,
                "account_id": "0a6c1b5f2d3e4f708192a3b4c5d6e7f8",
                "auth_method": "PASSWORD",
                "username": "canary",
                "access_key": "canary",
                "secret": "canary",
                "secret_key": "canary",
                "password": "canary",
                "private_key": "canary",
            },
        }
    )

    assert recording.storage == {
        "type": "cloudflare",
        "bucket": "ours",
        "region": "auto",
        "path": "meetings/",
        "host": "sftp.example.com",
        "port": 22,
        "account_id": "0a6c1b5f2d3e4f708192a3b4c5d6e7f8",
    }
    assert "canary" not in repr(recording)


STORED = {"type": "aws", "bucket": "ours", "region": "eu-central-1", "path": "meetings/"}


@pytest.mark.parametrize(
    ("file_name", "kind"),
    [
        ("weekly-sync.mp4", "video"),
        ("weekly-sync.MP3", "audio"),
        ("weekly-sync.aac", "audio"),
        ("{{peer}}_{{track}}.webm", "track"),
        (None, "video"),
    ],
)
def test_a_file_that_is_in_the_owners_storage_is_one_without_a_url(
    file_name: str | None, kind: str
) -> None:
    """RealtimeKit's own bucket is disabled then: the URLs are null, and that is no error."""
    recording = Recording.from_realtimekit(
        {
            **MINIMAL,
            "status": "UPLOADED",
            "download_url": None,
            "output_file_name": file_name,
            "storage_config": STORED,
        }
    )

    assert recording.artifacts == (Artifact(name=kind, kind=kind, file_name=file_name),)


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ({"audio_config": {"export_file": True}}, ["video", "audio"]),
        ({"recording_config": {"audio_config": {"export_file": True}}}, ["video", "audio"]),
        (
            {"meeting": {"recording_config": {"audio_config": {"export_file": True}}}},
            ["video", "audio"],
        ),
        ({"audio_config": {"codec": "AAC"}}, ["video"]),
        ({"audio_config": {"export_file": False}}, ["video"]),
        ({"audio_config": {"export_file": True}, "output_file_name": "x.aac"}, ["audio"]),
    ],
)
def test_the_owners_storage_has_the_sound_as_well_if_the_answer_says_so(
    said: dict[str, Any], names: list[str]
) -> None:
    fields = {**MINIMAL, "status": "UPLOADED", "output_file_name": "x.mp4", **said}

    recording = Recording.from_realtimekit({**fields, "storage_config": STORED})

    assert [artifact.name for artifact in recording.artifacts] == names
    assert [artifact.url for artifact in recording.artifacts] == [None] * len(names)


@pytest.mark.parametrize(
    ("file_name", "kind"),
    [
        ("weekly-sync.mp4", "video"),
        ("weekly-sync.tar", "video"),
        ("weekly-sync.M4A", "audio"),
        ("{{file_name_prefix}}_{{user_id}}.webm", "track"),
        ("", "video"),
        (None, "video"),
    ],
)
def test_a_files_name_says_what_it_is(file_name: str | None, kind: str) -> None:
    assert kind_of(file_name) == kind


@pytest.mark.parametrize(
    "said",
    [
        {"status": "UPLOADING", "storage_config": STORED},
        {"status": "ERRORED", "storage_config": STORED},
        {"status": "UPLOADED", "storage_config": None},
    ],
)
def test_what_is_not_uploaded_or_nowhere_is_no_file(said: dict[str, Any]) -> None:
    fields = {**MINIMAL, "output_file_name": "weekly-sync.mp4", **said}

    assert Recording.from_realtimekit(fields).artifacts == ()


@pytest.mark.parametrize("nothing", [None, ""])
def test_nothing_said_is_nothing_known(nothing: str | None) -> None:
    said = {key: nothing for key in GET_ONE if key not in ("id", "status")}

    assert Recording.from_realtimekit({**MINIMAL, **said}) == Recording.from_realtimekit(MINIMAL)


@pytest.mark.parametrize(
    ("said", "known"),
    [
        (1800, 1800),
        ("1800", 1800),
        (12.001, Decimal("12.001")),
        (Decimal("12.0010004"), Decimal("12.001")),
        (1800.0, 1800),
        (0, 0),
        (-1, None),
        (True, None),
        (float("nan"), None),
        ("Infinity", None),
        ("soon", None),
        ([], None),
        (10**40, None),
    ],
)
def test_a_duration_may_be_written_in_many_ways(said: object, known: int | Decimal | None) -> None:
    recording = Recording.from_realtimekit({**MINIMAL, "recording_duration": said})

    assert recording.duration_seconds == known
    assert type(recording.duration_seconds) is type(known)


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ("2026-06-03T10:00:00.000Z", "2026-06-03T10:00:00.000Z"),
        ("2023-01-25 04:51:35.903816Z", "2023-01-25T04:51:35.903Z"),
        ("2026-06-03T12:00:00+02:00", "2026-06-03T10:00:00.000Z"),
        ("2026-06-03T10:00:00", "2026-06-03T10:00:00.000Z"),
    ],
)
def test_every_format_of_time_becomes_one(said: str, known: str) -> None:
    recording = Recording.from_realtimekit({**MINIMAL, "invoked_time": said})

    assert recording.invoked_at is not None
    assert timestamp(recording.invoked_at) == known


@pytest.mark.parametrize("said", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z", "2014-12-31"])
@pytest.mark.parametrize("name", ["invoked_at", "started_at", "stopped_at"])
def test_a_time_that_was_never_set_is_not_known(said: str, name: str) -> None:
    wire_name = name.replace("_at", "_time")

    assert getattr(Recording.from_realtimekit({**MINIMAL, wire_name: said}), name) is None


def test_a_file_whose_expiry_was_never_set_has_none() -> None:
    said = {**GET_ONE, "download_url_expiry": "0001-01-01T00:00:00Z"}

    recording = Recording.from_realtimekit(said)

    assert [artifact.url_expires_at for artifact in recording.artifacts] == [None, None]


@pytest.mark.parametrize("said", ["yesterday", "0001-01-01T00:00:00+23:00", 1780480800, {}])
def test_what_is_no_time_is_not_known(said: object) -> None:
    assert Recording.from_realtimekit({**MINIMAL, "invoked_time": said}).invoked_at is None


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        "recording",
        {},
        {"id": GET_ONE["id"]},
        {"id": GET_ONE["id"], "status": 4},
        {"id": "../sessions", "status": "UPLOADED"},
        {"id": 7, "status": "UPLOADED"},
    ],
)
def test_what_has_no_id_or_no_status_is_no_recording(said: object) -> None:
    with pytest.raises(MalformedRecordingError):
        Recording.from_realtimekit(said)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/x",
        "/x.mp4",
        "https://[",
        "x" * 9000,
        "https://é/x.mp4",
        "https://example.com/" + "x" * 8192,
        "https://example.com/" + "é" * 2000,
    ],
)
def test_a_file_whose_url_is_of_no_use_is_a_file_without_a_url(url: str) -> None:
    fields = {**MINIMAL, "status": "UPLOADED", "download_url": url, "output_file_name": "x.mp4"}

    assert Recording.from_realtimekit(fields).artifacts == (
        Artifact(name="video", kind="video", file_name="x.mp4"),
    )


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("https://example.com/é.mp4?s=ü", "https://example.com/%C3%A9.mp4?s=%C3%BC"),
        ("https://example.com/a b.mp4?s=%2B+", "https://example.com/a%20b.mp4?s=%2B+"),
        ("https://example.com/" + "x" * 8172, "https://example.com/" + "x" * 8172),
    ],
)
def test_a_url_that_is_not_ascii_is_percent_encoded(said: str, kept: str) -> None:
    [artifact] = Recording.from_realtimekit({**MINIMAL, "download_url": said}).artifacts

    assert artifact.url == kept


def test_an_unknown_status_is_kept_and_is_not_final() -> None:
    assert Recording.from_realtimekit({**MINIMAL, "status": "TRANSCODING"}).status == "TRANSCODING"
    assert rank("TRANSCODING") is None
    assert not is_final("TRANSCODING")


def test_uploaded_and_errored_are_final_and_the_others_are_not() -> None:
    statuses = ["INVOKED", "RECORDING", "PAUSED", "UPLOADING", "UPLOADED", "ERRORED"]

    assert [is_final(status) for status in statuses] == [False, False, False, False, True, True]
    assert [rank(status) for status in statuses] == [1, 2, 2, 3, 4, 4]


def test_a_session_and_a_meeting_have_one_key_however_they_are_written() -> None:
    recording = Recording.from_webhook(
        {
            "recording": {
                **MINIMAL,
                "roomUUID": "05E57591-D89E-45C9-AE44-08DC1EAAD0E0",
                "meetingId": "50C8940E-1B97-402A-97D6-2708B7FECA41",
            }
        }
    )

    assert recording.session_id == "05e57591-d89e-45c9-ae44-08dc1eaad0e0"
    assert recording.meeting_id == "50c8940e-1b97-402a-97d6-2708b7feca41"


def test_a_room_name_is_no_meetings_id() -> None:
    meeting = {"id": "50c8940e-1b97-402a-97d6-2708b7feca41"}

    named = Recording.from_realtimekit({**MINIMAL, "meeting_id": "abcdef-ghijkl"})
    both = Recording.from_realtimekit(
        {**MINIMAL, "meeting_id": "abcdef-ghijkl", "meeting": meeting}
    )

    assert named.meeting_id is None
    assert both.meeting_id == "50c8940e-1b97-402a-97d6-2708b7feca41"


def test_an_id_that_is_none_does_not_hide_one_that_is() -> None:
    said = {"id": "7", "recordingId": GET_ONE["id"], "status": "UPLOADED"}

    assert Recording.from_realtimekit(said).recording_id == GET_ONE["id"]


def test_one_recording_has_one_key() -> None:
    assert uuid("97CB480D-5840-4528-ACE3-919B5E386C68") == "97cb480d-5840-4528-ace3-919b5e386c68"


def test_text_is_cut_where_dynamodb_would_refuse_it() -> None:
    assert text("é" * 600) == "é" * 512
    assert text("\ud800") == "?"
    assert text("   ") is None


# --- the files of a session ---

FILE_URL = "https://bucket.r2.cloudflarestorage.com/s/file?X-Amz-Signature=s1"
FILE_EXPIRY = "2026-06-10T10:30:00.000Z"
TRANSCRIPT = {
    "sessionId": "05e57591-d89e-45c9-ae44-08dc1eaad0e0",
    "transcript_download_url": FILE_URL,
    "transcript_download_url_expiry": FILE_EXPIRY,
}
TRANSCRIPT_EVENT = {
    "event": "meeting.transcript",
    "meeting": {"sessionId": "05e57591-d89e-45c9-ae44-08dc1eaad0e0"},
    "transcriptDownloadUrl": FILE_URL,
    "transcriptDownloadUrlExpiry": FILE_EXPIRY,
}
SUMMARY = {
    "sessionId": "05e57591-d89e-45c9-ae44-08dc1eaad0e0",
    "summaryDownloadUrl": FILE_URL,
    "summaryDownloadUrlExpiry": FILE_EXPIRY,
}
CHAT = {"chat_download_url": FILE_URL, "chat_download_url_expiry": FILE_EXPIRY}


def test_a_session_leaves_four_kinds_of_files() -> None:
    assert SESSION_FILES == ("transcript", "captions", "summary", "chat")


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("transcript", TRANSCRIPT),
        ("captions", TRANSCRIPT),
        ("summary", SUMMARY),
        ("chat", CHAT),
        ("transcript", TRANSCRIPT_EVENT),
        ("captions", TRANSCRIPT_EVENT),
        ("summary", {"summary_download_url": FILE_URL, "summary_download_url_expiry": FILE_EXPIRY}),
        ("chat", {"chatDownloadUrl": FILE_URL, "chatDownloadUrlExpiry": FILE_EXPIRY}),
        ("chat", {"chatDownloadURL": FILE_URL, "chat_download_url_expiry": FILE_EXPIRY}),
        ("summary", {"summary_downloadUrl": FILE_URL, "summaryDownload_url_expiry": FILE_EXPIRY}),
        ("transcript", {"transcript": TRANSCRIPT}),
        ("captions", {"transcript": TRANSCRIPT}),
        ("captions", {"captions": TRANSCRIPT}),
        ("summary", {"summary": SUMMARY}),
        ("chat", {"chat": CHAT}),
        ("transcript", {"session": TRANSCRIPT}),
        ("summary", {"session": SUMMARY}),
        ("chat", {"session": CHAT, "chat": None, "chat_download_url": None}),
        ("chat", {**CHAT, "chat": {"chat_download_url": "https://example.com/other"}}),
        ("chat", {"chatDownloadUrl": "", **CHAT, "chatDownloadUrlExpiry": "soon"}),
    ],
    ids=repr,
)
def test_a_sessions_file_is_found_in_every_spelling_bare_or_wrapped(
    kind: str, data: dict[str, Any]
) -> None:
    assert session_file(kind, data) == Artifact(
        name=kind,
        kind=kind,
        url="https://bucket.r2.cloudflarestorage.com/s/file?X-Amz-Signature=s1",
        url_expires_at=datetime(2026, 6, 10, 10, 30, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("expiry", "known"),
    [
        ("2022-12-13 07:08:39.051621Z", datetime(2022, 12, 13, 7, 8, 39, 51_621, tzinfo=UTC)),
        ("2026-06-10T12:30:00+02:00", datetime(2026, 6, 10, 10, 30, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", None),
        ("soon", None),
        ("", None),
        (None, None),
        (1781087400, None),
    ],
)
def test_a_sessions_file_may_expire_at_a_time_of_any_format_or_at_none(
    expiry: object, known: datetime | None
) -> None:
    file = session_file("chat", {"chatDownloadUrl": FILE_URL, "chatDownloadUrlExpiry": expiry})

    assert file == Artifact(name="chat", kind="chat", url=FILE_URL, url_expires_at=known)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("transcript", None),
        ("transcript", []),
        ("transcript", FILE_URL),
        ("transcript", {}),
        ("transcript", {"transcript_download_url": None}),
        ("transcript", {"transcript_download_url": ""}),
        ("transcript", {"transcript_download_url": "/s/file"}),
        ("transcript", {"transcript_download_url": {"url": FILE_URL}}),
        ("transcript", {"transcript_download_url": "https://example.com/" + "x" * 8192}),
        ("transcript", {"transcript": {"session": TRANSCRIPT}}),
        ("transcript", {"meeting": TRANSCRIPT}),
        ("summary", {"summary": "Ada proposed, Grace agreed."}),
        ("summary", TRANSCRIPT),
        ("chat", SUMMARY),
        ("captions", CHAT),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_without_a_url_of_its_own_a_sessions_file_is_none(kind: str, data: object) -> None:
    assert session_file(kind, data) is None


@pytest.mark.parametrize("wrapper", [None, "transcript", "session"])
@pytest.mark.parametrize("kind", ["transcript", "captions"])
def test_a_transcript_that_all_sessions_share_is_none(kind: str, wrapper: str | None) -> None:
    shared = "https://bucket.r2.cloudflarestorage.com/app/default/transcript.csv?X-Amz-Signature=s1"
    data = {**TRANSCRIPT, "transcript_download_url": shared}

    assert session_file(kind, {wrapper: data} if wrapper else data) is None


@pytest.mark.parametrize(
    "path",
    ["/not-default/transcript.csv", "/default/transcript.csv/s", "/default/s/transcript.csv"],
)
def test_a_transcript_whose_url_is_like_the_shared_one_is_a_file(path: str) -> None:
    url = f"https://bucket.r2.cloudflarestorage.com{path}?X-Amz-Signature=s1"

    file = session_file("transcript", {"transcript_download_url": url})

    assert file == Artifact(name="transcript", kind="transcript", url=url)


@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("2026-06-10T10:30:00.000Z", datetime(2026, 6, 10, 10, 30, tzinfo=UTC)),
        ("0001-01-01T00:00:00.000Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("2026-06-10T10:30:00Z", None),
        ("2026-06-10 10:30:00.000Z", None),
        ("2026-06-31T10:30:00.000Z", None),
        ("２０２６-06-10T10:30:00.000Z", None),
        ("2026-06-10T10:30:00.000Z\n", None),
        ("", None),
        (None, None),
        (1781087400, None),
    ],
)
def test_only_a_timestamp_as_it_is_written_is_read_as_one(
    value: object, time: datetime | None
) -> None:
    assert parse_timestamp(value) == time


SECRETS = ("access_key", "secret", "secret_key", "password", "private_key", "username", "streamKey")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4)
    ),
    max_leaves=12,
)


@given(
    fields=st.dictionaries(st.sampled_from([*GET_ONE, "meeting", "downloadUrl"]), json_values),
    secrets=st.dictionaries(st.sampled_from(SECRETS), st.just("canary")),
)
def test_whatever_the_json_it_is_a_recording_without_secrets_or_refused(
    fields: dict[str, Any], secrets: dict[str, str]
) -> None:
    said = {**MINIMAL, **fields, **secrets, "storage_config": {"type": "aws", **secrets}}
    said["meeting"] = {"recording_config": {"storage_config": secrets}, **secrets}
    for read, body in (
        (Recording.from_realtimekit, said),
        (Recording.from_webhook, {"recording": said}),
    ):
        try:
            assert "canary" not in repr(read(body))
        except MalformedRecordingError as error:
            assert "canary" not in str(error)


FIELDS_OF_SESSION_FILES = [
    *TRANSCRIPT,
    *TRANSCRIPT_EVENT,
    *SUMMARY,
    *CHAT,
    *SESSION_FILES,
    "session",
]
urls = st.text().map(lambda path: f"https://example.com/{path}")
fields_of_session_files = st.dictionaries(
    st.sampled_from(FIELDS_OF_SESSION_FILES) | st.text(), json_values | urls, max_size=6
)


@given(
    kind=st.sampled_from(SESSION_FILES),
    data=json_values
    | fields_of_session_files
    | st.dictionaries(st.sampled_from(FIELDS_OF_SESSION_FILES), fields_of_session_files),
)
def test_whatever_the_json_a_sessions_file_has_a_url_or_is_none(kind: str, data: Any) -> None:
    file = session_file(kind, data)

    if file is not None:
        assert (file.name, file.kind) == (kind, kind)
        assert file.url is not None
        assert file.url.isascii()
        assert file.url_expires_at is None or file.url_expires_at.year >= 2015


@given(json_values)
def test_whatever_else_json_can_be_is_refused(said: Any) -> None:
    for read in (Recording.from_realtimekit, Recording.from_webhook):
        with pytest.raises(MalformedRecordingError):
            read(said)


def with_canaries(depth: int) -> st.SearchStrategy[Any]:
    """Draw objects and arrays with a secret at every end, under names that are not kept."""
    ends = st.just("canary")
    if not depth:
        return ends
    inner = with_canaries(depth - 1)
    names = st.text().map(lambda name: f"x{name}") | st.sampled_from(SECRETS)
    return ends | st.dictionaries(names, inner, max_size=3) | st.lists(inner, max_size=3)


@given(st.sampled_from([*GET_ONE, "meeting", "storage_config", "x"]), with_canaries(3))
def test_nothing_is_kept_of_an_object_but_what_is_named(name: str, said: Any) -> None:
    """Secrets stay out, whatever RealtimeKit adds and wherever it puts it."""
    if isinstance(said, str):
        said = {"x": said}
    body = {**MINIMAL, name: said} if name not in ("id", "status") else {**MINIMAL, "x": said}

    for read, whole in (
        (Recording.from_realtimekit, body),
        (Recording.from_webhook, {"recording": body, "meeting": said}),
    ):
        assert "canary" not in repr(read(whole))


@given(st.sampled_from(SESSION_FILES), with_canaries(3))
def test_nothing_is_kept_of_a_sessions_file_but_its_url_and_expiry(kind: str, said: Any) -> None:
    data = {**TRANSCRIPT, **SUMMARY, **CHAT, "x": said}

    assert "canary" not in repr(session_file(kind, data))
