"""Stand-ins for the world in unit and functional tests: a clock, an upstream, an invocation."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import io
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from recordings.model import Artifact as RecordedFile

ROOT = Path(__file__).parent.parent
HANDLERS = [path.stem for path in (ROOT / "functions").glob("*.py")]
APP_ID = "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13"
API_TOKEN = "canary-token-6d0f"


_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have a child process terminated when the tests end, killed ones too; a `preexec_fn`.

    Only Linux can (prctl(2)); elsewhere the child of tests that were killed goes on.
    """
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Clock:
    """A clock that stands still until told otherwise."""

    def __init__(self) -> None:
        self.time = datetime(2026, 6, 3, 10, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class Context:
    """The context of an invocation, as Lambda passes it to a handler."""

    function_name: str = "function"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:123456789012:function:function"
    aws_request_id: str = "5b441b59-a550-11c8-3a84-4b0c3a3d9d4e"
    remaining_ms: int = 60_000

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


def sample(name: str) -> Any:
    """Return the sample event of that name."""
    return json.loads((ROOT / "events" / f"{name}.json").read_text())


@dataclass
class Answer:
    """The loopback server's answer to one request."""

    body: bytes | str | dict[str, Any] = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0
    held: threading.Event | None = None
    """The answer comes when it is set."""

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


class Upstream:
    """A loopback HTTP server that gives prepared answers, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.calls: list[tuple[str, str, bytes]] = []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle(self) -> None:
                # A client may leave an answer unread; a traceback would be in the next test's stderr.
                with contextlib.suppress(ConnectionError):
                    super().handle()

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                upstream.requests.append((self.path, dict(self.headers)))
                upstream.calls.append((self.command, self.path, body))
                answers = upstream.answers
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                time.sleep(answer.delay)
                if answer.held:
                    answer.held.wait()
                self.send_response(answer.status)
                for header, value in {
                    "Content-Length": str(len(answer.content)),
                    **answer.headers,
                }.items():
                    self.send_header(header, value)
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # the client was in a hurry
                    self.wfile.write(answer.content)
                self.close_connection = "Content-Length" in answer.headers

            def do_POST(self) -> None:
                self.do_GET()

            def do_DELETE(self) -> None:
                self.do_GET()

            def do_PATCH(self) -> None:
                self.do_GET()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def says(self, *answers: Answer) -> None:
        self.answers = list(answers)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def drained(queue: Any) -> list[Any]:
    """Return the messages on a queue, read from JSON, and empty the queue."""
    found = []
    while batch := queue.receive_messages(MaxNumberOfMessages=10):
        for message in batch:
            found.append(json.loads(message.body))
            message.delete()
    return found


@contextlib.contextmanager
def s3_fails(
    s3: Any,
    operation: str,
    status: int,
    code: str,
    times: int | None = None,
    reads_body: bool = False,
) -> Iterator[list[str]]:
    """Let S3 answer the next of these calls with an error, perhaps after a chunk of the body.

    Yields a list, to which each refused URL is added.
    """
    refused: list[str] = []

    def refuse(request: Any, **_: Any) -> AWSResponse | None:
        if times is not None and len(refused) >= times:
            return None
        refused.append(request.url)
        if reads_body:
            request.body.read()
        error = f"<Error><Code>{code}</Code><Message>simulated fault</Message></Error>"
        return AWSResponse(request.url, status, HTTPHeaders(), _Raw(error.encode()))

    s3.meta.events.register_first(f"before-send.s3.{operation}", refuse)
    try:
        yield refused
    finally:
        s3.meta.events.unregister(f"before-send.s3.{operation}", refuse)


class _Raw(io.BytesIO):
    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


def tracks(count: int) -> tuple[RecordedFile, ...]:
    """Return the files of so many participants as RealtimeKit names them, with URLs of 2 KB."""
    random = Random(7)

    def uuid4() -> UUID:
        return UUID(int=random.getrandbits(128), version=4)

    names = [f"rtk_{uuid4()}_{uuid4()}_video_media_{1780480800000 + n}.webm" for n in range(count)]
    return tuple(
        RecordedFile(
            name=f"track/default/{name}",
            kind="track",
            file_name=name,
            url=f"https://storage.googleapis.com/{name}?X-Goog-Signature=canary".ljust(2048, "f"),
            url_expires_at=datetime(2026, 6, 10, 10, 30, tzinfo=UTC),
        )
        for name in names
    )


def state_of(recording_id: str, artifact: RecordedFile, number: int, bucket: str) -> dict[str, Any]:
    """Return a file's archive state; sizes, checksums and times differ from file to file."""
    random = Random(number)
    return {
        "state": "archived",
        "bucket": bucket,
        "key": f"{APP_ID}/2026/06/03/{recording_id}/{artifact.name}",
        "size": random.randrange(900_000_000),
        "checksum_crc32": f"{random.getrandbits(32):06x}==",
        "archived_at": f"2026-06-03T11:{random.randrange(60):02}:00.{random.randrange(1000):03}Z",
    }


class Signer:
    """RealtimeKit's private key."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def sign(self, body: bytes) -> str:
        signed = self.key.sign(body, padding.PKCS1v15(), hashes.SHA256())
        return base64.b64encode(signed).decode()

    @property
    def pem(self) -> str:
        return pem(self.key.public_key())


def pem(key: Any) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    text: str = key.public_bytes(encoding, form).decode()
    return text


@dataclass(frozen=True)
class AnyRequest:
    """A request that is a key and fields, as `Worklist` sees it."""

    key: str
    fields: Mapping[str, Any]
