"""Copies into the bucket, of any size, and through any fault."""

from __future__ import annotations

import re
import tracemalloc
import uuid
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from doubles import s3_fails
from realtimekit_simulator import (
    Answer,
    Chunked,
    Effect,
    Headers,
    IgnoreRange,
    Recording,
    RecordingOptions,
    Replaced,
    Reset,
    Resize,
    Simulator,
    Truncate,
)
from realtimekit_simulator import MediaFile as Source
from recordings.archive import Archive, Stored
from recordings.copier import (
    MAX_PARTS,
    Copier,
    OutOfTimeError,
    Upload,
    UploadLostError,
    crc32_combine,
)
from recordings.media import Media, MediaChangedError, MediaFile, MediaUnavailableError

MIB = 1024 * 1024
PART = 5 * MIB
BROTLI = {"Content-Type": "video/mp4", "Content-Encoding": "br"}
KEY = "app/2026/06/03/recording/video/weekly-sync.mp4"


def never() -> bool:
    return False


@pytest.fixture
def recording(simulator: Simulator) -> Recording:
    """Return a recording of three parts, the last of which is shorter."""
    return simulator.world.record_meeting(options=RecordingOptions(file_size=12 * MIB + 1))


@pytest.fixture
def source(simulator: Simulator, recording: Recording) -> Source:
    [source] = simulator.world.media_files(recording)
    return source


@pytest.fixture
def url(simulator: Simulator, recording: Recording) -> str:
    return simulator.world.media_url(recording, recording.artifacts[0])


@pytest.fixture
def file(media: Media, url: str) -> MediaFile:
    return media.open(url)


@pytest.fixture
def upload(copier: Copier, file: MediaFile) -> Upload:
    return begun(copier, file)


def begun(copier: Copier, file: MediaFile) -> Upload:
    upload = copier.begin(KEY, file, "recording")
    assert isinstance(upload, Upload)
    return upload


def parts(s3: Any, bucket: str, upload: Upload) -> dict[int, int]:
    """Return the sizes of the parts that S3 has, by number."""
    answer = s3.list_parts(Bucket=bucket, Key=KEY, UploadId=upload.upload_id)
    return {part["PartNumber"]: part["Size"] for part in answer.get("Parts", [])}


def versions(s3: Any, bucket: str) -> list[str]:
    answer = s3.list_object_versions(Bucket=bucket)
    return [version["Key"] for version in answer.get("Versions", [])]


def fetched(simulator: Simulator) -> list[tuple[int, int]]:
    """Return the requested ranges in order, without the first look at the file."""
    asked = (re.findall(r"\d+", logged.range) for logged in simulator.requests if logged.range)
    return sorted((int(start), int(stop) + 1) for start, stop in asked if int(stop) != 511)


def test_a_copy_is_the_file_with_its_type_and_its_checksum(
    archive: Archive,
    copier: Copier,
    file: MediaFile,
    upload: Upload,
    source: Source,
    s3: Any,
    bucket: str,
) -> None:
    assert versions(s3, bucket) == []

    stored = copier.copy(file, upload, never)

    assert stored == Stored(
        bucket=bucket, key=KEY, size=12 * MIB + 1, checksum_crc32=source.crc32()
    )
    found = s3.get_object(Bucket=bucket, Key=KEY, ChecksumMode="ENABLED")
    assert found["Body"].read() == source.read()
    assert found["ContentType"] == "video/mp4"
    assert found["ChecksumCRC32"] == source.crc32()
    assert found["Metadata"]["recording-id"] == "recording"
    assert archive.find(KEY) == stored


def test_a_file_smaller_than_a_part_is_copied_too(
    copier: Copier, media: Media, simulator: Simulator, s3: Any, bucket: str
) -> None:
    recording = simulator.world.record_meeting(options=RecordingOptions(file_size=1))
    file = media.open(simulator.world.media_url(recording, recording.artifacts[0]))

    copier.copy(file, begun(copier, file), never)

    [source] = simulator.world.media_files(recording)
    assert s3.get_object(Bucket=bucket, Key=KEY)["Body"].read() == source.read()


def test_each_byte_is_fetched_once(
    copier: Copier, file: MediaFile, upload: Upload, simulator: Simulator
) -> None:
    copier.copy(file, upload, never)

    assert fetched(simulator) == [(0, PART), (PART, 2 * PART), (2 * PART, 12 * MIB + 1)]


def test_a_file_of_which_there_is_a_copy_is_not_copied_again(
    copier: Copier, file: MediaFile, upload: Upload, media: Media, url: str
) -> None:
    stored = copier.copy(file, upload, never)

    assert copier.begin(KEY, media.open(url), "recording") == stored


@pytest.mark.parametrize(
    "effect",
    [Replaced(), Headers({"ETag": None}), Resize(7), Headers({"ETag": '"other"'})],
    ids=repr,
)
def test_another_file_replaces_the_copy(
    copier: Copier,
    file: MediaFile,
    upload: Upload,
    media: Media,
    url: str,
    simulator: Simulator,
    effect: Effect,
) -> None:
    copier.copy(file, upload, never)
    whole = (IgnoreRange(),) if isinstance(effect, Resize) else ()
    simulator.faults.add(*whole, effect, path="^/media/", times=None)

    begun_anew = copier.begin(KEY, media.open(url), "recording")

    assert isinstance(begun_anew, Upload)
    assert begun_anew.replaces


def test_a_copy_replaces_what_was_there_before_it_began(
    copier: Copier, file: MediaFile, source: Source, s3: Any, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key=KEY, Body=b"something else")

    copier.copy(file, begun(copier, file), never)

    assert s3.get_object(Bucket=bucket, Key=KEY)["Body"].read() == source.read()


def test_a_very_long_file_has_longer_parts(
    copier: Copier, media: Media, simulator: Simulator
) -> None:
    size = 4 * 1024 * 1024 * MIB
    recording = simulator.world.record_meeting(options=RecordingOptions(file_size=size))
    file = media.open(simulator.world.media_url(recording, recording.artifacts[0]))

    upload = begun(copier, file)

    assert upload.part_size * MAX_PARTS >= size
    assert upload.part_size * (MAX_PARTS - 1) < size


def test_memory_does_not_grow_with_the_file(
    copier: Copier, media: Media, simulator: Simulator
) -> None:
    """The simulator's memory is part of the measurement."""
    options = RecordingOptions(file_size=96 * MIB)
    recording = simulator.world.record_meeting(options=options)
    file = media.open(simulator.world.media_url(recording, recording.artifacts[0]))
    upload = begun(copier, file)
    tracemalloc.start()
    try:
        copier.copy(file, upload, never)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 24 * MIB


# --- what breaks off ---


def stop_after(s3: Any, count: int) -> Callable[[], bool]:
    """Return an `out_of_time` that is True once so many parts have been sent."""
    sent: list[object] = []
    s3.meta.events.register("after-call.s3.UploadPart", lambda **_: sent.append(None))
    return lambda: len(sent) >= count


def test_a_copy_that_runs_out_of_time_leaves_its_parts_and_no_object(
    s3: Any, bucket: str, file: MediaFile
) -> None:
    copier = Copier(s3, Archive(s3, bucket), part_size=PART, parts_in_flight=1)
    upload = begun(copier, file)

    with pytest.raises(OutOfTimeError):
        copier.copy(file, upload, stop_after(s3, 2))

    assert parts(s3, bucket, upload) == {1: PART, 2: PART}
    assert versions(s3, bucket) == []


def test_a_copy_goes_on_with_what_is_missing(
    s3: Any,
    bucket: str,
    file: MediaFile,
    media: Media,
    url: str,
    simulator: Simulator,
    source: Source,
) -> None:
    copier = Copier(s3, Archive(s3, bucket), part_size=PART, parts_in_flight=1)
    upload = begun(copier, file)
    with pytest.raises(OutOfTimeError):
        copier.copy(file, upload, stop_after(s3, 2))
    before = fetched(simulator)
    known = Upload.of(upload.fields())

    stored = Copier(s3, Archive(s3, bucket)).copy(media.open(url), known, never)

    assert stored.checksum_crc32 == source.crc32()
    again = [part for part in fetched(simulator) if part not in before]
    assert again == [(2 * PART, 12 * MIB + 1)]
    assert s3.get_object(Bucket=bucket, Key=KEY)["Body"].read() == source.read()


def test_a_part_of_another_size_is_sent_anew(
    copier: Copier, file: MediaFile, upload: Upload, source: Source, s3: Any, bucket: str
) -> None:
    s3.upload_part(
        Bucket=bucket, Key=KEY, UploadId=upload.upload_id, PartNumber=1, Body=b"x" * 6 * MIB
    )

    copier.copy(file, upload, never)

    assert s3.get_object(Bucket=bucket, Key=KEY)["Body"].read() == source.read()


def test_without_ranges_a_copy_is_made_in_one_go(
    copier: Copier,
    media: Media,
    url: str,
    simulator: Simulator,
    source: Source,
    s3: Any,
    bucket: str,
) -> None:
    simulator.faults.add(IgnoreRange(), path="^/media/", times=None)
    file = media.open(url)

    copier.copy(file, begun(copier, file), never)
    file.close()

    assert s3.get_object(Bucket=bucket, Key=KEY)["Body"].read() == source.read()
    assert len(simulator.requests) == 1


def test_a_file_of_unknown_length_is_copied_part_by_part(
    copier: Copier,
    media: Media,
    url: str,
    simulator: Simulator,
    source: Source,
    s3: Any,
    bucket: str,
) -> None:
    simulator.faults.add(IgnoreRange(), Chunked(), path="^/media/", times=None)
    file = media.open(url)
    sizes: list[int] = []
    s3.meta.events.register(
        "provide-client-params.s3.UploadPart",
        lambda params, **_: sizes.append(params["ContentLength"]),
    )

    stored = copier.copy(file, begun(copier, file), never)

    assert file.size is None
    assert sizes == [PART, PART, 2 * MIB + 1]
    assert (stored.size, stored.checksum_crc32) == (12 * MIB + 1, source.crc32())
    assert s3.get_object(Bucket=bucket, Key=KEY)["Body"].read() == source.read()


def test_a_part_of_one_answer_that_s3_refuses_is_sent_again_from_memory(
    copier: Copier, media: Media, url: str, simulator: Simulator, source: Source, s3: Any
) -> None:
    simulator.faults.add(IgnoreRange(), path="^/media/", times=None)
    file = media.open(url)

    with s3_fails(s3, "UploadPart", 503, "SlowDown", times=1, reads_body=True) as refused:
        stored = copier.copy(file, begun(copier, file), never)

    assert len(refused) == 1
    assert stored.checksum_crc32 == source.crc32()
    assert len(simulator.requests) == 1


def test_a_file_of_unknown_length_that_breaks_off_becomes_no_object(
    copier: Copier, media: Media, url: str, simulator: Simulator, s3: Any, bucket: str
) -> None:
    simulator.faults.add(IgnoreRange(), Chunked(), Reset(MIB), path="^/media/", times=None)
    file = media.open(url)

    with pytest.raises(MediaUnavailableError):
        copier.copy(file, begun(copier, file), never)

    assert versions(s3, bucket) == []


def test_an_encoding_that_was_not_decoded_is_the_objects(
    copier: Copier, media: Media, url: str, simulator: Simulator, s3: Any, bucket: str
) -> None:
    simulator.faults.add(Answer(200, "\x0b\x02\x03", BROTLI), path="^/media/", times=None)
    file = media.open(url)

    copier.copy(file, begun(copier, file), never)

    assert s3.head_object(Bucket=bucket, Key=KEY)["ContentEncoding"] == "br"


# A reset may take with it all that was sent; a third time in a row would be one too many.
@pytest.mark.parametrize(("effect", "times"), [(Truncate(0.5), 5), (Reset(MIB), 2)], ids=repr)
def test_a_source_that_breaks_off_now_and_then_is_copied_whole(
    copier: Copier,
    file: MediaFile,
    upload: Upload,
    simulator: Simulator,
    source: Source,
    effect: Effect,
    times: int,
) -> None:
    simulator.faults.add(effect, path="^/media/", times=times)

    assert copier.copy(file, upload, never).checksum_crc32 == source.crc32()


@pytest.mark.parametrize(
    ("effect", "error"),
    [(Truncate(0), MediaUnavailableError), (Replaced(), MediaChangedError)],
    ids=repr,
)
def test_a_source_that_fails_becomes_no_object(
    copier: Copier,
    file: MediaFile,
    upload: Upload,
    simulator: Simulator,
    s3: Any,
    bucket: str,
    effect: Effect,
    error: type[Exception],
) -> None:
    simulator.faults.add(effect, path="^/media/", times=None)

    with pytest.raises(error):
        copier.copy(file, upload, never)

    assert versions(s3, bucket) == []


def test_a_run_without_a_part_asks_for_smaller_ones_and_the_smallest_stay(
    s3: Any, bucket: str, file: MediaFile
) -> None:
    copier = Copier(s3, Archive(s3, bucket), part_size=6 * MIB)

    with pytest.raises(OutOfTimeError) as large:
        copier.copy(file, begun(copier, file), lambda: True)
    smaller = copier.begin(KEY, file, "recording", in_small_parts=True)
    assert isinstance(smaller, Upload)
    with pytest.raises(OutOfTimeError) as small:
        copier.copy(file, smaller, lambda: True)

    assert (large.value.is_stuck, small.value.is_stuck) == (True, False)
    assert smaller.part_size == 5 * MIB


def test_a_run_with_a_part_goes_on_with_parts_of_that_size(
    s3: Any, bucket: str, file: MediaFile
) -> None:
    copier = Copier(s3, Archive(s3, bucket), part_size=6 * MIB, parts_in_flight=1)

    with pytest.raises(OutOfTimeError) as raised:
        copier.copy(file, begun(copier, file), stop_after(s3, 1))

    assert not raised.value.is_stuck


# --- Object Lock ---


def checksums(s3: Any) -> list[bool]:
    """Return a list that gets, for each part sent, whether it has a checksum."""
    found: list[bool] = []
    s3.meta.events.register(
        "provide-client-params.s3.UploadPart",
        lambda params, **_: found.append("ChecksumCRC32" in params),
    )
    return found


def test_each_part_for_a_bucket_with_object_lock_has_a_checksum(
    s3: Any, file: MediaFile, source: Source, simulator: Simulator
) -> None:
    name = f"archive-{uuid.uuid4()}"
    location = {"LocationConstraint": "eu-central-1"}
    s3.create_bucket(
        Bucket=name, CreateBucketConfiguration=location, ObjectLockEnabledForBucket=True
    )
    copier = Copier(s3, Archive(s3, name), part_size=PART)
    sent = checksums(s3)

    stored = copier.copy(file, begun(copier, file), never)

    assert sent == [True, True, True]
    assert stored.checksum_crc32 == source.crc32()
    assert fetched(simulator) == [(0, PART), (PART, 2 * PART), (2 * PART, 12 * MIB + 1)]


def test_parts_for_a_bucket_without_object_lock_are_streamed_without_and_s3_is_asked_once(
    copier: Copier, file: MediaFile, s3: Any
) -> None:
    asked: list[object] = []
    s3.meta.events.register(
        "before-call.s3.GetObjectLockConfiguration", lambda **_: asked.append(None)
    )
    sent = checksums(s3)

    for place in (KEY, f"{KEY}.2"):
        upload = copier.begin(place, file, "recording")
        assert isinstance(upload, Upload)
        copier.copy(file, upload, never)

    assert sent == [False] * 6
    assert len(asked) == 1


def test_where_s3_does_not_say_whether_there_is_a_lock_each_part_has_a_checksum(
    copier: Copier, file: MediaFile, s3: Any
) -> None:
    sent = checksums(s3)

    with s3_fails(s3, "GetObjectLockConfiguration", 403, "AccessDenied"):
        copier.copy(file, begun(copier, file), never)

    assert sent == [True, True, True]


# --- S3's faults ---


def test_a_part_that_s3_refuses_half_way_is_sent_again_from_its_start(
    copier: Copier, file: MediaFile, upload: Upload, source: Source, s3: Any
) -> None:
    with s3_fails(s3, "UploadPart", 503, "SlowDown", times=1, reads_body=True) as refused:
        stored = copier.copy(file, upload, never)

    assert len(refused) == 1
    assert stored.checksum_crc32 == source.crc32()


@pytest.mark.parametrize(
    ("operation", "status", "code"),
    [
        ("CreateMultipartUpload", 403, "AccessDenied"),
        ("HeadObject", 500, "InternalError"),
        ("ListParts", 403, "AccessDenied"),
        ("UploadPart", 403, "AccessDenied"),
        ("CompleteMultipartUpload", 403, "AccessDenied"),
    ],
)
def test_what_s3_refuses_is_its_own_error_and_no_object(
    copier: Copier, file: MediaFile, s3: Any, bucket: str, operation: str, status: int, code: str
) -> None:
    with s3_fails(s3, operation, status, code), pytest.raises(ClientError):
        copier.copy(file, begun(copier, file), never)

    assert versions(s3, bucket) == []


def test_a_conflict_of_two_completions_begins_anew_and_says_what_s3_said(
    copier: Copier, file: MediaFile, upload: Upload, s3: Any
) -> None:
    with (
        s3_fails(s3, "CompleteMultipartUpload", 409, "ConditionalRequestConflict"),
        pytest.raises(UploadLostError) as raised,
    ):
        copier.copy(file, upload, never)

    assert str(raised.value) == "ConditionalRequestConflict: simulated fault"


def test_an_upload_that_is_gone_must_begin_anew(
    copier: Copier, file: MediaFile, upload: Upload
) -> None:
    copier.abort(upload)

    with pytest.raises(UploadLostError):
        copier.copy(file, upload, never)


@pytest.mark.parametrize("operation", ["UploadPart", "CompleteMultipartUpload"])
def test_an_upload_that_goes_while_it_is_copied_must_begin_anew(
    copier: Copier, file: MediaFile, upload: Upload, s3: Any, operation: str
) -> None:
    with s3_fails(s3, operation, 404, "NoSuchUpload"), pytest.raises(UploadLostError):
        copier.copy(file, upload, never)


def test_s3_keeps_nothing_that_has_another_checksum(
    copier: Copier, file: MediaFile, upload: Upload, s3: Any, bucket: str
) -> None:
    """The bytes changed on their way, so S3 has other bytes than were read."""

    def change(params: dict[str, Any], **_: Any) -> None:
        params["ChecksumCRC32"] = "AAAAAA=="

    s3.meta.events.register("provide-client-params.s3.CompleteMultipartUpload", change)

    with pytest.raises(UploadLostError):
        copier.copy(file, upload, never)

    assert versions(s3, bucket) == []


def test_of_two_copies_at_once_one_is_kept(
    copier: Copier, file: MediaFile, upload: Upload, media: Media, url: str, s3: Any, bucket: str
) -> None:
    other = begun(copier, file)
    first = copier.copy(file, upload, never)

    second = copier.copy(media.open(url), other, never)

    assert second == first
    assert versions(s3, bucket) == [KEY]
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_a_copy_does_not_replace_another_file_that_came_first(
    copier: Copier, file: MediaFile, upload: Upload, s3: Any, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key=KEY, Body=b"something else")

    with pytest.raises(UploadLostError):
        copier.copy(file, upload, never)

    assert s3.get_object(Bucket=bucket, Key=KEY)["Body"].read() == b"something else"


def test_an_answer_that_was_lost_is_made_up_for_by_a_look(
    copier: Copier, file: MediaFile, upload: Upload, source: Source, s3: Any, bucket: str
) -> None:
    """S3 completed the upload but its answer was lost, so the next try finds no such upload."""

    def lose(http_response: Any, parsed: dict[str, Any], **_: Any) -> None:
        http_response.status_code = 404
        parsed["Error"] = {"Code": "NoSuchUpload", "Message": "lost"}

    s3.meta.events.register("after-call.s3.CompleteMultipartUpload", lose)

    assert copier.copy(file, upload, never).checksum_crc32 == source.crc32()
    assert versions(s3, bucket) == [KEY]


def test_a_checksum_of_parts_checksums_is_not_the_files(
    archive: Archive, copier: Copier, s3: Any, bucket: str, file: MediaFile
) -> None:
    """Another program's upload may have such a checksum."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key=KEY, ChecksumAlgorithm="CRC32")
    part = s3.upload_part(
        Bucket=bucket,
        Key=KEY,
        UploadId=upload["UploadId"],
        PartNumber=1,
        Body=b"x" * PART,
        ChecksumAlgorithm="CRC32",
    )
    completed = {"PartNumber": 1, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]}
    s3.complete_multipart_upload(
        Bucket=bucket,
        Key=KEY,
        UploadId=upload["UploadId"],
        MultipartUpload={"Parts": [completed]},
    )

    found = archive.find(KEY)

    assert found is not None
    assert (found.size, found.checksum_crc32) == (PART, None)
    assert isinstance(copier.begin(KEY, file, "recording"), Upload)


def test_to_abort_twice_is_to_abort(copier: Copier, upload: Upload, s3: Any, bucket: str) -> None:
    copier.abort(upload)
    copier.abort(upload)

    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_an_abort_that_is_refused_is_said(copier: Copier, upload: Upload, s3: Any) -> None:
    with s3_fails(s3, "AbortMultipartUpload", 403, "AccessDenied"), pytest.raises(ClientError):
        copier.abort(upload)


def test_an_upload_is_read_back_as_it_was_written(upload: Upload) -> None:
    others: dict[str, Any] = {"etag": None, "replaces": True, "size": None, "is_stuck": True}
    for one in (upload, *(replace(upload, **{name: value}) for name, value in others.items())):
        assert Upload.of(one.fields()) == one


@given(st.binary(), st.binary())
def test_the_checksum_of_a_whole_follows_from_that_of_its_pieces(one: bytes, other: bytes) -> None:
    combined = crc32_combine(zlib.crc32(one), zlib.crc32(other), len(other))

    assert combined == zlib.crc32(one + other)
