"""The catalogue's API: list and read recordings, link to their files, sync, erase; sweeps; health.

Promise: an answer shows the table's row without credentials; only `links` gives URLs. A sync that
RealtimeKit's trouble prevents, or an interrupted erasure, leaves a check, so that it happens later.
Errors are RFC 9457 problems. `openapi.json` describes every answer.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import urllib3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from recordings import __version__, listing, sweeps
from recordings.archive import Archive, NotErasedError
from recordings.budget import UpstreamBudget
from recordings.catalogue import Catalogue, ConflictError
from recordings.dispositions import Disposition
from recordings.dynamodb import Item, Table, UnwritableError
from recordings.erasure import ArchiveUnreachableError, Erasure
from recordings.health import FAILING, Health
from recordings.ingestion import Ingestion
from recordings.links import GONE, download_links, linked_artifacts
from recordings.listing import Listing
from recordings.messages import EraseRequest, RecordingRequest, Source
from recordings.model import uuid
from recordings.parameters import BadParameterError, parse_choice, parse_number, single_values
from recordings.problems import (
    JSON,
    Answer,
    answer,
    erased,
    etag,
    matches,
    not_catalogued,
    not_fetched,
    problem,
    sweep_not_found,
)
from recordings.realtimekit import ApiToken, NotFoundError, RealtimeKit, RealtimeKitError
from recordings.rows import Row, is_erased, public
from recordings.sweeps import MAX_OPEN_SWEEPS, State, Sweeps, TooManySweepsError, UnfinishedError
from recordings.warmup import connect, warm_up
from recordings.worklist import Worklist, utcnow

# --- settings ---

APP_ID = os.environ["APP_ID"]
APP_URL = os.environ["REALTIMEKIT_APP_URL"]
API_TOKEN_SECRET_ARN = os.environ["API_TOKEN_SECRET_ARN"]
RECORDINGS_TABLE = os.environ["RECORDINGS_TABLE"]
WORK_TABLE = os.environ["WORK_TABLE"]
REQUESTS_PER_5_MINUTES = int(os.environ["UPSTREAM_REQUESTS_PER_5_MINUTES"])
# Empty where archiving is switched off.
ARCHIVE_BUCKET = os.environ["ARCHIVE_BUCKET"]
# name=url,name=url
QUEUE_URLS = {
    name: url
    for name, _, url in (pair.partition("=") for pair in os.environ["QUEUE_URLS"].split(","))
}

LINK_SECONDS, MIN_LINK_SECONDS, MAX_LINK_SECONDS = 900, 60, 3600

# --- clients ---

logger = Logger(service="serve_catalogue", version=__version__, xray_trace_id=None)
metrics = Metrics(service="recordings")
# Powertools warns on stderr if an invocation emits no metric, and a read emits none.
warnings.filterwarnings("ignore", "No application metrics to publish")
app = APIGatewayRestResolver()

quick = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "max_attempts": 2})
dynamodb = boto3.client("dynamodb", config=quick)
recordings_table = Table(dynamodb, RECORDINGS_TABLE)
work_table = Table(dynamodb, WORK_TABLE)
catalogue = Catalogue(recordings_table, APP_ID)
recordings = Listing(recordings_table, APP_ID)
work = Sweeps(work_table, APP_ID)
token = ApiToken(boto3.client("secretsmanager", config=quick), API_TOKEN_SECRET_ARN)
ingestion = Ingestion(
    realtimekit=RealtimeKit(
        APP_URL,
        token,
        UpstreamBudget(work_table, APP_ID, REQUESTS_PER_5_MINUTES),
        urllib3.PoolManager(),
        observe=metrics.add_metric,
    ),
    catalogue=catalogue,
    worklist=Worklist(work_table),
)

# All requests need DynamoDB, few need the token.
if "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ:
    warm_up(logger.warning, connect(dynamodb))


# The next two clients are made on first use, so that a read need not wait for them.
@functools.cache
def archive() -> Archive | None:
    """Return the owner's bucket, or None if archiving is switched off."""
    if not ARCHIVE_BUCKET:
        return None
    # A link must name the region's own host, because its signature holds for that host only.
    # 8 s: S3 takes longer to delete a thousand versions than DynamoDB to read a row.
    config = quick.merge(
        Config(s3={"addressing_style": "virtual"}, signature_version="s3v4", read_timeout=8)
    )
    return Archive(boto3.client("s3", config=config), ARCHIVE_BUCKET)


@functools.cache
def sqs() -> Any:
    """Return the client of the queues."""
    return boto3.client("sqs", config=quick)


# --- routes ---


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer a proxy event of API Gateway, which has let IAM check the caller."""
    # The log shows who got links and who erased, even if the account logs no API Gateway access.
    caller = event["requestContext"]["identity"].get("userArn")
    logger.append_keys(api_request_id=event["requestContext"]["requestId"], caller=caller)
    # The path is built from the resource, because a custom domain puts its base path before it.
    # Slashes in an id are quoted: IAM allowed this resource, and no other.
    given = event.get("pathParameters") or {}
    path = event["resource"].format(**{name: quote(given[name], safe="") for name in given})
    return app.resolve({**event, "path": path}, context)


def responds(function: Callable[..., Answer]) -> Callable[..., Response[str]]:
    """Let a route or an exception handler return an `Answer`."""

    @functools.wraps(function)
    def respond(*args: Any, **ids: str) -> Response[str]:
        answer = function(*args, **ids)
        return Response(answer.status, answer.content_type, answer.body, dict(answer.headers))

    return respond


@app.get("/recordings")
@responds
def list_recordings() -> Answer:
    """Return a page of the list of recordings."""
    page = recordings.page(*listing.parse(parameters()))
    cursor = {"next_cursor": page.next_cursor} if page.next_cursor else {}
    return answer(HTTPStatus.OK, {"recordings": page.items, **cursor})


@app.get("/recordings/<recording_id>")
@responds
def get_recording(recording_id: str) -> Answer:
    """Return a recording's row, or a 304 if the caller has this version."""
    checked = parsed_id(recording_id)
    row = catalogue.get(checked)
    if row is None:
        return not_catalogued()
    if is_erased(row):
        return erased()
    tag = etag(row)
    if matches(app.current_event.headers.get("If-None-Match", ""), tag):
        return Answer(HTTPStatus.NOT_MODIFIED, None, "", {"ETag": tag})
    return recording(row)


@app.get("/recordings/<recording_id>/links")
@responds
def link_recording(recording_id: str) -> Answer:
    """Return short-lived links to a recording's files, or to one `artifact`."""
    checked = parsed_id(recording_id, "expires_in", "artifact", "disposition")
    given = single_values(parameters(), ("expires_in", "artifact", "disposition"))
    disposition = parse_choice(given, "disposition", tuple(Disposition)) or Disposition.ATTACHMENT
    seconds = parse_number(given, "expires_in", LINK_SECONDS, MIN_LINK_SECONDS, MAX_LINK_SECONDS)
    row = catalogue.get(checked)
    if row is None:
        return not_catalogued()
    if is_erased(row):
        return erased()
    only = given.get("artifact")
    if only is not None and only not in linked_artifacts(row):
        raise BadParameterError("artifact", "is none of this recording's")
    links, missing = download_links(
        row, archive(), seconds, utcnow(), Disposition(disposition), only
    )
    if links:
        # Only a count, since the names of tracks hold participants' ids.
        logger.info("links given", recording_id=checked, count=len(links))
        body = {"recording_id": checked, "links": links, "missing": missing}
        # Links are credentials, which no cache on the way may keep.
        return answer(HTTPStatus.OK, body, {"Cache-Control": "no-store"})
    reasons = {file["reason"] for file in missing}
    listed = ", ".join(sorted(reasons))
    if reasons <= GONE:
        return problem(HTTPStatus.GONE, f"There is no file any more: {listed}.")
    return problem(HTTPStatus.CONFLICT, f"There is no file to link to: {listed}.")


@app.post("/recordings/<recording_id>/sync")
@responds
def sync_recording(recording_id: str) -> Answer:
    """Fetch a recording from RealtimeKit now, and return its row."""
    checked = parsed_id(recording_id)
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
        metrics.add_metric(error.metric, MetricUnit.Count, 1)
        return not_fetched(error)
    if is_erased(upserted.row):
        return erased()
    logger.info("recording synced", recording_id=checked, changed=upserted.changed)
    metrics.add_metric("RecordingIngested", MetricUnit.Count, int(upserted.changed))
    return recording(upserted.row)


@app.delete("/recordings/<recording_id>")
@responds
def erase_recording(recording_id: str) -> Answer:
    """Erase a recording's files and row; an interrupted erasure is finished later."""
    request = EraseRequest(recording_id=parsed_id(recording_id), source=Source.API)
    erasure = Erasure(catalogue=catalogue, worklist=ingestion.worklist, archive=archive())
    try:
        row = erasure.erase(request)
    except ArchiveUnreachableError:
        logger.exception("files out of reach", recording_id=request.recording_id)
        return problem(
            HTTPStatus.CONFLICT,
            "Some files are in a bucket that this stack cannot access (any more).",
        )
    if row is None:
        return not_catalogued()
    state: Item = {name: row[name] for name in ("erased_at", "erasing_since") if name in row}
    logger.info("recording erased", recording_id=request.recording_id, **state)
    body = {"recording_id": request.recording_id, **state}
    return answer(HTTPStatus.OK if "erased_at" in row else HTTPStatus.ACCEPTED, body)


@app.post("/sweeps")
@responds
def request_sweep() -> Answer:
    """Queue a sweep, which compares RealtimeKit's list with the catalogue."""
    single_values(query(), ())
    since, until, dry_run = sweeps.parse(app.current_event.decoded_body or "", utcnow())
    try:
        sweep = work.request(since, until, dry_run=dry_run)
    except UnfinishedError as error:
        return problem(
            HTTPStatus.CONFLICT,
            "An unfinished sweep has the same window.",
            instance=f"/sweeps/{error.sweep_id}",
        )
    except TooManySweepsError:
        return problem(
            HTTPStatus.CONFLICT,
            f"There are {MAX_OPEN_SWEEPS} unfinished sweeps; cancel some, or wait.",
        )
    logger.info("sweep requested", sweep_id=sweep.sweep_id, dry_run=dry_run)
    location = {"Location": f"/sweeps/{sweep.sweep_id}"}
    return answer(HTTPStatus.ACCEPTED, sweep.report(utcnow()), location)


@app.get("/sweeps")
@responds
def list_sweeps() -> Answer:
    """Return a page of the last month's sweeps, the newest first."""
    given = single_values(parameters(), ("limit", "cursor"))
    limit = parse_number(given, "limit", listing.DEFAULT_LIMIT, 1, listing.MAX_LISTED)
    before = sweeps.place(given["cursor"]) if "cursor" in given else None
    page, place = work.newest(limit, before)
    now = utcnow()
    cursor = {"next_cursor": sweeps.cursor(place)} if place else {}
    return answer(HTTPStatus.OK, {"sweeps": [sweep.report(now) for sweep in page], **cursor})


@app.get("/sweeps/<sweep_id>")
@responds
def get_sweep(sweep_id: str) -> Answer:
    """Return the report of a sweep: its progress and its findings."""
    sweep = work.get(parsed_id(sweep_id, name="sweep_id"))
    if sweep is None:
        return sweep_not_found()
    return answer(HTTPStatus.OK, sweep.report(utcnow()))


@app.delete("/sweeps/<sweep_id>")
@responds
def cancel_sweep(sweep_id: str) -> Answer:
    """Cancel a sweep; its repairs stay."""
    sweep = work.cancel(parsed_id(sweep_id, name="sweep_id"))
    if sweep is None:
        return sweep_not_found()
    if sweep.state is not State.CANCELLED:
        return problem(HTTPStatus.CONFLICT, f"The sweep has {sweep.state} already.")
    logger.info("sweep cancelled", sweep_id=sweep.sweep_id)
    return answer(HTTPStatus.OK, sweep.report(utcnow()))


@app.get("/health")
@responds
def report_health() -> Answer:
    """Report whether each part of the service can be reached: 503 if one cannot."""
    single_values(parameters(), ())
    report = Health(
        token=token,
        realtimekit=ingestion.realtimekit,
        catalogue=catalogue,
        worklist=ingestion.worklist,
        sqs=sqs(),
        queues=QUEUE_URLS,
        archive=archive(),
    ).report()
    failing = report["status"] == FAILING
    return answer(HTTPStatus.SERVICE_UNAVAILABLE if failing else HTTPStatus.OK, report)


@app.get("/openapi.json")
@responds
def describe_api() -> Answer:
    """Return the OpenAPI document of the API."""
    single_values(parameters(), ())
    document = Path(__file__).with_name("openapi.json").read_text(encoding="utf-8")
    return Answer(HTTPStatus.OK, JSON, document, {})


@app.not_found
@responds
def no_such_route(_: Exception) -> Answer:
    """Return a 404 for a route that the template has and this function has not."""
    return problem(HTTPStatus.NOT_FOUND, "There is no such resource.")


@app.exception_handler(BadParameterError)  # type: ignore[untyped-decorator]
@responds
def bad_parameter(error: BadParameterError) -> Answer:
    """Return a 400 that names the parameter; no request was sent anywhere."""
    return problem(HTTPStatus.BAD_REQUEST, f"{error}.", parameter=error.parameter)


@app.exception_handler([ClientError, BotoCoreError, ConflictError, NotErasedError])  # type: ignore[untyped-decorator]
@responds
def aws_in_trouble(error: Exception) -> Answer:
    """Return a 503: throttling and outages pass, and the caller may repeat the request."""
    logger.exception("AWS request failed")
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE, "The catalogue cannot be reached; try again.", retry_after=1
    )


@app.exception_handler(UnwritableError)  # type: ignore[untyped-decorator]
@responds
def unwritable(error: UnwritableError) -> Answer:
    """Return a 507: the row is too large, so a retry would fail the same way."""
    logger.error("recording unwritable", reason=str(error))
    metrics.add_metric("RecordingUnwritable", MetricUnit.Count, 1)
    return problem(
        HTTPStatus.INSUFFICIENT_STORAGE, "DynamoDB refuses the recording's row: it is too large."
    )


# --- parameters and answers ---


def query() -> dict[str, list[str]]:
    """Return the query string's parameters, each with all its values."""
    return app.current_event.resolved_query_string_parameters


def parameters() -> dict[str, list[str]]:
    """Return the query of a request without a body. Raises `BadParameterError` if it has one.

    Some HTTP clients send `{}` or `null` instead of no body.
    """
    body = app.current_event.body or ""
    if body.strip() not in ("", "{}", "null"):
        raise BadParameterError("body", "is not expected: this request has none")
    return query()


def parsed_id(identifier: str, *known: str, name: str = "recording_id") -> str:
    """Return the id in the path. Raises `BadParameterError`, also for a parameter not known."""
    single_values(parameters(), known)
    if (checked := uuid(identifier)) is None:
        raise BadParameterError(name, "is not a UUID")
    logger.set_correlation_id(checked)
    return checked


def recording(row: Row) -> Answer:
    """Return a 200 with the public part of a row: no URLs, which are credentials."""
    return answer(HTTPStatus.OK, public(row), {"ETag": etag(row)})
