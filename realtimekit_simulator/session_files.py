"""Files that a session leaves in RealtimeKit's bucket: where, from when, and for how long."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from . import session_texts
from .media_files import StoredFile
from .meetings import RETENTION, Session
from .options import SECONDS_TO_FILE, FileKind, SessionFileOptions

SUFFIXES: Mapping[FileKind, tuple[str, ...]] = {
    FileKind.TRANSCRIPT: ("csv", "json", "srt", "vtt"),
    FileKind.SUMMARY: ("txt",),
    FileKind.CHAT: ("csv", "json"),
}
"""File name suffixes, the default first; the webhook sample names a chat.json (docs, webhooks)."""

CONTENT_TYPES: Mapping[str, str] = {
    "csv": "text/csv",
    "json": "application/json",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "txt": "text/plain",
}

SHARED_FOLDER = "default"
"""Folder of the files that all sessions share."""


@dataclass(frozen=True, kw_only=True)
class SessionFile(StoredFile):
    """File of a session in one format; its text is computed once, when it is first read.

    A session without such a file has one that is never announced and never there.
    """

    session: Session
    kind: FileKind
    suffix: str

    @property
    def key(self) -> str:
        """Path below the media base URL."""
        if self._is_shared:
            return f"{SHARED_FOLDER}/{self.kind}.{SUFFIXES[self.kind][0]}"
        return f"{self.session.id}/{self.kind}.{self.suffix}"

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self._content)

    @property
    def content_type(self) -> str:
        """Media type."""
        return CONTENT_TYPES[self.key.rpartition(".")[2]]

    @property
    def etag(self) -> str:
        """Strong ETag with quotes: the MD5, as of an upload in one part."""
        return f'"{hashlib.md5(self._content, usedforsecurity=False).hexdigest()}"'

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` up to but not including `stop`, at once."""
        yield self._content[start:stop]

    @property
    def available_at(self) -> datetime | None:
        """Time from which the file is there; None if it never is, or while the session runs."""
        options = self._options
        if options is None:
            return None
        seconds = options.available_after
        return self._after_end(SECONDS_TO_FILE[self.kind] if seconds is None else seconds)

    @property
    def announced_at(self) -> datetime | None:
        """Time of the webhook, or None if there is to be none."""
        options = self._options
        if options is None or not options.is_announced:
            return None
        seconds = options.announced_after
        return self.available_at if seconds is None else self._after_end(seconds)

    @property
    def expires_at(self) -> datetime | None:
        """Time at which the file is deleted, as the answers state it."""
        return self._after_end(RETENTION.total_seconds())

    @property
    def url_seconds(self) -> int:
        """Seconds from the session's end for which a URL is really valid."""
        seconds = self._options.expires_after if self._options else None
        retention = int(RETENTION.total_seconds())
        return retention if seconds is None else min(int(seconds), retention)

    def is_named(self, at: datetime) -> bool:
        """Return True if RealtimeKit's API names the file's URL at a moment, expired or not."""
        if self._options is None or self._options.outcome == "no url":
            return False
        return self.available_at is not None and self.available_at <= at

    def is_stored(self, at: datetime) -> bool:
        """Return True if the bucket has the file at a moment."""
        if not self.is_named(at) or (self._options and self._options.outcome == "no file"):
            return False
        deleted_at = self._after_end(self.url_seconds)
        return deleted_at is not None and at < deleted_at

    @property
    def _options(self) -> SessionFileOptions | None:
        return self.session.files.get(self.kind)

    @property
    def _is_shared(self) -> bool:
        return self._options is not None and self._options.outcome == "shared"

    @cached_property
    def _content(self) -> bytes:
        options = self._options or SessionFileOptions()
        if options.content is not None:
            return options.content
        if self._is_shared:
            return f"The {self.kind} of all sessions\n".encode()
        is_empty = options.outcome == "empty"
        return session_texts.write(self.session, self.kind, self.suffix, is_empty=is_empty)

    def _after_end(self, seconds: float) -> datetime | None:
        end = self.session.ended_at
        return None if end is None else end + timedelta(seconds=seconds)
