"""Cold start and warm time of `receive_webhook`, as ratios to an empty handler in the same run.

    make bench

The function is what `make build` would deploy, under AWS's runtime client; the key's address and
SQS are on loopback, over http. Without bytecode is what `sam build` alone delivers. Machines are
noisy: the rounds alternate, medians are taken, and ratios are what to trust.
"""

from __future__ import annotations

import base64
import json
import shutil
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from .runtime import Run, Runtime

ROOT = Path(__file__).parent.parent
PYTHON = ROOT / ".venv-runtime/bin/python"
BUILD = ROOT / ".local/build"
ROUNDS = 11
WARM = 50
EMPTY = "def handler(event, context):\n    return {'statusCode': 202}\n"


@contextmanager
def loopback(public_key: str) -> Iterator[str]:
    """RealtimeKit's key at any GET, and an SQS that takes all messages; the server's origin."""

    class Api(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._answer({"success": True, "data": {"publicKey": public_key}, "message": ""})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer({"MessageId": "0a7d4a2f-5a0b-4a53-a1c5-3a2b9d5a7f10"})

        def _answer(self, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the terminal is for the table."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def delivery() -> tuple[dict[str, Any], str]:
    """The sample event with a signature that holds, and the public key that it is of."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = ROOT / "events/receive-webhook.recording-status-update.json"
    event: dict[str, Any] = json.loads(path.read_text())
    signature = key.sign(event["body"].encode(), padding.PKCS1v15(), hashes.SHA256())
    event["multiValueHeaders"]["rtk-signature"] = [base64.b64encode(signature).decode()]
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return event, public.decode()


def measure() -> dict[str, list[Run]]:
    """All rounds of all variants, by name."""
    [package] = [path for path in BUILD.iterdir() if path.is_dir()]
    event, public_key = delivery()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / ".local")))
        (folder / "empty").mkdir()
        (folder / "empty/empty.py").write_text(EMPTY)
        shutil.copytree(package, folder / "plain", ignore=shutil.ignore_patterns("__pycache__"))
        origin = stack.enter_context(loopback(public_key))
        environment = {
            "INGEST_QUEUE_URL": f"{origin}/123456789012/IngestQueue",
            "AWS_ENDPOINT_URL": origin,
            "POWERTOOLS_METRICS_NAMESPACE": "bench",
            "ORGANIZATION_ID": "",
            "WEBHOOK_KEY_URL": f"{origin}/.well-known/webhooks.json",
            "WEBHOOK_PUBLIC_KEY": "",
        }
        variants = {
            "empty handler": (folder / "empty", "empty.handler"),
            "receive_webhook": (package, "receive_webhook.handler"),
            "… without bytecode": (folder / "plain", "receive_webhook.handler"),
        }
        runs: dict[str, list[Run]] = {name: [] for name in variants}
        for number in range(ROUNDS):
            for name, (path, handler) in variants.items():
                with Runtime(PYTHON, path, handler, environment) as runtime:
                    runs[name].append(runtime.run(event, WARM))
            print(f"round {number + 1} of {ROUNDS}", end="\r", file=sys.stderr, flush=True)
    return runs


def main() -> None:
    """Print the table."""
    runs = measure()
    rows = {
        name: (
            statistics.median(run.cold for run in of_name),
            statistics.median(statistics.median(run.warm) for run in of_name),
        )
        for name, of_name in runs.items()
    }
    cold_base, warm_base = rows["empty handler"]
    print(f"{'':20} {'cold ms':>8} {'ratio':>6} {'warm ms':>8} {'ratio':>6}")
    for name, (cold, warm) in rows.items():
        print(
            f"{name:20} {cold * 1000:8.0f} {cold / cold_base:6.1f}"
            f" {warm * 1000:8.2f} {warm / warm_base:6.1f}"
        )


if __name__ == "__main__":
    main()
