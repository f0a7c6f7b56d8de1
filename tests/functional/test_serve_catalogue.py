"""The API's handler: API Gateway's event in, its answer out, as the OpenAPI document says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
import urllib3
from botocore.config import Config
from botocore.exceptions import ClientError
from openapi_schema_validator import OAS31Validator

import serve_catalogue
from api_calls import DOCUMENT, Reply, api_event, expect_documented, resolved
from doubles import (
    API_TOKEN,
    APP_ID,
    AnyRequest,
    Clock,
    Context,
    s3_fails,
    sample,
    state_of,
    tracks,
)
from realtimekit_simulator import (
    Kind,
    Overlay,
    Recording,
    RecordingOptions,
    Simulator,
    Status,
    error,
    gateway_error,
    html,
    rate_limited,
)
from recordings import problems
from recordings.archive import Archive
from recordings.archiver import Archiver
from recordings.catalogue import Catalogue
from recordings.dynamodb import Table
from recordings.ingestion import Ingestion
from recordings.listing import LISTED, Listing
from recordings.messages import ArchiveRequest, Source
from recordings.model import Artifact
from recordings.model import Recording as Seen
from recordings.realtimekit import ApiToken, RealtimeKitError
from recordings.sweeps import State, Sweeps
from recordings.worklist import Worklist

UNKNOWN_ID = "97cb480d-5840-4528-ace3-919b5e386c68"
MIB = 1024 * 1024
DAY = 86_400
Checks = Callable[[], dict[str, str]]


Call = Callable[..., Reply]


@pytest.fixture
def sweeps(work_table: Table, clock: Clock) -> Sweeps:
    return Sweeps(work_table, APP_ID, clock)


@pytest.fixture
def api(
    ingestion: Ingestion,
    catalogue: Catalogue,
    recordings_table: Table,
    archive: Archive,
    context: Context,
    token: ApiToken,
    sweeps: Sweeps,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> Call:
    """Call a route; what it answers must be documented."""
    monkeypatch.setattr(serve_catalogue, "ingestion", ingestion)
    monkeypatch.setattr(serve_catalogue, "catalogue", catalogue)
    monkeypatch.setattr(serve_catalogue, "recordings", Listing(recordings_table, APP_ID))
    monkeypatch.setattr(serve_catalogue, "token", token)
    monkeypatch.setattr(serve_catalogue, "work", sweeps)
    monkeypatch.setattr(serve_catalogue, "archive", lambda: archive)
    monkeypatch.setattr(serve_catalogue, "utcnow", clock)

    def call(
        method: str,
        resource: str,
        identifier: str | None = None,
        query: Mapping[str, str | list[str]] | None = None,
        headers: Mapping[str, str] | None = None,
        body: str | None = None,
    ) -> Reply:
        path = {name: identifier or "" for name in re.findall(r"{(\w+)}", resource)}
        event = api_event(method, resource, query or {}, headers or {}, body, **path)
        answer = serve_catalogue.handler(event, context)
        given = {name: values[0] for name, values in answer["multiValueHeaders"].items()}
        reply = Reply(
            answer["statusCode"],
            given.pop("Content-Type", ""),
            given,
            json.loads(answer["body"]) if answer["body"] else None,
        )
        expect_documented(method, resource, reply)
        return reply

    return call


ONE = "/recordings/{recording_id}"
PATCH = {"Content-Type": "application/merge-patch+json"}
SWEEP = "/sweeps/{sweep_id}"


@pytest.fixture
def call(api: Call) -> Call:
    """Read or sync one recording."""
    routes = {"get": ("GET", ONE), "sync": ("POST", f"{ONE}/sync")}
    return lambda name, recording_id: api(*routes[name], recording_id)


def test_the_sample_of_a_sync_fetches_the_recording_and_answers_with_its_row(
    call: Call, simulator: Simulator, catalogue: Catalogue
) -> None:
    recording = simulator.world.record_meeting()
    event = sample("serve-catalogue.sync-recording")
    assert recording.id == event["pathParameters"]["recording_id"]

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
    assert "status_rank" not in body
    assert '"kind": "video"' in body


def test_a_fractional_duration_is_a_number(call: Call, simulator: Simulator) -> None:
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
        "parameter": "recording_id",
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
    call: Call, dynamodb: Any, logged: Callable[[], str]
) -> None:
    dynamodb.delete_table(TableName="RecordingsTable")

    reply = call("get", UNKNOWN_ID)

    assert reply.status == 503
    assert reply.headers["Retry-After"] == "1"
    assert "ResourceNotFoundException" in logged()
    assert "ResourceNotFoundException" not in str(reply.body)


def test_a_route_that_is_not_there_is_a_problem_too(call: Call, context: Context) -> None:
    event = {**sample("serve-catalogue.get-recording"), "resource": "/elsewhere"}

    answer = serve_catalogue.handler(event, context)

    assert answer["statusCode"] == 404
    assert json.loads(answer["body"])["title"] == "Not Found"


def test_behind_a_custom_domain_with_a_base_path_it_is_the_same(
    call: Call, simulator: Simulator, context: Context
) -> None:
    recording = simulator.world.record_meeting()
    call("sync", recording.id)
    event = sample("serve-catalogue.get-recording")
    event["path"] = f"/meetings{event['path']}"

    answer = serve_catalogue.handler(event, context)

    assert answer["statusCode"] == 200


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
        assert problems.not_fetched(kind("x")).status in (502, 503)


# --- reading ---


def test_who_has_the_version_is_sent_nothing(api: Call, call: Call, simulator: Simulator) -> None:
    recording = simulator.world.record_meeting()
    tag = call("sync", recording.id).headers["ETag"]

    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        reply = api("GET", ONE, recording.id, headers={"If-None-Match": given})
        assert (reply.status, reply.body, reply.headers) == (304, None, {"ETag": tag})
    for given in ('"other"', "", "1"):
        assert api("GET", ONE, recording.id, headers={"If-None-Match": given}).status == 200


def test_a_version_that_changed_is_sent(
    api: Call, call: Call, simulator: Simulator, catalogue: Catalogue
) -> None:
    recording = simulator.world.record_meeting()
    tag = call("sync", recording.id).headers["ETag"]
    state = {"state": "expired", "expired_at": "2026-06-10T10:30:00.000Z"}
    catalogue.record_archive(recording.id, {"video": state})

    reply = api("GET", ONE, recording.id, headers={"If-None-Match": tag})

    assert reply.status == 200
    assert reply.headers["ETag"] != tag


@pytest.mark.parametrize(
    ("method", "resource"),
    [
        ("GET", "/recordings"),
        ("GET", ONE),
        ("DELETE", ONE),
        ("POST", f"{ONE}/sync"),
        ("GET", f"{ONE}/links"),
        ("GET", "/sweeps"),
        ("GET", SWEEP),
        ("DELETE", SWEEP),
        ("GET", "/health"),
        ("GET", "/openapi.json"),
    ],
)
@pytest.mark.parametrize(
    ("query", "body", "parameter"),
    [({"unknown": "1"}, None, "unknown"), ({}, '{"x": 1}', "body"), ({}, "x", "body")],
)
def test_what_no_route_expects_is_refused(
    api: Call,
    simulator: Simulator,
    method: str,
    resource: str,
    query: dict[str, str],
    body: str | None,
    parameter: str,
) -> None:
    reply = api(method, resource, UNKNOWN_ID, query, body=body)

    assert (reply.status, reply.body["parameter"]) == (400, parameter)
    assert simulator.requests == []


@pytest.mark.parametrize("body", ["", "{}", " {} \n", "null"])
def test_an_empty_body_counts_as_none(api: Call, body: str) -> None:
    assert api("GET", "/recordings", body=body).status == 200
    assert api("POST", f"{ONE}/sync", UNKNOWN_ID, body=body).status == 404


@pytest.mark.parametrize("name", ["from", "to"])
def test_an_offset_whose_plus_became_a_space_is_told_how_to_write_it(api: Call, name: str) -> None:
    """API Gateway decodes a query string's + to a space."""
    reply = api("GET", "/recordings", query={name: "2026-06-03T10:00:00 02:00"})

    assert (reply.status, reply.body["parameter"]) == (400, name)
    assert (
        reply.body["detail"]
        == f"{name} has a space before its offset: write the + as %2B in a URL."
    )


# --- the list ---


@pytest.fixture
def some(simulator: Simulator, catalogue: Catalogue, ingestion: Ingestion) -> list[Recording]:
    """Catalogue three recordings of one meeting, an hour apart, and a failed one of another."""
    world = simulator.world
    meeting = world.create_meeting(title="Weekly sync", at=world.clock.now() - timedelta(days=1))
    start = datetime(2026, 6, 3, 6, 0, tzinfo=UTC)
    found = [
        world.record_meeting(meeting=meeting, started_at=start + timedelta(hours=hour))
        for hour in range(3)
    ]
    found.append(
        world.record_meeting(status=Status.ERRORED, started_at=start + timedelta(minutes=30))
    )
    for recording in found:
        seen = ingestion.realtimekit.recording(recording.id)
        session = ingestion.realtimekit.session(recording.session.id)
        catalogue.upsert(
            replace(seen, meeting_id=session.meeting_id, meeting_title=session.meeting_title),
            ingestion.now(),
        )
    return found


def ids(reply: Reply) -> list[str]:
    assert reply.status == 200
    return [item["recording_id"] for item in reply.body["recordings"]]


def test_the_list_is_newest_first_and_says_what_its_items_may(
    api: Call, some: list[Recording]
) -> None:
    first, second, third, failed = some

    reply = api("GET", "/recordings")

    assert ids(reply) == [third.id, second.id, failed.id, first.id]
    assert "next_cursor" not in reply.body
    item = reply.body["recordings"][0]
    assert item == {
        "recording_id": third.id,
        "status": "UPLOADED",
        "meeting_id": third.session.meeting.id,
        "session_id": third.session.id,
        "meeting_title": "Weekly sync",
        "invoked_at": "2026-06-03T08:00:00.000Z",
        "started_at": "2026-06-03T08:00:03.000Z",
        "stopped_at": "2026-06-03T08:30:03.000Z",
        "duration_seconds": 1800,
        "file_name": third.file_name,
        "file_size": third.file_size,
        "archived": "no",
    }
    assert set(item) == set(LISTED)


def test_the_sample_of_a_list_is_answered(
    api: Call, some: list[Recording], context: Context
) -> None:
    answer = serve_catalogue.handler(
        sample("serve-catalogue.list-recordings"),
        context,
    )

    assert answer["statusCode"] == 200
    assert len(json.loads(answer["body"])["recordings"]) == 2


def test_filters_are_what_they_say(api: Call, some: list[Recording]) -> None:
    expected: list[tuple[dict[str, str], list[int]]] = [
        ({"order": "oldest"}, [0, 3, 1, 2]),
        ({"status": "ERRORED"}, [3]),
        ({"status": "UPLOADED", "order": "oldest"}, [0, 1, 2]),
        ({"status": "PAUSED"}, []),
        ({"archived": "no"}, [2, 1, 0]),
        ({"archived": "yes"}, []),
        ({"from": "2026-06-03T07:00:00Z"}, [2, 1]),
        ({"to": "2026-06-03T07:00:00Z"}, [3, 0]),
        ({"from": "2026-06-03T06:00:00.000Z", "to": "2026-06-03T06:00:00.001Z"}, [0]),
        ({"from": "2026-06-03", "to": "2026-06-04"}, [2, 1, 3, 0]),
        ({"from": "2026-06-03T09:00:00+02:00", "to": "2026-06-03T09:00:01+02:00"}, [1]),
        ({"from": "2026-06-04"}, []),
        ({"limit": "2"}, [2, 1]),
    ]
    numbers = {recording.id: n for n, recording in enumerate(some)}

    found = [
        (query, [numbers[one] for one in ids(api("GET", "/recordings", query=query))])
        for query, _ in expected
    ]

    assert found == expected


def test_meetings_and_sessions_can_be_asked_for(api: Call, some: list[Recording]) -> None:
    first, second, third, failed = some
    meeting, session = first.session.meeting.id, second.session.id

    def asked(**query: str) -> list[str]:
        return ids(api("GET", "/recordings", query=query))

    assert asked(meeting_id=meeting) == [third.id, second.id, first.id]
    assert asked(meeting_id=meeting.upper(), order="oldest", limit="1") == [first.id]
    assert asked(session_id=session) == [second.id]
    assert asked(session_id=session, meeting_id=meeting) == [second.id]
    assert asked(session_id=session, meeting_id=failed.session.meeting.id) == []
    assert asked(meeting_id=meeting, status="UPLOADED", archived="no") == [
        third.id,
        second.id,
        first.id,
    ]
    assert asked(meeting_id=UNKNOWN_ID) == []


def test_pages_follow_each_other(api: Call, some: list[Recording]) -> None:
    first, second, third, failed = some
    page = api("GET", "/recordings", query={"limit": "2"})
    assert ids(page) == [third.id, second.id]

    query = {"limit": "1", "cursor": page.body["next_cursor"]}
    page = api("GET", "/recordings", query=query)
    assert ids(page) == [failed.id]
    page = api("GET", "/recordings", query={"cursor": page.body["next_cursor"]})
    assert ids(page) == [first.id]
    assert "next_cursor" not in page.body


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"limit": "1e1"}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"limit": ["1", "2"]}, "limit"),
        ({"status": "uploaded"}, "status"),
        ({"status": ""}, "status"),
        ({"status": ["UPLOADED", "ERRORED"]}, "status"),
        ({"archived": "true"}, "archived"),
        ({"label": "order"}, "label"),
        ({"label": "Order:1"}, "label"),
        ({"label": "order:"}, "label"),
        ({"label": ["order:1", "order:2"]}, "label"),
        ({"order": "asc"}, "order"),
        ({"meeting_id": "7"}, "meeting_id"),
        ({"session_id": ""}, "session_id"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-06-31"}, "from"),
        ({"from": "2026-06-03T10:00:00"}, "from"),
        ({"from": "2026-06-03T10:00:00 02:00"}, "from"),
        ({"to": "0001-01-01"}, "to"),
        ({"to": "9999-12-31T23:59:59-23:00"}, "to"),
        ({"to": "1780480800"}, "to"),
        ({"from": "2026-06-03", "to": "2026-06-03"}, "from"),
        ({"from": "2026-06-04", "to": "2026-06-03"}, "from"),
        ({"page": "2"}, "page"),
        ({"cursor": ""}, "cursor"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "é"}, "cursor"),
        ({"cursor": "A" * 92}, "cursor"),
    ],
)
def test_a_wrong_parameter_is_named(api: Call, query: dict[str, Any], parameter: str) -> None:
    reply = api("GET", "/recordings", query=query)

    assert (reply.status, reply.body["parameter"]) == (400, parameter)
    assert reply.body["detail"].startswith(f"{parameter} ")


def test_a_cursor_is_good_for_its_own_query_only(api: Call, some: list[Recording]) -> None:
    meeting = {"meeting_id": some[0].session.meeting.id}
    cursor = api("GET", "/recordings", query={**meeting, "limit": "1"}).body["next_cursor"]

    for query in (
        {},
        {"order": "oldest", **meeting},
        {"status": "UPLOADED", **meeting},
        {"from": "2026-06-03", **meeting},
        {"session_id": some[0].session.id},
    ):
        reply = api("GET", "/recordings", query={**query, "cursor": cursor})
        assert (reply.status, reply.body["parameter"]) == (400, "cursor")
    for broken in (cursor[:-1], cursor[1:], cursor + "A", cursor[:20] + "A" + cursor[21:]):
        reply = api("GET", "/recordings", query={**meeting, "cursor": broken})
        assert (reply.status, reply.body["parameter"]) == (400, "cursor")
    assert ids(api("GET", "/recordings", query={**meeting, "cursor": cursor})) == [
        some[1].id,
        some[0].id,
    ]


def test_a_page_reads_one_row_more_than_it_shows_and_the_annotations_of_its_own(
    api: Call, some: list[Recording], dynamodb: Any
) -> None:
    asked: list[dict[str, Any]] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        asked.append(json.loads(params["body"]))

    dynamodb.meta.events.register("before-call.dynamodb", note)

    api("GET", "/recordings", query={"limit": "2"})
    api("GET", ONE, some[0].id)

    assert [one.get("Limit") for one in asked] == [3, None, None]
    assert asked[0]["IndexName"] == "by_time"
    keys = asked[1]["RequestItems"]["RecordingsTable"]["Keys"]
    assert keys == [{"recording_id": {"S": some[2].id}}, {"recording_id": {"S": some[1].id}}]
    assert asked[2]["Key"] == {"recording_id": {"S": some[0].id}}


def test_recordings_are_found_by_a_label_in_their_order_and_page_by_page(
    api: Call, some: list[Recording], dynamodb: Any
) -> None:
    for recording, order in zip(some, ("a:1", "a:1", "2", "a:1"), strict=True):
        patch = json.dumps({"labels": {"order": order}})
        api("PATCH", ONE, recording.id, None, PATCH, patch)
    api("PATCH", ONE, some[0].id, None, PATCH, '{"hold": {"reason": "case 12"}}')
    asked: list[str] = []
    dynamodb.meta.events.register(
        "before-call.dynamodb", lambda model, **_: asked.append(model.name)
    )

    first = api("GET", "/recordings", query={"label": "order:a:1", "limit": "2"})
    query = {"label": "order:a:1", "limit": "2", "cursor": first.body["next_cursor"]}
    second = api("GET", "/recordings", query=query)

    assert ids(first) == [some[1].id, some[3].id]
    assert ids(second) == [some[0].id]
    [item] = second.body["recordings"]
    assert item["labels"] == {"order": "a:1"}
    assert item["hold"] == {"reason": "case 12", "since": "2026-06-03T10:30:00.000Z"}
    assert asked == ["Query", "Query"]
    meeting = {"meeting_id": some[0].session.meeting.id}
    for query, found in (
        ({"label": "order:2"}, [some[2].id]),
        ({"label": "order:a"}, []),
        ({"label": "order:a:1", "status": "ERRORED"}, [some[3].id]),
        ({"label": "order:a:1", **meeting}, [some[1].id, some[0].id]),
    ):
        assert ids(api("GET", "/recordings", query=query)) == found


def test_the_list_shows_labels_and_holds(api: Call, some: list[Recording]) -> None:
    api("PATCH", ONE, some[0].id, None, PATCH, '{"labels": {"order": "4711"}}')
    api("PATCH", ONE, some[3].id, None, PATCH, '{"hold": {"reason": "case 12"}}')

    listed = {item["recording_id"]: item for item in api("GET", "/recordings").body["recordings"]}

    assert listed[some[0].id]["labels"] == {"order": "4711"}
    assert listed[some[3].id]["hold"]["reason"] == "case 12"
    assert [item.keys() & {"labels", "hold"} for item in listed.values()].count(set()) == 2


def test_what_is_erased_is_in_no_list(api: Call, some: list[Recording]) -> None:
    api("DELETE", ONE, some[3].id)

    assert ids(api("GET", "/recordings")) == [some[2].id, some[1].id, some[0].id]
    assert ids(api("GET", "/recordings", query={"status": "ERRORED"})) == []


# --- links ---


@pytest.fixture
def archived(
    simulator: Simulator, ingestion: Ingestion, archiver: Archiver
) -> Callable[..., Recording]:
    """Return a recording with its files in the archive."""

    def archived(title: str = "Weekly sync", **options: Any) -> Recording:
        options = {"file_size": MIB, **options}
        recording = simulator.world.record_meeting(title=title, options=RecordingOptions(**options))
        seen = ingestion.realtimekit.recording(recording.id)
        ingestion.catalogue.upsert(replace(seen, meeting_title=title), ingestion.now())
        request = ArchiveRequest(
            recording_id=recording.id,
            deadline="2026-06-10T10:30:00.000Z",
            source=Source.CATALOGUE,
        )
        archiver.archive_recording(request, 900, lambda: False, lambda names: None)
        return recording

    return archived


LINKS = f"{ONE}/links"


def test_a_link_to_the_archive_downloads_the_file_under_title_and_date(
    api: Call, archived: Callable[..., Recording], simulator: Simulator
) -> None:
    recording = archived(separate_audio=True, audio_file_size=100)

    reply = api("GET", LINKS, recording.id, {"expires_in": "60"})

    assert reply.headers["Cache-Control"] == "no-store"
    assert [link["name"] for link in reply.body["links"]] == ["audio", "video"]
    assert reply.body["missing"] == []
    for link, file in zip(
        reply.body["links"], reversed(simulator.world.media_files(recording)), strict=True
    ):
        assert link["source"] == "archive"
        assert link["size"] == file.size
        assert link["expires_at"] == "2026-06-03T10:31:00.000Z"
        assert parse_qs(urlsplit(link["url"]).query)["X-Amz-Expires"] == ["60"]
        answer = urllib3.request("GET", link["url"], retries=False)
        assert answer.status == 200
        assert answer.data == file.read()
        assert answer.headers["Content-Type"] == file.content_type
        assert link["content_type"] == file.content_type
    assert [said_by(link) for link in reply.body["links"]] == [
        ("attachment", "Weekly sync 2026-06-03 09.59 audio.aac", "audio/aac"),
        ("attachment", "Weekly sync 2026-06-03 09.59 video.mp4", "video/mp4"),
    ]


def said_by(link: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return how the archive serves a link: disposition, name and content type."""
    answer = urllib3.request("GET", link["url"], retries=False)
    assert answer.status == 200
    match = re.fullmatch(
        r"(attachment|inline); filename=\"([ -~]+?)\"(; filename\*=UTF-8''([!-~]+))?",
        answer.headers["Content-Disposition"],
    )
    assert match
    return match[1], unquote(match[4] or match[2]), answer.headers["Content-Type"]


@pytest.mark.parametrize(
    ("options", "name", "shown"),
    [
        ({}, "video.mp4", ("inline", "video/mp4")),
        ({"video_codec": "VP9"}, "video.webm", ("inline", "video/webm")),
        ({"kind": Kind.AUDIO}, "audio.aac", ("inline", "audio/aac")),
        ({"kind": Kind.AUDIO, "audio_codec": "MP3"}, "audio.mp3", ("inline", "audio/mpeg")),
        ({"kind": Kind.TRACK, "participants": 1}, "track.webm", ("inline", "audio/webm")),
        ({"kind": Kind.INTERACTIVE}, "video.tar", ("attachment", "application/octet-stream")),
    ],
)
def test_an_inline_link_plays_unless_no_browser_plays_the_file(
    api: Call,
    archived: Callable[..., Recording],
    options: dict[str, Any],
    name: str,
    shown: tuple[str, str],
) -> None:
    recording = archived(audio_file_size=MIB, **options)

    [link] = api("GET", LINKS, recording.id, {"disposition": "inline"}).body["links"]

    disposition, type_ = shown
    assert said_by(link) == (disposition, f"Weekly sync 2026-06-03 09.59 {name}", type_)
    assert link.get("content_type") == (type_ if disposition == "inline" else None)


@pytest.mark.parametrize(
    ("kind", "suffix", "stored", "shown"),
    [
        ("transcript", "json", "application/json", "text/plain; charset=utf-8"),
        ("captions", "vtt", "text/vtt; charset=utf-8", "text/vtt; charset=utf-8"),
        ("summary", "md", "text/markdown; charset=utf-8", "text/plain; charset=utf-8"),
        ("chat", "csv", "text/csv; charset=utf-8", "text/plain; charset=utf-8"),
    ],
)
def test_a_sessions_text_is_saved_as_it_is_and_shown_as_text(
    api: Call,
    archived: Callable[..., Recording],
    archive: Archive,
    catalogue: Catalogue,
    kind: str,
    suffix: str,
    stored: str,
    shown: str,
) -> None:
    recording = archived()
    key = f"{APP_ID}/2026/06/03/{recording.id}/{kind}/{recording.session.id}.{suffix}"
    archive.put(key, "Grüße".encode(), stored, recording.id)
    state = {"state": "archived", "bucket": archive.bucket, "key": key, "size": 7}
    catalogue.record_archive(recording.id, {kind: state})
    name = f"Weekly sync 2026-06-03 09.59 {kind}.{suffix}"

    [saved] = api("GET", LINKS, recording.id, {"artifact": kind}).body["links"]
    query = {"artifact": kind, "disposition": "inline"}
    [inline] = api("GET", LINKS, recording.id, query).body["links"]

    assert said_by(saved) == ("attachment", name, stored)
    assert said_by(inline) == ("inline", name, shown)
    assert (saved["content_type"], inline["content_type"]) == (stored, shown)


@pytest.mark.parametrize("name", ["evil.html", "evil.svg", "evil.xml", "evil", "evil.mp4.htm"])
def test_a_page_that_somehow_was_stored_never_runs_in_the_buckets_origin(
    api: Call, archive: Archive, catalogue: Catalogue, clock: Clock, name: str
) -> None:
    video = Artifact(name="video", kind="video", file_name=name)
    seen = Seen(recording_id=UNKNOWN_ID, status="UPLOADED", artifacts=(video,))
    catalogue.upsert(seen, clock())
    key = f"{APP_ID}/2026/06/03/{UNKNOWN_ID}/video/{name}"
    archive.put(key, b"<script>alert(1)</script>", "text/html", UNKNOWN_ID)
    catalogue.record_archive(
        UNKNOWN_ID,
        {"video": {"state": "archived", "bucket": archive.bucket, "key": key, "size": 25}},
    )

    [link] = api("GET", LINKS, UNKNOWN_ID, {"disposition": "inline"}).body["links"]

    disposition, _, type_ = said_by(link)
    assert (disposition, type_) == ("attachment", "application/octet-stream")
    assert "content_type" not in link


def test_a_link_survives_whatever_the_meeting_is_called(
    api: Call, archived: Callable[..., Recording]
) -> None:
    title = 'Wöchentlich "1"; <img src=x onerror=alert(1)>\r\nSet-Cookie: a=b\u202e/../%2F'
    recording = archived(title=title)

    [link] = api("GET", LINKS, recording.id).body["links"]

    assert said_by(link) == (
        "attachment",
        "Wöchentlich _1_; _img src=x onerror=alert(1)_ Set-Cookie_ a=b__.._%2F"
        " 2026-06-03 09.59 video.mp4",
        "video/mp4",
    )


@pytest.mark.parametrize("disposition", ["", "Inline", "form-data", "inline; filename=a.html"])
def test_a_disposition_that_no_link_has_is_refused_by_its_name(
    api: Call, archived: Callable[..., Recording], disposition: str
) -> None:
    reply = api("GET", LINKS, archived().id, {"disposition": disposition})

    assert (reply.status, reply.body["parameter"]) == (400, "disposition")
    assert reply.body["detail"] == "disposition must be one of attachment, inline."


def test_links_say_the_regions_own_host_and_are_signed_with_version_4() -> None:
    archive = serve_catalogue.archive()
    assert archive

    url = urlsplit(archive.link("a/b.mp4", {}, 60))

    assert url.netloc == "archive-bucket.s3.eu-central-1.amazonaws.com"
    assert parse_qs(url.query)["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]


@pytest.mark.parametrize("query", [{}, {"disposition": "inline"}])
def test_while_a_file_is_not_archived_the_link_is_realtimekits_whatever_the_disposition(
    api: Call, call: Call, simulator: Simulator, clock: Clock, query: dict[str, str]
) -> None:
    recording = simulator.world.record_meeting()
    call("sync", recording.id)

    [link] = api("GET", LINKS, recording.id, query).body["links"]

    assert link["source"] == "realtimekit"
    assert link["content_type"] == "video/mp4"
    assert "response-content" not in link["url"]
    assert link["url"].startswith(simulator.url)
    assert link["expires_at"] == "2026-06-10T10:29:40.000Z"
    clock.advance(7 * DAY)
    reply = api("GET", LINKS, recording.id)
    assert reply.status == 410
    assert reply.body["detail"] == "There is no file any more: expired."


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (Status.RECORDING, 409, "not_yet"),
        (Status.UPLOADING, 409, "not_yet"),
        (Status.ERRORED, 410, "no_file"),
    ],
)
def test_where_there_is_no_file_the_reason_is_said(
    api: Call, call: Call, simulator: Simulator, status: Status, code: int, reason: str
) -> None:
    recording = simulator.world.record_meeting(status=status)
    call("sync", recording.id)

    reply = api("GET", LINKS, recording.id)

    assert reply.status == code
    assert reason in reply.body["detail"]


def test_of_a_recording_that_never_had_a_file_there_is_none(
    api: Call, call: Call, simulator: Simulator, catalogue: Catalogue
) -> None:
    simulator.faults.add(
        Overlay({"download_url": {"links": []}, "file_size": 0, "output_file_name": "{{x}}.webm"}),
        path="/recordings/",
    )
    recording = simulator.world.record_meeting()
    call("sync", recording.id)
    reply = api("GET", LINKS, recording.id)
    assert (reply.status, reply.body["detail"]) == (409, "There is no file to link to: not_yet.")

    none = {"state": "none", "noted_at": "2026-06-10T10:30:00.000Z"}
    catalogue.record_archive(recording.id, {"track": none})

    reply = api("GET", LINKS, recording.id)
    assert (reply.status, reply.body["detail"]) == (410, "There is no file any more: no_file.")
    assert api("GET", ONE, recording.id).body["artifacts"]["track"]["archive"] == none


def test_a_file_in_a_storage_of_the_owners_has_no_link_of_ours(
    api: Call, archived: Callable[..., Recording]
) -> None:
    storage = {"type": "aws", "bucket": "owners-own", "region": "eu-central-1"}
    recording = archived(realtimekit_bucket=False, storage_config=storage)

    reply = api("GET", LINKS, recording.id)

    assert (reply.status, reply.body["detail"]) == (409, "There is no file to link to: external.")


def test_one_file_without_a_link_does_not_hide_the_others(
    api: Call, archived: Callable[..., Recording], catalogue: Catalogue, clock: Clock
) -> None:
    recording = archived(separate_audio=True, audio_file_size=100)
    elsewhere = {
        "state": "archived",
        "bucket": "former-bucket",
        "key": "a.mp4",
        "size": 5,
        "archived_at": "2026-06-03T10:30:00.000Z",
    }
    catalogue.record_archive(recording.id, {"video": elsewhere})
    clock.advance(8 * 86_400)

    reply = api("GET", LINKS, recording.id)

    assert [link["name"] for link in reply.body["links"]] == ["audio"]
    [missing] = reply.body["missing"]
    assert (missing["name"], missing["reason"]) == ("video", "archive_unreachable")


def test_a_file_in_a_bucket_out_of_reach_has_no_link(
    api: Call, archived: Callable[..., Recording], catalogue: Catalogue
) -> None:
    """RealtimeKit may still have the file, but a row keeps no URL of what is archived."""
    recording = archived()
    row = catalogue.get(recording.id)
    assert row
    elsewhere = {**row["artifacts"]["video"]["archive"], "bucket": "former-bucket"}
    catalogue.record_archive(recording.id, {"video": elsewhere})

    reply = api("GET", LINKS, recording.id)

    assert reply.status == 409
    assert "archive_unreachable" in json.dumps(reply.body)


@pytest.mark.parametrize("seconds", ["59", "3601", "0", "-60", "an hour", ""])
def test_a_link_lives_neither_for_ever_nor_for_a_moment(
    api: Call, archived: Callable[..., Recording], seconds: str
) -> None:
    reply = api("GET", LINKS, archived().id, {"expires_in": seconds})

    assert (reply.status, reply.body["parameter"]) == (400, "expires_in")


def test_there_is_no_link_to_what_is_not_catalogued(api: Call) -> None:
    assert api("GET", LINKS, UNKNOWN_ID).status == 404


def test_who_was_given_links_is_logged_and_the_links_are_not(
    api: Call, archived: Callable[..., Recording], logged: Callable[[], str]
) -> None:
    recording = archived()

    api("GET", LINKS, recording.id)

    log = logged()
    [line] = [json.loads(line) for line in log.splitlines() if "links given" in line]
    assert line["caller"] == "arn:aws:sts::123456789012:assumed-role/example/session"
    assert (line["recording_id"], line["count"]) == (recording.id, 1)
    assert "X-Amz-" not in log


@pytest.mark.usefixtures("rows_of_400_kb")
def test_of_five_thousand_files_some_are_linked_at_once_and_each_by_its_name_and_all_are_erased(
    api: Call, catalogue: Catalogue, archive: Archive, s3: Any, clock: Clock
) -> None:
    """Two of the copies are in the bucket; that the others are there is only said in the row."""
    files = tracks(5000)
    recording_id = "97cb480d-5840-4528-ace3-919b5e386c68"
    recording = Seen(recording_id=recording_id, status="UPLOADED", artifacts=files)
    row = catalogue.upsert(replace(recording, invoked_at=clock()), clock()).row
    states = {
        file.name: state_of(recording_id, file, number, archive.bucket)
        for number, file in enumerate(files)
    }
    catalogue.record_archive(recording_id, states)  # type: ignore[arg-type]
    first, last = sorted(states)[0], sorted(states)[-1]
    for name in (first, last):
        s3.put_object(Bucket=archive.bucket, Key=states[name]["key"], Body=name.encode())

    reply = api("GET", LINKS, recording_id)
    by_name = api("GET", LINKS, recording_id, {"artifact": last})
    unknown = api("GET", LINKS, recording_id, {"artifact": "video"})

    assert len(row["artifacts"]) == 5000
    assert reply.status == 200
    assert len(reply.body["links"]) + len(reply.body["missing"]) == 5000
    assert reply.body["links"][0]["name"] == first
    assert len(reply.body["links"]) > 1000
    assert reply.body["missing"][-1]["name"] == last
    assert {one["reason"] for one in reply.body["missing"]} == {"ask_by_name"}
    # Lambda's answer holds it as text in JSON.
    assert len(json.dumps({"body": json.dumps(reply.body)})) < 6 * 1024 * 1024
    [link] = by_name.body["links"]
    assert by_name.body["missing"] == []
    assert urllib3.request("GET", link["url"], retries=False).data == last.encode()
    assert (unknown.status, unknown.body["parameter"]) == (400, "artifact")

    assert api("DELETE", ONE, recording_id).status == 200

    assert api("GET", ONE, recording_id).status == 410
    assert "Contents" not in s3.list_objects_v2(Bucket=archive.bucket)


def test_one_artifact_is_linked_by_its_name(api: Call, archived: Callable[..., Recording]) -> None:
    recording = archived(separate_audio=True, audio_file_size=100)

    [link] = api("GET", LINKS, recording.id, {"artifact": "audio"}).body["links"]

    assert link["name"] == "audio"


def test_an_owners_attributes_are_shown_whatever_their_type() -> None:
    row = {"digest": b"\0\1", "topics": {"b", "a"}, "weight": Decimal("1.5")}

    reply = problems.answer(HTTPStatus.OK, row)

    assert json.loads(str(reply.body)) == {"digest": "AAE=", "topics": ["a", "b"], "weight": 1.5}


def test_a_recording_that_cannot_be_written_is_a_lasting_problem(
    call: Call, simulator: Simulator, recordings_table: Table, logged: Callable[[], str]
) -> None:
    recording = simulator.world.record_meeting()
    key = {"recording_id": recording.id}
    recordings_table.update(key, "SET #padding = :padding", {"padding": "x" * 404_000})

    reply = call("sync", recording.id)

    assert reply.status == 507
    assert "Retry-After" not in reply.headers
    assert "recording unwritable" in logged()


@pytest.mark.parametrize("id_", ["{}/links", "{}%2Flinks", "{}/links/", "../recordings/{}/links"])
def test_a_slash_in_an_id_leads_to_no_other_resource(
    api: Call, archived: Callable[..., Recording], id_: str
) -> None:
    """IAM may have allowed the caller to read rows, and not to have links."""
    reply = api("GET", ONE, id_.format(archived().id))

    assert (reply.status, reply.body["parameter"]) == (400, "recording_id")


# --- erasure ---


def contents(s3: Any, bucket: str) -> list[str]:
    """Return the keys of all versions and delete markers, and of all unfinished uploads."""
    answer = s3.list_object_versions(Bucket=bucket)
    found = [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]
    uploads = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return sorted(one["Key"] for one in [*found, *uploads])


def test_what_is_erased_is_gone_in_all_versions_and_only_a_tombstone_is_left(
    api: Call,
    archived: Callable[..., Recording],
    catalogue: Catalogue,
    s3: Any,
    bucket: str,
    checks: Checks,
) -> None:
    other = archived()
    recording = archived(separate_audio=True, audio_file_size=100)
    row = catalogue.get(recording.id)
    assert row
    key = row["artifacts"]["video"]["archive"]["key"]
    s3.put_object(Bucket=bucket, Key=key, Body=b"a later version")
    s3.delete_object(Bucket=bucket, Key=key)
    s3.create_multipart_upload(Bucket=bucket, Key=f"{key}-2")

    reply = api("DELETE", ONE, recording.id)

    assert reply.status == 200
    assert set(reply.body) == {"recording_id", "erased_at"}
    left = catalogue.get(recording.id)
    assert left
    assert set(left) == {"recording_id", "erased_at", "version"}
    assert len(contents(s3, bucket)) == 1
    assert other.id in contents(s3, bucket)[0]
    assert checks() == {}


def test_what_realtimekit_put_into_our_bucket_is_erased_too_and_its_neighbours_are_not(
    api: Call, simulator: Simulator, archiver: Archiver, s3: Any, bucket: str
) -> None:
    storage = {"type": "aws", "bucket": bucket, "region": "eu-central-1", "path": "meetings"}
    options = RecordingOptions(realtimekit_bucket=False, storage_config=storage)
    recording = simulator.world.record_meeting(options=options)
    key = f"meetings/{recording.file_name}"
    for name in (key, f"{key}.bak"):
        s3.put_object(Bucket=bucket, Key=name, Body=b"video")
    seen = archiver.realtimekit.recording(recording.id)
    archiver.catalogue.upsert(seen, archiver.now())
    request = ArchiveRequest(
        recording_id=recording.id, deadline="2026-06-10T10:30:00.000Z", source=Source.CATALOGUE
    )
    archiver.archive_recording(request, 900, lambda: False, lambda names: None)

    assert api("DELETE", ONE, recording.id).status == 200

    assert contents(s3, bucket) == [f"{key}.bak"]


def test_an_erasure_can_be_asked_for_again(api: Call, archived: Callable[..., Recording]) -> None:
    recording = archived()

    first = api("DELETE", ONE, recording.id)

    assert api("DELETE", ONE, recording.id).body == first.body


def test_what_is_erased_is_not_brought_back(
    api: Call,
    call: Call,
    archived: Callable[..., Recording],
    catalogue: Catalogue,
    ingestion: Ingestion,
    archiver: Archiver,
    checks: Checks,
    s3: Any,
    bucket: str,
) -> None:
    recording = archived()
    api("DELETE", ONE, recording.id)
    tombstone = catalogue.get(recording.id)

    assert call("sync", recording.id).status == 410
    assert call("get", recording.id).status == 410
    assert api("GET", LINKS, recording.id).status == 410
    for seen in ingestion.realtimekit.recordings(meeting_id=recording.session.meeting.id):
        catalogue.upsert(seen, ingestion.now())
    request = ArchiveRequest(
        recording_id=recording.id, deadline="2026-06-10T10:30:00.000Z", source=Source.CATALOGUE
    )
    archiver.archive_recording(request, 900, lambda: False, lambda names: None)
    assert catalogue.record_archive(recording.id, {"video": {"state": "archived"}}) is None  # type: ignore[misc]

    assert catalogue.get(recording.id) == tombstone
    assert contents(s3, bucket) == []
    assert checks() == {}


def test_the_checks_of_what_is_erased_go_with_it(
    api: Call, call: Call, simulator: Simulator, checks: Checks
) -> None:
    """They hold its meeting's title."""
    recording = simulator.world.record_meeting(status=Status.RECORDING)
    call("sync", recording.id)
    assert checks() == {f"recording#{recording.id}": "not_final"}

    api("DELETE", ONE, recording.id)

    assert checks() == {}


@pytest.mark.parametrize("again", [False, True])
def test_checks_that_were_given_up_go_with_what_is_erased(
    api: Call,
    archived: Callable[..., Recording],
    worklist: Worklist,
    dynamodb: Any,
    clock: Clock,
    again: bool,
) -> None:
    """Also when they were left by messages that were under way during the erasure."""
    recording = archived()
    if again:
        api("DELETE", ONE, recording.id)
    keys = [f"{name}#{recording.id}" for name in ("recording", "archive", "erase")]
    for key in keys:
        hint = {"title": "Salaries"}
        request = {"recording_id": recording.id, "hint": hint}
        worklist.check_in(AnyRequest(key, request), "not_found")
    clock.advance(60)
    for check in worklist.due(10):
        worklist.give_up(check)

    assert api("DELETE", ONE, recording.id).status == 200

    left = [item["work_id"]["S"] for item in dynamodb.scan(TableName="WorkTable")["Items"]]
    assert [work_id for work_id in left if work_id.startswith("check#")] == []


def test_what_is_not_catalogued_cannot_be_erased(
    api: Call, worklist: Worklist, checks: Checks
) -> None:
    """Its check may be the only one that will have it catalogued."""
    worklist.check_in(
        AnyRequest(f"recording#{UNKNOWN_ID}", {"recording_id": UNKNOWN_ID}), "unavailable"
    )

    assert api("DELETE", ONE, UNKNOWN_ID).status == 404

    assert checks() == {f"recording#{UNKNOWN_ID}": "unavailable"}


def test_while_files_are_being_archived_the_erasure_waits_and_the_row_is_closed(
    api: Call,
    call: Call,
    archived: Callable[..., Recording],
    catalogue: Catalogue,
    worklist: Worklist,
    checks: Checks,
) -> None:
    recording = archived()
    key = f"archive#{recording.id}"
    run = worklist.claim(AnyRequest(key, {"task": "archive"}), "2026-06-10T10:30:00.000Z", 930)
    assert run

    reply = api("DELETE", ONE, recording.id)

    assert reply.status == 202
    assert set(reply.body) == {"recording_id", "erasing_since"}
    assert checks()[f"erase#{recording.id}"] == "erasing"
    assert call("get", recording.id).status == 410
    assert catalogue.record_archive(recording.id, {"video": {"state": "expired"}}) is None  # type: ignore[misc]
    worklist.finish(run)
    assert api("DELETE", ONE, recording.id).status == 200
    assert checks() == {}


@pytest.mark.parametrize("operation", ["ListObjectVersions", "DeleteObjects"])
def test_an_erasure_that_s3_interrupts_leaves_a_check(
    api: Call,
    archived: Callable[..., Recording],
    catalogue: Catalogue,
    checks: Checks,
    s3: Any,
    clock: Clock,
    operation: str,
) -> None:
    recording = archived()

    with s3_fails(s3, operation, 500, "InternalError"):
        assert api("DELETE", ONE, recording.id).status == 503

    row = catalogue.get(recording.id)
    assert row
    assert "erasing_since" in row
    assert checks()[f"erase#{recording.id}"] == "erasing"
    clock.advance(121)
    assert api("DELETE", ONE, recording.id).status == 200
    assert checks() == {}


def test_an_object_that_s3_will_not_delete_is_not_called_erased(
    api: Call, archived: Callable[..., Recording], catalogue: Catalogue, s3: Any
) -> None:
    """DeleteObjects reports them in a 200."""
    recording = archived()

    def refuse(parsed: dict[str, Any], **_: Any) -> None:
        parsed["Errors"] = [{"Key": "k", "Code": "AccessDenied"}]

    s3.meta.events.register("after-call.s3.DeleteObjects", refuse)

    assert api("DELETE", ONE, recording.id).status == 503

    row = catalogue.get(recording.id)
    assert row
    assert "erased_at" not in row


def test_an_erasure_that_dynamodb_interrupts_after_the_files_went_is_finished_later(
    api: Call,
    archived: Callable[..., Recording],
    catalogue: Catalogue,
    dynamodb: Any,
    s3: Any,
    bucket: str,
    clock: Clock,
) -> None:
    recording = archived()

    def fail(params: dict[str, Any], **_: Any) -> None:
        if "erased_at" in params["body"].decode():
            raise ClientError({"Error": {"Code": "InternalServerError"}}, "UpdateItem")

    dynamodb.meta.events.register("before-call.dynamodb.UpdateItem", fail)
    assert api("DELETE", ONE, recording.id).status == 503
    dynamodb.meta.events.unregister("before-call.dynamodb.UpdateItem", fail)
    assert contents(s3, bucket) == []

    clock.advance(121)
    assert api("DELETE", ONE, recording.id).status == 200


def test_files_in_a_bucket_that_is_not_ours_any_more_stop_an_erasure(
    api: Call,
    archived: Callable[..., Recording],
    catalogue: Catalogue,
    checks: Checks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording = archived()
    before = catalogue.get(recording.id)
    monkeypatch.setattr(serve_catalogue, "archive", lambda: None)

    assert api("DELETE", ONE, recording.id).status == 409

    assert catalogue.get(recording.id) == before
    assert checks() == {}


def test_without_an_archive_what_has_no_files_in_one_can_be_erased(
    api: Call, call: Call, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, checks: Checks
) -> None:
    recording = simulator.world.record_meeting()
    call("sync", recording.id)
    monkeypatch.setattr(serve_catalogue, "archive", lambda: None)

    assert api("DELETE", ONE, recording.id).status == 200
    assert checks() == {}


def test_an_archive_that_is_switched_off_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_catalogue, "ARCHIVE_BUCKET", "")

    assert serve_catalogue.archive.__wrapped__() is None


# --- health ---

NOTHING_WAITS = {
    "ingest": 0,
    "ingest_dead_letters": 0,
    "event_rule_dead_letters": 0,
    "publish_dead_letters": 0,
    "archive": 0,
    "urgent_archive": 0,
    "archive_dead_letters": 0,
}


@pytest.fixture
def queues(
    dynamodb: Any, template: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Return the queues that the template names for the function, by those names."""
    variables = template["Resources"]["ServeCatalogueFunction"]["Properties"]["Environment"]
    named = re.findall(r"(\w+)=\$\{(\w+)\}", str(variables["Variables"]["QUEUE_URLS"]))
    sqs = boto3.resource("sqs")
    found = {name: sqs.create_queue(QueueName=queue) for name, queue in named}
    monkeypatch.setattr(
        serve_catalogue, "QUEUE_URLS", {name: queue.url for name, queue in found.items()}
    )
    return found


def test_when_all_is_well_each_part_says_so(
    api: Call, queues: dict[str, Any], simulator: Simulator
) -> None:
    reply = api("GET", "/health")

    assert reply.status == 200
    assert reply.body == {
        "status": "ok",
        "parts": {
            "api_token": {"status": "ok"},
            "realtimekit": {"status": "ok"},
            "recordings_table": {"status": "ok"},
            "work_table": {"status": "ok", "seconds_overdue": 0},
            "queues": {"status": "ok", "messages": NOTHING_WAITS},
            "archive": {"status": "ok"},
        },
    }
    assert len(simulator.requests) == 1


def test_dead_letters_are_something_to_look_at(api: Call, queues: dict[str, Any]) -> None:
    queues["ingest"].send_message(MessageBody="waiting")
    queues["ingest_dead_letters"].send_message(MessageBody="dead")

    reply = api("GET", "/health")

    assert (reply.status, reply.body["status"]) == (200, "degraded")
    assert reply.body["parts"]["queues"] == {
        "status": "degraded",
        "messages": {**NOTHING_WAITS, "ingest": 1, "ingest_dead_letters": 1},
    }


@pytest.mark.parametrize(("seconds", "status"), [(840, "ok"), (901, "degraded")])
def test_checks_that_nobody_follows_up_are_something_to_look_at(
    api: Call, queues: dict[str, Any], worklist: Worklist, seconds: int, status: str
) -> None:
    """The clock of health is the real one."""
    worklist._now = lambda: datetime.now(UTC)
    worklist.check_in(
        AnyRequest(f"recording#{UNKNOWN_ID}", {"recording_id": UNKNOWN_ID}),
        "cause",
        seconds=-seconds,
    )

    part = api("GET", "/health").body["parts"]["work_table"]

    assert part["status"] == status
    assert seconds <= part["seconds_overdue"] < seconds + 60


@pytest.mark.parametrize(
    ("fault", "status", "part"),
    [
        (gateway_error(403), 503, {"status": "failing", "cause": "unauthorized"}),
        (error(500), 503, {"status": "failing", "cause": "unavailable"}),
        (rate_limited(30), 200, {"status": "degraded", "cause": "throttled"}),
    ],
)
def test_realtimekits_trouble_is_told_by_kind(
    api: Call, queues: dict[str, Any], simulator: Simulator, fault: Any, status: int, part: Any
) -> None:
    simulator.faults.add(fault, times=None)

    reply = api("GET", "/health")

    assert reply.status == status
    assert reply.body["parts"]["realtimekit"] == part


def test_what_is_missing_is_told_by_its_part(
    api: Call,
    queues: dict[str, Any],
    dynamodb: Any,
    secretsmanager: Any,
    s3: Any,
    bucket: str,
    logged: Callable[[], str],
) -> None:
    dynamodb.delete_table(TableName="RecordingsTable")
    secretsmanager.put_secret_value(SecretId="realtimekit-api-token", SecretString="{}")
    queues["ingest"].delete()
    s3.delete_bucket(Bucket=bucket)

    reply = api("GET", "/health")

    assert (reply.status, reply.body["status"]) == (503, "failing")
    parts = reply.body["parts"]
    assert parts["recordings_table"]["cause"] == "ResourceNotFoundException"
    assert parts["api_token"]["cause"] == "unauthorized"
    assert (
        "NonExistentQueue" in parts["queues"]["cause"]
        or "QueueDoesNotExist" in parts["queues"]["cause"]
    )
    assert parts["archive"]["cause"] == "NoSuchBucket"
    assert parts["work_table"]["status"] == "ok"
    assert API_TOKEN not in str(reply.body)


def test_a_bucket_in_another_region_is_told_since_its_links_never_work(
    api: Call, queues: dict[str, Any], s3: Any, storage: str, bucket: str
) -> None:
    s3.delete_bucket(Bucket=bucket)
    elsewhere = boto3.client(
        "s3",
        endpoint_url=storage,
        region_name="us-west-2",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(proxies={}),
    )
    location: Any = {"LocationConstraint": "us-west-2"}
    elsewhere.create_bucket(Bucket=bucket, CreateBucketConfiguration=location)

    reply = api("GET", "/health")

    assert (reply.status, reply.body["status"]) == (503, "failing")
    assert reply.body["parts"]["archive"] == {"status": "failing", "cause": "other_region"}


# --- sweeps ---


def ask_for_sweep(api: Call, **window: Any) -> Reply:
    return api("POST", "/sweeps", body=json.dumps(window))


def test_a_sweep_is_asked_for_and_can_be_watched(api: Call) -> None:
    reply = ask_for_sweep(api, **{"from": "2026-06-01", "to": "2026-06-02T12:00:00+02:00"})

    assert reply.status == 202
    assert reply.body["from"] == "2026-06-01T00:00:00.000Z"
    assert reply.body["to"] == "2026-06-02T10:00:00.000Z"
    assert (reply.body["state"], reply.body["dry_run"]) == ("queued", False)
    assert (reply.body["fraction"], reply.body["trigger"]) == (0, "request")
    identifier = reply.body["sweep_id"]
    assert reply.headers["Location"] == f"/sweeps/{identifier}"
    assert api("GET", SWEEP, identifier).body == reply.body


def test_a_sweep_ends_now_unless_it_says_when(api: Call) -> None:
    assert ask_for_sweep(api, **{"from": "2026-06-01"}).body["to"] == "2026-06-03T10:30:00.000Z"


def test_a_sweep_that_begins_in_the_future_is_refused_by_its_from(api: Call) -> None:
    reply = ask_for_sweep(api, **{"from": "2026-06-04"})

    assert (reply.status, reply.body["parameter"]) == (400, "from")
    assert reply.body["detail"] == "from is in the future: a sweep without to ends now."


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ("", "body"),
        ("[]", "body"),
        ("{", "body"),
        ("[" * 100_000, "body"),
        ("{}", "from"),
        ('{"from": "yesterday"}', "from"),
        ('{"from": 20260601}', "from"),
        ('{"from": null}', "from"),
        ('{"from": "2026-06-02", "to": "2026-06-01"}', "from"),
        ('{"from": "2026-06-02", "to": "2026-06-02"}', "from"),
        ('{"from": "2026-06-04"}', "from"),
        ('{"from": "2026-06-01", "to": "2026-06-03T10:30:01Z"}', "to"),
        ('{"from": "2026-06-01", "dry_run": "no"}', "dry_run"),
        ('{"from": "2026-06-01", "until": "2026-06-02"}', "until"),
    ],
)
def test_a_sweep_of_what_cannot_be_swept_is_refused_with_the_fields_name(
    api: Call, sweeps: Sweeps, body: str, parameter: str
) -> None:
    reply = api("POST", "/sweeps", body=body)

    assert (reply.status, reply.body["parameter"]) == (400, parameter)
    assert sweeps.newest(1)[0] == []


def test_a_second_sweep_of_a_window_waits_for_the_first_and_is_told_which_it_is(
    api: Call, sweeps: Sweeps
) -> None:
    window = {"from": "2026-06-01", "to": "2026-06-02"}
    first = ask_for_sweep(api, **window).body["sweep_id"]

    second = ask_for_sweep(api, **window)

    assert (second.status, second.body["instance"]) == (409, f"/sweeps/{first}")
    assert ask_for_sweep(api, **window, dry_run=True).status == 202
    assert ask_for_sweep(api, **{**window, "to": "2026-06-03"}).status == 202
    assert api("DELETE", SWEEP, first).status == 200
    assert ask_for_sweep(api, **window).status == 202


def test_there_are_no_more_than_20_unfinished_sweeps(api: Call, sweeps: Sweeps) -> None:
    for day in range(1, 20):
        since = datetime(2026, 5, day, tzinfo=UTC)
        sweeps.request(since, datetime(2026, 6, 2, tzinfo=UTC), dry_run=False)

    assert ask_for_sweep(api, **{"from": "2026-05-20"}).status == 202
    assert ask_for_sweep(api, **{"from": "2026-05-21"}).status == 409


def test_a_cancelled_sweep_can_be_cancelled_again_and_one_that_ended_cannot(
    api: Call, sweeps: Sweeps
) -> None:
    cancelled = ask_for_sweep(api, **{"from": "2026-06-01"}).body["sweep_id"]
    ended = sweeps.request(
        datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 2, tzinfo=UTC), dry_run=False
    )
    sweeps.save(replace(ended, state=State.COMPLETED))

    first, second = (api("DELETE", SWEEP, cancelled) for _ in range(2))

    assert (first.status, first.body["state"]) == (200, "cancelled")
    assert first.body["ended_at"] == "2026-06-03T10:30:00.000Z"
    assert second.body == first.body
    assert api("DELETE", SWEEP, ended.sweep_id).status == 409
    assert api("GET", SWEEP, ended.sweep_id).body["state"] == "completed"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_sweep_that_there_is_not(api: Call, method: str) -> None:
    assert api(method, SWEEP, UNKNOWN_ID).status == 404
    reply = api(method, SWEEP, "x")
    assert (reply.status, reply.body["parameter"]) == (400, "sweep_id")


def test_sweeps_are_listed_by_pages_the_newest_first_whatever_became_of_them(
    api: Call, clock: Clock
) -> None:
    asked = []
    for day in range(1, 6):
        asked.append(ask_for_sweep(api, **{"from": f"2026-05-0{day}"}).body["sweep_id"])
        clock.advance(1)
    api("DELETE", SWEEP, asked[1])
    api("DELETE", SWEEP, asked[4])

    first = api("GET", "/sweeps", query={"limit": "2"}).body
    second = api("GET", "/sweeps", query={"limit": "2", "cursor": first["next_cursor"]}).body
    third = api("GET", "/sweeps", query={"limit": "2", "cursor": second["next_cursor"]}).body

    listed = [one["sweep_id"] for page in (first, second, third) for one in page["sweeps"]]
    assert listed == asked[::-1]
    assert "next_cursor" not in third


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "QUJD"}, "cursor"),
        ({"cursor": "\u00e9"}, "cursor"),
    ],
)
def test_a_page_of_sweeps_that_cannot_be(api: Call, query: dict[str, str], parameter: str) -> None:
    reply = api("GET", "/sweeps", query=query)

    assert (reply.status, reply.body["parameter"]) == (400, parameter)


@pytest.mark.parametrize("operation", ["UpdateItem", "Query", "GetItem"])
def test_a_sweep_that_dynamodb_fails_is_a_503(api: Call, dynamodb: Any, operation: str) -> None:
    identifier = ask_for_sweep(api, **{"from": "2026-06-01"}).body["sweep_id"]

    def fail(model: Any, **_: Any) -> Any:
        raise ClientError({"Error": {"Code": "ThrottlingException"}}, model.name)

    dynamodb.meta.events.register(f"before-call.dynamodb.{operation}", fail)
    calls = {
        "UpdateItem": lambda: ask_for_sweep(api, **{"from": "2026-06-02"}),
        "Query": lambda: api("GET", "/sweeps"),
        "GetItem": lambda: api("DELETE", SWEEP, identifier),
    }

    assert calls[operation]().status == 503


# --- the document ---


def test_the_document_is_served(api: Call) -> None:
    assert api("GET", "/openapi.json").body == DOCUMENT


def test_every_route_of_the_template_is_in_the_document_and_the_other_way_round(
    template: Mapping[str, Any],
) -> None:
    deployed = {
        (event["Properties"]["Path"], event["Properties"]["Method"].lower())
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
        for event in resource["Properties"].get("Events", {}).values()
        if event["Type"] == "Api"
    }
    documented = {
        (path, method)
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
        if method != "parameters"
    }

    assert deployed == documented
    routes = {
        (re.sub(r"<(\w+)>", r"{\1}", route.path), method.lower())
        for router in [serve_catalogue.app]
        for route in [*router._static_routes, *router._dynamic_routes]
        for method in [route.method]
    }
    assert routes == documented - {("/webhooks/realtimekit", "post")}


def examples_of(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every example in a part of the document, with its schema."""
    if isinstance(node, dict):
        if "schema" in node and "example" in node:
            yield node["schema"], node["example"]
        if isinstance(node.get("examples"), list):
            yield from ((node, example) for example in node["examples"])
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from examples_of(part)


def test_every_example_of_the_document_is_what_its_schema_says() -> None:
    examples = list(examples_of(DOCUMENT["paths"])) + list(examples_of(DOCUMENT["components"]))

    assert len(examples) > 30
    for schema, example in examples:
        whole = {**schema, "components": DOCUMENT["components"]}
        OAS31Validator(whole, format_checker=OAS31Validator.FORMAT_CHECKER).validate(example)


def test_every_problem_status_has_an_example() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            for status, response in (
                operation["responses"].items() if method != "parameters" else ()
            ):
                problem = resolved(response).get("content", {}).get("application/problem+json")
                if problem and (path, status) != ("/webhooks/realtimekit", "503"):
                    assert problem["example"]["status"] == int(status), (path, method, status)


def test_every_problem_that_the_document_names_is_one() -> None:
    for operations in DOCUMENT["paths"].values():
        for method, operation in operations.items():
            if method != "parameters":
                for status, response in operation["responses"].items():
                    content = resolved(response).get("content", {})
                    if int(status) >= 400:
                        assert "application/problem+json" in content
