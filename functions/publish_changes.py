"""From the recordings table's stream: queue files for the archive, and publish events.

Promise: an event is published if and only if the row changed: at least once, in order for each
recording, with the same `id` in its detail each time. A recording with files to be archived gets a
check and a message on an archive queue, and the session of a final recording gets a check for its
files. A record that fails stays in the stream and is retried; a dead-letter queue notes it when the
stream drops it. A row that this service did not write is counted and skipped.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from recordings import __version__, messages, stored
from recordings.dynamodb import Table, UnwritableError, unmarshal
from recordings.events import EVENT_SOURCE, Event, derive_events
from recordings.messages import ArchiveRequest, SessionFilesRequest, Source
from recordings.model import is_final
from recordings.rows import (
    FIRST_LOOK,
    Row,
    awaits_session_files,
    deadline,
    ended_at,
    expiry,
    to_archive,
)
from recordings.warmup import connect, warm_up
from recordings.worklist import FIRST_INTERVAL_SECONDS, Worklist, is_urgent, utcnow

if TYPE_CHECKING:
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef

EVENT_BUS_NAME = os.environ["EVENT_BUS_NAME"]
WORK_TABLE = os.environ["WORK_TABLE"]
# Empty where archiving is switched off.
ARCHIVE_QUEUE_URL = os.environ["ARCHIVE_QUEUE_URL"]
URGENT_ARCHIVE_QUEUE_URL = os.environ["URGENT_ARCHIVE_QUEUE_URL"]

# The kinds of a session's files that are kept; empty where archiving is switched off.
SESSION_FILES = tuple(filter(None, os.environ["SESSION_FILES"].split(",")))

# PutEvents takes ten entries, of 256 KB together (AWS docs); the rest is for names and the bus.
MAX_ENTRIES = 10
MAX_BYTES = 240_000
TRIES = 3

# 900 s is the time that the queue has before `follow_up` repeats the request.
ARCHIVE_CHECK_SECONDS = 900
ARCHIVE_PENDING = "archive_pending"
SESSION_FILES_PENDING = "session_files_pending"

logger = Logger(service="publish_changes", version=__version__, xray_trace_id=None)
metrics = Metrics(service="recordings")

quick = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "max_attempts": 3})
eventbridge = boto3.client("events", config=quick)
sqs = boto3.client("sqs", config=quick)
dynamodb = boto3.client("dynamodb", config=quick)
worklist = Worklist(Table(dynamodb, WORK_TABLE))

if "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ:
    warm_up(logger.warning, connect(eventbridge, dynamodb, sqs))

# The sequence numbers of records whose files are queued: while the bus is down, each of a few
# shards delivers the same batch of up to 100 records again and again.
queued: deque[str] = deque(maxlen=1000)


@dataclass(frozen=True, slots=True)
class Look:
    """A look for the files of a session whose recording became final, due in so many seconds.

    A late look has low priority: a backfill finds thousands of recordings that ended long ago.
    """

    request: SessionFilesRequest
    seconds: int
    is_late: bool


@dataclass(frozen=True, slots=True)
class Change:
    """The consequences of a stream record, without its images, which may be large."""

    sequence_number: str
    request: ArchiveRequest | None
    deadline: str | None
    look: Look | None
    events: list[Event]


SourcedEvent = tuple[str, Event]
"""An event, and the sequence number of the stream record that it comes from."""


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Work on a batch. Return the first record that failed: the stream resumes there."""
    # These keys are the same in each line, and a fifth of the log's bytes.
    logger.remove_keys(["function_name", "function_memory_size", "function_arn"])
    changes = read(event["Records"])
    failed = archive_all(changes) if ARCHIVE_QUEUE_URL else []
    # The records after the failed one are delivered again, and published then.
    failed += publish_all(
        [change for change in changes if not failed or int(change.sequence_number) < int(failed[0])]
    )
    if not failed:
        return {"batchItemFailures": []}
    first = min(failed, key=int)
    logger.error("changes stay in the stream", sequence_number=first, count=len(failed))
    return {"batchItemFailures": [{"itemIdentifier": first}]}


def read(records: list[dict[str, Any]]) -> list[Change]:
    """Return the changes of rows, in the stream's order, without deletions and foreign rows."""
    changes: list[Change] = []
    skipped: list[str] = []
    for record in records:
        images = record["dynamodb"]
        if "NewImage" not in images:
            continue
        try:
            changes.append(read_change(images))
        except Exception:
            # Reading calls no AWS service, so a retry would fail the same way, and the records
            # after this one would wait for a day.
            logger.exception("change skipped", sequence_number=images["SequenceNumber"])
            skipped.append(images["SequenceNumber"])
    if skipped:
        metrics.add_metric("ChangeSkipped", MetricUnit.Count, len(skipped))
    return changes


class ForeignRowError(ValueError):
    """Raised for a row without a recording's id or a version: this service did not write it."""


def read_change(images: Mapping[str, Any]) -> Change:
    """Return the consequences of a stream record. Raises `ForeignRowError`."""
    new = stored.read(unmarshal(images["NewImage"]))
    old = stored.read(unmarshal(images.get("OldImage", {})))
    if not stored.is_ours(new):
        raise ForeignRowError("a row without a recording's id, or without a version")
    if lacks_time(new) and not lacks_time(old):
        logger.warning("invoked_at unknown", recording_id=new["recording_id"])
        metrics.add_metric("InvokedAtUnknown", MetricUnit.Count, 1)
    request = None
    if to_archive(new) - to_archive(old):
        request = ArchiveRequest(
            recording_id=new["recording_id"], deadline=expiry(new), source=Source.CATALOGUE
        )
    return Change(
        images["SequenceNumber"],
        request,
        deadline(new),
        first_look(old, new, utcnow()),
        derive_events(old, new),
    )


def lacks_time(row: Row) -> bool:
    """Return True for a final row whose `invoked_at` is a guess, since RealtimeKit named no time.

    Webhooks name no time either, so a row made from a webhook has a guess until it is final.
    """
    return "invoked_at_from" in row and is_final(row.get("status"))


def first_look(old: Row, new: Row, now: datetime) -> Look | None:
    """Return the first look for a session's files, if the change made its recording final.

    If the time of the first look is over, it is made up for soon, whenever the last one is.
    """
    ended = ended_at(new)
    is_news = awaits_session_files(new, SESSION_FILES, now) and not (
        awaits_session_files(old, SESSION_FILES, now)
    )
    if ended is None or not is_news:
        return None
    seconds = int((ended + FIRST_LOOK - now).total_seconds())
    request = SessionFilesRequest(session_id=new["session_id"], source=Source.CATALOGUE)
    return Look(request, max(FIRST_INTERVAL_SECONDS, seconds), is_late=seconds < 0)


def archive_all(changes: list[Change]) -> list[str]:
    """Queue new files, and leave checks for sessions. Return the sequence number that failed.

    A batch that is delivered again queues its files only once.
    """
    for change in changes:
        if change.sequence_number in queued or not (change.request or change.look):
            continue
        try:
            if change.request:
                archive(change.request, change.deadline)
            if change.look:
                ensure_check(
                    change.look.request,
                    SESSION_FILES_PENDING,
                    change.look.seconds,
                    low_priority=change.look.is_late,
                )
        except (ClientError, BotoCoreError):
            logger.exception("archiving not asked for", sequence_number=change.sequence_number)
            return [change.sequence_number]
        queued.append(change.sequence_number)
    return []


def archive(request: ArchiveRequest, deadline: str | None) -> None:
    """Leave a check unless one waits, then send the message: a lost message has its check."""
    # If the check is unwritable, the message must do.
    ensure_check(request, ARCHIVE_PENDING, ARCHIVE_CHECK_SECONDS, deadline)
    urgent = is_urgent(deadline, utcnow())
    sqs.send_message(
        QueueUrl=URGENT_ARCHIVE_QUEUE_URL if urgent else ARCHIVE_QUEUE_URL,
        MessageBody=messages.body(request),
    )
    logger.info("archiving asked for", correlation_id=request.correlation_id, urgent=urgent)


def ensure_check(
    request: ArchiveRequest | SessionFilesRequest,
    cause: str,
    seconds: int,
    deadline: str | None = None,
    *,
    low_priority: bool = False,
) -> None:
    """Leave a check unless one waits. Log and count a check that DynamoDB refuses.

    No retry helps such a check, and the stream would stand still for it.
    """
    try:
        worklist.ensure(
            request, cause, seconds=seconds, deadline=deadline, low_priority=low_priority
        )
    except UnwritableError:
        logger.exception("check unwritable", correlation_id=request.correlation_id)
        metrics.add_metric("RecordingUnwritable", MetricUnit.Count, 1)


def publish_all(changes: list[Change]) -> list[str]:
    """Publish the events of changes. Return the sequence numbers that the bus refused."""
    events = [(change.sequence_number, event) for change in changes for event in change.events]
    refused: list[str] = []
    published = 0
    while events and not refused:
        batch = take(events)
        refused = publish(batch)
        for sequence_number, event in batch:
            if sequence_number not in refused:
                logger.info(
                    "event published", correlation_id=event.recording_id, detail_type=event.type
                )
        published += len(batch) - len(refused)
        events = events[len(batch) :]
    metrics.add_metric("EventPublished", MetricUnit.Count, published)
    return refused


def take(events: list[SourcedEvent]) -> list[SourcedEvent]:
    """Return the next call's events: each recording once, because any entry of a call may fail."""
    batch: list[SourcedEvent] = []
    taken: set[str] = set()
    size = 0
    for sequence_number, event in events[:MAX_ENTRIES]:
        size += len(event.detail.encode())
        if event.recording_id in taken or (batch and size > MAX_BYTES):
            break
        taken.add(event.recording_id)
        batch.append((sequence_number, event))
    return batch


def publish(batch: list[SourcedEvent]) -> list[str]:
    """Send one call's events, three times at most. Return the sequence numbers still refused."""
    for _ in range(TRIES):
        try:
            answer = eventbridge.put_events(Entries=[entry(event) for _, event in batch])
        except (ClientError, BotoCoreError):
            logger.exception("PutEvents failed")
            break
        # A 200 may report refused entries, in the order of the request (PutEvents, AWS docs).
        results = answer["Entries"]
        batch = [
            event for event, result in zip(batch, results, strict=True) if "ErrorCode" in result
        ]
        if not batch:
            break
        codes = sorted({result["ErrorCode"] for result in results if "ErrorCode" in result})
        logger.warning("events refused", codes=codes, count=len(batch))
    return [sequence_number for sequence_number, _ in batch]


def entry(event: Event) -> PutEventsRequestEntryTypeDef:
    """Return an event as an entry of PutEvents."""
    return {
        "EventBusName": EVENT_BUS_NAME,
        "Source": EVENT_SOURCE,
        "DetailType": event.type,
        "Detail": event.detail,
    }
