"""The archive: each file in the bucket, once and whole, whatever goes wrong on the way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from realtimekit_simulator import (
    DEFAULT_TOKEN,
    Effect,
    Kind,
    Recording,
    RecordingOptions,
    Slow,
    Truncate,
    storage_failure,
)

from .conftest import Deployment, deployment, kill_runtime, wait_for

pytestmark = pytest.mark.xdist_group("archive")

MIB = 1024 * 1024
PART = 5 * MIB
FUNCTION = "ArchiveRecordingFunction"


@pytest.fixture(scope="module")
def _archiving() -> Iterator[Deployment]:
    with deployment(ArchivePartMiB="5") as own:
        yield own


@pytest.fixture
def archiving(_archiving: Deployment) -> Iterator[Deployment]:
    """Yield a deployment that archives in the smallest parts that S3 takes."""
    yield _archiving
    _archiving.simulator.faults.clear()


def sync(archiving: Deployment, **options: Any) -> Recording:
    """Record a meeting and catalogue it, so that its archiving begins."""
    recording = archiving.simulator.world.record_meeting(options=RecordingOptions(**options))
    assert archiving.stack.request("POST", f"/recordings/{recording.id}/sync").status == 200
    return recording


def archived(archiving: Deployment, recording: Recording) -> dict[str, Any]:
    """Wait until all files of a recording are archived; return its row's artifacts."""

    def look() -> dict[str, Any] | None:
        row = archiving.row(recording)
        return row if row and row.get("archived") == "yes" else None

    artifacts: dict[str, Any] = wait_for(look)["artifacts"]
    return artifacts


def expect_whole_and_once(archiving: Deployment, recording: Recording) -> None:
    """Assert that each file is one object of one version, byte for byte, and no upload is left."""
    s3, bucket = archiving.stack.client("s3"), archiving.stack.description["archive_bucket"]
    app_id = archiving.simulator.world.app_id
    found = s3.list_object_versions(Bucket=bucket, Prefix=app_id).get("Versions", [])
    versions = [version for version in found if recording.id in version["Key"]]
    stored = {archive["archive"]["key"] for archive in archived(archiving, recording).values()}

    assert sorted(version["Key"] for version in versions) == sorted(stored)
    objects = (s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in stored)
    files = archiving.simulator.world.media_files(recording)
    assert sorted(hashlib.sha256(body).hexdigest() for body in objects) == sorted(
        file.sha256() for file in files
    )
    uploads = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert [upload for upload in uploads if recording.id in upload["Key"]] == []


def ranges(archiving: Deployment, recording: Recording) -> list[tuple[int, int]]:
    """Return the ranges that were requested so far, without the first 512 bytes."""
    asked = [
        logged.range
        for logged in archiving.simulator.requests
        if logged.path.startswith(f"/media/{recording.id}/") and logged.range
    ]
    parsed = [range_.removeprefix("bytes=").split("-") for range_ in asked]
    return [(int(start), int(stop) + 1) for start, stop in parsed if int(stop) > 511]


def finished_parts(archiving: Deployment, recording: Recording) -> list[int]:
    """Return the parts of the upload that is under way."""
    s3, bucket = archiving.stack.client("s3"), archiving.stack.description["archive_bucket"]
    uploads = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    for upload in uploads:
        if recording.id in upload["Key"]:
            answer = s3.list_parts(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
            return [part["PartNumber"] for part in answer.get("Parts", [])]
    return []


def let_parts_through(archiving: Deployment, count: int) -> None:
    """Serve so many parts at once after the look at the file; each other part takes minutes."""
    faults = archiving.simulator.faults
    faults.add(Effect(), path="^/media/", times=1 + count)
    faults.add(Slow(30_000), path="^/media/", times=None)


def follow_up(archiving: Deployment, recording: Recording) -> None:
    """Make the recording's check due, and call follow_up."""
    archiving.make_due(f"archive#{recording.id}")
    archiving.invoke("FollowUpFunction", "follow-up.schedule-tick")


def cause(archiving: Deployment, recording: Recording) -> str | None:
    check = archiving.check(f"archive#{recording.id}")
    return check["cause"]["S"] if check else None


def is_settled(archiving: Deployment, recording: Recording) -> bool:
    return archiving.check(f"archive#{recording.id}") is None


def test_video_and_audio_are_archived_and_subscribers_are_told(archiving: Deployment) -> None:
    subscriber = archiving.subscribe()

    recording = sync(archiving, file_size=12 * MIB, separate_audio=True, audio_file_size=MIB)

    artifacts = archived(archiving, recording)
    assert sorted(artifacts) == ["audio", "video"]
    for file in archiving.simulator.world.media_files(recording):
        archive = artifacts[file.artifact.kind]["archive"]
        assert (archive["size"], archive["checksum_crc32"]) == (file.size, file.crc32())
        assert archive["key"].endswith(
            f"/{recording.id}/{file.artifact.kind}/{file.artifact.file_name}"
        )
    expect_whole_and_once(archiving, recording)
    told: list[tuple[str, str]] = []

    def told_of_all() -> bool:
        told.extend(archiving.heard(subscriber))
        return ("Recording Archived", recording.id) in told

    wait_for(told_of_all)
    wait_for(lambda: is_settled(archiving, recording))


def test_every_track_is_archived(archiving: Deployment) -> None:
    recording = sync(archiving, kind=Kind.TRACK, participants=3, duration=60, file_size=0)

    assert len(archived(archiving, recording)) == 3
    expect_whole_and_once(archiving, recording)


def test_a_truncated_source_becomes_no_object_and_is_cured_later(archiving: Deployment) -> None:
    archiving.simulator.faults.add(Truncate(0), path="^/media/", times=None)
    recording = sync(archiving, file_size=6 * MIB)
    wait_for(lambda: cause(archiving, recording) == "media_unavailable")
    row = archiving.row(recording)
    assert row
    assert row["archived"] == "no"

    archiving.simulator.faults.clear()
    follow_up(archiving, recording)

    archived(archiving, recording)
    expect_whole_and_once(archiving, recording)


def test_an_expired_url_is_cured_by_a_new_one(archiving: Deployment) -> None:
    archiving.simulator.faults.add(
        storage_failure(400, "ExpiredRequest", "Request has expired"), path="^/media/", times=1
    )

    recording = sync(archiving, file_size=MIB)

    archived(archiving, recording)
    expect_whole_and_once(archiving, recording)
    path = f"/recordings/{recording.id}"
    asked = [r for r in archiving.simulator.requests if r.path.endswith(path)]
    # For the sync, whose URL the copy begins with, and for a new URL.
    assert len(asked) == 2


def test_a_kill_in_the_middle_of_a_copy_costs_only_the_parts_under_way(
    archiving: Deployment,
) -> None:
    let_parts_through(archiving, 2)
    recording = sync(archiving, file_size=6 * PART)
    wait_for(lambda: finished_parts(archiving, recording))

    kill_runtime("archive_recording.handler")

    done = finished_parts(archiving, recording)
    before = len(ranges(archiving, recording))
    assert 0 < len(done) < 6
    archiving.simulator.faults.clear()
    follow_up(archiving, recording)
    archived(archiving, recording)
    again = set(ranges(archiving, recording)[before:])
    # A request of the killed process may be noted late, and a part that it sent may be stored late.
    assert again
    assert again <= {((part - 1) * PART, part * PART) for part in range(1, 7) if part not in done}
    expect_whole_and_once(archiving, recording)


def test_a_copy_that_runs_out_of_time_goes_on_where_it_stopped(archiving: Deployment) -> None:
    functions = archiving.stack.client("lambda")
    name = archiving.stack.description["functions"][FUNCTION]["name"]
    # Half a minute of it is the margin.
    functions.update_function_configuration(FunctionName=name, Timeout=45)
    let_parts_through(archiving, 2)
    try:
        recording = sync(archiving, file_size=8 * PART)
        wait_for(lambda: cause(archiving, recording) == "out_of_time")
    finally:
        functions.update_function_configuration(FunctionName=name, Timeout=900)
    done = finished_parts(archiving, recording)
    before = len(ranges(archiving, recording))
    assert 0 < len(done) < 8
    archiving.simulator.faults.clear()

    follow_up(archiving, recording)

    archived(archiving, recording)
    again = ranges(archiving, recording)[before:]
    assert sorted(again) == [
        ((part - 1) * PART, part * PART) for part in range(1, 9) if part not in done
    ]
    expect_whole_and_once(archiving, recording)


def test_a_job_that_comes_twice_copies_nothing_twice(archiving: Deployment) -> None:
    recording = sync(archiving, file_size=MIB)
    archived(archiving, recording)
    wait_for(lambda: is_settled(archiving, recording))
    before = len(ranges(archiving, recording))
    # That of a function that was killed is only invisible.
    waiting = archiving.waiting("ArchiveQueue")
    message = {"v": 1, "source": "catalogue", "task": "archive", "recording_id": recording.id}
    body = json.dumps({**message, "deadline": "2026-12-01T00:00:00.000Z"})

    for _ in range(3):
        archiving.stack.client("sqs").send_message(
            QueueUrl=archiving.stack.description["queues"]["ArchiveQueue"]["url"], MessageBody=body
        )

    wait_for(lambda: archiving.waiting("ArchiveQueue") == waiting)
    assert len(ranges(archiving, recording)) == before
    expect_whole_and_once(archiving, recording)


def test_no_secret_is_in_the_bucket_the_queues_the_tables_or_the_logs(
    archiving: Deployment,
) -> None:
    recording = sync(archiving, file_size=MIB)
    archived(archiving, recording)

    s3, bucket = archiving.stack.client("s3"), archiving.stack.description["archive_bucket"]
    heads = [
        s3.head_object(Bucket=bucket, Key=version["Key"])
        for version in s3.list_object_versions(Bucket=bucket)["Versions"]
    ]
    everything = f"{heads} {archiving.items('WorkTable')} {archiving.stack.logs()}"
    assert recording.id in everything
    assert DEFAULT_TOKEN not in everything
    assert "X-Amz-Signature" not in everything
