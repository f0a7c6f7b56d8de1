"""Every minute: put what is due to be looked at again back on the ingest queue.

Promise: a check is asked for again, at growing intervals, until it is settled, or given up with an
error in the log and a metric that an alarm watches. A crash at any point only asks once more.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from recordings import messages
from recordings.dynamodb import Table
from recordings.messages import Source
from recordings.worklist import Check, Worklist, utcnow

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

INGEST_QUEUE_URL = os.environ["INGEST_QUEUE_URL"]
WORK_TABLE = os.environ["WORK_TABLE"]

# What the default budget lets through in a minute, and spread over it: the budget is counted in
# windows of 15 seconds, and what meets a spent one waits for another tick.
MOST_CHECKS = 180
SPREAD_SECONDS = 55
SQS_BATCH = 10

logger = Logger(service="follow_up")
metrics = Metrics(service="follow_up")

quick = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "max_attempts": 3})
sqs = boto3.client("sqs", config=quick)
worklist = Worklist(Table(boto3.client("dynamodb", config=quick), WORK_TABLE))


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    """A tick; what the event says does not matter."""
    due = worklist.due(MOST_CHECKS)
    hopeless = [check for check in due if check.is_hopeless(utcnow())]
    hopeful = [check for check in due if check not in hopeless]
    for check in hopeless:
        give_up(check)
    for start in range(0, len(hopeful), SQS_BATCH):
        delay = start * SPREAD_SECONDS // MOST_CHECKS
        ask_again(hopeful[start : start + SQS_BATCH], delay)
    metrics.add_metric("ChecksDue", MetricUnit.Count, len(due))


def ask_again(checks: list[Check], delay: int) -> None:
    """Sent first, then advanced: dying in between asks twice, the other way round not at all."""
    entries: list[SendMessageBatchRequestEntryTypeDef] = [
        {
            "Id": str(n),
            "MessageBody": messages.body(messages.request(check.request, Source.FOLLOW_UP)),
            "DelaySeconds": delay,
        }
        for n, check in enumerate(checks)
    ]
    answer = sqs.send_message_batch(QueueUrl=INGEST_QUEUE_URL, Entries=entries)
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
        cause=check.cause,
        since=check.since.isoformat(),
        attempts=check.attempts,
    )
    metrics.add_metric("CheckGivenUp", MetricUnit.Count, 1)
    worklist.give_up(check)
