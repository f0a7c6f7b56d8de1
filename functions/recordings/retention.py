"""Retention: the owner's policy that erases recordings once they are older than `RetentionDays`.

A run belongs to a day (UTC), and is a row of the work table for two months. It reads the recordings
from the oldest on, and erases each as a request to the API does. Recordings on hold, not final, or
of unknown age are passed by and counted. A step is saved before and after its erasures, so a run
that is killed goes on where it stopped, and counts each recording once.

The first run after the policy was switched on, or made shorter, erases nothing: it announces what
the next day's run would erase, and that run begins 24 hours later at the earliest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any, Literal, Self

from botocore.exceptions import BotoCoreError, ClientError

from recordings.archive import NotErasedError
from recordings.catalogue import ConflictError, HeldError
from recordings.dynamodb import ConditionFailedError, Item, Table, UnwritableError
from recordings.erasure import ArchiveUnreachableError, Erasure
from recordings.messages import EraseRequest, Source
from recordings.model import is_final, timestamp
from recordings.rows import Row, is_erased, is_of_known_age
from recordings.worklist import Now, utcnow

MAX_ERASED_PER_TICK = 60
"""Erasures in a minute: about ten writes a second, and a table takes 4,000 (DynamoDB docs)."""

MAX_EXAMPLES = 20
MAX_RUNS_SHOWN = 30
NOTICE = timedelta(days=1)
"""The time between the end of an announcement and the first erasure that it announced."""

_PAGE = 100
# A policy that paused for longer announces again.
_MAX_PAUSE_DAYS = 2
_KEPT_FOR = timedelta(days=60)
_PARTITION = "retention"
_TIMES = ("started_at", "ended_at")
_DAY_OVER = "day_over"
_DAYS_CHANGED = "days_changed"

Verdict = Literal["due", "held", "not_final", "unknown_time"]
_INTERRUPTIONS = (NotErasedError, UnwritableError, ConflictError, ClientError, BotoCoreError)


class Kind(StrEnum):
    """Purpose of a run: to say what the next day's run would erase, or to erase."""

    ANNOUNCEMENT = "announcement"
    ERASURE = "erasure"


class State(StrEnum):
    """State of a run; a stopped run leaves the rest to the next day's run."""

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"


class RunTakenError(Exception):
    """Raised when another worker saved the run meanwhile; the step was not saved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One day's run, which considers the recordings that were invoked before `cutoff`.

    `counts` has the number of recordings, and `examples` some ids, by what the run found:

    - `due`: to be erased; of these `erased`, and `waiting` for a check that repeats the erasure
    - `held`: on hold; `not_final`: not uploaded and not failed; `unknown_time`: of unknown age
    - `out_of_reach`: with files in a bucket that the stack cannot access (any more)

    `after` is the last recording read, `erasing` the ids of the portion that is being erased.
    `cause` is one word for why the run stopped.
    """

    on: str
    days: int
    kind: Kind
    cutoff: str
    state: State = State.RUNNING
    started_at: datetime
    ended_at: datetime | None = None
    cause: str | None = None
    after: Mapping[str, str] | None = None
    erasing: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    version: int = 0

    @classmethod
    def of(cls, row: Item) -> Self:
        """Return the run of a stored row."""
        fields = {name: value for name, value in row.items() if name in cls.__slots__}
        times = {name: datetime.fromisoformat(fields[name]) for name in _TIMES if fields.get(name)}
        enums = {"kind": Kind(row["kind"]), "state": State(row["state"])}
        return cls(**{**fields, **times, **enums})

    def fields(self) -> Item:
        """Return the attributes to store, without those that are `None`."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields |= {name: fields[name] and timestamp(fields[name]) for name in _TIMES}
        fields["erasing"] = list(self.erasing)
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def is_running(self) -> bool:
        """True while there is work left to do."""
        return self.state is State.RUNNING

    def report(self) -> Item:
        """Return the API's report of the run."""
        shown = ("on", "days", "kind", "state", "cutoff", "cause", "counts", "examples", *_TIMES)
        return {name: value for name, value in self.fields().items() if name in shown}

    def found(self, what: str, recording_ids: Iterable[str]) -> Self:
        """Return the run with recordings added to a count and its examples."""
        ids = list(recording_ids)
        if not ids:
            return self
        examples = [*self.examples.get(what, ()), *ids][:MAX_EXAMPLES]
        counts = {**self.counts, what: self.counts.get(what, 0) + len(ids)}
        return replace(self, counts=counts, examples={**self.examples, what: examples})


class Runs:
    """The runs of the policy in the work table, one for each day."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def get(self, on: date) -> Run | None:
        """Return the run of a day, or `None`."""
        row = self._table.get(_key(on.isoformat()))
        return Run.of(row) if row else None

    def newest(self) -> list[Run]:
        """Return the last runs, up to `MAX_RUNS_SHOWN`, newest first, without unreadable ones."""
        values = {"pending": _PARTITION}
        rows, _ = self._table.query(
            "due", "#pending = :pending", values, MAX_RUNS_SHOWN, backwards=True
        )
        return [run for row in rows if (run := _readable(row))]

    def save(self, run: Run) -> Run:
        """Save a step, or a new run. Raises `RunTakenError` if another worker saved it."""
        saved = replace(run, version=run.version + 1)
        row = {
            **saved.fields(),
            "pending": _PARTITION,
            "due_at": run.on,
            "expires_at": int((run.started_at + _KEPT_FOR).timestamp()),
        }
        absent = [name for name in saved.__slots__ if name not in row]
        condition, seen = "#version = :seen_version", {"seen_version": run.version}
        if run.version == 0:
            condition, seen = "attribute_not_exists(#work_id)", {}
        try:
            self._table.set_attributes(_key(run.on), row, condition, seen, remove=absent)
        except ConditionFailedError:
            raise RunTakenError(run.on) from None
        return saved


def _readable(row: Item) -> Run | None:
    """Return the run of a stored row, or None if somebody else, or a newer version, wrote it."""
    try:
        return Run.of(row)
    except (KeyError, TypeError, ValueError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """The worker that runs the policy; `days` is the age at which recordings are erased.

    `announce` publishes what the next run would erase; it may be called again for the same run.
    `report` is called with each recording's id and the outcome of its erasure.
    """

    erasure: Erasure
    runs: Runs
    days: int
    announce: Callable[[Run], None]
    report: Callable[[str, str], None]
    now: Now = utcnow

    def due(self) -> Run | None:
        """Return today's run if it has work left, `None` otherwise; a new run is not saved yet."""
        today = self.now().date()
        run = self.runs.get(today)
        if run is not None:
            return run if run.is_running else None
        last = next(self._earlier(today), None)
        if not self._is_announced(last):
            return self._new(Kind.ANNOUNCEMENT, today)
        if last and last.kind is Kind.ANNOUNCEMENT and not self._is_notice_over(last):
            return None
        return self._new(Kind.ERASURE, today)

    def _is_announced(self, last: Run | None) -> bool:
        """Return True if the owner was told what a run of so many days would erase."""
        if last is None or last.days > self.days:
            return False
        return last.kind is Kind.ERASURE or last.state is State.COMPLETED

    def _is_notice_over(self, announcement: Run) -> bool:
        ended_at = announcement.ended_at
        return ended_at is not None and self.now() >= ended_at + NOTICE

    def _new(self, kind: Kind, today: date) -> Run:
        erased_on = today + timedelta(days=1) if kind is Kind.ANNOUNCEMENT else today
        return Run(
            on=today.isoformat(),
            days=self.days,
            kind=kind,
            cutoff=cutoff(erased_on, self.days),
            started_at=self.now(),
        )

    def work(self, run: Run, out_of_time: Callable[[], bool]) -> Run:
        """Work on a run until this tick's portion is done, or time runs out; return the saved run.

        An erasure that fails is left to its check, or, if it has not begun, tried again by the next
        tick. Its error is raised after the step is saved.
        Raises `RunTakenError`. AWS's other errors come through; saved steps stay.
        """
        if run.version == 0:
            self._end_earlier(run)
            run = self.runs.save(run)
        if run.days != self.days:
            return self._stop(run, _DAYS_CHANGED)
        erased = 0
        while run.is_running and not out_of_time() and erased < MAX_ERASED_PER_TICK:
            if run.erasing:
                before = len(run.erasing)
                run = self._erase_portion(run, out_of_time)
                erased += before - len(run.erasing)
            else:
                run = self._read_page(run)
        return run

    def _earlier(self, on: date) -> Iterator[Run]:
        """Yield the runs of the days before, as long as a pause may be, the latest first."""
        for days in range(1, _MAX_PAUSE_DAYS + 1):
            if run := self.runs.get(on - timedelta(days=days)):
                yield run

    def _end_earlier(self, run: Run) -> None:
        """Stop earlier runs that did not end, because today's begins with the oldest again."""
        for before in self._earlier(date.fromisoformat(run.on)):
            if before.is_running:
                self._stop(before, _DAY_OVER)

    def _stop(self, run: Run, cause: str) -> Run:
        """Stop a run, and count the erasures that it made but could not save."""
        known = self.erasure.catalogue.get_many(run.erasing)
        ended = replace(run, state=State.STOPPED, cause=cause, erasing=(), ended_at=self.now())
        for identifier, row in known.items():
            if is_erased(row):
                ended = ended.found("erased" if "erased_at" in row else "waiting", [identifier])
        return self.runs.save(ended)

    def _read_page(self, run: Run) -> Run:
        """Judge the next recordings; save which are to be erased, or that the run is completed."""
        catalogue = self.erasure.catalogue
        size = MAX_ERASED_PER_TICK if run.kind is Kind.ERASURE else _PAGE
        ids, after = catalogue.invoked_before(run.cutoff, size, run.after)
        known = catalogue.get_many(ids)
        verdicts: dict[Verdict, list[str]] = {}
        for identifier in ids:
            if verdict := judge(known.get(identifier, {}), run.cutoff):
                verdicts.setdefault(verdict, []).append(identifier)
        for verdict, found in verdicts.items():
            run = run.found(verdict, found)
        erases = run.kind is Kind.ERASURE
        run = replace(run, after=after, erasing=verdicts.get("due", ()) if erases else ())
        if after is None and not run.erasing:
            return self._complete(run)
        return self.runs.save(run)

    def _complete(self, run: Run) -> Run:
        completed = replace(run, state=State.COMPLETED, ended_at=self.now())
        if run.kind is Kind.ANNOUNCEMENT:
            self.announce(completed)
        return self.runs.save(completed)

    def _erase_portion(self, run: Run, out_of_time: Callable[[], bool]) -> Run:
        """Erase the portion under way as far as time allows, and save the outcomes."""
        trouble: Exception | None = None
        left = list(run.erasing)
        while left and trouble is None and not out_of_time():
            identifier = left.pop(0)
            outcome: str | None = None
            try:
                outcome = self._erase(identifier, run.cutoff)
            except _INTERRUPTIONS as error:
                trouble = error
                # No retry helps a row that cannot be written, so it must not hold up the run.
                if isinstance(error, UnwritableError) or self._has_begun(identifier):
                    outcome = "waiting"
                else:
                    left.append(identifier)
            if outcome:
                self.report(identifier, outcome)
                run = run.found(outcome, [identifier])
        run = replace(run, erasing=left)
        is_done = run.after is None and not left
        run = self._complete(run) if is_done else self.runs.save(run)
        if trouble:
            raise trouble
        return run

    def _erase(self, recording_id: str, before: str) -> str | None:
        """Erase a recording if it is still due. Return the outcome, `None` if it has no row."""
        row = self.erasure.catalogue.get(recording_id)
        if row is None:
            return None
        verdict = judge(row, before)
        if not is_erased(row) and verdict != "due":
            return verdict
        request = EraseRequest(recording_id=recording_id, source=Source.SWEEP, reason="retention")
        try:
            erased = self.erasure.erase(request)
        except HeldError:
            return "held"
        except ArchiveUnreachableError:
            return "out_of_reach"
        return "erased" if erased is None or "erased_at" in erased else "waiting"

    def _has_begun(self, recording_id: str) -> bool:
        """Return True if a recording's erasure has begun, so that its check repeats it."""
        try:
            return is_erased(self.erasure.catalogue.get(recording_id) or {})
        except (ClientError, BotoCoreError):
            return False


def judge(row: Row, before: str) -> Verdict | None:
    """Return what the policy does with a recording; `None` if it is too new, erased or missing.

    An unknown age never counts as old: only a final recording whose age RealtimeKit named is due.
    """
    is_known = is_of_known_age(row)
    if not row or is_erased(row) or (is_known and row["invoked_at"] >= before):
        return None
    if "hold" in row:
        return "held"
    if not is_known:
        return "unknown_time"
    return "due" if is_final(row.get("status")) else "not_final"


def cutoff(on: date, days: int) -> str:
    """Return the time before which a recording was invoked if that day's run erases it."""
    # UTC's midnight, so that what a day's run erases does not depend on the hour of the run.
    return timestamp(datetime.combine(on - timedelta(days=days), time.min, tzinfo=UTC))


def announcement(run: Run, app_id: str) -> str:
    """Return the detail of the event that says what the next day's run would erase."""
    erases_after = (run.ended_at or run.started_at) + NOTICE
    detail: dict[str, Any] = {
        "id": f"retention#{run.on}",
        "app_id": app_id,
        "days": run.days,
        "erases_recordings_before": run.cutoff,
        "erases_after": timestamp(erases_after),
        "counts": {"due": 0, **run.counts},
        "recording_ids": list(run.examples.get("due", ())),
    }
    return json.dumps(detail)


def _key(on: str) -> dict[str, str]:
    return {"work_id": f"retention#{on}"}
