"""`probe-realtimekit`: known answers pass, others are named by field, and no value is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from realtimekit_recordings.contract import Comparison, faults
from realtimekit_recordings.realtimekit_answers import ANSWERS
from realtimekit_simulator import (
    DEFAULT_TOKEN,
    Answer,
    Clock,
    Kind,
    Overlay,
    RecordingOptions,
    Simulator,
    World,
    error,
    garbage,
    gateway_error,
    shapes,
    unsuccessful,
)
from realtimekit_simulator.world import Undocumented

SECRET = "canary-secret-value"
LONG_NAME = "rtk_3f6c1b5e_audio_1780480800000.webm"


@pytest.fixture
def realtimekit() -> Any:
    """Simulate an app whose recordings, and the files of their sessions, have every known form."""
    world = World(clock=Clock(speed=0), reveals_secrets=True)
    storage = {"type": "aws", "bucket": SECRET, "access_key": SECRET, "secret": SECRET}
    files = ("transcript", "summary", "chat")
    an_hour_ago = world.clock.now() - timedelta(hours=1)
    world.record_meeting(title=SECRET, started_at=an_hour_ago, session_files=files)
    world.record_meeting(options=RecordingOptions(kind=Kind.TRACK, layers=("default", SECRET)))
    world.record_meeting(
        options=RecordingOptions(realtimekit_bucket=False, storage_config=storage, duration=12.001)
    )
    world.record_meeting(status="RECORDING", options=RecordingOptions(never_set=("started_time",)))  # type: ignore[arg-type]
    with Simulator(world) as simulator:
        simulator.tokens.add(DEFAULT_TOKEN)
        yield simulator


@pytest.fixture
def probe(run, aws):
    """Run the command, which shows no secret: `run` looks for "canary" in its output."""
    aws.secret = json.dumps({"api_token": DEFAULT_TOKEN})
    return lambda *arguments: run("probe-realtimekit", *arguments)


def faults_in(result: Any) -> dict[tuple[str, str], str]:
    """Return the verdicts on the fields that are unknown, missing or of another form."""
    fields = json.loads(result.stdout)["fields"]
    return {
        (row["answer"], row["field"]): row["verdict"] for row in fields if row["verdict"] != "known"
    }


def texts_in(value: Any) -> Iterator[str]:
    """Yield all texts of a JSON value."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_in(item)
    elif isinstance(value, str):
        yield value


def test_all_fields_of_the_simulated_answers_are_known(probe, realtimekit):
    result = probe("--json")

    report = json.loads(result.stdout)
    assert (result.exit_code, report["known"], report["not_seen"]) == (0, True, [])
    rows = {(row["answer"], row["field"]): row["forms"] for row in report["fields"]}
    assert rows["list", "data[].id"] == ["UUID"]
    assert rows["list", "data[].status"] == ["known word"]
    assert rows["list", "data[].meeting.title"] == ["text"]
    assert rows["recording", "data.download_url.links[].download_urls.*.download_url"] == [
        "local URL"
    ]
    assert rows["recording", "data.recording_duration"] == ["number"]
    assert rows["session", "data.associated_id"] == ["text"]
    assert rows["transcript", "data.transcript_download_url"] == ["local URL", "null"]
    assert rows["summary", "data.summaryDownloadUrlExpiry"] == ["null", "time"]
    assert rows["chat", "data.chat_download_url"] == ["local URL", "null"]
    assert {request.method for request in realtimekit.requests} == {"GET"}
    assert len(realtimekit.requests) <= 26
    world = realtimekit.world
    shown = [shapes.recording_item(world, rec, world.clock.now()) for rec in world.recordings()]
    values = {value for value in texts_in(shown) if len(value) >= 8}
    assert len(values) > 30
    assert [value for value in values if value in result.output] == []


def test_the_report_for_people_says_what_was_not_there_to_be_seen(probe, realtimekit):
    realtimekit.faults.add(error(404), path="/(summary|chat)$", times=None)
    result = probe()

    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0].split() == ["Answer", "Field", "Form", "Verdict"]
    assert lines[-2:] == [
        "Not seen, because RealtimeKit has none: summary, chat.",
        "All fields are known.",
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"track_urls": "layers", "wraps_recording": True, "wraps_session": True},
        {"track_urls": "links", "wraps_session_file": True, "room_names": True},
        {"unnamed_layers": True, "absent_session_file": "no data"},
        {"absent_session_file": "missing", "internal_caller": True},
    ],
)
def test_all_shapes_that_were_seen_of_realtimekit_are_known(probe, realtimekit, settings):
    realtimekit.world.undocumented = replace(Undocumented(), **settings)
    realtimekit.world.record_meeting()

    result = probe("--json")

    assert faults_in(result) == {}
    assert result.exit_code == 0


def test_unknown_fields_are_named_and_their_values_are_not(probe, realtimekit):
    fields = {"transcoding_state": SECRET, "signed": {SECRET: SECRET}, LONG_NAME: SECRET}
    realtimekit.faults.add(Overlay(fields), path="/recordings/", times=None)
    result = probe("--json")

    assert result.exit_code == 1
    assert faults_in(result) == {
        ("recording", "data.transcoding_state"): "unknown field",
        ("recording", "data.signed"): "unknown field",
        ("recording", "data.(name not shown)"): "unknown field",
    }
    assert LONG_NAME not in result.output

    table = probe().stdout.splitlines()
    assert [line.split()[:3] for line in table if line.startswith("!")] == [
        ["!", "recording", "data.transcoding_state"],
        ["!", "recording", "data.signed"],
        ["!", "recording", "data.(name"],
    ]
    assert table[-1].startswith("Unknown, missing or different: 3 of ")


@pytest.fixture
def compared(realtimekit):
    """Compare a simulated recording, in which these fields are replaced; return the faults."""

    def compared(**fields: Any) -> dict[str, str]:
        world = realtimekit.world
        shown = shapes.recording_details(world, world.recordings()[0], world.clock.now())
        comparison = Comparison(ANSWERS["recording"])
        comparison.add({"success": True, "data": shown | fields})
        return {path: comparison.fields[path].verdict for path in faults(comparison.fields)}

    return compared


def test_a_field_of_another_form_is_named(compared):
    assert compared() == {}
    wrong: dict[str, tuple[Any, ...]] = {
        "id": (SECRET, 7, None),
        "status": (SECRET, None),
        "file_size": (SECRET, [], {}),
        "invoked_time": (1780480800, None, SECRET),
        "download_url": (f"ftp://{SECRET}", 7, SECRET, "http://example.com"),
        "download_url_expiry": ("in a week",),
        "start_reason": (SECRET, []),
    }
    for name, values in wrong.items():
        for value in values:
            assert compared(**{name: value}) == {f"data.{name}": "other form"}, (name, value)


def test_names_of_files_and_people_are_not_shown_wherever_they_appear(compared):
    """Participants' names are names of fields if RealtimeKit leaves out a level of its JSON."""
    tracks = {"alice": {"download_url": "https://example.com/a"}, LONG_NAME: "https://example.com"}

    assert compared(download_url=tracks) == {"data.download_url.(name not shown)": "unknown field"}
    assert compared(download_url=[tracks]) == {
        "data.download_url[].download_urls": "missing",
        "data.download_url[].(name not shown)": "unknown field",
    }
    assert compared(download_url={"links": [{"download_urls": tracks}]}) == {}
    assert compared(alice_and_bob_1780480800000={}) == {"data.(name not shown)": "unknown field"}


def test_a_missing_field_is_named():
    comparison = Comparison(ANSWERS["session"])
    comparison.add({"success": True, "data": {"id": "05e57591-d89e-45c9-ae44-08dc1eaad0e0"}})

    missing = [path for path, row in comparison.fields.items() if row.verdict == "missing"]
    assert "data.associated_id" in missing
    assert "data.started_at" in missing
    assert "data.ended_at" not in missing


def test_without_an_answer_the_reason_is_told_without_realtimekits_words(probe, realtimekit):
    for fault, reason in (
        (gateway_error(403, message=SECRET), "The API token is refused (HTTP 403)."),
        (error(404, SECRET), "RealtimeKit does not know the app (HTTP 404)."),
        (unsuccessful(SECRET), "RealtimeKit cannot answer (HTTP 200)."),
        (garbage(), "RealtimeKit does not answer, or not with JSON."),
    ):
        realtimekit.faults.clear()
        realtimekit.faults.add(fault, times=None)

        result = probe()

        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"Error: {reason}")


def test_an_outage_in_the_middle_is_no_verdict(probe, realtimekit):
    realtimekit.faults.add(error(500, SECRET), path="/sessions/", times=None)
    result = probe("--json")

    assert (result.exit_code, result.stdout) == (2, "")


def test_an_app_without_recordings_shows_the_list_only(run, aws, realtimekit):
    aws.secret = None
    empty = {"success": True, "data": [], "paging": dict.fromkeys(PAGING, 0)}
    realtimekit.faults.add(Answer(200, json.dumps(empty)), times=None)
    result = run("probe-realtimekit", CLOUDFLARE_API_TOKEN=DEFAULT_TOKEN)

    assert result.exit_code == 0
    assert "Not seen, because RealtimeKit has none: recording, session, transcript" in result.stdout


PAGING = ("total_count", "start_offset", "end_offset")
