"""A storage server on loopback, over TLS, that stands for both RealtimeKit and S3 in a copy.

Each connection has a process of its own, so that the server's interpreter lock does not slow the
copy. The server sends a pattern of any length and discards uploaded bytes. When an upload
completes, the server compares its CRC-32 with that of the pattern, as S3 would.

    GET  /media/<size>/recording.mp4     download a file of <size> bytes, or a range of it
    PUT  /bucket/<size>…                 upload a part or the whole of that file
    POST /bucket/<size>…[?uploads]       complete [or begin] a multipart upload
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import os
import re
import signal
import socket
import ssl
import zlib
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing import get_context
from pathlib import Path
from socketserver import ForkingMixIn
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

BLOCK = 1024 * 1024
PATTERN = (b"\x00\x00\x00\x18ftypisom" + bytes(range(256)) * 4095).ljust(BLOCK, b"\xa5")
ETAG = '"8f0c4ad0d6a34bb2a1f0d5a6c4e0f9b1-16"'
XML = '<?xml version="1.0" encoding="UTF-8"?>'


def crc32(size: int) -> str:
    """Return the CRC-32 of a file of `size` bytes, in base64 as S3 writes it."""
    checksum = 0
    for _ in range(size // BLOCK):
        checksum = zlib.crc32(PATTERN, checksum)
    checksum = zlib.crc32(PATTERN[: size % BLOCK], checksum)
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()


class _Server(ForkingMixIn, HTTPServer):
    request_queue_size = 64
    max_children = 64

    def __init__(self, context: ssl.SSLContext, checksums: Mapping[int, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Storage)
        self.context = context
        self.checksums = checksums

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Make the TLS handshake in the child process, so that other connections need not wait."""
        with (
            contextlib.suppress(OSError),
            self.context.wrap_socket(request, server_side=True) as connection,
        ):
            super().finish_request(connection, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of a connection: a client may close it at any time."""


class _Storage(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        """Send the file, or the range in the request."""
        if self.path.endswith("?object-lock"):
            code = "ObjectLockConfigurationNotFoundError"
            self._answer(404, f"{XML}<Error><Code>{code}</Code></Error>".encode())
            return
        if not self.path.startswith("/media/"):
            self._answer(200, f"{XML}<ListPartsResult/>".encode())
            return
        size = self._size()
        byte_range = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, stop = (
            (int(byte_range[1]), min(int(byte_range[2]) + 1, size)) if byte_range else (0, size)
        )
        self.send_response(206 if byte_range else 200)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Length", str(stop - start))
        self.send_header("ETag", ETAG)
        if byte_range:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.end_headers()
        pattern = memoryview(PATTERN)
        while start < stop:
            offset = start % BLOCK
            chunk = pattern[offset : offset + stop - start]
            self.wfile.write(chunk)
            start += len(chunk)

    def do_HEAD(self) -> None:
        """Answer 404, because the storage keeps no object."""
        self._answer(404)

    def do_PUT(self) -> None:
        """Read the body and discard it."""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                self._skip(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            self._skip(int(self.headers["Content-Length"]))
        self._answer(200, ETag=ETAG)

    def do_POST(self) -> None:
        """Begin an upload, or complete it and check its CRC-32."""
        self._skip(int(self.headers.get("Content-Length", 0)))
        if "uploads" in parse_qs(urlsplit(self.path).query, keep_blank_values=True):
            name = "InitiateMultipartUploadResult"
            body = f"{XML}<{name}><UploadId>upload</UploadId></{name}>"
            self._answer(200, body.encode())
        elif self.headers.get("x-amz-checksum-crc32", "") in ("", self._checksum()):
            name = "CompleteMultipartUploadResult"
            self._answer(200, f"{XML}<{name}><ETag>e</ETag></{name}>".encode())
        else:
            self._answer(400, f"{XML}<Error><Code>BadDigest</Code></Error>".encode())

    def _size(self) -> int:
        return int(urlsplit(self.path).path.split("/")[2])

    def _checksum(self) -> str:
        return self.server.checksums[self._size()]

    def _skip(self, size: int) -> None:
        buffer = memoryview(bytearray(min(BLOCK, size)))
        while size:
            received = self.rfile.readinto(buffer[:size])
            if not received:
                raise ConnectionError
            size -= received

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Suppress the server's log, because the terminal shows the table."""


@contextlib.contextmanager
def tls_storage(folder: Path, sizes: list[int]) -> Iterator[tuple[str, Path]]:
    """Run the storage while the block runs; yield its origin and the certificate to trust.

    `sizes` are the sizes in bytes of the files that may be copied.
    """
    certificate, key = _certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = _Server(context, {size: crc32(size) for size in sizes})
    process = get_context("fork").Process(target=_serve, args=(server,))
    process.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}", certificate
    finally:
        server.socket.close()
        process.terminate()
        process.join()


def _serve(server: _Server) -> None:
    """Serve until SIGTERM, which also ends the processes of the connections."""
    os.setpgrp()

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.killpg(0, signal.SIGTERM)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop)
    # Download and upload both use loopback, so large buffers save switches between processes.
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * BLOCK)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        server.serve_forever()


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate for 127.0.0.1 and its key; return their paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file
