"""An HTTP answer, read within bounds: not the other side decides how much, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import urllib3

_CHUNK_SIZE = 65_536


class UnboundedAnswerError(urllib3.exceptions.HTTPError):
    """Raised for an answer that trickles in, or is larger than it may be."""


class AnswerTooLargeError(UnboundedAnswerError):
    """Raised for the latter: it will be as large the next time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is whole, and unpacked if it came packed; the headers' names have any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def fetch(
    http: urllib3.PoolManager,
    url: str,
    *,
    timeout: urllib3.Timeout,
    most_bytes: int,
    most_seconds: float,
    fields: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    may_repeat: Callable[[], bool] = lambda: True,
) -> Answer:
    """Return the answer to a GET; redirects are not followed. Raises urllib3's `HTTPError`.

    It is sent once, or, if `may_repeat` allows it, twice: see `_response`. `most_bytes` is of the
    body, unpacked; `most_seconds` of it all, where `timeout` is of each packet.
    """
    deadline = time.monotonic() + most_seconds
    send = partial(
        http.request,
        "GET",
        url,
        fields=fields,
        headers=headers,
        timeout=timeout,
        retries=False,
        redirect=False,
        preload_content=False,
    )
    response = _response(http, url, send, may_repeat)
    try:
        body = _body(response, most_bytes, deadline)
    except BaseException:
        response.close()
        raise
    return Answer(response.status, response.headers, body)


def _response(
    http: urllib3.PoolManager,
    url: str,
    send: Callable[[], urllib3.BaseHTTPResponse],
    may_repeat: Callable[[], bool],
) -> urllib3.BaseHTTPResponse:
    """Send a request; once more where a kept connection breaks before its answer begins.

    Lambda freezes a sandbox between invocations, and the other side closes the connection
    meanwhile (Lambda best practices, keep-alive). A new connection that breaks is an outage.
    """
    was_kept = _keeps_connection(http, url)
    try:
        return send()
    except (urllib3.exceptions.ProtocolError, urllib3.exceptions.SSLError):
        if not was_kept or not may_repeat():
            raise
        # Others may have been kept as long.
        http.clear()
        return send()


def _keeps_connection(http: urllib3.PoolManager, url: str) -> bool:
    """Say whether the next request is sent over a connection that was kept, as far as is known."""
    kept = http.connection_from_url(url).pool
    # The last in is the first out; one that is seen to be closed is opened anew.
    return kept is not None and any(last and last.is_connected for last in kept.queue[-1:])


def _body(response: urllib3.BaseHTTPResponse, most_bytes: int, deadline: float) -> bytes:
    """Read to its end, which gives the connection back to its pool."""
    body = bytearray()
    while chunk := response.read1(_CHUNK_SIZE, decode_content=True):
        body += chunk
        if len(body) > most_bytes:
            raise AnswerTooLargeError(f"more than {most_bytes} bytes")
        if time.monotonic() > deadline:
            raise UnboundedAnswerError("it trickles in")
    return bytes(body)
