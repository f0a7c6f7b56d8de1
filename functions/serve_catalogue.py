"""The catalogue's API: recordings, links to their files, labels, holds, erasure; sweeps; health.

Promise: an answer shows the table's row without credentials; only `links` gives URLs. A sync that
RealtimeKit's trouble prevents, or an interrupted erasure, leaves a check, which repeats it later.
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
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, CORSConfig, Response
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from recordings import __version__, annotation, listing, sweeps
from recordings.archive import Archive, NotErasedError
from recordings.budget import UpstreamBudget
from recordings.catalogue import Annotated, Catalogue, ConflictError, HeldError
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
    PreconditionFailedError,
    answer,
    erased,
    etag,
    held,
    matches,
    not_catalogued,
    not_fetched,
    problem,
    require_match,
    sweep_not_found,
)
from recordings.realtimekit import ApiToken, NotFoundError, RealtimeKit, RealtimeKitError
from recordings.retention import Runs
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
# Separated by commas; empty where no page of another origin may call the API.
ALLOWED_ORIGINS = os.environ["ALLOWED_ORIGINS"]
# 0 where recordings are kept for ever.
RETENTION_DAYS = int(os.environ["RETENTION_DAYS"])
# name=url,name=url
QUEUE_URLS = {
    name: url
    for name, _, url in (pair.partition("=") for pair in os.environ["QUEUE_URLS"].split(","))
}

LINK_SECONDS, MIN_LINK_SECONDS, MAX_LINK_SECONDS = 900, 60, 3600
PATCH_TYPES = ("application/merge-patch+json", "application/json")


def cors(origins: str) -> CORSConfig | None:
    """Return the CORS settings for pages of these origins, or None. No page may send cookies."""
    if not origins:
        return None
    first, *others = origins.split(",")
    # API Gateway answers the preflights, so allowed headers are named in the template.
    return CORSConfig(first, others, expose_headers=["ETag", "Location", "Retry-After"])


# --- clients ---

logger = Logger(service="serve_catalogue", version=__version__, xray_trace_id=None)
metrics = Metrics(service="recordings")
# Powertools warns on stderr if an invocation emits no metric, and a read emits none.
warnings.filterwarnings("ignore", "No application metrics to publish")
app = APIGatewayRestResolver(cors=cors(ALLOWED_ORIGINS))

quick = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "max_attempts": 2})
dynamodb = boto3.client("dynamodb", config=quick)
recordings_table = Table(dynamodb, RECORDINGS_TABLE)
work_table = Table(dynamodb, WORK_TABLE)
catalogue = Catalogue(recordings_table, APP_ID)
recordings = Listing(recordings_table, APP_ID)
work = Sweeps(work_table, APP_ID)
runs = Runs(work_table)
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
        # A cache must not give one origin's answer to another.
        headers = {**answer.headers, **({"Vary": "Origin"} if ALLOWED_ORIGINS else {})}
        return Response(answer.status, answer.content_type, answer.body, headers)

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


@app.patch("/recordings/<recording_id>")
@responds
def annotate_recording(recording_id: str) -> Answer:
    """Change the owner's labels and hold of a recording by a JSON merge patch."""
    checked = parsed_id(recording_id, has_body=True)
    if content_type() not in PATCH_TYPES:
        return problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"The Content-Type must be {PATCH_TYPES[0]}.",
            headers={"Accept-Patch": ", ".join(PATCH_TYPES)},
        )
    body = decoded_body()
    if len(body.encode(errors="replace")) > annotation.MAX_PATCH_BYTES:
        return problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The patch is larger than {annotation.MAX_PATCH_BYTES // 1024} KiB.",
        )
    patch = annotation.parse(body)
    if_match = app.current_event.headers.get("If-Match")
    annotated = catalogue.annotate(
        checked, patch, utcnow(), lambda row: require_match(if_match, row)
    )
    if annotated is None:
        return not_annotated(catalogue.get(checked), sets_hold=patch.sets_hold)
    log_annotations(checked, annotated)
    return recording(annotated.row)


def not_annotated(row: Row | None, *, sets_hold: bool) -> Answer:
    """Return the answer to a patch of a missing row, or of one whose erasure has begun."""
    if row is None:
        return not_catalogued()
    if sets_hold and "erased_at" not in row:
        return problem(
            HTTPStatus.CONFLICT,
            f"The erasure of the recording began at {row['erasing_since']}, before this hold.",
        )
    return erased()


def log_annotations(recording_id: str, annotated: Annotated) -> None:
    """Log what a caller changed: labels' names without their texts, a hold without its reason."""
    if "labels" in annotated.changes:
        labels = sorted(annotated.row.get("labels", {}))
        logger.info("recording labelled", recording_id=recording_id, labels=labels)
    if "hold" in annotated.changes:
        is_held = "hold" in annotated.row
        message = "recording held" if is_held else "recording released"
        logger.info(message, recording_id=recording_id)


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
    """Erase a recording's files and row, unless it is on hold. A check finishes what is left."""
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
    except HeldError as error:
        logger.warning("erasure refused: on hold", recording_id=request.recording_id)
        return held(error.hold)
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


@app.get("/retention")
@responds
def report_retention() -> Answer:
    """Return the policy's days, and the reports of its last runs."""
    single_values(parameters(), ())
    report = {"days": RETENTION_DAYS, "runs": [run.report() for run in runs.newest()]}
    return answer(HTTPStatus.OK, report)


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


@app.exception_handler(PreconditionFailedError)  # type: ignore[untyped-decorator]
@responds
def precondition_failed(error: PreconditionFailedError) -> Answer:
    """Return a 412 with the present entity tag; nothing was changed."""
    return problem(
        HTTPStatus.PRECONDITION_FAILED,
        "The recording has changed: its ETag is not in If-Match. Fetch it, and change it again.",
        headers={"ETag": error.etag},
    )


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


def content_type() -> str:
    """Return the media type of the request's body in lower case, without its parameters."""
    return app.current_event.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def decoded_body() -> str:
    """Return the request's body as text. Raises `BadParameterError` if it is not UTF-8."""
    try:
        return app.current_event.decoded_body or ""
    except ValueError:
        raise BadParameterError("body", "is not UTF-8 text") from None


def parsed_id(
    identifier: str, *known: str, name: str = "recording_id", has_body: bool = False
) -> str:
    """Return the id in the path. Raises `BadParameterError`, also for a parameter not known."""
    single_values(query() if has_body else parameters(), known)
    if (checked := uuid(identifier)) is None:
        raise BadParameterError(name, "is not a UUID")
    logger.set_correlation_id(checked)
    return checked


def recording(row: Row) -> Answer:
    """Return a 200 with the public part of a row: no URLs, which are credentials."""
    return answer(HTTPStatus.OK, public(row), {"ETag": etag(row)})
