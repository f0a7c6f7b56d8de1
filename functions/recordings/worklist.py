"""The service's own memory: what must be looked at again, and how often RealtimeKit may be asked.

Waiting lives here, never in a message. A *check* is one recording, one ended session, or one
recording's files to be archived, that must be seen to again, with the time at which it is due;
there is at most one for each. What takes long is *claimed*, so that nobody else does it as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from recordings.dynamodb import ConditionFailedError, Item, Table
from recordings.model import timestamp

FIRST_INTERVAL = 60
LONGEST_INTERVAL = 3600
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

# What has no deadline, then what has one that is not near, then what was left for later.
_PENDING = "yes"
_URGENT = "urgent"
_PATIENT = "patient"
_LOW = "low"

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
        # Of what is asked for once an hour one 404 is not enough: it is asked for once more.
        patience = max(PATIENCE_WITH_UNKNOWN, timedelta(seconds=1.5 * self.interval))
        if self.not_found_since and now - self.not_found_since > patience:
            return True
        # After months of recordings were found at once, its turn may be late.
        has_waited = self.low and not self.attempts
        return now - self.since > PATIENCE and not has_waited


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
        """Leave a check as `check_in` does, unless there is one; whether there was none."""
        values = {**_new_check(self._now(), seconds, request, cause, deadline), "hint": {}}
        try:
            self._table.update(
                {"work_id": _check_id(key)},
                f"SET {_assignments(values)}",
                values,
                "attribute_not_exists(#work_id)",
            )
        except ConditionFailedError:
            return False
        return True

    def note_cause(self, key: str, cause: str, not_before: int | None = None) -> None:
        """Say why a check that `follow_up` put back on the queue could not be settled.

        `not_before` is in seconds, where RealtimeKit or the budget gave a time; else the check
        stays due when `follow_up` said. One that was settled in the meantime stays settled. How
        long an id has been unknown is counted from the first time in a row.
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
        with contextlib.suppress(ConditionFailedError):
            self._table.update(work_id, expression, values, "attribute_exists(#pending)")

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

    def _claim(
        self, key: str, request: Mapping[str, Any], deadline: str | None, seconds: int
    ) -> Check:
        now = self._now()
        row = self._table.update(
            {"work_id": _check_id(key)},
            "SET #pending = :pending, #due_at = :lease, #lease = :lease, #request = :request,"
            " #cause = :cause, #deadline = :deadline, #expires_at = :expires_at,"
            " #since = if_not_exists(#since, :now), #hint = if_not_exists(#hint, :hint),"
            " #interval = if_not_exists(#interval, :interval),"
            " #attempts = if_not_exists(#attempts, :none)"
            " REMOVE #again, #given_up_at",
            {
                "pending": _pending(deadline, now),
                "lease": timestamp(now + timedelta(seconds=seconds)),
                "request": request,
                "now": timestamp(now),
                "interval": FIRST_INTERVAL,
                "none": 0,
                "cause": CLAIMED,
                "deadline": deadline,
                "hint": {},
                "expires_at": _expiry(now + _KEPT_FOR),
            },
            "attribute_not_exists(#lease) OR #lease <= :now",
        )
        return _check(row)

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
            seconds = min(FIRST_INTERVAL << min(check.attempts, 10), LONGEST_INTERVAL)
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
        """The checks whose time has come, those that wait longest first: of the urgent, then of
        those without a deadline, and then of those whose deadline is days away, as a backfill
        leaves by the thousand.

        Those of low priority come last, and are half of the limit at most: they are many at a time,
        and what comes in meanwhile wants its part of the budget.
        """
        found: list[Check] = []
        for pending in (_URGENT, _PENDING, _PATIENT, _LOW):
            most = limit // 2 if pending == _LOW else limit
            room = min(limit - len(found), most)
            if room > 0:
                rows, _ = self._table.query(
                    "due",
                    "#pending = :pending AND #due_at <= :now",
                    {"pending": pending, "now": timestamp(self._now())},
                    room,
                )
                found.extend(_check(row) for row in rows)
        return found

    def oldest_due(self) -> str | None:
        """Since when the check is due that waits longest; `None` where none is due.

        Of those of low priority, or with a deadline days away, nobody expects that they are asked
        for in time.
        """
        now = timestamp(self._now())
        condition = "#pending = :pending AND #due_at <= :now"
        found = [
            row["due_at"]
            for pending in (_URGENT, _PENDING)
            for row in self._table.query("due", condition, {"pending": pending, "now": now}, 1)[0]
        ]
        return min(found, default=None)

    def advance(self, check: Check) -> None:
        """It was asked for: due again after twice the time, unless it is settled by then."""
        interval = min(2 * check.interval, LONGEST_INTERVAL)
        self._change(
            check,
            "SET #pending = :pending, #due_at = :due_at, #interval = :interval,"
            " #attempts = :attempts",
            {
                "pending": _LOW if check.low else _pending(check.deadline, self._now()),
                "due_at": timestamp(self._now() + timedelta(seconds=interval)),
                "interval": interval,
                "attempts": check.attempts + 1,
            },
        )

    def give_up(self, check: Check) -> None:
        """Not due any more; the row stays for a month, for whoever looks into it."""
        self._change(
            check,
            "SET #given_up_at = :given_up_at, #expires_at = :expires_at REMOVE #pending",
            {
                "given_up_at": timestamp(self._now()),
                "expires_at": _expiry(self._now() + _KEPT_FOR),
            },
        )

    def _change(self, check: Check, expression: str, values: Mapping[str, Any]) -> None:
        """Unless somebody else did: settled it, started it anew, or is the other of two ticks."""
        key, seen = {"work_id": _check_id(check.key)}, {"seen_due_at": check.due_at}
        with contextlib.suppress(ConditionFailedError):
            self._table.update(key, expression, {**values, **seen}, "#due_at = :seen_due_at")


class UpstreamBudget:
    """How many requests all functions together may send to RealtimeKit in any five minutes.

    Counted in windows of 15 seconds. Any five minutes touch at most 21 of them, so each has room
    for a 21st of the limit: it holds wherever the five minutes begin. With a `share` below 1 a
    request is only taken while no more than that part of the window is used up, by whomever: the
    rest is for others.
    """

    WINDOW_SECONDS = 15
    _WINDOWS = 21

    def __init__(
        self,
        table: Table,
        app_id: str,
        per_5_minutes: int,
        now: Now = utcnow,
        *,
        share: float = 1,
    ) -> None:
        self._table = table
        self._app_id = app_id
        self._per_window = per_5_minutes // self._WINDOWS
        # Of one request in a window half is still one.
        self._room = max(1, int(self._per_window * share))
        self._now = now
        self.used = 0.0

    def take(self) -> int:
        """Take one request. 0, or the seconds until the next window where this one is used up.

        `used` is how much of the window was then used up, by all, in percent.
        """
        now = self._now().timestamp()
        window = int(now // self.WINDOW_SECONDS)
        try:
            row = self._table.update(
                {"work_id": self._window_id(window)},
                "SET #expires_at = :expires_at ADD #used :one",
                {"expires_at": self._window_expiry(window), "one": 1, "room": self._room},
                "attribute_not_exists(#used) OR #used < :room",
            )
        except ConditionFailedError:
            self.used = 100 * self._room / self._per_window
            return max(1, round((window + 1) * self.WINDOW_SECONDS - now))
        self.used = 100 * row["used"] / self._per_window
        return 0

    def close(self, seconds: int) -> None:
        """Use up the windows of so many seconds: what a 429 says to one copy holds for all.

        At most 24 windows, six minutes: longer than Cloudflare's penalty of five.
        """
        first = int(self._now().timestamp() // self.WINDOW_SECONDS)
        windows = range(first, first + min(seconds // self.WINDOW_SECONDS, 23) + 1)
        self._table.put_many(
            {
                "work_id": self._window_id(window),
                "used": self._per_window,
                "expires_at": self._window_expiry(window),
            }
            for window in windows
        )

    def _window_id(self, window: int) -> str:
        return f"budget#{self._app_id}#{window}"

    def _window_expiry(self, window: int) -> int:
        return (window + 1) * self.WINDOW_SECONDS + 3600


def _pending(deadline: str | None, now: datetime) -> str:
    if deadline is None:
        return _PENDING
    return _URGENT if is_urgent(deadline, now) else _PATIENT


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
        "pending": _LOW if low else _pending(deadline, now),
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


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _expiry(time: datetime) -> int:
    return int(time.timestamp())


def _check(row: Item) -> Check:
    hint = {"hint": row["hint"]} if row["hint"] else {}
    return Check(
        key=row["work_id"].removeprefix("check#"),
        request={**row["request"], **hint},
        cause=row["cause"],
        due_at=row["due_at"],
        since=datetime.fromisoformat(row["since"]),
        not_found_since=_time(row.get("not_found_since")),
        interval=row["interval"],
        attempts=row["attempts"],
        deadline=row.get("deadline"),
        lease=row.get("lease"),
        progress=row.get("progress", {}),
        low=row.get("pending") == _LOW,
    )
