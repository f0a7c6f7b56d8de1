"""From a request to archived files: what `archive_recording` does, and how far it gets.

One run at a time works on a recording. It fetches the details anew, for URLs that are current,
copies what is not yet archived, and writes down what became of it. Whatever is left is released as
a check: the uploads under way are in it, and S3 has their parts.

A file is noted as expired only if three things agree: its time is over, its URL, if there is one,
is refused, and the bucket has no copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from recordings import messages, rows
from recordings.archive import Archive, Stored, object_key, storage_location
from recordings.catalogue import Catalogue
from recordings.copier import Copier, OutOfTimeError, Upload, UploadLostError
from recordings.dynamodb import Item
from recordings.media import (
    Media,
    MediaChangedError,
    MediaError,
    MediaFile,
    MediaMissingError,
    UrlExpiredError,
)
from recordings.messages import ArchiveRequest
from recordings.model import timestamp
from recordings.realtimekit import NotFoundError, RealtimeKit, RealtimeKitError
from recordings.worklist import Check, ClaimLostError, Worklist, is_urgent, utcnow

OUT_OF_TIME = "out_of_time"
NOT_OFFERED = "not_offered"
NOT_THERE = "not_there"
COPY_LOST = "copy_lost"
CLAIM_LOST = "claim_lost"
WRONG_LENGTH = "wrong_length"

_AT_ONCE = 0
# A run of thousands of files that is killed loses the record of so many at most.
_MAX_UNRECORDED_FILES = 100
# How often to look for files that RealtimeKit never named: ever later, and once a day in the end.
_MIN_LOOK_INTERVAL = timedelta(minutes=15)
_MAX_LOOK_INTERVAL = timedelta(days=1)
# After a file's expiry, as long as RealtimeKit cannot be asked whether it has a later one.
_MAX_WAIT_AFTER_EXPIRY = timedelta(hours=12)
_MAX_TRIES = 2
# Copies that broke off are kept to go on with, as many as a check has room for beside its deadline.
_MAX_UPLOADS = 50

ReportLost = Callable[[Sequence[str]], None]
"""Who hears of files that are lost, by the names of their artifacts."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a recording's files, by artifact's name.

    `done` are the states that were recorded, `causes` why others are not archived yet, in a word,
    and `details` in more. `uploaded_at` is since when the catalogue has known that they can be had.
    `resumed` counts copies that went on where an earlier run had stopped, `restarted` those that
    had to begin anew. A run that was `busy` left it all to another that is under way.
    """

    done: dict[str, Item] = field(default_factory=dict)
    causes: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    uploaded_at: str | None = None
    resumed: int = 0
    restarted: int = 0
    is_busy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Archiver:
    """Archives recordings' files, and leaves checks for what is not archived yet."""

    realtimekit: RealtimeKit
    catalogue: Catalogue
    worklist: Worklist
    media: Media
    archive: Archive
    copier: Copier
    now: Callable[[], datetime] = utcnow

    def archive_recording(
        self,
        request: ArchiveRequest,
        seconds: int,
        out_of_time: Callable[[], bool],
        report_lost: ReportLost,
    ) -> Outcome:
        """Copy what can be copied before `out_of_time`; `seconds` is the longest it may take.

        `report_lost` is given the names of files that expired and could have been saved, before the
        row says so: whoever dies in between tells again. S3's and DynamoDB's errors come through.
        The check stays then, and is due when the seconds are over.
        """
        # Read twice, since the claim needs the deadline and the work needs the row as it is then.
        deadline = rows.deadline(self.catalogue.get(request.recording_id) or {})
        fields = messages.fields(request) | ({"deadline": deadline} if deadline else {})
        check = self.worklist.claim(request.key, fields, deadline, seconds)
        if check is None:
            return Outcome(is_busy=True)
        # Another run or an erasure may have had the claim in between.
        row = self.catalogue.get(request.recording_id) or {}
        run = _Run(self, check, request.recording_id, row, out_of_time, report_lost)
        run.work()
        return run.outcome


class _Run:
    """One claim's work on one recording; `{}` is the row of one that is not catalogued."""

    def __init__(
        self,
        archiver: Archiver,
        check: Check,
        recording_id: str,
        row: Item,
        out_of_time: Callable[[], bool],
        report_lost: ReportLost,
    ) -> None:
        self._archiver = archiver
        self._check = check
        self._recording_id = recording_id
        self._out_of_time = out_of_time
        self._report_lost = report_lost
        self._uploads = {
            name: Upload.of(fields) for name, fields in check.progress.get("uploads", {}).items()
        }
        self._urls: dict[str, str] = {}
        self._recorded: set[str] = set()
        self._unreported: list[str] = []
        self._failure: RealtimeKitError | None = None
        # When RealtimeKit last had the chance to say that a file has a later expiry.
        self._answered_at: str = row.get("fetched_at", "")
        self.outcome = Outcome(uploaded_at=_uploaded_at(row))
        self._set_row(row)

    def work(self) -> None:
        """Archive what can be archived; then finish the check, or release it with what is left."""
        try:
            self._close_check(self._archive_in_time())
        except ClaimLostError:
            self._set_remaining_causes(CLAIM_LOST, "another run has taken the work over")

    def _archive_in_time(self) -> int | None:
        """Return in how many seconds to try again, `None` for ever longer intervals."""
        try:
            self._archive_all(self._expired_files())
            if self._unsettled():
                self._refresh_row()
                self._archive_all(self._unsettled())
        except RealtimeKitError as error:
            self._failure = error
        except OutOfTimeError:
            self._set_remaining_causes(OUT_OF_TIME, "the function's time is over")
            return _AT_ONCE
        finally:
            # Also where S3 or DynamoDB fail: what was archived is.
            self._record_states()
        if self._failure:
            self._set_remaining_causes(self._failure.cause, str(self._failure))
            return self._failure.retry_after
        return self._seconds_to_next_look()

    def _set_row(self, row: Item) -> None:
        """Go on with the row as it is now, and with the URLs that it does not keep.

        A row keeps the older of two URLs that expire at the same time, and none of very many.
        """
        self._row = row
        self._unsettled_in_row = {
            name: {**artifact, "url": self._urls[name]} if name in self._urls else artifact
            for name, artifact in rows.unsettled(row).items()
        }
        self._expiry = rows.expiry(row) if self._unsettled_in_row else ""

    def _unsettled(self) -> dict[str, Item]:
        """Return the artifacts, by name, that neither the row nor this run has a state for."""
        artifacts = self._unsettled_in_row.items()
        return {name: artifact for name, artifact in artifacts if name not in self.outcome.done}

    def _expired_files(self) -> dict[str, Item]:
        """Return the files whose time was over when RealtimeKit was last asked.

        Asking once more is no use. An offered file is one of them if its URL is known, since that
        is tried all the same.
        """
        return {
            name: artifact
            for name, artifact in self._unsettled().items()
            if self._has_expired(artifact) and ("url" in artifact or not rows.is_offered(artifact))
        }

    def _has_expired(self, artifact: Item) -> bool:
        """Return True if its time was over at RealtimeKit's last answer."""
        return self._expiry_of(artifact) <= self._answered_at

    def _expiry_of(self, artifact: Item) -> str:
        return rows.said_expiry(artifact) or self._expiry

    def _refresh_row(self) -> None:
        """Bring the row and its URLs up to date; raise `RealtimeKitError` if that cannot be done.

        When time is short nothing is raised, since the URLs that are known may still be good.
        """
        asked_at = self._archiver.now()
        try:
            recording = self._archiver.realtimekit.recording(self._recording_id)
        except RealtimeKitError as error:
            if not is_urgent(self._expiry, asked_at):
                raise
            # No answer tells of a later expiry; a recording that is unknown has none.
            is_forgotten = isinstance(error, NotFoundError)
            patience = timedelta(0) if is_forgotten else _MAX_WAIT_AFTER_EXPIRY
            self._failure = error
            self._answered_at = max(self._answered_at, timestamp(asked_at - patience))
            return
        self._failure = None
        self._answered_at = timestamp(asked_at)
        artifacts = recording.artifacts
        self._urls = {artifact.name: artifact.url for artifact in artifacts if artifact.url}
        self._set_row(self._archiver.catalogue.upsert(recording, asked_at).row)

    def _archive_all(self, artifacts: Mapping[str, Item]) -> None:
        """Archive the files, those first that are gone first; go on where one of them fails."""
        for name in sorted(
            artifacts, key=lambda name: (artifacts[name].get("url_expires_at", ""), name)
        ):
            if self._out_of_time():
                raise OutOfTimeError
            try:
                self._archive_file(name)
            except (MediaError, UploadLostError) as error:
                self._set_cause(name, getattr(error, "cause", COPY_LOST), str(error))
            if len(self.outcome.done) - len(self._recorded) >= _MAX_UNRECORDED_FILES:
                self._record_states()

    def _archive_file(self, name: str) -> None:
        in_one = False
        for remaining in reversed(range(_MAX_TRIES)):
            artifact = self._unsettled_in_row.get(name)
            if artifact is None:
                # It was archived or erased by others meanwhile.
                return
            if "url" not in artifact:
                self._settle_without_url(name, artifact)
                return
            try:
                self._copy_file(name, artifact, in_one)
                return
            except (UrlExpiredError, MediaMissingError) as error:
                if self._has_expired(artifact):
                    self._settle_expired(name, artifact)
                    return
                is_missing = isinstance(error, MediaMissingError)
                if is_missing or self._failure or not remaining:
                    raise
                self._refresh_row()
            except (MediaChangedError, UploadLostError) as error:
                self._abort_upload(name)
                if not remaining:
                    raise
                # No range is of the file that was opened; one answer is of one file.
                in_one = isinstance(error, MediaChangedError)
                self.outcome.restarted += 1

    def _copy_file(self, name: str, artifact: Item, in_one: bool) -> None:
        file = self._archiver.media.open(
            artifact["url"],
            size=artifact.get("file_size"),
            is_urgent=self._check.is_urgent(self._archiver.now()),
            in_one=in_one,
            require_time=self._require_time,
        )
        try:
            upload = self._resume_or_begin(name, file)
            if isinstance(upload, Upload):
                stored = self._archiver.copier.copy(file, upload, self._out_of_time)
            else:
                stored = upload
        except OutOfTimeError as error:
            if error.is_stuck:
                self._uploads[name] = replace(self._uploads[name], is_stuck=True)
            raise
        finally:
            file.close()
        self._uploads.pop(name, None)
        self.outcome.done[name] = self._archived_state(stored)

    def _require_time(self) -> None:
        if self._out_of_time():
            raise OutOfTimeError

    def _resume_or_begin(self, name: str, file: MediaFile) -> Upload | Stored:
        """Return the copy under way, if it is of this very file; else a new one, kept at once."""
        known = self._uploads.get(name)
        if known and not known.is_stuck and _is_copy_of(known, file):
            self.outcome.resumed += 1
            return known
        if known:
            self._abort_upload(name)
            self.outcome.restarted += 1
        upload = self._archiver.copier.begin(
            object_key(self._row, name),
            file,
            self._recording_id,
            in_small_parts=known is not None and known.is_stuck,
        )
        if isinstance(upload, Upload):
            self._keep_upload(name, upload)
        return upload

    def _keep_upload(self, name: str, upload: Upload) -> None:
        while len(self._uploads) >= _MAX_UPLOADS:
            self._abort_upload(next(iter(self._uploads)))
        self._uploads[name] = upload
        try:
            self._archiver.worklist.save_progress(self._check, self._progress())
        except ClaimLostError:
            # Nobody else knows of this one; all others are the new owner's.
            self._abort_upload(name)
            raise

    def _abort_upload(self, name: str) -> None:
        if upload := self._uploads.pop(name, None):
            self._archiver.copier.abort(upload)

    def _settle_without_url(self, name: str, artifact: Item) -> None:
        """Note where a file without a URL is, or that it is gone or never was.

        A file that RealtimeKit names among those that it offers may be offered later.
        """
        location = storage_location(self._row, artifact)
        is_in_bucket = self._is_in_bucket(location)
        is_promised = name != artifact["kind"] or rows.is_offered(artifact)
        may_appear = is_in_bucket or is_promised or not location
        stored = self._archiver.archive.find(location["key"]) if is_in_bucket else None
        if stored:
            self._adopt(name, artifact, stored)
        elif may_appear and not self._has_expired(artifact):
            self._postpone(name, NOT_THERE if is_in_bucket else NOT_OFFERED)
        elif location and not is_in_bucket:
            self._mark_external(name, location)
        elif rows.is_placeholder(name, artifact):
            self._mark_none(name)
        else:
            self._settle_expired(name, artifact)

    def _settle_expired(self, name: str, artifact: Item) -> None:
        """Note that a file is gone, unless an earlier run, or its owner, has put it there."""
        if stored := self._find_copy(name, artifact):
            self._adopt(name, artifact, stored)
        else:
            self._mark_expired(name, artifact)

    def _mark_expired(self, name: str, artifact: Item) -> None:
        self.outcome.done[name] = {"state": "expired", "expired_at": self._timestamp()}
        # What was gone when we first heard of it could not have been saved: no alarm for that.
        if self._expiry_of(artifact) > self._row["first_seen_at"]:
            self._unreported.append(name)
        self._abort_upload(name)

    def _mark_external(self, name: str, location: Item) -> None:
        state = {"state": "external", "location": location, "noted_at": self._timestamp()}
        self.outcome.done[name] = state

    def _mark_none(self, name: str) -> None:
        self.outcome.done[name] = {"state": "none", "noted_at": self._timestamp()}

    def _postpone(self, name: str, cause: str) -> None:
        """Leave the file to a later run; as long as RealtimeKit fails, that is the cause."""
        if self._failure is None:
            self._set_cause(name, cause)

    def _set_cause(self, name: str, cause: str, detail: str = "") -> None:
        self.outcome.causes[name] = cause
        self.outcome.details[name] = detail

    def _set_remaining_causes(self, cause: str, detail: str) -> None:
        for name in self._unsettled():
            if name not in self.outcome.causes:
                self._set_cause(name, cause, detail)

    def _find_copy(self, name: str, artifact: Item) -> Stored | None:
        return self._archiver.archive.find(
            object_key({**self._row, "artifacts": {name: artifact}}, name)
        )

    def _adopt(self, name: str, artifact: Item, stored: Stored) -> None:
        """Take an object that is there for the file, unless RealtimeKit says another length."""
        is_named = artifact.get("file_name") == self._row.get("file_name")
        size = artifact.get("file_size") or (self._row.get("file_size") if is_named else None)
        if size and size != stored.size:
            detail = f"{stored.size} bytes in the bucket, not {size}"
            self._set_cause(name, WRONG_LENGTH, detail)
            return
        self._abort_upload(name)
        self.outcome.done[name] = self._archived_state(stored)

    def _is_in_bucket(self, location: Item) -> bool:
        """A file in the archive's own bucket; R2 or GCS may have one of the same name."""
        is_s3 = location.get("type", "aws") == "aws"
        bucket = self._archiver.archive.bucket
        return is_s3 and location.get("bucket") == bucket and "key" in location

    def _archived_state(self, stored: Stored) -> Item:
        checksum = stored.checksum_crc32
        return {
            "state": "archived",
            "bucket": stored.bucket,
            "key": stored.key,
            "size": stored.size,
            **({"checksum_crc32": checksum} if checksum else {}),
            "archived_at": self._timestamp(),
        }

    def _record_states(self) -> None:
        done = self.outcome.done.items()
        states = {name: state for name, state in done if name not in self._recorded}
        if not states:
            return
        if self._unreported:
            self._report_lost(self._unreported)
            self._unreported = []
        row = self._archiver.catalogue.record_archive(self._recording_id, states)
        self._recorded |= states.keys()
        self._set_row(row or {})

    def _seconds_to_next_look(self) -> int | None:
        """Return when to look again for files that most likely never were; else `None`.

        Most recordings without a file have none because nothing was recorded.
        """
        unsettled = self._unsettled().items()
        are_placeholders = (rows.is_placeholder(name, artifact) for name, artifact in unsettled)
        if not unsettled or not all(are_placeholders):
            return None
        now = self._archiver.now()
        age = now - datetime.fromisoformat(self.outcome.uploaded_at or timestamp(now))
        left = datetime.fromisoformat(self._expiry) - now
        return int(max(_MIN_LOOK_INTERVAL, min(age, _MAX_LOOK_INTERVAL, left)).total_seconds())

    def _close_check(self, seconds: int | None) -> None:
        unsettled = self._unsettled()
        causes = self.outcome.causes
        self.outcome.causes = {name: causes.get(name, NOT_OFFERED) for name in unsettled}
        if unsettled:
            cause = min(self.outcome.causes.values())
            self._archiver.worklist.release(self._check, cause, self._progress(), seconds)
            return
        # Of files that became something else, or were erased.
        for name in list(self._uploads):
            self._abort_upload(name)
        self._archiver.worklist.finish(self._check)

    def _timestamp(self) -> str:
        return timestamp(self._archiver.now())

    def _progress(self) -> dict[str, Any]:
        return {"uploads": {name: upload.fields() for name, upload in self._uploads.items()}}


def _uploaded_at(row: Mapping[str, Any]) -> str | None:
    history = row.get("status_history", ())
    times = [entry["at"] for entry in history if entry["status"] == row["status"]]
    return times[-1] if times else None


def _is_copy_of(upload: Upload, file: MediaFile) -> bool:
    return file.has_ranges and (upload.etag, upload.size) == (file.etag, file.size)
