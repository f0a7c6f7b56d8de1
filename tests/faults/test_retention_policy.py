"""The retention policy, with and without faults: it erases what it announced, except holds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from faults.plan import AGE_DAYS, ORIGIN, RETENTION_DAYS
from faults.simulation import Aged, Simulation
from faults.test_faults import is_held, plain, rows, told
from realtimekit_recordings.retention_commands import forecast

Row = dict[str, Any]
FIRST = (ORIGIN + timedelta(days=AGE_DAYS)).date()


def forecasted(aged: Aged) -> set[str]:
    """Return what the command line forecasts for the day after the announcement."""
    found, _ = forecast(map(plain, aged.before), RETENTION_DAYS, FIRST + timedelta(days=1))
    assert list(found) == [FIRST + timedelta(days=1)]
    return set(found[FIRST + timedelta(days=1)].recording_ids)


def retired(simulation: Simulation) -> set[str]:
    """Return the ids of the recordings that the policy erased."""
    by_policy = [row for row in rows(simulation).values() if "erasure_reason" in row]
    assert all(row.keys() == {*TOMBSTONE, "erasure_reason"} for row in by_policy)
    return {row["recording_id"] for row in by_policy}


TOMBSTONE = ("recording_id", "version", "erased_at")


def run(simulation: Simulation, days_later: int) -> Row:
    """Return a day's run of the policy."""
    work_id = f"retention#{FIRST + timedelta(days=days_later)}"
    [found] = [
        row for row in map(plain, simulation.items("WorkTable")) if row["work_id"] == work_id
    ]
    return found


def test_what_was_forecast_is_erased_but_for_what_was_held_since(aged: Aged) -> None:
    found, erased = rows(aged.simulation), retired(aged.simulation)
    held = {identifier for identifier in found if is_held(aged.simulation, identifier)}

    assert held
    assert erased
    assert held & erased == set()
    assert erased == forecasted(aged) - held
    left = {identifier for identifier, row in found.items() if "erased_at" not in row}
    assert left == held


def test_the_first_days_report_and_event_say_what_goes_on_the_next(aged: Aged) -> None:
    forecast_of_day = forecasted(aged)

    announced = run(aged.simulation, 0)

    assert (announced["kind"], announced["state"]) == ("announcement", "completed")
    assert announced["counts"]["due"] == len(forecast_of_day)
    assert set(announced["examples"]["due"]) <= forecast_of_day
    details = [
        event["detail"]
        for event in aged.simulation.heard
        if event["detail-type"] == "Retention Announced"
    ]
    [event] = {one["id"]: one for one in details if one["id"] == f"retention#{FIRST}"}.values()
    assert event["counts"]["due"] == len(forecast_of_day)


def test_the_second_days_report_counts_each_recording_once(aged: Aged) -> None:
    counts = run(aged.simulation, 1)["counts"]

    assert run(aged.simulation, 1)["state"] == "completed"
    erased = counts.get("erased", 0) + counts.get("waiting", 0)
    assert erased == len(retired(aged.simulation))
    assert counts.get("not_final", 0) == counts.get("unknown_time", 0) == 0
    assert counts["held"] <= len([one for one in told(aged.simulation).values() if one["held"]])


def test_subscribers_hear_why_each_was_erased_and_what_it_was_called(aged: Aged) -> None:
    reasons = {
        event["detail"]["recording_id"]: event["detail"]
        for event in aged.simulation.heard
        if event["detail-type"] == "Recording Erased"
    }
    before = {row["recording_id"]: row for row in map(plain, aged.before)}

    erased = retired(aged.simulation)

    assert {one for one in reasons if reasons[one]["reason"] == "retention"} == erased
    for identifier in erased:
        assert reasons[identifier].get("labels") == before[identifier].get("labels")


def test_only_held_recordings_files_are_left_and_no_check(aged: Aged) -> None:
    s3 = aged.simulation.stack.client("s3")
    bucket = aged.simulation.stack.description["archive_bucket"]
    versions = s3.get_paginator("list_object_versions").paginate(Bucket=bucket)
    keys = set(versions.search("[Versions, DeleteMarkers][][].Key"))

    assert [key for key in keys if any(one in key for one in retired(aged.simulation))] == []
    work = [plain(item)["work_id"] for item in aged.simulation.items("WorkTable")]
    assert [work_id for work_id in work if work_id.startswith("check#")] == []
