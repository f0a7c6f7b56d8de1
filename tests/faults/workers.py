"""Lambda, as far as it matters: processes that invocations run in, one step at a time.

Whatever a function does to AWS comes by here, and waits. The harness decides which of the
invocations under way may go on, and what becomes of its request: so a seed makes not only faults,
but also the order in which concurrent invocations do what they do, and a race is a race each time.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from faults.clock import SharedClock
from local.stack import ROOT

HERE = Path(__file__).parent
PATIENCE_SECONDS = 120
"""Real ones, in which a worker asks for something, answers, or dies."""


class Reply(NamedTuple):
    """An answer to a request; None instead of one is a connection that is closed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Request:
    """A request of a worker to AWS, which the worker waits for."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    reply: queue.SimpleQueue[Reply | None] = field(default_factory=queue.SimpleQueue)

    @property
    def service(self) -> str:
        """The service's name in the signature: dynamodb, events, s3, secretsmanager or sqs."""
        scope = re.search(r"Credential=[^/]+/\d+/[^/]+/(\w+)/", self.headers["Authorization"])
        assert scope is not None
        return scope[1]

    @property
    def operation(self) -> str:
        """The operation, such as PutItem; for S3 the HTTP method."""
        return self.headers.get("X-Amz-Target", self.method).rpartition(".")[2]


class Worker:
    """One function's process. Its requests, its answer and its end are put into `happenings`."""

    def __init__(self, function: str, channel: socket.socket) -> None:
        self.function = function
        self.happenings: queue.Queue[Request | dict[str, Any] | None] = queue.Queue()
        self._channel = channel
        self._lines = channel.makefile("rw")
        self._pid = int(self._lines.readline())
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def invoke(self, event: Any, *, deadline: float, request_id: str, seed: str) -> None:
        """Begin an invocation. A worker has one at a time."""
        job = {"event": event, "deadline": deadline, "request_id": request_id, "seed": seed}
        print(json.dumps(job), file=self._lines, flush=True)

    def kill(self) -> None:
        """Kill the process without warning."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def bury(self) -> None:
        """Close a worker that has ended: its requests wait for no answer any more."""
        self._channel.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._lines.close()
        self._channel.close()
        while not self.happenings.empty():
            happening = self.happenings.get()
            if isinstance(happening, Request):
                happening.reply.put(None)

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            for line in self._lines:
                self.happenings.put(json.loads(line))
        self.happenings.put(None)


class Workers:
    """All processes, and the proxy between them and AWS; a context manager.

    `log` is where they write to; `threads` is how many a pool of theirs may have, 0 as it wants.
    """

    def __init__(self, aws_url: str, clock: SharedClock, log: Path, threads: int) -> None:
        self.log = log
        self._threads = threads
        self._aws = http.client.HTTPConnection(urlsplit(aws_url).netloc, timeout=PATIENCE_SECONDS)
        self._alive: dict[str, Worker] = {}
        self._started = 0
        self._proxy = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._alive))
        self._proxy.daemon_threads = True
        self._thread = threading.Thread(target=self._proxy.serve_forever, args=(0.02,))
        self._orders, theirs = socket.socketpair()
        with log.open("wb") as output, theirs:
            self._parent = subprocess.Popen(
                [sys.executable, "-P", HERE / "worker.py", clock.path, str(theirs.fileno())],
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": os.pathsep.join([str(ROOT / "functions"), str(HERE.parent)]),
                    "AWS_EC2_METADATA_DISABLED": "true",
                },
                pass_fds=[theirs.fileno()],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._orders.close()
        for worker in list(self._alive.values()):
            self.end(worker)
        self._parent.wait()
        self._proxy.shutdown()
        self._thread.join()
        self._proxy.server_close()
        self._aws.close()

    def start(self, function: str, environment: Mapping[str, str]) -> Worker:
        """Start a worker for a function, as a cold start."""
        self._started += 1
        name = str(self._started)
        port = self._proxy.server_port
        settings = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "eu-central-1",
            **environment,
            # The path names the worker that sends the request.
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}/{name}",
        }
        ours, theirs = socket.socketpair()
        order = {"function": function, "environment": settings, "threads": self._threads}
        with theirs:
            socket.send_fds(self._orders, [json.dumps(order).encode()], [theirs.fileno()])
        worker = self._alive[name] = Worker(function, ours)
        return worker

    def end(self, worker: Worker) -> None:
        """Kill it, if it is not dead yet."""
        [name] = [name for name, alive in self._alive.items() if alive is worker]
        del self._alive[name]
        worker.kill()
        worker.bury()

    def reconnect(self) -> None:
        """Have the next request open a connection to AWS: the emulator closes one that is idle."""
        self._aws.close()

    def forward(self, request: Request) -> Reply:
        """Return AWS's answer to the request."""
        headers = {name: text for name, text in request.headers.items() if name != "Expect"}
        self._aws.request(request.method, request.path, request.body, headers)
        answer = self._aws.getresponse()
        skipped = ("connection", "transfer-encoding")
        kept = {name: text for name, text in answer.getheaders() if name.lower() not in skipped}
        return Reply(answer.status, kept, answer.read())


def _handler(workers: Mapping[str, Worker]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _ask(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            _, name, *path = self.path.split("/", 2)
            request = Request(self.command, "/" + "".join(path), dict(self.headers), body)
            worker = workers.get(name)
            reply = None
            # A part whose source broke off is never sent to its end.
            if worker is not None and len(body) == size:
                worker.happenings.put(request)
                reply = request.reply.get()
            if reply is None:
                self.close_connection = True
            else:
                self._send(reply)

        def _send(self, reply: Reply) -> None:
            self.send_response_only(reply.status)
            for name, text in reply.headers.items():
                self.send_header(name, text)
            if not any(name.lower() == "content-length" for name in reply.headers):
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            # A killed worker does not read its answer.
            with contextlib.suppress(OSError):
                self.wfile.write(reply.body)

        def __getattr__(self, name: str) -> Any:
            """Handle a request of any method."""
            if name.startswith("do_"):
                return self._ask
            raise AttributeError(name)

        def log_message(self, format: str, *args: Any) -> None:
            """Write no log."""

    return Handler
