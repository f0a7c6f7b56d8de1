"""Dead letters: listed with their cause, sent again without loss, deleted only if confirmed."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from realtimekit_recordings import dead_letters
from realtimekit_recordings.output import printable
from recordings import messages

RECORDING_ID = "97cb480d-5840-4528-ace3-919b5e386c68"
OTHER_ID = "e4b06ce6-0741-47a8-bce4-2c8218072e8c"
MEETING_ID = "50c8940e-1b97-402a-97d6-2708b7feca41"
SESSION_ID = "05e57591-d89e-45c9-ae44-08dc1eaad0e0"
REQUEST_ID = "316aa6d0-8154-4d0f-9af7-85d5f4a6bc81"

Run = Callable[..., Result]


def recording(recording_id: str = RECORDING_ID, **more: Any) -> str:
    return json.dumps({"v": 1, "source": "webhook", "recording_id": recording_id, **more})


ARCHIVE = recording(source="catalogue", task="archive", deadline="2026-06-10T10:30:00.000Z")
SESSION = json.dumps(
    {"v": 1, "source": "eventbridge", "meeting_id": MEETING_ID, "session_id": SESSION_ID}
)
STREAM_FAILURE = json.dumps(
    {
        "requestContext": {
            "requestId": REQUEST_ID,
            "functionArn": "arn:aws:lambda:eu-central-1:123456789012:function:publish_changes",
            "condition": "RecordAgeExceeded",
            "approximateInvokeCount": 3000,
        },
        "version": "1.0",
        "timestamp": "2026-06-04T09:30:00.000Z",
        "DDBStreamBatchInfo": {
            "shardId": "shardId-00000001573689847184-864758bb",
            "startSequenceNumber": "800000000003126276362",
            "endSequenceNumber": "800000000003126276370",
            "approximateArrivalOfFirstRecord": "2026-06-03T10:30:00Z",
            "approximateArrivalOfLastRecord": "2026-06-03T10:30:05Z",
            "batchSize": 9,
            "streamArn": "arn:aws:dynamodb:eu-central-1:123456789012:table/t/stream/2026",
        },
    }
)


@pytest.fixture
def put(aws, sqs) -> Callable[..., str]:
    """Put a message on a queue; return its id."""

    def put(queue: str, body: str, **attributes: str) -> str:
        message_id: str = sqs.client.send_message(
            QueueUrl=aws.outputs[f"{queue}Url"],
            MessageBody=body,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value}
                for name, value in attributes.items()
            },
        )["MessageId"]
        return message_id

    return put


@pytest.fixture
def on(aws, sqs) -> Callable[[str], list[str]]:
    """Return the messages that are visible on a queue now."""

    def on(queue: str) -> list[str]:
        url, found = aws.outputs[f"{queue}Url"], []
        while batch := sqs.client.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=30
        ).get("Messages"):
            found += batch
        for one in found:
            sqs.client.change_message_visibility(
                QueueUrl=url, ReceiptHandle=one["ReceiptHandle"], VisibilityTimeout=0
            )
        return sorted(one["Body"] for one in found)

    return on


# list


def listed(run: Run, *arguments: str) -> list[dict[str, Any]]:
    result = run("dead-letters", "list", "--json", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_what_failed_is_told_with_its_ids_and_where_to_look(run, put):
    message_id = put("IngestDeadLetterQueue", recording())

    [told] = listed(run, "--queue", "ingest")

    sent_at = told.pop("first_sent_at")
    start = told.pop("log").split(" --start-time ")
    assert sent_at.startswith("20")
    assert sent_at.endswith("Z")
    assert told == {
        "queue": "ingest",
        "message_id": message_id,
        "cause": "failed each time, the log says why",
        "recording_id": RECORDING_ID,
        "source": "webhook",
        "received": 1,
    }
    assert start[0] == (
        "aws logs filter-log-events --region eu-central-1 "
        "--log-group-name stack-IngestRecordingLogGroup"
    )
    assert start[1].endswith(
        f" --filter-pattern '\"{message_id}\"' --query 'events[].[message]' --output text"
    )


def test_an_ended_session_is_told_with_its_ids(run, put):
    put("IngestDeadLetterQueue", SESSION)

    [told] = listed(run)

    assert (told["meeting_id"], told["session_id"]) == (MEETING_ID, SESSION_ID)
    assert told["source"] == "eventbridge"


def test_eventbridges_own_word_is_the_cause_of_its_dead_letters(run, put):
    put(
        "EventRuleDeadLetterQueue",
        SESSION,
        ERROR_CODE="NO_PERMISSIONS",
        ERROR_MESSAGE="not\x1b[2Jallowed",
        RULE_ARN="arn:aws:events:eu-central-1:123456789012:rule/bus/MeetingEndedRule",
    )
    put("EventRuleDeadLetterQueue", recording())

    one, two = listed(run, "--queue", "event-rule")

    assert one["cause"] == "NO_PERMISSIONS: not\N{REPLACEMENT CHARACTER}[2Jallowed"
    assert one["attributes"]["RULE_ARN"].endswith("rule/bus/MeetingEndedRule")
    assert two["cause"] == "EventBridge did not say"
    assert "log" not in one


def test_a_record_of_the_stream_is_told_by_its_place_and_time(run, put):
    put("PublishDeadLetterQueue", STREAM_FAILURE)

    [told] = listed(run, "--queue", "publish")

    assert told["cause"] == told["condition"] == "RecordAgeExceeded"
    assert told["shard_id"] == "shardId-00000001573689847184-864758bb"
    assert told["first_sequence_number"] == "800000000003126276362"
    assert told["last_sequence_number"] == "800000000003126276370"
    assert told["first_change_at"] == "2026-06-03T10:30:00Z"
    assert told["last_change_at"] == "2026-06-03T10:30:05Z"
    assert told["changes"] == "9"
    # The log is searched from the time of the changes, before Lambda gave up.
    assert "--log-group-name stack-PublishChangesLogGroup --start-time 1780482600000" in told["log"]
    assert f"--filter-pattern '\"{REQUEST_ID}\"'" in told["log"]


@pytest.mark.parametrize(
    ("queue", "body", "why"),
    [
        ("IngestDeadLetterQueue", "dead", "the message is not JSON"),
        ("IngestDeadLetterQueue", "[]", "the message is no JSON object"),
        ("IngestDeadLetterQueue", recording("7"), "recording_id is not a UUID"),
        ("IngestDeadLetterQueue", ARCHIVE, "the message is for the archive queue"),
        ("IngestDeadLetterQueue", '{"v": 1, "v": 1}', "a key comes twice"),
        ("IngestDeadLetterQueue", recording(x="\x1b"), "unknown keys: x"),
        (
            "ArchiveDeadLetterQueue",
            recording(source="eventbridge", task="erase"),
            "eventbridge may not ask for this task",
        ),
        ("ArchiveDeadLetterQueue", recording(), "the message is not for the archive queue"),
        ("PublishDeadLetterQueue", "{}", "the message is not Lambda's record of a failure"),
        ("PublishDeadLetterQueue", "[]", "the message is no JSON object"),
    ],
)
def test_what_can_never_be_read_is_told_so(run, put, queue, body, why):
    put(queue, body)

    [told] = listed(run)

    assert told["cause"] == f"malformed: {why}"


def test_what_others_wrote_becomes_no_part_of_a_command(run, put):
    record = json.loads(STREAM_FAILURE)
    record["requestContext"]["requestId"] = "'; rm -rf ~ #"
    record["DDBStreamBatchInfo"]["approximateArrivalOfFirstRecord"] = "$(reboot)"
    put("PublishDeadLetterQueue", json.dumps(record))

    [told] = listed(run)

    assert "log" not in told


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 2),
    st.text(max_size=3),
    st.sampled_from(
        [
            RECORDING_ID,
            MEETING_ID.upper(),
            "webhook",
            "archive",
            "erase",
            "session_files",
            "2026-06-10T10:30:00.000Z",
        ]
    ),
    st.lists(st.integers(), max_size=1),
    st.dictionaries(st.sampled_from(["chat", "x"]), st.sampled_from(["", "soon", 1]), max_size=1),
)
NAMES = st.sampled_from(
    [
        *("v", "source", "task", "recording_id", "recordingId", "meeting_id", "session_id"),
        *("deadline", "announced", "hint"),
    ]
)
LIKELY = st.fixed_dictionaries(
    {},
    optional={
        "v": st.just(1),
        "source": st.sampled_from([*messages.Source]),
        "task": st.sampled_from(["archive", "erase", "session_files"]),
        "announced": st.just({"transcript": "2026-06-10T10:30:00.000Z", "captions": ""}),
        "recording_id": st.just(RECORDING_ID),
        "meeting_id": st.just(MEETING_ID),
        "session_id": st.sampled_from([SESSION_ID, ""]),
        "deadline": st.just("2026-06-10T10:30:00.000Z"),
    },
)


@given(LIKELY, st.dictionaries(NAMES, VALUES, max_size=2))
def test_what_is_malformed_to_a_function_is_malformed_here_for_the_same_reason(likely, odd):
    """Compare the command line with the functions' parser, which is not installed with it."""
    body = json.dumps(likely | odd)
    try:
        request = messages.parse(body)
    except messages.MalformedMessageError as error:
        assert dead_letters.read("ingest", body)[1] == printable(error)
    else:
        is_for_ingest = not isinstance(request, messages.ArchiveRequest)
        is_for_archive = isinstance(request, messages.ArchiveRequest | messages.EraseRequest)
        assert (dead_letters.read("ingest", body)[1] is None) == is_for_ingest
        assert (dead_letters.read("archive", body)[1] is None) == is_for_archive


def test_the_oldest_come_first_and_are_readable_as_text(run, put):
    first = put("ArchiveDeadLetterQueue", ARCHIVE)
    put("ArchiveDeadLetterQueue", recording(OTHER_ID, task="erase"))

    lines = run("dead-letters", "list").stdout.splitlines()

    assert lines[:2] == ["ingest: 0 dead letters", "archive: 2 dead letters"]
    assert lines[2:7] == [
        f"  {first}",
        "    cause: failed each time, the log says why",
        f"    recording id: {RECORDING_ID}",
        "    source: catalogue",
        "    task: archive",
    ]
    assert lines[-2:] == ["event-rule: 0 dead letters", "publish: 0 dead letters"]


def test_all_of_a_large_queue_are_seen_once_and_visible_again_at_once(run, put, on, sqs):
    for number in range(37):
        put("IngestDeadLetterQueue", recording(hint={"title": str(number)}))

    first = {one["message_id"] for one in listed(run, "--queue", "ingest")}
    second = {one["message_id"] for one in listed(run, "--queue", "ingest")}

    assert len(first) == 37
    assert first == second
    assert len(on("IngestDeadLetterQueue")) == 37
    # Without waiting, SQS asks only some of its servers.
    assert set(sqs.waits) == {1}


def test_a_limit_says_how_many_there_are(run, put, on):
    for _ in range(12):
        put("IngestDeadLetterQueue", recording())

    result = run("dead-letters", "list", "--queue", "ingest", "--limit", "11")

    assert result.stdout.startswith("ingest: 11 dead letters, of about 12\n")
    assert len(on("IngestDeadLetterQueue")) == 12


# redrive


def test_what_sqs_does_not_move_is_sent_to_where_it_came_from_and_deleted(run, put, on, aws, sqs):
    """Two queues share one dead-letter queue."""
    urgent = recording(source="catalogue", task="archive", deadline="2026-06-04T10:30:00.000Z")
    message_id = put("ArchiveDeadLetterQueue", urgent)
    sqs.died_on[message_id] = aws.outputs["UrgentArchiveQueueArn"]
    put("ArchiveDeadLetterQueue", ARCHIVE)

    result = run("dead-letters", "redrive", "--queue", "archive")

    assert (result.exit_code, result.stdout) == (0, "archive: 2 sent again\n")
    assert on("UrgentArchiveQueue") == [urgent]
    assert on("ArchiveQueue") == [ARCHIVE]
    assert on("ArchiveDeadLetterQueue") == []


def test_all_queues_are_redriven_but_for_what_is_left_of_the_stream(run, put, on):
    put("IngestDeadLetterQueue", recording())
    put("EventRuleDeadLetterQueue", SESSION, ERROR_CODE="NO_PERMISSIONS")
    put("PublishDeadLetterQueue", STREAM_FAILURE)

    result = run("dead-letters", "redrive")

    assert result.exit_code == 1
    assert (
        result.stdout == "ingest: 1 sent again\narchive: 0 sent again\nevent-rule: 1 sent again\n"
    )
    assert result.stderr.startswith("publish: The dead letters of publish cannot be sent again")
    assert on("IngestQueue") == sorted([SESSION, recording()])
    assert on("PublishDeadLetterQueue") == [STREAM_FAILURE]


def test_only_one_recordings_are_redriven_if_told_so(run, put, on):
    for recording_id in [OTHER_ID] * 15 + [RECORDING_ID, RECORDING_ID.upper()]:
        put("IngestDeadLetterQueue", recording(recording_id))

    result = run("dead-letters", "redrive", "--recording", RECORDING_ID)

    assert result.exit_code == 0
    assert result.stdout.startswith("ingest: 2 sent again\n")
    assert len(on("IngestQueue")) == 2
    assert on("IngestDeadLetterQueue") == [recording(OTHER_ID)] * 15


def test_what_would_only_come_back_keeps_eventbridges_word(run, put, on):
    put("EventRuleDeadLetterQueue", json.dumps({"detail-type": "meeting.ended", "detail": {}}))

    result = run("dead-letters", "redrive", "--queue", "event-rule")

    assert result.exit_code == 1
    assert "is left in the queue, malformed: v is None, not 1\n" in result.stderr
    assert "event-rule: 1 left in the queue, because they would fail again." in result.stderr
    assert on("IngestQueue") == []
    assert len(on("EventRuleDeadLetterQueue")) == 1


def test_requests_for_a_sessions_recordings_and_files_are_sent_again(run, put, on):
    hint = {"session_started_at": "2026-06-03T10:00:00.000Z"}
    session = json.dumps(
        {"v": 1, "source": "webhook", "meeting_id": MEETING_ID, "session_id": SESSION_ID}
        | {"hint": hint}
    )
    files = json.dumps(
        {"v": 1, "source": "webhook", "task": "session_files", "session_id": SESSION_ID}
        | {"announced": {"chat": "2026-06-10T10:30:00.000Z"}}
    )
    for body in (session, files):
        put("IngestDeadLetterQueue", body)

    result = run("dead-letters", "redrive", "--queue", "ingest")

    assert (result.exit_code, result.stdout) == (0, "ingest: 2 sent again\n")
    assert on("IngestQueue") == sorted([session, files])


def test_malformed_messages_stay_and_say_why_and_the_others_are_sent(run, put, on, sqs):
    """SQS would move all of them, and the function would fail the malformed one again."""
    put("IngestDeadLetterQueue", recording())
    bad = put("IngestDeadLetterQueue", recording("7"))
    sqs.move_tasks = [[], task("COMPLETED", 2, 3)]

    result = run("dead-letters", "redrive", "--queue", "ingest")

    assert (result.exit_code, result.stdout) == (1, "ingest: 1 sent again\n")
    assert f"{bad} is left in the queue, malformed: recording_id is not a UUID\n" in result.stderr
    assert on("IngestQueue") == [recording()]
    assert on("IngestDeadLetterQueue") == [recording("7")]
    assert moves(sqs) == []


def test_messages_too_large_for_one_call_are_sent_one_by_one(run, put, on, sqs):
    large = [recording(hint={"title": f"{number}{'x' * 100_000}"}) for number in range(3)]
    for body in large:
        put("IngestDeadLetterQueue", body)

    assert run("dead-letters", "redrive", "--queue", "ingest").exit_code == 0

    assert on("IngestQueue") == large
    sent = [request for name, request in sqs.requests if name == "SendMessageBatch"]
    assert [len(request["Entries"]) for request in sent] == [1, 1, 1]


def task(status: str, started: int, moved: int = 0, **more: Any) -> list[dict[str, Any]]:
    numbers = {"ApproximateNumberOfMessagesMoved": moved, "ApproximateNumberOfMessagesToMove": 3}
    return [{"Status": status, "StartedTimestamp": started, **numbers, **more}]


def moves(sqs: Any) -> list[dict[str, Any]]:
    return [request for name, request in sqs.requests if name == "StartMessageMoveTask"]


def test_a_whole_queue_is_moved_by_sqs_and_followed_to_the_end(run, put, sqs):
    put("IngestDeadLetterQueue", recording())
    # Yesterday's task is still the latest for a moment.
    yesterday = task("COMPLETED", 1, 9)
    sqs.move_tasks = [yesterday, yesterday, task("RUNNING", 2, 1), task("COMPLETED", 2, 3)]

    result = run("dead-letters", "redrive", "--queue", "ingest")

    assert (result.exit_code, result.stdout) == (0, "ingest: 3 sent again\n")
    assert moves(sqs) == [
        {
            "SourceArn": "arn:aws:sqs:eu-central-1:123456789012:IngestDeadLetterQueue",
            "DestinationArn": "arn:aws:sqs:eu-central-1:123456789012:IngestQueue",
        }
    ]
    assert "SendMessageBatch" not in [name for name, _ in sqs.requests]


def test_sqs_moves_each_of_the_archives_to_its_own_queue(run, sqs):
    sqs.move_tasks = [[], task("COMPLETED", 2, 3)]

    assert run("dead-letters", "redrive", "--queue", "archive").exit_code == 0

    assert moves(sqs) == [
        {"SourceArn": "arn:aws:sqs:eu-central-1:123456789012:ArchiveDeadLetterQueue"}
    ]


def test_a_move_that_runs_already_is_joined(run, sqs):
    sqs.move_tasks = [task("RUNNING", 2, 1), task("COMPLETED", 2, 3)]

    result = run("dead-letters", "redrive", "--queue", "ingest")

    assert (result.exit_code, result.stdout) == (0, "ingest: 3 sent again\n")
    assert moves(sqs) == []


def test_what_sqs_cannot_place_is_sent_again_by_the_command(run, put, on, sqs):
    """Somebody put it there by hand."""
    put("ArchiveDeadLetterQueue", ARCHIVE)
    sqs.move_tasks = [[], task("FAILED", 2, FailureReason="CouldNotDetermineMessageSource")]

    result = run("dead-letters", "redrive", "--queue", "archive")

    assert (result.exit_code, result.stdout) == (0, "archive: 1 sent again\n")
    assert on("ArchiveQueue") == [ARCHIVE]


def test_the_rules_dead_letters_are_never_moved_by_sqs(run, put, on, sqs):
    """SQS moves only what it made a dead letter itself."""
    put("EventRuleDeadLetterQueue", SESSION)
    sqs.move_tasks = [[]]

    assert run("dead-letters", "redrive", "--queue", "event-rule").exit_code == 0

    assert moves(sqs) == []
    assert on("IngestQueue") == [SESSION]


# purge


def test_a_purge_deletes_what_was_counted(run, put, on):
    for _ in range(12):
        put("PublishDeadLetterQueue", STREAM_FAILURE)
    put("IngestDeadLetterQueue", recording())

    result = run("dead-letters", "purge", "--queue", "publish", "--yes")

    assert (result.exit_code, result.stdout) == (0, "Deleted 12 of 12.\n")
    assert on("PublishDeadLetterQueue") == []
    assert on("IngestDeadLetterQueue") == [recording()]


def test_one_recordings_dead_letters_are_purged(run, put, on):
    put("IngestDeadLetterQueue", recording())
    put("IngestDeadLetterQueue", recording(OTHER_ID))
    options = ("--queue", "ingest", "--recording", RECORDING_ID, "--yes")

    assert run("dead-letters", "purge", *options).stdout == "Deleted 1 of 1.\n"

    assert on("IngestDeadLetterQueue") == [recording(OTHER_ID)]
    assert run("dead-letters", "purge", *options).stdout == (
        "Nothing to do: there are no such dead letters.\n"
    )


def test_a_purge_deletes_nothing_where_nobody_answers(run, put, on, aws):
    put("IngestDeadLetterQueue", recording())

    result = run("dead-letters", "purge", "--queue", "ingest", answer="")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith("because stdin is no terminal. Give --yes.\n")
    assert on("IngestDeadLetterQueue") == [recording()]


@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, 0), (b"n\n", 1, 2)])
def test_at_a_terminal_it_says_how_many_are_lost_and_asks(put, on, answer, code, left):
    for _ in range(2):
        put("ArchiveDeadLetterQueue", ARCHIVE)
    ours, theirs = pty.openpty()
    os.write(ours, answer)

    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "realtimekit_recordings",
            "dead-letters",
            "purge",
            "--queue",
            "archive",
        ],
        stdin=theirs,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(ours)
    os.close(theirs)

    assert (
        "Delete 2 dead letters of archive, for good, from the stack realtimekit-recordings in "
        "eu-central-1? [y/N]" in result.stderr
    )
    assert result.returncode == code
    assert len(on("ArchiveDeadLetterQueue")) == left


def test_what_comes_while_it_asks_is_not_deleted(put, on):
    put("IngestDeadLetterQueue", recording())
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "realtimekit_recordings", "dead-letters", "purge"]
    with subprocess.Popen(
        [*command, "--queue", "ingest"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as purge:
        assert purge.stdout
        assert purge.stderr
        asked = b""
        while b"[y/N]" not in asked:
            read = purge.stderr.read(100)
            assert read, asked
            asked += read
        put("IngestDeadLetterQueue", recording(OTHER_ID))
        os.write(ours, b"y\n")
        assert purge.wait(60) == 0
        assert b"Deleted 1 of 1." in purge.stdout.read()
    os.close(ours)
    os.close(theirs)

    assert on("IngestDeadLetterQueue") == [recording(OTHER_ID)]


# Invalid options


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "--queue", "webhook"), "'--queue': 'webhook' is not one of 'ingest', 'archive'"),
        (("redrive", "--recording", "7"), "'--recording': '7' is not a valid UUID"),
        (("redrive", "--queue", "publish"), "'--queue': The dead letters of publish cannot be"),
        (("purge", "--yes"), "Missing option '--queue'"),
        (("list", "--limit", "0"), "'--limit': 0 is not in the range 1<=x<=10000"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anybody_is_asked(run, aws, sqs, arguments, said):
    result = run("dead-letters", *arguments)

    assert result.exit_code == 2
    assert said in result.stderr
    assert aws.calls == []


def test_a_stack_without_an_archive_has_no_such_queue(run, aws, put):
    put("IngestDeadLetterQueue", recording())
    aws.parameters["Archiving"] = "off"
    for name in [name for name in aws.outputs if "Archive" in name]:
        del aws.outputs[name]

    result = run("dead-letters", "purge", "--queue", "archive", "--yes")

    assert result.exit_code == 2
    assert (
        "Invalid value for '--queue': The stack realtimekit-recordings has no queue archive, "
        "because its parameter Archiving is off."
    ) in result.stderr
    assert [one["queue"] for one in listed(run)] == ["ingest"]


def test_a_stack_of_an_older_version_is_told_so(run, aws, sqs):
    del aws.outputs["UrgentArchiveQueueUrl"]

    result = run("dead-letters", "list")

    assert result.exit_code == 2
    assert "has no output UrgentArchiveQueueUrl" in result.stderr


# Refusals of AWS: no message is lost, and each is visible again.

REFUSALS = [
    (403, "AccessDenied", "You may not."),
    (400, "RequestThrottled", "Too many."),
    (500, "InternalError", "Ours."),
]


def failure(run: Run, *arguments: str) -> str:
    result = run("dead-letters", *arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("Error: SQS ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("GetQueueAttributes", ("list",)),
        ("ReceiveMessage", ("list",)),
        ("ListMessageMoveTasks", ("redrive", "--queue", "ingest")),
        ("StartMessageMoveTask", ("redrive", "--queue", "ingest")),
        ("SendMessageBatch", ("redrive", "--queue", "event-rule")),
        ("DeleteMessageBatch", ("purge", "--queue", "ingest", "--yes")),
    ],
)
def test_an_operation_that_sqs_refuses(run, put, on, aws, sqs, operation, arguments, refusal):
    put("IngestDeadLetterQueue", recording())
    put("EventRuleDeadLetterQueue", SESSION)
    sqs.move_tasks = [[]]
    aws.errors[operation] = refusal

    said = failure(run, *arguments)

    assert f"({refusal[1]})" in said
    assert operation in said
    assert on("IngestDeadLetterQueue") == [recording()]
    assert on("EventRuleDeadLetterQueue") == [SESSION]


def test_what_cannot_be_given_back_is_told_and_comes_back_by_itself(run, put, aws):
    put("IngestDeadLetterQueue", recording())
    aws.errors["ChangeMessageVisibilityBatch"] = REFUSALS[0]

    result = run("dead-letters", "list", "--queue", "ingest")

    assert result.exit_code == 2
    assert RECORDING_ID in result.stdout
    assert result.stderr.endswith("The messages are visible again in 120 seconds.\n")


def test_a_message_that_was_not_sent_is_not_deleted(run, put, on, sqs):
    """SQS answers a batch with 200 even if it refuses entries."""
    put("EventRuleDeadLetterQueue", recording())
    put("EventRuleDeadLetterQueue", recording(OTHER_ID))
    sqs.refused_bodies["SendMessageBatch"] = OTHER_ID

    said = failure(run, "redrive", "--queue", "event-rule")

    assert said == (
        "Error: SQS did not take 1 of the messages (InternalError: try again). "
        "Messages that were not sent are still dead letters.\n"
    )
    assert on("IngestQueue") == [recording()]
    assert on("EventRuleDeadLetterQueue") == [recording(OTHER_ID)]


def test_a_message_that_was_sent_and_not_deleted_is_doubled_and_not_lost(run, put, on, sqs):
    put("EventRuleDeadLetterQueue", recording())
    # The empty text is a part of every receipt handle.
    sqs.refused_bodies["DeleteMessageBatch"] = ""

    said = failure(run, "redrive", "--queue", "event-rule")

    assert said.startswith("Error: SQS did not delete 1 of the messages (InternalError: try again)")
    assert on("IngestQueue") == [recording()]
    assert on("EventRuleDeadLetterQueue") == [recording()]


def test_what_was_sent_before_sqs_refused_is_counted(run, put, on, sqs):
    for number in range(3):
        put("IngestDeadLetterQueue", recording(hint={"title": f"{number}{'x' * 100_000}"}))
    sqs.refused_bodies["SendMessageBatch"] = '"2x'

    result = run("dead-letters", "redrive", "--queue", "ingest")

    assert result.exit_code == 2
    assert result.stdout == "ingest: 2 sent again\n"
    assert len(on("IngestDeadLetterQueue")) == 1


@pytest.mark.parametrize(
    ("status", "more", "said"),
    [
        ("FAILED", {"FailureReason": "AccessDenied"}, "the task was FAILED: AccessDenied."),
        ("CANCELLED", {}, "the task was CANCELLED: no reason given."),
    ],
)
def test_a_move_that_ends_too_early_says_how_far_it_came(run, sqs, status, more, said):
    sqs.move_tasks = [[], task(status, 2, 1, **more)]

    assert failure(run, "redrive", "--queue", "ingest") == (
        f"Error: SQS moved 1 messages of ingest, then {said} The others are still dead letters.\n"
    )
