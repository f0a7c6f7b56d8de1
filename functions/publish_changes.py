"""From the recordings table's stream: have files archived, and tell subscribers what changed.

Promise: an event is published if and only if the row changed, at least once, and in order for each
recording; `id` in its detail is the same each time, for deduplication. A recording with files to be
archived is put on an archive queue, and a check is left that comes back for it. What cannot be done
stays in the stream and is tried again; when the stream forgets it, a dead-letter queue notes it. A
row that is not the service's own is counted and passed over.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from recordings import messages, stored
from recordings.dynamodb import Table, UnwritableError, unmarshal
from recordings.events import EVENT_SOURCE, Event, derive_events
from recordings.messages import ArchiveRequest, Source
from recordings.rows import deadline, expiry, to_archive
from recordings.warmup import connect, warm_up
from recordings.worklist import Worklist, is_urgent, utcnow

if TYPE_CHECKING:
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef

EVENT_BUS_NAME = os.environ["EVENT_BUS_NAME"]
WORK_TABLE = os.environ["WORK_TABLE"]
# Empty where archiving is switched off.
ARCHIVE_QUEUE_URL = os.environ["ARCHIVE_QUEUE_URL"]
URGENT_ARCHIVE_QUEUE_URL = os.environ["URGENT_ARCHIVE_QUEUE_URL"]

# PutEvents takes ten entries, of 256 KB together.
MAX_ENTRIES = 10
MAX_BYTES = 240_000
TRIES = 3

# As long as the queue may take before `follow_up` asks as well.
ARCHIVE_CHECK_SECONDS = 900
ARCHIVE_PENDING = "archive_pending"

logger = Logger(service="publish_changes")
metrics = Metrics(service="recordings")

quick = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "max_attempts": 3})
eventbridge = boto3.client("events", config=quick)
sqs = boto3.client("sqs", config=quick)
dynamodb = boto3.client("dynamodb", config=quick)
worklist = Worklist(Table(dynamodb, WORK_TABLE))

if "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ:
    warm_up(logger.warning, connect(eventbridge, dynamodb, sqs))

# The sequence numbers of the records whose archiving was asked for: while the bus is down, a batch
# of up to 100 comes again and again, from each of a few shards.
remembered: deque[str] = deque(maxlen=1000)


@dataclass(frozen=True, slots=True)
class Change:
    """What a stream record leads to. Its images, which may be large, are not kept."""

    sequence_number: str
    request: ArchiveRequest | None
    deadline: str | None
    events: list[Event]


Told = tuple[str, Event]
"""An event, and the sequence number of the stream record that it comes from."""


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answers with the first record that was not dealt with: the stream goes on from there."""
    changes = read(event["Records"])
    failed = archive_all(changes) if ARCHIVE_QUEUE_URL else []
    # What comes after it comes again, and is told then.
    failed += publish_all(
        [one for one in changes if not failed or int(one.sequence_number) < int(failed[0])]
    )
    if not failed:
        return {"batchItemFailures": []}
    first = min(failed, key=int)
    logger.error("changes not dealt with", sequence_number=first, count=len(failed))
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
            changes.append(change(images))
        except Exception:
            # Here nothing is asked of AWS: a record that cannot be read never will be, and all that
            # come after it would wait for a day.
            logger.exception("change passed over", sequence_number=images["SequenceNumber"])
            skipped.append(images["SequenceNumber"])
    metrics.add_metric("ChangeSkipped", MetricUnit.Count, len(skipped))
    return changes


class ForeignRowError(ValueError):
    """Raised for a row that this service did not write: no recording's id, or no version."""


def change(images: Mapping[str, Any]) -> Change:
    """Return what a stream record leads to. Raises `ForeignRowError`."""
    new = stored.read(unmarshal(images["NewImage"]))
    old = stored.read(unmarshal(images.get("OldImage", {})))
    if not stored.is_ours(new):
        raise ForeignRowError("a row without a recording's id, or without a version")
    if "invoked_at_from" in new and "invoked_at_from" not in old:
        logger.warning("invoked_at unknown", recording_id=new["recording_id"])
        metrics.add_metric("InvokedAtUnknown", MetricUnit.Count, 1)
    request = None
    if to_archive(new) - to_archive(old):
        request = ArchiveRequest(
            recording_id=new["recording_id"], deadline=expiry(new), source=Source.CATALOGUE
        )
    return Change(images["SequenceNumber"], request, deadline(new), derive_events(old, new))


def archive_all(changes: list[Change]) -> list[str]:
    """Have archived what there is now and was not before; the sequence number that failed.

    While the bus is down a batch comes again and again; its files are asked for once.
    """
    for one in changes:
        if one.request is None or one.sequence_number in remembered:
            continue
        try:
            archive(one.request, one.deadline)
        except (ClientError, BotoCoreError, UnwritableError):
            logger.exception("archiving not asked for", recording_id=one.request.recording_id)
            return [one.sequence_number]
        remembered.append(one.sequence_number)
    return []


def archive(request: ArchiveRequest, deadline: str | None) -> None:
    """Leave the check, then send the message: that may be lost with its queue, a check is not.

    A batch that comes again, for hours perhaps, leaves a check as it is.
    """
    worklist.ensure(
        ARCHIVE_CHECK_SECONDS,
        request.key,
        messages.fields(request),
        ARCHIVE_PENDING,
        deadline,
    )
    urgent = is_urgent(deadline, utcnow())
    sqs.send_message(
        QueueUrl=URGENT_ARCHIVE_QUEUE_URL if urgent else ARCHIVE_QUEUE_URL,
        MessageBody=messages.body(request),
    )
    logger.info("archiving asked for", correlation_id=request.correlation_id, urgent=urgent)


def publish_all(rows: list[Change]) -> list[str]:
    """Tell subscribers; the sequence numbers of what was not told, of which there is a first."""
    changes = [(row.sequence_number, event) for row in rows for event in row.events]
    refused: list[str] = []
    published = 0
    while changes and not refused:
        batch = take(changes)
        refused = publish(batch)
        for sequence_number, event in batch:
            if sequence_number not in refused:
                logger.info("told", correlation_id=event.recording_id, detail_type=event.type)
        published += len(batch) - len(refused)
        changes = changes[len(batch) :]
    metrics.add_metric("EventPublished", MetricUnit.Count, published)
    return refused


def take(changes: list[Told]) -> list[Told]:
    """As many as one call may hold, and no recording twice: of one call's entries any may fail."""
    batch: list[Told] = []
    taken: set[str] = set()
    size = 0
    for sequence_number, event in changes[:MAX_ENTRIES]:
        size += len(event.detail.encode())
        if event.recording_id in taken or (batch and size > MAX_BYTES):
            break
        taken.add(event.recording_id)
        batch.append((sequence_number, event))
    return batch


def publish(batch: list[Told]) -> list[str]:
    """The sequence numbers of those that the bus did not take, even when asked again."""
    for _ in range(TRIES):
        try:
            answer = eventbridge.put_events(Entries=[entry(event) for _, event in batch])
        except (ClientError, BotoCoreError):
            logger.exception("PutEvents failed")
            break
        # A 200 may tell of refused entries, in the entries' order.
        results = answer["Entries"]
        batch = [one for one, result in zip(batch, results, strict=True) if "ErrorCode" in result]
        if not batch:
            break
        codes = sorted({result["ErrorCode"] for result in results if "ErrorCode" in result})
        logger.warning("events refused", codes=codes, count=len(batch))
    return [sequence_number for sequence_number, _ in batch]


def entry(event: Event) -> PutEventsRequestEntryTypeDef:
    """As PutEvents takes it."""
    return {
        "EventBusName": EVENT_BUS_NAME,
        "Source": EVENT_SOURCE,
        "DetailType": event.type,
        "Detail": event.detail,
    }
