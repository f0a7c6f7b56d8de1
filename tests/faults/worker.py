"""The functions' processes: a parent that has imported the large libraries, and its workers.

    python worker.py CLOCK SOCKET

For each message on the socket, `{"function", "environment", "threads"}` with a socket of the
worker's own, the parent forks. The child imports the handler, which is a cold start, writes its process
id, and then answers events, one a line, until it is killed.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.clock import SharedClock


@dataclass(frozen=True)
class Context:
    """The context of an invocation; `deadline` is in seconds since the epoch."""

    function_name: str
    aws_request_id: str
    deadline: float
    memory_limit_in_mb: int = 512
    function_version: str = "$LATEST"
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:000000000000:function:function"

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.deadline - time.time()) * 1000))


def main() -> None:
    """Fork for each cold start, until the socket is closed."""
    clock = SharedClock(Path(sys.argv[1]))
    clock.install()
    clock.install_sleep()
    preload()
    be_patient()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[2])) as orders:
        while True:
            order, [*fds], _, _ = socket.recv_fds(orders, 65_536, 1)
            if not order:
                return
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                orders.close()
                work(json.loads(order), socket.socket(fileno=fds[0]))
                # The buffers' contents are the parent's.
                os._exit(0)
            os.close(fds[0])


def preload() -> None:
    """Import the libraries and AWS's service descriptions, which take long and are shared."""
    import aws_lambda_powertools.metrics  # noqa: F401
    import boto3
    import cryptography.hazmat.primitives.asymmetric.rsa  # noqa: F401

    for service in ("dynamodb", "events", "s3", "secretsmanager", "sqs"):
        boto3.client(service, region_name="eu-central-1")


def be_patient() -> None:
    """Raise botocore's time-outs, because a worker that waits for its turn is not waiting for AWS."""
    from botocore.httpsession import URLLib3Session

    init = URLLib3Session.__init__

    def patient(session: URLLib3Session, *_: Any, **options: Any) -> None:
        init(session, **{**options, "timeout": (60, 600)})

    URLLib3Session.__init__ = patient  # type: ignore[method-assign, assignment]


def work(order: Mapping[str, Any], channel: socket.socket) -> None:
    """Import the handler and answer events until the process is killed."""
    os.environ.update(order["environment"])
    if order["threads"]:
        limit_threads(order["threads"])
    handler = importlib.import_module(order["function"]).handler
    with channel, channel.makefile("rw") as lines:
        print(os.getpid(), file=lines, flush=True)
        for line in lines:
            job = json.loads(line)
            random.seed(job["seed"])
            context = Context(order["function"], job["request_id"], job["deadline"])
            print(json.dumps(invoke(handler, job["event"], context)), file=lines, flush=True)


def limit_threads(most: int) -> None:
    """Let a pool have no more: with one, what a function does has an order."""
    init = ThreadPoolExecutor.__init__

    def limited(pool: ThreadPoolExecutor, *_: Any, **options: Any) -> None:
        init(pool, most)

    ThreadPoolExecutor.__init__ = limited  # type: ignore[method-assign, assignment]


def invoke(handler: Any, event: Any, context: Context) -> dict[str, Any]:
    """Return the handler's answer, or its failure; the log has the traceback, as in CloudWatch."""
    try:
        return {"answer": handler(event, context)}
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        return {"error": type(error).__name__}
    finally:
        sys.stdout.flush()


if __name__ == "__main__":
    main()
