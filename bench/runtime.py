"""A function under AWS's own runtime client: the other end of Lambda's runtime API, and a watch.

`awslambdaric` asks `…/invocation/next` when the handler's module is imported, and posts the answer.
So the time from the process' start to its first question is the initialisation, and from an event's
hand-over to its answer the invocation (AWS docs, Lambda runtime API).
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

PATIENCE_SECONDS = 60
FUNCTION_ARN = "arn:aws:lambda:eu-central-1:123456789012:function:bench"
_OVER = b""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: until the module was imported, of the first invocation, of the median after it."""

    init: float
    first: float
    warm: float


@dataclass(frozen=True, slots=True)
class Run:
    """By the clock, and of the processor: others on the machine lengthen the first, not the second.

    And the most memory that it took.
    """

    clock: Times
    processor: Times
    peak_bytes: int


class Runtime:
    """One function's process; a context manager. The package is not written to.

    It has a whole processor until it is initialised, and then what AWS gives with `memory_mb`.
    Settings that are `None` are those that it is not given. What it logs goes to `log`.
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
        self._asked: queue.Queue[float | RuntimeError] = queue.Queue()
        self._events: queue.Queue[bytes] = queue.Queue()
        self._answers: queue.Queue[tuple[float, bytes]] = queue.Queue()
        self._server = _Server(("127.0.0.1", 0), self._api())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._command = [str(python), "-m", "awslambdaric", handler]
        self._package = str(package)
        settings: dict[str, str | None] = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": self._package,
            # A deployed folder is read-only.
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
        """Invoke it, and once more for each warm invocation; then it is ended."""
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
        """Seconds, and the answer. Raises `RuntimeError` where the function fails."""
        started = time.perf_counter()
        self._events.put(json.dumps(event).encode())
        answered, body = self._answers.get(timeout=PATIENCE_SECONDS)
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
        ready = self._asked.get(timeout=PATIENCE_SECONDS)
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
                runtime._asked.put(time.perf_counter())
                try:
                    event = runtime._events.get(timeout=PATIENCE_SECONDS)
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
                """All that AWS sends: the client crashes where one is missing."""
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
                    runtime._asked.put(RuntimeError(body.decode()))
                runtime._answers.put((time.perf_counter(), body))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: the terminal is for the table."""

        return Api


def _processor_seconds(pid: int) -> float:
    """What a process has had, all its threads together (clock_getcpuclockid(3), Linux)."""
    return time.clock_gettime((~pid << 3) | 2)


def _peak_bytes(pid: int) -> int:
    """0 where there is no /proc to tell it."""
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 if found else 0


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a process that is killed lets go of its connection so."""
