"""The forms of an answer: RealtimeKit's success and error, Cloudflare's error, and its bucket's."""

import html
import json
from typing import Any

from flask import Response


def as_json(status: int, body: Any) -> Response:
    """An answer in JSON, with its fields in their order."""
    return Response(json.dumps(body), status=status, mimetype="application/json")


def success(data: Any, *, status: int = 200, paging: dict[str, int] | None = None) -> Response:
    """`{"success": true, "data": …}`: the payload is in `data`, not in Cloudflare's `result`."""
    body = {"success": True, "data": data}
    if paging is not None:
        body["paging"] = paging
    return as_json(status, body)


def realtimekit_error(status: int, message: str) -> Response:
    """The application's envelope: one `error`, its code the HTTP status (OpenAPI GenericError)."""
    return as_json(status, {"success": False, "error": {"code": status, "message": message}})


def cloudflare_error(status: int, code: int, message: str) -> Response:
    """The gateway's v4 envelope: a list of `errors`, each with Cloudflare's own code."""
    error = {"code": code, "message": message}
    return as_json(status, {"success": False, "errors": [error], "messages": [], "result": None})


def bare_error(status: int, message: str) -> Response:
    """A third one: `{"message": …}`, as the specification has the 401 of the webhook endpoints."""
    return as_json(status, {"message": message})


def storage_error(status: int, code: str, message: str) -> Response:
    """The XML of S3 and R2 (developers.cloudflare.com/r2/api/error-codes)."""
    content = f"<Code>{html.escape(code)}</Code><Message>{html.escape(message)}</Message>"
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{content}</Error>'
    return Response(body, status=status, content_type="application/xml")


def authentication_error(status: int) -> Response:
    """Cloudflare's refusal of a token (Cloudflare docs, fundamentals/api/troubleshooting)."""
    return cloudflare_error(status, 10000, "Authentication error")


def too_many_requests(retry_after: float | str | None) -> Response:
    """Cloudflare's 429; `retry_after` is seconds, an HTTP date, or None for no such header.

    Code and message as users report them (github.com/cloudflare/workers-sdk/issues/10025).
    """
    response = cloudflare_error(429, 971, "Please wait and consider throttling your request speed")
    if retry_after is not None:
        response.headers["retry-after"] = str(retry_after)
    return response
