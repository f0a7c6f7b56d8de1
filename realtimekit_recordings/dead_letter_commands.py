"""`dead-letters`: commands that list, send again or delete messages that could not be handled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar
from uuid import UUID

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from . import dead_letters
from .dead_letter_store import MAX_MESSAGES, DeadLetters
from .dead_letters import DeadLetter, Queue
from .options import with_json_lines, with_stack, with_yes
from .output import confirm, member_text, print_json_line, printable
from .stack import TIMEOUTS, Stack, aws_errors

NOT_SENDABLE = (
    "The dead letters of publish cannot be sent again, because each only points to changes in the "
    "table's stream, which are gone from it within an hour. Let subscribers catch up as in "
    "docs/operations.md, PublishDeadLettersAlarm, then purge them."
)

MAX_EXPLAINED = 10

_Command = TypeVar("_Command", bound=Callable[..., Any])

with_recording = click.option(
    "--recording", "recording_id", type=click.UUID, help="Only messages about this recording."
)


def _queue_option(help_text: str, **settings: Any) -> Callable[[_Command], _Command]:
    """Return the option of a queue's name, with a command's own help text."""
    choice = click.Choice(dead_letters.NAMES)
    return click.option("--queue", "name", type=choice, help=help_text, **settings)


def _require_sendable(
    _context: click.Context, _option: click.Parameter, name: str | None
) -> str | None:
    if name == "publish":
        raise click.BadParameter(NOT_SENDABLE)
    return name


@click.group("dead-letters")
def dead_letters_group() -> None:
    """List, send again or delete messages that could not be handled.

    \b
    The stack has these dead-letter queues:
      ingest      Messages that could not be ingested.
      archive     Messages that could not be archived; only if archiving is on.
      event-rule  Events that EventBridge could not send to the ingest queue.
      publish     Changes of the catalogue that were not published as events.

    A command looks at up to 10,000 messages of a queue, and hides them from others until it ends.
    If the command is killed, they are hidden for two minutes.
    """


@dead_letters_group.command("list")
@with_stack
@_queue_option("Only messages of this queue.")
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_MESSAGES),
    default=100,
    help="Print at most this many messages of each queue.",
)
@with_json_lines
def list_dead_letters(stack: Stack, name: str | None, limit: int, as_json: bool) -> None:
    """List dead letters, the oldest first, with the cause of each.

    The messages stay in their queues. If a message has a log, the command to read it is shown.
    """
    with _open_queues(stack, name) as queues:
        for letters in queues:
            with letters:
                count = letters.count()
                listed = [letter for batch in letters.batches(limit) for letter in batch]
                listed.sort(key=lambda letter: letter.first_sent_at)
                if as_json:
                    for letter in listed:
                        print_json_line(_document(letter))
                else:
                    _print_letters(letters.queue, listed, count)


def _print_letters(queue: Queue, listed: list[DeadLetter], count: int) -> None:
    more = f", of about {count}" if count > len(listed) else ""
    click.echo(f"{queue.name}: {_count_text(len(listed))}{more}")
    for letter in listed:
        document = _document(letter)
        click.echo(f"  {document.pop('message_id')}")
        for name, value in document.items():
            if name != "queue":
                click.echo(f"    {name.replace('_', ' ')}: {printable(member_text(value))}")


def _count_text(number: int) -> str:
    return f"{number} dead letter{'' if number == 1 else 's'}"


def _document(letter: DeadLetter) -> dict[str, Any]:
    document: dict[str, Any] = {
        "queue": letter.queue.name,
        "message_id": letter.message_id,
        "cause": letter.cause,
        **letter.details,
        "received": letter.received,
        "first_sent_at": letter.first_sent,
    }
    if letter.attributes:
        document["attributes"] = dict(letter.attributes)
    if letter.log_command:
        document["log"] = letter.log_command
    return document


@dead_letters_group.command()
@with_stack
@_queue_option(
    "Only messages of this queue. Messages of publish cannot be sent again.",
    callback=_require_sendable,
)
@with_recording
@click.pass_context
def redrive(
    context: click.Context, stack: Stack, name: str | None, recording_id: UUID | None
) -> None:
    """Send dead letters again to the queue that they came from.

    Correct the cause first. Work that is done already is not repeated. Malformed messages stay,
    because they would fail again. SQS itself moves a queue without malformed messages, if it can,
    and goes on even if the command is stopped. Exit code 1 if messages are left that cannot be sent
    again; stderr says why.
    """
    has_rest = False
    with _open_queues(stack, name) as queues:
        for letters in queues:
            has_rest |= _redrive(letters, recording_id)
    context.exit(1 if has_rest else 0)


def _redrive(letters: DeadLetters, recording_id: UUID | None) -> bool:
    """Send the queue's messages again; return True if some are left that cannot be sent."""
    if letters.queue.name == "publish":
        with letters:
            return recording_id is None and _has_unsendable(letters)
    if recording_id is None and letters.queue.arn and not _has_malformed(letters):
        with letters:
            if _move(letters):
                return False
    with letters:
        return _send_again(letters, recording_id)


def _has_unsendable(letters: DeadLetters) -> bool:
    has_letters = any(letters.batches(1))
    if has_letters:
        click.echo(f"publish: {NOT_SENDABLE}", err=True)
    return has_letters


def _has_malformed(letters: DeadLetters) -> bool:
    """Look at all messages, then release them, because SQS moves only visible ones."""
    with letters:
        return any(letter.malformed for batch in letters.batches() for letter in batch)


def _move(letters: DeadLetters) -> bool:
    """Let SQS move all messages; return False if it cannot."""
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
    """Send the messages that are not malformed; return True if there are malformed ones."""
    queue, sent, malformed = letters.queue.name, 0, list[DeadLetter]()
    try:
        for batch in letters.batches():
            chosen = _select(batch, recording_id)
            malformed += [letter for letter in chosen if letter.malformed]
            for count in letters.send_again([letter for letter in chosen if not letter.malformed]):
                sent += count
    finally:
        click.echo(f"{queue}: {sent} sent again")
    for letter in malformed[:MAX_EXPLAINED]:
        cause = printable(letter.cause)
        click.echo(f"{queue}: {letter.message_id} is left in the queue, {cause}", err=True)
    if malformed:
        click.echo(
            f"{queue}: {len(malformed)} left in the queue, because they would fail again. Find out "
            f"who sent them, then: realtimekit-recordings dead-letters purge --queue {queue}",
            err=True,
        )
    return bool(malformed)


@dead_letters_group.command()
@with_stack
@_queue_option("Delete messages of this queue.", required=True)
@with_recording
@with_yes
def purge(stack: Stack, name: str, recording_id: UUID | None, yes: bool) -> None:
    """Delete a queue's dead letters for good.

    The command counts them and asks for confirmation. Messages that arrive after that stay.
    """
    with _open_queues(stack, name) as [letters]:
        with letters:
            ids = _ids(letters, recording_id)
        if not ids:
            click.echo("Nothing to do: there are no such dead letters.")
            return
        if not yes:
            confirm(f"Delete {_count_text(len(ids))} of {name}, for good, from {stack.place}?")
        with letters:
            click.echo(f"Deleted {_delete(letters, ids)} of {len(ids)}.")


def _ids(letters: DeadLetters, recording_id: UUID | None) -> set[str]:
    return {
        letter.message_id for batch in letters.batches() for letter in _select(batch, recording_id)
    }


def _delete(letters: DeadLetters, ids: set[str]) -> int:
    deleted = 0
    for batch in letters.batches():
        deleted += letters.delete([letter for letter in batch if letter.message_id in ids])
        if deleted == len(ids):
            break
    return deleted


def _select(batch: Iterable[DeadLetter], recording_id: UUID | None) -> list[DeadLetter]:
    """Return the messages about a recording, or all without one."""
    if recording_id is None:
        return list(batch)
    return [letter for letter in batch if letter.details.get("recording_id") == str(recording_id)]


@contextmanager
def _open_queues(stack: Stack, name: str | None) -> Iterator[list[DeadLetters]]:
    """Open the queue of that name, or all queues of the stack."""
    queues = dead_letters.find(stack)
    if name is not None and name not in queues:
        raise click.BadParameter(
            f"The stack {stack.name} has no queue {name}, because its parameter Archiving is off.",
            param_hint="'--queue'",
        )
    with aws_errors("SQS request"):
        sqs = stack.session.client("sqs", config=TIMEOUTS)
    with closing(sqs):
        chosen = queues.values() if name is None else [queues[name]]
        yield [DeadLetters(queue, sqs) for queue in chosen]
