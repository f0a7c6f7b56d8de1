"""The webhook's handler: a signed delivery in, a queued message and an answer out."""

from __future__ import annotations

import base64
import json
import runpy
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
import urllib3

import receive_webhook
from doubles import ROOT, Answer, Context, Signer, Upstream, sample
from recordings.webhook import PublicKeys

RECORDING_ID = "e4b06ce6-0741-47a8-bce4-2c8218072e8c"
MEETING_ID = "78e51061-7311-48a3-82ce-6f447ed4d57b"
SESSION_ID = "35bf992d-c9e9-4616-a12e-7696a6cecc1b"
ORGANIZATION_ID = "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13"


@dataclass
class Reply:
    """The answer that API Gateway would send."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


Deliver = Callable[..., Reply]
Queued = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def queue(dynamodb: Any) -> Any:
    return boto3.resource("sqs").create_queue(QueueName="IngestQueue")


@pytest.fixture
def queued(queue: Any) -> Queued:
    """Return a function that receives the ingest queue's messages."""

    def read() -> list[dict[str, Any]]:
        messages = queue.receive_messages(MaxNumberOfMessages=10, VisibilityTimeout=0)
        return [json.loads(message.body) for message in messages]

    return read


@pytest.fixture
def deliver(
    upstream: Upstream,
    http: urllib3.PoolManager,
    signer: Signer,
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
) -> Deliver:
    """Return a function that delivers a body, signed unless headers are given."""
    upstream.says(Answer({"success": True, "data": {"publicKey": signer.pem}}))
    monkeypatch.setattr(receive_webhook, "keys", PublicKeys(upstream.url + "/key", http))

    def deliver(body: Any, *, headers: Any = None, encoded: bool = False) -> Reply:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        event = sample("receive-webhook.recording-status-update")
        signed = {"rtk-signature": [signer.sign(raw)]}
        event["multiValueHeaders"] = signed if headers is None else headers
        event["body"] = base64.b64encode(raw).decode() if encoded else raw.decode()
        event["isBase64Encoded"] = encoded
        answer = receive_webhook.handler(event, context)
        return Reply(answer["statusCode"], json.loads(answer["body"]), answer["headers"])

    return deliver


def status_update(**recording: Any) -> dict[str, Any]:
    return {"event": "recording.statusUpdate", "recording": {"id": RECORDING_ID, **recording}}


@pytest.mark.parametrize(
    "name",
    [
        "recording-status-update",
        "meeting-ended",
        "meeting-transcript",
        "meeting-summary",
        "meeting-chat-synced",
    ],
)
def test_the_samples_are_queued(deliver: Deliver, queued: Queued, name: str) -> None:
    body = sample(f"receive-webhook.{name}")["body"].encode()

    reply = deliver(body)

    assert reply.status == 202
    assert reply.body == {"status": "queued"}
    expected: dict[str, dict[str, Any]] = {
        "meeting-ended": {
            "meeting_id": MEETING_ID,
            "session_id": SESSION_ID,
            "hint": {"session_started_at": "2026-06-03T10:00:00.000Z"},
        },
        "meeting-transcript": {
            "task": "session_files",
            "session_id": SESSION_ID,
            "announced": {
                "transcript": "2026-06-10T10:30:00.000Z",
                "captions": "2026-06-10T10:30:00.000Z",
            },
        },
        "meeting-summary": {
            "task": "session_files",
            "session_id": SESSION_ID,
            "announced": {"summary": "2026-06-10T10:30:00.000Z"},
        },
        "meeting-chat-synced": {
            "task": "session_files",
            "session_id": SESSION_ID,
            "announced": {"chat": "2026-06-10T10:30:00.000Z"},
        },
        "recording-status-update": {
            "recording_id": RECORDING_ID,
            "hint": {
                "meeting_id": MEETING_ID,
                "session_id": SESSION_ID,
                "session_started_at": "2026-06-03T10:00:00.000Z",
                "title": "Weekly sync",
                "organization_id": ORGANIZATION_ID,
            },
        },
    }
    assert queued() == [{"v": 1, "source": "webhook", **expected[name]}]


def test_a_body_that_api_gateway_encoded_is_verified_as_it_was_sent(
    deliver: Deliver, queued: Queued
) -> None:
    body = json.dumps({**status_update(), "t": "é"}, indent=3, ensure_ascii=False)

    assert deliver(body.encode(), encoded=True).status == 202
    assert len(queued()) == 1


@pytest.mark.parametrize("name", ["rtk-signature", "RTK-Signature", "dyte-signature"])
def test_the_signature_is_found_whatever_its_headers_case_and_age(
    deliver: Deliver, signer: Signer, queue: Any, name: str
) -> None:
    body = json.dumps(status_update()).encode()

    assert deliver(body, headers={name: [signer.sign(body)]}).status == 202


@pytest.mark.parametrize(
    "headers",
    [
        {},
        None,
        {"rtk-signature": []},
        {"rtk-signature": [""]},
        {"rtk-signature": ["no base64"]},
        {"rtk-signature": ["YWJj"]},
        {"rtk-signature": ["QUJD" * 85 + "QQ=="]},
        {"x-signature": ["QUJD"]},
    ],
)
def test_what_is_not_signed_is_a_401_and_goes_nowhere(
    deliver: Deliver, queued: Queued, headers: Any
) -> None:
    reply = deliver(status_update(), headers=headers or {"rtk-signature": ["AAAA"]})

    assert reply.status == 401
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.body["title"] == "Unauthorized"
    assert queued() == []


def test_two_signatures_are_a_401(deliver: Deliver, signer: Signer, queued: Queued) -> None:
    body = json.dumps(status_update()).encode()
    signature = signer.sign(body)

    for headers in (
        {"rtk-signature": [signature, signature]},
        {"rtk-signature": [signature], "RTK-SIGNATURE": [signature]},
    ):
        assert deliver(body, headers=headers).status == 401
    assert queued() == []


def test_a_forgery_is_a_401(
    deliver: Deliver, successor: Signer, queued: Queued, logged: Callable[[], str]
) -> None:
    body = json.dumps(status_update()).encode()

    assert deliver(body, headers={"rtk-signature": [successor.sign(body)]}).status == 401
    assert queued() == []
    assert "webhook refused" in logged()


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'"\\ud800"', "the body is no JSON object"),
        (b"not json", "the body is not JSON"),
        (b"[]", "the body is no JSON object"),
        (b"[" * 100_000, "the body is not JSON"),
        (b'{"event": "recording.statusUpdate"}', "recording.id is not a UUID"),
        (
            b'{"event": "recording.statusUpdate", "recording": {"id": "../sessions"}}',
            "recording.id is not a UUID",
        ),
        (b'{"event": "meeting.ended", "meeting": {}}', "meeting.id is not a UUID"),
        (
            b'{"event": "meeting.transcript", "meeting": {"sessionId": "../recordings"}}',
            "the session's id is not a UUID",
        ),
        (b'{"event": "meeting.summary"}', "the session's id is not a UUID"),
        (b'{"event": "meeting.chatSynced", "sessionId": 7}', "the session's id is not a UUID"),
    ],
)
def test_what_can_never_be_read_is_a_400_that_says_why(
    deliver: Deliver, queued: Queued, body: bytes, detail: str
) -> None:
    reply = deliver(body)

    assert reply.status == 400
    assert reply.body["detail"] == detail
    assert queued() == []


def test_a_body_that_is_not_utf8_is_a_400(deliver: Deliver, queued: Queued) -> None:
    assert deliver(b"\xff\xfe", encoded=True).body["detail"] == "the body is not UTF-8"
    assert queued() == []


def test_a_body_whose_encoding_is_broken_is_a_400(deliver: Deliver, context: Context) -> None:
    event = {**sample("receive-webhook.meeting-ended"), "body": "%", "isBase64Encoded": True}

    assert receive_webhook.handler(event, context)["statusCode"] == 400


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 10 * 1024 * 1024])
@pytest.mark.parametrize("encoded", [True, False])
def test_a_body_larger_than_any_event_is_a_413_before_anything_is_computed(
    deliver: Deliver, upstream: Upstream, size: int, encoded: bool
) -> None:
    headers = {"rtk-signature": ["AAAA"]}

    assert deliver(b"x" * size, headers=headers, encoded=encoded).status == 413
    assert upstream.requests == []


@pytest.mark.parametrize(
    "name",
    [
        "meeting.started",
        "meeting.participantJoined",
        "meeting.participantLeft",
        "livestreaming.statusUpdate",
        "something.new",
    ],
)
def test_other_events_are_acknowledged_and_counted(
    deliver: Deliver, queued: Queued, logged: Callable[[], str], name: str
) -> None:
    reply = deliver({"event": name, "streamKey": "canary"})

    assert reply.status == 200
    assert reply.body["status"] == "ignored"
    assert queued() == []
    output = logged()
    assert '"WebhookIgnored":[1.0]' in output.replace(" ", "")
    assert "canary" not in output


@pytest.mark.parametrize(
    ("ours", "theirs", "status"),
    [
        ("", ORGANIZATION_ID, 202),
        (ORGANIZATION_ID, ORGANIZATION_ID, 202),
        (ORGANIZATION_ID, ORGANIZATION_ID.upper(), 202),
        (ORGANIZATION_ID, None, 202),
        (ORGANIZATION_ID, "c94c437b-592a-4a39-b9e2-47ef1451e43b", 200),
    ],
)
def test_events_of_another_organization_are_acknowledged_and_dropped(
    deliver: Deliver,
    queued: Queued,
    monkeypatch: pytest.MonkeyPatch,
    ours: str,
    theirs: str | None,
    status: int,
) -> None:
    monkeypatch.setattr(receive_webhook, "ORGANIZATION_ID", ours)

    assert deliver(status_update(organizationId=theirs)).status == status
    assert len(queued()) == (1 if status == 202 else 0)


@pytest.mark.parametrize("name", ["meeting-transcript", "meeting-summary", "meeting-chat-synced"])
@pytest.mark.parametrize(
    ("ours", "status"),
    [("", 202), (ORGANIZATION_ID, 202), ("c94c437b-592a-4a39-b9e2-47ef1451e43b", 200)],
)
def test_files_of_another_organizations_session_are_acknowledged_and_dropped(
    deliver: Deliver,
    queued: Queued,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    ours: str,
    status: int,
) -> None:
    """A chat's event names the organization at its top, the others in the meeting."""
    monkeypatch.setattr(receive_webhook, "ORGANIZATION_ID", ours)

    assert deliver(sample(f"receive-webhook.{name}")["body"].encode()).status == status
    assert len(queued()) == (1 if status == 202 else 0)


def test_a_key_that_cannot_be_fetched_is_a_503_and_a_minute_later_the_retry_is_accepted(
    deliver: Deliver,
    upstream: Upstream,
    http: urllib3.PoolManager,
    queued: Queued,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Within a minute, forgeries would cause fetches without end."""
    seconds = [1000.0]
    keys = PublicKeys(upstream.url + "/key", http, clock=lambda: seconds[0])
    monkeypatch.setattr(receive_webhook, "keys", keys)
    good = upstream.answers[0]
    upstream.says(Answer(b"", 503))

    reply = deliver(status_update())

    assert reply.status == 503
    assert reply.headers["Retry-After"] == "1"
    assert queued() == []
    upstream.says(good)
    assert deliver(status_update()).status == 503
    assert len(upstream.requests) == 1
    seconds[0] += 60
    assert deliver(status_update()).status == 202
    assert len(queued()) == 1


def test_an_ended_meeting_whose_session_makes_no_sense_is_queued(
    deliver: Deliver, queued: Queued
) -> None:
    event = {"event": "meeting.ended", "meeting": {"id": MEETING_ID, "sessionId": "../x"}}

    assert deliver(event).status == 202
    assert queued() == [{"v": 1, "source": "webhook", "meeting_id": MEETING_ID}]


def test_a_session_file_without_a_url_is_queued(deliver: Deliver, queued: Queued) -> None:
    event = {"event": "meeting.summary", "meeting": {"sessionId": SESSION_ID}}

    assert deliver(event).status == 202
    assert queued() == [
        {"v": 1, "source": "webhook", "task": "session_files", "session_id": SESSION_ID}
    ]


def test_a_queue_that_is_down_is_a_503(deliver: Deliver, dynamodb: Any) -> None:
    """The queue does not exist in this test, so SendMessage fails."""
    assert deliver(status_update()).status == 503


def test_an_invocation_is_acknowledged_and_asks_for_nothing(
    deliver: Deliver, queued: Queued, logged: Callable[[], str]
) -> None:
    reply = deliver(status_update(status="INVOKED"))

    assert (reply.status, reply.body["status"]) == (200, "ignored")
    assert "nothing has been recorded yet" in logged()
    assert queued() == []


def test_an_invocation_without_a_recording_is_malformed(deliver: Deliver) -> None:
    event = status_update(status="INVOKED", id=None, recordingId=None)

    assert deliver(event).status == 400


@pytest.mark.parametrize("status", ["RECORDING", "PAUSED", "UPLOADING"])
def test_an_unfinished_status_is_queued_as_a_report(
    deliver: Deliver, queued: Queued, status: str
) -> None:
    """Dyte wrote times with a space and a size; Cloudflare's names and sizes come at the end."""
    event = status_update(
        status=status,
        startedTime="2026-06-03 10:00:03.051621Z",
        fileSize=216787,
        outputFileName="weekly-sync.mp4",
        organizationId=ORGANIZATION_ID,
        downloadUrl="https://example.com/x?X-Amz-Signature=canary",
    )

    assert deliver(event).status == 202
    report = {
        "status": status,
        "started_at": "2026-06-03T10:00:03.051Z",
        "file_name": "weekly-sync.mp4",
    }
    assert queued() == [
        {
            "v": 1,
            "source": "webhook",
            "recording_id": RECORDING_ID,
            "hint": {"organization_id": ORGANIZATION_ID, "report": report},
        }
    ]


@pytest.mark.parametrize("status", ["UPLOADED", "ERRORED", "TRANSCODING", "", None, 7])
def test_a_final_or_unknown_status_is_queued_without_a_report(
    deliver: Deliver, queued: Queued, status: object
) -> None:
    assert deliver(status_update(status=status)).status == 202
    assert queued() == [{"v": 1, "source": "webhook", "recording_id": RECORDING_ID}]


def test_no_url_of_an_event_is_queued_or_logged(
    deliver: Deliver, queued: Queued, logged: Callable[[], str]
) -> None:
    deliver(status_update(downloadUrl="https://example.com/x?X-Amz-Signature=canary"))

    assert "canary" not in f"{queued()}{logged()}"


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("meeting-transcript", "transcriptDownloadUrl"),
        ("meeting-summary", "summaryDownloadUrl"),
        ("meeting-chat-synced", "chatDownloadUrl"),
    ],
)
def test_no_url_of_a_sessions_file_is_queued_logged_or_answered(
    deliver: Deliver, queued: Queued, logged: Callable[[], str], name: str, field: str
) -> None:
    event = json.loads(sample(f"receive-webhook.{name}")["body"])
    url = "https://bucket.r2.cloudflarestorage.com/x?X-Amz-Signature=canary"

    reply = deliver({**event, field: url})

    [message] = queued()
    assert message["announced"] != {}
    for place in (str(message), logged(), str(reply)):
        assert "canary" not in place
        assert "://" not in place


def test_the_same_delivery_twenty_times_is_twenty_messages_of_one_key(
    deliver: Deliver, queue: Any
) -> None:
    """Duplicates are harmless in the ingest queue."""
    replies = [deliver(status_update()).status for _ in range(20)]

    assert replies == [202] * 20


def test_a_queue_that_cannot_be_reached_is_a_503(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an answer, botocore raises another error than `ClientError`."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        unreachable = boto3.client("sqs", endpoint_url=url, config=receive_webhook.quick)
        monkeypatch.setattr(receive_webhook, "sqs", unreachable)

        reply = deliver(status_update())

    assert reply.status == 503
    assert reply.headers["Retry-After"] == "1"


def test_a_function_whose_key_is_pinned_believes_it_and_fetches_none(
    queued: Queued,
    signer: Signer,
    successor: Signer,
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The handler runs as deployed, and the key's address refuses connections."""
    monkeypatch.setenv("WEBHOOK_PUBLIC_KEY", signer.pem)
    function = runpy.run_path(str(ROOT / "functions" / "receive_webhook.py"))["handler"]
    event = sample("receive-webhook.recording-status-update")
    statuses = []

    for by in (signer, successor):
        event["multiValueHeaders"] = {"rtk-signature": [by.sign(event["body"].encode())]}
        statuses.append(function(event, context)["statusCode"])

    assert statuses == [202, 401]
    assert len(queued()) == 1
