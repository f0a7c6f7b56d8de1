"""A simulation of days of a deployment, with faults, within minutes.

Several invocations are under way at a time. At each request to AWS a seed decides which invocation
continues, and whether the request fails. When no invocation can continue, the clock jumps to the next
time at which one can.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from faults.aws_errors import BATCHES, refusal, row_too_large
from faults.clock import SharedClock
from faults.event_sources import Invocation, QueueSource, Schedule, StreamSource
from faults.plan import (
    AGE_DAYS,
    CANARY,
    DAY,
    NO_TROUBLES,
    ORIGIN,
    ApiRequest,
    Delivery,
    Plan,
    Troubles,
    foreign,
)
from faults.workers import PATIENCE_SECONDS, Reply, Request, Worker, Workers
from local.stack import ROOT, LocalStack
from realtimekit_simulator import SigningKey, Simulator

CONCURRENCY = 4
# A request to AWS takes this long.
STEP_SECONDS = 0.02
# RealtimeKit's to deliver an event, as Dyte documented them, a second apart.
MAX_ATTEMPTS = 4
# A caller repeats an erasure that was not accepted.
ASKED_AGAIN_SECONDS = 600
# Without an answer of the function API Gateway gives one: a 503, says the template.
NO_ANSWER = {"statusCode": 503, "body": ""}
# Partitions of the index `due` that give a scheduled function work.
WAITING = {
    "follow_up": ("urgent", "yes", "erasure", "patient", "low"),
    "sweep_recordings": ("sweep",),
}
TICKS = 45
"""Ticks, a minute apart, in which the retention policy announces, and as many in which it erases."""
POISON = {
    "IngestQueue": ["no JSON", '{"v":9}', '{"v":1,"source":"webhook","recording_id":"none"}'],
    "ArchiveQueue": ['{"v":1,"source":"catalogue","task":"archive","recording_id":"none"}'],
}
"""Messages that can never be read, and must end in the dead-letter queues."""
UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")


@dataclass(slots=True)
class Run:
    """An invocation under way, at the request with which it waits for its turn."""

    invocation: Invocation
    worker: Worker
    troubles: Troubles
    deadline: float
    happening: Request | dict[str, Any] | None = None
    requests: int = 0
    writes: int = 0

    def wait(self) -> None:
        """Wait for the worker's next request or answer, while no other invocation runs."""
        self.happening = self.worker.happenings.get(timeout=PATIENCE_SECONDS)


class Simulation:
    """One run of a plan. `met` counts the faults, `heard` has the subscriber's events.

    `answers` has the answers to deliveries, `api_answers` those to requests of the API.
    `unwritable` is the id of the recording whose row DynamoDB refuses.
    """

    def __init__(
        self,
        plan: Plan,
        clock: SharedClock,
        stack: LocalStack,
        simulator: Simulator,
        workers: Workers,
    ) -> None:
        self.plan, self.stack, self.simulator = plan, stack, simulator
        self.met: Counter[str] = Counter()
        self.answers: list[tuple[Delivery, Any]] = []
        self.api_answers: list[tuple[ApiRequest, Any]] = []
        self.heard: list[Any] = []
        self._clock, self._workers = clock, workers
        self._dynamodb, self._bus = stack.client("dynamodb"), stack.client("events")
        self._sqs = stack.client("sqs")
        self._order = plan.chance("order")
        self.unwritable = plan.unwritable(simulator.world)
        self._table = stack.description["tables"]["RecordingsTable"]["name"]
        self._idle: dict[str, list[Worker]] = {}
        self._runs: list[Run] = []
        self._invocations: Counter[str] = Counter()
        self._agenda: list[tuple[float, int, Callable[[], Any]]] = []
        self._entries = itertools.count()
        self._asked: list[Invocation] = []
        self._unasked: dict[str, ApiRequest] = {}
        self._forger = SigningKey()
        self._take_over()

    def _take_over(self) -> None:
        """Take over the deployed functions' settings, event sources and schedules."""
        functions = self.stack.client("lambda")
        deployed = functions.list_functions()["Functions"]
        names = {one["FunctionArn"]: one["Handler"].partition(".")[0] for one in deployed}
        self._settings = {
            names[one["FunctionArn"]]: (one["Environment"]["Variables"], one["Timeout"])
            for one in deployed
        }
        urls = {queue["arn"]: queue["url"] for queue in self.stack.description["queues"].values()}
        self.queues: list[QueueSource] = []
        for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
            functions.delete_event_source_mapping(UUID=mapping["UUID"])
            arn, size = mapping["EventSourceArn"], mapping["BatchSize"]
            function = names[mapping["FunctionArn"]]
            if arn in urls:
                source = QueueSource(self._sqs, urls[arn], arn, function, size, self._order)
                self.queues.append(source)
            else:
                streams = self.stack.client("dynamodbstreams")
                self.stream = StreamSource(streams, arn, function, size, self._clock)
        self._news: set[QueueSource | StreamSource] = {self.stream, *self.queues}
        self._schedules: list[Schedule] = []
        for rule in self._bus.list_rules()["Rules"]:
            self._bus.disable_rule(Name=rule["Name"])
            [target] = self._bus.list_targets_by_rule(Rule=rule["Name"])["Targets"]
            event = json.loads(target.get("Input", "{}"))
            schedule = Schedule(names[target["Arn"]], rule["ScheduleExpression"], event)
            self._schedules.append(schedule)

    # Time.

    def run(self) -> None:
        """Run the plan to its end."""
        self._subscription = self._subscribe()
        self._prepare()
        self._go_on(ORIGIN.timestamp())

    def grow_old(self) -> None:
        """Let the recordings reach the age at which the retention policy erases them.

        The first day's ticks announce. A day later, while ticks erase, some callers set holds.
        """
        first = datetime.combine(ORIGIN + timedelta(days=AGE_DAYS), datetime.min.time(), UTC)
        begin = first.timestamp() + DAY + TICKS * 60
        for number in range(TICKS):
            self._at(first.timestamp() + number * 60, self._tick)
            self._at(begin + number * 60, self._tick)
        for request in self.plan.late_holds(self.simulator.world, begin):
            self._ask_at(request.at or begin, request)
        self._workers.reconnect()
        self._go_on(first.timestamp())

    def _tick(self) -> None:
        self._asked.append(Invocation("sweep_recordings", {"sweep": "tick"}))

    def _go_on(self, moment: float | None) -> None:
        """Go from moment to moment until no work is left, and note what the subscriber heard."""
        while moment is not None:
            self._clock.move_to(moment)
            # A message may have come in sight.
            self._news.update(self.queues)
            while self._agenda and self._agenda[0][0] <= self._clock.time():
                heapq.heappop(self._agenda)[2]()
            self._settle()
            moment = self._next_moment()
        self.heard += [json.loads(message["Body"]) for message in self.drain(self._subscription)]

    def _prepare(self) -> None:
        for delivery in self.plan.deliveries(self.simulator.world):
            self._deliver_at(delivery.at, delivery)
        for request in self.plan.api_requests(self.simulator.world):
            if request.at is None:
                self._unasked[request.recording_id] = request
            else:
                self._ask_at(request.at, request)
        for request in self.plan.annotations(self.simulator.world):
            self._ask_at(request.at or ORIGIN.timestamp(), request)
        for at, incident in self.plan.incidents(self.simulator):
            self._at(at, incident)
        for number in range(1, 4 if self.plan.faults else 1):
            self._plan_rotation(number)
        for name, bodies in POISON.items() if self.plan.faults else ():
            url = self.stack.description["queues"][name]["url"]
            for body in bodies:
                self._sqs.send_message(QueueUrl=url, MessageBody=body)

    def _plan_rotation(self, number: int) -> None:
        """Rotate the API token: revoke it before or after Secrets Manager has its successor."""
        chance, tokens = self.plan.chance("rotation", number), self.simulator.tokens
        at = chance.uniform(ORIGIN.timestamp(), self.plan.busy_until)
        old, new = self.plan.token(number - 1), self.plan.token(number)
        self._at(at, lambda: tokens.add(new))
        self._at(at + chance.uniform(0, 300), lambda: tokens.revoke(old))
        secret = self.stack.description["api_token_secret_arn"]
        secrets, content = self.stack.client("secretsmanager"), json.dumps({"api_token": new})
        self._at(
            at + chance.uniform(0, 300),
            lambda: secrets.put_secret_value(SecretId=secret, SecretString=content),
        )

    def _at(self, moment: float, action: Callable[[], Any]) -> None:
        heapq.heappush(self._agenda, (moment, next(self._entries), action))

    def _look_in(self, seconds: float) -> None:
        """Plan a moment at which hidden messages may be visible again."""
        self._at(self._clock.time() + seconds + STEP_SECONDS, lambda: None)

    def _next_moment(self) -> float | None:
        now, moments = self._clock.time(), [entry[0] for entry in self._agenda[:1]]
        for schedule in self._schedules:
            soonest = schedule.after(now)
            # By the time of what comes before it, there may be more to do, or nothing.
            if soonest < min(moments, default=math.inf):
                schedule.due = self._next_call(schedule, now)
        moments.extend(schedule.due for schedule in self._schedules if schedule.due is not None)
        return min(moments, default=None)

    def _next_call(self, schedule: Schedule, now: float) -> float | None:
        """Return the time of a schedule's next call that finds work, or None."""
        if schedule.is_every_minute:
            waiting = self._first_waiting(*WAITING[schedule.function])
            return None if waiting is None else schedule.after(max(now, waiting - 0.001))
        call = schedule.after(now)
        return call if call < self.plan.busy_until + DAY else None

    def _first_waiting(self, *partitions: str) -> float | None:
        times = [
            item["due_at"]["S"][:24]
            for partition in partitions
            for item in self._dynamodb.query(
                TableName=self.stack.description["tables"]["WorkTable"]["name"],
                IndexName="due",
                KeyConditionExpression="pending = :pending",
                ExpressionAttributeValues={":pending": {"S": partition}},
                Limit=1,
            )["Items"]
        ]
        return min((datetime.fromisoformat(time).timestamp() for time in times), default=None)

    # Invocations.

    def _settle(self) -> None:
        """Run invocations until none can continue without time passing."""
        is_exhausted = False
        while self._runs or not is_exhausted:
            if not is_exhausted and len(self._runs) < CONCURRENCY:
                invocation = self._take()
                if invocation:
                    self._begin(invocation)
                is_exhausted = invocation is None
            else:
                run = self._order.choice(self._runs)
                self._step(run)
                is_exhausted = is_exhausted and run in self._runs

    def _take(self) -> Invocation | None:
        if self._asked:
            return self._asked.pop(self._order.randrange(len(self._asked)))
        for schedule in self._schedules:
            if schedule.due is not None and schedule.due <= self._clock.time():
                schedule.due = None
                return Invocation(schedule.function, schedule.event)
        sources = [source for source in (*self.queues, self.stream) if source in self._news]
        self._order.shuffle(sources)
        for source in sources:
            if invocation := source.take():
                if isinstance(source, QueueSource):
                    self._look_in(source.visibility_timeout)
                return invocation
            self._news.remove(source)
        return None

    def _begin(self, invocation: Invocation) -> None:
        function = invocation.function
        environment, timeout = self._settings[function]
        self._invocations[function] += 1
        number = self._invocations[function]
        troubles = NO_TROUBLES if invocation.spared else self.plan.troubles(function, number)
        idle = self._idle.setdefault(function, [])
        worker = idle.pop() if idle else self._workers.start(function, environment)
        deadline = self._clock.time() + min(timeout, troubles.seconds or timeout)
        name = f"{self.plan.seed}/{function}/{number}"
        worker.invoke(invocation.event, deadline=deadline, request_id=name, seed=name)
        self._runs.append(Run(invocation, worker, troubles, deadline))
        self._runs[-1].wait()
        if function == "archive_recording":
            self._ask_meanwhile(invocation.event)

    def _step(self, run: Run) -> None:
        """Serve an invocation's next request to AWS, or end it with its answer."""
        happening = run.happening
        self._clock.advance(STEP_SECONDS)
        assert happening is not None, f"{run.invocation.function} ended by itself"
        if isinstance(happening, Request):
            self._serve(run, happening)
            return
        self._idle[run.invocation.function].append(run.worker)
        if "error" in happening:
            self.met[f"raised: {run.invocation.function} {happening['error']}"] += 1
        self._end(run, happening.get("answer"))

    def _end(self, run: Run, answer: Any) -> None:
        self._runs.remove(run)
        # A stream's next batch, or the same once more.
        self._news.add(self.stream)
        run.invocation.done(answer)

    def _serve(self, run: Run, request: Request) -> None:
        number, when = run.troubles.killed_at or (0, "")
        stalled, seconds = run.troubles.stalled_at or (-1, 0.0)
        run.writes += is_write(request)
        if run.writes == stalled:
            self._stall(run, seconds)
            return
        run.requests += 1
        if self._clock.time() > run.deadline:
            self._kill(run, request, f"timed out: {run.invocation.function}")
        elif run.requests == number:
            if when == "after":
                self._forward(request)
            self._kill(run, request, f"killed {when}: {run.invocation.function}")
        else:
            fault = run.troubles.faults.get(run.requests)
            request.reply.put(self._faulty(fault, request) if fault else self._forward(request))
            run.wait()

    def _stall(self, run: Run, seconds: float) -> None:
        """Put it aside; others go on, also to when it is heard of again."""
        self.met[f"stalled: {run.invocation.function}"] += 1
        run.troubles, run.writes = replace(run.troubles, stalled_at=None), 0
        self._runs.remove(run)
        self._at(self._clock.time() + seconds, lambda: self._runs.append(run))

    def _forward(self, request: Request) -> Reply:
        """Forward a request to AWS, and note the work that it may start."""
        if request.operation.startswith("SendMessage"):
            self._news.update(self.queues)
            content = json.loads(request.body)
            for message in content.get("Entries", [content]):
                self._look_in(message.get("DelaySeconds", 0))
        elif self._is_refused(request):
            self.met["unwritable"] += 1
            return row_too_large()
        elif request.operation == "UpdateItem":
            self._news.add(self.stream)
        return self._workers.forward(request)

    def _is_refused(self, request: Request) -> bool:
        return (
            self.unwritable is not None
            and request.operation == "UpdateItem"
            and self._table.encode() in request.body
            and self.unwritable.encode() in request.body
        )

    def _kill(self, run: Run, request: Request, what: str) -> None:
        self.met[what] += 1
        self._workers.end(run.worker)
        request.reply.put(None)
        self._end(run, None)

    def _faulty(self, fault: str, request: Request) -> Reply | None:
        """Return the answer that replaces AWS's, or None to close the connection."""
        if fault == "refused in a 200" and request.operation not in BATCHES:
            return self._forward(request)
        self.met[f"{fault}: {request.service}"] += 1
        if fault == "answer lost":
            self._forward(request)
        if fault in ("dropped", "answer lost"):
            return None
        return refusal(fault, request)

    # Webhooks.

    def _deliver_at(self, moment: float, delivery: Delivery) -> None:
        self._at(moment, lambda: self._deliver(delivery))

    def _deliver(self, delivery: Delivery) -> None:
        message = self.simulator.webhooks.message(
            delivery.event, fields={"streamKey": f"{CANARY}stream-key"}
        )
        if delivery.way == "bus":
            self._put_event(message.event, message.body.decode())
            return
        key = self._forger if delivery.way == "forged" else self.simulator.webhooks.key
        body = message.body.decode()
        if delivery.way == "foreign":
            body = UUID.sub(lambda found: foreign(found[0]), body)
        event = json.loads((ROOT / "events/receive-webhook.meeting-ended.json").read_text())
        signature = key.sign(body.encode())
        headers = {"Content-Type": ["application/json"], "RTK-Signature": [signature]}
        event |= {"multiValueHeaders": headers, "body": body}
        event["isBase64Encoded"] = False
        done: Callable[[Any], None] = lambda answer: self._answered(delivery, answer)  # noqa: E731
        self._asked.append(Invocation("receive_webhook", event, done))

    def _answered(self, delivery: Delivery, answer: Any) -> None:
        answer = answer or NO_ANSWER
        self.answers.append((delivery, answer))
        if answer["statusCode"] >= 500 and delivery.attempt < MAX_ATTEMPTS:
            again = replace(delivery, attempt=delivery.attempt + 1)
            self._deliver_at(self._clock.time() + 1, again)

    # The API.

    def _ask_at(self, moment: float, request: ApiRequest) -> None:
        self._at(moment, lambda: self._ask(request))

    def _ask(self, request: ApiRequest) -> None:
        event = json.loads((ROOT / "events/serve-catalogue.sync-recording.json").read_text())
        if request.method in ("DELETE", "PATCH"):
            event["resource"] = "/recordings/{recording_id}"
        if request.patch is not None:
            event["multiValueHeaders"]["Content-Type"] = ["application/merge-patch+json"]
            event["headers"]["Content-Type"] = "application/merge-patch+json"
            event["body"] = json.dumps(request.patch)
        parameters = {"recording_id": request.recording_id}
        event |= {"httpMethod": request.method, "pathParameters": parameters}
        done: Callable[[Any], None] = lambda answer: self._api_answered(request, answer)  # noqa: E731
        self._asked.append(Invocation("serve_catalogue", event, done))

    def _ask_meanwhile(self, event: Any) -> None:
        """Send the API calls planned for the time while these files are archived."""
        for record in event["Records"]:
            recording_id = json.loads(record["body"])["recording_id"]
            if request := self._unasked.pop(recording_id, None):
                self._ask(request)

    def _api_answered(self, request: ApiRequest, answer: Any) -> None:
        answer = answer or NO_ANSWER
        self.api_answers.append((request, answer))
        now, status = self._clock.time(), answer["statusCode"]
        is_final = request.method == "POST" or status in (200, 202, 409, 410)
        if status in (200, 202) and request.then:
            self._ask_at(max(now, request.then.at or now), request.then)
        if not is_final and (now < self.plan.busy_until + 2 * DAY or status == 503):
            self._ask_at(now + ASKED_AGAIN_SECONDS, request)

    # Events.

    def _put_event(self, name: str, detail: str) -> None:
        bus = self.stack.description["event_bus"]["name"]
        entry = {"EventBusName": bus, "Source": "realtimekit", "DetailType": name, "Detail": detail}
        assert self._bus.put_events(Entries=[entry])["FailedEntryCount"] == 0
        self._news.update(self.queues)

    def _subscribe(self) -> str:
        """Subscribe a queue to all published events, and return its URL."""
        url: str = self._sqs.create_queue(
            QueueName="subscriber", Attributes={"MessageRetentionPeriod": "1209600"}
        )["QueueUrl"]
        attributes = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        bus = self.stack.description["event_bus"]["name"]
        pattern = json.dumps({"source": ["realtimekit.recordings"]})
        self._bus.put_rule(Name="subscriber", EventBusName=bus, EventPattern=pattern)
        target = {"Id": "queue", "Arn": attributes["Attributes"]["QueueArn"]}
        self._bus.put_targets(Rule="subscriber", EventBusName=bus, Targets=[target])
        return url

    def items(self, table: str) -> list[dict[str, Any]]:
        """Return a table's rows in DynamoDB's own form."""
        name = self.stack.description["tables"][table]["name"]
        pages = self._dynamodb.get_paginator("scan").paginate(TableName=name)
        return [item for page in pages for item in page["Items"]]

    def log(self) -> str:
        """Return all lines that the functions have logged."""
        return self._workers.log.read_text()

    def drain(self, url: str) -> Iterator[Any]:
        """Yield a queue's messages, and hide them."""
        while found := self._sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=43_200
        ).get("Messages"):
            yield from found


@dataclass(frozen=True, slots=True)
class Aged:
    """A simulation after `grow_old`, and the rows of the recordings before, in DynamoDB's form."""

    simulation: Simulation
    before: list[dict[str, Any]]


def is_write(request: Request) -> bool:
    """Return True for a write that may stall: any but the budget's, whose request follows at once."""
    is_read = request.operation.upper().startswith(("GET", "HEAD", "QUERY", "BATCH"))
    return not is_read and b'"budget#' not in request.body
