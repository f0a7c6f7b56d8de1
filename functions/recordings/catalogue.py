"""The catalogue: one row for each recording, the merge of all that was ever said of it.

A writer reads the row, works out in Python what it would change, and writes that under one
condition: that nobody else wrote in between. So the rules below are plain code, and a row never
holds half of one writer's view and half of another's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from recordings import rows, stored
from recordings.dynamodb import ConditionFailedError, Item, Table
from recordings.model import (
    Recording,
    is_final,
    timestamp,
)

_MAX_TRIES = 8


class ConflictError(Exception):
    """Raised when others wrote the same row each time we tried; transient."""


@dataclass(frozen=True, slots=True)
class Upserted:
    """The row as it is now, whether it had to be written, and whether it was final before."""

    row: Item
    changed: bool
    was_final: bool


class Catalogue:
    """The recordings of one app, by recording id."""

    def __init__(self, table: Table, app_id: str) -> None:
        self._table = table
        self._app_id = app_id

    def get(self, recording_id: str) -> Item | None:
        """The row, or `None`. Its artifacts' `url`s are credentials: show `public(row)`."""
        row = self._table.get({"recording_id": recording_id})
        return None if row is None else stored.read(row)

    def get_many(self, recording_ids: Sequence[str]) -> dict[str, Item]:
        """The rows that there are, by recording id; what was written just now may be missing.

        It costs half of `get`, and `upsert` finds out: it writes no row that has changed since.
        """
        keys = [{"recording_id": recording_id} for recording_id in dict.fromkeys(recording_ids)]
        found = [
            stored.read(row)
            for start in range(0, len(keys), 100)
            for row in self._table.get_many(keys[start : start + 100])
        ]
        return {row["recording_id"]: row for row in found}

    def count(self, since: datetime, until: datetime) -> int:
        """How many recordings the table has that were invoked from `since` to before `until`."""
        condition = "#app_id = :app_id AND #invoked_at BETWEEN :since AND :until"
        last = timestamp(until - timedelta(milliseconds=1))
        values = {"app_id": self._app_id, "since": timestamp(since), "until": last}
        return self._table.count("by_time", condition, values) if since < until else 0

    def merged(self, row: Item, recording: Recording, fetched_at: datetime) -> Item:
        """The row, `{}` if there is none, as an upsert would leave it; nothing is written."""
        changed = {**row, **rows.changes(row, recording, fetched_at, self._app_id)}
        said = {name: value for name, value in changed.items() if value is not None}
        return {"recording_id": recording.recording_id} | said

    def upsert(
        self, recording: Recording, fetched_at: datetime, known: Item | None = None
    ) -> Upserted:
        """Bring the row up to what RealtimeKit said at `fetched_at`.

        A status only moves forward; at one status, what was said earlier does not overwrite what
        was said later; what was not said is kept; and nothing is written where nothing would
        change. So it is no matter in which order views arrive. What is erased, or about to be,
        stays as it is. Whoever has just read the row may give it, `{}` if there is none. Raises
        `ConflictError`, and `UnwritableError` where DynamoDB will not take this row.
        """
        for _ in range(_MAX_TRIES):
            row = self.get(recording.recording_id) or {} if known is None else known
            known = None
            if rows.is_erased(row):
                return Upserted(row, changed=False, was_final=True)
            changes = rows.changes(row, recording, fetched_at, self._app_id)
            was_final = is_final(row.get("status"))
            if not changes:
                return Upserted(row, changed=False, was_final=was_final)
            try:
                written = self._write(recording.recording_id, row, changes)
            except ConditionFailedError:
                continue
            return Upserted(written, changed=True, was_final=was_final)
        raise ConflictError(f"recording {recording.recording_id} is being written by others")

    def record_archive(self, recording_id: str, states: Mapping[str, Item]) -> Item | None:
        """Say what became of artifacts, by name, and return the row.

        `None`, and nothing is written, where there is no row, or it is erased or about to be.

        A state is `{"state": "archived", "bucket", "key", "size", "checksum_crc32",
        "archived_at"}`, `{"state": "external", "location": {…}, "noted_at"}`,
        `{"state": "expired", "expired_at"}` or `{"state": "none", "noted_at"}`. Raises
        `ConflictError` and `UnwritableError`.
        """
        for _ in range(_MAX_TRIES):
            row = self.get(recording_id)
            if row is None or rows.is_erased(row):
                return None
            artifacts = dict(row["artifacts"]) if "artifacts" in row else {}
            for name, state in states.items():
                # A placeholder goes when real files appear: its state is then nobody's.
                if name in artifacts or not row.get("artifacts"):
                    artifacts[name] = {**artifacts.get(name, {"kind": name}), "archive": state}
            if artifacts == row.get("artifacts"):
                return row
            changes = {"artifacts": artifacts, "archived": rows.archived(artifacts)}
            try:
                return self._write(recording_id, row, changes)
            except ConditionFailedError:
                continue
        raise ConflictError(f"recording {recording_id} is being written by others")

    def begin_erasure(self, recording_id: str, at: datetime) -> Item | None:
        """From now on nobody else changes the row. The row, or `None` where there is none.

        Raises `ConflictError`.
        """
        for _ in range(_MAX_TRIES):
            row = self.get(recording_id)
            if row is None or rows.is_erased(row):
                return row
            with contextlib.suppress(ConditionFailedError):
                return self._write(recording_id, row, {"erasing_since": timestamp(at)})
        raise ConflictError(f"recording {recording_id} is being written by others")

    def bury(self, row: Item, at: datetime) -> Item:
        """Leave a tombstone of a row whose erasure has begun: its id, the time, a version."""
        key = {"recording_id": row["recording_id"]}
        # Also what the owner put there, and what is not read for its type.
        gone = (self._table.get(key) or {}).keys() - {"recording_id", "version", "erased_at"}
        values = {
            "version": rows.next_version(row),
            "erased_at": timestamp(at),
            "seen": row["version"],
        }
        expression = "SET #version = :version, #erased_at = :erased_at"
        try:
            return self._table.update(key, expression, values, "#version = :seen", remove=gone)
        except ConditionFailedError:
            # Only another erasure writes such a row: it was quicker.
            return self.get(row["recording_id"]) or {}

    def _write(self, recording_id: str, row: Item, changes: Mapping[str, Any]) -> Item:
        """Write the changes under the version of the row that was read, `{}` if there is none.

        A row that has no version was never written by this service, and is taken over.
        """
        values, removed = stored.attributes({**changes, "version": rows.next_version(row)})
        assignments = ", ".join(f"#{name} = :{name}" for name in values)
        if "version" in row:
            condition, seen = "#version = :seen_version", {"seen_version": row["version"]}
        else:
            condition, seen = "attribute_not_exists(#version)", {}
        key = {"recording_id": recording_id}
        written = self._table.update(
            key, f"SET {assignments}", {**values, **seen}, condition, remove=removed
        )
        return stored.read(written)
