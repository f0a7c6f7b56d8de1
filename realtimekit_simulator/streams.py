"""Streams of a body to a client: cut, filled up, or slowed down, a chunk at a time."""

import itertools
import os
import selectors
import socket
import struct
import time
from collections.abc import Iterable, Iterator

FILLING = bytes(65_536)

RESET_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER with 0 seconds: closing the socket sends RST instead of FIN."""


def take(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes and read no further."""
    for chunk in chunks:
        yield chunk[:size]
        size -= len(chunk)
        if size <= 0:
            return


def fit_to(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield exactly `size` bytes: cut, or filled up with zeros."""
    return take(itertools.chain(chunks, itertools.repeat(FILLING)), size)


def break_after(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes, then raise, so that the server closes the connection."""
    yield b""  # The headers go out once there is a first piece.
    yield from take(chunks, size)
    raise ConnectionAbortedError("cut on demand")


def reset_after(chunks: Iterable[bytes], size: int, connection: socket.socket) -> Iterator[bytes]:
    """Yield the first `size` bytes, then reset the connection."""
    yield b""
    yield from take(chunks, size)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_ONCE)
    # The server's own close shuts down first, and the client might see an orderly end.
    os.close(connection.detach())
    raise ConnectionResetError("reset on demand")


def pace(
    chunks: Iterable[bytes], bytes_per_second: float, connection: socket.socket
) -> Iterator[bytes]:
    """Yield this many bytes per real second, evenly, until the client hangs up."""
    step = max(1, int(bytes_per_second / 50))
    due = time.monotonic()
    for chunk in chunks:
        for start in range(0, len(chunk), step):
            piece = chunk[start : start + step]
            yield piece
            due += len(piece) / bytes_per_second
            if wait_for_hang_up(connection, due - time.monotonic()):
                return


def wait_for_hang_up(connection: socket.socket, seconds: float) -> bool:
    """Wait for some seconds; return True at once if the client hangs up or the server stops."""
    # During a request, only the end of the connection makes it readable.
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        return bool(selector.select(max(seconds, 0)))
