"""Due checks back to the queue."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

import follow_up
from doubles import AnyRequest, Clock, Context, drained, sample
from recordings import messages
from recordings.dynamodb import Table
from recordings.worklist import Worklist

FIRST = "97cb480d-5840-4528-ace3-919b5e386c68"
MEETING = "50c8940e-1b97-402a-97d6-2708b7feca41"
SESSION = "05e57591-d89e-45c9-ae44-08dc1eaad0e0"
SOON = "2026-06-04T10:30:00.000Z"
DEADLINE = "2026-06-10T10:30:00.000Z"
ARCHIVE = {"task": "archive", "recording_id": FIRST, "deadline": DEADLINE}
ERASE = {"task": "erase", "recording_id": FIRST}
DAY = 86_400

Received = Callable[[], list[dict[str, Any]]]


def number(n: int) -> str:
    return f"00000000-0000-4000-8000-{n:012}"


@pytest.fixture
def queue(dynamodb: Any) -> Any:
    return boto3.resource("sqs").create_queue(QueueName="IngestQueue")


@pytest.fixture
def received(queue: Any) -> Received:
    """Return the messages that are on the queue now."""

    return lambda: drained(queue)


@pytest.fixture
def tick(
    worklist: Worklist, clock: Clock, context: Context, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    monkeypatch.setattr(follow_up, "worklist", worklist)
    monkeypatch.setattr(follow_up, "utcnow", clock)
    return lambda: follow_up.handler(sample("follow-up.schedule-tick"), context)


def waiting(queue: Any) -> int:
    """Return how many messages a queue has, with those that are delayed."""
    queue.reload()
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed")
    return sum(int(queue.attributes[name]) for name in names)


def check_in(worklist: Worklist, recording_id: str = FIRST, cause: str = "not_final") -> None:
    worklist.check_in(
        AnyRequest(f"recording#{recording_id}", {"recording_id": recording_id}), cause
    )


def test_nothing_due_sends_nothing(
    tick: Callable[[], None], worklist: Worklist, received: Received
) -> None:
    check_in(worklist)

    tick()

    assert received() == []


def test_a_due_check_is_asked_for_again_with_its_hint(
    tick: Callable[[], None], worklist: Worklist, clock: Clock, received: Received
) -> None:
    hint = {"meeting_id": MEETING, "title": "Weekly sync"}
    request = {"recording_id": FIRST, "hint": hint}
    worklist.check_in(AnyRequest(f"recording#{FIRST}", request), "unavailable")
    clock.advance(60)

    tick()

    [body] = received()
    assert body == {"v": 1, "source": "follow_up", "recording_id": FIRST, "hint": hint}


def test_a_session_is_asked_for_again(
    tick: Callable[[], None], worklist: Worklist, clock: Clock, received: Received
) -> None:
    request = {"meeting_id": MEETING, "session_id": SESSION}
    worklist.check_in(AnyRequest(f"session#{MEETING}#{SESSION}", request), "none_listed")
    clock.advance(60)

    tick()

    assert received() == [{"v": 1, "source": "follow_up", **request}]


def test_an_ended_session_is_asked_for_again_with_its_start(
    tick: Callable[[], None], worklist: Worklist, clock: Clock, received: Received
) -> None:
    hint = {"session_started_at": "2026-06-03T10:00:00.000Z"}
    request = {"meeting_id": MEETING, "session_id": SESSION, "hint": hint}
    worklist.check_in(AnyRequest(f"session#{MEETING}#{SESSION}", request), "unavailable")
    clock.advance(60)

    tick()

    assert received() == [{"v": 1, "source": "follow_up", **request}]


@pytest.mark.parametrize("announced", [{}, {"transcript": DEADLINE, "chat": ""}])
def test_a_sessions_files_are_looked_for_again_as_they_were_announced(
    tick: Callable[[], None],
    worklist: Worklist,
    clock: Clock,
    received: Received,
    announced: dict[str, str],
) -> None:
    request = messages.SessionFilesRequest(
        session_id=SESSION, source=messages.Source.WEBHOOK, announced=announced
    )
    worklist.check_in(request, "not_found")
    clock.advance(60)

    tick()

    assert received() == [
        {
            "v": 1,
            "source": "follow_up",
            "task": "session_files",
            "session_id": SESSION,
            **({"announced": announced} if announced else {}),
        }
    ]


def test_a_check_is_sent_once_and_again_after_twice_the_time(
    tick: Callable[[], None], worklist: Worklist, clock: Clock, received: Received
) -> None:
    check_in(worklist)
    clock.advance(60)
    tick()
    tick()
    assert len(received()) == 1

    clock.advance(119)
    tick()
    assert received() == []
    clock.advance(1)
    tick()
    assert len(received()) == 1


def test_a_tick_takes_as_many_as_the_budget_lets_through_spread_over_the_minute(
    tick: Callable[[], None],
    worklist: Worklist,
    clock: Clock,
    queue: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow_up, "MAX_CHECKS", 60)
    delays: list[int] = []

    def note_delays(params: dict[str, Any], **_: Any) -> None:
        delays.extend(entry["DelaySeconds"] for entry in params["Entries"])

    for n in range(65):
        check_in(worklist, number(n))
    clock.advance(60)
    events = follow_up.sqs.meta.events
    events.register("before-parameter-build.sqs.SendMessageBatch", note_delays)
    try:
        tick()
        assert len(delays) == 60
        assert delays == sorted(delays)
        assert (delays[0], delays[-1]) == (0, 45)
        tick()
        assert delays[60:] == [0] * 5
    finally:
        events.unregister("before-parameter-build.sqs.SendMessageBatch", note_delays)


def test_every_message_is_one_that_the_ingest_queue_understands(
    tick: Callable[[], None], worklist: Worklist, clock: Clock, received: Received
) -> None:
    check_in(worklist)
    clock.advance(60)
    tick()

    [body] = received()
    assert messages.parse(json.dumps(body)).key == f"recording#{FIRST}"


def test_giving_up_is_logged_and_counted_and_sends_nothing(
    tick: Callable[[], None],
    worklist: Worklist,
    work_table: Table,
    clock: Clock,
    received: Received,
    logged: Callable[[], str],
) -> None:
    check_in(worklist)
    check_in(worklist, number(2), cause="not_found")
    clock.advance(3601)
    tick()
    [body] = received()
    assert body["recording_id"] == FIRST

    lines = [json.loads(line) for line in logged().splitlines()]
    [error] = [line for line in lines if line.get("level") == "ERROR"]
    assert error["message"] == "check given up"
    assert error["key"] == f"recording#{number(2)}"
    assert error["cause"] == "not_found"
    assert [line["CheckGivenUp"] for line in lines if "CheckGivenUp" in line] == [[1.0]]
    row = work_table.get({"work_id": f"check#recording#{number(2)}"})
    assert row is not None
    assert "pending" not in row


def test_a_queue_that_is_down_leaves_the_checks_due(
    tick: Callable[[], None], worklist: Worklist, clock: Clock
) -> None:
    """There is no queue in this test: SendMessage fails."""
    check_in(worklist)
    clock.advance(60)

    with pytest.raises(ExceptionGroup, match="some checks stay due") as raised:
        tick()

    assert raised.group_contains(ClientError)
    assert len(worklist.due(10)) == 1


@pytest.mark.parametrize("broken", ["IngestQueue", "ArchiveQueue", "UrgentArchiveQueue"])
def test_a_queue_that_is_down_does_not_starve_the_others(
    tick: Callable[[], None],
    worklist: Worklist,
    clock: Clock,
    queue: Any,
    archive_queues: dict[str, Any],
    broken: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More checks are due than a tick takes."""
    monkeypatch.setattr(follow_up, "MAX_CHECKS", 40)
    queues = {"IngestQueue": queue, **archive_queues}
    for n in range(11):
        check_in(worklist, number(n))
        for name, deadline in (("a", SOON), ("b", DEADLINE)):
            request = {**ARCHIVE, "recording_id": number(n), "deadline": deadline}
            worklist.check_in(
                AnyRequest(f"archive#{name}{n}", request), "pending", deadline=deadline
            )
        worklist.check_in(AnyRequest(f"erase#{n}", {**ERASE, "recording_id": number(n)}), "erasing")
    clock.advance(60)
    queues.pop(broken).delete()

    for _ in range(2):
        with pytest.raises(ExceptionGroup):
            tick()
        clock.advance(60)

    assert all(waiting(one) >= 2 * 4 for one in queues.values())


def test_a_check_that_cannot_be_written_does_not_stop_the_others(
    tick: Callable[[], None],
    worklist: Worklist,
    clock: Clock,
    received: Received,
    dynamodb: Any,
) -> None:
    for n in range(5):
        check_in(worklist, number(n), cause="not_found" if n == 1 else "not_final")
    clock.advance(3700)

    def fail(params: dict[str, Any], **_: Any) -> None:
        if number(1) in params["body"].decode() or number(2) in params["body"].decode():
            raise ClientError({"Error": {"Code": "ValidationException"}}, "UpdateItem")

    dynamodb.meta.events.register("before-call.dynamodb.UpdateItem", fail)
    with pytest.raises(ExceptionGroup) as raised:
        tick()

    assert len(raised.value.exceptions) == 2
    assert sorted(body["recording_id"] for body in received()) == [number(n) for n in (0, 2, 3, 4)]
    assert sorted(check.key for check in worklist.due(10)) == [
        f"recording#{number(n)}" for n in (1, 2)
    ]


@pytest.mark.parametrize(
    "request_",
    [
        {"task": "paint", "recording_id": FIRST},
        {"task": "archive", "recording_id": FIRST},
        {"recording_id": "x"},
        {"recording_id": FIRST, "new": "field"},
        {},
    ],
)
def test_a_check_whose_request_nobody_understands_is_counted_and_comes_back_ever_more_rarely(
    tick: Callable[[], None],
    worklist: Worklist,
    clock: Clock,
    received: Received,
    logged: Callable[[], str],
    request_: dict[str, Any],
) -> None:
    """A newer version may have left the check, so it is given up as late as any other."""
    worklist.check_in(AnyRequest("recording#odd", request_), "not_final")
    check_in(worklist)
    for _ in range(4):
        clock.advance(3600)
        tick()
    assert {body["recording_id"] for body in received()} == {FIRST}
    lines = [json.loads(line) for line in logged().splitlines()]
    assert [line["MessageMalformed"] for line in lines if "MessageMalformed" in line] == [[1.0]] * 4
    assert [line["key"] for line in lines if line.get("message") == "check unreadable"] == [
        "recording#odd"
    ] * 4

    clock.advance(8 * DAY)
    tick()
    assert worklist.due(10) == []


ABSURD: list[Any] = ["", "absurd", "0001-01-01", 7, Decimal("-1e30"), True, None, [], {}, b"x"]


@pytest.mark.parametrize(
    "name",
    [
        "request",
        "hint",
        "cause",
        "since",
        "not_found_since",
        "interval",
        "attempts",
        "deadline",
        "lease",
        "progress",
        "expires_at",
    ],
)
def test_no_attribute_of_a_check_stops_the_tick_or_has_it_given_up(
    tick: Callable[[], None],
    worklist: Worklist,
    work_table: Table,
    clock: Clock,
    queue: Any,
    archive_queues: dict[str, Any],
    logged: Callable[[], str],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow_up, "SPREAD_SECONDS", 0)
    ids = [number(n) for n in range(len(ABSURD))]
    for recording_id, absurd in zip(ids, ABSURD, strict=True):
        request = {"recording_id": recording_id}
        for key, body in (
            (f"recording#{recording_id}", request),
            (f"archive#{recording_id}", {**ARCHIVE, **request}),
        ):
            worklist.check_in(AnyRequest(key, body), "not_final", deadline=body.get("deadline"))
            work_table.update(
                {"work_id": f"check#{key}"}, f"SET #{name} = :value", {"value": absurd}
            )
    check_in(worklist)
    clock.advance(60)

    assert worklist.oldest_due() == "2026-06-03T10:31:00.000Z"
    tick()

    sent = {body["recording_id"] for body in drained(queue)}
    assert sent == ({FIRST} if name == "request" else {FIRST, *ids})
    assert "check given up" not in logged()


@pytest.mark.parametrize("due_at", ["", " ", "0", "0001-01-01T00:00:00.000Z", "2026-06-03"])
def test_a_check_whose_time_makes_no_sense_does_not_stop_the_tick(
    tick: Callable[[], None],
    worklist: Worklist,
    work_table: Table,
    clock: Clock,
    received: Received,
    due_at: str,
) -> None:
    check_in(worklist)
    check_in(worklist, number(2))
    if due_at:
        work_id = {"work_id": f"check#recording#{FIRST}"}
        work_table.update(work_id, "SET #due_at = :due_at", {"due_at": due_at})
    clock.advance(60)

    tick()

    assert {body["recording_id"] for body in received()} == {FIRST, number(2)}
    assert worklist.due(10) == []


def test_files_whose_deadline_has_come_near_go_before_all_others_and_are_warned_of(
    tick: Callable[[], None],
    worklist: Worklist,
    clock: Clock,
    received: Received,
    archive_queues: dict[str, Any],
    logged: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They were filed when they had days, behind others that still have."""
    monkeypatch.setattr(follow_up, "MAX_CHECKS", 40)
    for n in range(20):
        request = {**ARCHIVE, "recording_id": number(n), "deadline": DEADLINE}
        worklist.check_in(AnyRequest(f"archive#{n}", request), "pending", deadline=DEADLINE)
    clock.advance(1)
    nearer = "2026-06-06T10:30:00.000Z"
    request = {**ARCHIVE, "deadline": nearer}
    worklist.check_in(AnyRequest(f"archive#{FIRST}", request), "pending", deadline=nearer)
    clock.advance(DAY + 1)
    for n in range(20):
        check_in(worklist, number(n))
    clock.advance(60)

    tick()

    assert [b["recording_id"] for b in drained(archive_queues["UrgentArchiveQueue"])] == [FIRST]
    assert risks(logged()) == [1]


def test_what_a_backfill_leaves_gets_half_of_a_tick(
    tick: Callable[[], None],
    worklist: Worklist,
    clock: Clock,
    queue: Any,
    archive_queues: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tick queues as many as half of the budget allows, spread over the minute."""
    monkeypatch.setattr(follow_up, "MAX_CHECKS", 60)
    delays: list[int] = []

    def note_delays(params: dict[str, Any], **_: Any) -> None:
        if params["QueueUrl"].endswith("/ArchiveQueue"):
            delays.extend(entry["DelaySeconds"] for entry in params["Entries"])

    for n in range(35):
        request = {**ARCHIVE, "recording_id": number(n)}
        worklist.check_in(AnyRequest(f"archive#{n}", request), "budget_spent", deadline=DEADLINE)
        request = {"recording_id": number(n)}
        worklist.check_in(
            AnyRequest(f"recording#{n}", request), "details_missing", low_priority=True
        )
    clock.advance(60)
    events = follow_up.sqs.meta.events
    events.register("before-parameter-build.sqs.SendMessageBatch", note_delays)
    try:
        tick()
    finally:
        events.unregister("before-parameter-build.sqs.SendMessageBatch", note_delays)

    assert (len(delays), delays[0], delays[-1]) == (20, 0, 27)
    assert waiting(queue) == 10


def test_a_message_that_the_queue_refuses_leaves_its_check_due(
    worklist: Worklist,
    clock: Clock,
    queue: Any,
    logged: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    tick: Callable[[], None],
) -> None:
    """SendMessageBatch reports refused entries in a 200."""
    check_in(worklist)
    check_in(worklist, number(2))
    clock.advance(60)

    def refuse_the_first(parsed: dict[str, Any], **_: Any) -> None:
        refused = parsed["Successful"].pop(0)
        parsed["Failed"] = [{"Id": refused["Id"], "SenderFault": False, "Code": "InternalError"}]

    events = follow_up.sqs.meta.events
    events.register("after-call.sqs.SendMessageBatch", refuse_the_first)
    try:
        tick()
    finally:
        events.unregister("after-call.sqs.SendMessageBatch", refuse_the_first)

    assert len(worklist.due(10)) == 1
    assert "check not queued, stays due" in logged()


# --- files to be archived ---


@pytest.fixture
def archive_queues(dynamodb: Any) -> dict[str, Any]:
    names = ("ArchiveQueue", "UrgentArchiveQueue")
    return {name: boto3.resource("sqs").create_queue(QueueName=name) for name in names}


def test_files_are_asked_for_on_their_own_queue(
    tick: Callable[[], None],
    worklist: Worklist,
    clock: Clock,
    received: Received,
    archive_queues: dict[str, Any],
    logged: Callable[[], str],
) -> None:
    check_in(worklist, number(2))
    worklist.check_in(
        AnyRequest(f"archive#{FIRST}", ARCHIVE), "media_unavailable", deadline=DEADLINE
    )
    clock.advance(60)

    tick()

    assert [body["recording_id"] for body in received()] == [number(2)]
    assert drained(archive_queues["ArchiveQueue"]) == [{"v": 1, "source": "follow_up", **ARCHIVE}]
    assert drained(archive_queues["UrgentArchiveQueue"]) == []
    assert risks(logged()) == [0]


def test_files_with_less_than_two_days_left_are_urgent_and_at_risk(
    tick: Callable[[], None],
    worklist: Worklist,
    clock: Clock,
    received: Received,
    archive_queues: dict[str, Any],
    logged: Callable[[], str],
) -> None:
    worklist.check_in(
        AnyRequest(f"archive#{FIRST}", ARCHIVE), "media_unavailable", deadline=DEADLINE
    )
    clock.advance(5 * DAY + 1)

    tick()

    assert drained(archive_queues["ArchiveQueue"]) == []
    assert [b["recording_id"] for b in drained(archive_queues["UrgentArchiveQueue"])] == [FIRST]
    log = logged()
    assert risks(log) == [1]
    assert "recording at risk" in log


def test_how_long_the_oldest_check_has_waited_is_measured_but_for_those_that_have_time(
    tick: Callable[[], None],
    worklist: Worklist,
    clock: Clock,
    queue: Any,
    archive_queues: Any,
    logged: Callable[[], str],
) -> None:
    worklist.check_in(
        AnyRequest(f"recording#{number(1)}", {"recording_id": number(1)}), "x", low_priority=True
    )
    worklist.check_in(
        AnyRequest(f"archive#{FIRST}", ARCHIVE), "x", deadline="2026-06-10T10:30:00.000Z"
    )
    clock.advance(3600)
    check_in(worklist)
    clock.advance(90)

    tick()

    ages = [json.loads(line).get("OldestCheckAge") for line in logged().splitlines()]
    assert [age for age in ages if age] == [[30]]


def test_what_has_low_priority_comes_last_and_is_half_of_a_tick_at_most(
    worklist: Worklist, clock: Clock
) -> None:
    for n in range(30):
        worklist.check_in(
            AnyRequest(f"recording#{number(n)}", {"recording_id": number(n)}),
            "x",
            low_priority=True,
        )
    clock.advance(60)
    for n in range(200, 210):
        check_in(worklist, number(n))
    clock.advance(60)

    due = worklist.due(40)

    assert [check.low_priority for check in due] == [False] * 10 + [True] * 20
    assert [check.low_priority for check in worklist.due(15)] == [False] * 10 + [True] * 5


def test_a_check_of_low_priority_stays_one_and_is_not_given_up_before_its_turn(
    tick: Callable[[], None],
    worklist: Worklist,
    clock: Clock,
    received: Received,
    logged: Callable[[], str],
) -> None:
    request = {"recording_id": FIRST}
    worklist.check_in(
        AnyRequest(f"recording#{FIRST}", request), "details_missing", low_priority=True
    )
    clock.advance(20 * 86_400)
    tick()
    assert len(received()) == 1
    assert "check given up" not in logged()

    clock.advance(120)

    assert [check.low_priority for check in worklist.due(10)] == [True]
    tick()
    assert "check given up" in logged()


def risks(log: str) -> list[float]:
    lines = [json.loads(line) for line in log.splitlines()]
    return [line["RecordingAtRisk"][0] for line in lines if "RecordingAtRisk" in line]


def test_switched_off_what_was_to_be_archived_is_settled(
    tick: Callable[[], None],
    worklist: Worklist,
    clock: Clock,
    received: Received,
    checks: Callable[[], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ARCHIVE_QUEUE_URL", "URGENT_ARCHIVE_QUEUE_URL"):
        monkeypatch.setattr(follow_up, name, "")
    worklist.check_in(
        AnyRequest(f"archive#{FIRST}", ARCHIVE), "media_unavailable", deadline=DEADLINE
    )
    clock.advance(60)

    tick()

    assert received() == []
    assert checks() == {}


def test_an_erasure_is_asked_for_where_the_files_can_be_reached(
    tick: Callable[[], None],
    worklist: Worklist,
    clock: Clock,
    received: Received,
    archive_queues: dict[str, Any],
) -> None:
    worklist.check_in(AnyRequest(f"erase#{FIRST}", ERASE), "erasing")
    clock.advance(60)

    tick()

    assert received() == []
    assert drained(archive_queues["ArchiveQueue"]) == [{"v": 1, "source": "follow_up", **ERASE}]


def test_switched_off_an_erasure_is_gone_on_with_by_who_can_erase_rows(
    tick: Callable[[], None],
    worklist: Worklist,
    clock: Clock,
    received: Received,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ARCHIVE_QUEUE_URL", "URGENT_ARCHIVE_QUEUE_URL"):
        monkeypatch.setattr(follow_up, name, "")
    worklist.check_in(AnyRequest(f"erase#{FIRST}", ERASE), "erasing")
    clock.advance(60)

    tick()

    assert received() == [{"v": 1, "source": "follow_up", **ERASE}]


def test_each_log_line_says_the_version(tick: Any, worklist: Worklist, logged: Any) -> None:
    worklist.check_in(AnyRequest("recording#x", {"recording_id": "no id"}), "not_final", seconds=0)

    tick()

    assert '"version":"0.1.0"' in logged().replace('": "', '":"')
