"""Transcript, captions, summary and chat of a session: in bucket and row of each recording, once."""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from local import template
from local.stack import ROOT, WEBHOOK_EVENTS
from realtimekit_recordings.__main__ import main
from realtimekit_simulator import (
    FileKind,
    Kind,
    Outcome,
    Recording,
    RecordingOptions,
    Session,
    SessionFile,
    SessionFileOptions,
)

from .conftest import Deployment, deployment, wait_for

pytestmark = pytest.mark.xdist_group("session files")

ALL = ("transcript", "summary", "chat")
SMALL = RecordingOptions(file_size=1000)
CONTENT_TYPES = {
    "transcript": "application/json",
    "captions": "text/vtt; charset=utf-8",
    "summary": "text/markdown; charset=utf-8",
    "chat": "text/csv; charset=utf-8",
}


@pytest.fixture(scope="module")
def stack() -> Iterator[Deployment]:
    with deployment() as own:
        own.simulator.webhooks.registrations.add(
            own.stack.description["webhook_url"], events=WEBHOOK_EVENTS
        )
        yield own


@pytest.fixture(scope="module")
def subscriber(stack: Deployment) -> str:
    """Return the URL of a queue that hears of all that is published."""
    return stack.subscribe()


@pytest.fixture(scope="module")
def announced(stack: Deployment, subscriber: str) -> Recording:
    """Return a recording whose session's files were announced by webhooks and are archived."""
    recording = sync(stack, record(stack))
    for event in ("meeting.transcript", "meeting.summary", "meeting.chatSynced"):
        [delivery] = stack.simulator.webhooks.send(event, recording.session)
        assert delivery.outcome is Outcome.DELIVERED
    settled_files(stack, recording)
    return recording


def record(stack: Deployment, **how: Any) -> Recording:
    """Return a recording of a session that ended ten minutes ago, with all files that it leaves."""
    world = stack.simulator.world
    how = {"session_files": ALL, "started_at": world.clock.now() - timedelta(minutes=20), **how}
    return world.record_meeting(duration=600, options=SMALL, **how)


def sync(stack: Deployment, recording: Recording) -> Recording:
    """Catalogue the recording by the API, as if all webhooks were lost; wait for its own files."""
    assert stack.stack.request("POST", f"/recordings/{recording.id}/sync").status == 200
    wait_for(lambda: (stack.row(recording) or {}).get("archived") == "yes")
    return recording


def look(stack: Deployment, session: Session) -> None:
    """Let the look at the session's files take place now, which the recording's end has left."""
    key = f"session_files#{session.id}"
    wait_for(lambda: stack.check(key))
    stack.make_due(key)
    stack.invoke("FollowUpFunction", "follow-up.schedule-tick")


def settled_files(stack: Deployment, recording: Recording) -> dict[str, Any]:
    """Return the states of the four files of the recording's session, when each has one."""

    def states() -> dict[str, Any] | None:
        artifacts = (stack.row(recording) or {}).get("artifacts", {})
        found = {
            kind: artifacts[kind]["archive"]
            for kind in CONTENT_TYPES
            if "archive" in artifacts.get(kind, {})
        }
        return found if len(found) == len(CONTENT_TYPES) else None

    found: dict[str, Any] = wait_for(states)
    return found


def files(stack: Deployment, session: Session) -> dict[str, SessionFile]:
    """Return the session's files in RealtimeKit, in the formats that are kept."""
    world = stack.simulator.world
    return {
        "transcript": world.session_file(session, FileKind.TRANSCRIPT, "json"),
        "captions": world.session_file(session, FileKind.TRANSCRIPT, "vtt"),
        "summary": world.session_file(session, FileKind.SUMMARY, "txt"),
        "chat": world.session_file(session, FileKind.CHAT, "csv"),
    }


def expect_whole_and_once(stack: Deployment, recording: Recording) -> None:
    """Each file of the session is one object of one version, as row, S3 and RealtimeKit say."""
    s3, bucket = stack.stack.client("s3"), stack.stack.description["archive_bucket"]
    states = settled_files(stack, recording)
    for kind, file in files(stack, recording.session).items():
        state, crc32 = states[kind], base64.b64encode(zlib.crc32(file.read()).to_bytes(4, "big"))
        assert (state["state"], state["size"]) == ("archived", file.size)
        stored = s3.get_object(Bucket=bucket, Key=state["key"], ChecksumMode="ENABLED")
        assert stored["Body"].read() == file.read()
        assert stored["ContentType"] == CONTENT_TYPES[kind]
        assert stored["ChecksumCRC32"] == state["checksum_crc32"] == crc32.decode()
    versions = s3.list_object_versions(Bucket=bucket)["Versions"]
    keys = Counter(version["Key"] for version in versions if recording.session.id in version["Key"])
    assert keys.items() >= {(state["key"], 1) for state in states.values()}


def requests(stack: Deployment, session: Session) -> Counter[str]:
    """Count the requests to RealtimeKit's API for the session's files."""
    logged = stack.simulator.request_log.matching(f"/sessions/{session.id}/")
    return Counter(f"{one.path.rpartition('/')[2]} {one.query}".strip() for one in logged)


def test_webhooks_bring_all_files_and_subscribers_hear_of_each(
    stack: Deployment, subscriber: str, announced: Recording
) -> None:
    expect_whole_and_once(stack, announced)
    row = stack.row(announced)
    assert row is not None
    started_at = announced.session.started_at
    assert row["session_started_at"] == f"{started_at:%FT%T}.{started_at.microsecond // 1000:03}Z"
    heard: Counter[tuple[str, str]] = Counter()

    def heard_of_four() -> bool:
        heard.update(stack.heard(subscriber))
        return heard["Recording File Archived", announced.id] >= 4

    wait_for(heard_of_four)
    assert heard["Recording File Archived", announced.id] == 4
    assert heard["Recording Archived", announced.id] == 1


def test_the_transcript_is_printed_as_people_read_it_and_as_it_is_stored(
    stack: Deployment, announced: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = stack.stack.description
    monkeypatch.setenv("REALTIMEKIT_RECORDINGS_API_URL", described["api_url"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", described["aws_access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", described["aws_secret_access_key"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", described["region"])

    printed, as_json, as_vtt = (
        CliRunner().invoke(main, ["transcript", announced.id, *options])
        for options in ([], ["--json"], ["--vtt"])
    )

    known = files(stack, announced.session)
    first = json.loads(known["transcript"].read())[0]
    assert [result.exit_code for result in (printed, as_json, as_vtt)] == [0, 0, 0]
    assert first["sentence"] in printed.stdout
    assert first["peerData"]["displayName"] in printed.stdout
    assert json.loads(as_json.stdout)[0]["sentence"] == first["sentence"]
    assert as_vtt.stdout == known["captions"].read().decode()


def test_without_any_webhook_the_look_after_the_end_finds_all_files(stack: Deployment) -> None:
    recording = sync(stack, record(stack))

    look(stack, recording.session)

    expect_whole_and_once(stack, recording)


def test_two_recordings_of_a_session_cost_one_request_for_each_file(stack: Deployment) -> None:
    world = stack.simulator.world
    begun = world.clock.now() - timedelta(minutes=20)
    session = world.start_session(world.create_meeting(at=begun), session_files=ALL, at=begun)
    tracks = RecordingOptions(kind=Kind.TRACK, participants=2, file_size=0, duration=60)
    recordings = [
        world.start_recording(session, options, allow_multiple=True, at=begun)
        for options in (SMALL, tracks)
    ]
    world.end_session(session, reason="HOST_ENDED_MEETING", at=begun + timedelta(minutes=10))
    for recording in recordings:
        sync(stack, recording)

    look(stack, session)

    for recording in recordings:
        expect_whole_and_once(stack, recording)
    assert requests(stack, session) == {
        "transcript format=JSON": 1,
        "transcript format=VTT": 1,
        "summary": 1,
        "chat": 1,
    }


def test_an_empty_transcript_is_none_after_the_last_look_and_no_alarm(stack: Deployment) -> None:
    empty = {"transcript": SessionFileOptions(outcome="empty")}
    a_day_ago = stack.simulator.world.clock.now() - timedelta(hours=26)
    recording = sync(stack, record(stack, session_files=empty, started_at=a_day_ago))

    look(stack, recording.session)

    states = settled_files(stack, recording)
    assert {kind: state["state"] for kind, state in states.items()} == {
        "transcript": "none",
        "captions": "none",
        "summary": "none",
        "chat": "none",
    }
    key = f"session_files#{recording.session.id}"
    wait_for(lambda: stack.check(key) is None and stack.check(f"archive#{recording.id}") is None)
    counted = metrics(stack)
    # The empty files are none, too, but they were offered.
    assert counted["SessionFileAbsent"] == 2
    # A schedule of the emulator may be late, so the age of a check says nothing.
    assert not [name for name in watched() - {"OldestCheckAge"} if counted[name]]


def metrics(stack: Deployment) -> Counter[str]:
    """Return the sum of each metric in the functions' logs."""
    found: Counter[str] = Counter()
    for line in stack.stack.logs():
        if '"_aws"' in line:
            fields = json.loads(line)
            [names] = [directive["Metrics"] for directive in fields["_aws"]["CloudWatchMetrics"]]
            found.update({metric["Name"]: sum(fields[metric["Name"]]) for metric in names})
    return found


def watched() -> set[str]:
    """Return the names of the metrics that an alarm of the template watches."""
    return {
        resource["Properties"]["MetricName"]
        for resource in template.load(ROOT / "template.yaml")["Resources"].values()
        if resource["Type"] == "AWS::CloudWatch::Alarm" and "MetricName" in resource["Properties"]
    }
