"""The owner's bucket: where a file goes, and how it gets there whatever its size.

A file is copied in parts, several at a time, each streamed from RealtimeKit's storage straight into
S3's UploadPart: what is in memory is a chunk of each. Which parts are done S3 itself knows, so that
a copy that broke off, for whatever reason, goes on with what is missing. A file that comes in one
answer is read into memory part by part, because how long its last part is may be known only then;
so is each part for a bucket with Object Lock. S3 checks the whole: it makes an object of the parts
only if the CRC-32 of all their bytes is the one that we read.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_FILE_NAME_LENGTH = 150

# While a recording's own time is unknown, its row has one of the others in its place.
_FOLDER_TIMES = ("invoked_at", "started_at", "first_seen_at")


class NotErasedError(Exception):
    """Raised when S3 would not delete something; says its codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An object in a bucket. The checksum, of the whole, is as S3 writes it: base64 of 4 bytes."""

    bucket: str
    key: str
    size: int
    checksum_crc32: str | None
    source_etag: str = field(default="", compare=False, repr=False)


class Archive:
    """The recordings' files in one bucket. `s3` is configured with `S3_CONFIG`.

    S3's own errors come through as botocore's.
    """

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3 = s3
        self.bucket = bucket

    def find(self, key: str) -> Stored | None:
        """The object at that key; `None` also where we may not see it."""
        head = self._head(key, ChecksumMode="ENABLED")
        return None if head is None else self._stored(key, head)

    def has(self, key: str) -> bool:
        """Whether there is an object at that key. Unlike its checksum that takes no key of KMS."""
        return self._head(key) is not None

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
            source_etag=head["Metadata"].get("source-etag", ""),
        )


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
