"""The owner's bucket: a file's place in it, small files, lookups, links, erasure."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_FILE_NAME_CHARACTERS = 150
_MAX_SUFFIX_CHARACTERS = 10
# A hash of twelve digits, the dashes and dots around it, and a suffix fit into thirty.
_MAX_STEM_CHARACTERS = MAX_FILE_NAME_CHARACTERS - 30

# A row lacks `invoked_at` until RealtimeKit names it; until then another time dates the folder.
_FOLDER_TIMES = ("invoked_at", "started_at", "first_seen_at")

# The suffixes of a session's files, by kind and content type (`texts.require_text`).
_SUFFIXES: Mapping[str, Mapping[str, str]] = {
    "transcript": {"application/json": ".json"},
    "captions": {"text/vtt; charset=utf-8": ".vtt"},
    "summary": {"text/markdown; charset=utf-8": ".md"},
    "chat": {"text/csv; charset=utf-8": ".csv", "application/json": ".json"},
}
# S3's errors for an object that exists, or that another request is making (S3's API reference).
_OTHERS_CAME_FIRST = ("PreconditionFailed", "ConditionalRequestConflict")


class NotErasedError(Exception):
    """Raised when S3 kept some of the objects to delete; the text has S3's error codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An object in a bucket.

    `checksum_crc32` is the whole object's, in base64 as S3 writes it, or None if unknown.
    `source_etag` is the URL-quoted ETag of the file that the object was copied from.
    """

    bucket: str
    key: str
    size: int
    checksum_crc32: str | None
    source_etag: str = field(default="", compare=False, repr=False)


class Archive:
    """The recordings' files in one bucket. S3's errors come through as botocore's.

    `Copier` writes media into it; `put` stores a file that is in memory.
    """

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3 = s3
        self.bucket = bucket

    def find(self, key: str) -> Stored | None:
        """Return the object at that key, or None if it is missing or we may not see it."""
        head = self._head(key, ChecksumMode="ENABLED")
        return None if head is None else self._stored(key, head)

    def has(self, key: str) -> bool:
        """Return True if there is an object at that key; unlike `find`, without a right in KMS."""
        return self._head(key) is not None

    def put(self, key: str, data: bytes, content_type: str, recording_id: str) -> Stored:
        """Store a file, which S3 checks by its CRC-32; return the object.

        If the same bytes are at that key already, nothing is stored; other bytes are replaced.
        """
        checksum = checksum_text(zlib.crc32(data))
        stored = Stored(bucket=self.bucket, key=key, size=len(data), checksum_crc32=checksum)
        request: Any = {
            "Bucket": self.bucket,
            "Key": key,
            "Body": data,
            "ContentType": content_type,
            "ChecksumCRC32": checksum,
            "Metadata": {"recording-id": recording_id, "source-etag": ""},
        }
        try:
            self._s3.put_object(**request, IfNoneMatch="*")
        except ClientError as error:
            if error.response["Error"]["Code"] not in _OTHERS_CAME_FIRST:
                raise
            if self.find(key) != stored:
                self._s3.put_object(**request)
        return stored

    def link(self, key: str, headers: Mapping[str, str], seconds: int) -> str:
        """Return a URL that downloads the object, for so many seconds.

        `headers` are the parameters of GetObject that set the headers of its answer. The client's
        credentials sign the URL, which therefore expires with them at the latest.
        """
        return self._s3.generate_presigned_url(
            "get_object",
            Params={"Bucket": self.bucket, "Key": key, **headers},
            ExpiresIn=seconds,
        )

    def probe(self) -> None:
        """Raise botocore's error unless the bucket exists and we may use it."""
        self._s3.list_multipart_uploads(Bucket=self.bucket, MaxUploads=1)

    def is_elsewhere(self) -> bool:
        """Return True if the bucket is in another region than the client, whose links then fail.

        Requests still succeed, because botocore follows S3's redirect. A presigned URL is signed
        for the client's region and cannot be redirected.
        """
        region = self._s3.head_bucket(Bucket=self.bucket).get("BucketRegion")
        return region not in (None, self._s3.meta.region_name)

    def erase(self, folders: Collection[str], keys: Collection[str]) -> None:
        """Delete all versions of the objects in the folders and at the keys, and unfinished copies.

        Raises `NotErasedError` at the end if S3 kept some objects; all others are deleted then.
        """
        codes: set[str] = set()
        for prefix in [*folders, *keys]:
            exact = {prefix} if prefix in keys else None
            self._abort_all(prefix, exact)
            codes |= self._erase_versions(prefix, exact)
        if codes:
            raise NotErasedError(", ".join(sorted(codes)))

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
        """Delete all versions; return the error codes of those S3 did not delete."""
        codes: set[str] = set()
        pages = self._s3.get_paginator("list_object_versions").paginate(
            Bucket=self.bucket, Prefix=prefix
        )
        for page in pages:
            versions: list[Any] = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            objects: list[Any] = [
                {"Key": version["Key"], "VersionId": version["VersionId"]}
                for version in versions
                if exact is None or version["Key"] in exact
            ]
            if objects:
                answer = self._s3.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True}
                )
                codes |= {error.get("Code", "?") for error in answer.get("Errors", [])}
        return codes

    def _head(self, key: str, **options: Any) -> Any:
        try:
            return self._s3.head_object(Bucket=self.bucket, Key=key, **options)
        except ClientError as error:
            # S3 answers 403 for a missing object if we may not list the bucket.
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in (403, 404):
                return None
            raise

    def _stored(self, key: str, head: Mapping[str, Any]) -> Stored:
        # A checksum of the parts' checksums, "…-3", is not the file's.
        whole = head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
        return Stored(
            bucket=self.bucket,
            key=key,
            size=head["ContentLength"],
            checksum_crc32=head.get("ChecksumCRC32") if whole else None,
            source_etag=head["Metadata"].get("source-etag", ""),
        )


def object_key(row: Mapping[str, Any], artifact_name: str) -> str:
    """Return a file's key: `<app>/<yyyy>/<mm>/<dd>/<recording id>/<kind>/<file name>`.

    A file's key never changes and is no other file's. It contains the recording's id, and a name
    that must be changed to be safe gets a hash of the original.
    """
    artifact = row["artifacts"][artifact_name]
    names = artifact_name.split("/")[1:-1]
    names.append(artifact.get("file_name") or artifact_name.rpartition("/")[2])
    folder = _folder(row, row.get("invoked_at") or row["first_seen_at"])
    return folder + "/".join([artifact["kind"], *map(safe_name, names)])


def session_file_keys(row: Mapping[str, Any], kind: str) -> dict[str, str]:
    """Return the keys that a file of the recording's session may have, by content type.

    A key is `<folder of the recording>/<kind>/<session id>.<suffix>`.
    """
    folder = _folder(row, row.get("invoked_at") or row["first_seen_at"])
    name = f"{folder}{kind}/{safe_name(row['session_id'])}"
    return {type_: name + suffix for type_, suffix in _SUFFIXES[kind].items()}


def _folder(row: Mapping[str, Any], time: str) -> str:
    return f"{row['app_id']}/{time[:10].replace('-', '/')}/{row['recording_id']}/"


def storage_location(row: Mapping[str, Any], artifact: Mapping[str, Any]) -> dict[str, Any]:
    """Return where RealtimeKit put a file in the owner's storage; `{}` if the row names no storage.

    The file is at `path/output_file_name` (RealtimeKit docs, custom cloud storage). The name of a
    TRACK recording is a template, so its location has a `path` instead of a `key`.
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
    """Return the folders and the single keys in the bucket where a recording's files may be.

    RealtimeKit itself may have put files elsewhere in the bucket (custom storage). A folder may be
    dated by another time, if `invoked_at` was unknown when a file was archived.
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
    """Return a name of letters, digits, and `._-` only; different names stay different."""
    safe = re.sub(r"[^0-9A-Za-z._-]", "_", name).lstrip(".")
    if name and safe == name and len(name) <= MAX_FILE_NAME_CHARACTERS:
        return name
    stem, dot, suffix = safe.rpartition(".")
    if not stem or len(suffix) > _MAX_SUFFIX_CHARACTERS:
        stem, dot, suffix = safe, "", ""
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{stem[:_MAX_STEM_CHARACTERS]}-{digest}{dot}{suffix}".lstrip("-")


def checksum_text(crc32: int) -> str:
    """Return a CRC-32 as S3 writes it: four bytes in base64."""
    return base64.b64encode(crc32.to_bytes(4, "big")).decode()


def label(artifact: str) -> str:
    """Return an artifact's name for logs; a track's is hashed, since it has a person's id in it."""
    kind, _, rest = artifact.partition("/")
    return f"{kind}-{hashlib.sha256(artifact.encode()).hexdigest()[:8]}" if rest else kind
