"""The list of recordings: its filters, the index that answers a query, and where a page ends.

Each query reads an index that is sorted by time, so a page costs the same however many recordings
there are. The filters by status and by archive state have no index. They read rows until the page
is full or `MAX_ROWS_READ` is reached, so their pages may be short and still have a cursor. The
filter by label does the same, in an index that has only rows with labels.
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

from recordings import stored
from recordings.annotation import is_label_name, is_label_text
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
# Some 250 KB of an index, a quarter of the 1 MB of one answer (DynamoDB guide, Query).
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
"""The attributes of an item of the list that all indexes hold."""

ADDED = ("labels", "hold", "invoked_at_from")
"""The attributes that only the index by label holds, and that else are read from the table.

CloudFormation cannot add an attribute to an index that exists.
"""

_DIGEST_BYTES = 9
_POSITION = re.compile(
    r"(?P<invoked_at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)(?P<recording_id>[0-9a-f-]{36})"
)
_FIRST, _LAST = "0000-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"
_FILTERS = ("meeting_id", "session_id", "status", "archived")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The filters and the order of a list. `since` and `until` are timestamps, both inclusive."""

    meeting_id: str | None = None
    session_id: str | None = None
    status: str | None = None
    archived: str | None = None
    label: tuple[str, str] | None = None
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
    """Recordings with the attributes of `LISTED`, and the cursor of the next page, if any."""

    items: list[Item]
    next_cursor: str | None


class Listing:
    """The recordings of one app, by time."""

    def __init__(self, table: Table, app_id: str) -> None:
        self._table = table
        self._app_id = app_id

    def page(self, query: Query, limit: int, after: Position | None) -> Page:
        """Return up to `limit` recordings, from the first after `after`.

        A page begins where the last one ended, so recordings added meanwhile do not shift it. A
        page is short at the end of the list, or if `MAX_ROWS_READ` rows had to be read for it.
        """
        index, key, value = self._index(query)
        condition = f"#{key} = :{key} AND #invoked_at BETWEEN :since AND :until"
        where, filters, names = _filter(query, key)
        values = {key: value, "since": query.since, "until": query.until, **filters}
        listed: list[Item] = []
        read = 0
        while True:
            # One row more than the page holds shows whether there is another page.
            size = min(MAX_ROWS_READ - read, max(4 * limit, read)) if where else limit + 1
            rows, last = self._table.query(
                index,
                condition,
                values,
                size,
                after={key: value, **asdict(after)} if after else None,
                where=where,
                names=names,
                backwards=query.order == "newest",
            )
            listed += rows
            read += size
            if len(listed) > limit:
                return self._page(query, listed[:limit], _position(listed[limit - 1]))
            if last is None or read >= MAX_ROWS_READ:
                return self._page(query, listed, _position(last) if last else None)
            after = _position(last)

    def _index(self, query: Query) -> tuple[str, str, str]:
        """Return the narrowest index for the query: its name, its key's name, and the key."""
        if query.label:
            return "by_label", "labelled", self._app_id
        if query.session_id:
            return "by_session", "session_id", query.session_id
        if query.meeting_id:
            return "by_meeting", "meeting_id", query.meeting_id
        return "by_time", "app_id", self._app_id

    def _page(self, query: Query, read: Sequence[Item], last: Position | None) -> Page:
        # A row whose time changes while the page is read may come twice.
        rows = list({row["recording_id"]: row for row in read}.values())
        more = {row["recording_id"]: row for row in (rows if query.label else self._added(rows))}
        items = []
        for row in rows:
            added = more.get(row["recording_id"], {})
            item = {name: row[name] for name in LISTED if name in row}
            guess = {name: added[name] for name in ("invoked_at_from",) if name in added}
            items.append({**item, **guess, **stored.annotation(added)})
        return Page(items, cursor(query, last) if last else None)

    def _added(self, rows: Sequence[Item]) -> list[Item]:
        """Return the attributes of `ADDED` of a page's rows."""
        keys = [{"recording_id": row["recording_id"]} for row in rows]
        return self._table.get_many(keys, ("recording_id", *ADDED)) if keys else []


def _filter(query: Query, key: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """Return the filter of an index's rows, with its values and names; `key` is the index's key."""
    values = {
        name: getattr(query, name)
        for name in _FILTERS
        if name != key and getattr(query, name) is not None
    }
    conditions = [f"#{name} = :{name}" for name in values]
    names = {}
    if query.label:
        names["label"], values["label"] = query.label
        conditions.append("#labels.#label = :label")
    return " AND ".join(conditions), values, names


def _position(row: Mapping[str, Any]) -> Position:
    return Position(row["invoked_at"], row["recording_id"])


def cursor(query: Query, position: Position) -> str:
    """Return an opaque cursor for a position, good for this query only.

    A cursor holds only a place in the order, and the query decides which rows are read. A forged
    cursor gains its author no row, so the digest needs no key.
    """
    place = position.invoked_at + position.recording_id
    digest = hashlib.sha256(json.dumps([asdict(query), place]).encode()).digest()
    return base64.urlsafe_b64encode(digest[:_DIGEST_BYTES] + place.encode()).decode()


def position(query: Query, text: str) -> Position:
    """Return the position in a cursor. Raises `BadParameterError` if it is not this query's."""
    try:
        place = base64.urlsafe_b64decode(text.encode())[_DIGEST_BYTES:].decode()
    except (binascii.Error, UnicodeError):
        place = ""
    match = _POSITION.fullmatch(place)
    if match:
        after = Position(match["invoked_at"], match["recording_id"])
        if cursor(query, after) == text and query.since <= after.invoked_at <= query.until:
            return after
    raise BadParameterError(
        "cursor", "is not a cursor of this query: repeat the query that returned it"
    )


def parse(parameters: Mapping[str, Sequence[str]]) -> tuple[Query, int, Position | None]:
    """Parse API Gateway's query string into the query, the limit, and the position to go on after.

    Raises `BadParameterError`.
    """
    known = ("from", "to", "order", "limit", "cursor", "label", *_FILTERS)
    given = single_values(parameters, known)
    query = Query(
        meeting_id=parse_id(given, "meeting_id"),
        session_id=parse_id(given, "session_id"),
        status=parse_choice(given, "status", tuple(RecordingStatus)),
        archived=parse_choice(given, "archived", ("yes", "partly", "no")),
        label=_parse_label(given),
        order=parse_choice(given, "order", ("newest", "oldest")) or "newest",
    )
    if "from" in given:
        query = replace(query, since=timestamp(parse_time(given, "from")))
    if "to" in given:
        # `to` is exclusive, so that adjoining windows are disjoint; rows have whole milliseconds.
        until = parse_time(given, "to") - timedelta(milliseconds=1)
        query = replace(query, until=timestamp(until))
    if query.since > query.until:
        raise BadParameterError("from", "is not before to")
    limit = parse_number(given, "limit", DEFAULT_LIMIT, 1, MAX_LISTED)
    after = position(query, given["cursor"]) if "cursor" in given else None
    return query, limit, after


def _parse_label(given: Mapping[str, str]) -> tuple[str, str] | None:
    """Return a label's name and text, `None` if none is given. Raises `BadParameterError`."""
    if "label" not in given:
        return None
    name, _, text = given["label"].partition(":")
    if not is_label_name(name) or not is_label_text(text):
        raise BadParameterError(
            "label", "is not a label's name, a colon, and its text, such as order:4711"
        )
    return name, text
