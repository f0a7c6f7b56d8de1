"""Traces that a probe leaves in a stack, and that are removed when the probe ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
from botocore.exceptions import BotoCoreError, ClientError

from ..dead_letter_store import DeadLetters
from ..stack import aws_reason
from .deployment import Deployment
from .finding import Finding, wrong

CLEANING = "cleaning up"


class Clock:
    """The time that a probe may wait; `poll` is the pause between two looks, both in seconds."""

    def __init__(self, seconds: float, poll: float = 1) -> None:
        self.seconds = seconds
        self._poll = poll

    def wait_for(self, look: Callable[[], bool]) -> bool:
        """Look until it returns True; return False if the time is over."""
        deadline = time.monotonic() + self.seconds
        while not look():
            if time.monotonic() >= deadline:
                return False
            time.sleep(self._poll)
        return True


class Checks:
    """The checks that made-up recordings leave in the work table, by the recordings' ids.

    `ingest_recording` leaves one for a recording that RealtimeKit does not know.
    """

    def __init__(self, deployment: Deployment, recording_ids: Sequence[str]) -> None:
        self._dynamodb = deployment.client("dynamodb")
        self._table = deployment.stack.output("WorkTableName")
        self.recording_ids = recording_ids
        self.found: dict[str, Mapping[str, Any]] = {}

    def are_left(self) -> bool:
        """Look for the checks; return True once all have been seen."""
        for recording_id in self.recording_ids:
            if recording_id not in self.found:
                answer = self._dynamodb.get_item(
                    TableName=self._table, Key=_key(recording_id), ConsistentRead=True
                )
                if "Item" in answer:
                    self.found[recording_id] = answer["Item"]
        return len(self.found) == len(self.recording_ids)

    def remove(self) -> Iterator[str]:
        """Delete the checks; yield what is left, and why."""
        for recording_id in self.recording_ids:
            name = f"the check {_check_id(recording_id)} in the table {self._table}"
            try:
                self._dynamodb.delete_item(TableName=self._table, Key=_key(recording_id))
            except (ClientError, BotoCoreError) as error:
                yield f"{name} ({aws_reason(error)})"


def _check_id(recording_id: str) -> str:
    # As `recordings.worklist` writes it, which is not installed here.
    return f"check#recording#{recording_id}"


def _key(recording_id: str) -> dict[str, dict[str, str]]:
    return {"work_id": {"S": _check_id(recording_id)}}


def remove_letters(letters: DeadLetters, recording_ids: Sequence[str]) -> int:
    """Delete the dead letters about these recordings; return how many there were."""
    deleted = 0
    with letters:
        for batch in letters.batches():
            ours = [
                letter for letter in batch if any(known in letter.body for known in recording_ids)
            ]
            deleted += letters.delete(ours)
    return deleted


@contextmanager
def removed(remove: Callable[[], Iterator[str]], left: list[str]) -> Iterator[None]:
    """Remove the traces at the end of the `with`, also after an error or Ctrl-C.

    Add to `left` what could not be removed; print it after Ctrl-C, when no finding is reported.
    """
    is_interrupted = True
    try:
        yield
        is_interrupted = False
    except Exception:
        is_interrupted = False
        raise
    finally:
        left.extend(remove())
        if is_interrupted:
            for name in left:
                click.echo(f"verify --probe could not remove {name}.", err=True)


def leftovers(left: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding if traces are left."""
    if left:
        detail = f"The probe could not remove {'; '.join(left)}."
        action = "Delete these by hand."
        yield wrong(CLEANING, detail, action=action, heading="Verify by writing")
