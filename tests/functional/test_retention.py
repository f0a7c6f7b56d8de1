"""Retention: what the policy announces, erases and passes by, day after day."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ClientError

import serve_catalogue
import sweep_recordings
from api_calls import Reply, api_event, expect_documented
from doubles import APP_ID, Clock, Context, s3_fails
from recordings import annotation, retention
from recordings.archive import Archive
from recordings.catalogue import Catalogue
from recordings.dynamodb import Table
from recordings.erasure import Erasure, LapsedError
from recordings.messages import EraseRequest, Source
from recordings.model import Artifact, Recording, timestamp
from recordings.retention import Kind, Retention, Run, Runs, RunTakenError, State
from recordings.sweeps import Sweeps
from recordings.worklist import Worklist

# The clock stands at 10:30 on June 3. With 30 days, that day's run erases what was invoked before
# May 4, and the next day's what was invoked before May 5.
MAY_4 = datetime(2026, 5, 4, tzinfo=UTC)
MINUTE, HOUR, DAY = 60, 3600, 86_400
Checks = Callable[[], dict[str, str]]


def identifier(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


@dataclass
class Stage:
    """A catalogue of old recordings, and the policy that runs over it."""

    catalogue: Catalogue
    recordings_table: Table
    worklist: Worklist
    work_table: Table
    clock: Clock
    announced: list[dict[str, Any]]
    days: int = 30
    archive: Archive | None = None

    def catalogued(self, number: int, invoked_at: datetime, **more: Any) -> str:
        recording = Recording(
            recording_id=identifier(number),
            invoked_at=invoked_at,
            **{"status": "UPLOADED", "artifacts": (Artifact(name="video", kind="video"),), **more},
        )
        self.catalogue.upsert(recording, self.clock())
        return recording.recording_id

    def patch(self, recording_id: str, body: str) -> None:
        patch = annotation.parse(body)
        self.catalogue.annotate(recording_id, patch, self.clock(), lambda row: None)

    @property
    def policy(self) -> Retention:
        return Retention(
            erasure=Erasure(
                catalogue=self.catalogue,
                worklist=self.worklist,
                archive=self.archive,
                now=self.clock,
            ),
            runs=Runs(self.work_table),
            days=self.days,
            announce=lambda run: self.announced.append(
                json.loads(retention.announcement(run, APP_ID))
            ),
            report=sweep_recordings.report_erasure,
            now=self.clock,
        )

    def tick(self, seconds: float = 1000) -> Run | None:
        """Let a tick of so many seconds happen: each look at the time takes one.

        There is a look before a page of recordings is read, before a portion, and before each of
        its erasures.
        """
        left = iter(range(int(seconds)))
        run = self.policy.due()
        return run and self.policy.work(run, lambda: next(left, None) is None)

    def run_day(self) -> Run:
        """Let ticks happen until the day's run is over, and return it."""
        while (run := self.policy.due()) is not None:
            self.policy.work(run, lambda: False)
        found = Runs(self.work_table).get(self.clock().date())
        assert found is not None
        return found

    def next_day(self) -> None:
        self.clock.advance(DAY)

    def state(self, recording_id: str) -> str:
        row = self.catalogue.get(recording_id) or {}
        return "erased" if "erased_at" in row else "kept"


@pytest.fixture
def stage(
    catalogue: Catalogue,
    recordings_table: Table,
    worklist: Worklist,
    work_table: Table,
    clock: Clock,
) -> Stage:
    return Stage(catalogue, recordings_table, worklist, work_table, clock, [])


def test_the_first_day_announces_and_the_next_erases_just_that(stage: Stage) -> None:
    old = stage.catalogued(1, MAY_4 - timedelta(days=40))
    tomorrow = stage.catalogued(2, MAY_4 + timedelta(hours=23))
    new = stage.catalogued(3, MAY_4 + timedelta(days=1))
    stage.patch(old, '{"labels": {"order": "4711"}}')

    first = stage.run_day()

    assert (first.kind, first.state, first.counts) == ("announcement", "completed", {"due": 2})
    assert [stage.state(one) for one in (old, tomorrow, new)] == ["kept"] * 3
    assert stage.announced == [
        {
            "id": "retention#2026-06-03",
            "app_id": APP_ID,
            "days": 30,
            "erases_recordings_before": "2026-05-05T00:00:00.000Z",
            "erases_after": "2026-06-04T10:30:00.000Z",
            "counts": {"due": 2},
            "recording_ids": [old, tomorrow],
        }
    ]
    stage.clock.advance(DAY - MINUTE)
    assert stage.policy.due() is None
    stage.clock.advance(MINUTE)
    second = stage.run_day()

    assert (second.kind, second.state) == ("erasure", "completed")
    assert second.counts == {"due": 2, "erased": 2}
    assert second.examples["erased"] == [old, tomorrow]
    assert [stage.state(one) for one in (old, tomorrow, new)] == ["erased", "erased", "kept"]
    tombstone = stage.catalogue.get(old) or {}
    assert tombstone["erasure_reason"] == "retention"
    assert len(stage.announced) == 1


def test_a_day_has_one_run_and_the_next_begins_at_midnight(stage: Stage) -> None:
    stage.run_day()
    stage.next_day()
    stage.run_day()
    late = stage.catalogued(1, MAY_4)
    assert stage.policy.due() is None

    stage.clock.time = datetime(2026, 6, 5, tzinfo=UTC)
    stage.run_day()

    assert stage.state(late) == "erased"


def test_what_is_held_unfinished_or_of_unknown_age_is_passed_by_and_reported(
    stage: Stage,
) -> None:
    old = MAY_4 - timedelta(days=40)
    held = stage.catalogued(1, old)
    stage.patch(held, '{"hold": {"reason": "case 12"}}')
    by_hand = stage.catalogued(2, old)
    stage.recordings_table.set_attributes({"recording_id": by_hand}, {"hold": "legal"})
    unfinished = [stage.catalogued(3, old, status="RECORDING")]
    unfinished.append(stage.catalogued(4, old, status="TRANSCODING"))
    unknown = [stage.catalogued(5, old, started_at=old)]
    stage.recordings_table.set_attributes(
        {"recording_id": unknown[0]}, {"invoked_at_from": "started_at"}
    )
    for number, nonsense in enumerate(("0001-01-01T00:00:00.000Z", "1970-01-01", "", "long ago")):
        row = {"app_id": APP_ID, "version": 1, "status": "UPLOADED", "invoked_at": nonsense or "0"}
        unknown.append(identifier(10 + number))
        stage.recordings_table.set_attributes({"recording_id": unknown[-1]}, row)
    due = stage.catalogued(6, old)
    stage.run_day()
    stage.next_day()

    run = stage.run_day()

    assert run.counts == {"due": 1, "erased": 1, "held": 2, "not_final": 2, "unknown_time": 4}
    assert set(run.examples["held"]) == {held, by_hand}
    assert set(run.examples["not_final"]) == set(unfinished)
    # "long ago" sorts after every year, so the index does not call it old.
    assert set(run.examples["unknown_time"]) == set(unknown[:-1])
    assert stage.state(due) == "erased"
    kept = {held, by_hand, *unfinished, *unknown}
    assert {one for one in kept if stage.state(one) == "erased"} == set()


def test_a_hold_set_between_the_list_and_the_erasure_wins(stage: Stage, checks: Checks) -> None:
    """The hold comes after the run has judged the recording, and before or in its erasure."""
    first, second, third = (stage.catalogued(number, MAY_4) for number in range(3))
    stage.run_day()
    stage.next_day()
    stage.tick(seconds=1)
    stage.patch(first, '{"hold": {"reason": "case 12"}}')
    begin = stage.catalogue.begin_erasure

    class Late(Catalogue):
        def begin_erasure(self, recording_id: str, *arguments: Any) -> Any:
            if recording_id == second:
                stage.patch(second, '{"hold": {"reason": "case 13"}}')
            return begin(recording_id, *arguments)

    stage.catalogue = Late(stage.recordings_table, APP_ID)
    run = stage.run_day()

    assert [stage.state(one) for one in (first, second, third)] == ["kept", "kept", "erased"]
    assert run.counts == {"due": 3, "held": 2, "erased": 1}
    assert checks() == {}


@pytest.mark.parametrize(("days", "kind"), [(29, "announcement"), (30, "erasure"), (31, "erasure")])
def test_only_a_policy_that_is_made_shorter_is_announced_again(
    stage: Stage, days: int, kind: str
) -> None:
    stage.run_day()
    stage.next_day()
    stage.run_day()
    stage.next_day()
    stage.days = days

    assert stage.run_day().kind == kind


def test_a_policy_that_paused_for_days_is_announced_again(stage: Stage) -> None:
    stage.run_day()
    stage.clock.advance(2 * DAY)
    assert stage.run_day().kind == Kind.ERASURE
    stage.clock.advance(3 * DAY)

    assert stage.run_day().kind == Kind.ANNOUNCEMENT


def test_an_announcement_that_nobody_heard_is_made_again(stage: Stage) -> None:
    stage.catalogued(1, MAY_4)
    unheard = replace(stage.policy, announce=_refuse)
    run = unheard.due()
    assert run is not None
    with pytest.raises(ConnectionError):
        unheard.work(run, lambda: False)
    stage.next_day()

    second = stage.run_day()

    assert second.kind == Kind.ANNOUNCEMENT
    before = Runs(stage.work_table).get(second.started_at.date() - timedelta(days=1))
    assert before is not None
    assert (before.state, before.cause) == ("stopped", "day_over")


def _refuse(run: Run) -> None:
    raise ConnectionError


def test_a_run_goes_on_where_it_stopped_and_a_tick_erases_no_more_than_its_portion(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MAX_ERASED_PER_TICK", 2)
    ids = [stage.catalogued(number, MAY_4 + timedelta(minutes=number)) for number in range(5)]
    stage.run_day()
    stage.next_day()

    counts = [run.counts["erased"] for run in iter(stage.tick, None) if run]

    assert counts == [2, 4, 5]
    assert {stage.state(one) for one in ids} == {"erased"}


def test_a_tick_that_dies_anywhere_leaves_the_counts_right(stage: Stage, dynamodb: Any) -> None:
    """Each write in turn is the last of a tick; the next tick goes on."""
    ids = [stage.catalogued(number, MAY_4) for number in range(3)]
    stage.run_day()
    stage.next_day()
    writes, deaths = iter(range(10_000)), iter(range(3, 10_000, 7))
    death = next(deaths)

    def die(**_: Any) -> None:
        nonlocal death
        if next(writes) == death:
            death = next(deaths)
            raise KeyboardInterrupt

    dynamodb.meta.events.register("before-call.dynamodb.UpdateItem", die)
    died = 0
    while stage.policy.due():
        try:
            stage.tick()
        except KeyboardInterrupt:
            died += 1
            stage.clock.advance(3 * MINUTE)
    dynamodb.meta.events.unregister("before-call.dynamodb.UpdateItem", die)

    run = stage.run_day()
    assert died >= 3
    assert run.counts == {"due": 3, "erased": 3}
    assert {stage.state(one) for one in ids} == {"erased"}


def test_two_ticks_at_once_do_not_count_twice(stage: Stage) -> None:
    stage.catalogued(1, MAY_4)
    stage.run_day()
    stage.next_day()
    run = stage.policy.due()
    assert run is not None

    stage.policy.work(run, lambda: False)
    with pytest.raises(RunTakenError):
        stage.policy.work(run, lambda: False)

    assert stage.run_day().counts == {"due": 1, "erased": 1}


def test_raising_the_days_stops_the_run_under_way(stage: Stage) -> None:
    kept, erased = stage.catalogued(2, MAY_4), stage.catalogued(1, MAY_4 - timedelta(days=1))
    stage.run_day()
    stage.next_day()
    stage.tick(seconds=3)
    assert (stage.state(erased), stage.state(kept)) == ("erased", "kept")
    stage.days = 60

    run = stage.run_day()

    assert (run.state, run.cause) == (State.STOPPED, "days_changed")
    assert stage.state(kept) == "kept"
    assert run.counts == {"due": 2, "erased": 1}
    stage.next_day()
    assert stage.run_day().kind == Kind.ERASURE
    assert stage.state(kept) == "kept"


def test_a_run_that_the_day_was_too_short_for_is_stopped_and_the_next_takes_the_rest(
    stage: Stage,
) -> None:
    ids = [stage.catalogued(number, MAY_4) for number in range(3)]
    stage.run_day()
    stage.next_day()
    stage.tick(seconds=3)
    stage.next_day()

    run = stage.run_day()

    assert run.counts == {"due": 2, "erased": 2}
    before = Runs(stage.work_table).get(run.started_at.date() - timedelta(days=1))
    assert before is not None
    assert (before.state, before.cause, before.counts["erased"]) == ("stopped", "day_over", 1)
    assert {stage.state(one) for one in ids} == {"erased"}


def test_an_erasure_that_never_began_is_left_to_the_next_run_which_judges_anew(
    stage: Stage, checks: Checks
) -> None:
    """The tick died between its check and the row; since then the policy may be off."""
    old = stage.catalogued(1, MAY_4 - timedelta(days=40))
    request = EraseRequest(recording_id=old, source=Source.FOLLOW_UP, reason="retention")
    stage.worklist.check_in(request, "erasing")

    with pytest.raises(LapsedError):
        stage.policy.erasure.erase(request)

    assert (stage.state(old), checks()) == ("kept", {})
    stage.run_day()
    stage.next_day()
    stage.run_day()
    assert stage.state(old) == "erased"


def test_files_out_of_reach_are_reported_and_stop_no_other_erasure(stage: Stage) -> None:
    lost, due = stage.catalogued(1, MAY_4), stage.catalogued(2, MAY_4)
    archived = {"state": "archived", "bucket": "elsewhere", "key": "x", "size": 1}
    stage.catalogue.record_archive(lost, {"video": archived})
    stage.run_day()
    stage.next_day()

    run = stage.run_day()

    assert run.counts == {"due": 2, "out_of_reach": 1, "erased": 1}
    assert (stage.state(lost), stage.state(due)) == ("kept", "erased")


# --- the handlers ---


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return what is published on the stack's bus."""
    client = boto3.client("events")
    client.create_event_bus(Name="EventBus")
    published: list[dict[str, Any]] = []
    client.meta.events.register(
        "before-call.events.PutEvents",
        lambda params, **_: published.extend(json.loads(params["body"])["Entries"]),
    )
    monkeypatch.setattr(sweep_recordings, "eventbridge", lambda: client)
    return published


@pytest.fixture
def handler(
    stage: Stage, archive: Archive, context: Context, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """Return a tick of the function, with S3 and the bus."""
    stage.archive = archive
    policy = replace(stage.policy, announce=sweep_recordings.announce)
    monkeypatch.setattr(sweep_recordings, "policy", policy)
    sweeps = Sweeps(stage.work_table, APP_ID, stage.clock)
    monkeypatch.setattr(sweep_recordings, "sweeps", sweeps)
    monkeypatch.setattr(sweep_recordings, "utcnow", stage.clock)
    return lambda: sweep_recordings.handler({"sweep": "tick"}, context)


def archived(stage: Stage, archive: Archive, s3: Any, number: int) -> str:
    """Return a recording with a file in the bucket, in two versions, and an unfinished upload."""
    recording_id = stage.catalogued(number, MAY_4)
    key = f"{APP_ID}/2026/05/04/{recording_id}/video/x.mp4"
    for body in (b"old", b"new"):
        s3.put_object(Bucket=archive.bucket, Key=key, Body=body)
    s3.create_multipart_upload(Bucket=archive.bucket, Key=f"{key}.2")
    state = {"state": "archived", "bucket": archive.bucket, "key": key, "size": 3}
    stage.catalogue.record_archive(recording_id, {"video": state})
    return recording_id


def versions(archive: Archive, s3: Any) -> int:
    found = s3.list_object_versions(Bucket=archive.bucket)
    return len(found.get("Versions", [])) + len(found.get("DeleteMarkers", []))


def test_a_tick_announces_on_the_bus_and_a_day_later_erases_all_versions_and_reports(
    stage: Stage,
    handler: Callable[[], None],
    archive: Archive,
    s3: Any,
    events: list[dict[str, Any]],
    logged: Callable[[], str],
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording_id = archived(stage, archive, s3, 1)

    handler()
    [event] = events
    assert (event["DetailType"], event["Source"]) == (
        "Retention Announced",
        "realtimekit.recordings",
    )
    assert json.loads(event["Detail"])["recording_ids"] == [recording_id]
    assert versions(archive, s3) == 2
    stage.next_day()
    handler()
    handler()

    assert (versions(archive, s3), stage.state(recording_id)) == (0, "erased")
    assert s3.list_multipart_uploads(Bucket=archive.bucket).get("Uploads", []) == []
    assert len(events) == 1
    log = logged()
    assert log.count("retention completed") == 2
    [line] = [json.loads(line) for line in log.splitlines() if '"recording erased"' in line]
    assert (line["correlation_id"], line["reason"]) == (recording_id, "retention")
    assert '"RetentionErased":[1.0]' in log.replace(" ", "")
    monkeypatch.setattr(serve_catalogue, "runs", Runs(stage.work_table))
    monkeypatch.setattr(serve_catalogue, "RETENTION_DAYS", 30)
    answer = serve_catalogue.handler(api_event("GET", "/retention", {}, {}, None), context)
    report = json.loads(answer["body"])
    expect_documented("GET", "/retention", Reply(200, "application/json", {}, report))
    assert [run["kind"] for run in report["runs"]] == ["erasure", "announcement"]
    assert report["runs"][0] == {
        "on": "2026-06-04",
        "days": 30,
        "kind": "erasure",
        "state": "completed",
        "cutoff": "2026-05-05T00:00:00.000Z",
        "started_at": timestamp(stage.clock()),
        "ended_at": timestamp(stage.clock()),
        "counts": {"due": 1, "erased": 1},
        "examples": {"due": [recording_id], "erased": [recording_id]},
    }


def test_an_object_that_s3_keeps_is_left_to_its_check_and_the_next_tick_takes_the_others(
    stage: Stage,
    handler: Callable[[], None],
    archive: Archive,
    s3: Any,
    events: list[dict[str, Any]],
    checks: Checks,
) -> None:
    first, second = (archived(stage, archive, s3, number) for number in (1, 2))
    handler()
    stage.next_day()

    with s3_fails(s3, "ListObjectVersions", 403, "AccessDenied", 1), pytest.raises(ClientError):
        handler()
    assert list(checks()) == [f"erase#{first}"]
    handler()

    run = stage.run_day()
    assert run.counts == {"due": 2, "waiting": 1, "erased": 1}
    assert (stage.state(first), stage.state(second)) == ("kept", "erased")
    assert (stage.catalogue.get(first) or {})["erasure_reason"] == "retention"


@pytest.mark.parametrize("call", range(8))
def test_an_erasure_that_fails_at_any_read_or_write_is_made_by_the_same_run(
    stage: Stage, dynamodb: Any, call: int
) -> None:
    """The table fails in the first recording's erasure, before it begins or after."""
    ids = [stage.catalogued(number, MAY_4) for number in range(2)]
    stage.run_day()
    stage.next_day()
    run = stage.tick(1)
    assert run
    assert len(run.erasing) == 2
    calls = iter(range(10_000))

    def fail(**_: Any) -> None:
        if next(calls) == call:
            raise ClientError({"Error": {"Code": "InternalServerError"}}, "Any")

    dynamodb.meta.events.register("before-call.dynamodb", fail)
    with pytest.raises(ClientError):
        stage.policy.work(run, lambda: False)
    dynamodb.meta.events.unregister("before-call.dynamodb", fail)

    while stage.policy.due():
        stage.clock.advance(MINUTE)
        stage.tick()
    run = stage.run_day()
    assert run.counts["due"] == 2
    assert run.counts["erased"] + run.counts.get("waiting", 0) == 2
    begun = [stage.catalogue.get(one) or {} for one in ids]
    assert all({"erasing_since", "erased_at"} & row.keys() for row in begun)


def test_a_refused_announcement_fails_the_tick_and_is_made_by_the_next(
    stage: Stage,
    handler: Callable[[], None],
    events: list[dict[str, Any]],
) -> None:
    client: Any = sweep_recordings.eventbridge()
    refusal = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}]}

    def refuse(**_: Any) -> tuple[Any, dict[str, Any]]:
        return AWSResponse("", 200, HTTPHeaders(), None), refusal

    client.meta.events.register_first("before-call.events.PutEvents", refuse)
    with pytest.raises(sweep_recordings.NotAnnouncedError, match="ThrottlingException"):
        handler()
    client.meta.events.unregister("before-call.events.PutEvents", refuse)
    assert events == []

    handler()

    assert len(events) == 1
    assert stage.policy.due() is None


def test_a_run_that_cannot_be_read_fails_the_tick_and_stops_no_sweep(
    stage: Stage, handler: Callable[[], None], dynamodb: Any
) -> None:
    key = {"work_id": "retention#2026-06-03"}
    stage.work_table.set_attributes(key, {"kind": "written by hand"})
    sweep = sweep_recordings.sweeps.request(MAY_4, stage.clock(), dry_run=True)

    with pytest.raises(ValueError, match="written by hand"):
        handler()

    worked = sweep_recordings.sweeps.get(sweep.sweep_id)
    assert worked is not None
    assert worked.started_at is not None


def test_a_run_that_cannot_be_read_is_left_out_of_the_last_runs(stage: Stage) -> None:
    stage.run_day()
    odd = {"kind": "written by hand", "pending": "retention", "due_at": "2026-06-04"}
    stage.work_table.set_attributes({"work_id": "retention#2026-06-04"}, odd)

    assert [run.on for run in Runs(stage.work_table).newest()] == ["2026-06-03"]


def test_without_the_policy_a_tick_reads_no_run(
    stage: Stage, handler: Callable[[], None], dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_recordings, "policy", replace(stage.policy, days=0))
    asked: list[str] = []
    dynamodb.meta.events.register(
        "before-call.dynamodb", lambda model, **_: asked.append(model.name)
    )

    handler()

    assert asked == ["Query"]
