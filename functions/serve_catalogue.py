"""The catalogue's API: read a recording, or have it fetched from RealtimeKit now.

Promise: what is answered is what the table holds, without credentials; a sync that RealtimeKit's
trouble prevents leaves a check behind, so that it happens later. Errors are RFC 9457 problems.
"""

import json
import os
import warnings
from http import HTTPStatus
from typing import Any

import boto3
import urllib3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from recordings.catalogue import Catalogue, ConflictError, public
from recordings.dynamodb import Item, Table
from recordings.ingestion import Ingestion
from recordings.messages import RecordingRequest, Source
from recordings.model import uuid
from recordings.realtimekit import (
    ApiToken,
    NotFoundError,
    RealtimeKit,
    RealtimeKitError,
    ThrottledError,
    UnavailableError,
)
from recordings.worklist import UpstreamBudget, Worklist

APP_ID = os.environ["APP_ID"]
APP_URL = os.environ["REALTIMEKIT_APP_URL"]
API_TOKEN_SECRET_ARN = os.environ["API_TOKEN_SECRET_ARN"]
RECORDINGS_TABLE = os.environ["RECORDINGS_TABLE"]
WORK_TABLE = os.environ["WORK_TABLE"]
REQUESTS_PER_5_MINUTES = int(os.environ["UPSTREAM_REQUESTS_PER_5_MINUTES"])

PROBLEM_JSON = "application/problem+json"
# When the check that a failed sync leaves behind is due.
CHECK_SECONDS = 60

logger = Logger(service="serve_catalogue")
metrics = Metrics(service="serve_catalogue")
# A read counts nothing; Powertools would say so on stderr.
warnings.filterwarnings("ignore", "No application metrics to publish")
app = APIGatewayRestResolver()

quick = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "max_attempts": 2})
dynamodb = boto3.client("dynamodb", config=quick)
catalogue = Catalogue(Table(dynamodb, RECORDINGS_TABLE), APP_ID)
work_table = Table(dynamodb, WORK_TABLE)
ingestion = Ingestion(
    realtimekit=RealtimeKit(
        APP_URL,
        ApiToken(boto3.client("secretsmanager", config=quick), API_TOKEN_SECRET_ARN),
        UpstreamBudget(work_table, APP_ID, REQUESTS_PER_5_MINUTES),
        urllib3.PoolManager(),
    ),
    catalogue=catalogue,
    worklist=Worklist(work_table),
)


@logger.inject_lambda_context(
    clear_state=True, correlation_id_path=correlation_paths.API_GATEWAY_REST
)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """API Gateway's proxy event in, its answer out; who may call is decided before, by IAM."""
    return app.resolve(event, context)


@app.get("/recordings/<recording_id>")
def get_recording(recording_id: str) -> Response[str]:
    """The row, as the table holds it."""
    if (checked := uuid(recording_id)) is None:
        return malformed_id()
    row = catalogue.get(checked)
    if row is None:
        return problem(
            HTTPStatus.NOT_FOUND, "The catalogue has no recording with this recording_id."
        )
    return recording(row)


@app.post("/recordings/<recording_id>/sync")
def sync_recording(recording_id: str) -> Response[str]:
    """Fetch it from RealtimeKit now, and answer with the row."""
    if (checked := uuid(recording_id)) is None:
        return malformed_id()
    request = RecordingRequest(recording_id=checked, source=Source.API)
    try:
        upserted = ingestion.ingest_recording(request)
    except NotFoundError:
        return problem(
            HTTPStatus.NOT_FOUND, "RealtimeKit knows no recording with this recording_id."
        )
    except RealtimeKitError as error:
        ingestion.postpone(request, error)
        logger.warning("postponed", key=request.key, cause=error.cause, detail=str(error))
        metrics.add_metric("Postponed", MetricUnit.Count, 1)
        return trouble(error)
    logger.info("recording synced", recording_id=checked, changed=upserted.changed)
    metrics.add_metric("RecordingIngested", MetricUnit.Count, int(upserted.changed))
    return recording(upserted.row)


@app.not_found
def no_such_route(_: Exception) -> Response[str]:
    """Only where the template gives a route that is not here."""
    return problem(HTTPStatus.NOT_FOUND, "There is no such resource.")


@app.exception_handler([ClientError, BotoCoreError, ConflictError])  # type: ignore[untyped-decorator]
def aws_in_trouble(error: Exception) -> Response[str]:
    """Throttling and outages pass; what was not written now can be asked for again."""
    logger.exception("AWS in trouble")
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE, "The catalogue cannot be reached; try again.", retry_after=1
    )


def recording(row: Item) -> Response[str]:
    """200 with the row, less what is the service's own and the URLs, which are credentials."""
    body = json.dumps(public(row), default=float, ensure_ascii=False)
    return Response(HTTPStatus.OK, "application/json", body)


def malformed_id() -> Response[str]:
    """400: nothing was looked up, and nothing was sent to RealtimeKit."""
    return problem(HTTPStatus.BAD_REQUEST, "recording_id is not a UUID.")


def trouble(error: RealtimeKitError) -> Response[str]:
    """503 for what passes by itself, 502 for what somebody has to look into."""
    passing = isinstance(error, ThrottledError | UnavailableError)
    status = HTTPStatus.SERVICE_UNAVAILABLE if passing else HTTPStatus.BAD_GATEWAY
    detail = f"RealtimeKit could not be asked ({error.cause}); the recording will be fetched later."
    return problem(status, detail, retry_after=error.retry_after or CHECK_SECONDS)


def problem(status: HTTPStatus, detail: str, *, retry_after: int | None = None) -> Response[str]:
    """An RFC 9457 problem document."""
    body = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}
    headers = {"Retry-After": str(retry_after)} if retry_after else {}
    return Response(status, PROBLEM_JSON, json.dumps(body), headers)
