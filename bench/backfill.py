"""The bench of a backfill: the cost of each recording by a sweep, beside fetching one by one.

    make bench-backfill

The functions are those that `make build` would deploy, under AWS's runtime client. RealtimeKit is
the simulator. DynamoDB is replaced by tables in memory, which count units as AWS documents them.
The budget lets all requests pass, so that the code is measured and not the budget. The speed that
the default budget allows is computed from the number of requests. The two ways take turns, so that
noise affects both; trust the ratios more than the absolute figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3

from local.template import load
from realtimekit_simulator import DEFAULT_TOKEN, Clock, RecordingOptions, Simulator, World
from realtimekit_simulator.world import UNSERVED_MEDIA

from . import capacity
from .dynamodb import ConditionFailedError, Tables
from .runtime import Runtime

ROOT = Path(__file__).parent.parent
PYTHON = ROOT / ".venv-runtime/bin/python"
BUILD = ROOT / ".local/build"
# The recordings are spread over 5 days: RealtimeKit still has their files (7 days).
SPREAD = timedelta(days=5)
# Recordings that one invocation fetches.
MAX_RECORDINGS_PER_FETCH = 1_000
# US dollars for a million units or requests: DynamoDB on demand and S3 in us-east-1 (AWS price
# lists, November 2026).
DOLLARS_A_MILLION = {"write": 0.625, "read": 0.125, "head": 0.40}
# Half of the default budget of requests to RealtimeKit, which is the share a sweep may use.
REQUESTS_A_SECOND = 23 / 15
BUCKET = "archive"

ONE_BY_ONE = """
from concurrent.futures import ThreadPoolExecutor
import urllib3
import sweep_recordings as sweep
from recordings.realtimekit import ApiToken, RealtimeKit
from recordings.budget import UpstreamBudget
from recordings.worklist import utcnow
THREADS = 8
catalogue = sweep.sweeper.ingestion.catalogue
realtimekit = RealtimeKit(
    sweep.APP_URL,
    ApiToken(sweep.boto3.client("secretsmanager"), sweep.API_TOKEN_SECRET_ARN),
    UpstreamBudget(sweep.work_table, sweep.APP_ID, sweep.REQUESTS_PER_5_MINUTES),
    urllib3.PoolManager(maxsize=THREADS),
)
def fetch(recording_id):
    asked_at = utcnow()
    catalogue.upsert(realtimekit.recording(recording_id), asked_at)
def handler(event, context):
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(fetch, event["recording_ids"]))
"""


@dataclass
class Way:
    """One of the two compared ways: its tables, and the counts of its work."""

    tables: Tables
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0
    requests: int = 0
    heads: int = 0

    @property
    def rows(self) -> int:
        """Number of recordings in the table."""
        return len(self.tables.tables["RecordingsTable"].rows)

    def forget(self) -> None:
        """Reset all counts to zero; keep the rows."""
        self.tables.forget()
        self.seconds = self.requests = self.heads = 0


def measured(way: Way, recordings: int) -> dict[str, float]:
    """Return the counts until now, divided by the number of recordings, by name of the measure."""
    tables, rows = way.tables, way.tables.tables["RecordingsTable"].rows.values()
    units: dict[str, Mapping[str, float]] = {"write": tables.written, "read": tables.read}
    sums = {kind: sum(by_cause.values()) for kind, by_cause in units.items()} | {"head": way.heads}
    totals = {
        "bytes of a row": sum(capacity.size(row) for row in rows),
        "requests to RealtimeKit": way.requests,
        "DynamoDB calls": sum(tables.calls.values()),
        "S3 HEADs": way.heads,
        "write units": sums["write"],
        "read units": sums["read"],
        "$ a million": sum(DOLLARS_A_MILLION[kind] * total for kind, total in sums.items()),
    }
    for kind, by_cause in units.items():
        totals |= {f"  {kind}: {cause}": total for cause, total in by_cause.items() if total}
    each = {measure: total / recordings for measure, total in totals.items()}
    in_budget = REQUESTS_A_SECOND / each["requests to RealtimeKit"]
    speeds = {"rows a second": recordings / way.seconds, "rows a second in the budget": in_budget}
    return {**each, **speeds}


ORDER = ("rows", "bytes", "requests", "DynamoDB", "S3", "write", "  write", "read", "  read", "$")


def lines(ways: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Yield the lines of the table, in which the parts of a sum follow it."""
    yield f"{'for each recording':36}" + "".join(f"{name:>12}" for name in ways)
    measures = sorted(
        {measure for way in ways.values() for measure in way},
        key=lambda measure: (
            next(place for place, word in enumerate(ORDER) if measure.startswith(word)),
            measure,
        ),
    )
    for measure in measures:
        yield f"{measure:36}" + "".join(_cell(way.get(measure, 0)) for way in ways.values())
    for measure in ("rows a second", "rows a second in the budget"):
        ratio = ways["sweep"][measure] / ways["one by one"][measure]
        yield f"{measure}: a sweep handles {ratio:.2f} times as many as one by one"


def _cell(value: float) -> str:
    text = f"{value:,.0f}" if value >= 100 else f"{value:.4f}" if value else "-"
    return f"{text:>12}"


class Aws(ThreadingHTTPServer):
    """Server that answers as DynamoDB, as Secrets Manager, and as an S3 that has every object."""

    def __init__(self, way: Way) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.way = way

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore broken connections: the bench kills a function when it has been measured."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # Buffered, so that the head goes out in one segment instead of one for each line.
    wbufsize = -1
    server: Aws

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        service, _, operation = self.headers["X-Amz-Target"].partition(".")
        if service == "secretsmanager":
            self._answer(200, {"SecretString": json.dumps({"api_token": DEFAULT_TOKEN})})
            return
        try:
            self._answer(200, self.server.way.tables.answer(operation, request))
        except ConditionFailedError:
            self._answer(400, {"__type": "ConditionalCheckFailedException"})

    def do_HEAD(self) -> None:
        self.server.way.heads += 1
        self._answer(200, {})

    def _answer(self, status: int, answer: Any) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Suppress the server's log, because the terminal shows the table."""


@contextmanager
def aws(way: Way) -> Iterator[str]:
    """Serve the way's AWS while the block runs; yield its endpoint's URL."""
    server = Aws(way)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Backfill:
    """A simulated RealtimeKit with many recordings, and the functions that catalogue them."""

    def __init__(self, simulator: Simulator, recordings: int, folder: Path) -> None:
        self._simulator = simulator
        self._folder = folder
        self._package = next(p for p in BUILD.iterdir() if (p / "sweep_recordings.py").is_file())
        (folder / "one_by_one.py").write_text(ONE_BY_ONE)
        world = simulator.world
        self.until = world.clock.now()
        self.since = self.until - SPREAD - timedelta(days=1)
        self.ids = [
            world.record_meeting(started_at=self.since + n * SPREAD / recordings, duration=300).id
            for n in range(recordings)
        ]

    def connect(self, way: Way, origin: str) -> None:
        """Set the environment of a way's functions, in which AWS is at `origin`."""
        way.environment = {
            "AWS_ENDPOINT_URL": origin,
            "PYTHONPATH": f"{self._folder}:{self._package}",
            "POWERTOOLS_METRICS_NAMESPACE": "bench",
            "APP_ID": self._simulator.world.app_id,
            "REALTIMEKIT_APP_URL": self._simulator.app_url,
            "API_TOKEN_SECRET_ARN": "token",
            "RECORDINGS_TABLE": "RecordingsTable",
            "WORK_TABLE": "WorkTable",
            "UPSTREAM_REQUESTS_PER_5_MINUTES": "1000000000",
            "ARCHIVE_BUCKET": BUCKET,
            "SESSION_FILES": "",
            "RETENTION_DAYS": "0",
            "EVENT_BUS_NAME": "not-used",
        }

    def begin(self, way: Way, *, daily: bool = False) -> str:
        """Queue a sweep, reset the counts, and return the sweep's ID.

        The sweep covers all recordings on request, or with `daily` those of the daily schedule.
        """
        sys.path.insert(0, str(ROOT / "functions"))
        from recordings.dynamodb import Table
        from recordings.sweeps import Sweeps, Trigger

        client = boto3.client(
            "dynamodb",
            endpoint_url=way.environment["AWS_ENDPOINT_URL"],
            region_name="eu-central-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - valid in this bench only
        )
        sweeps = Sweeps(Table(client, "WorkTable"), self._simulator.world.app_id)
        if daily:
            sweep = sweeps.schedule(Trigger.DAILY, timedelta(days=8))
        else:
            sweep = sweeps.request(self.since, self.until, dry_run=False)
        way.forget()
        return str(sweep and sweep.sweep_id)

    def tick(self, way: Way) -> None:
        """Invoke the sweep function once, as its schedule does each minute."""
        event = json.loads((ROOT / "events/sweep-recordings.tick.json").read_text())
        self._invoke(way, "sweep_recordings.handler", event)

    def fetch(self, way: Way, recording_ids: Sequence[str]) -> None:
        """Fetch each recording by its ID and write its row, with eight threads."""
        self._invoke(way, "one_by_one.handler", {"recording_ids": recording_ids})

    def _invoke(self, way: Way, handler: str, event: Any) -> None:
        self._simulator.request_log.clear()
        with Runtime(PYTHON, self._package, handler, way.environment) as runtime:
            way.seconds += runtime.run(event, 0).clock.first
        way.requests += len(self._simulator.requests)


def counts(way: Way, sweep_id: str) -> dict[str, int] | None:
    """Return the sweep's counts, or `None` while it is queued or running.

    Raise `RuntimeError` if the sweep failed or did not see everything.
    """
    row = way.tables.tables["WorkTable"].rows[f"sweep#{sweep_id}"]
    if row["state"]["S"] in ("queued", "running"):
        return None
    if row["state"]["S"] != "completed" or not row["complete"]["BOOL"]:
        raise RuntimeError(f"The sweep failed or is incomplete: {row}")
    return {name: int(number["N"]) for name, number in row["counts"]["M"].items()}


def mark_archived(way: Way) -> None:
    """Write into all rows the archive state that `archive_recording` writes after a copy."""
    state = {
        "state": {"S": "archived"},
        "bucket": {"S": BUCKET},
        "key": {"S": "a/key"},
        "size": {"N": "1"},
        "checksum_crc32": {"S": "pJ60Hw=="},
        "archived_at": {"S": "2026-06-03T10:30:31.020Z"},
    }
    table = way.tables.tables["RecordingsTable"]
    for key, row in list(table.rows.items()):
        files = row["artifacts"]["M"].items()
        artifacts = {name: {"M": {**file["M"], "archive": {"M": state}}} for name, file in files}
        table.put(key, {**row, "artifacts": {"M": artifacts}, "archived": {"S": "yes"}})


def measure(backfill: Backfill, swept: Way, fetched: Way) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the name and the figures of each measurement.

    Both ways run first, in turns. Then all rows count as archived, and two more sweeps follow: one
    on request ("again") and one by the schedule ("daily").
    """
    total = len(backfill.ids)
    sweep_id = backfill.begin(swept)
    while not (found := counts(swept, sweep_id)):
        backfill.tick(swept)
        while fetched.rows < swept.rows:
            backfill.fetch(fetched, backfill.ids[fetched.rows :][:MAX_RECORDINGS_PER_FETCH])
        print(f"{swept.rows:,} of {total:,}", end="\r", file=sys.stderr, flush=True)
    if (found["seen"], found["repaired"], swept.rows, fetched.rows) != (total,) * 4:
        raise RuntimeError(
            f"Both tables must hold all {total} recordings, but the sweep's has {swept.rows} and"
            f" the other {fetched.rows}. Counts of the sweep: {found}"
        )
    yield "sweep", measured(swept, total)
    yield "one by one", measured(fetched, total)
    mark_archived(swept)
    for name, daily in (("again", False), ("daily", True)):
        sweep_id = backfill.begin(swept, daily=daily)
        while not (found := counts(swept, sweep_id)):
            backfill.tick(swept)
        if found["seen"] != total or found["repaired"] or swept.tables.written["RecordingsTable"]:
            raise RuntimeError(
                f"A repeated sweep must see all {total} recordings and write none, but its counts"
                f" are {found} and its write units {swept.tables.written}."
            )
        yield name, measured(swept, total)


def main() -> None:
    """Measure both ways and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--recordings", type=int, default=20_000, help="Number of recordings to catalogue."
    )
    recordings = parser.parse_args().recordings
    template = load(ROOT / "template.yaml")
    world = World(
        clock=Clock(datetime.now(UTC), speed=0),
        seed=1,
        media_base_url=UNSERVED_MEDIA,
        # RealtimeKit records separate audio by default.
        defaults=RecordingOptions(separate_audio=True),
    )
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / ".local"))
        simulator = stack.enter_context(Simulator(world))
        backfill = Backfill(simulator, recordings, Path(folder))
        swept, fetched = Way(Tables(template)), Way(Tables(template))
        for way in (swept, fetched):
            backfill.connect(way, stack.enter_context(aws(way)))
        ways = dict(measure(backfill, swept, fetched))
    print(*lines(ways), sep="\n")


if __name__ == "__main__":
    main()
