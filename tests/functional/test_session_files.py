"""Files of a session: from webhooks and looks to the rows, the bucket and the events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

import archive_recording
import ingest_recording
import publish_changes
import sweep_recordings
from doubles import Clock, Context, s3_fails, sample
from realtimekit_simulator import (
    Drop,
    Effect,
    FileKind,
    Kind,
    Overlay,
    Recording,
    RecordingOptions,
    Resize,
    Session,
    SessionFileOptions,
    Simulator,
    Status,
    Undocumented,
    error,
    garbage,
    rate_limited,
    storage_failure,
    unsuccessful,
)
from recordings import messages, webhook
from recordings.archive import Archive
from recordings.archiver import Archiver
from recordings.budget import UpstreamBudget
from recordings.dynamodb import Table
from recordings.erasure import Erasure
from recordings.ingestion import Ingestion
from recordings.messages import EraseRequest, SessionFilesRequest, Source
from recordings.model import SESSION_FILES
from recordings.sweeper import Sweeper
from recordings.sweeps import Counts, Sweeps
from recordings.worklist import Worklist

HOUR = 3600
DAY = 86_400
FILE_EVENTS = ("meeting.transcript", "meeting.summary", "meeting.chatSynced")

Logged = Callable[[], str]
Checks = Callable[[], dict[str, str]]


def metrics(log: str) -> dict[str, float]:
    """Return the sums of all emitted metrics that are not zero, by name."""
    sums: dict[str, float] = {}
    for line in log.splitlines():
        fields = json.loads(line)
        for name in fields.get("_aws", {}).get("CloudWatchMetrics", [{}])[0].get("Metrics", []):
            sums[name["Name"]] = sums.get(name["Name"], 0) + sum(fields[name["Name"]])
    return {name: value for name, value in sums.items() if value}


@dataclass(kw_only=True)
class Stage:
    """The functions between RealtimeKit and the bucket, with the queues and the stream."""

    simulator: Simulator
    ingestion: Ingestion
    archiver: Archiver
    clock: Clock
    s3: Any
    bucket: str
    dynamodb: Any
    queued: list[Any] = field(default_factory=list)
    context: Context = field(default_factory=lambda: Context(remaining_ms=900_000))
    events: list[dict[str, Any]] = field(default_factory=list)
    images: dict[str, Any] = field(default_factory=dict)
    sequence: int = 0

    # Events on the stage.

    def advance(self, seconds: float) -> None:
        """Let time pass; no function runs meanwhile."""
        self.clock.advance(seconds)
        self.simulator.world.clock.advance(seconds)

    def record(self, session_files: Any = (), **options: Any) -> Recording:
        """Record a meeting that has just ended; nothing is catalogued."""
        options = {"file_size": 1000, **options}
        return self.simulator.world.record_meeting(
            options=RecordingOptions(**options), session_files=session_files
        )

    def record_twice(self, session_files: Any = ()) -> list[Recording]:
        """Record a session as a composite and as tracks; nothing is catalogued."""
        world = self.simulator.world
        start = world.clock.now() - timedelta(minutes=10)
        meeting = world.create_meeting(at=start)
        session = world.start_session(meeting, session_files=session_files, at=start)
        recordings = [
            world.start_recording(session, options, allow_multiple=True, at=start)
            for options in (
                RecordingOptions(file_size=1000),
                RecordingOptions(kind=Kind.TRACK, participants=1),
            )
        ]
        end = world.clock.now() - timedelta(minutes=1)
        world.end_session(session, reason="HOST_ENDED_MEETING", at=end)
        return recordings

    def catalogue(self, *recordings: Recording) -> None:
        """Catalogue recordings, their own files as if archived, and let the stream go on."""
        for recording in recordings:
            seen = self.ingestion.realtimekit.recording(recording.id)
            meeting_id = recording.session.meeting.id
            named = replace(seen, meeting_id=meeting_id, meeting_title="Weekly sync")
            row = self.ingestion.catalogue.upsert(named, self.clock()).row
            if row["status"] == "UPLOADED" and row.get("archived") != "yes":
                state: Any = {"state": "archived", "bucket": self.bucket, "key": "k", "size": 1000}
                states = {
                    name: state for name in row.get("artifacts", {}) if name not in SESSION_FILES
                }
                self.ingestion.catalogue.record_archive(recording.id, states)
        self.run()

    def catalogue_only(self, recording: Recording) -> None:
        """Catalogue a recording; its own files are to be archived, but no request is sent yet."""
        hint = {"meeting_id": recording.session.meeting.id, "title": "Weekly sync"}
        self.ingest({"v": 1, "source": "webhook", "recording_id": recording.id, "hint": hint})

    def webhooks(self, session: Session, *names: str) -> list[dict[str, Any]]:
        """Return the messages to which the webhooks of a session's files lead."""
        world = self.simulator.world
        found = []
        for event in world.timeline(session.started_at, world.clock.now()):
            if event.name in (names or FILE_EVENTS) and event.session is session:
                body = self.simulator.webhooks.message(event).body
                request = webhook.ingest_request(json.loads(body))
                assert request
                found.append(json.loads(messages.body(request)))
        return found

    def ingest(self, *bodies: Any, context: Context | None = None) -> list[str]:
        """Hand messages of the ingest queue over; return the ids that stay on the queue."""
        return self._handle(ingest_recording.handler, bodies, context or self.context)

    def archive(self, *bodies: Any, context: Context | None = None) -> list[str]:
        """Hand messages of an archive queue over; return the ids that stay on the queue."""
        return self._handle(archive_recording.handler, bodies, context or self.context)

    def _handle(self, handler: Any, bodies: Any, context: Context) -> list[str]:
        records = [
            {
                "messageId": str(n),
                "body": json.dumps(body),
                "attributes": {"SentTimestamp": "1780482600000"},
            }
            for n, body in enumerate(bodies)
        ]
        answer = handler({"Records": records}, context)
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def stream(self) -> list[str]:
        """Hand the rows' changes over; return where the stream goes on."""
        items = self.dynamodb.scan(TableName="RecordingsTable", ConsistentRead=True)["Items"]
        records = []
        for item in items:
            recording_id = item["recording_id"]["S"]
            if item != self.images.get(recording_id):
                self.sequence += 1
                old = {"OldImage": self.images[recording_id]} if recording_id in self.images else {}
                number = str(self.sequence)
                records.append({"dynamodb": {"SequenceNumber": number, "NewImage": item, **old}})
                self.images[recording_id] = item
        if not records:
            return []
        answer = publish_changes.handler({"Records": records}, self.context)
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def run(self) -> list[str]:
        """Let stream and archive work until there is nothing more; return messages that failed."""
        failed = self.stream()
        while self.queued:
            bodies, self.queued = self.queued, []
            failed += self.archive(*bodies)
            failed += self.stream()
        return failed

    def tick(self) -> list[str]:
        """Repeat the checks that are due, as `follow_up` does; return the checks' keys."""
        due = [
            check
            for check in self.ingestion.worklist.due(100)
            if not check.is_hopeless(self.clock())
        ]
        for check in due:
            request = messages.request(check.request, Source.FOLLOW_UP)
            self.ingestion.worklist.advance(check)
            is_archives = request.fields.get("task") in ("archive", "erase")
            handle = self.archive if is_archives else self.ingest
            handle(json.loads(messages.body(request)))
        self.run()
        return sorted(check.key.partition("#")[0] for check in due)

    # The stage's state.

    def row(self, recording: Recording) -> dict[str, Any]:
        row = self.ingestion.catalogue.get(recording.id)
        assert row
        return row  # type: ignore[return-value]

    def states(self, recording: Recording) -> dict[str, str]:
        """Return the states of the session's files; a file without a state has ""."""
        artifacts = self.row(recording).get("artifacts", {})
        return {
            kind: artifacts[kind].get("archive", {}).get("state", "")
            for kind in SESSION_FILES
            if kind in artifacts
        }

    def versions(self) -> list[str]:
        """Return the keys of the session's files, one for each version, without the date."""
        answer = self.s3.list_object_versions(Bucket=self.bucket)
        keys = [version["Key"] for version in answer.get("Versions", [])]
        return [key.split("/", 4)[4] for key in keys if not key.endswith((".mp4", ".webm"))]

    def asked(self) -> list[str]:
        """Return the last parts of the paths of the requests about sessions."""
        paths = [request.path for request in self.simulator.requests]
        return [path.rpartition("/")[2] for path in paths if "/sessions/" in path]

    def published(self, type_: str = "Recording File Archived") -> list[dict[str, Any]]:
        return [
            json.loads(event["Detail"]) for event in self.events if event["DetailType"] == type_
        ]


@pytest.fixture
def ingestion(ingestion: Ingestion) -> Ingestion:
    return replace(ingestion, session_files=SESSION_FILES)


@pytest.fixture
def stage(
    simulator: Simulator,
    ingestion: Ingestion,
    archiver: Archiver,
    worklist: Worklist,
    clock: Clock,
    s3: Any,
    bucket: str,
    dynamodb: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    monkeypatch.setattr(ingest_recording, "ingestion", ingestion)
    monkeypatch.setattr(archive_recording, "archiver", archiver)
    monkeypatch.setattr(publish_changes, "worklist", worklist)
    monkeypatch.setattr(publish_changes, "utcnow", clock)
    publish_changes.queued.clear()
    boto3.client("events").create_event_bus(Name="EventBus")
    for name in ("ArchiveQueue", "UrgentArchiveQueue"):
        boto3.client("sqs").create_queue(QueueName=name)
    stage = Stage(
        simulator=simulator,
        ingestion=ingestion,
        archiver=archiver,
        clock=clock,
        s3=s3,
        bucket=bucket,
        dynamodb=dynamodb,
    )

    def note_event(params: Any, **_: Any) -> None:
        stage.events += params["Entries"]

    def note_message(params: Any, **_: Any) -> None:
        stage.queued.append(json.loads(params["MessageBody"]))

    bus, queues = publish_changes.eventbridge.meta.events, publish_changes.sqs.meta.events
    bus.register("provide-client-params.events.PutEvents", note_event)
    queues.register("provide-client-params.sqs.SendMessage", note_message)
    yield stage
    bus.unregister("provide-client-params.events.PutEvents", note_event)
    queues.unregister("provide-client-params.sqs.SendMessage", note_message)


@pytest.fixture
def checks(dynamodb: Any) -> Checks:
    """Return a function that reads the causes of all pending checks, by key, with one request."""

    def read() -> dict[str, str]:
        items = dynamodb.scan(TableName="WorkTable", ConsistentRead=True)["Items"]
        pending = [item for item in items if "pending" in item and "cause" in item]
        return {item["work_id"]["S"].removeprefix("check#"): item["cause"]["S"] for item in pending}

    return read


def causes(log: str) -> dict[str, str]:
    """Return why files were left, by artifact, as the last run of the archive logged it."""
    lines = [json.loads(line) for line in log.splitlines()]
    found: dict[str, str] = [line for line in lines if "causes" in line][-1]["causes"]
    return found


def refuse_writes(dynamodb: Any, key: str, code: str = "ValidationException") -> Callable[[], None]:
    """Let DynamoDB refuse writes to the row with this key; return a function that ends it."""

    def refuse(params: Any, **_: Any) -> None:
        if [{"S": key}] == list(json.loads(params["body"])["Key"].values()):
            raise ClientError({"Error": {"Code": code, "Message": "refused"}}, "UpdateItem")

    dynamodb.meta.events.register("before-call.dynamodb.UpdateItem", refuse)
    return lambda: dynamodb.meta.events.unregister("before-call.dynamodb.UpdateItem", refuse)


ALL = ("transcript", "summary", "chat")
ARCHIVED = dict.fromkeys(SESSION_FILES, "archived")
NONE = dict.fromkeys(SESSION_FILES, "none")
SESSION = "35bf992d-c9e9-4616-a12e-7696a6cecc1b"
FOLDER = "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13/2026/06/03/e4b06ce6-0741-47a8-bce4-2c8218072e8c"


# --- The ordinary way ---


def test_three_webhooks_have_a_sessions_four_files_archived(
    stage: Stage, checks: Checks, logged: Logged
) -> None:
    recording = stage.record(ALL)
    stage.catalogue(recording)
    assert checks() == {f"session_files#{SESSION}": "session_files_pending"}
    stage.advance(300)

    for message in stage.webhooks(recording.session):
        assert stage.ingest(message) == []
        assert stage.run() == []

    row = stage.row(recording)
    archives = {kind: row["artifacts"][kind]["archive"] for kind in SESSION_FILES}
    assert {kind: {**archive, "bucket": ""} for kind, archive in archives.items()} == {
        "transcript": {
            "state": "archived",
            "bucket": "",
            "key": f"{FOLDER}/transcript/{SESSION}.json",
            "size": 66743,
            "checksum_crc32": "axkrVg==",
            "archived_at": "2026-06-03T10:35:00.000Z",
        },
        "captions": {
            "state": "archived",
            "bucket": "",
            "key": f"{FOLDER}/captions/{SESSION}.vtt",
            "size": 17701,
            "checksum_crc32": "+gzqOg==",
            "archived_at": "2026-06-03T10:35:00.000Z",
        },
        "summary": {
            "state": "archived",
            "bucket": "",
            "key": f"{FOLDER}/summary/{SESSION}.md",
            "size": 2713,
            "checksum_crc32": "lbSLWA==",
            "archived_at": "2026-06-03T10:35:00.000Z",
        },
        "chat": {
            "state": "archived",
            "bucket": "",
            "key": f"{FOLDER}/chat/{SESSION}.csv",
            "size": 1572,
            "checksum_crc32": "RPvalA==",
            "archived_at": "2026-06-03T10:35:00.000Z",
        },
    }
    heads = [
        stage.s3.head_object(Bucket=stage.bucket, Key=archives[kind]["key"])
        for kind in SESSION_FILES
    ]
    assert [(head["ContentType"], head["ContentLength"]) for head in heads] == [
        ("application/json", 66743),
        ("text/vtt; charset=utf-8", 17701),
        ("text/markdown; charset=utf-8", 2713),
        ("text/csv; charset=utf-8", 1572),
    ]
    assert len(stage.versions()) == 4
    assert row["session_started_at"] == "2026-06-03T09:59:37.000Z"
    assert sorted(stage.asked()) == [SESSION, "chat", "summary", "transcript", "transcript"]
    assert checks() == {}
    log = logged()
    sums = metrics(log)
    assert (sums["SessionFileOffered"], sums["ArtifactArchived"]) == (4, 4)
    assert "canary" not in log
    assert "X-Amz-Signature" not in log


def test_the_event_of_a_sessions_file_says_which_file_it_is_and_where(stage: Stage) -> None:
    recording = stage.record(["summary"])
    stage.catalogue(recording)
    stage.advance(300)

    stage.ingest(*stage.webhooks(recording.session))
    stage.run()

    [event] = stage.published()
    assert event == {
        "id": "e4b06ce6-0741-47a8-bce4-2c8218072e8c#4#summary",
        "recording_id": "e4b06ce6-0741-47a8-bce4-2c8218072e8c",
        "app_id": "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13",
        "meeting_id": "78e51061-7311-48a3-82ce-6f447ed4d57b",
        "session_id": "35bf992d-c9e9-4616-a12e-7696a6cecc1b",
        "status": "UPLOADED",
        "invoked_at": "2026-06-03T09:59:37.000Z",
        "started_at": "2026-06-03T09:59:40.000Z",
        "stopped_at": "2026-06-03T10:29:40.000Z",
        "duration_seconds": 1800,
        "file_size": 1000,
        "version": 4,
        "artifact": "summary",
        "kind": "summary",
        "bucket": stage.bucket,
        "key": f"{FOLDER}/summary/{SESSION}.md",
        "size": 2713,
        "checksum_crc32": "lbSLWA==",
    }
    [archived] = stage.published("Recording Archived")
    assert archived["artifact_count"] == 1


@pytest.mark.parametrize("source", ["webhooks", "first look"])
def test_one_request_for_each_kind_serves_all_recordings_of_a_session(
    stage: Stage, checks: Checks, source: str
) -> None:
    """The first look is for sessions whose webhooks were all lost."""
    recordings = stage.record_twice(ALL)
    stage.catalogue(*recordings)
    stage.advance(300 if source == "webhooks" else HOUR)

    if source == "webhooks":
        stage.ingest(*stage.webhooks(recordings[0].session))
        stage.run()
    else:
        assert stage.tick() == ["session_files"]

    assert [stage.states(recording) for recording in recordings] == [ARCHIVED, ARCHIVED]
    assert len(set(stage.versions())) == len(stage.versions()) == 8
    assert len(stage.published()) == 8
    session_id = recordings[0].session.id
    assert sorted(stage.asked()) == [session_id, "chat", "summary", "transcript", "transcript"]
    starts = {stage.row(recording)["session_started_at"] for recording in recordings}
    assert starts == {"2026-06-03T10:20:00.000Z"}
    assert checks() == {}


@pytest.mark.parametrize("shape", ["null", "404"])
def test_a_session_without_files_is_looked_at_twice_and_is_no_loss(
    stage: Stage, checks: Checks, logged: Logged, shape: Any
) -> None:
    stage.simulator.world.undocumented = Undocumented(absent_session_file=shape)
    recording = stage.record()
    stage.catalogue(recording)
    stage.advance(HOUR)

    assert stage.tick() == ["session_files"]

    assert checks() == {f"session_files#{SESSION}": "session_files_missing"}
    stage.advance(DAY - HOUR)
    assert stage.tick() == []
    stage.advance(HOUR)
    assert stage.tick() == ["session_files"]
    assert stage.states(recording) == NONE
    row = stage.row(recording)
    assert row["artifacts"]["chat"] == {
        "kind": "chat",
        "archive": {"state": "none", "noted_at": "2026-06-04T11:30:00.000Z"},
    }
    assert row["archived"] == "yes"
    assert checks() == {}
    # Captions are the transcript in another format.
    assert stage.asked() == ["transcript", "summary", "chat"] * 2
    assert (stage.published(), stage.published("Recording Expired")) == ([], [])
    sums = metrics(logged())
    assert sums["SessionFileAbsent"] == 4
    assert {"ArtifactLost", "RecordingUnwritable", "PostponedNotFound"}.isdisjoint(sums)


def test_without_kinds_to_keep_no_request_is_sent_and_no_check_left(
    stage: Stage, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_recording, "ingestion", replace(stage.ingestion, session_files=()))
    monkeypatch.setattr(publish_changes, "SESSION_FILES", ())
    recording = stage.record(ALL)
    stage.advance(300)
    messages = stage.webhooks(recording.session)

    assert stage.ingest(*messages) == []
    stage.catalogue(recording)
    assert stage.ingest(*messages) == []

    assert stage.asked() == []
    assert checks() == {}


def test_a_kind_that_is_not_kept_is_not_fetched(
    stage: Stage, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = replace(stage.ingestion, session_files=("chat",))
    monkeypatch.setattr(ingest_recording, "ingestion", kept)
    monkeypatch.setattr(publish_changes, "SESSION_FILES", ("chat",))
    recording = stage.record(ALL)
    stage.catalogue(recording)
    stage.advance(300)

    stage.ingest(*stage.webhooks(recording.session))
    stage.run()

    assert stage.states(recording) == {"chat": "archived"}
    assert stage.asked() == ["chat"]
    assert checks() == {}


def test_files_of_an_erased_recording_are_not_asked_about(stage: Stage, checks: Checks) -> None:
    recording = stage.record(ALL)
    stage.catalogue(recording)
    stage.advance(300)
    erase(stage, recording)

    stage.ingest(*stage.webhooks(recording.session))
    stage.advance(HOUR)
    stage.tick()

    assert stage.asked() == []
    assert set(stage.row(recording)) == {"recording_id", "version", "erased_at"}
    assert checks() == {}


def test_a_webhook_about_a_session_without_recordings_leaves_one_check(
    stage: Stage, checks: Checks
) -> None:
    recording = stage.record(ALL)
    stage.advance(300)

    for message in stage.webhooks(recording.session):
        stage.ingest(message)

    assert checks() == {f"session_files#{SESSION}": "recording_missing"}
    stage.advance(HOUR)
    assert stage.tick() == ["session_files"]
    assert checks() == {}
    assert stage.asked() == []


def test_a_recording_that_is_catalogued_after_the_webhooks_gets_its_files_by_the_check(
    stage: Stage, checks: Checks
) -> None:
    recording = stage.record(ALL)
    stage.advance(300)
    stage.ingest(*stage.webhooks(recording.session))
    stage.catalogue(recording)
    stage.advance(HOUR)

    stage.tick()

    assert stage.states(recording) == ARCHIVED
    assert checks() == {}


def test_files_that_are_announced_before_the_recording_is_final_are_archived_at_once(
    stage: Stage, checks: Checks
) -> None:
    recording = stage.record(["chat", "transcript"], upload_seconds=None)
    stage.catalogue_only(recording)
    stage.advance(30)

    stage.ingest(*stage.webhooks(recording.session))
    stage.run()

    assert stage.states(recording) == {"chat": "archived"}
    assert stage.asked() == ["chat"]
    [event] = stage.published()
    assert (event["status"], event["artifact"]) == ("UPLOADING", "chat")
    assert "archived" not in stage.row(recording)
    assert checks() == {f"recording#{recording.id}": "not_final"}

    stage.simulator.world.finish_upload(recording)
    stage.catalogue_only(recording)
    stage.run()
    assert stage.row(recording)["archived"] == "yes"
    assert checks() == {f"session_files#{SESSION}": "session_files_pending"}


def test_a_recording_that_becomes_final_during_a_look_at_its_session_gets_its_own_looks(
    stage: Stage, checks: Checks
) -> None:
    """The run has read the unfinished row; the final one leaves no check beside the one that waits."""
    recording = stage.record(["chat", "transcript"], upload_seconds=None)
    stage.catalogue_only(recording)
    stage.advance(30)
    stage.simulator.faults.add(error(503), path="/chat$")
    stage.ingest(*stage.webhooks(recording.session))
    stage.simulator.world.finish_upload(recording)
    events = stage.dynamodb.meta.events

    def become_final(**_: Any) -> None:
        """Write the row, and do what the stream leads to; no handler runs inside another."""
        events.unregister("after-call.dynamodb.BatchGetItem", become_final)
        seen = stage.ingestion.realtimekit.recording(recording.id)
        stage.ingestion.catalogue.upsert(seen, stage.clock())
        key = {"recording_id": {"S": recording.id}}
        answer = stage.dynamodb.get_item(TableName="RecordingsTable", Key=key)
        stage.images[recording.id] = answer["Item"]
        look = SessionFilesRequest(session_id=SESSION, source=Source.CATALOGUE)
        assert not stage.ingestion.worklist.ensure(look, "session_files_pending")

    events.register("after-call.dynamodb.BatchGetItem", become_final)
    stage.advance(60)
    stage.tick()

    assert stage.row(recording)["status"] == "UPLOADED"
    assert f"session_files#{SESSION}" in checks()
    stage.advance(HOUR)
    stage.tick()
    assert stage.states(recording) == {
        "chat": "archived",
        "transcript": "archived",
        "captions": "archived",
    }


@pytest.mark.parametrize("age", [HOUR, 26 * HOUR], ids=["in time", "late"])
@pytest.mark.parametrize("others", [0, 1], ids=["the only one", "beside another"])
def test_a_recording_that_appears_while_its_session_is_settled_gets_its_own_looks(
    stage: Stage, checks: Checks, others: int, age: int
) -> None:
    """A run may not see it yet, and while a check waits, the recording leaves none of its own."""
    recording, other = stage.record_twice(ALL)
    stage.catalogue(*[other][:others])
    stage.ingest(*stage.webhooks(recording.session))
    events = stage.dynamodb.meta.events

    def appear(**_: Any) -> None:
        """Write the row, and do what the stream leads to; no handler runs inside another."""
        events.unregister("before-call.dynamodb.DeleteItem", appear)
        seen = stage.ingestion.realtimekit.recording(recording.id)
        stage.ingestion.catalogue.upsert(seen, stage.clock())
        look = SessionFilesRequest(session_id=SESSION, source=Source.CATALOGUE)
        assert not stage.ingestion.worklist.ensure(look, "session_files_pending")

    events.register("before-call.dynamodb.DeleteItem", appear)
    stage.advance(age)
    stage.tick()

    assert stage.row(recording)["status"] == "UPLOADED"
    assert checks() == {f"session_files#{SESSION}": "session_files_missing"}


def test_a_webhook_after_the_last_look_has_the_file_archived(stage: Stage, checks: Checks) -> None:
    late = SessionFileOptions(available_after=2 * DAY)
    recording = stage.record({"chat": late})
    stage.catalogue(recording)
    stage.advance(HOUR)
    stage.tick()
    stage.advance(DAY)
    stage.tick()
    assert stage.states(recording) == NONE
    stage.advance(DAY)

    stage.ingest(*stage.webhooks(recording.session))
    stage.run()

    assert stage.states(recording) == {**NONE, "chat": "archived"}
    assert checks() == {}


def test_a_webhook_while_the_last_look_is_late_does_not_take_its_place(
    stage: Stage, checks: Checks
) -> None:
    recording = stage.record({"chat": SessionFileOptions(available_after=DAY + 2 * HOUR)})
    stage.catalogue(recording)
    stage.advance(HOUR)
    stage.tick()
    stage.advance(DAY + 2 * HOUR)

    stage.ingest(*stage.webhooks(recording.session))
    stage.run()

    assert stage.states(recording) == {"chat": "archived"}
    assert checks() == {f"session_files#{SESSION}": "session_files_missing"}
    stage.tick()
    assert stage.states(recording) == {**NONE, "chat": "archived"}
    assert checks() == {}


def test_a_session_whose_recordings_end_apart_is_looked_at_until_the_last_ones_looks_are_over(
    stage: Stage, checks: Checks
) -> None:
    first, second = stage.record_twice()
    stage.catalogue(first)
    stage.advance(HOUR)
    stage.tick()
    # RealtimeKit says when it stopped; its row becomes final an hour after the other one.
    stage.catalogue(second)
    stage.advance(DAY)

    stage.tick()

    assert (stage.states(first), stage.states(second)) == (NONE, NONE)
    assert checks() == {}


def test_the_last_look_notes_nothing_in_the_row_of_a_recording_that_is_not_final(
    stage: Stage,
) -> None:
    first, second = stage.record_twice()
    seen = stage.ingestion.realtimekit.recording(second.id)
    stage.ingestion.catalogue.upsert(replace(seen, status="RECORDING"), stage.clock())
    stage.catalogue(first)
    stage.advance(HOUR)
    stage.tick()
    stage.advance(DAY)

    stage.tick()

    assert (stage.states(first), stage.states(second)) == (NONE, {})


# --- Late, renewed, lost ---


def test_a_late_file_without_a_webhook_is_found_by_the_last_look(
    stage: Stage, checks: Checks
) -> None:
    late = SessionFileOptions(available_after=2 * HOUR, is_announced=False)
    recording = stage.record({"transcript": late})
    stage.catalogue(recording)
    stage.advance(HOUR)
    stage.tick()
    assert stage.states(recording) == {}
    stage.advance(DAY)

    stage.tick()

    assert stage.states(recording) == {**ARCHIVED, "summary": "none", "chat": "none"}
    assert checks() == {}


def test_an_expired_url_is_renewed_by_a_new_answer(stage: Stage, checks: Checks) -> None:
    stage.simulator.world.undocumented = Undocumented(url_seconds=60)
    recording = stage.record(["chat"])
    stage.catalogue(recording)
    stage.advance(300)
    stage.ingest(*stage.webhooks(recording.session))
    stage.advance(61)

    assert stage.run() == []

    assert stage.states(recording) == {"chat": "archived"}
    assert stage.asked() == ["chat", "chat"]
    assert checks() == {f"session_files#{SESSION}": "session_files_pending"}


def test_of_a_sessions_files_the_one_that_expires_first_is_fetched_first(stage: Stage) -> None:
    recording = stage.record(["summary", "chat"])
    stage.catalogue(recording)
    day = {"summaryDownloadUrlExpiry": "2026-06-04T10:30:00Z"}
    stage.simulator.faults.add(Overlay(day), path="/summary$")
    stage.advance(300)

    stage.ingest(*stage.webhooks(recording.session))
    stage.run()

    media = [r.path for r in stage.simulator.requests if r.path.startswith("/media/")]
    assert [path.rpartition("/")[2] for path in media] == ["summary.txt", "chat.csv"]


def test_a_file_that_was_announced_and_never_there_is_lost(
    stage: Stage, checks: Checks, logged: Logged
) -> None:
    recording = stage.record({"chat": SessionFileOptions(outcome="no url")})
    stage.catalogue(recording)
    stage.advance(300)

    stage.ingest(*stage.webhooks(recording.session))
    stage.run()

    assert stage.row(recording)["artifacts"]["chat"] == {
        "kind": "chat",
        "url_expires_at": "2026-06-10T10:29:40.000Z",
    }
    for seconds in (HOUR, DAY, 5 * DAY):
        stage.advance(seconds)
        stage.tick()
        assert stage.states(recording)["chat"] == ""
    assert stage.states(recording) == {**NONE, "chat": ""}
    stage.advance(DAY)
    stage.tick()
    assert stage.states(recording) == {**NONE, "chat": "expired"}
    assert checks() == {}
    [expired] = stage.published("Recording Expired")
    assert expired["expired"] == ["chat"]
    log = logged()
    assert metrics(log)["ArtifactLost"] == 1
    assert stage.row(recording)["archived"] == "yes"


def test_a_lost_file_is_noted_although_realtimekit_does_not_answer_about_it(
    stage: Stage, checks: Checks, logged: Logged
) -> None:
    """RealtimeKit documents no answer about a session whose files have expired."""
    recording = stage.record({"chat": SessionFileOptions(outcome="no file")})
    stage.catalogue(recording)
    stage.advance(300)
    stage.ingest(*stage.webhooks(recording.session))
    stage.run()
    stage.simulator.faults.add(unsuccessful(), path="/chat$", times=None)
    stage.advance(7 * DAY + 11 * HOUR)
    stage.tick()
    assert stage.states(recording) == {"chat": "", **{k: "none" for k in NONE if k != "chat"}}
    # Twelve hours after the expiry, which is a week after the session's end.
    stage.advance(HOUR - 320)

    stage.tick()

    assert stage.states(recording)["chat"] == "expired"
    assert checks() == {}
    assert metrics(logged())["ArtifactLost"] == 1


def test_a_copy_in_the_bucket_is_adopted_after_the_expiry(
    stage: Stage, archive: Archive, checks: Checks, logged: Logged
) -> None:
    """The size that RealtimeKit says is the recording's, not the text's."""
    recording = stage.record({"chat": SessionFileOptions(outcome="no url")})
    stage.simulator.faults.add(Overlay({"output_file_name": None}), path=recording.id)
    stage.catalogue(recording)
    stage.advance(300)
    stage.ingest(*stage.webhooks(recording.session))
    stage.run()
    archive.put(f"{FOLDER}/chat/{SESSION}.json", b"[1]", "application/json", recording.id)
    stage.advance(7 * DAY)

    stage.tick()

    state = stage.row(recording)["artifacts"]["chat"]["archive"]
    assert (state["state"], state["key"]) == ("archived", f"{FOLDER}/chat/{SESSION}.json")
    assert "ArtifactLost" not in metrics(logged())
    assert f"archive#{recording.id}" not in checks()


def test_a_chat_that_is_deleted_after_a_day_does_not_expire_the_recordings_own_files(
    stage: Stage, checks: Checks
) -> None:
    """Dyte's links to chats worked for 24 hours; a recording's expiry has been seen unset."""
    recording = stage.record(["chat"], never_set=("download_url_expiry",))
    stage.simulator.faults.add(storage_failure(503), path="^/media/", times=None)
    stage.catalogue_only(recording)
    stage.advance(300)
    day = {"chat_download_url_expiry": "2026-06-04T10:30:00Z"}
    stage.simulator.faults.add(Overlay(day), path="/chat$")
    stage.ingest(*stage.webhooks(recording.session))
    stage.run()
    stage.simulator.faults.clear()
    stage.simulator.faults.add(storage_failure(503), path="chat.csv$", times=None)
    stage.simulator.faults.add(storage_failure(403), path="mp4$", times=None)
    stage.simulator.faults.add(error(404), path=f"/recordings/{recording.id}", times=None)
    stage.advance(DAY + HOUR)

    stage.tick()

    assert "archive" not in stage.row(recording)["artifacts"]["video"]
    assert checks()[f"archive#{recording.id}"] == "media_unavailable"


# --- Empty files ---


EMPTY = {
    "no bytes": SessionFileOptions(content=b""),
    "no sentence": SessionFileOptions(outcome="empty"),
}


def test_an_empty_file_that_is_filled_later_is_archived(stage: Stage, checks: Checks) -> None:
    """Each kind is empty in its own way: `[]`, WEBVTT and no cue, a header, no bytes."""
    recording = stage.record(
        {kind: EMPTY["no bytes" if kind == "summary" else "no sentence"] for kind in ALL}
    )
    stage.catalogue(recording)
    stage.advance(300)
    stage.ingest(*stage.webhooks(recording.session))
    stage.run()
    assert set(stage.states(recording).values()) == {""}
    assert checks()[f"archive#{recording.id}"] == "empty"
    recording.session.files.update(dict.fromkeys(FileKind, SessionFileOptions()))
    stage.advance(HOUR)

    stage.tick()

    assert set(stage.states(recording).values()) == {"archived"}
    assert f"archive#{recording.id}" not in checks()


def test_a_file_that_stays_empty_is_no_file_and_no_loss(
    stage: Stage, checks: Checks, logged: Logged
) -> None:
    recording = stage.record({"transcript": EMPTY["no sentence"], "chat": EMPTY["no bytes"]})
    stage.catalogue(recording)
    stage.advance(300)
    stage.ingest(*stage.webhooks(recording.session))
    stage.run()
    stage.advance(HOUR)
    stage.tick()
    assert stage.states(recording) == {"transcript": "", "captions": "", "chat": ""}
    stage.advance(DAY)

    stage.tick()

    assert stage.states(recording) == NONE
    assert checks() == {}
    assert (stage.versions(), stage.published("Recording Expired")) == ([], [])
    assert "ArtifactLost" not in metrics(logged())


def test_an_empty_file_beside_a_recording_that_never_becomes_final_is_no_file_in_the_end(
    stage: Stage, checks: Checks, logged: Logged
) -> None:
    recording = stage.record({"chat": SessionFileOptions(outcome="empty")}, upload_seconds=None)
    stage.catalogue(recording)
    stage.advance(300)
    stage.ingest(*stage.webhooks(recording.session))
    stage.run()
    stage.advance(DAY + HOUR)
    stage.tick()
    assert stage.states(recording) == {"chat": ""}
    assert checks()[f"archive#{recording.id}"] == "empty"
    stage.advance(DAY)

    stage.tick()

    assert stage.states(recording) == {"chat": "none"}
    assert f"archive#{recording.id}" not in checks()
    assert "ArtifactLost" not in metrics(logged())


def test_the_file_that_all_sessions_share_is_no_sessions_file(
    stage: Stage, checks: Checks, logged: Logged
) -> None:
    recording = stage.record({"transcript": SessionFileOptions(outcome="shared")})
    stage.catalogue(recording)
    stage.advance(300)
    stage.ingest(*stage.webhooks(recording.session))
    stage.run()
    stage.advance(HOUR)
    stage.tick()
    stage.advance(DAY)

    stage.tick()

    assert stage.states(recording) == NONE
    assert checks() == {}
    assert stage.versions() == []
    assert "ArtifactLost" not in metrics(logged())


# --- RealtimeKit's answers ---


def test_an_answer_about_another_session_is_not_taken_and_does_not_stop_the_other_kinds(
    stage: Stage, checks: Checks, logged: Logged
) -> None:
    recording = stage.record(ALL)
    stage.catalogue(recording)
    other = {"sessionId": "00000000-0000-4000-8000-000000000001"}
    stage.simulator.faults.add(Overlay(other), path="/summary$")
    stage.advance(300)

    assert stage.ingest(*stage.webhooks(recording.session)) == []
    stage.run()

    assert stage.states(recording) == ARCHIVED
    assert stage.asked().count("summary") == 2
    assert checks() == {f"session_files#{SESSION}": "unintelligible"}
    assert metrics(logged())["PostponedUnintelligible"] == 1
    stage.advance(60)
    stage.tick()
    assert checks() == {}
    assert stage.asked().count("summary") == 2


def test_a_transcript_of_another_session_is_stored_as_it_is(stage: Stage) -> None:
    """RealtimeKit says whose it is; the file's contents are not judged."""
    content = b'[{"sessionId": "00000000-0000-4000-8000-000000000001", "sentence": "Hello"}]'
    recording = stage.record({"transcript": SessionFileOptions(content=content)})
    stage.catalogue(recording)
    stage.advance(300)

    stage.ingest(*stage.webhooks(recording.session))
    stage.run()

    assert stage.states(recording) == {"transcript": "archived", "captions": ""}


def test_wrapped_answers_and_short_webhooks_are_read_as_others_are(
    stage: Stage, checks: Checks
) -> None:
    stage.simulator.world.undocumented = Undocumented(
        wraps_session_file=True, chat_format="json", file_webhook_meeting="flat"
    )
    recording = stage.record(ALL)
    stage.catalogue(recording)
    stage.advance(300)

    stage.ingest(*stage.webhooks(recording.session))
    stage.run()

    assert stage.states(recording) == ARCHIVED
    assert f"{recording.id}/chat/{SESSION}.json" in stage.versions()
    assert checks() == {}


def test_kinds_that_fail_each_in_its_way_are_fetched_again_and_the_others_are_kept(
    stage: Stage, checks: Checks
) -> None:
    recording = stage.record(ALL)
    stage.catalogue(recording)
    stage.simulator.faults.add(error(503), path="/transcript$")
    stage.simulator.faults.add(garbage(), path="/summary$")
    # The client repeats a request whose kept connection was dead.
    stage.simulator.faults.add(Drop(), path="/chat$", times=2)
    stage.advance(HOUR)

    stage.tick()

    assert stage.states(recording) == {"captions": "archived"}
    assert checks() == {f"session_files#{SESSION}": "unavailable"}
    stage.advance(2 * HOUR)
    assert stage.tick() == ["session_files"]
    assert stage.states(recording) == ARCHIVED
    assert checks() == {}


@pytest.mark.parametrize(
    ("fault", "cause", "seconds"),
    [(error(401), "unauthorized", 7200), (rate_limited(3000), "throttled", 3000)],
    ids=["401", "429"],
)
def test_after_a_refusal_that_every_kind_would_meet_the_next_kinds_wait(
    stage: Stage, checks: Checks, fault: Effect, cause: str, seconds: int
) -> None:
    recording = stage.record(ALL)
    stage.catalogue(recording)
    stage.simulator.faults.add(fault, path="/summary$", times=2)
    stage.advance(HOUR)

    stage.tick()

    assert stage.states(recording) == {"transcript": "archived", "captions": "archived"}
    assert checks() == {f"session_files#{SESSION}": cause}
    assert "chat" not in stage.asked()
    stage.simulator.faults.clear()
    stage.advance(2999)
    assert stage.tick() == []
    stage.advance(seconds - 2999)
    assert stage.tick() == ["session_files"]
    assert stage.states(recording) == ARCHIVED
    assert checks() == {}


def test_kinds_that_realtimekit_does_not_have_are_settled_although_another_kind_fails(
    stage: Stage, checks: Checks
) -> None:
    recording = stage.record()
    stage.catalogue(recording)
    stage.simulator.faults.add(error(500), path="/summary$", times=None)
    stage.advance(HOUR)
    stage.tick()
    stage.advance(DAY)

    stage.tick()

    assert stage.states(recording) == {k: "none" for k in SESSION_FILES if k != "summary"}
    assert checks() == {f"session_files#{SESSION}": "unavailable"}


def test_a_look_takes_its_requests_from_the_budget_in_one_write(
    stage: Stage, work_table: Table, clock: Clock, dynamodb: Any
) -> None:
    recording = stage.record()
    stage.catalogue(recording)
    stage.ingestion.realtimekit._budget = UpstreamBudget(work_table, "app", 1000, clock)
    taken: list[int] = []
    dynamodb.meta.events.register(
        "before-call.dynamodb.UpdateItem",
        lambda params, **_: taken.append(params["body"].count(b"budget#app#")),
    )
    stage.advance(HOUR)

    stage.tick()

    # A transcript, a summary and a chat; without a transcript there are no captions.
    assert sum(taken) == 1
    rows = dynamodb.scan(TableName="WorkTable", ConsistentRead=True)["Items"]
    [window] = [row for row in rows if row["work_id"]["S"].startswith("budget#app#")]
    assert window["used"] == {"N": "3"}


def test_a_spent_budget_leaves_the_rest_to_the_next_window(
    stage: Stage, checks: Checks, work_table: Table, clock: Clock
) -> None:
    recording = stage.record(ALL)
    stage.catalogue(recording)
    budget = UpstreamBudget(work_table, "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13", 42, clock)
    stage.ingestion.realtimekit._budget = budget
    stage.advance(HOUR)

    stage.tick()

    # Two requests for each 15 s.
    assert stage.states(recording) == {"transcript": "archived", "captions": "archived"}
    assert "session_started_at" not in stage.row(recording)
    assert checks() == {f"session_files#{SESSION}": "budget_spent"}
    stage.advance(15)
    stage.tick()
    assert stage.states(recording) == ARCHIVED
    assert checks() == {}


def test_while_secrets_manager_fails_nothing_is_asked_and_nothing_is_given_up(
    stage: Stage, checks: Checks, secretsmanager: Any
) -> None:
    recording = stage.record(ALL)
    stage.catalogue(recording)
    stage.ingestion.realtimekit._token._read_at -= 301
    stage.ingestion.realtimekit._token._value = None

    def fail(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "InternalServiceError"}}, "GetSecretValue")

    events = secretsmanager.meta.events
    events.register("before-call.secrets-manager.GetSecretValue", fail)
    stage.advance(HOUR)

    stage.tick()

    assert stage.asked() == []
    assert checks() == {f"session_files#{SESSION}": "unauthorized"}
    events.unregister("before-call.secrets-manager.GetSecretValue", fail)
    stage.advance(2 * HOUR)
    stage.tick()
    assert stage.states(recording) == ARCHIVED


def test_an_invocation_without_time_leaves_a_check_for_what_was_announced(
    stage: Stage, checks: Checks
) -> None:
    recording = stage.record({"chat": SessionFileOptions(outcome="no url")})
    stage.catalogue(recording)
    stage.advance(300)

    stage.ingest(*stage.webhooks(recording.session), context=Context(remaining_ms=44_000))

    assert stage.asked() == []
    assert checks() == {f"session_files#{SESSION}": "unavailable"}
    stage.advance(60)
    stage.tick()
    assert stage.states(recording) == {"chat": ""}


def test_slow_answers_leave_the_last_kinds_to_the_next_try(
    stage: Stage, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow() -> datetime:
        # The third kind is fetched after 15 s, which is not yet too late.
        stage.clock.advance(5)
        return stage.clock()

    recording = stage.record(ALL)
    stage.catalogue(recording)
    stage.advance(HOUR)
    monkeypatch.setattr(ingest_recording, "ingestion", replace(stage.ingestion, now=slow))

    stage.tick()

    assert stage.states(recording) == {k: "archived" for k in ("transcript", "captions", "summary")}
    assert checks() == {f"session_files#{SESSION}": "unavailable"}


# --- Contents ---


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        (
            {
                "transcript": b"<html><body>Not found</body></html>",
                "summary": b"<?xml version='1.0'?>",
            },
            {"transcript": "not_text", "captions": "not_text", "summary": "not_text"},
        ),
        (
            {"transcript": b'{"a": [1]}', "chat": b"\xff\xfe\x00a"},
            {"transcript": "archived", "captions": "not_text", "chat": "not_text"},
        ),
        (
            {"transcript": b'"words"', "chat": b'{"success": false}', "summary": b"# \xe2\x80\xa6"},
            {
                "transcript": "not_text",
                "captions": "not_text",
                "chat": "not_text",
                "summary": "archived",
            },
        ),
        (
            {
                "transcript": (
                    b'[{"startTime": 9000, "endTime": 8000, "sentence": "Back", "peerData": {}},'
                    b' {"startTime": 1000, "sentence": "in time"}]'
                ),
                "chat": b"id,payload\n1,a, b\nand more,\n\n2,x\n",
            },
            {"transcript": "archived", "captions": "not_text", "chat": "archived"},
        ),
        (
            {"transcript": b"WEBVTT\n\n00:01.000 --> 00:02.000\n<script>alert(1)</script>\n"},
            {"transcript": "not_text", "captions": "archived"},
        ),
    ],
    ids=["pages", "odd shapes", "errors", "times, names and commas", "HTML in a cue"],
)
def test_each_text_is_stored_as_it_is_or_left_with_its_cause(
    stage: Stage, logged: Logged, contents: dict[str, bytes], expected: dict[str, str]
) -> None:
    options = {kind: SessionFileOptions(content=content) for kind, content in contents.items()}
    recording = stage.record(options)
    stage.catalogue(recording)
    stage.advance(300)

    assert stage.ingest(*stage.webhooks(recording.session)) == []
    assert stage.run() == []

    assert causes(logged()) == {k: cause for k, cause in expected.items() if cause != "archived"}
    artifacts = stage.row(recording)["artifacts"]
    for kind, cause in expected.items():
        assert ("archive" in artifacts[kind]) == (cause == "archived")
        if cause == "archived":
            key = artifacts[kind]["archive"]["key"]
            stored = stage.s3.get_object(Bucket=stage.bucket, Key=key)["Body"].read()
            assert stored == contents["transcript" if kind == "captions" else kind]
    published = {event["artifact"] for event in stage.published()}
    assert published == {kind for kind, cause in expected.items() if cause == "archived"}
    assert stage.row(recording)["archived"] == "yes"


def test_an_error_page_in_a_texts_place_is_never_stored_and_is_lost_in_the_end(
    stage: Stage, checks: Checks, logged: Logged
) -> None:
    recording = stage.record({"summary": SessionFileOptions(content=b"<html>sorry</html>")})
    stage.catalogue(recording)
    stage.advance(300)
    stage.ingest(*stage.webhooks(recording.session))
    stage.run()
    stage.advance(6 * DAY)
    stage.tick()
    assert checks() == {f"archive#{recording.id}": "not_text"}
    stage.advance(DAY)

    stage.tick()

    assert stage.states(recording) == {**NONE, "summary": "expired"}
    assert stage.versions() == []
    assert metrics(logged())["ArtifactLost"] == 1


def test_a_text_of_100_megabytes_is_not_received(
    stage: Stage, checks: Checks, logged: Logged
) -> None:
    recording = stage.record(["summary", "chat"])
    stage.catalogue(recording)
    stage.simulator.faults.add(Resize(100_000_000), path="summary.txt$", times=None)
    stage.advance(300)

    stage.ingest(*stage.webhooks(recording.session))
    stage.run()

    assert causes(logged()) == {"summary": "wrong_length"}
    assert stage.states(recording) == {"summary": "", "chat": "archived"}
    assert checks()[f"archive#{recording.id}"] == "wrong_length"


# --- Trouble of one does not hold up the others ---


@pytest.mark.parametrize("fault", [error(404), rate_limited(30)], ids=["404", "429"])
def test_a_recording_that_realtimekit_does_not_answer_about_has_its_sessions_files_archived(
    stage: Stage, checks: Checks, fault: Effect
) -> None:
    recording = stage.record(["chat"])
    stage.catalogue_only(recording)
    stage.advance(300)
    stage.ingest(*stage.webhooks(recording.session))
    stage.simulator.faults.add(fault, path=f"/recordings/{recording.id}", times=None)
    stage.simulator.faults.add(storage_failure(403, "AccessDenied"), path=r"^/media/.*mp4")

    assert stage.run() == []

    assert stage.states(recording) == {"chat": "archived"}
    assert stage.row(recording)["archived"] == "no"
    assert f"archive#{recording.id}" in checks()


def test_texts_whose_urls_work_are_archived_although_the_budget_for_new_urls_is_spent(
    stage: Stage, checks: Checks, work_table: Table, clock: Clock
) -> None:
    recording = stage.record(["transcript", "chat"])
    stage.catalogue(recording)
    stage.advance(300)
    stage.ingest(*stage.webhooks(recording.session))
    stage.simulator.faults.add(storage_failure(403), path="transcript.vtt$", times=None)
    budget = UpstreamBudget(work_table, "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13", 21, clock)
    budget.close(60)
    stage.ingestion.realtimekit._budget = budget

    assert stage.run() == []

    assert stage.states(recording) == {"transcript": "archived", "captions": "", "chat": "archived"}
    assert checks()[f"archive#{recording.id}"] == "budget_spent"


def test_a_text_whose_storage_fails_does_not_hold_up_the_others(
    stage: Stage, checks: Checks
) -> None:
    recording = stage.record(ALL)
    stage.catalogue(recording)
    stage.simulator.faults.add(storage_failure(503), path="transcript.json$", times=None)
    stage.advance(300)

    stage.ingest(*stage.webhooks(recording.session))
    stage.run()

    assert stage.states(recording) == {**ARCHIVED, "transcript": ""}
    assert checks() == {f"archive#{recording.id}": "media_unavailable"}
    stage.simulator.faults.clear()
    stage.advance(1000)
    stage.tick()
    assert stage.states(recording) == ARCHIVED
    assert checks() == {}


def test_a_row_that_cannot_be_written_does_not_keep_the_files_from_the_sessions_other_rows(
    stage: Stage, checks: Checks, logged: Logged
) -> None:
    broken, sound = stage.record_twice(["transcript", "chat"])
    stage.catalogue(broken, sound)
    end = refuse_writes(stage.dynamodb, broken.id)
    stage.advance(HOUR)

    assert stage.tick() == ["session_files"]

    archived = {"transcript": "archived", "captions": "archived", "chat": "archived"}
    assert (stage.states(broken), stage.states(sound)) == ({}, archived)
    assert metrics(logged())["RecordingUnwritable"] == 1
    assert list(checks().values()) == ["session_files_missing"]
    stage.advance(DAY)
    stage.tick()
    assert stage.states(sound) == {**archived, "summary": "none"}
    assert checks() == {}
    end()


@pytest.mark.parametrize("code", ["ValidationException", "InternalServerError"])
def test_a_check_that_dynamodb_refuses_for_good_does_not_stop_the_stream(
    stage: Stage, checks: Checks, logged: Logged, code: str
) -> None:
    recording = stage.record(ALL)
    stage.catalogue_only(recording)
    end = refuse_writes(stage.dynamodb, f"check#session_files#{SESSION}", code)

    left = stage.stream()

    end()
    if code == "ValidationException":
        assert left == []
        assert len(stage.published("Recording Uploaded")) == 1
        assert metrics(logged())["RecordingUnwritable"] == 1
    else:
        assert (left, stage.published("Recording Uploaded")) == (["1"], [])


# --- Interruptions ---


def test_a_run_that_is_killed_before_it_recorded_a_text_stores_nothing_twice(
    stage: Stage, checks: Checks
) -> None:
    recording = stage.record(["transcript", "chat"])
    stage.catalogue(recording)
    stage.advance(300)
    stage.ingest(*stage.webhooks(recording.session))
    end = refuse_writes(stage.dynamodb, recording.id, "InternalServerError")
    assert stage.stream() == []
    assert stage.run() == ["0"]
    end()
    assert stage.states(recording) == {"transcript": "", "captions": "", "chat": ""}
    assert len(stage.versions()) == 3
    stage.advance(1000)

    stage.tick()

    assert set(stage.states(recording).values()) == {"archived"}
    assert len(stage.versions()) == 3
    assert f"archive#{recording.id}" not in checks()


def test_s3s_failure_leaves_the_text_to_the_next_run(stage: Stage, checks: Checks) -> None:
    recording = stage.record(["transcript", "chat"])
    stage.catalogue(recording)
    stage.advance(300)
    stage.ingest(*stage.webhooks(recording.session))

    with s3_fails(stage.s3, "PutObject", 503, "SlowDown"):
        assert stage.run() == ["0"]

    assert set(stage.states(recording).values()) == {""}
    stage.advance(1000)
    stage.tick()
    assert set(stage.states(recording).values()) == {"archived"}
    assert len(stage.versions()) == 3
    assert f"archive#{recording.id}" not in checks()


def test_a_run_without_time_leaves_the_texts_to_the_next(stage: Stage, checks: Checks) -> None:
    recording = stage.record(["chat"])
    stage.catalogue(recording)
    stage.advance(300)
    stage.ingest(*stage.webhooks(recording.session))
    stage.context = Context(remaining_ms=1000)
    stage.run()
    assert stage.states(recording) == {"chat": ""}
    assert checks()[f"archive#{recording.id}"] == "out_of_time"
    stage.context = Context(remaining_ms=900_000)

    stage.tick()

    assert stage.states(recording) == {"chat": "archived"}


def test_two_runs_at_once_write_and_store_each_file_once(stage: Stage, checks: Checks) -> None:
    recording = stage.record(ALL)
    stage.catalogue(recording)
    stage.advance(300)
    messages = stage.webhooks(recording.session)
    again = at_first_write(stage, "RecordingsTable", lambda: stage.ingest(*messages))
    assert stage.ingest(*messages) == []
    assert again() == [[]]
    version = stage.row(recording)["version"]
    stage.stream()
    [body] = stage.queued
    second = at_first_write(stage, "RecordingsTable", lambda: stage.archive(body))

    assert stage.archive(body) == []

    assert second() == [[]]
    assert stage.states(recording) == ARCHIVED
    assert stage.row(recording)["version"] == version + 1
    assert len(stage.versions()) == 4
    # The second run found the claim taken, so the files are looked at once more.
    stage.tick()
    assert checks() == {}


def at_first_write(
    stage: Stage, table: str, deed: Callable[[], object]
) -> Callable[[], list[object]]:
    """Have something happen at the next write to a table; return a function for its results."""
    results: list[object] = []
    events = stage.dynamodb.meta.events

    def happen(params: Any, **_: Any) -> None:
        if json.loads(params["body"])["TableName"] == table:
            events.unregister("before-call.dynamodb.UpdateItem", happen)
            results.append(deed())

    events.register("before-call.dynamodb.UpdateItem", happen)
    return lambda: results


def erase(stage: Stage, recording: Recording) -> Any:
    """Erase a recording as an operator does, as far as it can be erased now."""
    erasure = Erasure(
        catalogue=stage.ingestion.catalogue,
        worklist=stage.ingestion.worklist,
        archive=stage.archiver.archive,
        now=stage.clock,
    )
    return erasure.erase(EraseRequest(recording_id=recording.id, source=Source.API))


def test_an_erasure_while_a_text_is_stored_leaves_no_object(stage: Stage, checks: Checks) -> None:
    recording = stage.record(["chat"])
    stage.catalogue(recording)
    stage.advance(300)
    stage.ingest(*stage.webhooks(recording.session))
    erased = at_first_write(stage, "RecordingsTable", lambda: erase(stage, recording))

    assert stage.run() == []

    assert "erased_at" not in erased()[0]  # type: ignore[operator]
    stage.advance(1000)
    stage.tick()
    assert set(stage.row(recording)) == {"recording_id", "version", "erased_at"}
    assert "Versions" not in stage.s3.list_object_versions(Bucket=stage.bucket)
    stage.advance(HOUR)
    stage.tick()
    assert checks() == {}


def test_an_erasure_while_files_are_offered_leaves_a_tombstone(
    stage: Stage, checks: Checks
) -> None:
    recording = stage.record(["chat"])
    stage.catalogue(recording)
    stage.advance(300)
    begin = stage.ingestion.catalogue.begin_erasure
    at_first_write(stage, "RecordingsTable", lambda: begin(recording.id, stage.clock()))

    assert stage.ingest(*stage.webhooks(recording.session)) == []
    stage.run()
    erase(stage, recording)
    stage.run()

    assert set(stage.row(recording)) == {"recording_id", "version", "erased_at"}
    assert "Versions" not in stage.s3.list_object_versions(Bucket=stage.bucket)


# --- Rows ---


def test_an_errored_recording_keeps_its_sessions_files(stage: Stage, checks: Checks) -> None:
    recording = stage.record(ALL, outcome=Status.ERRORED)
    stage.catalogue(recording)
    stage.advance(HOUR)

    stage.tick()

    assert stage.states(recording) == ARCHIVED
    assert "archived" not in stage.row(recording)
    assert stage.published("Recording Archived") == []
    assert len(stage.published()) == 4
    assert checks() == {}


def test_a_transcript_beside_a_recording_without_a_file_is_archived_and_the_recording_is_not(
    stage: Stage, checks: Checks, logged: Logged
) -> None:
    recording = stage.record(["chat"], kind=Kind.TRACK, participants=0, file_size=0)
    stage.catalogue(recording)
    stage.advance(300)
    stage.ingest(*stage.webhooks(recording.session))
    stage.run()
    assert stage.states(recording) == {"chat": "archived"}
    assert stage.row(recording)["archived"] == "no"
    assert checks()[f"archive#{recording.id}"] == "not_offered"
    stage.advance(7 * DAY)

    stage.tick()

    artifacts = stage.row(recording)["artifacts"]
    assert artifacts["track"]["archive"]["state"] == "none"
    assert artifacts["chat"]["archive"]["state"] == "archived"
    assert stage.row(recording)["archived"] == "no"
    assert stage.published("Recording Archived") == []
    assert "ArtifactLost" not in metrics(logged())


def test_later_answers_about_the_recording_keep_its_sessions_files(stage: Stage) -> None:
    recording = stage.record(["chat"])
    stage.catalogue(recording)
    stage.advance(300)
    stage.ingest(*stage.webhooks(recording.session))
    stage.run()
    before = stage.row(recording)["artifacts"]["chat"]
    stage.advance(60)

    stage.catalogue(recording)
    [listed] = stage.ingestion.realtimekit.page(1).recordings
    stage.ingestion.catalogue.upsert(listed, stage.clock())

    assert stage.row(recording)["artifacts"]["chat"] == before


def test_a_session_that_ended_more_than_a_week_ago_is_not_looked_at(
    stage: Stage, checks: Checks
) -> None:
    """A backfill finds thousands of them. RealtimeKit has deleted their files."""
    old = stage.record(ALL)
    errored = stage.record(ALL, outcome=Status.ERRORED)
    stage.advance(8 * DAY)
    stage.simulator.faults.add(Overlay({"stopped_time": None}), path=errored.id)

    stage.catalogue(old, errored)

    assert {key for key in checks() if key.startswith("session_files")} == set()
    assert stage.asked() == []


# --- Sweeps ---


@pytest.fixture
def sweep(
    stage: Stage, work_table: Table, archive: Archive, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Counts]:
    """Return a function that sweeps the last 8 days and returns the counts."""
    sweeps = Sweeps(work_table, "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13", clock)
    sweeper = Sweeper(ingestion=stage.ingestion, sweeps=sweeps, archive=archive, now=clock)
    monkeypatch.setattr(sweep_recordings, "sweeper", sweeper)
    monkeypatch.setattr(sweep_recordings, "sweeps", sweeps)
    monkeypatch.setattr(sweep_recordings, "utcnow", clock)

    def sweep(dry_run: bool = False) -> Counts:
        requested = sweeps.request(clock() - timedelta(days=8), clock(), dry_run=dry_run)
        sweep_recordings.handler(sample("sweep-recordings.tick"), stage.context)
        done = sweeps.get(requested.sweep_id)
        assert done
        return done.counts

    return sweep


def test_an_overlooked_session_is_counted_and_gets_its_look(
    stage: Stage, sweep: Callable[..., Counts], worklist: Worklist, checks: Checks, logged: Logged
) -> None:
    recording = stage.record(ALL)
    stage.catalogue(recording)
    worklist.settle(f"session_files#{SESSION}")
    stage.advance(26 * HOUR)
    assert sweep().session_files_missing == 0
    stage.advance(2 * HOUR)

    assert sweep(dry_run=True).session_files_missing == 1
    assert checks() == {}
    assert sweep().session_files_missing == 1

    assert checks() == {f"session_files#{SESSION}": "session_files_forgotten"}
    assert metrics(logged())["SessionFileOverlooked"] == 2
    stage.advance(60)
    stage.tick()
    assert stage.states(recording) == ARCHIVED
    assert sweep().session_files_missing == 0


def test_a_sweep_that_adds_a_recording_overlooked_no_session(
    stage: Stage, sweep: Callable[..., Counts], checks: Checks
) -> None:
    recording = stage.record(ALL)
    stage.advance(2 * DAY)

    counts = sweep()

    assert (counts.missing, counts.session_files_missing) == (1, 0)
    stage.run()
    assert checks()[f"session_files#{SESSION}"] == "session_files_pending"
    stage.advance(60)
    stage.tick()
    assert stage.states(recording) == ARCHIVED


def test_a_backfill_of_old_recordings_looks_for_no_files(
    stage: Stage, sweep: Callable[..., Counts], checks: Checks
) -> None:
    stage.record(ALL)
    stage.advance(7 * DAY + HOUR)

    counts = sweep()
    stage.stream()

    assert (counts.missing, counts.session_files_missing) == (1, 0)
    assert {key for key in checks() if key.startswith("session_files")} == set()
    assert stage.asked() == []


def test_a_recording_of_which_only_the_transcript_is_archived_is_not_counted_as_archived(
    stage: Stage, sweep: Callable[..., Counts]
) -> None:
    recording = stage.record(["chat"], kind=Kind.TRACK, participants=0, file_size=0)
    stage.catalogue(recording)
    stage.advance(HOUR)
    stage.tick()
    assert stage.states(recording)["chat"] == "archived"
    stage.advance(7 * DAY)
    stage.tick()
    assert stage.row(recording)["artifacts"]["track"]["archive"]["state"] == "none"

    counts = sweep()

    assert (counts.archived, counts.not_archived, counts.at_risk) == (0, 0, 0)
