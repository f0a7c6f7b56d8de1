"""A function under AWS's own runtime client: the other end of Lambda's runtime API, and a watch.

`awslambdaric` asks `…/invocation/next` when the handler's module is imported, and posts the answer.
So the time from the process' start to its first question is the initialisation, and from an event's
hand-over to its answer the invocation (AWS docs, Lambda runtime API).
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

PATIENCE_SECONDS = 60
FUNCTION_ARN = "arn:aws:lambda:eu-central-1:123456789012:function:bench"


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds: until the module was imported, of the first invocation, of each one after it."""

    init: float
    first: float
    warm: list[float]

    @property
    def cold(self) -> float:
        """What the first caller waits for."""
        return self.init + self.first


class Runtime:
    """One function's process; a context manager. The package is not written to."""

    def __init__(
        self, python: Path, package: Path, handler: str, environment: Mapping[str, str]
    ) -> None:
        self._asked: queue.Queue[float | RuntimeError] = queue.Queue()
        self._events: queue.Queue[bytes] = queue.Queue()
        self._answers: queue.Queue[tuple[float, bytes]] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._api())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._command = [str(python), "-m", "awslambdaric", handler]
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(package),
            # A deployed folder is read-only.
            "PYTHONDONTWRITEBYTECODE": "1",
            "LAMBDA_TASK_ROOT": str(package),
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": "bench",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_REGION": "eu-central-1",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            **environment,
        }

    def run(self, event: Any, warm: int) -> Run:
        """Start the process, invoke it, and once more for each warm invocation."""
        started = time.perf_counter()
        with subprocess.Popen(
            self._command,
            cwd=self._environment["LAMBDA_TASK_ROOT"],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                ready = self._asked.get(timeout=PATIENCE_SECONDS)
                if isinstance(ready, RuntimeError):
                    raise ready
                times = [self._invoke(event) for _ in range(warm + 1)]
            finally:
                process.kill()
        return Run(ready - started, times[0], times[1:])

    def _invoke(self, event: Any) -> float:
        started = time.perf_counter()
        self._events.put(json.dumps(event).encode())
        answered, body = self._answers.get(timeout=PATIENCE_SECONDS)
        if b"errorType" in body:
            raise RuntimeError(body.decode())
        return answered - started

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
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
