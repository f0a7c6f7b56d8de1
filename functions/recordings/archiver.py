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
from recordings.archive import (
    Archive,
    OutOfTimeError,
    Stored,
    Upload,
    UploadLostError,
    object_key,
    storage_location,
)
from recordings.catalogue import Catalogue
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

_AT_ONCE = 0
# A run of thousands of files that is killed loses the record of so many at most.
_FILES_PER_RECORD = 100
# How often to look for files that RealtimeKit never named: ever later, and once a day in the end.
_FIRST_LOOK = timedelta(minutes=15)
_LAST_LOOKS = timedelta(days=1)
# After a file's expiry, as long as RealtimeKit cannot be asked whether it has a later one.
_PATIENCE_WITH_EXPIRED = timedelta(hours=12)
_TRIES = 2
# Copies that broke off are kept to go on with, as many as a check has room for beside its deadline.
_MAX_UPLOADS = 50
WRONG_LENGTH = "wrong_length"

TellLost = Callable[[Sequence[str]], None]
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
    now: Callable[[], datetime] = utcnow

    def archive_recording(
        self,
        request: ArchiveRequest,
        seconds: int,
        out_of_time: Callable[[], bool],
        tell_lost: TellLost,
    ) -> Outcome:
        """Copy what can be copied before `out_of_time`; `seconds` is the longest it may take.

        `tell_lost` is given the names of files that expired and could have been saved, before the
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
        run = _Run(self, check, request.recording_id, row, out_of_time, tell_lost)
        run.work()
        return run.outcome


class _Run:
    """One claim's work on one recording; `{}` is the row of one that is not catalogued."""

    def __init__(
        self,
        owner: Archiver,
        check: Check,
        recording_id: str,
        row: Item,
        out_of_time: Callable[[], bool],
        tell_lost: TellLost,
    ) -> None:
        self._owner = owner
        self._check = check
        self._recording_id = recording_id
        self._out_of_time = out_of_time
        self._tell_lost = tell_lost
        self._uploads = {
            name: Upload.of(fields) for name, fields in check.progress.get("uploads", {}).items()
        }
        self._urls: dict[str, str] = {}
        self._recorded: set[str] = set()
        self._lost: list[str] = []
        self._failure: RealtimeKitError | None = None
        # When RealtimeKit last had the chance to say that a file has a later expiry.
        self._answered_at: str = row.get("fetched_at", "")
        self.outcome = Outcome(uploaded_at=_uploaded_at(row))
        self._take(row)

    def work(self) -> None:
        """Archive what can be archived; then finish the check, or release it with what is left."""
        try:
            self._let_go(self._archive_in_time())
        except ClaimLostError:
            self._blame(CLAIM_LOST, "another run has taken the work over")

    def _archive_in_time(self) -> int | None:
        """Return in how many seconds to try again, `None` for ever longer intervals."""
        try:
            self._archive_all(self._overdue())
            if self._open():
                self._fetch()
                self._archive_all(self._open())
        except RealtimeKitError as error:
            self._failure = error
        except OutOfTimeError:
            self._blame(OUT_OF_TIME, "the function's time is over")
            return _AT_ONCE
        finally:
            # Also where S3 or DynamoDB fail: what was archived is.
            self._record()
        if self._failure:
            self._blame(self._failure.cause, str(self._failure))
            return self._failure.retry_after
        return self._pause()

    def _take(self, row: Item) -> None:
        """Go on with the row as it is now, and with the URLs that it does not keep.

        A row keeps the older of two URLs that expire at the same time, and none of very many.
        """
        self._row = row
        self._unsettled = {
            name: {**artifact, "url": self._urls[name]} if name in self._urls else artifact
            for name, artifact in rows.unsettled(row).items()
        }
        self._expiry = rows.expiry(row) if self._unsettled else ""

    def _open(self) -> dict[str, Item]:
        """Return the artifacts, by name, that neither the row nor this run has a state for."""
        unsettled = self._unsettled.items()
        return {name: one for name, one in unsettled if name not in self.outcome.done}

    def _overdue(self) -> dict[str, Item]:
        """Return the files whose time was over when RealtimeKit was last asked.

        Asking once more is no use. An offered file is one of them if its URL is known, since that
        is tried all the same.
        """
        return {
            name: artifact
            for name, artifact in self._open().items()
            if self._is_over(artifact) and ("url" in artifact or not rows.is_offered(artifact))
        }

    def _is_over(self, artifact: Item) -> bool:
        """Return True if its time was over at RealtimeKit's last answer."""
        return self._expires_at(artifact) <= self._answered_at

    def _expires_at(self, artifact: Item) -> str:
        return rows.said_expiry(artifact) or self._expiry

    def _fetch(self) -> None:
        """Bring the row and its URLs up to date; raise `RealtimeKitError` if that cannot be done.

        When time is short nothing is raised, since the URLs that are known may still be good.
        """
        asked_at = self._owner.now()
        try:
            recording = self._owner.realtimekit.recording(self._recording_id)
        except RealtimeKitError as error:
            if not is_urgent(self._expiry, asked_at):
                raise
            # No answer tells of a later expiry; a recording that is unknown has none.
            is_forgotten = isinstance(error, NotFoundError)
            patience = timedelta(0) if is_forgotten else _PATIENCE_WITH_EXPIRED
            self._failure = error
            self._answered_at = max(self._answered_at, timestamp(asked_at - patience))
            return
        self._failure = None
        self._answered_at = timestamp(asked_at)
        self._urls = {one.name: one.url for one in recording.artifacts if one.url}
        self._take(self._owner.catalogue.upsert(recording, asked_at).row)

    def _archive_all(self, artifacts: Mapping[str, Item]) -> None:
        """Archive the files, those first that are gone first; go on where one of them fails."""
        for name in sorted(
            artifacts, key=lambda name: (artifacts[name].get("url_expires_at", ""), name)
        ):
            if self._out_of_time():
                raise OutOfTimeError
            try:
                self._archive(name)
            except (MediaError, UploadLostError) as error:
                self.outcome.causes[name] = getattr(error, "cause", COPY_LOST)
                self.outcome.details[name] = str(error)
            if len(self.outcome.done) - len(self._recorded) >= _FILES_PER_RECORD:
                self._record()

    def _archive(self, name: str) -> None:
        in_one = False
        for remaining in reversed(range(_TRIES)):
            artifact = self._unsettled.get(name)
            if artifact is None:
                # It was archived or erased by others meanwhile.
                return
            if "url" not in artifact:
                self._place(name, artifact)
                return
            try:
                self._copy(name, artifact, in_one)
                return
            except (UrlExpiredError, MediaMissingError) as error:
                if self._is_over(artifact):
                    self._lose(name, artifact)
                    return
                is_missing = isinstance(error, MediaMissingError)
                if is_missing or self._failure or not remaining:
                    raise
                self._fetch()
            except (MediaChangedError, UploadLostError) as error:
                self._abort(name)
                if not remaining:
                    raise
                # No range is of the file that was opened; one answer is of one file.
                in_one = isinstance(error, MediaChangedError)
                self.outcome.restarted += 1

    def _copy(self, name: str, artifact: Item, in_one: bool) -> None:
        file = self._owner.media.open(
            artifact["url"],
            size=artifact.get("file_size"),
            is_urgent=self._check.is_urgent(self._owner.now()),
            in_one=in_one,
            require_time=self._require_time,
        )
        try:
            upload = self._upload(name, file)
            if isinstance(upload, Upload):
                stored = self._owner.archive.copy(file, upload, self._out_of_time)
            else:
                stored = upload
        except OutOfTimeError as error:
            if error.is_stuck:
                self._uploads[name] = replace(self._uploads[name], is_stuck=True)
            raise
        finally:
            file.close()
        self._uploads.pop(name, None)
        self.outcome.done[name] = self._archived(stored)

    def _require_time(self) -> None:
        if self._out_of_time():
            raise OutOfTimeError

    def _upload(self, name: str, file: MediaFile) -> Upload | Stored:
        """Return the copy under way, if it is of this very file; else a new one, kept at once."""
        known = self._uploads.get(name)
        if known:
            is_same = file.has_ranges and (known.etag, known.size) == (file.etag, file.size)
            if is_same and not known.is_stuck:
                self.outcome.resumed += 1
                return known
            self._abort(name)
            self.outcome.restarted += 1
        upload = self._owner.archive.begin(
            object_key(self._row, name),
            file,
            self._recording_id,
            in_small_parts=known is not None and known.is_stuck,
        )
        if isinstance(upload, Upload):
            while len(self._uploads) >= _MAX_UPLOADS:
                self._abort(next(iter(self._uploads)))
            self._uploads[name] = upload
            try:
                self._owner.worklist.save_progress(self._check, self._progress())
            except ClaimLostError:
                # Nobody else knows of this one; all others are the new owner's.
                self._abort(name)
                raise
        return upload

    def _abort(self, name: str) -> None:
        if upload := self._uploads.pop(name, None):
            self._owner.archive.abort(upload)

    def _place(self, name: str, artifact: Item) -> None:
        """Note where a file without a URL is, or that it is gone or never was.

        A file that RealtimeKit names among those that it offers may be offered later.
        """
        location = storage_location(self._row, artifact)
        is_ours, is_over = self._is_ours(location), self._is_over(artifact)
        is_promised = name != artifact["kind"] or rows.is_offered(artifact)
        stored = self._owner.archive.find(location["key"]) if is_ours else None
        now = timestamp(self._owner.now())
        if stored:
            self._adopt(name, artifact, stored)
        elif not is_over and (is_ours or is_promised or not location):
            self._wait(name, NOT_THERE if is_ours else NOT_OFFERED)
        elif location and not is_ours:
            self.outcome.done[name] = {"state": "external", "location": location, "noted_at": now}
        elif rows.is_placeholder(name, artifact):
            self.outcome.done[name] = {"state": "none", "noted_at": now}
        else:
            self._lose(name, artifact)

    def _wait(self, name: str, cause: str, detail: str = "") -> None:
        """Leave the file to a later run; as long as RealtimeKit fails, that is the cause."""
        if self._failure is None:
            self.outcome.causes[name] = cause
            self.outcome.details[name] = detail

    def _lose(self, name: str, artifact: Item) -> None:
        """Note that a file is gone, unless an earlier run, or its owner, has put it there."""
        if stored := self._find(name, artifact):
            self._adopt(name, artifact, stored)
            return
        now = timestamp(self._owner.now())
        self.outcome.done[name] = {"state": "expired", "expired_at": now}
        # What was gone when we first heard of it could not have been saved: no alarm for that.
        if self._expires_at(artifact) > self._row["first_seen_at"]:
            self._lost.append(name)
        self._abort(name)

    def _find(self, name: str, artifact: Item) -> Stored | None:
        return self._owner.archive.find(
            object_key({**self._row, "artifacts": {name: artifact}}, name)
        )

    def _adopt(self, name: str, artifact: Item, stored: Stored) -> None:
        """Take an object that is there for the file, unless RealtimeKit says another length."""
        is_named = artifact.get("file_name") == self._row.get("file_name")
        said = artifact.get("file_size") or (self._row.get("file_size") if is_named else None)
        if said and said != stored.size:
            self.outcome.causes[name] = WRONG_LENGTH
            self.outcome.details[name] = f"{stored.size} bytes in the bucket, not {said}"
            return
        self._abort(name)
        self.outcome.done[name] = self._archived(stored)

    def _is_ours(self, location: Item) -> bool:
        """A file in the archive's own bucket; R2 or GCS may have one of the same name."""
        is_s3 = location.get("type", "aws") == "aws"
        return is_s3 and location.get("bucket") == self._owner.archive.bucket and "key" in location

    def _archived(self, stored: Stored) -> Item:
        checksum = stored.checksum_crc32
        return {
            "state": "archived",
            "bucket": stored.bucket,
            "key": stored.key,
            "size": stored.size,
            **({"checksum_crc32": checksum} if checksum else {}),
            "archived_at": timestamp(self._owner.now()),
        }

    def _record(self) -> None:
        news = {
            name: state for name, state in self.outcome.done.items() if name not in self._recorded
        }
        if not news:
            return
        if self._lost:
            self._tell_lost(self._lost)
            self._lost = []
        row = self._owner.catalogue.record_archive(self._recording_id, news)
        self._recorded |= news.keys()
        self._take(row or {})

    def _blame(self, cause: str, detail: str) -> None:
        for name in self._open():
            if name not in self.outcome.causes:
                self.outcome.causes[name] = cause
                self.outcome.details[name] = detail

    def _pause(self) -> int | None:
        """Return when to look again for files that most likely never were; else `None`.

        Most recordings without a file have none because nothing was recorded.
        """
        waiting = self._open().items()
        if not waiting or not all(rows.is_placeholder(name, one) for name, one in waiting):
            return None
        now = self._owner.now()
        age = now - datetime.fromisoformat(self.outcome.uploaded_at or timestamp(now))
        left = datetime.fromisoformat(self._expiry) - now
        return int(max(_FIRST_LOOK, min(age, _LAST_LOOKS, left)).total_seconds())

    def _let_go(self, seconds: int | None) -> None:
        waiting = self._open()
        self.outcome.causes = {name: self.outcome.causes.get(name, NOT_OFFERED) for name in waiting}
        if not waiting:
            # Of files that became something else, or were erased.
            for name in list(self._uploads):
                self._abort(name)
            self._owner.worklist.finish(self._check)
            return
        cause = min(self.outcome.causes.values())
        self._owner.worklist.release(self._check, cause, self._progress(), seconds)

    def _progress(self) -> dict[str, Any]:
        return {"uploads": {name: upload.fields() for name, upload in self._uploads.items()}}


def _uploaded_at(row: Mapping[str, Any]) -> str | None:
    history = [one["at"] for one in row.get("status_history", ()) if one["status"] == row["status"]]
    return history[-1] if history else None
