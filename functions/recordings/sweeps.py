"""Sweeps: windows of time in which RealtimeKit's list is held against the catalogue.

A sweep is a row of the work table, from its request to a month after its end: how far it is, what
was found, why it stopped. Whoever works on it saves each step under one condition, that nobody else
did and that it was not cancelled: so a worker that was thought dead cannot turn it back.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self
from uuid import NAMESPACE_OID, uuid4, uuid5

from recordings.dynamodb import ConditionFailedError, Item, Table
from recordings.model import timestamp
from recordings.parameters import BadParameterError, parse_time
from recordings.worklist import Now, utcnow

MAX_OPEN_SWEEPS = 20
"""So many sweeps may wait or be under way; one more is refused."""

_KEPT_FOR = timedelta(days=30)
# Each tick is a minute.
_STUCK_AFTER = timedelta(minutes=30)
# One a day, and one an hour for twelve hours if all of them are stuck.
_MAX_SCHEDULED = 15
_OPEN, _ENDED = "sweep", "swept"
_LEASE = {"work_id": "sweeper"}
_PLACE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z[0-9a-f-]{36}")


class State(StrEnum):
    """How far a sweep is."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Trigger(StrEnum):
    """Who asked for it: a schedule, or somebody by the API."""

    HOURLY = "hourly"
    DAILY = "daily"
    REQUEST = "request"


OPEN = (State.QUEUED, State.RUNNING)


class SweepEndedError(Exception):
    """Raised when a sweep was cancelled, or taken on by somebody else; nothing was saved."""


class UnfinishedError(Exception):
    """Raised for a sweep of what an unfinished one is sweeping; `sweep_id` is that one's."""

    def __init__(self, sweep_id: str) -> None:
        super().__init__("there is an unfinished sweep of the same window")
        self.sweep_id = sweep_id


class TooManySweepsError(Exception):
    """Raised where there are `MAX_OPEN_SWEEPS` unfinished sweeps already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a sweep found, in recordings that were invoked in its window.

    `seen` of them are in RealtimeKit's list, `missing` in no row of the table, `behind` in one that
    says less; `repaired` were written. `catalogued` rows of the window the table has. The archive
    holds all files of `archived`; RealtimeKit still has files of `not_archived`, for less than two
    days of `at_risk`; of `expired` files were deleted before they were copied; `gone` are those
    of which the bucket lacks a file that the row says it has. `lost_webhooks` are repaired ones
    that a webhook should have told of. `pages` were read, and `unreadable` items passed over; so
    were the `unwritable` recordings, of which DynamoDB refuses the row.
    """

    pages: int = 0
    seen: int = 0
    unreadable: int = 0
    missing: int = 0
    behind: int = 0
    repaired: int = 0
    lost_webhooks: int = 0
    erased: int = 0
    catalogued: int = 0
    archived: int = 0
    not_archived: int = 0
    at_risk: int = 0
    expired: int = 0
    gone: int = 0
    unwritable: int = 0

    def plus(self, other: Mapping[str, int]) -> Counts:
        """With so many more of each."""
        return replace(self, **{name: getattr(self, name) + more for name, more in other.items()})

    def fields(self) -> dict[str, int]:
        """By name."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One sweep: of recordings invoked from `since` to before `until`.

    `progress` is the worker's notes, `examples` are ids of what was found, some of each kind.
    `complete` tells whether as many recordings were seen as the list says there are, `None` where
    it does not say. `cause` is why it waits, in a word, `reason` why it failed, in more.
    `trying_since` is since when it has been worked on without a step that could be saved.
    """

    sweep_id: str
    trigger: Trigger
    since: datetime
    until: datetime
    dry_run: bool
    created_at: datetime
    state: State = State.QUEUED
    started_at: datetime | None = None
    ended_at: datetime | None = None
    not_before: datetime | None = None
    trying_since: datetime | None = None
    cause: str | None = None
    reason: str | None = None
    complete: bool | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    counts: Counts = Counts()
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    version: int = 0

    @classmethod
    def of(cls, row: Item) -> Self:
        """The inverse of `fields`."""
        said = {name: value for name, value in row.items() if name in cls.__slots__}
        times = {name: datetime.fromisoformat(said[name]) for name in _TIMES if said.get(name)}
        enums = {"trigger": Trigger(row["trigger"]), "state": State(row["state"])}
        return cls(**{**said, **times, **enums, "counts": Counts(**row["counts"])})

    def fields(self) -> Item:
        """To be stored; what is `None` is absent."""
        said = {name: getattr(self, name) for name in self.__slots__}
        said |= {name: said[name] and timestamp(said[name]) for name in _TIMES}
        said["counts"] = self.counts.fields()
        return {name: value for name, value in said.items() if value is not None}

    @property
    def is_open(self) -> bool:
        """Whether there is anything left to do."""
        return self.state in OPEN

    def is_stuck(self, now: datetime) -> bool:
        """Whether it is being tried and gets nowhere, although nobody said to wait."""
        return self.trying_since is not None and now - self.trying_since > _STUCK_AFTER

    def report(self, now: datetime) -> Item:
        """For whoever asks: no notes, but how fast it is, and when it may be done."""
        shown = self.fields()
        for name in ("progress", "version", "since", "until"):
            del shown[name]
        window = {"from": timestamp(self.since), "to": timestamp(self.until)}
        return {**shown, **window, **self._pace(now)}

    def _pace(self, now: datetime) -> Item:
        """By how much of the window is behind it: recordings come in at a steady rate."""
        if self.state is State.COMPLETED:
            fraction = 1.0
        else:
            reached = self.progress.get("reached")
            passed = datetime.fromisoformat(reached) - self.since if reached else timedelta(0)
            fraction = max(0.0, min(passed / (self.until - self.since), 1.0))
        pace: Item = {"fraction": round(fraction, 4)}
        elapsed = (self.ended_at or now) - (self.started_at or now)
        if elapsed:
            pace["recordings_per_minute"] = round(self.counts.seen * 60 / elapsed.total_seconds())
        # At the very beginning it would be a guess, of centuries perhaps.
        if self.is_open and elapsed and fraction >= _MIN_ESTIMATED_FRACTION:
            pace["estimated_end_at"] = timestamp(now + elapsed * (1 - fraction) / fraction)
        return pace


_MIN_ESTIMATED_FRACTION = 0.001
_TIMES = (
    "since",
    "until",
    "created_at",
    "started_at",
    "ended_at",
    "not_before",
    "trying_since",
)


class Sweeps:
    """The sweeps of one app, in the work table."""

    def __init__(self, table: Table, app_id: str, now: Now = utcnow) -> None:
        self._table = table
        self._app_id = app_id
        self._now = now

    def request(self, since: datetime, until: datetime, *, dry_run: bool) -> Sweep:
        """Ask for a sweep. Raises `UnfinishedError` and `TooManySweepsError`.

        Two that are asked for in the same instant may both be taken; the second finds nothing.
        """
        unfinished, now = self.unfinished(), self._now()
        for other in unfinished:
            is_same = (other.since, other.until, other.dry_run) == (since, until, dry_run)
            if is_same and not other.is_stuck(now):
                raise UnfinishedError(other.sweep_id)
        if len(unfinished) >= MAX_OPEN_SWEEPS:
            raise TooManySweepsError
        sweep = self._new(str(uuid4()), Trigger.REQUEST, since, until, dry_run=dry_run)
        self._create(sweep)
        return sweep

    def schedule(self, trigger: Trigger, length: timedelta) -> Sweep | None:
        """Ask for one of the last hours or days; `None` where the last such is not finished.

        A schedule's event may come twice: there is one in an hour. A stuck sweep does not hold up
        the next.
        """
        now = self._now()
        others = [other for other in self.unfinished() if other.trigger is trigger]
        if not all(other.is_stuck(now) for other in others):
            return None
        name = f"{self._app_id}/{trigger}/{now:%Y-%m-%dT%H}"
        sweep_id = str(uuid5(NAMESPACE_OID, name))
        sweep = self._new(sweep_id, trigger, now - length, now, dry_run=False)
        with contextlib.suppress(ConditionFailedError):
            self._create(sweep)
            return sweep
        return None

    def _new(
        self, sweep_id: str, trigger: Trigger, since: datetime, until: datetime, *, dry_run: bool
    ) -> Sweep:
        return Sweep(
            sweep_id=sweep_id,
            trigger=trigger,
            since=since,
            until=until,
            dry_run=dry_run,
            created_at=self._now(),
        )

    def get(self, sweep_id: str) -> Sweep | None:
        """As it is now."""
        row = self._table.get(_key(sweep_id))
        return Sweep.of(row) if row else None

    def unfinished(self) -> list[Sweep]:
        """Those of schedules first, for they are short; then those that wait longest."""
        found = self._page(_OPEN, MAX_OPEN_SWEEPS + _MAX_SCHEDULED, None, backwards=False)
        return sorted(found, key=lambda sweep: (sweep.trigger is Trigger.REQUEST, sweep.created_at))

    def newest(self, limit: int, before: str | None = None) -> tuple[list[Sweep], str | None]:
        """The newest, from the last of the page before on; and how to go on, if there are more."""
        found = [
            sweep
            for partition in (_OPEN, _ENDED)
            for sweep in self._page(partition, limit + 1, before, backwards=True)
        ]
        found.sort(key=_place, reverse=True)
        return found[:limit], _place(found[limit - 1]) if len(found) > limit else None

    def cancel(self, sweep_id: str) -> Sweep | None:
        """It is not gone on with; what it wrote stays. `None` where there is none.

        One that has ended stays as it ended.
        """
        while (sweep := self.get(sweep_id)) and sweep.is_open:
            with contextlib.suppress(SweepEndedError):
                return self.save(replace(sweep, state=State.CANCELLED, cause=None))
        return sweep

    def save(self, sweep: Sweep) -> Sweep:
        """Keep a step of the work. Raises `SweepEndedError` where somebody else kept one since."""
        now = self._now()
        if not sweep.is_open:
            sweep = replace(sweep, ended_at=now, progress=_outcome(sweep.progress))
        saved = replace(sweep, version=sweep.version + 1)
        values = {**_row(saved), "seen": sweep.version}
        gone = [name for name in saved.__slots__ if name not in values]
        removal = f" REMOVE {', '.join(f'#{name}' for name in gone)}" if gone else ""
        try:
            self._table.update(
                _key(sweep.sweep_id),
                f"SET {_assignments(values)}{removal}",
                values,
                "#version = :seen",
            )
        except ConditionFailedError:
            raise SweepEndedError(sweep.sweep_id) from None
        return saved

    def claim(self, seconds: float) -> str | None:
        """Be the only one who sweeps, for so long; what is to be given to `release`, or `None`."""
        now = self._now()
        lease = timestamp(now + timedelta(seconds=seconds))
        try:
            self._table.update(
                _LEASE,
                "SET #lease = :lease",
                {"lease": lease, "now": timestamp(now)},
                "attribute_not_exists(#lease) OR #lease <= :now",
            )
        except ConditionFailedError:
            return None
        return lease

    def release(self, lease: str) -> None:
        """Let others sweep."""
        with contextlib.suppress(ConditionFailedError):
            self._table.delete_if(_LEASE, "#lease = :lease", {"lease": lease})

    def _create(self, sweep: Sweep) -> None:
        values = _row(sweep)
        self._table.update(
            _key(sweep.sweep_id),
            f"SET {_assignments(values)}",
            values,
            "attribute_not_exists(#work_id)",
        )

    def _page(
        self, partition: str, limit: int, before: str | None, *, backwards: bool
    ) -> list[Sweep]:
        condition = "#pending = :pending AND #due_at < :before"
        values = {"pending": partition, "before": before or "9999"}
        rows, _ = self._table.query("due", condition, values, limit, backwards=backwards)
        return [Sweep.of(row) for row in rows]


def _key(sweep_id: str) -> dict[str, str]:
    return {"work_id": f"sweep#{sweep_id}"}


def _row(sweep: Sweep) -> Item:
    """In the index of what is due, in a partition that nobody takes for checks."""
    return {
        **sweep.fields(),
        "pending": _OPEN if sweep.is_open else _ENDED,
        "due_at": _place(sweep),
        "expires_at": int((sweep.created_at + _KEPT_FOR).timestamp()),
    }


def _assignments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"#{name} = :{name}" for name in values if name != "seen")


def _outcome(progress: Mapping[str, Any]) -> dict[str, Any]:
    """Of the notes, what a report needs after the end."""
    return {name: progress[name] for name in ("reached",) if name in progress}


def _place(sweep: Sweep) -> str:
    """Its place in the order of all sweeps."""
    return timestamp(sweep.created_at) + sweep.sweep_id


def parse(body: str, now: datetime) -> tuple[datetime, datetime, bool]:
    """From, to and dry run, as `{"from": …, "to": …, "dry_run": …}` says; `to` is now by default.

    Raises `BadParameterError`.
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise BadParameterError("body", 'is not a JSON object such as {"from": "2026-06-03"}')
    for name in said.keys() - {"from", "to", "dry_run"}:
        raise BadParameterError(name[:50], "is not known here; there are: dry_run, from, to")
    if "from" not in said:
        raise BadParameterError("from", "is missing")
    dry_run = said.get("dry_run", False)
    if not isinstance(dry_run, bool):
        raise BadParameterError("dry_run", "is neither true nor false")
    since = parse_time(said, "from")
    until = parse_time(said, "to") if "to" in said else now
    if until > now:
        raise BadParameterError("to", "is in the future")
    if since >= until:
        raise BadParameterError("from", "is not before to")
    return since, until, dry_run


def cursor(place: str) -> str:
    """Opaque; it holds a place in the order of all sweeps and nothing else."""
    return base64.urlsafe_b64encode(place.encode()).decode()


def place(cursor: str) -> str:
    """The inverse of `cursor`. Raises `BadParameterError`."""
    with contextlib.suppress(binascii.Error, UnicodeError):
        found = base64.urlsafe_b64decode(cursor.encode()).decode()
        if _PLACE.fullmatch(found):
            return found
    raise BadParameterError("cursor", "is not one that a page of sweeps gave")
