"""What the unit and functional tests share: tables made from the template, and RealtimeKit's place."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# Before any handler is imported: handlers read their settings, and make their clients, at import.
os.environ.update(
    {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "POWERTOOLS_METRICS_NAMESPACE": "RealtimeKitRecordings/tests",
        "APP_ID": "14a396e7-ca44-4937-bf1f-050a69118543",
        "REALTIMEKIT_APP_URL": "http://127.0.0.1:9/nobody-listens-here",
        "API_TOKEN_SECRET_ARN": "realtimekit-api-token",
        "RECORDINGS_TABLE": "RecordingsTable",
        "WORK_TABLE": "WorkTable",
        "UPSTREAM_REQUESTS_PER_5_MINUTES": "1000",
        "INGEST_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/IngestQueue",
    }
)
for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE"):
    os.environ.pop(name, None)

import boto3
import pytest
import urllib3
import yaml
from hypothesis import HealthCheck, settings
from moto import mock_aws

from recordings.catalogue import Catalogue
from recordings.dynamodb import Table
from recordings.realtimekit import ApiToken
from recordings.worklist import Worklist

# Machines are shared: how long an example takes says nothing.
settings.register_profile(
    "shared", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shared")

ROOT = Path(__file__).parent.parent
APP_ID = os.environ["APP_ID"]
API_TOKEN = "canary-token-6d0f"


class Clock:
    """A clock that stands still until told otherwise."""

    def __init__(self) -> None:
        self.time = datetime(2026, 6, 3, 10, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class _Loader(yaml.SafeLoader):
    """CloudFormation's short forms as what they stand for: !Ref x is {"Ref": x}."""


def _intrinsic(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        return {name: value.split(".") if suffix == "GetAtt" else value}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _intrinsic)


@pytest.fixture(scope="session")
def template() -> Mapping[str, Any]:
    """template.yaml as CloudFormation reads it."""
    loaded = yaml.load((ROOT / "template.yaml").read_text(), _Loader)  # noqa: S506
    assert isinstance(loaded, dict)
    return loaded


def sample(name: str) -> Any:
    """The sample event of that name."""
    return json.loads((ROOT / "events" / f"{name}.json").read_text())


_TABLE_PROPERTIES = (
    "BillingMode",
    "AttributeDefinitions",
    "KeySchema",
    "GlobalSecondaryIndexes",
)


@pytest.fixture
def dynamodb(template: Mapping[str, Any]) -> Iterator[Any]:
    """DynamoDB with the template's tables, under their logical names; all of AWS is moto's."""
    with mock_aws():
        client = boto3.client("dynamodb")
        for name, resource in template["Resources"].items():
            if resource["Type"] == "AWS::DynamoDB::Table":
                properties = {
                    key: value
                    for key, value in resource["Properties"].items()
                    if key in _TABLE_PROPERTIES
                }
                client.create_table(TableName=name, **properties)
        yield client


@pytest.fixture
def recordings_table(dynamodb: Any) -> Table:
    return Table(dynamodb, "RecordingsTable")


@pytest.fixture
def work_table(dynamodb: Any) -> Table:
    return Table(dynamodb, "WorkTable")


@pytest.fixture
def catalogue(recordings_table: Table) -> Catalogue:
    return Catalogue(recordings_table, APP_ID)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def worklist(work_table: Table, clock: Clock) -> Worklist:
    return Worklist(work_table, clock)


@pytest.fixture
def secretsmanager(dynamodb: Any) -> Any:
    """Secrets Manager with the API token in it."""
    client = boto3.client("secretsmanager")
    client.create_secret(
        Name="realtimekit-api-token", SecretString=json.dumps({"api_token": API_TOKEN})
    )
    return client


@pytest.fixture
def token(secretsmanager: Any) -> ApiToken:
    return ApiToken(secretsmanager, "realtimekit-api-token")


@dataclass
class Answer:
    """What the loopback server says to one request."""

    body: bytes | str | dict[str, Any] = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


class Upstream:
    """A loopback HTTP server that gives prepared answers, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                upstream.requests.append((self.path, dict(self.headers)))
                answers = upstream.answers
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                time.sleep(answer.delay)
                self.send_response(answer.status)
                for header, value in {
                    "Content-Length": str(len(answer.content)),
                    **answer.headers,
                }.items():
                    self.send_header(header, value)
                self.end_headers()
                self.wfile.write(answer.content)
                self.close_connection = "Content-Length" in answer.headers

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def says(self, *answers: Answer) -> None:
        self.answers = list(answers)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.stop()


@pytest.fixture
def http() -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager() as pool:
        yield pool
