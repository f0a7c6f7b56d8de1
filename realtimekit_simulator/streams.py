"""Bodies on their way to a client: cut, filled up, slowed down, without ever being held whole."""

import itertools
import os
import selectors
import socket
import struct
import time
from collections.abc import Iterable, Iterator

FILLING = bytes(65_536)

RESET_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER, on and of no time: a close sends RST instead of FIN."""


def first(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """No more than the first `size` bytes; what follows is not even asked for."""
    for chunk in chunks:
        yield chunk[:size]
        size -= len(chunk)
        if size <= 0:
            return


def exactly(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """As many bytes as `size` says: cut, or filled up with zeros."""
    return first(itertools.chain(chunks, itertools.repeat(FILLING)), size)


def broken_after(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The first `size` bytes, then an error upon which the server closes the connection."""
    yield b""  # The headers go out once there is a first piece.
    yield from first(chunks, size)
    raise ConnectionAbortedError("cut on demand")


def reset_after(chunks: Iterable[bytes], size: int, connection: socket.socket) -> Iterator[bytes]:
    """The first `size` bytes, then a reset of the connection."""
    yield b""
    yield from first(chunks, size)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_ONCE)
    # The server's own way to close says goodbye first: the client might see an end in good order.
    os.close(connection.detach())
    raise ConnectionResetError("reset on demand")


def paced(
    chunks: Iterable[bytes], bytes_per_second: float, connection: socket.socket
) -> Iterator[bytes]:
    """So many bytes in each real second, evenly; ends early when the client hangs up."""
    step = max(1, int(bytes_per_second / 50))
    due = time.monotonic()
    for chunk in chunks:
        for start in range(0, len(chunk), step):
            piece = chunk[start : start + step]
            yield piece
            due += len(piece) / bytes_per_second
            if hung_up(connection, due - time.monotonic()):
                return


def hung_up(connection: socket.socket, seconds: float) -> bool:
    """Wait for so many seconds; True at once if the client hangs up, or the server is stopped."""
    # A connection in the middle of a request has nothing to read but its own end.
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        return bool(selector.select(max(seconds, 0)))
