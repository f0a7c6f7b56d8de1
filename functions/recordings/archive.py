"""The owner's bucket: where a file goes, and how it gets there whatever its size.

A file is copied in parts, several at a time, each streamed from RealtimeKit's storage straight into
S3's UploadPart: what is in memory is a chunk of each. Which parts are done S3 itself knows, so that
a copy that broke off, for whatever reason, goes on with what is missing. A file that comes in one
answer is read into memory part by part, because how long its last part is may be known only then;
so is each part for a bucket with Object Lock. S3 checks the whole: it makes an object of the parts
only if the CRC-32 of all their bytes is the one that we read.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import threading
import zlib
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError

from recordings.media import CHUNK_SIZE, MediaError, MediaFile, WrongLengthError, content_type_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Fewer requests to pay for than with smaller ones, hardly slower than with larger ones.
PART_SIZE = 64 * 1024 * 1024
# What is read into memory before it is sent: as many as are in flight, and two more.
BUFFERED_PART_SIZE = 16 * 1024 * 1024
# S3 takes no smaller one, but as the last.
MIN_PART_SIZE = 5 * 1024 * 1024
PARTS_IN_FLIGHT = 4
MAX_PARTS = 10_000
MAX_FILE_NAME_LENGTH = 150

S3_CONFIG: Mapping[str, Any] = {
    # The checksum of the whole is given with the completion; none of a part is needed, and signing
    # a part's bytes would mean to read them twice.
    "request_checksum_calculation": "when_required",
    "s3": {"payload_signing_enabled": False},
}
"""What the S3 client of an `Archive` must be configured with, to stream parts."""

# The reflected polynomial of CRC-32, as zlib has it.
_POLYNOMIAL = 0xEDB88320
# While a recording's own time is unknown, its row has one of the others in its place.
_FOLDER_TIMES = ("invoked_at", "started_at", "first_seen_at")


class OutOfTimeError(Exception):
    """Raised when the copy was stopped; the parts that are done stay, for `Archive.copy` again.

    `is_stuck` says that not one part was done, though parts could be smaller.
    """

    def __init__(self, *, is_stuck: bool = False) -> None:
        super().__init__("the function's time is over")
        self.is_stuck = is_stuck


class NotErasedError(Exception):
    """Raised when S3 would not delete something; says its codes."""


class UploadLostError(Exception):
    """Raised when S3 does not know the upload any more, or will not complete it: begin anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A copy under way; what must be kept to go on with it.

    `size` is None where only the file's end will tell. One that `is_stuck` is to begin anew, in
    smaller parts.
    """

    key: str
    upload_id: str
    part_size: int
    size: int | None = None
    etag: str | None = None
    replaces: bool = False
    is_stuck: bool = False

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of `fields`."""
        return cls(**fields)

    def fields(self) -> dict[str, Any]:
        """To be stored, `etag` only where there is one."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An object in a bucket. The checksum, of the whole, is as S3 writes it: base64 of 4 bytes."""

    bucket: str
    key: str
    size: int
    checksum_crc32: str | None


class Archive:
    """The recordings' files in one bucket. `s3` is configured with `S3_CONFIG`.

    S3's own errors come through as botocore's.
    """

    def __init__(
        self,
        s3: S3Client,
        bucket: str,
        part_size: int = PART_SIZE,
        parts_in_flight: int = PARTS_IN_FLIGHT,
    ) -> None:
        self._s3 = s3
        self.bucket = bucket
        self._part_size = part_size
        self._parts_in_flight = parts_in_flight
        self._is_locked: bool | None = None

    def find(self, key: str) -> Stored | None:
        """The object at that key; `None` also where we may not see it."""
        head = self._head(key, ChecksumMode="ENABLED")
        return None if head is None else self._stored(key, head)

    def has(self, key: str) -> bool:
        """Whether there is an object at that key. Unlike its checksum that takes no key of KMS."""
        return self._head(key) is not None

    def begin(
        self, key: str, file: MediaFile, recording_id: str, *, in_small_parts: bool = False
    ) -> Upload | Stored:
        """Announce a copy of the file; or the object, where an earlier copy of this file left it.

        Nothing is at `key` before `copy` has completed it.
        """
        head = self._head(key, ChecksumMode="ENABLED")
        source = quote(file.etag or "")
        if head and (head["ContentLength"], head["Metadata"].get("source-etag")) == (
            file.size,
            source,
        ):
            stored = self._stored(key, head)
            if source and stored.checksum_crc32:
                return stored
        encoded = file.content_encoding
        encoding: Any = {"ContentEncoding": encoded} if encoded else {}
        answer = self._s3.create_multipart_upload(
            Bucket=self.bucket,
            Key=key,
            ContentType=content_type_of(file, key),
            **encoding,
            ChecksumAlgorithm="CRC32",
            ChecksumType="FULL_OBJECT",
            Metadata={"recording-id": recording_id, "source-etag": source},
        )
        return Upload(
            key=key,
            upload_id=answer["UploadId"],
            part_size=self._part_size_for(file, in_small_parts),
            size=file.size,
            etag=file.etag,
            replaces=head is not None,
        )

    def copy(self, file: MediaFile, upload: Upload, out_of_time: Callable[[], bool]) -> Stored:
        """Send the parts that are missing, and have S3 check and keep the whole.

        Raises `OutOfTimeError` soon after `out_of_time` says so, `MediaError` where the file cannot
        be had, `UploadLostError` where the copy must begin anew. The upload is left as it is then.
        """
        stopped = threading.Event()

        def require_time() -> None:
            if stopped.is_set() or out_of_time():
                raise OutOfTimeError

        if file.has_ranges:
            sent = self._send_missing(file, upload, require_time, stopped)
        else:
            sent = self._send_stream(file, upload, require_time)
        checksum = 0
        for number in sorted(sent):
            checksum = crc32_combine(checksum, sent[number].crc32, sent[number].size)
        return self._complete(upload, sent, _base64(checksum))

    def _part_size_for(self, file: MediaFile, in_small_parts: bool) -> int:
        largest = self._part_size
        if in_small_parts:
            largest = MIN_PART_SIZE
        elif not file.has_ranges or self._wants_checksums():
            largest = min(largest, BUFFERED_PART_SIZE)
        return max(largest, -(-(file.size or 0) // MAX_PARTS))

    def _wants_checksums(self) -> bool:
        """Return whether S3 demands a checksum of each part: where the bucket has Object Lock.

        Where S3 does not say whether it has, the checksums do no harm. S3 is asked once.
        """
        if self._is_locked is None:
            try:
                self._s3.get_object_lock_configuration(Bucket=self.bucket)
                self._is_locked = True
            except ClientError as error:
                self._is_locked = _code(error) != "ObjectLockConfigurationNotFoundError"
        return self._is_locked

    def abort(self, upload: Upload) -> None:
        """Free what its parts take up; also where there is nothing left to free."""
        try:
            self._s3.abort_multipart_upload(
                Bucket=self.bucket, Key=upload.key, UploadId=upload.upload_id
            )
        except ClientError as error:
            if _code(error) != "NoSuchUpload":
                raise

    def link(self, key: str, file_name: str, seconds: int) -> str:
        """A URL by which whoever has it can download the object under that name for so long.

        It is signed with the credentials of the client, and is good for no longer than they are.
        """
        # RFC 6266: a plain name for all, and the real one for those who understand it.
        disposition = f'attachment; filename="{safe_name(file_name)}"'
        if safe_name(file_name) != file_name:
            disposition += f"; filename*=UTF-8''{quote(file_name, safe='')}"
        return self._s3.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": self.bucket,
                "Key": key,
                "ResponseContentDisposition": disposition,
            },
            ExpiresIn=seconds,
        )

    def probe(self) -> None:
        """Raises botocore's errors unless the bucket is there, and ours to use."""
        self._s3.list_multipart_uploads(Bucket=self.bucket, MaxUploads=1)

    def is_elsewhere(self) -> bool:
        """Return whether the bucket is in another region than this client, whose links then fail.

        Requests still succeed there: S3 redirects them, and botocore follows. A presigned URL is
        signed for the client's region and cannot be redirected.
        """
        region = self._s3.head_bucket(Bucket=self.bucket).get("BucketRegion")
        return region not in (None, self._s3.meta.region_name)

    def erase(self, folders: Collection[str], keys: Collection[str]) -> None:
        """Remove all versions of all objects in the folders and at the keys, and unfinished copies.

        Raises `NotErasedError` where S3 keeps some; what it does not keep is gone then.
        """
        kept: set[str] = set()
        for prefix in [*folders, *keys]:
            exact = {prefix} if prefix in keys else None
            self._abort_all(prefix, exact)
            kept |= self._erase_versions(prefix, exact)
        if kept:
            raise NotErasedError(", ".join(sorted(kept)))

    def _abort_all(self, prefix: str, exact: Collection[str] | None) -> None:
        pages = self._s3.get_paginator("list_multipart_uploads").paginate(
            Bucket=self.bucket, Prefix=prefix
        )
        for upload in pages.search("Uploads[]"):
            if upload and (exact is None or upload["Key"] in exact):
                with contextlib.suppress(self._s3.exceptions.NoSuchUpload):
                    self._s3.abort_multipart_upload(
                        Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )

    def _erase_versions(self, prefix: str, exact: Collection[str] | None) -> set[str]:
        """The codes of what S3 said to those that it kept."""
        kept: set[str] = set()
        pages = self._s3.get_paginator("list_object_versions").paginate(
            Bucket=self.bucket, Prefix=prefix
        )
        for page in pages:
            found: list[Any] = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            objects: list[Any] = [
                {"Key": version["Key"], "VersionId": version["VersionId"]}
                for version in found
                if exact is None or version["Key"] in exact
            ]
            if objects:
                answer = self._s3.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True}
                )
                kept |= {error.get("Code", "?") for error in answer.get("Errors", [])}
        return kept

    def _head(self, key: str, **options: Any) -> Any:
        try:
            return self._s3.head_object(Bucket=self.bucket, Key=key, **options)
        except ClientError as error:
            # 403: without the right to list the bucket, that is how S3 says that there is nothing.
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in (403, 404):
                return None
            raise

    def _stored(self, key: str, head: Mapping[str, Any]) -> Stored:
        # One of parts' checksums, "…-3", is not the file's.
        whole = head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
        return Stored(
            bucket=self.bucket,
            key=key,
            size=head["ContentLength"],
            checksum_crc32=head.get("ChecksumCRC32") if whole else None,
        )

    def _finished(self, upload: Upload) -> dict[int, _Sent]:
        """The parts that S3 has, as far as it says what is in them."""
        found = {}
        sizes = {part.number: part.size for part in _parts(upload)}
        pages = self._s3.get_paginator("list_parts").paginate(
            Bucket=self.bucket, Key=upload.key, UploadId=upload.upload_id
        )
        try:
            for part in pages.search("Parts[]"):
                number = part["PartNumber"] if part else None
                if number in sizes and sizes[number] == part["Size"] and "ChecksumCRC32" in part:
                    crc32 = int.from_bytes(base64.b64decode(part["ChecksumCRC32"]), "big")
                    found[number] = _Sent(part["ETag"], crc32, part["Size"])
        except ClientError as error:
            raise _lost(error) from error
        return found

    def _send_missing(
        self,
        file: MediaFile,
        upload: Upload,
        require_time: Callable[[], None],
        stopped: threading.Event,
    ) -> dict[int, _Sent]:
        """Send the parts that S3 does not have, several at once, and return all."""
        sent = self._finished(upload)
        send = partial(self._send_buffered if self._wants_checksums() else self._send, file, upload)
        missing = [part for part in _parts(upload) if part.number not in sent]
        futures: dict[Future[_Sent], int] = {}
        try:
            with ThreadPoolExecutor(self._parts_in_flight) as threads:
                try:
                    futures = {
                        threads.submit(send, part, require_time): part.number for part in missing
                    }
                    for future in as_completed(futures):
                        sent[futures[future]] = future.result()
                except BaseException:
                    stopped.set()
                    threads.shutdown(wait=False, cancel_futures=True)
                    raise
        except OutOfTimeError:
            has_gained = any(_is_done(future) for future in futures)
            can_shrink = upload.part_size > MIN_PART_SIZE
            raise OutOfTimeError(is_stuck=can_shrink and not has_gained) from None
        return sent

    def _send_stream(
        self, file: MediaFile, upload: Upload, require_time: Callable[[], None]
    ) -> dict[int, _Sent]:
        """Send the parts of a file that comes in one answer, each while the next one is read."""
        sent = []
        under_way: Future[_Sent] | None = None
        chunks = file.stream(require_time)
        with ThreadPoolExecutor(1) as thread, contextlib.closing(chunks):
            for number, data in enumerate(_in_parts(chunks, upload.part_size), start=1):
                if number > MAX_PARTS:
                    raise WrongLengthError("longer than S3 takes in parts of this size")
                if under_way:
                    sent.append(under_way.result())
                under_way = thread.submit(self._send_data, upload, number, data, require_time)
            if under_way:
                sent.append(under_way.result())
        return dict(enumerate(sent, start=1))

    def _send(
        self, file: MediaFile, upload: Upload, part: _Part, require_time: Callable[[], None]
    ) -> _Sent:
        chunks = partial(file.chunks, part.start, part.start + part.size, require_time)
        return self._put(upload, part.number, part.size, chunks)

    def _send_buffered(
        self, file: MediaFile, upload: Upload, part: _Part, require_time: Callable[[], None]
    ) -> _Sent:
        data = bytearray()
        for chunk in file.chunks(part.start, part.start + part.size, require_time):
            data += chunk
        return self._send_data(upload, part.number, data, require_time)

    def _send_data(
        self, upload: Upload, number: int, data: bytearray, require_time: Callable[[], None]
    ) -> _Sent:
        def chunks() -> Generator[bytes, None, None]:
            for start in range(0, len(data), CHUNK_SIZE):
                require_time()
                yield bytes(data[start : start + CHUNK_SIZE])

        checksum = _base64(zlib.crc32(data))
        return self._put(upload, number, len(data), chunks, ChecksumCRC32=checksum)

    def _put(
        self,
        upload: Upload,
        number: int,
        size: int,
        chunks: Callable[[], Generator[bytes, None, None]],
        **checksum: Any,
    ) -> _Sent:
        body = _Body(chunks)
        try:
            answer = self._s3.upload_part(
                Bucket=self.bucket,
                Key=upload.key,
                UploadId=upload.upload_id,
                PartNumber=number,
                Body=body,  # type: ignore[arg-type]
                ContentLength=size,
                **checksum,
            )
        except BotoCoreError:
            # What the body raised is what went wrong: botocore wraps it, and would try it again.
            if body.error is not None:
                raise body.error from None
            raise
        except ClientError as error:
            raise _lost(error) from error
        finally:
            body.close()
        return _Sent(answer["ETag"], body.crc32, size)

    def _complete(self, upload: Upload, parts: Mapping[int, _Sent], checksum: str) -> Stored:
        # Of two copies at once, one gets there first; the other finds the same object.
        conditions: Any = {} if upload.replaces else {"IfNoneMatch": "*"}
        size = sum(part.size for part in parts.values())
        try:
            self._s3.complete_multipart_upload(
                Bucket=self.bucket,
                Key=upload.key,
                UploadId=upload.upload_id,
                MultipartUpload={
                    "Parts": [
                        {"PartNumber": number, "ETag": parts[number].etag}
                        for number in sorted(parts)
                    ]
                },
                ChecksumCRC32=checksum,
                ChecksumType="FULL_OBJECT",
                MpuObjectSize=size,
                **conditions,
            )
        except ClientError as error:
            stored = self.find(upload.key)
            if stored and (stored.size, stored.checksum_crc32) == (size, checksum):
                self.abort(upload)
                return stored
            raise _lost(error) from error
        return Stored(bucket=self.bucket, key=upload.key, size=size, checksum_crc32=checksum)


@dataclass(frozen=True, slots=True)
class _Part:
    number: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class _Sent:
    etag: str
    crc32: int
    size: int


class _Body:
    """A part's bytes, as botocore reads them while it sends them.

    To try a part again it is rewound, which is to ask for its chunks again.
    """

    def __init__(self, open_chunks: Callable[[], Generator[bytes, None, None]]) -> None:
        self._open_chunks = open_chunks
        self.error: MediaError | OutOfTimeError | None = None
        self._rewind()

    def _rewind(self) -> None:
        self.crc32 = 0
        self._chunks = self._open_chunks()

    def read(self, size: int = -1) -> bytes:
        """A chunk, `b""` at the end. It may be more than `size`, urllib3's 16 KB: all is sent."""
        try:
            chunk = next(self._chunks, b"")
        except (MediaError, OutOfTimeError) as error:
            self.error = error
            raise
        self.crc32 = zlib.crc32(chunk, self.crc32)
        return chunk

    def seek(self, offset: int, whence: int = 0) -> None:
        """Back to the start, unless it was the file that failed: then it would do so again."""
        if self.error is not None:
            raise self.error
        self.close()
        self._rewind()

    def close(self) -> None:
        """Let go of the source's connection."""
        self._chunks.close()


def object_key(row: Mapping[str, Any], artifact_name: str) -> str:
    """Where a recording's file goes: `<app>/<yyyy>/<mm>/<dd>/<recording id>/<kind>/<file name>`.

    The same each time, and no other file's: the recording's id is in it, and names that lose
    something when they are made safe get a hash of what they were.
    """
    artifact = row["artifacts"][artifact_name]
    names = artifact_name.split("/")[1:-1]
    names.append(artifact.get("file_name") or artifact_name.rpartition("/")[2])
    folder = _folder(row, row.get("invoked_at") or row["first_seen_at"])
    return folder + "/".join([artifact["kind"], *map(safe_name, names)])


def _folder(row: Mapping[str, Any], time: str) -> str:
    return f"{row['app_id']}/{time[:10].replace('-', '/')}/{row['recording_id']}/"


def storage_location(row: Mapping[str, Any], artifact: Mapping[str, Any]) -> dict[str, Any]:
    """Return where RealtimeKit put a file in the owner's storage; `{}` if the row names no storage.

    The file is at `path/output_file_name` (RealtimeKit docs, custom cloud storage). A TRACK
    recording's name is a template, which names no file: its location has a `path` and no `key`.
    """
    storage = dict(row.get("storage", {}))
    path = str(storage.pop("path", "")).strip("/")
    name = artifact.get("file_name")
    if not storage:
        return {}
    if name and "{{" not in name:
        storage["key"] = f"{path}/{name}".lstrip("/")
    elif path:
        storage["path"] = path
    return storage


def locations(row: Mapping[str, Any], bucket: str) -> tuple[list[str], list[str]]:
    """Return all places in the bucket where a recording's files may be: folders, and single keys.

    RealtimeKit itself may have put some elsewhere in it, which need not have been adopted; and when
    the recording was invoked may have been unknown.
    """
    folders = {_folder(row, row[name]) for name in _FOLDER_TIMES if name in row}
    artifacts = row.get("artifacts", {}).values()
    places = [artifact.get("archive", {}) for artifact in artifacts]
    places += [storage_location(row, artifact) for artifact in (row, *artifacts)]
    keys = {
        place["key"]
        for place in places
        if place.get("bucket") == bucket and place.get("type", "aws") == "aws" and "key" in place
    }
    return sorted(folders), sorted(key for key in keys if not key.startswith(tuple(folders)))


def safe_name(name: str) -> str:
    """A file's name of letters, digits, and `._-` only; different names stay different."""
    safe = re.sub(r"[^0-9A-Za-z._-]", "_", name).lstrip(".")
    if name and safe == name and len(name) <= MAX_FILE_NAME_LENGTH:
        return name
    stem, dot, suffix = safe.rpartition(".")
    if not stem or len(suffix) > 10:
        stem, dot, suffix = safe, "", ""
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{stem[: MAX_FILE_NAME_LENGTH - 30]}-{digest}{dot}{suffix}".lstrip("-")


def label(artifact: str) -> str:
    """Return how logs call an artifact: the name of a track holds the id of a person."""
    kind, _, rest = artifact.partition("/")
    return f"{kind}-{hashlib.sha256(artifact.encode()).hexdigest()[:8]}" if rest else kind


def crc32_combine(first: int, second: int, second_size: int) -> int:
    """The CRC-32 of two pieces of data, one after the other, from that of each.

    `first` is moved over as many zero bytes as the second piece is long: a multiplication by
    x^(8 * size) among the polynomials over GF(2), modulo that of CRC-32 (as in zlib's crc32.c).
    """
    power, bits = 1 << 31, second_size * 8
    square = 1 << 30
    while bits:
        if bits & 1:
            power = _multiplied(square, power)
        square = _multiplied(square, square)
        bits >>= 1
    return _multiplied(power, first) ^ second


def _multiplied(first: int, second: int) -> int:
    """The product modulo the polynomial; the highest bit is the constant term."""
    product = 0
    for bit in range(31, -1, -1):
        if first >> bit & 1:
            product ^= second
        second = second >> 1 ^ (_POLYNOMIAL if second & 1 else 0)
    return product


def _parts(upload: Upload) -> list[_Part]:
    size = upload.size or 0
    return [
        _Part(number, start, min(upload.part_size, size - start))
        for number, start in enumerate(range(0, size, upload.part_size), start=1)
    ]


def _in_parts(chunks: Iterable[bytes], size: int) -> Generator[bytearray, None, None]:
    """Yield the chunks' bytes in parts of that size, the last of which may be shorter."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= size:
            yield buffer[:size]
            del buffer[:size]
    if buffer:
        yield buffer


def _is_done(future: Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _base64(checksum: int) -> str:
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()


def _code(error: ClientError) -> str:
    return error.response["Error"]["Code"]


# A digest that does not match, a condition that does not hold, an upload that is gone or of other
# parts: nothing that the same upload could still become.
_DEAD_ENDS = (
    "NoSuchUpload",
    "BadDigest",
    "InvalidPart",
    "InvalidPartOrder",
    "InvalidRequest",
    "EntityTooSmall",
    "PreconditionFailed",
    # "You may need to re-initiate the multipart upload" (S3's API reference).
    "ConditionalRequestConflict",
)


def _lost(error: ClientError) -> Exception:
    """What to raise for it: the error itself, unless the upload is at a dead end."""
    code, message = _code(error), error.response["Error"].get("Message", "")
    return UploadLostError(f"{code}: {message[:200]}") if code in _DEAD_ENDS else error
