"""The wire: a TLS server that answers the functions as AWS and RealtimeKit, under their real names.

The functions' processes resolve every https name to this server (`loopback/sitecustomize.py`), so
they make the same requests as in production. The server records each request and passes it on to
the emulated AWS and the simulated RealtimeKit. Or the server plays back recorded answers; then
answers take next to no time, and every invocation gets the same ones.
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
    """A request as the server received it."""

    method: str
    host: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def target(self) -> tuple[str, str]:
        """Service and operation, such as `DynamoDB_20120810` and `GetItem`; both empty for REST."""
        service, _, operation = self.headers.get("x-amz-target", "").rpartition(".")
        return service, operation

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """Parameters of an AWS operation in JSON; empty for other requests."""
        parameters: dict[str, Any] = json.loads(self.body or b"{}") if self.target[1] else {}
        return parameters

    @cached_property
    def identity(self) -> str:
        """Text that is equal for requests to which the same answers make sense."""
        if self.target[1]:
            places = (self.parameters.get(name, "") for name in ("TableName", "QueueUrl"))
            keys = [next(iter(value.values())) for value in self.parameters.get("Key", {}).values()]
            # Only the kind of the work table's key, such as "budget" or "check".
            return " ".join((*self.target, *places, *(key.partition("#")[0] for key in keys)))
        parts = urlsplit(self.path)
        names = sorted(name for name, _ in parse_qsl(parts.query, keep_blank_values=True))
        return " ".join((self.method, self.host, parts.path, *names))


@dataclass(frozen=True)
class Answer:
    """An answer as the server sends it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Exchange = tuple[Request, Answer]
Answerer = Callable[[Request], Answer]


class Wire:
    """The server, as a context manager.

    `answerer` returns the answer to a request; `exchanges` records both.
    """

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
        """Environment variables by which a function's process reaches this server."""
        return {
            "BENCH_WIRE_PORT": str(self._server.server_port),
            "AWS_CA_BUNDLE": str(self._trusted),
            "SSL_CERT_FILE": str(self._trusted),
        }

    def answer(self, request: Request) -> Answer:
        """Return the answerer's answer, and record the exchange."""
        answer = self.answerer(request)
        with self._lock:
            self.exchanges.append((request, answer))
        return answer

    def drain(self) -> list[Exchange]:
        """Return the exchanges recorded since the last call, and forget them."""
        with self._lock:
            exchanges, self.exchanges = self.exchanges, []
        return exchanges

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
        """Make the TLS handshake in the connection's thread, so that others need not wait."""
        self.wire.connections += 1
        with (
            contextlib.suppress(OSError),
            self._context.wrap_socket(request, server_side=True) as connection,
        ):
            super().finish_request(connection, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error unless the connection broke, as it does when a function is ended."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # Buffered, so that the head goes out in one segment instead of one for each line.
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
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _exchange  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Suppress the server's log, because the terminal shows the table."""


def forward(aws_url: str, realtimekit_url: str) -> Answerer:
    """Return an answerer that passes requests on to the emulator and the simulator."""
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
    """Return an answerer that gives recorded answers.

    Requests with the same identity get its answers in turns. An unrecorded request gets an empty
    answer: status 200 for an AWS operation, otherwise 404.
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
    """Write the certificates to trust, the server's certificate and its key; return their paths.

    The certificates to trust include all of botocore's, because their loading is part of a cold
    start.
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
