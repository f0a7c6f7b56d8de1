"""The catalogue's API, as an operator's program calls it: signed with AWS credentials."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
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
# For reads only: throttling, and outages that pass.
RETRIES = urllib3.Retry(
    3, status_forcelist=(429, 502, 503, 504), backoff_factor=0.5, redirect=False
)
MAX_LISTED = 100
# No request left this machine, or none reached the API.
NOT_SENT = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ProxyError,
    urllib3.exceptions.SSLError,
    urllib3.exceptions.LocationValueError,
)

_REGION = re.compile(r"\.execute-api\.([a-z0-9-]+)\.")


class ApiError(Exception):
    """Raised when the API did not do what was asked; says what it said.

    `status` is 0 without an answer, `instance` the path of what is in the way, if the API names
    it. `transient` tells whether the same request may be answered later, and `sent` whether this
    one may have been carried out.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        instance: str = "",
        transient: bool = False,
        sent: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.instance = instance
        self.transient = transient
        self.sent = sent


class Api:
    """The API of one stack, which `place` names for people. `url` is its output ApiUrl."""

    def __init__(self, url: str, session: boto3.Session, place: str = "") -> None:
        self._url = url.rstrip("/")
        self._host = _host(url)
        self._session = session
        found = _REGION.search(self._host)
        self._region = found[1] if found else _configured_region(session)
        self.connections = Connections(session)
        self.place = place or self._url

    @classmethod
    def of(cls, stack: Stack) -> Self:
        """Return the API of a deployed stack. Raises `StackError`."""
        place = f"the stack {stack.name} in {stack.session.region_name}"
        return cls(stack.output("ApiUrl"), stack.session, place)

    def recordings(self, filters: Mapping[str, str], limit: int | None) -> Iterator[dict[str, Any]]:
        """Up to `limit` items of the list, or all of them. Raises `ApiError`."""
        return self._listed("recordings", filters, limit)

    def recording(self, recording_id: str) -> dict[str, Any]:
        """The row. Raises `ApiError`."""
        return self._get(f"/recordings/{recording_id}")

    def links(
        self, recording_id: str, expires_in: int, artifact: str | None = None
    ) -> dict[str, Any]:
        """Return where its files, or the one named, can be downloaded now, and why one cannot.

        Raises `ApiError`.
        """
        query = {"expires_in": str(expires_in), **({"artifact": artifact} if artifact else {})}
        return self._get(f"/recordings/{recording_id}/links", query)

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
            size = MAX_LISTED if limit is None else min(limit, MAX_LISTED)
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
            response = self.connections.to(url).request(
                method, url, body=data or None, headers=headers, retries=retries, timeout=TIMEOUT
            )
        except urllib3.exceptions.HTTPError as error:
            raise self._unanswered(error) from None
        said = _json(response.data)
        if said and response.status in (200, 202):
            return said
        if response.status == also and "parts" in said:
            return said
        raise self._refused(response, said)

    def _unanswered(self, error: urllib3.exceptions.HTTPError) -> ApiError:
        detail = f"The API at {self._host} does not answer: {_reason(error)}."
        sent = not isinstance(_cause(error), NOT_SENT)
        return ApiError(0, detail, transient=True, sent=sent)

    def _refused(self, response: urllib3.BaseHTTPResponse, said: Mapping[str, Any]) -> ApiError:
        status = response.status
        if said:
            detail = _advice(status, said, self._host)
        else:
            kind = response.headers.get("Content-Type", "").partition(";")[0] or "something"
            detail = (
                f"{self._host} answered {printable(kind)[:50]} instead of JSON (HTTP {status}): "
                "this is not the API. Is the address right, and is there a proxy in between?"
            )
        instance = str(said.get("instance", ""))
        is_trouble = status >= 500
        return ApiError(status, detail, instance=instance, transient=is_trouble, sent=is_trouble)


def signed_headers(
    session: boto3.Session, region: str, method: str, url: str, body: bytes = b""
) -> dict[str, str]:
    """AWS Signature Version 4 for the service execute-api. Raises `ApiError`."""
    try:
        credentials = session.get_credentials()
        # They may have to be renewed: a sweep is watched for hours.
        frozen = credentials and credentials.get_frozen_credentials()
    # A credential_process that says nonsense, or does not exist, is no error of botocore's.
    except (BotoCoreError, ClientError, ValueError, KeyError, OSError) as error:
        raise ApiError(0, f"There are no AWS credentials: {error}.") from error
    if frozen is None:
        raise ApiError(0, "There are no AWS credentials. Set AWS_PROFILE, or give --profile.")
    headers = {"Host": urlsplit(url).netloc}
    if body:
        headers["Content-Type"] = "application/json"
    request = AWSRequest(method, url, headers=headers, data=body)
    SigV4Auth(frozen, "execute-api", region).add_auth(request)
    return dict(request.headers.items())


def _host(url: str) -> str:
    """Return the host that a URL names, and its port. Raises `ApiError`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ApiError(0, f"The API's URL is no https:// address: {printable(url)[:200]}")
    return parts.netloc.rpartition("@")[2]


def _configured_region(session: boto3.Session) -> str:
    if session.region_name is None:
        raise ApiError(0, "There is no AWS region to sign for. Set AWS_REGION, or give --region.")
    return session.region_name


def _cause(error: urllib3.exceptions.HTTPError) -> Exception:
    return getattr(error, "reason", None) or error


def _reason(error: urllib3.exceptions.HTTPError) -> str:
    """Return the cause's name, since most texts hold the whole URL."""
    cause = _cause(error)
    if isinstance(cause, urllib3.exceptions.ResponseError):
        return str(cause)
    return type(cause).__name__


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _advice(status: int, body: Mapping[str, Any], host: str) -> str:
    said = str(body.get("detail") or body.get("message") or "no reason given")
    if status == 403:
        return (
            f"The API at {host} refuses these AWS credentials (HTTP 403: {said}) They need the "
            "right execute-api:Invoke, and the region must be the stack's."
        )
    return f"{said} (HTTP {status})"
