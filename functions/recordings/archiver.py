"""Archiving of one recording's files, as far as one run gets.

One run at a time works on a recording. It copies the files that are not archived yet, and records
each file's state in the row. The first run uses the row's URLs if they are new. Any other run, and
a run whose URL is refused, fetches the recording for current URLs. Files that are left stay in the
check, with the uploads under way; S3 has their parts.

A file is marked expired only if three facts agree: its expiry has passed, its URL, if it has one,
is refused, and the bucket has no copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from recordings import rows, texts
from recordings.archive import (
    Archive,
    Stored,
    object_key,
    session_file_keys,
    storage_location,
)
from recordings.catalogue import Catalogue
from recordings.copier import Copier, OutOfTimeError, Upload, UploadLostError
from recordings.media import (
    Media,
    MediaChangedError,
    MediaError,
    MediaFile,
    MediaMissingError,
    UrlExpiredError,
)
from recordings.messages import ArchiveRequest
from recordings.model import Artifact, is_final, timestamp
from recordings.realtimekit import (
    NotFoundError,
    RealtimeKit,
    RealtimeKitError,
)
from recordings.rows import Archived, ArchiveState, ArtifactItem, Row
from recordings.worklist import Check, ClaimLostError, Worklist, is_urgent, utcnow

OUT_OF_TIME = "out_of_time"
NOT_OFFERED = "not_offered"
NOT_THERE = "not_there"
COPY_LOST = "copy_lost"
CLAIM_LOST = "claim_lost"
WRONG_LENGTH = "wrong_length"

_AT_ONCE = 0
# A run that is killed loses the states of so many files at most.
_MAX_UNRECORDED_FILES = 100
# Files that RealtimeKit never named are looked for at growing intervals.
_MIN_LOOK_INTERVAL = timedelta(minutes=15)
_MAX_LOOK_INTERVAL = timedelta(days=1)
# While RealtimeKit fails after a file's expiry, it may still name a later expiry.
_MAX_WAIT_AFTER_EXPIRY = timedelta(hours=12)
_MAX_TRIES = 2
# A backlog of 2,700 files is copied within an hour (two copies at a time). A URL lives for days, so
# an older one mostly works too, but the answer may have changed.
_MAX_AGE_OF_URLS = timedelta(hours=1)
# Unfinished uploads that a check keeps beside its deadline (DynamoDB's 400 KB for an item).
_MAX_UPLOADS = 50

ReportLost = Callable[[Sequence[str]], None]
"""A function that is called with the artifact names of lost files."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """The result of a run, by artifact name.

    `done` has the states that were recorded. `causes` has the reason in one word for each file that
    is not archived yet, and `details` has more of it. `uploaded_at` is the time of the UPLOADED
    status. `resumed` counts copies continued from an earlier run, `restarted` those begun anew.
    `is_busy` is True if another run holds the claim, so this one ended at once.
    """

    done: dict[str, ArchiveState] = field(default_factory=dict)
    causes: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    uploaded_at: str | None = None
    resumed: int = 0
    restarted: int = 0
    is_busy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Archiver:
    """The worker that archives recordings' files, and leaves checks for files not archived yet."""

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
        """Archive a recording's files until `out_of_time` returns True; claim it for `seconds`.

        `report_lost` is called before the row says that files are lost, so a run that dies in
        between reports them again. S3's and DynamoDB's errors come through; the check stays then,
        and is due when the claim ends.
        """
        # The row is read twice: the claim needs its deadline, the run needs it as it is then.
        deadline = rows.deadline(self.catalogue.get(request.recording_id) or {})
        if deadline:
            request = replace(request, deadline=deadline)
        check = self.worklist.claim(request, deadline, seconds)
        if check is None:
            return Outcome(is_busy=True)
        # Another run or an erasure may have held the claim in between.
        row = self.catalogue.get(request.recording_id) or {}
        run = _Run(self, check, request.recording_id, row, out_of_time, report_lost)
        run.work()
        return run.outcome


class _Run:
    """One claim's work on one recording; a recording without a row has the row `{}`."""

    def __init__(
        self,
        archiver: Archiver,
        check: Check,
        recording_id: str,
        row: Row,
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
        # The longest wait, in seconds, that was named when a session's file was fetched.
        self._retry_after = 0
        # True once this run has fetched the recording.
        self._is_refreshed = False
        # The time of RealtimeKit's last answer, which could have named a later expiry.
        self._answered_at: str = row.get("fetched_at", "")
        self.outcome = Outcome(uploaded_at=_uploaded_at(row))
        self._set_row(row)

    def work(self) -> None:
        """Archive the files; then finish the check, or release it with the files that are left."""
        try:
            self._close_check(self._archive_in_time())
        except ClaimLostError:
            self._set_remaining_causes(CLAIM_LOST, "another run has taken over the claim")

    def _archive_in_time(self) -> int | None:
        """Return the seconds until the next run, or None to let the check choose its interval."""
        try:
            self._archive_own_files()
            self._archive_session_files()
        except OutOfTimeError:
            self._set_remaining_causes(OUT_OF_TIME, "the invocation ran out of time")
            return _AT_ONCE
        finally:
            # Files that were archived are recorded even if S3 or DynamoDB failed afterwards.
            self._record_states()
        if self._failure:
            self._set_remaining_causes(self._failure.cause, str(self._failure))
            return self._failure.retry_after
        return self._retry_after or self._seconds_to_next_look()

    def _archive_own_files(self) -> None:
        """Archive the recording's own files, which share one answer of RealtimeKit."""
        try:
            self._archive_all(self._expired_files(), self._archive_file)
            if rows.media(self._unsettled()) and not self._has_new_urls():
                self._refresh_row()
            self._archive_all(rows.media(self._unsettled()), self._archive_file)
        except RealtimeKitError as error:
            self._failure = error

    def _archive_session_files(self) -> None:
        """Archive the session's files, which need no answer as long as their URLs work.

        They come last, because a new URL takes a request for each, which may spend the budget.
        """
        unsettled = self._unsettled().items()
        texts = {name: artifact for name, artifact in unsettled if rows.is_session_file(artifact)}
        self._archive_all(texts, self._archive_text)

    def _set_row(self, row: Row) -> None:
        """Continue with this row, completed by the URLs of RealtimeKit's last answer.

        A row keeps the older of two URLs with the same expiry, and drops the URLs of very many
        files.
        """
        self._row = row
        self._unsettled_in_row = {
            name: self._with_current_url(name, artifact)
            for name, artifact in rows.unsettled(row).items()
        }
        self._expiry = rows.expiry(rows.own(row)) if self._unsettled_in_row else ""

    def _with_current_url(self, name: str, artifact: ArtifactItem) -> ArtifactItem:
        return {**artifact, "url": self._urls[name]} if name in self._urls else artifact

    def _unsettled(self) -> dict[str, ArtifactItem]:
        """Return the artifacts, by name, without a last state in the row or from this run."""
        artifacts = self._unsettled_in_row.items()
        return {name: artifact for name, artifact in artifacts if name not in self.outcome.done}

    def _expired_files(self) -> dict[str, ArtifactItem]:
        """Return the recording's files that need no new answer, because they have expired.

        An offered file is among them only if its URL is known, since the URL is tried anyway.
        """
        return {
            name: artifact
            for name, artifact in rows.media(self._unsettled()).items()
            if self._has_expired(artifact) and ("url" in artifact or not rows.is_offered(artifact))
        }

    def _has_expired(self, artifact: ArtifactItem) -> bool:
        """Return True if the file's expiry had passed at RealtimeKit's last answer."""
        return self._expiry_of(artifact) <= self._answered_at

    def _expiry_of(self, artifact: ArtifactItem) -> str:
        if rows.is_session_file(artifact):
            return rows.expiry_of(self._row, artifact)
        # A row may have thousands of files, which have their expiry in common.
        return rows.said_expiry(artifact) or self._expiry

    def _has_new_urls(self) -> bool:
        """Return True if the row has a URL of each file, fetched within the hour, good for days.

        After a run that left files, only a new answer tells whether something has changed.
        """
        now = self._archiver.now()
        is_first_run = not self._check.progress
        is_new = self._answered_at > timestamp(now - _MAX_AGE_OF_URLS)
        files = rows.media(self._unsettled()).values()
        is_offered = all("url" in artifact for artifact in files)
        return is_first_run and is_new and is_offered and not is_urgent(self._expiry, now)

    def _refresh_row(self) -> None:
        """Fetch the recording for its current URLs, and catalogue it. Raises `RealtimeKitError`.

        Near the deadline the error is kept instead, because the known URLs may still work.
        """
        asked_at = self._archiver.now()
        try:
            recording = self._archiver.realtimekit.recording(self._recording_id)
        except RealtimeKitError as error:
            if not is_urgent(self._expiry, asked_at):
                raise
            # A later expiry may still come, unless RealtimeKit does not know the recording.
            is_forgotten = isinstance(error, NotFoundError)
            wait = timedelta(0) if is_forgotten else _MAX_WAIT_AFTER_EXPIRY
            self._failure = error
            self._answered_at = max(self._answered_at, timestamp(asked_at - wait))
            return
        self._failure = None
        self._is_refreshed = True
        self._answered_at = timestamp(asked_at)
        artifacts = recording.artifacts
        self._urls = {artifact.name: artifact.url for artifact in artifacts if artifact.url}
        self._set_row(self._archiver.catalogue.upsert(recording, asked_at).row)

    def _archive_all(
        self, artifacts: Mapping[str, ArtifactItem], archive: Callable[[str], None]
    ) -> None:
        """Archive the files in the order of their expiry; continue after one that fails."""
        for name in sorted(
            artifacts, key=lambda name: (artifacts[name].get("url_expires_at", ""), name)
        ):
            if self._out_of_time():
                raise OutOfTimeError
            try:
                archive(name)
            except (MediaError, UploadLostError) as error:
                self._set_cause(name, getattr(error, "cause", COPY_LOST), str(error))
            if len(self.outcome.done) - len(self._recorded) >= _MAX_UNRECORDED_FILES:
                self._record_states()

    def _archive_file(self, name: str) -> None:
        in_one = False
        for remaining in reversed(range(_MAX_TRIES)):
            artifact = self._unsettled_in_row.get(name)
            if artifact is None:
                # Others archived or erased it meanwhile.
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
                is_missing = isinstance(error, MediaMissingError) and self._is_refreshed
                if is_missing or self._failure or not remaining:
                    raise
                self._refresh_row()
            except (MediaChangedError, UploadLostError) as error:
                self._abort_upload(name)
                if not remaining:
                    raise
                # Ranges came from another file than the one opened; one answer is one file.
                in_one = isinstance(error, MediaChangedError)
                self.outcome.restarted += 1

    def _copy_file(self, name: str, artifact: ArtifactItem, in_one: bool) -> None:
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
        """Return the upload under way, if it is of this very file; else begin one and save it."""
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
            # Only this run knows the new upload; the others belong to the claim's new holder.
            self._abort_upload(name)
            raise

    def _abort_upload(self, name: str) -> None:
        if upload := self._uploads.pop(name, None):
            self._archiver.copier.abort(upload)

    def _archive_text(self, kind: str) -> None:
        """Archive a file of the session, from a newly fetched URL if the row's one is refused."""
        artifact = self._unsettled_in_row.get(kind)
        if artifact is None:
            # Others archived or erased it meanwhile.
            return
        refusal = self._copy_text(kind, artifact["url"]) if "url" in artifact else None
        if "url" in artifact and refusal is None:
            return
        try:
            offered = self._fetch_session_file(kind, artifact)
        except RealtimeKitError as error:
            # Each of the session's files waits for an answer of its own.
            self._retry_after = max(self._retry_after, error.retry_after or 0)
            self._set_cause(kind, error.cause, str(error))
            return
        if offered and offered.url:
            refusal = self._copy_text(kind, offered.url)
            if refusal is None:
                return
        expires_at = self._expiry_of(artifact)
        if offered and offered.url_expires_at:
            expires_at = max(expires_at, timestamp(offered.url_expires_at))
        if expires_at <= self._timestamp():
            self._settle_expired(kind, artifact)
        elif refusal:
            raise refusal
        else:
            self._set_cause(kind, NOT_OFFERED)

    def _fetch_session_file(self, kind: str, artifact: ArtifactItem) -> Artifact | None:
        """Return RealtimeKit's offer of a file of the session. Raises `RealtimeKitError`.

        An error counts as no offer once it has lasted for long after the file's expiry.
        """
        now = self._archiver.now()
        try:
            return self._archiver.realtimekit.session_file(self._row["session_id"], kind)
        except NotFoundError:
            return None
        except RealtimeKitError:
            if self._expiry_of(artifact) > timestamp(now - _MAX_WAIT_AFTER_EXPIRY):
                raise
            return None

    def _copy_text(self, kind: str, url: str) -> MediaError | None:
        """Copy a text, or settle that it is empty. Return the error if the URL is refused."""
        archive = self._archiver.archive
        try:
            data = self._archiver.media.read(
                url, max_bytes=texts.MAX_BYTES, require_time=self._require_time
            )
            content_type = texts.require_text(kind, data)
        except (UrlExpiredError, MediaMissingError) as error:
            return error
        except texts.EmptyTextError as error:
            self._settle_empty(kind, error)
            return None
        key = session_file_keys(self._row, kind)[content_type]
        self.outcome.done[kind] = self._archived_state(
            archive.put(key, data, content_type, self._recording_id)
        )
        return None

    def _settle_empty(self, kind: str, error: MediaError) -> None:
        """Look at an empty text again later, because it may be filled; finally it is no file."""
        now = self._archiver.now()
        if is_final(self._row.get("status")):
            is_last = rows.next_look(self._row, now) is None
        else:
            # The recording may never become final, and then the URL would seem to have expired.
            is_last = now - self._check.since > rows.LAST_LOOK
        if is_last:
            self._mark_none(kind)
        else:
            self._set_cause(kind, error.cause, str(error))

    def _settle_without_url(self, name: str, artifact: ArtifactItem) -> None:
        """Adopt a file from the bucket, postpone one that may still come, or give it a last state.

        RealtimeKit may still offer a file that it names.
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

    def _settle_expired(self, name: str, artifact: ArtifactItem) -> None:
        """Mark a file expired, unless the bucket has a copy by an earlier run or by its owner."""
        if rows.is_session_file(artifact):
            keys = session_file_keys(self._row, name).values()
            copies = filter(None, map(self._archiver.archive.find, keys))
            stored = next(copies, None)
        else:
            stored = self._find_copy(name, artifact)
        if stored:
            self._adopt(name, artifact, stored)
        else:
            self._mark_expired(name, artifact)

    def _mark_expired(self, name: str, artifact: ArtifactItem) -> None:
        self.outcome.done[name] = {"state": "expired", "expired_at": self._timestamp()}
        # A file that expired before the row existed could not have been saved: no alarm.
        if self._expiry_of(artifact) > self._row["first_seen_at"]:
            self._unreported.append(name)
        self._abort_upload(name)

    def _mark_external(self, name: str, location: Mapping[str, Any]) -> None:
        noted_at = self._timestamp()
        self.outcome.done[name] = {"state": "external", "location": location, "noted_at": noted_at}

    def _mark_none(self, name: str) -> None:
        self.outcome.done[name] = {"state": "none", "noted_at": self._timestamp()}

    def _postpone(self, name: str, cause: str) -> None:
        """Leave the file to a later run; RealtimeKit's failure, if it failed, becomes the cause."""
        if self._failure is None:
            self._set_cause(name, cause)

    def _set_cause(self, name: str, cause: str, detail: str = "") -> None:
        self.outcome.causes[name] = cause
        self.outcome.details[name] = detail

    def _set_remaining_causes(self, cause: str, detail: str) -> None:
        for name in self._unsettled():
            if name not in self.outcome.causes:
                self._set_cause(name, cause, detail)

    def _find_copy(self, name: str, artifact: ArtifactItem) -> Stored | None:
        return self._archiver.archive.find(
            object_key({**self._row, "artifacts": {name: artifact}}, name)
        )

    def _adopt(self, name: str, artifact: ArtifactItem, stored: Stored) -> None:
        """Mark the file archived as this object, unless RealtimeKit names another length."""
        is_own = not rows.is_session_file(artifact)
        is_named = is_own and artifact.get("file_name") == self._row.get("file_name")
        size = artifact.get("file_size") or (self._row.get("file_size") if is_named else None)
        if size and size != stored.size:
            detail = f"{stored.size} bytes in the bucket, not {size}"
            self._set_cause(name, WRONG_LENGTH, detail)
            return
        self._abort_upload(name)
        self.outcome.done[name] = self._archived_state(stored)

    def _is_in_bucket(self, location: Mapping[str, Any]) -> bool:
        """Return True if the file is in this bucket, not in one of the same name at R2 or GCS."""
        is_s3 = location.get("type", "aws") == "aws"
        bucket = self._archiver.archive.bucket
        return is_s3 and location.get("bucket") == bucket and "key" in location

    def _archived_state(self, stored: Stored) -> Archived:
        state: Archived = {
            "state": "archived",
            "bucket": stored.bucket,
            "key": stored.key,
            "size": stored.size,
            "archived_at": self._timestamp(),
        }
        if stored.checksum_crc32:
            state["checksum_crc32"] = stored.checksum_crc32
        return state

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
        """Return the seconds until the next look; None if a file left can be tried again sooner."""
        now = self._archiver.now()
        looks = [
            self._look_after(name, artifact, now) for name, artifact in self._unsettled().items()
        ]
        known = [look for look in looks if look is not None]
        if not known or len(known) < len(looks):
            return None
        return int(max(_MIN_LOOK_INTERVAL, min(known)).total_seconds())

    def _look_after(self, name: str, artifact: ArtifactItem, now: datetime) -> timedelta | None:
        """Return how long a file that may never come waits for its next look, None for others.

        RealtimeKit never named a placeholder's file, and most of them never come, because the
        meeting was empty. A session's file was announced, and is empty or not offered yet.
        """
        cause = self.outcome.causes.get(name)
        if rows.is_session_file(artifact) and cause == texts.EmptyTextError.cause:
            look = rows.next_look(self._row, now)
            return look - now if look else _MAX_LOOK_INTERVAL
        if not (rows.is_placeholder(name, artifact) or _is_awaited(artifact, cause)):
            return None
        age = now - datetime.fromisoformat(self.outcome.uploaded_at or timestamp(now))
        left = datetime.fromisoformat(self._expiry_of(artifact)) - now
        return min(age, _MAX_LOOK_INTERVAL, left)

    def _close_check(self, seconds: int | None) -> None:
        unsettled = self._unsettled()
        causes = self.outcome.causes
        self.outcome.causes = {name: causes.get(name, NOT_OFFERED) for name in unsettled}
        if unsettled:
            cause = min(self.outcome.causes.values())
            self._archiver.worklist.release(self._check, cause, self._progress(), seconds)
            return
        # Uploads of files that got another state, or were erased.
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


def _is_awaited(artifact: ArtifactItem, cause: str | None) -> bool:
    """Return True for a session's file that RealtimeKit has announced, and does not have yet."""
    return rows.is_session_file(artifact) and cause in (NOT_OFFERED, MediaMissingError.cause)


def _is_copy_of(upload: Upload, file: MediaFile) -> bool:
    return file.has_ranges and (upload.etag, upload.size) == (file.etag, file.size)
