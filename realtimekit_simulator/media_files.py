"""The bytes of media files: never stored, but worked out wherever they are asked for."""

import base64
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from .meetings import Artifact

PERIOD = 65_521
"""Content repeats itself after so many bytes, a prime: no two parts of an upload are the same."""

CHUNK_SIZE = 262_144
"""No more is ever in memory of one file."""

UPLOAD_PART_SIZE = 100 * 1024 * 1024

CONTENT_TYPES: Mapping[str, str] = {
    "mp4": "video/mp4",
    "webm": "video/webm",
    "tar": "application/x-tar",
    "mp3": "audio/mpeg",
    "aac": "audio/aac",
}
"""By the end of a file's name; the WebM of a participant's track has sound only."""

SIGNATURES: Mapping[str, bytes] = {
    "mp4": b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42",
    "webm": b"\x1a\x45\xdf\xa3",
    "tar": b"stream.m3u8".ljust(257, b"\0") + b"ustar\x0000",
    "mp3": b"ID3\x04\x00\x00\x00\x00\x00\x00",
    "aac": b"\xff\xf1\x50\x80",
}
"""What a file begins with, for those who look before they trust a content type."""


@dataclass(frozen=True, kw_only=True)
class MediaFile:
    """A file in RealtimeKit's bucket, of exactly its artifact's size.

    Its bytes follow from recording, file name and place in the file alone, in this and any other
    process; only the first few mean something. Any range is had at the price of its length, and
    a file of many gigabytes takes no memory.
    """

    recording_id: str
    artifact: Artifact

    @property
    def key(self) -> str:
        """Where it is, below the media base."""
        return f"{self.recording_id}/{self.artifact.path}"

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self.artifact.size

    @property
    def content_type(self) -> str:
        """Its media type."""
        is_track = self.artifact.kind == "track"
        return "audio/webm" if is_track else CONTENT_TYPES[self._suffix]

    @property
    def etag(self) -> str:
        """Strong, with its quotes; as of an upload in parts, since it is no MD5 of the content."""
        digest = hashlib.sha256(f"{self.key}\n{self.size}".encode()).hexdigest()
        return f'"{digest[:32]}-{self.size // UPLOAD_PART_SIZE + 1}"'

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to and without `stop`, a few at a time."""
        stop = self.size if stop is None else min(stop, self.size)
        if start < min(stop, len(self._signature)):
            yield self._signature[start:stop]
            start = len(self._signature)
        while start < stop:
            offset = start % PERIOD
            length = min(CHUNK_SIZE, stop - start)
            yield self._pattern[offset : offset + length]
            start += length

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes from `start` up to and without `stop`, all at once."""
        return b"".join(self.chunks(start, stop))

    def sha256(self) -> str:
        """The SHA-256 of all its bytes in hexadecimal; some seconds for each few gigabytes."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()

    def crc32(self) -> str:
        """The CRC-32 of all its bytes as S3's `ChecksumCRC32` has it: big-endian, in base64."""
        checksum = 0
        for chunk in self.chunks():
            checksum = zlib.crc32(chunk, checksum)
        return base64.b64encode(checksum.to_bytes(4, "big")).decode()

    @property
    def _suffix(self) -> str:
        return self.artifact.file_name.rpartition(".")[2]

    @property
    def _signature(self) -> bytes:
        return SIGNATURES[self._suffix]

    @cached_property
    def _pattern(self) -> bytes:
        """Long enough for a chunk that begins anywhere in a period."""
        period = hashlib.shake_128(self.key.encode()).digest(PERIOD)
        return period * (CHUNK_SIZE // PERIOD + 2)
