"""Pages of the list have each recording once, and a cursor leads only to its own query."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doubles import APP_ID
from recordings import listing
from recordings.dynamodb import Table
from recordings.listing import Listing, Position, Query, cursor, parse, position
from recordings.model import uuid
from recordings.parameters import BadParameterError

MEETINGS = [f"00000000-0000-4000-8000-{n:012}" for n in range(2)]
STATUSES = ["UPLOADED", "ERRORED", "RECORDING"]

Put = Callable[[int, tuple[int, int, int]], None]


def recording_id(number: int) -> str:
    return f"97cb480d-5840-4528-ace3-{number:012}"


@pytest.fixture
def put(dynamodb: Any) -> Put:
    """Add a recording of a number, with a time, a meeting and a status; times may be equal."""

    def put(number: int, fields: tuple[int, int, int]) -> None:
        minute, meeting, status = fields
        item = {
            "recording_id": recording_id(number),
            "app_id": APP_ID,
            "invoked_at": f"2026-06-03T10:{minute:02}:00.000Z",
            "meeting_id": MEETINGS[meeting],
            "session_id": MEETINGS[meeting],
            "status": STATUSES[status],
            "archived": "no",
        }
        dynamodb.put_item(
            TableName="RecordingsTable", Item={name: {"S": value} for name, value in item.items()}
        )

    return put


def pages(
    recordings: Listing,
    query: Query,
    limit: int,
    between: Callable[[], None] = lambda: None,
) -> list[str]:
    """Return the ids of all pages' items."""
    found: list[str] = []
    after = None
    while True:
        page = recordings.page(query, limit, after)
        assert len(page.items) <= limit
        found += [item["recording_id"] for item in page.items]
        if page.next_cursor is None:
            return found
        after = position(query, page.next_cursor)
        between()


FIELDS = st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(0, 2))


@settings(
    max_examples=min(40, settings().max_examples),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    before=st.lists(FIELDS, max_size=12),
    added=st.lists(FIELDS, max_size=12),
    limit=st.integers(1, 5),
    meeting=st.sampled_from([None, 0, 1]),
    session=st.sampled_from([None, 0, 1]),
    status=st.sampled_from([None, *STATUSES]),
    order=st.sampled_from(["newest", "oldest"]),
)
def test_whatever_is_added_between_pages_nothing_is_skipped_and_nothing_comes_twice(
    recordings_table: Table,
    dynamodb: Any,
    put: Put,
    before: list[tuple[int, int, int]],
    added: list[tuple[int, int, int]],
    limit: int,
    meeting: int | None,
    session: int | None,
    status: str | None,
    order: str,
) -> None:
    for item in dynamodb.scan(TableName="RecordingsTable")["Items"]:
        key = {"recording_id": item["recording_id"]}
        dynamodb.delete_item(TableName="RecordingsTable", Key=key)
    for number, fields in enumerate(before):
        put(number, fields)
    query = Query(
        meeting_id=None if meeting is None else MEETINGS[meeting],
        session_id=None if session is None else MEETINGS[session],
        status=status,
        order=order,
    )
    later = list(enumerate(added, start=100))

    def add() -> None:
        if later:
            put(*later.pop())

    found = pages(Listing(recordings_table, APP_ID), query, limit, add)

    there = {
        recording_id(number): minute
        for number, (minute, of, state) in enumerate(before)
        if meeting in (None, of) and session in (None, of) and status in (None, STATUSES[state])
    }
    assert len(found) == len(set(found))
    seen = [one for one in found if one in there]
    assert set(seen) == set(there)
    times = [there[one] for one in seen]
    assert times == sorted(times, reverse=order == "newest")


def test_a_rare_status_does_not_read_the_whole_index_for_one_page(
    recordings_table: Table, put: Put, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_ROWS_READ", 30)
    for number in range(50):
        put(number, (number % 60, 0, 1 if number == 3 else 0))
    read: list[int] = []
    dynamodb.meta.events.register(
        "after-call.dynamodb.Query", lambda parsed, **_: read.append(parsed["ScannedCount"])
    )
    recordings = Listing(recordings_table, APP_ID)
    query = Query(status="ERRORED")

    page = recordings.page(query, 2, None)

    assert page.items == []
    assert page.next_cursor
    assert sum(read) == 30
    page = recordings.page(query, 2, position(query, page.next_cursor))
    assert [item["recording_id"] for item in page.items] == [recording_id(3)]
    assert page.next_cursor is None


def test_a_row_whose_time_changes_while_a_page_is_read_does_not_break_the_page(
    recordings_table: Table, put: Put, dynamodb: Any
) -> None:
    """RealtimeKit's own time replaces the stand-in of a row that a webhook made."""
    for number in range(10):
        put(number, (10 + number, 0, 1))
    put(10, (20, 0, 0))
    # The first query reads eight rows, from the newest on.
    dynamodb.meta.events.register("after-call.dynamodb.Query", lambda **_: put(10, (1, 0, 0)))

    page = Listing(recordings_table, APP_ID).page(Query(status="UPLOADED"), 2, None)

    assert [item["recording_id"] for item in page.items] == [recording_id(10)]


def test_a_page_that_is_full_at_the_end_is_the_last(recordings_table: Table, put: Put) -> None:
    for number in range(4):
        put(number, (number, 0, 0))
    recordings = Listing(recordings_table, APP_ID)

    assert recordings.page(Query(), 4, None).next_cursor is None
    assert recordings.page(Query(status="UPLOADED"), 4, None).next_cursor is None


def test_another_apps_recordings_are_not_listed(recordings_table: Table, put: Put) -> None:
    put(1, (1, 0, 0))

    assert Listing(recordings_table, "another").page(Query(), 10, None).items == []


TIMES = st.datetimes().map(lambda time: time.isoformat(timespec="milliseconds") + "Z")
POSITIONS = st.builds(Position, TIMES, st.uuids().map(str))


@given(POSITIONS)
def test_a_cursor_is_read_back(place: Position) -> None:
    query = Query(status="UPLOADED")

    assert position(query, cursor(query, place)) == place


@given(st.one_of(st.text(), st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode())))
def test_no_other_text_is_a_cursor(text: str) -> None:
    with pytest.raises(BadParameterError) as raised:
        position(Query(), text)
    assert raised.value.parameter == "cursor"


def test_a_cursor_forged_to_lead_out_of_its_query_leads_nowhere() -> None:
    """Its digest needs no key, so anybody can make one; it can only name a place."""
    query = Query(since="2026-06-03T00:00:00.000Z", until="2026-06-04T00:00:00.000Z")
    forged = cursor(query, Position("2026-07-01T00:00:00.000Z", recording_id(1)))

    with pytest.raises(BadParameterError):
        position(query, forged)


PARAMETERS = st.dictionaries(
    st.one_of(
        st.sampled_from(
            [
                "from",
                "to",
                "order",
                "limit",
                "cursor",
                "meeting_id",
                "session_id",
                "status",
                "archived",
            ]
        ),
        st.text(),
    ),
    st.lists(
        st.one_of(st.text(), st.integers().map(str), st.datetimes().map(str), st.uuids().map(str)),
        max_size=2,
    ),
)


@given(PARAMETERS)
def test_whatever_is_asked_for_is_a_query_or_a_parameter_that_is_named(
    parameters: dict[str, list[str]],
) -> None:
    try:
        query, limit, _ = parse(parameters)
    except BadParameterError as error:
        assert error.parameter in {name[:50] for name in parameters} | {"from"}
    else:
        assert 1 <= limit <= 100
        assert query.since <= query.until
        assert query.meeting_id is None or uuid(query.meeting_id)
