"""The requests that a function made, as calls that `handlers/same_calls.py` can repeat."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from botocore import xform_name

from .life import Invocation
from .wire import KEY_HOST, Exchange, Request

SERVICES = {
    "DynamoDB_20120810": "dynamodb",
    "AmazonSQS": "sqs",
    "secretsmanager": "secretsmanager",
    "AWSEvents": "events",
}
# Headers that the repeated request needs; its client adds the others.
_OWN_HEADERS = ("authorization", "accept")


def is_cached(request: Request) -> bool:
    """Return True if functions cache the answer: the API token, or RealtimeKit's webhook key."""
    return request.target[1] == "GetSecretValue" or request.host == KEY_HOST


def calls(cached: Iterable[Exchange], invocation: Invocation) -> dict[str, list[Any]]:
    """Return the calls to repeat, as JSON-ready dictionaries.

    "once" has the calls whose answers are cached, each once; "each" has those of every invocation.
    """
    once = {request.identity: request for request, _ in cached}
    each = [request for request, _ in invocation.exchanges if not is_cached(request)]
    media = [{"url": url, "headers": _range(byte_range)} for url, byte_range in invocation.media]
    return {"once": list(map(_call, once.values())), "each": [*map(_call, each), *media]}


def _range(byte_range: str) -> dict[str, str]:
    return {"Range": byte_range} if byte_range else {}


def _call(request: Request) -> dict[str, Any]:
    service, operation = request.target
    if operation:
        return {
            "service": SERVICES[service],
            "operation": xform_name(operation),
            "parameters": request.parameters,
        }
    if ".s3." in request.host:
        return {"service": "s3", **_s3_call(request)}
    headers = {name: request.headers[name] for name in _OWN_HEADERS if name in request.headers}
    return {"url": f"https://{request.host}{request.path}", "headers": headers}


def _s3_call(request: Request) -> dict[str, Any]:
    parts = urlsplit(request.path)
    query = parse_qs(parts.query, keep_blank_values=True)
    place = {"Bucket": request.host.partition(".s3.")[0], "Key": unquote(parts.path[1:])}
    upload = {**place, "UploadId": query.get("uploadId", [""])[0]}
    match request.method:
        case "HEAD":
            return {"operation": "head_object", "parameters": place}
        case "POST" if "uploads" in query:
            return {"operation": "create_multipart_upload", "parameters": place}
        case "POST":
            finished = {"MultipartUpload": {"Parts": list(_parts(request.body.decode()))}}
            return {"operation": "complete_multipart_upload", "parameters": {**upload, **finished}}
        case "PUT":
            body = base64.b64encode(request.body).decode()
            part = {"PartNumber": int(query["partNumber"][0]), "Body": body}
            return {"operation": "upload_part", "parameters": {**upload, **part}}
        case "GET" if "object-lock" in query:
            bucket = {"Bucket": place["Bucket"]}
            return {"operation": "get_object_lock_configuration", "parameters": bucket}
        case "GET":
            return {"operation": "list_parts", "parameters": upload}
    raise ValueError(
        f"Cannot repeat the S3 request {request.method} {request.path}: _s3_call does not know it."
        " Add it there."
    )


def _parts(xml: str) -> Iterator[dict[str, Any]]:
    for part in re.findall(r"<Part>.*?</Part>", xml, re.DOTALL):
        [number], [etag] = (
            re.findall(f"<{name}>(.*?)</{name}>", part) for name in ("PartNumber", "ETag")
        )
        yield {"PartNumber": int(number), "ETag": etag.replace("&quot;", '"')}
