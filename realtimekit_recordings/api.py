"""The catalogue's API, as an operator's program calls it: signed with AWS credentials."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import boto3
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError

TIMEOUT = urllib3.Timeout(connect=5, read=30)
# Of reads: throttling, and what passes.
RETRIES = urllib3.Retry(3, status_forcelist=(502, 503, 504), backoff_factor=0.5, redirect=False)
MOST_LISTED = 100

_REGION = re.compile(r"\.execute-api\.([a-z0-9-]+)\.")


class ApiError(Exception):
    """Raised when the API did not do what was asked; says what it said. `status` is 0 without an
    answer."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Api:
    """The API of one stack. `url` is its output ApiUrl."""

    def __init__(self, url: str, session: boto3.Session) -> None:
        self._url = url.rstrip("/")
        self._session = session
        found = _REGION.search(urlsplit(url).netloc)
        self._region = found[1] if found else session.region_name or "us-east-1"
        self._http = urllib3.PoolManager()

    def recordings(self, filters: Mapping[str, str], limit: int | None) -> Iterator[dict[str, Any]]:
        """Up to `limit` items of the list, or all of them. Raises `ApiError`."""
        cursor: dict[str, str] = {}
        while limit is None or limit > 0:
            size = MOST_LISTED if limit is None else min(limit, MOST_LISTED)
            page = self._get("/recordings", {**filters, "limit": str(size), **cursor})
            yield from page["recordings"]
            if "next_cursor" not in page:
                return
            limit = None if limit is None else limit - len(page["recordings"])
            cursor = {"cursor": page["next_cursor"]}

    def recording(self, recording_id: str) -> dict[str, Any]:
        """The row. Raises `ApiError`."""
        return self._get(f"/recordings/{recording_id}")

    def links(self, recording_id: str, expires_in: int) -> dict[str, Any]:
        """Where its files can be downloaded now, and why one cannot. Raises `ApiError`."""
        return self._get(f"/recordings/{recording_id}/links", {"expires_in": str(expires_in)})

    def sync(self, recording_id: str) -> dict[str, Any]:
        """The row, as RealtimeKit has it now. Raises `ApiError`."""
        return self._send("POST", f"/recordings/{recording_id}/sync", {}, retries=False)

    def erase(self, recording_id: str) -> dict[str, Any]:
        """How far its erasure is. Raises `ApiError`."""
        return self._send("DELETE", f"/recordings/{recording_id}", {}, retries=False)

    def health(self) -> dict[str, Any]:
        """The report, also where something fails. Raises `ApiError` if there is none."""
        return self._send("GET", "/health", {}, retries=False, also=503)

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        return self._send("GET", path, query or {}, retries=RETRIES)

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        retries: urllib3.Retry | bool,
        also: int = 200,
    ) -> dict[str, Any]:
        url = f"{self._url}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = signed_headers(self._session, self._region, method, url)
        try:
            response = self._http.request(
                method, url, headers=headers, retries=retries, timeout=TIMEOUT
            )
        except urllib3.exceptions.MaxRetryError as error:
            raise ApiError(0, f"The API does not answer: {_reason(error)}.") from None
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(0, f"The API does not answer: {type(error).__name__}.") from None
        body = _json(response.data)
        if response.status in (200, 202) or (response.status == also and "parts" in body):
            return body
        raise ApiError(response.status, _advice(response.status, body))


def signed_headers(session: boto3.Session, region: str, method: str, url: str) -> dict[str, str]:
    """AWS Signature Version 4 for the service execute-api. Raises `ApiError`."""
    try:
        credentials = session.get_credentials()
    except BotoCoreError as error:
        raise ApiError(0, f"There are no AWS credentials: {error}.") from error
    if credentials is None:
        raise ApiError(0, "There are no AWS credentials. Set AWS_PROFILE, or give --profile.")
    request = AWSRequest(method, url, headers={"Host": urlsplit(url).netloc})
    SigV4Auth(credentials.get_frozen_credentials(), "execute-api", region).add_auth(request)
    return dict(request.headers.items())


def _reason(error: urllib3.exceptions.MaxRetryError) -> str:
    if isinstance(error.reason, urllib3.exceptions.ResponseError):
        return str(error.reason)
    return type(error.reason).__name__


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _advice(status: int, body: Mapping[str, Any]) -> str:
    said = str(body.get("detail") or body.get("message") or "no reason given")
    if status == 403:
        return (
            f"The API refuses these AWS credentials (HTTP 403: {said}) They need the right "
            "execute-api:Invoke, and the region must be the stack's."
        )
    return f"{said} (HTTP {status})"
