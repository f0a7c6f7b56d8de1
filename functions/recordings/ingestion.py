"""From a request to a catalogued recording: what the ingest queue and the API have in common.

Whatever is not settled afterwards, because the recording is not final or RealtimeKit is in trouble,
is left behind as a check.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from recordings import messages
from recordings.catalogue import Catalogue, Upserted
from recordings.dynamodb import Item
from recordings.messages import Hint, IngestRequest, RecordingRequest, SessionRequest, Source
from recordings.model import Recording, RecordingStatus, is_final, timestamp, uuid
from recordings.realtimekit import NotFoundError, RealtimeKit, RealtimeKitError
from recordings.rows import RETENTION, is_erased
from recordings.worklist import Worklist, utcnow

NOT_FINAL = "not_final"
DETAILS_MISSING = "details_missing"
SYNC_BEGUN = "sync_begun"

_SOON = 60
# A meeting lasts, an upload takes minutes, and a webhook tells when it is over. The check is for
# when none does; each costs a request to RealtimeKit and five write units.
_LIVE = 3600
_UPLOADING = 300
# Of a meeting's list, the newest first: a session's recordings are next to each other, but for
# those of another at the same time; and after so many newer ones there are none to come.
_MAX_OTHERS_AFTER = 100
_MAX_OTHERS_BEFORE = 1000
# One row that cannot be written is that row's trouble; several are the table's.
_MAX_FAILED_WRITES = 3
_LIVE_STATUSES = (RecordingStatus.INVOKED, RecordingStatus.RECORDING, RecordingStatus.PAUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingestion:
    """Brings the catalogue up to what RealtimeKit says, and leaves checks for what is not done."""

    realtimekit: RealtimeKit
    catalogue: Catalogue
    worklist: Worklist
    now: Callable[[], datetime] = utcnow

    def ingest_recording(self, request: RecordingRequest) -> Upserted:
        """Fetch one recording and catalogue it.

        Raises `RealtimeKitError` where it cannot be fetched: then nothing is changed, and it is for
        the caller to `postpone` the request or to refuse it.
        """
        asked_at = self.now()
        # A queue brings a message again. The API's caller may not: if answers trickle in, the
        # requests of one sync can together outlast its function, so the check is left first.
        is_left = request.source is Source.API and self.worklist.ensure(
            _SOON, request.key, messages.fields(request), SYNC_BEGUN
        )
        try:
            recording = _hinted(self.realtimekit.recording(request.recording_id), request.hint)
        except NotFoundError:
            if is_left:
                self.worklist.settle(request.key)
            raise
        upserted = self.catalogue.upsert(recording, asked_at)
        if is_erased(upserted.row):
            self.worklist.settle(request.key)
            return upserted
        try:
            upserted = self._with_meeting(request, upserted, recording, asked_at)
        except RealtimeKitError as error:
            self.postpone(request, error)
        else:
            self._settle_or_check(request, upserted)
        return upserted

    def ingest_session(self, request: SessionRequest) -> list[Item]:
        """Catalogue what the list says of a session's recordings; their rows.

        The list knows no reasons, and a meeting that just ended has hardly a finished recording:
        what is missing is left to a check of each. A meeting may go on for years: its list is read
        as far as recordings of the session are likely, and sweeps find the others. They also find
        what a list that is behind does not have yet, unless the recording's own webhook is first:
        that a meeting ended does not say that it was recorded, and most are not.

        Raises `RealtimeKitError` as `ingest_recording` does; what was listed before is catalogued
        then. A row that cannot be written does not stop the others: its error is raised at the end.
        """
        asked_at = self.now()
        rows = []
        failed: list[Exception] = []
        strangers, most = 0, _MAX_OTHERS_BEFORE
        for recording in self.realtimekit.recordings(meeting_id=request.meeting_id):
            if request.session_id in (None, recording.session_id):
                strangers, most = 0, _MAX_OTHERS_AFTER
            elif strangers == most:
                break
            else:
                strangers += 1
                if recording.session_id is not None:
                    continue
            try:
                rows.append(self.ingest_listed(recording, asked_at, request.source))
            except Exception as error:
                failed.append(error)
                if len(failed) == _MAX_FAILED_WRITES:
                    break
        if failed:
            raise failed[0]
        if request.source is Source.FOLLOW_UP:
            self.worklist.settle(request.key)
        return rows

    def ingest_listed(
        self, recording: Recording, asked_at: datetime, source: Source, known: Item | None = None
    ) -> Item:
        """Catalogue what a list says of a recording; the row. `known` is it as it was just read.

        What is not final is checked soon, and so is what only get-one knows: unless a sweep asks,
        which may find a year's recordings at once.
        """
        upserted = self.catalogue.upsert(recording, asked_at, known)
        row = upserted.row
        if is_erased(row):
            return row
        request = RecordingRequest(recording_id=row["recording_id"], source=source)
        if not is_final(row["status"]):
            # What was live when it was listed has most likely ended with its session.
            seconds = _UPLOADING if row["status"] == RecordingStatus.UPLOADING else _SOON
            # What is of no session is met with each of the meeting's: that is no news of it.
            is_news = upserted.changed or recording.session_id is not None
            leave = self.worklist.check_in if is_news else self.worklist.ensure
            leave(seconds, request.key, messages.fields(request), NOT_FINAL)
        elif not {"start_reason", "stop_reason"} <= row.keys():
            self.worklist.check_in(
                _SOON,
                request.key,
                messages.fields(request),
                DETAILS_MISSING,
                low=source is Source.SWEEP,
            )
        return row

    def postpone(self, request: IngestRequest, error: RealtimeKitError) -> None:
        """Leave a check behind, due when the other side, if it said so, wants to be asked again.

        A final recording that RealtimeKit has forgotten has nothing to be asked for any more.
        """
        if isinstance(error, NotFoundError) and self._is_forgotten(request):
            self.worklist.settle(request.key)
            return
        is_noted = request.source is Source.FOLLOW_UP and self.worklist.note_cause(
            request.key, error.cause, error.retry_after
        )
        if not is_noted:
            seconds = max(_SOON, error.retry_after or 0)
            self.worklist.check_in(seconds, request.key, messages.fields(request), error.cause)

    def _is_forgotten(self, request: IngestRequest) -> bool:
        """Say whether a request is for a recording that was final when its files were kept."""
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
        asked_at: datetime,
    ) -> Upserted:
        """Ask the session for its meeting, where neither get-one nor anybody else told it."""
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
            meeting_title=recording.meeting_title or session.meeting_title,
            organization_id=recording.organization_id or session.organization_id,
        )
        again = self.catalogue.upsert(completed, asked_at)
        return replace(upserted, row=again.row, changed=upserted.changed or again.changed)

    def _settle_or_check(self, request: RecordingRequest, upserted: Upserted) -> None:
        """For a mere duplicate of what is final, nothing is written: it has left no check."""
        if is_final(upserted.row["status"]):
            if upserted.changed or request.source in (Source.FOLLOW_UP, Source.API):
                self.worklist.settle(request.key)
            return
        is_news = upserted.changed or request.source is not Source.FOLLOW_UP
        if is_news or not self.worklist.note_cause(request.key, NOT_FINAL):
            seconds = _LIVE if upserted.row["status"] in _LIVE_STATUSES else _UPLOADING
            self.worklist.check_in(seconds, request.key, messages.fields(request), NOT_FINAL)


def _lacks_meeting(upserted: Upserted, source: Source) -> bool:
    """Return True if the session may say what a row lacks of its meeting.

    An event from the bus brings no title. Where there is a title and no id, the session was asked
    before: of a V1 meeting it says a room's name.
    """
    if "meeting_title" in upserted.row:
        return False
    return "meeting_id" not in upserted.row or (source is Source.EVENTBRIDGE and upserted.changed)


def _hinted(recording: Recording, hint: Hint) -> Recording:
    """Add what the hint knows and RealtimeKit did not say."""
    return replace(
        recording,
        meeting_id=recording.meeting_id or uuid(hint.meeting_id),
        session_id=recording.session_id or uuid(hint.session_id),
        meeting_title=recording.meeting_title or hint.title,
        organization_id=recording.organization_id or hint.organization_id,
    )
