"""From the table's stream to the event bus."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import boto3
import pytest
from botocore.exceptions import ClientError

import publish_changes
from doubles import Clock, Context, drained, sample
from recordings import packing
from recordings.dynamodb import Table
from recordings.events import derive_events
from recordings.model import uuid
from recordings.worklist import Worklist

RECORDING_ID = "e4b06ce6-0741-47a8-bce4-2c8218072e8c"
EXPIRES = "2026-06-10T10:30:00.000Z"
EVENTS = "after-call.eventbridge.PutEvents"


def record(number: int, recording_id: str, status: str, old: str | None = None) -> dict[str, Any]:
    """Return a stream record of a row that came to a status. A recording may have a short name."""

    def image(status: str) -> dict[str, Any]:
        return {
            "recording_id": {"S": uuid(recording_id) or str(uuid5(NAMESPACE_OID, recording_id))},
            "status": {"S": status},
            "first_seen_at": {"S": "2026-06-03T10:00:01.000Z"},
            "version": {"N": str(number)},
        }

    images = {"NewImage": image(status)} | ({"OldImage": image(old)} if old else {})
    return {"dynamodb": {"SequenceNumber": str(number), **images}}


Published = Callable[[], list[dict[str, Any]]]
Handle = Callable[..., list[str]]


@pytest.fixture
def bus(dynamodb: Any) -> Any:
    """Return a bus, and a queue that subscribes to all events of ours."""
    events = boto3.client("events")
    events.create_event_bus(Name="EventBus")
    queue = boto3.resource("sqs").create_queue(
        QueueName="subscriber.fifo",
        Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"},
    )
    pattern = json.dumps({"source": ["realtimekit.recordings"]})
    events.put_rule(Name="all", EventBusName="EventBus", EventPattern=pattern)
    target: Any = {
        "Id": "queue",
        "Arn": queue.attributes["QueueArn"],
        "SqsParameters": {"MessageGroupId": "all"},
    }
    events.put_targets(Rule="all", EventBusName="EventBus", Targets=[target])
    return queue


@pytest.fixture
def published(bus: Any) -> Published:
    return lambda: drained(bus)


@pytest.fixture
def handle(
    context: Context, dynamodb: Any, worklist: Worklist, clock: Clock, monkeypatch: Any
) -> Handle:
    """Give the function stream records; from which on the stream is to be read again."""

    for name in ("ArchiveQueue", "UrgentArchiveQueue"):
        boto3.client("sqs").create_queue(QueueName=name)
    monkeypatch.setattr(publish_changes, "worklist", worklist)
    monkeypatch.setattr(publish_changes, "utcnow", clock)
    publish_changes.queued.clear()

    def handle(*records: dict[str, Any]) -> list[str]:
        answer = publish_changes.handler({"Records": list(records)}, context)
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    return handle


@pytest.fixture
def refuse(bus: Any) -> Iterator[Callable[[Callable[[int], bool]], None]]:
    """Let the bus refuse entries, by their place among all that were ever sent."""
    hooks = publish_changes.eventbridge.meta.events
    installed: list[Any] = []
    sent = 0

    def install(refuses: Callable[[int], bool]) -> None:
        def hook(parsed: dict[str, Any], **_: Any) -> None:
            nonlocal sent
            for place, _entry in enumerate(parsed["Entries"]):
                if refuses(sent):
                    parsed["Entries"][place] = {"ErrorCode": "InternalFailure"}
                    parsed["FailedEntryCount"] = parsed.get("FailedEntryCount", 0) + 1
                sent += 1

        hooks.register(EVENTS, hook)
        installed.append(hook)

    yield install
    for hook in installed:
        hooks.unregister(EVENTS, hook)


def test_the_sample_tells_of_an_upload_without_its_url(
    handle: Handle, published: Published
) -> None:
    assert handle(*sample("publish-changes.recording-uploaded")["Records"]) == []

    [event] = published()
    assert event["source"] == "realtimekit.recordings"
    assert event["detail-type"] == "Recording Uploaded"
    assert event["detail"] == {
        "id": f"{RECORDING_ID}#2",
        "recording_id": RECORDING_ID,
        "app_id": "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13",
        "meeting_id": "78e51061-7311-48a3-82ce-6f447ed4d57b",
        "session_id": "35bf992d-c9e9-4616-a12e-7696a6cecc1b",
        "status": "UPLOADED",
        "invoked_at": "2026-06-03T10:00:01.000Z",
        "started_at": "2026-06-03T10:00:04.000Z",
        "stopped_at": "2026-06-03T10:30:04.000Z",
        "duration_seconds": 1800,
        "file_size": 149999400,
        "version": 2,
    }


@pytest.mark.parametrize(
    ("old", "new", "types"),
    [
        (None, "INVOKED", ["Recording Catalogued"]),
        (None, "UPLOADED", ["Recording Catalogued", "Recording Uploaded"]),
        (None, "ERRORED", ["Recording Catalogued", "Recording Errored"]),
        ("INVOKED", "RECORDING", []),
        ("UPLOADING", "UPLOADED", ["Recording Uploaded"]),
        ("RECORDING", "ERRORED", ["Recording Errored"]),
        ("UPLOADED", "UPLOADED", []),
        ("UPLOADED", "TRANSCODING", []),
    ],
)
def test_what_a_change_is_to_subscribers(
    handle: Handle, published: Published, old: str | None, new: str, types: list[str]
) -> None:
    assert handle(record(1, RECORDING_ID, new, old)) == []

    assert [event["detail-type"] for event in published()] == types


def test_a_deleted_row_is_no_event(handle: Handle, published: Published) -> None:
    images = record(1, RECORDING_ID, "UPLOADED")["dynamodb"]

    assert handle({"dynamodb": {"SequenceNumber": "1", "OldImage": images["NewImage"]}}) == []
    assert published() == []


def test_more_changes_than_one_call_holds_are_all_published_in_order(
    handle: Handle, published: Published
) -> None:
    records = [record(n, f"recording-{n}", "INVOKED") for n in range(25)]

    assert handle(*records) == []

    assert [event["detail"]["version"] for event in published()] == list(range(25))


def test_a_refused_entry_is_tried_again_at_once(
    handle: Handle, published: Published, refuse: Any
) -> None:
    refuse(lambda place: place == 1)

    assert handle(*[record(n, f"recording-{n}", "INVOKED") for n in (1, 2, 3)]) == []

    # It came in spite of what the bus of this test said; again with FIFO's deduplication it is one.
    assert {event["detail"]["version"] for event in published()} == {1, 2, 3}


def test_what_stays_refused_is_where_the_stream_goes_on(handle: Handle, refuse: Any) -> None:
    refuse(lambda place: True)

    assert handle(*[record(n, f"recording-{n}", "INVOKED") for n in (98, 99, 100)]) == ["98"]


def test_of_one_recordings_events_a_later_one_does_not_overtake_a_refused_one(
    handle: Handle, published: Published, refuse: Any
) -> None:
    refuse(lambda place: True)
    records = [record(1, RECORDING_ID, "INVOKED"), record(2, RECORDING_ID, "UPLOADED", "INVOKED")]

    assert handle(*records) == ["1"]

    assert {event["detail-type"] for event in published()} == {"Recording Catalogued"}


def test_a_bus_that_is_down_leaves_the_records_in_the_stream(
    handle: Handle, dynamodb: Any, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    def fail(**_: Any) -> None:
        raise publish_changes.eventbridge.exceptions.InternalException(
            {"Error": {"Code": "InternalException", "Message": "down"}}, "PutEvents"
        )

    hooks = publish_changes.eventbridge.meta.events
    hooks.register("before-call.eventbridge.PutEvents", fail)
    try:
        assert handle(record(7, RECORDING_ID, "INVOKED")) == ["7"]
    finally:
        hooks.unregister("before-call.eventbridge.PutEvents", fail)

    assert "PutEvents failed" in logged()


def test_no_attribute_that_is_a_credential_or_personal_can_be_told() -> None:
    row = {
        "recording_id": RECORDING_ID,
        "status": "UPLOADED",
        "version": 1,
        "meeting_title": "canary",
        "file_name": "canary",
        "start_reason": {"caller": {"name": "canary"}},
        "artifacts": {"video": {"url": "https://example.com/?canary"}},
        "storage": {"bucket": "canary"},
    }

    [catalogued, uploaded] = derive_events(None, row)

    assert "canary" not in catalogued.detail + uploaded.detail


# --- what is to be archived ---

Queued = Callable[[str], list[dict[str, Any]]]
KEY = f"archive#{RECORDING_ID}"
DAY = 86_400


def uploaded(
    number: int = 2, recording_id: str = RECORDING_ID, expires: str = "2026-06-10T10:30:00.000Z"
) -> dict[str, Any]:
    """Return a stream record of a row that became UPLOADED, with a file to be archived."""
    change = record(number, recording_id, "UPLOADED", "UPLOADING")
    video = {
        "kind": {"S": "video"},
        "url": {"S": "https://x/?canary"},
        "url_expires_at": {"S": expires},
    }
    change["dynamodb"]["NewImage"]["artifacts"] = {"M": {"video": {"M": video}}}
    change["dynamodb"]["NewImage"]["archived"] = {"S": "no"}
    return change


@pytest.fixture
def queued(handle: Handle) -> Queued:
    """Return the messages on the queue of that name."""

    return lambda name: drained(boto3.resource("sqs").get_queue_by_name(QueueName=name))


@pytest.fixture
def break_down(dynamodb: Any) -> Iterator[Callable[[Any, str], None]]:
    """Let a client's operation fail."""
    installed: list[tuple[Any, str, Any]] = []

    def install(client: Any, name: str) -> None:
        def fail(**_: Any) -> None:
            raise ClientError({"Error": {"Code": "InternalError"}}, name.rpartition(".")[2])

        client.meta.events.register(name, fail)
        installed.append((client, name, fail))

    yield install
    for client, name, hook in installed:
        client.meta.events.unregister(name, hook)


def test_an_upload_is_queued_to_be_archived_and_checked_on(
    handle: Handle, queued: Queued, bus: Any, worklist: Worklist, clock: Clock
) -> None:
    assert handle(uploaded()) == []

    assert queued("ArchiveQueue") == [
        {
            "v": 1,
            "source": "catalogue",
            "task": "archive",
            "recording_id": RECORDING_ID,
            "deadline": "2026-06-10T10:30:00.000Z",
        }
    ]
    assert queued("UrgentArchiveQueue") == []
    clock.advance(899)
    assert worklist.due(10) == []
    clock.advance(1)
    [check] = worklist.due(10)
    assert (check.key, check.cause) == (KEY, "archive_pending")
    assert check.request == {
        "task": "archive",
        "recording_id": RECORDING_ID,
        "deadline": "2026-06-10T10:30:00.000Z",
    }


def test_an_upload_with_less_than_two_days_left_does_not_stand_in_line(
    handle: Handle, queued: Queued, bus: Any, clock: Clock
) -> None:
    clock.advance(5 * DAY + 1)

    assert handle(uploaded()) == []

    assert queued("ArchiveQueue") == []
    assert [message["recording_id"] for message in queued("UrgentArchiveQueue")] == [RECORDING_ID]


def test_what_is_already_asked_for_is_not_asked_for_again(
    handle: Handle, queued: Queued, bus: Any, checks: Callable[[], dict[str, str]]
) -> None:
    change = uploaded(3)
    change["dynamodb"]["OldImage"] = uploaded(2)["dynamodb"]["NewImage"]

    assert handle(change) == []

    assert queued("ArchiveQueue") == []
    assert checks() == {}


@pytest.mark.parametrize("status", ["INVOKED", "RECORDING", "PAUSED", "UPLOADING", "ERRORED"])
def test_what_is_not_uploaded_is_not_to_be_archived(
    handle: Handle, queued: Queued, bus: Any, checks: Callable[[], dict[str, str]], status: str
) -> None:
    assert handle(record(1, RECORDING_ID, status)) == []

    assert queued("ArchiveQueue") == []
    assert checks() == {}


def test_a_recording_without_files_is_looked_for_without_a_deadline(
    handle: Handle, queued: Queued, bus: Any, worklist: Worklist, clock: Clock
) -> None:
    """Without a deadline the recording is never at risk, however late it was found."""
    clock.advance(30 * 86_400)
    assert handle(record(1, RECORDING_ID, "UPLOADED")) == []

    assert len(queued("ArchiveQueue")) == 1
    assert queued("UrgentArchiveQueue") == []
    clock.advance(900)
    [check] = worklist.due(10)
    assert check.deadline is None


@pytest.mark.parametrize(
    ("found_hours_after_its_end", "due_at", "is_late"),
    [
        (0, "2026-06-03T11:30:00.000Z", False),
        (2, "2026-06-03T12:31:00.000Z", True),
        (30, "2026-06-04T16:31:00.000Z", True),
    ],
)
def test_a_sessions_files_are_looked_for_an_hour_after_the_end_or_soon_if_it_is_found_late(
    handle: Handle,
    bus: Any,
    worklist: Worklist,
    clock: Clock,
    found_hours_after_its_end: int,
    due_at: str,
    is_late: bool,
) -> None:
    """A late look is no haste: a backfill leaves thousands."""
    change = record(1, RECORDING_ID, "ERRORED")
    change["dynamodb"]["NewImage"] |= {
        "session_id": {"S": "35bf992d-c9e9-4616-a12e-7696a6cecc1b"},
        "stopped_at": {"S": "2026-06-03T10:30:00.000Z"},
    }
    clock.advance(found_hours_after_its_end * 3600)

    assert handle(change) == []

    clock.advance(3600)
    [check] = worklist.due(10)
    assert check.key == "session_files#35bf992d-c9e9-4616-a12e-7696a6cecc1b"
    assert (check.due_at[:24], check.low_priority) == (due_at, is_late)


def test_a_file_that_is_offered_after_all_is_asked_for_at_once(
    handle: Handle, queued: Queued, bus: Any
) -> None:
    change = uploaded(7)
    change["dynamodb"]["OldImage"] = record(6, RECORDING_ID, "UPLOADED")["dynamodb"]["NewImage"]
    assert handle(change) == []

    assert len(queued("ArchiveQueue")) == 1
    assert (
        handle({"dynamodb": {**change["dynamodb"], "OldImage": change["dynamodb"]["NewImage"]}})
        == []
    )
    assert queued("ArchiveQueue") == []


def test_switched_off_nothing_is_archived_and_all_is_told(
    handle: Handle,
    queued: Queued,
    published: Published,
    checks: Callable[[], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publish_changes, "ARCHIVE_QUEUE_URL", "")

    assert handle(uploaded()) == []

    assert queued("ArchiveQueue") == []
    assert checks() == {}
    assert [event["detail-type"] for event in published()] == ["Recording Uploaded"]


def test_a_queue_that_is_down_leaves_the_record_in_the_stream_and_a_check(
    handle: Handle,
    published: Published,
    checks: Callable[[], dict[str, str]],
    break_down: Callable[[Any, str], None],
) -> None:
    break_down(publish_changes.sqs, "before-call.sqs.SendMessage")

    batch = (record(6, "first", "INVOKED"), uploaded(7), record(8, "another", "INVOKED"))
    assert handle(*batch) == ["7"]

    assert checks() == {KEY: "archive_pending"}
    # The others are told when they come again; each time, it would be for hours.
    assert len(published()) == 1


def test_a_batch_that_comes_again_leaves_the_check_as_it_is(
    handle: Handle, bus: Any, worklist: Worklist, clock: Clock
) -> None:
    """Or one that is due after a quarter of an hour would never be."""
    handle(uploaded(7))
    clock.advance(600)
    handle(uploaded(7))

    clock.advance(300)

    assert [check.key for check in worklist.due(10)] == [KEY]


def test_without_a_check_nothing_is_queued(
    handle: Handle,
    queued: Queued,
    bus: Any,
    work_table: Table,
    break_down: Callable[[Any, str], None],
) -> None:
    break_down(work_table._dynamodb, "before-call.dynamodb.UpdateItem")

    assert handle(uploaded(7)) == ["7"]

    assert queued("ArchiveQueue") == []


def test_a_check_that_cannot_be_written_does_not_stop_the_stream(
    handle: Handle, queued: Queued, bus: Any, work_table: Table, logged: Callable[[], str]
) -> None:
    work_id = {"work_id": f"check#{KEY}"}
    values = {"at": "2026-06-01T10:00:00.000Z", "padding": "x" * 404_800}
    work_table.update(work_id, "SET #given_up_at = :at, #padding = :padding", values)

    assert handle(uploaded()) == []

    assert [message["recording_id"] for message in queued("ArchiveQueue")] == [RECORDING_ID]
    assert '"RecordingUnwritable":[1.0]' in logged().replace(" ", "")


def test_of_all_that_failed_the_stream_goes_on_from_the_first(
    handle: Handle, bus: Any, refuse: Any, break_down: Callable[[Any, str], None]
) -> None:
    refuse(lambda place: True)
    break_down(publish_changes.sqs, "before-call.sqs.SendMessage")

    assert handle(record(98, "another", "INVOKED"), uploaded(100)) == ["98"]


def test_events_too_large_for_one_call_are_published_in_several(
    handle: Handle, published: Published, dynamodb: Any
) -> None:
    sizes: list[int] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        sizes.append(sum(len(entry["Detail"]) for entry in params["Entries"]))

    def archived(number: int) -> dict[str, Any]:
        change = record(number, f"recording-{number}", "UPLOADED", "UPLOADED")
        state = {
            "state": {"S": "archived"},
            "bucket": {"S": "archive-bucket"},
            "key": {"S": "k" * 1000},
            "size": {"N": "7"},
        }
        artifacts = {
            f"track/{'n' * 1000}/{n}": {"M": {"kind": {"S": "track"}, "archive": {"M": state}}}
            for n in range(50)
        }
        change["dynamodb"]["NewImage"] |= {"artifacts": {"M": artifacts}, "archived": {"S": "yes"}}
        change["dynamodb"]["OldImage"]["archived"] = {"S": "no"}
        return change

    publish_changes.eventbridge.meta.events.register(
        "provide-client-params.events.PutEvents", note, unique_id="note"
    )
    try:
        assert handle(*[archived(n) for n in range(5)]) == []
    finally:
        publish_changes.eventbridge.meta.events.unregister(
            "provide-client-params.events.PutEvents", note, unique_id="note"
        )

    assert [event["detail-type"] for event in published()] == ["Recording Archived"] * 5
    assert len(sizes) > 1
    assert max(sizes) <= 240_000


def test_no_url_is_in_what_is_queued_or_published(
    handle: Handle, queued: Queued, published: Published
) -> None:
    handle(uploaded())

    assert "canary" not in f"{queued('ArchiveQueue')} {published()}"


def test_an_erasure_is_told_and_nothing_is_archived_for_it(
    handle: Handle, queued: Queued, published: Published
) -> None:
    change = uploaded(7)
    change["dynamodb"]["OldImage"] = uploaded(6)["dynamodb"]["NewImage"]
    change["dynamodb"]["NewImage"] = {
        "recording_id": {"S": RECORDING_ID},
        "version": {"N": "7"},
        "erased_at": {"S": "2026-06-04T09:00:00.000Z"},
    }

    assert handle(change) == []

    [event] = published()
    assert event["detail-type"] == "Recording Erased"
    assert queued("ArchiveQueue") == []


# --- rows that are not what we write ---


def foreign(number: int, **attributes: Any) -> dict[str, Any]:
    """Return a stream record of a row that the stack did not write."""
    return {"dynamodb": {"SequenceNumber": str(number), "NewImage": attributes}}


def test_a_foreign_row_holds_up_nobody_and_is_counted(
    handle: Handle, published: Published, logged: Callable[[], str]
) -> None:
    without_version = record(2, "second", "UPLOADED")
    del without_version["dynamodb"]["NewImage"]["version"]
    records = [
        foreign(1, recording_id={"S": "settings"}, version={"N": "1"}),
        without_version,
        foreign(3, recording_id={"S": RECORDING_ID}, version={"S": "one"}),
        foreign(4, recording_id={"S": RECORDING_ID}, version={"BOOL": True}),
        record(5, "fifth", "INVOKED"),
    ]

    assert handle(*records) == []

    assert [event["detail-type"] for event in published()] == ["Recording Catalogued"]
    log = logged()
    assert '"ChangeSkipped":[4.0]' in log.replace(" ", "")
    assert "change skipped" in log


def test_a_row_that_was_the_owners_is_catalogued_when_it_is_taken_over(
    handle: Handle, published: Published
) -> None:
    change = record(1, RECORDING_ID, "INVOKED", "INVOKED")
    change["dynamodb"]["OldImage"] = {"recording_id": {"S": RECORDING_ID}, "notes": {"S": "mine"}}

    assert handle(change) == []

    assert [event["detail-type"] for event in published()] == ["Recording Catalogued"]


def test_an_owners_binary_attribute_is_no_poison(
    handle: Handle, published: Published, queued: Queued
) -> None:
    """A stream record carries a binary attribute as base64 text."""
    change = uploaded(7)
    change["dynamodb"]["NewImage"] |= {"hash": {"B": "AAH/"}, "hashes": {"BS": ["AAH/", "AA=="]}}
    change["dynamodb"]["NewImage"]["artifacts"]["M"]["video"]["M"]["hash"] = {"B": "AAH/"}

    assert handle(change) == []

    assert [event["detail-type"] for event in published()] == ["Recording Uploaded"]
    assert len(queued("ArchiveQueue")) == 1


def test_an_attribute_of_300_kb_is_not_told(handle: Handle, published: Published) -> None:
    """PutEvents would refuse the event, for as long as the stream has it."""
    change = record(7, RECORDING_ID, "INVOKED")
    change["dynamodb"]["NewImage"]["organization_id"] = {"S": "x" * 300_000}

    assert handle(change) == []

    [event] = published()
    assert "organization_id" not in event["detail"]


def test_files_of_a_packed_row_are_archived_and_told(
    handle: Handle, published: Published, queued: Queued
) -> None:
    names = [f"track/default/{n:04}-05e57591-d89e-45c9-ae44-08dc1eaad0e0.webm" for n in range(600)]
    offered = {name: {"kind": "track", "url_expires_at": EXPIRES} for name in names}
    state = {"state": "archived", "bucket": "archive-bucket", "key": "k", "size": 7}
    kept = {name: {**artifact, "archive": state} for name, artifact in offered.items()}

    def image(artifacts: dict[str, Any], archived: str) -> dict[str, Any]:
        packed = packing.pack(artifacts)
        assert packed is not None
        return {
            **record(7, RECORDING_ID, "UPLOADED")["dynamodb"]["NewImage"],
            "archived": {"S": archived},
            "artifacts_packed": {"B": base64.b64encode(packed).decode()},
        }

    first, second = record(7, RECORDING_ID, "UPLOADED", "UPLOADING"), foreign(8)
    first["dynamodb"]["NewImage"] = second["dynamodb"]["OldImage"] = image(offered, "no")
    second["dynamodb"]["NewImage"] = image(kept, "yes")

    assert handle(first, second) == []

    assert [message["deadline"] for message in queued("ArchiveQueue")] == [EXPIRES]
    uploaded_event, archived_event = published()
    assert uploaded_event["detail-type"] == "Recording Uploaded"
    assert archived_event["detail"]["artifact_count"] == 600
    assert len(archived_event["detail"]["artifacts"]) == 50
    assert archived_event["detail"]["artifacts"][0] == {
        "name": names[0],
        "kind": "track",
        "bucket": "archive-bucket",
        "key": "k",
        "size": 7,
    }


def test_while_the_bus_is_down_files_are_asked_for_once(
    handle: Handle, queued: Queued, bus: Any, break_down: Callable[[Any, str], None]
) -> None:
    """Their batch comes again every few seconds, for hours perhaps."""
    break_down(publish_changes.eventbridge, "before-call.eventbridge.PutEvents")

    for _ in range(3):
        assert handle(uploaded(7), uploaded(8, "another")) == ["7"]

    assert len(queued("ArchiveQueue")) == 2


def test_a_finished_recording_without_a_time_of_its_own_is_counted_once(
    handle: Handle, published: Published, logged: Callable[[], str]
) -> None:
    """A row made from a webhook has no such time until the recording is fetched."""
    reported = record(1, RECORDING_ID, "INVOKED")
    final = record(2, RECORDING_ID, "ERRORED", "INVOKED")
    changed = record(3, RECORDING_ID, "ERRORED", "ERRORED")
    for each in (reported, final, changed):
        for image in each["dynamodb"].values():
            if isinstance(image, dict):
                image["invoked_at_from"] = {"S": "first_seen_at"}

    assert handle(reported) == []
    assert "InvokedAtUnknown" not in logged()
    assert handle(final, changed) == []
    assert logged().count('"InvokedAtUnknown":[1.0]') == 1
