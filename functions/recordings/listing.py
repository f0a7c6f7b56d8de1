"""The list of recordings: what may be asked for, which index answers, and where a page ends.

Every question is answered from an index that is sorted by time, so that a page costs what it shows,
however many recordings there are. Of a status, or of an archive state, there is no index: rows are
read until the page is full, or so many have been read; a page may then be short, and still say how
to go on.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

from recordings.dynamodb import Item, Table
from recordings.model import RecordingStatus, timestamp
from recordings.parameters import (
    BadParameterError,
    parse_choice,
    parse_id,
    parse_number,
    parse_time,
    single_values,
)

DEFAULT_LIMIT = 20
MAX_LISTED = 100
# Some 250 KB of an index: a quarter of what DynamoDB gives in one answer.
MAX_ROWS_READ = 1000

LISTED = (
    "recording_id",
    "status",
    "meeting_id",
    "session_id",
    "meeting_title",
    "invoked_at",
    "started_at",
    "stopped_at",
    "duration_seconds",
    "file_name",
    "file_size",
    "archived",
)
"""What an item of the list may say; the indexes hold it."""

_DIGEST_BYTES = 9
_POSITION = re.compile(
    r"(?P<invoked_at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)(?P<recording_id>[0-9a-f-]{36})"
)
_FIRST, _LAST = "0000-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"
_FILTERS = ("meeting_id", "session_id", "status", "archived")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked for. `since` and `until` are timestamps, both inclusive."""

    meeting_id: str | None = None
    session_id: str | None = None
    status: str | None = None
    archived: str | None = None
    since: str = _FIRST
    until: str = _LAST
    order: str = "newest"


@dataclass(frozen=True, slots=True)
class Position:
    """A row's place in the order of all indexes."""

    invoked_at: str
    recording_id: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some recordings, as `LISTED` says, and the cursor of the next page if there may be one."""

    items: list[Item]
    next_cursor: str | None


class Listing:
    """The recordings of one app, by time."""

    def __init__(self, table: Table, app_id: str) -> None:
        self._table = table
        self._app_id = app_id

    def page(self, query: Query, limit: int, after: Position | None) -> Page:
        """Up to `limit` recordings, from the first after `after`.

        What is added meanwhile shifts nothing: a page begins where the last one ended. A page is
        short if there are no more, or if `MAX_ROWS_READ` rows had to be read for it.
        """
        index, key, value = self._index(query)
        condition = f"#{key} = :{key} AND #invoked_at BETWEEN :since AND :until"
        values = {key: value, "since": query.since, "until": query.until}
        filters = {
            name: getattr(query, name)
            for name in _FILTERS
            if name != key and getattr(query, name) is not None
        }
        where = " AND ".join(f"#{name} = :{name}" for name in filters)
        found: list[Item] = []
        read = 0
        while True:
            # One more than the page holds tells whether there is another.
            size = min(MAX_ROWS_READ - read, max(4 * limit, read)) if where else limit + 1
            rows, last = self._table.query(
                index,
                condition,
                {**values, **filters},
                size,
                after={key: value, **asdict(after)} if after else None,
                where=where,
                backwards=query.order == "newest",
            )
            found += rows
            read += size
            if len(found) > limit:
                return self._page(query, found[:limit], _position(found[limit - 1]))
            if last is None or read >= MAX_ROWS_READ:
                return self._page(query, found, _position(last) if last else None)
            after = _position(last)

    def _index(self, query: Query) -> tuple[str, str, str]:
        """The narrowest: its name, its key's name, and the key."""
        if query.session_id:
            return "by_session", "session_id", query.session_id
        if query.meeting_id:
            return "by_meeting", "meeting_id", query.meeting_id
        return "by_time", "app_id", self._app_id

    def _page(self, query: Query, rows: Sequence[Item], last: Position | None) -> Page:
        items = [{name: row[name] for name in LISTED if name in row} for row in rows]
        return Page(items, cursor(query, last) if last else None)


def _position(row: Mapping[str, Any]) -> Position:
    return Position(row["invoked_at"], row["recording_id"])


def cursor(query: Query, position: Position) -> str:
    """Opaque, and good for this query only.

    It holds a place in the order and nothing else: which rows are read is for the query to say. So
    there is nothing to gain by forging one, and the digest needs no key.
    """
    place = position.invoked_at + position.recording_id
    digest = hashlib.sha256(json.dumps([asdict(query), place]).encode()).digest()
    return base64.urlsafe_b64encode(digest[:_DIGEST_BYTES] + place.encode()).decode()


def position(query: Query, text: str) -> Position:
    """The inverse of `cursor`. Raises `BadParameterError` for what it never gave for this query."""
    try:
        place = base64.urlsafe_b64decode(text.encode())[_DIGEST_BYTES:].decode()
    except (binascii.Error, UnicodeError):
        place = ""
    found = _POSITION.fullmatch(place)
    if found:
        after = Position(found["invoked_at"], found["recording_id"])
        if cursor(query, after) == text and query.since <= after.invoked_at <= query.until:
            return after
    raise BadParameterError("cursor", "is not one that this query's last page gave")


def parse(parameters: Mapping[str, Sequence[str]]) -> tuple[Query, int, Position | None]:
    """What API Gateway's query string asks for: the query, the limit, and where to go on.

    Raises `BadParameterError`.
    """
    given = single_values(parameters, ("from", "to", "order", "limit", "cursor", *_FILTERS))
    query = Query(
        meeting_id=parse_id(given, "meeting_id"),
        session_id=parse_id(given, "session_id"),
        status=parse_choice(given, "status", tuple(RecordingStatus)),
        archived=parse_choice(given, "archived", ("yes", "partly", "no")),
        order=parse_choice(given, "order", ("newest", "oldest")) or "newest",
    )
    if "from" in given:
        query = replace(query, since=timestamp(parse_time(given, "from")))
    if "to" in given:
        # Exclusive, so that adjoining windows share nothing; rows' times are in milliseconds.
        until = parse_time(given, "to") - timedelta(milliseconds=1)
        query = replace(query, until=timestamp(until))
    if query.since > query.until:
        raise BadParameterError("from", "is not before to")
    limit = parse_number(given, "limit", DEFAULT_LIMIT, 1, MAX_LISTED)
    after = position(query, given["cursor"]) if "cursor" in given else None
    return query, limit, after
