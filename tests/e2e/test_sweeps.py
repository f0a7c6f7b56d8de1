"""Webhooks get lost: a sweep makes the table equal to the truth, whoever dies meanwhile."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import flask
import pytest

from realtimekit_simulator import Effect, Recording, Simulator, Undocumented

from .conftest import Deployment, deployment, kill_runtime, wait_for
from .test_main_job import updated

RECORDINGS = 150
PAGE = 25


class OnPage(Effect):
    """Something happens while these pages of the list are on their way, once for each."""

    def __init__(self, happenings: dict[int, Callable[[], object]]) -> None:
        self._happenings = happenings

    def after(self, response: Any) -> Any:
        happens = self._happenings.pop(int(flask.request.args["page_no"]), None)
        if happens:
            happens()
        return response


@pytest.fixture
def deployed() -> Iterator[Deployment]:
    with deployment(Archiving="off", UpstreamRequestsPer5Minutes="1200") as own:
        yield own


@contextlib.contextmanager
def time_flies(deployed: Deployment) -> Iterator[None]:
    """Let the budget's windows pass quickly."""
    over = threading.Event()

    def forget() -> None:
        while not over.wait(0.5):
            deployed.open_budget()

    thread = threading.Thread(target=forget)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def recorded(simulator: Simulator, count: int) -> list[Recording]:
    """Record so many meetings, half a minute apart, up to yesterday."""
    first = simulator.world.clock.now() - timedelta(days=1, seconds=30 * count)
    return [
        simulator.world.record_meeting(
            title=f"Meeting {n}", started_at=first + timedelta(seconds=30 * n), duration=10
        )
        for n in range(count)
    ]


def tell(deployed: Deployment, recordings: list[Recording]) -> None:
    """Put RealtimeKit's events on the event bus, ten to a call."""
    events = deployed.stack.client("events")
    for start in range(0, len(recordings), 10):
        answer = events.put_events(
            Entries=[
                {
                    "EventBusName": deployed.stack.description["event_bus"]["name"],
                    "Source": "realtimekit",
                    "DetailType": "recording.statusUpdate",
                    "Detail": json.dumps(updated(recording)),
                }
                for recording in recordings[start : start + 10]
            ]
        )
        assert answer["FailedEntryCount"] == 0


def kill_the_sweeper() -> None:
    kill_runtime("sweep_recordings.handler")


def tick(deployed: Deployment) -> None:
    """Run the sweep function as its schedule does, after the lease of a killed run is over."""
    table = deployed.stack.description["tables"]["WorkTable"]["name"]
    deployed.dynamodb.delete_item(TableName=table, Key={"work_id": {"S": "sweeper"}})
    with contextlib.suppress(Exception):
        deployed.invoke("SweepRecordingsFunction", "sweep-recordings.tick")


def request(deployed: Deployment, method: str, path: str, body: Any = None) -> Any:
    text = None if body is None else json.dumps(body)
    answer = deployed.stack.request(method, path, body=text)
    assert answer.status in (200, 202), answer.data
    return json.loads(answer.data)


def swept(deployed: Deployment, since: str, **more: Any) -> dict[str, Any]:
    """Run a sweep from a time to now, and return its report."""
    asked = request(deployed, "POST", "/sweeps", {"from": since, **more})
    deadline = time.monotonic() + 1500
    while True:
        tick(deployed)
        report: dict[str, Any] = request(deployed, "GET", f"/sweeps/{asked['sweep_id']}")
        if report["state"] not in ("queued", "running"):
            return report
        assert time.monotonic() < deadline, report


def rows(deployed: Deployment) -> dict[str, dict[str, Any]]:
    return {item["recording_id"]["S"]: item for item in deployed.items("RecordingsTable")}


def truth(recording: Recording) -> dict[str, Any]:
    """Return the attributes that the recording's row must have."""
    return {
        "status": {"S": "UPLOADED"},
        "session_id": {"S": recording.session.id},
        "meeting_id": {"S": recording.session.meeting.id},
        "meeting_title": {"S": recording.session.meeting.title},
        "invoked_at": {"S": recording.invoked_at.isoformat(timespec="milliseconds")[:23] + "Z"},
    }


# A quiet machine takes half a minute.
@pytest.mark.timeout(3600)
def test_with_a_third_of_the_webhooks_lost_a_sweep_makes_the_table_equal_to_the_truth(
    deployed: Deployment,
) -> None:
    simulator = deployed.simulator
    simulator.world.undocumented = Undocumented(max_per_page=PAGE)
    recordings = recorded(simulator, RECORDINGS)
    told = [recording for n, recording in enumerate(recordings) if n % 3]
    since = (recordings[0].invoked_at - timedelta(minutes=1)).isoformat()
    late: list[Recording] = []

    def list_late() -> None:
        """Add recordings of long ago to a page that was read already."""
        started_at = recordings[40].invoked_at + timedelta(seconds=1)
        late.extend(
            simulator.world.record_meeting(
                title=f"Late {n}", started_at=started_at + timedelta(seconds=n), duration=10
            )
            for n in range(3)
        )

    def is_told() -> bool:
        """Return True if each row has its title, which an event on the bus does not bring."""
        return sum("meeting_title" in row for row in rows(deployed).values()) == len(told)

    with time_flies(deployed):
        tell(deployed, told)
        wait_for(lambda: is_told() and deployed.is_idle(), 1500)
    # Details of repaired rows are not fetched, so that a second sweep finds the first one's rows.
    with time_flies(deployed), deployed.without_schedules():
        happenings: dict[int, Callable[[], object]] = {
            2: kill_the_sweeper,
            4: list_late,
            5: kill_the_sweeper,
        }
        simulator.faults.add(OnPage(happenings), path="/recordings$", times=None)
        report = swept(deployed, since)
        assert happenings == {}
        everything = rows(deployed)
        again = swept(deployed, since)
        afterwards = rows(deployed)

    untold = RECORDINGS - len(told) + len(late)
    assert (report["state"], report["complete"]) == ("completed", True)
    counts = report["counts"]
    assert counts["seen"] == counts["catalogued"] == RECORDINGS + len(late)
    assert counts["missing"] == counts["repaired"] == untold
    assert counts["behind"] == 0
    assert everything.keys() == {recording.id for recording in [*recordings, *late]}
    for recording in [*recordings, *late]:
        row = everything[recording.id]
        assert {name: row[name] for name in truth(recording)} == truth(recording)
    assert (again["state"], again["counts"]["repaired"]) == ("completed", 0)
    assert afterwards == everything
