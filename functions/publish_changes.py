"""From the recordings table's stream: tell subscribers, on the event bus, what changed.

Promise: an event is published if and only if the row changed, at least once, and in order for each
recording; `id` in its detail is the same each time, for deduplication. What cannot be published
stays in the stream and is tried again; when the stream forgets it, a dead-letter queue notes it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from recordings import messages
from recordings.dynamodb import unmarshal
from recordings.messages import Event

if TYPE_CHECKING:
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef

EVENT_BUS_NAME = os.environ["EVENT_BUS_NAME"]

# PutEvents takes ten entries at most.
MOST_ENTRIES = 10
TRIES = 3

logger = Logger(service="publish_changes")
metrics = Metrics(service="publish_changes")

quick = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "max_attempts": 3})
eventbridge = boto3.client("events", config=quick)

Change = tuple[str, Event]
"""An event, and the sequence number of the stream record that it comes from."""


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answers with the first record that was not published: the stream goes on from there."""
    changes = read(event["Records"])
    refused: list[str] = []
    published = 0
    while changes and not refused:
        batch = take(changes)
        refused = publish(batch)
        published += len(batch) - len(refused)
        changes = changes[len(batch) :]
    metrics.add_metric("EventPublished", MetricUnit.Count, published)
    if not refused:
        return {"batchItemFailures": []}
    first = min(refused, key=int)
    logger.error("events not published", sequence_number=first, count=len(refused))
    return {"batchItemFailures": [{"itemIdentifier": first}]}


def read(records: list[dict[str, Any]]) -> list[Change]:
    """The events that the records are, in the stream's order."""
    changes = []
    for record in records:
        images = record["dynamodb"]
        if "NewImage" in images:
            old = unmarshal(images["OldImage"]) if "OldImage" in images else None
            for event in messages.events(old, unmarshal(images["NewImage"])):
                changes.append((images["SequenceNumber"], event))
    return changes


def take(changes: list[Change]) -> list[Change]:
    """As many as one call may hold, and no recording twice: of one call's entries any may fail."""
    batch: list[Change] = []
    taken: set[str] = set()
    for sequence_number, event in changes[:MOST_ENTRIES]:
        if event.recording_id in taken:
            break
        taken.add(event.recording_id)
        batch.append((sequence_number, event))
    return batch


def publish(batch: list[Change]) -> list[str]:
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
        "Source": messages.EVENT_SOURCE,
        "DetailType": event.type,
        "Detail": event.detail,
    }
