"""Rows as merges of views that arrive in any order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from botocore.exceptions import ClientError

from recordings.catalogue import Catalogue, ConflictError
from recordings.dynamodb import Item, Table
from recordings.model import Artifact, Recording
from recordings.rows import deadline, expiry, news, public, to_archive, unsettled

NOON = datetime(2026, 6, 3, 12, 0, tzinfo=UTC)
EXPIRY = datetime(2026, 6, 10, 10, 30, tzinfo=UTC)
VIDEO = Artifact(
    name="video",
    kind="video",
    file_name="weekly-sync.mp4",
    file_size=2044680,
    url="https://bucket.r2.cloudflarestorage.com/weekly-sync.mp4?X-Amz-Signature=canary",
    url_expires_at=EXPIRY,
)
INVOKED = Recording(
    recording_id="97cb480d-5840-4528-ace3-919b5e386c68",
    status="INVOKED",
    session_id="05e57591-d89e-45c9-ae44-08dc1eaad0e0",
    session_started_at=datetime(2026, 6, 3, 9, 59, 57, tzinfo=UTC),
    invoked_at=datetime(2026, 6, 3, 10, 0, 1, tzinfo=UTC),
    file_name="weekly-sync.mp4",
)
RECORDING = replace(
    INVOKED, status="RECORDING", started_at=datetime(2026, 6, 3, 10, 0, 5, tzinfo=UTC)
)
UPLOADED = replace(
    RECORDING,
    status="UPLOADED",
    stopped_at=datetime(2026, 6, 3, 10, 30, 5, tzinfo=UTC),
    duration_seconds=1800,
    file_size=2044680,
    start_reason={"reason": "API_CALL", "caller": {"name": "Ada", "type": "USER"}},
    stop_reason={"reason": "ALL_PEERS_LEFT"},
    artifacts=(VIDEO,),
)
LISTED = replace(
    UPLOADED,
    start_reason=None,
    stop_reason=None,
    meeting_id="50c8940e-1b97-402a-97d6-2708b7feca41",
    meeting_title="Weekly sync",
)


OTHER = "e4b06ce6-0741-47a8-bce4-2c8218072e8c"


def later(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def test_a_new_recording_becomes_a_row(catalogue: Catalogue) -> None:
    upserted = catalogue.upsert(UPLOADED, NOON)

    assert upserted.changed
    assert not upserted.was_final
    assert catalogue.get(UPLOADED.recording_id) == {
        "recording_id": "97cb480d-5840-4528-ace3-919b5e386c68",
        "app_id": "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13",
        "status": "UPLOADED",
        "status_rank": 4,
        "status_history": [{"status": "UPLOADED", "at": "2026-06-03T12:00:00.000Z"}],
        "session_id": "05e57591-d89e-45c9-ae44-08dc1eaad0e0",
        "session_started_at": "2026-06-03T09:59:57.000Z",
        "invoked_at": "2026-06-03T10:00:01.000Z",
        "started_at": "2026-06-03T10:00:05.000Z",
        "stopped_at": "2026-06-03T10:30:05.000Z",
        "duration_seconds": 1800,
        "file_name": "weekly-sync.mp4",
        "file_size": 2044680,
        "start_reason": {"reason": "API_CALL", "caller": {"name": "Ada", "type": "USER"}},
        "stop_reason": {"reason": "ALL_PEERS_LEFT"},
        "artifacts": {
            "video": {
                "kind": "video",
                "file_name": "weekly-sync.mp4",
                "file_size": 2044680,
                "url": VIDEO.url,
                "url_expires_at": "2026-06-10T10:30:00.000Z",
            }
        },
        "archived": "no",
        "first_seen_at": "2026-06-03T12:00:00.000Z",
        "fetched_at": "2026-06-03T12:00:00.000Z",
        "version": 1,
    }


def test_what_is_shown_has_no_credentials_and_nothing_internal(catalogue: Catalogue) -> None:
    shown = public(catalogue.upsert(UPLOADED, NOON).row)

    assert "canary" not in str(shown)
    assert "status_rank" not in shown
    assert shown["artifacts"]["video"]["file_size"] == 2044680


def test_the_same_again_writes_nothing(catalogue: Catalogue) -> None:
    first = catalogue.upsert(UPLOADED, NOON)

    again = catalogue.upsert(UPLOADED, later(5))

    assert not again.changed
    assert again.was_final
    assert again.row == first.row


def test_a_url_signed_anew_is_no_news(catalogue: Catalogue) -> None:
    catalogue.upsert(UPLOADED, NOON)
    resigned = replace(VIDEO, url=f"{VIDEO.url}2")

    assert not catalogue.upsert(replace(UPLOADED, artifacts=(resigned,)), later(5)).changed


def test_a_url_that_lives_longer_is_news(catalogue: Catalogue) -> None:
    catalogue.upsert(UPLOADED, NOON)
    renewed = replace(VIDEO, url=f"{VIDEO.url}2", url_expires_at=EXPIRY + timedelta(days=1))

    row = catalogue.upsert(replace(UPLOADED, artifacts=(renewed,)), later(5)).row

    assert row["artifacts"]["video"]["url"] == f"{VIDEO.url}2"
    assert row["artifacts"]["video"]["url_expires_at"] == "2026-06-11T10:30:00.000Z"


def test_late_status_does_not_undo_an_upload(catalogue: Catalogue) -> None:
    """Webhooks arrive out of order, and RealtimeKit's own answers may be behind."""
    uploaded = catalogue.upsert(UPLOADED, NOON)

    behind = catalogue.upsert(RECORDING, later(5))

    assert not behind.changed
    assert behind.row == uploaded.row


def test_an_older_fetch_does_not_overwrite_a_newer_one(catalogue: Catalogue) -> None:
    catalogue.upsert(replace(UPLOADED, file_size=2), later(5))

    row = catalogue.upsert(replace(UPLOADED, file_size=1), NOON).row

    assert row["file_size"] == 2


def test_an_older_fetch_fills_gaps(catalogue: Catalogue) -> None:
    catalogue.upsert(LISTED, later(5))

    row = catalogue.upsert(UPLOADED, NOON).row

    assert row["stop_reason"] == {"reason": "ALL_PEERS_LEFT"}
    assert row["meeting_title"] == "Weekly sync"
    assert row["fetched_at"] == "2026-06-03T12:05:00.000Z"


def test_neither_get_one_nor_the_list_erases_what_the_other_brought(catalogue: Catalogue) -> None:
    catalogue.upsert(LISTED, NOON)
    row = catalogue.upsert(UPLOADED, later(1)).row
    assert row["meeting_id"] == "50c8940e-1b97-402a-97d6-2708b7feca41"
    assert row["stop_reason"] == {"reason": "ALL_PEERS_LEFT"}

    again = catalogue.upsert(LISTED, later(2))

    assert not again.changed
    assert again.row["stop_reason"] == {"reason": "ALL_PEERS_LEFT"}


def test_a_file_that_is_not_named_any_more_stays(catalogue: Catalogue) -> None:
    """RealtimeKit may answer null instead of a URL after the expiry."""
    catalogue.upsert(UPLOADED, NOON)

    row = catalogue.upsert(replace(UPLOADED, artifacts=()), later(5)).row

    assert row["artifacts"]["video"]["file_name"] == "weekly-sync.mp4"


def test_where_all_urls_are_over_the_owners_storage_is_no_further_file(
    catalogue: Catalogue,
) -> None:
    """An answer without any URL is one file, named by its likely kind."""
    track = Artifact(name="track/default/a.webm", kind="track", file_name="a.webm")
    known = catalogue.upsert(
        replace(UPLOADED, artifacts=(replace(track, url=VIDEO.url),)), NOON
    ).row
    catalogue.record_archive(known["recording_id"], {track.name: ARCHIVED})
    guessed = Artifact(name="track", kind="track", file_name="{{ID}}")

    row = catalogue.upsert(replace(UPLOADED, artifacts=(guessed,)), later(8 * 1440)).row

    assert list(row["artifacts"]) == ["track/default/a.webm"]
    assert row["archived"] == "yes"


def test_what_others_wrote_into_an_artifact_stays(
    catalogue: Catalogue, recordings_table: Table
) -> None:
    catalogue.upsert(UPLOADED, NOON)
    recordings_table.update(
        {"recording_id": UPLOADED.recording_id},
        "SET #artifacts.#video.#archived_at = :time, #version = :two",
        {"time": "2026-06-03T12:01:00.000Z", "two": 2},
    )
    renewed = replace(VIDEO, url_expires_at=EXPIRY + timedelta(days=1))

    row = catalogue.upsert(replace(UPLOADED, artifacts=(renewed,)), later(5)).row

    assert row["artifacts"]["video"]["archived_at"] == "2026-06-03T12:01:00.000Z"
    assert row["version"] == 3


def test_a_recording_may_be_paused_and_resumed(catalogue: Catalogue) -> None:
    statuses = ["INVOKED", "RECORDING", "PAUSED", "RECORDING", "UPLOADING", "UPLOADED"]
    for minute, status in enumerate(statuses):
        row = catalogue.upsert(replace(RECORDING, status=status), later(minute)).row

    assert [entry["status"] for entry in row["status_history"]] == statuses
    assert row["version"] == 6


def test_an_unknown_status_moves_nothing_forward_or_back(catalogue: Catalogue) -> None:
    catalogue.upsert(RECORDING, NOON)
    unknown = catalogue.upsert(replace(RECORDING, status="TRANSCODING"), later(1)).row
    assert unknown["status"] == "TRANSCODING"
    assert unknown["status_rank"] == 2

    assert catalogue.upsert(INVOKED, later(2)).row["status"] == "TRANSCODING"
    assert catalogue.upsert(UPLOADED, later(3)).row["status"] == "UPLOADED"
    assert not catalogue.upsert(replace(UPLOADED, status="TRANSCODING"), later(4)).changed


def test_the_history_is_bounded(catalogue: Catalogue) -> None:
    for minute in range(60):
        status = "PAUSED" if minute % 2 else "RECORDING"
        row = catalogue.upsert(replace(RECORDING, status=status), later(minute)).row

    assert len(row["status_history"]) == 50
    assert row["status_history"][-1] == {"status": "PAUSED", "at": "2026-06-03T12:59:00.000Z"}


STEPS = [(INVOKED, 0), (RECORDING, 1), (replace(RECORDING, status="UPLOADING"), 2), (UPLOADED, 3)]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_in_whichever_order_the_views_come_the_row_ends_the_same(
    catalogue: Catalogue, order: tuple[int, ...]
) -> None:
    for step in order:
        recording, minute = STEPS[step]
        row = catalogue.upsert(recording, later(minute)).row

    assert row["status"] == "UPLOADED"
    assert row["fetched_at"] == "2026-06-03T12:03:00.000Z"
    assert row["duration_seconds"] == 1800
    assert row["artifacts"]["video"]["file_size"] == 2044680


class ContestedTable(Table):
    """A table in which somebody else writes between our reading a row and our writing it."""

    def __init__(self, dynamodb: Any, others: list[Recording]) -> None:
        super().__init__(dynamodb, "RecordingsTable")
        self.others = others
        self.rival = Catalogue(Table(dynamodb, "RecordingsTable"), "app")

    def get(self, key: Mapping[str, str]) -> Item | None:
        row = super().get(key)
        if self.others:
            self.rival.upsert(self.others.pop(0), later(-len(self.others)))
        return row


def test_writers_at_the_same_time_lose_nothing(dynamodb: Any) -> None:
    others = [INVOKED, LISTED, replace(INVOKED, organization_id="org-1")]
    contested = Catalogue(ContestedTable(dynamodb, others), "app")

    row = contested.upsert(UPLOADED, NOON).row

    assert row["status"] == "UPLOADED"
    assert row["meeting_title"] == "Weekly sync"
    assert row["stop_reason"] == {"reason": "ALL_PEERS_LEFT"}
    assert row["organization_id"] == "org-1"
    assert row["version"] == 4


def test_who_is_outpaced_again_and_again_says_so(dynamodb: Any) -> None:
    others = [replace(INVOKED, file_size=size) for size in range(20)]
    contested = Catalogue(ContestedTable(dynamodb, others), "app")

    with pytest.raises(ConflictError, match="97cb480d-5840-4528-ace3-919b5e386c68"):
        contested.upsert(UPLOADED, NOON)


def refuse(dynamodb: Any, operation: str) -> None:
    """Let DynamoDB fail from now on, whenever the operation is called."""

    def fail(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "InternalServerError"}}, operation)

    dynamodb.meta.events.register(f"before-call.dynamodb.{operation}", fail)


def test_a_row_that_was_just_read_is_not_read_again(catalogue: Catalogue, dynamodb: Any) -> None:
    refuse(dynamodb, "GetItem")

    first = catalogue.upsert(INVOKED, NOON, {})
    second = catalogue.upsert(UPLOADED, later(1), first.row)

    assert (first.row["version"], second.row["version"]) == (1, 2)
    assert second.row["status"] == "UPLOADED"


def test_an_archive_state_and_an_erasure_are_written_after_another_writers_change(
    dynamodb: Any,
) -> None:
    table = ContestedTable(dynamodb, [])
    contested = Catalogue(table, "app")
    recording_id = contested.upsert(UPLOADED, NOON).row["recording_id"]

    table.others = [replace(UPLOADED, organization_id="org-1")]
    archived = contested.record_archive(recording_id, {"video": ARCHIVED})
    table.others = [replace(UPLOADED, organization_id="org-2")]
    erasing = contested.begin_erasure(recording_id, NOON)

    assert archived is not None
    assert archived["organization_id"] == "org-1"
    assert archived["artifacts"]["video"]["archive"] == ARCHIVED
    assert erasing is not None
    assert erasing["organization_id"] == "org-2"
    assert erasing["erasing_since"] == "2026-06-03T12:00:00.000Z"


def test_an_erasure_that_has_begun_keeps_its_time_and_closes_the_row(catalogue: Catalogue) -> None:
    catalogue.upsert(UPLOADED, NOON)
    erasing = catalogue.begin_erasure(UPLOADED.recording_id, NOON)

    upserted = catalogue.upsert(UPLOADED, later(1))

    assert catalogue.begin_erasure(UPLOADED.recording_id, later(2)) == erasing
    assert (upserted.row, upserted.changed, upserted.was_final) == (erasing, False, True)
    assert catalogue.begin_erasure(OTHER, NOON) is None


def test_a_count_is_of_one_apps_recordings_from_its_start_to_before_its_end(
    catalogue: Catalogue, recordings_table: Table, dynamodb: Any
) -> None:
    foreign = Catalogue(recordings_table, "another-app")
    foreign.upsert(replace(UPLOADED, recording_id=OTHER), NOON)
    catalogue.upsert(UPLOADED, NOON)
    begin, millisecond = UPLOADED.invoked_at, timedelta(milliseconds=1)
    assert begin

    assert catalogue.count(begin, begin + millisecond) == 1
    assert catalogue.count(begin - millisecond, begin) == 0
    assert catalogue.count(begin + millisecond, later(0)) == 0
    # DynamoDB refuses a range that ends before it begins.
    refuse(dynamodb, "Query")
    assert catalogue.count(begin, begin) == 0


def test_of_a_session_with_very_many_recordings_the_newest_hundred_are_returned(
    catalogue: Catalogue, recordings_table: Table
) -> None:
    ids = [f"97cb480d-5840-4528-ace3-{number:012}" for number in range(125)]
    for start in range(0, 125, 25):
        recordings_table.put_many(
            {
                "recording_id": ids[number],
                "session_id": OTHER,
                "invoked_at": f"2026-06-03T10:00:00.{number:03}Z",
                "version": 1,
            }
            for number in range(start, start + 25)
        )

    assert {row["recording_id"] for row in catalogue.of_session(OTHER)} == set(ids[25:])
    # DynamoDB reads at most a hundred at a time.
    assert list(catalogue.get_many([*ids, *ids])) == ids


def test_a_recording_is_in_the_indexes_of_its_meeting_session_and_app(
    catalogue: Catalogue, dynamodb: Any
) -> None:
    catalogue.upsert(LISTED, NOON)

    for index, key, value in [
        ("by_meeting", "meeting_id", "50c8940e-1b97-402a-97d6-2708b7feca41"),
        ("by_session", "session_id", "05e57591-d89e-45c9-ae44-08dc1eaad0e0"),
        ("by_time", "app_id", "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13"),
    ]:
        [item] = dynamodb.query(
            TableName="RecordingsTable",
            IndexName=index,
            KeyConditionExpression="#key = :value",
            ExpressionAttributeNames={"#key": key},
            ExpressionAttributeValues={":value": {"S": value}},
        )["Items"]
        assert item["status"] == {"S": "UPLOADED"}
        assert "artifacts" not in item


def test_a_recording_of_a_thousand_tracks_fits_into_a_row(catalogue: Catalogue) -> None:
    """Its URLs do not; they are fetched anew for a download anyway."""
    tracks = tuple(
        replace(
            VIDEO,
            name=f"track/default/{number:04}-05e57591-d89e-45c9-ae44-08dc1eaad0e0.webm",
            kind="track",
            file_name=f"{number:04}-05e57591-d89e-45c9-ae44-08dc1eaad0e0.webm",
            url="https://storage.googleapis.com/" + "x" * 900,
        )
        for number in range(1000)
    )
    recording = replace(UPLOADED, artifacts=tracks)

    row = catalogue.upsert(recording, NOON).row

    assert len(row["artifacts"]) == 1000
    assert not any("url" in artifact for artifact in row["artifacts"].values())
    assert not catalogue.upsert(recording, later(5)).changed


def test_what_is_not_known_is_not_in_the_row(catalogue: Catalogue) -> None:
    """DynamoDB refuses a null as an index key."""
    row = catalogue.upsert(
        Recording(recording_id=UPLOADED.recording_id, status="INVOKED"), NOON
    ).row

    assert set(row) == {
        "recording_id",
        "app_id",
        "status",
        "status_rank",
        "status_history",
        "invoked_at",
        "invoked_at_from",
        "first_seen_at",
        "fetched_at",
        "version",
    }


def test_dynamodbs_faults_are_not_hidden(dynamodb: Any) -> None:
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        Catalogue(Table(dynamodb, "NoSuchTable"), "app").upsert(UPLOADED, NOON)


# --- the archive's word ---

AUDIO = replace(VIDEO, name="audio", kind="audio", file_name="weekly-sync.mp3")
ARCHIVED = {
    "state": "archived",
    "bucket": "archive-bucket",
    "key": "weekly-sync.mp4",
    "size": 2044680,
    "checksum_crc32": "y8zMfA==",
    "archived_at": "2026-06-03T12:05:00.000Z",
}
EXTERNAL = {"state": "external", "location": {"bucket": "owners"}, "noted_at": "2026-06-03T12:05"}
EXPIRED = {"state": "expired", "expired_at": "2026-06-10T10:30:00.000Z"}
NONE = {"state": "none", "noted_at": "2026-06-10T10:30:00.000Z"}


def row_of(catalogue: Catalogue, *artifacts: Artifact) -> Item:
    return catalogue.upsert(replace(UPLOADED, artifacts=artifacts), NOON).row  # type: ignore[return-value]


def test_how_much_is_archived_is_said_by_the_row(catalogue: Catalogue) -> None:
    recording_id = row_of(catalogue, VIDEO, AUDIO)["recording_id"]

    partly = catalogue.record_archive(recording_id, {"video": ARCHIVED})
    whole = catalogue.record_archive(recording_id, {"audio": ARCHIVED})

    assert partly
    assert whole
    assert (partly["archived"], whole["archived"]) == ("partly", "yes")
    assert whole["artifacts"]["audio"]["archive"] == ARCHIVED
    assert whole["artifacts"]["audio"]["file_name"] == "weekly-sync.mp3"
    assert whole["version"] == 3
    assert catalogue.get(recording_id) == whole


def test_the_archives_word_said_twice_writes_once(catalogue: Catalogue) -> None:
    recording_id = row_of(catalogue, VIDEO)["recording_id"]
    first = catalogue.record_archive(recording_id, {"video": ARCHIVED})

    assert catalogue.record_archive(recording_id, {"video": ARCHIVED}) == first


def test_nothing_is_said_of_a_recording_that_is_not_there(catalogue: Catalogue) -> None:
    assert catalogue.record_archive("97cb480d-5840-4528-ace3-919b5e386c68", {"v": ARCHIVED}) is None
    assert catalogue.get("97cb480d-5840-4528-ace3-919b5e386c68") is None


def test_the_archives_word_outlives_what_realtimekit_says(catalogue: Catalogue) -> None:
    recording_id = row_of(catalogue, VIDEO)["recording_id"]
    catalogue.record_archive(recording_id, {"video": ARCHIVED})

    renewed = replace(VIDEO, url_expires_at=EXPIRY + timedelta(days=1))
    row = catalogue.upsert(replace(UPLOADED, artifacts=(renewed,)), later(60)).row

    assert row["artifacts"]["video"]["archive"] == ARCHIVED
    assert row["artifacts"]["video"]["url_expires_at"] == "2026-06-11T10:30:00.000Z"
    assert row["archived"] == "yes"


def test_a_file_that_is_offered_later_is_still_to_be_archived(catalogue: Catalogue) -> None:
    recording_id = row_of(catalogue, VIDEO)["recording_id"]
    catalogue.record_archive(recording_id, {"video": ARCHIVED})

    row = catalogue.upsert(replace(UPLOADED, artifacts=(VIDEO, AUDIO)), later(60)).row

    assert row["archived"] == "partly"
    assert list(unsettled(row)) == ["audio"]


def test_a_row_that_others_write_all_the_time_is_a_conflict(
    catalogue: Catalogue, recordings_table: Table
) -> None:
    recording_id = row_of(catalogue, VIDEO)["recording_id"]
    updates = recordings_table._dynamodb.meta.events

    def write_first(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "ConditionalCheckFailedException"}}, "UpdateItem")

    updates.register("before-call.dynamodb.UpdateItem", write_first)
    with pytest.raises(ConflictError):
        catalogue.record_archive(recording_id, {"video": ARCHIVED})


@pytest.mark.parametrize(
    ("archive", "url_expires_at", "is_settled"),
    [
        (None, EXPIRY, False),
        (ARCHIVED, EXPIRY, True),
        (EXTERNAL, EXPIRY, False),
        (EXTERNAL, None, True),
        (NONE, EXPIRY, False),
        (NONE, None, True),
        (EXPIRED, EXPIRY, True),
        (EXPIRED, EXPIRY + timedelta(days=1), False),
    ],
)
def test_what_is_settled_is_so_until_realtimekit_offers_it_again(
    catalogue: Catalogue, archive: Item | None, url_expires_at: datetime | None, is_settled: bool
) -> None:
    video = replace(VIDEO, url=VIDEO.url if url_expires_at else None, url_expires_at=url_expires_at)
    row = row_of(catalogue, video)
    if archive:
        row = catalogue.record_archive(row["recording_id"], {"video": archive}) or {}  # type: ignore[assignment]

    assert (unsettled(row) == {}) is is_settled  # type: ignore[arg-type]


def test_only_what_is_uploaded_is_to_be_archived(catalogue: Catalogue) -> None:
    assert unsettled(catalogue.upsert(RECORDING, NOON).row) == {}


TEMPLATE = "{{file_name_prefix}}_{{user_id}}_{{stream_kind}}_{{date_time}}.webm"


@pytest.mark.parametrize(
    ("file_name", "kind"),
    [("a.mp4", "video"), (TEMPLATE, "track"), ("a.mp3", "audio"), (None, "video")],
)
def test_an_upload_without_files_lacks_one_of_its_kind(
    catalogue: Catalogue, file_name: str | None, kind: str
) -> None:
    recording = replace(UPLOADED, artifacts=(), file_name=file_name)

    assert list(unsettled(catalogue.upsert(recording, NOON).row)) == [kind]


@pytest.mark.parametrize(
    ("artifacts", "file_size", "expected"),
    [
        ((), 0, None),
        ((), None, None),
        # It has a size: there is something that can be lost.
        ((), 5, "2026-06-10T10:30:05.000Z"),
        ((Artifact(name="track", kind="track", file_name=TEMPLATE),), 0, None),
        ((Artifact(name="video", kind="video", file_name="a.mp4"),), 0, "2026-06-10T10:30:05.000Z"),
        ((VIDEO,), 0, "2026-06-10T10:30:00.000Z"),
        ((replace(VIDEO, url_expires_at=later(5)),), 0, "2026-06-03T12:05:00.000Z"),
    ],
)
def test_only_a_file_that_realtimekit_has_told_of_can_be_lost(
    catalogue: Catalogue,
    artifacts: tuple[Artifact, ...],
    file_size: int | None,
    expected: str | None,
) -> None:
    recording = replace(UPLOADED, artifacts=artifacts, file_size=file_size)

    assert deadline(catalogue.upsert(recording, NOON).row) == expected


def test_of_what_is_settled_nothing_can_be_lost(catalogue: Catalogue) -> None:
    row = catalogue.record_archive(row_of(catalogue, VIDEO)["recording_id"], {"video": ARCHIVED})

    assert row is not None
    assert deadline(row) is None
    assert deadline(catalogue.upsert(replace(RECORDING, recording_id=OTHER), NOON).row) is None


@pytest.mark.parametrize("year", [1, 1970, 2014])
def test_an_expiry_that_was_never_set_is_unknown(catalogue: Catalogue, year: int) -> None:
    never = replace(VIDEO, url_expires_at=datetime(year, 1, 1, tzinfo=UTC))

    assert expiry(row_of(catalogue, never)) == "2026-06-10T10:30:05.000Z"  # type: ignore[arg-type]


TRACK = Artifact(
    name="track/default/ada.webm", kind="track", file_name="ada.webm", participant_id="user-7"
)
OFFERED = replace(TRACK, url=VIDEO.url, url_expires_at=EXPIRY)


def test_a_track_that_is_named_and_not_offered_is_a_file_that_is_missing(
    catalogue: Catalogue,
) -> None:
    other = replace(OFFERED, name="track/default/bob.webm", file_name="bob.webm")
    row = catalogue.upsert(replace(UPLOADED, artifacts=(other,)), NOON).row
    catalogue.record_archive(row["recording_id"], {other.name: ARCHIVED})

    # Its expiry is that of the others' URLs.
    late = replace(TRACK, url_expires_at=EXPIRY)
    row = catalogue.upsert(replace(UPLOADED, artifacts=(other, late)), later(5)).row

    assert row["artifacts"]["track/default/ada.webm"] == {
        "kind": "track",
        "file_name": "ada.webm",
        "participant_id": "user-7",
    }
    assert row["archived"] == "partly"
    assert to_archive(row) == {("track/default/ada.webm", False)}
    row = catalogue.upsert(replace(UPLOADED, artifacts=(other, OFFERED)), later(10)).row
    assert to_archive(row) == {("track/default/ada.webm", True)}


@pytest.mark.parametrize("track", [TRACK, OFFERED], ids=["named", "offered"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["in order", "late"])
def test_a_failed_recording_has_no_track_that_was_only_begun(
    catalogue: Catalogue, track: Artifact, order: tuple[int, int]
) -> None:
    views = [
        replace(RECORDING, status="UPLOADING", artifacts=(track,)),
        replace(RECORDING, status="ERRORED"),
    ]

    for index in order:
        row = catalogue.upsert(views[index], later(index)).row

    assert row["status"] == "ERRORED"
    assert row.get("artifacts", {}) == {}


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_failed_recording_has_the_tracks_that_its_final_answer_offers(
    catalogue: Catalogue, order: tuple[int, ...]
) -> None:
    other = replace(OFFERED, name="track/default/bob.webm", file_name="bob.webm")
    views = [
        replace(RECORDING, status="UPLOADING", artifacts=(other, OFFERED)),
        replace(RECORDING, status="ERRORED", artifacts=(OFFERED,)),
        replace(RECORDING, status="UPLOADING"),
    ]

    for index in order:
        row = catalogue.upsert(views[index], later(index)).row

    assert list(row["artifacts"]) == ["track/default/ada.webm"]


def test_a_failed_recording_keeps_its_archived_files_and_those_of_its_session(
    catalogue: Catalogue,
) -> None:
    row = catalogue.upsert(replace(UPLOADED, artifacts=(OFFERED,)), NOON).row
    catalogue.record_archive(row["recording_id"], {OFFERED.name: ARCHIVED})
    chat = Artifact(name="chat", kind="chat", url=VIDEO.url)
    catalogue.offer_files(row["recording_id"], [chat], None)

    row = catalogue.upsert(replace(UPLOADED, status="ERRORED", artifacts=()), later(5)).row

    assert row["artifacts"].keys() == {"chat", "track/default/ada.webm"}


@pytest.mark.parametrize("state", [None, EXTERNAL, NONE])
def test_what_stands_for_tracks_goes_when_they_are_there(
    catalogue: Catalogue, state: Item | None
) -> None:
    """RealtimeKit's answer may lack the URLs at first, and look like the owner's storage."""
    template = Artifact(name="track", kind="track", file_name=TEMPLATE)
    recording_id = row_of(catalogue, template)["recording_id"]
    if state:
        catalogue.record_archive(recording_id, {"track": state})

    row = catalogue.upsert(replace(UPLOADED, artifacts=(OFFERED,)), later(5)).row

    assert list(row["artifacts"]) == ["track/default/ada.webm"]
    archived = catalogue.record_archive(recording_id, {"track/default/ada.webm": ARCHIVED})
    assert archived is not None
    assert archived["archived"] == "yes"


def test_what_is_said_of_a_placeholder_that_is_gone_is_not_recorded(catalogue: Catalogue) -> None:
    recording_id = row_of(catalogue, OFFERED)["recording_id"]

    row = catalogue.record_archive(recording_id, {"track": NONE})

    assert row is not None
    assert list(row["artifacts"]) == ["track/default/ada.webm"]
    assert row["version"] == 1


def test_a_file_that_was_never_offered_is_so_by_its_kind(catalogue: Catalogue) -> None:
    recording_id = row_of(catalogue)["recording_id"]

    row = catalogue.record_archive(recording_id, {"track": NONE})

    assert row is not None
    assert row["artifacts"] == {"track": {"kind": "track", "archive": NONE}}
    assert (row["archived"], unsettled(row)) == ("no", {})


def test_an_expired_file_that_is_offered_for_longer_is_news(catalogue: Catalogue) -> None:
    row = row_of(catalogue, VIDEO)
    expired = catalogue.record_archive(row["recording_id"], {"video": EXPIRED})
    assert expired is not None
    prolonged = replace(VIDEO, url=f"{VIDEO.url}2", url_expires_at=EXPIRY + timedelta(days=7))

    merged = catalogue.merged(expired, replace(UPLOADED, artifacts=(prolonged,)), later(5))

    assert news(expired, merged) == {"artifacts"}
    signed_anew = replace(VIDEO, url=f"{VIDEO.url}3")
    merged = catalogue.merged(expired, replace(UPLOADED, artifacts=(signed_anew,)), later(5))
    assert news(expired, merged) == set()


def test_of_two_burials_the_later_changes_nothing(catalogue: Catalogue) -> None:
    recording_id = row_of(catalogue, VIDEO)["recording_id"]
    erasing = catalogue.begin_erasure(recording_id, NOON)
    assert erasing is not None
    first = catalogue.bury(erasing, later(1))

    assert catalogue.bury(erasing, later(2)) == first

    assert catalogue.get(recording_id) == {
        "recording_id": recording_id,
        "erased_at": "2026-06-03T12:01:00.000Z",
        "version": 3,
    }


@pytest.mark.parametrize(
    ("recording", "expected"),
    [
        (UPLOADED, "2026-06-10T10:30:00.000Z"),
        (
            replace(UPLOADED, artifacts=(VIDEO, replace(AUDIO, url_expires_at=later(5)))),
            "2026-06-03T12:05:00.000Z",
        ),
        (replace(UPLOADED, artifacts=()), "2026-06-10T10:30:05.000Z"),
        (replace(UPLOADED, artifacts=(), stopped_at=None), "2026-06-10T10:00:05.000Z"),
        (
            replace(UPLOADED, artifacts=(), stopped_at=None, started_at=None),
            "2026-06-10T10:00:01.000Z",
        ),
        (
            replace(UPLOADED, artifacts=(), stopped_at=None, started_at=None, invoked_at=None),
            "2026-06-10T12:00:00.000Z",
        ),
    ],
)
def test_the_first_file_to_go_sets_the_deadline(
    catalogue: Catalogue, recording: Recording, expected: str
) -> None:
    assert expiry(catalogue.upsert(recording, NOON).row) == expected


def test_of_two_views_of_one_moment_the_later_written_is_kept(catalogue: Catalogue) -> None:
    catalogue.upsert(UPLOADED, NOON)

    upserted = catalogue.upsert(replace(UPLOADED, file_size=3_000_000), NOON)

    assert upserted.changed
    assert upserted.row["file_size"] == 3_000_000


def test_of_two_erasures_at_the_same_time_the_first_leaves_the_tombstone(
    catalogue: Catalogue,
) -> None:
    catalogue.upsert(UPLOADED, NOON)
    seen = catalogue.begin_erasure(UPLOADED.recording_id, NOON)
    assert seen is not None
    tombstone = {
        "recording_id": "97cb480d-5840-4528-ace3-919b5e386c68",
        "erased_at": "2026-06-03T12:00:00.000Z",
        "version": 3,
    }
    assert catalogue.bury(seen, NOON) == tombstone

    assert catalogue.bury(seen, later(1)) == tombstone

    assert catalogue.get(UPLOADED.recording_id) == tombstone
