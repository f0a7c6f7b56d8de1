"""Bounded answers, from a loopback server that keeps no bounds."""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Self

import pytest
import urllib3

from doubles import Answer, Upstream
from recordings import bounded_http
from recordings.bounded_http import UnboundedAnswerError

MIB = 1024 * 1024


def fetch(http: urllib3.PoolManager, url: str, **bounds: float) -> bounded_http.Answer:
    return bounded_http.fetch(
        http,
        url,
        timeout=urllib3.Timeout(connect=1, read=1),
        max_bytes=int(bounds.get("max_bytes", MIB)),
        max_seconds=bounds.get("max_seconds", 5),
    )


@pytest.mark.parametrize("size", [0, 1, MIB])
def test_what_is_within_bounds_is_whole(
    http: urllib3.PoolManager, upstream: Upstream, size: int
) -> None:
    upstream.says(Answer(b"x" * size, 404, {"X-Name": "value"}))

    answer = fetch(http, upstream.url)

    assert answer.status == 404
    assert answer.headers["x-name"] == "value"
    assert answer.body == b"x" * size


def test_the_connection_is_used_again(http: urllib3.PoolManager, upstream: Upstream) -> None:
    upstream.says(Answer(b"x" * MIB))

    for _ in range(3):
        fetch(http, upstream.url)

    assert http.connection_from_url(upstream.url).num_connections == 1


def test_a_byte_too_many_is_refused(http: urllib3.PoolManager, upstream: Upstream) -> None:
    upstream.says(Answer(b"x" * (MIB + 1)))

    with pytest.raises(UnboundedAnswerError):
        fetch(http, upstream.url)


def test_a_packed_body_is_unpacked_no_further_than_the_bound(
    http: urllib3.PoolManager, upstream: Upstream
) -> None:
    bomb = gzip.compress(b"x" * 64 * MIB)
    upstream.says(
        Answer(gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"}),
        Answer(bomb, headers={"Content-Encoding": "gzip"}),
    )

    assert fetch(http, upstream.url).body == b"{}"
    tracemalloc.start()
    with pytest.raises(UnboundedAnswerError):
        fetch(http, upstream.url)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 8 * MIB


def test_a_body_that_is_cut_off_is_no_answer(http: urllib3.PoolManager, upstream: Upstream) -> None:
    upstream.says(Answer(b"half", headers={"Content-Length": "8"}))

    with pytest.raises(urllib3.exceptions.ProtocolError):
        fetch(http, upstream.url)


def test_a_redirect_is_an_answer(http: urllib3.PoolManager, upstream: Upstream) -> None:
    upstream.says(Answer(b"", 302, {"Location": f"{upstream.url}/elsewhere"}))

    assert fetch(http, upstream.url).status == 302
    assert len(upstream.paths) == 1


@pytest.fixture
def trickle() -> Iterator[str]:
    """Yield a server that sends single bytes, each before the time-out."""
    server = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not over.wait(0.02):
                connection.send(b"x", socket.MSG_NOSIGNAL)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    over.set()
    thread.join()
    server.close()


def test_what_trickles_in_is_not_waited_for(http: urllib3.PoolManager, trickle: str) -> None:
    with pytest.raises(UnboundedAnswerError, match="trickles"):
        fetch(http, trickle, max_seconds=0.2)


class Fickle:
    """A server that breaks a connection, before it answers, at the requests of these numbers.

    `requests` is how many there were on each connection. It answers what `answer` is.
    """

    def __init__(self, *breaks: int, resets: bool = False) -> None:
        self.requests: list[int] = []
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        self._breaks, self._resets = breaks, resets
        self._server = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._connection, _ = self._server.accept()
                self.requests.append(0)
                with self._connection as connection:
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        while connection.recv(65_536):
            self.requests[-1] += 1
            if sum(self.requests) in self._breaks:
                if self._resets:
                    no_linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
                return
            connection.sendall(self.answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for listening in (self._server, self._connection):
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()


@pytest.mark.parametrize("resets", [False, True])
def test_a_kept_connection_that_breaks_is_replaced_once(
    http: urllib3.PoolManager, resets: bool
) -> None:
    """After a freeze of the sandbox, the server may have closed the connection or dropped it."""
    with Fickle(2, resets=resets) as server:
        fetch(http, server.url)

        assert fetch(http, server.url).body == b"{}"

        assert server.requests == [2, 1]


def test_a_new_connection_that_breaks_is_not_replaced(http: urllib3.PoolManager) -> None:
    with Fickle(1) as server:
        with pytest.raises(urllib3.exceptions.ProtocolError):
            fetch(http, server.url)

        assert server.requests == [1]


def test_a_request_is_sent_twice_at_most(http: urllib3.PoolManager) -> None:
    with Fickle(2, 3) as server:
        fetch(http, server.url)

        with pytest.raises(urllib3.exceptions.ProtocolError):
            fetch(http, server.url)

        assert server.requests == [2, 1]


def test_a_request_is_not_repeated_without_leave(http: urllib3.PoolManager) -> None:
    with Fickle(2) as server:
        fetch(http, server.url)

        with pytest.raises(urllib3.exceptions.ProtocolError):
            bounded_http.fetch(
                http,
                server.url,
                timeout=urllib3.Timeout(connect=1, read=1),
                max_bytes=MIB,
                max_seconds=5,
                may_repeat=lambda: False,
            )

        assert server.requests == [2]


def test_a_connection_that_the_answer_closed_is_not_a_kept_one(http: urllib3.PoolManager) -> None:
    with Fickle(2) as server:
        server.answer = server.answer.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        fetch(http, server.url)

        with pytest.raises(urllib3.exceptions.ProtocolError):
            fetch(http, server.url)

        assert server.requests == [1, 1]


def test_an_answer_that_breaks_after_it_began_is_not_asked_for_again(
    http: urllib3.PoolManager, upstream: Upstream
) -> None:
    upstream.says(Answer(b"{}"), Answer(b"half", headers={"Content-Length": "8"}))
    fetch(http, upstream.url)

    with pytest.raises(urllib3.exceptions.ProtocolError):
        fetch(http, upstream.url)

    assert len(upstream.requests) == 2


def test_an_answer_that_does_not_come_is_not_asked_for_again(http: urllib3.PoolManager) -> None:
    """A slow answer may be under way; only a broken connection shows that it is not."""
    with Fickle() as server:
        fetch(http, server.url)
        server.answer = b"HTTP/1.1 "

        with pytest.raises(urllib3.exceptions.ReadTimeoutError):
            fetch(http, server.url)

        assert server.requests == [2]
