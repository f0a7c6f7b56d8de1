"""Copies of RealtimeKit's files into the bucket, whatever their size.

A file is copied in parts, several at a time. Each part streams from RealtimeKit's storage straight
into S3's UploadPart, so memory holds a chunk of each. S3 knows which parts are done, so a copy that
broke off continues with the missing ones.

Two kinds of parts are read into memory before they are sent. A file that comes in one answer may
tell the length of its last part only at its end. A bucket with Object Lock demands a checksum with
each part.

S3 assembles the object only if the CRC-32 of all its bytes is the one computed here.
"""

from __future__ import annotations

import base64
import contextlib
import threading
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError

from recordings.archive import Archive, Stored, checksum_text
from recordings.media import CHUNK_BYTES, MediaError, MediaFile, RequireTime, WrongLengthError
from recordings.media_types import stored_type

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# 64 MiB: smaller parts cost more requests, larger ones are hardly faster (docs/performance.md).
PART_BYTES = 64 * 1024 * 1024
# 16 MiB: up to six such parts are in memory at once, four in flight and two beside them.
BUFFERED_PART_BYTES = 16 * 1024 * 1024
# S3's minimum for every part but the last (S3's quotas).
MIN_PART_BYTES = 5 * 1024 * 1024
PARTS_IN_FLIGHT = 4
MAX_PARTS = 10_000

S3_CONFIG: Mapping[str, Any] = {
    # S3 checks the whole at the end. To sign or checksum a part, botocore would read it twice.
    "request_checksum_calculation": "when_required",
    "s3": {"payload_signing_enabled": False},
}
"""Settings that a `Copier`'s S3 client needs to stream parts."""

# CRC-32's reflected polynomial, as zlib uses it.
_POLYNOMIAL = 0xEDB88320

# S3's errors after which the same upload can never be completed.
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


class OutOfTimeError(Exception):
    """Raised when a copy stopped for lack of time; `Copier.copy` continues it with the parts kept.

    `is_stuck` is True if no part was completed, and smaller parts are possible.
    """

    def __init__(self, *, is_stuck: bool = False) -> None:
        super().__init__("the invocation ran out of time")
        self.is_stuck = is_stuck


class UploadLostError(Exception):
    """Raised when S3 does not know an upload, or cannot complete it: the copy must begin anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A copy under way, with all that is needed to continue it.

    `size` is None if only the file's end will tell. An upload that `is_stuck` must begin anew in
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
        """Return the upload that `fields` was made from."""
        return cls(**fields)

    def fields(self) -> dict[str, Any]:
        """Return the fields to store, without those that are None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class Copier:
    """The way into an archive's bucket. `s3` is configured with `S3_CONFIG`.

    S3's own errors come through as botocore's.
    """

    def __init__(
        self,
        s3: S3Client,
        archive: Archive,
        part_size: int = PART_BYTES,
        parts_in_flight: int = PARTS_IN_FLIGHT,
    ) -> None:
        self._s3 = s3
        self._archive = archive
        self._bucket = archive.bucket
        self._part_size = part_size
        self._parts_in_flight = parts_in_flight
        self._is_locked: bool | None = None

    def begin(
        self, key: str, file: MediaFile, recording_id: str, *, in_small_parts: bool = False
    ) -> Upload | Stored:
        """Begin a copy, or return the object if an earlier copy of this very file completed it.

        `copy` makes the object appear at `key`, complete.
        """
        source = quote(file.etag or "")
        stored = self._archive.find(key)
        if stored and stored.checksum_crc32 and _is_copy(stored, source, file.size):
            return stored
        encoded = file.content_encoding
        encoding: Any = {"ContentEncoding": encoded} if encoded else {}
        answer = self._s3.create_multipart_upload(
            Bucket=self._bucket,
            Key=key,
            ContentType=stored_type(file.content_type, key),
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
            replaces=stored is not None,
        )

    def copy(self, file: MediaFile, upload: Upload, out_of_time: Callable[[], bool]) -> Stored:
        """Send the missing parts, and have S3 check and keep the whole file.

        Raises `OutOfTimeError` soon after `out_of_time` returns True, `MediaError` if the file
        cannot be read, `UploadLostError` if the copy must begin anew. Each leaves the upload.
        """
        stopped = threading.Event()

        def require_time() -> None:
            if stopped.is_set() or out_of_time():
                raise OutOfTimeError

        if file.has_ranges:
            parts = self._send_missing(file, upload, require_time, stopped)
        else:
            parts = self._send_stream(file, upload, require_time)
        checksum = 0
        for number in sorted(parts):
            checksum = crc32_combine(checksum, parts[number].crc32, parts[number].size)
        return self._complete(upload, parts, checksum_text(checksum))

    def abort(self, upload: Upload) -> None:
        """Delete an upload's parts, if S3 still has any."""
        try:
            self._s3.abort_multipart_upload(
                Bucket=self._bucket, Key=upload.key, UploadId=upload.upload_id
            )
        except ClientError as error:
            if _code(error) != "NoSuchUpload":
                raise

    def _part_size_for(self, file: MediaFile, in_small_parts: bool) -> int:
        size = self._part_size
        if in_small_parts:
            size = MIN_PART_BYTES
        elif not file.has_ranges or self._wants_checksums():
            size = min(size, BUFFERED_PART_BYTES)
        return max(size, -(-(file.size or 0) // MAX_PARTS))

    def _wants_checksums(self) -> bool:
        """Return True if S3 demands a checksum of each part, as buckets with Object Lock do.

        Without the right to read the lock's configuration the answer is True, because checksums do
        no harm. Only the first call sends a request.
        """
        if self._is_locked is None:
            try:
                self._s3.get_object_lock_configuration(Bucket=self._bucket)
                self._is_locked = True
            except ClientError as error:
                self._is_locked = _code(error) != "ObjectLockConfigurationNotFoundError"
        return self._is_locked

    def _kept_parts(self, upload: Upload) -> dict[int, _SentPart]:
        """Return the parts that S3 has, by number, if they have the right size and a checksum."""
        kept = {}
        sizes = {part.number: part.size for part in _parts(upload)}
        pages = self._s3.get_paginator("list_parts").paginate(
            Bucket=self._bucket, Key=upload.key, UploadId=upload.upload_id
        )
        try:
            for part in pages.search("Parts[]"):
                number = part["PartNumber"] if part else None
                if number in sizes and sizes[number] == part["Size"] and "ChecksumCRC32" in part:
                    crc32 = int.from_bytes(base64.b64decode(part["ChecksumCRC32"]), "big")
                    kept[number] = _SentPart(part["ETag"], crc32, part["Size"])
        except ClientError as error:
            raise _lost(error) from error
        return kept

    def _send_missing(
        self,
        file: MediaFile,
        upload: Upload,
        require_time: RequireTime,
        stopped: threading.Event,
    ) -> dict[int, _SentPart]:
        """Send the parts that S3 lacks, several at once, and return all parts by number."""
        parts = self._kept_parts(upload)
        send_part = self._send_buffered if self._wants_checksums() else self._send_streamed
        send = partial(send_part, file, upload, require_time)
        missing = [part for part in _parts(upload) if part.number not in parts]
        futures: dict[Future[_SentPart], int] = {}
        try:
            with ThreadPoolExecutor(self._parts_in_flight) as threads:
                try:
                    futures = {threads.submit(send, part): part.number for part in missing}
                    for future in as_completed(futures):
                        parts[futures[future]] = future.result()
                except BaseException:
                    stopped.set()
                    threads.shutdown(wait=False, cancel_futures=True)
                    raise
        except OutOfTimeError:
            has_gained = any(_has_succeeded(future) for future in futures)
            can_shrink = upload.part_size > MIN_PART_BYTES
            raise OutOfTimeError(is_stuck=can_shrink and not has_gained) from None
        return parts

    def _send_stream(
        self, file: MediaFile, upload: Upload, require_time: RequireTime
    ) -> dict[int, _SentPart]:
        """Send a file that comes in one answer, each part while the next one is read."""
        parts = []
        under_way: Future[_SentPart] | None = None
        chunks = file.stream(require_time)
        with ThreadPoolExecutor(1) as thread, contextlib.closing(chunks):
            for number, data in enumerate(_in_parts(chunks, upload.part_size), start=1):
                if number > MAX_PARTS:
                    raise WrongLengthError(f"more than {MAX_PARTS} parts of {upload.part_size}")
                if under_way:
                    parts.append(under_way.result())
                under_way = thread.submit(self._send_bytes, upload, number, data, require_time)
            if under_way:
                parts.append(under_way.result())
        return dict(enumerate(parts, start=1))

    def _send_streamed(
        self, file: MediaFile, upload: Upload, require_time: RequireTime, part: _Part
    ) -> _SentPart:
        chunks = partial(file.chunks, part.start, part.start + part.size, require_time)
        return self._upload_part(upload, part.number, part.size, chunks)

    def _send_buffered(
        self, file: MediaFile, upload: Upload, require_time: RequireTime, part: _Part
    ) -> _SentPart:
        data = bytearray()
        for chunk in file.chunks(part.start, part.start + part.size, require_time):
            data += chunk
        return self._send_bytes(upload, part.number, data, require_time)

    def _send_bytes(
        self, upload: Upload, number: int, data: bytearray, require_time: RequireTime
    ) -> _SentPart:
        def chunks() -> Generator[bytes, None, None]:
            for start in range(0, len(data), CHUNK_BYTES):
                require_time()
                yield bytes(data[start : start + CHUNK_BYTES])

        checksum = checksum_text(zlib.crc32(data))
        return self._upload_part(upload, number, len(data), chunks, ChecksumCRC32=checksum)

    def _upload_part(
        self,
        upload: Upload,
        number: int,
        size: int,
        chunks: Callable[[], Generator[bytes, None, None]],
        **checksum: Any,
    ) -> _SentPart:
        body = _Body(chunks)
        try:
            answer = self._s3.upload_part(
                Bucket=self._bucket,
                Key=upload.key,
                UploadId=upload.upload_id,
                PartNumber=number,
                Body=body,  # type: ignore[arg-type]
                ContentLength=size,
                **checksum,
            )
        except BotoCoreError:
            # botocore wraps the body's error, which is the cause.
            if body.error is not None:
                raise body.error from None
            raise
        except ClientError as error:
            raise _lost(error) from error
        finally:
            body.close()
        return _SentPart(answer["ETag"], body.crc32, size)

    def _complete(self, upload: Upload, parts: Mapping[int, _SentPart], checksum: str) -> Stored:
        """Have S3 assemble the object, or return the same object if a concurrent copy made it."""
        conditions: Any = {} if upload.replaces else {"IfNoneMatch": "*"}
        size = sum(part.size for part in parts.values())
        etags: Any = [
            {"PartNumber": number, "ETag": parts[number].etag} for number in sorted(parts)
        ]
        try:
            self._s3.complete_multipart_upload(
                Bucket=self._bucket,
                Key=upload.key,
                UploadId=upload.upload_id,
                MultipartUpload={"Parts": etags},
                ChecksumCRC32=checksum,
                ChecksumType="FULL_OBJECT",
                MpuObjectSize=size,
                **conditions,
            )
        except ClientError as error:
            stored = self._archive.find(upload.key)
            if stored and (stored.size, stored.checksum_crc32) == (size, checksum):
                self.abort(upload)
                return stored
            raise _lost(error) from error
        return Stored(bucket=self._bucket, key=upload.key, size=size, checksum_crc32=checksum)


@dataclass(frozen=True, slots=True)
class _Part:
    number: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class _SentPart:
    etag: str
    crc32: int
    size: int


class _Body:
    """A part's bytes, as botocore reads them while it sends them.

    botocore rewinds the body to send the part again; the chunks are then fetched again.
    """

    def __init__(self, open_chunks: Callable[[], Generator[bytes, None, None]]) -> None:
        self._open_chunks = open_chunks
        self.error: MediaError | OutOfTimeError | None = None
        self._rewind()

    def _rewind(self) -> None:
        self.crc32 = 0
        self._chunks = self._open_chunks()

    def read(self, size: int = -1) -> bytes:
        """Return a chunk, `b""` at the end. It may exceed `size`, urllib3's 16 KB: all is sent."""
        try:
            chunk = next(self._chunks, b"")
        except (MediaError, OutOfTimeError) as error:
            self.error = error
            raise
        self.crc32 = zlib.crc32(chunk, self.crc32)
        return chunk

    def seek(self, offset: int, whence: int = 0) -> None:
        """Rewind; raise the file's own error if there was one, since it would occur again."""
        if self.error is not None:
            raise self.error
        self.close()
        self._rewind()

    def close(self) -> None:
        """Close the connection to the source."""
        self._chunks.close()


def crc32_combine(first: int, second: int, second_size: int) -> int:
    """Return the CRC-32 of two pieces of data in sequence from the CRC-32 of each.

    `first` is shifted by the second piece's length in zero bytes. This multiplies it by
    x^(8 * size) among the polynomials over GF(2), modulo CRC-32's (as in zlib's crc32.c).
    """
    power, bits = 1 << 31, second_size * 8
    square = 1 << 30
    while bits:
        if bits & 1:
            power = _multiply(square, power)
        square = _multiply(square, square)
        bits >>= 1
    return _multiply(power, first) ^ second


def _multiply(first: int, second: int) -> int:
    """Return the product modulo the polynomial; the highest bit is the constant term."""
    product = 0
    for bit in range(31, -1, -1):
        if first >> bit & 1:
            product ^= second
        second = second >> 1 ^ (_POLYNOMIAL if second & 1 else 0)
    return product


def _is_copy(stored: Stored, source_etag: str, size: int | None) -> bool:
    """Return True if the object is a copy of the file with that ETag and size."""
    return bool(source_etag) and (stored.source_etag, stored.size) == (source_etag, size)


def _parts(upload: Upload) -> list[_Part]:
    size = upload.size or 0
    return [
        _Part(number, start, min(upload.part_size, size - start))
        for number, start in enumerate(range(0, size, upload.part_size), start=1)
    ]


def _in_parts(chunks: Iterable[bytes], size: int) -> Generator[bytearray, None, None]:
    """Yield the chunks' bytes in parts of that size; the last part may be shorter."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= size:
            yield buffer[:size]
            del buffer[:size]
    if buffer:
        yield buffer


def _has_succeeded(future: Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _code(error: ClientError) -> str:
    return error.response["Error"]["Code"]


def _lost(error: ClientError) -> Exception:
    """Return `UploadLostError` if the upload is at a dead end, else the error itself."""
    code, message = _code(error), error.response["Error"].get("Message", "")
    return UploadLostError(f"{code}: {message[:200]}") if code in _DEAD_ENDS else error
