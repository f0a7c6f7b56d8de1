"""From the ingest queue: fetch recordings from RealtimeKit and catalogue them.

Promise: a message leaves the queue once its recordings are catalogued or a check is left. Only an
unreadable message, or one that meets a fault of this service, ends in the dead-letter queue.
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

from recordings import __version__, messages
from recordings.budget import UpstreamBudget
from recordings.catalogue import Catalogue, HeldError
from recordings.dynamodb import Table, UnwritableError
from recordings.erasure import ArchiveUnreachableError, Erasure, LapsedError
from recordings.ingestion import Ingestion
from recordings.messages import (
    ArchiveRequest,
    EraseRequest,
    IngestRequest,
    MalformedMessageError,
    RecordingRequest,
    Request,
    SessionFilesRequest,
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
# The kinds of a session's files that are kept; empty where archiving is switched off.
SESSION_FILES = tuple(filter(None, os.environ["SESSION_FILES"].split(",")))
REQUESTS_PER_5_MINUTES = int(os.environ["UPSTREAM_REQUESTS_PER_5_MINUTES"])

# 45 s, enough for one more session: its list (20 s), the last page (14 s), and the rows.
MIN_TIME_MS = 45_000

# A new recording's first fetch leaves half of each window to fetches that no report replaces.
HALF = 0.5

logger = Logger(service="ingest_recording", version=__version__, xray_trace_id=None)
metrics = Metrics(service="recordings")

quick = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "max_attempts": 3})
dynamodb = boto3.client("dynamodb", config=quick)
work_table = Table(dynamodb, WORK_TABLE)
token = ApiToken(boto3.client("secretsmanager", config=quick), API_TOKEN_SECRET_ARN)
http = urllib3.PoolManager(ssl_context=ssl.create_default_context())


def client(share: float) -> RealtimeKit:
    """Return a client of RealtimeKit that may use this share of the budget."""
    budget = UpstreamBudget(work_table, APP_ID, REQUESTS_PER_5_MINUTES, share=share)
    return RealtimeKit(APP_URL, token, budget, http, observe=metrics.add_metric)


ingestion = Ingestion(
    realtimekit=client(1),
    catalogue=Catalogue(Table(dynamodb, RECORDINGS_TABLE), APP_ID),
    worklist=Worklist(work_table),
    session_files=SESSION_FILES,
    sparing=client(HALF),
)

if "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ:
    warm_up(logger.warning, token.value, connect(dynamodb), ingestion.realtimekit.connect)


@dataclass(slots=True)
class Job:
    """One request, the messages that carry it, and the time at which the first was sent."""

    request: Request
    message_ids: list[str]
    sent_at: float


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Work on a batch. Return the messages to stay on the queue (ReportBatchItemFailures)."""
    # These keys are the same in each line, and a fifth of the log's bytes.
    logger.remove_keys(["function_name", "function_memory_size", "function_arn"])
    jobs, failed = read(event["Records"])
    for job in jobs:
        request = job.request
        logger.set_correlation_id(request.correlation_id)
        out_of_time = context.get_remaining_time_in_millis() < MIN_TIME_MS
        try:
            if isinstance(request, EraseRequest):
                erase(request)
            elif not isinstance(request, ArchiveRequest):
                ingest(request, job.sent_at, out_of_time=out_of_time)
        except Exception:
            # The other messages go on; SQS redelivers those that failed.
            logger.exception("message failed", key=request.key, message_ids=job.message_ids)
            failed.extend(job.message_ids)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def read(records: list[dict[str, Any]]) -> tuple[list[Job], list[str]]:
    """Return the jobs, each request once, and the ids of unreadable messages."""
    jobs: dict[str, Job] = {}
    malformed: list[str] = []
    for record in records:
        message_id = record["messageId"]
        try:
            request = messages.parse(record["body"])
            # With archiving off there is no archive queue, and erasures of rows come here.
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
        job = jobs.setdefault(request.key, Job(request, [], sent_at))
        job.request = messages.merged(job.request, request)
        job.message_ids.append(message_id)
        job.sent_at = min(job.sent_at, sent_at)
    return list(jobs.values()), malformed


def erase(request: EraseRequest) -> None:
    """Repeat an erasure with archiving off: of a recording without archived files."""
    erasure = Erasure(catalogue=ingestion.catalogue, worklist=ingestion.worklist, archive=None)
    try:
        erasure.erase(request)
    except HeldError:
        logger.warning("erasure refused: on hold", recording_id=request.recording_id)
    except LapsedError:
        logger.info("erasure left to the policy's next run", recording_id=request.recording_id)
    except ArchiveUnreachableError:
        logger.exception("files out of reach", key=request.key)
    else:
        logger.info("recording erased", recording_id=request.recording_id)


def ingest(request: IngestRequest, sent_at: float, *, out_of_time: bool) -> None:
    """Catalogue the recordings of a request, or leave a check."""
    try:
        if out_of_time:
            raise UnavailableError("no time left in this invocation")
        if isinstance(request, RecordingRequest):
            ingest_recording(request, sent_at)
        elif isinstance(request, SessionFilesRequest):
            ingest_session_files(request)
        else:
            rows = ingestion.ingest_session(request)
            logger.info("session ingested", key=request.key, recordings=len(rows))
            metrics.add_metric("SessionIngested", MetricUnit.Count, 1)
    except UnwritableError as error:
        # DynamoDB would refuse the row every time. Sweeps retry it while RealtimeKit has it.
        ingestion.worklist.settle(request.key)
        logger.error("recording unwritable", key=request.key, reason=str(error))
        metrics.add_metric("RecordingUnwritable", MetricUnit.Count, 1)
    except RealtimeKitError as error:
        ingestion.postpone(request, error)
        logger.warning("postponed", key=request.key, cause=error.cause, detail=str(error))
        metrics.add_metric(error.metric, MetricUnit.Count, 1)


def ingest_session_files(request: SessionFilesRequest) -> None:
    """Fetch a session's files; log and count the outcome."""
    files = ingestion.ingest_session_files(request)
    logger.info(
        "session files fetched",
        session_id=request.session_id,
        source=request.source,
        offered=files.offered,
        missing=files.missing,
        absent=files.absent,
    )
    metrics.add_metric("SessionFileOffered", MetricUnit.Count, len(files.offered))
    metrics.add_metric("SessionFileAbsent", MetricUnit.Count, len(files.absent))
    if files.unwritable:
        logger.error("recordings unwritable", key=request.key, recording_ids=files.unwritable)
        metrics.add_metric("RecordingUnwritable", MetricUnit.Count, len(files.unwritable))


def ingest_recording(request: RecordingRequest, sent_at: float) -> None:
    """Catalogue one recording; log and count the outcome."""
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
        row_version=row["version"],
        changed=upserted.changed,
        fetched=not upserted.is_reported,
    )
    metrics.add_metric("FetchSpared", MetricUnit.Count, int(upserted.is_reported))
    metrics.add_metric("RecordingIngested", MetricUnit.Count, int(upserted.changed))
    metrics.add_metric("RecordingNotFinal", MetricUnit.Count, int(not is_final(row["status"])))
    is_announced = request.source in (Source.WEBHOOK, Source.EVENTBRIDGE)
    if is_announced and row["status"] == RecordingStatus.UPLOADED and not upserted.was_final:
        # RealtimeKit names no time of upload; the closest is the time of the webhook's message.
        seconds = max(0.0, time.time() - sent_at)
        metrics.add_metric("SecondsToCatalogued", MetricUnit.Seconds, round(seconds, 3))
