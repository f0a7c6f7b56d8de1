"""The deployed template: what `sam build` built, under AWS's runtime client and IAM, emulated."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

import pytest

from local.stack import ROOT, SEED, LocalStack, parameters
from realtimekit_simulator import DEFAULT_TOKEN, Clock, DeliveryRules, Recording, Simulator, World

Found = TypeVar("Found")
BUILT_TEMPLATE = ROOT / ".local/build/template.yaml"
EVENTS = ("meeting.started", "meeting.ended", "recording.statusUpdate")
RUNTIME_PYTHON = ROOT / ".venv-runtime/bin/python"

# Workers share nothing (pytest-xdist): whose tests are spread over several deploys several times.
on_the_shared_deployment = pytest.mark.xdist_group("deployed")


def wait_for(look: Callable[[], Found | None], seconds: float = 300) -> Found:
    """Return the first true result of `look`; the seconds allow for a slow machine."""
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def kill_runtime(handler: str) -> None:
    """Kill a function's processes at once, as Lambda's host may, but not those of other stacks."""
    listed = subprocess.run(
        ["/bin/ps", "-A", "-ww", "-o", "pid=,ppid=,command="],
        capture_output=True,
        text=True,
        check=True,
    )
    processes = [line.split(None, 2) for line in listed.stdout.splitlines()]
    parents = {int(pid): int(parent) for pid, parent, *_ in processes}
    running = [int(pid) for pid, _, *command in processes if handler in " ".join(command)]
    ours = [pid for pid in running if os.getpid() in ancestors(pid, parents)]
    assert ours
    for pid in ours:
        os.kill(pid, signal.SIGKILL)


def ancestors(pid: int, parents: dict[int, int]) -> Iterator[int]:
    while pid in parents:
        pid = parents[pid]
        yield pid


class Deployment:
    """The stack and its RealtimeKit, and what the tests do with them."""

    def __init__(self, stack: LocalStack, simulator: Simulator) -> None:
        self.stack = stack
        self.simulator = simulator
        self.dynamodb = stack.client("dynamodb")

    def put_event(self, detail_type: str, detail: Any) -> None:
        entry = {
            "EventBusName": self.stack.description["event_bus"]["name"],
            "Source": "realtimekit",
            "DetailType": detail_type,
            "Detail": json.dumps(detail),
        }
        assert self.stack.client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0

    def items(self, table: str) -> list[dict[str, Any]]:
        name = self.stack.description["tables"][table]["name"]
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=name, ConsistentRead=True)
        return [item for page in pages for item in page["Items"]]

    def row(self, recording: Recording) -> dict[str, Any] | None:
        answer = self.stack.request("GET", f"/recordings/{recording.id}")
        body: dict[str, Any] | None = json.loads(answer.data) if answer.status == 200 else None
        return body

    def check(self, key: str) -> dict[str, Any] | None:
        found = [item for item in self.items("WorkTable") if item["work_id"]["S"] == f"check#{key}"]
        return found[0] if found else None

    def make_due(self, key: str) -> None:
        """Make a check due, and end its lease; do nothing if the check is settled by now."""
        with contextlib.suppress(self.dynamodb.exceptions.ConditionalCheckFailedException):
            self.dynamodb.update_item(
                TableName=self.stack.description["tables"]["WorkTable"]["name"],
                Key={"work_id": {"S": f"check#{key}"}},
                UpdateExpression="SET due_at = since REMOVE lease",
                ConditionExpression="attribute_exists(pending)",
            )

    def move_runs(self, days: int) -> None:
        """Let the retention policy's runs have been so many days earlier, as if the days passed."""
        name = self.stack.description["tables"]["WorkTable"]["name"]
        for item in self.items("WorkTable"):
            if not item["work_id"]["S"].startswith("retention#"):
                continue
            self.dynamodb.delete_item(TableName=name, Key={"work_id": item["work_id"]})
            on = date.fromisoformat(item["on"]["S"]) - timedelta(days=days)
            for attribute in ("on", "due_at"):
                item[attribute] = {"S": on.isoformat()}
            for attribute in {"started_at", "ended_at"} & item.keys():
                time = datetime.fromisoformat(item[attribute]["S"]) - timedelta(days=days)
                item[attribute] = {"S": time.isoformat(timespec="milliseconds")}
            work_id = {"S": f"retention#{on}"}
            self.dynamodb.put_item(TableName=name, Item={**item, "work_id": work_id})

    @contextlib.contextmanager
    def without_schedules(self) -> Iterator[None]:
        """Disable the schedules, so that no due check is queued, however long a test takes."""
        events = self.stack.client("events")
        pages = events.get_paginator("list_rules").paginate()
        rules = [rule for page in pages for rule in page["Rules"]]
        names = [rule["Name"] for rule in rules if "ScheduleExpression" in rule]
        for name in names:
            events.disable_rule(Name=name)
        try:
            yield
        finally:
            for name in names:
                events.enable_rule(Name=name)

    def open_budget(self) -> None:
        """Delete the budget's windows, as the time after a penalty does."""
        name = self.stack.description["tables"]["WorkTable"]["name"]
        for item in self.items("WorkTable"):
            if item["work_id"]["S"].startswith("budget#"):
                self.dynamodb.delete_item(TableName=name, Key={"work_id": item["work_id"]})

    def subscribe(self) -> str:
        """Subscribe a queue to all published events, and return its URL."""
        sqs, events = self.stack.client("sqs"), self.stack.client("events")
        url: str = sqs.create_queue(QueueName="subscriber")["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        bus = self.stack.description["event_bus"]["name"]
        pattern = json.dumps({"source": ["realtimekit.recordings"]})
        events.put_rule(Name="subscriber", EventBusName=bus, EventPattern=pattern)
        target = {"Id": "queue", "Arn": attributes["Attributes"]["QueueArn"]}
        events.put_targets(Rule="subscriber", EventBusName=bus, Targets=[target])
        return url

    def heard(self, url: str) -> list[tuple[str, str]]:
        """Return the events on the subscriber's queue since the last call: type and recording."""
        sqs = self.stack.client("sqs")
        found = []
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                event = json.loads(message["Body"])
                # The retention policy's event is about no recording.
                found.append((event["detail-type"], event["detail"].get("recording_id", "")))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found

    def is_idle(self) -> bool:
        """Return True if the ingest queue is empty and no message is being worked on."""
        return self.waiting("IngestQueue") == 0

    def waiting(self, queue: str) -> int:
        """Return how many messages are on the queue or being worked on."""
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        answer = self.stack.client("sqs").get_queue_attributes(
            QueueUrl=self.stack.description["queues"][queue]["url"], AttributeNames=names
        )
        return sum(int(answer["Attributes"][name]) for name in names)

    def dead_letter(self, queue: str) -> str | None:
        """Take a message from the dead-letter queue, and return its body."""
        sqs, url = self.stack.client("sqs"), self.stack.description["queues"][queue]["url"]
        for message in sqs.receive_message(QueueUrl=url).get("Messages", []):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return str(message["Body"])
        return None

    def invoke(self, function: str, event: str) -> dict[str, Any]:
        payload = (ROOT / "events" / f"{event}.json").read_bytes()
        answer = self.stack.client("lambda").invoke(
            FunctionName=self.stack.description["functions"][function]["name"], Payload=payload
        )
        return {**answer, "Payload": json.loads(answer["Payload"].read())}


@contextlib.contextmanager
def deployment(**overrides: str) -> Iterator[Deployment]:
    """Deploy a stack with these parameters, beside a RealtimeKit without meetings."""
    for path in (BUILT_TEMPLATE, RUNTIME_PYTHON):
        assert path.exists(), "make test builds what the end-to-end tests deploy"
    world = World(clock=Clock(), seed=SEED, reveals_secrets=True)
    with (
        Simulator(world, delivery_rules=DeliveryRules(retry_delay=0.5, timeout=120)) as simulator,
        LocalStack(
            parameters(simulator) | overrides,
            DEFAULT_TOKEN,
            template_file=BUILT_TEMPLATE,
            runtime_python=RUNTIME_PYTHON,
        ) as stack,
    ):
        yield Deployment(stack, simulator)


@pytest.fixture(scope="session")
def _deployment() -> Iterator[Deployment]:
    # The rows that these tests compare are not to change behind their backs.
    with deployment(Archiving="off") as shared:
        yield shared


@pytest.fixture
def deployed(_deployment: Deployment) -> Iterator[Deployment]:
    """Yield the deployment that all tests share. Each test makes its own meetings."""
    yield _deployment
    _deployment.simulator.faults.clear()
    _deployment.open_budget()


@pytest.fixture
def fresh() -> Iterator[Deployment]:
    """Yield a deployment for one test, subscribed to RealtimeKit's webhooks."""
    with deployment(Archiving="off") as own:
        own.simulator.webhooks.registrations.add(
            own.stack.description["webhook_url"], events=EVENTS
        )
        yield own


@pytest.fixture
def environment() -> dict[str, str]:
    """Return the environment of a user's command, without the tests' settings."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "POWERTOOLS_", "COV_"))
    }
