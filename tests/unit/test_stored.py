"""A row in the table, and the part of it that the rules see."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from doubles import APP_ID, state_of, tracks
from recordings import messages, packing, stored
from recordings.catalogue import Catalogue
from recordings.dynamodb import Table, UnwritableError, unmarshal
from recordings.events import derive_events
from recordings.model import Recording
from recordings.rows import expiry, news, public, unsettled

NOON = datetime(2026, 6, 3, 12, 0, tzinfo=UTC)
RECORDING_ID = "97cb480d-5840-4528-ace3-919b5e386c68"
KEY = {"recording_id": RECORDING_ID}
UPLOADED = Recording(
    recording_id=RECORDING_ID,
    status="UPLOADED",
    invoked_at=datetime(2026, 6, 3, 10, 0, 1, tzinfo=UTC),
)


def row_size(dynamodb: Any) -> int:
    """Return the row's bytes as DynamoDB counts names, text and binary; its maps are small."""
    item = dynamodb.get_item(TableName="RecordingsTable", Key={"recording_id": {"S": RECORDING_ID}})
    return sum(
        len(name) + len(typed["B"] if "B" in typed else json.dumps(typed))
        for name, typed in item["Item"].items()
    )


@pytest.mark.usefixtures("rows_of_400_kb")
def test_five_thousand_archived_files_fit_into_a_row(catalogue: Catalogue, dynamodb: Any) -> None:
    files = tracks(5000)
    recording = replace(UPLOADED, artifacts=files)
    states = {
        file.name: state_of(RECORDING_ID, file, number, "archive-bucket")
        for number, file in enumerate(files)
    }

    catalogue.upsert(recording, NOON)
    # In portions, as runs of a quarter of an hour would.
    for start in range(0, 5000, 1250):
        names = [file.name for file in files[start : start + 1250]]
        row = catalogue.record_archive(RECORDING_ID, {name: states[name] for name in names})  # type: ignore[misc]

    assert row is not None
    assert row["archived"] == "yes"
    assert {name: artifact["archive"] for name, artifact in row["artifacts"].items()} == states
    assert row_size(dynamodb) < 350_000
    assert unsettled(row) == {}
    assert catalogue.get(RECORDING_ID) == row
    assert not catalogue.upsert(recording, NOON).changed
    [event] = [
        one for one in derive_events({**row, "archived": "no"}, row) if "Archived" in one.type
    ]
    detail = json.loads(event.detail)
    assert (detail["artifact_count"], len(detail["artifacts"])) == (5000, 50)


def test_an_ordinary_recordings_artifacts_are_a_map_in_the_table(
    catalogue: Catalogue, recordings_table: Table
) -> None:
    catalogue.upsert(replace(UPLOADED, artifacts=tracks(20)), NOON)

    row = recordings_table.get(KEY)

    assert row is not None
    assert "artifacts_packed" not in row
    assert len(row["artifacts"]) == 20
    assert all(len(artifact["url"]) == 2048 for artifact in row["artifacts"].values())


def test_a_row_that_grows_is_packed_and_keeps_no_urls_and_no_map(
    catalogue: Catalogue, recordings_table: Table
) -> None:
    catalogue.upsert(replace(UPLOADED, artifacts=tracks(20)), NOON)

    row = catalogue.upsert(replace(UPLOADED, artifacts=tracks(400)), NOON).row

    assert len(row["artifacts"]) == 400
    assert not any("url" in artifact for artifact in row["artifacts"].values())
    stored_row = recordings_table.get(KEY)
    assert stored_row is not None
    assert "artifacts" not in stored_row
    # As docs/using.md tells owners to read it.
    assert packing.unpack(stored_row["artifacts_packed"]) == row["artifacts"]


def test_an_erased_row_keeps_neither_packed_artifacts_nor_an_owners_attributes(
    catalogue: Catalogue, recordings_table: Table
) -> None:
    catalogue.upsert(replace(UPLOADED, artifacts=tracks(400)), NOON)
    recordings_table.update(KEY, "SET #status_rank = :text", {"text": "odd"})
    recordings_table._dynamodb.update_item(
        TableName="RecordingsTable",
        Key={"recording_id": {"S": RECORDING_ID}},
        UpdateExpression="SET #odd = :odd",
        ExpressionAttributeNames={"#odd": "my notes, of Ada"},
        ExpressionAttributeValues={":odd": {"S": "personal"}},
    )
    row = catalogue.begin_erasure(RECORDING_ID, NOON)

    assert row is not None
    catalogue.bury(row, NOON)

    assert recordings_table.get(KEY) == {
        "recording_id": RECORDING_ID,
        "version": 3,
        "erased_at": "2026-06-03T12:00:00.000Z",
    }


@pytest.mark.parametrize(
    "artifacts",
    [
        {"video": {"kind": "video", "file_name": "a.mp4", "archive": {"key": "x/video/a.mp4"}}},
        {"track/a/b.webm": {"kind": "track", "file_name": "b.webmb.webm", "note": "\0"}},
        {"track/": {"kind": "track", "parts": ["a", "b"], "one": ["track"]}},
        {"名前": {"kind": "track", "file_name": "名前", "is": True, "size": 10**20}},
        {},
    ],
)
def test_what_is_packed_comes_back_as_it_was(artifacts: dict[str, Any]) -> None:
    packed = packing.pack(artifacts)

    assert packed is not None
    assert packing.unpack(packed) == artifacts


@pytest.mark.parametrize(
    "value", [Decimal("1.5"), b"bytes", None, {}, {"a/b": 1}], ids=["number", "b", "null", "m", "/"]
)
def test_what_would_not_come_back_is_not_packed(value: Any) -> None:
    assert packing.pack({"video": {"kind": "video", "owners": value}}) is None


@pytest.mark.usefixtures("rows_of_400_kb")
def test_a_row_that_is_too_large_says_so_for_good(catalogue: Catalogue) -> None:
    """Tens of thousands of files do not fit even when packed."""
    with pytest.raises(UnwritableError, match="Item size"):
        catalogue.upsert(replace(UPLOADED, artifacts=tracks(12_000)), NOON)


def test_a_row_without_a_version_is_taken_over(
    catalogue: Catalogue, recordings_table: Table
) -> None:
    recordings_table.update(KEY, "SET #notes = :notes", {"notes": "the owner's"})

    row = catalogue.upsert(UPLOADED, NOON).row

    assert (row["version"], row["status"], row["notes"]) == (1, "UPLOADED", "the owner's")
    assert (row["app_id"], row["first_seen_at"]) == (APP_ID, "2026-06-03T12:00:00.000Z")


def test_a_row_with_a_version_that_is_no_number_is_left_alone(
    catalogue: Catalogue, recordings_table: Table
) -> None:
    recordings_table.update(KEY, "SET #version = :version", {"version": "one"})

    with pytest.raises(UnwritableError, match="version"):
        catalogue.upsert(UPLOADED, NOON)


def test_a_streams_binary_attributes_are_read_from_base64() -> None:
    image = {"a": {"B": "AAH/"}, "m": {"M": {"b": {"BS": ["AA=="]}}}, "n": {"N": "1.5"}}

    assert unmarshal(image) == {"a": b"\0\x01\xff", "m": {"b": {b"\0"}}, "n": Decimal("1.5")}


# --- values that this service never writes ---

ROW: dict[str, Any] = {
    "recording_id": RECORDING_ID,
    "app_id": APP_ID,
    "status": "UPLOADED",
    "status_rank": 4,
    "status_history": [{"status": "UPLOADED", "at": "2026-06-03T12:00:00.000Z"}],
    "session_id": "05e57591-d89e-45c9-ae44-08dc1eaad0e0",
    "session_started_at": "2026-06-03T10:00:00.000Z",
    "meeting_id": "50c8940e-1b97-402a-97d6-2708b7feca41",
    "meeting_title": "Weekly sync",
    "organization_id": APP_ID,
    "invoked_at": "2026-06-03T10:00:01.000Z",
    "started_at": "2026-06-03T10:00:05.000Z",
    "stopped_at": "2026-06-03T10:30:05.000Z",
    "duration_seconds": 1800,
    "file_name": "a.mp4",
    "file_size": 7,
    "start_reason": {"reason": "API_CALL"},
    "stop_reason": {"reason": "ALL_PEERS_LEFT"},
    "storage": {"bucket": "owners"},
    "archived": "no",
    "first_seen_at": "2026-06-03T12:00:00.000Z",
    "fetched_at": "2026-06-03T12:00:00.000Z",
    "artifacts": {"video": {"kind": "video"}},
    "artifacts_packed": b"",
}
ABSURD: list[Any] = [
    *("", "x" * 300_000, "0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z", "2026-13-45"),
    *(0, -1, 10**30, Decimal("1.5"), True, None, b"\xff", [], [1], {}, {"video": 1}, {"": {}}),
    *({1, 2}, [{"status": 1}], {"video": {"archive": "archived"}}),
]
ARTIFACT: dict[str, Any] = {
    "kind": "video",
    "file_name": "a.mp4",
    "file_size": 7,
    "url": "https://x/",
    "url_expires_at": "2026-06-10T10:30:00.000Z",
    "archive": {"state": "archived", "bucket": "b", "key": "k", "size": 7},
}


def use(row: dict[str, Any]) -> None:
    """Call everything that stream, tick and sweep derive from a row."""
    read = stored.read(row)
    deadline = expiry(read)
    assert messages.parse(
        json.dumps({"v": 1, "source": "catalogue", "task": "archive", **KEY, "deadline": deadline})
    )
    for old in ({}, stored.read(ROW)):  # type: ignore[var-annotated]
        for event in derive_events(old, read):
            assert len(event.detail.encode()) < 240_000
    merged = Catalogue(None, APP_ID).merged(read, UPLOADED, NOON)  # type: ignore[arg-type]
    news(read, merged)
    expiry(merged)
    public(read)


@pytest.mark.parametrize("name", sorted(ROW.keys() - KEY.keys()))
def test_no_value_of_an_attribute_is_too_absurd(name: str) -> None:
    for value in ABSURD:
        use({**ROW, "version": 1, name: value})


@pytest.mark.parametrize("name", ["invoked_at", "session_started_at", "fetched_at"])
def test_an_attribute_that_must_be_a_time_is_left_out_if_it_is_none(name: str) -> None:
    for value in (7, "", "yesterday", "2026-06-31T10:00:00.000Z", "2026-06-03T10:00:00Z"):
        assert name not in stored.read({**ROW, name: value})
    assert stored.read(ROW)[name] == ROW[name]  # type: ignore[literal-required]


@pytest.mark.parametrize("name", sorted(ARTIFACT))
def test_no_value_in_an_artifact_is_too_absurd(name: str) -> None:
    for value in ABSURD:
        artifacts = {"video": {**ARTIFACT, name: value}, "audio": {name: value}}
        use({**ROW, "version": 1, "artifacts": artifacts})


@pytest.mark.parametrize("state", ["archived", "expired", "external", "none"])
@pytest.mark.parametrize("name", ["state", "bucket", "key", "size", "expired_at"])
def test_no_value_in_an_archives_state_is_too_absurd(state: str, name: str) -> None:
    whole = {**ARTIFACT["archive"], "expired_at": "2026-06-10T10:30:00.000Z", "state": state}
    for value in ABSURD:
        for archive in ({**whole, name: value}, {"state": state, name: value}):
            artifacts = {"video": {**ARTIFACT, "archive": archive}}
            use({**ROW, "version": 1, "artifacts": artifacts})


@pytest.mark.parametrize("missing", sorted(ROW.keys() - KEY.keys()))
def test_no_attribute_must_be_there(missing: str) -> None:
    use({name: value for name, value in {**ROW, "version": 1}.items() if name != missing})


def test_a_year_that_is_a_mistake_is_not_over() -> None:
    row = {"status": "UPLOADED", "stopped_at": "9999-12-31T23:59:59.999Z"}

    assert expiry(row) == "9999-12-31T23:59:59.999Z"  # type: ignore[arg-type]


# --- the time that the indexes are sorted by ---

UNDATED = replace(UPLOADED, invoked_at=None)
STARTED = datetime(2026, 6, 3, 10, 0, 5, tzinfo=UTC)


def indexed(dynamodb: Any) -> list[Any]:
    return [
        item["invoked_at"]["S"]
        for item in dynamodb.query(
            TableName="RecordingsTable",
            IndexName="by_time",
            KeyConditionExpression="app_id = :app_id",
            ExpressionAttributeValues={":app_id": {"S": APP_ID}},
        )["Items"]
    ]


def test_a_recording_that_does_not_say_when_it_was_invoked_is_in_the_indexes(
    catalogue: Catalogue, dynamodb: Any
) -> None:
    row = catalogue.upsert(UNDATED, NOON).row

    assert row["invoked_at_from"] == "first_seen_at"
    assert indexed(dynamodb) == ["2026-06-03T12:00:00.000Z"]
    assert not catalogue.upsert(UNDATED, NOON).changed


def test_a_better_time_replaces_a_guess_and_the_real_one_any_guess(
    catalogue: Catalogue, dynamodb: Any
) -> None:
    catalogue.upsert(UNDATED, NOON)
    row = catalogue.upsert(replace(UNDATED, started_at=STARTED), NOON).row
    assert row["invoked_at_from"] == "started_at"
    assert indexed(dynamodb) == ["2026-06-03T10:00:05.000Z"]

    # A stale view: it fills a gap.
    row = catalogue.upsert(replace(UPLOADED, status="RECORDING"), NOON).row

    assert "invoked_at_from" not in row
    assert indexed(dynamodb) == ["2026-06-03T10:00:01.000Z"]
    assert not catalogue.upsert(replace(UNDATED, started_at=STARTED), NOON).changed
