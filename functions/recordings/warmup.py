"""Warm-up: open connections while a function is initialised, so that its first invocation is fast.

Lambda gives an initialisation a whole processor, and an invocation a share by its memory. With
256 MB a TLS connection, which loads all certificate authorities, takes seven times as long. A step
that fails or takes too long is repeated by the invocation, which handles the error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from botocore.awsrequest import AWSRequest

# 4 s, well below the 10 s after which Lambda ends an initialisation and begins it anew (AWS docs).
PATIENCE_SECONDS = 4

Step = Callable[[], object]
Warn = Callable[[str], None]


def warm_up(warn: Warn, *steps: Step, patience: float = PATIENCE_SECONDS) -> None:
    """Take the steps in order, for `patience` seconds at most. Errors are only warned about."""
    thread = threading.Thread(target=_take, args=(warn, steps), daemon=True)
    thread.start()
    thread.join(patience)
    if thread.is_alive():
        warn("warm-up timed out")


def _take(warn: Warn, steps: tuple[Step, ...]) -> None:
    for step in steps:
        try:
            step()
        except Exception as error:
            # The invocation meets the same error, and handles it.
            warn(f"warm-up failed: {type(error).__name__}")


def connect(*clients: Any) -> Step:
    """Return a step that opens the connections of boto3 clients, and leaves them in their pools.

    It sends an unsigned request, which needs no right and has no effect. Opening a connection alone
    is not enough: TLS 1.3 sends tickets after the handshake, and urllib3 drops an idle connection
    that has data to be read.
    """

    def step() -> None:
        for client in clients:
            request = AWSRequest("GET", client.meta.endpoint_url).prepare()
            client._endpoint.http_session.send(request)

    return step
