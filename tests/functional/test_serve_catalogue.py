"""The API's handler: API Gateway's event in, its answer out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import serve_catalogue
from doubles import API_TOKEN, Context, sample
from local.simulator import Simulator, Status, error, gateway_error, html, rate_limited
from recordings.catalogue import Catalogue
from recordings.dynamodb import Table
from recordings.ingestion import Ingestion
from recordings.realtimekit import RealtimeKitError

UNKNOWN_ID = "97cb480d-5840-4528-ace3-919b5e386c68"
Checks = Callable[[], dict[str, str]]


@dataclass
class Reply:
    """What API Gateway would send."""

    status: int
    content_type: str
    headers: dict[str, str]
    body: dict[str, Any]


Call = Callable[..., Reply]


@pytest.fixture
def call(
    ingestion: Ingestion,
    catalogue: Catalogue,
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
) -> Call:
    """Call a route, with the sample event of it for any recording id."""
    monkeypatch.setattr(serve_catalogue, "ingestion", ingestion)
    monkeypatch.setattr(serve_catalogue, "catalogue", catalogue)

    def call(name: str, recording_id: str) -> Reply:
        event = sample(f"serve-catalogue.{name}-recording")
        event["pathParameters"] = {"recording_id": recording_id}
        event["path"] = event["resource"].replace("{recording_id}", recording_id)
        answer = serve_catalogue.handler(event, context)  # type: ignore[arg-type]
        headers = {name: values[0] for name, values in answer["multiValueHeaders"].items()}
        return Reply(
            answer["statusCode"],
            headers.pop("Content-Type"),
            headers,
            json.loads(answer["body"]),
        )

    return call


def test_the_sample_of_a_sync_fetches_the_recording_and_answers_with_its_row(
    call: Call, simulator: Simulator, catalogue: Catalogue
) -> None:
    recording = simulator.world.record_meeting()
    assert (
        recording.id == sample("serve-catalogue.sync-recording")["pathParameters"]["recording_id"]
    )

    reply = call("sync", recording.id)

    assert reply.status == 200
    assert reply.content_type == "application/json"
    assert reply.body["recording_id"] == recording.id
    assert reply.body["status"] == "UPLOADED"
    assert reply.body["meeting_id"] == recording.session.meeting.id
    assert reply.body["meeting_title"] == "Weekly sync"
    assert catalogue.get(recording.id) is not None


def test_what_was_synced_can_be_read(call: Call, simulator: Simulator) -> None:
    recording = simulator.world.record_meeting()

    synced = call("sync", recording.id)

    assert call("get", recording.id) == synced


def test_a_read_asks_nothing_of_realtimekit(call: Call, simulator: Simulator) -> None:
    recording = simulator.world.record_meeting()

    reply = call("get", recording.id)

    assert reply.status == 404
    assert simulator.requests == []


def test_no_answer_shows_a_url_or_what_is_internal(call: Call, simulator: Simulator) -> None:
    recording = simulator.world.record_meeting()

    body = json.dumps(call("sync", recording.id).body)

    assert "Signature" not in body
    assert "app_month" not in body
    assert "status_rank" not in body
    assert '"kind": "video"' in body


def test_a_fractional_duration_is_a_number(call: Call, simulator: Simulator) -> None:
    from local.simulator import RecordingOptions

    recording = simulator.world.record_meeting(options=RecordingOptions(duration=12.001))

    assert call("sync", recording.id).body["duration_seconds"] == 12.001


def test_an_id_in_capitals_is_the_same_recording(call: Call, simulator: Simulator) -> None:
    recording = simulator.world.record_meeting()

    assert call("sync", recording.id.upper()).body["recording_id"] == recording.id
    assert call("get", recording.id.upper()).status == 200


@pytest.mark.parametrize("route", ["get", "sync"])
@pytest.mark.parametrize("bad", ["7", "..%2Fsessions", UNKNOWN_ID + "x", "%00", "é"])
def test_a_malformed_id_is_refused_and_reaches_nobody(
    call: Call, simulator: Simulator, route: str, bad: str
) -> None:
    reply = call(route, bad)

    assert reply.status == 400
    assert reply.content_type == "application/problem+json"
    assert reply.body == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "recording_id is not a UUID.",
    }
    assert simulator.requests == []


def test_a_recording_that_realtimekit_does_not_know_is_a_404_and_no_check(
    call: Call, checks: Checks
) -> None:
    reply = call("sync", UNKNOWN_ID)

    assert reply.status == 404
    assert reply.body["detail"] == "RealtimeKit knows no recording with this recording_id."
    assert checks() == {}


@pytest.mark.parametrize(
    ("fault", "status", "retry_after", "cause"),
    [
        (lambda: rate_limited(120), 503, "120", "throttled"),
        (lambda: error(500), 503, "60", "unavailable"),
        (lambda: html(502), 503, "60", "unavailable"),
        (lambda: gateway_error(403), 502, "60", "unauthorized"),
        (lambda: html(200), 502, "60", "unintelligible"),
    ],
)
def test_trouble_is_told_with_when_to_come_back_and_leaves_a_check(
    call: Call,
    simulator: Simulator,
    checks: Checks,
    fault: Callable[[], Any],
    status: int,
    retry_after: str,
    cause: str,
) -> None:
    recording = simulator.world.record_meeting()
    simulator.faults.add(fault())

    reply = call("sync", recording.id)

    assert reply.status == status
    assert reply.content_type == "application/problem+json"
    assert reply.headers["Retry-After"] == retry_after
    assert cause in reply.body["detail"]
    assert checks() == {f"recording#{recording.id}": cause}


def test_a_sync_of_what_is_not_final_leaves_a_check(
    call: Call, simulator: Simulator, checks: Checks
) -> None:
    recording = simulator.world.record_meeting(status=Status.RECORDING)

    assert call("sync", recording.id).body["status"] == "RECORDING"
    assert checks() == {f"recording#{recording.id}": "not_final"}


def test_without_a_table_the_answer_is_a_503(
    call: Call, dynamodb: Any, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    monkeypatch.setattr(serve_catalogue, "catalogue", Catalogue(Table(dynamodb, "Gone"), "app"))

    reply = call("get", UNKNOWN_ID)

    assert reply.status == 503
    assert reply.headers["Retry-After"] == "1"
    assert "ResourceNotFoundException" in logged()
    assert "ResourceNotFoundException" not in str(reply.body)


def test_a_route_that_is_not_there_is_a_problem_too(call: Call, context: Context) -> None:
    event = {**sample("serve-catalogue.get-recording"), "path": "/elsewhere"}

    answer = serve_catalogue.handler(event, context)  # type: ignore[arg-type]

    assert answer["statusCode"] == 404
    assert json.loads(answer["body"])["title"] == "Not Found"


def test_nothing_that_is_logged_is_secret(
    call: Call, simulator: Simulator, logged: Callable[[], str]
) -> None:
    recording = simulator.world.record_meeting()
    simulator.faults.add(gateway_error(403))
    call("sync", recording.id)
    call("sync", recording.id)

    output = logged()
    assert "postponed" in output
    assert "recording synced" in output
    assert API_TOKEN not in output
    assert "Signature" not in output


def test_every_kind_of_trouble_has_its_answer() -> None:
    for kind in RealtimeKitError.__subclasses__():
        assert serve_catalogue.trouble(kind("x")).status_code in (502, 503)
