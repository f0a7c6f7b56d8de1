"""The ordinary life of a recording, from its first webhook until it is archived, with its requests.

A meeting of half an hour is recorded. Five webhooks are delivered once each, in order: the status
updates INVOKED, RECORDING, UPLOADING and UPLOADED, and meeting.ended. If the session leaves files,
their webhooks follow. Then come the looks at the session's files. The functions are those that
would be deployed. Each has one process, which stays warm, as under a steady load. This module calls
them in place of API Gateway, the queues, the stream and the schedules. To let time pass, it moves
the due times in the work table back, and for the looks the recording's end in its row.
"""

from __future__ import annotations

import base64
import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from local.stack import ROOT, SEED, WEBHOOK_EVENTS, LocalStack, parameters
from realtimekit_simulator import (
    DEFAULT_TOKEN,
    HOST_ENDED_MEETING,
    Clock,
    Recording,
    Simulator,
    Status,
    TimelineEvent,
    World,
)

from .runtime import Runtime
from .units import Units
from .wire import API_HOST, AWS_DOMAIN, KEY_HOST, REGION, Exchange, Request, Wire, forward

PYTHON = ROOT / ".venv-runtime/bin/python"
BUILD = ROOT / ".local/build"
LOOPBACK = Path(__file__).parent / "loopback"
MEETING_SECONDS = 1800
UPLOAD_SECONDS = 120
TICK_SECONDS = 60
# A recording is checked hourly, so its check is due after two hours.
CHECK_DUE_SECONDS = 7200
# The kinds of files that a session leaves at most; the last comes four minutes after its end.
SESSION_FILES = ("transcript", "summary", "chat")
SESSION_FILES_SECONDS = 240
LIVES = ("the recording alone", "no session files", "all session files")
# The artifacts that these files become.
KINDS = ("transcript", "captions", "summary", "chat")
# The looks at a session's files are an hour and 25 hours after the recording's end.
LOOKS = (timedelta(hours=1, minutes=1), timedelta(hours=25, minutes=1))
# Bytes of START, END and REPORT, the lines that Lambda writes to the log for each invocation.
PLATFORM_LOG_BYTES = 380


@dataclass(frozen=True)
class Function:
    """Settings of a deployed function."""

    handler: str
    memory_mb: int
    environment: Mapping[str, str]
    logging: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the handler's file, without .py."""
        return self.handler.partition(".")[0]

    @property
    def platform_log_bytes(self) -> int:
        """Bytes of the lines that Lambda itself writes to the log for each invocation."""
        return 0 if self.logging.get("SystemLogLevel") == "WARN" else PLATFORM_LOG_BYTES

    @property
    def log_environment(self) -> dict[str, str]:
        """Variables that Lambda sets for a function whose log is JSON."""
        is_json = self.logging.get("LogFormat") == "JSON"
        return {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "INFO"} if is_json else {}


@dataclass(frozen=True)
class Invocation:
    """An invocation of a function, with its event and its requests.

    `exchanges` has the requests over the wire with their answers. `media` has the URL and the Range
    header of each request for RealtimeKit's media.
    """

    event: Any
    exchanges: list[Exchange]
    media: list[tuple[str, str]]


@dataclass
class Count:
    """Counts of a recording's life.

    `calls` has the calls by service, `waits` the calls by service for each function. `events` is
    the number of events put on the event bus.
    """

    deliveries: int = 0
    invocations: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    waits: dict[str, Counter[str]] = field(default_factory=dict)
    events: int = 0
    log_bytes: int = 0


def package() -> Path:
    """Return the folder that `make package` built, which all functions share."""
    [folder] = [path for path in BUILD.iterdir() if path.is_dir()]
    return folder


def sample(name: str) -> Any:
    """Return the first sample event in events/ whose file name starts with `name` and a dot."""
    paths = sorted((ROOT / "events").glob(f"{name}.*.json"))
    if not paths:
        raise FileNotFoundError(
            f"There is no file events/{name}.*.json. Add one: each function needs a sample event."
        )
    return json.loads(paths[0].read_text())


class Play:
    """The deployed stack, whose functions run here, and the calls that AWS would make to them."""

    def __init__(self, stack: LocalStack, simulator: Simulator, wire: Wire, folder: Path) -> None:
        self.stack = stack
        self.simulator = simulator
        self.wire = wire
        self.units = Units(stack.client("dynamodb"))
        self.count = Count()
        self.invocations: dict[str, list[Invocation]] = {}
        self.at_start: dict[str, list[Exchange]] = {}
        self._consumers: dict[str, str] = {}
        self.functions = {function.name: function for function in self._deployed()}
        self._log = (folder / "log").open("w+b")
        self._running: dict[str, Runtime] = {}
        self._ended = ExitStack()
        self._stop_schedules()
        answerer = forward(stack.description["aws_endpoint_url"], simulator.url)
        wire.answerer = self.units.counted(answerer)
        self._streams = stack.client("dynamodbstreams")
        self._iterator = self._first_iterator()

    def play_life(
        self, meeting_seconds: int = MEETING_SECONDS, session_files: Collection[str] = ()
    ) -> Recording:
        """Record a meeting and deliver its webhooks, until the recording is archived; return it.

        `session_files` are the kinds of files that the session leaves. Raise `RuntimeError` if the
        recording is not archived at the end.
        """
        world = self.simulator.world
        began = world.clock.now()
        options = replace(world.defaults, upload_seconds=UPLOAD_SECONDS, file_size=100_000)
        meeting = world.create_meeting(title="Weekly sync")
        session = world.start_session(meeting, session_files=session_files)
        recording = world.start_recording(session, options)
        self._run_minutes(began, meeting_seconds)
        world.end_session(session, reason=HOST_ENDED_MEETING)
        seconds = SESSION_FILES_SECONDS if session_files else UPLOAD_SECONDS
        self._run_minutes(world.clock.now(), seconds + TICK_SECONDS)
        row = self._item("RecordingsTable", _key(recording))
        if row.get("archived") != {"S": "yes"}:
            raise RuntimeError(
                f"The recording was not archived. End of the log: {self.logged()[-2000:]}"
            )
        return recording

    def play_looks(self, recording: Recording) -> None:
        """Let the looks at the files of the recording's session take place.

        Raise `RuntimeError` if a file has no state at the end.
        """
        for age in LOOKS:
            self._move_end(recording, age)
            # Twice: RealtimeKit's clock is ahead of the functions', and so is the end it named.
            self._pass_time(2 * age.total_seconds())
            self.tick()
        artifacts = self._item("RecordingsTable", _key(recording))["artifacts"]["M"]
        if any("archive" not in artifacts.get(kind, {"M": {}})["M"] for kind in KINDS):
            raise RuntimeError(
                f"A session's file has no state. End of the log: {self.logged()[-2000:]}"
            )

    def _move_end(self, recording: Recording, age: timedelta) -> None:
        """Let the recording have ended so long ago by the functions' clock; no function sees how.

        The stream's record of that is passed over.
        """
        self.units.dynamodb.update_item(
            TableName=self._name_of("RecordingsTable"),
            Key=_key(recording),
            UpdateExpression="SET stopped_at = :time",
            ExpressionAttributeValues={":time": {"S": _timestamp(datetime.now(UTC) - age)}},
        )
        answer = self._streams.get_records(ShardIterator=self._iterator)
        self._iterator = answer["NextShardIterator"]

    def invoke(self, name: str, event: Any) -> Any:
        """Invoke a function once and return its answer; start its process if it does not run."""
        runtime = self._runtime(name)
        seen = len(self.simulator.requests)
        _, answer = runtime.invoke(event)
        media = [
            (f"{self.simulator.url}{request.path}?{request.query}", request.range or "")
            for request in self.simulator.requests[seen:]
            if request.path.startswith("/media/")
        ]
        invocation = Invocation(event, self.wire.drain(), media)
        self.invocations.setdefault(name, []).append(invocation)
        self._count(name, [request for request, _ in invocation.exchanges])
        return answer

    def _runtime(self, name: str) -> Runtime:
        if name not in self._running:
            runtime = Runtime(
                PYTHON,
                package(),
                self.functions[name].handler,
                self.environment(name),
                log=self._log.fileno(),
            )
            self._running[name] = self._ended.enter_context(runtime)
            self.at_start[name] = self.wire.drain()
        return self._running[name]

    def _count(self, name: str, requests: list[Request]) -> None:
        self.count.invocations[name] += 1
        kinds = list(map(_kind, requests))
        self.count.calls.update(kinds)
        self.count.waits.setdefault(name, Counter()).update(kinds)
        self.count.events += sum(
            len(request.parameters["Entries"])
            for request in requests
            if request.target[1] == "PutEvents"
        )
        self.count.log_bytes = self._log.seek(0, os.SEEK_END)

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of a function's process.

        It has the function's own settings, and those by which its requests reach the wire.
        """
        local = self.stack.description["aws_endpoint_url"].replace("127.0.0.1", "localhost")
        aws = f"https://sqs.{REGION}{AWS_DOMAIN}"
        settings = self.functions[name].environment
        return {
            **{key: value.replace(local, aws) for key, value in settings.items()},
            **self.functions[name].log_environment,
            **self.wire.environment,
            "PYTHONPATH": f"{LOOPBACK}:{package()}",
        }

    def invoke_other_functions(self) -> None:
        """Invoke each function that a recording's life does not need, with a sample event."""
        self._make_a_check_due()
        for name in self.functions:
            if name not in self.invocations:
                self.invoke(name, sample(name.replace("_", "-")))

    def exchanges(self, name: str) -> list[Exchange]:
        """Return all requests of a function with their answers, from its initialisation on."""
        invocations = self.invocations[name]
        later = [exchange for invocation in invocations for exchange in invocation.exchanges]
        return [*self.at_start[name], *later]

    def busiest(self, name: str) -> Invocation:
        """Return the invocation of a function with the most requests, the last of equals."""
        invocations = self.invocations[name]
        most = max(len(invocation.exchanges) for invocation in invocations)
        return [each for each in invocations if len(each.exchanges) == most][-1]

    def logged(self) -> str:
        """Return the log of all functions."""
        self._log.seek(0)
        return self._log.read().decode()

    def close(self) -> None:
        """End the functions' processes and close their log."""
        self._ended.close()
        self._log.close()

    def _deployed(self) -> Iterator[Function]:
        functions = self.stack.client("lambda")
        for settings in functions.list_functions()["Functions"]:
            function = Function(
                settings["Handler"],
                settings["MemorySize"],
                settings["Environment"]["Variables"],
                settings["LoggingConfig"],
            )
            self._take_over(settings["FunctionName"], function.name)
            yield function

    def _take_over(self, deployed: str, name: str) -> None:
        """Stop the emulator from calling a function, and note the queues to call it for."""
        functions = self.stack.client("lambda")
        queues = {queue["arn"]: queue["url"] for queue in self.stack.description["queues"].values()}
        mappings = functions.list_event_source_mappings(FunctionName=deployed)
        for mapping in mappings["EventSourceMappings"]:
            functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
            if url := queues.get(mapping["EventSourceArn"]):
                self._consumers[url] = name

    def _stop_schedules(self) -> None:
        events = self.stack.client("events")
        for rule in events.list_rules()["Rules"]:
            events.disable_rule(Name=rule["Name"])

    def _first_iterator(self) -> str:
        table = self.stack.description["tables"]["RecordingsTable"]["name"]
        [stream] = self._streams.list_streams(TableName=table)["Streams"]
        description = self._streams.describe_stream(StreamArn=stream["StreamArn"])
        [shard] = description["StreamDescription"]["Shards"]
        answer = self._streams.get_shard_iterator(
            StreamArn=stream["StreamArn"],
            ShardId=shard["ShardId"],
            ShardIteratorType="TRIM_HORIZON",
        )
        return str(answer["ShardIterator"])

    def _run_minutes(self, since: datetime, seconds: int) -> None:
        """Let time pass minute by minute, and deliver RealtimeKit's webhooks in their order."""
        for start in range(0, seconds, TICK_SECONDS):
            minute = since + timedelta(seconds=start)
            until = minute + timedelta(seconds=TICK_SECONDS)
            for event in self.simulator.world.timeline(minute, until):
                if event.name in WEBHOOK_EVENTS:
                    self._pass_time((event.at - self.simulator.world.clock.now()).total_seconds())
                    self._deliver(event)
            self._pass_time((until - self.simulator.world.clock.now()).total_seconds())
            self.tick()

    def _pass_time(self, seconds: float) -> None:
        if seconds <= 0:
            return
        self.simulator.world.clock.advance(seconds)
        dynamodb, table = self.units.dynamodb, self._name_of("WorkTable")
        for item in dynamodb.scan(TableName=table)["Items"]:
            for name in ("due_at", "lease", "since"):
                if name in item:
                    time = datetime.fromisoformat(item[name]["S"]) - timedelta(seconds=seconds)
                    item[name] = {"S": _timestamp(time)}
            dynamodb.put_item(TableName=table, Item=item)

    def _name_of(self, table: str) -> str:
        return str(self.stack.description["tables"][table]["name"])

    def _make_a_check_due(self) -> None:
        """Start a long recording and let time pass until its check is due, then run the check."""
        world = self.simulator.world
        began = world.clock.now()
        world.start_recording(world.start_session(world.create_meeting(title="Weekly sync")))
        self._run_minutes(began, TICK_SECONDS)
        self._pass_time(CHECK_DUE_SECONDS)
        self.tick()

    def _item(self, table: str, key: Any) -> Any:
        return self.units.dynamodb.get_item(TableName=self._name_of(table), Key=key)["Item"]

    def _deliver(self, event: TimelineEvent) -> None:
        message = self.simulator.webhooks.message(event)
        request = sample("receive-webhook")
        signature = self.simulator.webhooks.key.sign(message.body)
        request["body"] = message.body.decode()
        request["multiValueHeaders"]["rtk-signature"] = [signature]
        answer = self.invoke("receive_webhook", request)
        # INVOKED is acknowledged, and asks for nothing.
        expected = 200 if event.status is Status.INVOKED else 202
        if answer["statusCode"] != expected:
            raise RuntimeError(f"A webhook must be answered with {expected}, not with {answer}.")
        self.count.deliveries += 1
        self._process_queues()

    def tick(self) -> None:
        """Call the follow-up function as its schedule does, but only if a check is due."""
        table = self._name_of("WorkTable")
        if any(_is_due(item) for item in self.units.dynamodb.scan(TableName=table)["Items"]):
            self.invoke("follow_up", sample("follow-up"))
            self._process_queues()

    def _process_queues(self) -> None:
        """Process messages and stream records until the queues and the stream are empty."""
        while any(
            [self._publish(), *(self._consume(url, name) for url, name in self._consumers.items())]
        ):
            pass

    def _consume(self, url: str, name: str) -> bool:
        sqs = self.stack.client("sqs")
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        if not found:
            return False
        [record] = sample("ingest-recording")["Records"]
        records = [{**record, "messageId": m["MessageId"], "body": m["Body"]} for m in found]
        answer = self.invoke(name, {"Records": records})
        if answer["batchItemFailures"]:
            raise RuntimeError(f"{name} failed. End of the functions' log: {self.logged()[-2000:]}")
        for message in found:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        # Two calls by Lambda's poller: it receives a batch, and deletes it.
        self.count.calls["sqs"] += 2
        return True

    def _publish(self) -> bool:
        answer = self._streams.get_records(ShardIterator=self._iterator)
        self._iterator = answer["NextShardIterator"]
        if not answer["Records"]:
            return False
        records = json.loads(json.dumps(answer["Records"], default=_plain))
        if self.invoke("publish_changes", {"Records": records})["batchItemFailures"]:
            raise RuntimeError(
                f"publish_changes failed. End of the functions' log: {self.logged()[-2000:]}"
            )
        return True


def _key(recording: Recording) -> dict[str, Any]:
    return {"recording_id": {"S": recording.id}}


def _timestamp(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z"


def _is_due(item: Mapping[str, Any]) -> bool:
    due_at = item.get("due_at", {}).get("S")
    return "pending" in item and datetime.fromisoformat(due_at) <= datetime.now().astimezone()


def _kind(request: Request) -> str:
    service = request.target[0].partition("_")[0].removeprefix("Amazon").lower()
    if service:
        return {"awsevents": "eventbridge"}.get(service, service)
    return "s3" if ".s3." in request.host else request.host


def _plain(value: object) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.timestamp() if isinstance(value, datetime) else str(value)


@contextmanager
def play(wire: Wire, folder: Path, **settings: str) -> Iterator[Play]:
    """Yield a `Play` with a new stack and a RealtimeKit that has no recordings yet.

    `settings` are parameters of the template.
    """
    world = World(clock=Clock(speed=0), seed=SEED)
    with Simulator(world) as simulator:
        there = {
            "RealtimeKitApiUrl": f"https://{API_HOST}/client/v4",
            "WebhookKeyUrl": f"https://{KEY_HOST}/.well-known/webhooks.json",
        }
        with LocalStack(parameters(simulator) | there | settings, DEFAULT_TOKEN) as stack:
            played = Play(stack, simulator, wire, folder)
            try:
                yield played
            finally:
                played.close()


def play_lives(wire: Wire, folder: Path) -> Iterator[tuple[Count, Units]]:
    """Yield the counts of the lives of `LIVES`, each of a new stack.

    First a stack that keeps no files of sessions. Then, with the looks at the session's files, a
    session that leaves no files, and one that leaves all.
    """
    with play(wire, folder, SessionFiles="") as played:
        played.play_life()
        yield played.count, played.units
    for session_files in ((), SESSION_FILES):
        with play(wire, folder) as played:
            played.play_looks(played.play_life(session_files=session_files))
            yield played.count, played.units
