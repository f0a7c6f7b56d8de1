"""What `sweep_recordings` does: hold RealtimeKit's list, page by page, against table and bucket.

The list is read in the order of invocation, from the page in which the window begins to the one in
which it ends. Recordings that are invoked meanwhile are added behind it, so pages do not shift; if
some do all the same, the list's own numbering tells in the end, and the window is read once more.

The list's `start_time` and `end_time` are not used: the documentation says that they are about
meetings, and a meeting may be years older than its recordings. The first page is found by halving.

Each step is one request, and is saved before the next: whoever is killed is followed by another,
who does at most one page again. What a page will repair is noted before, so that nothing of it is
counted twice, or not at all.

A row that cannot be written is counted and passed over. A sweep that can finish no step at all, for
whatever reason, is given up when its patience is over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from recordings import messages, rows
from recordings.archive import Archive
from recordings.catalogue import ConflictError
from recordings.dynamodb import Item, UnwritableError
from recordings.ingestion import Ingestion
from recordings.messages import ArchiveRequest, Source
from recordings.model import Recording, RecordingStatus, is_final, timestamp
from recordings.realtimekit import (
    ListPage,
    NotFoundError,
    RealtimeKitError,
    UnintelligibleError,
)
from recordings.rows import is_erased, news, unsettled
from recordings.sweeps import Counts, State, Sweep, SweepEndedError, Sweeps, Trigger
from recordings.worklist import PATIENCE, is_urgent

ARCHIVE_FORGOTTEN = "archive_forgotten"
INTERRUPTED = "interrupted"
UNWRITABLE = "unwritable"

MAX_EXAMPLES = 20
# A webhook of what ended just now may be on its way.
IN_FLIGHT = timedelta(minutes=10)
# An answer that makes no sense may be a proxy's; three in a row are RealtimeKit's.
_MAX_NONSENSE_ANSWERS = 3
# What a schedule began is left to the next, and the alarm for a failed one tells.
_PATIENCE_OF_SCHEDULES = timedelta(hours=12)
_MAX_PAGES = 1_000_000
_MAX_PASSES = 2
_AT_A_TIME = 8
_SOON = 60
# Of a page that does not number its items.
_UNKNOWN = -1
_NOTHING = ListPage(recordings=(), size=0, start=0, total=0)

# What is counted anew when the window is read once more.
_EACH_PASS = (
    "seen",
    "unreadable",
    "erased",
    "catalogued",
    "archived",
    "not_archived",
    "at_risk",
    "expired",
    "gone",
    "unwritable",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a page says of one recording: its row, `{}` if missing, and what it should be."""

    recording: Recording
    row: Item
    merged: Item
    news: set[str]

    @property
    def kind(self) -> str:
        """`missing`, `behind`, or nothing."""
        if is_erased(self.row) or not self.news:
            return ""
        return "behind" if self.row else "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeper:
    """Works on sweeps; without an `archive` the bucket is not looked at."""

    ingestion: Ingestion
    sweeps: Sweeps
    archive: Archive | None
    now: Callable[[], datetime]

    def sweep(self, sweep: Sweep, out_of_time: Callable[[], bool]) -> Sweep:
        """Go on with it for as long as there is time and RealtimeKit answers.

        AWS's errors come through; what was saved stays. It is as it was last saved, by whomever.
        """
        try:
            sweep = self._try(sweep)
            while sweep.is_open and not out_of_time():
                try:
                    sweep = self._step(sweep)
                except RealtimeKitError as error:
                    return self._postpone(sweep, error)
        except SweepEndedError:
            return self.sweeps.get(sweep.sweep_id) or sweep
        return sweep

    def _try(self, sweep: Sweep) -> Sweep:
        """Note since when it is being tried: until a step is saved, whatever prevents that."""
        now = self.now()
        if sweep.trying_since is None:
            started_at = sweep.started_at or now
            begun = replace(sweep, state=State.RUNNING, started_at=started_at, trying_since=now)
            return self.sweeps.save(begun)
        if now - sweep.trying_since <= _patience(sweep):
            return sweep
        reason = f"no step could be finished since {timestamp(sweep.trying_since)}"
        failed = replace(sweep, state=State.FAILED, cause=INTERRUPTED, reason=reason)
        return self.sweeps.save(failed)

    def _step(self, sweep: Sweep) -> Sweep:
        asked_at = self.now()
        notes = dict(sweep.progress)
        number = _next_page(notes)
        page = self._page(number)
        notes.pop("nonsense", None)
        sweep = replace(sweep, counts=sweep.counts.plus({"pages": 1}), cause=None, not_before=None)
        match notes.get("phase"):
            case "paging":
                sweep = self._read(replace(sweep, progress=notes), number, page, asked_at)
            case "counting":
                sweep = _completed(replace(sweep, progress=notes), page)
            case _:
                sweep = replace(sweep, progress=_sought(notes, number, page, sweep.since))
        return self.sweeps.save(replace(sweep, trying_since=None))

    def _page(self, number: int) -> ListPage:
        try:
            return self.ingestion.realtimekit.page(number)
        except (NotFoundError, UnintelligibleError):
            # Where pages count from 1, there may be no page 0, or there may be.
            if number == 0:
                return _NOTHING
            raise

    def _postpone(self, sweep: Sweep, error: RealtimeKitError) -> Sweep:
        """It is gone on with at a later tick, unless that is no use; what it has stays."""
        now = self.now()
        notes = dict(sweep.progress)
        if isinstance(error, NotFoundError | UnintelligibleError):
            notes["nonsense"] = notes.get("nonsense", 0) + 1
        waits: dict[str, Any] = {
            "cause": error.cause,
            "not_before": error.retry_after and now + timedelta(seconds=error.retry_after),
        }
        is_late = now - sweep.created_at > _patience(sweep)
        if notes.get("nonsense", 0) >= _MAX_NONSENSE_ANSWERS or is_late:
            waits = {"state": State.FAILED, "cause": error.cause, "reason": str(error)}
        return self.sweeps.save(replace(sweep, progress=notes, trying_since=None, **waits))

    def _read(self, sweep: Sweep, number: int, page: ListPage, asked_at: datetime) -> Sweep:
        """A page of the window: repair what is missing or behind, and count what there is."""
        known = _unpacked(sweep.progress.get("page_ids", b""))
        inside = [one for one in page.recordings if _is_inside(one, sweep)]
        new = {one.recording_id: one for one in inside if one.recording_id not in known}
        findings = self._findings(list(new.values()), asked_at)
        if sweep.dry_run or sweep.trigger is not Trigger.REQUEST:
            findings = [one for one in findings if not _is_in_flight(one, asked_at)]
        if not sweep.dry_run:
            sweep = self._intend(sweep, findings)
        low, high = _from(sweep), _reached(sweep, number, page)
        catalogued = self.ingestion.catalogue.count(low, high)
        files = self._treat(sweep, findings, asked_at)
        unwritable = set(files.get(UNWRITABLE, ()))
        if not sweep.dry_run:
            # Not counted anew: the index is a moment behind the table.
            catalogued += sum(_is_added(one, low, high, unwritable) for one in findings)
        found = _kinds(findings) | _intended(sweep)
        repaired = (found["missing"] | found["behind"]) - unwritable
        more = {
            **{kind: len(ids) for kind, ids in found.items()},
            "seen": len(new),
            "unreadable": page.size - len(page.recordings),
            "erased": sum(is_erased(one.row) for one in findings),
            "catalogued": catalogued,
            "repaired": 0 if sweep.dry_run else len(repaired),
            **_tally(files),
        }
        shown = {kind: ids for kind, ids in files.items() if kind in _SHOWN}
        return replace(
            sweep,
            counts=sweep.counts.plus(more),
            examples=_with_examples(sweep.examples, {**found, **shown}),
            progress=_turned(sweep, number, page, high),
        )

    def _findings(self, recordings: Sequence[Recording], asked_at: datetime) -> list[Finding]:
        catalogue = self.ingestion.catalogue
        known = catalogue.get_many([recording.recording_id for recording in recordings])
        findings = []
        for recording in recordings:
            row = known.get(recording.recording_id, {})
            merged = row if is_erased(row) else catalogue.merged(row, recording, asked_at)
            findings.append(
                Finding(recording=recording, row=row, merged=merged, news=news(row, merged))
            )
        return findings

    def _intend(self, sweep: Sweep, findings: Sequence[Finding]) -> Sweep:
        """Note what is going to be repaired, with what an earlier try at this page noted."""
        intended, found = _intended(sweep), _kinds(findings)
        if sweep.trigger is not Trigger.REQUEST:
            found["lost_webhooks"] = {
                one.recording.recording_id for one in findings if _is_lost_webhook(one)
            }
        union = {
            kind: _packed(intended.get(kind, set()) | ids)
            for kind, ids in found.items()
            if ids or kind in intended
        }
        if not any(union.values()) or union == sweep.progress.get("repairing"):
            return sweep
        return self.sweeps.save(replace(sweep, progress={**sweep.progress, "repairing": union}))

    def _treat(
        self, sweep: Sweep, findings: Sequence[Finding], asked_at: datetime
    ) -> dict[str, list[str]]:
        """Repair, several at a time; the ids of what became of their files, by kind.

        What an earlier try noted may be repaired, but for its check: it is done once more.
        """
        noted = set[str]().union(*_intended(sweep).values())

        def treat(finding: Finding) -> tuple[str, str]:
            row = finding.merged
            if finding.recording.recording_id in noted:
                try:
                    row = self.ingestion.ingest_listed(
                        finding.recording, asked_at, Source.SWEEP, finding.row
                    )
                except (UnwritableError, ConflictError):
                    return UNWRITABLE, finding.recording.recording_id
            elif not sweep.dry_run:
                self._remember_files(finding.row)
            return self._state_of_files(row, sweep.trigger), finding.recording.recording_id

        states: dict[str, list[str]] = {}
        with ThreadPoolExecutor(_AT_A_TIME) as threads:
            for state, recording_id in threads.map(treat, findings):
                states.setdefault(state, []).append(recording_id)
        return states

    def _remember_files(self, row: Item) -> None:
        """If nobody means to archive them any more: what should have asked for it was lost."""
        if self.archive and unsettled(row):
            request = ArchiveRequest(
                recording_id=row["recording_id"], deadline=rows.expiry(row), source=Source.SWEEP
            )
            fields = messages.fields(request)
            self.ingestion.worklist.ensure(
                _SOON, request.key, fields, ARCHIVE_FORGOTTEN, rows.deadline(row)
            )

    def _state_of_files(self, row: Item, trigger: Trigger) -> str:
        """Of an uploaded recording: `archived`, `gone`, `expired`, `not_archived`, `at_risk`."""
        if self.archive is None or row.get("status") != RecordingStatus.UPLOADED or is_erased(row):
            return ""
        now = self.now()
        if unsettled(row):
            deadline = rows.deadline(row)
            if deadline is None:
                # RealtimeKit has named no file: most such recordings have none.
                return ""
            if deadline <= timestamp(now):
                return "expired"
            return "at_risk" if is_urgent(deadline, now) else "not_archived"
        artifacts = row.get("artifacts", {}).values()
        if any(self._is_gone(artifact, trigger) for artifact in artifacts):
            return "gone"
        for state in ("expired", "archived"):
            if any(one.get("archive", {}).get("state") == state for one in artifacts):
                return state
        return ""

    def _is_gone(self, artifact: Item, trigger: Trigger) -> bool:
        """Whether the bucket lacks what the row says it has; another bucket is not looked into.

        Each look is a request to pay for: schedules, which see a recording some 14 times, look when
        RealtimeKit's own copy is about to go.
        """
        archive, expiry = artifact.get("archive", {}), artifact.get("url_expires_at")
        if self.archive is None or archive.get("state") != "archived":
            return False
        if trigger is not Trigger.REQUEST and expiry and not is_urgent(expiry, self.now()):
            return False
        return archive["bucket"] == self.archive.bucket and not self.archive.has(archive["key"])


_SHOWN = ("at_risk", "gone", UNWRITABLE)


def _patience(sweep: Sweep) -> timedelta:
    return PATIENCE if sweep.trigger is Trigger.REQUEST else _PATIENCE_OF_SCHEDULES


def _next_page(notes: Mapping[str, Any]) -> int:
    match notes.get("phase"):
        case "paging":
            return int(notes["page"])
        case "counting":
            return int(notes["first_page"])
        case "halving":
            return int((notes["low"] + notes["high"]) // 2)
        case "searching":
            return int(notes["high"])
        case _:
            return 1


def _sought(
    notes: Mapping[str, Any], number: int, page: ListPage, since: datetime
) -> dict[str, Any]:
    """How to go on to the first page that has something of the window, or is behind it.

    `low` is a page that ends before the window, `high` one that does not, once that is known: the
    first guess is the last page there is, and twice as far each time that it is not far enough.
    """
    reaches = not page.size or page.recordings[-1].invoked_at is None
    reaches = reaches or _time(page.recordings[-1]) >= since
    if not notes:
        if reaches:
            return _paging(1 if page.start == 1 else 0)
        return {"phase": "searching", "low": 1, "high": max(2, -(-page.total // page.size))}
    low, high = (notes["low"], number) if reaches else (number, notes["high"])
    if reaches or notes["phase"] == "halving":
        return _paging(high) if high - low <= 1 else {"phase": "halving", "low": low, "high": high}
    if high > _MAX_PAGES:
        raise UnintelligibleError("the list has no end")
    return {"phase": "searching", "low": low, "high": 2 * high}


def _paging(page: int, passes: int = 1) -> dict[str, Any]:
    return {"phase": "paging", "page": page, "first_page": page, "passes": passes}


def _turned(sweep: Sweep, number: int, page: ListPage, high: datetime) -> dict[str, Any]:
    """The notes after a page of the window was read: on to the next, or to the count."""
    notes = {**sweep.progress, "reached": timestamp(high)}
    notes.pop("repairing", None)
    if page.size or number:
        last, known = _last_place(page, sweep.until), notes.get("last", 0)
        notes["last"] = _UNKNOWN if _UNKNOWN in (last, known) else max(last, known)
    if _is_end(sweep, number, page):
        return {**notes, "phase": "counting"}
    ids = {recording.recording_id for recording in page.recordings}
    return {**notes, "page": number + 1, "page_ids": _packed(ids)}


def _is_end(sweep: Sweep, number: int, page: ListPage) -> bool:
    """An empty page; one that goes beyond the window; or the last one again, for want of more."""
    if not page.size:
        return number > 0
    if any(one.invoked_at and one.invoked_at >= sweep.until for one in page.recordings):
        return True
    ids = {recording.recording_id for recording in page.recordings}
    return number > 1 and ids <= _unpacked(sweep.progress.get("page_ids", b""))


def _completed(sweep: Sweep, first: ListPage) -> Sweep:
    """Whether as many were seen as the list counts, from its first page, read anew, to its last.

    If not, something was put in while pages were read: once more.
    """
    notes = sweep.progress
    before, last = _first_place(first, sweep.since), notes["last"]
    if _UNKNOWN in (before, last):
        return replace(sweep, state=State.COMPLETED)
    counts = sweep.counts
    complete = last - before + 1 <= counts.seen + counts.unreadable
    if complete or notes["passes"] >= _MAX_PASSES:
        return replace(sweep, state=State.COMPLETED, complete=complete)
    again = _EACH_PASS + (("missing", "behind") if sweep.dry_run else ())
    return replace(
        sweep,
        counts=replace(counts, **dict.fromkeys(again, 0)),
        progress=_paging(notes["first_page"], notes["passes"] + 1),
    )


def _first_place(page: ListPage, since: datetime) -> int:
    """The place in the list of the first recording that is not before the window."""
    if not page.size:
        return page.total + 1
    before = sum(one.invoked_at is not None and one.invoked_at < since for one in page.recordings)
    return page.start + before if page.start else _UNKNOWN


def _last_place(page: ListPage, until: datetime) -> int:
    """The place in the list of the last recording that is not behind the window."""
    if not page.size:
        return page.total
    behind = sum(one.invoked_at is not None and one.invoked_at >= until for one in page.recordings)
    return page.start + page.size - behind - 1 if page.start else _UNKNOWN


def _time(recording: Recording) -> datetime:
    if recording.invoked_at is None:
        raise UnintelligibleError("a recording of the list was never invoked")
    return recording.invoked_at


def _is_inside(recording: Recording, sweep: Sweep) -> bool:
    """One that does not say when it was invoked is better looked at than passed over."""
    invoked_at = recording.invoked_at
    return invoked_at is None or sweep.since <= invoked_at < sweep.until


def _from(sweep: Sweep) -> datetime:
    reached = sweep.progress.get("reached")
    return datetime.fromisoformat(reached) if reached else sweep.since


def _reached(sweep: Sweep, number: int, page: ListPage) -> datetime:
    """Up to where the window is read: its end, or the invocation of the page's last."""
    if _is_end(sweep, number, page):
        return sweep.until
    times = [one.invoked_at for one in page.recordings if one.invoked_at]
    return min(max([_from(sweep), *times]), sweep.until)


def _is_added(finding: Finding, low: datetime, high: datetime, unwritable: Collection[str]) -> bool:
    """Return whether the table has a new row in this part of the window, where it is indexed."""
    if finding.kind != "missing" or finding.recording.recording_id in unwritable:
        return False
    return bool(timestamp(low) <= finding.merged["invoked_at"] < timestamp(high))


def _is_in_flight(finding: Finding, now: datetime) -> bool:
    """Whether it became final just now: then it is left to its webhook, unless somebody asks."""
    recording = finding.recording
    latest = recording.stopped_at or recording.started_at or recording.invoked_at
    return bool(
        finding.kind
        and is_final(recording.status)
        and "status" in finding.news
        and latest
        and now - latest < IN_FLIGHT
    )


def _is_lost_webhook(finding: Finding) -> bool:
    """What is final was told of, once; what is not may not have been yet."""
    return bool(finding.kind and "status" in finding.news and is_final(finding.recording.status))


def _kinds(findings: Sequence[Finding]) -> dict[str, set[str]]:
    kinds: dict[str, set[str]] = {"missing": set(), "behind": set()}
    for finding in findings:
        if finding.kind:
            kinds[finding.kind].add(finding.recording.recording_id)
    return kinds


def _intended(sweep: Sweep) -> dict[str, set[str]]:
    return {kind: _unpacked(ids) for kind, ids in sweep.progress.get("repairing", {}).items()}


def _packed(recording_ids: Collection[str]) -> bytes:
    """As notes keep them: every page is noted twice, and paid for by the KB."""
    return b"".join(UUID(recording_id).bytes for recording_id in sorted(recording_ids))


def _unpacked(packed: bytes) -> set[str]:
    return {str(UUID(bytes=packed[start : start + 16])) for start in range(0, len(packed), 16)}


def _tally(states: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """What is at risk is not archived either."""
    counts = {state: len(ids) for state, ids in states.items() if state in Counts.__slots__}
    if "at_risk" in counts:
        counts["not_archived"] = counts.get("not_archived", 0) + counts["at_risk"]
    return counts


def _with_examples(
    known: Mapping[str, Sequence[str]], found: Mapping[str, Collection[str]]
) -> dict[str, list[str]]:
    merged = {kind: list(ids) for kind, ids in known.items()}
    for kind, ids in found.items():
        if ids:
            merged[kind] = list(dict.fromkeys([*merged.get(kind, ()), *sorted(ids)]))
            del merged[kind][MAX_EXAMPLES:]
    return merged
