"""`retention`: reports of the retention policy's runs, and a forecast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import click

from .api import Api
from .options import with_api, with_json
from .output import Failure, print_json, print_rows

FINAL = ("UPLOADED", "ERRORED")
# RealtimeKit's predecessor began in 2015, so an earlier time means that none was set.
FIRST_YEAR = 2015
COLUMNS = ("Day", "Days", "Run", "State", "Due", "Erased", "Waiting", "Passed by")
PASSED_BY = {
    "held": "on hold",
    "not_final": "not final",
    "unknown_time": "of unknown age",
    "out_of_reach": "with files out of reach",
}


@dataclass(slots=True)
class Day:
    """The recordings that one day's run will erase, and their main files' bytes."""

    recording_ids: list[str] = field(default_factory=list)
    size: int = 0


@click.command()
@with_api
@click.option(
    "--dry-run", is_flag=True, help="Forecast by day which recordings will be erased; erase none."
)
@click.option(
    "--days",
    type=click.IntRange(1, 36_500),
    help="Forecast for this RetentionDays, with --dry-run. The default is the stack's.",
)
@click.option(
    "--ahead",
    type=click.IntRange(1, 366),
    default=14,
    help="Number of days to forecast, with --dry-run.",
)
@with_json
def retention(api: Api, dry_run: bool, days: int | None, ahead: int, as_json: bool) -> None:
    """Report what the retention policy erased, or forecast what it will erase.

    The policy is the stack's parameter RetentionDays. Without --dry-run, the command shows the runs
    of the last days: how many recordings each erased, and how many it passed by and why. Each run
    belongs to a day in UTC. An announcement erases nothing: it says what the next day's run will.

    With --dry-run, the command reads the list of recordings, and counts for each day what that
    day's run will erase. Recordings that are old enough already are counted on the first day.
    """
    if days is not None and not dry_run:
        raise click.UsageError("--days needs --dry-run.")
    if dry_run:
        _forecast(api, days, ahead, as_json=as_json)
        return
    report = api.retention()
    if as_json:
        print_json(report)
        return
    click.echo(_policy(report["days"]))
    if report["runs"]:
        print_rows(COLUMNS, [_cells(run) for run in report["runs"]], ("Days", "Waiting", "State"))


def _policy(days: int) -> str:
    if days == 0:
        return "RetentionDays is 0: recordings are kept for ever."
    return f"RetentionDays is {days}: older recordings are erased, unless they are on hold."


def _cells(run: Mapping[str, Any]) -> list[str]:
    counts = run["counts"]
    state = f"{run['state']} ({run['cause']})" if "cause" in run else run["state"]
    numbers = [str(counts.get(name, 0)) for name in ("due", "erased", "waiting")]
    return [run["on"], str(run["days"]), run["kind"], state, *numbers, _passed_by(counts)]


def _passed_by(counts: Mapping[str, int]) -> str:
    parts = [f"{counts[name]} {text}" for name, text in PASSED_BY.items() if counts.get(name)]
    return ", ".join(parts) or "none"


def _forecast(api: Api, days: int | None, ahead: int, *, as_json: bool) -> None:
    days = days or int(api.retention()["days"])
    if days == 0:
        raise Failure("The stack keeps recordings for ever (RetentionDays is 0). Give --days.")
    first = datetime.now(UTC).date() + timedelta(days=1)
    last = first + timedelta(days=ahead - 1)
    query = {"order": "oldest", "to": (last - timedelta(days=days)).isoformat()}
    erased, passed_by = forecast(api.recordings(query, None), days, first)
    if as_json:
        by_day = [
            {"on": f"{on}", "bytes": day.size, "recording_ids": day.recording_ids}
            for on, day in sorted(erased.items())
        ]
        print_json({"days": days, "until": f"{last}", "erased": by_day, "passed_by": passed_by})
        return
    rows = [
        [f"{on}", str(len(day.recording_ids)), f"{day.size / 1e6:,.1f} MB"]
        for on, day in sorted(erased.items())
    ]
    if rows:
        print_rows(("Day", "Recordings", "Size"), rows, ())
    else:
        click.echo(f"No recording will be erased until {last}.")
    click.echo(f"Passed by: {_passed_by(passed_by)}.")


def forecast(
    recordings: Iterable[Mapping[str, Any]], days: int, first: date
) -> tuple[dict[date, Day], dict[str, int]]:
    """Return the recordings that each day's run erases, and how many are passed by, by reason."""
    erased: dict[date, Day] = {}
    passed_by: Counter[str] = Counter()
    for recording in recordings:
        invoked_on = _invoked_on(recording)
        if "hold" in recording:
            passed_by["held"] += 1
        elif invoked_on is None:
            passed_by["unknown_time"] += 1
        elif recording.get("status") not in FINAL:
            passed_by["not_final"] += 1
        else:
            # A run erases recordings invoked before the midnight (UTC) of `days` days ago.
            on = max(first, invoked_on + timedelta(days=days + 1))
            day = erased.setdefault(on, Day())
            day.recording_ids.append(str(recording["recording_id"]))
            day.size += int(recording.get("file_size", 0))
    return erased, dict(passed_by)


def _invoked_on(recording: Mapping[str, Any]) -> date | None:
    """Return the day on which a recording was invoked, `None` if RealtimeKit does not say."""
    try:
        invoked_at = datetime.fromisoformat(recording["invoked_at"])
    except (KeyError, TypeError, ValueError):
        return None
    is_known = invoked_at.year >= FIRST_YEAR and "invoked_at_from" not in recording
    return invoked_at.date() if is_known else None
