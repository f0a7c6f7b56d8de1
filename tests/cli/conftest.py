"""The command line between a stack and RealtimeKit, both on loopback."""

from __future__ import annotations

import base64
import functools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import boto3
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.loaders import JSONFileLoader
from click.testing import CliRunner, Result
from moto import mock_aws

from realtimekit_recordings.__main__ import main
from realtimekit_simulator import Clock, Simulator, World
from realtimekit_simulator.registrations import Webhook

STACK_NAME = "realtimekit-recordings"
SECRET_ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:realtimekit-api-token-x7Gh1k"
WEBHOOK_URL = "http://127.0.0.1:8787/v1/webhooks/realtimekit"
API_TOKEN = "canary-token-6d0f"
QUEUES = (
    "IngestQueue",
    "IngestDeadLetterQueue",
    "ArchiveQueue",
    "UrgentArchiveQueue",
    "ArchiveDeadLetterQueue",
    "EventRuleDeadLetterQueue",
    "PublishDeadLetterQueue",
)


@dataclass
class Aws:
    """AWS with one stack and one secret, and with SQS or DynamoDB if a test has them."""

    parameters: dict[str, str]
    outputs: dict[str, str]
    secret: str | None
    errors: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    sqs: Sqs | None = None
    dynamodb: DynamoDb | None = None
    queries: dict[str, Callable[[dict[str, str]], tuple[int, str]]] = field(default_factory=dict)
    """More operations whose requests are forms, and what answers each of them."""

    def answer(self, target: str, body: str) -> tuple[int, str]:
        """Return the HTTP status and the body of an operation's answer."""
        form = {key: values[0] for key, values in parse_qs(body).items()}
        operation = form.get("Action") or target.rpartition(".")[2]
        self.calls.append(operation)
        if operation == "DescribeStacks":
            return self._describe_stacks(form["StackName"])
        if operation in self.queries:
            return self.queries[operation](form)
        if self.sqs and target.startswith("AmazonSQS."):
            if operation in self.errors:
                status, code, message = self.errors[operation]
                return status, json.dumps({"__type": code, "message": message})
            return self.sqs.answer(operation, json.loads(body))
        if self.dynamodb and target.startswith("DynamoDB_"):
            return self.dynamodb.answer(operation, body)
        return self._get_secret_value(json.loads(body)["SecretId"])

    def _describe_stacks(self, name: str) -> tuple[int, str]:
        status, code, message = self.errors.get("DescribeStacks", (200, "", ""))
        if name != STACK_NAME:
            status, code = 400, "ValidationError"
            message = f"Stack with id {name} does not exist"
        if status != 200:
            error = f"<Error><Type>Sender</Type>{_xml(Code=code, Message=message)}</Error>"
            return status, f"<ErrorResponse>{error}</ErrorResponse>"
        stack = (
            _xml(StackName=name, StackStatus="CREATE_COMPLETE", CreationTime="2026-06-03T10:00:00Z")
            + _members("Parameters", "Parameter", self.parameters)
            + _members("Outputs", "Output", self.outputs)
        )
        return 200, (
            "<DescribeStacksResponse><DescribeStacksResult><Stacks><member>"
            f"{stack}</member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
        )

    def _get_secret_value(self, secret_id: str) -> tuple[int, str]:
        status, code, message = self.errors.get("GetSecretValue", (200, "", ""))
        if self.secret is None or secret_id != SECRET_ARN:
            status, code = 400, "ResourceNotFoundException"
            message = "Secrets Manager can't find the specified secret value"
        if status != 200:
            return status, json.dumps({"__type": code, "Message": message})
        return 200, json.dumps({"ARN": SECRET_ARN, "SecretString": self.secret})


@dataclass
class Sqs:
    """Moto's SQS, with the move tasks and the failing batch entries that a test sets."""

    client: Any
    refused_bodies: dict[str, str] = field(default_factory=dict)
    """A text in the messages whose entries are refused, by operation."""
    move_tasks: list[list[dict[str, Any]]] | None = None
    """The answers of ListMessageMoveTasks, in order; `None` makes the action unknown."""
    died_on: dict[str, str] = field(default_factory=dict)
    """The ARN of the queue that a message was moved from, which moto leaves out."""
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)
    """The wait of each ReceiveMessage, in seconds, which is left out here."""

    def answer(self, operation: str, request: dict[str, Any]) -> tuple[int, str]:
        self.requests.append((operation, request))
        if operation.endswith(("MoveTask", "MoveTasks")):
            return self._answer_of_moves(operation)
        if operation == "ReceiveMessage":
            self.waits.append(request.pop("WaitTimeSeconds"))
        call = getattr(self.client, xform_name(operation))
        refused = self._refused(operation, request)
        if not request.get("Entries", True):
            return 200, json.dumps({"Successful": [], "Failed": refused})
        found = {key: value for key, value in call(**request).items() if key != "ResponseMetadata"}
        for message in found.get("Messages", ()):
            if arn := self.died_on.get(message["MessageId"]):
                message["Attributes"]["DeadLetterQueueSourceArn"] = arn
        return 200, json.dumps(found | ({"Failed": refused} if refused else {}))

    def _answer_of_moves(self, operation: str) -> tuple[int, str]:
        if self.move_tasks is None:
            return 400, json.dumps({"__type": "InvalidAction", "message": "The action is unknown."})
        if operation == "StartMessageMoveTask":
            return 200, json.dumps({"TaskHandle": "handle"})
        tasks = self.move_tasks
        return 200, json.dumps({"Results": tasks.pop(0) if len(tasks) > 1 else tasks[0]})

    def _refused(self, operation: str, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Remove the refused entries from a request; return their failures."""
        if operation not in self.refused_bodies:
            return []
        refused = [
            entry
            for entry in request["Entries"]
            if self.refused_bodies[operation]
            in entry.get("MessageBody", entry.get("ReceiptHandle"))
        ]
        request["Entries"] = [entry for entry in request["Entries"] if entry not in refused]
        failure = {"Code": "InternalError", "Message": "try again", "SenderFault": False}
        return [{"Id": entry["Id"], **failure} for entry in refused]


@dataclass
class DynamoDb:
    """Moto's DynamoDB, one request at a time."""

    client: Any
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, operation: str, body: str) -> tuple[int, str]:
        request = json.loads(body, object_hook=_with_bytes)
        try:
            with self.lock:
                found = getattr(self.client, xform_name(operation))(**request)
        except ClientError as error:
            fault = error.response["Error"]
            return 400, json.dumps({"__type": fault["Code"], "message": fault["Message"]})
        return 200, json.dumps(found, default=_jsonable)


def _with_bytes(value: dict[str, Any]) -> dict[str, Any]:
    """Decode a binary value, which is base64 on the wire."""
    return {"B": base64.b64decode(value["B"])} if value.keys() == {"B"} else value


def _jsonable(value: object) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else 0


def _xml(**elements: str) -> str:
    return "".join(f"<{name}>{escape(text)}</{name}>" for name, text in elements.items())


def _members(container: str, kind: str, values: dict[str, str]) -> str:
    members = "".join(
        f"<member>{_xml(**{f'{kind}Key': key, f'{kind}Value': value})}</member>"
        for key, value in values.items()
    )
    return f"<{container}>{members}</{container}>"


_service_model = functools.cache(JSONFileLoader().load_file)


@pytest.fixture(autouse=True)
def _no_time_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep AWS's service models between boto3 sessions, and shorten the waits of the SDK."""
    monkeypatch.setattr(JSONFileLoader, "load_file", lambda _loader, path: _service_model(path))
    monkeypatch.setattr("cloudflare._base_client.INITIAL_RETRY_DELAY", 0.001)


@pytest.fixture(scope="session")
def aws_server() -> Iterator[ThreadingHTTPServer]:
    """Serve all of AWS at one endpoint, which answers from the running test's `Aws`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            target = self.headers.get("X-Amz-Target", "")
            status, answer = server.aws.answer(target, body)  # type: ignore[attr-defined]
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def realtimekit_server() -> Iterator[Simulator]:
    with Simulator(World(clock=Clock(speed=0))) as simulator:
        yield simulator


@pytest.fixture
def realtimekit(realtimekit_server: Simulator) -> Iterator[Simulator]:
    """Simulate RealtimeKit without a webhook, and with one valid token."""
    realtimekit_server.tokens.add(API_TOKEN)
    realtimekit_server.request_log.clear()
    yield realtimekit_server
    realtimekit_server.faults.clear()
    for webhook in realtimekit_server.webhooks.registrations.all():
        realtimekit_server.webhooks.registrations.remove(webhook.id)


@pytest.fixture
def aws(
    realtimekit: Simulator,
    aws_server: ThreadingHTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> Aws:
    """Describe a stack for the simulated app, in an environment where boto3 finds it."""
    for name in ("CLOUDFLARE_API_TOKEN", "AWS_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws_server.server_port}",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    aws = Aws(
        parameters={
            "CloudflareAccountId": realtimekit.world.account_id,
            "RealtimeKitAppId": realtimekit.world.app_id,
            "RealtimeKitApiUrl": realtimekit.api_url,
        },
        outputs={"WebhookUrl": WEBHOOK_URL, "ApiTokenSecretArn": SECRET_ARN},
        secret=json.dumps({"api_token": API_TOKEN}),
    )
    aws_server.aws = aws  # type: ignore[attr-defined]
    return aws


@pytest.fixture
def sqs(aws: Aws) -> Iterator[Sqs]:
    """Create the stack's queues, empty."""
    with mock_aws():
        client = boto3.client("sqs", endpoint_url="https://sqs.eu-central-1.amazonaws.com")
        for name in QUEUES:
            aws.outputs[f"{name}Url"] = client.create_queue(QueueName=name)["QueueUrl"]
            aws.outputs[f"{name}Arn"] = f"arn:aws:sqs:eu-central-1:123456789012:{name}"
        for name in ("IngestRecording", "ArchiveRecording", "PublishChanges"):
            aws.outputs[f"{name}LogGroupName"] = f"stack-{name}LogGroup"
        aws.parameters["Archiving"] = "on"
        aws.sqs = Sqs(client)
        yield aws.sqs


@pytest.fixture
def dynamodb(aws: Aws) -> Iterator[Any]:
    """Create the stack's table and a restored one, both empty; yield their client."""
    with mock_aws():
        client = boto3.client(
            "dynamodb", endpoint_url="https://dynamodb.eu-central-1.amazonaws.com"
        )
        aws.outputs["RecordingsTableName"] = "RecordingsTable"
        for name in ("RecordingsTable", "restored"):
            client.create_table(
                TableName=name,
                KeySchema=[{"AttributeName": "recording_id", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "recording_id", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        aws.dynamodb = DynamoDb(client)
        yield client


@pytest.fixture
def run(aws: Aws) -> Callable[..., Result]:
    """Run a command, which never shows a token or a traceback."""

    def run(*arguments: str, answer: str | None = None, **environment: str) -> Result:
        result = CliRunner().invoke(main, arguments, input=answer, env=environment)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert "Traceback" not in result.output
        assert "canary" not in result.output
        return result

    return run


@pytest.fixture
def existing(realtimekit: Simulator) -> Callable[..., str]:
    """Register a webhook, with the wanted settings unless others are given; return its id."""

    def existing(**settings: Any) -> str:
        wanted: dict[str, Any] = {
            "name": STACK_NAME,
            "url": WEBHOOK_URL,
            "events": ["meeting.ended", "recording.statusUpdate"],
            "enabled": True,
            **settings,
        }
        return realtimekit.webhooks.registrations.add(wanted.pop("url"), **wanted).id

    return existing


@pytest.fixture
def registered(realtimekit: Simulator) -> Callable[[], list[Webhook]]:
    """Return the webhooks that are registered now."""
    return realtimekit.webhooks.registrations.all


@pytest.fixture
def changes(realtimekit: Simulator) -> Callable[[], list[str]]:
    """Return the methods of all requests so far but GET."""

    def changes() -> list[str]:
        return [request.method for request in realtimekit.requests if request.method != "GET"]

    return changes
