"""Erasure: a recording's files in all their versions, and all that the catalogue says of it.

The row is closed to all other writers first; then the files go, and the row becomes a tombstone,
which nothing brings back. A check finishes what is interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from recordings import catalogue as rows
from recordings import messages
from recordings.archive import Archive, locations
from recordings.catalogue import Catalogue
from recordings.dynamodb import Item
from recordings.messages import ArchiveRequest, EraseRequest, RecordingRequest, Source
from recordings.worklist import Worklist, utcnow

ERASING = "erasing"
OUT_OF_REACH = "archive_unreachable"
# A second try's time; twice as long nobody may archive or erase the same files.
_SOON = 60
_LEASE_SECONDS = 120


class ArchiveUnreachableError(Exception):
    """Raised where files are in an archive that this stack has no access to (any more)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """Erases recordings. Without an `archive` only those of which there is no file in one."""

    catalogue: Catalogue
    worklist: Worklist
    archive: Archive | None
    now: Callable[[], datetime] = utcnow

    def erase(self, request: EraseRequest) -> Item | None:
        """Erase it, or as much of it as can be now; the row has `erased_at` when all is done.

        `None` where there is no such recording. While its files are being archived only
        `erasing_since` is in the row, and a check is left to go on. Raises
        `ArchiveUnreachableError`, with nothing done; AWS's errors come through, and the check goes
        on then as well.
        """
        row = self.catalogue.get(request.recording_id)
        if row is None or "erased_at" in row:
            self.worklist.settle(request.key)
            return row
        self._require_access(row)
        self.worklist.check_in(_SOON, request.key, messages.fields(request), ERASING)
        row = self.catalogue.begin_erasure(request.recording_id, self.now()) or row
        if "erased_at" in row:
            # Another erasure was quicker.
            self.worklist.settle(request.key)
            return row
        files = ArchiveRequest(
            recording_id=request.recording_id, deadline=rows.expiry(row), source=Source.API
        )
        # Whoever is archiving the files finishes first: what it adds is then erased, too.
        claim = self.worklist.claim(
            files.key, messages.fields(files), files.deadline, _LEASE_SECONDS
        )
        if claim is None:
            return row
        if self.archive:
            self.archive.erase(*locations(row, self.archive.bucket))
        tombstone = self.catalogue.bury(row, self.now())
        details = RecordingRequest(recording_id=request.recording_id, source=Source.API)
        for key in (details.key, files.key, request.key):
            self.worklist.settle(key)
        return tombstone

    def _require_access(self, row: Item) -> None:
        states = [artifact.get("archive", {}) for artifact in row.get("artifacts", {}).values()]
        buckets = {state["bucket"] for state in states if state.get("state") == "archived"}
        if buckets - {self.archive and self.archive.bucket}:
            raise ArchiveUnreachableError(", ".join(sorted(buckets)))
