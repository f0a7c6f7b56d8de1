"""The page's web server, on loopback only."""

from __future__ import annotations

import logging
import socket
import threading
from typing import Any, Self

import waitress.server  # type: ignore[import-untyped]
from waitress import wasyncore

from ..api import Api
from .app import create_app
from .gate import LOOPBACK, Announce, Gate

# The browser opens six connections to a host; each may wait for the API.
THREADS = 8
# Requests are short: the largest has a confirmation in it.
MAX_BODY_BYTES = 16 * 1024


class PageServer:
    """Context manager that serves the page of one API.

    Port 0 takes any free port. `announce` is called with the next address whenever one was used.
    Raises `OSError` if the port is taken.
    """

    def __init__(self, api: Api, port: int = 0, announce: Announce | None = None) -> None:
        self._socket = socket.create_server((LOOPBACK, port))
        self._gate = Gate(self._socket.getsockname()[1], announce)
        # A request that waits for a thread is no news to the operator.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._map: dict[int, Any] = {}
        self._server = waitress.server.create_server(
            create_app(api, self._gate),
            map=self._map,
            sockets=[self._socket],
            threads=THREADS,
            max_request_body_size=MAX_BODY_BYTES,
            ident=None,
        )
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    @property
    def address(self) -> str:
        """The address that lets one browser in; it is good once."""
        return self._gate.address

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._server.pull_trigger()
        self._thread.join()

    def _serve(self) -> None:
        while not self._stopped.is_set():
            wasyncore.loop(timeout=1, map=self._map, count=1)
        self._server.task_dispatcher.shutdown()
        wasyncore.close_all(self._map)
        self._socket.close()
