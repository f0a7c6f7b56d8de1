"""`archive` and `restore-table`: repairs that write to the stack's queue and table directly."""

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
from .restore import CONFIG, Overwritten, copy_rows, key_attributes
from .stack import TIMEOUTS, Stack, aws_errors
from .timestamps import timestamp


@click.command()
@with_stack
@click.argument(
    "recording_ids", metavar="RECORDING_ID...", nargs=-1, required=True, type=click.UUID
)
def archive(stack: Stack, recording_ids: tuple[UUID, ...]) -> None:
    """Archive recordings now, before their next attempt is due.

    The command sends one message for each recording and does not wait; `show` shows the result.
    Files that are archived already are not copied again. It needs the right sqs:SendMessage on the
    urgent archive queue.
    """
    if stack.parameter("Archiving") != "on":
        raise Failure(
            f"The stack {stack.name} does not archive, because its parameter Archiving is off."
        )
    url = stack.output("UrgentArchiveQueueUrl")
    with aws_errors("SQS request"), closing(stack.session.client("sqs", config=TIMEOUTS)) as sqs:
        for recording_id in map(str, recording_ids):
            sqs.send_message(QueueUrl=url, MessageBody=_archive_message(recording_id))
            click.echo(f"{recording_id}: archiving requested.")


def _archive_message(recording_id: str) -> str:
    """Return an archive message as `recordings.messages`, which is not installed here, writes it.

    The function takes the real deadline from the row.
    """
    message = {"v": 1, "source": "follow_up", "task": "archive", "recording_id": recording_id}
    return json.dumps({**message, "deadline": timestamp(datetime.now(UTC))})


@click.command("restore-table")
@with_stack
@click.argument("source_table")
@click.option(
    "--overwrite",
    type=click.Choice(["older", "all"]),
    default="older",
    help="Replace only rows of the stack's table that have a lower version, or all rows. A "
    "recording that was erased since the backup stays erased.",
)
@with_yes
def restore_table(stack: Stack, source_table: str, overwrite: str, yes: bool) -> None:
    """Copy the rows of SOURCE_TABLE, a restored backup, into the stack's table.

    Restore the backup beside the stack's table first: docs/operations.md, "Restore the table". The
    command prints how many rows it wrote and how many it kept, and may be repeated at any time. It
    needs the rights dynamodb:DescribeTable and dynamodb:Scan on SOURCE_TABLE, and dynamodb:PutItem
    on the stack's table.
    """
    target = stack.output("RecordingsTableName")
    if source_table == target:
        raise Failure(
            f"{source_table} is the stack's own table. Give the name of the restored table."
        )
    with (
        aws_errors("DynamoDB request"),
        closing(stack.session.client("dynamodb", config=CONFIG)) as dynamodb,
    ):
        if key_attributes(dynamodb, source_table) != ["recording_id"]:
            raise Failure(f"This region has no table {source_table} of recordings. Check its name.")
        if not yes:
            confirm(f"Copy the rows of {source_table} into {target}, the table of {stack.place}?")
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
