"""From the ingest queue: fetch recordings from RealtimeKit and catalogue them.

Promise: a message that comes off the queue is in the catalogue, or a check is left for it. What
stays on the queue, and ends in its dead-letter queue, cannot be read, or met a fault of our own.
"""

import os
import ssl
import time
from dataclasses import dataclass
from typing import Any

import boto3
import urllib3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from recordings import messages
from recordings.budget import UpstreamBudget
from recordings.catalogue import Catalogue
from recordings.dynamodb import Table, UnwritableError
from recordings.erasure import ArchiveUnreachableError, Erasure
from recordings.ingestion import Ingestion
from recordings.messages import (
    ArchiveRequest,
    EraseRequest,
    IngestRequest,
    MalformedMessageError,
    RecordingRequest,
    Request,
    Source,
)
from recordings.model import RecordingStatus, is_final
from recordings.realtimekit import (
    ApiToken,
    RealtimeKit,
    RealtimeKitError,
    UnavailableError,
)
from recordings.rows import is_erased
from recordings.warmup import connect, warm_up
from recordings.worklist import Worklist

APP_ID = os.environ["APP_ID"]
APP_URL = os.environ["REALTIMEKIT_APP_URL"]
API_TOKEN_SECRET_ARN = os.environ["API_TOKEN_SECRET_ARN"]
RECORDINGS_TABLE = os.environ["RECORDINGS_TABLE"]
WORK_TABLE = os.environ["WORK_TABLE"]
ARCHIVING = os.environ["ARCHIVING"] == "on"
REQUESTS_PER_5_MINUTES = int(os.environ["UPSTREAM_REQUESTS_PER_5_MINUTES"])

# Enough for one more session: its list (20 s), a page that was begun then (14 s), and the rows.
MIN_TIME_MS = 45_000

logger = Logger(service="ingest_recording")
metrics = Metrics(service="recordings")

quick = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "max_attempts": 3})
dynamodb = boto3.client("dynamodb", config=quick)
work_table = Table(dynamodb, WORK_TABLE)
token = ApiToken(boto3.client("secretsmanager", config=quick), API_TOKEN_SECRET_ARN)
ingestion = Ingestion(
    realtimekit=RealtimeKit(
        APP_URL,
        token,
        UpstreamBudget(work_table, APP_ID, REQUESTS_PER_5_MINUTES),
        urllib3.PoolManager(ssl_context=ssl.create_default_context()),
        observe=metrics.add_metric,
    ),
    catalogue=Catalogue(Table(dynamodb, RECORDINGS_TABLE), APP_ID),
    worklist=Worklist(work_table),
)

if "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ:
    warm_up(logger.warning, token.value, connect(dynamodb), ingestion.realtimekit.connect)


@dataclass(slots=True)
class Asked:
    """One thing that is asked for, the messages that ask for it, and when the first was sent."""

    request: Request
    message_ids: list[str]
    sent_at: float


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answers with the messages that are to stay on the queue (ReportBatchItemFailures)."""
    asked, failed = read(event["Records"])
    for one in asked:
        request = one.request
        logger.set_correlation_id(request.correlation_id)
        out_of_time = context.get_remaining_time_in_millis() < MIN_TIME_MS
        try:
            if isinstance(request, EraseRequest):
                erase(request)
            elif not isinstance(request, ArchiveRequest):
                ingest(request, one.sent_at, out_of_time=out_of_time)
        except Exception:
            # One message's fault is not its neighbours'; SQS brings the failed ones again.
            logger.exception("message failed", key=request.key, message_ids=one.message_ids)
            failed.extend(one.message_ids)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def read(records: list[dict[str, Any]]) -> tuple[list[Asked], list[str]]:
    """What is asked for, each thing once; the unreadable messages' ids."""
    asked: dict[str, Asked] = {}
    malformed: list[str] = []
    for record in records:
        message_id = record["messageId"]
        try:
            request = messages.parse(record["body"])
            # With archiving off there is no other queue for what is left to erase: rows.
            if isinstance(request, ArchiveRequest) or (
                ARCHIVING and isinstance(request, EraseRequest)
            ):
                raise MalformedMessageError("the message is for the archive queue")
        except MalformedMessageError as error:
            logger.error("message malformed", message_id=message_id, reason=str(error))
            metrics.add_metric("MessageMalformed", MetricUnit.Count, 1)
            malformed.append(message_id)
            continue
        sent_at = int(record["attributes"]["SentTimestamp"]) / 1000
        known = asked.setdefault(request.key, Asked(request, [], sent_at))
        known.request = messages.merged(known.request, request)
        known.message_ids.append(message_id)
        known.sent_at = min(known.sent_at, sent_at)
    return list(asked.values()), malformed


def erase(request: EraseRequest) -> None:
    """Go on with an erasure where archiving is switched off: of what has no files in a bucket."""
    erasure = Erasure(catalogue=ingestion.catalogue, worklist=ingestion.worklist, archive=None)
    try:
        erasure.erase(request)
    except ArchiveUnreachableError:
        logger.exception("files out of reach", key=request.key)
    else:
        logger.info("recording erased", recording_id=request.recording_id)


def ingest(request: IngestRequest, sent_at: float, *, out_of_time: bool) -> None:
    """Do what the message asks for, or leave a check behind."""
    try:
        if out_of_time:
            raise UnavailableError("no time left in this invocation")
        if isinstance(request, RecordingRequest):
            ingest_recording(request, sent_at)
        else:
            rows = ingestion.ingest_session(request)
            logger.info("session ingested", key=request.key, recordings=len(rows))
            metrics.add_metric("SessionIngested", MetricUnit.Count, 1)
    except UnwritableError as error:
        # It would be refused again and again. Sweeps look at it again while RealtimeKit has it.
        ingestion.worklist.settle(request.key)
        logger.error("recording unwritable", key=request.key, reason=str(error))
        metrics.add_metric("RecordingUnwritable", MetricUnit.Count, 1)
    except RealtimeKitError as error:
        ingestion.postpone(request, error)
        logger.warning("postponed", key=request.key, cause=error.cause, detail=str(error))
        metrics.add_metric(error.metric, MetricUnit.Count, 1)


def ingest_recording(request: RecordingRequest, sent_at: float) -> None:
    """Fetch one, and say what became of it."""
    upserted = ingestion.ingest_recording(request)
    row = upserted.row
    if is_erased(row):
        logger.info("recording is erased", recording_id=request.recording_id)
        return
    logger.info(
        "recording ingested",
        recording_id=request.recording_id,
        source=request.source,
        status=row["status"],
        version=row["version"],
        changed=upserted.changed,
    )
    metrics.add_metric("RecordingIngested", MetricUnit.Count, int(upserted.changed))
    metrics.add_metric("RecordingNotFinal", MetricUnit.Count, int(not is_final(row["status"])))
    told = request.source in (Source.WEBHOOK, Source.EVENTBRIDGE)
    if told and row["status"] == RecordingStatus.UPLOADED and not upserted.was_final:
        # RealtimeKit does not say when it was UPLOADED; it told us when this message was sent.
        seconds = max(0.0, time.time() - sent_at)
        metrics.add_metric("SecondsToCatalogued", MetricUnit.Seconds, round(seconds, 3))
