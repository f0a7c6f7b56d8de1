"""Repairs by AWS's own API: an archive message, and rows of a restored table."""

from __future__ import annotations

from typing import Any

import pytest

from recordings import messages

RECORDING_ID = "97cb480d-5840-4528-ace3-919b5e386c68"
OTHER_ID = "e4b06ce6-0741-47a8-bce4-2c8218072e8c"


def test_archiving_is_asked_for_by_a_message_that_the_function_reads(run, aws, sqs):
    result = run("archive", RECORDING_ID, OTHER_ID.upper())

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        f"{RECORDING_ID}: archiving requested.\n{OTHER_ID}: archiving requested.\n"
    )
    received = sqs.client.receive_message(
        QueueUrl=aws.outputs["UrgentArchiveQueueUrl"], MaxNumberOfMessages=10
    )
    requests = [messages.parse(message["Body"]) for message in received["Messages"]]
    assert {type(request) for request in requests} == {messages.ArchiveRequest}
    assert {request.correlation_id for request in requests} == {RECORDING_ID, OTHER_ID}


def test_a_stack_that_does_not_archive_is_not_asked_to(run, aws, sqs):
    aws.parameters["Archiving"] = "off"

    result = run("archive", RECORDING_ID)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "does not archive, because its parameter Archiving is off." in result.stderr


def test_a_queue_that_refuses_is_one_line(run, aws, sqs):
    aws.errors["SendMessage"] = (403, "AccessDenied", "no")

    result = run("archive", RECORDING_ID)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: SQS request failed: An error occurred (AccessDenied)")
    assert result.stderr.count("\n") == 1


def row(recording_id: str, version: int, **more: str) -> dict[str, Any]:
    texts = {name: {"S": value} for name, value in more.items()}
    return {"recording_id": {"S": recording_id}, "version": {"N": str(version)}, **texts}


def put(dynamodb: Any, table: str, *rows: dict[str, Any]) -> None:
    for one in rows:
        dynamodb.put_item(TableName=table, Item=one)


def found(dynamodb: Any) -> list[dict[str, Any]]:
    items = dynamodb.scan(TableName="RecordingsTable")["Items"]
    return sorted(items, key=lambda item: item["recording_id"]["S"])


def test_rows_come_back_and_nothing_newer_is_overwritten(run, dynamodb):
    packed = {**row("a", 1), "packed": {"B": b"\x00\xff"}, "n": {"N": "1.50"}}
    put(dynamodb, "restored", packed, row("b", 5, status="UPLOADED"), row("c", 2, status="old"))
    put(dynamodb, "restored", row("d", 9, status="UPLOADED"), row("e", 9, status="UPLOADED"))
    newer = row("c", 3, status="new")
    tombstones = [
        row("d", 4, erased_at="2026-06-03T10:00:00.000Z"),
        row("e", 4, erasing_since="2026-06-03T10:00:00.000Z"),
    ]
    put(dynamodb, "RecordingsTable", row("b", 4, status="broken"), newer, *tombstones)

    result = run("restore-table", "restored", "--yes")

    assert (result.exit_code, result.stdout) == (0, "2 rows written, 3 left as they were.\n")
    assert found(dynamodb) == [packed, row("b", 5, status="UPLOADED"), newer, *tombstones]
    assert run("restore-table", "restored", "--yes").stdout == (
        "0 rows written, 5 left as they were.\n"
    )


def test_all_rows_can_be_replaced_but_for_what_was_erased(run, dynamodb):
    put(dynamodb, "restored", row("a", 1, status="UPLOADED"), row("b", 1, status="UPLOADED"))
    tombstone = row("b", 2, erased_at="2026-06-03T10:00:00.000Z")
    put(dynamodb, "RecordingsTable", row("a", 7, status="broken"), tombstone)

    result = run("restore-table", "restored", "--overwrite", "all", "--yes")

    assert (result.exit_code, result.stdout) == (0, "1 rows written, 1 left as they were.\n")
    assert found(dynamodb) == [row("a", 1, status="UPLOADED"), tombstone]


def test_all_pages_of_a_large_table_are_copied(run, dynamodb):
    rows = [row(f"{number:04}", 1, meeting_title="x" * 40_000) for number in range(60)]
    put(dynamodb, "restored", *rows)

    assert run("restore-table", "restored", "--yes").stdout == (
        "60 rows written, 0 left as they were.\n"
    )
    assert len(found(dynamodb)) > 20


def test_a_restore_asks_first_and_names_both_tables(run, dynamodb):
    put(dynamodb, "restored", row("a", 1))

    result = run("restore-table", "restored", answer="n\n")

    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        "Copy the rows of restored into RecordingsTable, the table of the stack "
        "realtimekit-recordings in eu-central-1? [y/N]" in result.stderr
    )
    assert found(dynamodb) == []


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("nowhere", "This region has no table nowhere of recordings. Check its name."),
        (
            "RecordingsTable",
            "RecordingsTable is the stack's own table. Give the name of the restored table.",
        ),
    ],
)
def test_what_is_no_restored_table_is_refused(run, dynamodb, table, said):
    result = run("restore-table", table, "--yes")

    assert (result.exit_code, result.stderr) == (2, f"Error: {said}\n")
