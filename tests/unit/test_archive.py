"""Lookups in the bucket, and the places of files in it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubles import s3_fails
from recordings.archive import MAX_FILE_NAME_CHARACTERS, Archive, label, object_key, safe_name

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
