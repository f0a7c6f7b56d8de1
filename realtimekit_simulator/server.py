"""werkzeug's threaded server, with what it lacks: kept-alive connections and a clean end."""

import io
import socket
from collections.abc import Iterable
from contextlib import suppress
from threading import Thread
from typing import Any

from werkzeug.datastructures import Headers
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.test import run_wsgi_app


class RequestHandler(WSGIRequestHandler):
    """Answers request after request on one connection, as Cloudflare does.

    werkzeug's own handler closes the connection after each answer; a client that pools its
    connections would never be seen doing so. An answer shorter than its Content-Length, or
    without one, ends with the connection.
    """

    # Headers and body are two writes; Nagle's algorithm would hold back the second for 40 ms.
    disable_nagle_algorithm = True
    _has_answered = False

    def run_wsgi(self) -> None:
        """Answer one request; its body is read first, so that the next one can be found."""
        environ = self.make_environ()
        environ["simulator.kept"] = self._has_answered
        self._has_answered = True
        # werkzeug has made a chunked body end by itself; others end where they say.
        size = -1 if environ.get("wsgi.input_terminated") else self._body_size()
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(size))
        body, status, headers = run_wsgi_app(self.server.app, environ)
        try:
            code, _, phrase = status.partition(" ")
            self.send_response(int(code), phrase)
            for name, value in headers:
                self.send_header(name, value)
            is_whole = self._send_body(body, headers)
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()
        if self.command != "HEAD" and not is_whole:
            self.close_connection = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: the request log is the place to look."""

    def _send_body(self, body: Iterable[bytes], headers: Headers) -> bool:
        """End the headers and send what follows; whether a client can tell where that ends."""
        if headers.get("Transfer-Encoding") == "chunked" and self.command != "HEAD":
            self.end_headers()
            for chunk in filter(None, body):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            self.wfile.write(b"0\r\n\r\n")
            return True
        promised = headers.get("Content-Length", type=int)
        if promised is None:
            self.send_header("Connection", "close")
        self.end_headers()
        return sum(self.wfile.write(chunk) for chunk in body) == promised

    def _body_size(self) -> int:
        return int(self.headers.get("Content-Length") or 0)


class Server(ThreadedWSGIServer):
    """A server that, once stopped, has left no connection and no thread."""

    def __init__(self, host: str, port: int, app: Any) -> None:
        super().__init__(host, port, app, RequestHandler)
        self._connections: list[tuple[socket.socket, Thread]] = []
        self._thread = Thread(target=self.serve_forever, args=(0.02,), name="simulator")

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, cut all connections, and wait for what was being answered."""
        self.shutdown()
        self._thread.join()
        for connection, _ in self._connections:
            _shut(connection)
        for _, thread in self._connections:
            thread.join()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection its thread, and remember both."""
        thread = Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        thread.start()
        alive = [connection for connection in self._connections if connection[1].is_alive()]
        self._connections = [*alive, (request, thread)]


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # It may be closed already.
        connection.shutdown(socket.SHUT_RDWR)
