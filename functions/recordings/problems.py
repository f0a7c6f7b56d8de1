"""Answers of the API: JSON documents, entity tags, and RFC 9457 problem documents."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from recordings.annotation import Hold
from recordings.realtimekit import RealtimeKitError, ThrottledError, UnavailableError
from recordings.worklist import FIRST_INTERVAL_SECONDS

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"


class PreconditionFailedError(Exception):
    """Raised when a row's entity tag is not in `If-Match`; `etag` is the row's."""

    def __init__(self, etag: str) -> None:
        super().__init__(etag)
        self.etag = etag


class Answer(NamedTuple):
    """An answer of the API."""

    status: HTTPStatus
    content_type: str | None
    body: str
    headers: Mapping[str, str]


def answer(
    status: HTTPStatus, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Answer:
    """Return an answer with a JSON document."""
    text = json.dumps(body, default=_json_value, ensure_ascii=False)
    return Answer(status, JSON, text, headers or {})


def _json_value(value: Any) -> Any:
    """Return a DynamoDB value as JSON has it: an owner's attributes may have any type."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return sorted(value, key=str) if isinstance(value, set) else float(value)


def etag(row: Mapping[str, Any]) -> str:
    """Return the entity tag of a row's version: 0 for an owner's row that has no version yet."""
    return f'"{row.get("version", 0)}"'


def matches(if_none_match: str, tag: str) -> bool:
    """Return True if the header names the tag, compared weakly (RFC 9110, 13.1.2)."""
    tags = [entry.strip().removeprefix("W/") for entry in if_none_match.split(",")]
    return tag in tags or tags == ["*"]


def require_match(if_match: str | None, row: Mapping[str, Any]) -> None:
    """Raise `PreconditionFailedError` unless the header is absent or names the row's entity tag.

    The comparison is strong, so a weak tag never matches (RFC 9110, 13.1.1).
    """
    tags = [entry.strip() for entry in (if_match or "*").split(",")]
    if tags != ["*"] and etag(row) not in tags:
        raise PreconditionFailedError(etag(row))


def problem(
    status: HTTPStatus,
    detail: str,
    *,
    retry_after: int | None = None,
    parameter: str | None = None,
    instance: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Return an RFC 9457 problem document.

    `retry_after` is in seconds, `parameter` the one to change, `instance` the path in the way.
    """
    body = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}
    members = {"parameter": parameter, "instance": instance}
    body |= {name: value for name, value in members.items() if value}
    retry = {"Retry-After": str(retry_after)} if retry_after else {}
    return Answer(status, PROBLEM_JSON, json.dumps(body), {**(headers or {}), **retry})


def sweep_not_found() -> Answer:
    """Return a 404: a sweep's row is deleted after a month."""
    return problem(HTTPStatus.NOT_FOUND, "There is no sweep with this sweep_id (any more).")


def not_catalogued() -> Answer:
    """Return a 404: RealtimeKit may have the recording, but no sync or webhook named it here."""
    return problem(HTTPStatus.NOT_FOUND, "The catalogue has no recording with this recording_id.")


def erased() -> Answer:
    """Return a 410: an erased recording never comes back."""
    return problem(HTTPStatus.GONE, "The recording was erased.")


def held(hold: Hold) -> Answer:
    """Return a 409, because a recording on hold cannot be erased."""
    since = f" since {hold['since']}" if "since" in hold else ""
    return problem(
        HTTPStatus.CONFLICT,
        f"The recording is on hold{since}: {hold['reason']}. Release the hold to erase it.",
    )


def not_fetched(error: RealtimeKitError) -> Answer:
    """Return a 503 for an error that passes by itself, a 502 for one that somebody must fix."""
    is_passing = isinstance(error, ThrottledError | UnavailableError)
    status = HTTPStatus.SERVICE_UNAVAILABLE if is_passing else HTTPStatus.BAD_GATEWAY
    detail = f"RealtimeKit request failed ({error.cause}). The recording will be fetched later."
    return problem(status, detail, retry_after=error.retry_after or FIRST_INTERVAL_SECONDS)
