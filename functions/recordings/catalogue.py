"""The catalogue: one row for each recording, the merge of all views of it.

A writer reads the row, merges it with its view in Python (`rows.changes`), and writes under the
version it read. So the rules are plain code, and a row never mixes two writers' changes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from recordings import annotation, rows, stored
from recordings.annotation import Hold, Patch
from recordings.dynamodb import ConditionFailedError, Item, Table
from recordings.model import Artifact, ErasureReason, Recording, is_final, timestamp
from recordings.rows import ArchiveState, Row

_MAX_TRIES = 8
_OF_A_TOMBSTONE = {"recording_id", "version", "erased_at", "erasure_reason"}

MAX_OF_SESSION = 100
"""Most rows read of a session, which has one composite recording, or a few after restarts."""


class ConflictError(Exception):
    """Raised when others wrote the same row at each of our tries; transient."""


class HeldError(Exception):
    """Raised when a recording cannot be erased, because it is on hold; `hold` is the hold."""

    def __init__(self, hold: Hold) -> None:
        super().__init__("the recording is on hold")
        self.hold = hold


@dataclass(frozen=True, slots=True)
class Annotated:
    """The row after a patch of its annotations, and the annotations that the patch changed."""

    row: Row
    changes: Item


@dataclass(frozen=True, slots=True)
class Upserted:
    """The row after an upsert, whether it was written, and whether it was final before.

    `is_reported` is True if the row was written from a webhook's report, without a fetch.
    """

    row: Row
    changed: bool
    was_final: bool
    is_reported: bool = False


class Catalogue:
    """The recordings of one app, by recording id."""

    def __init__(self, table: Table, app_id: str) -> None:
        self.app_id = app_id
        self._table = table

    def get(self, recording_id: str) -> Row | None:
        """Return the row, or `None`. Its artifacts' `url`s are credentials: show `public(row)`."""
        row = self._table.get({"recording_id": recording_id})
        return None if row is None else stored.read(row)

    def get_many(self, recording_ids: Sequence[str]) -> dict[str, Row]:
        """Return the rows that exist, by recording id, as they are now or were a moment ago.

        These reads cost half of `get`. An old row does no harm, since `upsert` writes only if the
        row has not changed.
        """
        keys = [{"recording_id": recording_id} for recording_id in dict.fromkeys(recording_ids)]
        known = [
            stored.read(row)
            for start in range(0, len(keys), 100)
            for row in self._table.get_many(keys[start : start + 100])
        ]
        return {row["recording_id"]: row for row in known}

    def count(self, since: datetime, until: datetime) -> int:
        """Return the number of rows of recordings invoked from `since` to before `until`."""
        condition = "#app_id = :app_id AND #invoked_at BETWEEN :since AND :until"
        last = timestamp(until - timedelta(milliseconds=1))
        values = {"app_id": self.app_id, "since": timestamp(since), "until": last}
        return self._table.count("by_time", condition, values) if since < until else 0

    def invoked_before(
        self, before: str, limit: int, after: Mapping[str, str] | None
    ) -> tuple[list[str], Item | None]:
        """Return up to `limit` ids of recordings invoked before a time, the oldest first.

        Also return the place to go on `after`, `None` at the end.
        """
        condition = "#app_id = :app_id AND #invoked_at < :before"
        values = {"app_id": self.app_id, "before": before}
        found, last = self._table.query("by_time", condition, values, limit, after=after)
        return [row["recording_id"] for row in found], last

    def merged(self, row: Row, recording: Recording, fetched_at: datetime) -> Row:
        """Return the row as an upsert would leave it, without writing; `{}` is a missing row."""
        changed = {**row, **rows.changes(row, recording, fetched_at, self.app_id)}
        merged = {name: value for name, value in changed.items() if value is not None}
        return cast(Row, {"recording_id": recording.recording_id} | merged)

    def upsert(
        self, recording: Recording, fetched_at: datetime, known: Row | None = None
    ) -> Upserted:
        """Merge RealtimeKit's answer of `fetched_at` into the row, and write it if that changes it.

        A status only moves forward. At one status, a later view overwrites an earlier one, and
        attributes missing from the view are kept, so views may arrive in any order. The row of an
        erased recording stays as it is. A caller that has just read the row may pass it as `known`,
        `{}` if it is missing. Raises `ConflictError`, and `UnwritableError` if DynamoDB refuses it.
        """
        for _ in range(_MAX_TRIES):
            row = self.get(recording.recording_id) or {} if known is None else known
            known = None
            if rows.is_erased(row):
                return Upserted(row, changed=False, was_final=True)
            changes = rows.changes(row, recording, fetched_at, self.app_id)
            was_final = is_final(row.get("status"))
            if not changes:
                return Upserted(row, changed=False, was_final=was_final)
            try:
                written = self._write(recording.recording_id, row, changes)
            except ConditionFailedError:
                continue
            return Upserted(written, changed=True, was_final=was_final)
        raise ConflictError(f"recording {recording.recording_id} is being written by others")

    def record_archive(self, recording_id: str, states: Mapping[str, ArchiveState]) -> Row | None:
        """Write the archive states of artifacts, by name, and return the row.

        Return `None` without writing if the row is missing, or its erasure has begun. Raises
        `ConflictError` and `UnwritableError`.
        """
        return self._edit(recording_id, lambda row: rows.settled(row, states))

    def offer_files(
        self, recording_id: str, files: Sequence[Artifact], started_at: datetime | None = None
    ) -> Row | None:
        """Write that RealtimeKit has, or has announced, files of the recording's session.

        An announced file has no URL. `started_at` is the session's start, if it is known. Returns
        and raises as `record_archive` does.
        """
        return self._edit(recording_id, lambda row: rows.offered(row, files, started_at))

    def note_absent(self, recording_id: str, kinds: Sequence[str], at: datetime) -> None:
        """Write that RealtimeKit never had these files of the session, by kind.

        Raises as `record_archive` does.
        """
        self._edit(recording_id, lambda row: rows.absent(row, kinds, at))

    def annotate(
        self, recording_id: str, patch: Patch, at: datetime, check: Callable[[Row], None]
    ) -> Annotated | None:
        """Write the owner's labels and hold; `at` is when a new hold begins.

        `check` may raise an error to refuse the row as it is. Return `None` without writing if the
        row is missing, or its erasure has begun. Raises `BadParameterError` if the patch and the
        row do not fit together, `ConflictError` and `UnwritableError`.
        """
        changes: Item = {}

        def change(row: Row) -> Item:
            nonlocal changes
            check(row)
            changes = annotation.changes(row, patch, timestamp(at))
            if "labels" not in changes:
                return changes
            return {**changes, "labelled": changes["labels"] and self.app_id}

        row = self._edit(recording_id, change)
        return None if row is None else Annotated(row, changes)

    def of_session(self, session_id: str) -> list[Row]:
        """Return the rows of a session's recordings, as they are now or were a moment ago.

        Up to `MAX_OF_SESSION` are returned, the newest. Rows whose erasure has begun are left out.
        """
        found, _ = self._table.query(
            "by_session",
            "#session_id = :session_id",
            {"session_id": session_id},
            MAX_OF_SESSION,
            backwards=True,
        )
        known = self.get_many([row["recording_id"] for row in found])
        return [row for row in known.values() if not rows.is_erased(row)]

    def _edit(self, recording_id: str, change: Callable[[Row], Mapping[str, Any]]) -> Row | None:
        """Write the changes that `change` returns for the row, and return the row."""
        for _ in range(_MAX_TRIES):
            row = self.get(recording_id)
            if row is None or rows.is_erased(row):
                return None
            changes = change(row)
            if not changes:
                return row
            try:
                return self._write(recording_id, row, changes)
            except ConditionFailedError:
                continue
        raise ConflictError(f"recording {recording_id} is being written by others")

    def begin_erasure(
        self, recording_id: str, at: datetime, reason: ErasureReason = "request"
    ) -> Row | None:
        """Close the row to all other writers and return it, or `None` if it is missing.

        The write fails if a hold is set meanwhile, so a hold either prevents the erasure or comes
        too late. Raises `HeldError` and `ConflictError`.
        """
        for _ in range(_MAX_TRIES):
            row = self.get(recording_id)
            if row is None or rows.is_erased(row):
                return row
            if "hold" in row:
                raise HeldError(row["hold"])
            begun = {"erasing_since": timestamp(at)}
            if reason != "request":
                begun["erasure_reason"] = reason
            with contextlib.suppress(ConditionFailedError):
                return self._write(recording_id, row, begun)
        raise ConflictError(f"recording {recording_id} is being written by others")

    def bury(self, row: Row, at: datetime) -> Row:
        """Replace a row whose erasure has begun by its tombstone: id, time, reason and version."""
        key = {"recording_id": row["recording_id"]}
        # From the table itself, for attributes that the owner wrote, or that `stored` leaves out.
        gone = (self._table.get(key) or {}).keys() - _OF_A_TOMBSTONE
        attributes = {"version": rows.next_version(row), "erased_at": timestamp(at)}
        seen = {"seen_version": row["version"]}
        try:
            tombstone = self._table.set_attributes(
                key, attributes, "#version = :seen_version", seen, remove=gone
            )
        except ConditionFailedError:
            # Only another erasure writes such a row, so that one was quicker.
            return self.get(row["recording_id"]) or {}
        return stored.read(tombstone)

    def _write(self, recording_id: str, row: Row, changes: Mapping[str, Any]) -> Row:
        """Write the changes if the row still has the version that was read; return the new row.

        A row without a version was made by the owner, and is taken over.
        """
        values, removed = stored.attributes({**changes, "version": rows.next_version(row)})
        if "version" in row:
            condition, seen = "#version = :seen_version", {"seen_version": row["version"]}
        else:
            condition, seen = "attribute_not_exists(#version)", {}
        key = {"recording_id": recording_id}
        written = self._table.set_attributes(key, values, condition, seen, remove=removed)
        return stored.read(written)
