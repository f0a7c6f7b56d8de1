"""archive_recording: from a message to files in the bucket, or a check that comes back for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

import archive_recording
from doubles import API_TOKEN, Clock, Context, s3_fails, sample
from local.simulator import (
    Delay,
    Drop,
    Effect,
    Headers,
    IgnoreRange,
    Kind,
    Overlay,
    Recording,
    RecordingOptions,
    Replaced,
    Simulator,
    Truncate,
    error,
    garbage,
    gateway_error,
    html,
    rate_limited,
    storage_failure,
)
from recordings import messages
from recordings.archive import Archive
from recordings.archiving import Archiving
from recordings.catalogue import Catalogue, expiry
from recordings.media import Media
from recordings.messages import ArchiveRequest, EraseRequest, Source
from recordings.worklist import Worklist

MIB = 1024 * 1024
DAY = 86_400
RETENTION = 7 * DAY
# Longer than the lease of a run that failed.
LATER = 1_000

Invoke = Callable[..., list[str]]
Record = Callable[..., Recording]
Checks = Callable[[], dict[str, str]]
Logged = Callable[[], str]
Meanwhile = Callable[[Callable[[], object]], None]


def message(recording_id: str, deadline: str = "2026-06-10T10:30:00.000Z") -> str:
    return messages.body(
        ArchiveRequest(recording_id=recording_id, deadline=deadline, source=Source.CATALOGUE)
    )


@pytest.fixture
def handle(archiving: Archiving, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Give the function messages; the ids of those that stay on the queue."""
    monkeypatch.setattr(archive_recording, "archiving", archiving)

    def handle(*bodies: str, context: Context | None = None) -> list[str]:
        records = [{"messageId": str(n), "body": body} for n, body in enumerate(bodies)]
        answer = archive_recording.handler(
            {"Records": records},
            context or Context(remaining_ms=900_000),  # type: ignore[arg-type]
        )
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    return handle


@pytest.fixture
def invoke(archiving: Archiving, handle: Invoke) -> Invoke:
    """Have a catalogued recording's files archived."""

    def invoke(recording: Recording, **options: Any) -> list[str]:
        row = archiving.catalogue.get(recording.id)
        assert row
        return handle(message(recording.id, expiry(row)), **options)

    return invoke


@pytest.fixture
def record(simulator: Simulator, archiving: Archiving) -> Record:
    """A recording that is catalogued."""

    def record(**options: Any) -> Recording:
        options = {"file_size": MIB, **options}
        recording = simulator.world.record_meeting(options=RecordingOptions(**options))
        seen = archiving.realtimekit.recording(recording.id)
        archiving.catalogue.upsert(seen, archiving.now())
        return recording

    return record


@dataclass
class Archived:
    """What there is of a recording in row and bucket."""

    catalogue: Catalogue
    s3: Any
    bucket: str
    simulator: Simulator

    def states(self, recording: Recording) -> dict[str, str]:
        """Of its artifacts, by name."""
        artifacts = self.row(recording)["artifacts"]
        found = {
            name: one["archive"]["state"] for name, one in artifacts.items() if "archive" in one
        }
        return dict(sorted(found.items()))

    def row(self, recording: Recording) -> dict[str, Any]:
        row = self.catalogue.get(recording.id)
        assert row
        return row

    def versions(self) -> list[str]:
        answer = self.s3.list_object_versions(Bucket=self.bucket)
        return [version["Key"] for version in answer.get("Versions", [])]

    def uploads(self) -> int:
        return len(self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", []))

    def is_whole_and_once(self, recording: Recording) -> bool:
        """Each file is one object, byte for byte; the row tells where; nothing is left over."""
        row, files = self.row(recording), self.simulator.world.media_files(recording)
        archives = [artifact["archive"] for artifact in row["artifacts"].values()]
        bodies = [
            self.s3.get_object(Bucket=archive["bucket"], Key=archive["key"])["Body"].read()
            for archive in archives
        ]
        checksums = sorted(archive["checksum_crc32"] for archive in archives)
        return (
            row["archived"] == "yes"
            and sorted(bodies) == sorted(file.read() for file in files)
            and checksums == sorted(file.crc32() for file in files)
            and sorted(self.versions()) == sorted(archive["key"] for archive in archives)
            and self.uploads() == 0
        )


@pytest.fixture
def archived(catalogue: Catalogue, s3: Any, bucket: str, simulator: Simulator) -> Archived:
    return Archived(catalogue, s3, bucket, simulator)


def metrics(log: str) -> dict[str, float]:
    """The sums of all that were put out, by name."""
    sums: dict[str, float] = {}
    for line in log.splitlines():
        fields = json.loads(line)
        for name in fields.get("_aws", {}).get("CloudWatchMetrics", [{}])[0].get("Metrics", []):
            sums[name["Name"]] = sums.get(name["Name"], 0) + sum(fields[name["Name"]])
    return sums


def media_requests(simulator: Simulator) -> int:
    return sum(logged.path.startswith("/media/") for logged in simulator.requests)


def advance(clock: Clock, simulator: Simulator, seconds: float) -> None:
    clock.advance(seconds)
    simulator.world.clock.advance(seconds)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"file_size": 12 * MIB}, ["video"]),
        ({"separate_audio": True, "audio_file_size": 100}, ["audio", "video"]),
        ({"kind": Kind.AUDIO, "file_size": 1000}, ["audio"]),
        (
            {"kind": Kind.TRACK, "participants": 3, "duration": 60, "file_size": 0},
            ["track", "track", "track"],
        ),
        ({"kind": Kind.INTERACTIVE}, ["video"]),
    ],
)
def test_every_file_arrives_whole_and_the_row_says_where(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    checks: Checks,
    logged: Logged,
    options: dict[str, Any],
    names: list[str],
) -> None:
    recording = record(**options)

    assert invoke(recording) == []

    assert archived.is_whole_and_once(recording)
    assert [name.partition("/")[0] for name in archived.states(recording)] == names
    assert set(archived.states(recording).values()) == {"archived"}
    assert checks() == {}
    sums = metrics(logged())
    assert sums["ArtifactArchived"] == len(names)
    assert sums["ArtifactLost"] == 0


def test_the_sample_has_the_samples_recording_archived(
    record: Record, handle: Invoke, archived: Archived
) -> None:
    recording = record()
    [queued] = sample("archive-recording.queue-message")["Records"]

    assert handle(queued["body"]) == []

    assert archived.is_whole_and_once(recording)


def test_the_same_job_again_asks_nobody_and_copies_nothing(
    record: Record, invoke: Invoke, archived: Archived, simulator: Simulator, checks: Checks
) -> None:
    recording = record()
    invoke(recording)
    before = len(simulator.requests)

    assert invoke(recording) == []

    assert len(simulator.requests) == before
    assert archived.is_whole_and_once(recording)
    assert checks() == {}


@pytest.mark.parametrize("status", ["INVOKED", "RECORDING", "UPLOADING", "ERRORED"])
def test_what_is_not_uploaded_has_nothing_to_be_archived(
    record: Record,
    invoke: Invoke,
    simulator: Simulator,
    archiving: Archiving,
    checks: Checks,
    status: str,
) -> None:
    recording = simulator.world.record_meeting(status=status)  # type: ignore[arg-type]
    archiving.catalogue.upsert(archiving.realtimekit.recording(recording.id), archiving.now())

    assert invoke(recording) == []

    assert media_requests(simulator) == 0
    assert checks() == {}


def test_a_recording_that_is_not_catalogued_is_settled(
    handle: Invoke, worklist: Worklist, checks: Checks
) -> None:
    recording_id = "97cb480d-5840-4528-ace3-919b5e386c68"
    worklist.check_in(60, f"archive#{recording_id}", {"recording_id": recording_id}, "pending")

    assert handle(message(recording_id)) == []

    assert checks() == {}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{", "not JSON"),
        (
            '{"v": 1, "source": "webhook", "recording_id": "97cb480d-5840-4528-ace3-919b5e386c68"}',
            "not for the archive queue",
        ),
        ('{"v": 1, "source": "catalogue", "task": "archive", "recording_id": "7"}', "deadline"),
        (message("7"), "recording_id is not a UUID"),
    ],
)
def test_a_message_that_makes_no_sense_goes_to_the_dead_letters_and_stops_no_other(
    record: Record, handle: Invoke, archived: Archived, logged: Logged, body: str, reason: str
) -> None:
    recording = record()

    assert handle(body, message(recording.id)) == ["0"]

    assert archived.is_whole_and_once(recording)
    log = logged()
    assert reason in log
    assert metrics(log)["MessageMalformed"] == 1


# --- RealtimeKit's faults ---


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (rate_limited(30), "throttled"),
        (error(503), "unavailable"),
        (html(502), "unavailable"),
        (Drop(), "unavailable"),
        (Delay(60), "unavailable"),
        (garbage(), "unintelligible"),
        (gateway_error(403), "unauthorized"),
        (error(404), "not_found"),
    ],
    ids=repr,
)
def test_without_an_answer_of_realtimekit_nothing_is_copied_until_there_is_one(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    simulator: Simulator,
    checks: Checks,
    clock: Clock,
    fault: Effect,
    cause: str,
) -> None:
    recording = record()
    simulator.faults.add(fault, path=f"/recordings/{recording.id}", times=2)

    assert invoke(recording) == []

    assert media_requests(simulator) == 0
    assert checks() == {f"archive#{recording.id}": cause}
    simulator.faults.clear()
    clock.advance(LATER)
    assert invoke(recording) == []
    assert archived.is_whole_and_once(recording)
    assert checks() == {}


def test_after_a_429_the_check_is_due_when_the_time_is_over(
    record: Record, invoke: Invoke, simulator: Simulator, worklist: Worklist, clock: Clock
) -> None:
    recording = record()
    simulator.faults.add(rate_limited(400))

    invoke(recording)

    clock.advance(399)
    assert worklist.due(10) == []
    clock.advance(1)
    [check] = worklist.due(10)
    assert check.key == f"archive#{recording.id}"


def test_when_time_is_short_the_url_that_is_known_will_do(
    record: Record, invoke: Invoke, archived: Archived, simulator: Simulator, clock: Clock
) -> None:
    recording = record()
    advance(clock, simulator, RETENTION - DAY)
    simulator.faults.add(error(503), path=f"/recordings/{recording.id}", times=None)

    assert invoke(recording) == []

    assert archived.is_whole_and_once(recording)


# --- the storage's faults ---


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (html(200), "not_media"),
        (storage_failure(200), "not_media"),
        (Headers({"Content-Type": "text/html"}), "not_media"),
        (storage_failure(404, "NoSuchKey"), "media_missing"),
        (storage_failure(400, "ExpiredRequest"), "url_expired"),
        (storage_failure(403, "AccessDenied"), "url_expired"),
        (storage_failure(503, "SlowDown"), "media_unavailable"),
        (Drop(), "media_unavailable"),
        (Truncate(0), "media_unavailable"),
        (Replaced(), "media_changed"),
        (Headers({"Content-Range": "bytes 0-511/7"}), "wrong_length"),
    ],
    ids=repr,
)
def test_whatever_the_storage_does_no_object_but_a_check_is_left(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    simulator: Simulator,
    checks: Checks,
    clock: Clock,
    logged: Logged,
    fault: Effect,
    cause: str,
) -> None:
    recording = record()
    simulator.faults.add(fault, path="^/media/", times=None)

    assert invoke(recording) == []

    assert archived.versions() == []
    assert archived.row(recording)["archived"] == "no"
    assert checks() == {f"archive#{recording.id}": cause}
    log = logged()
    assert cause in log
    assert "X-Amz-" not in log
    assert metrics(log)[f"ArchivePostponed{cause.title().replace('_', '')}"] == 1
    simulator.faults.clear()
    clock.advance(LATER)
    assert invoke(recording) == []
    assert archived.is_whole_and_once(recording)


def test_a_host_that_is_not_allowed_is_not_asked(
    record: Record,
    invoke: Invoke,
    archiving: Archiving,
    simulator: Simulator,
    checks: Checks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording = record()
    strict = replace(archiving, media=Media((".r2.cloudflarestorage.com",)))
    monkeypatch.setattr(archive_recording, "archiving", strict)

    assert invoke(recording) == []

    assert media_requests(simulator) == 0
    assert checks() == {f"archive#{recording.id}": "host_refused"}


def test_a_url_that_expired_between_two_looks_is_asked_for_anew(
    record: Record, invoke: Invoke, archived: Archived, simulator: Simulator
) -> None:
    recording = record()
    simulator.faults.add(storage_failure(403, "AccessDenied"), path="^/media/")
    before = len(simulator.requests)

    assert invoke(recording) == []

    assert archived.is_whole_and_once(recording)
    asked = [r.path for r in simulator.requests[before:] if not r.path.startswith("/media/")]
    assert len(asked) == 2


def test_a_file_that_changes_while_it_is_copied_is_begun_anew_once_and_said(
    record: Record, invoke: Invoke, archived: Archived, simulator: Simulator, logged: Logged
) -> None:
    recording = record(file_size=6 * MIB)
    # The first look is answered, and the first range is of another file.
    simulator.faults.add(Delay(0), path="^/media/")
    simulator.faults.add(Replaced(), path="^/media/")

    assert invoke(recording) == []

    assert archived.is_whole_and_once(recording)
    assert "copies begun anew" in logged()


def test_one_files_trouble_is_not_the_others(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    simulator: Simulator,
    checks: Checks,
    clock: Clock,
) -> None:
    recording = record(separate_audio=True, audio_file_size=1000)
    video = recording.artifacts[0].file_name
    simulator.faults.add(storage_failure(503), path=f"^/media/.*{video}", times=None)

    invoke(recording)

    assert archived.states(recording) == {"audio": "archived"}
    assert archived.row(recording)["archived"] == "partly"
    assert checks() == {f"archive#{recording.id}": "media_unavailable"}
    simulator.faults.clear()
    clock.advance(LATER)
    before = media_requests(simulator)
    invoke(recording)
    assert archived.is_whole_and_once(recording)
    # The look at the video, and the video.
    assert media_requests(simulator) == before + 2


def test_a_length_that_is_wrong_is_not_believed_but_to_the_end(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    simulator: Simulator,
    checks: Checks,
    clock: Clock,
) -> None:
    simulator.faults.add(Overlay({"file_size": 5}), path="/recordings/", times=None)
    recording = record()

    invoke(recording)

    assert archived.versions() == []
    assert checks() == {f"archive#{recording.id}": "wrong_length"}
    advance(clock, simulator, RETENTION - DAY)
    invoke(recording)
    assert archived.is_whole_and_once(recording)


# --- out of time, and two at once ---


class Hourglass(Context):
    """It runs out when it is turned."""

    def turn(self, **_: Any) -> None:
        self.remaining_ms = 10_000


def test_a_run_out_of_time_leaves_what_it_has_and_the_next_goes_on(
    record: Record,
    invoke: Invoke,
    archiving: Archiving,
    archived: Archived,
    s3: Any,
    bucket: str,
    simulator: Simulator,
    worklist: Worklist,
    clock: Clock,
    logged: Logged,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording = record(file_size=12 * MIB)
    one_by_one = Archive(s3, bucket, part_size=5 * MIB, parts_in_flight=1)
    monkeypatch.setattr(archive_recording, "archiving", replace(archiving, archive=one_by_one))
    context = Hourglass(remaining_ms=900_000)
    s3.meta.events.register("after-call.s3.UploadPart", context.turn)

    assert invoke(recording, context=context) == []

    assert archived.versions() == []
    assert archived.uploads() == 1
    [check] = worklist.due(10)
    assert (check.key, check.cause) == (f"archive#{recording.id}", "out_of_time")
    before = len(simulator.requests)
    assert invoke(recording) == []
    ranges = [r.range for r in simulator.requests[before:] if r.path.startswith("/media/")]
    assert ranges == [
        "bytes=0-511",
        f"bytes={5 * MIB}-{10 * MIB - 1}",
        f"bytes={10 * MIB}-{12 * MIB - 1}",
    ]
    assert archived.is_whole_and_once(recording)
    lines = [json.loads(line) for line in logged().splitlines() if "resumed" in line]
    assert [line["resumed"] for line in lines] == [0, 1]


def test_a_run_without_time_copies_nothing_and_is_due_at_once(
    record: Record, invoke: Invoke, simulator: Simulator, worklist: Worklist
) -> None:
    recording = record()

    assert invoke(recording, context=Context(remaining_ms=29_000)) == []

    assert media_requests(simulator) == 0
    [check] = worklist.due(10)
    assert check.cause == "out_of_time"


@pytest.mark.parametrize("changed", [Replaced(), IgnoreRange(), Headers({"ETag": None})], ids=repr)
def test_a_copy_of_what_is_not_the_same_file_any_more_begins_anew(
    record: Record,
    invoke: Invoke,
    archiving: Archiving,
    archived: Archived,
    s3: Any,
    bucket: str,
    simulator: Simulator,
    logged: Logged,
    monkeypatch: pytest.MonkeyPatch,
    changed: Effect,
) -> None:
    """Or of what cannot be had from its middle any more."""
    recording = record(file_size=12 * MIB)
    one_by_one = Archive(s3, bucket, part_size=5 * MIB, parts_in_flight=1)
    monkeypatch.setattr(archive_recording, "archiving", replace(archiving, archive=one_by_one))
    context = Hourglass(remaining_ms=900_000)
    s3.meta.events.register("after-call.s3.UploadPart", context.turn)
    invoke(recording, context=context)
    times = 1 if isinstance(changed, Replaced) else None
    simulator.faults.add(changed, path="^/media/", times=times)

    assert invoke(recording) == []

    assert archived.is_whole_and_once(recording)
    assert "copies begun anew" in logged()


def test_without_ranges_a_run_out_of_time_begins_anew(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    s3: Any,
    simulator: Simulator,
    logged: Logged,
) -> None:
    recording = record(file_size=12 * MIB)
    simulator.faults.add(IgnoreRange(), Headers({"ETag": None}), path="^/media/", times=None)
    context = Hourglass(remaining_ms=900_000)
    s3.meta.events.register("after-call.s3.UploadPart", context.turn)
    invoke(recording, context=context)
    assert archived.uploads() == 1

    assert invoke(recording) == []

    assert archived.is_whole_and_once(recording)
    assert "copies begun anew" in logged()


def test_what_another_run_is_working_on_is_left_to_it(
    record: Record, invoke: Invoke, simulator: Simulator, worklist: Worklist, logged: Logged
) -> None:
    recording = record()
    key = f"archive#{recording.id}"
    request = messages.fields(messages.parse(message(recording.id)))
    other = worklist.claim(key, request, "2026-06-10T10:30:00.000Z", 930)
    assert other

    assert invoke(recording) == []

    assert media_requests(simulator) == 0
    assert "left to a run under way" in logged()
    # Somebody asked meanwhile: it is looked at once more.
    worklist.finish(other)
    assert [check.key for check in worklist.due(10)] == [key]


def test_a_run_whose_claim_was_taken_over_notes_nothing(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    s3: Any,
    worklist: Worklist,
    clock: Clock,
    logged: Logged,
) -> None:
    recording = record()
    key = f"archive#{recording.id}"
    request = messages.fields(messages.parse(message(recording.id)))

    def take_over(**_: Any) -> None:
        clock.advance(LATER)
        assert worklist.claim(key, request, "2026-06-10T10:30:00.000Z", 930)

    s3.meta.events.register("after-call.s3.CreateMultipartUpload", take_over)

    assert invoke(recording) == ["0"]

    assert archived.versions() == []
    assert "ClaimLostError" in logged()


# --- AWS's faults ---


@pytest.mark.parametrize(
    "operation", ["HeadObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]
)
def test_when_s3_fails_the_message_stays_and_the_next_run_archives(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    s3: Any,
    clock: Clock,
    checks: Checks,
    operation: str,
) -> None:
    recording = record()

    with s3_fails(s3, operation, 500, "InternalError"):
        assert invoke(recording) == ["0"]

    assert archived.versions() == []
    assert list(checks()) == [f"archive#{recording.id}"]
    clock.advance(LATER)
    assert invoke(recording) == []
    assert archived.is_whole_and_once(recording)
    assert checks() == {}


def test_what_was_archived_before_s3_failed_is_in_the_row(
    record: Record, invoke: Invoke, archived: Archived, s3: Any
) -> None:
    recording = record(separate_audio=True, audio_file_size=1000)
    creations: list[object] = []

    def fail_the_second(**_: Any) -> None:
        creations.append(None)
        if len(creations) == 2:
            raise ClientError({"Error": {"Code": "InternalError"}}, "CreateMultipartUpload")

    s3.meta.events.register("before-call.s3.CreateMultipartUpload", fail_the_second)

    assert invoke(recording) == ["0"]

    assert archived.states(recording) == {"audio": "archived"}


def test_an_object_whose_row_was_not_written_is_found_and_not_copied_again(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    dynamodb: Any,
    clock: Clock,
    simulator: Simulator,
) -> None:
    """As after a crash between S3's completion and the row."""
    recording = record()

    def fail(params: dict[str, Any], **_: Any) -> None:
        body = json.loads(params["body"])
        if body["TableName"] == "RecordingsTable":
            raise ClientError({"Error": {"Code": "InternalServerError"}}, "UpdateItem")

    dynamodb.meta.events.register("before-call.dynamodb.UpdateItem", fail)
    assert invoke(recording) == ["0"]
    dynamodb.meta.events.unregister("before-call.dynamodb.UpdateItem", fail)
    assert archived.row(recording)["archived"] == "no"
    before = media_requests(simulator)

    clock.advance(LATER)
    assert invoke(recording) == []

    assert archived.is_whole_and_once(recording)
    looks = [logged.range for logged in simulator.requests if logged.path.startswith("/media/")]
    assert set(looks[before:]) == {"bytes=0-511"}


# --- media that is elsewhere ---


@pytest.fixture
def elsewhere(record: Record) -> Callable[..., Recording]:
    """A recording in a storage of the owner's, in that bucket."""

    def elsewhere(bucket: str, type_: str = "aws") -> Recording:
        storage = {
            "type": type_,
            "bucket": bucket,
            "region": "eu-central-1",
            "path": "recordings/",
            "secret": "canary",
        }
        return record(realtimekit_bucket=False, storage_config=storage)

    return elsewhere


def test_a_file_in_another_bucket_is_noted_with_its_place(
    elsewhere: Callable[..., Recording],
    invoke: Invoke,
    archived: Archived,
    checks: Checks,
    simulator: Simulator,
) -> None:
    recording = elsewhere("owners-own")

    assert invoke(recording) == []

    row = archived.row(recording)
    assert row["artifacts"]["video"]["archive"] == {
        "state": "external",
        "location": {
            "type": "aws",
            "bucket": "owners-own",
            "region": "eu-central-1",
            "key": f"recordings/{recording.file_name}",
        },
        "noted_at": "2026-06-03T10:30:00.000Z",
    }
    assert row["archived"] == "no"
    assert checks() == {}
    assert media_requests(simulator) == 0


def test_a_file_in_our_own_bucket_is_adopted_when_it_is_there(
    elsewhere: Callable[..., Recording],
    invoke: Invoke,
    archived: Archived,
    checks: Checks,
    s3: Any,
    bucket: str,
    clock: Clock,
) -> None:
    recording = elsewhere(bucket)
    key = f"recordings/{recording.file_name}"

    invoke(recording)

    assert archived.states(recording) == {}
    assert checks() == {f"archive#{recording.id}": "not_there"}
    s3.put_object(Bucket=bucket, Key=key, Body=b"video")
    clock.advance(LATER)
    invoke(recording)
    archive = archived.row(recording)["artifacts"]["video"]["archive"]
    assert (archive["state"], archive["bucket"], archive["key"]) == ("archived", bucket, key)
    assert archive["size"] == 5
    assert archived.row(recording)["archived"] == "yes"
    assert archived.versions() == [key]
    assert checks() == {}


def test_a_file_in_a_bucket_of_another_cloud_is_not_looked_for_in_ours_of_the_same_name(
    elsewhere: Callable[..., Recording], invoke: Invoke, archived: Archived, s3: Any, bucket: str
) -> None:
    recording = elsewhere(bucket, "cloudflare")
    s3.put_object(Bucket=bucket, Key=f"recordings/{recording.file_name}", Body=b"another")

    invoke(recording)

    assert archived.states(recording) == {"video": "external"}


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_what_realtimekit_never_kept_does_not_expire(
    elsewhere: Callable[..., Recording],
    invoke: Invoke,
    archived: Archived,
    checks: Checks,
    clock: Clock,
    simulator: Simulator,
    logged: Logged,
    is_forgotten: bool,
) -> None:
    """Found by a backfill, say, a year later."""
    recording = elsewhere("owners-own")
    advance(clock, simulator, 365 * DAY)
    if is_forgotten:
        simulator.faults.add(error(404), path=f"/recordings/{recording.id}", times=None)

    assert invoke(recording) == []

    assert archived.states(recording) == {"video": "external"}
    assert checks() == {}
    assert metrics(logged())["ArtifactLost"] == 0


@pytest.mark.parametrize(("is_there", "state"), [(True, "archived"), (False, "expired")])
def test_a_file_that_should_be_in_our_own_bucket_is_looked_for_before_it_is_given_up(
    elsewhere: Callable[..., Recording],
    invoke: Invoke,
    archived: Archived,
    checks: Checks,
    clock: Clock,
    simulator: Simulator,
    s3: Any,
    bucket: str,
    is_there: bool,
    state: str,
) -> None:
    recording = elsewhere(bucket)
    if is_there:
        s3.put_object(Bucket=bucket, Key=f"recordings/{recording.file_name}", Body=b"video")
    advance(clock, simulator, RETENTION + 60)

    invoke(recording)

    assert archived.states(recording) == {"video": state}
    assert checks() == {}


# --- the deadline ---


def test_a_file_that_was_never_offered_is_waited_for_until_it_would_be_gone(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    checks: Checks,
    clock: Clock,
    simulator: Simulator,
    logged: Logged,
) -> None:
    recording = record(realtimekit_bucket=False)

    invoke(recording)

    assert checks() == {f"archive#{recording.id}": "not_offered"}
    advance(clock, simulator, RETENTION)
    invoke(recording)
    assert archived.states(recording) == {"video": "expired"}
    assert metrics(logged())["ArtifactLost"] == 1
    assert checks() == {}


def test_a_file_that_expired_is_lost_once_and_the_row_says_so(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    checks: Checks,
    clock: Clock,
    simulator: Simulator,
    logged: Logged,
) -> None:
    recording = record()
    advance(clock, simulator, RETENTION + 60)

    invoke(recording)

    assert archived.row(recording)["artifacts"]["video"]["archive"] == {
        "state": "expired",
        "expired_at": "2026-06-10T10:31:00.000Z",
    }
    assert checks() == {}
    log = logged()
    assert "file lost" in log
    assert metrics(log)["ArtifactLost"] == 1
    invoke(recording)
    assert metrics(logged())["ArtifactLost"] == 0


def test_an_upload_of_a_file_that_expired_is_aborted(
    record: Record, invoke: Invoke, archived: Archived, clock: Clock, simulator: Simulator, s3: Any
) -> None:
    recording = record(file_size=12 * MIB)
    context = Hourglass(remaining_ms=900_000)
    s3.meta.events.register("after-call.s3.UploadPart", context.turn)
    simulator.faults.add(Delay(0), path="^/media/", times=2)
    simulator.faults.add(Delay(0.5), path="^/media/", times=None)
    invoke(recording, context=context)
    assert archived.uploads() == 1

    advance(clock, simulator, RETENTION + 60)
    invoke(recording)

    assert archived.states(recording) == {"video": "expired"}
    assert archived.uploads() == 0


def test_what_was_gone_before_we_heard_of_it_is_no_loss_of_ours(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    clock: Clock,
    simulator: Simulator,
    archiving: Archiving,
    logged: Logged,
) -> None:
    recording = simulator.world.record_meeting()
    advance(clock, simulator, RETENTION + DAY)
    archiving.catalogue.upsert(archiving.realtimekit.recording(recording.id), clock())

    invoke(recording)

    assert archived.states(recording) == {"video": "expired"}
    assert metrics(logged()).get("ArtifactLost", 0) == 0


def test_a_file_that_expires_while_another_is_copied_is_lost_and_stops_nothing(
    record: Record, invoke: Invoke, archived: Archived, clock: Clock, simulator: Simulator, s3: Any
) -> None:
    recording = record(separate_audio=True, audio_file_size=1000)
    advance(clock, simulator, RETENTION - 60)
    s3.meta.events.register(
        "after-call.s3.CompleteMultipartUpload", lambda **_: advance(clock, simulator, 120)
    )

    assert invoke(recording) == []

    assert archived.states(recording) == {"audio": "archived", "video": "expired"}
    assert archived.row(recording)["archived"] == "partly"


@pytest.mark.parametrize(("hours", "states"), [(11, {}), (13, {"video": "expired"})])
def test_while_realtimekit_is_down_a_later_expiry_is_hoped_for_but_not_for_ever(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    clock: Clock,
    simulator: Simulator,
    hours: int,
    states: dict[str, str],
) -> None:
    recording = record()
    advance(clock, simulator, RETENTION + hours * 3600)
    simulator.faults.add(error(503), path=f"/recordings/{recording.id}", times=None)

    invoke(recording)

    assert archived.states(recording) == states


def test_what_realtimekit_does_not_know_any_more_is_lost_with_its_file(
    record: Record, invoke: Invoke, archived: Archived, clock: Clock, simulator: Simulator
) -> None:
    recording = record()
    advance(clock, simulator, RETENTION + 60)
    simulator.faults.add(error(404), path=f"/recordings/{recording.id}", times=None)

    invoke(recording)

    assert archived.states(recording) == {"video": "expired"}


# --- secrets ---


def test_no_secret_is_logged_or_kept_in_checks(
    record: Record,
    invoke: Invoke,
    simulator: Simulator,
    work_table: Any,
    logged: Logged,
    dynamodb: Any,
) -> None:
    recording = record(separate_audio=True)
    simulator.faults.add(Truncate(0.3), path="^/media/", times=None)

    invoke(recording)

    kept = dynamodb.scan(TableName="WorkTable")["Items"]
    everything = f"{logged()} {kept}"
    assert recording.id in everything
    assert API_TOKEN not in everything
    assert "X-Amz-" not in everything


# --- erasures that the API could not finish ---


@pytest.fixture
def meanwhile(dynamodb: Any) -> Meanwhile:
    """Have something happen when the function first writes to the work table."""

    def meanwhile(deed: Callable[[], object]) -> None:
        def happen(params: dict[str, Any], **_: Any) -> None:
            if json.loads(params["body"])["TableName"] == "WorkTable":
                events.unregister("before-call.dynamodb.UpdateItem", happen)
                deed()

        events = dynamodb.meta.events
        events.register("before-call.dynamodb.UpdateItem", happen)

    return meanwhile


def erasure(recording_id: str) -> str:
    request = EraseRequest(recording_id=recording_id, source=Source.FOLLOW_UP)
    return messages.body(request)


def test_an_erasure_is_gone_on_with(
    record: Record, invoke: Invoke, handle: Invoke, archived: Archived, checks: Checks
) -> None:
    recording = record()
    invoke(recording)

    assert handle(erasure(recording.id)) == []

    assert archived.versions() == []
    assert set(archived.row(recording)) == {"recording_id", "erased_at", "version"}
    assert checks() == {}


def test_an_erasure_waits_for_a_run_under_way_which_then_archives_nothing_more(
    record: Record,
    invoke: Invoke,
    handle: Invoke,
    archived: Archived,
    worklist: Worklist,
    checks: Checks,
    logged: Logged,
) -> None:
    recording = record()
    invoke(recording)
    key = f"archive#{recording.id}"
    run = worklist.claim(key, {"task": "archive"}, "2026-06-10T10:30:00.000Z", 930)
    assert run

    assert handle(erasure(recording.id)) == []

    assert "left to a run under way" in logged()
    assert checks()[f"erase#{recording.id}"] == "erasing"
    worklist.finish(run)
    assert handle(erasure(recording.id)) == []
    assert archived.versions() == []
    assert checks() == {}


def test_a_file_that_expires_while_its_recording_is_erased_is_the_erasures(
    invoke: Invoke,
    archived: Archived,
    checks: Checks,
    clock: Clock,
    simulator: Simulator,
    archiving: Archiving,
    meanwhile: Meanwhile,
) -> None:
    recording = simulator.world.record_meeting()
    advance(clock, simulator, RETENTION + 60)
    archiving.catalogue.upsert(archiving.realtimekit.recording(recording.id), clock())
    meanwhile(lambda: archiving.catalogue.begin_erasure(recording.id, clock()))

    assert invoke(recording) == []

    assert "erasing_since" in archived.row(recording)
    assert archived.states(recording) == {}
    assert checks() == {}


def test_of_two_erasures_at_once_the_slower_is_done_too(
    record: Record,
    invoke: Invoke,
    handle: Invoke,
    archived: Archived,
    checks: Checks,
    meanwhile: Meanwhile,
) -> None:
    recording = record()
    invoke(recording)
    meanwhile(lambda: handle(erasure(recording.id)))

    assert handle(erasure(recording.id)) == []

    assert set(archived.row(recording)) == {"recording_id", "erased_at", "version"}
    assert archived.versions() == []
    assert checks() == {}


def test_an_erasure_of_what_is_not_there_is_done(handle: Invoke, checks: Checks) -> None:
    assert handle(erasure("97cb480d-5840-4528-ace3-919b5e386c68")) == []
    assert checks() == {}


def test_an_erasure_that_s3_fails_stays_on_the_queue(
    record: Record, invoke: Invoke, handle: Invoke, s3: Any, checks: Checks
) -> None:
    recording = record()
    invoke(recording)

    with s3_fails(s3, "DeleteObjects", 500, "InternalError"):
        assert handle(erasure(recording.id)) == ["0"]

    assert f"erase#{recording.id}" in checks()
