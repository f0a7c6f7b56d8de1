"""Checks that send events, a file and a dead letter through the stack, and remove the traces."""

from __future__ import annotations

import base64
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

import urllib3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .. import dead_letters
from ..api import TIMEOUT
from ..connections import Connections
from ..dead_letter_store import DeadLetterError, DeadLetters
from ..stack import TIMEOUTS, StackError, aws_reason
from .deployment import Deployment
from .finding import Finding, Verdict, cannot_tell, ok, wrong
from .traces import Checks, Clock, leftovers, remove_letters, removed

EVENT = "event without optional fields"
QUOTES = "event with quotes and braces"
UPLOAD = "upload in parts"
CHECKSUM = "upload with a wrong checksum"
LINK = "link to the archive"
ERASURE = "erasure of a file"
REDRIVE = "dead letter sent again"
MOVE_TASK = "SQS's own redrive"

FOLDER = "verify-probe"
"""The probe's folder in the archive bucket; files of recordings are in the folder of their app."""

# A value that is valid in the message whether EventBridge escapes it or not.
_QUOTED = 'probe","title":"{probe}'
# S3's minimum for every part but the last (S3's quotas), and a part of another size.
_PART_SIZES = (5 * 1024 * 1024, 70_000)
_LINK_SECONDS = 300
_NO_LOCK = "ObjectLockConfigurationNotFoundError"
_DENIED = ("AccessDenied", "AccessDeniedException", "AuthorizationError")


def probe(deployment: Deployment, clock: Clock | None = None) -> Iterator[Finding]:
    """Send made-up events, a file and a dead letter through the stack, and remove their traces.

    Each finding is yielded after the traces are removed, so the caller may stop at any finding.
    """
    # An emulator's functions start slowly on a busy machine, and no operator waits for its answer.
    clock = clock or Clock(seconds=300 if deployment.is_emulated else 30)
    yield from _guarded((EVENT, QUOTES), partial(_probe_events, deployment, clock))
    yield from _guarded((UPLOAD, CHECKSUM, LINK, ERASURE), partial(_probe_archive, deployment))
    yield from _guarded((REDRIVE, MOVE_TASK), partial(_probe_dead_letters, deployment, clock))


def _guarded(
    checks: tuple[str, ...], look: Callable[[list[str]], list[Finding]]
) -> Iterator[Finding]:
    """Yield a probe's findings, or *cannot tell* for each of its checks if it cannot work.

    `look` adds to a list what it could not remove.
    """
    left: list[str] = []
    try:
        yield from look(left)
    except (StackError, DeadLetterError) as error:
        yield from (cannot_tell(check, str(error)) for check in checks)
    except (ClientError, BotoCoreError) as error:
        reason = f"AWS request failed: {aws_reason(error)}."
        yield from (cannot_tell(check, reason) for check in checks)
    except Exception as error:
        reason = f"The check itself failed: {type(error).__name__}."
        yield from (cannot_tell(check, reason) for check in checks)
    yield from leftovers(left)


# --- events ---


def _probe_events(deployment: Deployment, clock: Clock, left: list[str]) -> list[Finding]:
    """Put two events of made-up recordings on the bus, and look for the checks that they leave."""
    checks = Checks(deployment, (str(uuid4()), str(uuid4())))
    plain, quoted = checks.recording_ids
    undelivered = 0
    with removed(checks.remove, left):
        _put_events(deployment, {"id": plain}, {"id": quoted, "organizationId": _QUOTED})
        if not clock.wait_for(checks.are_left):
            undelivered = _undelivered(deployment, checks)
    findings = []
    for check, recording_id in ((EVENT, plain), (QUOTES, quoted)):
        if recording_id in checks.found:
            hint = _hint(checks.found[recording_id])
            finding = (_plain_event if check == EVENT else _quoted_event)(check, hint)
            findings.append(_about_aws(deployment, finding))
        else:
            findings.append(_lost_event(deployment, clock, check, recording_id, undelivered))
    return findings


def _put_events(deployment: Deployment, *recordings: Mapping[str, str]) -> None:
    answer = deployment.client("events").put_events(
        Entries=[
            {
                "EventBusName": deployment.stack.output("EventBusName"),
                "Source": "realtimekit",
                "DetailType": "recording.statusUpdate",
                "Detail": json.dumps({"event": "recording.statusUpdate", "recording": recording}),
            }
            for recording in recordings
        ]
    )
    if codes := {entry["ErrorCode"] for entry in answer["Entries"] if "ErrorCode" in entry}:
        raise StackError(f"The event bus refuses the events: {', '.join(sorted(codes))}.")


def _undelivered(deployment: Deployment, checks: Checks) -> int:
    """Remove the events that EventBridge could not deliver; return how many there were."""
    queue = dead_letters.find(deployment.stack)["event-rule"]
    lost = [known for known in checks.recording_ids if known not in checks.found]
    return remove_letters(DeadLetters(queue, deployment.client("sqs")), lost)


def _hint(check: Mapping[str, Any]) -> dict[str, str]:
    """Return the event's values, except for the id, by their names in the message."""
    hint = check.get("hint", {}).get("M", {})
    return {name: value.get("S", "") for name, value in hint.items()}


def _plain_event(check: str, hint: Mapping[str, str]) -> Finding:
    if hint:
        names = ", ".join(sorted(hint))
        detail = f"EventBridge gave fields that the event lacks a value: {names}."
        action = "Open an issue with this finding: the rules rely on an empty text."
        return wrong(check, detail, action=action, heading="Verify by writing")
    return ok(check, "The event reached ingest_recording; fields that it lacks arrived empty.")


def _quoted_event(check: str, hint: Mapping[str, str]) -> Finding:
    if hint == {"organization_id": _QUOTED}:
        return ok(check, "The event reached ingest_recording; EventBridge escapes values.")
    if hint == {"organization_id": "probe", "title": "{probe}"}:
        return ok(
            check,
            "The event reached ingest_recording; EventBridge does not escape values, which the "
            "service expects: a message takes only ids, and refuses keys that it does not know.",
        )
    detail = "The event reached ingest_recording with another value than the event has."
    action = "Open an issue with this finding."
    return wrong(check, detail, action=action, heading="Verify by writing")


def _lost_event(
    deployment: Deployment, clock: Clock, check: str, recording_id: str, undelivered: int
) -> Finding:
    """Return the finding about an event that left no check in time."""
    if undelivered:
        detail = "EventBridge could not deliver the event to the ingest queue."
        action = "Restore the policy of the ingest queue."
        return wrong(check, detail, action=action, heading="EventRuleDeadLettersAlarm")
    late = (
        f"If it comes later, it leaves the check recording#{recording_id}, which is given up after "
        "an hour with ChecksGivenUpAlarm."
    )
    return _not_seen(deployment, clock, check, "The event", late)


def _not_seen(deployment: Deployment, clock: Clock, check: str, subject: str, late: str) -> Finding:
    """Return the finding about a message that `ingest_recording` did not handle in time."""
    seconds = f"{clock.seconds:g} seconds"
    waiting = _waiting(deployment)
    if waiting:
        reason = (
            f"{waiting} messages wait in the ingest queue, and {seconds} were too short. {late}"
        )
        return cannot_tell(check, reason)
    detail = f"{subject} did not reach ingest_recording within {seconds}. {late}"
    action = "Look whether the function runs, and whether its queue and the rule are enabled."
    return wrong(check, detail, action=action, heading="IngestDelayedAlarm")


def _waiting(deployment: Deployment) -> int:
    answer = deployment.client("sqs").get_queue_attributes(
        QueueUrl=deployment.stack.output("IngestQueueUrl"),
        AttributeNames=["ApproximateNumberOfMessages"],
    )
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def _about_aws(deployment: Deployment, finding: Finding) -> Finding:
    """Return *cannot tell* for a good finding on an emulator, because only AWS can prove it."""
    if deployment.is_emulated and finding.verdict is Verdict.OK:
        return cannot_tell(
            finding.check, f"Only AWS can prove this. On the emulator: {finding.detail}"
        )
    return finding


# --- archive ---


def _probe_archive(deployment: Deployment, left: list[str]) -> list[Finding]:
    """Upload a file as the archive does, link to it, download it, and erase it."""
    stack = deployment.stack
    checks = (UPLOAD, CHECKSUM, LINK, ERASURE)
    if stack.parameter("Archiving") != "on":
        return [
            cannot_tell(check, "The stack does not archive (Archiving is off).") for check in checks
        ]
    bucket = _Bucket(deployment)
    if reason := bucket.why_not_erasable():
        return [cannot_tell(check, reason) for check in checks]
    with removed(bucket.remove, left):
        findings = [
            _about_aws(deployment, _tried(UPLOAD, bucket.upload)),
            _about_aws(deployment, _tried(CHECKSUM, bucket.upload_with_wrong_checksum)),
            _tried(LINK, bucket.follow_link),
        ]
    if left:
        action = "Look up S3's error in the next finding, and erase the folder by hand."
        detail = "The uploaded files could not all be erased."
        return [*findings, wrong(ERASURE, detail, action=action, heading="Erase a recording")]
    return [*findings, ok(ERASURE, "The file is erased, in all its versions.")]


def _tried(check: str, look: Callable[[str], Finding]) -> Finding:
    """Return a finding about the bucket; an error of S3 is wrong, unless it is a refused right."""
    try:
        return look(check)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        reason = f"S3 request failed: {aws_reason(error)}."
        if code in _DENIED:
            return cannot_tell(check, reason)
        action = f"Look up {code} in S3's list of error codes."
        return wrong(check, reason, action=action, heading="A bucket of your own")
    except (BotoCoreError, urllib3.exceptions.HTTPError) as error:
        return cannot_tell(check, f"S3 does not answer: {type(error).__name__}.")


class _Bucket:
    """The archive bucket, and a folder in it that is the probe's own."""

    def __init__(self, deployment: Deployment) -> None:
        self._session = deployment.stack.session
        self._bucket = deployment.stack.output("ArchiveBucketName")
        self._folder = f"{FOLDER}/{uuid4()}/"
        self._parts = tuple(os.urandom(size) for size in _PART_SIZES)
        self._is_locked = self._is_uploaded = False
        # The settings of the functions that copy files and sign links.
        config = Config(
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            # botocore's older mode retries a BadDigest for seconds.
            retries={"mode": "standard"},
            s3={"payload_signing_enabled": False, "addressing_style": "virtual"},
        )
        # boto3's types want each parameter by its name, not a dictionary of some.
        self._s3: Any = self._session.client("s3", config=TIMEOUTS.merge(config))

    def why_not_erasable(self) -> str | None:
        """Return why a file might stay in the bucket for good, or None if it can be erased."""
        try:
            answer = self._s3.get_object_lock_configuration(Bucket=self._bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] == _NO_LOCK:
                return None
            return f"Whether files can be erased is not known: {aws_reason(error)}."
        self._is_locked = True
        if "Rule" in answer.get("ObjectLockConfiguration", {}):
            return "The bucket locks each new file for a time, so a probe could not be erased."
        return None

    def upload(self, check: str) -> Finding:
        """Upload a file in two parts; list the first one, as the resumption of a copy does."""
        upload = self._begin("file.bin")
        first = self._send(upload, 1, self._parts[0])
        listed = self._s3.list_parts(**upload).get("Parts", [])
        second = self._send(upload, 2, self._parts[1])
        self._complete(upload, [first, second], _crc32(*self._parts), sum(_PART_SIZES))
        self._is_uploaded = True
        kept = [(part.get("Size"), part.get("ChecksumCRC32")) for part in listed]
        if kept == [(_PART_SIZES[0], _crc32(self._parts[0]))]:
            return ok(
                check,
                "S3 took parts without checksums, named theirs, and checked the whole by CRC-32.",
            )
        detail = "S3 does not name the CRC-32 of a part, so an interrupted copy begins anew."
        action = "Open an issue with this finding."
        return wrong(check, detail, action=action, heading="Verify by writing")

    def upload_with_wrong_checksum(self, check: str) -> Finding:
        """Complete an upload with the checksum of other bytes, which S3 must refuse."""
        data = self._parts[1]
        upload = self._begin("wrong.bin")
        etag = self._send(upload, 1, data)
        try:
            self._complete(upload, [etag], _crc32(data[1:]), len(data))
        except ClientError as error:
            if (code := error.response["Error"]["Code"]) != "BadDigest":
                raise
            return ok(check, f"S3 refused the file ({code}).")
        detail = "S3 accepted a file with a wrong checksum, so a damaged copy would not be noticed."
        action = "Open an issue with this finding."
        return wrong(check, detail, action=action, heading="Verify by writing")

    def follow_link(self, check: str) -> Finding:
        """Download the uploaded file by a link."""
        if not self._is_uploaded:
            return cannot_tell(check, "There is no uploaded file to link to.")
        key = self._folder + "file.bin"
        url = self._s3.generate_presigned_url(
            "get_object", Params={"Bucket": self._bucket, "Key": key}, ExpiresIn=_LINK_SECONDS
        )
        response = (
            Connections(self._session)
            .to(url)
            .request("GET", url, retries=False, redirect=False, timeout=TIMEOUT)
        )
        if response.status == 200 and response.data == b"".join(self._parts):
            return ok(check, "A link downloaded the uploaded file.")
        detail = f"A link is answered with HTTP {response.status}, not with the uploaded file."
        action = "Compare the bucket's region with the stack's; look at the bucket's policy."
        return wrong(check, detail, action=action, heading="A bucket of your own")

    def remove(self) -> Iterator[str]:
        """Erase the folder, all versions and unfinished uploads; yield what is left, and why."""
        folder = f"{self._folder} in the bucket {self._bucket}"
        try:
            self._abort_uploads()
            errors = self._erase_versions()
        except (ClientError, BotoCoreError) as error:
            yield f"{folder} ({aws_reason(error)})"
            return
        if errors:
            yield f"{folder} ({', '.join(sorted(errors))})"

    def _abort_uploads(self) -> None:
        pages = self._s3.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket, Prefix=self._folder
        )
        for upload in pages.search("Uploads[]"):
            if upload:
                with suppress(self._s3.exceptions.NoSuchUpload):
                    self._s3.abort_multipart_upload(
                        Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )

    def _erase_versions(self) -> set[str]:
        """Delete all versions; return why some are left, empty if none is."""
        versions = self._versions()
        if not versions:
            return set()
        answer = self._s3.delete_objects(
            Bucket=self._bucket, Delete={"Objects": versions, "Quiet": True}
        )
        errors = {error.get("Code", "?") for error in answer.get("Errors", ())}
        return errors or ({"a version is still there"} if self._versions() else set())

    def _versions(self) -> list[Any]:
        pages = self._s3.get_paginator("list_object_versions").paginate(
            Bucket=self._bucket, Prefix=self._folder
        )
        return [
            {"Key": version["Key"], "VersionId": version["VersionId"]}
            for page in pages
            for version in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
        ]

    def _begin(self, name: str) -> dict[str, str]:
        """Begin an upload, and return the parameters that name it."""
        place = {"Bucket": self._bucket, "Key": self._folder + name}
        answer = self._s3.create_multipart_upload(
            **place,
            ContentType="application/octet-stream",
            ChecksumAlgorithm="CRC32",
            ChecksumType="FULL_OBJECT",
        )
        return {**place, "UploadId": answer["UploadId"]}

    def _send(self, upload: Mapping[str, str], number: int, data: bytes) -> dict[str, Any]:
        """Send a part without a checksum, unless the bucket demands one, as Object Lock does."""
        checksum: Any = {"ChecksumCRC32": _crc32(data)} if self._is_locked else {}
        answer = self._s3.upload_part(**upload, PartNumber=number, Body=data, **checksum)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _complete(
        self, upload: Mapping[str, str], parts: list[dict[str, Any]], crc32: str, size: int
    ) -> None:
        self._s3.complete_multipart_upload(
            **upload,
            MultipartUpload={"Parts": parts},
            ChecksumCRC32=crc32,
            ChecksumType="FULL_OBJECT",
            MpuObjectSize=size,
            IfNoneMatch="*",
        )


def _crc32(*data: bytes) -> str:
    """Return the CRC-32 of all bytes as S3 writes it."""
    checksum = 0
    for part in data:
        checksum = zlib.crc32(part, checksum)
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()


# --- dead letters ---


class _OutOfTimeError(Exception):
    """Raised when SQS's task takes too long."""


def _probe_dead_letters(deployment: Deployment, clock: Clock, left: list[str]) -> list[Finding]:
    """Put a message of a made-up recording among the dead letters, and send it again."""
    recording_id = str(uuid4())
    checks = Checks(deployment, (recording_id,))
    letters = DeadLetters(dead_letters.find(deployment.stack)["ingest"], deployment.client("sqs"))
    with removed(partial(_remove_all, checks, letters), left):
        others = letters.count()
        deployment.client("sqs").send_message(
            QueueUrl=letters.queue.url, MessageBody=_message(recording_id)
        )
        task = _move_task(letters, others, clock)
        if task.verdict is not Verdict.OK:
            _send_again(letters, recording_id)
        is_seen = clock.wait_for(checks.are_left)
    if is_seen:
        finding = ok(REDRIVE, "A message was sent again, and reached ingest_recording.")
    else:
        late = "If it comes later, its check is given up after an hour, with ChecksGivenUpAlarm."
        finding = _not_seen(deployment, clock, REDRIVE, "The message", late)
    return [finding, task]


def _message(recording_id: str) -> str:
    """Return an ingest message as `recordings.messages`, which is not installed here, writes it."""
    return json.dumps({"v": 1, "source": "follow_up", "recording_id": recording_id})


def _move_task(letters: DeadLetters, others: int, clock: Clock) -> Finding:
    """Let SQS move the probe's message, unless the queue has other dead letters."""
    if others:
        reason = "The task moves all messages, and the queue holds other dead letters."
        return cannot_tell(MOVE_TASK, reason)

    deadline = time.monotonic() + clock.seconds

    def require_time(_done: int, _total: int | None) -> None:
        if time.monotonic() > deadline:
            raise _OutOfTimeError

    try:
        moved = letters.move(require_time)
    except _OutOfTimeError:
        return cannot_tell(MOVE_TASK, f"SQS's task took more than {clock.seconds:g} seconds.")
    except DeadLetterError as error:
        return cannot_tell(MOVE_TASK, str(error))
    if not moved:
        return cannot_tell(MOVE_TASK, "SQS has no such task here, or not for this message.")
    return ok(MOVE_TASK, "SQS's task moved the message back to its queue.")


def _send_again(letters: DeadLetters, recording_id: str) -> None:
    """Send the probe's message again, and leave the other dead letters."""
    with letters:
        for batch in letters.batches():
            ours = [
                letter for letter in batch if letter.details.get("recording_id") == recording_id
            ]
            if sum(letters.send_again(ours)):
                return


def _remove_all(checks: Checks, letters: DeadLetters) -> Iterator[str]:
    """Delete the check, and the message unless it was handled; yield what is left, and why."""
    yield from checks.remove()
    if checks.found:
        return
    try:
        remove_letters(letters, checks.recording_ids)
    except DeadLetterError as error:
        yield f"its message, perhaps, among the dead letters of {letters.queue.name} ({error})"
