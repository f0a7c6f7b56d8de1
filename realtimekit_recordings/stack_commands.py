"""`archive` and `restore-table`: repairs that go to the stack's queue and table themselves."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

import click
from rich.console import Console

from .options import with_stack, with_yes
from .output import Failure, confirm
from .restore import CONFIG, Overwritten, copy_rows, key_of
from .stack import TIMEOUTS, Stack, asking


@click.command()
@with_stack
@click.argument(
    "recording_ids", metavar="RECORDING_ID...", nargs=-1, required=True, type=click.UUID
)
def archive(stack: Stack, recording_ids: tuple[UUID, ...]) -> None:
    """Have recordings archived now, before the next try is due. Nothing is copied twice.

    The command asks and does not wait; `show` says what became of it. It needs the right to
    sqs:SendMessage on the urgent archive queue.
    """
    if stack.parameter("Archiving") != "on":
        raise Failure(f"The stack {stack.name} does not archive: its parameter Archiving is off.")
    url = stack.output("UrgentArchiveQueueUrl")
    with asking("SQS"), closing(stack.session.client("sqs", config=TIMEOUTS)) as sqs:
        for recording_id in map(str, recording_ids):
            sqs.send_message(QueueUrl=url, MessageBody=_archive_message(recording_id))
            click.echo(f"{recording_id}: archiving asked for.")


def _archive_message(recording_id: str) -> str:
    """Return a message as `recordings.messages` writes it, which is not installed with this.

    The function takes the real deadline from the row.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    message = {"v": 1, "source": "follow_up", "task": "archive", "recording_id": recording_id}
    return json.dumps({**message, "deadline": now})


@click.command("restore-table")
@with_stack
@click.argument("source_table")
@click.option(
    "--overwrite",
    type=click.Choice(["older", "all"]),
    default="older",
    help="Which rows of the stack's table are replaced, if they are there: those with a lower "
    "version, or all. A recording that was erased since stays erased.",
)
@with_yes
def restore_table(stack: Stack, source_table: str, overwrite: str, yes: bool) -> None:
    """Copy the rows of a restored table into the stack's. It can be run again at any time.

    Restore a backup beside the stack's table first: docs/operations.md, "Restore the table". It
    needs the rights to dynamodb:DescribeTable and dynamodb:Scan on SOURCE_TABLE, and to
    dynamodb:PutItem on the stack's.
    """
    target = stack.output("RecordingsTableName")
    if source_table == target:
        raise Failure(f"{source_table} is the stack's own table.")
    with asking("DynamoDB"), closing(stack.session.client("dynamodb", config=CONFIG)) as dynamodb:
        if key_of(dynamodb, source_table) != ["recording_id"]:
            raise Failure(f"There is no table {source_table} of recordings in this region.")
        if not yes:
            place = f"the stack {stack.name} in {stack.session.region_name}"
            confirm(f"Copy the rows of {source_table} into {target}, the table of {place}?")
        with Console(stderr=True).status("0 rows") as status:
            counts = copy_rows(
                dynamodb,
                source_table,
                target,
                cast(Overwritten, overwrite),
                lambda so_far: status.update(f"{so_far.total():,} rows"),
            )
    click.echo(f"{counts['written']:,} rows written, {counts['kept']:,} left as they were.")


STACK_COMMANDS = (archive, restore_table)
