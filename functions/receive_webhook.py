"""POST /webhooks/realtimekit: verify a webhook, queue it, answer at once.

Promise: 2xx means that the event is on the ingest queue, or that it is not needed. RealtimeKit
gives an event up after an answer from 300 to 499. So 4xx is only for bodies that are provably not
RealtimeKit's (401) or can never be read (400, 413). All else is a 503, which RealtimeKit retries.
"""

import base64
import binascii
import json
import os
import ssl
from http import HTTPStatus
from typing import Any

import boto3
import urllib3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from recordings import __version__, messages, webhook
from recordings.warmup import connect, warm_up
from recordings.webhook import KeyUnavailableError, MalformedEventError, PublicKeys, SignatureError

INGEST_QUEUE_URL = os.environ["INGEST_QUEUE_URL"]
ORGANIZATION_ID = os.environ["ORGANIZATION_ID"]
WEBHOOK_KEY_URL = os.environ["WEBHOOK_KEY_URL"]
WEBHOOK_PUBLIC_KEY = os.environ["WEBHOOK_PUBLIC_KEY"]

# RealtimeKit's events are a few kilobytes.
MAX_BODY_BYTES = 1024 * 1024

logger = Logger(service="receive_webhook", version=__version__, xray_trace_id=None)
metrics = Metrics(service="recordings")

# RealtimeKit's time-out is not documented; Dyte's was three seconds.
quick = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "max_attempts": 2})
sqs = boto3.client("sqs", config=quick)
keys = PublicKeys(
    WEBHOOK_KEY_URL,
    urllib3.PoolManager(ssl_context=ssl.create_default_context()),
    pinned=WEBHOOK_PUBLIC_KEY,
)

if "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ:
    warm_up(logger.warning, keys.refresh, connect(sqs))


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer API Gateway's proxy event."""
    # These keys are the same in each line, and a fifth of the log's bytes.
    logger.remove_keys(["function_name", "function_memory_size", "function_arn"])
    try:
        body = read(event)
        keys.verify(body, signature(event))
        return accept(webhook.parse(body))
    except SignatureError as error:
        return refuse(HTTPStatus.UNAUTHORIZED, str(error))
    except BodyTooLargeError as error:
        return refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error))
    except MalformedEventError as error:
        return refuse(HTTPStatus.BAD_REQUEST, str(error))
    except KeyUnavailableError as error:
        return refuse(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
    except (ClientError, BotoCoreError):
        logger.exception("event not queued")
        return refuse(HTTPStatus.SERVICE_UNAVAILABLE, "the event could not be queued")


class BodyTooLargeError(Exception):
    """Raised for a body of more than MAX_BODY_BYTES."""


def read(event: dict[str, Any]) -> bytes:
    """Return the exact bytes that were sent, because they are signed."""
    body = event.get("body") or ""
    if len(body) > MAX_BODY_BYTES * 4 / 3:
        raise BodyTooLargeError(f"the body has more than {MAX_BODY_BYTES} bytes")
    try:
        raw = (
            base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
        )
    except (binascii.Error, UnicodeEncodeError):
        raise MalformedEventError("the body is not base64 or not Unicode") from None
    if len(raw) > MAX_BODY_BYTES:
        raise BodyTooLargeError(f"the body has more than {MAX_BODY_BYTES} bytes")
    return raw


def signature(event: dict[str, Any]) -> str | None:
    """Return the signature header, of any case. Raises `SignatureError` if there are several."""
    headers = event.get("multiValueHeaders") or {}
    for wanted in webhook.SIGNATURE_HEADERS:
        values = [v for name, given in headers.items() if name.lower() == wanted for v in given]
        if len(values) > 1:
            raise SignatureError("several signature headers")
        if values:
            return str(values[0])
    return None


def accept(event: dict[str, Any]) -> dict[str, Any]:
    """Queue the event's request; ignore other organizations, other subjects, and INVOKED."""
    name = str(event.get("event"))[:64]
    logger.append_keys(event_name=name)
    metrics.add_metric("WebhookReceived", MetricUnit.Count, 1)
    organization = webhook.organization_id(event)
    if ORGANIZATION_ID and organization and organization.lower() != ORGANIZATION_ID.lower():
        return ignore("the event is of another organization")
    request = webhook.ingest_request(event)
    if request is None:
        return ignore("the event is not about recordings")
    if webhook.is_invocation(event):
        return ignore("nothing has been recorded yet")
    logger.set_correlation_id(request.correlation_id)
    sqs.send_message(QueueUrl=INGEST_QUEUE_URL, MessageBody=messages.body(request))
    logger.info("event queued")
    return answer(HTTPStatus.ACCEPTED, {"status": "queued"})


def ignore(reason: str) -> dict[str, Any]:
    """Acknowledge an event without queueing it, so that RealtimeKit does not send it again."""
    logger.info("event ignored", reason=reason)
    metrics.add_metric("WebhookIgnored", MetricUnit.Count, 1)
    return answer(HTTPStatus.OK, {"status": "ignored", "reason": reason})


def refuse(status: HTTPStatus, detail: str) -> dict[str, Any]:
    """Answer with an RFC 9457 problem document."""
    logger.warning("webhook refused", status=int(status), reason=detail)
    metrics.add_metric("WebhookRefused", MetricUnit.Count, 1)
    problem = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}
    return answer(status, problem, "application/problem+json")


def answer(
    status: HTTPStatus, body: dict[str, Any], content_type: str = "application/json"
) -> dict[str, Any]:
    """Return an answer in the form of API Gateway's proxy integration."""
    headers = {"Content-Type": content_type}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "1"
    return {"statusCode": status, "headers": headers, "body": json.dumps(body)}
