"""Lookups in the bucket, small files stored in it, and the places of files."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

import rights
from doubles import APP_ID, s3_fails
from recordings.archive import (
    MAX_FILE_NAME_CHARACTERS,
    Archive,
    Stored,
    label,
    object_key,
    safe_name,
)

KEY = "app/2026/06/03/recording/video/weekly-sync.mp4"


def test_whether_there_is_an_object_is_asked_without_its_checksum(
    archive: Archive, s3: Any, bucket: str
) -> None:
    """Reading a checksum needs the right to decrypt if the bucket has the owner's KMS key."""
    s3.put_object(Bucket=bucket, Key=KEY, Body=b"video")
    asked: list[dict[str, Any]] = []
    s3.meta.events.register(
        "provide-client-params.s3.HeadObject", lambda params, **_: asked.append(params)
    )

    assert archive.has(KEY)
    assert not archive.has(f"{KEY}.no")

    assert [params["Key"] for params in asked] == [KEY, f"{KEY}.no"]
    assert not any("ChecksumMode" in params for params in asked)


def test_what_is_not_there_or_not_ours_to_see_is_not_found(archive: Archive, s3: Any) -> None:
    assert archive.find(KEY) is None
    with s3_fails(s3, "HeadObject", 403, "AccessDenied"):
        assert archive.find(KEY) is None


# --- small files ---

CHAT = "app/2026/06/03/recording/chat/chat"
CSV = "text/csv; charset=utf-8"


def versions(s3: Any, bucket: str) -> list[bytes]:
    """Return the bodies at the chat's key, the newest first."""
    found = s3.list_object_versions(Bucket=bucket, Prefix=CHAT).get("Versions", [])
    bodies = []
    for version in found:
        got = s3.get_object(Bucket=bucket, Key=CHAT, VersionId=version["VersionId"])
        bodies.append(got["Body"].read())
    return bodies


def test_a_small_file_is_stored_with_its_type_and_its_checksum(
    archive: Archive, s3: Any, bucket: str
) -> None:
    stored = archive.put(CHAT, b"id,payload\n1,Hi\n", CSV, "recording")

    assert stored == Stored(bucket=bucket, key=CHAT, size=16, checksum_crc32="fdoU6g==")
    assert archive.find(CHAT) == stored
    found = s3.get_object(Bucket=bucket, Key=CHAT, ChecksumMode="ENABLED")
    assert found["Body"].read() == b"id,payload\n1,Hi\n"
    assert found["ContentType"] == "text/csv; charset=utf-8"
    assert found["ChecksumCRC32"] == "fdoU6g=="
    assert found.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
    assert found["Metadata"] == {"recording-id": "recording", "source-etag": ""}


def test_the_same_small_file_is_stored_once(archive: Archive, s3: Any, bucket: str) -> None:
    first = archive.put(CHAT, b"1,Hi", CSV, "recording")

    assert archive.put(CHAT, b"1,Hi", CSV, "recording") == first

    assert versions(s3, bucket) == [b"1,Hi"]


@pytest.mark.parametrize("other", [b"1,Ho", b"1,Hi\n2,Ho", b""])
def test_a_small_file_replaces_another_one_at_its_key(
    archive: Archive, s3: Any, bucket: str, other: bytes
) -> None:
    archive.put(CHAT, other, CSV, "recording")

    stored = archive.put(CHAT, b"1,Hi", CSV, "recording")

    assert versions(s3, bucket) == [b"1,Hi", other]
    assert archive.find(CHAT) == stored


def test_a_small_file_replaces_one_that_may_not_be_seen(
    archive: Archive, s3: Any, bucket: str
) -> None:
    archive.put(CHAT, b"1,Hi", CSV, "recording")

    with s3_fails(s3, "HeadObject", 403, "AccessDenied"):
        archive.put(CHAT, b"1,Hi", CSV, "recording")

    assert versions(s3, bucket) == [b"1,Hi", b"1,Hi"]


def test_a_small_file_that_another_request_stores_at_once_is_stored_in_the_end(
    archive: Archive, s3: Any, bucket: str
) -> None:
    with s3_fails(s3, "PutObject", 409, "ConditionalRequestConflict", times=1) as refused:
        archive.put(CHAT, b"1,Hi", CSV, "recording")

    assert len(refused) == 1
    assert versions(s3, bucket) == [b"1,Hi"]


def test_a_small_file_is_sent_again_after_a_passing_fault(
    archive: Archive, s3: Any, bucket: str
) -> None:
    with s3_fails(s3, "PutObject", 503, "SlowDown", times=1) as refused:
        archive.put(CHAT, b"1,Hi", CSV, "recording")

    assert len(refused) == 1
    assert versions(s3, bucket) == [b"1,Hi"]


@pytest.mark.parametrize(
    ("operation", "status", "code"),
    [("PutObject", 403, "AccessDenied"), ("HeadObject", 500, "InternalError")],
)
def test_a_small_file_that_s3_refuses_raises_its_error_and_replaces_nothing(
    archive: Archive, s3: Any, bucket: str, operation: str, status: int, code: str
) -> None:
    archive.put(CHAT, b"1,Hi", CSV, "recording")

    with s3_fails(s3, operation, status, code), pytest.raises(ClientError):
        archive.put(CHAT, b"2,Ho", CSV, "recording")

    assert versions(s3, bucket) == [b"1,Hi"]


def test_s3_keeps_no_small_file_of_another_checksum(archive: Archive, s3: Any, bucket: str) -> None:
    """The bytes changed on their way, so S3 has other bytes than were sent."""

    def change(params: dict[str, Any], **_: Any) -> None:
        params["Body"] = b"1,Ho"

    s3.meta.events.register("provide-client-params.s3.PutObject", change)

    with pytest.raises(ClientError, match="BadDigest"):
        archive.put(CHAT, b"1,Hi", CSV, "recording")

    assert versions(s3, bucket) == []


def test_a_small_file_is_stored_in_a_bucket_with_object_lock(s3: Any) -> None:
    name = f"archive-{uuid.uuid4()}"
    location = {"LocationConstraint": "eu-central-1"}
    s3.create_bucket(
        Bucket=name, CreateBucketConfiguration=location, ObjectLockEnabledForBucket=True
    )
    headers: list[Mapping[str, Any]] = []
    s3.meta.events.register(
        "before-send.s3.PutObject", lambda request, **_: headers.append(dict(request.headers))
    )

    Archive(s3, name).put(CHAT, b"1,Hi", CSV, "recording")

    # "Content-MD5 OR x-amz-checksum- HTTP header is required", says S3 without it.
    assert [sent["x-amz-checksum-crc32"] for sent in headers] == [b"VErjrQ=="]


def test_the_archiving_functions_role_may_store_a_small_file(
    archive: Archive, template: Mapping[str, Any]
) -> None:
    called: set[rights.Right] = set()
    with rights.calls.noted(called):
        archive.put(f"{APP_ID}/2026/06/03/recording/chat/chat", b"1,Hi", CSV, "recording")
        archive.put(f"{APP_ID}/2026/06/03/recording/chat/chat", b"2,Ho", CSV, "recording")

    assert sorted({right.action for right in called}) == ["s3:GetObject", "s3:PutObject"]
    role = rights.granted(template, rights.function_of(template, "archive_recording"))
    assert rights.denied(role, called) == []


# --- keys ---

ROW: dict[str, Any] = {
    "recording_id": "97cb480d-5840-4528-ace3-919b5e386c68",
    "app_id": "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13",
    "invoked_at": "2026-06-03T23:59:59.999Z",
    "first_seen_at": "2026-06-04T08:00:00.000Z",
    "artifacts": {
        "video": {"kind": "video", "file_name": "weekly-sync_1780480804000.mp4"},
        "audio": {"kind": "audio"},
        "track/default/peer_1.webm": {"kind": "track", "file_name": "peer_1.webm"},
        "track/../../etc": {"kind": "track", "file_name": "../../etc/passwd"},
    },
}
FOLDER = "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13/2026/06/03/97cb480d-5840-4528-ace3-919b5e386c68"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("video", "video/weekly-sync_1780480804000.mp4"),
        ("audio", "audio/audio"),
        ("track/default/peer_1.webm", "track/default/peer_1.webm"),
    ],
)
def test_a_key_says_app_date_recording_kind_and_name(name: str, expected: str) -> None:
    assert object_key(ROW, name) == f"{FOLDER}/{expected}"


def test_a_name_that_would_climb_stays_where_it_is() -> None:
    found = object_key(ROW, "track/../../etc")

    assert found.startswith(f"{FOLDER}/track/")
    assert ".." not in found.split("/")


def test_a_recording_whose_time_is_not_known_goes_where_it_was_first_seen() -> None:
    row = {name: value for name, value in ROW.items() if name != "invoked_at"}

    assert "/2026/06/04/" in object_key(row, "video")


def test_two_recordings_of_one_meeting_do_not_collide() -> None:
    other = {**ROW, "recording_id": "00000000-0000-4000-8000-000000000001"}

    assert object_key(ROW, "video") != object_key(other, "video")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("weekly-sync.mp4", r"weekly-sync\.mp4"),
        ("Wöchentlich.mp4", r"W_chentlich-[0-9a-f]{12}\.mp4"),
        ("a/b.mp4", r"a_b-[0-9a-f]{12}\.mp4"),
        (".mp4", r"mp4-[0-9a-f]{12}"),
        ("..", r"[0-9a-f]{12}"),
        ("x" * 400 + ".mp4", r"x{120}-[0-9a-f]{12}\.mp4"),
        ("a." + "x" * 400, r"a\.x{118}-[0-9a-f]{12}"),
    ],
)
def test_a_name_keeps_what_is_safe_in_it(name: str, expected: str) -> None:
    assert re.fullmatch(expected, safe_name(name))


def test_logs_call_a_track_by_a_hash_and_others_by_their_name() -> None:
    assert label("video") == "video"
    assert label("track/default/peer_1.webm") == "track-7e51117d"


@given(st.text(), st.text())
def test_names_are_safe_and_different_ones_stay_different(one: str, other: str) -> None:
    assert re.fullmatch(r"[0-9A-Za-z_-][0-9A-Za-z._-]*", safe_name(one))
    assert len(safe_name(one)) <= MAX_FILE_NAME_CHARACTERS
    assert (safe_name(one) == safe_name(other)) is (one == other)
