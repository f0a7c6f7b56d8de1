"""Checks and claims in the work table: everything to be looked at again, with its due time.

Waiting lives here, never in a message. A *check* repeats a request: for a recording, for an ended
session's recordings, for a recording's files, or for an erasure. Each has at most one check. A
worker *claims* a check for long work, so that no other worker does the same.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NotRequired, Protocol, TypedDict

from recordings.dynamodb import ConditionFailedError, Item, Table
from recordings.model import timestamp

FIRST_INTERVAL_SECONDS = 60
MAX_INTERVAL_SECONDS = 3600
NOT_FOUND = "not_found"
CLAIMED = "claimed"
AGAIN = "asked_again"

# RealtimeKit deletes files after 7 days; a check that is a day older will never be settled.
PATIENCE = timedelta(days=8)
# RealtimeKit may not know an id because it is new, or because it belongs to another app.
PATIENCE_WITH_UNKNOWN = timedelta(hours=1)
_KEPT_FOR = timedelta(days=30)
# A check whose due time differs by at most a tenth of the wait is not moved: a write of the check
# costs three units, and a read a fifth of one.
_NEARLY = 0.1

URGENT = timedelta(hours=48)


class _Lane(StrEnum):
    """The partitions of the index `due`; all checks of a lane go to one queue.

    URGENT and PATIENT are files with a near and a far deadline, NORMAL checks have no deadline.
    """

    URGENT = "urgent"
    NORMAL = "yes"
    ERASURE = "erasure"
    PATIENT = "patient"
    LOW = "low"


_ERASE_TASK = "erase"

# Each lane is sure of a tenth of the places, so that every lane makes progress.
_SURE = 10
# A row has some 500 bytes, and a query reads at most 1 MB (DynamoDB guide, Query).
_MAX_PATIENT_READ = 1000

Now = Callable[[], datetime]


def utcnow() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class Request(Protocol):
    """A request that a check repeats: its key, and the fields of its message."""

    @property
    def key(self) -> str:
        """The key that all requests for the same thing share."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """The fields of the message that repeats the request."""


class _NewCheck(TypedDict):
    """The attributes of a check that begins."""

    pending: _Lane
    due_at: str
    since: str
    interval: int
    attempts: int
    cause: str
    request: Mapping[str, Any]
    expires_at: int
    deadline: NotRequired[str]


class ClaimLostError(Exception):
    """Raised when a claim ran out and another worker took it; nothing was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A request to be repeated; `request` holds the fields of the message that repeats it.

    `lease` is the time at which its claim ends, if it is claimed, and `progress` the notes of
    earlier attempts. `deadline` is when RealtimeKit deletes the first file to be archived.
    """

    key: str
    request: Mapping[str, Any]
    cause: str
    due_at: str
    since: datetime
    not_found_since: datetime | None
    interval: int
    attempts: int
    deadline: str | None = None
    lease: str | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    low_priority: bool = False

    def is_urgent(self, now: datetime) -> bool:
        """Return True if the deadline is near, or over."""
        return is_urgent(self.deadline, now)

    def is_pressing(self, now: datetime) -> bool:
        """Return True if a delay matters: low-priority checks and far deadlines can wait."""
        return not self.low_priority and (self.deadline is None or self.is_urgent(now))

    def is_hopeless(self, now: datetime) -> bool:
        """Return True if the check was repeated for so long that it should be given up."""
        # A check that runs hourly must see a second 404 before it is given up.
        patience = max(PATIENCE_WITH_UNKNOWN, timedelta(seconds=1.5 * self.interval))
        if self.not_found_since and now - self.not_found_since > patience:
            return True
        # A backfill leaves thousands of low-priority checks: each gets at least one attempt.
        has_waited = self.low_priority and not self.attempts
        return now - self.since > PATIENCE and not has_waited

    def seconds_due(self, now: datetime) -> float:
        """Return for how many seconds the check has been due; 0 if its time is unreadable."""
        due_at = _time(self.due_at)
        return (now - due_at).total_seconds() if due_at else 0.0


def is_urgent(deadline: str | None, now: datetime) -> bool:
    """Return True if there is a deadline and it is less than 48 hours away."""
    return deadline is not None and deadline < timestamp(now + URGENT)


class Worklist:
    """Pending checks, by the key of the request that each repeats."""

    def __init__(self, table: Table, now: Now = utcnow) -> None:
        self._table = table
        self._now = now

    def check_in(
        self,
        request: Request,
        cause: str,
        *,
        seconds: int = FIRST_INTERVAL_SECONDS,
        deadline: str | None = None,
        low_priority: bool = False,
    ) -> None:
        """Leave a check, due in so many seconds and then at growing intervals.

        A check that exists starts anew, because there is news of its subject; its hint stays if
        `request` has none. A check that has just begun, with the same content and about the same
        due time, is left as it is. Low-priority checks are queued only after all others.
        """
        now = self._now()
        hint = request.fields.get("hint")
        values = _new_check(now, seconds, request, cause, deadline, low_priority=low_priority)
        # Low-priority checks are left by the thousand, most of them for new recordings.
        if not low_priority and self._has_like(request.key, values, hint or {}):
            return
        is_unknown = cause == NOT_FOUND
        self._table.update(
            {"work_id": _check_id(request.key)},
            f"SET {_assignments(values)},"
            f" #hint = {':hint' if hint else 'if_not_exists(#hint, :hint)'}"
            f"{', #not_found_since = :since' if is_unknown else ''}"
            f" REMOVE #given_up_at{'' if is_unknown else ', #not_found_since'}",
            {**values, "hint": hint or {}},
        )

    def _has_like(self, key: str, values: _NewCheck, hint: Mapping[str, Any]) -> bool:
        """Return True if a check exists that has just begun, with this content and due time."""
        row = self._table.get({"work_id": _check_id(key)}) or {}
        hints = {**_mapping(row.get("hint")), **hint}
        # Equal rows mean that the check has no lease, was not given up, and was not repeated yet.
        if _timeless(row) != _timeless({**values, "work_id": _check_id(key), "hint": hints}):
            return False
        due_at, wanted_at = _time(row.get("due_at")), _time(values["due_at"])
        if due_at is None or wanted_at is None:
            return False
        return abs((due_at - wanted_at).total_seconds()) <= _NEARLY * values["interval"]

    def ensure(
        self,
        request: Request,
        cause: str,
        *,
        seconds: int = FIRST_INTERVAL_SECONDS,
        deadline: str | None = None,
        low_priority: bool = False,
    ) -> bool:
        """Create a check unless one waits. Return True if it was created.

        A check that was given up is replaced by a new one. `low_priority` is as for `check_in`.
        """
        check = _new_check(
            self._now(), seconds, request, cause, deadline, low_priority=low_priority
        )
        values = {**check, "hint": {}}
        try:
            self._table.update(
                {"work_id": _check_id(request.key)},
                f"SET {_assignments(values)} REMOVE #given_up_at, #not_found_since",
                values,
                "attribute_not_exists(#work_id) OR attribute_exists(#given_up_at)",
            )
        except ConditionFailedError:
            return False
        return True

    def waits(self, key: str) -> bool:
        """Return True if a check exists that was not given up.

        Where most checks wait already, this saves `ensure` its failed condition, which costs five
        times as much as a read.
        """
        row = self._table.get({"work_id": _check_id(key)})
        return row is not None and "given_up_at" not in row

    def note_cause(self, key: str, cause: str, not_before: int | None = None) -> bool:
        """Record why a repeated check could not be settled. Return False if it no longer exists.

        `not_before`, in seconds, moves the due time, if RealtimeKit or the budget named a wait. The
        time since which an id is unknown is that of the first 404 in a row.
        """
        now = self._now()
        values: dict[str, Any] = {"cause": cause}
        expression = "SET #cause = :cause"
        if not_before is not None:
            expression += ", #due_at = :due_at"
            values["due_at"] = timestamp(now + timedelta(seconds=not_before))
        if cause == NOT_FOUND:
            expression += ", #not_found_since = if_not_exists(#not_found_since, :now)"
            values["now"] = timestamp(now)
        else:
            expression += " REMOVE #not_found_since"
        work_id = {"work_id": _check_id(key)}
        try:
            self._table.update(work_id, expression, values, "attribute_exists(#work_id)")
        except ConditionFailedError:
            return False
        return True

    def settle(self, key: str) -> None:
        """Delete a check, whether it exists or not: its subject needs no further look."""
        self._table.delete({"work_id": _check_id(key)})

    def claim(self, request: Request, deadline: str | None, seconds: int) -> Check | None:
        """Claim a check for so many seconds. Return None if another worker holds it.

        A check that is neither finished nor released is due again when the claim ends. A refused
        claim marks the check: its holder may have missed news, so its end makes the check due.
        """
        while True:
            now = timestamp(self._now())
            with contextlib.suppress(ConditionFailedError):
                return self._claim(request, deadline, seconds)
            with contextlib.suppress(ConditionFailedError):
                self._table.update(
                    {"work_id": _check_id(request.key)},
                    "SET #again = :again",
                    {"again": True, "now": now},
                    "#lease > :now",
                )
                return None
            # The check was given up, or has just been settled: begin a new one.
            self.ensure(request, CLAIMED, seconds=0, deadline=deadline)

    def _claim(self, request: Request, deadline: str | None, seconds: int) -> Check:
        now = self._now()
        lease = timestamp(now + timedelta(seconds=seconds))
        values = {
            "pending": _lane(request.fields, deadline, now),
            "due_at": lease,
            "lease": lease,
            "request": request.fields,
            "cause": CLAIMED,
            "expires_at": _expiry(now + _KEPT_FOR),
            **({"deadline": deadline} if deadline else {}),
        }
        first = {
            "since": timestamp(now),
            "hint": {},
            "interval": FIRST_INTERVAL_SECONDS,
            "attempts": 0,
        }
        kept = ", ".join(f"#{name} = if_not_exists(#{name}, :{name})" for name in first)
        row = self._table.update(
            {"work_id": _check_id(request.key)},
            f"SET {_assignments(values)}, {kept} REMOVE #again{'' if deadline else ', #deadline'}",
            # A lease that is no text was not written here, and would never end.
            {**values, **first, "now": timestamp(now), "text": "S"},
            "attribute_not_exists(#given_up_at) AND (attribute_not_exists(#lease)"
            " OR NOT attribute_type(#lease, :text) OR #lease <= :now)",
        )
        return _check(row, now)

    def save_progress(self, check: Check, progress: Mapping[str, Any]) -> None:
        """Save notes for the next claim of the check. Raises `ClaimLostError`."""
        self._change_claimed(check, "SET #progress = :progress", {"progress": progress})

    def release(
        self, check: Check, cause: str, progress: Mapping[str, Any], seconds: int | None = None
    ) -> None:
        """End a claim whose work is unfinished. Raises `ClaimLostError`.

        The check is due in so many seconds; by default the wait grows with the attempts.
        """
        if seconds is None:
            seconds = min(FIRST_INTERVAL_SECONDS << min(check.attempts, 10), MAX_INTERVAL_SECONDS)
        values = {"cause": cause, "progress": progress}
        self._let_go(check, values, seconds, "attribute_not_exists(#again)")

    def finish(self, check: Check) -> None:
        """End a claim and delete its check, unless a claim was refused. Raises `ClaimLostError`."""
        condition = "#lease = :lease AND attribute_not_exists(#again)"
        try:
            self._table.delete_if(
                {"work_id": _check_id(check.key)}, condition, {"lease": check.lease}
            )
        except ConditionFailedError:
            self._let_go(check, {"cause": AGAIN, "progress": {}}, 0)

    def _let_go(
        self, check: Check, values: Mapping[str, Any], seconds: int, condition: str = ""
    ) -> None:
        due_at = timestamp(self._now() + timedelta(seconds=seconds))
        expression = (
            "SET #cause = :cause, #progress = :progress, #due_at = :due_at REMOVE #lease, #again"
        )
        try:
            self._change_claimed(check, expression, {**values, "due_at": due_at}, condition)
        except ClaimLostError:
            if not condition:
                raise
            self._let_go(check, values, 0)

    def _change_claimed(
        self, check: Check, expression: str, values: Mapping[str, Any], condition: str = ""
    ) -> None:
        conditions = " AND ".join(filter(None, ["#lease = :lease", condition]))
        try:
            self._table.update(
                {"work_id": _check_id(check.key)},
                expression,
                {**values, "lease": check.lease},
                conditions,
            )
        except ConditionFailedError:
            raise ClaimLostError(check.key) from None

    def due(self, limit: int) -> list[Check]:
        """Return up to `limit` due checks, lane by lane, the longest waiting of a lane first.

        The lanes are, in order: urgent files, whichever lane they were put into; checks without a
        deadline; erasures; patient files; low-priority checks. Each lane is sure of a tenth of the
        places, and the rest goes to the lanes in order. A backfill fills the last two lanes by the
        thousand, so they get at most half of the places together, and patient files a third.
        """
        now, half, sure = self._now(), max(1, limit // 2), max(1, limit // _SURE)
        normal, erasures = self._due_in(_Lane.NORMAL, limit), self._due_in(_Lane.ERASURE, limit)
        files = self._due_in(_Lane.PATIENT, _MAX_PATIENT_READ)
        near = [check for check in files if check.is_urgent(now)]
        patient = [check for check in files if not check.is_urgent(now)][: max(1, limit // 3)]
        low = self._due_in(_Lane.LOW, max(half - len(patient), sure))
        lanes = [[*self._due_in(_Lane.URGENT, limit), *near], normal, erasures, patient, low]
        return _shared_out(lanes, limit, sure)

    def _due_in(self, lane: _Lane, limit: int) -> list[Check]:
        now = self._now()
        values = {"pending": lane, "now": timestamp(now)}
        rows, _ = self._table.query("due", "#pending = :pending AND #due_at <= :now", values, limit)
        return [_check(row, now) for row in rows]

    def oldest_due(self) -> str | None:
        """Return the due time of the check that waits longest; None if no check is due.

        Low-priority checks and patient files do not count, because they can wait.
        """
        oldest = [
            check.due_at
            for lane in (_Lane.URGENT, _Lane.NORMAL, _Lane.ERASURE)
            for check in self._due_in(lane, 1)
            if _time(check.due_at)
        ]
        return min(oldest, default=None)

    def advance(self, check: Check) -> None:
        """Make a check, after it was repeated, due again in twice its last interval."""
        interval = min(2 * check.interval, MAX_INTERVAL_SECONDS)
        self._change(
            check,
            "SET #pending = :pending, #due_at = :due_at, #interval = :interval,"
            " #attempts = :attempts",
            {
                "pending": _lane_of(check, self._now()),
                "due_at": timestamp(self._now() + timedelta(seconds=interval)),
                "interval": interval,
                "attempts": check.attempts + 1,
            },
        )

    def give_up(self, check: Check) -> None:
        """Stop repeating a check. Its row stays for 30 days for inspection, without the title."""
        hint = check.request.get("hint", {})
        self._change(
            check,
            "SET #given_up_at = :given_up_at, #expires_at = :expires_at, #hint = :hint"
            " REMOVE #pending",
            {
                "given_up_at": timestamp(self._now()),
                "expires_at": _expiry(self._now() + _KEPT_FOR),
                "hint": {name: value for name, value in hint.items() if name != "title"},
            },
        )

    def _change(self, check: Check, expression: str, values: Mapping[str, Any]) -> None:
        """Write unless the check changed: another tick or worker may have settled or moved it."""
        key, seen = {"work_id": _check_id(check.key)}, {"seen_due_at": check.due_at}
        with contextlib.suppress(ConditionFailedError):
            self._table.update(key, expression, {**values, **seen}, "#due_at = :seen_due_at")


def _lane(fields: Mapping[str, Any], deadline: str | None, now: datetime) -> _Lane:
    if fields.get("task") == _ERASE_TASK:
        return _Lane.ERASURE
    if deadline is None:
        return _Lane.NORMAL
    return _Lane.URGENT if is_urgent(deadline, now) else _Lane.PATIENT


def _lane_of(check: Check, now: datetime) -> _Lane:
    return _Lane.LOW if check.low_priority else _lane(check.request, check.deadline, now)


def _shared_out(lanes: list[list[Check]], limit: int, sure: int) -> list[Check]:
    """Return the first checks of each lane: `sure` of each, then more in the lanes' order."""
    room = max(0, limit - sum(min(len(lane), sure) for lane in lanes))
    found: list[Check] = []
    for lane in lanes:
        more = min(room, max(0, len(lane) - sure))
        room -= more
        found += lane[: sure + more]
    return found[:limit]


def _new_check(
    now: datetime,
    seconds: int,
    request: Request,
    cause: str,
    deadline: str | None,
    *,
    low_priority: bool,
) -> _NewCheck:
    check: _NewCheck = {
        "pending": _Lane.LOW if low_priority else _lane(request.fields, deadline, now),
        "due_at": timestamp(now + timedelta(seconds=seconds)),
        "since": timestamp(now),
        # A check that is due at once has intervals, too.
        "interval": seconds or FIRST_INTERVAL_SECONDS,
        "attempts": 0,
        "cause": cause,
        "request": {name: value for name, value in request.fields.items() if name != "hint"},
        "expires_at": _expiry(now + _KEPT_FOR),
    }
    if deadline:
        check["deadline"] = deadline
    return check


def _timeless(row: Mapping[str, Any]) -> dict[str, Any]:
    times = ("since", "due_at", "expires_at")
    return {name: value for name, value in row.items() if name not in times}


def _assignments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"#{name} = :{name}" for name in values)


def _check_id(key: str) -> str:
    return f"check#{key}"


def _time(value: object) -> datetime | None:
    """Return an attribute as a time with its zone; None if it is something else."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time if time and time.tzinfo else None


def _whole(value: object, low: int, high: int) -> int:
    """Return an attribute as an integer within bounds; the lower one if it is no integer."""
    return min(max(value, low), high) if isinstance(value, int) else low


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _expiry(time: datetime) -> int:
    return int(time.timestamp())


def _check(row: Item, now: datetime) -> Check:
    """Return the check of a row, whatever its attributes are: one bad row must not stop others.

    An unreadable attribute counts as a new check's, so that it never leads to giving up.
    """
    hint = _mapping(row.get("hint"))
    deadline, lease = row.get("deadline"), row.get("lease")
    return Check(
        key=row["work_id"].removeprefix("check#"),
        request={**_mapping(row.get("request")), **({"hint": hint} if hint else {})},
        cause=str(row.get("cause")),
        due_at=row["due_at"],
        since=_time(row.get("since")) or now,
        not_found_since=_time(row.get("not_found_since")),
        interval=_whole(row.get("interval"), 1, MAX_INTERVAL_SECONDS),
        attempts=_whole(row.get("attempts"), 0, sys.maxsize),
        deadline=deadline if isinstance(deadline, str) else None,
        lease=lease if isinstance(lease, str) else None,
        progress=_mapping(row.get("progress")),
        low_priority=row.get("pending") == _Lane.LOW,
    )
