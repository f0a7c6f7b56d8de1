"""Sweeps: windows of time in which RealtimeKit's list is compared with the catalogue.

A sweep is a row of the work table, from its request to a month after its creation: its progress,
its findings, and why it stopped. A worker saves each step under the version that it read, so a
worker that was thought dead cannot turn a sweep back, or revive a cancelled one.
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
from typing import Literal, Self, TypedDict
from uuid import NAMESPACE_OID, uuid4, uuid5

from recordings.dynamodb import ConditionFailedError, Item, Table
from recordings.model import timestamp
from recordings.parameters import BadParameterError, parse_time
from recordings.worklist import Now, utcnow

MAX_OPEN_SWEEPS = 20
"""Sweeps that may wait or be under way; a request for another is refused."""

_KEPT_FOR = timedelta(days=30)
# A tick comes each minute (template.yaml), so 30 have failed by then.
_STUCK_AFTER = timedelta(minutes=30)
# A stuck sweep fails after 12 hours: a daily one, 12 hourly ones, and two to spare.
_MAX_SCHEDULED = 15
# In the first thousandth of a window an estimate may be centuries off.
_MIN_ESTIMATED_FRACTION = 0.001
_OPEN, _ENDED = "sweep", "swept"
_LEASE = {"work_id": "sweeper"}
_PLACE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z[0-9a-f-]{36}")
_TIMES = (
    "since",
    "until",
    "created_at",
    "started_at",
    "ended_at",
    "not_before",
    "trying_since",
)


class State(StrEnum):
    """State of a sweep; a queued or running one is open."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Trigger(StrEnum):
    """Origin of a sweep: a schedule, or a request to the API."""

    HOURLY = "hourly"
    DAILY = "daily"
    REQUEST = "request"


OPEN = (State.QUEUED, State.RUNNING)


class SweepEndedError(Exception):
    """Raised when a sweep was cancelled, or saved by another worker; the step was not saved."""


class UnfinishedError(Exception):
    """Raised when a sweep of the same window is unfinished; `sweep_id` is that sweep's."""

    def __init__(self, sweep_id: str) -> None:
        super().__init__("there is an unfinished sweep of the same window")
        self.sweep_id = sweep_id


class TooManySweepsError(Exception):
    """Raised when `MAX_OPEN_SWEEPS` sweeps are unfinished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Numbers of recordings invoked in a sweep's window, by what the sweep found.

    - `seen`: in RealtimeKit's list; `unreadable` are the list's items that are no recordings
    - `missing`: without a row; `behind`: with a row that says less; `repaired`: row written
    - `lost_webhooks`: repaired, although a webhook should have announced them
    - `unwritable`: DynamoDB refuses the row; `erased`: erased by the owner
    - `catalogued`: rows of the window in the table
    - `archived`: all files are in the archive; `gone`: the bucket lacks a file of the row
    - `not_archived`: RealtimeKit still has a file that the archive lacks; `at_risk` are those of
      them that it deletes within two days
    - `expired`: a file was deleted before it was copied
    - `session_files_missing`: RealtimeKit may still have files of the session, which are overdue

    `pages` is the number of pages read.
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
    session_files_missing: int = 0

    def plus(self, other: Mapping[str, int]) -> Counts:
        """Return the counts with `other` added by name."""
        return replace(self, **{name: getattr(self, name) + more for name, more in other.items()})

    def fields(self) -> dict[str, int]:
        """Return the counts by name."""
        return {name: getattr(self, name) for name in self.__slots__}


Phase = Literal["searching", "halving", "paging", "counting"]
"""Part of a sweep's work; it is absent until the first page is read."""


class Progress(TypedDict, total=False):
    """How far the list is read, as a worker saves it for the next one; `paging` has the rules.

    `reached` is the time up to which the window is read, `last` the place in the list of its last
    recording. `page_ids` are the packed ids of the page before, and `repairing` those of the
    recordings that this page repairs, by kind. `nonsense` counts unintelligible answers in a row.
    """

    phase: Phase
    low: int
    high: int
    page: int
    first_page: int
    passes: int
    last: int
    reached: str
    page_ids: bytes
    repairing: Mapping[str, bytes]
    nonsense: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A sweep of the recordings invoked from `since` to before `until`.

    `examples` are some recordings' ids by kind of finding. `complete` is True if as many recordings
    were seen as the list counts, and `None` if the list does not count. `cause` is one word for why
    the sweep waits, `reason` a sentence for why it failed. `trying_since` is when the first try
    began since the last saved step.
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
    progress: Progress = field(default_factory=Progress)
    counts: Counts = Counts()
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    version: int = 0

    @classmethod
    def of(cls, row: Item) -> Self:
        """Return the sweep of a stored row."""
        fields = {name: value for name, value in row.items() if name in cls.__slots__}
        times = {name: datetime.fromisoformat(fields[name]) for name in _TIMES if fields.get(name)}
        enums = {"trigger": Trigger(row["trigger"]), "state": State(row["state"])}
        return cls(**{**fields, **times, **enums, "counts": Counts(**row["counts"])})

    def fields(self) -> Item:
        """Return the attributes to store, without those that are `None`."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields |= {name: fields[name] and timestamp(fields[name]) for name in _TIMES}
        fields["counts"] = self.counts.fields()
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def is_open(self) -> bool:
        """True while there is work left to do."""
        return self.state in OPEN

    def is_stuck(self, now: datetime) -> bool:
        """Return True if tries have failed for 30 minutes, and RealtimeKit is not the cause."""
        return self.trying_since is not None and now - self.trying_since > _STUCK_AFTER

    def report(self, now: datetime) -> Item:
        """Return the API's report: the fields without the progress, with pace and estimated end."""
        shown = self.fields()
        for name in ("progress", "version", "since", "until"):
            del shown[name]
        window = {"from": timestamp(self.since), "to": timestamp(self.until)}
        return {**shown, **window, **self._pace(now)}

    def _pace(self, now: datetime) -> Item:
        """Estimate the pace from the part of the window that is read, at an even rate."""
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
        if self.is_open and elapsed and fraction >= _MIN_ESTIMATED_FRACTION:
            pace["estimated_end_at"] = timestamp(now + elapsed * (1 - fraction) / fraction)
        return pace


class Sweeps:
    """The sweeps of one app in the work table."""

    def __init__(self, table: Table, app_id: str, now: Now = utcnow) -> None:
        self._table = table
        self._app_id = app_id
        self._now = now

    def request(self, since: datetime, until: datetime, *, dry_run: bool) -> Sweep:
        """Create a sweep. Raises `UnfinishedError` and `TooManySweepsError`.

        Two requests at the same instant may both succeed; the second sweep then has no work.
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
        """Create a schedule's sweep of the last hours or days; return `None` if it was not created.

        An unfinished sweep of the same schedule prevents another, unless it is stuck. Events may
        come twice, so a schedule has at most one sweep an hour.
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
        """Return the sweep, or `None`."""
        row = self._table.get(_key(sweep_id))
        return Sweep.of(row) if row else None

    def unfinished(self) -> list[Sweep]:
        """Return the open sweeps: the short ones of schedules first, then the oldest requests."""
        sweeps = self._page(_OPEN, MAX_OPEN_SWEEPS + _MAX_SCHEDULED, None, backwards=False)
        return sorted(
            sweeps, key=lambda sweep: (sweep.trigger is Trigger.REQUEST, sweep.created_at)
        )

    def newest(self, limit: int, before: str | None = None) -> tuple[list[Sweep], str | None]:
        """Return up to `limit` sweeps, newest first, and where the next page begins, if any."""
        sweeps = [
            sweep
            for partition in (_OPEN, _ENDED)
            for sweep in self._page(partition, limit + 1, before, backwards=True)
        ]
        sweeps.sort(key=_place, reverse=True)
        return sweeps[:limit], _place(sweeps[limit - 1]) if len(sweeps) > limit else None

    def cancel(self, sweep_id: str) -> Sweep | None:
        """Cancel a sweep and return it, `None` if it is unknown; its repairs stay.

        A sweep that has ended stays as it ended.
        """
        while (sweep := self.get(sweep_id)) and sweep.is_open:
            with contextlib.suppress(SweepEndedError):
                return self.save(replace(sweep, state=State.CANCELLED, cause=None))
        return sweep

    def save(self, sweep: Sweep) -> Sweep:
        """Save a step of the work. Raises `SweepEndedError` if the sweep was saved by another."""
        now = self._now()
        if not sweep.is_open:
            sweep = replace(sweep, ended_at=now, progress=_outcome(sweep.progress))
        saved = replace(sweep, version=sweep.version + 1)
        row = _row(saved)
        absent = [name for name in saved.__slots__ if name not in row]
        key, seen = _key(sweep.sweep_id), {"seen_version": sweep.version}
        try:
            self._table.set_attributes(key, row, "#version = :seen_version", seen, remove=absent)
        except ConditionFailedError:
            raise SweepEndedError(sweep.sweep_id) from None
        return saved

    def claim(self, seconds: float) -> str | None:
        """Take the sweep lease. Return the token for `release`, `None` if another worker has it."""
        now = self._now()
        lease = timestamp(now + timedelta(seconds=seconds))
        try:
            self._table.set_attributes(
                _LEASE,
                {"lease": lease},
                "attribute_not_exists(#lease) OR #lease <= :now",
                {"now": timestamp(now)},
            )
        except ConditionFailedError:
            return None
        return lease

    def release(self, lease: str) -> None:
        """Release the sweep lease, unless it has run out and another worker has it."""
        with contextlib.suppress(ConditionFailedError):
            self._table.delete_if(_LEASE, "#lease = :lease", {"lease": lease})

    def _create(self, sweep: Sweep) -> None:
        condition = "attribute_not_exists(#work_id)"
        self._table.set_attributes(_key(sweep.sweep_id), _row(sweep), condition)

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
    """Return the sweep's row: in the checks' index, in a partition that is not the checks'."""
    return {
        **sweep.fields(),
        "pending": _OPEN if sweep.is_open else _ENDED,
        "due_at": _place(sweep),
        "expires_at": int((sweep.created_at + _KEPT_FOR).timestamp()),
    }


def _outcome(progress: Progress) -> Progress:
    """Return the part of the progress that a report needs after the end."""
    return {"reached": progress["reached"]} if "reached" in progress else {}


def _place(sweep: Sweep) -> str:
    """Return the sweep's place in the order of all sweeps."""
    return timestamp(sweep.created_at) + sweep.sweep_id


def parse(body: str, now: datetime) -> tuple[datetime, datetime, bool]:
    """Parse `{"from": …, "to": …, "dry_run": …}` into its three values; `to` is now by default.

    Raises `BadParameterError`.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise BadParameterError("body", 'is not a JSON object such as {"from": "2026-06-03"}')
    for name in fields.keys() - {"from", "to", "dry_run"}:
        raise BadParameterError(
            name[:50], "is not a field of the body; the fields are: dry_run, from, to"
        )
    if "from" not in fields:
        raise BadParameterError("from", "is missing")
    dry_run = fields.get("dry_run", False)
    if not isinstance(dry_run, bool):
        raise BadParameterError("dry_run", "is neither true nor false")
    since = parse_time(fields, "from")
    until = parse_time(fields, "to") if "to" in fields else now
    if until > now:
        raise BadParameterError("to", "is in the future")
    if "to" not in fields and since >= now:
        raise BadParameterError("from", "is in the future: a sweep without to ends now")
    if since >= until:
        raise BadParameterError("from", "is not before to")
    return since, until, dry_run


def cursor(place: str) -> str:
    """Return an opaque cursor that holds a place in the order of all sweeps."""
    return base64.urlsafe_b64encode(place.encode()).decode()


def place(cursor: str) -> str:
    """Return the place in a cursor. Raises `BadParameterError`."""
    with contextlib.suppress(binascii.Error, UnicodeError):
        decoded = base64.urlsafe_b64decode(cursor.encode()).decode()
        if _PLACE.fullmatch(decoded):
            return decoded
    raise BadParameterError(
        "cursor", "is not a cursor of the list of sweeps: begin again without it"
    )
