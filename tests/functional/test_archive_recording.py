"""archive_recording: from a message to files in the bucket, or to a check for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

import archive_recording
from doubles import API_TOKEN, AnyRequest, Clock, Context, s3_fails, sample
from realtimekit_simulator import (
    Chunked,
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
    Resize,
    SessionFileOptions,
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
from recordings.archive import object_key as archive_key
from recordings.archiver import Archiver
from recordings.catalogue import Catalogue
from recordings.copier import Copier
from recordings.dynamodb import Table
from recordings.ingestion import Ingestion
from recordings.media import Media
from recordings.messages import ArchiveRequest, EraseRequest, SessionFilesRequest, Source
from recordings.model import Artifact
from recordings.rows import expiry, unsettled
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
def handle(archiver: Archiver, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return a function that hands messages over, and returns the ids that stay on the queue."""
    monkeypatch.setattr(archive_recording, "archiver", archiver)

    def handle(*bodies: str, context: Context | None = None) -> list[str]:
        records = [{"messageId": str(n), "body": body} for n, body in enumerate(bodies)]
        answer = archive_recording.handler(
            {"Records": records},
            context or Context(remaining_ms=900_000),
        )
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    return handle


@pytest.fixture
def invoke(archiver: Archiver, handle: Invoke) -> Invoke:
    """Return a function that has a catalogued recording's files archived."""

    def invoke(recording: Recording, **options: Any) -> list[str]:
        row = archiver.catalogue.get(recording.id)
        assert row
        return handle(message(recording.id, expiry(row)), **options)

    return invoke


@pytest.fixture
def record(simulator: Simulator, archiver: Archiver) -> Record:
    """Return a function that records and catalogues a meeting."""

    def record(**options: Any) -> Recording:
        options = {"file_size": MIB, **options}
        recording = simulator.world.record_meeting(options=RecordingOptions(**options))
        seen = archiver.realtimekit.recording(recording.id)
        archiver.catalogue.upsert(seen, archiver.now())
        return recording

    return record


@dataclass
class Archived:
    """The states and objects of a recording, in row and bucket."""

    catalogue: Catalogue
    s3: Any
    bucket: str
    simulator: Simulator

    def states(self, recording: Recording) -> dict[str, str]:
        """Return the states of a recording's artifacts, by name."""
        artifacts = self.row(recording)["artifacts"]
        found = {
            name: one["archive"]["state"] for name, one in artifacts.items() if "archive" in one
        }
        return dict(sorted(found.items()))

    def row(self, recording: Recording) -> dict[str, Any]:
        row = self.catalogue.get(recording.id)
        assert row
        return row  # type: ignore[return-value]

    def versions(self) -> list[str]:
        answer = self.s3.list_object_versions(Bucket=self.bucket)
        return [version["Key"] for version in answer.get("Versions", [])]

    def uploads(self) -> int:
        return len(self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", []))

    def is_whole_and_once(self, recording: Recording) -> bool:
        """Return True if each file is one object, byte for byte, and there are no leftovers."""
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
    """Return the sums of all emitted metrics, by name."""
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
    assert "ArtifactLost" not in sums


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
    archiver: Archiver,
    checks: Checks,
    status: str,
) -> None:
    recording = simulator.world.record_meeting(status=status)  # type: ignore[arg-type]
    archiver.catalogue.upsert(archiver.realtimekit.recording(recording.id), archiver.now())

    assert invoke(recording) == []

    assert media_requests(simulator) == 0
    assert checks() == {}


def test_a_recording_that_is_not_catalogued_is_settled(
    handle: Invoke, worklist: Worklist, checks: Checks
) -> None:
    recording_id = "97cb480d-5840-4528-ace3-919b5e386c68"
    worklist.check_in(
        AnyRequest(f"archive#{recording_id}", {"recording_id": recording_id}), "pending"
    )

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
        (
            '{"v": 1, "source": "catalogue", "task": "archive",'
            ' "recording_id": "97cb480d-5840-4528-ace3-919b5e386c68"}',
            "deadline",
        ),
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
        (storage_failure(404, "NoSuchKey"), "media_missing"),
        (storage_failure(400, "ExpiredRequest"), "url_expired"),
        (storage_failure(403, "AccessDenied"), "url_expired"),
        (storage_failure(503, "SlowDown"), "media_unavailable"),
        (Drop(), "media_unavailable"),
        (Truncate(0), "media_unavailable"),
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
    archiver: Archiver,
    simulator: Simulator,
    checks: Checks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording = record()
    strict = replace(archiver, media=Media((".r2.cloudflarestorage.com",)))
    monkeypatch.setattr(archive_recording, "archiver", strict)

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


@pytest.mark.parametrize(
    "fault",
    [Replaced(), Headers({"ETag": None}), Headers({"Content-Range": "bytes 7-9/10"})],
    ids=repr,
)
def test_a_file_whose_ranges_never_fit_is_had_in_one_answer(
    record: Record, invoke: Invoke, archived: Archived, simulator: Simulator, fault: Effect
) -> None:
    recording = record(file_size=6 * MIB)
    simulator.faults.add(fault, path="^/media/", times=None)

    assert invoke(recording) == []

    assert archived.is_whole_and_once(recording)


def test_a_storage_that_gives_a_range_only_at_first_is_asked_for_the_whole(
    record: Record, invoke: Invoke, archived: Archived, simulator: Simulator
) -> None:
    recording = record(file_size=6 * MIB)
    simulator.faults.add(Delay(0), path="^/media/")
    simulator.faults.add(IgnoreRange(), path="^/media/", times=None)

    assert invoke(recording) == []

    assert archived.is_whole_and_once(recording)


@pytest.mark.parametrize(
    "faults",
    [
        (IgnoreRange(), Chunked()),
        (IgnoreRange(), Headers({"Content-Length": None})),
        (Headers({"Content-Type": "text/plain"}),),
        (Headers({"Content-Type": ""}),),
        (IgnoreRange(), Headers({"Content-Type": "text/html"})),
    ],
    ids=repr,
)
def test_a_file_without_a_length_or_with_a_strange_label_is_archived(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    simulator: Simulator,
    faults: tuple[Effect, ...],
) -> None:
    recording = record(file_size=6 * MIB)
    simulator.faults.add(*faults, path="^/media/", times=None)

    assert invoke(recording) == []

    assert archived.is_whole_and_once(recording)


@pytest.mark.parametrize("effect", [html(200), storage_failure(200)], ids=repr)
def test_a_page_is_not_archived_however_near_the_deadline_is(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    simulator: Simulator,
    clock: Clock,
    checks: Checks,
    effect: Effect,
) -> None:
    recording = record()
    advance(clock, simulator, RETENTION - DAY)
    simulator.faults.add(Headers({"ETag": None}), path="^/media/")
    simulator.faults.add(effect, Resize(MIB), path="^/media/", times=None)

    invoke(recording)

    assert archived.versions() == []
    assert checks() == {f"archive#{recording.id}": "not_media"}


def test_after_a_run_without_a_part_the_next_one_has_smaller_parts(
    record: Record,
    invoke: Invoke,
    archiver: Archiver,
    archived: Archived,
    s3: Any,
    bucket: str,
    simulator: Simulator,
    logged: Logged,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording = record(file_size=12 * MIB)
    large = Copier(s3, archiver.archive, part_size=12 * MIB, parts_in_flight=1)
    monkeypatch.setattr(archive_recording, "archiver", replace(archiver, copier=large))
    context = Hourglass(remaining_ms=900_000)
    s3.meta.events.register("after-call.s3.CreateMultipartUpload", context.turn)
    invoke(recording, context=context)
    before = len(simulator.requests)

    assert invoke(recording) == []

    asked = [r.range for r in simulator.requests[before:] if r.path.startswith("/media/")]
    assert asked[1:] == [
        f"bytes=0-{5 * MIB - 1}",
        f"bytes={5 * MIB}-{10 * MIB - 1}",
        f"bytes={10 * MIB}-{12 * MIB - 1}",
    ]
    assert archived.is_whole_and_once(recording)
    assert "copies begun anew" in logged()


def test_of_copies_that_broke_off_no_more_are_kept_than_a_check_has_room_for(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    simulator: Simulator,
    worklist: Worklist,
    clock: Clock,
    logged: Logged,
) -> None:
    recording = record(kind=Kind.TRACK, participants=53, duration=60, file_size=0)
    for _ in archived.row(recording)["artifacts"]:
        simulator.faults.add(Delay(0), path="^/media/")
        simulator.faults.add(Truncate(0), path="^/media/", times=3)

    invoke(recording)

    clock.advance(LATER)
    [check] = worklist.due(10)
    assert len(check.progress["uploads"]) == 50
    assert archived.uploads() == 50
    [line] = [json.loads(line) for line in logged().splitlines() if "not archived yet" in line]
    assert (line["files_done"], line["files_left"], len(line["causes"])) == (0, 53, 20)


def test_no_name_of_a_track_is_logged(
    record: Record, invoke: Invoke, archived: Archived, simulator: Simulator, logged: Logged
) -> None:
    """A track's name holds the id of its person."""
    recording = record(kind=Kind.TRACK, participants=2, duration=60, file_size=0)
    first, *_ = [artifact.file_name for artifact in recording.artifacts]
    simulator.faults.add(storage_failure(503), path=f"^/media/.*{first}", times=None)

    invoke(recording)

    log = logged()
    assert len(archived.states(recording)) == 1
    assert "media_unavailable" in log
    for artifact in recording.artifacts:
        assert artifact.file_name not in log
        assert artifact.file_name.partition(".")[0] not in log


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
    """A context whose time runs out when `turn` is called."""

    def turn(self, **_: Any) -> None:
        self.remaining_ms = 10_000


def test_a_run_out_of_time_leaves_what_it_has_and_the_next_goes_on(
    record: Record,
    invoke: Invoke,
    archiver: Archiver,
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
    one_by_one = Copier(s3, archiver.archive, part_size=5 * MIB, parts_in_flight=1)
    monkeypatch.setattr(archive_recording, "archiver", replace(archiver, copier=one_by_one))
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
    archiver: Archiver,
    archived: Archived,
    s3: Any,
    bucket: str,
    simulator: Simulator,
    logged: Logged,
    monkeypatch: pytest.MonkeyPatch,
    changed: Effect,
) -> None:
    """The file was replaced, or its ranges are refused."""
    recording = record(file_size=12 * MIB)
    one_by_one = Copier(s3, archiver.archive, part_size=5 * MIB, parts_in_flight=1)
    monkeypatch.setattr(archive_recording, "archiver", replace(archiver, copier=one_by_one))
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
    request = messages.parse(message(recording.id))
    other = worklist.claim(request, "2026-06-10T10:30:00.000Z", 930)
    assert other

    assert invoke(recording) == []

    assert media_requests(simulator) == 0
    assert "left to a run under way" in logged()
    # Somebody asked meanwhile: it is looked at once more.
    worklist.finish(other)
    assert [check.key for check in worklist.due(10)] == [request.key]


def test_a_run_whose_claim_was_taken_over_stops_and_leaves_no_upload(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    s3: Any,
    worklist: Worklist,
    clock: Clock,
    logged: Logged,
) -> None:
    recording = record()
    request = messages.parse(message(recording.id))

    def take_over(**_: Any) -> None:
        clock.advance(LATER)
        assert worklist.claim(request, "2026-06-10T10:30:00.000Z", 930)

    s3.meta.events.register("after-call.s3.CreateMultipartUpload", take_over)

    assert invoke(recording) == []

    assert archived.versions() == []
    assert archived.uploads() == 0
    log = logged()
    assert '"causes":{"video":"claim_lost"}' in log
    assert metrics(log)["ArchivePostponedClaimLost"] == 1


def test_a_claim_that_is_lost_at_the_very_end_is_no_failure(
    record: Record, invoke: Invoke, archived: Archived, s3: Any, worklist: Worklist, logged: Logged
) -> None:
    recording = record()
    settle = lambda **_: worklist.settle(f"archive#{recording.id}")  # noqa: E731
    s3.meta.events.register("after-call.s3.CompleteMultipartUpload", settle)

    assert invoke(recording) == []

    assert archived.is_whole_and_once(recording)
    assert metrics(logged())["ArtifactArchived"] == 1


def test_a_message_that_comes_twice_leaves_the_claim_of_the_run_under_way(
    record: Record, invoke: Invoke, handle: Invoke, archived: Archived, worklist: Worklist
) -> None:
    """Otherwise an erasure would not wait for that run, and would miss its uploads."""
    recording = record()
    invoke(recording)
    request = messages.parse(message(recording.id))
    run = worklist.claim(request, "2026-06-10T10:30:00.000Z", 930)
    assert run

    assert handle(message(recording.id)) == []
    assert handle(erasure(recording.id)) == []

    assert "erasing_since" in archived.row(recording)
    worklist.save_progress(run, {})


def test_a_file_is_not_copied_after_its_erasure(
    record: Record,
    invoke: Invoke,
    handle: Invoke,
    archived: Archived,
    checks: Checks,
    clock: Clock,
    simulator: Simulator,
    meanwhile: Meanwhile,
) -> None:
    """Near the deadline, with RealtimeKit down, a run has only the row."""
    recording = record()
    advance(clock, simulator, RETENTION - DAY)
    simulator.faults.add(error(503), path=f"/recordings/{recording.id}", times=None)
    meanwhile(lambda: handle(erasure(recording.id)))

    assert invoke(recording) == []

    assert archived.versions() == []
    assert checks() == {}


def test_a_recording_that_is_erased_while_realtimekit_is_asked_is_left_alone(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    checks: Checks,
    clock: Clock,
    catalogue: Catalogue,
    simulator: Simulator,
    dynamodb: Any,
) -> None:
    recording = record()

    def erase(params: dict[str, Any], **_: Any) -> None:
        if "budget#" in params["body"].decode():
            dynamodb.meta.events.unregister("before-call.dynamodb.UpdateItem", erase)
            catalogue.bury(catalogue.begin_erasure(recording.id, clock()) or {}, clock())

    dynamodb.meta.events.register("before-call.dynamodb.UpdateItem", erase)

    assert invoke(recording) == []

    assert archived.versions() == []
    assert media_requests(simulator) == 0
    assert checks() == {}


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
    """A crash between S3's completion and the row leaves this."""
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
    """Return a function that makes a recording in the owner's own storage."""

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
    whole = b"v" * MIB

    invoke(recording)

    assert archived.states(recording) == {}
    assert checks() == {f"archive#{recording.id}": "not_there"}
    s3.put_object(Bucket=bucket, Key=key, Body=whole)
    clock.advance(LATER)
    invoke(recording)
    archive = archived.row(recording)["artifacts"]["video"]["archive"]
    assert (archive["state"], archive["bucket"], archive["key"]) == ("archived", bucket, key)
    assert archive["size"] == MIB
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
    """A backfill may find the recording a year later."""
    recording = elsewhere("owners-own")
    advance(clock, simulator, 365 * DAY)
    if is_forgotten:
        simulator.faults.add(error(404), path=f"/recordings/{recording.id}", times=None)

    assert invoke(recording) == []

    assert archived.states(recording) == {"video": "external"}
    assert checks() == {}
    assert metrics(logged()).get("ArtifactLost", 0) == 0


def test_an_object_of_another_size_is_not_adopted(
    elsewhere: Callable[..., Recording],
    invoke: Invoke,
    archived: Archived,
    checks: Checks,
    clock: Clock,
    simulator: Simulator,
    s3: Any,
    bucket: str,
) -> None:
    recording = elsewhere(bucket)
    s3.put_object(Bucket=bucket, Key=f"recordings/{recording.file_name}", Body=b"video")

    invoke(recording)

    assert archived.states(recording) == {}
    assert checks() == {f"archive#{recording.id}": "wrong_length"}
    advance(clock, simulator, RETENTION + DAY)
    invoke(recording)
    assert archived.states(recording) == {}


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
        s3.put_object(Bucket=bucket, Key=f"recordings/{recording.file_name}", Body=bytes(MIB))
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
    assert metrics(logged()).get("ArtifactLost", 0) == 0


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
    archiver: Archiver,
    logged: Logged,
) -> None:
    recording = simulator.world.record_meeting()
    advance(clock, simulator, RETENTION + DAY)
    archiver.catalogue.upsert(archiver.realtimekit.recording(recording.id), clock())

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


PAST = "2026-06-03T10:00:00.000Z"


@pytest.mark.parametrize("expiry", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z", PAST])
def test_a_url_that_is_offered_is_tried_whatever_is_said_of_its_expiry(
    record: Record, invoke: Invoke, archived: Archived, simulator: Simulator, expiry: str
) -> None:
    simulator.faults.add(Overlay({"download_url_expiry": expiry}), path="/recordings/", times=None)
    recording = record()

    assert invoke(recording) == []

    assert archived.is_whole_and_once(recording)


@pytest.mark.parametrize(
    ("expiry", "fault", "states", "left"),
    [
        (PAST, storage_failure(403, "AccessDenied"), {"video": "expired"}, []),
        (PAST, storage_failure(404, "NoSuchKey"), {"video": "expired"}, []),
        (PAST, storage_failure(503), {}, ["media_unavailable"]),
        ("0001-01-01T00:00:00Z", storage_failure(403, "AccessDenied"), {}, ["url_expired"]),
        ("0001-01-01T00:00:00Z", storage_failure(404, "NoSuchKey"), {}, ["media_missing"]),
    ],
)
def test_a_file_is_expired_only_if_its_time_is_over_and_the_storage_refuses_it(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    checks: Checks,
    simulator: Simulator,
    expiry: str,
    fault: Effect,
    states: dict[str, str],
    left: list[str],
) -> None:
    simulator.faults.add(Overlay({"download_url_expiry": expiry}), path="/recordings/", times=None)
    simulator.faults.add(fault, path="^/media/", times=None)
    recording = record()

    assert invoke(recording) == []

    assert archived.states(recording) == states
    assert list(checks().values()) == left


def test_what_was_over_when_realtimekit_last_answered_is_tried_without_asking_it_again(
    record: Record, invoke: Invoke, archived: Archived, simulator: Simulator
) -> None:
    """A backfill finds thousands of such files."""
    simulator.faults.add(Overlay({"download_url_expiry": PAST}), path="/recordings/", times=None)
    simulator.faults.add(storage_failure(403, "AccessDenied"), path="^/media/", times=None)
    recording = record()
    before = len(simulator.requests)

    invoke(recording)

    assert archived.states(recording) == {"video": "expired"}
    assert len(simulator.requests) == before + media_requests(simulator) == before + 1


@pytest.fixture
def with_more(record: Record, archiver: Archiver) -> Callable[..., Recording]:
    """Return a function that makes a recording with more named tracks than offered ones."""

    def with_more(count: int, **more: Any) -> Recording:
        recording = record(kind=Kind.TRACK, participants=2, duration=60, file_size=0)
        names = [f"late-{number:03}.webm" for number in range(count)]
        late = tuple(
            Artifact(name=f"track/default/{name}", kind="track", file_name=name) for name in names
        )
        seen = archiver.realtimekit.recording(recording.id)
        said = replace(seen, artifacts=(*seen.artifacts, *late), **more)
        archiver.catalogue.upsert(said, archiver.now())
        return recording

    return with_more


def test_a_track_that_is_named_and_not_offered_is_waited_for_until_its_time_is_over(
    with_more: Callable[..., Recording],
    invoke: Invoke,
    archived: Archived,
    checks: Checks,
    worklist: Worklist,
    clock: Clock,
    simulator: Simulator,
    logged: Logged,
) -> None:
    recording = with_more(1)

    invoke(recording)

    assert list(archived.states(recording).values()) == ["archived", "archived"]
    assert archived.row(recording)["archived"] == "partly"
    assert checks() == {f"archive#{recording.id}": "not_offered"}
    advance(clock, simulator, RETENTION - DAY)
    assert [check.is_urgent(clock()) for check in worklist.due(10)] == [True]
    advance(clock, simulator, 2 * DAY)
    invoke(recording)
    assert archived.states(recording)["track/default/late-000.webm"] == "expired"
    assert metrics(logged())["ArtifactLost"] == 1
    assert checks() == {}


def test_a_track_that_is_not_offered_yet_is_not_taken_for_one_in_the_owners_storage(
    with_more: Callable[..., Recording],
    invoke: Invoke,
    archived: Archived,
    checks: Checks,
    clock: Clock,
    simulator: Simulator,
) -> None:
    recording = with_more(1, storage={"type": "aws", "bucket": "owners-own"})

    invoke(recording)

    assert set(archived.states(recording).values()) == {"archived"}
    assert checks() == {f"archive#{recording.id}": "not_offered"}
    advance(clock, simulator, RETENTION + DAY)
    invoke(recording)
    assert archived.states(recording)["track/default/late-000.webm"] == "external"


def test_a_run_of_very_many_files_records_them_as_it_goes_on(
    with_more: Callable[..., Recording],
    invoke: Invoke,
    archived: Archived,
    clock: Clock,
    simulator: Simulator,
) -> None:
    """A killed run then loses the states of a hundred files at most."""
    advance(clock, simulator, 1)
    recording = with_more(148, storage={"type": "aws", "bucket": "owners-own"})
    advance(clock, simulator, RETENTION + DAY)
    simulator.faults.add(error(404), path=f"/recordings/{recording.id}", times=None)
    before = archived.row(recording)["version"]

    invoke(recording)

    assert sorted(set(archived.states(recording).values())) == ["expired", "external"]
    assert len(archived.states(recording)) == 150
    assert archived.row(recording)["version"] == before + 2


@pytest.fixture
def silent(record: Record, simulator: Simulator) -> Callable[[], Recording]:
    """Return a function that makes a TRACK recording without tracks."""

    def silent() -> Recording:
        nothing = Overlay({"download_url": {"links": []}, "file_size": 0})
        simulator.faults.add(nothing, path="/recordings/", times=None)
        return record(kind=Kind.TRACK, participants=2, duration=60, file_size=0)

    return silent


def test_a_recording_without_any_file_is_no_loss(
    silent: Callable[[], Recording],
    invoke: Invoke,
    archived: Archived,
    checks: Checks,
    clock: Clock,
    simulator: Simulator,
    logged: Logged,
) -> None:
    recording = silent()

    invoke(recording)

    assert "artifacts" not in archived.row(recording)
    assert checks() == {f"archive#{recording.id}": "not_offered"}
    advance(clock, simulator, RETENTION)
    invoke(recording)
    row = archived.row(recording)
    assert row["artifacts"] == {
        "track": {
            "kind": "track",
            "archive": {"state": "none", "noted_at": "2026-06-10T10:30:00.000Z"},
        }
    }
    assert (row["archived"], unsettled(row)) == ("no", {})  # type: ignore[arg-type]
    assert checks() == {}
    log = logged()
    assert "file lost" not in log
    assert "ArtifactLost" not in metrics(log)


def test_a_recording_without_any_file_is_looked_at_ever_more_rarely_and_is_never_at_risk(
    silent: Callable[[], Recording],
    invoke: Invoke,
    work_table: Table,
    clock: Clock,
    simulator: Simulator,
) -> None:
    recording = silent()
    invoke(recording)
    key, began, hours = {"work_id": f"check#archive#{recording.id}"}, clock(), []
    while check := work_table.get(key):
        due_at = datetime.fromisoformat(check["due_at"])
        assert "deadline" not in check
        hours.append(round((due_at - began) / timedelta(hours=1), 2))
        advance(clock, simulator, (due_at - clock()).total_seconds())
        invoke(recording)

    assert hours == [0.25, 0.5, 1, 2, 4, 8, 16, 32, 56, 80, 104, 128, 152, 167.99]


def test_a_sessions_file_that_the_storage_lacks_is_looked_for_ever_more_rarely_and_then_lost(
    simulator: Simulator,
    ingestion: Ingestion,
    invoke: Invoke,
    archived: Archived,
    work_table: Table,
    clock: Clock,
    logged: Logged,
) -> None:
    lost = SessionFileOptions(available_after=0, outcome="no file")
    recording = simulator.world.record_meeting(
        options=RecordingOptions(file_size=MIB), session_files={"chat": lost}
    )
    ingestion.catalogue.upsert(ingestion.realtimekit.recording(recording.id), clock())
    keeper = replace(ingestion, session_files=("chat",))
    keeper.ingest_session_files(
        SessionFilesRequest(session_id=recording.session.id, source=Source.SWEEP)
    )
    invoke(recording)
    key, began, hours = {"work_id": f"check#archive#{recording.id}"}, clock(), []
    while check := work_table.get(key):
        due_at = datetime.fromisoformat(check["due_at"])
        hours.append(round((due_at - began) / timedelta(hours=1), 2))
        advance(clock, simulator, (due_at - clock()).total_seconds())
        invoke(recording)

    assert hours == [0.25, 0.5, 1, 2, 4, 8, 16, 32, 56, 80, 104, 128, 152, 167.99]
    assert archived.states(recording) == {"chat": "expired", "video": "archived"}
    assert metrics(logged())["ArtifactLost"] == 1


def test_a_file_that_is_offered_after_all_is_archived_and_nothing_stands_for_it(
    silent: Callable[[], Recording],
    invoke: Invoke,
    archived: Archived,
    checks: Checks,
    simulator: Simulator,
    clock: Clock,
) -> None:
    recording = silent()
    invoke(recording)
    simulator.faults.clear()
    clock.advance(LATER)

    invoke(recording)

    assert archived.is_whole_and_once(recording)
    assert set(archived.states(recording).values()) == {"archived"}
    assert checks() == {}


@pytest.mark.parametrize(
    ("body", "states"), [(MIB, {"video": "archived"}), (5, {})], ids=["whole", "of another size"]
)
def test_nothing_is_called_expired_over_an_object_that_is_there(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    clock: Clock,
    simulator: Simulator,
    s3: Any,
    bucket: str,
    logged: Logged,
    body: int,
    states: dict[str, str],
) -> None:
    """A restored table, or a run that died before it wrote the row, leaves this."""
    recording = record()
    key = archive_key(archived.row(recording), "video")
    s3.put_object(Bucket=bucket, Key=key, Body=bytes(body))
    advance(clock, simulator, RETENTION + 60)

    invoke(recording)

    assert archived.states(recording) == states
    assert "file lost" not in logged()


def test_a_loss_is_told_though_the_row_cannot_be_written(
    record: Record,
    invoke: Invoke,
    archived: Archived,
    clock: Clock,
    simulator: Simulator,
    dynamodb: Any,
    logged: Logged,
) -> None:
    recording = record()
    advance(clock, simulator, RETENTION + 60)
    written: list[bool] = []

    def fail(params: dict[str, Any], **_: Any) -> None:
        if b'"expired"' in params["body"]:
            written.append("file lost" in logged())
            raise ClientError({"Error": {"Code": "InternalServerError"}}, "UpdateItem")

    dynamodb.meta.events.register("before-call.dynamodb.UpdateItem", fail)
    assert invoke(recording) == ["0"]
    dynamodb.meta.events.unregister("before-call.dynamodb.UpdateItem", fail)

    assert archived.states(recording) == {}
    assert written[0]
    clock.advance(LATER)
    assert invoke(recording) == []
    assert archived.states(recording) == {"video": "expired"}
    assert metrics(logged())["ArtifactLost"] == 1


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
    """Return a function that has something happen at the first write to the work table."""

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
    run = worklist.claim(AnyRequest(key, {"task": "archive"}), "2026-06-10T10:30:00.000Z", 930)
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
    archiver: Archiver,
    meanwhile: Meanwhile,
) -> None:
    recording = simulator.world.record_meeting()
    advance(clock, simulator, RETENTION + 60)
    archiver.catalogue.upsert(archiver.realtimekit.recording(recording.id), clock())
    meanwhile(lambda: archiver.catalogue.begin_erasure(recording.id, clock()))

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


def refuse(**_: Any) -> tuple[Any, dict[str, Any]]:
    """Answer DeleteObjects with a 200 that names an object S3 keeps."""
    return SimpleNamespace(status_code=200), {"Errors": [{"Key": "k", "Code": "AccessDenied"}]}


def test_an_erasure_that_cannot_finish_is_tried_ever_more_rarely_and_given_up(
    record: Record,
    invoke: Invoke,
    handle: Invoke,
    archived: Archived,
    worklist: Worklist,
    checks: Checks,
    clock: Clock,
    s3: Any,
) -> None:
    """The message does not fail, and the files, long archived, are not at risk."""
    recording = record()
    invoke(recording)
    request = {"task": "erase", "recording_id": recording.id}
    worklist.check_in(AnyRequest(f"erase#{recording.id}", request), "erasing")
    s3.meta.events.register("before-call.s3.DeleteObjects", refuse)
    waits = []
    for _ in range(9):
        waited = 0
        while not (found := worklist.due(10)):
            clock.advance(60)
            waited += 60
        [check] = found
        worklist.advance(check)
        assert handle(erasure(recording.id)) == []
        assert checks() == {f"erase#{recording.id}": "not_erased"}
        assert not check.is_urgent(clock())
        waits.append(waited)

    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    clock.advance(8 * 86_400)
    assert [check.is_hopeless(clock()) for check in worklist.due(10)] == [True]


def test_an_erasure_of_files_in_another_archive_is_noted_and_no_failed_message(
    record: Record,
    invoke: Invoke,
    handle: Invoke,
    worklist: Worklist,
    archiver: Archiver,
    checks: Checks,
) -> None:
    recording = record()
    invoke(recording)
    state = {"state": "archived", "bucket": "another", "key": "k", "size": 1}
    archiver.catalogue.record_archive(recording.id, {"video": state})
    request = {"task": "erase", "recording_id": recording.id}
    worklist.check_in(AnyRequest(f"erase#{recording.id}", request), "erasing")

    assert handle(erasure(recording.id)) == []

    assert checks() == {f"erase#{recording.id}": "archive_unreachable"}


def test_an_erasure_that_s3_interrupts_is_no_failed_message(
    record: Record, invoke: Invoke, handle: Invoke, archived: Archived, checks: Checks, s3: Any
) -> None:
    recording = record()
    invoke(recording)

    with s3_fails(s3, "ListObjectVersions", 500, "InternalError"):
        assert handle(erasure(recording.id)) == []

    assert checks() == {f"erase#{recording.id}": "erasing"}
    assert handle(erasure(recording.id)) == []
    assert set(archived.row(recording)) == {"recording_id", "erased_at", "version"}


def test_an_erasure_that_was_killed_is_asked_for_again_and_warns_of_no_file(
    record: Record,
    invoke: Invoke,
    handle: Invoke,
    worklist: Worklist,
    clock: Clock,
    s3: Any,
) -> None:
    recording = record()
    invoke(recording)

    def kill(**_: Any) -> None:
        raise KeyboardInterrupt

    s3.meta.events.register("before-call.s3.ListObjectVersions", kill)
    with pytest.raises(KeyboardInterrupt):
        handle(erasure(recording.id))
    clock.advance(8 * 86_400)

    assert {check.request["task"] for check in worklist.due(10)} == {"erase"}
    assert [check.deadline for check in worklist.due(10)] == [None, None]


def test_an_erasure_of_what_is_not_there_is_done(handle: Invoke, checks: Checks) -> None:
    assert handle(erasure("97cb480d-5840-4528-ace3-919b5e386c68")) == []
    assert checks() == {}
