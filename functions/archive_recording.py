"""From the archive queues: copy a recording's files to the owner's bucket before they are deleted.

Promise: a message leaves a queue when its files are archived, or when a check is left that comes
back for them until they are gone. A copy that runs out of time, or is killed, continues where it
stopped. An erasure that the API could not finish is finished here, too.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import boto3
import urllib3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from recordings import __version__, messages
from recordings.archive import Archive, NotErasedError, label
from recordings.archiver import Archiver, Outcome
from recordings.budget import UpstreamBudget
from recordings.catalogue import Catalogue, HeldError
from recordings.copier import S3_CONFIG, Copier
from recordings.dynamodb import Table, UnwritableError
from recordings.erasure import ArchiveUnreachableError, Erasure, LapsedError
from recordings.media import Media
from recordings.messages import ArchiveRequest, EraseRequest, MalformedMessageError
from recordings.model import SESSION_FILES
from recordings.realtimekit import ApiToken, RealtimeKit
from recordings.warmup import connect, warm_up
from recordings.worklist import Worklist, utcnow

APP_ID = os.environ["APP_ID"]
APP_URL = os.environ["REALTIMEKIT_APP_URL"]
API_TOKEN_SECRET_ARN = os.environ["API_TOKEN_SECRET_ARN"]
RECORDINGS_TABLE = os.environ["RECORDINGS_TABLE"]
WORK_TABLE = os.environ["WORK_TABLE"]
REQUESTS_PER_5_MINUTES = int(os.environ["UPSTREAM_REQUESTS_PER_5_MINUTES"])
ARCHIVE_BUCKET = os.environ["ARCHIVE_BUCKET"]
MEDIA_HOSTS = tuple(os.environ["MEDIA_HOSTS"].split(","))
PART_BYTES = int(os.environ["ARCHIVE_PART_MIB"]) * 1024 * 1024

# The other half of the budget is for webhooks and the API, so that a backlog does not delay them.
SHARE = 0.5

# 30 s: a stalled read (10 s), S3's last answers, and the states to record.
MARGIN_MS = 30_000
# A recording may have thousands of files; a log line has at most 256 KB (CloudWatch quotas).
MAX_FILES_SHOWN = 20
# A claim must outlive the invocation that holds it.
LEASE_MARGIN_SECONDS = 30

logger = Logger(service="archive_recording", version=__version__, xray_trace_id=None)
metrics = Metrics(service="recordings")

quick = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "max_attempts": 3})
streaming = Config(
    connect_timeout=2,
    read_timeout=20,
    retries={"mode": "standard", "max_attempts": 3},
    max_pool_connections=16,
    **S3_CONFIG,
)
tls = ssl.create_default_context()
dynamodb = boto3.client("dynamodb", config=quick)
work_table = Table(dynamodb, WORK_TABLE)
token = ApiToken(boto3.client("secretsmanager", config=quick), API_TOKEN_SECRET_ARN)
s3 = boto3.client("s3", config=streaming)
bucket = Archive(s3, ARCHIVE_BUCKET)
archiver = Archiver(
    realtimekit=RealtimeKit(
        APP_URL,
        token,
        UpstreamBudget(work_table, APP_ID, REQUESTS_PER_5_MINUTES, share=SHARE),
        urllib3.PoolManager(ssl_context=tls),
        observe=metrics.add_metric,
    ),
    catalogue=Catalogue(Table(dynamodb, RECORDINGS_TABLE), APP_ID),
    worklist=Worklist(work_table),
    media=Media(MEDIA_HOSTS, ssl_context=tls),
    archive=bucket,
    copier=Copier(s3, bucket, PART_BYTES),
)

if "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ:
    warm_up(logger.warning, token.value, connect(dynamodb), archiver.realtimekit.connect)


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Return the messages that stay on the queue (ReportBatchItemFailures)."""
    failed = []
    for record in event["Records"]:
        message_id = record["messageId"]
        try:
            request = read(record["body"])
            logger.set_correlation_id(request.correlation_id)
            if isinstance(request, EraseRequest):
                erase(request)
            else:
                archive(request, context)
        except MalformedMessageError as error:
            logger.error("message malformed", message_id=message_id, reason=str(error))
            metrics.add_metric("MessageMalformed", MetricUnit.Count, 1)
            failed.append(message_id)
        except UnwritableError as error:
            # The files are in the bucket, but no row says so. The check retries, then is given up.
            logger.error("recording unwritable", message_id=message_id, reason=str(error))
            metrics.add_metric("RecordingUnwritable", MetricUnit.Count, 1)
        except Exception:
            # S3 or DynamoDB failed, or this code. The check is due again before the message is.
            logger.exception("message failed", message_id=message_id)
            failed.append(message_id)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def read(body: str) -> ArchiveRequest | EraseRequest:
    """Return the request in a message. Raises `MalformedMessageError`."""
    request = messages.parse(body)
    if not isinstance(request, ArchiveRequest | EraseRequest):
        raise MalformedMessageError("the message is not for the archive queue")
    return request


def erase(request: EraseRequest) -> None:
    """Continue an erasure, unless a run is archiving the recording's files.

    A failed erasure leaves the message done, because its check comes back at growing intervals.
    """
    erasure = Erasure(
        catalogue=archiver.catalogue, worklist=archiver.worklist, archive=archiver.archive
    )
    try:
        row = erasure.erase(request)
    except HeldError:
        logger.warning("erasure refused: on hold", recording_id=request.recording_id)
        return
    except LapsedError:
        logger.info("erasure left to the policy's next run", recording_id=request.recording_id)
        return
    except (ArchiveUnreachableError, NotErasedError, ClientError, BotoCoreError):
        logger.exception("recording not erased", recording_id=request.recording_id)
        return
    if row is not None and "erased_at" not in row:
        logger.info("left to a run under way", recording_id=request.recording_id)
        return
    logger.info("recording erased", recording_id=request.recording_id)


def archive(request: ArchiveRequest, context: LambdaContext) -> None:
    """Archive a recording's files; log and count the outcome."""
    seconds = context.get_remaining_time_in_millis() // 1000 + LEASE_MARGIN_SECONDS
    outcome = archiver.archive_recording(
        request,
        seconds,
        lambda: context.get_remaining_time_in_millis() < MARGIN_MS,
        lambda names: report_lost(request, names),
    )
    if outcome.is_busy:
        logger.info("left to a run under way", recording_id=request.recording_id)
        return
    log_outcome(request, outcome)
    count_outcome(outcome)


def report_lost(request: ArchiveRequest, names: Sequence[str]) -> None:
    """Log and count lost files at once, in case the invocation is killed later."""
    for name in names:
        logger.error("file lost", recording_id=request.recording_id, artifact=label(name))
    metrics.add_metric("ArtifactLost", MetricUnit.Count, len(names))
    metrics.flush_metrics()


def log_outcome(request: ArchiveRequest, outcome: Outcome) -> None:
    """Log the states and causes of a recording's files in one line."""
    logger.info(
        "recording archived" if not outcome.causes else "recording not archived yet",
        recording_id=request.recording_id,
        source=request.source,
        files_done=len(outcome.done),
        files_left=len(outcome.causes),
        done=first_files({name: state["state"] for name, state in outcome.done.items()}),
        causes=first_files(outcome.causes),
        details=first_files(outcome.details),
        resumed=outcome.resumed,
    )
    if outcome.restarted:
        logger.warning(
            "copies begun anew", recording_id=request.recording_id, count=outcome.restarted
        )


def first_files(values: Mapping[str, str]) -> dict[str, str]:
    """Return the first MAX_FILES_SHOWN values, by their artifacts' labels."""
    return {label(name): value for name, value in islice(values.items(), MAX_FILES_SHOWN)}


def count_outcome(outcome: Outcome) -> None:
    """Emit the outcome's metrics."""
    archived = {name: state for name, state in outcome.done.items() if state["state"] == "archived"}
    metrics.add_metric("ArtifactArchived", MetricUnit.Count, len(archived))
    metrics.add_metric(
        "BytesArchived", MetricUnit.Bytes, sum(state["size"] for state in archived.values())
    )
    for cause in outcome.causes.values():
        name = f"ArchivePostponed{cause.title().replace('_', '')}"
        metrics.add_metric(name, MetricUnit.Count, 1)
    is_complete = not outcome.causes.keys() - set(SESSION_FILES)
    if archived.keys() - set(SESSION_FILES) and outcome.uploaded_at and is_complete:
        seconds = (utcnow() - datetime.fromisoformat(outcome.uploaded_at)).total_seconds()
        metrics.add_metric("SecondsToArchived", MetricUnit.Seconds, max(0.0, seconds))
