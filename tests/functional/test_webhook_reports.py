"""Webhooks' reports, and when a recording is fetched: bodies by the simulator, rows by moto."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

import ingest_recording
from doubles import APP_ID, Clock, Context
from realtimekit_simulator import Recording, Simulator, Stale, Status, error
from recordings import messages, webhook
from recordings.budget import UpstreamBudget
from recordings.catalogue import Catalogue
from recordings.dynamodb import Table, UnwritableError
from recordings.ingestion import Ingestion
from recordings.model import Recording as View
from recordings.model import timestamp
from recordings.rows import Row
from recordings.worklist import Worklist, utcnow

Checks = Callable[[], dict[str, str]]
ANOTHER_APP = "c94c437b-592a-4a39-b9e2-47ef1451e43b"
# The clock stands still at 10:30.
NOW = "2026-06-03T10:30:00.000Z"
LIFE = ("INVOKED", "RECORDING", "UPLOADING", "UPLOADED")


@dataclass
class Stage:
    """The ingest function, with the webhooks of a simulated RealtimeKit as its messages."""

    simulator: Simulator
    catalogue: Catalogue
    worklist: Worklist
    work_table: Table
    clock: Clock
    checks: Checks

    def handle(self, *bodies: str) -> list[str]:
        """Hand over messages in one batch, and return the ids of those that stay on the queue."""
        records = [
            {"messageId": str(n), "body": body, "attributes": {"SentTimestamp": "1780482600000"}}
            for n, body in enumerate(bodies)
        ]
        answer = ingest_recording.handler({"Records": records}, Context())
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def bodies(self, recording: Recording, **changed: Any) -> dict[str, str]:
        """Return the messages of a recording's webhooks by status, and that of its meeting's end.

        `changed` are changed fields of the webhooks' `recording`.
        """
        world = self.simulator.world
        until = world.clock.now() + timedelta(seconds=1)
        events = world.timeline(recording.session.started_at, until)
        found = {}
        for event in events:
            if event.recording is recording or event.name == "meeting.ended":
                content = json.loads(self.simulator.webhooks.message(event).body)
                if event.recording:
                    content["recording"] |= changed
                request = webhook.ingest_request(webhook.parse(json.dumps(content).encode()))
                assert request is not None
                found[str(event.status or event.name)] = messages.body(request)
        return found

    def fetch(self, recording: Recording, status: Status) -> None:
        """Catalogue a recording by a fetch that finds it in this status."""
        self.simulator.faults.add(Stale(status))
        message = {"v": 1, "source": "follow_up", "recording_id": recording.id}
        self.handle(json.dumps(message))
        self.simulator.request_log.clear()

    def spend(self, requests: int = 47) -> None:
        """Let so many requests of the budget's present window, of 47, be used."""
        UpstreamBudget(self.work_table, APP_ID, 21 * requests, self.clock).close(0)

    def row(self, recording: Recording) -> Row:
        row = self.catalogue.get(recording.id)
        assert row is not None
        return row

    def fetched(self) -> list[str]:
        """Return the last parts of the paths of all requests to RealtimeKit."""
        return [request.path.rpartition("/")[2] for request in self.simulator.requests]


@pytest.fixture
def stage(
    simulator: Simulator,
    ingestion: Ingestion,
    catalogue: Catalogue,
    worklist: Worklist,
    work_table: Table,
    clock: Clock,
    checks: Checks,
    monkeypatch: pytest.MonkeyPatch,
) -> Stage:
    monkeypatch.setattr(ingest_recording, "ingestion", ingestion)
    return Stage(simulator, catalogue, worklist, work_table, clock, checks)


def test_an_ordinary_life_costs_two_requests(stage: Stage) -> None:
    """The first fetch gets the details that webhooks lack, the last the final attributes."""
    recording = stage.simulator.world.record_meeting()
    bodies = stage.bodies(recording)
    stage.simulator.faults.add(Stale(Status.RECORDING))

    for event in ("RECORDING", "meeting.ended", "UPLOADING", "UPLOADED"):
        assert stage.handle(bodies[event]) == []

    assert stage.fetched() == [recording.id, recording.id]
    row = stage.row(recording)
    assert [entry["status"] for entry in row["status_history"]] == list(LIFE[1:])
    assert row["stop_reason"] == {"reason": "ALL_PEERS_LEFT"}
    assert row["meeting_title"] == "Weekly sync"
    assert "invoked_at_from" not in row
    assert stage.checks() == {}


@pytest.mark.parametrize(
    "order",
    [LIFE[::-1], ("RECORDING", "UPLOADED", "INVOKED", "UPLOADING"), (*LIFE, *LIFE, *LIFE[::-1])],
    ids=["reversed", "mixed", "repeated"],
)
@pytest.mark.parametrize("is_batch", [False, True], ids=["one by one", "in a batch"])
def test_in_whichever_order_webhooks_come_the_row_is_the_fetched_one(
    stage: Stage, order: tuple[str, ...], is_batch: bool
) -> None:
    recording = stage.simulator.world.record_meeting()
    bodies = stage.bodies(recording)
    stage.spend(23)

    batches = [order] if is_batch else [(status,) for status in order]
    for batch in batches:
        assert stage.handle(*(bodies[status] for status in batch)) == []

    row = stage.row(recording)
    assert (row["status"], row["duration_seconds"], row["archived"]) == ("UPLOADED", 1800, "no")
    assert row["artifacts"]["video"]["url"].startswith(stage.simulator.url)
    assert "invoked_at_from" not in row
    assert stage.checks() == {}


def test_a_known_recording_goes_on_as_reported_and_keeps_its_check(stage: Stage) -> None:
    recording = stage.simulator.world.record_meeting()
    stage.fetch(recording, Status.RECORDING)

    stage.handle(stage.bodies(recording)["UPLOADING"])

    row = stage.row(recording)
    assert (row["status"], row["fetched_at"]) == ("UPLOADING", NOW)
    assert row["stopped_at"] == "2026-06-03T10:29:40.000Z"
    assert stage.fetched() == []
    stage.clock.advance(3599)
    assert stage.worklist.due(10) == []
    stage.clock.advance(1)
    assert [check.key for check in stage.worklist.due(10)] == [f"recording#{recording.id}"]


@pytest.mark.parametrize("event", ["UPLOADING", "meeting.ended"])
def test_a_known_recording_without_a_check_gets_one_that_is_due_soon(
    stage: Stage, event: str
) -> None:
    recording = stage.simulator.world.record_meeting()
    stage.fetch(recording, Status.UPLOADING)
    stage.worklist.settle(f"recording#{recording.id}")

    stage.handle(stage.bodies(recording)[event])

    stage.clock.advance(299)
    assert stage.worklist.due(10) == []
    stage.clock.advance(1)
    assert [check.key for check in stage.worklist.due(10)] == [f"recording#{recording.id}"]


@pytest.mark.parametrize("status", ["INVOKED", "RECORDING", "UPLOADING"])
def test_an_old_webhook_of_a_final_recording_changes_nothing_and_costs_no_request(
    stage: Stage, status: str
) -> None:
    recording = stage.simulator.world.record_meeting()
    bodies = stage.bodies(recording)
    stage.handle(bodies["UPLOADED"])
    before = stage.row(recording)
    stage.clock.advance(86_400)

    for _ in range(3):
        assert stage.handle(bodies[status]) == []

    assert stage.row(recording) == before
    assert stage.fetched() == [recording.id]
    assert stage.checks() == {}


def test_a_repeated_webhook_overwrites_nothing_that_changed_since(stage: Stage) -> None:
    recording = stage.simulator.world.record_meeting()
    stage.fetch(recording, Status.RECORDING)
    view = View(recording_id=recording.id, status="RECORDING", meeting_title="Renamed")
    stage.catalogue.upsert(view, stage.clock())

    stage.handle(stage.bodies(recording)["RECORDING"])

    assert stage.row(recording)["meeting_title"] == "Renamed"


def test_replays_postpone_no_check(stage: Stage) -> None:
    """The fetch of the last status failed, so its check is due in a minute."""
    recording = stage.simulator.world.record_meeting()
    bodies = stage.bodies(recording)
    stage.fetch(recording, Status.INVOKED)
    stage.simulator.faults.add(error(503))
    stage.handle(bodies["UPLOADED"])

    for event in ("RECORDING", "UPLOADING", "RECORDING", "meeting.ended", "INVOKED"):
        stage.clock.advance(12)
        stage.handle(bodies[event])

    assert [check.cause for check in stage.worklist.due(10)] == ["unavailable"]
    assert stage.row(recording)["status"] == "UPLOADING"


def test_a_webhook_whose_check_could_not_be_left_comes_again_and_leaves_it(
    stage: Stage, dynamodb: Any
) -> None:
    recording = stage.simulator.world.record_meeting()
    stage.fetch(recording, Status.RECORDING)
    stage.worklist.settle(f"recording#{recording.id}")
    body = stage.bodies(recording)["UPLOADING"]
    codes = ["InternalServerError"]

    def fail(model: Any, params: Any, **_: Any) -> None:
        if codes and b"WorkTable" in params["body"]:
            raise ClientError({"Error": {"Code": codes.pop()}}, model.name)

    dynamodb.meta.events.register("before-call.dynamodb.UpdateItem", fail)

    assert stage.handle(body) == ["0"]
    assert stage.row(recording)["status"] == "UPLOADING"
    assert stage.checks() == {}
    assert stage.handle(body) == []
    assert stage.checks() == {f"recording#{recording.id}": "not_final"}


def test_a_pause_and_its_end_are_fetched_because_they_take_turns(stage: Stage) -> None:
    recording = stage.simulator.world.record_meeting(status=Status.PAUSED)
    follow_up = {"v": 1, "source": "follow_up", "recording_id": recording.id}
    stage.handle(json.dumps(follow_up))

    stage.handle(stage.bodies(recording)["RECORDING"])

    assert stage.row(recording)["status"] == "PAUSED"
    assert stage.fetched().count(recording.id) == 2


@pytest.mark.parametrize("status", ["TRANSCODING", "", None])
def test_a_status_that_nobody_documented_is_fetched(stage: Stage, status: str | None) -> None:
    recording = stage.simulator.world.record_meeting()
    stage.fetch(recording, Status.INVOKED)

    stage.handle(stage.bodies(recording, status=status)["RECORDING"])

    assert stage.row(recording)["status"] == "UPLOADED"
    assert stage.fetched() == [recording.id]


def test_an_erased_recording_is_not_fetched_for_a_report(stage: Stage) -> None:
    recording = stage.simulator.world.record_meeting()
    bodies = stage.bodies(recording)
    stage.handle(bodies["UPLOADED"])
    row = stage.catalogue.begin_erasure(recording.id, stage.clock())
    assert row
    tombstone = stage.catalogue.bury(row, stage.clock())

    assert stage.handle(bodies["UPLOADING"]) == []

    assert stage.catalogue.get(recording.id) == tombstone
    assert stage.fetched() == [recording.id]
    assert stage.checks() == {}


# --- whose recording it is ---


@pytest.mark.parametrize("organization", [APP_ID, APP_ID.upper()])
def test_without_budget_a_new_recording_of_our_app_is_catalogued_as_reported(
    stage: Stage, organization: str
) -> None:
    recording = stage.simulator.world.record_meeting()
    bodies = stage.bodies(recording, organizationId=organization)
    stage.spend()

    assert stage.handle(bodies["INVOKED"]) == []

    row = stage.row(recording)
    assert (row["status"], row["invoked_at_from"]) == ("INVOKED", "first_seen_at")
    assert row["meeting_id"] == recording.session.meeting.id
    assert stage.checks() == {f"recording#{recording.id}": "not_final"}
    assert stage.fetched() == []

    stage.clock.advance(15)
    stage.handle(bodies["UPLOADED"])
    row = stage.row(recording)
    assert (row["status"], row["invoked_at"]) == ("UPLOADED", "2026-06-03T09:59:37.000Z")
    assert "invoked_at_from" not in row


@pytest.mark.parametrize(
    ("fields", "days"),
    [
        # Another organisation, none, and a replay of a recording that is over long since.
        ({"organizationId": ANOTHER_APP}, 0),
        ({"organizationId": None}, 0),
        ({}, 2),
    ],
    ids=["another app", "no organisation", "old"],
)
def test_without_budget_a_new_recording_that_may_not_be_ours_waits_for_its_fetch(
    stage: Stage, fields: Mapping[str, Any], days: int
) -> None:
    recording = stage.simulator.world.record_meeting()
    body = stage.bodies(recording, **fields)["RECORDING"]
    stage.clock.advance(days * 86_400)
    stage.spend()

    assert stage.handle(body) == []

    assert stage.catalogue.get(recording.id) is None
    assert stage.checks() == {f"recording#{recording.id}": "budget_spent"}


@pytest.mark.parametrize("organization", [APP_ID, ANOTHER_APP])
def test_a_recording_that_realtimekit_does_not_know_gets_no_row(
    stage: Stage, organization: str
) -> None:
    recording = stage.simulator.world.record_meeting()
    stage.simulator.faults.add(error(404))

    stage.handle(stage.bodies(recording, organizationId=organization)["INVOKED"])

    assert stage.catalogue.get(recording.id) is None
    assert stage.checks() == {f"recording#{recording.id}": "not_found"}


def test_a_report_of_another_organisation_about_a_known_recording_is_not_believed(
    stage: Stage,
) -> None:
    recording = stage.simulator.world.record_meeting()
    stage.simulator.faults.add(Stale(Status.INVOKED))
    stage.handle(stage.bodies(recording)["INVOKED"])
    stage.simulator.faults.add(Stale(Status.INVOKED))

    stage.handle(stage.bodies(recording, organizationId=ANOTHER_APP)["UPLOADING"])

    assert stage.row(recording)["status"] == "INVOKED"
    assert stage.fetched() == [recording.id, recording.id]


def test_a_row_that_is_not_ours_proves_nothing(stage: Stage, recordings_table: Table) -> None:
    """The row was made by an owner, or by another app's stack that once shared the table."""
    recording = stage.simulator.world.record_meeting()
    key = {"recording_id": recording.id}
    recordings_table.update(key, "SET #app_id = :app_id", {"app_id": ANOTHER_APP})
    stage.simulator.faults.add(error(404))

    stage.handle(stage.bodies(recording)["RECORDING"])

    assert "status" not in (recordings_table.get(key) or {})
    assert stage.checks() == {f"recording#{recording.id}": "not_found"}


@pytest.mark.parametrize("lost", ["first_seen_at", "status"])
def test_a_row_that_an_owner_damaged_is_fetched_for_an_old_webhook(
    stage: Stage, recordings_table: Table, lost: str
) -> None:
    """A report would fill the gap with a time before all others, by which files expire."""
    recording = stage.simulator.world.record_meeting()
    bodies = stage.bodies(recording)
    stage.handle(bodies["UPLOADED"])
    key = {"recording_id": recording.id}
    before = recordings_table.get(key) or {}
    recordings_table.set_attributes(key, {"note": "by hand"}, remove=[lost, "meeting_title"])

    assert stage.handle(bodies["RECORDING"]) == []

    assert (recordings_table.get(key) or {})[lost] == before[lost]
    assert stage.fetched() == [recording.id, recording.id]


@pytest.mark.parametrize("source", ["eventbridge", "follow_up", "sweep"])
def test_only_a_webhooks_message_may_report(stage: Stage, source: str) -> None:
    recording = stage.simulator.world.record_meeting()
    stage.fetch(recording, Status.INVOKED)
    body = stage.bodies(recording)["RECORDING"].replace('"webhook"', f'"{source}"')

    stage.handle(body)

    assert stage.row(recording)["status"] == "UPLOADED"
    assert stage.fetched() == [recording.id]


@pytest.mark.parametrize(("used", "is_reported"), [(22, False), (23, True)])
def test_the_fetch_of_a_new_recording_leaves_half_of_the_budget_to_others(
    secretsmanager: Any,
    catalogue: Catalogue,
    work_table: Table,
    context: Context,
    used: int,
    is_reported: bool,
) -> None:
    """The handler runs as deployed; its RealtimeKit address has no server."""
    UpstreamBudget(work_table, APP_ID, 21 * used, utcnow).close(300)
    hint = {"organization_id": APP_ID, "session_started_at": timestamp(utcnow())}
    bodies = [
        {"recording_id": "97cb480d-5840-4528-ace3-919b5e386c68"},
        {
            "recording_id": "e4b06ce6-0741-47a8-bce4-2c8218072e8c",
            "hint": {**hint, "report": {"status": "INVOKED"}},
        },
    ]
    records = [
        {
            "messageId": str(n),
            "body": json.dumps({"v": 1, "source": "webhook", **body}),
            "attributes": {"SentTimestamp": "1780482600000"},
        }
        for n, body in enumerate(reversed(bodies))
    ]

    assert ingest_recording.handler({"Records": records}, context) == {"batchItemFailures": []}

    row = catalogue.get("e4b06ce6-0741-47a8-bce4-2c8218072e8c")
    assert (row is not None) == is_reported
    a_day_on = Worklist(work_table, lambda: utcnow() + timedelta(days=1))
    causes = {check.key[-1]: check.cause for check in a_day_on.due(10)}
    assert causes == {"8": "unavailable", "c": "not_final" if is_reported else "unavailable"}


# --- the end of a meeting ---


def test_the_end_of_a_meeting_leaves_known_recordings_to_their_checks_and_lists_none(
    stage: Stage,
) -> None:
    recording = stage.simulator.world.record_meeting()
    stage.fetch(recording, Status.RECORDING)

    assert stage.handle(stage.bodies(recording)["meeting.ended"]) == []

    assert stage.fetched() == []
    assert stage.row(recording)["session_started_at"] == timestamp(recording.session.started_at)
    stage.clock.advance(3600)
    assert [check.key for check in stage.worklist.due(10)] == [f"recording#{recording.id}"]


def fill(table: Table, recording_id: str) -> None:
    """Leave less room in a row than a time takes."""
    for size in range(409_000, 400_000, -30):
        with contextlib.suppress(UnwritableError):
            padding = {"padding": "x" * size}
            table.update({"recording_id": recording_id}, "SET #padding = :padding", padding)
            return


def test_a_row_that_is_full_does_not_keep_the_sessions_others_from_their_checks(
    stage: Stage, recordings_table: Table
) -> None:
    world = stage.simulator.world
    session = world.start_session(world.create_meeting())
    full, other = (world.start_recording(session, allow_multiple=True) for _ in range(2))
    world.end_session(session)
    for recording in (full, other):
        stage.handle(json.dumps({"v": 1, "source": "sweep", "recording_id": recording.id}))
    fill(recordings_table, full.id)
    world.clock.advance(3600)
    stage.simulator.request_log.clear()

    assert stage.handle(stage.bodies(full)["meeting.ended"]) == []

    assert stage.fetched() == []
    stage.clock.advance(3600)
    due = {check.key for check in stage.worklist.due(10)}
    assert due == {f"recording#{recording.id}" for recording in (full, other)}


def test_the_end_of_a_meeting_with_a_finished_recording_does_nothing(stage: Stage) -> None:
    recording = stage.simulator.world.record_meeting()
    bodies = stage.bodies(recording)
    stage.handle(bodies["UPLOADED"])
    before = stage.row(recording)

    stage.handle(bodies["meeting.ended"])

    assert stage.fetched() == [recording.id]
    assert stage.row(recording) == before
    assert stage.checks() == {}


def test_the_end_of_a_meeting_lists_the_meeting_if_no_recording_of_the_session_is_known(
    stage: Stage,
) -> None:
    """Neither an earlier session's recording nor an erased one counts as known."""
    earlier = stage.simulator.world.record_meeting()
    stage.simulator.world.clock.advance(7200)
    meeting = earlier.session.meeting
    latest = stage.simulator.world.record_meeting(meeting=meeting)
    stage.fetch(earlier, Status.UPLOADED)

    stage.handle(stage.bodies(latest)["meeting.ended"])

    assert stage.fetched() == ["recordings"]
    assert stage.row(latest)["status"] == "UPLOADED"


def test_a_failed_list_is_settled_once_a_recording_of_the_session_is_known(stage: Stage) -> None:
    recording = stage.simulator.world.record_meeting()
    bodies = stage.bodies(recording)
    stage.simulator.faults.add(error(503))
    stage.handle(bodies["meeting.ended"])
    stage.handle(bodies["UPLOADED"])
    key = f"session#{recording.session.meeting.id}#{recording.session.id}"
    assert stage.checks() == {key: "unavailable"}

    stage.handle(bodies["meeting.ended"].replace('"webhook"', '"follow_up"'))

    assert stage.checks() == {}
    assert stage.fetched() == ["recordings", recording.id]
