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
from botocore.exceptions import BotoCoreError, ClientError

TIMEOUT = urllib3.Timeout(connect=5, read=30)
# Of reads: throttling, and what passes.
RETRIES = urllib3.Retry(3, status_forcelist=(502, 503, 504), backoff_factor=0.5, redirect=False)
MOST_LISTED = 100

_REGION = re.compile(r"\.execute-api\.([a-z0-9-]+)\.")


class ApiError(Exception):
    """Raised when the API did not do what was asked; says what it said.

    `status` is 0 without an answer, `instance` the path of what is in the way, if the API names it.
    `transient` tells whether the same request may be answered later.
    """

    def __init__(
        self, status: int, detail: str, *, instance: str = "", transient: bool = False
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.instance = instance
        self.transient = transient


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
        return self._listed("recordings", filters, limit)

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

    def request_sweep(self, window: Mapping[str, str], *, dry_run: bool) -> dict[str, Any]:
        """Ask for a sweep `from` and perhaps `to` a time; its report. Raises `ApiError`."""
        wanted = {**window, "dry_run": dry_run}
        return self._send("POST", "/sweeps", {}, body=wanted, retries=False)

    def sweeps(self, limit: int | None) -> Iterator[dict[str, Any]]:
        """The reports of the newest sweeps, or of all of the last month. Raises `ApiError`."""
        return self._listed("sweeps", {}, limit)

    def sweep(self, sweep_id: str) -> dict[str, Any]:
        """Its report, as far as it is. Raises `ApiError`."""
        return self._get(f"/sweeps/{sweep_id}")

    def cancel_sweep(self, sweep_id: str) -> dict[str, Any]:
        """Its last report. Raises `ApiError`, with 409 where it has ended before."""
        return self._send("DELETE", f"/sweeps/{sweep_id}", {}, retries=False)

    def _listed(
        self, name: str, filters: Mapping[str, str], limit: int | None
    ) -> Iterator[dict[str, Any]]:
        cursor: dict[str, str] = {}
        while limit is None or limit > 0:
            size = MOST_LISTED if limit is None else min(limit, MOST_LISTED)
            page = self._get(f"/{name}", {**filters, "limit": str(size), **cursor})
            yield from page[name]
            if "next_cursor" not in page:
                return
            limit = None if limit is None else limit - len(page[name])
            cursor = {"cursor": page["next_cursor"]}

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        return self._send("GET", path, query or {}, retries=RETRIES)

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        retries: urllib3.Retry | bool,
        body: Mapping[str, Any] | None = None,
        also: int = 200,
    ) -> dict[str, Any]:
        url = f"{self._url}{path}" + (f"?{urlencode(query)}" if query else "")
        data = b"" if body is None else json.dumps(body).encode()
        headers = signed_headers(self._session, self._region, method, url, data)
        try:
            response = self._http.request(
                method, url, body=data or None, headers=headers, retries=retries, timeout=TIMEOUT
            )
        except urllib3.exceptions.MaxRetryError as error:
            raise _unanswered(_reason(error)) from None
        except urllib3.exceptions.HTTPError as error:
            raise _unanswered(type(error).__name__) from None
        said = _json(response.data)
        if said and response.status in (200, 202):
            return said
        if response.status == also and "parts" in said:
            return said
        raise _refused(response.status, said)


def signed_headers(
    session: boto3.Session, region: str, method: str, url: str, body: bytes = b""
) -> dict[str, str]:
    """AWS Signature Version 4 for the service execute-api. Raises `ApiError`."""
    try:
        credentials = session.get_credentials()
        # They may have to be renewed: a sweep is watched for hours.
        frozen = credentials and credentials.get_frozen_credentials()
    except (BotoCoreError, ClientError) as error:
        raise ApiError(0, f"There are no AWS credentials: {error}.") from error
    if frozen is None:
        raise ApiError(0, "There are no AWS credentials. Set AWS_PROFILE, or give --profile.")
    headers = {"Host": urlsplit(url).netloc}
    if body:
        headers["Content-Type"] = "application/json"
    request = AWSRequest(method, url, headers=headers, data=body)
    SigV4Auth(frozen, "execute-api", region).add_auth(request)
    return dict(request.headers.items())


def _unanswered(reason: str) -> ApiError:
    return ApiError(0, f"The API does not answer: {reason}.", transient=True)


def _refused(status: int, said: Mapping[str, Any]) -> ApiError:
    return ApiError(
        status,
        _advice(status, said),
        instance=str(said.get("instance", "")),
        transient=status >= 500,
    )


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
