"""The command `retention`: its report, and its forecast of what the policy will erase."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import Result

from api_calls import DOCUMENT, Reply, expect_documented
from doubles import Answer, Upstream

Run = Callable[..., Result]
MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
TOMORROW = (MIDNIGHT + timedelta(days=1)).date()


@pytest.fixture
def api(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    monkeypatch.setenv("REALTIMEKIT_RECORDINGS_API_URL", upstream.url)
    return upstream


def policy(days: int, *runs: dict[str, Any]) -> Answer:
    """Return the API's report, valid by its document."""
    body = {"days": days, "runs": list(runs)}
    expect_documented("GET", "/retention", Reply(200, "application/json", {}, body))
    return Answer(body)


def item(number: int, age: timedelta, **more: Any) -> dict[str, Any]:
    """Return an item of the list, invoked so long before today's midnight."""
    return {
        "recording_id": f"00000000-0000-4000-8000-{number:012}",
        "status": "UPLOADED",
        "invoked_at": f"{MIDNIGHT - age:%Y-%m-%dT%H:%M:%S}.000Z",
        "file_size": 1_500_000,
        **more,
    }


def test_the_report_shows_each_days_run_and_what_it_passed_by_and_why(
    run: Run, api: Upstream
) -> None:
    [example] = DOCUMENT["components"]["schemas"]["Retention"]["examples"]
    stopped = {**example["runs"][0], "state": "stopped", "cause": "day_over", "counts": {}}
    api.says(policy(30, *example["runs"], stopped))

    result = run("retention")

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "RetentionDays is 30: older recordings are erased, unless they are on hold."
    assert lines[2].split() == (
        ["2026-07-04", "30", "erasure", "completed", "2", "1", "1", "1", "on", "hold"]
    )
    assert "stopped (day_over)" in lines[3]
    assert lines[3].endswith(" none")
    assert json.loads(run("retention", "--json").stdout)["days"] == 30


def test_a_stack_without_the_policy_says_so(run: Run, api: Upstream) -> None:
    api.says(policy(0))

    assert run("retention").stdout == "RetentionDays is 0: recordings are kept for ever.\n"
    assert run("retention", "--dry-run").exit_code == 2
    assert run("retention", "--days", "30").exit_code == 2


def test_the_forecast_is_by_day_and_says_what_is_passed_by(run: Run, api: Upstream) -> None:
    hold = {"reason": "case 12"}
    items = [
        item(1, timedelta(days=400)),
        item(2, timedelta(days=400), hold=hold),
        item(3, timedelta(days=400), invoked_at="0001-01-01T00:00:00.000Z"),
        item(4, timedelta(days=400), invoked_at="1970-01-01T00:00:00.000Z"),
        item(5, timedelta(days=400), invoked_at_from="first_seen_at"),
        item(6, timedelta(days=400), status="RECORDING"),
        item(7, timedelta(days=400), status="TRANSCODING"),
        item(8, timedelta(days=29, seconds=1), status="ERRORED"),
        item(9, timedelta(days=29)),
        item(10, timedelta(days=28, seconds=1)),
    ]
    api.says(policy(30), Answer({"recordings": items}))

    result = run("retention", "--dry-run", "--ahead", "5")

    assert [line.split() for line in result.stdout.splitlines()[1:]] == [
        [f"{TOMORROW}", "2", "3.0", "MB"],
        [f"{TOMORROW + timedelta(days=1)}", "2", "3.0", "MB"],
        ["Passed", "by:", "1", "on", "hold,", "2", "not", "final,", "3", "of", "unknown", "age."],
    ]
    until = TOMORROW + timedelta(days=4 - 30)
    assert api.paths[1] == f"/recordings?order=oldest&to={until}&limit=100"


def test_the_forecast_for_other_days_names_the_recordings_in_json(run: Run, api: Upstream) -> None:
    old = item(1, timedelta(days=10))
    api.says(Answer({"recordings": [old]}))

    result = run("retention", "--dry-run", "--days", "7", "--json")

    assert json.loads(result.stdout) == {
        "days": 7,
        "until": f"{TOMORROW + timedelta(days=13)}",
        "erased": [
            {"on": f"{TOMORROW}", "bytes": 1_500_000, "recording_ids": [old["recording_id"]]}
        ],
        "passed_by": {},
    }
    api.says(Answer({"recordings": []}))
    quiet = run("retention", "--dry-run", "--days", "7")
    assert quiet.stdout.startswith("No recording will be erased until ")
