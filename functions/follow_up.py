"""Every minute: put the requests of due checks back on their queues.

Promise: a check is repeated at growing intervals until it is settled, or given up with an error in
the log and a metric that an alarm watches. A crash causes one repetition too many at most. A check
or a queue in trouble does not stop the others, and fails the tick at its end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from recordings import __version__, messages
from recordings.dynamodb import Table
from recordings.messages import (
    ArchiveRequest,
    EraseRequest,
    MalformedMessageError,
    Request,
    Source,
)
from recordings.warmup import connect, warm_up
from recordings.worklist import Check, Worklist, utcnow

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

INGEST_QUEUE_URL = os.environ["INGEST_QUEUE_URL"]
# Empty where archiving is switched off.
ARCHIVE_QUEUE_URL = os.environ["ARCHIVE_QUEUE_URL"]
URGENT_ARCHIVE_QUEUE_URL = os.environ["URGENT_ARCHIVE_QUEUE_URL"]
WORK_TABLE = os.environ["WORK_TABLE"]

# 180 is what the default budget allows in a minute. They are spread over the minute, because the
# budget has windows of 15 s, and a request that meets a full window waits for another tick.
MAX_CHECKS = 180
SPREAD_SECONDS = 55
SQS_BATCH = 10

logger = Logger(service="follow_up", version=__version__, xray_trace_id=None)
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
    """Repeat the due checks, whatever the event. Raises the errors of the tick at its end."""
    due = worklist.due(MAX_CHECKS)
    now = utcnow()
    measure(due, now)
    troubles: list[Exception] = []
    queues: dict[str, list[Check]] = {}
    for check in due:
        with isolated(troubles, check.key):
            if queue_url := destination(check, now):
                queues.setdefault(queue_url, []).append(check)
    for queue_url, checks in queues.items():
        with isolated(troubles, queue_url):
            repeat(queue_url, checks, troubles)
    if troubles:
        raise ExceptionGroup("some checks stay due", troubles)


@contextmanager
def isolated(troubles: list[Exception], key: str) -> Iterator[None]:
    """Log and collect an error, so that the other checks and queues get their turn."""
    try:
        yield
    except Exception as error:
        logger.exception("check or queue failed, stays due", key=key)
        troubles.append(error)


def measure(due: list[Check], now: datetime) -> None:
    """Emit the tick's metrics, and a warning for each file that may be lost."""
    metrics.add_metric("ChecksDue", MetricUnit.Count, len(due))
    # Checks that can wait would only hide the age of those that cannot.
    ages = [check.seconds_due(now) for check in due if check.is_pressing(now)]
    metrics.add_metric("OldestCheckAge", MetricUnit.Seconds, max(ages, default=0))
    # Only checks of files have a deadline; it is less than 48 hours away.
    at_risk = [check for check in due if check.is_urgent(now)]
    metrics.add_metric("RecordingAtRisk", MetricUnit.Count, len(at_risk))
    for check in at_risk:
        logger.warning(
            "recording at risk",
            key=check.key,
            correlation_id=check.request.get("recording_id"),
            deadline=check.deadline,
        )


def destination(check: Check, now: datetime) -> str | None:
    """Return the URL of the check's queue; None if it was given up, settled or postponed."""
    if check.is_hopeless(now):
        give_up(check)
        return None
    try:
        request = messages.request(check.request, Source.FOLLOW_UP)
    except MalformedMessageError as error:
        # A newer version may have written it, so it is retried, and given up like any other.
        logger.error("check unreadable", key=check.key, reason=str(error))
        metrics.add_metric("MessageMalformed", MetricUnit.Count, 1)
        worklist.advance(check)
        return None
    queue_url = queue_of(request, check, now)
    if not queue_url:
        # Archiving is switched off.
        worklist.settle(check.key)
    return queue_url


def queue_of(request: Request, check: Check, now: datetime) -> str:
    """Return the URL of a request's queue: urgent files have one of their own."""
    if isinstance(request, EraseRequest):
        # With archiving off, `ingest_recording` erases rows.
        return ARCHIVE_QUEUE_URL or INGEST_QUEUE_URL
    if not isinstance(request, ArchiveRequest):
        return INGEST_QUEUE_URL
    return URGENT_ARCHIVE_QUEUE_URL if check.is_urgent(now) else ARCHIVE_QUEUE_URL


def repeat(queue_url: str, checks: list[Check], troubles: list[Exception]) -> None:
    """Send checks to a queue, spread over the minute. Raises at the first batch that fails."""
    # Patient files have a third of the places (`Worklist.due`).
    a_minute = MAX_CHECKS // 3 if queue_url == ARCHIVE_QUEUE_URL else MAX_CHECKS
    for start in range(0, len(checks), SQS_BATCH):
        delay = min(start * SPREAD_SECONDS // a_minute, SPREAD_SECONDS)
        send(queue_url, checks[start : start + SQS_BATCH], delay, troubles)


def send(queue_url: str, checks: list[Check], delay: int, troubles: list[Exception]) -> None:
    """Send a batch, then advance it: a crash in between repeats checks and never skips one."""
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
        check = checks[int(sent["Id"])]
        with isolated(troubles, check.key):
            worklist.advance(check)
    for refused in answer.get("Failed", []):
        key = checks[int(refused["Id"])].key
        logger.warning("check not queued, stays due", key=key, code=refused["Code"])


def give_up(check: Check) -> None:
    """Give up a check, logged and counted first, so that it cannot vanish unseen."""
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
