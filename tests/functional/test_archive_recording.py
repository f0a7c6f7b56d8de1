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
    Undocumented,
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
HOUR = 3600
DAY = 86_400
RETENTION = 7 * DAY
# Longer than the lease of a run that failed.
LATER = 1_000


def message(recording_id: str, deadline: str = "2026-06-10T10:30:00.000Z") -> str:
    return messages.body(
        ArchiveRequest(recording_id=recording_id, deadline=deadline, source=Source.CATALOGUE)
    )


def erasure(recording_id: str) -> str:
    request = EraseRequest(recording_id=recording_id, source=Source.FOLLOW_UP)
    return messages.body(request)


@dataclass
class Stage:
    """The handler between a simulated RealtimeKit, a bucket, and the tables, on one clock."""

    archiver: Archiver
    simulator: Simulator
    clock: Clock
    s3: Any
    bucket: str
    dynamodb: Any
    work_table: Table
    # The causes of all pending checks, by key.
    checks: Callable[[], dict[str, str]]
    # Everything logged so far, metrics included.
    logged: Callable[[], str]
    use: Callable[[Archiver], None]

    @property
    def catalogue(self) -> Catalogue:
        return self.archiver.catalogue

    @property
    def worklist(self) -> Worklist:
        return self.archiver.worklist

    def advance(self, seconds: float) -> None:
        """Advance the clocks of the handler and of RealtimeKit."""
        self.clock.advance(seconds)
        self.simulator.world.clock.advance(seconds)

    def meanwhile(self, deed: Callable[[], object]) -> None:
        """Have something happen at the first write to the work table."""

        def happen(params: dict[str, Any], **_: Any) -> None:
            if json.loads(params["body"])["TableName"] == "WorkTable":
                events.unregister("before-call.dynamodb.UpdateItem", happen)
                deed()

        events = self.dynamodb.meta.events
        events.register("before-call.dynamodb.UpdateItem", happen)

    # --- recordings ---

    def record(self, **options: Any) -> Recording:
        """Record and catalogue a meeting."""
        options = {"file_size": MIB, **options}
        recording = self.simulator.world.record_meeting(options=RecordingOptions(**options))
        self.look_up(recording)
        return recording

    def look_up(self, recording: Recording, *more: Artifact, **changes: Any) -> None:
        """Catalogue what RealtimeKit says about a recording, with more artifacts or changes."""
        seen = self.archiver.realtimekit.recording(recording.id)
        seen = replace(seen, artifacts=(*seen.artifacts, *more), **changes)
        self.catalogue.upsert(seen, self.clock())

    def record_elsewhere(self, bucket: str, type_: str = "aws") -> Recording:
        """Record and catalogue a meeting whose file is in the owner's own storage."""
        storage = {
            "type": type_,
            "bucket": bucket,
            "region": "eu-central-1",
            "path": "recordings/",
            "secret": "canary",
        }
        return self.record(realtimekit_bucket=False, storage_config=storage)

    def record_with_more(self, count: int, **changes: Any) -> Recording:
        """Record and catalogue a meeting with more named tracks than offered ones."""
        recording = self.record(kind=Kind.TRACK, participants=2, duration=60, file_size=0)
        names = [f"late-{number:03}.webm" for number in range(count)]
        late = [
            Artifact(name=f"track/default/{name}", kind="track", file_name=name) for name in names
        ]
        self.look_up(recording, *late, **changes)
        return recording

    def record_silent(self) -> Recording:
        """Record and catalogue a meeting of kind TRACK without tracks."""
        nothing = Overlay({"download_url": {"links": []}, "file_size": 0})
        self.simulator.faults.add(nothing, path="/recordings/", times=None)
        return self.record(kind=Kind.TRACK, participants=2, duration=60, file_size=0)

    # --- the handler ---

    def handle(self, *bodies: str, context: Context | None = None) -> list[str]:
        """Hand over messages, and return the ids of those that stay on the queue."""
        records = [{"messageId": str(n), "body": body} for n, body in enumerate(bodies)]
        answer = archive_recording.handler(
            {"Records": records},
            context or Context(remaining_ms=900_000),
        )
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def invoke(self, recording: Recording, **options: Any) -> list[str]:
        """Have a catalogued recording's files archived."""
        row = self.catalogue.get(recording.id)
        assert row
        return self.handle(message(recording.id, expiry(row)), **options)

    # --- rows, objects and requests ---

    def row(self, recording: Recording) -> dict[str, Any]:
        row = self.catalogue.get(recording.id)
        assert row
        return row  # type: ignore[return-value]

    def states(self, recording: Recording) -> dict[str, str]:
        """Return the states of a recording's artifacts, by name."""
        artifacts = self.row(recording)["artifacts"]
        found = {
            name: artifact["archive"]["state"]
            for name, artifact in artifacts.items()
            if "archive" in artifact
        }
        return dict(sorted(found.items()))

    def versions(self) -> list[str]:
        """Return the keys of all versions in the bucket."""
        answer = self.s3.list_object_versions(Bucket=self.bucket)
        return [version["Key"] for version in answer.get("Versions", [])]

    def uploads(self) -> int:
        """Return the number of unfinished uploads in the bucket."""
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

    def fetches(self) -> int:
        """Return the number of requests that RealtimeKit's API received."""
        return len(self.simulator.requests) - self.media_requests()

    def media_requests(self) -> int:
        """Return the number of requests for files that RealtimeKit's storage received."""
        return sum(request.path.startswith("/media/") for request in self.simulator.requests)


@pytest.fixture
def stage(
    archiver: Archiver,
    simulator: Simulator,
    clock: Clock,
    s3: Any,
    bucket: str,
    dynamodb: Any,
    work_table: Table,
    checks: Callable[[], dict[str, str]],
    logged: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Stage:
    def use(archiver: Archiver) -> None:
        monkeypatch.setattr(archive_recording, "archiver", archiver)

    use(archiver)
    return Stage(archiver, simulator, clock, s3, bucket, dynamodb, work_table, checks, logged, use)


def metrics(log: str) -> dict[str, float]:
    """Return the sums of all emitted metrics, by name."""
    sums: dict[str, float] = {}
    for line in log.splitlines():
        fields = json.loads(line)
        for name in fields.get("_aws", {}).get("CloudWatchMetrics", [{}])[0].get("Metrics", []):
            sums[name["Name"]] = sums.get(name["Name"], 0) + sum(fields[name["Name"]])
    return sums


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
    stage: Stage, options: dict[str, Any], names: list[str]
) -> None:
    recording = stage.record(**options)

    assert stage.invoke(recording) == []

    assert stage.is_whole_and_once(recording)
    assert [name.partition("/")[0] for name in stage.states(recording)] == names
    assert set(stage.states(recording).values()) == {"archived"}
    assert stage.checks() == {}
    sums = metrics(stage.logged())
    assert sums["ArtifactArchived"] == len(names)
    assert "ArtifactLost" not in sums


def test_the_sample_has_the_samples_recording_archived(stage: Stage) -> None:
    recording = stage.record()
    [queued] = sample("archive-recording.queue-message")["Records"]

    assert stage.handle(queued["body"]) == []

    assert stage.is_whole_and_once(recording)


def test_the_same_job_again_asks_nobody_and_copies_nothing(stage: Stage) -> None:
    recording = stage.record()
    stage.invoke(recording)
    before = len(stage.simulator.requests)

    assert stage.invoke(recording) == []

    assert len(stage.simulator.requests) == before
    assert stage.is_whole_and_once(recording)
    assert stage.checks() == {}


@pytest.mark.parametrize("status", ["INVOKED", "RECORDING", "UPLOADING", "ERRORED"])
def test_what_is_not_uploaded_has_nothing_to_be_archived(stage: Stage, status: str) -> None:
    recording = stage.simulator.world.record_meeting(status=status)  # type: ignore[arg-type]
    stage.look_up(recording)

    assert stage.invoke(recording) == []

    assert stage.media_requests() == 0
    assert stage.checks() == {}


def test_a_recording_that_is_not_catalogued_is_settled(stage: Stage) -> None:
    recording_id = "97cb480d-5840-4528-ace3-919b5e386c68"
    stage.worklist.check_in(
        AnyRequest(f"archive#{recording_id}", {"recording_id": recording_id}), "pending"
    )

    assert stage.handle(message(recording_id)) == []

    assert stage.checks() == {}


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
    stage: Stage, body: str, reason: str
) -> None:
    recording = stage.record()

    assert stage.handle(body, message(recording.id)) == ["0"]

    assert stage.is_whole_and_once(recording)
    log = stage.logged()
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
def test_an_hour_later_nothing_is_copied_until_realtimekit_answers(
    stage: Stage, fault: Effect, cause: str
) -> None:
    recording = stage.record()
    stage.advance(HOUR)
    stage.simulator.faults.add(fault, path=f"/recordings/{recording.id}", times=2)

    assert stage.invoke(recording) == []

    assert stage.media_requests() == 0
    assert stage.checks() == {f"archive#{recording.id}": cause}
    stage.simulator.faults.clear()
    stage.clock.advance(LATER)
    assert stage.invoke(recording) == []
    assert stage.is_whole_and_once(recording)
    assert stage.checks() == {}


def test_after_a_429_the_check_is_due_when_the_time_is_over(stage: Stage) -> None:
    recording = stage.record()
    stage.advance(HOUR)
    stage.simulator.faults.add(rate_limited(400))

    stage.invoke(recording)

    stage.clock.advance(399)
    assert stage.worklist.due(10) == []
    stage.clock.advance(1)
    [check] = stage.worklist.due(10)
    assert check.key == f"archive#{recording.id}"


def test_when_time_is_short_the_url_that_is_known_will_do(stage: Stage) -> None:
    recording = stage.record()
    stage.advance(RETENTION - DAY)
    stage.simulator.faults.add(error(503), path=f"/recordings/{recording.id}", times=None)

    assert stage.invoke(recording) == []

    assert stage.is_whole_and_once(recording)


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
    stage: Stage, fault: Effect, cause: str
) -> None:
    recording = stage.record()
    stage.simulator.faults.add(fault, path="^/media/", times=None)

    assert stage.invoke(recording) == []

    assert stage.versions() == []
    assert stage.row(recording)["archived"] == "no"
    assert stage.checks() == {f"archive#{recording.id}": cause}
    log = stage.logged()
    assert cause in log
    assert "X-Amz-" not in log
    assert metrics(log)[f"ArchivePostponed{cause.title().replace('_', '')}"] == 1
    stage.simulator.faults.clear()
    stage.clock.advance(LATER)
    assert stage.invoke(recording) == []
    assert stage.is_whole_and_once(recording)


def test_a_host_that_is_not_allowed_is_not_asked(stage: Stage) -> None:
    recording = stage.record()
    strict = replace(stage.archiver, media=Media((".r2.cloudflarestorage.com",)))
    stage.use(strict)

    assert stage.invoke(recording) == []

    assert stage.media_requests() == 0
    assert stage.checks() == {f"archive#{recording.id}": "host_refused"}


def test_a_recording_that_was_fetched_a_moment_ago_is_copied_without_a_request(
    stage: Stage,
) -> None:
    recording = stage.record(separate_audio=True, audio_file_size=100)
    stage.advance(HOUR - 1)
    stage.simulator.request_log.clear()

    assert stage.invoke(recording) == []

    assert stage.is_whole_and_once(recording)
    assert stage.fetches() == 0
    assert stage.checks() == {}


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_url_of_the_row_that_is_refused_is_fetched_anew_once(stage: Stage, status: int) -> None:
    recording = stage.record()
    stage.simulator.request_log.clear()
    stage.simulator.faults.add(storage_failure(status, "AccessDenied"), path="^/media/")

    assert stage.invoke(recording) == []

    assert stage.is_whole_and_once(recording)
    assert stage.fetches() == 1


@pytest.mark.parametrize("is_old", [False, True])
def test_a_url_that_is_old_or_expires_soon_is_fetched_anew(stage: Stage, is_old: bool) -> None:
    """RealtimeKit deletes the file of a meeting of six days ago within 48 hours."""
    started_at = stage.simulator.world.clock.now() - timedelta(days=0 if is_old else 6, hours=1)
    options = RecordingOptions(file_size=MIB)
    recording = stage.simulator.world.record_meeting(started_at=started_at, options=options)
    stage.look_up(recording)
    stage.advance(HOUR if is_old else 0)
    stage.simulator.request_log.clear()

    assert stage.invoke(recording) == []

    assert stage.is_whole_and_once(recording)
    assert stage.fetches() == 1


def test_a_url_that_works_no_longer_gives_way_to_the_last_answers_with_the_same_expiry(
    stage: Stage,
) -> None:
    """Such a URL is not written to the row, which has one with this expiry."""
    stage.simulator.world.undocumented = Undocumented(url_seconds=60)
    recording = stage.record()
    stage.advance(60)
    stage.simulator.request_log.clear()

    assert stage.invoke(recording) == []

    assert stage.is_whole_and_once(recording)
    assert stage.fetches() == 1


@pytest.mark.parametrize(
    ("fault", "fetches", "left"),
    [
        (storage_failure(403, "AccessDenied"), 2, []),
        (storage_failure(404, "NoSuchKey"), 1, ["media_missing"]),
    ],
    ids=["refused", "missing"],
)
def test_after_an_answer_a_url_that_is_refused_is_fetched_anew_and_a_missing_file_is_not(
    stage: Stage, fault: Effect, fetches: int, left: list[str]
) -> None:
    recording = stage.record()
    stage.advance(HOUR)
    stage.simulator.request_log.clear()
    stage.simulator.faults.add(fault, path="^/media/")

    assert stage.invoke(recording) == []

    assert stage.fetches() == fetches
    assert list(stage.checks().values()) == left


def test_a_run_after_one_that_left_files_fetches_the_recording(stage: Stage) -> None:
    recording = stage.record()
    stage.simulator.faults.add(html(200), path="^/media/")
    stage.invoke(recording)
    stage.simulator.request_log.clear()
    stage.clock.advance(60)

    assert stage.invoke(recording) == []

    assert stage.is_whole_and_once(recording)
    assert stage.fetches() == 1


def test_a_file_without_a_url_in_the_row_is_fetched(stage: Stage) -> None:
    recording = stage.record_with_more(1)
    stage.simulator.request_log.clear()

    stage.invoke(recording)

    assert stage.fetches() == 1
    assert stage.states(recording) == dict.fromkeys(
        [name for name in stage.row(recording)["artifacts"] if "late" not in name], "archived"
    )


def test_a_file_that_changes_while_it_is_copied_is_begun_anew_once_and_said(stage: Stage) -> None:
    recording = stage.record(file_size=6 * MIB)
    # The first look is answered, and the first range is of another file.
    stage.simulator.faults.add(Delay(0), path="^/media/")
    stage.simulator.faults.add(Replaced(), path="^/media/")

    assert stage.invoke(recording) == []

    assert stage.is_whole_and_once(recording)
    assert "copies begun anew" in stage.logged()


@pytest.mark.parametrize(
    "fault",
    [Replaced(), Headers({"ETag": None}), Headers({"Content-Range": "bytes 7-9/10"})],
    ids=repr,
)
def test_a_file_whose_ranges_never_fit_is_had_in_one_answer(stage: Stage, fault: Effect) -> None:
    recording = stage.record(file_size=6 * MIB)
    stage.simulator.faults.add(fault, path="^/media/", times=None)

    assert stage.invoke(recording) == []

    assert stage.is_whole_and_once(recording)


def test_a_storage_that_gives_a_range_only_at_first_is_asked_for_the_whole(stage: Stage) -> None:
    recording = stage.record(file_size=6 * MIB)
    stage.simulator.faults.add(Delay(0), path="^/media/")
    stage.simulator.faults.add(IgnoreRange(), path="^/media/", times=None)

    assert stage.invoke(recording) == []

    assert stage.is_whole_and_once(recording)


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
    stage: Stage, faults: tuple[Effect, ...]
) -> None:
    recording = stage.record(file_size=6 * MIB)
    stage.simulator.faults.add(*faults, path="^/media/", times=None)

    assert stage.invoke(recording) == []

    assert stage.is_whole_and_once(recording)


@pytest.mark.parametrize("effect", [html(200), storage_failure(200)], ids=repr)
def test_a_page_is_not_archived_however_near_the_deadline_is(stage: Stage, effect: Effect) -> None:
    recording = stage.record()
    stage.advance(RETENTION - DAY)
    stage.simulator.faults.add(Headers({"ETag": None}), path="^/media/")
    stage.simulator.faults.add(effect, Resize(MIB), path="^/media/", times=None)

    stage.invoke(recording)

    assert stage.versions() == []
    assert stage.checks() == {f"archive#{recording.id}": "not_media"}


def test_after_a_run_without_a_part_the_next_one_has_smaller_parts(stage: Stage) -> None:
    recording = stage.record(file_size=12 * MIB)
    large = Copier(stage.s3, stage.archiver.archive, part_size=12 * MIB, parts_in_flight=1)
    stage.use(replace(stage.archiver, copier=large))
    context = Hourglass(remaining_ms=900_000)
    stage.s3.meta.events.register("after-call.s3.CreateMultipartUpload", context.turn)
    stage.invoke(recording, context=context)
    before = len(stage.simulator.requests)

    assert stage.invoke(recording) == []

    asked = [r.range for r in stage.simulator.requests[before:] if r.path.startswith("/media/")]
    assert asked[1:] == [
        f"bytes=0-{5 * MIB - 1}",
        f"bytes={5 * MIB}-{10 * MIB - 1}",
        f"bytes={10 * MIB}-{12 * MIB - 1}",
    ]
    assert stage.is_whole_and_once(recording)
    assert "copies begun anew" in stage.logged()


def test_of_copies_that_broke_off_no_more_are_kept_than_a_check_has_room_for(stage: Stage) -> None:
    recording = stage.record(kind=Kind.TRACK, participants=53, duration=60, file_size=0)
    for _ in stage.row(recording)["artifacts"]:
        stage.simulator.faults.add(Delay(0), path="^/media/")
        stage.simulator.faults.add(Truncate(0), path="^/media/", times=3)

    stage.invoke(recording)

    stage.clock.advance(LATER)
    [check] = stage.worklist.due(10)
    assert len(check.progress["uploads"]) == 50
    assert stage.uploads() == 50
    [line] = [
        json.loads(line) for line in stage.logged().splitlines() if "not archived yet" in line
    ]
    assert (line["files_done"], line["files_left"], len(line["causes"])) == (0, 53, 20)


def test_no_name_of_a_track_is_logged(stage: Stage) -> None:
    """A track's name holds the id of its person."""
    recording = stage.record(kind=Kind.TRACK, participants=2, duration=60, file_size=0)
    first, *_ = [artifact.file_name for artifact in recording.artifacts]
    stage.simulator.faults.add(storage_failure(503), path=f"^/media/.*{first}", times=None)

    stage.invoke(recording)

    log = stage.logged()
    assert len(stage.states(recording)) == 1
    assert "media_unavailable" in log
    for artifact in recording.artifacts:
        assert artifact.file_name not in log
        assert artifact.file_name.partition(".")[0] not in log


def test_one_files_trouble_is_not_the_others(stage: Stage) -> None:
    recording = stage.record(separate_audio=True, audio_file_size=1000)
    video = recording.artifacts[0].file_name
    stage.simulator.faults.add(storage_failure(503), path=f"^/media/.*{video}", times=None)

    stage.invoke(recording)

    assert stage.states(recording) == {"audio": "archived"}
    assert stage.row(recording)["archived"] == "partly"
    assert stage.checks() == {f"archive#{recording.id}": "media_unavailable"}
    stage.simulator.faults.clear()
    stage.clock.advance(LATER)
    before = stage.media_requests()
    stage.invoke(recording)
    assert stage.is_whole_and_once(recording)
    # The look at the video, and the video.
    assert stage.media_requests() == before + 2


def test_a_length_that_is_wrong_is_not_believed_but_to_the_end(stage: Stage) -> None:
    stage.simulator.faults.add(Overlay({"file_size": 5}), path="/recordings/", times=None)
    recording = stage.record()

    stage.invoke(recording)

    assert stage.versions() == []
    assert stage.checks() == {f"archive#{recording.id}": "wrong_length"}
    stage.advance(RETENTION - DAY)
    stage.invoke(recording)
    assert stage.is_whole_and_once(recording)


# --- out of time, and two at once ---


class Hourglass(Context):
    """A context whose time runs out when `turn` is called."""

    def turn(self, **_: Any) -> None:
        self.remaining_ms = 10_000


def test_a_run_out_of_time_leaves_what_it_has_and_the_next_goes_on(stage: Stage) -> None:
    recording = stage.record(file_size=12 * MIB)
    one_by_one = Copier(stage.s3, stage.archiver.archive, part_size=5 * MIB, parts_in_flight=1)
    stage.use(replace(stage.archiver, copier=one_by_one))
    context = Hourglass(remaining_ms=900_000)
    stage.s3.meta.events.register("after-call.s3.UploadPart", context.turn)

    assert stage.invoke(recording, context=context) == []

    assert stage.versions() == []
    assert stage.uploads() == 1
    [check] = stage.worklist.due(10)
    assert (check.key, check.cause) == (f"archive#{recording.id}", "out_of_time")
    before = len(stage.simulator.requests)
    assert stage.invoke(recording) == []
    ranges = [r.range for r in stage.simulator.requests[before:] if r.path.startswith("/media/")]
    assert ranges == [
        "bytes=0-511",
        f"bytes={5 * MIB}-{10 * MIB - 1}",
        f"bytes={10 * MIB}-{12 * MIB - 1}",
    ]
    assert stage.is_whole_and_once(recording)
    lines = [json.loads(line) for line in stage.logged().splitlines() if "resumed" in line]
    assert [line["resumed"] for line in lines] == [0, 1]


def test_a_run_without_time_copies_nothing_and_is_due_at_once(stage: Stage) -> None:
    recording = stage.record()

    assert stage.invoke(recording, context=Context(remaining_ms=29_000)) == []

    assert stage.media_requests() == 0
    [check] = stage.worklist.due(10)
    assert check.cause == "out_of_time"


@pytest.mark.parametrize("changed", [Replaced(), IgnoreRange(), Headers({"ETag": None})], ids=repr)
def test_a_copy_of_what_is_not_the_same_file_any_more_begins_anew(
    stage: Stage, changed: Effect
) -> None:
    """The file was replaced, or its ranges are refused."""
    recording = stage.record(file_size=12 * MIB)
    one_by_one = Copier(stage.s3, stage.archiver.archive, part_size=5 * MIB, parts_in_flight=1)
    stage.use(replace(stage.archiver, copier=one_by_one))
    context = Hourglass(remaining_ms=900_000)
    stage.s3.meta.events.register("after-call.s3.UploadPart", context.turn)
    stage.invoke(recording, context=context)
    times = 1 if isinstance(changed, Replaced) else None
    stage.simulator.faults.add(changed, path="^/media/", times=times)

    assert stage.invoke(recording) == []

    assert stage.is_whole_and_once(recording)
    assert "copies begun anew" in stage.logged()


def test_without_ranges_a_run_out_of_time_begins_anew(stage: Stage) -> None:
    recording = stage.record(file_size=12 * MIB)
    stage.simulator.faults.add(IgnoreRange(), Headers({"ETag": None}), path="^/media/", times=None)
    context = Hourglass(remaining_ms=900_000)
    stage.s3.meta.events.register("after-call.s3.UploadPart", context.turn)
    stage.invoke(recording, context=context)
    assert stage.uploads() == 1

    assert stage.invoke(recording) == []

    assert stage.is_whole_and_once(recording)
    assert "copies begun anew" in stage.logged()


def test_what_another_run_is_working_on_is_left_to_it(stage: Stage) -> None:
    recording = stage.record()
    request = messages.parse(message(recording.id))
    other = stage.worklist.claim(request, "2026-06-10T10:30:00.000Z", 930)
    assert other

    assert stage.invoke(recording) == []

    assert stage.media_requests() == 0
    assert "left to a run under way" in stage.logged()
    # Somebody asked meanwhile: it is looked at once more.
    stage.worklist.finish(other)
    assert [check.key for check in stage.worklist.due(10)] == [request.key]


def test_a_run_whose_claim_was_taken_over_stops_and_leaves_no_upload(stage: Stage) -> None:
    recording = stage.record()
    request = messages.parse(message(recording.id))

    def take_over(**_: Any) -> None:
        stage.clock.advance(LATER)
        assert stage.worklist.claim(request, "2026-06-10T10:30:00.000Z", 930)

    stage.s3.meta.events.register("after-call.s3.CreateMultipartUpload", take_over)

    assert stage.invoke(recording) == []

    assert stage.versions() == []
    assert stage.uploads() == 0
    log = stage.logged()
    assert '"causes":{"video":"claim_lost"}' in log
    assert metrics(log)["ArchivePostponedClaimLost"] == 1


def test_a_claim_that_is_lost_at_the_very_end_is_no_failure(stage: Stage) -> None:
    recording = stage.record()
    settle = lambda **_: stage.worklist.settle(f"archive#{recording.id}")  # noqa: E731
    stage.s3.meta.events.register("after-call.s3.CompleteMultipartUpload", settle)

    assert stage.invoke(recording) == []

    assert stage.is_whole_and_once(recording)
    assert metrics(stage.logged())["ArtifactArchived"] == 1


def test_a_message_that_comes_twice_leaves_the_claim_of_the_run_under_way(stage: Stage) -> None:
    """Otherwise an erasure would not wait for that run, and would miss its uploads."""
    recording = stage.record()
    stage.invoke(recording)
    request = messages.parse(message(recording.id))
    run = stage.worklist.claim(request, "2026-06-10T10:30:00.000Z", 930)
    assert run

    assert stage.handle(message(recording.id)) == []
    assert stage.handle(erasure(recording.id)) == []

    assert "erasing_since" in stage.row(recording)
    stage.worklist.save_progress(run, {})


def test_a_file_is_not_copied_after_its_erasure(stage: Stage) -> None:
    """Near the deadline, with RealtimeKit down, a run has only the row."""
    recording = stage.record()
    stage.advance(RETENTION - DAY)
    stage.simulator.faults.add(error(503), path=f"/recordings/{recording.id}", times=None)
    stage.meanwhile(lambda: stage.handle(erasure(recording.id)))

    assert stage.invoke(recording) == []

    assert stage.versions() == []
    assert stage.checks() == {}


def test_a_recording_that_is_erased_while_realtimekit_is_asked_is_left_alone(stage: Stage) -> None:
    recording = stage.record()
    stage.advance(HOUR)

    def erase(params: dict[str, Any], **_: Any) -> None:
        if "budget#" in params["body"].decode():
            stage.dynamodb.meta.events.unregister("before-call.dynamodb.UpdateItem", erase)
            stage.catalogue.bury(
                stage.catalogue.begin_erasure(recording.id, stage.clock()) or {}, stage.clock()
            )

    stage.dynamodb.meta.events.register("before-call.dynamodb.UpdateItem", erase)

    assert stage.invoke(recording) == []

    assert stage.versions() == []
    assert stage.media_requests() == 0
    assert stage.checks() == {}


# --- AWS's faults ---


@pytest.mark.parametrize(
    "operation", ["HeadObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]
)
def test_when_s3_fails_the_message_stays_and_the_next_run_archives(
    stage: Stage, operation: str
) -> None:
    recording = stage.record()

    with s3_fails(stage.s3, operation, 500, "InternalError"):
        assert stage.invoke(recording) == ["0"]

    assert stage.versions() == []
    assert list(stage.checks()) == [f"archive#{recording.id}"]
    stage.clock.advance(LATER)
    assert stage.invoke(recording) == []
    assert stage.is_whole_and_once(recording)
    assert stage.checks() == {}


def test_what_was_archived_before_s3_failed_is_in_the_row(stage: Stage) -> None:
    recording = stage.record(separate_audio=True, audio_file_size=1000)
    creations: list[object] = []

    def fail_the_second(**_: Any) -> None:
        creations.append(None)
        if len(creations) == 2:
            raise ClientError({"Error": {"Code": "InternalError"}}, "CreateMultipartUpload")

    stage.s3.meta.events.register("before-call.s3.CreateMultipartUpload", fail_the_second)

    assert stage.invoke(recording) == ["0"]

    assert stage.states(recording) == {"audio": "archived"}


def test_an_object_whose_row_was_not_written_is_found_and_not_copied_again(stage: Stage) -> None:
    """A crash between S3's completion and the row leaves this."""
    recording = stage.record()

    def fail(params: dict[str, Any], **_: Any) -> None:
        body = json.loads(params["body"])
        if body["TableName"] == "RecordingsTable":
            raise ClientError({"Error": {"Code": "InternalServerError"}}, "UpdateItem")

    stage.dynamodb.meta.events.register("before-call.dynamodb.UpdateItem", fail)
    assert stage.invoke(recording) == ["0"]
    stage.dynamodb.meta.events.unregister("before-call.dynamodb.UpdateItem", fail)
    assert stage.row(recording)["archived"] == "no"
    before = stage.media_requests()

    stage.clock.advance(LATER)
    assert stage.invoke(recording) == []

    assert stage.is_whole_and_once(recording)
    looks = [
        logged.range for logged in stage.simulator.requests if logged.path.startswith("/media/")
    ]
    assert set(looks[before:]) == {"bytes=0-511"}


# --- media that is elsewhere ---


def test_a_file_in_another_bucket_is_noted_with_its_place(stage: Stage) -> None:
    recording = stage.record_elsewhere("owners-own")

    assert stage.invoke(recording) == []

    row = stage.row(recording)
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
    assert stage.checks() == {}
    assert stage.media_requests() == 0


def test_a_file_in_our_own_bucket_is_adopted_when_it_is_there(stage: Stage) -> None:
    recording = stage.record_elsewhere(stage.bucket)
    key = f"recordings/{recording.file_name}"
    whole = b"v" * MIB

    stage.invoke(recording)

    assert stage.states(recording) == {}
    assert stage.checks() == {f"archive#{recording.id}": "not_there"}
    stage.s3.put_object(Bucket=stage.bucket, Key=key, Body=whole)
    stage.clock.advance(LATER)
    stage.invoke(recording)
    archive = stage.row(recording)["artifacts"]["video"]["archive"]
    assert (archive["state"], archive["bucket"], archive["key"]) == ("archived", stage.bucket, key)
    assert archive["size"] == MIB
    assert stage.row(recording)["archived"] == "yes"
    assert stage.versions() == [key]
    assert stage.checks() == {}


def test_a_file_in_a_bucket_of_another_cloud_is_not_looked_for_in_ours_of_the_same_name(
    stage: Stage,
) -> None:
    recording = stage.record_elsewhere(stage.bucket, "cloudflare")
    stage.s3.put_object(
        Bucket=stage.bucket, Key=f"recordings/{recording.file_name}", Body=b"another"
    )

    stage.invoke(recording)

    assert stage.states(recording) == {"video": "external"}


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_what_realtimekit_never_kept_does_not_expire(stage: Stage, is_forgotten: bool) -> None:
    """A backfill may find the recording a year later."""
    recording = stage.record_elsewhere("owners-own")
    stage.advance(365 * DAY)
    if is_forgotten:
        stage.simulator.faults.add(error(404), path=f"/recordings/{recording.id}", times=None)

    assert stage.invoke(recording) == []

    assert stage.states(recording) == {"video": "external"}
    assert stage.checks() == {}
    assert metrics(stage.logged()).get("ArtifactLost", 0) == 0


def test_an_object_of_another_size_is_not_adopted(stage: Stage) -> None:
    recording = stage.record_elsewhere(stage.bucket)
    stage.s3.put_object(Bucket=stage.bucket, Key=f"recordings/{recording.file_name}", Body=b"video")

    stage.invoke(recording)

    assert stage.states(recording) == {}
    assert stage.checks() == {f"archive#{recording.id}": "wrong_length"}
    stage.advance(RETENTION + DAY)
    stage.invoke(recording)
    assert stage.states(recording) == {}


@pytest.mark.parametrize(("is_there", "state"), [(True, "archived"), (False, "expired")])
def test_a_file_that_should_be_in_our_own_bucket_is_looked_for_before_it_is_given_up(
    stage: Stage, is_there: bool, state: str
) -> None:
    recording = stage.record_elsewhere(stage.bucket)
    if is_there:
        stage.s3.put_object(
            Bucket=stage.bucket, Key=f"recordings/{recording.file_name}", Body=bytes(MIB)
        )
    stage.advance(RETENTION + 60)

    stage.invoke(recording)

    assert stage.states(recording) == {"video": state}
    assert stage.checks() == {}


# --- the deadline ---


def test_a_file_that_was_never_offered_is_waited_for_until_it_would_be_gone(stage: Stage) -> None:
    recording = stage.record(realtimekit_bucket=False)

    stage.invoke(recording)

    assert stage.checks() == {f"archive#{recording.id}": "not_offered"}
    stage.advance(RETENTION)
    stage.invoke(recording)
    assert stage.states(recording) == {"video": "expired"}
    assert metrics(stage.logged())["ArtifactLost"] == 1
    assert stage.checks() == {}


def test_a_file_that_expired_is_lost_once_and_the_row_says_so(stage: Stage) -> None:
    recording = stage.record()
    stage.advance(RETENTION + 60)

    stage.invoke(recording)

    assert stage.row(recording)["artifacts"]["video"]["archive"] == {
        "state": "expired",
        "expired_at": "2026-06-10T10:31:00.000Z",
    }
    assert stage.checks() == {}
    log = stage.logged()
    assert "file lost" in log
    assert metrics(log)["ArtifactLost"] == 1
    stage.invoke(recording)
    assert metrics(stage.logged()).get("ArtifactLost", 0) == 0


def test_an_upload_of_a_file_that_expired_is_aborted(stage: Stage) -> None:
    recording = stage.record(file_size=12 * MIB)
    context = Hourglass(remaining_ms=900_000)
    stage.s3.meta.events.register("after-call.s3.UploadPart", context.turn)
    stage.simulator.faults.add(Delay(0), path="^/media/", times=2)
    stage.simulator.faults.add(Delay(0.5), path="^/media/", times=None)
    stage.invoke(recording, context=context)
    assert stage.uploads() == 1

    stage.advance(RETENTION + 60)
    stage.invoke(recording)

    assert stage.states(recording) == {"video": "expired"}
    assert stage.uploads() == 0


def test_an_upload_of_a_file_that_was_archived_meanwhile_is_aborted(stage: Stage) -> None:
    recording = stage.record()
    context = Hourglass(remaining_ms=900_000)
    stage.s3.meta.events.register("after-call.s3.CreateMultipartUpload", context.turn)
    stage.invoke(recording, context=context)
    assert stage.uploads() == 1
    state = {"state": "archived", "bucket": stage.bucket, "key": "k", "size": MIB}
    stage.catalogue.record_archive(recording.id, {"video": state})

    assert stage.invoke(recording) == []

    assert stage.uploads() == 0
    assert stage.checks() == {}


def test_what_was_gone_before_we_heard_of_it_is_no_loss_of_ours(stage: Stage) -> None:
    recording = stage.simulator.world.record_meeting()
    # It was stopped 20 s ago, so it is gone in this very second.
    stage.advance(RETENTION - 20)
    stage.look_up(recording)

    stage.invoke(recording)

    assert stage.states(recording) == {"video": "expired"}
    assert metrics(stage.logged()).get("ArtifactLost", 0) == 0


def test_a_file_that_expires_while_another_is_copied_is_lost_and_stops_nothing(
    stage: Stage,
) -> None:
    recording = stage.record(separate_audio=True, audio_file_size=1000)
    stage.advance(RETENTION - 60)
    stage.s3.meta.events.register(
        "after-call.s3.CompleteMultipartUpload", lambda **_: stage.advance(120)
    )

    assert stage.invoke(recording) == []

    assert stage.states(recording) == {"audio": "archived", "video": "expired"}
    assert stage.row(recording)["archived"] == "partly"


@pytest.mark.parametrize(("hours", "states"), [(11, {}), (13, {"video": "expired"})])
def test_while_realtimekit_is_down_a_later_expiry_is_hoped_for_but_not_for_ever(
    stage: Stage, hours: int, states: dict[str, str]
) -> None:
    recording = stage.record()
    stage.advance(RETENTION + hours * 3600)
    stage.simulator.faults.add(error(503), path=f"/recordings/{recording.id}", times=None)

    stage.invoke(recording)

    assert stage.states(recording) == states


def test_what_realtimekit_does_not_know_any_more_is_lost_with_its_file(stage: Stage) -> None:
    recording = stage.record()
    stage.advance(RETENTION + 60)
    stage.simulator.faults.add(error(404), path=f"/recordings/{recording.id}", times=None)

    stage.invoke(recording)

    assert stage.states(recording) == {"video": "expired"}


PAST = "2026-06-03T10:00:00.000Z"


@pytest.mark.parametrize("expiry", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z", PAST])
def test_a_url_that_is_offered_is_tried_whatever_is_said_of_its_expiry(
    stage: Stage, expiry: str
) -> None:
    stage.simulator.faults.add(
        Overlay({"download_url_expiry": expiry}), path="/recordings/", times=None
    )
    recording = stage.record()

    assert stage.invoke(recording) == []

    assert stage.is_whole_and_once(recording)


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
    stage: Stage, expiry: str, fault: Effect, states: dict[str, str], left: list[str]
) -> None:
    stage.simulator.faults.add(
        Overlay({"download_url_expiry": expiry}), path="/recordings/", times=None
    )
    stage.simulator.faults.add(fault, path="^/media/", times=None)
    recording = stage.record()

    assert stage.invoke(recording) == []

    assert stage.states(recording) == states
    assert list(stage.checks().values()) == left


def test_what_was_over_when_realtimekit_last_answered_is_tried_without_asking_it_again(
    stage: Stage,
) -> None:
    """A backfill finds thousands of such files."""
    stage.simulator.faults.add(
        Overlay({"download_url_expiry": PAST}), path="/recordings/", times=None
    )
    stage.simulator.faults.add(storage_failure(403, "AccessDenied"), path="^/media/", times=None)
    recording = stage.record()
    before = len(stage.simulator.requests)

    stage.invoke(recording)

    assert stage.states(recording) == {"video": "expired"}
    assert len(stage.simulator.requests) == before + stage.media_requests() == before + 1


def test_a_track_that_is_named_and_not_offered_is_waited_for_until_its_time_is_over(
    stage: Stage,
) -> None:
    recording = stage.record_with_more(1)

    stage.invoke(recording)

    assert list(stage.states(recording).values()) == ["archived", "archived"]
    assert stage.row(recording)["archived"] == "partly"
    assert stage.checks() == {f"archive#{recording.id}": "not_offered"}
    # It was named, so it is looked for sooner than one that may never come.
    check = stage.work_table.get({"work_id": f"check#archive#{recording.id}"})
    assert check
    assert check["due_at"] == "2026-06-03T10:31:00.000Z"
    stage.advance(RETENTION - DAY)
    assert [check.is_urgent(stage.clock()) for check in stage.worklist.due(10)] == [True]
    stage.advance(2 * DAY)
    stage.invoke(recording)
    assert stage.states(recording)["track/default/late-000.webm"] == "expired"
    assert metrics(stage.logged())["ArtifactLost"] == 1
    assert stage.checks() == {}


def test_a_track_that_is_not_offered_yet_is_not_taken_for_one_in_the_owners_storage(
    stage: Stage,
) -> None:
    recording = stage.record_with_more(1, storage={"type": "aws", "bucket": "owners-own"})

    stage.invoke(recording)

    assert set(stage.states(recording).values()) == {"archived"}
    assert stage.checks() == {f"archive#{recording.id}": "not_offered"}
    stage.advance(RETENTION + DAY)
    stage.invoke(recording)
    assert stage.states(recording)["track/default/late-000.webm"] == "external"


def test_a_run_of_very_many_files_records_them_as_it_goes_on(stage: Stage) -> None:
    """A killed run then loses the states of a hundred files at most."""
    recording = stage.record_with_more(100)
    stage.advance(RETENTION + DAY)
    stage.simulator.faults.add(error(404), path=f"/recordings/{recording.id}", times=None)
    written: list[int] = []

    def count(params: dict[str, Any], **_: Any) -> None:
        if states := params["body"].count(b'"expired"'):
            written.append(states)

    stage.dynamodb.meta.events.register("before-call.dynamodb.UpdateItem", count)

    stage.invoke(recording)

    assert written == [100, 102]
    assert set(stage.states(recording).values()) == {"expired"}
    assert metrics(stage.logged())["ArtifactLost"] == 102


def test_a_recording_without_any_file_is_no_loss(stage: Stage) -> None:
    recording = stage.record_silent()

    stage.invoke(recording)

    assert "artifacts" not in stage.row(recording)
    assert stage.checks() == {f"archive#{recording.id}": "not_offered"}
    stage.advance(RETENTION)
    stage.invoke(recording)
    row = stage.row(recording)
    assert row["artifacts"] == {
        "track": {
            "kind": "track",
            "archive": {"state": "none", "noted_at": "2026-06-10T10:30:00.000Z"},
        }
    }
    assert (row["archived"], unsettled(row)) == ("no", {})  # type: ignore[arg-type]
    assert stage.checks() == {}
    log = stage.logged()
    assert "file lost" not in log
    assert "ArtifactLost" not in metrics(log)


def test_a_recording_without_any_file_is_looked_at_ever_more_rarely_and_is_never_at_risk(
    stage: Stage,
) -> None:
    recording = stage.record_silent()
    stage.invoke(recording)
    key, began, hours = {"work_id": f"check#archive#{recording.id}"}, stage.clock(), []
    while check := stage.work_table.get(key):
        due_at = datetime.fromisoformat(check["due_at"])
        assert "deadline" not in check
        hours.append(round((due_at - began) / timedelta(hours=1), 2))
        stage.advance((due_at - stage.clock()).total_seconds())
        stage.invoke(recording)

    assert hours == [0.25, 0.5, 1, 2, 4, 8, 16, 32, 56, 80, 104, 128, 152, 167.99]


def test_a_sessions_file_that_the_storage_lacks_is_looked_for_ever_more_rarely_and_then_lost(
    stage: Stage, ingestion: Ingestion
) -> None:
    lost = SessionFileOptions(available_after=0, outcome="no file")
    recording = stage.simulator.world.record_meeting(
        options=RecordingOptions(file_size=MIB), session_files={"chat": lost}
    )
    stage.look_up(recording)
    keeper = replace(ingestion, session_files=("chat",))
    keeper.ingest_session_files(
        SessionFilesRequest(session_id=recording.session.id, source=Source.SWEEP)
    )
    stage.invoke(recording)
    key, began, hours = {"work_id": f"check#archive#{recording.id}"}, stage.clock(), []
    while check := stage.work_table.get(key):
        due_at = datetime.fromisoformat(check["due_at"])
        hours.append(round((due_at - began) / timedelta(hours=1), 2))
        stage.advance((due_at - stage.clock()).total_seconds())
        stage.invoke(recording)

    assert hours == [0.25, 0.5, 1, 2, 4, 8, 16, 32, 56, 80, 104, 128, 152, 167.99]
    assert stage.states(recording) == {"chat": "expired", "video": "archived"}
    assert metrics(stage.logged())["ArtifactLost"] == 1


def test_a_file_that_is_offered_after_all_is_archived_and_nothing_stands_for_it(
    stage: Stage,
) -> None:
    recording = stage.record_silent()
    stage.invoke(recording)
    stage.simulator.faults.clear()
    stage.clock.advance(LATER)

    stage.invoke(recording)

    assert stage.is_whole_and_once(recording)
    assert set(stage.states(recording).values()) == {"archived"}
    assert stage.checks() == {}


@pytest.mark.parametrize(
    ("body", "states"), [(MIB, {"video": "archived"}), (5, {})], ids=["whole", "of another size"]
)
def test_nothing_is_called_expired_over_an_object_that_is_there(
    stage: Stage, body: int, states: dict[str, str]
) -> None:
    """A restored table, or a run that died before it wrote the row, leaves this."""
    recording = stage.record()
    key = archive_key(stage.row(recording), "video")
    stage.s3.put_object(Bucket=stage.bucket, Key=key, Body=bytes(body))
    stage.advance(RETENTION + 60)

    stage.invoke(recording)

    assert stage.states(recording) == states
    assert "file lost" not in stage.logged()


def test_a_loss_is_told_though_the_row_cannot_be_written(stage: Stage) -> None:
    recording = stage.record()
    stage.advance(RETENTION + 60)
    written: list[bool] = []

    def fail(params: dict[str, Any], **_: Any) -> None:
        if b'"expired"' in params["body"]:
            written.append("file lost" in stage.logged())
            raise ClientError({"Error": {"Code": "InternalServerError"}}, "UpdateItem")

    stage.dynamodb.meta.events.register("before-call.dynamodb.UpdateItem", fail)
    assert stage.invoke(recording) == ["0"]
    stage.dynamodb.meta.events.unregister("before-call.dynamodb.UpdateItem", fail)

    assert stage.states(recording) == {}
    assert written[0]
    stage.clock.advance(LATER)
    assert stage.invoke(recording) == []
    assert stage.states(recording) == {"video": "expired"}
    assert metrics(stage.logged())["ArtifactLost"] == 1


# --- secrets ---


def test_no_secret_is_logged_or_kept_in_checks(stage: Stage) -> None:
    recording = stage.record(separate_audio=True)
    stage.simulator.faults.add(Truncate(0.3), path="^/media/", times=None)

    stage.invoke(recording)

    kept = stage.dynamodb.scan(TableName="WorkTable")["Items"]
    everything = f"{stage.logged()} {kept}"
    assert recording.id in everything
    assert API_TOKEN not in everything
    assert "X-Amz-" not in everything


# --- erasures that the API could not finish ---


def test_an_erasure_is_gone_on_with(stage: Stage) -> None:
    recording = stage.record()
    stage.invoke(recording)

    assert stage.handle(erasure(recording.id)) == []

    assert stage.versions() == []
    assert set(stage.row(recording)) == {"recording_id", "erased_at", "version"}
    assert stage.checks() == {}


def test_an_erasure_waits_for_a_run_under_way_which_then_archives_nothing_more(
    stage: Stage,
) -> None:
    recording = stage.record()
    stage.invoke(recording)
    key = f"archive#{recording.id}"
    run = stage.worklist.claim(
        AnyRequest(key, {"task": "archive"}), "2026-06-10T10:30:00.000Z", 930
    )
    assert run

    assert stage.handle(erasure(recording.id)) == []

    assert "left to a run under way" in stage.logged()
    assert stage.checks()[f"erase#{recording.id}"] == "erasing"
    stage.worklist.finish(run)
    assert stage.handle(erasure(recording.id)) == []
    assert stage.versions() == []
    assert stage.checks() == {}


def test_a_file_that_expires_while_its_recording_is_erased_is_the_erasures(stage: Stage) -> None:
    recording = stage.simulator.world.record_meeting()
    stage.advance(RETENTION + 60)
    stage.look_up(recording)
    stage.meanwhile(lambda: stage.catalogue.begin_erasure(recording.id, stage.clock()))

    assert stage.invoke(recording) == []

    assert "erasing_since" in stage.row(recording)
    assert stage.states(recording) == {}
    assert stage.checks() == {}


def test_of_two_erasures_at_once_the_slower_is_done_too(stage: Stage) -> None:
    recording = stage.record()
    stage.invoke(recording)
    stage.meanwhile(lambda: stage.handle(erasure(recording.id)))

    assert stage.handle(erasure(recording.id)) == []

    assert set(stage.row(recording)) == {"recording_id", "erased_at", "version"}
    assert stage.versions() == []
    assert stage.checks() == {}


def refuse(**_: Any) -> tuple[Any, dict[str, Any]]:
    """Answer DeleteObjects with a 200 that names an object S3 keeps."""
    return SimpleNamespace(status_code=200), {"Errors": [{"Key": "k", "Code": "AccessDenied"}]}


def test_an_erasure_by_policy_that_never_began_is_left_to_the_policy(stage: Stage) -> None:
    recording = stage.record()
    request = EraseRequest(recording_id=recording.id, source=Source.FOLLOW_UP, reason="retention")

    assert stage.handle(messages.body(request)) == []

    assert stage.row(recording)["status"] == "UPLOADED"
    assert "erasure left to the policy's next run" in stage.logged()


def test_an_erasure_that_cannot_finish_is_tried_ever_more_rarely_and_given_up(stage: Stage) -> None:
    """The message does not fail, and the files, long archived, are not at risk."""
    recording = stage.record()
    stage.invoke(recording)
    request = {"task": "erase", "recording_id": recording.id}
    stage.worklist.check_in(AnyRequest(f"erase#{recording.id}", request), "erasing")
    stage.s3.meta.events.register("before-call.s3.DeleteObjects", refuse)
    for wait in (60, 120, 240, 480, 960, 1920, 3600, 3600, 3600):
        stage.clock.advance(wait - 1)
        assert stage.worklist.due(10) == []
        stage.clock.advance(1)
        [check] = stage.worklist.due(10)
        stage.worklist.advance(check)
        assert stage.handle(erasure(recording.id)) == []
        assert stage.checks() == {f"erase#{recording.id}": "not_erased"}
        assert not check.is_urgent(stage.clock())

    stage.clock.advance(8 * 86_400)
    assert [check.is_hopeless(stage.clock()) for check in stage.worklist.due(10)] == [True]


def test_an_erasure_of_files_in_another_archive_is_noted_and_no_failed_message(
    stage: Stage,
) -> None:
    recording = stage.record()
    stage.invoke(recording)
    state = {"state": "archived", "bucket": "another", "key": "k", "size": 1}
    stage.catalogue.record_archive(recording.id, {"video": state})
    request = {"task": "erase", "recording_id": recording.id}
    stage.worklist.check_in(AnyRequest(f"erase#{recording.id}", request), "erasing")

    assert stage.handle(erasure(recording.id)) == []

    assert stage.checks() == {f"erase#{recording.id}": "archive_unreachable"}


def test_an_erasure_that_s3_interrupts_is_no_failed_message(stage: Stage) -> None:
    recording = stage.record()
    stage.invoke(recording)

    with s3_fails(stage.s3, "ListObjectVersions", 500, "InternalError"):
        assert stage.handle(erasure(recording.id)) == []

    assert stage.checks() == {f"erase#{recording.id}": "erasing"}
    assert stage.handle(erasure(recording.id)) == []
    assert set(stage.row(recording)) == {"recording_id", "erased_at", "version"}


def test_an_erasure_that_was_killed_is_asked_for_again_and_warns_of_no_file(stage: Stage) -> None:
    recording = stage.record()
    stage.invoke(recording)

    def kill(**_: Any) -> None:
        raise KeyboardInterrupt

    stage.s3.meta.events.register("before-call.s3.ListObjectVersions", kill)
    with pytest.raises(KeyboardInterrupt):
        stage.handle(erasure(recording.id))
    stage.clock.advance(8 * 86_400)

    assert {check.request["task"] for check in stage.worklist.due(10)} == {"erase"}
    assert [check.deadline for check in stage.worklist.due(10)] == [None, None]


def test_an_erasure_of_what_is_not_there_is_done(stage: Stage) -> None:
    assert stage.handle(erasure("97cb480d-5840-4528-ace3-919b5e386c68")) == []
    assert stage.checks() == {}
