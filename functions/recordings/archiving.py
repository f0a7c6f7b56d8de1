"""From a request to archived files: what `archive_recording` does, and how far it gets.

One run at a time works on a recording. It fetches the details anew, for URLs that are current,
copies what is not yet archived, and writes down what became of it in one go. Whatever is left is
released as a check: the uploads under way are in it, and S3 has their parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from recordings import catalogue as rows
from recordings import messages
from recordings.archive import Archive, OutOfTimeError, Stored, Upload, UploadLostError, key
from recordings.catalogue import Catalogue
from recordings.dynamodb import Item
from recordings.media import (
    Media,
    MediaChangedError,
    MediaError,
    MediaFile,
    UrlExpiredError,
)
from recordings.messages import ArchiveRequest
from recordings.model import timestamp
from recordings.realtimekit import NotFoundError, RealtimeKit, RealtimeKitError
from recordings.worklist import Check, Worklist, utcnow

OUT_OF_TIME = "out_of_time"
NOT_OFFERED = "not_offered"
NOT_THERE = "not_there"
COPY_LOST = "copy_lost"

_AT_ONCE = 0
# After a file's expiry, as long as RealtimeKit cannot be asked whether it has a later one.
_PATIENCE_WITH_EXPIRED = timedelta(hours=12)
_TRIES = 2
# Copies that broke off are kept to go on with, as many as a check has room for beside its deadline.
_MOST_UPLOADS = 50
WRONG_LENGTH = "wrong_length"


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a recording's files, by artifact's name.

    `done` are the states that were recorded, `causes` why others are not archived yet, in a word,
    and `details` in more. `lost` are those of the expired ones that could have been saved.
    `uploaded_at` is since when the catalogue has known that they can be had.
    `resumed` counts copies that went on where an earlier run had stopped, `restarted` those that
    had to begin anew. A run that was `busy` left it all to another that is under way.
    """

    done: dict[str, Item] = field(default_factory=dict)
    causes: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    uploaded_at: str | None = None
    resumed: int = 0
    restarted: int = 0
    is_busy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Archiving:
    """Archives recordings' files, and leaves checks for what is not archived yet."""

    realtimekit: RealtimeKit
    catalogue: Catalogue
    worklist: Worklist
    media: Media
    archive: Archive
    now: Callable[[], datetime] = utcnow

    def archive_recording(
        self, request: ArchiveRequest, seconds: int, out_of_time: Callable[[], bool]
    ) -> Outcome:
        """Copy what can be copied before `out_of_time`; `seconds` is the longest it may take.

        S3's and DynamoDB's errors come through. The check stays then, and is due when the seconds
        are over.
        """
        row = self.catalogue.get(request.recording_id)
        if row is None or not rows.unsettled(row):
            self.worklist.settle(request.key)
            return Outcome()
        deadline = rows.expiry(row)
        fields = messages.fields(request) | {"deadline": deadline}
        check = self.worklist.claim(request.key, fields, deadline, seconds)
        if check is None:
            return Outcome(is_busy=True)
        run = _Run(self, check, row, out_of_time)
        run.work()
        return run.outcome


class _Run:
    """One claim's work on one recording."""

    def __init__(
        self, owner: Archiving, check: Check, row: Item, out_of_time: Callable[[], bool]
    ) -> None:
        self._owner = owner
        self._check = check
        self._recording_id = row["recording_id"]
        self._row = row
        self._out_of_time = out_of_time
        self._uploads = {
            name: Upload.of(fields) for name, fields in check.progress.get("uploads", {}).items()
        }
        self.outcome = Outcome(uploaded_at=_uploaded_at(row))

    def work(self) -> None:
        """As far as it gets; then the check is finished, or released with what is left."""
        seconds: int | None = None
        try:
            self._expire(self._row["fetched_at"])
            if self._open():
                self._fetch()
                self._archive_all()
        except RealtimeKitError as error:
            self._despair(error)
            self._blame(error.cause, str(error))
            seconds = error.retry_after
        except OutOfTimeError:
            self._blame(OUT_OF_TIME, "the function's time is over")
            seconds = _AT_ONCE
        finally:
            # Also where S3 or DynamoDB fail: what was archived is.
            self._record()
        self._let_go(seconds)

    def _open(self) -> dict[str, Item]:
        """The artifacts, by name, that nothing has become of yet, in the row or in this run."""
        unsettled = rows.unsettled(self._row).items()
        return {name: one for name, one in unsettled if name not in self.outcome.done}

    def _expire(self, as_of: str) -> None:
        """What was gone at that time is lost; RealtimeKit deletes nothing of what is elsewhere."""
        for name, artifact in self._open().items():
            if not self._is_elsewhere(artifact) and self._expires_at(artifact) <= as_of:
                self._lose(name, self._expires_at(artifact))
        self._record()

    def _expires_at(self, artifact: Item) -> str:
        return artifact.get("url_expires_at") or rows.expiry(self._row)

    def _is_elsewhere(self, artifact: Item) -> bool:
        return "url" not in artifact and bool(_location(self._row, artifact))

    def _lose(self, name: str, expires_at: str) -> None:
        now = timestamp(self._owner.now())
        self.outcome.done[name] = {"state": "expired", "expired_at": now}
        # What was gone when we first heard of it could not have been saved: no alarm for that.
        if expires_at > self._row["first_seen_at"]:
            self.outcome.lost.append(name)
        self._abort(name)

    def _despair(self, error: RealtimeKitError) -> None:
        """No answer tells of a later expiry; one that is long over need not be waited for."""
        is_forgotten = isinstance(error, NotFoundError)
        patience = timedelta(0) if is_forgotten else _PATIENCE_WITH_EXPIRED
        self._expire(timestamp(self._owner.now() - patience))
        for name, artifact in self._open().items():
            if is_forgotten and self._is_elsewhere(artifact):
                self._place(name)

    def _fetch(self) -> None:
        """The row, and in it the URLs, as RealtimeKit has them now.

        When time is short, one that cannot be fetched anew is as good as none: the old URL may do.
        """
        asked_at = self._owner.now()
        try:
            recording = self._owner.realtimekit.recording(self._recording_id)
        except RealtimeKitError:
            if self._check.is_urgent(asked_at) and self._has_urls(timestamp(asked_at)):
                return
            raise
        row = self._owner.catalogue.upsert(recording, asked_at).row
        # A row keeps the older of two URLs that expire at the same time, and none of very many.
        artifacts = dict(row.get("artifacts", {}))
        for artifact in recording.artifacts:
            if artifact.url:
                artifacts[artifact.name] = {**artifacts[artifact.name], "url": artifact.url}
        self._row = {**row, "artifacts": artifacts}
        self._expire(timestamp(asked_at))

    def _has_urls(self, as_of: str) -> bool:
        """Whether the row has a URL that is good at that time for each file."""
        artifacts = self._open().values()
        return all(
            "url" in artifact and artifact.get("url_expires_at", as_of) >= as_of
            for artifact in artifacts
        )

    def _archive_all(self) -> None:
        """One file's trouble is not the others'."""
        artifacts = self._open().items()
        for name, _ in sorted(
            artifacts, key=lambda one: (one[1].get("url_expires_at", ""), one[0])
        ):
            if self._out_of_time():
                raise OutOfTimeError
            try:
                self._archive(name)
            except (MediaError, UploadLostError) as error:
                self.outcome.causes[name] = getattr(error, "cause", COPY_LOST)
                self.outcome.details[name] = str(error)

    def _archive(self, name: str) -> None:
        in_one = False
        for remaining in reversed(range(_TRIES)):
            artifact = self._open().get(name)
            if artifact is None:
                # It expired while another was copied.
                return
            if "url" not in artifact:
                self._place(name)
                return
            try:
                self._copy(name, artifact, in_one)
                return
            except UrlExpiredError:
                if not remaining:
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
        """The copy under way, if it is of this very file; else a new one, kept at once."""
        known = self._uploads.get(name)
        if known:
            is_same = file.has_ranges and (known.etag, known.size) == (file.etag, file.size)
            if is_same and not known.is_stuck:
                self.outcome.resumed += 1
                return known
            self._abort(name)
            self.outcome.restarted += 1
        upload = self._owner.archive.begin(
            key(self._row, name),
            file,
            self._recording_id,
            in_small_parts=known is not None and known.is_stuck,
        )
        if isinstance(upload, Upload):
            while len(self._uploads) >= _MOST_UPLOADS:
                self._abort(next(iter(self._uploads)))
            self._uploads[name] = upload
            self._owner.worklist.save_progress(self._check, self._progress())
        return upload

    def _abort(self, name: str) -> None:
        if upload := self._uploads.pop(name, None):
            self._owner.archive.abort(upload)

    def _place(self, name: str) -> None:
        """Note where a file is that RealtimeKit put elsewhere, if it says where."""
        artifact = self._open()[name]
        location = _location(self._row, artifact)
        now = timestamp(self._owner.now())
        if not location:
            self.outcome.causes[name] = NOT_OFFERED
        elif not self._is_ours(location):
            self.outcome.done[name] = {"state": "external", "location": location, "noted_at": now}
        elif stored := self._owner.archive.find(location["key"]):
            self._adopt(name, artifact, stored)
        elif self._expires_at(artifact) <= now:
            self._lose(name, self._expires_at(artifact))
        else:
            self.outcome.causes[name] = NOT_THERE

    def _adopt(self, name: str, artifact: Item, stored: Stored) -> None:
        """Note a file that RealtimeKit put here, unless it is only a part of it so far."""
        is_only_one = len(self._row["artifacts"]) == 1
        said = artifact.get("file_size") or (is_only_one and self._row.get("file_size"))
        if said and said != stored.size and not self._check.is_urgent(self._owner.now()):
            self.outcome.causes[name] = WRONG_LENGTH
            self.outcome.details[name] = f"{stored.size} bytes, not {said}"
            return
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
        recorded = {
            name: artifact.get("archive")
            for name, artifact in self._row.get("artifacts", {}).items()
        }
        news = {
            name: state for name, state in self.outcome.done.items() if recorded.get(name) != state
        }
        if news:
            row = self._owner.catalogue.record_archive(self._recording_id, news)
            self._row = row or {}

    def _blame(self, cause: str, detail: str) -> None:
        for name in self._open():
            if name not in self.outcome.causes:
                self.outcome.causes[name] = cause
                self.outcome.details[name] = detail

    def _let_go(self, seconds: int | None) -> None:
        unsettled = rows.unsettled(self._row)
        self.outcome.causes = {
            name: self.outcome.causes.get(name, NOT_OFFERED) for name in unsettled
        }
        if not unsettled:
            self._owner.worklist.finish(self._check)
            return
        cause = min(self.outcome.causes.values())
        self._owner.worklist.release(self._check, cause, self._progress(), seconds)

    def _progress(self) -> dict[str, Any]:
        return {"uploads": {name: upload.fields() for name, upload in self._uploads.items()}}


def _uploaded_at(row: Mapping[str, Any]) -> str | None:
    history = [one["at"] for one in row["status_history"] if one["status"] == row["status"]]
    return history[-1] if history else None


def _location(row: Mapping[str, Any], artifact: Mapping[str, Any]) -> Item:
    """Where RealtimeKit put it: the owner's storage, at `path/output_file_name` (RealtimeKit docs,
    custom cloud storage). A TRACK recording's name is a template, and tells no file."""
    storage = dict(row.get("storage", {}))
    path = str(storage.pop("path", "")).strip("/")
    name = artifact.get("file_name")
    if not storage:
        return {}
    if name and "{{" not in name:
        storage["key"] = f"{path}/{name}".lstrip("/")
    elif path:
        storage["path"] = path
    return storage
