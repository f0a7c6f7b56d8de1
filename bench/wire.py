"""AWS and RealtimeKit at the other end of the wire, over TLS, under their real names.

The functions' processes resolve every https name to this server (`loopback/sitecustomize.py`), so
that they make the requests that they would make in production. It passes them on to the emulated
AWS and the simulated RealtimeKit and notes them, or plays back what was noted: then an answer takes
next to no time, and an invocation meets the same world each time.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import botocore
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

REGION = "eu-central-1"
API_HOST = "api.cloudflare.com"
KEY_HOST = "api.realtime.cloudflare.com"
AWS_DOMAIN = ".amazonaws.com"
HOSTS = (API_HOST, KEY_HOST, f"*.{REGION}{AWS_DOMAIN}", f"*.s3.{REGION}{AWS_DOMAIN}")
_NOT_PASSED_ON = ("connection", "transfer-encoding", "content-length", "server", "date")


@dataclass(frozen=True)
class Request:
    """As it came."""

    method: str
    host: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def target(self) -> tuple[str, str]:
        """Service and operation, such as `DynamoDB_20120810` and `GetItem`; empty for REST."""
        service, _, operation = self.headers.get("x-amz-target", "").rpartition(".")
        return service, operation

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """Of an AWS operation in JSON."""
        found: dict[str, Any] = json.loads(self.body or b"{}") if self.target[1] else {}
        return found

    @cached_property
    def identity(self) -> str:
        """The same for requests to which the same answers make sense."""
        if self.target[1]:
            places = (self.parameters.get(name, "") for name in ("TableName", "QueueUrl"))
            keys = [next(iter(value.values())) for value in self.parameters.get("Key", {}).values()]
            # Of work_id the kind: "budget", "check".
            return " ".join((*self.target, *places, *(key.partition("#")[0] for key in keys)))
        parts = urlsplit(self.path)
        names = sorted(name for name, _ in parse_qsl(parts.query, keep_blank_values=True))
        return " ".join((self.method, self.host, parts.path, *names))


@dataclass(frozen=True)
class Answer:
    """As it went back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Exchange = tuple[Request, Answer]
Answerer = Callable[[Request], Answer]


class Wire:
    """The server, from `start` to `stop`; a context manager. It answers as its `answerer` says."""

    def __init__(self, folder: Path) -> None:
        self.answerer: Answerer = lambda _: Answer(503, {}, b"")
        self.connections = 0
        self.exchanges: list[Exchange] = []
        self._lock = threading.Lock()
        self._trusted, certificate, key = _certificates(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server = _Server(self, context)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def environment(self) -> dict[str, str]:
        """Of a function's process that is to be at this end of the wire."""
        return {
            "BENCH_WIRE_PORT": str(self._server.server_port),
            "AWS_CA_BUNDLE": str(self._trusted),
            "SSL_CERT_FILE": str(self._trusted),
        }

    def answer(self, request: Request) -> Answer:
        """What the answerer says; noted."""
        answer = self.answerer(request)
        with self._lock:
            self.exchanges.append((request, answer))
        return answer

    def drain(self) -> list[Exchange]:
        """What was exchanged since this was last asked."""
        with self._lock:
            found, self.exchanges = self.exchanges, []
        return found

    def __enter__(self) -> Wire:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def __init__(self, wire: Wire, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.wire = wire
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread: the handshake holds nobody up."""
        self.wire.connections += 1
        with (
            contextlib.suppress(OSError),
            self._context.wrap_socket(request, server_side=True) as connection,
        ):
            super().finish_request(connection, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A function that is ended lets go of its connections; that is no error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # A head in one piece, not a segment for each line.
    wbufsize = -1
    server: _Server

    def _exchange(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers.get("expect") == "100-continue":
            self.wfile.flush()
        chunked = "chunked" in headers.get("transfer-encoding", "")
        body = self._chunks() if chunked else self.rfile.read(int(headers.get("content-length", 0)))
        request = Request(self.command, headers["host"], self.path, headers, body)
        answer = self.server.wire.answer(request)
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.wfile.flush()

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _exchange  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is for the table."""


def forward(aws_url: str, realtimekit_url: str) -> Answerer:
    """To the emulator and the simulator, which stand behind these origins."""
    http = urllib3.PoolManager(maxsize=16, retries=False)

    def answer(request: Request) -> Answer:
        origin = aws_url if request.host.endswith(AWS_DOMAIN) else realtimekit_url
        response = http.request(
            request.method,
            origin + request.path,
            body=request.body,
            headers={**request.headers, "accept-encoding": "identity"},
        )
        headers = {
            name: value
            for name, value in response.headers.items()
            if name.lower() not in _NOT_PASSED_ON
            or (request.method == "HEAD" and name.lower() == "content-length")
        }
        return Answer(response.status, headers, response.data)

    return answer


def play_back(exchanges: Sequence[Exchange]) -> Answerer:
    """What was answered then, in turns where the same was asked several times.

    What was not asked then finds nothing.
    """
    known: dict[str, list[Answer]] = {}
    for request, answer in exchanges:
        known.setdefault(request.identity, []).append(answer)
    turns: dict[str, Iterator[Answer]] = {
        identity: itertools.cycle(answers) for identity, answers in known.items()
    }
    lock = threading.Lock()

    def play(request: Request) -> Answer:
        with lock:
            if turn := turns.get(request.identity):
                return next(turn)
        return Answer(200 if request.target[1] else 404, {}, b"{}")

    return play


def _certificates(folder: Path) -> tuple[Path, Path, Path]:
    """What to trust, the server's certificate, its key.

    It is trusted beside all that botocore trusts: to load them is a part of what TLS costs.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(h) for h in HOSTS]), False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    authorities = (Path(botocore.__file__).parent / "cacert.pem").read_bytes()
    contents = {"trusted.pem": authorities + pem, "certificate.pem": pem, "key.pem": private}
    for file_name, content in contents.items():
        descriptor = os.open(folder / file_name, os.O_CREAT | os.O_WRONLY, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
    return folder / "trusted.pem", folder / "certificate.pem", folder / "key.pem"
