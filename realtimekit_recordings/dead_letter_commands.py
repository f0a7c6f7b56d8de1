"""`dead-letters`: what could not be worked on: look at it, send it again, or delete it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from . import dead_letters
from .dead_letters import MOST, DeadLetter, DeadLetters, Queue
from .options import with_stack, with_yes
from .output import confirm, print_json_line, printable
from .stack import TIMEOUTS, Stack, asking

NOT_SENDABLE = (
    "The dead letters of publish cannot be sent again: each says where in the table's stream some "
    "changes were, and within the hour the stream forgets those. docs/operations.md, "
    "PublishDeadLettersAlarm, says how subscribers catch up; then purge them."
)

MAX_EXPLAINED = 10

with_queue = click.option(
    "--queue", "name", type=click.Choice(dead_letters.NAMES), help="Only of this queue."
)
with_recording = click.option(
    "--recording", "recording_id", type=click.UUID, help="Only what is about this recording."
)


def _checked_sendable(
    _context: click.Context, _option: click.Parameter, name: str | None
) -> str | None:
    if name == "publish":
        raise click.BadParameter(NOT_SENDABLE)
    return name


@click.group("dead-letters")
def dead_letters_group() -> None:
    """Look at what could not be worked on, send it again, or delete it.

    The queues are ingest, archive (unless archiving is off), event-rule (what EventBridge could not
    hand to the ingest queue) and publish (changes that subscribers were not told of). No command
    looks at more than 10,000 messages of a queue. What it looks at is hidden from others until it
    is done; if it is killed, for two minutes.
    """


@dead_letters_group.command("list")
@with_stack
@with_queue
@click.option(
    "--limit", type=click.IntRange(1, MOST), default=100, help="How many of each queue at most."
)
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each, for programs.")
def list_dead_letters(stack: Stack, name: str | None, limit: int, as_json: bool) -> None:
    """List dead letters, the oldest first, and why they are there. They stay where they are."""
    with _opened(stack, name) as opened:
        for letters in opened:
            with letters:
                count = letters.count()
                found = [one for batch in letters.batches(limit) for one in batch]
                found.sort(key=lambda one: one.first_sent_at)
                if as_json:
                    for one in found:
                        print_json_line(_document(one))
                else:
                    _tell(letters.queue, found, count)


def _tell(queue: Queue, found: list[DeadLetter], count: int) -> None:
    more = f", of about {count}" if count > len(found) else ""
    click.echo(f"{queue.name}: {_counted(len(found))}{more}")
    for one in found:
        document = _document(one)
        click.echo(f"  {document.pop('message_id')}")
        for name, value in document.items():
            if name != "queue":
                click.echo(f"    {name.replace('_', ' ')}: {printable(_shown(value))}")


def _counted(number: int) -> str:
    return f"{number} dead letter{'' if number == 1 else 's'}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {text}" for name, text in value.items())
    return str(value)


def _document(one: DeadLetter) -> dict[str, Any]:
    document: dict[str, Any] = {
        "queue": one.queue.name,
        "message_id": one.message_id,
        "cause": one.cause,
        **one.says,
        "received": one.received,
        "first_sent_at": one.first_sent,
    }
    if one.attributes:
        document["attributes"] = dict(one.attributes)
    if one.log_command:
        document["log"] = one.log_command
    return document


@dead_letters_group.command()
@with_stack
@click.option(
    "--queue",
    "name",
    type=click.Choice(dead_letters.NAMES),
    callback=_checked_sendable,
    help="Only of this queue, which cannot be publish.",
)
@with_recording
@click.pass_context
def redrive(
    context: click.Context, stack: Stack, name: str | None, recording_id: UUID | None
) -> None:
    """Send dead letters to the queue that they came from. Nothing is done twice.

    Malformed ones stay, since they would only come back. A whole queue without any is moved by SQS
    itself where it can do that: then the task goes on even if this command is stopped. Exit code 1
    if something is left that cannot be sent again; stderr says why.
    """
    is_left = False
    with _opened(stack, name) as opened:
        for letters in opened:
            is_left |= _redrive(letters, recording_id)
    context.exit(1 if is_left else 0)


def _redrive(letters: DeadLetters, recording_id: UUID | None) -> bool:
    """Send what can be sent; return whether something was left."""
    if letters.queue.name == "publish":
        with letters:
            return recording_id is None and _is_left(letters)
    if recording_id is None and letters.queue.arn and not _has_malformed(letters):
        with letters:
            if _move(letters):
                return False
    with letters:
        return _send_again(letters, recording_id)


def _is_left(letters: DeadLetters) -> bool:
    found = any(letters.batches(1))
    if found:
        click.echo(f"publish: {NOT_SENDABLE}", err=True)
    return found


def _has_malformed(letters: DeadLetters) -> bool:
    """Look at all messages, and give them back: SQS moves only those that are visible."""
    with letters:
        return any(one.malformed for batch in letters.batches() for one in batch)


def _move(letters: DeadLetters) -> bool:
    """Have SQS move all messages; return False if it cannot."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(letters.queue.name, total=None)
        moved = letters.move(lambda done, total: progress.update(task, completed=done, total=total))
    if moved is None:
        return False
    click.echo(f"{letters.queue.name}: {moved} sent again")
    return True


def _send_again(letters: DeadLetters, recording_id: UUID | None) -> bool:
    """Send the messages that are not malformed one by one; return whether others were left."""
    queue, sent, left = letters.queue.name, 0, list[DeadLetter]()
    try:
        for batch in letters.batches():
            chosen = _about(batch, recording_id)
            left += [one for one in chosen if one.malformed]
            for count in letters.send_again([one for one in chosen if not one.malformed]):
                sent += count
    finally:
        click.echo(f"{queue}: {sent} sent again")
    for one in left[:MAX_EXPLAINED]:
        click.echo(f"{queue}: {one.message_id} is left there, {printable(one.cause)}", err=True)
    if left:
        click.echo(
            f"{queue}: {len(left)} left there that would only come back. Once they are understood: "
            f"realtimekit-recordings dead-letters purge --queue {queue}",
            err=True,
        )
    return bool(left)


@dead_letters_group.command()
@with_stack
@click.option(
    "--queue", "name", type=click.Choice(dead_letters.NAMES), required=True, help="Of this queue."
)
@with_recording
@with_yes
def purge(stack: Stack, name: str, recording_id: UUID | None, yes: bool) -> None:
    """Delete dead letters for good, after asking; not those that come meanwhile."""
    with _opened(stack, name) as [letters]:
        with letters:
            found = _ids(letters, recording_id)
        if not found:
            click.echo("Nothing to do: there are no such dead letters.")
            return
        if not yes:
            place = f"the stack {stack.name} in {stack.session.region_name}"
            confirm(f"Delete {_counted(len(found))} of {name}, for good, from {place}?")
        with letters:
            click.echo(f"Deleted {_delete(letters, found)} of {len(found)}.")


def _ids(letters: DeadLetters, recording_id: UUID | None) -> set[str]:
    return {one.message_id for batch in letters.batches() for one in _about(batch, recording_id)}


def _delete(letters: DeadLetters, ids: set[str]) -> int:
    deleted = 0
    for batch in letters.batches():
        deleted += letters.delete([one for one in batch if one.message_id in ids])
        if deleted == len(ids):
            break
    return deleted


def _about(batch: Iterable[DeadLetter], recording_id: UUID | None) -> list[DeadLetter]:
    wanted = str(recording_id)
    return [one for one in batch if recording_id is None or one.says.get("recording_id") == wanted]


@contextmanager
def _opened(stack: Stack, name: str | None) -> Iterator[list[DeadLetters]]:
    """Those of that queue, or of all."""
    queues = dead_letters.find(stack)
    if name is not None and name not in queues:
        raise click.BadParameter(
            f"the stack {stack.name} has no queue {name}: its parameter Archiving is off.",
            param_hint="'--queue'",
        )
    with asking("SQS"):
        sqs = stack.session.client("sqs", config=TIMEOUTS)
    with closing(sqs):
        chosen = queues.values() if name is None else [queues[name]]
        yield [DeadLetters(queue, sqs) for queue in chosen]
