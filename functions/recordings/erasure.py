"""Erasure: a recording's files in all their versions, and all that the catalogue says of it.

The row is closed to all other writers first; then the files go, and the row becomes a tombstone,
which nothing brings back. A check finishes what is interrupted: its tries become rarer, and end as
those of any other check do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from recordings.archive import Archive, NotErasedError, locations
from recordings.catalogue import Catalogue
from recordings.dynamodb import Item
from recordings.messages import ArchiveRequest, EraseRequest, RecordingRequest, Source
from recordings.worklist import Check, ClaimLostError, Worklist, utcnow

ERASING = "erasing"
OUT_OF_REACH = "archive_unreachable"
NOT_ERASED = "not_erased"
# 120 s: a killed erasure's first retry, after 60 s, finds the files claimed; its second does not.
_LEASE_SECONDS = 120


class ArchiveUnreachableError(Exception):
    """Raised where files are in an archive that this stack has no access to (any more)."""


@dataclass(frozen=True, slots=True)
class _FilesToErase:
    """The files' own check, claimed for an erasure, so that no archiver works on them meanwhile."""

    request: EraseRequest

    @property
    def key(self) -> str:
        """The key of the check that archives the files."""
        recording_id, source = self.request.recording_id, self.request.source
        return ArchiveRequest(recording_id=recording_id, deadline="", source=source).key

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the erasure, which `follow_up` repeats if the claim runs out."""
        return self.request.fields


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
        `ArchiveUnreachableError`, with nothing done, and `NotErasedError`; the check, if there is
        one, says which. AWS's errors come through, and the check goes on then as well.
        """
        row = self.catalogue.get(request.recording_id)
        if row is None:
            self.worklist.settle(request.key)
            return None
        if "erased_at" in row:
            self._settle_all(request)
            return row
        self._require_access(request, row)
        self._leave_check(request)
        row = self.catalogue.begin_erasure(request.recording_id, self.now()) or row
        if "erased_at" in row:
            # Another erasure was quicker.
            self._settle_all(request)
            return row
        # Whoever is archiving the files finishes first: what it adds is then erased, too. The claim
        # asks to erase and has no deadline: files that nobody will archive are not at risk.
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

    def _leave_check(self, request: EraseRequest) -> None:
        """Leave a check that begins now. A retry leaves the one that it comes from as it is."""
        if request.source is Source.FOLLOW_UP and self.worklist.note_cause(request.key, ERASING):
            return
        self.worklist.check_in(request, ERASING)

    @contextlib.contextmanager
    def _claimed(self, request: EraseRequest, claim: Check) -> Iterator[None]:
        """Give the claim back if the erasure fails: only its own check is to come back for it."""
        try:
            yield
        except Exception as error:
            with contextlib.suppress(ClaimLostError):
                self.worklist.finish(claim)
            if isinstance(error, NotErasedError):
                self.worklist.note_cause(request.key, NOT_ERASED)
            raise

    def _settle_all(self, request: EraseRequest) -> None:
        """Settle all checks of the recording, also those that were given up."""
        details = RecordingRequest(recording_id=request.recording_id, source=request.source)
        for key in (details.key, _FilesToErase(request).key, request.key):
            self.worklist.settle(key)

    def _require_access(self, request: EraseRequest, row: Item) -> None:
        states = [artifact.get("archive", {}) for artifact in row.get("artifacts", {}).values()]
        buckets = {state["bucket"] for state in states if state.get("state") == "archived"}
        if buckets - {self.archive and self.archive.bucket}:
            self.worklist.note_cause(request.key, OUT_OF_REACH)
            raise ArchiveUnreachableError(", ".join(sorted(buckets)))
