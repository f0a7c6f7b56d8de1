"""Media files whose bytes are computed on demand and never stored."""

import base64
import hashlib
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from . import samples
from .meetings import Artifact

PERIOD_BYTES = 65_521
"""Bytes after which content repeats: a prime, so that no two parts of an upload are equal."""

CHUNK_BYTES = 262_144
"""Bytes of one file that are in memory at a time."""

UPLOAD_PART_BYTES = 100 * 1024 * 1024

CONTENT_TYPES: Mapping[str, str] = {
    "mp4": "video/mp4",
    "webm": "video/webm",
    "tar": "application/x-tar",
    "mp3": "audio/mpeg",
    "aac": "audio/aac",
    "m4a": "audio/mp4",
}
"""Content types by file name suffix; a participant's track is WebM with sound only."""

SIGNATURES: Mapping[str, bytes] = {
    "mp4": b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42",
    "webm": b"\x1a\x45\xdf\xa3",
    "tar": b"stream.m3u8".ljust(257, b"\0") + b"ustar\x0000",
    "mp3": b"ID3\x04\x00\x00\x00\x00\x00\x00",
    "aac": b"\xff\xf1\x50\x80",
    "m4a": b"\x00\x00\x00\x18ftypM4A \x00\x00\x02\x00isomiso2",
}
"""First bytes of a file by suffix, for clients that check more than the content type."""


class StoredFile(ABC):
    """Base of the files in RealtimeKit's bucket."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Path below the media base URL."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Length in bytes."""

    @property
    @abstractmethod
    def content_type(self) -> str:
        """Media type."""

    @property
    @abstractmethod
    def etag(self) -> str:
        """Strong ETag with quotes."""

    @abstractmethod
    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` up to but not including `stop`, in chunks."""

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes from `start` up to but not including `stop`."""
        return b"".join(self.chunks(start, stop))

    def sha256(self) -> str:
        """Return the SHA-256 in hexadecimal; takes seconds per gigabyte."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()

    def crc32(self) -> str:
        """Return the CRC-32 as in S3's `ChecksumCRC32`: big-endian, in base64."""
        checksum = 0
        for chunk in self.chunks():
            checksum = zlib.crc32(chunk, checksum)
        return base64.b64encode(checksum.to_bytes(4, "big")).decode()


@dataclass(frozen=True, kw_only=True)
class MediaFile(StoredFile):
    """Media file in RealtimeKit's bucket, exactly as large as its artifact says.

    The bytes depend on recording, file name and offset only, so every process sees the same file.
    Only the first few bytes have a meaning. Reading a range costs its length, not the file's. The
    bytes of a playable file are a sample's.
    """

    recording_id: str
    artifact: Artifact

    @property
    def key(self) -> str:
        """Path below the media base URL."""
        return f"{self.recording_id}/{self.artifact.path}"

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.artifact.size

    @property
    def content_type(self) -> str:
        """Media type."""
        is_track = self.artifact.kind == "track"
        return "audio/webm" if is_track else CONTENT_TYPES[self._suffix]

    @property
    def etag(self) -> str:
        """Strong ETag with quotes, in the form of a multipart upload; not an MD5."""
        digest = hashlib.sha256(f"{self.key}\n{self.size}".encode()).hexdigest()
        return f'"{digest[:32]}-{self.size // UPLOAD_PART_BYTES + 1}"'

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` up to but not including `stop`, in chunks."""
        stop = self.size if stop is None else min(stop, self.size)
        if self.artifact.sample is not None:
            yield samples.read(self.artifact.sample)[start:stop]
            return
        if start < min(stop, len(self._signature)):
            yield self._signature[start:stop]
            start = len(self._signature)
        while start < stop:
            offset = start % PERIOD_BYTES
            length = min(CHUNK_BYTES, stop - start)
            yield self._pattern[offset : offset + length]
            start += length

    @property
    def _suffix(self) -> str:
        return self.artifact.file_name.rpartition(".")[2]

    @property
    def _signature(self) -> bytes:
        return SIGNATURES[self._suffix]

    @cached_property
    def _pattern(self) -> bytes:
        """Repeated content, long enough for a chunk that begins anywhere in a period."""
        period = hashlib.shake_128(self.key.encode()).digest(PERIOD_BYTES)
        return period * (CHUNK_BYTES // PERIOD_BYTES + 2)
