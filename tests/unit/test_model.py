"""Every shape in which RealtimeKit, and Dyte before it, describes a recording."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordings.model import (
    Artifact,
    MalformedRecordingError,
    Recording,
    is_final,
    rank,
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
            "meeting": {"id": "50c8940e-1b97-402a-97d6-2708b7feca41", "title": "Weekly sync"},
        }
    )

    assert recording.session_id == "05e57591-d89e-45c9-ae44-08dc1eaad0e0"
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
    "url", ["ftp://example.com/x", "/x.mp4", "https://[", "x" * 9000, "https://é"]
)
def test_what_is_no_url_is_no_artifact(url: str) -> None:
    assert Recording.from_realtimekit({**MINIMAL, "download_url": url}).artifacts == ()


def test_an_unknown_status_is_kept_and_is_not_final() -> None:
    assert Recording.from_realtimekit({**MINIMAL, "status": "TRANSCODING"}).status == "TRANSCODING"
    assert rank("TRANSCODING") is None
    assert not is_final("TRANSCODING")


def test_uploaded_and_errored_are_final_and_the_others_are_not() -> None:
    statuses = ["INVOKED", "RECORDING", "PAUSED", "UPLOADING", "UPLOADED", "ERRORED"]

    assert [is_final(status) for status in statuses] == [False, False, False, False, True, True]
    assert [rank(status) for status in statuses] == [1, 2, 2, 3, 4, 4]


def test_one_recording_has_one_key() -> None:
    assert uuid("97CB480D-5840-4528-ACE3-919B5E386C68") == "97cb480d-5840-4528-ace3-919b5e386c68"


def test_text_is_cut_where_dynamodb_would_refuse_it() -> None:
    assert text("é" * 600) == "é" * 512
    assert text("\ud800") == "?"
    assert text("   ") is None


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


@given(json_values)
def test_whatever_else_json_can_be_is_refused(said: Any) -> None:
    for read in (Recording.from_realtimekit, Recording.from_webhook):
        with pytest.raises(MalformedRecordingError):
            read(said)


def with_canaries(depth: int) -> st.SearchStrategy[Any]:
    """Objects and arrays, of any names but those that are kept, with a secret at every end."""
    ends = st.just("canary")
    if not depth:
        return ends
    inner = with_canaries(depth - 1)
    names = st.text().map(lambda name: f"x{name}") | st.sampled_from(SECRETS)
    return ends | st.dictionaries(names, inner, max_size=3) | st.lists(inner, max_size=3)


@given(st.sampled_from([*GET_ONE, "meeting", "storage_config", "x"]), with_canaries(3))
def test_nothing_is_kept_of_an_object_but_what_is_named(name: str, said: Any) -> None:
    """Whatever RealtimeKit adds tomorrow, and wherever it puts it."""
    if isinstance(said, str):
        said = {"x": said}
    body = {**MINIMAL, name: said} if name not in ("id", "status") else {**MINIMAL, "x": said}

    for read, whole in (
        (Recording.from_realtimekit, body),
        (Recording.from_webhook, {"recording": body, "meeting": said}),
    ):
        assert "canary" not in repr(read(whole))
