"""GET requests whose answers are bounded in size and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import urllib3

_CHUNK_BYTES = 65_536


class UnboundedAnswerError(urllib3.exceptions.HTTPError):
    """Raised for an answer that is too slow or too large."""


class AnswerTooLargeError(UnboundedAnswerError):
    """Raised for an answer that is too large; it will be as large the next time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer, its body decompressed; `headers` ignores the case of names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def fetch(
    http: urllib3.PoolManager,
    url: str,
    *,
    timeout: urllib3.Timeout,
    max_bytes: int,
    max_seconds: float,
    fields: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    may_repeat: Callable[[], bool] = lambda: True,
) -> Answer:
    """Return the answer to a GET, without following redirects. Raises urllib3's `HTTPError`.

    The request is sent a second time only if a kept connection was dead and `may_repeat` returns
    True. `max_bytes` bounds the decompressed body, `max_seconds` the whole answer, `timeout` each
    packet.
    """
    deadline = time.monotonic() + max_seconds
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
        body = _body(response, max_bytes, deadline)
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
    """Send a request; send it again if a kept connection breaks before its answer begins.

    Lambda freezes a sandbox between invocations, and the server closes the connection meanwhile
    (Lambda best practices, keep-alive). A new connection that breaks is an outage.
    """
    was_kept = _keeps_connection(http, url)
    try:
        return send()
    except (urllib3.exceptions.ProtocolError, urllib3.exceptions.SSLError):
        if not was_kept or not may_repeat():
            raise
        # The pool's other connections may be as old.
        http.clear()
        return send()


def _keeps_connection(http: urllib3.PoolManager, url: str) -> bool:
    """Return True if the next request will most likely use a kept connection."""
    kept = http.connection_from_url(url).pool
    # urllib3 takes the connection that was returned last, and reopens one that it sees closed.
    return kept is not None and any(last and last.is_connected for last in kept.queue[-1:])


def _body(response: urllib3.BaseHTTPResponse, max_bytes: int, deadline: float) -> bytes:
    """Read the body to its end, which returns the connection to its pool."""
    body = bytearray()
    while chunk := response.read1(_CHUNK_BYTES, decode_content=True):
        body += chunk
        if len(body) > max_bytes:
            raise AnswerTooLargeError(f"the answer has more than {max_bytes} bytes")
        if time.monotonic() > deadline:
            raise UnboundedAnswerError("the answer trickles in")
    return bytes(body)
