"""Checks and the upstream budget."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

import pytest

from doubles import AnyRequest, Clock
from recordings.budget import UpstreamBudget
from recordings.dynamodb import Table
from recordings.worklist import Check, ClaimLostError, Worklist, utcnow

KEY = "recording#97cb480d-5840-4528-ace3-919b5e386c68"
REQUEST = {"recording_id": "97cb480d-5840-4528-ace3-919b5e386c68"}
HINT = {"meeting_id": "50c8940e-1b97-402a-97d6-2708b7feca41"}


def due(worklist: Worklist) -> list[Check]:
    return worklist.due(limit=100)


def test_a_check_is_due_when_its_time_has_come(worklist: Worklist, clock: Clock) -> None:
    worklist.check_in(AnyRequest(KEY, {**REQUEST, "hint": HINT}), "not_final")

    clock.advance(59)
    assert due(worklist) == []
    clock.advance(1)
    [check] = due(worklist)
    assert check.key == KEY
    assert check.request == {**REQUEST, "hint": HINT}
    assert check.cause == "not_final"
    assert check.attempts == 0


def test_one_recording_has_one_check(worklist: Worklist, clock: Clock) -> None:
    for _ in range(20):
        worklist.check_in(AnyRequest(KEY, REQUEST), "not_final")

    clock.advance(60)
    assert len(due(worklist)) == 1


def test_news_without_a_hint_keeps_the_hint(worklist: Worklist, clock: Clock) -> None:
    worklist.check_in(AnyRequest(KEY, {**REQUEST, "hint": HINT}), "unavailable")
    worklist.check_in(AnyRequest(KEY, REQUEST), "unavailable")

    clock.advance(60)
    assert due(worklist)[0].request == {**REQUEST, "hint": HINT}


WAIT = 3600


@pytest.fixture
def writes(dynamodb: Any) -> list[Any]:
    """The updates that are sent to DynamoDB from now on."""
    sent: list[Any] = []
    dynamodb.meta.events.register(
        "before-call.dynamodb.UpdateItem", lambda params, **_: sent.append(params["body"])
    )
    return sent


@pytest.mark.parametrize(
    ("seconds", "request_", "cause", "written"),
    [
        (0, {**REQUEST, "hint": HINT}, "not_final", 0),
        (0, REQUEST, "not_final", 0),
        (360, REQUEST, "not_final", 0),
        (361, REQUEST, "not_final", 1),
        (0, REQUEST, "unavailable", 1),
        (0, REQUEST, "not_found", 1),
        (0, {**REQUEST, "hint": {"title": "Weekly sync"}}, "not_final", 1),
        (0, {**REQUEST, "task": "archive"}, "not_final", 1),
    ],
)
def test_a_check_that_has_just_begun_is_written_again_only_if_it_would_say_another_thing(
    worklist: Worklist,
    clock: Clock,
    writes: list[Any],
    seconds: int,
    request_: dict[str, Any],
    cause: str,
    written: int,
) -> None:
    worklist.check_in(AnyRequest(KEY, {**REQUEST, "hint": HINT}), "not_final", seconds=WAIT)
    del writes[:]
    clock.advance(seconds)

    worklist.check_in(AnyRequest(KEY, request_), cause, seconds=WAIT)

    assert len(writes) == written
    clock.advance(WAIT)
    [check] = due(worklist)
    assert (check.cause, check.attempts) == (cause, 0)


def test_news_moves_a_check_that_comes_too_late_or_was_repeated_already(
    worklist: Worklist, clock: Clock, writes: list[Any]
) -> None:
    worklist.check_in(AnyRequest(KEY, REQUEST), "not_final", seconds=WAIT)
    worklist.check_in(AnyRequest(KEY, REQUEST), "not_final", seconds=300)
    clock.advance(300)
    [check] = due(worklist)
    worklist.advance(check)
    del writes[:]

    # As late as the repeated check, which has come nearer to being given up.
    worklist.check_in(AnyRequest(KEY, REQUEST), "not_final", seconds=600)

    assert len(writes) == 1
    clock.advance(600)
    assert [(check.attempts, check.interval) for check in due(worklist)] == [(0, 600)]


def test_a_claimed_check_and_one_that_was_given_up_start_anew(
    worklist: Worklist, clock: Clock, writes: list[Any]
) -> None:
    for end in (worklist.give_up, lambda check: claimed(worklist)):
        worklist.check_in(AnyRequest(FILES, REQUEST), "not_final")
        clock.advance(60)
        end(due(worklist)[0])
        del writes[:]
        worklist.check_in(AnyRequest(FILES, REQUEST), "not_final")
        assert len(writes) == 1


def test_a_settled_check_is_never_due(worklist: Worklist, clock: Clock) -> None:
    worklist.check_in(AnyRequest(KEY, REQUEST), "not_final")
    worklist.settle(KEY)
    worklist.settle(KEY)

    clock.advance(3600)
    assert due(worklist) == []


def test_the_interval_doubles_up_to_an_hour(worklist: Worklist, clock: Clock) -> None:
    worklist.check_in(AnyRequest(KEY, REQUEST), "not_final")

    for seconds in (60, 120, 240, 480, 960, 1920, 3600, 3600):
        clock.advance(seconds - 1)
        assert due(worklist) == []
        clock.advance(1)
        [check] = due(worklist)
        worklist.advance(check)


def test_news_starts_a_check_anew(worklist: Worklist, clock: Clock) -> None:
    worklist.check_in(AnyRequest(KEY, REQUEST), "not_final")
    for _ in range(4):
        clock.advance(3600)
        worklist.advance(due(worklist)[0])

    worklist.check_in(AnyRequest(KEY, REQUEST), "not_final")

    clock.advance(60)
    assert due(worklist)[0].attempts == 0


def test_no_check_waits_before_one_is_left_and_after_it_was_given_up(
    worklist: Worklist, clock: Clock
) -> None:
    assert not worklist.waits(KEY)
    worklist.ensure(AnyRequest(KEY, REQUEST), "not_final", seconds=60)
    clock.advance(60)
    worklist.give_up(due(worklist)[0])

    assert not worklist.waits(KEY)


def test_a_check_that_waits_is_neither_postponed_nor_changed(
    worklist: Worklist, clock: Clock
) -> None:
    worklist.check_in(AnyRequest(KEY, {**REQUEST, "hint": HINT}), "unavailable", seconds=600)

    assert not worklist.ensure(AnyRequest(KEY, REQUEST), "not_final", seconds=3600)
    assert not worklist.ensure(AnyRequest(KEY, REQUEST), "not_final", seconds=60)

    assert worklist.waits(KEY)
    clock.advance(599)
    assert due(worklist) == []
    clock.advance(1)
    [check] = due(worklist)
    assert (check.cause, check.request) == ("unavailable", {**REQUEST, "hint": HINT})


def test_a_check_that_was_settled_meanwhile_is_not_brought_back(
    worklist: Worklist, clock: Clock
) -> None:
    worklist.check_in(AnyRequest(KEY, REQUEST), "not_final")
    clock.advance(60)
    [check] = due(worklist)

    worklist.settle(KEY)
    worklist.advance(check)
    worklist.give_up(check)
    assert not worklist.note_cause(KEY, "throttled", 300)

    clock.advance(86_400)
    assert due(worklist) == []


def test_trouble_moves_a_check_to_when_it_may_be_tried(worklist: Worklist, clock: Clock) -> None:
    worklist.check_in(AnyRequest(KEY, REQUEST), "not_final")

    worklist.note_cause(KEY, "throttled", 300)

    clock.advance(299)
    assert due(worklist) == []
    clock.advance(1)
    assert due(worklist)[0].cause == "throttled"


def test_trouble_without_a_time_leaves_the_check_when_it_was_due(
    worklist: Worklist, clock: Clock
) -> None:
    worklist.check_in(AnyRequest(KEY, REQUEST), "not_final")

    worklist.note_cause(KEY, "unavailable", None)

    clock.advance(60)
    assert due(worklist)[0].cause == "unavailable"


def test_the_longest_waiting_come_first_and_no_more_than_asked_for(
    worklist: Worklist, clock: Clock
) -> None:
    for n in (3, 1, 2):
        worklist.check_in(
            AnyRequest(f"recording#{n}", {"recording_id": str(n)}), "not_final", seconds=60 * n
        )

    clock.advance(600)
    assert [check.key for check in worklist.due(limit=2)] == ["recording#1", "recording#2"]


def test_patience_ends_after_eight_days_and_after_an_hour_with_an_unknown_id(
    worklist: Worklist, clock: Clock
) -> None:
    worklist.check_in(AnyRequest("recording#a", {"recording_id": "a"}), "not_final")
    worklist.check_in(AnyRequest("recording#b", {"recording_id": "b"}), "not_found")

    def hopeless() -> set[str]:
        return {check.key for check in due(worklist) if check.is_hopeless(clock())}

    clock.advance(3600)
    assert hopeless() == set()
    clock.advance(1)
    assert hopeless() == {"recording#b"}
    clock.advance(8 * 86_400)
    assert hopeless() == {"recording#a", "recording#b"}


def test_an_id_that_was_known_is_given_its_own_hour_when_it_is_not(
    worklist: Worklist, clock: Clock
) -> None:
    """One 404 after hours of following is not the end of it, nor are two with an answer between."""
    worklist.check_in(AnyRequest(KEY, REQUEST), "not_final")
    clock.advance(5 * 3600)
    worklist.note_cause(KEY, "not_found")
    assert not due(worklist)[0].is_hopeless(clock())

    clock.advance(3000)
    worklist.note_cause(KEY, "not_final")
    worklist.note_cause(KEY, "not_found")
    clock.advance(3600)
    worklist.note_cause(KEY, "not_found")
    assert not due(worklist)[0].is_hopeless(clock())
    clock.advance(1)
    assert due(worklist)[0].is_hopeless(clock())


def test_what_is_asked_for_hourly_is_asked_for_once_more_after_one_404(
    worklist: Worklist, clock: Clock
) -> None:
    worklist.check_in(AnyRequest(KEY, REQUEST), "not_final", seconds=3600)
    for is_hopeless in (False, False, True):
        clock.advance(3660)
        [check] = due(worklist)
        assert check.is_hopeless(clock()) == is_hopeless
        worklist.advance(check)
        worklist.note_cause(KEY, "not_found")


def test_what_is_given_up_is_not_due_but_stays_to_be_looked_at(
    worklist: Worklist, work_table: Table, clock: Clock
) -> None:
    worklist.check_in(AnyRequest(KEY, REQUEST), "not_final")
    clock.advance(60)

    worklist.give_up(due(worklist)[0])

    assert due(worklist) == []
    row = work_table.get({"work_id": f"check#{KEY}"})
    assert row is not None
    assert row["given_up_at"] == "2026-06-03T10:31:00.000Z"
    assert row["expires_at"] == int(clock().timestamp()) + 30 * 86_400


def given_up(worklist: Worklist, clock: Clock, key: str, deadline: str | None) -> None:
    """Leave a check that was tried for eight days, unknown in the end, and given up."""
    worklist.check_in(AnyRequest(key, REQUEST), "not_final", deadline=deadline)
    for _ in range(3):
        clock.advance(3600)
        worklist.advance(due(worklist)[0])
    clock.advance(8 * 86_400)
    assert worklist.note_cause(key, "not_found")
    worklist.give_up(due(worklist)[0])


def test_a_check_that_was_given_up_does_not_block_a_new_one(
    worklist: Worklist, clock: Clock
) -> None:
    given_up(worklist, clock, FILES, DEADLINE)

    assert worklist.ensure(
        AnyRequest(FILES, REQUEST), "forgotten", deadline="2026-06-20T10:30:00.000Z"
    )
    assert not worklist.ensure(AnyRequest(FILES, REQUEST), "forgotten", deadline=DEADLINE)

    clock.advance(7200)
    [check] = due(worklist)
    assert not check.is_hopeless(clock())
    assert (check.attempts, check.interval, check.not_found_since) == (0, 60, None)
    assert check.since == clock() - timedelta(seconds=7200)
    assert check.deadline == "2026-06-20T10:30:00.000Z"


def test_a_claim_of_what_was_given_up_begins_anew(worklist: Worklist, clock: Clock) -> None:
    given_up(worklist, clock, FILES, DEADLINE)

    check = claimed(worklist)
    worklist.release(check, "throttled", {})

    assert (check.since, check.attempts, check.not_found_since) == (clock(), 0, None)
    clock.advance(7200)
    [check] = due(worklist)
    assert not check.is_hopeless(clock())


def test_what_was_given_up_stays_so_whatever_a_late_message_meets(
    worklist: Worklist, clock: Clock
) -> None:
    given_up(worklist, clock, KEY, None)

    assert worklist.note_cause(KEY, "unavailable", 60)

    clock.advance(86_400)
    assert due(worklist) == []


def test_what_is_given_up_keeps_the_ids_of_its_hint_and_not_the_title(
    worklist: Worklist, work_table: Table, clock: Clock
) -> None:
    worklist.check_in(
        AnyRequest(KEY, {**REQUEST, "hint": {**HINT, "title": "Salaries"}}), "not_found"
    )
    clock.advance(60)

    worklist.give_up(due(worklist)[0])

    row = work_table.get({"work_id": f"check#{KEY}"})
    assert row
    assert row["hint"] == HINT


def test_news_of_what_was_given_up_is_followed_again(worklist: Worklist, clock: Clock) -> None:
    worklist.check_in(AnyRequest(KEY, REQUEST), "not_final")
    clock.advance(60)
    worklist.give_up(due(worklist)[0])

    worklist.check_in(AnyRequest(KEY, REQUEST), "not_final")

    clock.advance(60)
    assert len(due(worklist)) == 1


def budget(work_table: Table, clock: Clock, per_5_minutes: int = 1000) -> UpstreamBudget:
    return UpstreamBudget(work_table, "app", per_5_minutes, clock)


def test_a_window_has_room_for_a_21st_of_the_limit(work_table: Table, clock: Clock) -> None:
    waits = [budget(work_table, clock, 105).take() for _ in range(7)]

    assert waits == [0, 0, 0, 0, 0, 15, 15]


def test_the_wait_ends_with_the_window(work_table: Table, clock: Clock) -> None:
    one_per_window = budget(work_table, clock, 21)
    one_per_window.take()

    clock.advance(11)
    assert one_per_window.take() == 4
    clock.advance(4)
    assert one_per_window.take() == 0


def test_no_five_minutes_see_more_than_the_limit(work_table: Table, clock: Clock) -> None:
    """Any five minutes see at most 20 whole and two half windows, wherever they begin."""
    clock.advance(7.5)
    limited = budget(work_table, clock, 63)
    taken = 0
    for _ in range(120):
        while limited.take() == 0:
            taken += 1
        clock.advance(2.5)

    assert taken == 63


def test_copies_of_all_functions_together_stay_within_the_budget(
    work_table: Table, clock: Clock
) -> None:
    copies = [budget(work_table, clock, 210) for _ in range(8)]

    waits = [copy.take() for _ in range(5) for copy in copies]

    assert waits.count(0) == 10


def test_a_closed_budget_lets_nothing_through_until_it_opens(
    work_table: Table, clock: Clock
) -> None:
    budget(work_table, clock).close(300)

    for _ in range(20):
        assert budget(work_table, clock).take() > 0
        clock.advance(15)
    clock.advance(15)
    assert budget(work_table, clock).take() == 0


def test_no_penalty_closes_the_budget_for_more_than_six_minutes(
    work_table: Table, clock: Clock
) -> None:
    budget(work_table, clock).close(86_400)

    clock.advance(360)
    assert budget(work_table, clock).take() == 0


def test_what_is_over_expires(work_table: Table, clock: Clock, dynamodb: Any) -> None:
    budget(work_table, clock).take()
    budget(work_table, clock).close(300)

    items = dynamodb.scan(TableName="WorkTable")["Items"]
    assert len(items) == 21
    assert all(int(item["expires_at"]["N"]) > clock().timestamp() for item in items)


# --- deadlines and claims ---

FILES = "archive#97cb480d-5840-4528-ace3-919b5e386c68"
DEADLINE = "2026-06-10T10:30:00.000Z"
DAY = 86_400


def claim(worklist: Worklist, seconds: int = 930) -> Check | None:
    return worklist.claim(AnyRequest(FILES, REQUEST), DEADLINE, seconds)


def claimed(worklist: Worklist, seconds: int = 930) -> Check:
    check = claim(worklist, seconds)
    assert check
    return check


def test_the_urgent_come_first_however_long_others_wait(worklist: Worklist, clock: Clock) -> None:
    worklist.check_in(AnyRequest(KEY, REQUEST), "unavailable")
    clock.advance(3600)
    worklist.check_in(AnyRequest(FILES, REQUEST), "pending", deadline="2026-06-05T11:29:59.999Z")
    clock.advance(60)

    assert [check.key for check in due(worklist)] == [FILES, KEY]
    assert [check.key for check in worklist.due(limit=1)] == [FILES]


def test_what_has_no_deadline_comes_before_what_has_time(worklist: Worklist, clock: Clock) -> None:
    """A backfill leaves files by the thousand; webhooks do not wait for them."""
    worklist.check_in(AnyRequest(FILES, REQUEST), "pending", deadline=DEADLINE)
    clock.advance(3600)
    worklist.check_in(AnyRequest(KEY, REQUEST), "unavailable")
    clock.advance(60)

    assert [check.key for check in due(worklist)] == [KEY, FILES]
    assert worklist.oldest_due() == "2026-06-03T11:31:00.000Z"


def test_what_has_time_becomes_urgent_two_days_before_its_deadline(
    worklist: Worklist, clock: Clock
) -> None:
    worklist.check_in(AnyRequest(FILES, REQUEST), "pending", deadline=DEADLINE)
    clock.advance(5 * DAY)
    [check] = due(worklist)
    assert not check.is_urgent(clock())
    clock.advance(1)
    assert check.is_urgent(clock())

    worklist.advance(check)
    worklist.check_in(AnyRequest(KEY, REQUEST), "unavailable")
    clock.advance(3600)

    assert [check.key for check in due(worklist)] == [FILES, KEY]


def lanes(worklist: Worklist, limit: int) -> list[str]:
    """Return the first letters of the keys of a tick's checks."""
    return [check.key[0] for check in worklist.due(limit)]


def test_each_lane_is_sure_of_a_tenth_of_a_tick_and_the_rest_goes_by_order(
    worklist: Worklist, clock: Clock
) -> None:
    for n in range(20):
        worklist.check_in(
            AnyRequest(f"urgent{n}", REQUEST), "x", deadline="2026-06-04T10:30:00.000Z"
        )
        worklist.check_in(AnyRequest(f"normal{n}", REQUEST), "x")
        worklist.check_in(AnyRequest(f"erasure{n}", {"task": "erase", **REQUEST}), "x")
        worklist.check_in(AnyRequest(f"patient{n}", REQUEST), "x", deadline=DEADLINE)
        worklist.check_in(AnyRequest(f"low{n}", REQUEST), "x", low_priority=True)
    clock.advance(60)

    assert lanes(worklist, 20) == [*12 * "u", *2 * "n", *2 * "e", *2 * "p", *2 * "l"]
    assert lanes(worklist, 4) == ["u", "n", "e", "p"]
    for n in range(20):
        worklist.settle(f"urgent{n}")
    assert lanes(worklist, 40) == [*20 * "n", *12 * "e", *4 * "p", *4 * "l"]
    for n in range(20):
        worklist.settle(f"normal{n}")
        worklist.settle(f"erasure{n}")
    assert lanes(worklist, 40) == [*13 * "p", *7 * "l"]


def test_files_become_urgent_by_their_deadline_wherever_they_were_filed(
    worklist: Worklist, clock: Clock
) -> None:
    for n in range(30):
        worklist.check_in(AnyRequest(f"archive#{n}", REQUEST), "pending", deadline=DEADLINE)
    worklist.check_in(
        AnyRequest(FILES, REQUEST), "pending", seconds=61, deadline="2026-06-06T10:30:00.000Z"
    )
    clock.advance(DAY + 1)
    for n in range(30):
        worklist.check_in(AnyRequest(f"recording#{n}", REQUEST), "unavailable")
    clock.advance(60)

    first, *others = worklist.due(10)

    assert first.key == FILES
    assert first.is_urgent(clock())
    worklist.advance(first)
    clock.advance(122)
    assert worklist.due(10)[0].key == FILES
    assert "recording#" in others[0].key


def test_a_claim_to_erase_files_is_no_file_at_risk(worklist: Worklist, clock: Clock) -> None:
    worklist.check_in(AnyRequest(FILES, REQUEST), "pending", deadline="2026-06-04T10:30:00.000Z")

    check = worklist.claim(AnyRequest(FILES, {"task": "erase", **REQUEST}), None, 120)

    assert check
    assert not check.is_urgent(clock())
    clock.advance(120)
    [check] = due(worklist)
    assert check.deadline is None
    assert check.request["task"] == "erase"


def test_a_claim_is_one_runs_alone(worklist: Worklist, clock: Clock) -> None:
    assert claim(worklist)

    clock.advance(929)
    assert claim(worklist) is None


def test_a_claim_whose_time_is_over_is_due_and_can_be_taken(
    worklist: Worklist, clock: Clock
) -> None:
    first = claimed(worklist)
    worklist.save_progress(first, {"uploads": {"video": {"upload_id": "1"}}})
    clock.advance(929)
    assert due(worklist) == []

    clock.advance(1)

    [check] = due(worklist)
    assert check.cause == "claimed"
    assert claimed(worklist).progress == {"uploads": {"video": {"upload_id": "1"}}}


def test_what_was_checked_in_keeps_its_history_when_it_is_claimed(
    worklist: Worklist, clock: Clock
) -> None:
    worklist.check_in(AnyRequest(FILES, REQUEST), "pending", deadline=DEADLINE)
    since = clock()
    clock.advance(60)
    worklist.advance(due(worklist)[0])

    check = claimed(worklist)

    assert (check.since, check.attempts, check.interval) == (since, 1, 120)


def test_what_is_finished_is_settled(worklist: Worklist, clock: Clock) -> None:
    worklist.finish(claimed(worklist))

    clock.advance(8 * DAY)
    assert due(worklist) == []


def test_what_is_released_is_due_after_growing_intervals(worklist: Worklist, clock: Clock) -> None:
    worklist.release(claimed(worklist), "media_unavailable", {"uploads": {}})

    for seconds in (60, 120, 240, 480, 960, 1920, 3600, 3600):
        clock.advance(seconds - 1)
        assert due(worklist) == []
        clock.advance(1)
        [check] = due(worklist)
        assert check.cause == "media_unavailable"
        worklist.advance(check)
        worklist.release(claimed(worklist), "media_unavailable", {"uploads": {}})


def test_what_is_released_for_some_seconds_is_due_then(worklist: Worklist, clock: Clock) -> None:
    worklist.release(claimed(worklist), "throttled", {}, 400)

    clock.advance(399)
    assert due(worklist) == []
    clock.advance(1)
    assert [check.cause for check in due(worklist)] == ["throttled"]


def test_what_was_asked_for_during_a_claim_is_due_at_once(worklist: Worklist, clock: Clock) -> None:
    """There may be something that the run has not seen."""
    for let_go in (
        worklist.finish,
        lambda check: worklist.release(check, "throttled", {"uploads": {}}, 400),
    ):
        check = claimed(worklist)
        assert claim(worklist) is None

        let_go(check)

        assert len(due(worklist)) == 1
        worklist.settle(FILES)


def test_a_claim_that_was_taken_over_can_note_nothing(worklist: Worklist, clock: Clock) -> None:
    first = claimed(worklist)
    clock.advance(931)
    second = claimed(worklist)

    with pytest.raises(ClaimLostError):
        worklist.save_progress(first, {"uploads": {"video": {}}})
    with pytest.raises(ClaimLostError):
        worklist.release(first, "late", {})
    with pytest.raises(ClaimLostError):
        worklist.finish(first)

    worklist.finish(second)
    clock.advance(8 * DAY)
    assert due(worklist) == []


def test_news_during_a_claim_do_not_end_it(worklist: Worklist, clock: Clock) -> None:
    check = claimed(worklist)

    worklist.check_in(AnyRequest(FILES, REQUEST), "pending", deadline=DEADLINE)

    assert claim(worklist) is None
    worklist.release(check, "throttled", {}, 10)


def test_a_check_that_was_given_up_can_be_claimed(worklist: Worklist, clock: Clock) -> None:
    worklist.check_in(AnyRequest(FILES, REQUEST), "pending", deadline=DEADLINE)
    clock.advance(60)
    worklist.give_up(due(worklist)[0])

    worklist.release(claimed(worklist), "throttled", {}, 0)

    assert len(due(worklist)) == 1


# --- what must be forgotten ---


def test_news_of_an_id_that_was_unknown_forgets_since_when_it_was(
    worklist: Worklist, clock: Clock
) -> None:
    worklist.check_in(AnyRequest(KEY, REQUEST), "not_found")
    worklist.check_in(AnyRequest(KEY, REQUEST), "not_final")
    clock.advance(3600)

    worklist.note_cause(KEY, "not_found")

    [check] = due(worklist)
    assert check.not_found_since == clock()


def test_a_claim_owes_nothing_to_who_asked_during_the_run_before(
    worklist: Worklist, clock: Clock
) -> None:
    claimed(worklist)
    assert claim(worklist) is None
    clock.advance(930)

    worklist.finish(claimed(worklist))

    clock.advance(8 * 86_400)
    assert due(worklist) == []


@pytest.mark.parametrize("follow", ["check_in", "claim"])
def test_what_is_followed_again_is_not_said_to_be_given_up(
    worklist: Worklist, clock: Clock, dynamodb: Any, follow: str
) -> None:
    worklist.check_in(AnyRequest(FILES, REQUEST), "unavailable")
    clock.advance(60)
    worklist.give_up(due(worklist)[0])

    if follow == "claim":
        claimed(worklist)
    else:
        worklist.check_in(AnyRequest(FILES, REQUEST), "not_final")

    [item] = dynamodb.scan(TableName="WorkTable")["Items"]
    assert item["pending"] in ({"S": "yes"}, {"S": "patient"})
    assert "given_up_at" not in item


# --- what a check keeps ---


@pytest.mark.parametrize("leave", ["check_in", "ensure", "claim"])
def test_a_check_is_kept_for_a_month(worklist: Worklist, work_table: Table, leave: str) -> None:
    if leave == "claim":
        claimed(worklist)
    else:
        getattr(worklist, leave)(AnyRequest(FILES, REQUEST), "pending", deadline=DEADLINE)

    row = work_table.get({"work_id": f"check#{FILES}"})
    assert row
    assert row["expires_at"] == 1783074600  # 2026-07-03 10:30


def test_a_claim_of_what_was_not_checked_in_begins_its_history(
    worklist: Worklist, clock: Clock
) -> None:
    first = claimed(worklist)
    clock.advance(930)
    again = claimed(worklist)

    assert (first.since, first.attempts, first.interval) == (again.since, 0, 60)
    assert again.since == clock() - timedelta(seconds=930)


def test_files_whose_claim_ran_out_wait_among_files(worklist: Worklist, clock: Clock) -> None:
    claimed(worklist)
    clock.advance(930)
    worklist.check_in(AnyRequest(KEY, REQUEST), "unavailable")
    clock.advance(60)

    news, files = due(worklist)

    assert (news.key, files.key, files.deadline) == (KEY, FILES, DEADLINE)


def test_what_is_ensured_says_why_and_knows_nothing_of_what_was_given_up(
    worklist: Worklist, clock: Clock
) -> None:
    worklist.check_in(AnyRequest(KEY, {**REQUEST, "hint": HINT}), "not_final", low_priority=True)
    clock.advance(60)
    worklist.give_up(due(worklist)[0])

    assert worklist.ensure(AnyRequest(KEY, REQUEST), "forgotten")

    clock.advance(60)
    [check] = due(worklist)
    assert (check.request, check.cause, check.low_priority) == (REQUEST, "forgotten", False)


def test_news_with_another_hint_replaces_the_hint(worklist: Worklist, clock: Clock) -> None:
    other = {"meeting_id": "78e51061-7311-48a3-82ce-6f447ed4d57b", "title": "Weekly sync"}
    worklist.check_in(AnyRequest(KEY, {**REQUEST, "hint": HINT}), "unavailable")
    worklist.check_in(AnyRequest(KEY, {**REQUEST, "hint": other}), "unavailable")

    clock.advance(60)
    assert due(worklist)[0].request == {**REQUEST, "hint": other}


def test_a_lost_claim_says_of_what(worklist: Worklist, clock: Clock) -> None:
    first = claimed(worklist)
    clock.advance(931)
    claimed(worklist)

    with pytest.raises(ClaimLostError, match=f"^{FILES}$"):
        worklist.finish(first)


# --- bounds ---


def test_the_time_is_that_of_utc() -> None:
    assert utcnow().tzinfo is UTC


def test_eight_days_are_not_yet_too_long(worklist: Worklist, clock: Clock) -> None:
    worklist.check_in(AnyRequest(KEY, REQUEST), "not_final")
    clock.advance(8 * DAY)
    [check] = due(worklist)

    assert not check.is_hopeless(clock())
    clock.advance(0.001)
    assert check.is_hopeless(clock())


def test_a_check_whose_time_cannot_be_read_has_not_waited(
    worklist: Worklist, work_table: Table, clock: Clock
) -> None:
    worklist.check_in(AnyRequest(KEY, REQUEST), "not_final")
    work_id = {"work_id": f"check#{KEY}"}
    work_table.update(work_id, "SET #due_at = :due_at", {"due_at": "2026-06-03"})
    [check] = due(worklist)

    assert check.seconds_due(clock()) == 0
    assert worklist.oldest_due() is None


def test_in_the_smallest_ticks_each_lane_has_one_place(worklist: Worklist, clock: Clock) -> None:
    for n in range(5):
        worklist.check_in(AnyRequest(f"patient{n}", REQUEST), "x", deadline=DEADLINE)
        worklist.check_in(AnyRequest(f"low{n}", REQUEST), "x", low_priority=True)
    clock.advance(60)

    assert lanes(worklist, 1) == ["p"]
    assert lanes(worklist, 2) == ["p", "l"]
    assert lanes(worklist, 4) == ["p", "l"]
    for n in range(5):
        worklist.settle(f"patient{n}")
    assert lanes(worklist, 2) == ["l"]


def test_a_low_priority_check_is_given_up_after_eight_days_and_one_attempt(
    worklist: Worklist, clock: Clock
) -> None:
    worklist.check_in(AnyRequest(KEY, REQUEST), "details_missing", low_priority=True)
    clock.advance(9 * DAY)
    [check] = due(worklist)

    assert not check.is_hopeless(clock())
    worklist.advance(check)
    clock.advance(3600)
    [again] = due(worklist)
    assert again.is_hopeless(clock())
    assert again.low_priority


@pytest.mark.parametrize(
    ("deadline", "low_priority", "is_pressing"),
    [
        (None, False, True),
        ("2026-06-04T10:30:00.000Z", False, True),
        (DEADLINE, False, False),
        (None, True, False),
        ("2026-06-04T10:30:00.000Z", True, False),
    ],
    ids=["no deadline", "near", "far", "low priority", "near, of low priority"],
)
def test_far_deadlines_and_low_priority_can_wait(
    worklist: Worklist, clock: Clock, deadline: str | None, low_priority: bool, is_pressing: bool
) -> None:
    request = AnyRequest(KEY, REQUEST)
    worklist.check_in(request, "x", deadline=deadline, low_priority=low_priority)
    clock.advance(60)

    assert due(worklist)[0].is_pressing(clock()) == is_pressing
    assert worklist.oldest_due() == ("2026-06-03T10:31:00.000Z" if is_pressing else None)


# --- the budget's numbers ---


def test_a_budget_says_how_much_of_its_window_is_used_up(work_table: Table, clock: Clock) -> None:
    five_per_window = budget(work_table, clock, 105)
    used = [five_per_window.used]

    for _ in range(6):
        five_per_window.take()
        used.append(five_per_window.used)

    assert used == [0, 20, 40, 60, 80, 100, 100]


def test_a_share_leaves_the_rest_of_a_window_to_others(work_table: Table, clock: Clock) -> None:
    half = UpstreamBudget(work_table, "app", 210, clock, share=0.5)

    assert [half.take() for _ in range(7)] == [0, 0, 0, 0, 0, 15, 15]
    assert half.used == 50
    assert [budget(work_table, clock, 210).take() for _ in range(6)] == [0, 0, 0, 0, 0, 15]


def test_several_requests_are_taken_in_one_write(
    work_table: Table, clock: Clock, writes: list[Any]
) -> None:
    ten_per_window = budget(work_table, clock, 210)

    ten_per_window.reserve(4)
    taken = [ten_per_window.take() for _ in range(4)]

    assert (taken, ten_per_window.used, len(writes)) == ([0, 0, 0, 0], 40, 1)
    assert [ten_per_window.take() for _ in range(7)] == [0, 0, 0, 0, 0, 0, 15]


def test_a_window_without_room_for_several_has_room_for_some(
    work_table: Table, clock: Clock
) -> None:
    five_per_window = budget(work_table, clock, 105)
    other = budget(work_table, clock, 105)
    other.take()
    other.take()

    five_per_window.reserve(4)

    assert [five_per_window.take() for _ in range(4)] == [0, 0, 0, 15]
    clock.advance(15)
    five_per_window.reserve(6)
    assert [five_per_window.take() for _ in range(6)] == [0, 0, 0, 0, 0, 15]


def test_requests_that_were_taken_are_good_only_in_their_window_and_while_it_is_open(
    work_table: Table, clock: Clock
) -> None:
    five_per_window = budget(work_table, clock, 105)
    five_per_window.reserve(5)
    clock.advance(15)
    assert [five_per_window.take() for _ in range(6)] == [0, 0, 0, 0, 0, 15]
    clock.advance(15)
    five_per_window.reserve(5)

    five_per_window.close(15)

    assert five_per_window.take() == 15


def test_each_app_has_a_budget_of_its_own(work_table: Table, clock: Clock) -> None:
    other = UpstreamBudget(work_table, "another-app", 1000, clock)
    budget(work_table, clock).close(300)

    assert other.take() == 0
    assert budget(work_table, clock).take() == 15


def test_a_wait_is_a_second_at_least(work_table: Table, clock: Clock) -> None:
    one_per_window = budget(work_table, clock, 21)
    one_per_window.take()

    clock.advance(14.8)

    assert one_per_window.take() == 1


def test_a_window_is_kept_for_an_hour_after_its_end(
    work_table: Table, clock: Clock, dynamodb: Any
) -> None:
    budget(work_table, clock).take()

    [item] = dynamodb.scan(TableName="WorkTable")["Items"]
    assert item["expires_at"] == {"N": "1780486215"}  # 2026-06-03 11:30:15


# --- claims of odd checks ---


def test_a_lease_that_is_no_text_does_not_keep_a_check_from_being_claimed(
    worklist: Worklist, work_table: Table
) -> None:
    claimed(worklist)
    work_table.update({"work_id": f"check#{FILES}"}, "SET #lease = :lease", {"lease": 7})

    assert claimed(worklist).lease == "2026-06-03T10:45:30.000Z"


def test_a_claim_of_a_check_that_was_given_up_has_the_first_interval(
    worklist: Worklist, clock: Clock
) -> None:
    worklist.check_in(AnyRequest(FILES, REQUEST), "pending")
    clock.advance(60)
    worklist.give_up(due(worklist)[0])

    assert claimed(worklist).interval == 60
