"""The owner's bucket: where a file goes, and how it gets there whatever its size.

A file is copied in parts, several at a time, each streamed from RealtimeKit's storage straight into
S3's UploadPart: what is in memory is a chunk of each. Which parts are done S3 itself knows, so that
a copy that broke off, for whatever reason, goes on with what is missing. S3 checks the whole: it
makes an object of the parts only if the CRC-32 of all their bytes is the one that we read.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import threading
import zlib
from collections.abc import Callable, Collection, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError

from recordings.media import MediaError, MediaFile, content_type_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Fewer requests to pay for than with smaller ones, hardly slower than with larger ones.
PART_SIZE = 64 * 1024 * 1024
PARTS_IN_FLIGHT = 4
MOST_PARTS = 10_000
LONGEST_FILE_NAME = 150

S3_CONFIG: Mapping[str, Any] = {
    # The checksum of the whole is given with the completion; none of a part is needed, and signing
    # a part's bytes would mean to read them twice.
    "request_checksum_calculation": "when_required",
    "s3": {"payload_signing_enabled": False},
}
"""What the S3 client of an `Archive` must be configured with, to stream parts."""

# The reflected polynomial of CRC-32, as zlib has it.
_POLYNOMIAL = 0xEDB88320


class OutOfTimeError(Exception):
    """Raised when the copy was stopped; the parts that are done stay, for `Archive.copy` again."""


class NotErasedError(Exception):
    """Raised when S3 would not delete something; says its codes."""


class UploadLostError(Exception):
    """Raised when S3 does not know the upload any more, or will not complete it: begin anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A copy under way; what must be kept to go on with it."""

    key: str
    upload_id: str
    part_size: int
    size: int
    etag: str | None = None
    replaces: bool = False

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

    def find(self, key: str) -> Stored | None:
        """The object at that key; `None` also where we may not see it."""
        head = self._head(key, ChecksumMode="ENABLED")
        return None if head is None else self._stored(key, head)

    def has(self, key: str) -> bool:
        """Whether there is an object at that key. Unlike its checksum that takes no key of KMS."""
        return self._head(key) is not None

    def begin(self, key: str, file: MediaFile, recording_id: str) -> Upload | Stored:
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
        answer = self._s3.create_multipart_upload(
            Bucket=self.bucket,
            Key=key,
            ContentType=content_type_of(file, key),
            ChecksumAlgorithm="CRC32",
            ChecksumType="FULL_OBJECT",
            Metadata={"recording-id": recording_id, "source-etag": source},
        )
        return Upload(
            key=key,
            upload_id=answer["UploadId"],
            part_size=max(self._part_size, -(-file.size // MOST_PARTS)),
            size=file.size,
            etag=file.etag,
            replaces=head is not None,
        )

    def copy(self, file: MediaFile, upload: Upload, out_of_time: Callable[[], bool]) -> Stored:
        """Send the parts that are missing, and have S3 check and keep the whole.

        Raises `OutOfTimeError` soon after `out_of_time` says so, `MediaError` where the file cannot
        be had, `UploadLostError` where the copy must begin anew. The upload is left as it is then.
        """
        parts = self._finished(upload) if file.has_ranges else {}
        missing = [part for part in _parts(upload) if part.number not in parts]
        parts |= self._send_all(file, upload, missing, out_of_time)
        checksum = 0
        for part in _parts(upload):
            checksum = crc32_combine(checksum, parts[part.number].crc32, part.size)
        return self._complete(upload, parts, _base64(checksum))

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
                    found[number] = _Sent(part["ETag"], crc32)
        except ClientError as error:
            raise _lost(error) from error
        return found

    def _send_all(
        self,
        file: MediaFile,
        upload: Upload,
        parts: list[_Part],
        out_of_time: Callable[[], bool],
    ) -> dict[int, _Sent]:
        stopped = threading.Event()

        def require_time() -> None:
            if stopped.is_set() or out_of_time():
                raise OutOfTimeError

        sent = {}
        with ThreadPoolExecutor(self._parts_in_flight if file.has_ranges else 1) as threads:
            futures = {
                threads.submit(self._send, file, upload, part, require_time): part.number
                for part in parts
            }
            try:
                for future in as_completed(futures):
                    sent[futures[future]] = future.result()
            except BaseException:
                stopped.set()
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        return sent

    def _send(
        self, file: MediaFile, upload: Upload, part: _Part, require_time: Callable[[], None]
    ) -> _Sent:
        body = _Body(file, part, require_time)
        try:
            answer = self._s3.upload_part(
                Bucket=self.bucket,
                Key=upload.key,
                UploadId=upload.upload_id,
                PartNumber=part.number,
                Body=body,  # type: ignore[arg-type]
                ContentLength=part.size,
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
        return _Sent(answer["ETag"], body.crc32)

    def _complete(self, upload: Upload, parts: Mapping[int, _Sent], checksum: str) -> Stored:
        # Of two copies at once, one gets there first; the other finds the same object.
        conditions: Any = {} if upload.replaces else {"IfNoneMatch": "*"}
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
                MpuObjectSize=upload.size,
                **conditions,
            )
        except ClientError as error:
            stored = self.find(upload.key)
            if stored and (stored.size, stored.checksum_crc32) == (upload.size, checksum):
                self.abort(upload)
                return stored
            raise _lost(error) from error
        return Stored(bucket=self.bucket, key=upload.key, size=upload.size, checksum_crc32=checksum)


@dataclass(frozen=True, slots=True)
class _Part:
    number: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class _Sent:
    etag: str
    crc32: int


class _Body:
    """A part's bytes, as botocore reads them while it sends them.

    To try a part again it is rewound, which is to fetch it again.
    """

    def __init__(self, file: MediaFile, part: _Part, require_time: Callable[[], None]) -> None:
        self._file = file
        self._part = part
        self._require_time = require_time
        self.error: MediaError | OutOfTimeError | None = None
        self._rewind()

    def _rewind(self) -> None:
        self.crc32 = 0
        stop = self._part.start + self._part.size
        self._chunks: Generator[bytes, None, None] = self._file.chunks(self._part.start, stop)

    def read(self, size: int = -1) -> bytes:
        """A chunk, `b""` at the end. It may be more than `size`, urllib3's 16 KB: all is sent."""
        try:
            self._require_time()
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


def key(row: Mapping[str, Any], artifact_name: str) -> str:
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


def locations(row: Mapping[str, Any], bucket: str) -> tuple[list[str], list[str]]:
    """All places in the bucket where a recording's files may be: folders, and single keys.

    RealtimeKit itself may have put some elsewhere, and when it was invoked may have been unknown.
    """
    folders = {_folder(row, row[name]) for name in ("invoked_at", "first_seen_at") if name in row}
    states = [artifact.get("archive", {}) for artifact in row.get("artifacts", {}).values()]
    keys = {state["key"] for state in states if state.get("bucket") == bucket and "key" in state}
    return sorted(folders), sorted(key for key in keys if not key.startswith(tuple(folders)))


def safe_name(name: str) -> str:
    """A file's name of letters, digits, and `._-` only; different names stay different."""
    safe = re.sub(r"[^0-9A-Za-z._-]", "_", name).lstrip(".")
    if name and safe == name and len(name) <= LONGEST_FILE_NAME:
        return name
    stem, dot, suffix = safe.rpartition(".")
    if not stem or len(suffix) > 10:
        stem, dot, suffix = safe, "", ""
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{stem[: LONGEST_FILE_NAME - 30]}-{digest}{dot}{suffix}".lstrip("-")


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
    starts = range(0, upload.size, upload.part_size)
    return [
        _Part(number, start, min(upload.part_size, upload.size - start))
        for number, start in enumerate(starts, start=1)
    ]


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
)


def _lost(error: ClientError) -> Exception:
    """What to raise for it: the error itself, unless the upload is at a dead end."""
    code = _code(error)
    return UploadLostError(code) if code in _DEAD_ENDS else error
