"""The bench of the stack's capacity: a steady load, and a burst of meetings that end together.

    make bench-capacity
    make bench-capacity BESIDE=../earlier/functions

The functions' handlers run in this process, one invocation after another, with a simulated time.
An invocation begins when a poller, the stream or a schedule would call it. It lasts as long as its
requests: 5 ms for AWS, 100 ms for RealtimeKit, and a copy at 75 MB/s. So invocations overlap in
time, but an invocation sees the writes of one that began before it as if they were done. AWS is
`account`, and RealtimeKit is the simulator. Code of two versions runs in two processes.
"""

from __future__ import annotations

import argparse
import heapq
import importlib
import itertools
import json
import os
import statistics
import subprocess
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from local.stack import ROOT, WEBHOOK_EVENTS
from local.template import load
from realtimekit_simulator import (
    DEFAULT_TOKEN,
    HOST_ENDED_MEETING,
    RecordingOptions,
    Simulator,
    TimelineEvent,
    World,
)

from .account import Account, Message, Queue
from .capacity import Item
from .cost import REALTIMEKIT_SECONDS
from .dynamodb import Tables

sys.path.insert(0, str(ROOT / "tests"))

from faults.clock import SharedClock
from faults.event_sources import MAX_RECEIVES, Schedule
from faults.worker import Context

ORIGIN = datetime(2026, 6, 1, 10, 0, 5, tzinfo=UTC)
# Half an hour of composite video (RealtimeKit's sample), at the speed that a function was reported
# to download with.
FILE_SECONDS = 150 / 75
UPLOAD_SECONDS = 60
MEETING_SECONDS = 300
# Recordings of a burst begin over so many seconds, and end within a minute.
BURST_BEGINS_OVER = 1800
BURST_ENDS_OVER = 60
# Lambda polls a queue and a stream some four times a second.
POLL_SECONDS = 0.25
STREAM_BATCH = 100
INGEST_BATCH = 10
# A simulation that is not done by then has lost a recording, or has too little capacity.
MAX_SECONDS = 24 * 3600
WINDOW_SECONDS = 300
QUEUES = ("ingest", "archive", "urgent")


class BenchClock(SharedClock):
    """The simulated time; an invocation that begins before another has ended moves it back."""

    def __init__(self, origin: datetime) -> None:
        self._now = origin.timestamp()

    def time(self) -> float:
        """Return the seconds since the epoch."""
        return self._now

    def move_to(self, seconds: float) -> None:
        """Move the clock to a time, also back."""
        self._now = seconds


@dataclass(kw_only=True)
class Load:
    """Recordings to come, and the settings of the stack."""

    recordings: int
    seconds: float
    is_burst: bool
    ingest_concurrency: int
    archive_concurrency: int
    per_5_minutes: int
    session_files: str


@dataclass
class Measured:
    """Times by recording, in seconds since the epoch, and the requests to RealtimeKit."""

    uploaded: dict[str, float] = field(default_factory=dict)
    catalogued: dict[str, float] = field(default_factory=dict)
    archived: dict[str, float] = field(default_factory=dict)
    requests: list[float] = field(default_factory=list)
    due: int = 0
    invocations: int = 0

    def on_write(self, now: float, table: str, before: Item | None, after: Item | None) -> None:
        """Note when a recording's row says that it is uploaded, and archived."""
        if table != "RecordingsTable" or after is None:
            return
        recording_id = after["recording_id"]["S"]
        if after.get("status") == {"S": "UPLOADED"}:
            self.catalogued.setdefault(recording_id, now)
        if after.get("archived") == {"S": "yes"}:
            self.archived.setdefault(recording_id, now)


class Lambda:
    """The handlers, called by pollers, the stream, schedules and webhooks in the order of time."""

    def __init__(self, clock: BenchClock, account: Account, measured: Measured) -> None:
        self._clock, self._account, self._measured = clock, account, measured
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._records: list[tuple[float, Mapping[str, Any]]] = []
        self._stream_is_busy = False
        self.dead: list[Message] = []
        account.tables.on_write = self._on_write

    def at(self, moment: float, action: Callable[[], None]) -> None:
        """Plan an action."""
        heapq.heappush(self._agenda, (moment, next(self._numbers), action))

    def run(self, is_done: Callable[[], bool], until: float) -> None:
        """Run the agenda until a moment, or until `is_done` returns True."""
        while self._agenda and self._agenda[0][0] <= until and not is_done():
            moment, _, action = heapq.heappop(self._agenda)
            self._clock.move_to(moment)
            action()

    def invoke(self, function: str, event: Any, timeout: float) -> Any:
        """Call a handler, whose requests move the clock, and return its answer."""
        self._measured.invocations += 1
        context = Context(function, "request", self._clock.time() + timeout)
        return importlib.import_module(function).handler(event, context)

    def poll(
        self, queue: Queue, function: str, batch: int, concurrency: int, timeout: float
    ) -> None:
        """Let a function consume a queue, in so many invocations at once."""
        free = [concurrency]

        def take() -> None:
            if not free[0] or not (found := queue.receive(self._clock.time(), batch)):
                return
            free[0] -= 1
            event = {"Records": [_record(message) for message in found]}
            answer = self.invoke(function, event, timeout)
            failed = {item["itemIdentifier"] for item in answer["batchItemFailures"]}
            for message in found:
                if str(message.number) in failed:
                    self._hide(queue, message, 6 * timeout)
            self.at(self._clock.time(), release)

        def release() -> None:
            free[0] += 1
            take()

        queue.on_send = lambda visible_at: self.at(visible_at + POLL_SECONDS, take)

    def _hide(self, queue: Queue, message: Message, seconds: float) -> None:
        if message.receives >= MAX_RECEIVES:
            self.dead.append(message)
            return
        message.visible_at = self._clock.time() + seconds
        queue.put_back(message)

    def repeat(self, schedule: Schedule, timeout: float) -> None:
        """Call a function by its schedule."""

        def call() -> None:
            begun = self._clock.time()
            self.invoke(schedule.function, schedule.event, timeout)
            self.at(schedule.after(begun), call)

        self.at(schedule.after(self._clock.time()), call)

    def _on_write(self, table: str, before: Item | None, after: Item | None) -> None:
        now = self._clock.time()
        self._measured.on_write(now, table, before, after)
        if table == "RecordingsTable":
            images = {"NewImage": after, "OldImage": before}
            record = {
                "SequenceNumber": str(next(self._numbers)),
                **{name: image for name, image in images.items() if image is not None},
            }
            self._records.append((now, {"dynamodb": record}))
            self.at(now + POLL_SECONDS, self._publish)

    def _publish(self) -> None:
        """Call publish_changes with the next batch of the stream's only shard."""
        now = self._clock.time()
        batch = list(itertools.takewhile(lambda record: record[0] <= now, self._records))
        if self._stream_is_busy or not batch:
            return
        del batch[STREAM_BATCH:]
        self._stream_is_busy = True
        event = {"Records": [record for _, record in batch]}
        if self.invoke("publish_changes", event, 60)["batchItemFailures"]:
            raise RuntimeError("publish_changes failed, although no fault is simulated.")
        del self._records[: len(batch)]
        self.at(self._clock.time(), self._resume)

    def _resume(self) -> None:
        self._stream_is_busy = False
        self._publish()


def _record(message: Message) -> dict[str, Any]:
    return {
        "messageId": str(message.number),
        "body": message.body,
        "attributes": {
            "SentTimestamp": str(int(message.sent_at * 1000)),
            "ApproximateReceiveCount": str(message.receives),
        },
    }


def populate(world: World, load: Load) -> None:
    """Create the meetings of a load, each with a recording, in the future."""
    options = RecordingOptions(upload_seconds=UPLOAD_SECONDS, file_size=2_000)
    for number in range(load.recordings):
        part = number / load.recordings
        began = ORIGIN + timedelta(seconds=part * load.seconds)
        ended = began + timedelta(seconds=MEETING_SECONDS)
        if load.is_burst:
            began = ORIGIN + timedelta(seconds=part * BURST_BEGINS_OVER)
            ended = ORIGIN + timedelta(
                seconds=BURST_BEGINS_OVER + MEETING_SECONDS + part * BURST_ENDS_OVER
            )
        meeting = world.create_meeting(title=f"Meeting {number}", at=began)
        session = world.start_session(meeting, at=began)
        world.start_recording(session, options, at=began)
        world.end_session(session, reason=HOST_ENDED_MEETING, at=ended)


def environment(simulator: Simulator, load: Load) -> dict[str, str]:
    """Return the settings of all functions."""
    return {
        "AWS_DEFAULT_REGION": "eu-central-1",
        "POWERTOOLS_METRICS_NAMESPACE": "bench",
        "POWERTOOLS_LOG_LEVEL": "WARNING",
        "APP_ID": simulator.world.app_id,
        "ORGANIZATION_ID": "",
        "REALTIMEKIT_APP_URL": simulator.app_url,
        "API_TOKEN_SECRET_ARN": "token",
        "WEBHOOK_KEY_URL": f"{simulator.url}/.well-known/webhooks.json",
        "WEBHOOK_PUBLIC_KEY": "",
        "RECORDINGS_TABLE": "RecordingsTable",
        "WORK_TABLE": "WorkTable",
        "EVENT_BUS_NAME": "bus",
        "INGEST_QUEUE_URL": "ingest",
        "ARCHIVE_QUEUE_URL": "archive",
        "URGENT_ARCHIVE_QUEUE_URL": "urgent",
        "ARCHIVE_BUCKET": "archive",
        "ARCHIVE_PART_MIB": "64",
        "ARCHIVING": "on",
        "MEDIA_HOSTS": simulator.url,
        "SESSION_FILES": load.session_files,
        "RETENTION_DAYS": "0",
        "ALLOWED_ORIGINS": "",
        "UPSTREAM_REQUESTS_PER_5_MINUTES": str(load.per_5_minutes),
        "QUEUE_URLS": "ingest=ingest",
    }


def measure(functions: Path, load: Load) -> dict[str, Any]:
    """Run a load against the functions of a folder; return the figures."""
    clock = BenchClock(ORIGIN)
    clock.install()
    clock.install_sleep()
    # The clock has the methods of the simulator's.
    world = World(clock=clock, seed=1)  # type: ignore[arg-type]
    populate(world, load)
    measured = Measured()
    account = Account(
        Tables(load_template(functions)), clock, DEFAULT_TOKEN, upload_seconds=FILE_SECONDS
    )
    account.queues = {name: Queue() for name in QUEUES}
    service = Lambda(clock, account, measured)
    with Simulator(world) as simulator:
        _replace_outside(account, clock, measured, functions)
        os.environ.update(environment(simulator, load))
        _connect(service, account, measured, load, clock)
        for event in world.timeline(ORIGIN, ORIGIN + timedelta(days=2)):
            if event.name in WEBHOOK_EVENTS:
                at = event.at.timestamp()
                service.at(at + 1, _delivery(service, simulator, event))
                if event.recording and event.status == "UPLOADED":
                    measured.uploaded[event.recording.id] = at
        service.run(lambda: len(measured.archived) == load.recordings, _end(load))
    return _figures(load, account, measured, service)


def load_template(functions: Path) -> Mapping[str, Any]:
    """Return the template beside a folder of functions."""
    return load(functions.parent / "template.yaml")


def _end(load: Load) -> float:
    return ORIGIN.timestamp() + load.seconds + MAX_SECONDS


def _replace_outside(
    account: Account, clock: BenchClock, measured: Measured, functions: Path
) -> None:
    """Put the account in boto3's place, and let requests to RealtimeKit take time."""
    import boto3
    import urllib3

    sys.path.insert(0, str(functions))
    boto3.client = account.client  # type: ignore[assignment]
    urlopen = urllib3.PoolManager.urlopen

    def timed(pool: Any, method: str, url: str, *args: Any, **options: Any) -> Any:
        if "/client/v4/accounts/" in url:
            measured.requests.append(clock.time())
            clock.advance(REALTIMEKIT_SECONDS)
        return urlopen(pool, method, url, *args, **options)

    urllib3.PoolManager.urlopen = timed  # type: ignore[method-assign, assignment]


def _connect(
    service: Lambda, account: Account, measured: Measured, load: Load, clock: BenchClock
) -> None:
    """Connect the functions to their queues and schedules, as the template does."""
    queues = account.queues
    service.poll(queues["ingest"], "ingest_recording", INGEST_BATCH, load.ingest_concurrency, 60)
    for name in ("archive", "urgent"):
        service.poll(queues[name], "archive_recording", 1, load.archive_concurrency, 900)
    service.repeat(Schedule("follow_up", "rate(1 minute)", {}), 50)
    for expression, sweep in (
        ("rate(1 minute)", "tick"),
        ("cron(17 * * * ? *)", "hourly"),
        ("cron(41 3 * * ? *)", "daily"),
    ):
        service.repeat(Schedule("sweep_recordings", expression, {"sweep": sweep}), 55)

    def count_due() -> None:
        due = account.tables.tables["WorkTable"].indexes["due"].count_until(_timestamp(clock))
        measured.due = max(measured.due, due)
        service.at(clock.time() + 10, count_due)

    service.at(clock.time(), count_due)


def _delivery(service: Lambda, simulator: Simulator, event: TimelineEvent) -> Callable[[], None]:
    """Return the action that delivers an event to receive_webhook."""

    def deliver() -> None:
        message = simulator.webhooks.message(event)
        signature = simulator.webhooks.key.sign(message.body)
        request = {
            "body": message.body.decode(),
            "isBase64Encoded": False,
            "multiValueHeaders": {"rtk-signature": [signature]},
        }
        answer = service.invoke("receive_webhook", request, 10)
        if answer["statusCode"] not in (200, 202):
            raise RuntimeError(f"receive_webhook answered {answer}, not with 200 or 202.")

    return deliver


def _timestamp(clock: BenchClock) -> str:
    now = clock.now()
    return f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03}Z"


def _figures(load: Load, account: Account, measured: Measured, service: Lambda) -> dict[str, Any]:
    """Return the figures of a run. Raise `RuntimeError` if a file was uploaded twice."""
    twice = [key for key, count in account.objects.items() if count != 1]
    if twice or service.dead:
        raise RuntimeError(f"Uploaded twice: {twice[:3]}. Dead letters: {service.dead[:3]}")
    units = sum(account.tables.written.values())
    requests = sorted(measured.requests)
    busiest = max(
        (bisect_right(requests, begun + WINDOW_SECONDS) - n for n, begun in enumerate(requests)),
        default=0,
    )
    figures: dict[str, Any] = {
        "recordings": load.recordings,
        "not catalogued": load.recordings - len(measured.catalogued),
        "not archived": load.recordings - len(measured.archived),
    }
    for name, times in (("catalogued", measured.catalogued), ("archived", measured.archived)):
        seconds = sorted(at - measured.uploaded[key] for key, at in times.items())
        figures[f"s to {name}, median"] = statistics.median(seconds)
        figures[f"s to {name}, p99"] = seconds[int(len(seconds) * 0.99)]
    return figures | {
        "requests to RealtimeKit each": len(requests) / load.recordings,
        "most requests in 5 minutes": busiest,
        "deepest ingest queue": account.queues["ingest"].deepest,
        "deepest archive queue": account.queues["archive"].deepest,
        "most checks due": measured.due,
        "write units each": units / load.recordings,
        "invocations each": measured.invocations / load.recordings,
    }


def lines(title: str, figures: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a load's table, a column for each version of the code."""
    yield f"\n{title}"
    yield f"{'':32}" + "".join(f"{name:>14}" for name in figures)
    for name in next(iter(figures.values())):
        yield f"{name:32}" + "".join(f"{_number(each[name]):>14}" for each in figures.values())


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def loads(options: argparse.Namespace) -> dict[str, Load]:
    """Return the two loads of the options, by title."""
    common = {
        "ingest_concurrency": options.ingest,
        "archive_concurrency": options.archive,
        "per_5_minutes": options.budget,
        "session_files": options.session_files,
    }
    steady, seconds = round(options.a_day * options.minutes / 1440), options.minutes * 60
    return {
        f"{options.a_day:,} recordings a day, spread evenly; {options.minutes} minutes of it": Load(
            recordings=steady, seconds=seconds, is_burst=False, **common
        ),
        f"{options.burst:,} meetings that end within a minute": Load(
            recordings=options.burst, seconds=BURST_BEGINS_OVER, is_burst=True, **common
        ),
    }


def main() -> None:
    """Run both loads against each version of the code, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--a-day", type=int, default=150_000, help="Recordings a day.")
    parser.add_argument("--minutes", type=int, default=20, help="Length of the steady load.")
    parser.add_argument("--burst", type=int, default=2_000, help="Meetings that end together.")
    parser.add_argument("--budget", type=int, default=1_000, help="UpstreamRequestsPer5Minutes.")
    parser.add_argument("--ingest", type=int, default=5, help="IngestConcurrency.")
    parser.add_argument("--archive", type=int, default=10, help="ArchiveConcurrency.")
    parser.add_argument("--session-files", default="", help="SessionFiles.")
    parser.add_argument(
        "--beside", type=Path, help="Folder of the functions of another version, in its checkout."
    )
    parser.add_argument("--only", type=int, choices=(0, 1), help=argparse.SUPPRESS)
    parser.add_argument("--functions", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    planned = loads(options)
    if options.functions:
        _report(options.functions.resolve(), list(planned.values())[options.only])
        return
    versions = {"this": ROOT / "functions"}
    versions |= {"the other": options.beside.resolve()} if options.beside else {}
    for number, title in enumerate(planned):
        with ThreadPoolExecutor(len(versions)) as threads:
            found = list(threads.map(_run, versions.values(), [number] * len(versions)))
        print(*lines(title, dict(zip(versions, found, strict=True))), sep="\n", flush=True)


def _run(functions: Path, number: int) -> dict[str, Any]:
    """Run a load in a process of its own, since the handlers of two versions share their names."""
    arguments = ["--functions", str(functions), "--only", str(number)]
    process = subprocess.run(
        [sys.executable, "-m", "bench.throughput", *sys.argv[1:], *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    figures: dict[str, Any] = json.loads(process.stdout)
    return figures


def _report(functions: Path, planned: Load) -> None:
    """Measure a load, and print its figures as JSON; the functions' own output is discarded."""
    output = sys.stdout
    with Path(os.devnull).open("w") as sys.stdout:
        figures = measure(functions, planned)
    print(json.dumps(figures), file=output)


if __name__ == "__main__":
    main()
