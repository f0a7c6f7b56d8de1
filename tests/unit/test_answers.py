"""An answer is read within bounds, against a loopback server that knows none."""

from __future__ import annotations

import gzip
import socket
import threading
import tracemalloc
from collections.abc import Iterator

import pytest
import urllib3

from doubles import Answer, Upstream
from recordings import answers
from recordings.answers import UnboundedAnswerError

MIB = 1024 * 1024


def fetch(http: urllib3.PoolManager, url: str, **bounds: float) -> answers.Answer:
    return answers.fetch(
        http,
        url,
        timeout=urllib3.Timeout(connect=1, read=1),
        most_bytes=int(bounds.get("most_bytes", MIB)),
        most_seconds=bounds.get("most_seconds", 5),
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

    assert http.connection_from_url(upstream.url).num_connections == 1  # type: ignore[attr-defined]


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
    """A server that sends a byte now and then, always in time for the time-out."""
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
        fetch(http, trickle, most_seconds=0.2)
