"""A client of the catalogue's API, which signs requests with the operator's AWS credentials."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import boto3
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError

from .connections import Connections
from .output import printable
from .stack import Stack

TIMEOUT = urllib3.Timeout(connect=5, read=30)
# For reads only. These statuses mean throttling, or an outage that passes.
RETRIES = urllib3.Retry(
    3, status_forcelist=(429, 502, 503, 504), backoff_factor=0.5, redirect=False
)
MAX_PAGE_ITEMS = 100
# The API answers so if it has no link to any file of a recording, or to the file of that name.
NO_LINK_STATUSES = (409, 410)
# After these errors the API cannot have received the request.
NOT_SENT = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ProxyError,
    urllib3.exceptions.SSLError,
    urllib3.exceptions.LocationValueError,
)

_REGION = re.compile(r"\.execute-api\.([a-z0-9-]+)\.")


class ApiError(Exception):
    """Raised when a request to the API failed.

    `status` is the HTTP status, or 0 without an answer. `instance` is the path of the resource in
    the way, and `parameter` the parameter that is wrong, if the API names one. `transient` says
    that the same request may succeed later, and `sent` that the API may have carried it out.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        instance: str = "",
        parameter: str = "",
        transient: bool = False,
        sent: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.instance = instance
        self.parameter = parameter
        self.transient = transient
        self.sent = sent


class Api:
    """The API of one stack; `url` is the stack's output ApiUrl, and `place` names it in texts."""

    def __init__(self, url: str, session: boto3.Session, place: str = "") -> None:
        self._url = url.rstrip("/")
        self._host = _host(url)
        self._session = session
        match = _REGION.search(self._host)
        self._region = match[1] if match else _configured_region(session)
        self.connections = Connections(session)
        self.place = place or self._url

    @classmethod
    def of(cls, stack: Stack) -> Self:
        """Return the API of a deployed stack. Raises `StackError`."""
        return cls(stack.output("ApiUrl"), stack.session, stack.place)

    def wake(self) -> None:
        """Have Lambda start the API's function, so that the first list does not wait for it.

        An error is ignored, because the next request meets it, too.
        """
        with suppress(ApiError):
            self.recordings_page({"limit": "1"})

    def recordings(self, filters: Mapping[str, str], limit: int | None) -> Iterator[dict[str, Any]]:
        """Yield up to `limit` recordings of the list, or all. Raises `ApiError`."""
        return self._list("recordings", filters, limit)

    def recordings_page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Return one page of the list: `recordings`, and `next_cursor` if there is another page.

        `query` has the filters, `limit` and `cursor`. Raises `ApiError`.
        """
        return self._get("/recordings", query)

    def recording(self, recording_id: str) -> dict[str, Any]:
        """Return a recording's row. Raises `ApiError`."""
        return self._get(f"/recordings/{recording_id}")

    def links(
        self,
        recording_id: str,
        expires_in: int,
        artifact: str | None = None,
        *,
        inline: bool = False,
    ) -> dict[str, Any]:
        """Return links to a recording's files, or to one of them, and why links are missing.

        The links are good for `expires_in` seconds. With `inline`, a browser plays or shows the
        archive's files instead of saving them. Raises `ApiError`.
        """
        query = {"expires_in": str(expires_in), **({"artifact": artifact} if artifact else {})}
        query |= {"disposition": "inline"} if inline else {}
        return self._get(f"/recordings/{recording_id}/links", query)

    def sync(self, recording_id: str) -> dict[str, Any]:
        """Fetch a recording from RealtimeKit now; return its row. Raises `ApiError`."""
        return self._send("POST", f"/recordings/{recording_id}/sync", {}, retries=False)

    def annotate(self, recording_id: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Change a recording's `labels` and `hold` by a JSON merge patch; return its row.

        Raises `ApiError`.
        """
        return self._send("PATCH", f"/recordings/{recording_id}", {}, body=patch, retries=False)

    def erase(self, recording_id: str) -> dict[str, Any]:
        """Erase a recording; return how far the erasure is. Raises `ApiError`."""
        return self._send("DELETE", f"/recordings/{recording_id}", {}, retries=False)

    def retention(self) -> dict[str, Any]:
        """Return the retention policy's days and its last runs. Raises `ApiError`."""
        return self._get("/retention")

    def health(self) -> dict[str, Any]:
        """Return the health report, also of an unhealthy service. Raises `ApiError`."""
        return self._send("GET", "/health", {}, retries=False, report_status=503)

    def request_sweep(self, window: Mapping[str, str], *, dry_run: bool) -> dict[str, Any]:
        """Start a sweep `from` a time, perhaps `to` one; return its report. Raises `ApiError`."""
        body = {**window, "dry_run": dry_run}
        return self._send("POST", "/sweeps", {}, body=body, retries=False)

    def sweeps(self, limit: int | None) -> Iterator[dict[str, Any]]:
        """Yield reports of the newest sweeps, or of all sweeps of a month. Raises `ApiError`."""
        return self._list("sweeps", {}, limit)

    def sweep(self, sweep_id: str) -> dict[str, Any]:
        """Return a sweep's report so far. Raises `ApiError`."""
        return self._get(f"/sweeps/{sweep_id}")

    def cancel_sweep(self, sweep_id: str) -> dict[str, Any]:
        """Cancel a sweep; return its last report. Raises `ApiError`: 409 if it has ended before."""
        return self._send("DELETE", f"/sweeps/{sweep_id}", {}, retries=False)

    def _list(
        self, name: str, filters: Mapping[str, str], limit: int | None
    ) -> Iterator[dict[str, Any]]:
        cursor: dict[str, str] = {}
        while limit is None or limit > 0:
            size = MAX_PAGE_ITEMS if limit is None else min(limit, MAX_PAGE_ITEMS)
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
        report_status: int = 200,
    ) -> dict[str, Any]:
        url = f"{self._url}{path}" + (f"?{urlencode(query)}" if query else "")
        data = b"" if body is None else json.dumps(body).encode()
        headers = signed_headers(self._session, self._region, method, url, data)
        try:
            response = self.connections.to(url).request(
                method, url, body=data or None, headers=headers, retries=retries, timeout=TIMEOUT
            )
        except urllib3.exceptions.HTTPError as error:
            raise self._connection_error(error) from None
        answer = _read_object(response.data)
        if answer and response.status in (200, 202):
            return answer
        if response.status == report_status and "parts" in answer:
            return answer
        raise self._answer_error(response, answer)

    def _connection_error(self, error: urllib3.exceptions.HTTPError) -> ApiError:
        reason = f"The API at {self._host} does not answer: {_reason(error)}."
        detail = f"{reason} Check the address and the network."
        sent = not isinstance(_cause(error), NOT_SENT)
        return ApiError(0, detail, transient=True, sent=sent)

    def _answer_error(
        self, response: urllib3.BaseHTTPResponse, answer: Mapping[str, Any]
    ) -> ApiError:
        status = response.status
        if answer:
            detail = _explain(status, answer, self._host)
        else:
            kind = (
                response.headers.get("Content-Type", "").partition(";")[0]
                or "a body without a type"
            )
            detail = (
                f"{self._host} is not the API: it answered {printable(kind)[:50]} instead of JSON "
                f"(HTTP {status}). Check the address, and whether a proxy is in between."
            )
        is_trouble = status >= 500
        return ApiError(
            status,
            detail,
            instance=str(answer.get("instance", "")),
            parameter=str(answer.get("parameter", "")),
            transient=is_trouble,
            sent=is_trouble,
        )


def signed_headers(
    session: boto3.Session, region: str, method: str, url: str, body: bytes = b""
) -> dict[str, str]:
    """Return a request's headers with AWS Signature Version 4 (execute-api). Raises `ApiError`."""
    try:
        credentials = session.get_credentials()
        # This renews credentials that are about to expire: a sweep is watched for hours.
        frozen = credentials and credentials.get_frozen_credentials()
    # botocore raises its own errors only for some faults: a credential_process that is missing
    # raises OSError, and one that prints no JSON raises ValueError.
    except (BotoCoreError, ClientError, ValueError, KeyError, OSError) as error:
        reason = str(error).rstrip(".")
        raise ApiError(
            0, f"There are no AWS credentials: {reason}. Check the profile and its configuration."
        ) from error
    if frozen is None:
        raise ApiError(0, "There are no AWS credentials. Set AWS_PROFILE, or give --profile.")
    headers = {"Host": urlsplit(url).netloc}
    if body:
        headers["Content-Type"] = "application/json"
    request = AWSRequest(method, url, headers=headers, data=body)
    SigV4Auth(frozen, "execute-api", region).add_auth(request)
    return dict(request.headers.items())


def _host(url: str) -> str:
    """Return a URL's host and port. Raises `ApiError`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ApiError(0, f"The API's URL must begin with https://, but is {printable(url)[:200]}")
    return parts.netloc.rpartition("@")[2]


def _configured_region(session: boto3.Session) -> str:
    if session.region_name is None:
        raise ApiError(
            0, "There is no AWS region to sign requests for. Set AWS_REGION, or give --region."
        )
    return session.region_name


def _cause(error: urllib3.exceptions.HTTPError) -> Exception:
    return getattr(error, "reason", None) or error


def _reason(error: urllib3.exceptions.HTTPError) -> str:
    """Return the name of the error's cause, because most texts of urllib3 quote the URL."""
    cause = _cause(error)
    if isinstance(cause, urllib3.exceptions.ResponseError):
        return str(cause)
    return type(cause).__name__


def _read_object(body: bytes) -> dict[str, Any]:
    """Return a body's JSON object, or an empty one if the body is anything else."""
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _explain(status: int, answer: Mapping[str, Any], host: str) -> str:
    detail = str(answer.get("detail") or answer.get("message") or "no reason given")
    if status == 403:
        return (
            f"The API at {host} refuses these AWS credentials (HTTP 403: {detail}) They need the "
            "right execute-api:Invoke, and the region must be the stack's."
        )
    return f"{detail} (HTTP {status})"
