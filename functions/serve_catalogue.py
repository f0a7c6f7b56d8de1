"""The catalogue's API: list and read recordings, link to their files, sync, erase; sweeps; health.

Promise: what is answered is what the table holds, without credentials; `links` alone gives URLs. A
sync that RealtimeKit's trouble prevents, or an erasure that is interrupted, leaves a check behind,
so that it happens later. Errors are RFC 9457 problems. `openapi.json` says it all.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import warnings
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

from recordings import listing, sweeps
from recordings.archive import S3_CONFIG, Archive, NotErasedError
from recordings.budget import UpstreamBudget
from recordings.catalogue import Catalogue, ConflictError
from recordings.dynamodb import Item, Table, UnwritableError
from recordings.erasure import ArchiveUnreachableError, Erasure
from recordings.health import FAILING, Health
from recordings.ingestion import Ingestion
from recordings.links import GONE, download_links, linked_artifacts
from recordings.listing import Listing
from recordings.messages import EraseRequest, RecordingRequest, Source
from recordings.model import uuid
from recordings.parameters import BadParameterError, parse_number, single_values
from recordings.realtimekit import (
    ApiToken,
    NotFoundError,
    RealtimeKit,
    RealtimeKitError,
    ThrottledError,
    UnavailableError,
)
from recordings.rows import is_erased, public
from recordings.sweeps import MAX_OPEN_SWEEPS, State, Sweeps, TooManySweepsError, UnfinishedError
from recordings.warmup import connect, warm_up
from recordings.worklist import Worklist, utcnow

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
    for name, _, url in (one.partition("=") for one in os.environ["QUEUE_URLS"].split(","))
}

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
# When the check that a failed sync, or an erasure, leaves behind is due.
CHECK_SECONDS = 60
LINK_SECONDS, MIN_LINK_SECONDS, MAX_LINK_SECONDS = 900, 60, 3600

logger = Logger(service="serve_catalogue")
metrics = Metrics(service="recordings")
# A read counts nothing; Powertools would say so on stderr.
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

# What all requests need; the token is for few.
if "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ:
    warm_up(logger.warning, connect(dynamodb))


# Clients that few requests need are made by the first that does: a read is not to wait for them.
@functools.cache
def archive() -> Archive | None:
    """The owner's bucket, unless archiving is switched off."""
    if not ARCHIVE_BUCKET:
        return None
    # A link is to say the region's own host, and to be signed for it alone.
    style = {**S3_CONFIG["s3"], "addressing_style": "virtual"}
    # To delete a thousand versions takes S3 longer than to read a row takes DynamoDB.
    options = {**S3_CONFIG, "s3": style, "signature_version": "s3v4", "read_timeout": 8}
    config = quick.merge(Config(**options))
    return Archive(boto3.client("s3", config=config), ARCHIVE_BUCKET)


@functools.cache
def sqs() -> Any:
    """The queues' client."""
    return boto3.client("sqs", config=quick)


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """API Gateway's proxy event in, its answer out; who may call is decided before, by IAM."""
    # Who is given links, and who erases: API Gateway's own log is the account's to turn on.
    caller = event["requestContext"]["identity"].get("userArn")
    logger.append_keys(api_request_id=event["requestContext"]["requestId"], caller=caller)
    # Behind a custom domain the path begins with that one's base path; the resource never does. A
    # slash in an id is none of the path: IAM allowed this resource, and no other.
    given = event.get("pathParameters") or {}
    path = event["resource"].format(**{name: quote(given[name], safe="") for name in given})
    return app.resolve({**event, "path": path}, context)


@app.get("/recordings")
def list_recordings() -> Response[str]:
    """A page of the list."""
    page = recordings.page(*listing.parse(parameters()))
    cursor = {"next_cursor": page.next_cursor} if page.next_cursor else {}
    return answer(HTTPStatus.OK, {"recordings": page.items, **cursor})


@app.get("/recordings/<recording_id>")
def get_recording(recording_id: str) -> Response[str]:
    """The row, as the table holds it; nothing if the caller has this version of it."""
    checked = parsed_id(recording_id)
    row = catalogue.get(checked)
    if row is None:
        return not_catalogued()
    if is_erased(row):
        return erased()
    tag = etag(row)
    if matches(app.current_event.headers.get("If-None-Match", ""), tag):
        return Response(HTTPStatus.NOT_MODIFIED, body="", headers={"ETag": tag})
    return recording(row)


@app.get("/recordings/<recording_id>/links")
def link_recording(recording_id: str) -> Response[str]:
    """Where its files can be downloaded, for a short time; all of them, or the `artifact`."""
    checked = parsed_id(recording_id, "expires_in", "artifact")
    given = single_values(parameters(), ("expires_in", "artifact"))
    seconds = parse_number(given, "expires_in", LINK_SECONDS, MIN_LINK_SECONDS, MAX_LINK_SECONDS)
    row = catalogue.get(checked)
    if row is None:
        return not_catalogued()
    if is_erased(row):
        return erased()
    only = given.get("artifact")
    if only is not None and only not in linked_artifacts(row):
        raise BadParameterError("artifact", "is none of this recording's")
    found, missing = download_links(row, archive(), seconds, utcnow(), only)
    if found:
        # The names of tracks hold the ids of participants.
        logger.info("links given", recording_id=checked, count=len(found))
        body = {"recording_id": checked, "links": found, "missing": missing}
        # Credentials, for whoever asked and for nobody on the way.
        return answer(HTTPStatus.OK, body, {"Cache-Control": "no-store"})
    reasons = ", ".join(sorted({one["reason"] for one in missing}))
    if {one["reason"] for one in missing} <= GONE:
        return problem(HTTPStatus.GONE, f"There is no file any more: {reasons}.")
    return problem(HTTPStatus.CONFLICT, f"There is no file to link to: {reasons}.")


@app.post("/recordings/<recording_id>/sync")
def sync_recording(recording_id: str) -> Response[str]:
    """Fetch it from RealtimeKit now, and answer with the row."""
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
        return trouble(error)
    if is_erased(upserted.row):
        return erased()
    logger.info("recording synced", recording_id=checked, changed=upserted.changed)
    metrics.add_metric("RecordingIngested", MetricUnit.Count, int(upserted.changed))
    return recording(upserted.row)


@app.delete("/recordings/<recording_id>")
def erase_recording(recording_id: str) -> Response[str]:
    """Erase its files and its row; what cannot be done now is done later."""
    request = EraseRequest(recording_id=parsed_id(recording_id), source=Source.API)
    erasure = Erasure(catalogue=catalogue, worklist=ingestion.worklist, archive=archive())
    try:
        row = erasure.erase(request)
    except ArchiveUnreachableError:
        logger.exception("files out of reach", recording_id=request.recording_id)
        return problem(
            HTTPStatus.CONFLICT,
            "There are files in a bucket that this stack has no access to (any more).",
        )
    if row is None:
        return not_catalogued()
    state: Item = {name: row[name] for name in ("erased_at", "erasing_since") if name in row}
    logger.info("recording erased", recording_id=request.recording_id, **state)
    body = {"recording_id": request.recording_id, **state}
    return answer(HTTPStatus.OK if "erased_at" in row else HTTPStatus.ACCEPTED, body)


@app.post("/sweeps")
def request_sweep() -> Response[str]:
    """Have RealtimeKit's list held against the catalogue, from the next minute on."""
    single_values(query(), ())
    since, until, dry_run = sweeps.parse(app.current_event.decoded_body or "", utcnow())
    try:
        sweep = work.request(since, until, dry_run=dry_run)
    except UnfinishedError as error:
        return problem(
            HTTPStatus.CONFLICT,
            "There is an unfinished sweep of the same window.",
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
def list_sweeps() -> Response[str]:
    """A page of the sweeps of the last month, the newest first."""
    given = single_values(parameters(), ("limit", "cursor"))
    limit = parse_number(given, "limit", listing.DEFAULT_LIMIT, 1, listing.MAX_LISTED)
    before = sweeps.place(given["cursor"]) if "cursor" in given else None
    found, place = work.newest(limit, before)
    now = utcnow()
    following = {"next_cursor": sweeps.cursor(place)} if place else {}
    return answer(HTTPStatus.OK, {"sweeps": [one.report(now) for one in found], **following})


@app.get("/sweeps/<sweep_id>")
def get_sweep(sweep_id: str) -> Response[str]:
    """How far it is, and what it found."""
    sweep = work.get(parsed_id(sweep_id, name="sweep_id"))
    if sweep is None:
        return no_such_sweep()
    return answer(HTTPStatus.OK, sweep.report(utcnow()))


@app.delete("/sweeps/<sweep_id>")
def cancel_sweep(sweep_id: str) -> Response[str]:
    """Have it stopped where it is."""
    sweep = work.cancel(parsed_id(sweep_id, name="sweep_id"))
    if sweep is None:
        return no_such_sweep()
    if sweep.state is not State.CANCELLED:
        return problem(HTTPStatus.CONFLICT, f"The sweep has {sweep.state} already.")
    logger.info("sweep cancelled", sweep_id=sweep.sweep_id)
    return answer(HTTPStatus.OK, sweep.report(utcnow()))


@app.get("/health")
def report_health() -> Response[str]:
    """Whether all that the service stands on can be reached: 503 if something cannot."""
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
def describe_api() -> Response[str]:
    """The OpenAPI document of all this."""
    single_values(parameters(), ())
    document = Path(__file__).with_name("openapi.json").read_text(encoding="utf-8")
    return Response(HTTPStatus.OK, JSON, document)


@app.not_found
def no_such_route(_: Exception) -> Response[str]:
    """Only where the template gives a route that is not here."""
    return problem(HTTPStatus.NOT_FOUND, "There is no such resource.")


@app.exception_handler(BadParameterError)  # type: ignore[untyped-decorator]
def bad_parameter(error: BadParameterError) -> Response[str]:
    """400: nothing was looked up, and nothing was sent to RealtimeKit."""
    return problem(HTTPStatus.BAD_REQUEST, f"{error}.", parameter=error.parameter)


@app.exception_handler([ClientError, BotoCoreError, ConflictError, NotErasedError])  # type: ignore[untyped-decorator]
def aws_in_trouble(error: Exception) -> Response[str]:
    """Throttling and outages pass; what was not written now can be asked for again."""
    logger.exception("AWS in trouble")
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE, "The catalogue cannot be reached; try again.", retry_after=1
    )


@app.exception_handler(UnwritableError)  # type: ignore[untyped-decorator]
def unwritable(error: UnwritableError) -> Response[str]:
    """507: it is the same however often it is asked for."""
    logger.error("recording unwritable", reason=str(error))
    metrics.add_metric("RecordingUnwritable", MetricUnit.Count, 1)
    return problem(
        HTTPStatus.INSUFFICIENT_STORAGE, "DynamoDB refuses the recording's row: it is too large."
    )


def query() -> dict[str, list[str]]:
    """The query string's parameters, each with all its values."""
    return app.current_event.resolved_query_string_parameters


def parameters() -> dict[str, list[str]]:
    """Those of a request without a body. Raises `BadParameterError` if it has one."""
    if app.current_event.body:
        raise BadParameterError("body", "is not expected: this request has none")
    return query()


def parsed_id(identifier: str, *known: str, name: str = "recording_id") -> str:
    """The id in the path, of a request with no other query parameters than those known."""
    single_values(parameters(), known)
    if (checked := uuid(identifier)) is None:
        raise BadParameterError(name, "is not a UUID")
    logger.set_correlation_id(checked)
    return checked


def recording(row: Item) -> Response[str]:
    """200 with the row, less what is the service's own and the URLs, which are credentials."""
    return answer(HTTPStatus.OK, public(row), {"ETag": etag(row)})


def etag(row: Item) -> str:
    """Of what is shown of the row, which changes with its version.

    A row that the owner made, and this service has not taken over yet, has none.
    """
    return f'"{row.get("version", 0)}"'


def matches(if_none_match: str, tag: str) -> bool:
    """RFC 9110, 13.1.2; tags are compared weakly."""
    given = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return tag in given or given == ["*"]


def no_such_sweep() -> Response[str]:
    """404: a sweep is forgotten after a month."""
    return problem(HTTPStatus.NOT_FOUND, "There is no sweep with this sweep_id (any more).")


def not_catalogued() -> Response[str]:
    """404: it may be RealtimeKit's, and not have come here yet."""
    return problem(HTTPStatus.NOT_FOUND, "The catalogue has no recording with this recording_id.")


def erased() -> Response[str]:
    """410: it was here, and will not be again."""
    return problem(HTTPStatus.GONE, "The recording was erased.")


def trouble(error: RealtimeKitError) -> Response[str]:
    """503 for what passes by itself, 502 for what somebody has to look into."""
    passing = isinstance(error, ThrottledError | UnavailableError)
    status = HTTPStatus.SERVICE_UNAVAILABLE if passing else HTTPStatus.BAD_GATEWAY
    detail = f"RealtimeKit could not be asked ({error.cause}); the recording will be fetched later."
    return problem(status, detail, retry_after=error.retry_after or CHECK_SECONDS)


def problem(
    status: HTTPStatus,
    detail: str,
    *,
    retry_after: int | None = None,
    parameter: str | None = None,
    instance: str | None = None,
) -> Response[str]:
    """An RFC 9457 problem document; `parameter` names what the caller has to change."""
    body = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}
    more = {"parameter": parameter, "instance": instance}
    body |= {name: value for name, value in more.items() if value}
    headers = {"Retry-After": str(retry_after)} if retry_after else {}
    return Response(status, PROBLEM_JSON, json.dumps(body), headers)


def answer(
    status: HTTPStatus, body: dict[str, Any], headers: dict[str, str] | None = None
) -> Response[str]:
    """JSON; of what this service writes, only a duration may be no integer."""
    text = json.dumps(body, default=_written, ensure_ascii=False)
    return Response(status, JSON, text, headers or {})


def _written(value: Any) -> Any:
    """Return a value of DynamoDB's as JSON can say it; an owner's attributes may be of any type."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return sorted(value, key=str) if isinstance(value, set) else float(value)
