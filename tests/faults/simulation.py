"""Days of a deployment, in no time: what calls the functions, and what goes wrong meanwhile.

The harness plays the parts of Lambda's event sources by AWS's rules, which the emulated ones do not
all follow: a message that was not dealt with is hidden until its visibility timeout is over, and
after five times is a dead letter; a stream's batch is tried again from where it failed, in halves.
Several invocations are under way at a time; at each request of theirs to AWS a seed decides who
goes on. When nothing can go on any more, the clock jumps to when something can.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from faults.clock import SharedClock
from faults.plan import NO_TROUBLES, ORIGIN, Delivery, Plan, Troubles, body_of
from faults.workers import PATIENCE_SECONDS, Reply, Request, Worker, Workers

from local.simulator import Recording, SigningKey, Simulator
from local.stack import ROOT, LocalStack

CONCURRENCY = 4
STEP_SECONDS = 0.02
MOST_RECEIVES = 5
# RealtimeKit's, as Dyte documented them.
MOST_ATTEMPTS = 4

Done = Callable[[Any], None]


@dataclass(slots=True)
class Invocation:
    """`done` is told the answer, or None where there is none. One that is `spared` has no trouble."""

    function: str
    event: Any
    done: Done
    spared: bool = False


@dataclass(slots=True)
class Run:
    """An invocation under way."""

    invocation: Invocation
    worker: Worker
    troubles: Troubles
    deadline: float
    requests: int = 0


class Queue:
    """An event source mapping of a queue."""

    def __init__(self, owner: Simulation, name: str, function: str, batch_size: int) -> None:
        self.name = name
        self._owner = owner
        self._function = function
        self._batch_size = batch_size
        self._sqs = owner.stack.client("sqs")
        queue = owner.stack.description["queues"][name]
        self._url, self._arn = queue["url"], queue["arn"]
        attributes = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["All"])
        self._visibility_timeout = int(attributes["Attributes"]["VisibilityTimeout"])

    def take(self) -> Invocation | None:
        """A batch, if there are messages."""
        size = self._owner.order.randint(1, self._batch_size)
        found = self._sqs.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=size, AttributeNames=["All"]
        ).get("Messages", [])
        if not found:
            return None
        self._owner.wake_in(self._visibility_timeout)
        self._owner.seen.extend((self.name, message["Body"]) for message in found)
        receives = max(int(message["Attributes"]["ApproximateReceiveCount"]) for message in found)
        return Invocation(
            self._function,
            {"Records": [self._record(message) for message in found]},
            lambda answer: self._done(found, answer),
            # Whatever is out of order is in order again before a message is given up.
            spared=receives >= MOST_RECEIVES - 1,
        )

    def _record(self, message: Any) -> dict[str, Any]:
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": self._arn,
            "awsRegion": "eu-central-1",
        }

    def _done(self, messages: list[Any], answer: Any) -> None:
        """What is not deleted comes again; so do some that should have been."""
        if answer is None:
            return
        failed = {item["itemIdentifier"] for item in answer["batchItemFailures"]}
        entries = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
            for number, message in enumerate(messages)
            if message["MessageId"] not in failed and not self._owner.forgets()
        ]
        if entries:
            self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)


class Stream:
    """The event source mapping of the recordings table's stream; one batch at a time, in order."""

    def __init__(self, owner: Simulation, arn: str, function: str, batch_size: int) -> None:
        self.records: list[Any] = []
        self._owner = owner
        self._function = function
        self._arn = arn
        self._whole = self._size = batch_size
        self._position = 0
        self._busy = False
        self._read_at = 0.0
        self._client = owner.stack.client("dynamodbstreams")
        described = self._client.describe_stream(StreamArn=arn)["StreamDescription"]
        [self._shard] = described["Shards"]

    def take(self) -> Invocation | None:
        """A batch, unless one is under way."""
        if self._busy:
            return None
        self._read()
        batch = self.records[self._position : self._position + self._size]
        if not batch:
            return None
        self._busy = True
        event = {"Records": json.loads(json.dumps(batch, default=str))}
        return Invocation(self._function, event, lambda answer: self._done(batch, answer))

    def _read(self) -> None:
        """An iterator is good for a quarter of an hour, and the stream's memory for a day."""
        last = self.records[-1]["dynamodb"]["SequenceNumber"] if self.records else ""
        now = self._owner.clock.time()
        if now - self._read_at > 800:
            self._iterator = self._client.get_shard_iterator(
                StreamArn=self._arn,
                ShardId=self._shard["ShardId"],
                ShardIteratorType="TRIM_HORIZON",
            )["ShardIterator"]
        answer = self._client.get_records(ShardIterator=self._iterator)
        self._iterator, self._read_at = answer["NextShardIterator"], now
        read = answer["Records"]
        self.records.extend(one for one in read if one["dynamodb"]["SequenceNumber"] > last)

    def _done(self, batch: list[Any], answer: Any) -> None:
        self._busy = False
        self._owner.news.add(self)
        if answer is None:
            self._size = max(1, len(batch) // 2)
            return
        failures = [item["itemIdentifier"] for item in answer["batchItemFailures"]]
        numbers = [record["dynamodb"]["SequenceNumber"] for record in batch]
        dealt_with = numbers.index(failures[0]) if failures else len(batch)
        self._position += dealt_with
        self._size = self._whole


class Schedule:
    """A rule that calls a function every so often. `due` is when the next call has something to do."""

    def __init__(self, function: str, rate: str) -> None:
        number, unit = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", rate).groups()
        self.function = function
        self.seconds = int(number) * {"minute": 60, "hour": 3600, "day": 86_400}[unit]
        self.due: float | None = None

    def tick_after(self, moment: float) -> float:
        """The first tick that is not before that."""
        return math.ceil(moment / self.seconds) * self.seconds


class Simulation:
    """One run of a plan. Afterwards `seen`, `answers` and `met` tell what there was of it."""

    def __init__(
        self,
        plan: Plan,
        clock: SharedClock,
        stack: LocalStack,
        simulator: Simulator,
        workers: Workers,
    ) -> None:
        self.plan, self.clock, self.stack, self.simulator = plan, clock, stack, simulator
        self.order = plan.chance("order")
        self.seen: list[tuple[str, str]] = []
        self.answers: list[tuple[Delivery, Any]] = []
        self.met: Counter[str] = Counter()
        self.told: set[str] = set()
        self._workers = workers
        self._dynamodb, self._events = stack.client("dynamodb"), stack.client("events")
        self._idle: dict[str, list[Worker]] = {}
        self._runs: list[Run] = []
        self._counts: Counter[str] = Counter()
        self._numbers = itertools.count()
        self._incidents: list[tuple[float, int, Callable[[], None]]] = []
        self._asked: list[Invocation] = []
        self._wakes: list[float] = []
        self._forger = SigningKey()
        self._take_over()

    # The deployment.

    def _take_over(self) -> None:
        """The functions' settings and event sources are the template's; the emulator's rest."""
        functions, events = self.stack.client("lambda"), self.stack.client("events")
        deployed = functions.list_functions()["Functions"]
        self._settings = {
            one["Handler"].partition(".")[0]: (one["Environment"]["Variables"], one["Timeout"])
            for one in deployed
        }
        names = {one["FunctionArn"]: one["Handler"].partition(".")[0] for one in deployed}
        queues = {queue["arn"]: name for name, queue in self.stack.description["queues"].items()}
        self.queues: list[Queue] = []
        for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
            functions.delete_event_source_mapping(UUID=mapping["UUID"])
            arn, function = mapping["EventSourceArn"], names[mapping["FunctionArn"]]
            if arn in queues:
                self.queues.append(Queue(self, queues[arn], function, mapping["BatchSize"]))
            else:
                self.stream = Stream(self, arn, function, mapping["BatchSize"])
        self.news: set[Queue | Stream] = {self.stream, *self.queues}
        self.schedules: list[Schedule] = []
        for rule in events.list_rules()["Rules"]:
            events.disable_rule(Name=rule["Name"])
            [target] = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
            self.schedules.append(Schedule(names[target["Arn"]], rule["ScheduleExpression"]))

    # Time.

    def at(self, moment: float, incident: Callable[[], None]) -> None:
        """Let something happen at that time."""
        heapq.heappush(self._incidents, (moment, next(self._numbers), incident))

    def forgets(self) -> bool:
        """Whether a message that was dealt with comes again: queues deliver at least once."""
        return self.plan.faults and self.order.random() < 0.02

    def wake_in(self, seconds: float) -> None:
        """Some message may be there by then."""
        self._wakes.append(self.clock.time() + seconds + STEP_SECONDS)

    def run(self) -> None:
        """Until there is nothing more to come."""
        while True:
            self._settle()
            moment = self._next_moment()
            if moment is None:
                return
            self.clock.move_to(moment)
            self.news.update(self.queues)
            while self._incidents and self._incidents[0][0] <= self.clock.time():
                heapq.heappop(self._incidents)[2]()

    def _next_moment(self) -> float | None:
        now = self.clock.time()
        self._wakes = [moment for moment in self._wakes if moment > now]
        moments = [*self._wakes, *(incident[0] for incident in self._incidents[:1])]
        for schedule in self.schedules:
            # Time has gone on when this one is due: a tick is not missed.
            if schedule.tick_after(now + 0.001) < min(moments, default=math.inf):
                schedule.due = self._next_tick(schedule, now)
        moments.extend(schedule.due for schedule in self.schedules if schedule.due is not None)
        return min(moments, default=None)

    def _next_tick(self, schedule: Schedule, now: float) -> float | None:
        """Ticks that would find nothing to do are passed over."""
        if schedule.function == "follow_up":
            due = self._earliest_check()
            return None if due is None else schedule.tick_after(max(due, now + 0.001))
        tick = schedule.tick_after(now + 0.001)
        return tick if tick < ORIGIN.timestamp() + self.plan.busy_seconds + 86_400 else None

    def _earliest_check(self) -> float | None:
        times = [
            item["due_at"]["S"]
            for pending in ("yes", "urgent")
            for item in self._dynamodb.query(
                TableName=self.stack.description["tables"]["WorkTable"]["name"],
                IndexName="due",
                KeyConditionExpression="pending = :pending",
                ExpressionAttributeValues={":pending": {"S": pending}},
                Limit=1,
            )["Items"]
        ]
        return min((datetime.fromisoformat(time).timestamp() for time in times), default=None)

    def items(self, table: str) -> list[dict[str, Any]]:
        """A table's rows, as DynamoDB writes them."""
        name = self.stack.description["tables"][table]["name"]
        pages = self._dynamodb.get_paginator("scan").paginate(TableName=name)
        return [item for page in pages for item in page["Items"]]

    # Invocations.

    def _settle(self) -> None:
        """Until nobody can go on without time passing."""
        is_exhausted = False
        while self._runs or not is_exhausted:
            if not is_exhausted and len(self._runs) < CONCURRENCY:
                invocation = self._take()
                if invocation:
                    self._begin(invocation)
                is_exhausted = invocation is None
            else:
                run = self.order.choice(self._runs)
                self._step(run)
                is_exhausted = is_exhausted and run in self._runs

    def _take(self) -> Invocation | None:
        if self._asked:
            return self._asked.pop(self.order.randrange(len(self._asked)))
        for schedule in self.schedules:
            if schedule.due is not None and schedule.due <= self.clock.time():
                schedule.due = None
                return Invocation(schedule.function, {}, lambda answer: None)
        sources = [source for source in (*self.queues, self.stream) if source in self.news]
        self.order.shuffle(sources)
        for source in sources:
            if invocation := source.take():
                return invocation
            self.news.remove(source)
        return None

    def _begin(self, invocation: Invocation) -> None:
        function = invocation.function
        environment, timeout = self._settings[function]
        self._counts[function] += 1
        number = self._counts[function]
        troubles = NO_TROUBLES if invocation.spared else self.plan.troubles(function, number)
        idle = self._idle.setdefault(function, [])
        worker = idle.pop() if idle else self._workers.start(function, environment)
        deadline = self.clock.time() + min(timeout, troubles.seconds or timeout)
        name = f"{self.plan.seed}/{function}/{number}"
        worker.invoke(invocation.event, deadline=deadline, request_id=name, seed=name)
        self._runs.append(Run(invocation, worker, troubles, deadline))

    def _step(self, run: Run) -> None:
        """One request to AWS, or the answer, or the end."""
        happening = run.worker.happenings.get(timeout=PATIENCE_SECONDS)
        self.clock.advance(STEP_SECONDS)
        if isinstance(happening, Request):
            self._serve(run, happening)
        elif happening is None:
            raise AssertionError(f"{run.invocation.function} ended by itself")
        else:
            self._runs.remove(run)
            self._idle[run.invocation.function].append(run.worker)
            if "error" in happening:
                self.met[f"error: {run.invocation.function} {happening['error']}"] += 1
            run.invocation.done(happening.get("answer") if "error" not in happening else None)

    def _serve(self, run: Run, request: Request) -> None:
        run.requests += 1
        what = f"{request.service} {request.operation}"
        number, when = run.troubles.kills_at or (0, "")
        if self.clock.time() > run.deadline:
            self._kill(run, request, f"timed out: {run.invocation.function}")
        elif run.requests == number:
            if when == "after":
                self._forward(request)
            self._kill(run, request, f"killed {when}: {what}")
        elif fault := run.troubles.faults.get(run.requests):
            self.met[f"{fault}: {what}"] += 1
            request.reply.put(self._faulty(fault, request))
        else:
            request.reply.put(self._forward(request))

    def _forward(self, request: Request) -> Reply:
        """What it may have set going is looked for."""
        if request.operation.startswith("SendMessage"):
            self.news.update(self.queues)
            content = json.loads(request.body)
            for message in content.get("Entries", [content]):
                self.wake_in(message.get("DelaySeconds", 0))
        elif request.operation == "UpdateItem":
            self.news.add(self.stream)
        return self._workers.forward(request)

    def _kill(self, run: Run, request: Request, what: str) -> None:
        self.met[what] += 1
        self._runs.remove(run)
        self._workers.end(run.worker)
        request.reply.put(None)
        run.invocation.done(None)

    def _faulty(self, fault: str, request: Request) -> Reply | None:
        if fault == "dropped":
            return None
        if fault == "answer lost":
            self._forward(request)
            return None
        if fault == "refused in a 200" and request.operation in _REFUSALS:
            entries = json.loads(request.body)["Entries"]
            return _json(200, _REFUSALS[request.operation](entries))
        status, code = (500, "InternalError") if fault == "failed" else (400, "ThrottlingException")
        if request.service == "s3":
            status, code = (500, "InternalError") if fault == "failed" else (503, "SlowDown")
            xml = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>-</Message></Error>"
            body = b"" if request.method == "HEAD" else xml.encode()
            return Reply(status, {"Content-Type": "application/xml"}, body)
        return _json(status, {"__type": code, "message": "simulated fault"})

    # Webhooks.

    def deliver(self, delivery: Delivery) -> None:
        """By the way that is planned."""
        message = self.simulator.webhooks.message(delivery.event)
        body = body_of(message.body)
        if delivery.way == "bus":
            self._put_on_bus(message.event, body)
            self._tell(delivery)
            return
        key = self._forger if delivery.way == "forged" else self.simulator.webhooks.key
        event = json.loads((ROOT / "events/receive-webhook.meeting-ended.json").read_text())
        headers = {"Content-Type": ["application/json"], "RTK-Signature": [key.sign(body)]}
        event |= {"multiValueHeaders": headers, "body": body.decode(), "isBase64Encoded": False}
        done: Done = lambda answer: self._answered(delivery, answer)  # noqa: E731
        self._asked.append(Invocation("receive_webhook", event, done))

    def _put_on_bus(self, name: str, body: bytes) -> None:
        bus = self.stack.description["event_bus"]["name"]
        entry = {"EventBusName": bus, "Source": "realtimekit", "DetailType": name}
        answer = self._events.put_events(Entries=[{**entry, "Detail": body.decode()}])
        self.news.update(self.queues)
        assert answer["FailedEntryCount"] == 0

    def _answered(self, delivery: Delivery, answer: Any) -> None:
        self.answers.append((delivery, answer))
        status = answer["statusCode"] if answer else 502
        if 200 <= status < 300:
            self._tell(delivery)
        elif status >= 500 and delivery.attempt < MOST_ATTEMPTS:
            again = replace(delivery, attempt=delivery.attempt + 1)
            self.at(self.clock.time() + 1, lambda: self.deliver(again))

    def _tell(self, delivery: Delivery) -> None:
        """What is accepted is the stack's to see to."""
        if delivery.event.recording is not None:
            self.told.add(delivery.event.recording.id)
        elif delivery.event.name == "meeting.ended":
            self.told.update(recording.id for recording in delivery.event.session.recordings)

    def sync(self, recordings: Iterable[Recording]) -> None:
        """As an operator does: for each, until it is accepted."""
        sample = json.loads((ROOT / "events/serve-catalogue.sync-recording.json").read_text())
        for recording in recordings:
            event = {**sample, "pathParameters": {"recording_id": recording.id}}
            self._sync(recording, event)

    def _sync(self, recording: Recording, event: Any) -> None:
        def done(answer: Any) -> None:
            self.seen.append(("sync's answer", json.dumps(answer)))
            if answer and answer["statusCode"] == 200:
                self.told.add(recording.id)
            else:
                self.at(self.clock.time() + 60, lambda: self._sync(recording, event))

        self._asked.append(Invocation("serve_catalogue", event, done))


def _json(status: int, content: Any) -> Reply:
    headers = {"Content-Type": "application/x-amz-json-1.1"}
    return Reply(status, headers, json.dumps(content).encode())


_REFUSALS: dict[str, Callable[[list[Any]], Any]] = {
    "PutEvents": lambda entries: {
        "FailedEntryCount": len(entries),
        "Entries": [{"ErrorCode": "ThrottlingException", "ErrorMessage": "-"} for _ in entries],
    },
    "SendMessageBatch": lambda entries: {
        "Successful": [],
        "Failed": [
            {"Id": entry["Id"], "SenderFault": False, "Code": "InternalError"} for entry in entries
        ],
    },
}
