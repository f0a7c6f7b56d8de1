"""The worker of `sweep_recordings`: it compares RealtimeKit's list with the table and the bucket.

Each step is one request, and is saved before the next. If a worker is killed, the next one repeats
at most one page. The recordings that a page will repair are saved first, so that each is counted
once, whatever happens in between.

A row that DynamoDB refuses is counted and passed over. A sweep that cannot finish any step fails
when its patience is over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from recordings import paging, rows
from recordings.archive import Archive
from recordings.catalogue import ConflictError
from recordings.dynamodb import UnwritableError
from recordings.ingestion import Ingestion
from recordings.messages import ArchiveRequest, SessionFilesRequest, Source
from recordings.model import Recording, RecordingStatus, is_final, timestamp
from recordings.realtimekit import (
    ListPage,
    NotFoundError,
    RealtimeKitError,
    UnintelligibleError,
)
from recordings.rows import ArtifactItem, Row, archive_state, is_erased, news, unsettled
from recordings.sweeps import Counts, Progress, State, Sweep, SweepEndedError, Sweeps, Trigger
from recordings.worklist import PATIENCE, is_urgent

ARCHIVE_FORGOTTEN = "archive_forgotten"
SESSION_FILES_FORGOTTEN = "session_files_forgotten"
INTERRUPTED = "interrupted"
UNWRITABLE = "unwritable"

MAX_EXAMPLES = 20
# The webhook of a recording that ended less than 10 minutes ago may still be on its way.
IN_FLIGHT = timedelta(minutes=10)
# One unintelligible answer may be a proxy's; three in a row are RealtimeKit's.
_MAX_UNINTELLIGIBLE_ANSWERS = 3
# The next scheduled sweep covers the same window, and an alarm reports the failed one.
_PATIENCE_OF_SCHEDULES = timedelta(hours=12)
# A look that is due may wait for the budget, or for RealtimeKit.
_LOOK_MARGIN = timedelta(hours=2)
_MAX_THREADS = 8
_EMPTY_PAGE = ListPage(recordings=(), size=0, start=0, total=0)
# The states of files of which a report shows examples.
_SHOWN = ("at_risk", "gone", UNWRITABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A recording of a page, its row (`{}` if missing), and the row as it should be."""

    recording: Recording
    row: Row
    merged: Row
    news: set[str]

    @property
    def kind(self) -> Literal["missing", "behind", ""]:
        """The trouble with the row, or `""` if it is as it should be."""
        if is_erased(self.row) or not self.news:
            return ""
        return "behind" if self.row else "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeper:
    """Works on sweeps; without an `archive` the bucket is left out of the comparison."""

    ingestion: Ingestion
    sweeps: Sweeps
    archive: Archive | None
    now: Callable[[], datetime]

    def sweep(self, sweep: Sweep, out_of_time: Callable[[], bool]) -> Sweep:
        """Work on a sweep while there is time and RealtimeKit answers; return it as last saved.

        Another worker may have saved it last. AWS's errors come through; saved steps stay.
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
        """Save when the present try began, or that the sweep failed because its try took too long.

        A step that is saved ends the try.
        """
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
        """Read one page, do what the sweep's phase asks for, and save the sweep."""
        fetched_at = self.now()
        progress: Progress = {**sweep.progress}
        number = paging.next_page(progress)
        page = self._fetch_page(number)
        progress.pop("nonsense", None)
        sweep = replace(
            sweep,
            counts=sweep.counts.plus({"pages": 1}),
            progress=progress,
            cause=None,
            not_before=None,
        )
        match progress.get("phase"):
            case "paging":
                sweep = self._work_on_page(sweep, number, page, fetched_at)
            case "counting":
                sweep = paging.after_count(sweep, page)
            case "searching" | "halving" | None:
                searched = paging.search_step(progress, number, page, sweep.since)
                sweep = replace(sweep, progress=searched)
        return self.sweeps.save(replace(sweep, trying_since=None))

    def _fetch_page(self, number: int) -> ListPage:
        try:
            return self.ingestion.realtimekit.page(number)
        except (NotFoundError, UnintelligibleError):
            # It is not documented whether pages count from 0 or from 1: page 0 may not exist.
            if number == 0:
                return _EMPTY_PAGE
            raise

    def _postpone(self, sweep: Sweep, error: RealtimeKitError) -> Sweep:
        """Save why the sweep waits for a later tick, or that it failed by waiting too long."""
        now = self.now()
        progress: Progress = {**sweep.progress}
        if isinstance(error, NotFoundError | UnintelligibleError):
            progress["nonsense"] = progress.get("nonsense", 0) + 1
        changes: dict[str, Any] = {
            "cause": error.cause,
            "not_before": error.retry_after and now + timedelta(seconds=error.retry_after),
        }
        is_late = now - sweep.created_at > _patience(sweep)
        if progress.get("nonsense", 0) >= _MAX_UNINTELLIGIBLE_ANSWERS or is_late:
            changes = {"state": State.FAILED, "cause": error.cause, "reason": str(error)}
        return self.sweeps.save(replace(sweep, progress=progress, trying_since=None, **changes))

    def _work_on_page(
        self, sweep: Sweep, number: int, page: ListPage, fetched_at: datetime
    ) -> Sweep:
        """Repair the missing rows and those behind of a page of the window, and count its rows."""
        recordings = paging.new_recordings(sweep, page)
        findings = self._findings(recordings, fetched_at)
        if sweep.dry_run or sweep.trigger is not Trigger.REQUEST:
            findings = [finding for finding in findings if not _is_in_flight(finding, fetched_at)]
        if not sweep.dry_run:
            sweep = self._save_intent(sweep, findings)
        low, high = paging.read_from(sweep), paging.read_until(sweep, number, page)
        # Counted before the repair: the index is a moment behind the table.
        catalogued = self.ingestion.catalogue.count(low, high)
        files = self._repair(sweep, findings, fetched_at)
        unwritable = set(files.get(UNWRITABLE, ()))
        repaired: set[str] = set()
        kinds = _kinds(findings) | _intended(sweep)
        if not sweep.dry_run:
            catalogued += sum(_is_added(finding, low, high, unwritable) for finding in findings)
            repaired = (kinds["missing"] | kinds["behind"]) - unwritable
        overlooked = self._ensure_overdue_looks(sweep, findings)
        more = {
            **{kind: len(ids) for kind, ids in kinds.items()},
            "seen": len(recordings),
            "unreadable": page.size - len(page.recordings),
            "erased": sum(is_erased(finding.row) for finding in findings),
            "catalogued": catalogued,
            "repaired": len(repaired),
            "session_files_missing": len(overlooked),
            **_tally(files),
        }
        shown = {kind: ids for kind, ids in files.items() if kind in _SHOWN}
        shown["session_files_missing"] = overlooked
        return replace(
            sweep,
            counts=sweep.counts.plus(more),
            examples=_with_examples(sweep.examples, {**kinds, **shown}),
            progress=paging.after_page(sweep, number, page, high),
        )

    def _findings(self, recordings: Sequence[Recording], fetched_at: datetime) -> list[Finding]:
        catalogue = self.ingestion.catalogue
        known = catalogue.get_many([recording.recording_id for recording in recordings])
        findings = []
        for recording in recordings:
            row = known.get(recording.recording_id, {})
            merged = row if is_erased(row) else catalogue.merged(row, recording, fetched_at)
            findings.append(
                Finding(recording=recording, row=row, merged=merged, news=news(row, merged))
            )
        return findings

    def _save_intent(self, sweep: Sweep, findings: Sequence[Finding]) -> Sweep:
        """Save which recordings will be repaired, with those that an earlier try at the page saved.

        A row that the earlier try repaired is no longer missing or behind, but must be counted.
        """
        intended, kinds = _intended(sweep), _kinds(findings)
        if sweep.trigger is not Trigger.REQUEST:
            kinds["lost_webhooks"] = {
                finding.recording.recording_id for finding in findings if _is_lost_webhook(finding)
            }
        union = {
            kind: paging.pack_ids(intended.get(kind, set()) | ids)
            for kind, ids in kinds.items()
            if ids or kind in intended
        }
        if not any(union.values()) or union == sweep.progress.get("repairing"):
            return sweep
        return self.sweeps.save(replace(sweep, progress={**sweep.progress, "repairing": union}))

    def _repair(
        self, sweep: Sweep, findings: Sequence[Finding], fetched_at: datetime
    ) -> dict[str, list[str]]:
        """Repair rows, several at a time; return the recordings' ids by the state of their files.

        An earlier try may have repaired a row and died before it left a check, so every recording
        that was intended is ingested again.
        """
        intended = set[str]().union(*_intended(sweep).values())

        def repair(finding: Finding) -> tuple[str, str]:
            row = finding.merged
            if finding.recording.recording_id in intended:
                try:
                    row = self.ingestion.ingest_listed(
                        finding.recording, fetched_at, Source.SWEEP, finding.row
                    )
                except (UnwritableError, ConflictError):
                    return UNWRITABLE, finding.recording.recording_id
            elif not sweep.dry_run:
                self._ensure_archive_check(finding.row)
            return self._state_of_files(row, sweep.trigger), finding.recording.recording_id

        states: dict[str, list[str]] = {}
        with ThreadPoolExecutor(_MAX_THREADS) as threads:
            for state, recording_id in threads.map(repair, findings):
                states.setdefault(state, []).append(recording_id)
        return states

    def _ensure_archive_check(self, row: Row) -> None:
        """Create a check for unsettled files, in case the request to archive them was lost."""
        if self.archive and unsettled(row):
            request = ArchiveRequest(
                recording_id=row["recording_id"], deadline=rows.expiry(row), source=Source.SWEEP
            )
            self.ingestion.worklist.ensure(request, ARCHIVE_FORGOTTEN, deadline=rows.deadline(row))

    def _was_overlooked(self, row: Row) -> bool:
        """Return True if a session's files have no state although the last look's time is over."""
        now = self.now()
        ended = rows.ended_at(row)
        is_late = ended is not None and now > ended + rows.LAST_LOOK + _LOOK_MARGIN
        return is_late and rows.awaits_session_files(row, self.ingestion.session_files, now)

    def _ensure_overdue_looks(self, sweep: Sweep, findings: Sequence[Finding]) -> list[str]:
        """Create a check for each session whose files were overlooked, unless one waits.

        Return the ids of its recordings. A dry run creates no check. The rows are those before the
        repair: a row that the page adds or makes final gets its looks by the table's stream.
        """
        overlooked = [finding.row for finding in findings if self._was_overlooked(finding.row)]
        for session_id in set() if sweep.dry_run else {row["session_id"] for row in overlooked}:
            request = SessionFilesRequest(session_id=session_id, source=Source.SWEEP)
            self.ingestion.worklist.ensure(request, SESSION_FILES_FORGOTTEN)
        return [row["recording_id"] for row in overlooked]

    def _state_of_files(self, row: Row, trigger: Trigger) -> str:
        """Return the count that an uploaded recording's files belong to, or `""`.

        The counts are `archived`, `gone`, `expired`, `not_archived` and `at_risk`.
        """
        if self.archive is None or row.get("status") != RecordingStatus.UPLOADED or is_erased(row):
            return ""
        now = self.now()
        if unsettled(row):
            deadline = rows.deadline(row)
            if deadline is None:
                # RealtimeKit has named no file: most such recordings have no file.
                return ""
            if deadline <= timestamp(now):
                return "expired"
            return "at_risk" if is_urgent(deadline, now) else "not_archived"
        artifacts = row.get("artifacts", {})
        if any(self._is_gone(artifact, trigger) for artifact in artifacts.values()):
            return "gone"
        if any(archive_state(artifact) == "expired" for artifact in artifacts.values()):
            return "expired"
        # A transcript alone is no archived recording.
        own = rows.media(artifacts).values()
        return "archived" if any(archive_state(artifact) == "archived" for artifact in own) else ""

    def _is_gone(self, artifact: ArtifactItem, trigger: Trigger) -> bool:
        """Return True if the archive bucket lacks a file that the row says it has.

        Each look costs a request. Scheduled sweeps see a recording some 14 times, so they look only
        when RealtimeKit's own copy is about to go.
        """
        archive, expiry = artifact.get("archive"), artifact.get("url_expires_at")
        if self.archive is None or archive is None or archive["state"] != "archived":
            return False
        if trigger is not Trigger.REQUEST and expiry and not is_urgent(expiry, self.now()):
            return False
        return archive["bucket"] == self.archive.bucket and not self.archive.has(archive["key"])


def _patience(sweep: Sweep) -> timedelta:
    return PATIENCE if sweep.trigger is Trigger.REQUEST else _PATIENCE_OF_SCHEDULES


def _is_added(finding: Finding, low: datetime, high: datetime, unwritable: Collection[str]) -> bool:
    """Return whether the table has a new row in this part of the window, where it is indexed."""
    if finding.kind != "missing" or finding.recording.recording_id in unwritable:
        return False
    return timestamp(low) <= finding.merged["invoked_at"] < timestamp(high)


def _is_in_flight(finding: Finding, now: datetime) -> bool:
    """Return True if the recording became final moments ago, so that its webhook may yet come.

    The same holds for one that was invoked moments ago: RECORDING is the first webhook that counts.
    """
    recording = finding.recording
    latest = recording.stopped_at or recording.started_at or recording.invoked_at
    return bool(
        finding.kind
        and (is_final(recording.status) or recording.status == RecordingStatus.INVOKED)
        and "status" in finding.news
        and latest
        and now - latest < IN_FLIGHT
    )


def _is_lost_webhook(finding: Finding) -> bool:
    """Return True if a recording is final and its row does not know, since a webhook says that."""
    return bool(finding.kind and "status" in finding.news and is_final(finding.recording.status))


def _kinds(findings: Sequence[Finding]) -> dict[str, set[str]]:
    kinds: dict[str, set[str]] = {"missing": set(), "behind": set()}
    for finding in findings:
        if finding.kind:
            kinds[finding.kind].add(finding.recording.recording_id)
    return kinds


def _intended(sweep: Sweep) -> dict[str, set[str]]:
    repairing = sweep.progress.get("repairing", {})
    return {kind: paging.unpack_ids(ids) for kind, ids in repairing.items()}


def _tally(states: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return how many recordings are in each state; those at risk also count as not archived."""
    counts = {state: len(ids) for state, ids in states.items() if state in Counts.__slots__}
    if "at_risk" in counts:
        counts["not_archived"] = counts.get("not_archived", 0) + counts["at_risk"]
    return counts


def _with_examples(
    known: Mapping[str, Sequence[str]], new: Mapping[str, Collection[str]]
) -> dict[str, list[str]]:
    merged = {kind: list(ids) for kind, ids in known.items()}
    for kind, ids in new.items():
        if ids:
            merged[kind] = list(dict.fromkeys([*merged.get(kind, ()), *sorted(ids)]))
            del merged[kind][MAX_EXAMPLES:]
    return merged
