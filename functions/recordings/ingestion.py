"""Ingestion: fetch a recording, a session's recordings or its files, and catalogue them.

The ingest queue, the API and the sweeps share it. A recording that is not final, or cannot be
fetched now, gets a check. A session's files are written into the rows of all its recordings.

RealtimeKit's requests are scarce, so a webhook's report of an unfinished status is written without
a fetch if the recording certainly is our app's. A final recording is always fetched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from recordings import rows
from recordings.catalogue import Catalogue, Upserted
from recordings.dynamodb import UnwritableError
from recordings.messages import (
    Hint,
    IngestRequest,
    RecordingRequest,
    SessionFilesRequest,
    SessionRequest,
    Source,
    StatusReport,
)
from recordings.model import (
    Artifact,
    Recording,
    RecordingStatus,
    is_final,
    parse_timestamp,
    timestamp,
    uuid,
)
from recordings.realtimekit import (
    NotFoundError,
    RealtimeKit,
    RealtimeKitError,
    ThrottledError,
    UnauthorizedError,
    UnavailableError,
)
from recordings.rows import RETENTION, Row, is_erased
from recordings.worklist import FIRST_INTERVAL_SECONDS, Worklist, utcnow

NOT_FINAL = "not_final"
DETAILS_MISSING = "details_missing"
SYNC_BEGUN = "sync_begun"
FILES_MISSING = "session_files_missing"
RECORDING_MISSING = "recording_missing"

# A webhook reports the end of a meeting or of an upload. If it gets lost, a check finds the end. A
# check costs one request to RealtimeKit and five write units, so it runs hourly. One that begins
# during an upload, which takes minutes, runs after 300 s first.
_LIVE_SECONDS = 3600
_UPLOADING_SECONDS = 300
# A meeting's list, newest first, has a session's recordings next to each other, apart from those of
# a session at the same time. Reading stops after so many recordings of other sessions.
_MAX_OTHERS_AFTER = 100
_MAX_OTHERS_BEFORE = 1000
# One row that cannot be written has a fault of its own; three mean that the table has one.
_MAX_FAILED_WRITES = 3
# After 15 s no further file of a session is fetched. The last answer and the session's take 14 s
# each (`realtimekit`), and `ingest_recording` keeps 45 s for them and the rows.
_MAX_FETCH_SECONDS = 15
# The files whose times count from the session's start.
_TIMED_FILES = ("transcript", "captions")
# A recording lasts a day at most (RealtimeKit docs, `max_seconds`). If the recording or its session
# began earlier, the report may be old, and RealtimeKit may have forgotten the recording.
_MAX_REPORT_AGE = timedelta(days=1)
# The time of a view that only fills a row's gaps, because it is older than any answer.
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_LIVE_STATUSES = (RecordingStatus.INVOKED, RecordingStatus.RECORDING, RecordingStatus.PAUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFiles:
    """The kinds of a session's files: offered now, missing so far, and noted as absent for good.

    `unwritable` has the ids of the recordings whose rows DynamoDB refuses.
    """

    offered: Sequence[str] = ()
    missing: Sequence[str] = ()
    absent: Sequence[str] = ()
    unwritable: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingestion:
    """The worker that fetches recordings into the catalogue and leaves checks for the rest.

    `session_files` are the kinds of a session's files that are kept. `sparing` is the client for
    fetches that a report can replace; it leaves a part of the budget to the others.
    """

    realtimekit: RealtimeKit
    catalogue: Catalogue
    worklist: Worklist
    session_files: tuple[str, ...] = ()
    sparing: RealtimeKit | None = None
    now: Callable[[], datetime] = utcnow

    def ingest_recording(self, request: RecordingRequest) -> Upserted:
        """Catalogue one recording, fetched from RealtimeKit unless a webhook's report is enough.

        A report of a known recording is enough. A new recording is fetched, for details that
        webhooks lack. If the budget has no room for that, a report that proves its app is enough.

        Raises `RealtimeKitError` if it cannot be fetched. Then nothing has changed, and the caller
        must `postpone` the request or refuse it.
        """
        report, hint = request.report, request.hint
        if report is None:
            return self._ingest_fetched(request, self.realtimekit)
        row = self.catalogue.get(request.recording_id) or {}
        is_ours = row.get("app_id") == self.catalogue.app_id
        needs_fetch = rows.needs_fetch(row, report.status, hint.organization_id)
        if is_erased(row) or (is_ours and not needs_fetch):
            return self._ingest_reported(request, report, row)
        if row or not self._proves_app(report, hint):
            return self._ingest_fetched(request, self.realtimekit, row)
        try:
            return self._ingest_fetched(request, self.sparing or self.realtimekit, row)
        except ThrottledError:
            return self._ingest_reported(request, report, row)

    def _proves_app(self, report: StatusReport, hint: Hint) -> bool:
        """Return True if a report proves that a recording is our app's, and began within a day.

        RealtimeKit describes a session's `organization_id` as the id of its app (its OpenAPI). An
        event that names our app's id is ours, because customers cannot choose that id.
        """
        began_at = parse_timestamp(report.started_at) or parse_timestamp(hint.session_started_at)
        is_recent = began_at is not None and abs(self.now() - began_at) < _MAX_REPORT_AGE
        organization_id = (hint.organization_id or "").lower()
        return is_recent and organization_id == self.catalogue.app_id.lower()

    def _ingest_reported(
        self, request: RecordingRequest, report: StatusReport, row: Row
    ) -> Upserted:
        """Catalogue a webhook's report of a recording, and make sure that a check follows.

        An old or repeated report fills gaps of the row. No report postpones a check, because the
        check may be for a later status, whose fetch failed.
        """
        view = Recording(
            recording_id=request.recording_id,
            status=report.status,
            started_at=parse_timestamp(report.started_at),
            stopped_at=parse_timestamp(report.stopped_at),
            file_name=report.file_name,
        )
        seen_at = self.now() if rows.is_further(row, report.status) else _LONG_AGO
        upserted = self.catalogue.upsert(_hinted(view, request.hint), seen_at, row)
        if is_erased(upserted.row):
            self.worklist.settle(request.key)
        elif not is_final(upserted.row["status"]):
            seconds = _seconds_to_check(upserted.row)
            self._follow(request, seconds)
        return replace(upserted, is_reported=True)

    def _ingest_fetched(
        self, request: RecordingRequest, realtimekit: RealtimeKit, known: Row | None = None
    ) -> Upserted:
        """Fetch a recording and catalogue it; `known` is its row as just read, `{}` if missing."""
        fetched_at = self.now()
        # A queue redelivers a message, but a request to the API is not repeated if slow answers
        # outlast the function. So a sync leaves its check before it fetches.
        is_left = request.source is Source.API and self.worklist.ensure(request, SYNC_BEGUN)
        try:
            recording = _hinted(realtimekit.recording(request.recording_id), request.hint)
        except NotFoundError:
            if is_left:
                self.worklist.settle(request.key)
            raise
        upserted = self.catalogue.upsert(recording, fetched_at, known)
        if is_erased(upserted.row):
            self.worklist.settle(request.key)
            return upserted
        try:
            upserted = self._with_meeting(request, upserted, recording, fetched_at)
        except RealtimeKitError as error:
            self.postpone(request, error)
        else:
            self._settle_or_check(request, upserted)
        return upserted

    def ingest_session(self, request: SessionRequest) -> list[Row]:
        """Catalogue a session's recordings from its meeting's list. Return their rows.

        If a recording of the session is known, the list is not read: the known ones are followed by
        checks until they are final, and sweeps find the others.

        The list lacks details, and few recordings are final when a meeting ends, so each gets a
        check. A meeting may go on for years, so its list is read only as far as recordings of the
        session are likely. Sweeps and the recordings' own webhooks find the others.

        Raises `RealtimeKitError` as `ingest_recording` does, after it catalogued the recordings
        listed so far. An error of one row is raised at the end, so that it does not stop others.
        """
        fetched_at = self.now()
        listed = self._follow_known(request)
        if listed:
            if request.source is Source.FOLLOW_UP:
                self.worklist.settle(request.key)
            return listed
        failed: list[Exception] = []
        for recording in self._recordings_of(request):
            if recording.session_id and recording.session_id == request.session_id:
                recording = _hinted(recording, request.hint)
            try:
                listed.append(self.ingest_listed(recording, fetched_at, request.source))
            except Exception as error:
                failed.append(error)
                if len(failed) == _MAX_FAILED_WRITES:
                    break
        if failed:
            # A transient error comes first: the caller gives up after an unwritable row.
            raise min(failed, key=lambda error: isinstance(error, UnwritableError))
        if request.source is Source.FOLLOW_UP:
            self.worklist.settle(request.key)
        return listed

    def _follow_known(self, request: SessionRequest) -> list[Row]:
        """Return the rows of an ended session's recordings, each final or with a check."""
        known = self.catalogue.of_session(request.session_id) if request.session_id else []
        began_at = parse_timestamp(request.hint.session_started_at)
        for row in known:
            if not is_final(row.get("status")):
                each = RecordingRequest(recording_id=row["recording_id"], source=request.source)
                self._follow(each, _UPLOADING_SECONDS)
            if began_at and "session_started_at" not in row:
                # A row that is full must not keep the others from their checks.
                with contextlib.suppress(UnwritableError):
                    self.catalogue.offer_files(row["recording_id"], (), began_at)
        return known

    def _follow(self, request: RecordingRequest, seconds: int) -> None:
        """Leave a check of an unfinished recording, unless one waits: it comes in an hour at most.

        Making it due sooner would cost three write units, for the rare recording whose next webhook
        gets lost.
        """
        if not self.worklist.waits(request.key):
            self.worklist.ensure(request, NOT_FINAL, seconds=seconds)

    def _recordings_of(self, request: SessionRequest) -> Iterator[Recording]:
        """Yield the session's recordings, and those without a session, of its meeting's list."""
        others, limit = 0, _MAX_OTHERS_BEFORE
        for recording in self.realtimekit.recordings(meeting_id=request.meeting_id):
            if request.session_id in (None, recording.session_id):
                others, limit = 0, _MAX_OTHERS_AFTER
            elif others == limit:
                return
            else:
                others += 1
                if recording.session_id is not None:
                    continue
            yield recording

    def ingest_listed(
        self, recording: Recording, fetched_at: datetime, source: Source, known: Row | None = None
    ) -> Row:
        """Catalogue a recording of a list. Return its row; `known` is the row as just read.

        A recording that is not final, or lacks details that only get-one has, gets a check. For
        details it has low priority in a sweep, which may find a year's recordings at once.
        """
        upserted = self.catalogue.upsert(recording, fetched_at, known)
        row = upserted.row
        if is_erased(row):
            return row
        request = RecordingRequest(recording_id=row["recording_id"], source=source)
        if not is_final(row["status"]):
            # A recording listed as live has most likely ended with its session.
            is_uploading = row["status"] == RecordingStatus.UPLOADING
            seconds = _UPLOADING_SECONDS if is_uploading else FIRST_INTERVAL_SECONDS
            # A recording without a session is listed after every session of its meeting.
            is_news = upserted.changed or recording.session_id is not None
            leave = self.worklist.check_in if is_news else self.worklist.ensure
            leave(request, NOT_FINAL, seconds=seconds)
        elif not {"start_reason", "stop_reason"} <= row.keys():
            low_priority = source is Source.SWEEP
            self.worklist.check_in(request, DETAILS_MISSING, low_priority=low_priority)
        return row

    def ingest_session_files(self, request: SessionFilesRequest) -> SessionFiles:
        """Fetch the URLs of a session's files, and write them into its recordings' rows.

        One request is sent for each kind that a row lacks, however many recordings there are. The
        table's stream has the files archived. Missing kinds are looked for until the last look, and
        are noted as absent then, except for those that RealtimeKit has announced.

        Raises `RealtimeKitError` as `ingest_recording` does, after it wrote the other kinds.
        """
        known = self.catalogue.of_session(request.session_id) if self.session_files else []
        if not known:
            self._wait_for_recording(request)
            return SessionFiles()
        lacking = [
            kind
            for kind in self.session_files
            if any(_is_looked_for(kind, request, row) for row in known)
        ]
        answers, error = self._fetch_session_files(request, lacking)
        offered = {kind: artifact for kind, artifact in answers.items() if artifact}
        announced = _announced(request, [kind for kind in lacking if kind not in offered])
        started_at = self._session_start(request.session_id, known, offered)
        unwritable = self._offer(request, known, {**announced, **offered}, started_at)
        looks = [look for row in known if (look := rows.next_look(row, self.now()))]
        missing = answers.keys() - offered.keys()
        absent: set[str] = set()
        if not looks:
            absent, refused = self._note_absent(known, missing - announced.keys())
            unwritable |= refused
        if error:
            raise error
        self._settle_or_look_again(request, known, looks, offered)
        return SessionFiles(
            offered=sorted(offered),
            missing=sorted(missing),
            absent=sorted(absent),
            unwritable=sorted(unwritable),
        )

    def _wait_for_recording(self, request: SessionFilesRequest) -> None:
        """Leave a check for a session without a recording, which may come late, but only once."""
        if request.source is Source.FOLLOW_UP:
            self._settle_session(request, ())
        elif self.session_files:
            self.worklist.check_in(request, RECORDING_MISSING, seconds=_LIVE_SECONDS)

    def _fetch_session_files(
        self, request: SessionFilesRequest, kinds: Collection[str]
    ) -> tuple[dict[str, Artifact | None], RealtimeKitError | None]:
        """Return RealtimeKit's answers by kind, None for no such file, and the first error.

        An error of one kind does not stop the others, unless they would meet the same error.
        """
        answers: dict[str, Artifact | None] = {}
        failed: RealtimeKitError | None = None
        begun = self.now()
        # Captions are fetched only if there is a transcript.
        certain = len(set(kinds) - {"captions"})
        if certain > 1:
            self.realtimekit.reserve(certain)
        for kind in kinds:
            if (self.now() - begun).total_seconds() > _MAX_FETCH_SECONDS:
                return answers, failed or UnavailableError("too slow for all of a session's files")
            if kind == "captions" and "transcript" in answers and not answers["transcript"]:
                # Captions are the transcript in another format, so they are missing with it.
                answers[kind] = None
                continue
            try:
                answers[kind] = self.realtimekit.session_file(request.session_id, kind)
            except NotFoundError:
                answers[kind] = None
            except (ThrottledError, UnauthorizedError) as error:
                return answers, error
            except RealtimeKitError as error:
                failed = failed or error
        return answers, failed

    def _session_start(
        self, session_id: str, known: Sequence[Row], offered: Mapping[str, Artifact]
    ) -> datetime | None:
        """Return the session's start, if a row needs it: a transcript's times count from there."""
        is_timed = not offered.keys().isdisjoint(_TIMED_FILES)
        if not is_timed or all("session_started_at" in row for row in known):
            return None
        for row in known:
            if "session_started_at" in row:
                return datetime.fromisoformat(row["session_started_at"])
        try:
            return self.realtimekit.session(session_id).started_at
        except RealtimeKitError:
            # A transcript without its start now is better than a whole one later.
            return None

    def _offer(
        self,
        request: SessionFilesRequest,
        known: Sequence[Row],
        files: Mapping[str, Artifact],
        started_at: datetime | None,
    ) -> set[str]:
        """Write files into the rows that lack them. Return the ids of the rows refused."""
        unwritable = set()
        for row in known:
            lacked = [file for kind, file in files.items() if _is_looked_for(kind, request, row)]
            try:
                if lacked:
                    self.catalogue.offer_files(row["recording_id"], lacked, started_at)
            except UnwritableError:
                unwritable.add(row["recording_id"])
        return unwritable

    def _note_absent(
        self, known: Sequence[Row], missing: Collection[str]
    ) -> tuple[set[str], set[str]]:
        """Note missing kinds of files as absent in the rows of final recordings.

        Return the kinds noted, and the ids of the rows refused. A file that RealtimeKit has
        announced stays, because its loss must be reported.
        """
        noted: set[str] = set()
        unwritable: set[str] = set()
        for row in known:
            kinds = [kind for kind in missing if kind not in row.get("artifacts", {})]
            if kinds and is_final(row.get("status")):
                try:
                    self.catalogue.note_absent(row["recording_id"], kinds, self.now())
                    noted.update(kinds)
                except UnwritableError:
                    unwritable.add(row["recording_id"])
        return noted, unwritable

    def _settle_or_look_again(
        self,
        request: SessionFilesRequest,
        known: Sequence[Row],
        looks: Sequence[datetime],
        offered: Collection[str],
    ) -> None:
        """Leave a check for the next look, or settle the session's check.

        A recording leaves a check when it becomes final, unless one waits. So a check that waits
        stays while a recording is unfinished: it may have become final since its row was read.
        """
        final = [row for row in known if is_final(row.get("status"))]
        is_repeated = request.source is Source.FOLLOW_UP
        is_left = any(
            kind not in offered and rows.lacks(row, kind)
            for row in final
            for kind in self.session_files
        )
        if is_left and (looks or not is_repeated):
            # A webhook may find the check that waits since the recording's end.
            leave = self.worklist.check_in if is_repeated else self.worklist.ensure
            self._look_again(leave, request, max(looks, default=None))
        elif len(final) == len(known):
            self._settle_session(request, known)

    def _settle_session(self, request: SessionFilesRequest, known: Sequence[Row]) -> None:
        """Settle the session's check, or leave one for recordings that were not `known`.

        Such a recording may have become final since the rows were read, and relied on this check. A
        sweep finds those that the index does not show yet.
        """
        self.worklist.settle(request.key)
        now, seen = self.now(), {row["recording_id"] for row in known}
        found = self.catalogue.of_session(request.session_id) if self.session_files else []
        new = [
            row
            for row in found
            if row["recording_id"] not in seen
            and rows.awaits_session_files(row, self.session_files, now)
        ]
        if new:
            looks = [look for row in new if (look := rows.next_look(row, now))]
            self._look_again(self.worklist.ensure, request, min(looks, default=None))

    def _look_again(
        self, leave: Callable[..., object], request: SessionFilesRequest, look: datetime | None
    ) -> None:
        """Leave a check for the session's files, due at the next look; soon if there is none."""
        wait = (look - self.now()).total_seconds() if look else 0
        seconds = max(FIRST_INTERVAL_SECONDS, int(wait))
        leave(replace(request, announced={}), FILES_MISSING, seconds=seconds)

    def postpone(self, request: IngestRequest, error: RealtimeKitError) -> None:
        """Leave a check for a request that failed, due when `Retry-After` allows it.

        A 404 for a final recording past its retention settles the request instead.
        """
        if isinstance(error, NotFoundError) and self._is_forgotten(request):
            self.worklist.settle(request.key)
            return
        is_noted = request.source is Source.FOLLOW_UP and self.worklist.note_cause(
            request.key, error.cause, error.retry_after
        )
        if not is_noted:
            seconds = max(FIRST_INTERVAL_SECONDS, error.retry_after or 0)
            self.worklist.check_in(request, error.cause, seconds=seconds)

    def _is_forgotten(self, request: IngestRequest) -> bool:
        """Return True if the recording is final and RealtimeKit's retention is over."""
        if not isinstance(request, RecordingRequest):
            return False
        row = self.catalogue.get(request.recording_id) or {}
        stopped_at = row.get("stopped_at") or row.get("invoked_at")
        kept_since = timestamp(self.now() - RETENTION)
        return is_final(row.get("status")) and bool(stopped_at and stopped_at < kept_since)

    def _with_meeting(
        self,
        request: RecordingRequest,
        upserted: Upserted,
        recording: Recording,
        fetched_at: datetime,
    ) -> Upserted:
        """Add the session's meeting to a row if no other answer or hint named it."""
        session_id = uuid(upserted.row.get("session_id"))
        if session_id is None or not _lacks_meeting(upserted, request.source):
            return upserted
        try:
            session = self.realtimekit.session(session_id)
        except NotFoundError:
            return upserted
        completed = replace(
            recording,
            meeting_id=upserted.row.get("meeting_id", session.meeting_id),
            session_started_at=recording.session_started_at or session.started_at,
            meeting_title=recording.meeting_title or session.meeting_title,
            organization_id=recording.organization_id or session.organization_id,
        )
        again = self.catalogue.upsert(completed, fetched_at)
        return replace(upserted, row=again.row, changed=upserted.changed or again.changed)

    def _settle_or_check(self, request: RecordingRequest, upserted: Upserted) -> None:
        """Settle a final recording, or leave a check. A duplicate of a final one left no check."""
        if is_final(upserted.row["status"]):
            if upserted.changed or request.source in (Source.FOLLOW_UP, Source.API):
                self.worklist.settle(request.key)
            return
        is_news = upserted.changed or request.source is not Source.FOLLOW_UP
        if is_news or not self.worklist.note_cause(request.key, NOT_FINAL):
            self.worklist.check_in(request, NOT_FINAL, seconds=_seconds_to_check(upserted.row))


def _seconds_to_check(row: Row) -> int:
    """Return the wait until the first check of an unfinished recording."""
    return _LIVE_SECONDS if row["status"] in _LIVE_STATUSES else _UPLOADING_SECONDS


def _is_looked_for(kind: str, request: SessionFilesRequest, row: Row) -> bool:
    """Return True if a kind of file is fetched because of a row.

    A webhook leads only to the files that it announces, also if they were noted as absent. Other
    files are fetched once the recording is final.
    """
    if kind in request.announced:
        return rows.lacks(row, kind) or rows.archive_state(row["artifacts"][kind]) == "none"
    is_due = request.source is not Source.WEBHOOK and is_final(row.get("status"))
    return is_due and rows.lacks(row, kind)


def _announced(request: SessionFilesRequest, kinds: Collection[str]) -> dict[str, Artifact]:
    """Return the files of these kinds that RealtimeKit has announced, by kind; they have no URL."""
    return {
        kind: Artifact(name=kind, kind=kind, url_expires_at=parse_timestamp(expires_at))
        for kind, expires_at in request.announced.items()
        if kind in kinds
    }


def _lacks_meeting(upserted: Upserted, source: Source) -> bool:
    """Return True if the row lacks its meeting and the session may name it.

    An event from the bus brings no title, and its session may not have answered, so the check of a
    final recording fetches the session again. A title without an id is the answer of a V1 meeting's
    session, which has only a room's name, so that session is not fetched again.
    """
    row = upserted.row
    if "meeting_title" in row:
        return False
    is_awaited = (source is Source.EVENTBRIDGE and upserted.changed) or (
        source is Source.FOLLOW_UP and is_final(row["status"])
    )
    return "meeting_id" not in row or is_awaited


def _hinted(recording: Recording, hint: Hint) -> Recording:
    """Return the recording, completed by the hint where RealtimeKit's answer lacks a field."""
    return replace(
        recording,
        meeting_id=recording.meeting_id or uuid(hint.meeting_id),
        session_id=recording.session_id or uuid(hint.session_id),
        session_started_at=recording.session_started_at or parse_timestamp(hint.session_started_at),
        meeting_title=recording.meeting_title or hint.title,
        organization_id=recording.organization_id or hint.organization_id,
    )
