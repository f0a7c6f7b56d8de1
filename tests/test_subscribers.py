"""The subscribers' templates in examples/, deployed to the emulator beside an event bus."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from doubles import Answer, Upstream
from local.stack import ROOT, client

Found = TypeVar("Found")
BUS = "recordings-of-examples"
EXAMPLES = ("archive", "https", "lambda", "queue", "slack")
DETAIL = {
    "id": "e4b06ce6-0741-47a8-bce4-2c8218072e8c#4",
    "recording_id": "e4b06ce6-0741-47a8-bce4-2c8218072e8c",
    "meeting_id": "78e51061-7311-48a3-82ce-6f447ed4d57b",
    "status": "UPLOADED",
    "artifacts": {"video": {"bucket": "archive", "key": "app/video.mp4"}},
    "version": 4,
}


def wait_for(look: Callable[[], Found | None], seconds: float = 120) -> Found:
    """Return the first true result of `look`; the seconds allow for a slow machine."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
    return found


class Subscribers:
    """All examples, deployed, and the HTTPS endpoint and Slack that they post to."""

    def __init__(self, storage: str, endpoint: Upstream) -> None:
        self.endpoint = endpoint
        self._storage = storage
        self.outputs: dict[str, str] = {}

    def client(self, service: str) -> Any:
        return client(service, self._storage)

    def deploy(self) -> None:
        self.client("events").create_event_bus(Name=BUS)
        cloudformation = self.client("cloudformation")
        given = {
            "EventBusName": BUS,
            "EndpointUrl": f"{self.endpoint.url}/endpoint",
            "EndpointKey": "a-long-random-text",
            "SlackWebhookUrl": f"{self.endpoint.url}/slack",
        }
        for name in EXAMPLES:
            text = (ROOT / "examples" / name / "template.yaml").read_text()
            parameters = [
                {"ParameterKey": key, "ParameterValue": value}
                for key, value in given.items()
                if re.search(f"^  {key}:", text, re.MULTILINE)
            ]
            stack = f"example-{name}"
            cloudformation.create_stack(
                StackName=stack,
                TemplateBody=text,
                Parameters=parameters,
                Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
            )
            described = wait_for(lambda stack=stack: self._created(stack))  # type: ignore[misc]
            assert described["StackStatus"] == "CREATE_COMPLETE", described
            for output in described.get("Outputs", []):
                self.outputs[f"{name}.{output['OutputKey']}"] = output["OutputValue"]

    def _created(self, stack: str) -> dict[str, Any] | None:
        [described] = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return None if described["StackStatus"] == "CREATE_IN_PROGRESS" else described

    def put(self, detail_type: str, source: str = "realtimekit.recordings") -> None:
        entry = {
            "EventBusName": BUS,
            "Source": source,
            "DetailType": detail_type,
            "Detail": json.dumps(DETAIL),
        }
        assert self.client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0

    def posted(self, path: str) -> list[tuple[dict[str, str], Any]]:
        """Return the headers and bodies that were posted to a path of the endpoint."""
        requests, calls = list(self.endpoint.requests), list(self.endpoint.calls)
        return [
            (headers, json.loads(body))
            for (_, headers), (_, called, body) in zip(requests, calls, strict=False)
            if called == path
        ]

    def queued(self) -> list[dict[str, Any]]:
        """Take all events from the queue example's queue."""
        sqs, url = self.client("sqs"), self.outputs["queue.QueueUrl"]
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in answer.get("Messages", [])]

    def logged(self) -> str:
        """Return the log of the Lambda example's function."""
        logs = self.client("logs")
        group = f"/aws/lambda/{self.outputs['lambda.FunctionName']}"
        try:
            events = logs.filter_log_events(logGroupName=group)["events"]
        except logs.exceptions.ResourceNotFoundException:
            return ""
        return "\n".join(event["message"] for event in events)


@pytest.fixture(scope="module")
def subscribers(storage: str) -> Iterator[Subscribers]:
    endpoint = Upstream()
    endpoint.says(Answer({}))
    subscribers = Subscribers(storage, endpoint)
    subscribers.deploy()
    yield subscribers
    endpoint.stop()


def test_each_kind_of_subscriber_has_an_example_that_the_documentation_names() -> None:
    page = (ROOT / "docs/subscribe.md").read_text()

    templates = {path.parent.name for path in ROOT.glob("examples/*/template.yaml")}
    assert templates == {*EXAMPLES, "nested-stack"}
    assert all(f"../examples/{name}/template.yaml" in page for name in EXAMPLES)


def test_each_example_gets_its_events_and_the_archive_replays_them(
    subscribers: Subscribers,
) -> None:
    started = datetime.now(UTC) - timedelta(minutes=1)
    subscribers.put("meeting.ended", source="realtimekit")
    subscribers.put("Recording Catalogued")
    subscribers.put("Recording Archived")

    posted = wait_for(lambda: found if len(found := subscribers.posted("/endpoint")) >= 2 else None)
    assert {body["detail-type"] for _, body in posted} == {
        "Recording Catalogued",
        "Recording Archived",
    }
    assert {headers["X-Api-Key"] for headers, _ in posted} == {"a-long-random-text"}
    assert [body["detail"] for _, body in posted] == [DETAIL, DETAIL]

    [(_, message)] = wait_for(lambda: subscribers.posted("/slack"))
    assert message == {
        "text": "Recording Archived: e4b06ce6-0741-47a8-bce4-2c8218072e8c of meeting "
        "78e51061-7311-48a3-82ce-6f447ed4d57b"
    }

    assert sorted(event["detail-type"] for event in subscribers.queued()) == [
        "Recording Archived",
        "Recording Catalogued",
    ]

    line = "e4b06ce6-0741-47a8-bce4-2c8218072e8c: video is at s3://archive/app/video.mp4"
    wait_for(lambda: line in subscribers.logged())

    subscribers.client("events").start_replay(
        ReplayName="again",
        EventSourceArn=subscribers.outputs["archive.ArchiveArn"],
        EventStartTime=started,
        EventEndTime=datetime.now(UTC) + timedelta(minutes=1),
        Destination={
            "Arn": subscribers.outputs["archive.EventBusArn"],
            "FilterArns": [subscribers.outputs["queue.RuleArn"]],
        },
    )

    replayed: list[dict[str, Any]] = []

    def has_both() -> bool:
        replayed.extend(subscribers.queued())
        return len(replayed) >= 2

    wait_for(has_both)
    assert {event["detail-type"] for event in replayed} == {
        "Recording Catalogued",
        "Recording Archived",
    }
    assert {event["replay-name"] for event in replayed} == {"again"}
