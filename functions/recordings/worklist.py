"""The service's own memory: what must be looked at again, and how often RealtimeKit may be asked.

Waiting lives here, never in a message. A *check* is one recording, one ended session, or one
recording's files to be archived, that must be seen to again, with the time at which it is due;
there is at most one for each. What takes long is *claimed*, so that nobody else does it as well.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from recordings.dynamodb import ConditionFailedError, Item, Table
from recordings.model import timestamp

FIRST_INTERVAL_SECONDS = 60
MAX_INTERVAL_SECONDS = 3600
NOT_FOUND = "not_found"
CLAIMED = "claimed"
AGAIN = "asked_again"

# RealtimeKit deletes the file after seven days; what is not settled a day later never will be.
PATIENCE = timedelta(days=8)
# An id that RealtimeKit does not know may be new to it, or be another app's.
PATIENCE_WITH_UNKNOWN = timedelta(hours=1)
_KEPT_FOR = timedelta(days=30)

# What has a deadline is urgent so long before it.
URGENT = timedelta(hours=48)

# The lanes of the index `due`: files whose deadline is near; checks without a deadline; erasures;
# files that have time; details that were left for later. All checks of a lane go to one queue.
_URGENT = "urgent"
_PENDING = "yes"
_ERASURE = "erasure"
_PATIENT = "patient"
_LOW = "low"
_ERASE_TASK = "erase"

# A lane is sure of a tenth of the places, so none waits for ever behind another.
_SURE = 10
# A row has some 500 bytes, and a query reads 1 MB at most.
_MAX_PATIENT_READ = 1000

Now = Callable[[], datetime]


def utcnow() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


class ClaimLostError(Exception):
    """Raised when a claim ran out and somebody else has taken it; what was to be noted was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something to be asked for again; `request` are the fields of the message that does it.

    `deadline` is when it is too late. `lease` is the claim's, where it is claimed, and `progress`
    is what was saved of earlier attempts. What is `low` comes after all that is not.
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
    low: bool = False

    def is_urgent(self, now: datetime) -> bool:
        """Whether its deadline is near, or over."""
        return is_urgent(self.deadline, now)

    def is_pressing(self, now: datetime) -> bool:
        """Whether it is to be asked for in time: what is low, or has days, need not be."""
        return not self.low and (self.deadline is None or self.is_urgent(now))

    def is_hopeless(self, now: datetime) -> bool:
        """Whether it was tried for so long that trying on is no use."""
        # A check that runs hourly must see a second 404 before it is given up.
        patience = max(PATIENCE_WITH_UNKNOWN, timedelta(seconds=1.5 * self.interval))
        if self.not_found_since and now - self.not_found_since > patience:
            return True
        # After months of recordings were found at once, its turn may be late.
        has_waited = self.low and not self.attempts
        return now - self.since > PATIENCE and not has_waited

    def seconds_due(self, now: datetime) -> float:
        """Return for how long it has been due; 0 if its time cannot be read."""
        due_at = _time(self.due_at)
        return (now - due_at).total_seconds() if due_at else 0.0


def is_urgent(deadline: str | None, now: datetime) -> bool:
    """Whether a deadline, if there is one, is less than two days away."""
    return deadline is not None and deadline < timestamp(now + URGENT)


class Worklist:
    """Pending checks, by the key of what they ask for."""

    def __init__(self, table: Table, now: Now = utcnow) -> None:
        self._table = table
        self._now = now

    def check_in(
        self,
        seconds: int,
        key: str,
        request: Mapping[str, Any],
        cause: str,
        deadline: str | None = None,
        *,
        low: bool = False,
    ) -> None:
        """Let it be asked for in so many seconds, and from then on at growing intervals.

        There is news of it, so a check that is already there starts anew; only a hint that it holds
        and `request` lacks is kept. What is `low` is asked for when there is nothing else to do.
        """
        now = self._now()
        hint = request.get("hint")
        values = _new_check(now, seconds, request, cause, deadline, low=low)
        is_unknown = cause == NOT_FOUND
        self._table.update(
            {"work_id": _check_id(key)},
            f"SET {_assignments(values)},"
            f" #hint = {':hint' if hint else 'if_not_exists(#hint, :hint)'}"
            f"{', #not_found_since = :since' if is_unknown else ''}"
            f" REMOVE #given_up_at{'' if is_unknown else ', #not_found_since'}",
            {**values, "hint": hint or {}},
        )

    def ensure(
        self,
        seconds: int,
        key: str,
        request: Mapping[str, Any],
        cause: str,
        deadline: str | None = None,
    ) -> bool:
        """Create a check as `check_in` does, unless one waits. Return True if it was created.

        A check that was given up does not wait: a new one begins in its place.
        """
        values = {**_new_check(self._now(), seconds, request, cause, deadline), "hint": {}}
        try:
            self._table.update(
                {"work_id": _check_id(key)},
                f"SET {_assignments(values)} REMOVE #given_up_at, #not_found_since",
                values,
                "attribute_not_exists(#work_id) OR attribute_exists(#given_up_at)",
            )
        except ConditionFailedError:
            return False
        return True

    def note_cause(self, key: str, cause: str, not_before: int | None = None) -> bool:
        """Say why a check that `follow_up` put back on the queue could not be settled.

        Return False, with nothing written, if there is no such check any more. `not_before` is in
        seconds, where RealtimeKit or the budget gave a time; else the check stays due when
        `follow_up` said. A check that was given up stays so. How long an id has been unknown is
        counted from the first time in a row.
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
        """It need not be asked for again."""
        self._table.delete({"work_id": _check_id(key)})

    def claim(
        self, key: str, request: Mapping[str, Any], deadline: str | None, seconds: int
    ) -> Check | None:
        """Have it alone for so many seconds; after that, unless it is finished, it is due again.

        `None` where somebody else has it. Who asked had a reason to: the other will find it due at
        once when it is done, for there may be something that it has not seen.
        """
        while True:
            now = timestamp(self._now())
            with contextlib.suppress(ConditionFailedError):
                return self._claim(key, request, deadline, seconds)
            with contextlib.suppress(ConditionFailedError):
                self._table.update(
                    {"work_id": _check_id(key)},
                    "SET #again = :again",
                    {"again": True, "now": now},
                    "#lease > :now",
                )
                return None
            # It was given up, and begins anew, or it was settled just now.
            self.ensure(0, key, request, CLAIMED, deadline)

    def _claim(
        self, key: str, request: Mapping[str, Any], deadline: str | None, seconds: int
    ) -> Check:
        now = self._now()
        lease = timestamp(now + timedelta(seconds=seconds))
        values = {
            "pending": _lane(request, deadline, now),
            "due_at": lease,
            "lease": lease,
            "request": request,
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
            {"work_id": _check_id(key)},
            f"SET {_assignments(values)}, {kept} REMOVE #again{'' if deadline else ', #deadline'}",
            {**values, **first, "now": timestamp(now)},
            "attribute_not_exists(#given_up_at) AND attribute_not_exists(#lease)"
            " OR attribute_not_exists(#given_up_at) AND #lease <= :now",
        )
        return _check(row, now)

    def save_progress(self, check: Check, progress: Mapping[str, Any]) -> None:
        """Keep it for whoever claims the check next. Raises `ClaimLostError`."""
        self._change_claimed(check, "SET #progress = :progress", {"progress": progress})

    def release(
        self, check: Check, cause: str, progress: Mapping[str, Any], seconds: int | None = None
    ) -> None:
        """Not finished: due in so many seconds, or the longer the more often it was tried.

        Raises `ClaimLostError`.
        """
        if seconds is None:
            seconds = min(FIRST_INTERVAL_SECONDS << min(check.attempts, 10), MAX_INTERVAL_SECONDS)
        values = {"cause": cause, "progress": progress}
        self._let_go(check, values, seconds, "attribute_not_exists(#again)")

    def finish(self, check: Check) -> None:
        """Done. Raises `ClaimLostError`."""
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
        """Return up to `limit` checks whose time has come, lane by lane.

        The lanes, in this order, are: files whose deadline is near, wherever they were filed;
        checks without a deadline; erasures; files that have time; checks of low priority. In a lane
        the longest waiting come first. Each lane is sure of a tenth of the places; the others are
        given out in the order of the lanes. The last two lanes, which a backfill fills by the
        thousand, get half of the places, files a third: the rest of RealtimeKit's budget is for
        what comes in, and a file that comes back finds room in the half that is for the archive.
        """
        now, half, sure = self._now(), max(1, limit // 2), max(1, limit // _SURE)
        normal, erasures = self._due_in(_PENDING, limit), self._due_in(_ERASURE, limit)
        files = self._due_in(_PATIENT, _MAX_PATIENT_READ)
        near = [check for check in files if check.is_urgent(now)]
        patient = [check for check in files if not check.is_urgent(now)][: max(1, limit // 3)]
        low = self._due_in(_LOW, max(half - len(patient), sure))
        lanes = [[*self._due_in(_URGENT, limit), *near], normal, erasures, patient, low]
        return _shared_out(lanes, limit, sure)

    def _due_in(self, lane: str, limit: int) -> list[Check]:
        now = self._now()
        values = {"pending": lane, "now": timestamp(now)}
        rows, _ = self._table.query("due", "#pending = :pending AND #due_at <= :now", values, limit)
        return [_check(row, now) for row in rows]

    def oldest_due(self) -> str | None:
        """Return since when the check is due that waits longest; `None` if none is due.

        Checks of low priority, and files that have time, are not counted: they may wait.
        """
        oldest = [
            check.due_at
            for lane in (_URGENT, _PENDING, _ERASURE)
            for check in self._due_in(lane, 1)
            if _time(check.due_at)
        ]
        return min(oldest, default=None)

    def advance(self, check: Check) -> None:
        """It was asked for: due again after twice the time, unless it is settled by then."""
        interval = min(2 * check.interval, MAX_INTERVAL_SECONDS)
        self._change(
            check,
            "SET #pending = :pending, #due_at = :due_at, #interval = :interval,"
            " #attempts = :attempts",
            {
                "pending": _lane(check.request, check.deadline, self._now(), low=check.low),
                "due_at": timestamp(self._now() + timedelta(seconds=interval)),
                "interval": interval,
                "attempts": check.attempts + 1,
            },
        )

    def give_up(self, check: Check) -> None:
        """Take it off the list. The row stays for a month to be looked at, without the title."""
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
        """Unless somebody else did: settled it, started it anew, or is the other of two ticks."""
        key, seen = {"work_id": _check_id(check.key)}, {"seen_due_at": check.due_at}
        with contextlib.suppress(ConditionFailedError):
            self._table.update(key, expression, {**values, **seen}, "#due_at = :seen_due_at")


def _lane(
    request: Mapping[str, Any], deadline: str | None, now: datetime, *, low: bool = False
) -> str:
    if low:
        return _LOW
    if request.get("task") == _ERASE_TASK:
        return _ERASURE
    if deadline is None:
        return _PENDING
    return _URGENT if is_urgent(deadline, now) else _PATIENT


def _shared_out(lanes: list[list[Check]], limit: int, sure: int) -> list[Check]:
    """Return the first of each lane: `sure` of each, then more in the order of the lanes."""
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
    request: Mapping[str, Any],
    cause: str,
    deadline: str | None,
    *,
    low: bool = False,
) -> dict[str, Any]:
    return {
        "pending": _lane(request, deadline, now, low=low),
        "due_at": timestamp(now + timedelta(seconds=seconds)),
        "since": timestamp(now),
        "interval": seconds,
        "attempts": 0,
        "cause": cause,
        "request": {name: value for name, value in request.items() if name != "hint"},
        "expires_at": _expiry(now + _KEPT_FOR),
        **({"deadline": deadline} if deadline else {}),
    }


def _assignments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"#{name} = :{name}" for name in values)


def _check_id(key: str) -> str:
    return f"check#{key}"


def _time(value: object) -> datetime | None:
    """Return the time that an attribute says, aware; `None` if it says none."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time if time and time.tzinfo else None


def _whole(value: object, low: int, high: int) -> int:
    """Return the number that an attribute says, within bounds; the lower one if it says none."""
    return min(max(value, low), high) if isinstance(value, int) else low


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _expiry(time: datetime) -> int:
    return int(time.timestamp())


def _check(row: Item, now: datetime) -> Check:
    """Return the check of a row, whatever its attributes are: one bad row must not stop others.

    An attribute that makes no sense counts as a new check's, so that no check is given up for it.
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
        low=row.get("pending") == _LOW,
    )
