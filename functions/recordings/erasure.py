"""Erasure of a recording: its files in all their versions, and its row except for a tombstone.

First the row is closed to all other writers, then the files are deleted, then the row becomes a
tombstone, which no later answer of RealtimeKit revives. A check repeats an interrupted erasure at
growing intervals, and is given up like any other. A recording on hold is not erased; an erasure
that began before the hold goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from recordings.archive import Archive, NotErasedError, locations
from recordings.catalogue import Catalogue, HeldError
from recordings.messages import ArchiveRequest, EraseRequest, RecordingRequest, Source
from recordings.rows import Row, is_erased
from recordings.worklist import Check, ClaimLostError, Worklist, utcnow

ERASING = "erasing"
OUT_OF_REACH = "archive_unreachable"
NOT_ERASED = "not_erased"
# 120 s, twice the check's first interval. Meanwhile no other worker archives or erases the files.
_LEASE_SECONDS = 120


class ArchiveUnreachableError(Exception):
    """Raised if files are in a bucket that this stack cannot access (any more)."""


class LapsedError(Exception):
    """Raised when an erasure by policy is repeated that never began; nothing was erased.

    The policy may have changed meanwhile, and its next run judges the recording again.
    """


@dataclass(frozen=True, slots=True)
class _FilesToErase:
    """The check of a recording's files, claimed so that no archiver works on them meanwhile."""

    request: EraseRequest

    @property
    def key(self) -> str:
        """The key of the check that archives the files."""
        recording_id, source = self.request.recording_id, self.request.source
        return ArchiveRequest(recording_id=recording_id, deadline="", source=source).key

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the erasure, which is repeated if the claim runs out."""
        return self.request.fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """The worker that erases recordings; without an `archive`, only those with no archived file."""

    catalogue: Catalogue
    worklist: Worklist
    archive: Archive | None
    now: Callable[[], datetime] = utcnow

    def erase(self, request: EraseRequest) -> Row | None:
        """Erase a recording and return its tombstone, or None if there is no such recording.

        While its files are being archived, the row returned has only `erasing_since`, and a check
        repeats the erasure. Raises `HeldError`, `LapsedError` and `ArchiveUnreachableError` before
        anything is erased, and `NotErasedError`; the check, if there is one, keeps the cause. AWS's
        errors come through.
        """
        row = self.catalogue.get(request.recording_id)
        if row is None:
            self.worklist.settle(request.key)
            return None
        if "erased_at" in row:
            self._settle_all(request)
            return row
        try:
            row = self._begin(request, row)
        except (HeldError, LapsedError):
            self.worklist.settle(request.key)
            raise
        if "erased_at" in row:
            # Another worker finished the erasure in between.
            self._settle_all(request)
            return row
        # An archiver that holds the files finishes first, and its copies are erased, too. The claim
        # has no deadline, since files that will be erased are not at risk.
        files = _FilesToErase(request)
        claim = self.worklist.claim(files, None, _LEASE_SECONDS)
        if claim is None:
            return row
        with self._claimed(request, claim):
            if self.archive:
                self.archive.erase(*locations(row, self.archive.bucket))
            tombstone = self.catalogue.bury(row, self.now())
        self._settle_all(request)
        return tombstone

    def _begin(self, request: EraseRequest, row: Row) -> Row:
        """Leave a check, close the row, and return it. Raises `HeldError` and `LapsedError`."""
        if "hold" in row and not is_erased(row):
            raise HeldError(row["hold"])
        is_repeated = request.source is Source.FOLLOW_UP
        if is_repeated and request.reason == "retention" and not is_erased(row):
            raise LapsedError
        self._require_access(request, row)
        self._leave_check(request)
        begin = self.catalogue.begin_erasure
        return begin(request.recording_id, self.now(), request.reason) or row

    def _leave_check(self, request: EraseRequest) -> None:
        """Leave a new check; a repeated erasure keeps the check that it comes from."""
        if request.source is Source.FOLLOW_UP and self.worklist.note_cause(request.key, ERASING):
            return
        self.worklist.check_in(request, ERASING)

    @contextlib.contextmanager
    def _claimed(self, request: EraseRequest, claim: Check) -> Iterator[None]:
        """End the claim if the erasure fails, so that only the erasure's own check repeats it."""
        try:
            yield
        except Exception as error:
            with contextlib.suppress(ClaimLostError):
                self.worklist.finish(claim)
            if isinstance(error, NotErasedError):
                self.worklist.note_cause(request.key, NOT_ERASED)
            raise

    def _settle_all(self, request: EraseRequest) -> None:
        """Settle all checks of the recording, including those that were given up."""
        details = RecordingRequest(recording_id=request.recording_id, source=request.source)
        for key in (details.key, _FilesToErase(request).key, request.key):
            self.worklist.settle(key)

    def _require_access(self, request: EraseRequest, row: Row) -> None:
        """Raise `ArchiveUnreachableError` if a file is in any bucket but the archive's."""
        artifacts = row.get("artifacts", {}).values()
        states = [artifact["archive"] for artifact in artifacts if "archive" in artifact]
        buckets = {state["bucket"] for state in states if state["state"] == "archived"}
        if buckets - {self.archive and self.archive.bucket}:
            self.worklist.note_cause(request.key, OUT_OF_REACH)
            raise ArchiveUnreachableError(", ".join(sorted(buckets)))
