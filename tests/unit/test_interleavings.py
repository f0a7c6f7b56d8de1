"""Writers of one row, in any order, also between another's read and write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doubles import APP_ID
from recordings.catalogue import Catalogue
from recordings.dynamodb import Item, Table
from recordings.model import Artifact, Recording
from recordings.rows import is_erased, is_further, needs_fetch, unsettled

START = datetime(2026, 6, 3, 10, 0, tzinfo=UTC)
LIVES = [
    ("INVOKED", "RECORDING", "UPLOADING", "UPLOADED"),
    ("INVOKED", "RECORDING", "PAUSED", "RECORDING", "UPLOADING", "UPLOADED"),
    ("INVOKED", "RECORDING", "TRANSCODING", "UPLOADING", "UPLOADED"),
    ("INVOKED", "RECORDING", "ERRORED"),
]
ARCHIVED = {
    "state": "archived",
    "bucket": "archive",
    "key": "video/x.mp4",
    "size": 7,
    "archived_at": "2026-06-03T11:00:00.000Z",
}
# When it was written, and how often, is not the same; what it says is.
OF_THE_WAY = ("version", "status_history", "first_seen_at", "fetched_at")


@dataclass(frozen=True)
class Look:
    """A fetch at a moment of the recording's life. A stale answer is of an earlier moment."""

    kind: str
    moment: int
    staleness: int = 0


class Crossed(Table):
    """A table in which others may act after a row was read and before it is written."""

    def __init__(self, dynamodb: Any, name: str) -> None:
        super().__init__(dynamodb, name)
        self.meanwhile: Callable[[], None] = lambda: None

    def get(self, key: Mapping[str, str]) -> Item | None:
        row = super().get(key)
        self.meanwhile()
        return row


def view(recording_id: str, life: Sequence[str], look: Look) -> Recording:
    """Return an answer of that kind: the truth, but not all of it."""
    status = life[max(0, look.moment - look.staleness)]
    known = Recording(
        recording_id=recording_id,
        status=status,
        session_id="05e57591-d89e-45c9-ae44-08dc1eaad0e0",
        invoked_at=START,
        started_at=None if status == "INVOKED" else START + timedelta(seconds=3),
        file_name="x.mp4",
    )
    if status in ("UPLOADED", "ERRORED"):
        known = replace(known, stopped_at=START + timedelta(minutes=30), duration_seconds=1797)
    if status == "UPLOADED":
        video = Artifact(name="video", kind="video", file_name="x.mp4", file_size=7)
        known = replace(known, file_size=7, artifacts=(video,))
    if look.kind == "get-one":
        return replace(known, start_reason={"reason": "API_CALL"})
    if look.kind == "webhook":
        known = replace(known, invoked_at=None)
    return replace(known, meeting_id="m", meeting_title="Weekly sync")


def perform(
    table: Crossed, deeds: Sequence[Callable[[], object]], crossings: Sequence[bool]
) -> None:
    """Do them one after the other, but for those that cross the one before."""
    waiting, flags = list(deeds), iter(crossings)

    def meanwhile() -> None:
        if next(flags, False) and waiting:
            waiting.pop(0)()

    table.meanwhile = meanwhile
    while waiting:
        waiting.pop(0)()
    table.meanwhile = lambda: None


@st.composite
def histories(draw: st.DrawFn) -> tuple[Sequence[str], list[Look], list[bool]]:
    """Draw a recording's life, fetches in any order, and which of their writes cross."""
    life = draw(st.sampled_from(LIVES))
    last = len(life) - 1
    look = st.builds(
        Look,
        kind=st.sampled_from(["get-one", "list", "webhook"]),
        moment=st.integers(0, last),
        staleness=st.integers(0, 2),
    )
    looks = draw(st.lists(look, max_size=4))
    final = [Look("get-one", last), Look("list", last)]
    order = draw(st.permutations([*looks, *final]))
    return life, list(order), draw(st.lists(st.booleans(), max_size=7))


@pytest.fixture
def table(dynamodb: Any) -> Crossed:
    return Crossed(dynamodb, "RecordingsTable")


@pytest.fixture
def numbers() -> Iterator[str]:
    """Return new ids, one for each example, because all examples share the table."""
    return (f"00000000-0000-4000-8000-{n:012}" for n in range(1_000_000))


one_table = settings(
    max_examples=min(25, settings().max_examples),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def said(row: Item | None) -> Item:
    assert row is not None
    return {name: value for name, value in row.items() if name not in (*OF_THE_WAY, "recording_id")}


def upserts(
    catalogue: Catalogue, recording_id: str, life: Sequence[str], looks: Sequence[Look]
) -> list[Callable[[], object]]:
    """Return the writes of the looks. An earlier moment may have been fetched later.

    A webhook is believed only about a known recording, as `Ingestion` does.
    """

    def write(look: Look) -> None:
        seen, at = view(recording_id, life, look), START + timedelta(minutes=look.moment)
        if look.kind != "webhook":
            catalogue.upsert(seen, at)
            return
        row = catalogue.get(recording_id)
        if row and not needs_fetch(row, seen.status, None):
            at = at if is_further(row, seen.status) else datetime.min.replace(tzinfo=UTC)
            catalogue.upsert(seen, at, row)

    return [lambda look=look: write(look) for look in looks]  # type: ignore[misc]


@one_table
@given(history=histories())
def test_any_interleaving_of_views_ends_in_the_row_of_the_orderly_one(
    table: Crossed, numbers: Iterator[str], history: Any
) -> None:
    life, looks, crossings = history
    catalogue = Catalogue(table, APP_ID)
    crossed, orderly = next(numbers), next(numbers)

    perform(table, upserts(catalogue, crossed, life, looks), crossings)
    in_order = sorted(looks, key=lambda look: (look.moment - look.staleness, look.moment))
    perform(table, upserts(catalogue, orderly, life, in_order), ())

    row = said(catalogue.get(crossed))  # type: ignore[arg-type]
    assert row == said(catalogue.get(orderly))  # type: ignore[arg-type]
    assert row["status"] == life[-1]
    assert (row["meeting_title"], row["start_reason"]) == ("Weekly sync", {"reason": "API_CALL"})


@one_table
@given(history=histories(), position=st.integers(0, 6))
def test_what_the_archive_wrote_survives_whoever_writes_meanwhile(
    table: Crossed, numbers: Iterator[str], history: Any, position: int
) -> None:
    _, looks, crossings = history
    life = LIVES[0]
    looks = [replace(look, moment=min(look.moment, 3)) for look in looks]
    catalogue = Catalogue(table, APP_ID)
    recording_id = next(numbers)
    # The archive runs once the row says UPLOADED.
    catalogue.upsert(view(recording_id, life, Look("list", 3)), START)
    deeds = upserts(catalogue, recording_id, life, looks)
    deeds.insert(position, lambda: catalogue.record_archive(recording_id, {"video": ARCHIVED}))

    perform(table, deeds, crossings)

    row = said(catalogue.get(recording_id))  # type: ignore[arg-type]
    assert row["artifacts"]["video"]["archive"] == ARCHIVED
    assert (row["status"], row["archived"]) == ("UPLOADED", "yes")


NONE = {"state": "none", "noted_at": "2026-06-10T10:30:00.000Z"}
EXTERNAL = {"state": "external", "location": {"type": "aws"}, "noted_at": NONE["noted_at"]}
TEMPLATE = Artifact(name="track", kind="track", file_name="{{user_id}}.webm")
TRACKS = tuple(
    Artifact(name=f"track/default/{name}", kind="track", file_name=name, url=f"https://x/{name}")
    for name in ("a.webm", "b.webm")
)
# RealtimeKit's forms of a TRACK recording's files: none, a template, names, one URL, both.
OFFERS = [
    (),
    (TEMPLATE,),
    tuple(replace(track, url=None) for track in TRACKS),
    (TRACKS[0], replace(TRACKS[1], url=None)),
    TRACKS,
]


@one_table
@given(
    offers=st.lists(st.sampled_from(OFFERS), max_size=4),
    state=st.sampled_from([NONE, EXTERNAL]),
    position=st.integers(0, 5),
    last=st.integers(0, 4),
    crossings=st.lists(st.booleans(), max_size=7),
)
def test_once_real_files_are_told_of_nothing_else_stands_for_them(
    table: Crossed,
    numbers: Iterator[str],
    offers: list[tuple[Artifact, ...]],
    state: Item,
    position: int,
    last: int,
    crossings: list[bool],
) -> None:
    """Real files replace a placeholder, whoever writes first and whatever its state was."""
    catalogue = Catalogue(table, APP_ID)
    uploaded = Recording(recording_id=next(numbers), status="UPLOADED", invoked_at=START)
    catalogue.upsert(uploaded, START)
    offers.insert(min(last, len(offers)), TRACKS)
    deeds: list[Callable[[], object]] = [
        lambda said=said: catalogue.upsert(replace(uploaded, artifacts=said), START)  # type: ignore[misc]
        for said in offers
    ]
    deeds.insert(
        position, lambda: catalogue.record_archive(uploaded.recording_id, {"track": state})
    )

    perform(table, deeds, crossings)

    row = catalogue.get(uploaded.recording_id)
    assert row is not None
    assert {name: one["url"] for name, one in row["artifacts"].items()} == {
        "track/default/a.webm": "https://x/a.webm",
        "track/default/b.webm": "https://x/b.webm",
    }
    assert unsettled(row).keys() == row["artifacts"].keys()
    files = {name: ARCHIVED for name in row["artifacts"]}
    archived = catalogue.record_archive(uploaded.recording_id, files)  # type: ignore[arg-type]
    assert archived is not None
    assert archived["archived"] == "yes"


@one_table
@given(history=histories(), position=st.integers(0, 6))
def test_what_is_erased_is_a_tombstone_whoever_writes_meanwhile(
    table: Crossed, numbers: Iterator[str], history: Any, position: int
) -> None:
    life, looks, crossings = history
    catalogue = Catalogue(table, APP_ID)
    recording_id = next(numbers)
    catalogue.upsert(view(recording_id, life, Look("list", 0)), START)
    deeds = upserts(catalogue, recording_id, life, looks)

    def erase() -> None:
        row = catalogue.begin_erasure(recording_id, START)
        assert row is not None
        assert is_erased(row)
        catalogue.bury(row, START)

    deeds.insert(position, erase)
    deeds.append(lambda: catalogue.record_archive(recording_id, {"video": ARCHIVED}))

    perform(table, deeds, crossings)

    row = catalogue.get(recording_id)
    assert row is not None
    assert row.keys() == {"recording_id", "erased_at", "version"}
    assert row["erased_at"] == "2026-06-03T10:00:00.000Z"
