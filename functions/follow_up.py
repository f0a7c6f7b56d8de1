"""Every minute: put what is due to be looked at again back on its queue.

Promise: a check is asked for again, at growing intervals, until it is settled, or given up with an
error in the log and a metric that an alarm watches. A crash at any point only asks once more.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from recordings import messages
from recordings.dynamodb import Table
from recordings.messages import ArchiveRequest, EraseRequest, Request, Source
from recordings.warmup import connect, warm_up
from recordings.worklist import Check, Worklist, utcnow

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

INGEST_QUEUE_URL = os.environ["INGEST_QUEUE_URL"]
# Empty where archiving is switched off.
ARCHIVE_QUEUE_URL = os.environ["ARCHIVE_QUEUE_URL"]
URGENT_ARCHIVE_QUEUE_URL = os.environ["URGENT_ARCHIVE_QUEUE_URL"]
WORK_TABLE = os.environ["WORK_TABLE"]

# What the default budget lets through in a minute, and spread over it: the budget is counted in
# windows of 15 seconds, and what meets a spent one waits for another tick.
MOST_CHECKS = 180
SPREAD_SECONDS = 55
SQS_BATCH = 10

logger = Logger(service="follow_up")
metrics = Metrics(service="recordings")

quick = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "max_attempts": 3})
sqs = boto3.client("sqs", config=quick)
dynamodb = boto3.client("dynamodb", config=quick)
worklist = Worklist(Table(dynamodb, WORK_TABLE))

if "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ:
    warm_up(logger.warning, connect(dynamodb, sqs))


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    """A tick; what the event says does not matter."""
    due = worklist.due(MOST_CHECKS)
    now = utcnow()
    hopeless = [check for check in due if check.is_hopeless(now)]
    for check in hopeless:
        give_up(check)
    for queue_url, checks in by_queue([check for check in due if check not in hopeless]).items():
        for start in range(0, len(checks), SQS_BATCH):
            delay = start * SPREAD_SECONDS // MOST_CHECKS
            ask_again(queue_url, checks[start : start + SQS_BATCH], delay)
    metrics.add_metric("ChecksDue", MetricUnit.Count, len(due))
    # The others wait until there is nothing else to do.
    waiting = [datetime.fromisoformat(check.due_at) for check in due if check.is_pressing(now)]
    age = (now - min(waiting, default=now)).total_seconds()
    metrics.add_metric("OldestCheckAge", MetricUnit.Seconds, age)
    # Only what has a deadline is urgent: files that are deleted in less than two days.
    at_risk = [check for check in due if check.is_urgent(now)]
    metrics.add_metric("RecordingAtRisk", MetricUnit.Count, len(at_risk))
    for check in at_risk:
        logger.warning(
            "recording at risk",
            key=check.key,
            correlation_id=check.request.get("recording_id"),
            deadline=check.deadline,
        )


def by_queue(checks: list[Check]) -> dict[str, list[Check]]:
    """In the order that they are due in; those of what is switched off are settled."""
    found: dict[str, list[Check]] = {}
    for check in checks:
        request = messages.request(check.request, Source.FOLLOW_UP)
        if queue_url := queue_of(request, check):
            found.setdefault(queue_url, []).append(check)
        else:
            worklist.settle(check.key)
    return found


def queue_of(request: Request, check: Check) -> str:
    """Its URL; what is urgent does not stand in line with what is not."""
    if isinstance(request, EraseRequest):
        # With archiving off there is nobody to erase files, but rows can be erased.
        return ARCHIVE_QUEUE_URL or INGEST_QUEUE_URL
    if not isinstance(request, ArchiveRequest):
        return INGEST_QUEUE_URL
    return URGENT_ARCHIVE_QUEUE_URL if check.is_urgent(utcnow()) else ARCHIVE_QUEUE_URL


def ask_again(queue_url: str, checks: list[Check], delay: int) -> None:
    """Sent first, then advanced: dying in between asks twice, the other way round not at all."""
    entries: list[SendMessageBatchRequestEntryTypeDef] = [
        {
            "Id": str(n),
            "MessageBody": messages.body(messages.request(check.request, Source.FOLLOW_UP)),
            "DelaySeconds": delay,
        }
        for n, check in enumerate(checks)
    ]
    answer = sqs.send_message_batch(QueueUrl=queue_url, Entries=entries)
    for sent in answer.get("Successful", []):
        worklist.advance(checks[int(sent["Id"])])
    for refused in answer.get("Failed", []):
        key = checks[int(refused["Id"])].key
        logger.warning("check not queued, stays due", key=key, code=refused["Code"])


def give_up(check: Check) -> None:
    """Logged and counted before it leaves the list, so that it cannot vanish unseen."""
    logger.error(
        "check given up",
        key=check.key,
        correlation_id=check.request.get("recording_id"),
        cause=check.cause,
        since=check.since.isoformat(),
        attempts=check.attempts,
    )
    metrics.add_metric("CheckGivenUp", MetricUnit.Count, 1)
    worklist.give_up(check)
