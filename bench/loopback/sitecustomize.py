"""Startup code of a function's process that sends every https host to one port of this machine."""

import os
import socket

_resolve = socket.getaddrinfo
_PORT = int(os.environ["BENCH_WIRE_PORT"])


def _loopback(host, port, *arguments, **options):  # type: ignore[no-untyped-def]
    if port in (443, "https", "443"):
        host, port = "127.0.0.1", _PORT
    return _resolve(host, port, *arguments, **options)


socket.getaddrinfo = _loopback
