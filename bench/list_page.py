"""The bench of a page of the list, with a small and a large table, beside the bare DynamoDB call.

    make bench-list

The function is the one that `make build` would deploy, under AWS's runtime client. DynamoDB is
replaced by an index in memory that finds its rows by bisection. So the figures show which requests
the function makes and how it processes the answers. Machines are noisy, so the measurements take
turns and the table shows medians. Trust its ratios more than its absolute figures.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .runtime import Runtime

ROOT = Path(__file__).parent.parent
PYTHON = ROOT / ".venv-runtime/bin/python"
BUILD = ROOT / ".local/build"
SIZES = (1_000, 100_000)
ROUNDS = 5
WARM_INVOCATIONS = 100
MEETING_ID = "50c8940e-1b97-402a-97d6-000000000001"
APP_ID = "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13"
# One recording in this many has the status ERRORED.
RECORDINGS_PER_ERROR = 500

BARE = """
import json, os
import boto3
dynamodb = boto3.client("dynamodb")
def handler(event, context):
    answer = dynamodb.query(
        TableName="RecordingsTable",
        IndexName="by_time",
        KeyConditionExpression="app_id = :app_id",
        ExpressionAttributeValues={":app_id": {"S": os.environ["APP_ID"]}},
        Limit=21,
        ScanIndexForward=False,
    )
    return {"statusCode": 200, "body": json.dumps(answer["Items"])}
"""
# A page of a meeting's list, as if its index held only keys: one BatchGetItem reads whole rows,
# instead of only the attributes that the index lacks.
BY_KEYS = """
import serve_catalogue
from recordings.dynamodb import Table
from recordings.listing import ADDED, LISTED, Listing
class KeysOnly(Table):
    def query(self, index, *arguments, **options):
        return super().query("keys only", *arguments, **options)
class ByKeys(Listing):
    def _page(self, query, read, last):
        keys = [{"recording_id": row["recording_id"]} for row in read]
        return super()._page(query, self._table.get_many(keys, (*LISTED, *ADDED)), last)
    def _added(self, rows):
        return rows
table = KeysOnly(serve_catalogue.dynamodb, "RecordingsTable")
serve_catalogue.recordings = ByKeys(table, serve_catalogue.recordings._app_id)
handler = serve_catalogue.handler
"""
MEETING = "a meeting's page"
MEETING_BY_KEYS = "the same by keys"


class Index:
    """The index by time in memory, with counts of the calls and of the rows read."""

    def __init__(self, size: int) -> None:
        start = datetime(2026, 1, 1, tzinfo=UTC)
        self._rows = [_row(start + timedelta(minutes=n), n) for n in range(size)]
        self._keys = [(row["invoked_at"]["S"], row["recording_id"]["S"]) for row in self._rows]
        self._by_id = {row["recording_id"]["S"]: row for row in self._rows}
        self.calls = self.read = 0

    def key(self, place: float) -> tuple[str, str]:
        """Return the key of the row at a place from 0 (oldest) to 1 (newest)."""
        return self._keys[int(len(self._keys) * place)]

    def get_batch(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a BatchGetItem of existing rows as DynamoDB does; none has a label or a hold."""
        [(name, options)] = request["RequestItems"].items()
        self.calls, self.read = self.calls + 1, self.read + len(options["Keys"])
        names = set(options["ExpressionAttributeNames"].values())
        whole = [self._by_id[key["recording_id"]["S"]] for key in options["Keys"]]
        found = [{name: row[name] for name in row.keys() & names} for row in whole]
        return {"Responses": {name: found}, "UnprocessedKeys": {}}

    def query(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a Query as DynamoDB does, as far as the list uses it; all rows are of one key."""
        values = request["ExpressionAttributeValues"]
        low = bisect_left(self._keys, (values.get(":since", {"S": "0"})["S"], ""))
        high = bisect_right(self._keys, (values.get(":until", {"S": "9"})["S"], "~"))
        backwards = not request.get("ScanIndexForward", True)
        if after := request.get("ExclusiveStartKey"):
            place = bisect_left(self._keys, (after["invoked_at"]["S"], after["recording_id"]["S"]))
            low, high = (low, place) if backwards else (place + 1, high)
        limit = request["Limit"]
        low, end = (max(low, high - limit), high) if backwards else (low, min(high, low + limit))
        found = self._rows[low:end]
        if backwards:
            found.reverse()
        self.calls, self.read = self.calls + 1, self.read + len(found)
        last = {}
        if found and len(found) == limit:
            names = ("app_id", "invoked_at", "recording_id")
            last = {"LastEvaluatedKey": {name: found[-1][name] for name in names}}
        if ":status" in values:
            found = [row for row in found if row["status"] == values[":status"]]
        if request["IndexName"] == "keys only":
            found = [{name: row[name] for name in ("recording_id", "invoked_at")} for row in found]
        return {"Items": found, "Count": len(found), **last}


def _row(time: datetime, number: int) -> dict[str, Any]:
    texts = {
        "recording_id": f"97cb480d-5840-4528-ace3-{number:012}",
        "app_id": APP_ID,
        "status": "UPLOADED" if number % RECORDINGS_PER_ERROR else "ERRORED",
        "meeting_id": f"50c8940e-1b97-402a-97d6-{number % 97:012}",
        "session_id": f"05e57591-d89e-45c9-ae44-{number:012}",
        "meeting_title": "Weekly sync",
        "invoked_at": f"{time:%Y-%m-%dT%H:%M:%S}.000Z",
        "started_at": f"{time:%Y-%m-%dT%H:%M:%S}.000Z",
        "stopped_at": f"{time:%Y-%m-%dT%H:%M:%S}.000Z",
        "file_name": "weekly-sync_1780480804000.mp4",
        "archived": "yes",
    }
    row: dict[str, Any] = {name: {"S": text} for name, text in texts.items()}
    return row | {"duration_seconds": {"N": "1800"}, "file_size": {"N": "149999400"}}


@contextmanager
def dynamodb(index: Index) -> Iterator[str]:
    """Serve the index as DynamoDB while the block runs; yield the endpoint's URL."""

    class Api(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            is_query = self.headers["X-Amz-Target"].endswith(".Query")
            answer = index.query(request) if is_query else index.get_batch(request)
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Ignore errors: a connection breaks when the bench kills a measured function."""

    server = Server(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def queries(index: Index) -> dict[str, dict[str, str]]:
    """Return the query strings to measure, by name."""
    sys.path.insert(0, str(ROOT / "functions"))
    from recordings.listing import Position, Query, cursor

    middle = cursor(Query(), Position(*index.key(0.5)))
    return {
        "newest page": {},
        "page in the middle": {"cursor": middle},
        "a rare status": {"status": "ERRORED"},
    }


def event(query: Mapping[str, str]) -> dict[str, Any]:
    """Return API Gateway's event of a request for the list with a query string."""
    request: dict[str, Any] = json.loads(
        (ROOT / "events/serve-catalogue.list-recordings.json").read_text()
    )
    request["queryStringParameters"] = dict(query) or None
    request["multiValueQueryStringParameters"] = {name: [text] for name, text in query.items()}
    return request


def measure() -> dict[tuple[str, int], tuple[float, float, float]]:
    """Return the figures of an invocation by name of the query and size of the table.

    The figures are: seconds when warm, calls of DynamoDB, and rows read.
    """
    package = next(p for p in BUILD.iterdir() if (p / "serve_catalogue.py").is_file())
    warm: dict[tuple[str, int], list[float]] = {}
    counts: dict[tuple[str, int], tuple[float, float]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / ".local")))
        (folder / "bare.py").write_text(BARE)
        (folder / "by_keys.py").write_text(BY_KEYS)
        indexes = {size: Index(size) for size in SIZES}
        origins = {size: stack.enter_context(dynamodb(index)) for size, index in indexes.items()}
        for number in range(ROUNDS):
            for size, index in indexes.items():
                environment = _environment(origins[size], package)
                runs = {
                    name: (package, "serve_catalogue.handler", query)
                    for name, query in queries(index).items()
                }
                a_meeting = {"meeting_id": MEETING_ID}
                runs[MEETING] = (package, "serve_catalogue.handler", a_meeting)
                runs[MEETING_BY_KEYS] = (folder, "by_keys.handler", a_meeting)
                runs["bare call"] = (folder, "bare.handler", {})
                for name, (path, handler, query) in runs.items():
                    index.calls = index.read = 0
                    with Runtime(PYTHON, path, handler, environment) as runtime:
                        run = runtime.run(event(query), WARM_INVOCATIONS)
                    warm.setdefault((name, size), []).append(run.clock.warm)
                    counts[name, size] = (
                        index.calls / (WARM_INVOCATIONS + 1),
                        index.read / (WARM_INVOCATIONS + 1),
                    )
            print(f"round {number + 1} of {ROUNDS}", end="\r", file=sys.stderr, flush=True)
    return {key: (statistics.median(times), *counts[key]) for key, times in warm.items()}


def _environment(origin: str, package: Path) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": origin,
        # The handlers of the bench import from the package too.
        "PYTHONPATH": f"{package}",
        "POWERTOOLS_METRICS_NAMESPACE": "bench",
        "APP_ID": APP_ID,
        "REALTIMEKIT_APP_URL": f"{origin}/not-used",
        "API_TOKEN_SECRET_ARN": "not-read",
        "RECORDINGS_TABLE": "RecordingsTable",
        "WORK_TABLE": "WorkTable",
        "UPSTREAM_REQUESTS_PER_5_MINUTES": "1000",
        "ARCHIVE_BUCKET": "",
        "RETENTION_DAYS": "0",
        "ALLOWED_ORIGINS": "",
        "QUEUE_URLS": "ingest=http://127.0.0.1",
    }


def main() -> None:
    """Measure the pages and print the table."""
    found = measure()
    small, large = SIZES
    print(f"{'':20} {'rows':>8} {'ms':>7} {'÷ bare':>7} {'1/s':>6} {'calls':>6} {'rows read':>10}")
    for (name, size), (seconds, calls, read) in found.items():
        bare = found["bare call", size][0]
        print(
            f"{name:20} {size:8,} {seconds * 1000:7.2f} {seconds / bare:7.2f}"
            f" {1 / seconds:6.0f} {calls:6.0f} {read:10.0f}"
        )
    for name in dict.fromkeys(name for name, _ in found):
        ratio = found[name, large][0] / found[name, small][0]
        print(f"{name}: {large:,} rows take {ratio:.2f} times as long as {small:,}")
    for size in SIZES:
        ratio = found[MEETING_BY_KEYS, size][0] / found[MEETING, size][0]
        print(f"{MEETING}: by keys it takes {ratio:.2f} times as long, with {size:,} rows")


if __name__ == "__main__":
    main()
