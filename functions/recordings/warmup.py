"""What a function does while it is initialised, so that its first invocation need not.

AWS gives a whole processor then, and in an invocation a share of it: a TLS connection, for which
all certificate authorities are loaded, takes seven times as long with 256 MB. Nothing depends on
it. What fails here, or takes too long, is done again by the invocation, which answers as it must.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from botocore.awsrequest import AWSRequest

# AWS ends an initialisation after ten seconds, and begins it anew.
PATIENCE_SECONDS = 4

Step = Callable[[], object]
Warn = Callable[[str], None]


def warm_up(warn: Warn, *steps: Step, patience: float = PATIENCE_SECONDS) -> None:
    """Take the steps, one after another; raises nothing, and returns when its patience is over."""
    thread = threading.Thread(target=_take, args=(warn, steps), daemon=True)
    thread.start()
    thread.join(patience)
    if thread.is_alive():
        warn("warm-up not waited for")


def _take(warn: Warn, steps: tuple[Step, ...]) -> None:
    for step in steps:
        try:
            step()
        except Exception as error:
            # Whatever it is: the invocation meets it, too, and knows what to make of it.
            warn(f"warm-up failed: {type(error).__name__}")


def connect(*clients: Any) -> Step:
    """A step that opens the connections of boto3 clients, and leaves them in their pools.

    A request that is not signed: it needs no right, and nothing comes of it. To open the connection
    and send nothing would not do, since TLS 1.3 hands out its tickets afterwards, and urllib3 takes
    a connection on which something waits to be read for a broken one.
    """

    def step() -> None:
        for client in clients:
            request = AWSRequest("GET", client.meta.endpoint_url).prepare()
            client._endpoint.http_session.send(request)

    return step
