"""A server of Lambda's runtime API that runs a function under AWS's runtime client and times it.

`awslambdaric` requests `…/invocation/next` once it has imported the handler's module, and posts the
answer. So the initialisation lasts from the start of the process to its first such request. An
invocation lasts from the hand-over of its event to its answer (AWS docs, Lambda runtime API).
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import statistics
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, Self

from .cpu_share import FULL_MB, cpu_share

MAX_WAIT_SECONDS = 60
FUNCTION_ARN = "arn:aws:lambda:eu-central-1:123456789012:function:bench"
_OVER = b""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of the initialisation, of the first invocation, and of a warm invocation."""

    init: float
    first: float
    warm: float


@dataclass(frozen=True, slots=True)
class Run:
    """Times of one process by the clock and by processor time, and the peak of its memory.

    Other programs on the machine lengthen the times by the clock but hardly the processor time. A
    warm invocation's time is the median by the clock, and the mean by processor time.
    """

    clock: Times
    processor: Times
    peak_bytes: int


class Runtime:
    """One function's process, as a context manager that leaves the package unchanged.

    The process has a whole processor until it is initialised, then the share that AWS gives with
    `memory_mb`. An environment variable that is `None` is left out. The function logs to `log`.
    """

    def __init__(
        self,
        python: Path,
        package: Path,
        handler: str,
        environment: Mapping[str, str | None],
        memory_mb: int = FULL_MB,
        log: IO[bytes] | int = subprocess.DEVNULL,
    ) -> None:
        self._memory_mb = memory_mb
        self._log = log
        self._ready: queue.Queue[float | RuntimeError] = queue.Queue()
        self._events: queue.Queue[bytes] = queue.Queue()
        self._answers: queue.Queue[tuple[float, bytes]] = queue.Queue()
        self._server = _Server(("127.0.0.1", 0), self._api())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._command = [str(python), "-m", "awslambdaric", handler]
        self._package = str(package)
        settings: dict[str, str | None] = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": self._package,
            # A deployed folder is read-only, so Lambda writes no bytecode either.
            "PYTHONDONTWRITEBYTECODE": "1",
            "LAMBDA_TASK_ROOT": self._package,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_FUNCTION_NAME": "bench",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
            "AWS_REGION": "eu-central-1",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            **environment,
        }
        self._environment = {name: value for name, value in settings.items() if value is not None}
        self._ended = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes]
        self.init = 0.0
        self.peak_bytes = 0

    def run(self, event: Any, warm: int) -> Run:
        """Invoke the function once, then `warm` times, and end its process. Return the figures."""
        started = _processor_seconds(self._process.pid)
        first, _ = self.invoke(event)
        after_first = _processor_seconds(self._process.pid)
        times = [self.invoke(event)[0] for _ in range(warm)]
        worked = _processor_seconds(self._process.pid) - after_first
        self._end()
        return Run(
            Times(self.init, first, statistics.median(times) if times else 0),
            Times(started, after_first - started, worked / warm if warm else 0),
            self.peak_bytes,
        )

    def invoke(self, event: Any) -> tuple[float, Any]:
        """Return the seconds of an invocation and its answer.

        Raise `RuntimeError` if the function fails, and `queue.Empty` if it does not answer in 60 s.
        """
        started = time.perf_counter()
        self._events.put(json.dumps(event).encode())
        answered, body = self._answers.get(timeout=MAX_WAIT_SECONDS)
        if b"errorType" in body:
            raise RuntimeError(body.decode())
        return answered - started, json.loads(body)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ended.callback(self._stop_server)
        try:
            self._start()
        except BaseException:
            self._ended.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.close()

    def _start(self) -> None:
        started = time.perf_counter()
        self._process = subprocess.Popen(
            self._command,
            cwd=self._package,
            env=self._environment,
            stdout=self._log,
            stderr=self._log,
        )
        share = self._ended.enter_context(cpu_share(self._process.pid))
        self._ended.callback(self._end)
        ready = self._ready.get(timeout=MAX_WAIT_SECONDS)
        if isinstance(ready, RuntimeError):
            raise ready
        self.init = ready - started
        share.limit(self._memory_mb)

    def _end(self) -> None:
        if self._process.poll() is None:
            self.peak_bytes = _peak_bytes(self._process.pid)
            self._process.kill()
            self._process.wait()
            self._events.put(_OVER)

    def _stop_server(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _api(self) -> type[BaseHTTPRequestHandler]:
        runtime = self

        class Api(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                runtime._ready.put(time.perf_counter())
                try:
                    event = runtime._events.get(timeout=MAX_WAIT_SECONDS)
                except queue.Empty:
                    return
                if event == _OVER:
                    return
                self.send_response(200)
                for name, value in self._headers(event).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(event)

            def _headers(self, event: bytes) -> dict[str, str]:
                """Return all headers that AWS sends; the client crashes if one is missing."""
                return {
                    "Content-Type": "application/json",
                    "Content-Length": str(len(event)),
                    "Lambda-Runtime-Aws-Request-Id": "5b441b59-a550-11c8-3a84-4b0c3a3d9d4e",
                    "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + 60_000),
                    "Lambda-Runtime-Invoked-Function-Arn": FUNCTION_ARN,
                    "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700",
                }

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path.endswith("/init/error"):
                    runtime._ready.put(RuntimeError(body.decode()))
                runtime._answers.put((time.perf_counter(), body))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Suppress the server's log, because the terminal shows the table."""

        return Api


def _processor_seconds(pid: int) -> float:
    """Return the processor seconds of a process and its threads (Linux, clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def _peak_bytes(pid: int) -> int:
    """Return the peak of a process's memory, or 0 on a machine without /proc."""
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 if found else 0


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: a connection breaks when the process of a function is killed."""
