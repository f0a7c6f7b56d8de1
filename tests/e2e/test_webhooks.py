"""Signed webhooks in through API Gateway, events out to subscribers."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import urllib3

from doubles import Signer
from realtimekit_simulator import Recording, error
from realtimekit_simulator.delivery import Delivery, Outcome

from .conftest import Deployment, wait_for

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def deliver_all(fresh: Deployment, **how: Any) -> list[Delivery]:
    world = fresh.simulator.world
    until = world.clock.now() + timedelta(seconds=1)
    return fresh.simulator.webhooks.deliver(LONG_AGO, until, **how)


def statuses(deliveries: list[Delivery]) -> list[list[int | None]]:
    return [[attempt.status for attempt in delivery.attempts] for delivery in deliveries]


def final(fresh: Deployment, recordings: list[Recording]) -> list[dict[str, Any]] | None:
    """Return the rows if they are all UPLOADED."""
    ids = {recording.id for recording in recordings}
    rows = [row for row in fresh.items("RecordingsTable") if row["recording_id"]["S"] in ids]
    done = len(rows) == len(ids) and all(row["status"]["S"] == "UPLOADED" for row in rows)
    return rows if done else None


def post(url: str, body: bytes, signature: str) -> int:
    headers = {"Content-Type": "application/json", "RTK-Signature": signature}
    answer = urllib3.request("POST", url, body=body, headers=headers, retries=False, timeout=120)
    return answer.status


def test_a_meetings_webhooks_make_its_row_and_subscribers_hear_of_each_change_once(
    fresh: Deployment,
) -> None:
    queue = fresh.subscribe()
    recording = fresh.simulator.world.record_meeting(title="Weekly sync")

    deliveries = deliver_all(fresh)

    assert [delivery.message.event for delivery in deliveries] == [
        "meeting.started",
        "recording.statusUpdate",  # RECORDING
        "meeting.ended",
        "recording.statusUpdate",  # UPLOADING
        "recording.statusUpdate",  # UPLOADED
    ]
    assert {delivery.outcome for delivery in deliveries} == {Outcome.DELIVERED}
    wait_for(lambda: final(fresh, [recording]))
    row = fresh.row(recording)
    assert row is not None
    assert row["meeting_title"] == "Weekly sync"
    assert row["organization_id"] == fresh.simulator.world.organization_id
    heard: list[tuple[str, str]] = []

    def heard_two() -> bool:
        heard.extend(fresh.heard(queue))
        return len(heard) >= 2

    wait_for(heard_two)
    assert sorted(heard) == [
        ("Recording Catalogued", recording.id),
        ("Recording Uploaded", recording.id),
    ]

    wait_for(fresh.is_idle)
    before = fresh.row(recording)
    deliver_all(fresh, order="reversed", duplicates=3)
    wait_for(fresh.is_idle)
    time.sleep(2)
    assert fresh.row(recording) == before
    assert fresh.heard(queue) == []


def test_a_forged_event_is_refused_and_leaves_nothing(fresh: Deployment, successor: Signer) -> None:
    recording = fresh.simulator.world.record_meeting()
    url = fresh.stack.description["webhook_url"]
    body = json.dumps({"event": "recording.statusUpdate", "recording": {"id": recording.id}})

    assert post(url, body.encode(), successor.sign(body.encode())) == 401
    assert post(url, body.encode(), base64.b64encode(bytes(256)).decode()) in (401, 503)
    assert post(url, body.encode(), "") == 401
    assert post(url, body.encode() + b" ", fresh.simulator.webhooks.key.sign(body.encode())) in (
        401,
        503,
    )

    assert fresh.is_idle()
    assert fresh.items("RecordingsTable") == []


def test_the_key_may_be_rotated_in_the_middle_of_a_run_without_a_lost_event(
    fresh: Deployment,
) -> None:
    world = fresh.simulator.world
    recordings = world.record_meetings(3)
    assert {delivery.outcome for delivery in deliver_all(fresh)} == {Outcome.DELIVERED}

    fresh.simulator.webhooks.rotate_key()
    recordings += world.record_meetings(3)
    deliveries = deliver_all(fresh)

    assert {delivery.outcome for delivery in deliveries} == {Outcome.DELIVERED}
    wait_for(lambda: final(fresh, recordings))


def test_a_key_server_that_is_down_at_the_start_costs_no_event(fresh: Deployment) -> None:
    recording = fresh.simulator.world.record_meeting()
    # The function asks for the key when it is initialised, and again for the event.
    fresh.simulator.faults.add(error(503), path="well-known", times=1)

    [delivery] = fresh.simulator.webhooks.send("recording.statusUpdate", recording=recording)

    # A retry comes first where AWS is slow: the function's patience with SQS is short.
    [tries] = statuses([delivery])
    assert tries[-1] == 202
    assert len(fresh.simulator.request_log.matching("well-known")) >= 2
    wait_for(lambda: final(fresh, [recording]))


def test_a_queue_that_is_down_costs_a_retry_and_makes_one_row(fresh: Deployment) -> None:
    recording = fresh.simulator.world.record_meeting()
    functions = fresh.stack.client("lambda")
    name = fresh.stack.description["functions"]["ReceiveWebhookFunction"]["name"]
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    broken = {**variables, "INGEST_QUEUE_URL": variables["INGEST_QUEUE_URL"] + "-gone"}
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": broken})
    webhooks = fresh.simulator.webhooks

    [failed] = webhooks.send("recording.statusUpdate", recording=recording)
    assert statuses([failed]) == [[503, 503, 503, 503]]

    functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})
    [delivered] = webhooks.send("recording.statusUpdate", recording=recording)
    assert delivered.outcome is Outcome.DELIVERED
    rows = wait_for(lambda: final(fresh, [recording]))
    assert rows[0]["version"]["N"] == "1"


def test_thirty_webhooks_at_once_are_all_accepted_and_each_row_is_right(
    fresh: Deployment,
) -> None:
    recordings = fresh.simulator.world.record_meetings(6)

    deliveries = deliver_all(fresh, order="shuffled", seed=7, concurrency=10)

    assert len(deliveries) >= 30
    answers = Counter(delivery.attempts[-1].status for delivery in deliveries)
    assert answers.keys() <= {200, 202}, answers

    def look() -> list[dict[str, Any]] | None:
        """Return the final rows, or run a tick for the requests that met a spent budget."""
        if rows := final(fresh, recordings):
            return rows
        for item in fresh.items("WorkTable"):
            if item["work_id"]["S"].startswith("check#"):
                fresh.make_due(item["work_id"]["S"].removeprefix("check#"))
        fresh.invoke("FollowUpFunction", "follow-up.schedule-tick")
        time.sleep(2)
        return None

    rows = wait_for(look)
    assert {row["meeting_title"]["S"] for row in rows} == {
        f"Weekly sync {number}" for number in range(1, 7)
    }
