"""From the ingest queue to the catalogue."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest
from botocore.exceptions import ClientError

import ingest_recording
from doubles import API_TOKEN, APP_ID, AnyRequest, Clock, Context, sample
from realtimekit_simulator import (
    Delay,
    Drop,
    Effect,
    Kind,
    Overlay,
    RecordingOptions,
    Simulator,
    Stale,
    Status,
    Truncate,
    Undocumented,
    empty,
    error,
    garbage,
    gateway_error,
    html,
    rate_limited,
    unsuccessful,
)
from recordings.budget import UpstreamBudget
from recordings.catalogue import Catalogue
from recordings.dynamodb import Table
from recordings.ingestion import Ingestion
from recordings.messages import RecordingRequest, Source
from recordings.realtimekit import NotFoundError, Observe, UnavailableError
from recordings.worklist import Worklist, utcnow

Handle = Callable[..., list[str]]
Checks = Callable[[], dict[str, str]]


# Epoch milliseconds, as SQS has it.
SENT_AT = 1_780_482_600_000


@pytest.fixture
def observe() -> Observe:
    return ingest_recording.metrics.add_metric


@pytest.fixture
def handle(ingestion: Ingestion, context: Context, monkeypatch: pytest.MonkeyPatch) -> Handle:
    """Give the function messages; the ids of those that stay on the queue."""
    monkeypatch.setattr(ingest_recording, "ingestion", ingestion)

    def handle(*bodies: Any, context: Context = context) -> list[str]:
        records = [
            {
                "messageId": str(n),
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {"SentTimestamp": str(SENT_AT)},
            }
            for n, body in enumerate(bodies)
        ]
        answer = ingest_recording.handler({"Records": records}, context)
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    return handle


def about(recording_id: str, source: str = "webhook", **hint: str) -> dict[str, Any]:
    return {"v": 1, "source": source, "recording_id": recording_id, "hint": hint}


def ended(meeting_id: str, session_id: str, source: str = "eventbridge") -> dict[str, Any]:
    return {"v": 1, "source": source, "meeting_id": meeting_id, "session_id": session_id}


def test_the_sample_of_a_status_update_becomes_a_row(
    handle: Handle, simulator: Simulator, catalogue: Catalogue, checks: Checks
) -> None:
    recording = simulator.world.record_meeting()
    [record] = sample("ingest-recording.recording-status-update")["Records"]

    assert handle(record["body"]) == []

    row = catalogue.get(recording.id)
    assert row is not None
    assert row["status"] == "UPLOADED"
    assert row["meeting_id"] == recording.session.meeting.id
    assert row["session_id"] == recording.session.id
    assert row["session_started_at"] == "2026-06-03T09:59:37.000Z"
    assert row["meeting_title"] == "Weekly sync"
    assert row["organization_id"] == APP_ID
    assert row["duration_seconds"] == 1800
    assert row["artifacts"]["video"]["url"].startswith(simulator.url)
    assert checks() == {}
    # The event rule leaves the title out: the session has it.
    assert [request.path.rpartition("/")[2] for request in simulator.requests] == [
        recording.id,
        recording.session.id,
    ]

    assert handle(record["body"]) == []
    assert len(simulator.requests) == 3


@pytest.mark.parametrize("status", [Status.UPLOADED, Status.RECORDING])
def test_a_late_message_of_a_check_that_is_gone_leaves_a_new_one(
    handle: Handle,
    simulator: Simulator,
    worklist: Worklist,
    checks: Checks,
    status: Status,
) -> None:
    """Another message settled the check, but has not seen this message's state."""
    recording = simulator.world.record_meeting(status=status)
    if status is Status.RECORDING:
        handle(about(recording.id, source="follow_up"))
        worklist.settle(f"recording#{recording.id}")
    else:
        simulator.faults.add(error(503))

    assert handle(about(recording.id, source="follow_up")) == []

    cause = "not_final" if status is Status.RECORDING else "unavailable"
    assert checks() == {f"recording#{recording.id}": cause}


@pytest.mark.parametrize("source", list(Source))
def test_with_an_archive_the_ingest_queue_takes_no_erasure(
    handle: Handle, simulator: Simulator, catalogue: Catalogue, source: Source
) -> None:
    recording = simulator.world.record_meeting()
    handle(about(recording.id))
    row = catalogue.get(recording.id)

    message = {"v": 1, "source": source, "task": "erase", "recording_id": recording.id}
    assert handle(message) == ["0"]

    assert catalogue.get(recording.id) == row


def test_the_sample_of_an_ended_meeting_becomes_a_row_and_a_check_for_the_details(
    handle: Handle, simulator: Simulator, catalogue: Catalogue, checks: Checks
) -> None:
    recording = simulator.world.record_meeting()
    [record] = sample("ingest-recording.meeting-ended")["Records"]

    assert handle(record["body"]) == []

    row = catalogue.get(recording.id)
    assert row is not None
    assert row["meeting_id"] == recording.session.meeting.id
    assert "stop_reason" not in row
    assert checks() == {f"recording#{recording.id}": "details_missing"}


def test_a_check_for_the_details_is_settled_by_them(
    handle: Handle, simulator: Simulator, catalogue: Catalogue, checks: Checks
) -> None:
    recording = simulator.world.record_meeting()
    handle(ended(recording.session.meeting.id, recording.session.id))

    handle(about(recording.id, source="follow_up"))

    row = catalogue.get(recording.id)
    assert row is not None
    assert row["start_reason"]["reason"] == "API_CALL"
    assert row["meeting_id"] == recording.session.meeting.id
    assert checks() == {}


def test_only_the_sessions_recordings_are_taken_from_the_meetings(
    handle: Handle, simulator: Simulator, catalogue: Catalogue
) -> None:
    earlier = simulator.world.record_meeting()
    simulator.world.clock.advance(7200)
    latest = simulator.world.record_meeting(meeting=earlier.session.meeting)

    handle(ended(latest.session.meeting.id, latest.session.id))

    assert catalogue.get(earlier.id) is None
    assert catalogue.get(latest.id) is not None


@pytest.mark.parametrize(("is_recorded", "sessions", "pages"), [(True, 250, 2), (False, 1150, 11)])
def test_of_a_meeting_that_goes_on_for_years_only_the_newest_part_is_read(
    handle: Handle,
    simulator: Simulator,
    catalogue: Catalogue,
    is_recorded: bool,
    sessions: int,
    pages: int,
) -> None:
    meeting = simulator.world.create_meeting()
    day = simulator.world.clock.now() - timedelta(days=1200)
    for number in range(sessions):
        simulator.world.record_meeting(
            meeting=meeting, started_at=day + timedelta(days=number), duration=60
        )
    session = simulator.world.start_session(meeting)
    recording = simulator.world.start_recording(session) if is_recorded else None
    simulator.world.end_session(session)

    handle(ended(meeting.id, session.id))

    assert len(simulator.requests) == pages
    assert recording is None or catalogue.get(recording.id) is not None


def test_what_never_ends_and_is_of_no_session_is_not_followed_for_ever(
    handle: Handle, simulator: Simulator, worklist: Worklist, clock: Clock
) -> None:
    """Though each of the meeting's sessions lists it."""
    recording = simulator.world.record_meeting(status=Status.INVOKED)
    meeting_id = recording.session.meeting.id
    simulator.faults.add(Overlay({"session_id": None}), path="/recordings", times=None)
    handle(ended(meeting_id, "05e57591-d89e-45c9-ae44-08dc1eaad0e0"))

    clock.advance(7 * 86_400)
    handle(ended(meeting_id, "18cd11c8-3f4f-46c8-8d0c-4c0ea53a9f5d"))

    clock.advance(86_400 + 60)
    [check] = worklist.due(10)
    assert check.is_hopeless(clock())


@pytest.mark.parametrize("source", ["webhook", "eventbridge", "follow_up"])
def test_a_meeting_that_was_not_recorded_costs_one_request(
    handle: Handle, simulator: Simulator, worklist: Worklist, checks: Checks, source: str
) -> None:
    session = simulator.world.start_session(simulator.world.create_meeting())
    simulator.world.end_session(session)
    message = ended(session.meeting.id, session.id, source=source)
    if source == "follow_up":
        worklist.check_in(
            AnyRequest(f"session#{session.meeting.id}#{session.id}", message), "unavailable"
        )

    handle(message)

    assert checks() == {}
    assert len(simulator.requests) == 1


def test_a_session_in_capitals_is_found(
    handle: Handle, simulator: Simulator, catalogue: Catalogue
) -> None:
    recording = simulator.world.record_meeting()
    simulator.faults.add(Overlay({"session_id": recording.session.id.upper()}))

    handle(ended(recording.session.meeting.id.upper(), recording.session.id.upper()))

    row = catalogue.get(recording.id)
    assert row is not None
    assert row["session_id"] == recording.session.id


def test_a_row_that_cannot_be_written_does_not_stop_the_others(
    handle: Handle,
    simulator: Simulator,
    catalogue: Catalogue,
    recordings_table: Table,
    logged: Callable[[], str],
) -> None:
    """The row is as large as an item may be, so DynamoDB refuses any addition."""
    meeting = simulator.world.create_meeting()
    session = simulator.world.start_session(meeting)
    for _ in range(3):
        simulator.world.start_recording(session, allow_multiple=True)
    simulator.world.end_session(session)
    simulator.world.clock.advance(3600)
    first, second, third = session.recordings
    recordings_table.update(
        {"recording_id": second.id},
        "SET #version = :version, #note = :note, #fetched_at = :at, #status = :status",
        {
            "version": 1,
            "note": "x" * 404_700,
            "at": "2026-06-03T10:00:00.000Z",
            "status": "INVOKED",
        },
    )

    assert handle(ended(meeting.id, session.id)) == []

    assert catalogue.get(first.id) is not None
    assert catalogue.get(third.id) is not None
    assert "recording unwritable" in logged()


def test_a_title_that_the_session_did_not_say_is_asked_for_by_the_check(
    handle: Handle, simulator: Simulator, catalogue: Catalogue, checks: Checks
) -> None:
    recording = simulator.world.record_meeting()
    ids = {"meeting_id": recording.meeting.id, "session_id": recording.session.id}
    simulator.faults.add(error(503), path="/sessions/")
    handle(about(recording.id, source="eventbridge", **ids))
    assert checks() == {f"recording#{recording.id}": "unavailable"}

    assert handle(about(recording.id, source="follow_up", **ids)) == []

    row = catalogue.get(recording.id)
    assert row is not None
    assert row["meeting_title"] == "Weekly sync"
    assert checks() == {}


def test_a_row_that_cannot_be_written_does_not_hide_another_that_is_to_be_tried_again(
    handle: Handle, simulator: Simulator, catalogue: Catalogue, dynamodb: Any
) -> None:
    meeting = simulator.world.create_meeting()
    session = simulator.world.start_session(meeting)
    for _ in range(2):
        simulator.world.start_recording(session, allow_multiple=True)
    simulator.world.end_session(session)
    simulator.world.clock.advance(3600)
    codes = ["ValidationException", "InternalServerError"]

    def fail(model: Any, params: Any, **_: Any) -> None:
        if codes and b"RecordingsTable" in params["body"]:
            raise ClientError({"Error": {"Code": codes.pop(0)}}, model.name)

    dynamodb.meta.events.register("before-call.dynamodb.UpdateItem", fail)

    assert handle(ended(meeting.id, session.id)) == ["0"]
    assert handle(ended(meeting.id, session.id)) == []
    assert all(catalogue.get(recording.id) for recording in session.recordings)


@pytest.mark.parametrize(("days", "expected"), [(8, {}), (6, {"details"})])
def test_an_old_recording_that_realtimekit_has_forgotten_is_not_asked_for_again(
    handle: Handle,
    simulator: Simulator,
    checks: Checks,
    clock: Clock,
    days: int,
    expected: set[str],
) -> None:
    """Its row is final, and has all that the list said: only the reasons can be missing."""
    recording = simulator.world.record_meeting()
    handle(ended(recording.session.meeting.id, recording.session.id))
    clock.advance(days * 86_400)
    simulator.faults.add(error(404))

    handle(about(recording.id, source="follow_up"))

    assert checks() == ({f"recording#{recording.id}": "not_found"} if expected else {})


@pytest.mark.parametrize("status", [400, 422])
def test_a_foreign_id_that_is_refused_is_not_followed_for_longer_than_an_unknown_one(
    handle: Handle, simulator: Simulator, checks: Checks, status: int
) -> None:
    simulator.faults.add(error(status), times=None)

    handle(about("97cb480d-5840-4528-ace3-919b5e386c68"))

    assert checks() == {"recording#97cb480d-5840-4528-ace3-919b5e386c68": "not_found"}


def test_a_list_that_does_not_filter_costs_one_request_and_no_check_of_a_stranger(
    handle: Handle, simulator: Simulator, catalogue: Catalogue, checks: Checks
) -> None:
    simulator.world.undocumented = Undocumented(filters_by_meeting=False)
    strangers = simulator.world.record_meetings(130)
    recording = simulator.world.record_meeting()

    handle(ended(recording.session.meeting.id, recording.session.id))

    assert catalogue.get(recording.id) is not None
    assert catalogue.get(strangers[-1].id) is None
    assert checks() == {f"recording#{recording.id}": "details_missing"}
    assert len(simulator.requests) == 1


def test_a_v1_meeting_is_known_by_the_id_that_its_webhook_says(
    handle: Handle, simulator: Simulator, catalogue: Catalogue
) -> None:
    """The session names a room, and is fetched once."""
    simulator.world.undocumented = Undocumented(room_names=True)
    recording = simulator.world.record_meeting()
    handle(about(recording.id))
    row = catalogue.get(recording.id)
    assert row is not None
    assert "meeting_id" not in row
    assert row["meeting_title"] == "Weekly sync"

    handle(about(recording.id))
    assert len(simulator.requests) == 3

    handle(about(recording.id, meeting_id=recording.session.meeting.id))
    row = catalogue.get(recording.id)
    assert row is not None
    assert row["meeting_id"] == recording.session.meeting.id


def test_an_event_of_the_bus_without_a_title_gets_it_from_the_session(
    handle: Handle, simulator: Simulator, catalogue: Catalogue
) -> None:
    recording = simulator.world.record_meeting()
    hint = {"meeting_id": recording.session.meeting.id}

    handle(about(recording.id, source="eventbridge", **hint))

    row = catalogue.get(recording.id)
    assert row is not None
    assert row["meeting_title"] == "Weekly sync"


def test_a_webhook_that_names_the_meeting_without_a_title_does_not_fetch_the_session(
    handle: Handle, simulator: Simulator
) -> None:
    """A V1 meeting's session has only a room's name."""
    recording = simulator.world.record_meeting()

    handle(about(recording.id, meeting_id=recording.session.meeting.id))

    assert [request.path.rpartition("/")[2] for request in simulator.requests] == [recording.id]


def test_a_hint_gives_the_start_of_the_session_without_a_request(
    handle: Handle, simulator: Simulator, catalogue: Catalogue
) -> None:
    recording = simulator.world.record_meeting()
    hint = {"meeting_id": recording.session.meeting.id, "title": "Weekly sync"}

    handle(about(recording.id, **hint, session_started_at="2026-06-03T09:59:57.120Z"))

    row = catalogue.get(recording.id)
    assert row is not None
    assert row["session_started_at"] == "2026-06-03T09:59:57.120Z"
    assert len(simulator.requests) == 1


def test_a_hint_outweighs_the_start_that_the_session_has(
    handle: Handle, simulator: Simulator, catalogue: Catalogue
) -> None:
    """The session is fetched for its title."""
    recording = simulator.world.record_meeting()

    handle(about(recording.id, session_started_at="2026-06-03T09:59:57.120Z"))

    row = catalogue.get(recording.id)
    assert row is not None
    assert row["meeting_title"] == "Weekly sync"
    assert row["session_started_at"] == "2026-06-03T09:59:57.120Z"


def test_an_ended_meeting_gives_the_start_to_the_recordings_of_its_session_alone(
    handle: Handle, simulator: Simulator, catalogue: Catalogue
) -> None:
    ours = simulator.world.record_meeting()
    hint = {"session_started_at": "2026-06-03T09:59:57.120Z"}
    meeting_id, session_id = ours.session.meeting.id, ours.session.id
    message = {"v": 1, "source": "webhook", "meeting_id": meeting_id, "hint": hint}

    handle(message)
    row = catalogue.get(ours.id)
    assert row is not None
    assert "session_started_at" not in row

    handle({**message, "session_id": session_id})
    row = catalogue.get(ours.id)
    assert row is not None
    assert row["session_started_at"] == "2026-06-03T09:59:57.120Z"


def test_files_of_a_session_are_offered_to_the_rows_of_its_recordings(
    handle: Handle,
    simulator: Simulator,
    ingestion: Ingestion,
    catalogue: Catalogue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their way into the bucket is in test_session_files.py."""
    recording = simulator.world.record_meeting(session_files=["chat"])
    handle(about(recording.id))
    simulator.world.clock.advance(60)
    kept = replace(ingestion, session_files=("chat",))
    monkeypatch.setattr(ingest_recording, "ingestion", kept)
    session_id = recording.session.id

    request = {"v": 1, "source": "webhook", "task": "session_files", "session_id": session_id}
    assert handle({**request, "announced": {"chat": ""}}) == []

    row = catalogue.get(recording.id)
    assert row is not None
    assert row["artifacts"]["chat"]["url"].startswith(simulator.url)


@pytest.mark.parametrize("undocumented", [{"wraps_recording": True}, {"wraps_session": True}])
def test_wrapped_answers_are_catalogued_as_others_are(
    handle: Handle,
    simulator: Simulator,
    catalogue: Catalogue,
    checks: Checks,
    undocumented: dict[str, bool],
) -> None:
    simulator.world.undocumented = Undocumented(**undocumented)  # type: ignore[arg-type]
    recording = simulator.world.record_meeting()

    handle(about(recording.id))

    row = catalogue.get(recording.id)
    assert row is not None
    assert (row["status"], row["meeting_id"]) == ("UPLOADED", recording.session.meeting.id)
    assert checks() == {}


@pytest.fixture
def sync(ingestion: Ingestion) -> Iterator[Callable[[str], object]]:
    """Yield a function that syncs a recording as the API does."""
    yield lambda recording_id: ingestion.ingest_recording(
        RecordingRequest(recording_id=recording_id, source=Source.API)
    )
    # No handler has put them out.
    ingest_recording.metrics.clear_metrics()


def test_a_sync_that_is_cut_off_has_left_a_check(
    ingestion: Ingestion,
    simulator: Simulator,
    checks: Checks,
    secretsmanager: Any,
    sync: Callable[[str], object],
) -> None:
    """Simulate a function that Lambda ended after the request was sent."""
    recording = simulator.world.record_meeting()
    simulator.faults.add(error(503))

    with pytest.raises(UnavailableError):
        sync(recording.id)

    assert checks() == {f"recording#{recording.id}": "sync_begun"}


def test_a_sync_that_is_done_leaves_no_check(
    simulator: Simulator, checks: Checks, sync: Callable[[str], object]
) -> None:
    recording = simulator.world.record_meeting()

    for _ in range(2):
        sync(recording.id)
        assert checks() == {}


def test_a_sync_of_what_is_unknown_leaves_no_check_and_takes_none_away(
    simulator: Simulator,
    worklist: Worklist,
    checks: Checks,
    sync: Callable[[str], object],
) -> None:
    unknown, waiting = "97cb480d-5840-4528-ace3-919b5e386c68", str(UUID(int=7, version=4))
    worklist.check_in(AnyRequest(f"recording#{waiting}", {"recording_id": waiting}), "unavailable")

    for recording_id in (unknown, waiting):
        with pytest.raises(NotFoundError):
            sync(recording_id)

    assert checks() == {f"recording#{waiting}": "unavailable"}


@pytest.mark.parametrize("status", ["INVOKED", "RECORDING", "PAUSED", "UPLOADING"])
def test_what_is_not_final_is_catalogued_and_checked_again(
    handle: Handle,
    simulator: Simulator,
    catalogue: Catalogue,
    checks: Checks,
    status: str,
) -> None:
    recording = simulator.world.record_meeting(status=Status(status))

    handle(about(recording.id))

    row = catalogue.get(recording.id)
    assert row is not None
    assert row["status"] == status
    assert checks() == {f"recording#{recording.id}": "not_final"}


def test_an_upload_is_checked_in_five_minutes_and_a_live_recording_in_an_hour(
    handle: Handle, simulator: Simulator, worklist: Worklist, clock: Clock
) -> None:
    uploading = simulator.world.record_meeting(status=Status.UPLOADING)
    live = simulator.world.record_meeting(status=Status.RECORDING)
    handle(about(uploading.id), about(live.id))

    clock.advance(299)
    assert worklist.due(10) == []
    clock.advance(1)
    assert [check.key for check in worklist.due(10)] == [f"recording#{uploading.id}"]
    clock.advance(3300)
    assert len(worklist.due(10)) == 2


def test_an_errored_recording_is_final(
    handle: Handle, simulator: Simulator, catalogue: Catalogue, checks: Checks
) -> None:
    recording = simulator.world.record_meeting(status=Status.ERRORED)

    handle(about(recording.id))

    row = catalogue.get(recording.id)
    assert row is not None
    assert row["status"] == "ERRORED"
    assert checks() == {}


def test_tracks_named_during_an_upload_go_if_the_recording_fails(
    handle: Handle, simulator: Simulator, catalogue: Catalogue
) -> None:
    options = RecordingOptions(
        kind=Kind.TRACK, participants=4, upload_seconds=60, outcome=Status.ERRORED
    )
    recording = simulator.world.record_meeting(status=Status.UPLOADING, options=options)
    handle(about(recording.id))
    uploading = catalogue.get(recording.id)
    assert uploading
    assert len(uploading["artifacts"]) == 2

    simulator.world.finish_upload(recording)
    handle(about(recording.id))

    row = catalogue.get(recording.id)
    assert row
    assert (row["status"], row["artifacts"]) == ("ERRORED", {})


def test_each_file_of_a_track_recording_is_catalogued(
    handle: Handle, simulator: Simulator, catalogue: Catalogue
) -> None:
    options = RecordingOptions(kind=Kind.TRACK, participants=3)
    recording = simulator.world.record_meeting(options=options)

    handle(about(recording.id))

    row = catalogue.get(recording.id)
    assert row is not None
    assert [artifact["kind"] for artifact in row["artifacts"].values()] == ["track"] * 3


def test_media_in_the_owners_own_bucket_is_no_error(
    handle: Handle, simulator: Simulator, catalogue: Catalogue, checks: Checks
) -> None:
    storage = {"type": "cloudflare", "bucket": "ours", "path": "meetings"}
    options = RecordingOptions(realtimekit_bucket=False, storage_config=storage)
    recording = simulator.world.record_meeting(options=options)

    handle(about(recording.id))

    row = catalogue.get(recording.id)
    assert row is not None
    assert row["storage"] == {"type": "cloudflare", "bucket": "ours", "path": "meetings"}
    assert row["artifacts"] == {"video": {"kind": "video", "file_name": row["file_name"]}}
    assert checks() == {}


def test_no_secret_of_a_storage_config_is_stored_or_logged(
    handle: Handle, simulator: Simulator, dynamodb: Any, logged: Callable[[], str]
) -> None:
    simulator.world.reveals_secrets = True
    secrets = ("access_key", "secret", "password", "private_key")
    storage = {"type": "aws", "bucket": "ours", **{name: f"canary-{name}" for name in secrets}}
    recording = simulator.world.record_meeting(options=RecordingOptions(storage_config=storage))

    handle(
        about(recording.id), ended(recording.session.meeting.id, recording.session.id), "canary{"
    )

    output = logged()
    stored = str(
        [dynamodb.scan(TableName=name)["Items"] for name in ("RecordingsTable", "WorkTable")]
    )
    assert "UPLOADED" in stored
    assert "recording ingested" in output
    for text in (output, stored):
        assert "canary" not in text
        assert API_TOKEN not in text
    assert "X-Amz-Signature" not in output


def test_several_messages_about_one_recording_cost_one_request(
    handle: Handle, simulator: Simulator, catalogue: Catalogue
) -> None:
    recording = simulator.world.record_meeting()
    hint = {"meeting_id": recording.session.meeting.id, "title": "Weekly sync"}

    handle(about(recording.id, source="follow_up"), *[about(recording.id, **hint)] * 9)

    row = catalogue.get(recording.id)
    assert row is not None
    assert row["version"] == 1
    assert row["meeting_title"] == "Weekly sync"
    assert len(simulator.requests) == 1


def test_a_duplicate_in_a_later_batch_changes_nothing(
    handle: Handle, simulator: Simulator, catalogue: Catalogue, dynamodb: Any
) -> None:
    recording = simulator.world.record_meeting()
    handle(about(recording.id))
    before = dynamodb.scan(TableName="RecordingsTable")["Items"]

    for _ in range(3):
        handle(about(recording.id))

    assert dynamodb.scan(TableName="RecordingsTable")["Items"] == before


def test_an_unknown_meeting_is_asked_of_the_session_once(
    handle: Handle, simulator: Simulator, catalogue: Catalogue
) -> None:
    recording = simulator.world.record_meeting(title="Board")

    for _ in range(3):
        handle(about(recording.id))

    row = catalogue.get(recording.id)
    assert row is not None
    assert row["meeting_id"] == recording.session.meeting.id
    assert row["meeting_title"] == "Board"
    sessions = [request for request in simulator.requests if "/sessions/" in request.path]
    assert len(sessions) == 1


def test_a_session_in_trouble_leaves_the_recording_catalogued_and_a_check(
    handle: Handle, simulator: Simulator, catalogue: Catalogue, checks: Checks
) -> None:
    recording = simulator.world.record_meeting()
    simulator.faults.add(error(503), path="/sessions/")

    handle(about(recording.id))
    assert catalogue.get(recording.id) is not None
    assert checks() == {f"recording#{recording.id}": "unavailable"}

    handle(about(recording.id, source="follow_up"))
    row = catalogue.get(recording.id)
    assert row is not None
    assert row["meeting_id"] == recording.session.meeting.id
    assert checks() == {}


def test_a_session_that_is_not_known_is_asked_no_further(
    handle: Handle, simulator: Simulator, checks: Checks
) -> None:
    recording = simulator.world.record_meeting()
    simulator.faults.add(error(404), path="/sessions/")

    handle(about(recording.id))

    assert checks() == {}


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (error(404), "not_found"),
        (error(500), "unavailable"),
        (gateway_error(403), "unauthorized"),
        (html(502), "unavailable"),
        (empty(520), "unavailable"),
        (garbage(), "unintelligible"),
        (unsuccessful(), "unavailable"),
        (Delay(60), "unavailable"),
        (Drop(), "unavailable"),
        (Truncate(), "unavailable"),
        (rate_limited(3), "throttled"),
        (rate_limited(None), "throttled"),
        (Overlay({"id": None}), "unintelligible"),
        (Overlay({"status": ""}), "unintelligible"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["recording", "session"])
def test_whatever_realtimekit_does_the_request_becomes_a_check_and_is_done_later(
    handle: Handle,
    simulator: Simulator,
    catalogue: Catalogue,
    checks: Checks,
    clock: Clock,
    fault: Effect,
    cause: str,
    kind: str,
) -> None:
    recording = simulator.world.record_meeting()
    meeting_id, session_id = recording.session.meeting.id, recording.session.id
    if kind == "recording":
        message, key = about(recording.id, title="Weekly sync"), f"recording#{recording.id}"
    else:
        message, key = ended(meeting_id, session_id), f"session#{meeting_id}#{session_id}"
    simulator.faults.add(fault)

    assert handle(message) == []
    assert catalogue.get(recording.id) is None
    assert checks() == {key: cause}

    clock.advance(600)
    assert handle({**message, "source": "follow_up"}) == []
    assert catalogue.get(recording.id) is not None
    assert key not in checks()


def test_a_stale_answer_does_not_take_an_upload_back(
    handle: Handle, simulator: Simulator, catalogue: Catalogue
) -> None:
    recording = simulator.world.record_meeting()
    handle(about(recording.id))
    simulator.faults.add(Stale(Status.RECORDING))

    handle(about(recording.id))

    row = catalogue.get(recording.id)
    assert row is not None
    assert row["status"] == "UPLOADED"
    assert row["version"] == 2  # the session's meeting came second; the stale view not at all


STATUSES = (Status.INVOKED, Status.RECORDING, Status.UPLOADING, Status.UPLOADED)


@pytest.mark.parametrize("order", list(permutations(STATUSES)), ids="-".join)
def test_in_whichever_order_a_recordings_events_come_the_row_ends_the_same(
    handle: Handle,
    simulator: Simulator,
    catalogue: Catalogue,
    checks: Checks,
    order: tuple[Status, ...],
) -> None:
    """Each event finds RealtimeKit's answer as it was when the event was sent."""
    recording = simulator.world.record_meeting()
    hint = {"meeting_id": recording.session.meeting.id, "title": "Weekly sync"}
    for status in order:
        simulator.faults.add(Stale(status))
        handle(about(recording.id, **hint))

    row = catalogue.get(recording.id)
    assert row is not None
    assert row["status"] == "UPLOADED"
    assert row["duration_seconds"] == 1800
    assert row["stop_reason"] == {"reason": "ALL_PEERS_LEFT"}
    assert row["artifacts"]["video"]["file_size"] == row["file_size"]
    assert checks() == {}


def test_the_same_event_twenty_times_is_one_version_of_the_row(
    handle: Handle, simulator: Simulator, catalogue: Catalogue
) -> None:
    recording = simulator.world.record_meeting()
    message = about(recording.id, meeting_id=recording.session.meeting.id)

    for _ in range(20):
        handle(message)

    row = catalogue.get(recording.id)
    assert row is not None
    assert row["version"] == 1


def test_an_old_event_a_day_later_changes_nothing(
    handle: Handle, simulator: Simulator, catalogue: Catalogue, checks: Checks, clock: Clock
) -> None:
    recording = simulator.world.record_meeting()
    hint = {"meeting_id": recording.session.meeting.id, "title": "Weekly sync"}
    message = about(recording.id, **hint)
    handle(message)
    before = catalogue.get(recording.id)
    clock.advance(86_400)
    simulator.world.clock.advance(86_400)

    handle(message)
    handle(ended(recording.session.meeting.id, recording.session.id))

    assert catalogue.get(recording.id) == before
    assert checks() == {}


@pytest.mark.parametrize("seconds", [1, 300, 3600])
def test_retry_after_is_obeyed_by_postponing(
    handle: Handle, simulator: Simulator, worklist: Worklist, clock: Clock, seconds: int
) -> None:
    recording = simulator.world.record_meeting()
    simulator.faults.add(rate_limited(seconds))

    handle(about(recording.id))

    clock.advance(max(seconds, 60) - 1)
    assert worklist.due(10) == []
    clock.advance(1)
    assert len(worklist.due(10)) == 1


def test_after_a_429_nobody_asks_realtimekit_until_the_time_is_over(
    handle: Handle, simulator: Simulator, checks: Checks
) -> None:
    first, second = simulator.world.record_meetings(2)
    simulator.faults.add(rate_limited(300))

    handle(about(first.id), about(second.id))

    assert len(simulator.requests) == 1
    assert sorted(checks().values()) == ["budget_spent", "throttled"]


def test_a_spent_budget_postpones(
    handle: Handle, simulator: Simulator, work_table: Table, checks: Checks, clock: Clock
) -> None:
    recording = simulator.world.record_meeting()
    budget = UpstreamBudget(work_table, APP_ID, 1000, clock)
    while budget.take() == 0:
        pass

    assert handle(about(recording.id)) == []

    assert simulator.requests == []
    assert checks() == {f"recording#{recording.id}": "budget_spent"}


def test_when_time_runs_out_the_rest_is_postponed_without_being_asked_for(
    handle: Handle, simulator: Simulator, checks: Checks
) -> None:
    recording = simulator.world.record_meeting()

    assert handle(about(recording.id), context=Context(remaining_ms=44_999)) == []

    assert simulator.requests == []
    assert checks() == {f"recording#{recording.id}": "unavailable"}


def test_without_a_token_everything_is_postponed(
    handle: Handle,
    simulator: Simulator,
    secretsmanager: Any,
    checks: Checks,
) -> None:
    secretsmanager.delete_secret(SecretId="realtimekit-api-token", ForceDeleteWithoutRecovery=True)
    recording = simulator.world.record_meeting()

    assert handle(about(recording.id)) == []

    assert checks() == {f"recording#{recording.id}": "unauthorized"}


def test_malformed_messages_stay_on_the_queue_and_the_log_says_why(
    handle: Handle,
    simulator: Simulator,
    catalogue: Catalogue,
    logged: Callable[[], str],
) -> None:
    recording = simulator.world.record_meeting()

    failed = handle(
        "not json",
        about(recording.id),
        {"v": 9, "source": "webhook"},
        about("../sessions"),
    )

    assert failed == ["0", "2", "3"]
    assert catalogue.get(recording.id) is not None
    output = logged()
    assert "the message is not JSON" in output
    assert "v is 9, not 1" in output
    assert "recording_id is not a UUID" in output


def test_a_fault_of_our_own_fails_its_message_and_no_other(
    handle: Handle, simulator: Simulator, dynamodb: Any, logged: Callable[[], str]
) -> None:
    """A table that is not there is a fault that each write meets."""
    good, bad = simulator.world.record_meetings(2)
    dynamodb.delete_table(TableName="RecordingsTable")

    assert handle(about(good.id), about(bad.id), about(bad.id)) == ["0", "1", "2"]

    assert "ResourceNotFoundException" in logged()


@pytest.mark.parametrize("closed", ["erasing", "erased"])
def test_an_event_of_what_is_erased_changes_nothing_and_is_no_dead_letter(
    handle: Handle,
    simulator: Simulator,
    catalogue: Catalogue,
    clock: Clock,
    checks: Checks,
    closed: str,
) -> None:
    recording = simulator.world.record_meeting()
    handle(about(recording.id))
    row = catalogue.begin_erasure(recording.id, clock())
    assert row
    if closed == "erased":
        row = catalogue.bury(row, clock())

    assert handle(about(recording.id, title="Weekly sync")) == []
    assert handle(ended(recording.session.meeting.id, recording.session.id)) == []

    assert catalogue.get(recording.id) == row
    assert checks() == {}


def counted(log: str) -> dict[str, list[float]]:
    """Return the values of all emitted metrics, by name."""
    found: dict[str, list[float]] = {}
    for line in map(json.loads, log.splitlines()):
        for metric in line.get("_aws", {}).get("CloudWatchMetrics", [{}])[0].get("Metrics", []):
            found.setdefault(metric["Name"], []).extend(line[metric["Name"]])
    return found


def test_a_refused_token_is_counted(
    handle: Handle, simulator: Simulator, logged: Callable[[], str]
) -> None:
    recording = simulator.world.record_meeting()
    simulator.faults.add(gateway_error(403), times=None)

    handle(about(recording.id))

    found = counted(logged())
    assert found["TokenRefused"] == [1]
    assert found["PostponedUnauthorized"] == [1]
    assert found["Upstream4xx"] == [1]


def test_realtimekits_answers_and_what_is_postponed_are_counted(
    handle: Handle, simulator: Simulator, logged: Callable[[], str]
) -> None:
    first, second = (simulator.world.record_meeting() for _ in range(2))
    simulator.faults.add(rate_limited(30))

    handle(about(first.id), about(second.id))

    found = counted(logged())
    assert found["Upstream429"] == [1]
    assert (found["PostponedThrottled"], found["PostponedBudgetSpent"]) == ([1], [1])
    assert len(found["UpstreamLatency"]) == 1
    # One of the 47 of a window; a 429 uses up all of it.
    assert found["BudgetUsed"] == [pytest.approx(100 / 47), 100]


@pytest.mark.parametrize(
    ("source", "times"), [("webhook", 1), ("eventbridge", 1), ("follow_up", 0), ("api", 0)]
)
def test_how_long_it_took_from_being_told_to_the_row_is_measured_once(
    handle: Handle,
    simulator: Simulator,
    logged: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    times: int,
) -> None:
    monkeypatch.setattr(time, "time", lambda: SENT_AT / 1000 + 2.5)
    recording = simulator.world.record_meeting()

    handle(about(recording.id, source=source))
    handle(about(recording.id, source=source))

    assert counted(logged()).get("SecondsToCatalogued", []) == [2.5] * times


def test_what_is_not_final_is_counted(
    handle: Handle, simulator: Simulator, logged: Callable[[], str]
) -> None:
    recording = simulator.world.record_meeting(status=Status.RECORDING)

    handle(about(recording.id))

    assert counted(logged())["RecordingNotFinal"] == [1]


def test_all_that_is_logged_about_a_recording_has_its_id_as_correlation_id(
    handle: Handle, simulator: Simulator, logged: Callable[[], str]
) -> None:
    first, second = (simulator.world.record_meeting() for _ in range(2))
    simulator.faults.add(error(503), path=second.id)

    handle(about(first.id), about(second.id))

    lines = [json.loads(line) for line in logged().splitlines()]
    told = {line["message"]: line["correlation_id"] for line in lines if "message" in line}
    assert told == {"recording ingested": first.id, "postponed": second.id}


def test_an_erasure_is_gone_on_with(
    handle: Handle,
    simulator: Simulator,
    catalogue: Catalogue,
    clock: Clock,
    checks: Checks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording = simulator.world.record_meeting()
    handle(about(recording.id))
    catalogue.begin_erasure(recording.id, clock())
    monkeypatch.setattr(ingest_recording, "ARCHIVING", False)

    assert (
        handle({"v": 1, "source": "follow_up", "task": "erase", "recording_id": recording.id}) == []
    )

    row = catalogue.get(recording.id)
    assert row is not None
    assert set(row) == {"recording_id", "erased_at", "version"}
    assert checks() == {}


def test_an_erasure_of_files_out_of_reach_is_said_and_not_done(
    handle: Handle,
    simulator: Simulator,
    catalogue: Catalogue,
    worklist: Worklist,
    checks: Checks,
    logged: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingest_recording, "ARCHIVING", False)
    recording = simulator.world.record_meeting()
    handle(about(recording.id))
    state = {"state": "archived", "bucket": "former", "key": "k", "size": 1, "archived_at": "x"}
    before = catalogue.record_archive(recording.id, {"video": state})
    message = {"task": "erase", "recording_id": recording.id}
    worklist.check_in(AnyRequest(f"erase#{recording.id}", message), "erasing")

    assert handle({"v": 1, "source": "follow_up", **message}) == []

    assert catalogue.get(recording.id) == before
    assert checks() == {f"erase#{recording.id}": "archive_unreachable"}
    assert "files out of reach" in logged()


def test_a_recording_that_cannot_be_written_is_told_and_neither_poison_nor_followed(
    handle: Handle,
    simulator: Simulator,
    recordings_table: Table,
    checks: Checks,
    logged: Callable[[], str],
) -> None:
    recording, other = simulator.world.record_meeting(), simulator.world.record_meeting()
    key = {"recording_id": recording.id}
    recordings_table.update(key, "SET #padding = :padding", {"padding": "x" * 404_000})

    assert handle(about(recording.id), about(other.id)) == []

    assert recordings_table.get({"recording_id": other.id}) is not None
    assert f"recording#{recording.id}" not in checks()
    log = logged()
    assert "recording unwritable" in log
    assert '"RecordingUnwritable":[1.0]' in log.replace(" ", "")


def test_a_check_of_a_row_that_is_final_already_is_settled_when_it_is_asked_for(
    handle: Handle, simulator: Simulator, worklist: Worklist, checks: Checks
) -> None:
    recording = simulator.world.record_meeting()
    handle(about(recording.id))
    key = f"recording#{recording.id}"
    worklist.check_in(AnyRequest(key, {"recording_id": recording.id}), "not_final")

    handle(about(recording.id, source="follow_up"))

    assert checks() == {}


@dataclass
class Renamed(Effect):
    """One id is given out in the place of another."""

    before_it: str
    after_it: str

    def after(self, response: Any) -> Any:
        response.set_data(response.get_data(as_text=True).replace(self.before_it, self.after_it))
        return response


def test_a_sessions_recordings_are_found_between_many_of_another(
    handle: Handle, simulator: Simulator, catalogue: Catalogue
) -> None:
    """Each of the session's recordings allows as many others after it as the first."""
    meeting = simulator.world.create_meeting()
    first = simulator.world.clock.now() - timedelta(days=1)
    recordings = [
        simulator.world.record_meeting(
            meeting=meeting, started_at=first + timedelta(seconds=60 * number), duration=10
        )
        for number in range(122)
    ]
    older, newer = recordings[0], recordings[61]
    simulator.faults.add(Renamed(older.session.id, newer.session.id), times=None)

    handle(ended(meeting.id, newer.session.id))

    assert catalogue.get(newer.id) is not None
    assert catalogue.get(older.id) is not None


@pytest.mark.parametrize(("used", "cause"), [(46, "unavailable"), (47, "budget_spent")])
def test_the_function_uses_all_of_its_budget_and_leaves_its_checks_in_its_table(
    secretsmanager: Any, work_table: Table, context: Context, used: int, cause: str
) -> None:
    """The handler runs as deployed, with nothing replaced; its RealtimeKit address has no server."""
    UpstreamBudget(work_table, APP_ID, 21 * used, utcnow).close(300)
    body = json.dumps(about("97cb480d-5840-4528-ace3-919b5e386c68"))
    record = {"messageId": "1", "body": body, "attributes": {"SentTimestamp": str(SENT_AT)}}

    answer = ingest_recording.handler({"Records": [record]}, context)

    assert answer == {"batchItemFailures": []}
    a_day_on = Worklist(work_table, lambda: utcnow() + timedelta(days=1))
    assert [check.cause for check in a_day_on.due(10)] == [cause]


# --- when a recording is fetched again ---


@pytest.mark.parametrize(
    ("source", "status", "seconds"),
    [("follow_up", "UPLOADING", 300), ("webhook", "RECORDING", 3600)],
    ids=["another status", "another message"],
)
def test_another_status_and_another_message_start_a_check_anew(
    handle: Handle,
    simulator: Simulator,
    worklist: Worklist,
    clock: Clock,
    source: str,
    status: str,
    seconds: int,
) -> None:
    recording = simulator.world.record_meeting(status=Status.RECORDING)
    handle(about(recording.id))
    clock.advance(3600)
    simulator.faults.add(Overlay({"status": status}))

    handle(about(recording.id, source=source))

    clock.advance(seconds - 1)
    assert worklist.due(10) == []
    clock.advance(1)
    assert len(worklist.due(10)) == 1


def test_of_what_a_list_names_an_upload_is_checked_in_five_minutes_and_a_live_recording_in_one(
    handle: Handle, simulator: Simulator, worklist: Worklist, clock: Clock
) -> None:
    """A session has ended: what was live when it was listed has most likely stopped."""
    meeting = simulator.world.create_meeting()
    uploading = simulator.world.record_meeting(meeting=meeting, status=Status.UPLOADING)
    live = simulator.world.record_meeting(meeting=meeting, status=Status.RECORDING)

    handle(ended(meeting.id, ""))

    clock.advance(299)
    [check] = worklist.due(10)
    assert (check.key, check.cause) == (f"recording#{live.id}", "not_final")
    assert check.seconds_due(clock()) == 239
    clock.advance(1)
    assert f"recording#{uploading.id}" in {check.key for check in worklist.due(10)}


def test_only_the_details_of_what_a_sweep_lists_have_low_priority(
    handle: Handle, simulator: Simulator, worklist: Worklist, clock: Clock
) -> None:
    swept, told = simulator.world.record_meetings(2)

    handle(
        ended(swept.session.meeting.id, swept.session.id, source="sweep"),
        ended(told.session.meeting.id, told.session.id, source="webhook"),
    )

    clock.advance(60)
    assert {check.key: check.low_priority for check in worklist.due(10)} == {
        f"recording#{swept.id}": True,
        f"recording#{told.id}": False,
    }


def test_a_check_that_is_throttled_waits_for_as_long_as_realtimekit_says(
    handle: Handle, simulator: Simulator, worklist: Worklist, clock: Clock
) -> None:
    recording = simulator.world.record_meeting()
    simulator.faults.add(error(503))
    handle(about(recording.id))
    since = clock()
    clock.advance(60)
    simulator.faults.add(rate_limited(3000))

    handle(about(recording.id, source="follow_up"))

    clock.advance(2999)
    assert worklist.due(10) == []
    clock.advance(1)
    assert [(check.cause, check.since) for check in worklist.due(10)] == [("throttled", since)]


def test_a_live_recording_that_is_listed_again_is_checked_a_minute_later(
    handle: Handle, simulator: Simulator, worklist: Worklist, clock: Clock
) -> None:
    recording = simulator.world.record_meeting(status=Status.RECORDING)
    # Without its session the meeting's list is read, whichever recordings are known.
    message = ended(recording.session.meeting.id, "")
    handle(message)
    clock.advance(60)
    assert len(worklist.due(10)) == 1

    handle(message)

    clock.advance(59)
    assert worklist.due(10) == []
    clock.advance(1)
    assert len(worklist.due(10)) == 1


@pytest.mark.parametrize(("milliseconds", "is_left"), [(0, True), (1, False)])
def test_a_recording_is_forgotten_when_it_ended_more_than_seven_days_ago(
    handle: Handle,
    simulator: Simulator,
    catalogue: Catalogue,
    checks: Checks,
    clock: Clock,
    milliseconds: int,
    is_left: bool,
) -> None:
    recording = simulator.world.record_meeting()
    handle(ended(recording.session.meeting.id, recording.session.id))
    row = catalogue.get(recording.id)
    assert row is not None
    end = datetime.fromisoformat(row["stopped_at"])
    clock.advance((end - clock()).total_seconds() + 7 * 86_400 + milliseconds / 1000)
    simulator.faults.add(error(404))

    handle(about(recording.id, source="follow_up"))

    assert bool(checks()) == is_left


@pytest.mark.parametrize(("days", "cause"), [(8, None), (6, "not_found")])
def test_a_recording_that_has_no_end_is_forgotten_by_its_beginning(
    handle: Handle,
    simulator: Simulator,
    checks: Checks,
    clock: Clock,
    days: int,
    cause: str | None,
) -> None:
    recording = simulator.world.record_meeting(status=Status.ERRORED)
    simulator.faults.add(Overlay({"stopped_time": None}))
    handle(about(recording.id))
    clock.advance(days * 86_400)
    simulator.faults.add(error(404))

    handle(about(recording.id, source="follow_up"))

    assert checks() == ({f"recording#{recording.id}": cause} if cause else {})


def test_an_old_recording_that_was_not_final_is_still_asked_for(
    handle: Handle, simulator: Simulator, checks: Checks, clock: Clock
) -> None:
    recording = simulator.world.record_meeting(status=Status.RECORDING)
    handle(about(recording.id))
    clock.advance(8 * 86_400)
    simulator.faults.add(error(404))

    handle(about(recording.id, source="follow_up"))

    assert checks() == {f"recording#{recording.id}": "not_found"}


def test_a_session_of_whose_rows_none_can_be_written_is_told_of_once(
    handle: Handle,
    simulator: Simulator,
    recordings_table: Table,
    logged: Callable[[], str],
) -> None:
    """They are as large as an item may be."""
    session = simulator.world.start_session(simulator.world.create_meeting())
    for _ in range(4):
        simulator.world.start_recording(session, allow_multiple=True)
    simulator.world.end_session(session)
    simulator.world.clock.advance(3600)
    for recording in session.recordings:
        recordings_table.update(
            {"recording_id": recording.id},
            "SET #version = :version, #note = :note",
            {"version": 1, "note": "x" * 404_700},
        )

    assert handle(ended(session.meeting.id, session.id)) == []
    assert logged().count("recording unwritable") == 1
