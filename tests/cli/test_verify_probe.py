"""The probes on the emulator's services: their findings, and that they leave no traces."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from doubles import ROOT, s3_fails
from realtimekit_recordings.stack import Stack
from realtimekit_recordings.verify.deployment import Deployment
from realtimekit_recordings.verify.finding import Finding
from realtimekit_recordings.verify.probe import probe
from realtimekit_recordings.verify.traces import Clock
from recordings import messages
from recordings.dynamodb import Table
from recordings.worklist import Worklist

HEADINGS = re.findall(r"^##+ (.+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
QUEUES = ("IngestQueue", "IngestDeadLetterQueue", "EventRuleDeadLetterQueue")
UNESCAPED, ESCAPED = 'probe","title":"{probe}', 'probe\\",\\"title\\":\\"{probe}'
SERVICES = ("EVENTBRIDGE", "SQS", "DYNAMODB", "S3")
Hook = Callable[..., Any]


class Place:
    """The services that a probe writes to, on the emulator, and a stand-in for the function.

    The stand-in handles the ingest queue's messages whenever the probe looks for their checks, as
    the function does for recordings that RealtimeKit does not know.
    """

    def __init__(self, template: Mapping[str, Any]) -> None:
        own = boto3.Session(
            aws_access_key_id="test", aws_secret_access_key="test", region_name="eu-central-1"
        )
        self.sqs, self.s3 = own.client("sqs"), own.client("s3")
        self.dynamodb, self.events = own.client("dynamodb"), own.client("events")
        self.urls = {name: self.sqs.create_queue(QueueName=name)["QueueUrl"] for name in QUEUES}
        self.arns = {name: self._arn(url) for name, url in self.urls.items()}
        self.dynamodb.create_table(
            TableName="WorkTable",
            KeySchema=[{"AttributeName": "work_id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "work_id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self.worklist = Worklist(Table(self.dynamodb, "WorkTable"))
        location: Any = {"LocationConstraint": "eu-central-1"}
        self.s3.create_bucket(Bucket="archive", CreateBucketConfiguration=location)
        self.s3.put_bucket_versioning(
            Bucket="archive", VersioningConfiguration={"Status": "Enabled"}
        )
        rule = template["Resources"]["RecordingStatusUpdateRule"]["Properties"]
        self.events.create_event_bus(Name="bus")
        self.events.put_rule(
            Name="rule", EventBusName="bus", EventPattern=json.dumps(rule["EventPattern"])
        )
        self.transformer = rule["Targets"][0]["InputTransformer"]
        self.deliver_to("IngestQueue")

    def _arn(self, url: str) -> str:
        answer = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return answer["Attributes"]["QueueArn"]

    def deliver_to(self, queue: str) -> None:
        target: Any = {
            "Id": "ingest-queue",
            "Arn": self.arns[queue],
            "InputTransformer": self.transformer,
        }
        self.events.put_targets(Rule="rule", EventBusName="bus", Targets=[target])

    def ingest(self, rewrite: Callable[[str], str]) -> None:
        """Handle the messages of the ingest queue: leave a check for each."""
        url = self.urls["IngestQueue"]
        while batch := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for message in batch:
                request = messages.parse(rewrite(message["Body"]))
                self.worklist.check_in(request, "not_found")
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def left(self) -> list[str]:
        """Return all that is in the table, the bucket and the queues."""
        rows = [row["work_id"]["S"] for row in self.dynamodb.scan(TableName="WorkTable")["Items"]]
        versions = self.s3.list_object_versions(Bucket="archive")
        uploads = self.s3.list_multipart_uploads(Bucket="archive").get("Uploads", [])
        objects = [*versions.get("Versions", []), *versions.get("DeleteMarkers", []), *uploads]
        return [*rows, *(one["Key"] for one in objects), *self._waiting()]

    def _waiting(self) -> Iterator[str]:
        for name, url in self.urls.items():
            attributes = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
            counts = attributes["Attributes"]
            if counts["ApproximateNumberOfMessages"] != "0":
                yield name

    def clear(self) -> None:
        for url in self.urls.values():
            self.sqs.purge_queue(QueueUrl=url)
        for row in self.dynamodb.scan(TableName="WorkTable")["Items"]:
            self.dynamodb.delete_item(TableName="WorkTable", Key={"work_id": row["work_id"]})
        for upload in self.s3.list_multipart_uploads(Bucket="archive").get("Uploads", []):
            self.s3.abort_multipart_upload(
                Bucket="archive", Key=upload["Key"], UploadId=upload["UploadId"]
            )
        versions = self.s3.list_object_versions(Bucket="archive").get("Versions", [])
        for version in versions:
            self.s3.delete_object(
                Bucket="archive", Key=version["Key"], VersionId=version["VersionId"]
            )
        self.deliver_to("IngestQueue")


@pytest.fixture(scope="module")
def shared_place(storage: str, template: Mapping[str, Any]) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        for service in SERVICES:
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", storage)
        yield Place(template)


@pytest.fixture
def place(shared_place: Place) -> Iterator[Place]:
    yield shared_place
    shared_place.clear()


def response(status: int) -> AWSResponse:
    """Return an answer's status, which botocore needs beside the parsed answer of a hook."""
    return AWSResponse("", status, HTTPHeaders(), None)


class Probing:
    """A probe of the place; a test hooks into its requests first."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.parameters = {"Archiving": "on"}
        self.session = boto3.Session(
            aws_access_key_id="test", aws_secret_access_key="test", region_name="eu-central-1"
        )
        self.rewrite: Callable[[str], str] = str
        self.is_handled = True
        self.on("before-call.dynamodb.GetItem", self._handle)

    def _handle(self, **_: Any) -> None:
        if self.is_handled:
            self.place.ingest(self.rewrite)

    def on(self, event: str, hook: Hook) -> None:
        self.session.events.register_first(event, hook)

    @contextmanager
    def failing(self, operation: str, code: str) -> Iterator[None]:
        client = SimpleNamespace(meta=SimpleNamespace(events=self.session.events))
        with s3_fails(client, operation, 403 if code == "AccessDenied" else 400, code):
            yield

    def deployment(self) -> Deployment:
        outputs = {
            "EventBusName": "bus",
            "WorkTableName": "WorkTable",
            "ArchiveBucketName": "archive",
            **dict.fromkeys(
                ("ArchiveQueueUrl", "UrgentArchiveQueueUrl", "PublishDeadLetterQueueUrl"), "-"
            ),
            **dict.fromkeys(("ArchiveDeadLetterQueueUrl", "ArchiveDeadLetterQueueArn"), "-"),
            **{
                f"{name}LogGroupName": "-"
                for name in ("IngestRecording", "ArchiveRecording", "PublishChanges")
            },
            **{f"{name}Url": url for name, url in self.place.urls.items()},
            **{f"{name}Arn": arn for name, arn in self.place.arns.items()},
        }
        stack = Stack(
            name="stack",
            status="CREATE_COMPLETE",
            parameters=self.parameters,
            outputs=outputs,
            session=self.session,
        )
        return Deployment(stack, {})

    def run(self, only: int | None = None) -> dict[str, Finding]:
        """Probe, or take only the first findings; time is long, or there is only one look."""
        clock = Clock(seconds=60 if self.is_handled else 0, poll=0)
        findings = list(itertools.islice(probe(self.deployment(), clock), only))
        for finding in findings:
            assert finding.heading in (*HEADINGS, "")
            assert (finding.verdict == "wrong") == bool(finding.action)
        return {finding.check: finding for finding in findings}

    def unwell(self, only: int | None = None) -> dict[str, str]:
        """Return the findings that are not ok, except for SQS's task, which the emulator lacks."""
        return {
            check: f"{finding.verdict}: {finding.heading}".removesuffix(": ")
            for check, finding in self.run(only).items()
            if finding.verdict != "ok" and check != "SQS's own redrive"
        }


@pytest.fixture
def probing(place: Place) -> Probing:
    return Probing(place)


def test_an_event_a_file_and_a_dead_letter_go_through_and_leave_nothing(probing, place):
    assert {check: one.detail for check, one in probing.run().items()} == {
        "event without optional fields": (
            "The event reached ingest_recording; fields that it lacks arrived empty."
        ),
        "event with quotes and braces": (
            "The event reached ingest_recording; EventBridge does not escape values, which the service "
            "expects: a message takes only ids, and refuses keys that it does not know."
        ),
        "upload in parts": (
            "S3 took parts without checksums, named theirs, and checked the whole by CRC-32."
        ),
        "upload with a wrong checksum": "S3 refused the file (BadDigest).",
        "link to the archive": "A link downloaded the uploaded file.",
        "erasure of a file": "The file is erased, in all its versions.",
        "dead letter sent again": "A message was sent again, and reached ingest_recording.",
        "SQS's own redrive": "SQS has no such task here, or not for this message.",
    }
    assert place.left() == []


def test_on_an_emulator_what_aws_promises_cannot_be_told(probing, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", "http://127.0.0.1:9")

    assert probing.unwell(only=6) == dict.fromkeys(
        (
            "event without optional fields",
            "event with quotes and braces",
            "upload in parts",
            "upload with a wrong checksum",
        ),
        "cannot tell",
    )


def test_the_values_of_an_event_say_what_eventbridge_makes_of_them(probing):
    probing.rewrite = lambda body: body.replace(UNESCAPED, ESCAPED)
    escaped = probing.run(only=2)["event with quotes and braces"]
    probing.rewrite = lambda body: body.replace('"meeting_id":""', '"meeting_id":"<meeting_id>"')
    literal = probing.unwell(only=2)

    assert escaped.detail == "The event reached ingest_recording; EventBridge escapes values."
    assert literal == {
        "event without optional fields": "wrong: Verify by writing",
        "event with quotes and braces": "wrong: Verify by writing",
    }


@pytest.mark.parametrize(
    ("queue", "expected"),
    [
        ("IngestQueue", "cannot tell"),
        ("EventRuleDeadLetterQueue", "wrong: EventRuleDeadLettersAlarm"),
        (None, "wrong: IngestDelayedAlarm"),
    ],
)
def test_an_event_that_does_not_arrive_is_looked_for(probing, place, queue, expected):
    probing.is_handled = False
    probing.parameters["Archiving"] = "off"
    if queue:
        place.deliver_to(queue)
    else:
        place.events.remove_targets(Rule="rule", EventBusName="bus", Ids=["ingest-queue"])

    found = probing.unwell()

    assert found["event without optional fields"] == expected
    assert found["event with quotes and braces"] == expected
    assert found["upload in parts"] == "cannot tell"
    # The dead letter was sent again, and nobody handles it.
    assert found["dead letter sent again"] == "cannot tell"
    assert place.left() == ["IngestQueue"]


def test_dead_letters_of_others_stay_where_they_are(probing, place):
    url = place.urls["IngestDeadLetterQueue"]
    place.sqs.send_message(QueueUrl=url, MessageBody="dead")

    found = probing.run()

    assert found["dead letter sent again"].verdict == "ok"
    assert found["SQS's own redrive"].detail.endswith("the queue holds other dead letters.")
    assert place.left() == ["IngestDeadLetterQueue"]
    [message] = place.sqs.receive_message(QueueUrl=url)["Messages"]
    assert message["Body"] == "dead"


def test_sqss_own_task_moves_the_message_if_it_can(probing, place):
    """The emulator has no such tasks, so their answers are made up."""
    tasks: list[dict[str, Any]] = []

    def start(**_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        url = place.urls["IngestDeadLetterQueue"]
        [message] = place.sqs.receive_message(QueueUrl=url)["Messages"]
        place.sqs.send_message(QueueUrl=place.urls["IngestQueue"], MessageBody=message["Body"])
        place.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        tasks.append(
            {"Status": "COMPLETED", "ApproximateNumberOfMessagesMoved": 1, "StartedTimestamp": 7}
        )
        return response(200), {"TaskHandle": "handle"}

    probing.on("before-call.sqs.StartMessageMoveTask", start)
    probing.on(
        "before-call.sqs.ListMessageMoveTasks",
        lambda **_: (response(200), {"Results": tasks[-1:]}),
    )

    found = probing.run()

    assert found["SQS's own redrive"].detail == "SQS's task moved the message back to its queue."
    assert found["dead letter sent again"].verdict == "ok"
    assert place.left() == []


def without_checksum(params: dict[str, Any], **_: Any) -> None:
    params.pop("ChecksumCRC32")


def without_checksums_of_parts(parsed: dict[str, Any], **_: Any) -> None:
    for part in parsed["Parts"]:
        part.pop("ChecksumCRC32", None)


def to_another_file(params: dict[str, Any], **_: Any) -> None:
    params["Key"] += ".other"


def locked(**_: Any) -> tuple[AWSResponse, dict[str, Any]]:
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Years": 7}}
    configuration = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    return response(200), {"ObjectLockConfiguration": configuration}


ALL_OF_S3 = ("upload in parts", "upload with a wrong checksum", "link to the archive")


@pytest.mark.parametrize(
    ("hooks", "failures", "expected"),
    [
        (
            {
                "provide-client-params.s3.CompleteMultipartUpload": without_checksum,
                "provide-client-params.s3.GetObject": to_another_file,
            },
            {},
            {
                "upload with a wrong checksum": "wrong: Verify by writing",
                "link to the archive": "wrong: A bucket of your own",
            },
        ),
        (
            {"after-call.s3.ListParts": without_checksums_of_parts},
            {},
            {"upload in parts": "wrong: Verify by writing"},
        ),
        (
            {"before-call.s3.GetObjectLockConfiguration": locked},
            {},
            dict.fromkeys((*ALL_OF_S3, "erasure of a file"), "cannot tell"),
        ),
        (
            {},
            {"GetObjectLockConfiguration": "AccessDenied"},
            dict.fromkeys((*ALL_OF_S3, "erasure of a file"), "cannot tell"),
        ),
        (
            {},
            {"CreateMultipartUpload": "AccessDenied"},
            dict.fromkeys(ALL_OF_S3, "cannot tell"),
        ),
        (
            {},
            {"UploadPart": "InvalidRequest"},
            {
                **dict.fromkeys(ALL_OF_S3[:2], "wrong: A bucket of your own"),
                "link to the archive": "cannot tell",
            },
        ),
    ],
)
def test_what_is_wrong_with_the_bucket_is_named_and_leaves_nothing(
    probing, place, hooks, failures, expected
):
    for event, hook in hooks.items():
        probing.on(event, hook)
    with ExitStack() as stack:
        for operation, code in failures.items():
            stack.enter_context(probing.failing(operation, code))
        found = probing.unwell(only=6)

    assert found == expected
    assert place.left() == []


def test_what_cannot_be_removed_is_named(probing, place):
    def refuse(**_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        error = {"Code": "AccessDenied", "Message": "no"}
        return response(400), {"Error": error}

    probing.on("before-call.dynamodb.DeleteItem", refuse)
    with probing.failing("DeleteObjects", "AccessDenied"):
        findings = list(probe(probing.deployment(), Clock(seconds=60, poll=0)))

    left = [finding for finding in findings if finding.check == "cleaning up"]
    checks = [row for row in place.left() if row.startswith("check#recording#")]
    [key] = [row for row in place.left() if row.startswith("verify-probe/")]
    assert [finding.verdict for finding in left] == ["wrong", "wrong", "wrong"]
    assert all(any(row in one.detail for one in left) for row in checks)
    assert len(checks) == 3
    assert key.removesuffix("file.bin") in left[1].detail


@pytest.mark.parametrize(
    "event",
    [
        "before-call.events.PutEvents",
        "before-call.dynamodb.GetItem",
        "before-call.s3.CompleteMultipartUpload",
    ],
)
def test_a_probe_that_is_stopped_leaves_nothing(probing, place, event):
    def interrupt(**_: Any) -> None:
        place.ingest(str)
        raise KeyboardInterrupt

    probing.on(event, interrupt)
    with pytest.raises(KeyboardInterrupt):
        probing.run()

    assert place.left() == []


def test_a_stopped_probe_prints_what_it_could_not_remove(probing, place, capsys):
    def interrupt(**_: Any) -> None:
        raise KeyboardInterrupt

    probing.on("before-call.s3.CompleteMultipartUpload", interrupt)
    with (
        probing.failing("ListMultipartUploads", "AccessDenied"),
        pytest.raises(KeyboardInterrupt),
    ):
        probing.run()

    [key] = [row for row in place.left() if row.startswith("verify-probe/")]
    assert key.removesuffix("file.bin") in capsys.readouterr().err


def test_without_rights_each_probe_cannot_tell(probing, place):
    def refuse(**_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        error = {"Code": "AccessDeniedException", "Message": "not authorized"}
        return response(400), {"Error": error}

    probing.on("before-call.events.PutEvents", refuse)
    probing.on("before-call.sqs.SendMessage", refuse)

    assert probing.unwell() == dict.fromkeys(
        (
            "event without optional fields",
            "event with quotes and braces",
            "dead letter sent again",
        ),
        "cannot tell",
    )
    assert place.left() == []
