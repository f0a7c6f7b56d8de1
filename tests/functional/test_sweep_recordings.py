"""sweep_recordings: missing recordings are found, however RealtimeKit's list behaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import flask
import pytest
import urllib3
from botocore.exceptions import ClientError

import rights
import sweep_recordings
from doubles import API_TOKEN, APP_ID, Answer, Clock, Context, Upstream, s3_fails, sample
from realtimekit_simulator import (
    Effect,
    Overlay,
    Recording,
    RecordingOptions,
    Simulator,
    Status,
    Undocumented,
    error,
    garbage,
    rate_limited,
)
from recordings.archive import Archive
from recordings.archiver import Archiver
from recordings.budget import UpstreamBudget
from recordings.catalogue import Catalogue
from recordings.dynamodb import Table
from recordings.ingestion import Ingestion
from recordings.messages import ArchiveRequest, Source
from recordings.realtimekit import ApiToken, RealtimeKit
from recordings.rows import unsettled
from recordings.sweeper import Sweeper
from recordings.sweeps import State, Sweep, Sweeps, Trigger, UnfinishedError
from recordings.worklist import Worklist, utcnow

NOW = datetime(2026, 6, 3, 10, 30, tzinfo=UTC)
FIRST = NOW - timedelta(days=2)
Checks = Callable[[], dict[str, str]]
Tick = Callable[..., None]


@pytest.fixture
def sweeps(work_table: Table, clock: Clock) -> Sweeps:
    return Sweeps(work_table, APP_ID, clock)


@pytest.fixture
def sweeper(ingestion: Ingestion, sweeps: Sweeps, archive: Archive, clock: Clock) -> Sweeper:
    return Sweeper(ingestion=ingestion, sweeps=sweeps, archive=archive, now=clock)


@pytest.fixture
def tick(
    sweeper: Sweeper, sweeps: Sweeps, clock: Clock, context: Context, monkeypatch: Any
) -> Tick:
    monkeypatch.setattr(sweep_recordings, "sweeper", sweeper)
    monkeypatch.setattr(sweep_recordings, "sweeps", sweeps)
    monkeypatch.setattr(sweep_recordings, "utcnow", clock)

    def run(kind: str = "tick") -> None:
        sweep_recordings.handler(sample(f"sweep-recordings.{kind}"), context)

    return run


@pytest.fixture
def use(tick: Tick, sweeper: Sweeper, monkeypatch: Any) -> Callable[[RealtimeKit], None]:
    """Let another client ask RealtimeKit."""

    def replaced(realtimekit: RealtimeKit) -> None:
        ingestion = replace(sweeper.ingestion, realtimekit=realtimekit)
        changed = replace(sweeper, ingestion=ingestion)
        monkeypatch.setattr(sweep_recordings, "sweeper", changed)

    return replaced


@pytest.fixture
def request_sweep(sweeps: Sweeps, clock: Clock) -> Callable[..., Sweep]:
    """Ask for one of all there ever was."""

    def ask(dry_run: bool = False, since: datetime = FIRST, until: datetime | None = None) -> Sweep:
        return sweeps.request(since, until or clock(), dry_run=dry_run)

    return ask


Ask = Callable[..., Sweep]


def recorded(simulator: Simulator, count: int, first: datetime = FIRST) -> list[Recording]:
    """Make so many meetings with one recording each, a minute apart."""
    return [
        simulator.world.record_meeting(started_at=first + timedelta(minutes=n), duration=30)
        for n in range(count)
    ]


def in_pages_of(simulator: Simulator, size: int, **more: Any) -> None:
    rules = Undocumented(max_per_page=size, default_per_page=size, **more)
    simulator.world.undocumented = rules


def done(sweeps: Sweeps, sweep: Sweep) -> Sweep:
    found = sweeps.get(sweep.sweep_id)
    assert found is not None
    return found


def pages(simulator: Simulator) -> int:
    return len([one for one in simulator.requests if one.path.endswith("/recordings")])


def test_what_the_table_lacks_is_catalogued_from_list_pages_alone(
    tick: Tick, request_sweep: Ask, sweeps: Sweeps, simulator: Simulator, catalogue: Catalogue
) -> None:
    in_pages_of(simulator, 10)
    recordings = recorded(simulator, 14)
    sweep = request_sweep()

    tick()

    report = done(sweeps, sweep)
    assert (report.state, report.complete) == (State.COMPLETED, True)
    assert (report.counts.seen, report.counts.missing, report.counts.repaired) == (14, 14, 14)
    assert report.counts.catalogued == 14
    row = catalogue.get(recordings[12].id)
    assert row is not None
    assert (row["status"], row["meeting_title"]) == ("UPLOADED", "Weekly sync")
    assert {one.path.rpartition("/")[2] for one in simulator.requests} == {"recordings"}
    # Two pages, the empty one behind them, and the first one again.
    assert pages(simulator) == 5


def test_details_that_the_list_lacks_are_left_to_checks_of_low_priority(
    tick: Tick, request_sweep: Ask, simulator: Simulator, checks: Checks, worklist: Worklist
) -> None:
    recordings = recorded(simulator, 3)
    request_sweep()

    tick()

    assert checks() == {f"recording#{one.id}": "details_missing" for one in recordings}
    assert worklist.oldest_due() is None


def test_a_second_sweep_writes_nothing(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    catalogue: Catalogue,
    dynamodb: Any,
) -> None:
    recordings = recorded(simulator, 5)
    request_sweep()
    tick()
    rows = [catalogue.get(one.id) for one in recordings]
    written: list[str] = []
    dynamodb.meta.events.register(
        "provide-client-params.dynamodb.UpdateItem",
        lambda params, **_: written.append(params["TableName"]),
    )
    again = request_sweep(until=NOW - timedelta(seconds=1))

    tick()

    assert done(sweeps, again).counts.repaired == 0
    assert "RecordingsTable" not in written
    assert [catalogue.get(one.id) for one in recordings] == rows


def test_a_row_that_is_behind_is_brought_up_to_date(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    ingestion: Ingestion,
    catalogue: Catalogue,
    clock: Clock,
) -> None:
    recording = simulator.world.record_meeting(status=Status.UPLOADING, started_at=FIRST)
    [listed] = ingestion.realtimekit.page(1).recordings
    catalogue.upsert(listed, clock())
    simulator.world.finish_upload(recording)
    sweep = request_sweep()

    tick()

    report = done(sweeps, sweep)
    assert (report.counts.missing, report.counts.behind, report.counts.repaired) == (0, 1, 1)
    row = catalogue.get(recording.id)
    assert row is not None
    assert row["status"] == "UPLOADED"


def test_a_dry_run_reports_and_changes_nothing(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    catalogue: Catalogue,
    checks: Checks,
) -> None:
    [first, second] = recorded(simulator, 2)
    sweep = request_sweep(dry_run=True)

    tick()

    report = done(sweeps, sweep)
    assert (report.state, report.counts.seen, report.counts.missing) == (State.COMPLETED, 2, 2)
    assert (report.counts.repaired, report.counts.catalogued) == (0, 0)
    assert report.counts.not_archived == 2
    assert set(report.examples["missing"]) == {first.id, second.id}
    assert catalogue.get(first.id) is None
    assert checks() == {}


@pytest.mark.parametrize("first_page", [0, 1])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_pages_may_count_from_0_or_from_1_and_be_smaller_than_asked_for(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    first_page: int,
    count: int,
) -> None:
    in_pages_of(simulator, 3, first_page=first_page)
    recorded(simulator, count)
    sweep = request_sweep()

    tick()

    report = done(sweeps, sweep)
    assert (report.state, report.complete) == (State.COMPLETED, True)
    assert (report.counts.seen, report.counts.repaired) == (count, count)


@pytest.mark.parametrize(("since", "until"), [(0, 10), (2, 4), (5, 6), (8, 10), (9, 22)])
def test_only_the_window_is_swept_and_all_of_it(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    catalogue: Catalogue,
    since: int,
    until: int,
) -> None:
    in_pages_of(simulator, 2)
    recordings = recorded(simulator, 10)
    minute = timedelta(minutes=1)
    sweep = request_sweep(since=FIRST + since * minute, until=FIRST + until * minute)

    tick()

    report = done(sweeps, sweep)
    assert (report.state, report.complete) == (State.COMPLETED, True)
    catalogued = [n for n, one in enumerate(recordings) if catalogue.get(one.id)]
    assert catalogued == list(range(since, min(until, 10)))
    assert report.counts.catalogued == len(catalogued)


def test_the_first_page_of_a_late_window_is_found_by_halving(
    tick: Tick, request_sweep: Ask, simulator: Simulator
) -> None:
    in_pages_of(simulator, 1)
    recorded(simulator, 200)
    request_sweep(since=FIRST + timedelta(minutes=120), until=FIRST + timedelta(minutes=122))

    tick()

    assert pages(simulator) < 15


class Meanwhile(Effect):
    """Something happens to the world while the n-th page is on its way."""

    def __init__(self, page: int, happens: Callable[[], object]) -> None:
        self._page = str(page)
        self._happens = [happens]

    def after(self, response: Any) -> Any:
        if flask.request.args["page_no"] == self._page and self._happens:
            self._happens.pop()()
        return response


def test_what_is_put_into_pages_already_read_is_found_by_reading_them_once_more(
    tick: Tick, request_sweep: Ask, sweeps: Sweeps, simulator: Simulator, catalogue: Catalogue
) -> None:
    in_pages_of(simulator, 5)
    recordings = recorded(simulator, 23)
    late = FIRST + timedelta(minutes=1, seconds=30)
    simulator.faults.add(
        Meanwhile(3, lambda: recordings.extend(recorded(simulator, 1, late))), times=None
    )
    sweep = request_sweep()

    tick()

    report = done(sweeps, sweep)
    assert (report.state, report.complete) == (State.COMPLETED, True)
    assert (report.counts.seen, report.counts.missing, report.counts.repaired) == (24, 24, 24)
    assert report.counts.catalogued == 24
    assert len(recordings) == 24
    assert all(catalogue.get(one.id) for one in recordings)


def test_what_begins_meanwhile_is_no_part_of_the_window(
    tick: Tick, request_sweep: Ask, sweeps: Sweeps, simulator: Simulator
) -> None:
    in_pages_of(simulator, 5)
    recorded(simulator, 12)
    later = FIRST + timedelta(hours=1)
    simulator.faults.add(Meanwhile(2, lambda: recorded(simulator, 3, later)), times=None)
    sweep = request_sweep(until=FIRST + timedelta(minutes=30))

    tick()

    report = done(sweeps, sweep)
    assert (report.complete, report.counts.seen) == (True, 12)
    assert len(simulator.world.recordings()) == 15


@pytest.mark.parametrize("total", [0, 3, 1000, "12", None])
def test_a_wrong_total_loses_nothing(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    catalogue: Catalogue,
    total: object,
) -> None:
    in_pages_of(simulator, 3)
    recordings = recorded(simulator, 7)
    paging = {"total_count": total, "start_offset": 0, "end_offset": 0}
    simulator.faults.add(OverlayPaging(paging), times=None)
    sweep = request_sweep()

    tick()

    report = done(sweeps, sweep)
    assert (report.state, report.complete) == (State.COMPLETED, None)
    assert report.counts.repaired == 7
    assert all(catalogue.get(one.id) for one in recordings)


def test_a_total_that_is_never_reached_is_told(
    tick: Tick, request_sweep: Ask, sweeps: Sweeps, simulator: Simulator, logged: Any
) -> None:
    recorded(simulator, 3)
    simulator.faults.add(OverlayPaging({"total_count": 4}), times=None)
    sweep = request_sweep()

    tick()

    report = done(sweeps, sweep)
    assert (report.state, report.complete) == (State.COMPLETED, False)
    assert (report.counts.seen, report.counts.missing) == (3, 3)
    assert "list incomplete" in logged()


class OverlayPaging(Overlay):
    """Put these over those of `paging`."""

    def after(self, response: Any) -> Any:
        body = response.get_json()
        body["paging"].update(self.fields)
        response.set_data(json.dumps(body))
        return response


def listed(n: int, minutes: int) -> dict[str, Any]:
    """Return an item of the list with the fewest fields."""
    at = (FIRST + timedelta(minutes=minutes)).isoformat()
    return {
        "id": f"00000000-0000-4000-8000-{n:012}",
        "status": "ERRORED",
        "output_file_name": f"{n}.mp4",
        "invoked_time": at,
        "session_id": None,
    }


def page_of(*items: object, start: int = 1, total: int = 0) -> Answer:
    end = start + len(items) - 1
    paging = {"start_offset": start, "end_offset": end, "total_count": total or end}
    return Answer({"success": True, "data": list(items), "paging": paging})


@pytest.fixture
def scripted(
    upstream: Upstream,
    use: Callable[[RealtimeKit], None],
    token: ApiToken,
    work_table: Table,
    http: urllib3.PoolManager,
    clock: Clock,
) -> Upstream:
    """Put prepared answers in RealtimeKit's place."""
    budget = UpstreamBudget(work_table, APP_ID, 1000, clock)
    use(RealtimeKit(upstream.url, token, budget, http))
    return upstream


def test_repeated_items_and_the_last_page_again_and_again_count_once(
    tick: Tick, request_sweep: Ask, sweeps: Sweeps, scripted: Upstream
) -> None:
    first = page_of(listed(1, 1), listed(2, 2), listed(2, 2), start=0)
    last = page_of(listed(2, 2), listed(3, 3), start=0)
    scripted.says(first, page_of(start=0), first, last, last)
    sweep = request_sweep()

    tick()

    report = done(sweeps, sweep)
    assert (report.state, report.counts.seen, report.counts.repaired) == (State.COMPLETED, 3, 3)


def test_an_item_that_is_no_recording_is_passed_over_and_counted(
    tick: Tick, request_sweep: Ask, sweeps: Sweeps, scripted: Upstream
) -> None:
    page = page_of(listed(1, 1), {"id": "x"}, None, listed(2, 2))
    scripted.says(page, page, page_of(total=4), page)
    sweep = request_sweep()

    tick()

    report = done(sweeps, sweep)
    assert (report.state, report.complete) == (State.COMPLETED, True)
    assert (report.counts.seen, report.counts.unreadable) == (2, 2)


NONSENSE = {
    "no JSON": Answer("<html>"),
    "no list": Answer({"success": True, "data": {"id": 1}}),
    "nothing of it is a recording": page_of({"id": "x"}, 7),
    "not in order": page_of(listed(1, 5), listed(2, 2)),
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
def test_a_sweep_that_is_answered_with_nonsense_stops_says_why_and_keeps_what_it_had(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    scripted: Upstream,
    catalogue: Catalogue,
    logged: Callable[[], str],
    answer: Answer,
) -> None:
    page = page_of(listed(1, 1), listed(2, 2), total=9)
    scripted.says(page, page, answer)
    sweep = request_sweep()

    tick()
    assert done(sweeps, sweep).state is State.RUNNING
    tick()
    tick()

    report = done(sweeps, sweep)
    assert (report.state, report.cause) == (State.FAILED, "unintelligible")
    assert report.reason
    assert (report.counts.seen, report.counts.repaired) == (2, 2)
    assert catalogue.get("00000000-0000-4000-8000-000000000002") is not None
    assert "sweep failed" in logged()


def test_one_answer_that_makes_no_sense_is_asked_for_again(
    tick: Tick, request_sweep: Ask, sweeps: Sweeps, simulator: Simulator
) -> None:
    recorded(simulator, 2)
    simulator.faults.add(garbage())
    sweep = request_sweep()

    tick()
    assert done(sweeps, sweep).cause == "unintelligible"
    tick()

    report = done(sweeps, sweep)
    assert (report.state, report.cause, report.counts.repaired) == (State.COMPLETED, None, 2)


def test_an_outage_of_days_is_waited_for_and_one_without_end_is_not(
    tick: Tick, request_sweep: Ask, sweeps: Sweeps, simulator: Simulator, clock: Clock
) -> None:
    recorded(simulator, 2)
    simulator.faults.add(error(503), times=None)
    sweep = request_sweep()

    tick()
    clock.advance(3 * 86_400)
    tick()
    assert done(sweeps, sweep).state is State.RUNNING
    clock.advance(6 * 86_400)
    tick()

    report = done(sweeps, sweep)
    assert (report.state, report.cause) == (State.FAILED, "unavailable")


def test_what_a_schedule_began_is_given_up_after_twelve_hours(
    tick: Tick, sweeps: Sweeps, simulator: Simulator, clock: Clock
) -> None:
    """The next one reads the same and more; and a failed one raises an alarm."""
    simulator.faults.add(error(503), times=None)
    tick("daily")
    [sweep] = sweeps.unfinished()

    clock.advance(12 * 3600)
    tick()
    assert done(sweeps, sweep).state is State.RUNNING
    clock.advance(1)
    tick()

    report = done(sweeps, sweep)
    assert (report.state, report.cause) == (State.FAILED, "unavailable")


def test_a_page_that_is_never_given_holds_up_its_own_sweep_only(
    tick: Tick, request_sweep: Ask, sweeps: Sweeps, simulator: Simulator, clock: Clock
) -> None:
    recorded(simulator, 3)
    first = request_sweep()
    clock.advance(1)
    second = request_sweep(since=FIRST + timedelta(seconds=1))
    simulator.faults.add(error(503), times=1)

    tick()

    assert done(sweeps, first).cause == "unavailable"
    assert done(sweeps, second).state is State.COMPLETED


def test_a_page_larger_than_any_is_nonsense(
    tick: Tick, request_sweep: Ask, sweeps: Sweeps, scripted: Upstream
) -> None:
    """The page would be as large at the next try, so waiting would take days."""
    scripted.says(Answer(b" " * (16 * 1024 * 1024 + 1)))
    sweep = request_sweep()

    for _ in range(3):
        tick()

    report = done(sweeps, sweep)
    assert (report.state, report.reason) == (
        State.FAILED,
        "the answer has more than 16777216 bytes",
    )


def test_a_retry_after_is_obeyed(
    tick: Tick, request_sweep: Ask, sweeps: Sweeps, simulator: Simulator, clock: Clock
) -> None:
    recorded(simulator, 2)
    simulator.faults.add(rate_limited(900))
    sweep = request_sweep()

    tick()
    clock.advance(890)
    tick()
    assert pages(simulator) == 1
    clock.advance(10)
    tick()

    assert done(sweeps, sweep).state is State.COMPLETED


def test_sweeps_use_half_of_the_budget_and_go_on_in_the_next_tick(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    use: Callable[[RealtimeKit], None],
    simulator: Simulator,
    work_table: Table,
    token: ApiToken,
    http: urllib3.PoolManager,
    clock: Clock,
) -> None:
    in_pages_of(simulator, 1)
    recorded(simulator, 12)
    budget = UpstreamBudget(work_table, APP_ID, 21 * 12, clock, share=0.5)
    use(RealtimeKit(simulator.app_url, token, budget, http))
    sweep = request_sweep()

    tick()

    assert pages(simulator) == 6
    report = done(sweeps, sweep)
    assert (report.state, report.cause) == (State.RUNNING, "budget_spent")
    others = UpstreamBudget(work_table, APP_ID, 21 * 12, clock)
    assert [others.take() for _ in range(6)] == [0] * 6
    for _ in range(3):
        clock.advance(60)
        tick()
    assert (done(sweeps, sweep).state, done(sweeps, sweep).counts.repaired) == (
        State.COMPLETED,
        12,
    )


def test_a_tick_stops_when_its_time_is_over_and_the_next_goes_on(
    tick: Tick, request_sweep: Ask, sweeps: Sweeps, simulator: Simulator, context: Context
) -> None:
    recorded(simulator, 2)
    sweep = request_sweep()
    context.remaining_ms = 19_000

    tick()
    assert pages(simulator) == 0
    context.remaining_ms = 60_000
    tick()

    assert done(sweeps, sweep).state is State.COMPLETED


def test_only_one_tick_works_and_a_dead_one_is_followed_when_its_time_is_over(
    tick: Tick, request_sweep: Ask, sweeps: Sweeps, simulator: Simulator, clock: Clock
) -> None:
    recorded(simulator, 2)
    sweep = request_sweep()
    assert sweeps.claim(60) is not None

    tick()
    assert pages(simulator) == 0
    clock.advance(60)
    tick()

    assert done(sweeps, sweep).state is State.COMPLETED


class Killed(BaseException):
    """The death of the process."""


@pytest.mark.parametrize("last_words", range(1, 21))
def test_a_sweeper_that_is_killed_at_any_write_loses_and_doubles_nothing(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    catalogue: Catalogue,
    checks: Checks,
    dynamodb: Any,
    clock: Clock,
    monkeypatch: Any,
    last_words: int,
) -> None:
    """One thread, so that the n-th write is always the same."""
    monkeypatch.setattr("recordings.sweeper._MAX_THREADS", 1)
    in_pages_of(simulator, 2)
    recordings = recorded(simulator, 3)
    sweep = request_sweep()
    events = dynamodb.meta.events
    left = last_words

    def count(**_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    events.register("after-call.dynamodb.UpdateItem", count)
    try:
        tick()
    except Killed:
        clock.advance(63)
        tick()

    report = done(sweeps, sweep)
    assert (report.state, report.complete) == (State.COMPLETED, True)
    counts = report.counts
    assert (counts.seen, counts.missing, counts.repaired, counts.catalogued) == (3, 3, 3, 3)
    assert all(catalogue.get(one.id) for one in recordings)
    assert checks() == {f"recording#{one.id}": "details_missing" for one in recordings}


# --- schedules ---


def test_every_hour_the_last_hours_are_swept(
    tick: Tick, sweeps: Sweeps, simulator: Simulator, catalogue: Catalogue
) -> None:
    [recent] = recorded(simulator, 1, NOW - timedelta(hours=5))
    [old] = recorded(simulator, 1, NOW - timedelta(hours=7))

    tick("hourly")

    assert catalogue.get(recent.id) is not None
    assert catalogue.get(old.id) is None
    [sweep] = sweeps.newest(5)[0]
    assert (sweep.trigger, sweep.state) == ("hourly", State.COMPLETED)


def test_every_day_the_last_eight_days_are_swept(
    tick: Tick, simulator: Simulator, catalogue: Catalogue
) -> None:
    [recent] = recorded(simulator, 1, NOW - timedelta(days=7, hours=23))
    [old] = recorded(simulator, 1, NOW - timedelta(days=8, minutes=1))

    tick("daily")

    assert catalogue.get(recent.id) is not None
    assert catalogue.get(old.id) is None


def test_a_schedules_event_that_comes_twice_begins_one_sweep(
    tick: Tick, sweeps: Sweeps, clock: Clock
) -> None:
    tick("hourly")
    tick("hourly")
    assert len(sweeps.newest(5)[0]) == 1

    clock.advance(3600)
    tick("hourly")
    assert len(sweeps.newest(5)[0]) == 2


def test_while_realtimekit_is_down_scheduled_sweeps_do_not_pile_up(
    tick: Tick, sweeps: Sweeps, simulator: Simulator, clock: Clock
) -> None:
    simulator.faults.add(error(503), times=None)
    for _ in range(4):
        tick("hourly")
        clock.advance(3600)

    assert len(sweeps.unfinished()) == 1


def test_what_schedules_ask_for_comes_before_a_long_sweep(
    tick: Tick, request_sweep: Ask, sweeps: Sweeps, clock: Clock
) -> None:
    first = request_sweep()
    clock.advance(1)
    hourly = sweeps.schedule(Trigger.HOURLY, timedelta(hours=6))

    assert hourly is not None
    assert [one.sweep_id for one in sweeps.unfinished()] == [hourly.sweep_id, first.sweep_id]


def metric(logged: str, name: str) -> float:
    found = [json.loads(line) for line in logged.splitlines() if f'"{name}":' in line]
    values = [one[name] for one in found if "_aws" in one]
    return sum(value if isinstance(value, float) else sum(value) for value in values)


def test_a_webhook_that_was_lost_is_counted(
    tick: Tick, simulator: Simulator, catalogue: Catalogue, logged: Callable[[], str]
) -> None:
    [lost] = recorded(simulator, 1, NOW - timedelta(hours=1))
    live = simulator.world.record_meeting(
        status=Status.RECORDING, started_at=NOW - timedelta(hours=1)
    )

    tick("hourly")

    assert catalogue.get(lost.id) is not None
    assert catalogue.get(live.id) is not None
    told = logged()
    assert metric(told, "WebhookLost") == 1
    assert metric(told, "RecordingRepaired") == 2
    assert lost.id in told


def test_a_webhook_that_may_be_on_its_way_is_waited_for_until_the_next_hour(
    tick: Tick,
    simulator: Simulator,
    catalogue: Catalogue,
    clock: Clock,
    logged: Callable[[], str],
) -> None:
    recording = simulator.world.record_meeting(
        started_at=NOW - timedelta(minutes=39), duration=1800
    )

    tick("hourly")
    assert catalogue.get(recording.id) is None
    assert metric(logged(), "WebhookLost") == 0
    clock.advance(3600)
    tick("hourly")

    assert catalogue.get(recording.id) is not None
    assert metric(logged(), "WebhookLost") == 1


@pytest.mark.parametrize(("dry_run", "found"), [(True, 0), (False, 1)])
def test_a_report_of_what_is_missing_leaves_out_what_is_on_its_way(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    dry_run: bool,
    found: int,
) -> None:
    simulator.world.record_meeting(started_at=NOW - timedelta(minutes=39), duration=1800)
    sweep = request_sweep(dry_run=dry_run)

    tick()

    counts = done(sweeps, sweep).counts
    assert (counts.seen, counts.missing) == (1, found)


@pytest.mark.parametrize(
    ("stopped_at", "missing"), [("2026-06-03T10:20:00.000Z", 1), ("2026-06-03T10:20:00.001Z", 0)]
)
def test_a_webhook_is_on_its_way_for_less_than_ten_minutes(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    stopped_at: str,
    missing: int,
) -> None:
    recorded(simulator, 1)
    simulator.faults.add(Overlay({"stopped_time": stopped_at}), path="/recordings", times=None)
    sweep = request_sweep(dry_run=True)

    tick()

    counts = done(sweeps, sweep).counts
    assert (counts.seen, counts.missing) == (1, missing)


@pytest.mark.parametrize(("minutes", "missing"), [(10, 1), (9, 0)])
def test_a_recording_that_was_just_invoked_is_on_its_way_to_its_first_webhook(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    minutes: int,
    missing: int,
) -> None:
    started_at = NOW - timedelta(minutes=minutes)
    simulator.world.record_meeting(status=Status.INVOKED, started_at=started_at)
    sweep = request_sweep(dry_run=True)

    tick()

    counts = done(sweeps, sweep).counts
    assert (counts.seen, counts.missing) == (1, missing)


def test_what_somebody_asks_for_is_no_lost_webhook(
    tick: Tick, request_sweep: Ask, simulator: Simulator, logged: Callable[[], str]
) -> None:
    recorded(simulator, 2)
    request_sweep()

    tick()

    told = logged()
    assert metric(told, "WebhookLost") == 0
    assert metric(told, "RecordingRepaired") == 2


# --- the bucket ---


def archived(archiver: Archiver, ingestion: Ingestion, recording: Recording, deadline: str) -> None:
    listed = ingestion.realtimekit.recording(recording.id)
    ingestion.catalogue.upsert(listed, ingestion.now())
    request = ArchiveRequest(recording_id=recording.id, deadline=deadline, source=Source.CATALOGUE)
    outcome = archiver.archive_recording(request, 60, lambda: False, lambda names: None)
    assert outcome.done["video"]["state"] == "archived"


SMALL = RecordingOptions(file_size=1000)
LATER = "2026-06-10T10:30:00.000Z"


def test_the_report_tells_what_the_bucket_holds_and_what_it_lacks(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    ingestion: Ingestion,
    archiver: Archiver,
    s3: Any,
    bucket: str,
) -> None:
    world = simulator.world
    kept, deleted = (
        world.record_meeting(started_at=FIRST + n * timedelta(hours=1), options=SMALL)
        for n in range(2)
    )
    world.record_meeting(started_at=FIRST + timedelta(hours=3), options=SMALL)
    for recording in (kept, deleted):
        archived(archiver, ingestion, recording, LATER)
    row = ingestion.catalogue.get(deleted.id)
    assert row is not None
    s3.delete_object(Bucket=bucket, Key=row["artifacts"]["video"]["archive"]["key"])
    sweep = request_sweep()

    tick()

    report = done(sweeps, sweep)
    assert (report.counts.archived, report.counts.gone, report.counts.not_archived) == (1, 1, 1)
    assert report.examples["gone"] == [deleted.id]


def test_files_that_expired_or_lie_in_another_bucket_are_not_gone_from_the_archive(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    ingestion: Ingestion,
    clock: Clock,
) -> None:
    expired = {"state": "expired", "expired_at": LATER}
    elsewhere = {"state": "archived", "bucket": "an-older-archive", "key": "a.mp4", "size": 1000}
    for recording, state in zip(recorded(simulator, 2), (expired, elsewhere), strict=True):
        ingestion.catalogue.upsert(ingestion.realtimekit.recording(recording.id), clock())
        ingestion.catalogue.record_archive(recording.id, {"video": state})
    sweep = request_sweep(dry_run=True)

    tick()

    report = done(sweeps, sweep)
    assert (report.counts.expired, report.counts.archived, report.counts.gone) == (1, 1, 0)
    assert report.counts.pages == pages(simulator) == 4
    assert report.started_at == NOW


@pytest.mark.parametrize(("age", "gone"), [(4, 0), (5.5, 1)])
def test_schedules_look_into_the_bucket_when_realtimekits_own_copy_is_about_to_go(
    tick: Tick,
    sweeps: Sweeps,
    simulator: Simulator,
    ingestion: Ingestion,
    archiver: Archiver,
    s3: Any,
    bucket: str,
    age: float,
    gone: int,
) -> None:
    start = NOW - timedelta(days=age)
    recording = simulator.world.record_meeting(started_at=start, options=SMALL)
    archived(archiver, ingestion, recording, LATER)
    row = ingestion.catalogue.get(recording.id)
    assert row is not None
    s3.delete_object(Bucket=bucket, Key=row["artifacts"]["video"]["archive"]["key"])

    tick("daily")

    [sweep] = sweeps.newest(5)[0]
    assert (sweep.counts.gone, sweep.counts.archived) == (gone, 1 - gone)


@pytest.mark.parametrize(("age", "at_risk", "expired"), [(4, 0, 0), (5.5, 1, 0), (8, 0, 1)])
def test_files_that_realtimekit_will_delete_soon_and_those_it_has_deleted_are_told_apart(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    age: float,
    at_risk: int,
    expired: int,
) -> None:
    start = NOW - timedelta(days=age)
    simulator.world.record_meeting(started_at=start, options=SMALL)
    sweep = request_sweep(since=start)

    tick()

    counts = done(sweeps, sweep).counts
    assert (counts.at_risk, counts.expired) == (at_risk, expired)
    assert counts.not_archived == 1 - expired


def test_files_that_nobody_means_to_archive_any_more_are_remembered(
    tick: Tick,
    request_sweep: Ask,
    simulator: Simulator,
    ingestion: Ingestion,
    checks: Checks,
    clock: Clock,
) -> None:
    recording = simulator.world.record_meeting(started_at=FIRST, options=SMALL)
    ingestion.catalogue.upsert(ingestion.realtimekit.recording(recording.id), clock())
    [listed] = ingestion.realtimekit.page(1).recordings
    ingestion.catalogue.upsert(listed, clock())
    request_sweep()

    tick()

    assert checks() == {f"archive#{recording.id}": "archive_forgotten"}


@pytest.mark.parametrize("days", [4, 5.5, 8])
def test_a_recording_that_never_had_a_file_is_neither_at_risk_nor_lost(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    worklist: Worklist,
    clock: Clock,
    days: float,
) -> None:
    simulator.faults.add(
        Overlay({"download_url": {"links": []}, "file_size": 0}), path="/recordings", times=None
    )
    start = NOW - timedelta(days=days)
    simulator.world.record_meeting(started_at=start, options=SMALL)
    request_sweep(since=start)
    tick()
    sweep = request_sweep(since=start)

    tick()

    counts = done(sweeps, sweep).counts
    assert counts.seen == 1
    assert (counts.not_archived, counts.at_risk, counts.expired, counts.archived) == (0, 0, 0, 0)
    # It is looked for all the same, for RealtimeKit may offer it late.
    clock.advance(600)
    waiting = [check for check in worklist.due(10) if check.key.startswith("archive#")]
    assert [check.deadline for check in waiting] == [None]


def test_an_expired_file_that_the_list_offers_for_longer_is_to_be_archived_again(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    ingestion: Ingestion,
    checks: Checks,
    clock: Clock,
) -> None:
    recording = simulator.world.record_meeting(started_at=FIRST, options=SMALL)
    ingestion.catalogue.upsert(ingestion.realtimekit.recording(recording.id), clock())
    [listed] = ingestion.realtimekit.page(1).recordings
    ingestion.catalogue.upsert(listed, clock())
    expired = {"state": "expired", "expired_at": "2026-06-12T00:00:00.000Z"}
    ingestion.catalogue.record_archive(recording.id, {"video": expired})
    prolonged = Overlay({"download_url_expiry": "2026-06-20T00:00:00.000Z"})
    simulator.faults.add(prolonged, path="/recordings", times=None)
    sweep = request_sweep()

    tick()

    counts = done(sweeps, sweep).counts
    assert (counts.behind, counts.repaired, counts.not_archived) == (1, 1, 1)
    row = ingestion.catalogue.get(recording.id)
    assert row is not None
    assert list(unsettled(row)) == ["video"]
    request_sweep()
    tick()
    assert checks() == {f"archive#{recording.id}": "archive_forgotten"}


def test_with_archiving_off_the_bucket_is_no_matter(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    sweeper: Sweeper,
    simulator: Simulator,
    checks: Checks,
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(sweep_recordings, "sweeper", replace(sweeper, archive=None))
    recorded(simulator, 1)
    old = NOW - timedelta(days=9)
    recorded(simulator, 1, old)
    sweep = request_sweep(since=old)

    tick()

    counts = done(sweeps, sweep).counts
    assert (counts.repaired, counts.not_archived, counts.expired) == (2, 0, 0)
    assert "archive" not in str(checks())


# --- erased, secret, cancelled, in trouble ---


def test_what_was_erased_stays_erased(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    ingestion: Ingestion,
    catalogue: Catalogue,
    clock: Clock,
) -> None:
    [recording] = recorded(simulator, 1)
    catalogue.upsert(ingestion.realtimekit.recording(recording.id), clock())
    row = catalogue.begin_erasure(recording.id, clock())
    assert row is not None
    tombstone = catalogue.bury(row, clock())
    sweep = request_sweep()

    tick()

    counts = done(sweeps, sweep).counts
    assert (counts.seen, counts.erased, counts.missing, counts.catalogued) == (1, 1, 0, 0)
    assert catalogue.get(recording.id) == tombstone


def test_no_secret_is_stored_or_logged(
    tick: Tick,
    request_sweep: Ask,
    simulator: Simulator,
    dynamodb: Any,
    logged: Callable[[], str],
) -> None:
    simulator.world.reveals_secrets = True
    storage = {"type": "aws", "bucket": "b", "secret": "canary-secret", "access_key": "canary-key"}
    options = RecordingOptions(storage_config=storage)
    simulator.world.record_meeting(started_at=FIRST, options=options)
    request_sweep()

    tick()

    stored = json.dumps(
        [dynamodb.scan(TableName=table)["Items"] for table in ("RecordingsTable", "WorkTable")]
    )
    told = logged()
    for secret in ("canary-secret", "canary-key", API_TOKEN):
        assert secret not in stored + told
    assert "X-Amz-Signature" not in told


def test_a_cancelled_sweep_stops_and_what_it_wrote_stays(
    tick: Tick,
    request_sweep: Ask,
    sweeper: Sweeper,
    sweeps: Sweeps,
    simulator: Simulator,
    catalogue: Catalogue,
) -> None:
    in_pages_of(simulator, 2)
    recordings = recorded(simulator, 6)
    sweep = request_sweep()
    seen = 0

    def cancel_soon() -> bool:
        nonlocal seen
        seen += 1
        if seen == 3:
            sweeps.cancel(sweep.sweep_id)
        return False

    after = sweeper.sweep(sweep, cancel_soon)

    assert after.state is State.CANCELLED
    assert done(sweeps, sweep).state is State.CANCELLED
    assert catalogue.get(recordings[0].id) is not None
    assert catalogue.get(recordings[5].id) is None
    assert sweeps.unfinished() == []


@pytest.mark.usefixtures("tick")
def test_a_sweep_that_is_cancelled_under_a_ticks_hands_is_told_as_it_was_left(
    request_sweep: Ask, sweeps: Sweeps, simulator: Simulator, logged: Callable[[], str]
) -> None:
    in_pages_of(simulator, 2)
    recorded(simulator, 6)
    sweep = request_sweep()

    class Patient(Context):
        """Somebody cancels the sweep when it is looked at for the third time."""

        looks = 0

        def get_remaining_time_in_millis(self) -> int:
            self.looks += 1
            if self.looks == 3:
                # That is somebody else's right.
                with rights.calls.noted(set()):
                    sweeps.cancel(sweep.sweep_id)
            return 60_000

    sweep_recordings.handler(sample("sweep-recordings.tick"), Patient())

    assert done(sweeps, sweep).state is State.CANCELLED
    assert '"message":"sweep cancelled"' in logged()


def test_a_refused_token_is_waited_for(
    tick: Tick, request_sweep: Ask, sweeps: Sweeps, simulator: Simulator, secretsmanager: Any
) -> None:
    recorded(simulator, 1)
    simulator.tokens.revoke(API_TOKEN)
    sweep = request_sweep()

    tick()
    assert (done(sweeps, sweep).state, done(sweeps, sweep).cause) == (
        State.RUNNING,
        "unauthorized",
    )
    simulator.tokens.add("another")
    secretsmanager.put_secret_value(
        SecretId="realtimekit-api-token", SecretString='{"api_token": "another"}'
    )
    tick()

    assert done(sweeps, sweep).state is State.COMPLETED


@pytest.mark.parametrize("operation", ["BatchGetItem", "Query", "UpdateItem"])
def test_what_dynamodb_fails_at_is_done_by_the_next_tick(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    dynamodb: Any,
    operation: str,
) -> None:
    recorded(simulator, 2)
    sweep = request_sweep()
    events = dynamodb.meta.events
    failing = {"code": "ProvisionedThroughputExceededException"}

    def fail(model: Any, params: Any, **_: Any) -> Any:
        if failing and params["body"] and b"RecordingsTable" in params["body"]:
            raise ClientError({"Error": {"Code": failing.pop("code")}}, model.name)

    events.register(f"before-call.dynamodb.{operation}", fail)
    with pytest.raises(ClientError):
        tick()
    assert not failing
    tick()

    report = done(sweeps, sweep)
    assert (report.state, report.counts.seen, report.counts.repaired) == (State.COMPLETED, 2, 2)


def test_what_s3_fails_at_is_done_by_the_next_tick(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    ingestion: Ingestion,
    archiver: Archiver,
    s3: Any,
) -> None:
    recording = simulator.world.record_meeting(started_at=FIRST, options=SMALL)
    archived(archiver, ingestion, recording, LATER)
    sweep = request_sweep()

    with s3_fails(s3, "HeadObject", 503, "SlowDown"), pytest.raises(ClientError):
        tick()
    tick()

    assert done(sweeps, sweep).counts.archived == 1


def test_rows_that_dynamodb_left_out_of_a_batch_are_read_one_by_one(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    dynamodb: Any,
) -> None:
    recorded(simulator, 3)
    request_sweep()
    tick()

    def leave_out(parsed: Any, **_: Any) -> None:
        parsed["Responses"] = {}
        keys = [{"recording_id": {"S": one.id}} for one in simulator.world.recordings()]
        parsed["UnprocessedKeys"] = {"RecordingsTable": {"Keys": keys}}

    dynamodb.meta.events.register("after-call.dynamodb.BatchGetItem", leave_out)
    again = request_sweep(until=NOW - timedelta(seconds=1))
    tick()

    assert (done(sweeps, again).counts.seen, done(sweeps, again).counts.missing) == (3, 0)


def test_at_the_very_beginning_nobody_knows_when_it_may_be_done(
    request_sweep: Ask, clock: Clock
) -> None:
    sweep = replace(
        request_sweep(since=NOW - timedelta(days=365)),
        state=State.RUNNING,
        started_at=NOW,
        progress={"reached": (NOW - timedelta(days=365) + timedelta(seconds=0.5)).isoformat()},
    )
    clock.advance(7200)

    report = sweep.report(clock())

    assert (report["fraction"], "estimated_end_at" in report) == (0, False)


def test_the_report_tells_how_fast_it_is_and_when_it_may_be_done(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    sweeper: Sweeper,
    simulator: Simulator,
    clock: Clock,
) -> None:
    in_pages_of(simulator, 4)
    recorded(simulator, 16, NOW - timedelta(minutes=16))
    sweep = request_sweep(since=NOW - timedelta(minutes=16))
    steps = iter([False, False, False, False, True])
    clock.advance(60)

    def should_stop() -> bool:
        clock.advance(20)
        return next(steps)

    sweeper.sweep(sweep, should_stop)

    report = done(sweeps, sweep).report(clock())

    assert report["state"] == "running"
    # A page to begin with, and three of the window; the fifth question was answered with stop.
    assert report["counts"]["seen"] == 12
    assert report["fraction"] == pytest.approx(11 / 16, abs=0.01)
    assert report["recordings_per_minute"] == 7
    assert report["estimated_end_at"] > "2026-06-03T10:32:40"


# --- what stays with one recording, or with one sweep ---


@pytest.fixture
def refuse_row(dynamodb: Any) -> Iterator[Callable[[str], None]]:
    """Let DynamoDB refuse one recording's row for good, as it does one of more than 400 KB."""
    hooks: list[Any] = []

    def install(recording_id: str) -> None:
        def refuse(model: Any, params: Any, **_: Any) -> None:
            body = params["body"]
            if b"RecordingsTable" in body and recording_id.encode() in body:
                message = "Item size to update has exceeded the maximum allowed size"
                error: Any = {"Code": "ValidationException", "Message": message}
                raise ClientError({"Error": error}, model.name)

        dynamodb.meta.events.register("before-call.dynamodb.UpdateItem", refuse)
        hooks.append(refuse)

    yield install
    for hook in hooks:
        dynamodb.meta.events.unregister("before-call.dynamodb.UpdateItem", hook)


def test_a_row_that_cannot_be_written_is_counted_and_stops_no_sweep(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    catalogue: Catalogue,
    refuse_row: Callable[[str], None],
    logged: Callable[[], str],
) -> None:
    in_pages_of(simulator, 3)
    recordings = recorded(simulator, 7)
    refuse_row(recordings[1].id)
    sweep = request_sweep()

    tick()

    report = done(sweeps, sweep)
    assert (report.state, report.complete) == (State.COMPLETED, True)
    counts = report.counts
    assert (counts.seen, counts.missing, counts.repaired, counts.unwritable) == (7, 7, 6, 1)
    assert counts.catalogued == 6
    assert report.examples["unwritable"] == [recordings[1].id]
    assert catalogue.get(recordings[6].id) is not None
    assert '"RecordingUnwritable":[1.0]' in logged().replace(" ", "")


def test_a_row_with_values_that_make_no_sense_stops_no_sweep(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    recordings_table: Table,
) -> None:
    first, second, _ = recorded(simulator, 3)
    odd = {"stopped_at": "9999-12-31T23:59:59.999Z", "artifacts": {"video": 1}, "fetched_at": 7}
    names = ", ".join(f"#{name} = :{name}" for name in (*odd, "version"))
    recordings_table.update({"recording_id": first.id}, f"SET {names}", {**odd, "version": 1})
    recordings_table.update({"recording_id": second.id}, "SET #version = :v", {"v": "one"})
    sweep = request_sweep()

    tick()

    report = done(sweeps, sweep)
    assert (report.state, report.counts.seen) == (State.COMPLETED, 3)
    assert (report.counts.repaired, report.counts.unwritable) == (2, 1)
    assert report.examples["unwritable"] == [second.id]


@pytest.fixture
def break_sweeps_of(dynamodb: Any) -> Iterator[Callable[[str], None]]:
    """Let all that a page of recordings needs fail, if one of them is in it."""
    hooks: list[Any] = []

    def install(recording_id: str) -> None:
        def fail(model: Any, params: Any, **_: Any) -> None:
            if recording_id.encode() in params["body"]:
                raise ClientError({"Error": {"Code": "InternalServerError"}}, model.name)

        dynamodb.meta.events.register("before-call.dynamodb.BatchGetItem", fail)
        hooks.append(fail)

    yield install
    for hook in hooks:
        dynamodb.meta.events.unregister("before-call.dynamodb.BatchGetItem", hook)


def test_a_sweep_that_is_interrupted_each_time_holds_up_no_other_and_is_given_up(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    clock: Clock,
    break_sweeps_of: Callable[[str], None],
) -> None:
    broken, *_ = recorded(simulator, 2, NOW - timedelta(hours=5, minutes=30))
    break_sweeps_of(broken.id)
    other = request_sweep(until=FIRST + timedelta(hours=1))

    with pytest.raises(ClientError):
        tick("hourly")

    [stuck] = sweeps.unfinished()
    assert done(sweeps, other).state is State.COMPLETED
    # Its first page was found.
    clock.advance(60)
    with pytest.raises(ClientError):
        tick()
    assert done(sweeps, stuck).trying_since == NOW + timedelta(minutes=1)
    clock.advance(3540)
    with pytest.raises(ClientError):
        tick("hourly")
    # The next one, of which the broken recording is no part, is not waited for.
    assert [one.sweep_id for one in sweeps.unfinished()] == [stuck.sweep_id]
    assert [one.state for one in sweeps.newest(5)[0] if one.trigger == "hourly"] == [
        State.COMPLETED,
        State.RUNNING,
    ]
    clock.advance(11 * 3600 + 61)
    tick()

    report = done(sweeps, stuck)
    assert (report.state, report.cause) == (State.FAILED, "interrupted")
    assert report.reason == "no step could be finished since 2026-06-03T10:31:00.000Z"


@pytest.mark.parametrize(("milliseconds", "state"), [(0, "completed"), (1, "failed")])
def test_a_step_of_a_requested_sweep_may_take_eight_days_and_no_longer(
    tick: Tick, request_sweep: Ask, sweeps: Sweeps, clock: Clock, milliseconds: int, state: str
) -> None:
    sweep = request_sweep(until=NOW)
    sweeps.save(replace(sweep, state=State.RUNNING, started_at=NOW, trying_since=NOW))
    clock.advance(8 * 86_400 + milliseconds / 1000)

    tick()

    assert done(sweeps, sweep).state == state


def test_a_sweep_that_is_stuck_can_be_asked_for_again(
    request_sweep: Ask, sweeps: Sweeps, clock: Clock
) -> None:
    sweep = request_sweep(until=NOW)
    sweeps.save(replace(sweep, state=State.RUNNING, trying_since=clock()))
    with pytest.raises(UnfinishedError):
        request_sweep(until=NOW)
    clock.advance(1801)

    assert request_sweep(until=NOW).sweep_id != sweep.sweep_id


def test_a_file_noted_as_lost_that_the_list_offers_again_is_repaired(
    tick: Tick,
    request_sweep: Ask,
    sweeps: Sweeps,
    simulator: Simulator,
    ingestion: Ingestion,
    clock: Clock,
) -> None:
    recording = simulator.world.record_meeting(started_at=FIRST, options=SMALL)
    known = ingestion.realtimekit.recording(recording.id)
    [video] = known.artifacts
    early = replace(video, url_expires_at=NOW - timedelta(hours=1))
    [listed] = ingestion.realtimekit.page(1).recordings
    ingestion.catalogue.upsert(replace(known, artifacts=(early,)), clock())
    ingestion.catalogue.upsert(replace(listed, artifacts=(early,)), clock())
    lost = {"state": "expired", "expired_at": "2026-06-03T10:00:00.000Z"}
    ingestion.catalogue.record_archive(recording.id, {"video": lost})
    sweep = request_sweep()

    tick()

    counts = done(sweeps, sweep).counts
    assert (counts.behind, counts.repaired, counts.not_archived, counts.expired) == (1, 1, 1, 0)
    row = ingestion.catalogue.get(recording.id)
    assert row is not None
    assert list(unsettled(row)) == ["video"]


@pytest.mark.parametrize(("used", "cause"), [(22, "unavailable"), (23, "budget_spent")])
def test_the_function_leaves_half_of_its_budget_to_others(
    secretsmanager: Any, work_table: Table, context: Context, used: int, cause: str
) -> None:
    """A 21st of 1,000 requests is 47. The address in the tests' settings has no server."""
    UpstreamBudget(work_table, APP_ID, 21 * used, utcnow).close(300)
    sweep = sweep_recordings.sweeps.request(FIRST, NOW, dry_run=False)

    sweep_recordings.handler(sample("sweep-recordings.tick"), context)

    assert done(sweep_recordings.sweeps, sweep).cause == cause
