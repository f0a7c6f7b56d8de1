"""From a meeting-ended event, or an API request, to a catalogued recording."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from realtimekit_simulator import (
    DEFAULT_TOKEN,
    Kind,
    Recording,
    RecordingOptions,
    Status,
    error,
    rate_limited,
)

from .conftest import Deployment, on_the_shared_deployment, wait_for

pytestmark = on_the_shared_deployment

SECRETS = ("access_key", "secret", "password", "private_key")


def ended(recording: Recording) -> dict[str, Any]:
    meeting = recording.session.meeting
    return {
        "event": "meeting.ended",
        "meeting": {"id": meeting.id, "sessionId": recording.session.id, "title": meeting.title},
        "reason": "ALL_PARTICIPANTS_LEFT",
    }


def updated(recording: Recording) -> dict[str, Any]:
    meeting = recording.session.meeting
    return {
        "event": "recording.statusUpdate",
        "recording": {
            "id": recording.id,
            "recordingId": recording.id,
            "roomUUID": recording.session.id,
            "status": "UPLOADED",
            "downloadUrl": "https://example.com/x.mp4?X-Amz-Signature=canary-url",
            "organizationId": "c94c437b-592a-4a39-b9e2-47ef1451e43b",
        },
        "meeting": {"id": meeting.id, "title": meeting.title},
    }


def has(deployed: Deployment, recording: Recording, status: str) -> Callable[[], Any]:
    def look() -> dict[str, Any] | None:
        row = deployed.row(recording)
        return row if row and row["status"] == status else None

    return look


def test_an_ended_meeting_on_the_event_bus_becomes_a_row(deployed: Deployment) -> None:
    recording = deployed.simulator.world.record_meeting(title="Weekly sync")

    deployed.put_event("meeting.ended", ended(recording))

    row = wait_for(has(deployed, recording, "UPLOADED"))
    assert row["recording_id"] == recording.id
    assert row["meeting_title"] == "Weekly sync"
    assert row["session_id"] == recording.session.id


def test_a_status_update_on_the_event_bus_becomes_a_row_with_what_only_the_event_knew(
    deployed: Deployment,
) -> None:
    title = 'Say "hi" – <b>\\ 日本'
    recording = deployed.simulator.world.record_meeting(title=title)

    deployed.put_event("recording.statusUpdate", updated(recording))

    def completed() -> dict[str, Any] | None:
        # The title is its session's, which is fetched after the row is written.
        row = has(deployed, recording, "UPLOADED")()
        return row if row and "meeting_title" in row else None

    row = wait_for(completed)
    assert row["meeting_title"] == title
    assert row["organization_id"] == "c94c437b-592a-4a39-b9e2-47ef1451e43b"
    assert row["stop_reason"] == {"reason": "ALL_PEERS_LEFT"}


def test_an_event_that_says_less_is_enough(deployed: Deployment) -> None:
    """Dyte's events had no organisation's id and no title."""
    recording = deployed.simulator.world.record_meeting()
    event = updated(recording)
    del event["recording"]["organizationId"], event["meeting"]["title"]

    deployed.put_event("recording.statusUpdate", event)

    assert wait_for(has(deployed, recording, "UPLOADED"))["recording_id"] == recording.id


def test_a_sync_through_the_api_catalogues_a_recording_and_a_get_reads_it(
    deployed: Deployment,
) -> None:
    recording = deployed.simulator.world.record_meeting(
        options=RecordingOptions(kind=Kind.TRACK, participants=3)
    )
    before = deployed.stack.request("GET", f"/recordings/{recording.id}")
    assert before.status == 404
    assert before.headers["Content-Type"] == "application/problem+json"

    synced = deployed.stack.request("POST", f"/recordings/{recording.id}/sync")

    assert synced.status == 200
    row = json.loads(synced.data)
    assert [artifact["kind"] for artifact in row["artifacts"].values()] == ["track"] * 3
    assert row["meeting_id"] == recording.session.meeting.id
    assert deployed.row(recording) == row


def test_an_unsigned_request_is_refused(deployed: Deployment) -> None:
    recording = deployed.simulator.world.record_meeting()
    path = f"/recordings/{recording.id}"

    assert deployed.stack.request("GET", path, signed=False).status == 403
    assert deployed.stack.request("POST", f"{path}/sync", signed=False).status == 403
    assert deployed.row(recording) is None


def test_a_malformed_id_never_reaches_realtimekit(deployed: Deployment) -> None:
    before = len(deployed.simulator.requests)

    answer = deployed.stack.request("POST", "/recordings/not-a-uuid/sync")

    assert answer.status == 400
    assert json.loads(answer.data)["detail"] == "recording_id is not a UUID."
    assert len(deployed.simulator.requests) == before


def test_a_recording_is_followed_until_it_is_final_though_every_webhook_is_lost(
    deployed: Deployment,
) -> None:
    world = deployed.simulator.world
    recording = world.record_meeting(
        status=Status.UPLOADING, options=RecordingOptions(upload_seconds=None)
    )
    key = f"recording#{recording.id}"
    deployed.put_event("meeting.ended", ended(recording))
    wait_for(has(deployed, recording, "UPLOADING"))
    wait_for(lambda: deployed.check(key))

    world.finish_upload(recording)
    deployed.make_due(key)
    assert "FunctionError" not in deployed.invoke("FollowUpFunction", "follow-up.schedule-tick")

    assert wait_for(has(deployed, recording, "UPLOADED"))["file_size"] > 0
    wait_for(lambda: deployed.check(key) is None)


def test_a_request_that_realtimekit_throttles_is_answered_503_and_done_later(
    deployed: Deployment,
) -> None:
    recording = deployed.simulator.world.record_meeting()
    key = f"recording#{recording.id}"
    deployed.simulator.faults.add(rate_limited(120))

    answer = deployed.stack.request("POST", f"/recordings/{recording.id}/sync")
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "120"
    asked = len(deployed.simulator.requests)
    again = deployed.stack.request("POST", f"/recordings/{recording.id}/sync")
    assert again.status == 503
    assert len(deployed.simulator.requests) == asked

    deployed.open_budget()
    deployed.make_due(key)
    deployed.invoke("FollowUpFunction", "follow-up.schedule-tick")
    wait_for(has(deployed, recording, "UPLOADED"))


def test_sixty_events_at_once_make_each_row_once(deployed: Deployment) -> None:
    recordings = deployed.simulator.world.record_meetings(15)
    before = len(deployed.simulator.requests)
    events = [updated(recording) for recording in recordings] * 4

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda event: deployed.put_event("recording.statusUpdate", event), events))

    ids = {recording.id for recording in recordings}

    def all_there() -> list[dict[str, Any]] | None:
        items = [i for i in deployed.items("RecordingsTable") if i["recording_id"]["S"] in ids]
        # An event on the bus brings no title, so the function fetches it with the session.
        return items if sum("meeting_title" in item for item in items) == 15 else None

    def budget_postponed() -> None:
        """Run a tick for the requests that met a spent budget."""
        for item in deployed.items("WorkTable"):
            if item["work_id"]["S"].removeprefix("check#recording#") in ids:
                deployed.make_due(item["work_id"]["S"].removeprefix("check#"))
        deployed.invoke("FollowUpFunction", "follow-up.schedule-tick")

    def look() -> list[dict[str, Any]] | None:
        found = all_there()
        if not found:
            budget_postponed()
        return found

    rows = wait_for(look)
    # The attributes of get-one, and the meeting that the session names.
    assert {item["version"]["N"] for item in rows} == {"2"}
    assert {item["status"]["S"] for item in rows} == {"UPLOADED"}
    windows = [
        int(item["used"]["N"])
        for item in deployed.items("WorkTable")
        if item["work_id"]["S"].startswith("budget#")
    ]
    assert max(windows) <= 1000 // 21
    assert len(deployed.simulator.requests) - before <= 60


def test_poison_ends_in_the_dead_letter_queue_and_the_log_says_why(deployed: Deployment) -> None:
    sqs = deployed.stack.client("sqs")
    url = deployed.stack.description["queues"]["IngestQueue"]["url"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "1"})
    try:
        sqs.send_message(QueueUrl=url, MessageBody='{"v": 2, "poison": true}')

        dead = wait_for(lambda: deployed.dead_letter("IngestDeadLetterQueue"))
    finally:
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "360"})

    assert dead == '{"v": 2, "poison": true}'
    assert any("v is 2, not 1" in line for line in deployed.stack.logs())


def test_an_event_without_ids_is_poison_and_reaches_nobody(deployed: Deployment) -> None:
    sqs = deployed.stack.client("sqs")
    url = deployed.stack.description["queues"]["IngestQueue"]["url"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "1"})
    try:
        deployed.put_event("meeting.ended", {"event": "meeting.ended"})

        dead = wait_for(lambda: deployed.dead_letter("IngestDeadLetterQueue"))
    finally:
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "360"})

    assert json.loads(dead)["meeting_id"] == ""
    # Others may be asking meanwhile, but nobody without an id.
    asked = [f"{logged.path}?{logged.query}&" for logged in deployed.simulator.requests]
    # A function that warms up asks for "/", and nothing of it.
    assert [url for url in asked if "s/?" in url or "meeting_id=&" in url] == []


def test_no_secret_is_anywhere(deployed: Deployment) -> None:
    """RealtimeKit's answers, and the event, carry canaries in every secret place."""
    storage = {"type": "aws", "bucket": "kept", **{name: f"canary-{name}" for name in SECRETS}}
    world = deployed.simulator.world
    meeting = world.create_meeting(recording_config={"storage_config": storage})
    recording = world.record_meeting(
        meeting=meeting, options=RecordingOptions(storage_config=storage)
    )
    deployed.simulator.faults.add(error(500), path=f"/recordings/{recording.id}", times=1)

    deployed.stack.request("POST", f"/recordings/{recording.id}/sync")
    deployed.put_event("meeting.ended", ended(recording))
    deployed.put_event("recording.statusUpdate", updated(recording))

    def with_reasons() -> dict[str, Any] | None:
        row = deployed.row(recording)
        return row if row and "stop_reason" in row else None

    answer = wait_for(with_reasons)
    tables = str([deployed.items(name) for name in ("RecordingsTable", "WorkTable")])
    everything = f"{tables}\n{deployed.stack.logs()}\n{answer}"
    assert "'bucket': {'S': 'kept'}" in tables
    assert "canary" not in everything
    assert DEFAULT_TOKEN not in everything
    assert "X-Amz-Signature" not in f"{deployed.stack.logs()}{answer}"


def test_while_the_token_is_bad_nothing_is_lost_and_a_new_one_is_used_without_a_redeploy(
    deployed: Deployment,
) -> None:
    recording = deployed.simulator.world.record_meeting()
    key = f"recording#{recording.id}"
    secrets = deployed.stack.client("secretsmanager")
    arn = deployed.stack.description["api_token_secret_arn"]
    deployed.simulator.tokens.revoke(DEFAULT_TOKEN)
    deployed.simulator.tokens.add("rotated-token")
    try:
        deployed.put_event("recording.statusUpdate", updated(recording))

        wait_for(lambda: (deployed.check(key) or {}).get("cause") == {"S": "unauthorized"})
        assert deployed.row(recording) is None
        assert any('"TokenRefused"' in line for line in deployed.stack.logs())
        secrets.put_secret_value(SecretId=arn, SecretString='{"api_token": "rotated-token"}')
        deployed.make_due(key)
        deployed.invoke("FollowUpFunction", "follow-up.schedule-tick")

        wait_for(has(deployed, recording, "UPLOADED"))
        assert not any("rotated-token" in line for line in deployed.stack.logs())
    finally:
        deployed.simulator.tokens.add(DEFAULT_TOKEN)
        secrets.put_secret_value(
            SecretId=arn, SecretString=json.dumps({"api_token": DEFAULT_TOKEN})
        )
