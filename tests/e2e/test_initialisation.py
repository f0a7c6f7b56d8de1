"""Initialisation of the package, under AWS's runtime client and over TLS."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.life import LOOPBACK, PYTHON, package, sample
from bench.runtime import Runtime
from bench.wire import Answer, Request, Wire
from doubles import HANDLERS, Signer

from .conftest import wait_for

SETTINGS = {
    "APP_ID": "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13",
    "REALTIMEKIT_APP_URL": "https://api.cloudflare.com/client/v4/accounts/0/realtime/kit/1",
    "API_TOKEN_SECRET_ARN": "realtimekit-api-token",
    "RECORDINGS_TABLE": "RecordingsTable",
    "WORK_TABLE": "WorkTable",
    "UPSTREAM_REQUESTS_PER_5_MINUTES": "1000",
    "EVENT_BUS_NAME": "EventBus",
    "ORGANIZATION_ID": "",
    "WEBHOOK_KEY_URL": "https://api.realtime.cloudflare.com/.well-known/webhooks.json",
    "WEBHOOK_PUBLIC_KEY": "",
    "INGEST_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/IngestQueue",
    "ARCHIVE_QUEUE_URL": "",
    "URGENT_ARCHIVE_QUEUE_URL": "",
    "ARCHIVE_BUCKET": "archive-bucket",
    "ARCHIVING": "on",
    "SESSION_FILES": "transcript,captions,summary,chat",
    "RETENTION_DAYS": "0",
    "ALLOWED_ORIGINS": "",
    "QUEUE_URLS": "ingest=https://sqs.eu-central-1.amazonaws.com/123456789012/IngestQueue",
    "ARCHIVE_PART_MIB": "5",
    "MEDIA_HOSTS": "storage.googleapis.com",
    "POWERTOOLS_METRICS_NAMESPACE": "tests",
}
RECORDING: dict[str, Any] = {
    "id": "e4b06ce6-0741-47a8-bce4-2c8218072e8c",
    "status": "UPLOADED",
    "session_id": None,
    "output_file_name": "weekly-sync.mp4",
    "invoked_time": "2026-06-03T10:00:01.000Z",
}
ROW = {
    "recording_id": {"S": RECORDING["id"]},
    "meeting_id": {"S": "78e51061-7311-48a3-82ce-6f447ed4d57b"},
    "status": {"S": "UPLOADED"},
    "version": {"N": "1"},
    # Of the budget.
    "used": {"N": "1"},
}


def in_json(content: Any) -> Answer:
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(content).encode())


class World:
    """AWS and RealtimeKit, as far as two functions need them; everything is as it should be."""

    def __init__(self, key: str) -> None:
        self._answers: dict[str, Any] = {
            "GetSecretValue": {"SecretString": '{"api_token": "token"}'},
            "UpdateItem": {"Attributes": ROW},
            "SendMessage": {"MessageId": "059f36b4-87a3-44ab-83d2-661975830a7d"},
            "/client/v4/accounts/0/realtime/kit/1/recordings/" + RECORDING["id"]: {
                "success": True,
                "data": RECORDING,
            },
            "/.well-known/webhooks.json": {"success": True, "data": {"publicKey": key}},
        }

    def __call__(self, request: Request) -> Answer:
        return in_json(self._answers.get(request.target[1] or request.path, {}))


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer()


@pytest.fixture
def wire(tmp_path: Path, signer: Signer) -> Iterator[Wire]:
    with Wire(tmp_path) as server:
        server.answerer = World(signer.pem)
        yield server


def runtime(handler: str, wire: Wire, log: Any = subprocess.DEVNULL, port: str = "") -> Runtime:
    environment = {**SETTINGS, **wire.environment, "PYTHONPATH": f"{LOOPBACK}:{package()}"}
    if port:
        environment["BENCH_WIRE_PORT"] = port
    return Runtime(PYTHON, package(), f"{handler}.handler", environment, log=log)


def asked(wire: Wire) -> list[str]:
    """Return the requests since the last call: operations, or methods with their paths."""
    return [
        request.target[1] or f"{request.method} {request.host}{request.path}"
        for request, _ in wire.drain()
    ]


def warmed_up(wire: Wire, requests: int) -> list[str]:
    """Return the requests once there are so many: on a slow machine the function is late."""
    at_first: list[str] = []

    def are_enough() -> bool:
        at_first.extend(asked(wire))
        return len(at_first) >= requests

    wait_for(are_enough)
    return at_first


def ingest_event() -> Any:
    event = sample("ingest-recording")
    event["Records"][0]["body"] = json.dumps(
        {"v": 1, "source": "webhook", "recording_id": RECORDING["id"]}
    )
    return event


def test_the_first_invocation_finds_the_token_read_and_the_connections_open(wire: Wire) -> None:
    with runtime("ingest_recording", wire) as function:
        at_first = warmed_up(wire, 3)
        connections = wire.connections
        _, answer = function.invoke(ingest_event())

    assert at_first == [
        "GetSecretValue",
        "GET dynamodb.eu-central-1.amazonaws.com/",
        "HEAD api.cloudflare.com/",
    ]
    assert answer == {"batchItemFailures": []}
    assert wire.connections == connections == 3
    assert "GetSecretValue" not in asked(wire)


def test_the_first_webhook_finds_the_key_fetched_and_the_connection_open(
    wire: Wire, signer: Signer
) -> None:
    event = sample("receive-webhook")
    signature = signer.sign(event["body"].encode())
    event["multiValueHeaders"]["rtk-signature"] = [signature]

    with runtime("receive_webhook", wire) as function:
        at_first = warmed_up(wire, 2)
        connections = wire.connections
        _, answer = function.invoke(event)

    assert at_first == [
        "GET api.realtime.cloudflare.com/.well-known/webhooks.json",
        "GET sqs.eu-central-1.amazonaws.com/",
    ]
    assert answer["statusCode"] == 202
    assert wire.connections == connections == 2
    assert asked(wire) == ["SendMessage"]


@pytest.mark.parametrize("handler", HANDLERS)
def test_with_nothing_to_be_reached_a_function_is_initialised_all_the_same(
    handler: str, wire: Wire, tmp_path: Path
) -> None:
    with (tmp_path / "log").open("wb") as log, runtime(handler, wire, log, port="9"):
        logged = (tmp_path / "log").read_text()

    # Refused at once, or tried again for longer than is waited for.
    assert "warm-up failed" in logged or "warm-up timed out" in logged


def test_what_a_warm_up_could_not_have_the_first_invocation_gets(
    wire: Wire,
) -> None:
    world = wire.answerer
    wire.answerer = lambda request: Answer(503, {}, b"{}")
    with runtime("ingest_recording", wire) as function:
        wire.answerer = world
        asked(wire)
        _, answer = function.invoke(ingest_event())

    assert answer == {"batchItemFailures": []}
    assert "GetSecretValue" in asked(wire)
